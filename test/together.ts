/**
 * `together.ts FOLDER`: which files node's runner is to run, one a line. Files of one folder share a process where nothing of theirs outlives
 * a test: loading the server takes longer than most of them. For such a group a file is written into FOLDER that imports them all.
 */
import { globSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';

/** Agents and whole systems change what belongs to a process (umask, user, limits) or measure it: each has one of its own. */
const SHARED = /^test\/(?:cli|server|src)\//;
/**
 * Nor may a file share one that hangs hooks on all tests of a process, changes its environment, looks at its memory, or measures how time
 * grows.
 */
const ALONE =
  /^(?:before|after)(?:Each)?\(|process\.(?:env\[[^\]]+\] \??=|umask|chdir|exit|on\b|memoryUsage|resourceUsage|set[eu])|delete process|mock\.timers|globalThis\.\w+ =|#test\/exponent/m;

const [folder] = process.argv.slice(2);
const groups = new Map<string, string[]>();
for (const file of globSync(['test/*.test.ts', 'test/{agent,cli,demo,server,src,system}/**/*.test.ts']).sort()) {
  const isShared = SHARED.test(file) && !ALONE.test(readFileSync(file, 'utf8'));
  const group = isShared ? dirname(file) : file;
  groups.set(group, [...(groups.get(group) ?? []), file]);
}
for (const [group, files] of groups) {
  if (files.length === 1) {
    console.log(files[0]);
    continue;
  }
  const name = join(folder!, `${group.replaceAll('/', '-')}.mjs`);
  writeFileSync(name, files.map((file) => `import ${JSON.stringify(resolve(file))};\n`).join(''));
  console.log(name);
}

/**
 * `together.ts FOLDER`: which files node's runner is to run, one a line. Files share a process where nothing of theirs outlives a test:
 * loading the server takes longer than most of them. What a process runs is written into FOLDER as a file that imports it, under a name by
 * which the runner, who sorts them, begins with what takes longest: the end is short then, and no core waits for the other.
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

/** Folders that share a process beyond their own files, so that each takes about as long; any other of test/server and test/src is with the last of its own. */
const PROCESSES: Readonly<Record<string, readonly string[]>> = {
  'server-store': ['test/server', 'test/server/store'],
  'server-web': ['test/server/access', 'test/server/api', 'test/server/web'],
  'src-trust': ['test/src/trust'],
  server: ['test/server/*'],
  src: ['test/src/*', 'test/src'],
};
/** What takes longest, by the seconds of a core that it took when this was written; the rest comes after. */
const LONGEST = [
  'server-store',
  'server-web',
  'server',
  'test/cli',
  'test/system/fleet.test.ts',
  'test/server/store/postgres.test.ts',
  'src',
  'src-trust',
  'test/demo/fleet.test.ts',
  'test/system/hostile.test.ts',
  'test/system/kill.test.ts',
  'test/agent/scan.test.ts',
  'test/server/evidence/export.test.ts',
];

const processOf = (folder: string): string =>
  Object.entries(PROCESSES).find(
    ([, folders]) => folders.includes(folder) || folders.includes(`${dirname(folder)}/*`),
  )?.[0] ?? folder;

const [folder] = process.argv.slice(2);
const groups = new Map<string, string[]>();
for (const file of globSync(['test/*.test.ts', 'test/{agent,cli,demo,server,src,system}/**/*.test.ts']).sort()) {
  const isShared = SHARED.test(file) && !ALONE.test(readFileSync(file, 'utf8'));
  const group = isShared ? processOf(dirname(file)) : file;
  groups.set(group, [...(groups.get(group) ?? []), file]);
}
const rank = (group: string): number => (LONGEST.includes(group) ? LONGEST.indexOf(group) : LONGEST.length);
const ordered = [...groups].sort(([a], [b]) => rank(a) - rank(b));
for (const [i, [group, files]] of ordered.entries()) {
  const name = join(folder!, `${String(i).padStart(3, '0')}-${group.replaceAll('/', '-')}.mjs`);
  writeFileSync(name, files.map((file) => `import ${JSON.stringify(resolve(file))};\n`).join(''));
  console.log(name);
}

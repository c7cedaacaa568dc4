/** The scan bench: our agent against sha256sum and against the same work in C, over a big real tree. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, lstatSync, openSync, readdirSync, readlinkSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Entry } from '#src/manifest/entry.ts';
import { mainLine, MTREE_HEAD } from '#src/manifest/mtree.ts';
import { runCold, type ColdRun } from './cold.ts';
import { alternate, median, run, table, type Figure } from './measure.ts';

/** Measures on a copy-free tree: `root`/usr as it is on this machine, against a manifest that is true of it. */
export async function benchScan(folder: string, root: string, rounds: number): Promise<string> {
  const manifest = join(folder, 'tree.mtree');
  const files = writeManifest(root, manifest);
  const scanner = join(folder, 'scan-c');
  execFileSync('cc', ['-O2', '-pthread', '-o', scanner, join(import.meta.dirname, 'scan.c'), '-lcrypto']);
  const ours = 'bootproof agent scan, 2 workers';
  const usr = join(root, 'usr');
  const commands = new Map([
    [ours, `./bootproof agent scan --root ${root} --manifest ${manifest} --json; test $? -le 2`],
    ['C, OpenSSL SHA-NI, 2 threads', `${scanner} ${usr} 2`],
    ['find | xargs -P2 sha256sum', `find ${usr} -xdev -type f -print0 | xargs -0 -P2 -n 256 sha256sum`],
  ]);
  const cached = `${ours}, nothing changed since the last with --cache`;
  commands.set(
    cached,
    `./bootproof agent scan --root ${root} --cache ${folder}/digests --manifest ${manifest} --json; test $? -le 2`,
  );
  const figures = await alternate(commands, rounds);
  const aide = has('aide') ? await aideOnce(folder, usr, figures) : '';
  return `## Scan\n\nFull scan of /usr, ${files.count} paths, ${(files.bytes / 1e9).toFixed(2)} GB, page cache warm, ${rounds} rounds in turn.\n\n${table(figures, ours)}${aide}`;
}

/** The same on a tree of which nothing is in the page cache. Each once: a disk that is read cold varies more than they do. */
export async function benchCold(folder: string, root: string): Promise<string> {
  const manifest = join(folder, 'tree.mtree');
  const { count, bytes } = writeManifest(root, manifest);
  const usr = join(root, 'usr');
  const scan = `./bootproof agent scan --root ${root} --manifest ${manifest} --json`;
  const commands: [string, string][] = [
    ['bootproof agent scan', `${scan}; test $? -le 2`],
    ['… --gentle, as `agent run`', `${scan} --gentle; test $? -le 2`],
    ['… --gentle --cache, nothing changed', `${scan} --gentle --cache ${folder}/digests; test $? -le 2`],
  ];
  await run(`${scan} --cache ${folder}/digests; test $? -le 2`);
  if (has('aide'))
    commands.push([
      `${aideVersion()} --check, the same attributes`,
      `aide -c ${aideConfig(folder, usr)} --check; test $? -le 14`,
    ]);
  let rows = '';
  for (const [name, command] of commands) {
    const done: ColdRun = await runCold(usr, command);
    const charged =
      done.charged === undefined ? '– | –' : `${done.charged.peakMiB.toFixed(0)} | ${done.charged.leftMiB.toFixed(0)}`;
    rows += `| ${name} | ${done.wall.toFixed(1)} | ${done.cpu.toFixed(1)} | ${done.peakMiB.toFixed(0)} | ${charged} |\n`;
  }
  return `## Cold scan\n\nScan of ${count} paths, of whose ${(bytes / 1e9).toFixed(2)} GB nothing is in the page cache (metadata stay), once each, in a memory cgroup of its own: the most that it was charged with, page cache included, and what was left of it.\n\n| | wall s | CPU s | peak of the process MiB | peak of the cgroup MiB | left MiB |\n|---|---|---|---|---|---|\n${rows}`;
}

/** AIDE takes a minute a run, so it is run once, with the attributes that we compare. */
async function aideOnce(folder: string, usr: string, figures: readonly Figure[]): Promise<string> {
  const config = aideConfig(folder, usr);
  const once = await run(`aide -c ${config} --check; test $? -le 14`);
  const cpu = median(figures[0]!.runs.map((r) => r.cpu));
  const wall = median(figures[0]!.runs.map((r) => r.wall));
  return `\n${aideVersion()} --check with ftype+p+u+g+s+l+sha256+caps, once: ${once.wall.toFixed(1)} s wall, ${once.cpu.toFixed(1)} s CPU, ${once.peakMiB.toFixed(0)} MiB; ours takes ${(wall / once.wall).toFixed(2)} of its wall and ${(cpu / once.cpu).toFixed(2)} of its CPU time.\n`;
}

/** Its configuration and a database that is true of the tree. */
function aideConfig(folder: string, usr: string): string {
  const config = join(folder, 'aide.conf');
  writeFileSync(
    config,
    `database_in=file:${folder}/aide.db\ndatabase_out=file:${folder}/aide.db\nreport_format=json\n${usr} ftype+p+u+g+s+l+sha256+caps\n`,
  );
  execFileSync('sh', ['-c', `aide -c ${config} --init >/dev/null; test $? -le 14`]);
  return config;
}

const has = (program: string): boolean => {
  try {
    return execFileSync('sh', ['-c', `command -v ${program}`]).length > 0;
  } catch {
    return false; // `command -v` answers by its exit code
  }
};
const aideVersion = (): string => execFileSync('sh', ['-c', 'aide --version 2>&1 | head -1']).toString().trim();

/** A true manifest of the tree, made here with nothing of the scanner that is measured. */
function writeManifest(root: string, file: string): { count: number; bytes: number } {
  const out = openSync(file, 'w');
  const buffer = Buffer.alloc(1 << 17);
  let count = 0;
  let bytes = 0;
  const entryOf = (path: string, name: string): Entry => {
    const stat = lstatSync(Buffer.from(path, 'latin1'));
    const base = { path: name, uid: stat.uid, gid: stat.gid, mode: stat.mode & 0o7777 };
    if (stat.isDirectory()) return { ...base, type: 'dir' };
    if (stat.isSymbolicLink())
      return { ...base, mode: 0, type: 'symlink', link: readlinkSync(Buffer.from(path, 'latin1'), 'latin1') };
    const hash = createHash('sha256');
    const fd = openSync(Buffer.from(path, 'latin1'), 'r');
    let size = 0;
    for (let got = readSync(fd, buffer); got > 0; got = readSync(fd, buffer)) {
      hash.update(buffer.subarray(0, got));
      size += got;
    }
    closeSync(fd);
    bytes += size;
    return { ...base, type: 'file', size, sha256: hash.digest('hex') };
  };
  const walk = (path: string, name: string) => {
    const entry = entryOf(path, name);
    count++;
    writeSync(out, mainLine(entry));
    if (entry.type !== 'dir') return;
    for (const child of readdirSync(Buffer.from(path, 'latin1'), 'latin1').sort())
      walk(`${path}/${child}`, `${name}/${child}`);
  };
  writeSync(out, MTREE_HEAD);
  walk(join(root, 'usr'), '/usr');
  closeSync(out);
  return { count, bytes };
}

/** What a command costs on a tree of which nothing is in the page cache, in a memory cgroup of its own. */
import {
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { dlopen } from 'node:ffi';
import { join } from 'node:path';
import { run, type Run } from './measure.ts';

const { functions: libc } = dlopen(null, {
  posix_fadvise: { arguments: ['int32', 'int64', 'int64', 'int32'], return: 'int32' },
});
const DONTNEED = 4;

/** Gives back the page cache of a tree's files: what others have mapped stays, and nothing else on the machine grows cold. */
function chill(path: string): void {
  for (const entry of readdirSync(Buffer.from(path, 'latin1'), { encoding: 'latin1', withFileTypes: true })) {
    const inner = `${path}/${entry.name}`;
    if (entry.isDirectory()) chill(inner);
    if (!entry.isFile() || lstatSync(Buffer.from(inner, 'latin1')).size === 0) continue;
    const fd = openSync(Buffer.from(inner, 'latin1'), 'r');
    libc.posix_fadvise(fd, 0n, 0n, DONTNEED);
    closeSync(fd);
  }
}

/** Of a cgroup, in MiB: the most that it was charged with, and what it is at the end; page cache included. */
export type Charged = { readonly peakMiB: number; readonly leftMiB: number };
/** `charged` is undefined where this user may make no cgroup. */
export type ColdRun = Run & { readonly charged: Charged | undefined };

export async function runCold(tree: string, command: string): Promise<ColdRun> {
  chill(tree);
  const group = makeGroup();
  if (group === undefined) return { ...(await run(command)), charged: undefined };
  try {
    const done = await run(`echo $$ > ${group.folder}/cgroup.procs; ${command}`);
    const mib = (file: string) => Number(readFileSync(join(group.folder, file), 'latin1')) / 2 ** 20;
    return { ...done, charged: { peakMiB: mib(group.peak), leftMiB: mib(group.now) } };
  } finally {
    group.end();
  }
}

function makeGroup() {
  // Version 2 where it has the controller, else version 1.
  const two = existsSync('/sys/fs/cgroup/cgroup.procs');
  const parent = two ? '/sys/fs/cgroup' : '/sys/fs/cgroup/memory';
  const folder = join(parent, `bootproof-bench-${process.pid}`);
  const [peak, now] = two
    ? (['memory.peak', 'memory.current'] as const)
    : (['memory.max_usage_in_bytes', 'memory.usage_in_bytes'] as const);
  try {
    mkdirSync(folder);
  } catch {
    return undefined; // not root, or no cgroups: the table says so
  }
  const end = () => {
    if (!two) writeFileSync(join(folder, 'memory.force_empty'), '0');
    rmdirSync(folder);
  };
  if (existsSync(join(folder, peak))) return { folder, peak, now, end };
  end();
  return undefined;
}

/**
 * The single executable itself: made twice, and the same both times; run with nothing beside it, on a root that holds nothing but the libraries
 * it needs, and held against the agent of this checkout. arm64 runs in qemu where that and its libraries are here.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync, type SpawnSyncOptionsWithStringEncoding } from 'node:child_process';
import { hash } from 'node:crypto';
import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test, type TestContext } from 'node:test';
import type { Machine } from '../../packaging/elf.ts';
import { nodeOf } from '../../packaging/nodes.ts';
import { singleExecutable } from '../../packaging/single.ts';
import { VERSION } from '../../src/version.ts';

const root = join(import.meta.dirname, '../..');
const top = mkdtempSync(join(tmpdir(), 'bootproof-build-'));
after(() => rmSync(top, { recursive: true, force: true }));

const native = process.arch as Machine;
const made = new Map<Machine, string>();
/** Made once a run. */
function agentFor(machine: Machine): string {
  const file = join(top, `agent-${machine}`);
  if (!made.has(machine)) {
    writeFileSync(file, singleExecutable(machine, nodeOf(machine).program), { mode: 0o755 });
    made.set(machine, file);
  }
  return file;
}
const run = (file: string, args: readonly string[], more: Partial<SpawnSyncOptionsWithStringEncoding> = {}) =>
  spawnSync(file, args, { encoding: 'utf8', env: {}, ...more });

for (const machine of ['x64', 'arm64'] as const)
  test(`for ${machine}, built twice and in another folder, it is the same bit for bit`, () => {
    const first = agentFor(machine);
    const elsewhere = mkdtempSync(join(tmpdir(), 'another-folder-with-a-longer-name-'));
    const before = process.env['TMPDIR'];
    process.env['TMPDIR'] = elsewhere;
    try {
      const second = singleExecutable(machine, nodeOf(machine).program);
      assert.equal(hash('sha256', second), hash('sha256', readFileSync(first)));
    } finally {
      if (before === undefined) delete process.env['TMPDIR'];
      else process.env['TMPDIR'] = before;
      rmSync(elsewhere, { recursive: true });
    }
  });

test('it runs alone, takes its compiled form, and no variable of Node gets through to it', () => {
  const { stdout, stderr, status } = run(agentFor(native), ['agent', '--version'], {
    env: { NODE_OPTIONS: '--require=/nonexistent', NODE_DEBUG_NATIVE: 'SEA' },
  });
  // Were the compiled form refused, Node would say so here.
  assert.equal(stderr, '');
  assert.equal(stdout, `bootproof agent ${VERSION}\n`);
  assert.equal(status, 0);
});

/** A root with files, links and a capability (where this user may give one). */
function tree(): string {
  const folder = join(top, 'tree');
  mkdirSync(join(folder, 'usr/bin'), { recursive: true });
  mkdirSync(join(folder, 'etc'), { recursive: true });
  for (let i = 0; i < 300; i++) writeFileSync(join(folder, `usr/bin/f${i}`), `file ${i}`.repeat(i * 100));
  cpSync(process.execPath, join(folder, 'usr/bin/large'));
  writeFileSync(join(folder, 'etc/name'), 'x\n');
  spawnSync('setcap', ['cap_net_raw+ep', join(folder, 'usr/bin/f1')]);
  return folder;
}

test('its workers read what the agent of this checkout reads, capabilities included', () => {
  const folder = tree();
  const args = ['scan', '--root', folder, '--json'];
  const here = run(join(root, 'bootproof'), ['agent', ...args], { env: process.env as Record<string, string> });
  const there = run(agentFor(native), args);
  assert.equal(there.stderr, here.stderr);
  const { stats: _, ...told } = JSON.parse(there.stdout) as { stats: unknown; trees: { usr: { entries: number } } };
  const { stats: __, ...expected } = JSON.parse(here.stdout) as { stats: unknown };
  assert.deepEqual(told, expected);
  assert.equal(told.trees.usr.entries, 304);
  // From any folder, and under another name.
  const moved = join(top, 'another-name');
  cpSync(agentFor(native), moved);
  assert.equal(run(moved, args, { cwd: '/' }).status, there.status);
});

/** What the loader says a program needs. */
function libraries(file: string): string[] {
  const text = execFileSync('ldd', [file], { encoding: 'utf8' });
  return [...text.matchAll(/(?:=> )?(\/\S+) \(0x/g)].map((found) => found[1]!);
}

test('it runs on a root that holds glibc, libstdc++, libgcc and libatomic, and not one file more', (t: TestContext) => {
  if (process.geteuid?.() !== 0) return t.skip('chroot needs root');
  const bare = join(top, 'bare');
  const needs = libraries(agentFor(native));
  const names = new Set(
    needs.map((file) =>
      file
        .split('/')
        .at(-1)!
        .replace(/\.so.*|-linux.*/, ''),
    ),
  );
  assert.deepEqual([...names].sort(), [
    'ld',
    'libatomic',
    'libc',
    'libdl',
    'libgcc_s',
    'libm',
    'libpthread',
    'libstdc++',
  ]);
  for (const file of needs) {
    mkdirSync(join(bare, dirname(file)), { recursive: true });
    copyFileSync(file, join(bare, file));
  }
  for (const folder of ['usr/bin', 'etc', 'proc']) mkdirSync(join(bare, folder), { recursive: true });
  cpSync(agentFor(native), join(bare, 'agent'));
  const { stdout, stderr } = run('chroot', [bare, '/agent', 'scan', '--json'], { env: { PATH: process.env['PATH']! } });
  assert.match(stdout, /"entries":\d/, stderr);
  assert.equal(
    (JSON.parse(stdout) as { trees: { usr: { holes: unknown[] } } }).trees.usr.holes.length,
    1,
    'no mounts to be read',
  );
});

test('for arm64 it runs, on pages of 4 and of 64 KiB', (t: TestContext) => {
  const { AARCH64_ROOT: libs } = process.env;
  if (libs === undefined || !existsSync(libs))
    return t.skip('AARCH64_ROOT does not name a folder with the libraries of arm64');
  const qemu = 'qemu-aarch64-static';
  if (run(qemu, ['--version'], { env: process.env as Record<string, string> }).error)
    return t.skip('qemu-user-static is not here');
  for (const page of ['4096', '65536']) {
    const { stdout, stderr } = run(qemu, ['-p', page, '-L', libs, agentFor('arm64'), '--version'], {
      env: { PATH: process.env['PATH']! },
    });
    assert.equal(stdout, `bootproof agent ${VERSION}\n`, stderr);
  }
});

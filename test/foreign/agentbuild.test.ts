/**
 * The single executable itself: made twice, and the same both times; run with nothing beside it, on a root that holds nothing but the libraries
 * it needs, and held against the agent of this checkout. arm64 runs in qemu where that and its libraries are here.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync, type SpawnSyncOptionsWithStringEncoding } from 'node:child_process';
import { hash } from 'node:crypto';
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test, type TestContext } from 'node:test';
import type { Machine } from '../../packaging/elf.ts';
import { nodeOf } from '../../packaging/nodes.ts';
import { buildPackages } from '../../packaging/packages.ts';
import { singleExecutable } from '../../packaging/single.ts';
import { VERSION } from '../../src/version.ts';

const root = join(import.meta.dirname, '../..');
const top = mkdtempSync(join(tmpdir(), 'bootproof-build-'));
after(() => rmSync(top, { recursive: true, force: true }));

const native = process.arch as Machine;
const made = new Map<Machine, string>();
const nodes = new Map<Machine, Buffer>();
function nodeFor(machine: Machine): Buffer {
  const node = nodes.get(machine) ?? nodeOf(machine);
  nodes.set(machine, node);
  return node;
}
/** Made once a run. */
function agentFor(machine: Machine): string {
  const file = join(top, `agent-${machine}`);
  if (!made.has(machine)) {
    writeFileSync(file, singleExecutable(machine, nodeFor(machine)), { mode: 0o755 });
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
      const second = singleExecutable(machine, nodeFor(machine));
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
  const here = run(join(root, 'bootproof'), ['agent', ...args], { env: process.env });
  const there = run(agentFor(native), args);
  assert.equal(there.stderr, here.stderr);
  const { stats: _, ...told } = JSON.parse(there.stdout) as { stats: unknown; trees: { usr: { entries: number } } };
  const { stats: __, ...expected } = JSON.parse(here.stdout) as { stats: unknown };
  assert.deepEqual(told, expected);
  assert.equal(told.trees.usr.entries, 303);
  // From any folder, and under another name.
  const moved = join(top, 'another-name');
  cpSync(agentFor(native), moved);
  assert.equal(run(moved, args, { cwd: '/' }).status, there.status);
});

test('it makes a key, seals a report, and says in it which program it is: the digest that sha256sum tells of the file', () => {
  const state = join(top, 'state');
  const where = ['--state', state];
  const agent = (...args: string[]) => run(agentFor(native), ['agent', ...args, ...where]);
  const request = join(top, 'request.json');
  assert.equal(agent('enroll', '--offline', '--out', request).status, 0);
  const out = join(top, 'reports.jsonl');
  const image = ['--backend', 'ostree', '--image', `sha256:${'1'.repeat(64)}`];
  const made = agent('report', '--out', out, '--root', tree(), ...image);
  assert.equal(made.status, 2, made.stderr);
  assert.match(made.stderr, /nothing to compare with/);
  const envelope = JSON.parse(readFileSync(out, 'utf8')) as { payload: string };
  const report = JSON.parse(Buffer.from(envelope.payload, 'base64').toString('utf8')) as {
    agent: { version: string; executable: string };
  };
  assert.equal(report.agent.version, VERSION);
  const digest = `sha256:${hash('sha256', readFileSync(agentFor(native)))}`;
  assert.equal(report.agent.executable, digest);

  const { checks } = JSON.parse(agent('doctor', '--json', '--no-network', '--root', tree(), ...image).stdout) as {
    checks: { name: string; state: string; says: string }[];
  };
  const check = (name: string) => checks.find((one) => one.name === name)!;
  assert.match(check('program').says, new RegExp(`${digest}: it lies outside of the image`));
  assert.equal(check('library').state, 'ok');
  assert.match(check('enrolment').says, /waits for its server's answer/);
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

test('where a library is missing, what starts the agent says which, and which packages have it', (t: TestContext) => {
  if (process.geteuid?.() !== 0) return t.skip('chroot needs root');
  const host = join(top, 'host');
  const program = join(host, 'usr/libexec/bootproof');
  mkdirSync(program, { recursive: true });
  cpSync(agentFor(native), join(program, 'agent'));
  cpSync(join(root, 'agent/units/bootproof'), join(program, 'bootproof'));
  const shell = realpathSync('/bin/sh');
  for (const file of [...libraries(agentFor(native)), ...libraries(shell)]) {
    mkdirSync(join(host, dirname(file)), { recursive: true });
    copyFileSync(file, join(host, file));
  }
  mkdirSync(join(host, 'bin'), { recursive: true });
  copyFileSync(shell, join(host, 'bin/sh'));
  const start = () =>
    run('chroot', [host, '/bin/sh', '/usr/libexec/bootproof/bootproof', 'agent', '--version'], {
      env: { PATH: process.env['PATH']! },
    });
  assert.equal(start().stdout, `bootproof agent ${VERSION}\n`);
  for (const file of libraries(agentFor(native)).filter((name) => /libatomic|libgcc/.test(name)))
    rmSync(join(host, file));
  const { stdout, stderr, status } = start();
  assert.equal(stdout, '');
  assert.equal(status, 70);
  assert.match(
    stderr,
    /^bootproof: the agent cannot start, because this host lacks libatomic\.so\.1 libgcc_s\.so\.1: .*\n$/,
  );
});

test('rpm and deb hold the same files, and are the same bit for bit whatever umask and folder they are made in', (t: TestContext) => {
  // What goes into them does not matter here, and 120 MB are a minute of compression.
  const small = join(top, 'small');
  writeFileSync(small, 'an executable\n');
  const build = (name: string) => {
    const out = join(top, name);
    mkdirSync(out);
    return buildPackages('x64', small, out, 1_764_000_000);
  };
  const first = build('first');
  const before = process.umask(0o077);
  const second = build('second-in-another-folder');
  process.umask(before);
  if (first.rpm === null || first.deb === null) return t.skip('rpmbuild or dpkg-deb is not here');
  assert.deepEqual(readFileSync(second.rpm!), readFileSync(first.rpm));
  assert.deepEqual(readFileSync(second.deb!), readFileSync(first.deb));

  const text = (program: string, ...args: string[]) => execFileSync(program, args, { encoding: 'utf8' });
  const inRpm = text(
    'rpm',
    '-qp',
    '--nosignature',
    '--qf',
    '[%{FILENAMES} %{FILEMODES:octal} %{FILEUSERNAME}/%{FILEGROUPNAME}\n]',
    first.rpm,
  )
    .split('\n')
    .filter((line) => / 0?1[02]/.test(line))
    .map((line) => `${line.split(' ')[0]} ${line.split(' ')[2]}`);
  const inDeb = text('dpkg-deb', '-c', first.deb)
    .split('\n')
    .filter((line) => /^[-l]/.test(line))
    .map((line) => `${line.split(/\s+/)[5]!.slice(1)} ${line.split(/\s+/)[1]}`);
  assert.ok(inRpm.length >= 15);
  assert.deepEqual(inRpm.sort(), inDeb.sort());
  for (const line of inRpm) assert.match(line, /^\/usr\/\S+ root\/root$/);
  for (const need of ['libatomic', 'libstdc++', 'libgcc', 'glibc >= 2.28'])
    assert.ok(text('rpm', '-qp', '--nosignature', '--requires', first.rpm).split('\n').includes(need), need);
  for (const need of ['libatomic1', 'libstdc++6', 'libgcc-s1', 'libc6 (>= 2.28)'])
    assert.ok(text('dpkg-deb', '-f', first.deb, 'Depends').includes(need), need);
});

test('dpkg unpacks the deb, and its links lead where they should', (t: TestContext) => {
  if (process.geteuid?.() !== 0) return t.skip('dpkg needs root');
  const out = join(top, 'third');
  mkdirSync(out);
  const small = join(top, 'another');
  writeFileSync(small, 'an executable\n');
  const { deb } = buildPackages('x64', small, out, 1_764_000_000);
  if (deb === null) return t.skip('dpkg-deb is not here');
  const host = join(top, 'dpkg');
  for (const folder of ['var/lib/dpkg/updates', 'var/lib/dpkg/info', 'var/lib/dpkg/triggers', 'etc'])
    mkdirSync(join(host, folder), { recursive: true });
  writeFileSync(join(host, 'var/lib/dpkg/status'), '');
  writeFileSync(join(host, 'var/lib/dpkg/available'), '');
  const dpkg = (...args: string[]) =>
    run('dpkg', [`--root=${host}`, '--force-depends', '--force-script-chrootless', '--force-not-root', ...args], {
      env: { PATH: process.env['PATH']! },
    });
  const unpacked = dpkg('--unpack', deb);
  assert.equal(unpacked.status, 0, unpacked.stderr);
  assert.ok(existsSync(join(host, 'usr/lib/systemd/system/bootproof-agent.timer')));
  assert.equal(
    readFileSync(join(host, 'usr/lib/bootproof/bootproof'), 'utf8'),
    readFileSync(join(root, 'agent/units/bootproof'), 'utf8'),
  );
});

test('for arm64 it runs, on pages of 4 and of 64 KiB', (t: TestContext) => {
  const { AARCH64_ROOT: libs } = process.env;
  if (libs === undefined || !existsSync(libs))
    return t.skip('AARCH64_ROOT does not name a folder with the libraries of arm64');
  const qemu = 'qemu-aarch64-static';
  if (run(qemu, ['--version'], { env: process.env }).error) return t.skip('qemu-user-static is not here');
  for (const page of ['4096', '65536']) {
    const { stdout, stderr } = run(qemu, ['-p', page, '-L', libs, agentFor('arm64'), '--version'], {
      env: { PATH: process.env['PATH']! },
    });
    assert.equal(stdout, `bootproof agent ${VERSION}\n`, stderr);
  }
});

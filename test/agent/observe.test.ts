import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test, type TestContext } from 'node:test';
import { applicationMachineId, CommandError, observe, runProgram, type Exec, type Observed } from '#agent/observe.ts';
import { DeploymentState } from '#src/deployment/state.ts';

const top = realpathSync(mkdtempSync(join(tmpdir(), 'bootproof-observe-')));
after(() => rmSync(top, { recursive: true, force: true }));
const vectors = join(import.meta.dirname, '../vectors/bootc');
const IMAGE = '2eb3113010c26a892bb3e3a8ab0bcf7d0e6a8c1b0bc452634aa8bb8e52107645';
const LAYERED = '0fe9359fe1fe07273e0de3e2646b21737e278d60f9578b930dd2929e1a68988b';
const DIGEST = `sha256:${'ca'.repeat(32)}`;
const MACHINE = '1ec1434c7dcd41ef8f9fb35bc21dbda8';

let count = 0;
/** A root folder with these files; a text that begins with `→` is a link. */
function root(files: Readonly<Record<string, string>>): string {
  const folder = join(top, `root-${++count}`);
  mkdirSync(folder);
  for (const [path, text] of Object.entries({ 'usr/bin/x': 'x', 'etc/hostname': 'edge-7\n', ...files })) {
    mkdirSync(join(folder, path, '..'), { recursive: true });
    if (text.startsWith('→')) symlinkSync(text.slice(1), join(folder, path));
    else writeFileSync(join(folder, path), text);
  }
  return folder;
}
function withCommits(folder: string): string {
  for (const checksum of [IMAGE, LAYERED]) {
    const objects = join(folder, 'ostree/repo/objects', checksum.slice(0, 2));
    mkdirSync(objects, { recursive: true });
    copyFileSync(join(vectors, 'commits', `${checksum}.commit`), join(objects, `${checksum.slice(2)}.commit`));
  }
  return folder;
}
const never: Exec = () => assert.fail('no program may be asked');
const ORIGIN = '[origin]\ncontainer-image-reference=ostree-image-signed:docker://quay.io/x/y:z\n';

async function look(folder: string, rest: Partial<Parameters<typeof observe>[0]> = {}): Promise<Observed> {
  const observed = await observe({ root: folder, exec: never, ...rest });
  DeploymentState.parse(observed.state);
  return observed;
}

test('the caller says backend and image: no program is asked', async () => {
  const { state, mounts, hostname: name, bootId } = await look(root({}), { backend: 'composefs', image: DIGEST });
  assert.deepEqual([state.via, state.backend, state.booted?.image?.digest], ['option', 'composefs', DIGEST]);
  assert.deepEqual(state.contradictions, []);
  assert.deepEqual(mounts, []);
  assert.equal(name, 'edge-7');
  assert.match(bootId!, /^[0-9a-f-]{36}$/);
});

test("a plain folder tells nothing, and nothing of this machine's own is taken for it", async () => {
  const { state, machineId } = await look(root({}));
  assert.deepEqual([state.via, state.backend, state.booted], ['none', 'unknown', null]);
  assert.deepEqual([state.kargs, state.kernel, machineId], [[], null, null]);
});

test('a sysroot with one deployment: image from its commit, reference from its origin file', async () => {
  const folder = withCommits(root({ [`ostree/deploy/edge/deploy/${IMAGE}.0.origin`]: ORIGIN }));
  const { state } = await look(folder);
  assert.equal(state.via, 'origin');
  assert.equal(state.backend, 'ostree');
  assert.deepEqual(state.booted, {
    image: {
      reference: 'quay.io/x/y:z',
      transport: 'registry',
      digest: DIGEST,
      version: '10.1',
      signature: 'containerPolicy',
    },
    checksum: IMAGE,
    stateroot: 'edge',
    pinned: false,
    layered: [],
  });
});

test("the deployment's own folder as root: the origin lies beside it", async () => {
  const deployment = `ostree/deploy/edge/deploy/${LAYERED}.0`;
  const folder = withCommits(
    root({
      [`${deployment}/etc/machine-id`]: `${MACHINE}\n`,
      [`${deployment}.origin`]: `${ORIGIN}[packages]\nrequested=htop;\n`,
      [`ostree/deploy/edge/deploy/${IMAGE}.0.origin`]: ORIGIN,
    }),
  );
  const { state, machineId } = await look(join(folder, deployment));
  assert.equal(state.booted?.checksum, LAYERED);
  // The layered commit names no image; its parent does.
  assert.equal(state.booted?.image?.digest, DIGEST);
  assert.deepEqual(state.booted?.layered, ['package htop']);
  assert.equal(state.rollback, null);
  assert.equal(state.verity, false);
  assert.equal(machineId, applicationMachineId(MACHINE));
});

test('of several deployments none is taken for booted, unless /run tells which', async () => {
  const files = {
    [`sysroot/ostree/deploy/edge/deploy/${IMAGE}.0.origin`]: ORIGIN,
    [`sysroot/ostree/deploy/edge/deploy/${LAYERED}.0.origin`]: ORIGIN,
    [`sysroot/ostree/deploy/edge/deploy/${IMAGE}.0/x`]: '',
    ostree: '→sysroot/ostree',
  };
  const unknown = await look(root(files));
  assert.equal(unknown.state.booted, null);
  assert.match(unknown.state.contradictions.join('\n'), /2 deployments lie below the root; none is marked as booted/);

  const folder = root(files);
  const { dev, ino } = statSync(join(folder, `ostree/deploy/edge/deploy/${IMAGE}.0`), { bigint: true });
  mkdirSync(join(folder, 'run'));
  writeFileSync(join(folder, 'run/ostree-booted'), ostreeBooted(dev, ino));
  const known = await look(folder);
  assert.equal(known.state.booted?.checksum, IMAGE);
  assert.equal(known.state.rollback?.checksum, LAYERED);
});

/** {'backing-root-device-inode': <(dev, ino)>} as GLib writes it. */
function ostreeBooted(dev: bigint, ino: bigint): Buffer {
  const key = Buffer.from('backing-root-device-inode\0');
  const entry = Buffer.alloc(32 + 16 + 5 + 1);
  key.copy(entry);
  entry.writeBigUInt64LE(dev, 32);
  entry.writeBigUInt64LE(ino, 40);
  entry.write('\0(tt)', 48, 'latin1');
  entry[53] = key.length;
  return Buffer.concat([entry, Buffer.of(entry.length)]);
}

test('a composefs sysroot: digest from the origin file, the staged one from /run, the other is booted', async () => {
  const [one, two] = ['ab'.repeat(64), 'cd'.repeat(64)];
  const { state } = await look(
    root({
      [`sysroot/state/deploy/${one}/${one}.origin`]: `${ORIGIN}[image]\nmanifest_digest=${DIGEST}\n`,
      [`sysroot/state/deploy/${two}/${two}.origin`]: ORIGIN,
      'run/composefs/staged-deployment': `{"depl_id":"${two}","finalization_locked":false}`,
    }),
  );
  assert.equal(state.backend, 'composefs');
  assert.equal(state.staged?.checksum, two);
  assert.equal(state.booted?.image?.digest, DIGEST);
  assert.equal(state.rollback, null);
});

test('a commit object that was altered is not believed, and said', async () => {
  const folder = withCommits(root({ [`ostree/deploy/edge/deploy/${IMAGE}.0.origin`]: ORIGIN }));
  const object = join(folder, 'ostree/repo/objects', IMAGE.slice(0, 2), `${IMAGE.slice(2)}.commit`);
  copyFileSync(join(vectors, 'commits', `${LAYERED}.commit`), object);
  const { state } = await look(folder);
  assert.equal(state.booted?.image?.digest, null);
  assert.match(state.contradictions.join('\n'), /does not hash to its name/);
});

test('what cannot be read or is refused is said, and nothing is fatal', async () => {
  const deployment = `ostree/deploy/edge/deploy/${IMAGE}.0`;
  const { state } = await look(
    root({
      [`${deployment}.origin`]: 'no key file',
      'run/ostree-booted': 'nonsense',
      'run/ostree/staged-deployment/x': 'a folder',
    }),
  );
  assert.equal(state.booted?.checksum, IMAGE);
  const words = state.contradictions.join('\n');
  assert.match(words, /\.origin: line 1 of the origin file/);
  assert.match(words, /\/run\/ostree-booted: not a GVariant/);
  assert.match(words, /staged-deployment is no file/);
});

test('links that lead out of the root are not followed', async () => {
  const secret = join(top, 'secret');
  writeFileSync(secret, `${MACHINE}\n`);
  const { state, machineId } = await look(root({ 'etc/machine-id': `→${secret}`, 'run/ostree-booted': '→/dev/zero' }));
  assert.equal(machineId, null);
  assert.match(state.contradictions.join('\n'), /\/etc\/machine-id leads out of the root/);
  assert.match(state.contradictions.join('\n'), /\/run\/ostree-booted leads out of the root/);
});

test('an /etc/hostname that is no host name is not taken for one', async () => {
  for (const text of ['x'.repeat(300), 'a\x1bb', '\n'])
    assert.equal((await look(root({ 'etc/hostname': text }))).hostname, hostname());
});

test('a root that is not there is refused', async () => {
  await assert.rejects(observe({ root: join(top, 'absent') }), { code: 'ENOENT' });
});

// The machine id leaves hashed, as systemd does it for one application.
test('the machine id is that of sd_id128_get_machine_app_specific', (t) => {
  const id = applicationMachineId(MACHINE)!;
  assert.match(id, /^[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}$/);
  const tool = spawnSync('systemd-id128', ['machine-id', '--app-specific=5b1e52947d564544aef1ce49a5d6cd90'], {
    encoding: 'utf8',
  });
  if (tool.status !== 0) return t.skip('systemd-id128 is not here, or there is no machine id to ask it for');
  const own = execFileSync('cat', ['/etc/machine-id'], { encoding: 'utf8' }).trim();
  assert.equal(applicationMachineId(own), tool.stdout.trim());
});
for (const text of ['uninitialized', '', MACHINE.toUpperCase(), `${MACHINE}0`])
  test(`${JSON.stringify(text)} is no machine id`, () => assert.equal(applicationMachineId(text), null));

// How programs are run: no shell, no environment of ours, bounded in time and bytes.
test('a program is run with its arguments as they are, and with nothing of our environment', async () => {
  assert.equal(Buffer.from(await runProgram('/bin/echo', ['a b', '$HOME', '`id`'])).toString(), 'a b $HOME `id`\n');
  const names = Buffer.from(await runProgram('/usr/bin/env', []))
    .toString()
    .split('\n');
  assert.deepEqual(new Set(names.map((line) => line.split('=')[0])), new Set(['', 'LC_ALL', 'PATH']));
});
const runs = [
  ['is not there', '/nonexistent/bootc', [], true, 'is not installed'],
  ['fails', '/bin/sh', ['-c', 'echo why >&2; exit 7'], false, 'failed with 7'],
  ['is killed', '/bin/sh', ['-c', 'kill -9 $$'], false, 'failed with SIGKILL'],
  ['never ends', '/bin/sh', ['-c', 'trap "" TERM; while :; do sleep 1; done'], false, 'gave no answer in 0.3 s'],
  ['says too much', '/bin/cat', ['/dev/zero'], false, 'says too much'],
] as const;
for (const [name, file, args, absent, message] of runs)
  test(`a program that ${name} is said to`, async () => {
    const timeout = name === 'never ends' ? 300 : 60_000;
    await assert.rejects(runProgram(file, args, timeout), (error) => {
      assert.ok(error instanceof CommandError);
      assert.deepEqual([error.message, error.absent], [message, absent]);
      return true;
    });
  });

// The running machine: whatever it is, the programs are asked in order and their failures said.
const live = (answers: Readonly<Record<string, string | Error>>) => {
  const asked: string[] = [];
  const exec: Exec = async (file, args) => {
    asked.push([file, ...args].join(' '));
    const answer = answers[file] ?? new CommandError('is not installed', true);
    if (answer instanceof Error) throw answer;
    return Buffer.from(answer);
  };
  return { asked, exec };
};
const status = (name: string) => execFileSync('cat', [join(vectors, name)], { encoding: 'utf8' });
const BOOTC = '/usr/bin/bootc status --format=json --format-version=1';
const RPM_OSTREE = '/usr/bin/rpm-ostree status --json';

test('bootc is asked first, and where it tells enough rpm-ostree is not', async () => {
  const { asked, exec } = live({ '/usr/bin/bootc': status('02-ostree-full-staged-rollback-pinned.json') });
  const { state } = await look('/', { exec });
  assert.deepEqual(asked, [BOOTC]);
  assert.equal(state.via, 'bootc');
  assert.ok(state.kargs.length > 0 && state.kernel !== null);
});
test('for a layered host rpm-ostree is asked too', async () => {
  const { asked, exec } = live({
    '/usr/bin/bootc': status('05-ostree-rpmostree-layered-incompatible.json'),
    '/usr/bin/rpm-ostree': status('20-rpm-ostree-layered-container.json'),
  });
  const { state } = await look('/', { exec });
  assert.deepEqual(asked, [BOOTC, RPM_OSTREE]);
  assert.match(state.contradictions.join('\n'), /bootc says that deployment 4ba1.* rpm-ostree says 9c0a/);
});
const failures = [
  ['fails', new CommandError('failed with 1', false), /bootc status .*: failed with 1/],
  ['writes YAML', status('31-default-output.yaml'), /bootc: this is the YAML output/],
  ['writes nonsense', '{', /bootc: bootc's status is not JSON/],
] as const;
for (const [name, answer, word] of failures)
  test(`a bootc that ${name} is said, and rpm-ostree is asked`, async () => {
    const { asked, exec } = live({
      '/usr/bin/bootc': answer,
      '/usr/bin/rpm-ostree': status('20-rpm-ostree-layered-container.json'),
    });
    const { state } = await look('/', { exec });
    assert.deepEqual(asked, [BOOTC, RPM_OSTREE]);
    assert.equal(state.via, 'rpm-ostree');
    assert.match(state.contradictions.join('\n'), word);
  });
test('a fault of our own is not taken for a program that failed', async () => {
  const { exec } = live({ '/usr/bin/bootc': new TypeError('ours') });
  await assert.rejects(look('/', { exec }), TypeError);
});
test('this machine is looked at with the real programs', async () => {
  const { state, bootId } = await observe({ root: '/' });
  DeploymentState.parse(state);
  assert.match(bootId!, /^[0-9a-f-]{36}$/);
});
test('two looks at one machine tell the same: the state has a digest', async () => {
  const [one, two] = [await observe({ root: '/' }), await observe({ root: '/' })];
  assert.deepEqual(one.state, two.state);
});

// Real mounts, in a mount namespace of their own, so that nothing of the machine is touched.
const child = join(import.meta.dirname, 'observechild.ts');
function inNamespace(t: TestContext, script: string, folder: string): Observed | undefined {
  if (process.geteuid?.() !== 0) {
    t.skip('needs root for a mount namespace');
    return undefined;
  }
  const run = spawnSync(
    'unshare',
    [
      '-m',
      '--propagation',
      'private',
      'sh',
      '-euc',
      `${script}\nexec "$2" "$3" "$1"`,
      'sh',
      folder,
      process.execPath,
      child,
    ],
    { encoding: 'utf8' },
  );
  if (run.error || /unknown filesystem type|permission denied|not permitted/i.test(run.stderr)) {
    t.skip(`no such mounts here: ${run.error?.message ?? run.stderr.trim().split('\n')[0]}`);
    return undefined;
  }
  assert.equal(run.status, 0, run.stderr);
  return JSON.parse(run.stdout) as Observed;
}
const tree = () =>
  root({
    'usr/bin/sudo': 'real',
    'usr/lib/a/b': 'b',
    'usr/local/x': 'x',
    'etc/shadow': 's',
    'var/evil': 'evil',
    'ext/usr/y': 'y',
  });
const told = ({ state, mounts }: Observed) => ({
  overlays: state.overlays.map(({ path, kind, masks }) => `${path} ${kind}${masks ? ' masks' : ''}`),
  mounts,
});

const mounted: readonly [string, string, readonly string[], readonly string[]][] = [
  ['nothing', ':', [], []],
  ['one file', 'mount --bind "$1/var/evil" "$1/usr/bin/sudo"', ['/usr/bin/sudo bind masks'], ['/usr/bin/sudo']],
  ['a file of /etc', 'mount --bind "$1/var/evil" "$1/etc/shadow"', ['/etc/shadow bind masks'], ['/etc/shadow']],
  ['a tmpfs', 'mount -t tmpfs t "$1/usr/lib/a"', ['/usr/lib/a other masks'], ['/usr/lib/a']],
  ['a tmpfs outside', 'mount -t tmpfs t "$1/var"', [], []],
  ['/usr again', 'mount --bind "$1/usr" "$1/usr"', ['/usr bind'], []],
  [
    'a file that was bound and covered again by itself',
    'cp -a "$1/usr/bin/sudo" "$1/var/sudo"; mount --bind "$1/var/evil" "$1/usr/bin/sudo"; mount -t tmpfs t "$1/usr/bin"',
    ['/usr/bin other masks'],
    ['/usr/bin'],
  ],
  [
    'a mount below a mount',
    'mount -t tmpfs t "$1/usr/lib"; mkdir "$1/usr/lib/z"; mount -t tmpfs t "$1/usr/lib/z"',
    ['/usr/lib other masks', '/usr/lib/z other masks'],
    ['/usr/lib'],
  ],
  ['a name with a space', 'mkdir "$1/usr/a b"; mount -t tmpfs t "$1/usr/a b"', ['/usr/a b other masks'], ['/usr/a b']],
];
for (const [name, script, overlays, mounts] of mounted)
  test(`real mounts: ${name}`, (t) => {
    const seen = inNamespace(t, script, tree());
    if (seen) assert.deepEqual(told(seen), { overlays, mounts });
  });

// overlayfs wants an upper layer on a file system of its own kind: a tmpfs takes it everywhere.
const UPPER = 'mkdir -p "$1/var/o"; mount -t tmpfs t "$1/var/o"; mkdir "$1/var/o/upper" "$1/var/o/work"';
const overlaid: readonly [string, string, readonly string[]][] = [
  [
    'as ostree admin unlock makes it',
    `cd "$1"; exec 9<"$1/var/o"; mount -t overlay overlay -o lowerdir=usr,upperdir=/proc/self/fd/9/upper,workdir=/proc/self/fd/9/work "$1/usr"; cd /`,
    ['/usr usr-overlay masks'],
  ],
  [
    'as a hotfix',
    `mkdir "$1/var/o/.usr-ovl-upper" "$1/var/o/.usr-ovl-work"; cp -a "$1/usr" "$1/var/o/usr"; cd "$1/var/o"; mount -t overlay overlay -o lowerdir=usr,upperdir=.usr-ovl-upper,workdir=.usr-ovl-work "$1/usr"; cd /`,
    ['/usr hotfix masks'],
  ],
  [
    'as a system extension',
    `d=/run/systemd/sysext/extensions/x; mount -t tmpfs t /run; mkdir -p $d; cp -a "$1/ext/usr" $d/usr; mount -t overlay sysext -o ro,lowerdir=$d/usr:"$1/usr" "$1/usr"`,
    ['/usr sysext masks'],
  ],
  [
    'of no known make',
    `mount -t overlay overlay -o lowerdir="$1/usr",upperdir="$1/var/o/upper",workdir="$1/var/o/work" "$1/usr"`,
    ['/usr other masks'],
  ],
  [
    'below /usr',
    `mount -t overlay overlay -o lowerdir="$1/usr/local",upperdir="$1/var/o/upper",workdir="$1/var/o/work" "$1/usr/local"`,
    ['/usr/local other masks'],
  ],
];
for (const [name, script, overlays] of overlaid)
  test(`a real overlay ${name}`, (t) => {
    const seen = inNamespace(t, `${UPPER}; ${script}`, tree());
    if (seen) assert.deepEqual(told(seen).overlays, overlays);
  });

test('mounts that only the agent sees are holes too, and said to be its own', (t) => {
  const file = '/usr/bin/env';
  const seen = inNamespace(t, `mount --bind "$1/var/evil" ${file}; set -- / "$2" "$3"`, tree());
  if (!seen) return;
  const mine = seen.state.overlays.find(({ path }) => path === realpathSync(file));
  assert.match(mine?.detail ?? 'none', /only in the mount namespace of the agent/);
  assert.ok(seen.mounts.some((path) => path === realpathSync(file) || path === '/usr'));
});

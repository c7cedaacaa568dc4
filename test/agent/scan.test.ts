import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import {
  accessSync,
  appendFileSync,
  chmodSync,
  chownSync,
  closeSync,
  constants,
  linkSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { scan, ScanError, type ScanOptions } from '#agent/scan.ts';
import { setCapability } from '#demo/capability.ts';
import { attributesOf, type Drift } from '#src/drift/drift.ts';
import { FOLDER_NAMES_MAX, SPARSE_BYTES_MAX } from '#src/limits.ts';
import { comparePaths, type Entry } from '#src/manifest/entry.ts';
import { isFull } from '#test/depth.ts';
import { rejectsCode } from '#test/throws.ts';
import { emptyRoot, entriesOf, has, isRoot, manifestOf, temporary } from './roots.ts';

// Modes below are written as they shall be.
process.umask(0o022);

/** A small root of every kind of thing that a host has, with names that a host should not have. */
function someRoot(t: TestContext): string {
  const root = emptyRoot(t);
  mkdirSync(join(root, 'usr/bin'));
  mkdirSync(join(root, 'usr/lib/empty'), { recursive: true });
  writeFileSync(join(root, 'usr/bin/tool'), 'tool\n', { mode: 0o755 });
  writeFileSync(join(root, 'usr/bin/zero'), '');
  writeFileSync(join(root, 'usr/lib/large'), Buffer.alloc(1_000_000, 'x'));
  writeFileSync(join(root, 'usr/lib/buffer'), Buffer.alloc(128 * 1024, 'y'));
  symlinkSync('tool', join(root, 'usr/bin/link'));
  symlinkSync('loop-b', join(root, 'usr/lib/loop-a'));
  symlinkSync('loop-a', join(root, 'usr/lib/loop-b'));
  symlinkSync('/nowhere/at/all', join(root, 'usr/lib/dangling'));
  // As bytes these sort in another order than their folders' contents do.
  for (const name of ['a', 'a-b', 'a.b']) mkdirSync(join(root, 'usr/lib', name));
  writeFileSync(join(root, 'usr/lib/a/x'), 'x');
  for (const name of [
    '\x1b[31mred',
    'line\nbreak',
    'back\\slash',
    'st*r',
    '[',
    'h#sh',
    'sp ace',
    'e=q',
    '\xff\xfe',
    'caf\xc3\xa9',
  ])
    writeFileSync(Buffer.from(`${root}/usr/lib/${name}`, 'latin1'), name);
  symlinkSync(Buffer.from('to\xff', 'latin1'), Buffer.from(`${root}/usr/lib/\xfelink`, 'latin1'));
  writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0::/root:/bin/sh\n');
  writeFileSync(join(root, 'etc/shadow'), 'root:!:1::::::\n', { mode: 0o600 });
  return root;
}

const plain = (drift: readonly Drift[]): string[] =>
  drift.map((d) => `${d.change} ${d.path}${d.change === 'modified' ? ` ${attributesOf(d).join()}` : ''}`);

/** Scans against what stood there before `change`. */
async function after(root: string, change: () => void, options: Partial<ScanOptions> = {}) {
  const expected = manifestOf(entriesOf(root));
  change();
  return scan({ root, expected, ...options });
}

test('a faithful root has no drift and the digests of its manifest', async (t) => {
  const root = someRoot(t);
  const manifest = manifestOf(entriesOf(root));
  for (const workers of [1, 2, 3]) {
    const found = await scan({ root, expected: manifest, workers });
    assert.deepEqual(found.drift, []);
    assert.equal(found.truncated, null);
    for (const tree of ['usr', 'etc'] as const) {
      assert.equal(found.trees[tree].main, manifest.digests[tree].main.comparison);
      assert.equal(found.trees[tree].extra, manifest.digests[tree].extra);
      assert.deepEqual(found.trees[tree].holes, []);
    }
    assert.deepEqual(found.secrets, [{ path: '/etc/shadow', state: 'same' }]);
    assert.equal(found.stats.files, entriesOf(root).filter(({ type }) => type === 'file').length);
    assert.deepEqual(found.notes, []);
  }
});

test('without a manifest a scan makes the same digests and finds nothing', async (t) => {
  const root = someRoot(t);
  const found = await scan({ root });
  const { digests } = manifestOf(entriesOf(root));
  assert.equal(found.trees.usr.main, digests.usr.main.comparison);
  assert.equal(found.trees.etc.main, digests.etc.main.comparison);
  assert.deepEqual([found.drift, found.secrets], [[], []]);
});

test('a root may be named through a link, with a slash, and in other letters than ASCII', async (t) => {
  const root = someRoot(t);
  const { digests } = manifestOf(entriesOf(root));
  const other = join(temporary(t), 'W\u00fcrzel');
  symlinkSync(root, other);
  for (const name of [`${root}/`, other]) {
    const found = await scan({ root: name });
    assert.equal(found.trees.usr.main, digests.usr.main.comparison);
  }
});

const changes: readonly (readonly [string, (root: string) => void, string[]])[] = [
  ['a mode', (root) => chmodSync(`${root}/usr/bin/tool`, 0o4755), ['modified /usr/bin/tool mode']],
  ['a sticky folder', (root) => chmodSync(`${root}/usr/lib/a`, 0o1755), ['modified /usr/lib/a mode']],
  [
    'content of the same size',
    (root) => writeFileSync(`${root}/usr/bin/tool`, 'TOOL\n'),
    ['modified /usr/bin/tool sha256'],
  ],
  [
    'one byte in a large file',
    (root) => writeFileSync(`${root}/usr/lib/large`, `${'x'.repeat(999_999)}y`),
    ['modified /usr/lib/large sha256'],
  ],
  ['content and size', (root) => appendFileSync(`${root}/usr/bin/tool`, '#'), ['modified /usr/bin/tool size,sha256']],
  ['a link', (root) => relink('zero', `${root}/usr/bin/link`), ['modified /usr/bin/link link']],
  [
    'a file for a link',
    (root) => (rmSync(`${root}/usr/bin/link`), writeFileSync(`${root}/usr/bin/link`, 'tool', { mode: 0o644 })),
    ['modified /usr/bin/link type,mode,size,sha256,link'],
  ],
  [
    'a link for a file',
    (root) => relink('tool', `${root}/usr/bin/zero`),
    ['modified /usr/bin/zero type,mode,size,sha256,link'],
  ],
  [
    'a folder for a file',
    (root) => (
      rmSync(`${root}/usr/bin/zero`),
      mkdirSync(`${root}/usr/bin/zero`, 0o755),
      writeFileSync(`${root}/usr/bin/zero/x`, '')
    ),
    ['modified /usr/bin/zero type,mode,size,sha256', 'added /usr/bin/zero/x'],
  ],
  [
    'a file for a folder',
    (root) => (
      rmSync(`${root}/usr/lib/a`, { recursive: true }),
      writeFileSync(`${root}/usr/lib/a`, '', { mode: 0o755 })
    ),
    ['modified /usr/lib/a type,size,sha256', 'removed /usr/lib/a/x'],
  ],
  [
    'a FIFO for a file',
    (root) => (rmSync(`${root}/usr/bin/tool`), execFileSync('mkfifo', ['-m', '0755', `${root}/usr/bin/tool`])),
    ['modified /usr/bin/tool type,size,sha256'],
  ],
  ['a new file', (root) => writeFileSync(`${root}/usr/lib/a-b/new`, ''), ['added /usr/lib/a-b/new']],
  [
    'a new name that is not UTF-8',
    (root) => writeFileSync(Buffer.from(`${root}/etc/\xe9`, 'latin1'), ''),
    ['added /etc/\xe9'],
  ],
  ['a removed file', (root) => rmSync(`${root}/usr/bin/tool`), ['removed /usr/bin/tool']],
  [
    'a removed folder with all below it',
    (root) => rmSync(`${root}/usr/lib/a`, { recursive: true }),
    ['removed /usr/lib/a', 'removed /usr/lib/a/x'],
  ],
  [
    'a renamed file',
    (root) => renameSync(`${root}/usr/bin/tool`, `${root}/usr/bin/tool2`),
    ['removed /usr/bin/tool', 'added /usr/bin/tool2'],
  ],
  ['the mode of the tree itself', (root) => chmodSync(`${root}/etc`, 0o700), ['modified /etc mode']],
  [
    'times and link counts: nothing',
    (root) => (utimesSync(`${root}/usr/bin/tool`, 1, 1), linkSync(`${root}/usr/bin/tool`, `${root}/hardlink`)),
    [],
  ],
];
const relink = (target: string, path: string) => (rmSync(path), symlinkSync(target, path));
for (const [what, change, expected] of changes)
  test(`sees ${what}`, async (t) => {
    const root = someRoot(t);
    const found = await after(root, () => change(root));
    assert.deepEqual(plain(found.drift), expected);
    // What was found, applied to the manifest, is what stands there.
    assert.equal(found.trees.usr.main, manifestOf(entriesOf(root)).digests.usr.main.comparison);
    assert.equal(found.trees.etc.main, manifestOf(entriesOf(root)).digests.etc.main.comparison);
  });

test('sees owner and group, of files, folders and links', async (t) => {
  if (!isRoot) return t.skip('only root can give files away');
  const root = someRoot(t);
  const found = await after(root, () => {
    chownSync(`${root}/usr/bin/tool`, 1, 0);
    chownSync(`${root}/usr/lib/a`, 0, 4_000_000_000);
    execFileSync('chown', ['-h', '7:8', `${root}/usr/bin/link`]);
  });
  assert.deepEqual(plain(found.drift), [
    'modified /usr/bin/link uid,gid',
    'modified /usr/bin/tool uid',
    'modified /usr/lib/a gid',
  ]);
});

test('sees capabilities come, change and go', async (t) => {
  if (!isRoot || !has('setcap')) return t.skip('needs root and setcap');
  const root = someRoot(t);
  const setcap = (caps: string, path: string) => execFileSync('setcap', [caps, root + path]);
  // VFS_CAP_REVISION_2 with the effective bit, cap_net_raw (13) or cap_net_bind_service (10) permitted, nothing inheritable.
  const [raw, bind] = ['AQAAAgAgAAAAAAAAAAAAAAAAAAA=', 'AQAAAgAEAAAAAAAAAAAAAAAAAAA='];
  setcap('cap_net_raw=ep', '/usr/bin/tool');
  setcap('cap_net_raw=ep', '/usr/bin/zero');
  const expected = manifestOf(
    entriesOf(
      root,
      new Map([
        ['/usr/bin/tool', raw],
        ['/usr/bin/zero', raw],
      ]),
    ),
  );
  const before = await scan({ root, expected });
  assert.deepEqual([before.drift, before.trees.usr.extra], [[], expected.digests.usr.extra]);
  setcap('cap_net_bind_service=ep', '/usr/bin/tool');
  execFileSync('setcap', ['-r', `${root}/usr/bin/zero`]);
  setcap('cap_net_raw=ep', '/usr/lib/large');
  const { drift } = await scan({ root, expected });
  assert.deepEqual(
    drift.map((d) => `${plain([d]).join()} ${(d as Extract<Drift, { change: 'modified' }>).actual.capability}`),
    [
      `modified /usr/bin/tool capability ${bind}`,
      'modified /usr/bin/zero capability undefined',
      `modified /usr/lib/large capability ${raw}`,
    ],
  );
});

test('sees a capability on whatever may carry one: links, fifos and devices too', async (t) => {
  const root = emptyRoot(t);
  const value = 'AQAAAgAgAAAAAAAAAAAAAAAAAAA=';
  symlinkSync('nowhere', join(root, 'usr/link'));
  execFileSync('mkfifo', [join(root, 'usr/fifo')]);
  const paths = ['/usr/fifo', '/usr/link'];
  try {
    execFileSync('mknod', [join(root, 'usr/dev'), 'c', '1', '3'], { stdio: 'ignore' });
    paths.unshift('/usr/dev');
  } catch {
    // Where no devices may be made, the others are tried.
  }
  const manifest = (capable: readonly string[]) =>
    manifestOf(
      entriesOf(root, new Map(capable.map((path) => [path, value]))).map((entry) =>
        entry.type === 'char' ? { ...entry, device: '1:3' } : entry,
      ),
    );
  const without = manifest([]);
  try {
    for (const path of paths) setCapability(root + path, Buffer.from(value, 'base64'));
  } catch {
    return t.skip('needs root and a file system with capabilities');
  }
  const added = await scan({ root, expected: without });
  assert.deepEqual(
    plain(added.drift),
    paths.map((path) => `modified ${path} capability`),
  );
  const expected = manifest(paths);
  const faithful = await scan({ root, expected });
  assert.deepEqual([faithful.drift, faithful.trees.usr.extra], [[], expected.digests.usr.extra]);
});

test('sees devices by their numbers, and opens none', async (t) => {
  if (!isRoot) return t.skip('only root makes devices');
  const root = someRoot(t);
  // Opening 10:130 (watchdog) or an empty tape drive would have effects; large numbers test how a dev_t is taken apart.
  const nodes = [
    ['c', '10:130'],
    ['b', '9:0'],
    ['c', '4095:1048575'],
  ] as const;
  for (const [i, [kind, numbers]] of nodes.entries())
    execFileSync('mknod', ['-m', '0600', `${root}/usr/lib/dev${i}`, kind, ...numbers.split(':')]);
  const entries = entriesOf(root).map((entry): Entry => {
    const node = nodes[Number(/^\/usr\/lib\/dev([0-9])$/.exec(entry.path)?.[1] ?? NaN)];
    return node === undefined ? entry : { ...entry, type: node[0] === 'c' ? 'char' : 'block', device: node[1] };
  });
  const expected = manifestOf(entries);
  const found = await scan({ root, expected });
  assert.deepEqual([found.drift, found.trees.usr.extra], [[], expected.digests.usr.extra]);
  rmSync(`${root}/usr/lib/dev0`);
  execFileSync('mknod', ['-m', '0600', `${root}/usr/lib/dev0`, 'c', '10', '131']);
  assert.deepEqual(plain((await scan({ root, expected })).drift), ['modified /usr/lib/dev0 device']);
});

test('a socket is told as one, and a FIFO without a writer holds nothing up', async (t) => {
  const root = someRoot(t);
  const path = join(root, 'usr/lib/socket');
  const server = createServer().listen(path);
  t.after(() => server.close());
  await new Promise((resolve) => server.once('listening', resolve));
  execFileSync('mkfifo', [join(root, 'etc/fifo')]);
  const entries = entriesOf(root);
  const found = await scan({ root, expected: manifestOf(entries) });
  assert.deepEqual(found.drift, []);
  assert.deepEqual(
    entries.filter(({ type }) => type === 'socket' || type === 'fifo').map(({ path }) => path),
    ['/etc/fifo', '/usr/lib/socket'],
  );
});

test('a tree that is a link is told as a link and not followed', async (t) => {
  const root = someRoot(t);
  const found = await after(root, () => {
    renameSync(`${root}/usr`, `${root}/real`);
    symlinkSync('real', `${root}/usr`);
  });
  assert.equal(
    plain(found.drift).find((line) => line.startsWith('modified')),
    'modified /usr type,mode,link',
  );
  assert.equal(found.trees.usr.entries, 1);
});

test('a tree that is not there is removed, and that is said', async (t) => {
  const root = someRoot(t);
  mkdirSync(`${root}/usr/etc`);
  const found = await after(root, () => rmSync(`${root}/etc`, { recursive: true }));
  assert.deepEqual(plain(found.drift), ['removed /etc', 'removed /etc/passwd', 'removed /etc/shadow']);
  assert.match(found.notes.join(), /has \/usr\/etc but no \/etc/);
  assert.equal(found.trees.etc.holes.length, 0);
});

test('a root that is none is refused', async (t) => {
  const folder = temporary(t);
  writeFileSync(`${folder}/file`, '');
  await rejectsCode(() => scan({ root: `${folder}/none` }), ScanError, 'ROOT_UNREADABLE');
  await rejectsCode(() => scan({ root: `${folder}/file` }), ScanError, 'ROOT_UNREADABLE');
});

test('a folder of 10,000 names', async (t) => {
  const root = emptyRoot(t);
  for (let i = 0; i < 10_000; i++) writeFileSync(`${root}/usr/${i}`, String(i));
  const manifest = manifestOf(entriesOf(root));
  const found = await after(root, () => rmSync(`${root}/usr/777`));
  assert.deepEqual(plain(found.drift), ['removed /usr/777']);
  assert.equal((await scan({ root })).trees.usr.entries, manifest.trees.usr.main.split('\n').length - 2);
});

/** Makes folders of `names` in each other below a folder, and a file in the last: their path may be longer than any call takes. */
function deep(folder: string, names: readonly string[], file: string): void {
  const script = `cd "$1"; shift; f=$1; shift; for n do mkdir -m 755 "$n" && cd -P "$n" || exit 1; done; printf x >"$f"; chmod 644 "$f"`;
  execFileSync('sh', ['-c', script, 'sh', folder, file, ...names]);
}
const dirs = (top: string, names: readonly string[]): Entry[] => {
  const owner = { uid: process.geteuid!(), gid: process.getegid!() };
  return names.map((_, i) => ({
    path: `${top}/${names.slice(0, i + 1).join('/')}`,
    type: 'dir',
    mode: 0o755,
    ...owner,
  }));
};

test('paths of nearly 4,095 bytes, which the root makes longer than any call takes', async (t) => {
  const root = emptyRoot(t);
  const names = Array.from({ length: 16 }, (_, i) => `${String(i).padStart(2, '0')}${'n'.repeat(248)}`);
  const before = entriesOf(root);
  deep(`${root}/usr`, names, 'f'.repeat(70));
  const folders = dirs('/usr', names);
  const last = folders.at(-1)!;
  const path = `${last.path}/${'f'.repeat(70)}`;
  assert.equal(path.length, 4 + 16 * 251 + 71);
  const [{ uid, gid }] = [last];
  const file: Entry = {
    path,
    type: 'file',
    mode: 0o644,
    uid,
    gid,
    size: 1,
    sha256: '2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881',
  };
  const entries = [...before, ...folders, file].sort((a, b) => comparePaths(a.path, b.path));
  const expected = manifestOf(entries);
  const found = await scan({ root, expected });
  assert.deepEqual([plain(found.drift), found.trees.usr.holes], [[], []]);
  assert.equal(found.trees.usr.main, expected.digests.usr.main.comparison);
  const less = await scan({ root, expected: manifestOf(entries.filter((entry) => entry.path !== path)) });
  assert.deepEqual(plain(less.drift), [`added ${path}`]);
});

test('a folder that holds longer paths than can be named is a hole, and the rest is judged', async (t) => {
  const root = emptyRoot(t);
  const names = Array.from({ length: 17 }, () => 'n'.repeat(250));
  deep(`${root}/usr`, names, 'file');
  writeFileSync(`${root}/usr/z`, '');
  const found = await scan({ root, expected: manifestOf([]) });
  const [hole] = found.trees.usr.holes;
  assert.equal(found.trees.usr.holes.length, 1);
  assert.equal(hole!.kind, 'unreadable');
  assert.ok(hole!.path.length <= 4095 && hole!.path.length > 3700);
  assert.equal(found.trees.usr.main, null);
  assert.equal(plain(found.drift).at(-1), 'added /usr/z');
});

test('a file of holes is not read for hours: it is a hole with its reason', async (t) => {
  const root = someRoot(t);
  const found = await after(root, () => {
    truncateSync(`${root}/usr/bin/tool`, 2 ** 40);
    chmodSync(`${root}/usr/bin/tool`, 0o4755);
    writeFileSync(`${root}/usr/lib/new`, '');
    truncateSync(`${root}/usr/lib/new`, 2 ** 40);
    writeFileSync(`${root}/etc/shadow`, 'root:x');
    truncateSync(`${root}/etc/shadow`, 2 ** 40);
  });
  // What lstat shows is drift beside the hole; of a secret its size is not told.
  assert.deepEqual(plain(found.drift), ['modified /usr/bin/tool mode,size', 'added /usr/lib/new']);
  const added = found.drift.find(({ change }) => change === 'added') as Extract<Drift, { change: 'added' }>;
  assert.deepEqual(added.actual, {
    type: 'file',
    mode: 0o644,
    uid: process.getuid!(),
    gid: process.getgid!(),
    size: 2 ** 40,
  });
  assert.deepEqual(
    [...found.trees.etc.holes, ...found.trees.usr.holes].map(({ path, kind }) => `${kind} ${path}`),
    ['unreadable /etc/shadow', 'unreadable /usr/bin/tool', 'unreadable /usr/lib/new'],
  );
  assert.match(found.trees.usr.holes[0]!.detail, /^sparse, with more empty space/);
  assert.doesNotMatch(
    JSON.stringify([found.trees.etc, found.drift.filter(({ path }) => path.startsWith('/etc'))]),
    /1099511627776/,
  );
  assert.equal(found.trees.usr.main, null);
});

test('a file with some holes in it is read like any other', async (t) => {
  const root = someRoot(t);
  truncateSync(`${root}/usr/bin/tool`, 4 * 2 ** 20);
  // Data at the beginning, in the middle and at the very end.
  const fd = openSync(`${root}/usr/lib/sparse`, 'w');
  for (const [at, text] of [
    [0, 'begin'],
    [3 * 2 ** 20 + 1, 'middle'],
    [9 * 2 ** 20, 'end'],
  ] as const)
    writeSync(fd, text, at);
  closeSync(fd);
  assert.ok(SPARSE_BYTES_MAX > 4 * 2 ** 20);
  const found = await after(root, () => {});
  assert.deepEqual([found.drift, found.trees.usr.holes], [[], []]);
});

test('a file that is written to while it is read is unstable, and no drift', async (t) => {
  const root = someRoot(t);
  const log = `${root}/usr/lib/growing`;
  writeFileSync(log, Buffer.alloc(64 * 2 ** 20));
  const expected = manifestOf(entriesOf(root));
  const writer = spawn('sh', ['-c', `while :; do echo x; done >>"$1"`, 'sh', log]);
  t.after(() => writer.kill('SIGKILL'));
  await new Promise((resolve) => writer.once('spawn', resolve));
  const size = execFileSync('stat', ['-c', '%s', log]).toString();
  while (execFileSync('stat', ['-c', '%s', log]).toString() === size);
  const found = await scan({ root, expected });
  assert.deepEqual(
    found.trees.usr.holes.map(({ path, kind }) => `${kind} ${path}`),
    ['unstable /usr/lib/growing'],
  );
  // It has grown, whatever was written: that much is known.
  assert.deepEqual([plain(found.drift), found.trees.usr.main], [['modified /usr/lib/growing size'], null]);
});

test('a file that is touched all the time is unstable; its mode, its owner and that it was added are drift', async (t) => {
  const root = someRoot(t);
  const touched = `${root}/usr/lib/large`;
  const expected = manifestOf(entriesOf(root));
  chmodSync(touched, 0o4711);
  writeFileSync(`${root}/usr/lib/new`, Buffer.alloc(64 * 2 ** 20));
  writeFileSync(touched, Buffer.alloc(64 * 2 ** 20));
  truncateSync(touched, 1_000_000);
  const writer = spawn('sh', ['-c', 'while :; do touch -cm "$1" "$2"; done', 'sh', touched, `${root}/usr/lib/new`]);
  await new Promise((resolve) => writer.once('spawn', resolve));
  const found = await scan({ root, expected }).finally(() => writer.kill('SIGKILL'));
  const holes = found.trees.usr.holes.map(({ path, kind }) => `${kind} ${path}`);
  assert.ok(holes.includes('unstable /usr/lib/new'), String(holes));
  assert.ok(plain(found.drift).includes('added /usr/lib/new'));
  // The small one is now and then read between two touches: either way its mode is told.
  assert.match(plain(found.drift).join(), /modified \/usr\/lib\/large mode/);
});

test('what this user may not read are holes, with all below them; what lstat shows is drift', async (t) => {
  const root = someRoot(t);
  writeFileSync(`${root}/usr/lib/a-b/x`, 'x');
  const expected = manifestOf(entriesOf(root));
  chmodSync(`${root}/usr/bin/tool`, 0o000);
  chmodSync(`${root}/usr/lib/a`, 0o000);
  // A folder that may be listed but not entered.
  chmodSync(`${root}/usr/lib/a-b`, 0o744);
  if (isRoot) {
    execFileSync('chown', ['-R', '1:1', root]);
    process.seteuid!(65534);
    t.after(() => process.seteuid!(0));
    try {
      accessSync(import.meta.filename, constants.R_OK);
    } catch {
      return t.skip('another user may not read this checkout');
    }
  }
  const found = await scan({ root, expected }).finally(() => isRoot && process.seteuid!(0));
  chmodSync(`${root}/usr/lib/a`, 0o755); // or rm could not clear it away
  const holes = [...found.trees.etc.holes, ...found.trees.usr.holes].map(
    ({ path, kind, detail }) => `${kind} ${path} ${detail}`,
  );
  assert.ok(holes.includes('unreadable /usr/bin/tool EACCES'));
  assert.ok(holes.includes('unreadable /usr/lib/a EACCES'));
  if (isRoot)
    assert.ok(holes.includes('unreadable /usr/lib/a-b/x EACCES') && holes.includes('unreadable /etc/shadow EACCES'));
  const told = plain(found.drift).filter((line) => /\/usr\/bin\/tool|\/usr\/lib\/a(?:-b)?\/?/.test(line));
  const owner = isRoot ? ',uid,gid' : '';
  assert.deepEqual(told.slice(0, 2), [`modified /usr/bin/tool mode${owner}`, `modified /usr/lib/a mode${owner}`]);
  assert.ok(!told.some((line) => line.includes('/usr/lib/a/x') || line.includes('/usr/lib/a-b/x')), String(told));
  assert.equal(found.trees.usr.main, null);
});

test('paths that are known to be mounted over are holes, and the scan does not go in', async (t) => {
  const root = someRoot(t);
  const found = await after(
    root,
    () => {
      writeFileSync(`${root}/usr/lib/a/x`, 'hidden');
      writeFileSync(`${root}/usr/bin/tool`, 'hidden');
      writeFileSync(`${root}/usr/bin/zero`, 'seen');
    },
    { mounts: ['/usr/bin/tool', '/usr/lib/a', '/usr/lib/none'] },
  );
  assert.deepEqual(plain(found.drift), ['modified /usr/bin/zero size,sha256']);
  assert.deepEqual(
    found.trees.usr.holes.map(({ path, kind }) => `${kind} ${path}`),
    ['mount /usr/bin/tool', 'mount /usr/lib/a'],
  );
  const whole = await scan({ root, mounts: ['/etc'] });
  assert.deepEqual(
    whole.trees.etc.holes.map(({ path, kind }) => `${kind} ${path}`),
    ['mount /etc'],
  );
  assert.equal(whole.trees.etc.main, null);
});

test('an aborted scan ends with the reason, at once or on its way', async (t) => {
  const root = someRoot(t);
  const reason = new Error('stop');
  await assert.rejects(scan({ root, signal: AbortSignal.abort(reason) }), reason);
  const control = new AbortController();
  await assert.rejects(scan({ root, signal: control.signal, onProgress: () => control.abort(reason) }), reason);
});

test('drift beyond what a report holds is cut, counted, and the digests stay whole', async (t) => {
  const root = emptyRoot(t);
  const entries: Entry[] = Array.from({ length: 20_100 }, (_, i) => ({
    path: `/usr/${String(i).padStart(6, '0')}`,
    type: 'dir',
    mode: 0o755,
    uid: 0,
    gid: 0,
  }));
  const found = await scan({
    root,
    expected: manifestOf([...entriesOf(root), ...entries].sort((a, b) => comparePaths(a.path, b.path))),
  });
  assert.equal(found.drift.length, 20_000);
  assert.deepEqual(found.truncated, { added: 0, removed: 20_100, modified: 0 });
  assert.equal(found.trees.usr.main, manifestOf(entriesOf(root)).digests.usr.main.comparison);
});

test(
  'a folder of more names than memory should hold is a hole, and the rest is judged',
  {
    timeout: 120_000,
    skip: isFull ? false : 'making so many names takes longer than all else here: TEST_DEPTH=full does',
  },
  async (t) => {
    const root = someRoot(t);
    const expected = manifestOf(entriesOf(root));
    mkdirSync(`${root}/usr/lib/many`);
    // Names of 250 bytes, so that the folder is as large as one of many more.
    execFileSync('sh', [
      '-c',
      `cd "$1" && seq -f "${'n'.repeat(240)}%06.0f" 1 $2 | xargs -n 2000 touch`,
      'sh',
      `${root}/usr/lib/many`,
      String(FOLDER_NAMES_MAX + 1),
    ]);
    const found = await scan({ root, expected });
    assert.deepEqual(
      found.trees.usr.holes.map(({ path, kind, detail }) => `${kind} ${path} ${detail}`),
      [`unreadable /usr/lib/many it holds more than ${FOLDER_NAMES_MAX} names`],
    );
    assert.deepEqual(plain(found.drift), ['added /usr/lib/many']);
  },
);

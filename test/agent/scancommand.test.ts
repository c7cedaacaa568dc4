/** `agent scan` as a command: what it prints, where, and how it exits (PROTOCOL 7). */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { main } from '#agent/main.ts';
import { ScanError } from '#agent/scan.ts';
import { ATTRIBUTES } from '#src/drift/drift.ts';
import { MtreeError } from '#src/manifest/mtree.ts';
import { UsageError } from '#src/terminal.ts';
import { rejectsCode } from '#test/throws.ts';
import { launch, launchAgent, project, run } from './console.ts';
import { emptyRoot, entriesOf, has, isRoot, manifestOf, temporary } from './roots.ts';

process.umask(0o022);

/** A root, and its manifest in files. */
function prepared(t: TestContext) {
  const root = emptyRoot(t);
  mkdirSync(`${root}/usr/bin`);
  mkdirSync(`${root}/usr/lib/deep/er`, { recursive: true });
  writeFileSync(`${root}/usr/bin/tool`, 'tool\n', { mode: 0o755 });
  writeFileSync(`${root}/usr/lib/deep/er/a`, 'a');
  writeFileSync(`${root}/usr/lib/deep/er/b`, 'b');
  writeFileSync(`${root}/etc/motd`, 'hello\n');
  writeFileSync(`${root}/etc/shadow`, 'root:!:\n', { mode: 0o600 });
  const manifest = manifestOf(entriesOf(root));
  const folder = temporary(t);
  const files = { main: join(folder, 'main'), extra: join(folder, 'extra') };
  writeFileSync(files.main, manifest.file);
  writeFileSync(files.extra, manifest.extraFile);
  const args = ['scan', '--root', root, '--manifest', files.main, '--manifest-extra', files.extra];
  return { root, manifest, files, args };
}

type Document = {
  complete: boolean;
  trees: Record<
    'usr' | 'etc',
    Record<'main' | 'extra', { digest: string | null; expected: string | null }> & { holes: object[] }
  >;
  drift: {
    path?: string;
    path_b64?: string;
    change: string;
    attributes: string[];
    expected?: object;
    actual?: object;
  }[];
  secrets: object[];
  notes: string[];
  stats: Record<string, number>;
};
const document = (out: string) => JSON.parse(out) as Document;

test('0: a faithful root, with the digests that were expected', async (t) => {
  const { args, manifest } = prepared(t);
  const ran = await run(main, [...args, '--json']);
  assert.deepEqual([ran.exit, ran.err], [0, '']);
  const told = document(ran.out);
  assert.equal(told.complete, true);
  for (const tree of ['usr', 'etc'] as const) {
    const { main: comparison, extra } = manifest.digests[tree];
    assert.deepEqual(told.trees[tree].main, { digest: comparison.comparison, expected: comparison.comparison });
    assert.deepEqual(told.trees[tree].extra, { digest: extra, expected: extra });
    assert.deepEqual(told.trees[tree].holes, []);
  }
  assert.deepEqual([told.drift, told.secrets], [[], [{ path: '/etc/shadow', state: 'same' }]]);
  assert.equal(told.stats['files'], 5);
  assert.ok(told.stats['peakRssBytes']! > 1e7 && told.stats['seconds']! >= 0 && told.stats['bytes'] === 13);
  assert.match((await run(main, args)).out, /^5 files, 13 B, [0-9.]+ s: as the image says\n$/);
});

test('1: a difference, told attribute by attribute', async (t) => {
  const { root, args } = prepared(t);
  chmodSync(`${root}/usr/bin/tool`, 0o4755);
  writeFileSync(Buffer.from(`${root}/usr/bin/\xff`, 'latin1'), '');
  rmSync(`${root}/usr/lib/deep/er/a`);
  const ran = await run(main, [...args, '--json']);
  assert.equal(ran.exit, 1);
  const told = document(ran.out);
  assert.equal(told.complete, true);
  const [added, removed] = [told.drift.at(1)!, told.drift.at(2)!];
  assert.deepEqual(
    told.drift.map(({ path, path_b64, change, attributes }) => [path ?? path_b64, change, attributes]),
    [
      ['/usr/bin/tool', 'modified', ['mode']],
      ['L3Vzci9iaW4v/w==', 'added', []],
      ['/usr/lib/deep/er/a', 'removed', []],
    ],
  );
  assert.deepEqual([added.expected, removed.actual], [undefined, undefined]);
});

test('1: a secret that differs is a difference, though no line of drift tells it', async (t) => {
  const { root, args } = prepared(t);
  writeFileSync(`${root}/etc/shadow`, 'root:$y$:\n');
  const ran = await run(main, [...args, '--json']);
  assert.equal(ran.exit, 1);
  assert.deepEqual(document(ran.out).drift, []);
  assert.match((await run(main, args)).out, /~ shadow\n +content +a secret +differs\n/);
});

test('1: a difference beside a hole, and complete says that it is not all', async (t) => {
  const { root, args } = prepared(t);
  truncateSync(`${root}/usr/bin/tool`, 2 ** 40);
  writeFileSync(`${root}/etc/motd`, 'other');
  const ran = await run(main, [...args, '--json']);
  assert.equal(ran.exit, 1);
  const told = document(ran.out);
  assert.deepEqual([told.complete, told.trees.usr.main.digest, told.trees.usr.extra.digest], [false, null, null]);
  assert.notEqual(told.trees.etc.main.digest, null);
  assert.equal(told.trees.usr.holes.length, 1);
});

test('1: what lstat shows of a file that cannot be read, and beside it that it was not', async (t) => {
  const { root, args } = prepared(t);
  truncateSync(`${root}/usr/bin/tool`, 2 ** 40);
  const ran = await run(main, args);
  assert.equal(ran.exit, 1);
  assert.match(ran.out, /~ tool {2}unreadable: sparse.*\n +size +5 +1099511627776\n/);
  assert.match(ran.out, /1 modified; 1 could not be judged\n$/);
});

test('2: no difference, but a hole', async (t) => {
  const { root, args, files, manifest } = prepared(t);
  truncateSync(`${root}/usr/bin/tool`, 2 ** 40);
  // As the image would have it: nothing that lstat shows differs.
  writeFileSync(files.main, manifest.file.replace(/(\/tool type=file .*)size=5/, `$1size=${2 ** 40}`));
  const ran = await run(main, args);
  assert.equal(ran.exit, 2);
  assert.match(ran.out, /\? tool {2}unreadable: sparse/);
  assert.match(ran.out, /no difference where it could be told; 1 could not be judged\n$/);
});

test('2: no manifest', async (t) => {
  const { root, manifest } = prepared(t);
  const ran = await run(main, ['scan', '--root', root]);
  assert.equal(ran.exit, 2);
  assert.ok(ran.out.includes(`/usr  ${manifest.digests.usr.main.comparison}  extra`));
  const json = document((await run(main, ['scan', '--root', root, '--json'])).out);
  assert.deepEqual([json.complete, json.drift, json.trees.usr.main.expected], [false, [], null]);
});

test('2: without the extra text capabilities are not compared, and that is said', async (t) => {
  const { root, files } = prepared(t);
  const args = ['scan', '--root', root, '--manifest', files.main];
  if (isRoot && has('setcap')) execFileSync('setcap', ['cap_net_raw=ep', `${root}/usr/bin/tool`]);
  const ran = await run(main, [...args, '--json']);
  assert.equal(ran.exit, 2);
  const told = document(ran.out);
  assert.deepEqual([told.complete, told.drift, told.trees.usr.extra.expected], [false, [], null]);
  assert.match(ran.err, /no --manifest-extra/);
});

test('2: without node:ffi capabilities are not looked at, and that is said', async (t) => {
  const { root, files, args } = prepared(t);
  // As if the manifest wanted one: not to have looked is no difference.
  writeFileSync(files.extra, './usr/bin/tool\tsecurity.capability=0sAQAAAgAgAAAAAAAAAAAAAAAAAAA=\n');
  const ran = await launchAgent([...args, '--json'], { node: ['--no-experimental-ffi'] });
  assert.equal(ran.exit, 2, ran.err);
  const told = document(ran.out);
  assert.deepEqual([told.complete, told.drift, told.trees.usr.extra.digest], [false, [], null]);
  assert.notEqual(told.trees.usr.main.digest, null);
  assert.match(told.notes.join(), /^xattr: unsupported/);
  chmodSync(`${root}/usr/bin/tool`, 0o700);
  assert.equal((await launchAgent([...args, '--json'], { node: ['--no-experimental-ffi'] })).exit, 1);
});

const wrong = [
  ['an unknown option', ['scan', '--rooot', '/']],
  ['an operand', ['scan', '/']],
  ['an extra text alone', ['scan', '--manifest-extra', 'x']],
  ['a file that is not there', ['scan', '--manifest', '/nonexistent/manifest']],
  ['a folder as a file', ['scan', '--manifest', '/']],
  ['a number of workers that is none', ['scan', '--workers', '0']],
  ['a command that is none', ['toString']],
] as const;
for (const [what, args] of wrong)
  test(`64: ${what}`, async (t) => {
    const rest = args[0] === 'scan' && !args.some((word) => word === '/') ? ['--root', emptyRoot(t)] : [];
    await rejectsCode(() => run(main, [...args, ...rest]), UsageError, 'USAGE');
  });

test('as a program: exit codes, one document on standard output, refusals with their code', async (t) => {
  const { root, args } = prepared(t);
  assert.equal((await launchAgent(args)).exit, 0);
  const missing = await launchAgent(['scan', '--root', `${root}/none`, '--json']);
  assert.deepEqual([missing.exit, (JSON.parse(missing.out) as { code: string }).code], [2, 'ROOT_UNREADABLE']);
  assert.match(missing.err, /\[ROOT_UNREADABLE\]\n$/);
  const usage = await launchAgent(['scan', '--what']);
  assert.deepEqual([usage.exit, usage.out], [64, '']);
  const none = await launchAgent([]);
  assert.deepEqual([none.exit, none.out], [64, '']);
  assert.match((await launchAgent(['scan', '--help'])).out, /Exit codes: 0 as the image says/);
});

test('a root or a manifest that is none is refused', async (t) => {
  const { root, files } = prepared(t);
  await rejectsCode(() => run(main, ['scan', '--root', `${root}/none`]), ScanError, 'ROOT_UNREADABLE');
  const scan = () => run(main, ['scan', '--root', root, '--manifest', files.main]);
  for (const text of [
    '',
    'nonsense',
    '#mtree\n. type=dir\n./usr type=dir mode=0755 uid=0 gid=0',
    '#mtree\n. type=dir\n./var type=dir mode=0755 uid=0 gid=0\n',
  ]) {
    writeFileSync(files.main, text);
    await rejectsCode(scan, MtreeError, 'MTREE_SYNTAX');
  }
});

test('a manifest whose trees are cut at any byte of a piece is read whole', async (t) => {
  const root = emptyRoot(t);
  for (let i = 0; i < 700; i++)
    writeFileSync(`${root}/${i % 3 === 0 ? 'etc' : 'usr'}/${'n'.repeat(i % 40)}${i}`, String(i));
  const { file } = manifestOf(entriesOf(root));
  assert.ok(file.length > 2 * 32 * 1024);
  const path = join(temporary(t), 'main');
  writeFileSync(path, file);
  const told = document((await run(main, ['scan', '--root', root, '--manifest', path, '--json'])).out);
  assert.deepEqual(
    [told.drift, told.trees.etc.main.digest, told.trees.usr.main.digest],
    [[], told.trees.etc.main.expected, told.trees.usr.main.expected],
  );
});

test('for people: a tree of changes, what came with its folder in one line, names that cannot harm the terminal', async (t) => {
  const { root, args } = prepared(t);
  rmSync(`${root}/usr/lib/deep`, { recursive: true });
  mkdirSync(`${root}/etc/new.d`);
  writeFileSync(`${root}/etc/new.d/\x1b[2Jx\ny`, '');
  writeFileSync(`${root}/etc/motd`, 'HELLO\n');
  rmSync(`${root}/usr/bin/tool`);
  symlinkSync('\x1b]0;t\x07', `${root}/usr/bin/tool`);
  const { uid, gid } = { uid: process.geteuid!(), gid: process.getegid!() };
  const ran = await run(main, args);
  const shown = ran.out.replace(/, [0-9.]+ s: /, ', S: ').replace(/[0-9a-f]{16}…/g, 'ABCDEF0123456789…');
  assert.equal(
    shown,
    `/usr/
  bin/
    ~ tool
        type       file               symlink
        mode       0755               -
        size       5                  -
        sha256     ABCDEF0123456789…  -
        link       -                  \\x1b]0;t\\x07
  lib/
    - deep  dir 0755 ${uid}:${gid}  and 3 below
/etc/
  ~ motd
      sha256     ABCDEF0123456789…  ABCDEF0123456789…
  + new.d  dir 0755 ${uid}:${gid}  and 1 below
3 files, 6 B, S: 2 added, 4 removed, 2 modified
`,
  );
  const all = await run(main, [...args, '--all']);
  assert.ok(all.out.includes(`\n  + new.d  dir 0755 ${uid}:${gid}\n    + \\x1b[2Jx\\x0ay  file 0644`));
  for (const { out, err } of [ran, all, await run(main, args, { isTTY: true, env: { NO_COLOR: '1' } })])
    // eslint-disable-next-line no-control-regex
    assert.doesNotMatch(out + err.replaceAll('\r\u001b[K', ''), /[\x00-\x09\x0b-\x1f\x7f]/);
});

test('colours where the terminal has them and nobody forbids it, progress on standard error alone', async (t) => {
  const { root, args } = prepared(t);
  rmSync(`${root}/etc/motd`);
  const shown = await run(main, args, { isTTY: true });
  assert.ok(shown.out.includes('\u001b[31m- motd\u001b[39m'));
  assert.match(shown.err.replaceAll('\r\u001b[K', '|'), /^\|[0-9]+ files, .*\|$/);
  for (const quiet of [{}, { isTTY: true, env: { NO_COLOR: '1' } }, { isTTY: true, env: { TERM: 'dumb' } }])
    assert.ok(!(await run(main, args, quiet)).out.includes('\u001b'));
});

test('what is mounted over a tree is a hole: of another file system, of a folder, of a single file', async (t) => {
  if (!isRoot || !has('unshare')) return t.skip('only root makes mounts');
  const { root, args } = prepared(t);
  const script = `mount -t tmpfs none "$1/usr/lib/deep" && mount --bind "$1/usr/bin" "$1/usr/lib" && mount --bind "$1/etc/motd" "$1/usr/bin/tool" && shift && exec "$@"`;
  const agent = [
    process.execPath,
    '--disable-warning=ExperimentalWarning',
    join(project, 'agent/main.ts'),
    ...args,
    '--json',
  ];
  const trial = await launch('unshare', ['-m', 'sh', '-c', script, 'sh', root, 'true']);
  if (trial.exit !== 0) return t.skip(`no mounts of one's own here: ${trial.err.trim()}`);
  const ran = await launch('unshare', ['-m', 'sh', '-c', script, 'sh', root, ...agent]);
  assert.equal(ran.exit, 2, ran.err);
  const told = document(ran.out);
  assert.deepEqual(
    told.trees.usr.holes.map((hole) => `${(hole as { kind: string }).kind} ${(hole as { path: string }).path}`),
    ['mount /usr/bin/tool', 'mount /usr/lib'],
  );
  assert.deepEqual([told.drift, told.trees.usr.main.digest], [[], null]);
});

test('every attribute goes by its name in what is told to programs', async (t) => {
  const { root, args, files, manifest } = prepared(t);
  const capability = 'AQAAAgAgAAAAAAAAAAAAAAAAAAA=';
  writeFileSync(files.extra, `${manifest.extraFile}./usr/bin/tool\tsecurity.capability=0s${capability}\n`);
  const ran = await run(main, [...args, '--json']);
  const [line] = document(ran.out).drift;
  assert.deepEqual(line!.attributes, ['capability']);
  assert.equal((line!.expected as Record<string, unknown>)['capability'], capability);
  assert.deepEqual(
    Object.keys(line!.expected!).filter((name) => !(ATTRIBUTES as readonly string[]).includes(name)),
    [],
  );
  assert.ok(existsSync(root));
});

test('a root whose name is not UTF-8 is scanned where it is stood in; as an argument it is refused with the reason', async (t) => {
  const { root, args } = prepared(t);
  const odd = Buffer.from(`${root}-\xff`, 'latin1');
  renameSync(root, odd);
  symlinkSync(odd, `${root}-link`);
  const ran = await run(main, ['scan', '--root', `${root}-link`, ...args.slice(3), '--json']);
  assert.equal(ran.exit, 0, ran.err);
  await rejectsCode(
    () => run(main, ['scan', '--root', `${root}-\ufffd`, ...args.slice(3)]),
    ScanError,
    'ROOT_UNREADABLE',
  );
});

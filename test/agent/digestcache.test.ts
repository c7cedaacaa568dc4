/** What is not read again, and all that must be. */
import assert from 'node:assert/strict';
import {
  appendFileSync,
  chmodSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { DigestCache, type CacheOptions } from '#agent/digestcache.ts';
import { DigestTable, newTable } from '#agent/digesttable.ts';
import { scan } from '#agent/scan.ts';
import { deep } from '#test/depth.ts';
import { mountedOverlay } from './overlayroot.ts';
import { emptyRoot, entriesOf, isRoot, manifestOf, sha256, temporary } from './roots.ts';

const HOUR = 3_600_000;
const BOOT = '11111111-2222-3333-4444-555555555555';

/** All changes of its files lie far in the past for a run that begins then. */
const LATER = Date.now() + HOUR;
const PROGRAMS = 40;

/** Some programs, and what a run at `hours` after boot makes of them: as the workers of a scan do it, without their threads. */
function host(t: TestContext) {
  const root = emptyRoot(t);
  mkdirSync(`${root}/usr/bin`);
  for (let i = 0; i < PROGRAMS; i++) writeFileSync(`${root}/usr/bin/${i}`, `program ${i}`);
  const file = join(temporary(t), 'digests');
  function run(hours: number, options: Partial<CacheOptions> = {}) {
    const cache = open(file, hours, options);
    const table = new DigestTable(cache.data);
    let read = 0;
    for (const name of readdirSync(`${root}/usr/bin`)) {
      const path = `${root}/usr/bin/${name}`;
      const stat = statSync(path, { bigint: true });
      const truth = sha256(readFileSync(path));
      const known = table.lookup(stat);
      if (known === undefined) read++;
      assert.equal(known ?? truth, truth);
      if (known === undefined) table.store(stat, truth);
    }
    cache.save();
    return { cached: cache.cached, read, notes: cache.notes };
  }
  return { root, file, run };
}

const open = (file: string, hours: number, options: Partial<CacheOptions> = {}): DigestCache =>
  new DigestCache({
    file,
    filesMax: 128,
    rereadMs: 24 * HOUR,
    bootId: BOOT,
    uptimeMs: hours * HOUR,
    nowMs: LATER,
    ...options,
  });

test('what has not changed is not read again, but each file once in its time, a part in each run', (t) => {
  const { run } = host(t);
  assert.deepEqual(run(0), { cached: 0, read: 40, notes: [] });
  const reads: number[] = [];
  for (let hour = 1; hour <= 48; hour++) reads.push(run(hour).read);
  const sum = (list: number[]) => list.reduce((a, b) => a + b, 0);
  assert.deepEqual([sum(reads.slice(0, 24)), sum(reads.slice(24))], [40, 40]);
  assert.ok(Math.max(...reads) < 20, `in slices, not at once: ${reads.join()}`);
});

// Each with its size kept, where that can be: times alone tell it.
const changes: readonly (readonly [string, (path: string, root: string) => void, number?])[] = [
  ['other content', (path) => writeFileSync(path, 'PROGRAM 0')],
  ['more content', (path) => appendFileSync(path, '!')],
  ['less content', (path) => truncateSync(path, 3)],
  [
    'other content, with the old times put back',
    (path) => {
      const { atime, mtime } = statSync(path);
      writeFileSync(path, 'PROGRAM 3');
      utimesSync(path, atime, mtime);
    },
  ],
  [
    'another file in its place',
    (path, root) => {
      writeFileSync(`${root}/new`, 'PROGRAM 4');
      renameSync(`${root}/new`, path);
    },
  ],
  ['another mode', (path) => chmodSync(path, 0o4755)],
  ['a further name', (path) => linkSync(path, `${path}-more`), 2],
];

test('a scan reads what changed, in whatever way, and secrets; of those no digest is on the disk', async (t) => {
  const { root, file } = host(t);
  writeFileSync(`${root}/etc/shadow`, 'root:!:1::::::\n', { mode: 0o600 });
  writeFileSync(`${root}/etc/app.token`, 'sesame');
  const look = async (hours: number) => {
    const expected = manifestOf(entriesOf(root));
    const found = await scan({ root, expected, cache: open(file, hours), secretPathsAdded: ['/etc/*.token'] });
    assert.equal(found.trees.usr.main, expected.digests.usr.main.comparison);
    assert.deepEqual(found.drift, []);
    return found.stats;
  };
  const first = await look(0);
  assert.deepEqual([first.files, first.cached, first.read], [42, 0, 42]);
  const second = await look(0.001);
  assert.deepEqual([second.files, second.cached, second.read], [42, 40, 2]);
  for (const [i, [, change]] of changes.entries()) change(`${root}/usr/bin/${i}`, root);
  const third = await look(0.002);
  const changed = changes.reduce((sum, [, , names = 1]) => sum + names, 0);
  assert.deepEqual([third.files, third.cached, third.read], [43, 43 - 2 - changed, 2 + changed]);
  assert.deepEqual((await look(0.003)).read, 2, 'and then it is known');
  const held = readFileSync(file).toString('hex');
  assert.ok(held.includes(sha256('program 17')));
  for (const secret of ['shadow', 'app.token'])
    assert.ok(!held.includes(sha256(readFileSync(`${root}/etc/${secret}`))), secret);
});

for (const [i, [what, change, names = 1]] of changes.entries())
  test(`a file is read anew after ${what}`, (t) => {
    const { run, root } = host(t);
    run(0);
    change(`${root}/usr/bin/${i}`, root);
    // The second of its names is known by the first.
    assert.deepEqual(run(0.001), { cached: PROGRAMS - 1, read: 1, notes: [] }, `${names}`);
    assert.equal(run(0.002).read, 0, 'and then it is known');
  });

test('what changed a moment ago may change again unseen: it is not kept', (t) => {
  const { run, root } = host(t);
  const nowMs = Date.now();
  for (const hours of [0, 0.001]) assert.equal(run(hours, { nowMs }).read, 40);
  // Nor what a clock that was set back left in the future.
  utimesSync(`${root}/usr/bin/7`, 4e9, 4e9);
  run(0.002);
  assert.equal(run(0.003).read, 1);
});

test('the next boot reads everything, and one without a name always', (t) => {
  const { run } = host(t);
  run(0);
  assert.deepEqual(run(0, { bootId: BOOT.replace('1', '0') }), { cached: 0, read: 40, notes: [] });
  assert.equal(run(0.001).read, 40, 'also that of before, as its file is gone');
  const { read, notes } = run(0.002, { bootId: null });
  assert.equal(read, 40);
  assert.match(notes.join(), /no boot id/);
});

test('a digest that was to hold for longer than it may is not believed', (t) => {
  const { run } = host(t);
  run(0);
  const { read } = run(0.001, { rereadMs: HOUR });
  assert.ok(read > 20, `${read}: those due within the hour are left`);
  assert.ok(run(0.002, { rereadMs: HOUR }).read < 3);
});

test('a file is damaged at whatever byte: what stands before is used, what is wrong is said and mended', (t) => {
  const { run, file, root } = host(t);
  run(0);
  const first = statSync(file).size;
  writeFileSync(`${root}/usr/bin/7`, 'PROGRAM 7');
  run(0.001);
  const whole = readFileSync(file);
  assert.ok(whole.length > first, 'the second run only added to it');
  const ways: readonly (readonly [string, Uint8Array, RegExp, number])[] = [
    ['cut in the second part', whole.subarray(0, whole.length - 1), /cut off or damaged behind 40/, 1],
    ['cut in the head of that', whole.subarray(0, first + 3), /damaged behind 40/, 1],
    ['cut in the first part', whole.subarray(0, first - 1), /damaged behind 0/, 40],
    ['other bytes behind', Buffer.concat([whole, Buffer.alloc(500, 0xff)]), /damaged behind 40/, 0],
    ['one bit', flipped(whole, first - 50), /damaged behind 0/, 40],
    ['one bit in the first number', flipped(whole, 57), /damaged behind 0/, 40],
    ['another text', Buffer.from('precious\n'.repeat(20)), /none of ours/, 40],
    ['nothing at all', Buffer.alloc(0), /none of ours/, 40],
  ];
  for (const [what, bytes, word, reads] of ways) {
    writeFileSync(file, bytes);
    const { read, notes } = run(0.002);
    assert.match(notes.join(), word, what);
    assert.equal(read, reads, what);
    assert.deepEqual(run(0.002), { cached: 40, read: 0, notes: [] }, `${what}: mended`);
  }
});

function flipped(bytes: Uint8Array, at: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[at]! ^= 1;
  return copy;
}

test('a file that others may write, or that is none, is not believed', (t) => {
  const { run, file } = host(t);
  run(0);
  chmodSync(file, 0o666);
  assert.match(run(0.001).notes.join(), /others than this user may write it/);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  const target = `${file}-target`;
  renameSync(file, target);
  symlinkSync(target, file);
  const { read, notes } = run(0.002);
  assert.deepEqual([read, /ELOOP/.test(notes.join())], [40, true]);
});

test('a cache that cannot be written costs reading, and is said', (t) => {
  const { run, file } = host(t);
  rmSync(join(file, '..'), { recursive: true });
  const { read, notes } = run(0);
  assert.equal(read, 40);
  assert.match(notes.join(), /cannot be written \(ENOENT\)/);
});

test('no more than there is room for is kept', (t) => {
  const { run } = host(t);
  assert.match(run(0, { filesMax: 10 }).notes.join(), /full/);
  assert.equal(run(0.001, { filesMax: 10 }).cached, 10);
});

test('the file does not grow for ever', (t) => {
  const { run, root, file } = host(t);
  run(0);
  const size = statSync(file).size;
  // All of them anew each time: written anew as soon as more is dead than half, and 4096.
  for (let i = 1; i <= deep(220, 3); i++) {
    for (let k = 0; k < 40; k++) chmodSync(`${root}/usr/bin/${k}`, i % 2 === 0 ? 0o600 : 0o700);
    run(i / 1000);
  }
  assert.ok(statSync(file).size < size + 4200 * 80);
});

test('content that changed without size and times is told when it is read again', async (t) => {
  const { root } = host(t);
  const about = { loaded: 1, now: 0, rereadMs: HOUR, racyNs: 2n ** 62n };
  const data = newTable(8, about);
  const table = new DigestTable(data);
  const key = statSync(`${root}/usr/bin/7`, { bigint: true });
  table.store(key, sha256('then'));
  assert.equal(table.lookup(key), sha256('then'));
  table.store(key, sha256('now'));
  assert.equal(table.lookup(key), sha256('now'));
  assert.equal(new Int32Array(data.counts)[3], 1);
});

test('where a tree lies on a file system without times of its own, everything is read', async (t) => {
  if (!isRoot) return t.skip('mounting wants root');
  const { root } = mountedOverlay(t) ?? {};
  if (root === undefined) return t.skip('no overlay can be mounted here');
  const file = join(temporary(t), 'digests');
  for (const uptimeMs of [0, 0.001]) {
    const { stats } = await scan({ root, cache: open(file, uptimeMs), workers: 1 });
    assert.deepEqual([stats.cached, stats.read], [0, 1]);
  }
});

// What stands beneath grew or shrank, and size and times that are told stay the image's (facts of composefs without fs-verity).
for (const [what, content] of [
  ['goes on behind the end that it tells', 'content and more'],
  ['ends before the end that it tells', 'cont'],
  ['has other bytes of the same size', 'CONTENT'],
] as const)
  test(`a file is read to its end: one that ${what} differs`, async (t) => {
    if (!isRoot) return t.skip('mounting wants root');
    const { root, beneath = '' } = mountedOverlay(t) ?? {};
    if (root === undefined) return t.skip('no overlay can be mounted here');
    const expected = manifestOf(entriesOf(root));
    writeFileSync(beneath, content);
    assert.equal(statSync(`${root}/usr/file`).size, 7);
    const { drift, trees } = await scan({ root, expected, workers: 1 });
    assert.deepEqual(
      drift.map((one) => [one.path, one.change === 'modified' && [one.actual.size, one.actual.sha256]]),
      [['/usr/file', [content.length, sha256(content)]]],
    );
    assert.deepEqual(trees.usr.holes, []);
  });

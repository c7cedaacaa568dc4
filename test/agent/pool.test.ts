import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { test, type TestContext } from 'node:test';
import { BATCH, device, HashPool, type Seen } from '#agent/pool.ts';
import type { Found } from '#agent/walk.ts';
import { sha256, temporary } from './roots.ts';

async function look(t: TestContext, root: string, found: readonly Found[][], dev: number | null = null) {
  const pool = new HashPool({ workers: 2, root });
  t.after(() => pool.close());
  await pool.ready();
  const seen: Seen[][] = [];
  let given = 0;
  while (seen.length < found.length) {
    while (given < found.length && pool.hasRoom) pool.give(found[given++]!, { dev, cached: false });
    for (let batch = pool.take(); batch !== undefined; batch = pool.take())
      seen.push(Array.from({ length: batch.count }, () => batch.next()));
    if (seen.length < found.length) await pool.change();
  }
  assert.equal(pool.pending, false);
  return seen;
}

const short = (seen: Seen): string => ('hole' in seen ? `${seen.hole.kind}: ${seen.hole.detail}` : seen.type);

// What the walk saw a moment ago may be something else when a worker comes to it.
const TYPE = 'unstable: it changed its type while the scan ran';
const GONE = 'unstable: it vanished while the scan ran';
const races = [
  ['f', 'file', 'file'],
  ['f', 'fifo', 'unstable: it changed while it was read'],
  ['f', 'folder', 'unstable: it changed while it was read'],
  ['f', 'link', TYPE],
  ['f', 'none', GONE],
  ['f', 'file/below', GONE],
  // A folder that vanishes between its listing and the look at its capability.
  ['d', 'none', GONE],
  ['l', 'link', 'symlink'],
  ['l', 'file', TYPE],
  ['l', 'folder', TYPE],
  ['l', 'none', GONE],
  ['o', 'fifo', 'fifo'],
  ['o', 'file', TYPE],
  ['o', 'link', TYPE],
] as const satisfies readonly (readonly [Found['kind'], string, string])[];

test('whatever stands at a path is an answer', async (t) => {
  const root = temporary(t);
  writeFileSync(`${root}/file`, 'x');
  mkdirSync(`${root}/folder`);
  symlinkSync('file', `${root}/link`);
  execFileSync('mkfifo', [`${root}/fifo`]);
  const found = races.map(([kind, name]): Found => ({ kind, path: `/${name}`, access: `${root}/${name}` }));
  const [seen] = await look(t, root, [found]);
  assert.deepEqual(
    seen!.map((one, i) => [races[i]![0], races[i]![1], short(one)]),
    races,
  );
});

test('a file on another device than its tree is mounted over it', async (t) => {
  const root = temporary(t);
  writeFileSync(`${root}/file`, 'x');
  const found: Found[] = [{ kind: 'f', path: '/file', access: `${root}/file` }];
  assert.deepEqual((await look(t, root, [found], 1)).flat().map(short), ['mount: another file system begins here']);
});

test('batches come back in their order, full, empty, and with paths that no slot holds', async (t) => {
  const root = temporary(t);
  writeFileSync(`${root}/large`, Buffer.alloc(8 * 2 ** 20));
  const one = (name: string): Found => ({ kind: 'f', path: `/${name}`, access: `${root}/${name}` });
  const detour = `${root}${'/.'.repeat(1900)}`;
  const batches = Array.from({ length: 300 }, (_, i): Found[] => {
    if (i % 50 === 0) return [one('large')];
    if (i % 7 === 0) return [];
    const names = Array.from({ length: i % 3 === 0 ? BATCH : 5 }, (_, k) => `${i}-${k % 5}`);
    return names.map((name) => (i % 11 === 0 ? { ...one(name), access: `${detour}/${name}` } : one(name)));
  });
  for (const path of new Set(batches.flat().map(({ path }) => path)))
    if (path !== '/large') writeFileSync(root + path, path);
  const seen = await look(t, root, batches);
  assert.deepEqual(
    seen.map((batch) => batch.map((one) => ('hole' in one ? short(one) : `${one.path} ${one.sha256}`))),
    batches.map((batch) =>
      batch.map(({ path }) => `${path} ${sha256(path === '/large' ? Buffer.alloc(8 * 2 ** 20) : path)}`),
    ),
  );
});

test('a worker that dies ends all waiting', async (t) => {
  const pool = new HashPool({ workers: 1, root: '' });
  t.after(() => pool.close());
  await pool.ready();
  const waiting = pool.change();
  pool.abort(new Error('gone'));
  await assert.rejects(waiting, /gone/);
  await assert.rejects(pool.change(), /gone/);
});

// From glibc's makedev, by Python's os.makedev.
const devices = [
  [0, '0:0'],
  [259, '1:3'],
  [2690, '10:130'],
  [4_293_980_415, '240:1048575'],
  [4_294_967_295, '4095:1048575'],
  [17_592_187_093_036, '4096:300'],
] as const;
for (const [rdev, text] of devices) test(`dev_t ${rdev} is ${text}`, () => assert.equal(device(rdev), text));

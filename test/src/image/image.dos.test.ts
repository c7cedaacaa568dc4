/** Reading and merging hostile layers grows linearly with their bytes: the exponent is fitted, never seconds. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BackendError, deploy, type Rule } from '#src/image/backend.ts';
import type { Layer } from '#src/image/layer.ts';
import { TarReader } from '#src/image/tar.ts';
import { IMAGE_LIMITS } from '#src/limits.ts';
import { deep } from '#test/depth.ts';
import { exponent } from '#test/exponent.ts';
import { dir, digestOf, file, hardlink, member, record, symlink, tar, type Member } from './archive.ts';

const SIZES = deep([500, 1000, 2000, 4000], [500, 1000, 2000]);
const LIMIT = 1.6;
/** No matter of noise any more. */
const CLEAR = 1.25;
// Pieces may be more than images have: growth is judged here, not the limit.
const LIMITS = { ...IMAGE_LIMITS, paxBytes: 64 * 2 ** 20, sparsePieces: 1e6, layerHoleBytes: 1e12 };

test('the meter can tell a linear function from a quadratic one', () => {
  let sink = 0;
  const spin = (steps: number) => {
    for (let i = 0; i < steps; i++) sink = (sink + i * i) % 1_000_003;
  };
  assert.ok(growth((n) => spin(n * 100)) < LIMIT);
  assert.ok(growth((n) => spin((n * n) / 100)) > LIMIT);
  assert.ok(sink >= 0);
});

/**
 * The exponent, measured over equal amounts of work (small inputs more often), so that what a busy machine adds is the same for all
 * sizes; and the best of three, because what grows quadratically does so each time.
 */
function growth(run: (n: number) => void): number {
  const most = SIZES.at(-1)!;
  let best = Infinity;
  for (let i = 0; i < 3 && best >= LIMIT; i++)
    best = Math.min(
      best,
      1 +
        exponent(
          (n) => {
            for (let times = most / n; times > 0; times--) run(n);
          },
          SIZES,
          CLEAR - 1,
        ),
    );
  return best;
}

const times = <T>(n: number, make: (i: number) => T): T[] => Array.from({ length: Math.floor(n) }, (_, i) => make(i));
const pax = (...records: Buffer[]): Buffer => member({ name: 'pax', type: 'x', data: Buffer.concat(records) });
const pieces = (n: number) => times(n, (i) => `${2 * i},1`).join();

const archives: readonly (readonly [name: string, of: (n: number) => Buffer, chunk?: number])[] = [
  ['tiny entries', (n) => tar(times(n, (i) => file(`f${i}`)))],
  ['tiny entries in pieces of 100 bytes', (n) => tar(times(n, (i) => file(`f${i}`))), 100],
  ['long names', (n) => tar(times(n / 12, (i) => file(`${'d/'.repeat(1000)}${i}`)))],
  [
    'one PAX header of many records',
    (n) => tar([pax(...times(n, (i) => record(`SCHILY.xattr.user.${i}`, 'x'))), file('f')]),
  ],
  ['one PAX record, long', (n) => tar([pax(record('comment', '1='.repeat(n * 20))), file('f')])],
  ['one PAX record, long, in small pieces', (n) => tar([pax(record('comment', '1='.repeat(n * 20))), file('f')]), 64],
  [
    'a sparse map in PAX',
    (n) =>
      tar([pax(record('GNU.sparse.size', `${2 * n}`), record('GNU.sparse.map', pieces(n))), file('f', 'x'.repeat(n))]),
  ],
  ['zero blocks at the end', (n) => tar([file('f')], Buffer.alloc(512 * n))],
];
for (const [name, make, chunk] of archives)
  test(`reading: ${name}`, () => {
    const made = new Map(SIZES.map((n) => [n, make(n)]));
    const k = growth((n) => {
      const reader = new TarReader(0, LIMITS);
      const archive = made.get(n)!;
      const step = chunk ?? archive.length;
      for (let at = 0; at < archive.length; at += step) reader.write(archive.subarray(at, at + step));
      reader.end();
    });
    assert.ok(k < LIMIT, `time grows with the ${k.toFixed(2)}th power`);
  });

const USR: readonly Member[] = [dir('usr'), dir('usr/d'), dir('etc')];
const trees: readonly (readonly [name: string, of: (n: number) => readonly Member[][], rules?: readonly Rule[]])[] = [
  ['files in one directory', (n) => [[...USR, ...times(n, (i) => file(`usr/d/${i}`))]]],
  ['one name again and again', (n) => [[...USR, ...times(n, () => file('usr/d/x'))]]],
  ['one directory again and again', (n) => [[...USR, ...times(n, (i) => dir('usr/d', { mode: i & 0o777 }))]]],
  [
    'a whiteout for each file',
    (n) => [[...USR, ...times(n, (i) => file(`usr/d/${i}`))], times(n, (i) => file(`usr/d/.wh.${i}`))],
  ],
  [
    'a whiteout for each file of its own layer',
    (n) => [[...USR, ...times(n, (i) => file(`usr/d/${i}`)), ...times(n, (i) => file(`usr/d/.wh.${i}`))]],
  ],
  [
    'opaque markers over one full directory',
    (n) => [[...USR, ...times(n, (i) => file(`usr/d/${i}`)), ...times(n, () => file('usr/d/.wh..wh..opq'))]],
  ],
  [
    'whiteouts of one full directory',
    (n) => [[...USR, ...times(n, (i) => file(`usr/d/${i}`)), ...times(n, () => file('usr/.wh.d'))]],
    ['ostree/1', 'oci'],
  ],
  ['hard links to one file', (n) => [[...USR, file('usr/t'), ...times(n / 3, (i) => hardlink(`usr/d/${i}`, 'usr/t'))]]],
  [
    'hard links to hard links',
    (n) => [[...USR, file('usr/d/0'), ...times(n / 3, (i) => hardlink(`usr/d/${i + 1}`, `usr/d/${i}`))]],
  ],
  ['missing parents', (n) => [[...USR, ...times(n / 6, (i) => file(`usr/d/${i}/a/b/c`))]], ['ostree/1', 'oci']],
  [
    'one deep missing parent for each',
    (n) => [[...USR, ...times(n / 6, (i) => file(`usr/d/${'x/'.repeat(50)}${i}`))]],
    ['ostree/1', 'oci'],
  ],
  [
    'directories that go deeper',
    (n) => [[...USR, ...times(n / 12, (i) => dir(`usr/d/${'x/'.repeat((i * 37) % 1000)}`))]],
    ['ostree/1'],
  ],
  ['files below a symlink', (n) => [[...USR, symlink('usr/l', 'd'), ...times(n, (i) => file(`usr/l/${i}`))]], ['oci']],
  [
    'files and directories taking turns',
    (n) => times(4, (i) => [...USR, ...times(n / 4, (j) => (i % 2 ? file(`usr/d/${j}`) : dir(`usr/d/${j}`)))]),
  ],
];
for (const [name, make, rules = ['ostree/1', 'composefs/1', 'oci'] as const] of trees)
  test(`merging: ${name}`, () => {
    const made = new Map(SIZES.map((n) => [n, make(n).map((members, index) => layerOf(tar(members), index))]));
    for (const rule of rules) {
      const k = growth((n) => {
        const layers = made.get(n)!;
        try {
          deploy(layers, { labels: new Map(), diffIds: [], dockerInLayout: false }, rule);
        } catch (error) {
          // Whether a long chain of links resolves is decided by the order of a hash table.
          assert.ok(error instanceof BackendError && error.code === 'HARDLINK_TARGET_MISSING', String(error));
        }
      });
      assert.ok(k < LIMIT, `${rule}: time grows with the ${k.toFixed(2)}th power`);
    }
  });

function layerOf(archive: Buffer, index: number): Layer {
  const reader = new TarReader(index, LIMITS);
  reader.write(archive);
  reader.end();
  const diffId = digestOf(Buffer.from(String(index)));
  return {
    index,
    digest: diffId,
    mediaType: 'application/vnd.oci.image.layer.v1.tar',
    compression: 'none',
    diffId,
    declaredDiffId: diffId,
    bytes: archive.length,
    entries: reader.entries,
    first: undefined,
    halfEnd: false,
  };
}

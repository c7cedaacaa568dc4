/** fs-verity digests: those of fsverity-utils, however the bytes come; and what an image's reading makes of them. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { verityDigest, VerityHash, VerityKeep } from '#src/image/verity.ts';
import { deep, isFull } from '#test/depth.ts';

const vectors = readFileSync(join(import.meta.dirname, '../../vectors/verity/digests.txt'), 'utf8')
  .trimEnd()
  .split('\n')
  .map((line) => line.split(' ') as [string, string])
  .filter(([size]) => Number(size) < 1_200_000 || isFull);

/** As the README of the vectors says. */
function content(size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  for (let i = 0; i < size; i++) bytes[i] = 7 * i + 13 * (i >> 8) + 31 * (i >> 16);
  return bytes;
}

for (const [size, digest] of vectors)
  test(`a file of ${size} bytes has the digest that fsverity-utils print`, () =>
    assert.equal(verityDigest(content(Number(size))), digest));

test('the digest is the same in whatever pieces the bytes come', () => {
  const all = content(700_000);
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: all.length }),
      fc.array(fc.integer({ min: 0, max: 40_000 }), { minLength: 1, maxLength: 30 }),
      (size, steps) => {
        const bytes = all.subarray(0, size);
        const sum = new VerityHash();
        for (let at = 0, i = 0; at < size; i++) {
          const step = steps[i % steps.length]! + (i % steps.length === 0 ? 1 : 0);
          sum.write(bytes.subarray(at, at + step));
          at += step;
        }
        assert.equal(sum.digest(), verityDigest(bytes));
      },
    ),
    { numRuns: deep(100, 8) },
  );
});

test('each content of an image is told once, an empty one never', () => {
  const keep = new VerityKeep();
  assert.equal(keep.open(0, 'usr/empty', 0), undefined);
  for (const name of ['usr/a', 'usr/b']) {
    const sink = keep.open(0, name, 3)!;
    sink.write(new TextEncoder().encode('ab'));
    sink.write(new TextEncoder().encode('c'));
    sink.end('content');
  }
  assert.deepEqual([...keep.found], [['content', verityDigest(new TextEncoder().encode('abc'))]]);
});

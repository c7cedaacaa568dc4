/** Matching must grow linearly with the path, whatever the glob: the exponent of time over size is fitted, never seconds. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { matchesGlob, parseGlob } from '#src/policy/paths.ts';

/** Fits y = c·n^k over doubling sizes and gives k; the best of several runs each, so that a busy machine does not matter. */
function exponent(run: (n: number) => void, sizes: readonly number[]): number {
  const points = sizes.map((n) => {
    let best = Infinity;
    for (let i = 0; i < 7; i++) {
      const start = performance.now();
      run(n);
      best = Math.min(best, performance.now() - start);
    }
    return [Math.log(n), Math.log(best)] as const;
  });
  const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  const mx = mean(points.map(([x]) => x));
  const my = mean(points.map(([, y]) => y));
  return (
    points.reduce((sum, [x, y]) => sum + (x - mx) * (y - my), 0) / points.reduce((sum, [x]) => sum + (x - mx) ** 2, 0)
  );
}

const SIZES = [4_000, 8_000, 16_000, 32_000, 64_000];

test('the meter can tell a linear function from a quadratic one', () => {
  let sink = 0;
  const spin = (steps: number) => {
    for (let i = 0; i < steps; i++) sink = (sink + i * i) % 1_000_003;
  };
  assert.ok(exponent((n) => spin(n * 100), SIZES) < 1.4);
  assert.ok(exponent((n) => spin((n * n) / 1000), SIZES) > 1.6);
  assert.ok(sink >= 0);
});

const cases: [name: string, glob: string, path: (n: number) => string][] = [
  ['many stars in a name', `/etc/${'*a'.repeat(20)}b`, (n) => `/etc/${'a'.repeat(n)}`],
  ['many deep stars', `/etc/${'**/a/'.repeat(20)}b`, (n) => `/etc${'/a'.repeat(n)}`],
  ['both', `/etc/${'**/*a*a*a/'.repeat(6)}b`, (n) => `/etc${'/aaaa'.repeat(n / 4)}`],
  ['braces full of stars', `/etc/${'{*a,*b}'.repeat(6)}c`, (n) => `/etc/${'ab'.repeat(n / 2)}`],
];
for (const [name, source, path] of cases)
  test(`time grows linearly with the path: ${name}`, () => {
    const glob = parseGlob(source, 'path');
    const subjects = new Map(SIZES.map((n) => [n, path(n)]));
    const k = exponent((n) => void matchesGlob(glob, subjects.get(n)!), SIZES);
    assert.ok(k < 1.5, `time grows with the ${k.toFixed(2)}th power`);
  });

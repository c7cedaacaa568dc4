/** Asking whether a path is a secret takes time linear in it, whatever suffixes it stacks: the exponent is fitted, never seconds. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestOf } from '#src/digest.ts';
import type { Drift } from '#src/drift/drift.ts';
import { applyDrift, DriftError } from '#src/drift/recompute.ts';
import { isSecret } from '#src/drift/redact.ts';
import { exponent } from '#test/exponent.ts';
import { throwsCode } from '#test/throws.ts';

const SIZES = [4_000, 8_000, 16_000, 32_000, 64_000];

const cases: [name: string, path: (n: number) => string][] = [
  ['~', (n) => `/etc/a${'~'.repeat(n)}`],
  ['~ that end in none', (n) => `/etc/a${'~'.repeat(n)}x`],
  ['-', (n) => `/etc/a${'-'.repeat(n)}`],
  ['- and ~', (n) => `/etc/a${'-~'.repeat(n / 2)}`],
  ['- after dots', (n) => `/etc/a${'.-'.repeat(n / 2)}`],
  ['numbers', (n) => `/etc/a${'.1'.repeat(n / 2)}`],
  ['numbers that end in none', (n) => `/etc/a${'.1'.repeat(n / 2)}x`],
  ['numbers and +', (n) => `/etc/a${'.1+'.repeat(n / 3)}`],
  ['words', (n) => `/etc/a${'.bak'.repeat(n / 4)}`],
  ['words that end in none', (n) => `/etc/a${'.bak'.repeat(n / 4)}x`],
  ['a long word and ~', (n) => `/etc/a.rpm${'a'.repeat(n / 2)}${'~'.repeat(n / 2)}`],
  ['folders', (n) => `/etc${'/a~'.repeat(n / 3)}${'.bak~'.repeat(8)}`],
];
for (const [name, path] of cases)
  test(`time grows linearly with the path: ${name}`, () => {
    const paths = new Map(SIZES.map((n) => [n, path(n)]));
    for (const subject of paths.values()) assert.equal(isSecret(subject), false);
    const k = exponent((n) => void isSecret(paths.get(n)!), SIZES);
    assert.ok(k < 1.5, `time grows with the ${k.toFixed(2)}th power`);
  });

test('time grows at most linearly with names beyond 255 bytes, which are refused', () => {
  const sha256 = digestOf('').slice(7);
  const claims = new Map(
    SIZES.map((n) => {
      const path = `/etc/${'~'.repeat(256)}${'/~'.repeat(1_900)}`;
      const actual = { type: 'file', mode: 0o644, uid: 0, gid: 0, size: 0, sha256 } as const;
      const drift: Drift[] = [{ path: path.slice(0, 261 + (n * 3_800) / 64_000), change: 'added', actual }];
      return [n, { tree: 'etc', drift, secrets: [], secretPaths: [] } as const];
    }),
  );
  const k = exponent((n) => {
    throwsCode(() => applyDrift({ main: '', extra: '' }, claims.get(n)!), DriftError, 'DRIFT_PATH');
  }, SIZES);
  assert.ok(k < 1.5, `time grows with the ${k.toFixed(2)}th power`);
});

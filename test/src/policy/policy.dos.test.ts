/** Matching grows linearly with the path, reading with the document, whatever both hold: the exponent is fitted, never seconds. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parsePolicy } from '#src/policy/document.ts';
import { matchesGlob, parseGlob } from '#src/policy/paths.ts';
import { DocumentError } from '#src/document/yaml.ts';
import { exponent } from '#test/exponent.ts';

const SIZES = [4_000, 8_000, 16_000, 32_000, 64_000];
/** A document takes longer than a path, and a run must fit between two turns of the scheduler. */
const DOCUMENT_SIZES = [2_000, 4_000, 8_000, 16_000, 32_000];

test('the meter can tell a linear function from a quadratic one', () => {
  let sink = 0;
  const spin = (steps: number) => {
    for (let i = 0; i < steps; i++) sink = (sink + i * i) % 1_000_003;
  };
  assert.ok(exponent((n) => spin(n * 25), SIZES) < 1.4);
  assert.ok(exponent((n) => spin((n * n) / 4000), SIZES) > 1.6);
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

const documents: [name: string, text: (n: number) => string][] = [
  [
    'rules',
    (n) =>
      `files:\n${line(n / 80, (i) => `  - {id: r${i}, paths: [/etc/x${i}], effect: allowed, reason: because it is so}\n`)}`,
  ],
  ['keys that are all different', (n) => line(n / 8, (i) => `k${i}: 1\n`)],
  ['keys that are all the same', (n) => line(n / 8, () => 'name: 1\n')],
  ['a long text in many lines', (n) => `description: >-\n${line(n / 6, () => '  a b\n')}`],
  ['list in list', (n) => '['.repeat(n)],
  ['open quotes', (n) => `description: "${'\\"'.repeat(n / 2)}`],
];
function line(count: number, of: (i: number) => string): string {
  return Array.from({ length: Math.floor(count) }, (_, i) => of(i)).join('');
}
for (const [name, text] of documents)
  test(`time grows linearly with the document: ${name}`, () => {
    const texts = new Map(DOCUMENT_SIZES.map((n) => [n, `format: bootproof.policy/1\nname: x\n${text(n)}`]));
    const k = exponent((n) => {
      try {
        parsePolicy(texts.get(n)!, { file: 'x' });
      } catch (error) {
        assert.ok(error instanceof DocumentError);
      }
    }, DOCUMENT_SIZES);
    assert.ok(k < 1.5, `time grows with the ${k.toFixed(2)}th power`);
  });

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { canonicalJson, CanonicalError } from '#src/signing/canonical.ts';
import { throwsCode } from '#test/throws.ts';
import { canonical } from '../report/vectors.ts';

for (const { name, input, canonical: expected } of canonical)
  test(`prints as ${name}`, () => assert.equal(canonicalJson(JSON.parse(input)), expected));

const refused = [
  ['a lone surrogate in a text', ['\ud800']],
  ['a lone surrogate in a key', { '\udfff': 1 }],
  ['an infinite number', [Infinity]],
  ['not a number', NaN],
  ['undefined', { a: undefined }],
  ['a hole in a list', [1, , 2]], // eslint-disable-line no-sparse-arrays
  ['a big integer', 1n],
  ['a function', () => 1],
] as const;
for (const [name, value] of refused)
  test(`refuses ${name}`, () => throwsCode(() => canonicalJson(value), CanonicalError, 'NOT_JSON'));

test('a key called __proto__ is a key like others', () =>
  assert.equal(canonicalJson(JSON.parse('{"b":1,"__proto__":{"a":2}}')), '{"__proto__":{"a":2},"b":1}'));

test('one value has one text, whatever the order in which its members were set', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 4 }), (value) => {
      const text = canonicalJson(JSON.parse(JSON.stringify(value)));
      assert.deepEqual(JSON.parse(text), JSON.parse(JSON.stringify(value)));
      assert.equal(canonicalJson(reversed(JSON.parse(text))), text);
    }),
  );
});

function reversed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(reversed);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .reverse()
      .map(([key, member]) => [key, reversed(member)]),
  );
}

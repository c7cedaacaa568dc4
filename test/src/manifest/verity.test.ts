/** The text of fs-verity digests: one spelling, in whatever pieces it comes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { printVerity, readVerity, VERITY_HEAD, VerityTextError } from '#src/manifest/verity.ts';
import { deep } from '#test/depth.ts';
import { throwsCode } from '#test/throws.ts';

const hex = (digit: string) => digit.repeat(64);
const read = (...pieces: string[]) => {
  const lines: [string, string][] = [];
  readVerity(pieces, (verity, content) => lines.push([verity, content]));
  return lines;
};

test('what is printed is read, sorted by what the kernel measures', () => {
  const text = [
    ...printVerity(
      new Map([
        [hex('1'), hex('b')],
        [hex('2'), hex('a')],
      ]),
    ),
  ].join('');
  assert.equal(text, `${VERITY_HEAD}${hex('a')} ${hex('2')}\n${hex('b')} ${hex('1')}\n`);
  assert.deepEqual(read(text), [
    [hex('a'), hex('2')],
    [hex('b'), hex('1')],
  ]);
  assert.deepEqual(read([...printVerity(new Map())].join('')), []);
});

test('it may come in any pieces', () => {
  const text = [...printVerity(new Map('123456789'.split('').map((digit) => [hex(digit), hex(digit)])))].join('');
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: text.length }), { maxLength: 6 }), (cuts) => {
      const at = [0, ...cuts.sort((a, b) => a - b), text.length];
      assert.equal(read(...at.slice(1).map((end, i) => text.slice(at[i], end))).length, 9);
    }),
    { numRuns: deep(200, 30) },
  );
});

const line = `${hex('a')} ${hex('2')}\n`;
for (const [what, text] of [
  ['nothing', ''],
  ['a head that is cut', VERITY_HEAD.slice(0, -1)],
  ['another hash', '#bootproof-verity/1 sha512 4096\n'],
  ['another version', VERITY_HEAD.replace('/1', '/2')],
  ['a line that is cut', VERITY_HEAD + line.slice(0, -1)],
  ['upper case', VERITY_HEAD + line.toUpperCase()],
  ['a digest twice', VERITY_HEAD + line + line],
  ['another order', `${VERITY_HEAD}${hex('b')} ${hex('1')}\n${line}`],
  ['another separator', VERITY_HEAD + line.replace(' ', '\t')],
  ['CR LF', VERITY_HEAD + line.replace('\n', '\r\n')],
] as const)
  test(`refuses ${what}`, () => throwsCode(() => read(text), VerityTextError, 'VERITY_SYNTAX'));

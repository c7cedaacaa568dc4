/** Two texts line by line: what is told gives the second text back, is short, and takes no longer than it may. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { exponent } from '#test/exponent.ts';
import { DIFF_SIGNS, diffLines, hunkHead, hunksOf, NO_NEWLINE } from '#src/drift/linediff.ts';

/** As `diff -u` prints it, without its head. */
function unified(before: string, after: string): string {
  let out = '';
  for (const hunk of hunksOf(diffLines(before, after))) {
    out += `${hunkHead(hunk)}\n`;
    for (const { kind, text, open } of hunk.lines)
      out += `${DIFF_SIGNS[kind]}${text}\n${open === true ? `${NO_NEWLINE}\n` : ''}`;
  }
  return out;
}
const lines = (...texts: string[]) => texts.map((text) => `${text}\n`).join('');
const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => String(from + i));

// What GNU diff 3.8 prints for the same texts (`diff -u a b | tail -n +3`).
const TOLD: readonly (readonly [string, string, string, string])[] = [
  ['nothing differs', lines('a', 'b'), lines('a', 'b'), ''],
  ['a line is added to nothing', '', 'a\n', '@@ -0,0 +1 @@\n+a\n'],
  ['all goes', lines('a', 'b'), '', '@@ -1,2 +0,0 @@\n-a\n-b\n'],
  [
    'a line at the end',
    lines('PermitRootLogin no', 'PasswordAuthentication no'),
    lines('PermitRootLogin no', 'PasswordAuthentication no', 'PermitRootLogin yes'),
    '@@ -1,2 +1,3 @@\n PermitRootLogin no\n PasswordAuthentication no\n+PermitRootLogin yes\n',
  ],
  [
    'the last line loses its end',
    lines('a', 'b'),
    'a\nb',
    '@@ -1,2 +1,2 @@\n a\n-b\n+b\n\\ No newline at end of file\n',
  ],
  [
    'changes far apart are apart',
    lines(...numbers(1, 20)),
    lines('one', ...numbers(2, 19), 'twenty'),
    '@@ -1,4 +1,4 @@\n-1\n+one\n 2\n 3\n 4\n@@ -17,4 +17,4 @@\n 17\n 18\n 19\n-20\n+twenty\n',
  ],
  [
    'changes with six lines between are one',
    lines(...numbers(1, 8)),
    lines('one', ...numbers(2, 7), 'eight'),
    `@@ -1,8 +1,8 @@\n-1\n+one\n${numbers(2, 7)
      .map((n) => ` ${n}\n`)
      .join('')}-8\n+eight\n`,
  ],
];
for (const [name, before, after, expected] of TOLD) test(name, () => assert.equal(unified(before, after), expected));

const text = fc
  .array(fc.constantFrom('a\n', 'b\n', 'c\n', '\n', 'd\r\n'), { maxLength: 24 })
  .map((parts) => parts.join(''));
const open = fc.tuple(text, fc.constantFrom('', '', 'e')).map(([whole, end]) => whole + end);

test('what is told gives both texts back, in order, with their numbers', () => {
  fc.assert(
    fc.property(open, open, (before, after) => {
      const all = diffLines(before, after);
      const side = (kind: 'del' | 'add') => all.filter((line) => line.kind !== (kind === 'del' ? 'add' : 'del'));
      const back = (of: typeof all) => of.map((line) => line.text + (line.open === true ? '' : '\n')).join('');
      assert.equal(back(side('del')), before);
      assert.equal(back(side('add')), after);
      assert.deepEqual(
        side('del').map(({ was }) => was),
        side('del').map((_, at) => at + 1),
      );
      assert.deepEqual(
        side('add').map(({ is }) => is),
        side('add').map((_, at) => at + 1),
      );
    }),
    { numRuns: 300 },
  );
});

test('where few lines changed, no shorter way could be told', () => {
  const before = lines('a', 'a', 'b', 'b', 'a', 'a', 'b', 'b');
  const after = lines('a', 'a', 'b', 'b', 'a', 'b', 'b', 'a');
  assert.equal(diffLines(before, after).filter(({ kind }) => kind !== 'same').length, 2);
});

test('hostile texts take no more than in proportion to their size', () => {
  const makers: ((n: number) => [string, string])[] = [
    (n) => ['\n'.repeat(n), 'x\n'.repeat(n / 2)],
    (n) => ['a\nb\n'.repeat(n / 4), 'b\na\na\n'.repeat(n / 6)],
    (n) => [
      numbers(1, n / 8).join('\n'),
      numbers(1, n / 8)
        .reverse()
        .join('\n'),
    ],
    (n) => ['a\n'.repeat(n / 4) + 'b\n'.repeat(n / 4), 'b\n'.repeat(n / 4) + 'a\n'.repeat(n / 4)],
  ];
  for (const [at, make] of makers.entries()) {
    const texts = new Map(SIZES.map((n) => [n, make(n)]));
    const k = exponent((n) => void hunksOf(diffLines(...texts.get(n)!)), SIZES);
    assert.ok(k < 1.5, `text ${at}: exponent ${k}`);
  }
});
const SIZES = [32_768, 131_072];

/** Tables as others write them: what they say, what is refused by its line, and that no cell is too long. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CsvReadError, parseCsv } from '#src/evidence/csvread.ts';
import { throwsCode } from '#test/throws.ts';

const read: readonly (readonly [what: string, text: string, rows: readonly (readonly string[])[]])[] = [
  ['nothing', '', []],
  ['a mark alone', '\uFEFF', []],
  ['one cell', 'a', [['a']]],
  [
    'lines of either kind',
    'a,b\nc,d\r\n',
    [
      ['a', 'b'],
      ['c', 'd'],
    ],
  ],
  [
    'no line end at the end',
    'a,b\nc,d',
    [
      ['a', 'b'],
      ['c', 'd'],
    ],
  ],
  ['empty lines', '\n\na\n\r\n\n', [['a']]],
  [
    'empty cells',
    ',\n,,\n',
    [
      ['', ''],
      ['', '', ''],
    ],
  ],
  ['an empty cell at the very end', 'a,', [['a', '']]],
  ['quotes', '"a","b ""c""",""\n', [['a', 'b "c"', '']]],
  ['a comma and lines in quotes', '"a,\nb\r\n",c', [['a,\nb\r\n', 'c']]],
  ['a mark and quotes', '\uFEFF"a"\r\n', [['a']]],
];
for (const [what, text, rows] of read) test(`reads ${what}`, () => assert.deepEqual([...parseCsv(text)], rows));

for (const [what, text, line] of [
  ['a quote that does not end', 'a\n"b\nc', 2],
  ['text behind a quote', '"a"b', 1],
  ['a quote within a cell', 'a\nb\nc"d"', 3],
  ['a line after a quoted one', '"a\nb"\n"c', 3],
  ['a lone carriage return', 'a\rb', 1],
] as const)
  test(`refuses ${what}`, () => {
    throwsCode(() => [...parseCsv(text)], CsvReadError, 'CSV_SYNTAX');
    assert.throws(
      () => [...parseCsv(text)],
      (error: Error) => error.message.startsWith(`line ${line}:`),
    );
  });

test('a cell of megabytes is read, and a row of too many cells is refused', () => {
  const long = 'x'.repeat(4e6);
  assert.equal([...parseCsv(`"${long}""${long}"\n`)][0]![0]!.length, 8e6 + 1);
  throwsCode(() => [...parseCsv(`"${long}`)], CsvReadError, 'CSV_SYNTAX');
  throwsCode(() => [...parseCsv('a,b,c,d', 3)], CsvReadError, 'CSV_SYNTAX');
  assert.equal([...parseCsv('a,b,c\n', 3)].length, 1);
});

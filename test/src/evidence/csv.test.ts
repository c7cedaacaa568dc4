/** Tables and samples of a bundle: RFC 4180, no formula, and a draw that anybody can repeat. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { prepare } from '#src/evidence/controls.ts';
import { csvCell, csvRow, exceptionsCsv, populationCsv, sampleCsv } from '#src/evidence/csv.ts';
import { Draw, drawSample } from '#src/evidence/sample.ts';
import { parseCsv } from '#src/evidence/csvread.ts';
import { fleet, hostId } from './fleet.ts';

const cells: readonly (readonly [what: string, value: string | number | null, cell: string])[] = [
  ['text', 'web-1', 'web-1'],
  ['nothing', null, ''],
  ['a number', 0.97, '0.97'],
  ['a comma', 'a,b', '"a,b"'],
  ['a quote', 'say "x"', '"say ""x"""'],
  ['a formula', '=HYPERLINK("http://x")', '"\'=HYPERLINK(""http://x"")"'],
  ['a plus', '+1', "'+1"],
  ['a minus', '-2+3', "'-2+3"],
  ['an at', '@SUM(A1)', "'@SUM(A1)"],
  ['a wide equals sign', '＝1', "'＝1"],
  ['a tab', '\t=1', "'\\x09=1"],
  ['a line end', 'a\r\nb', 'a\\x0d\\x0ab'],
  ['an apostrophe, so that one can always be taken away', "'x", "''x"],
  ['an override of the reading direction', 'a\u202Egpj', 'a\\u{202e}gpj'],
  ['a blank at the end', 'a ', '"a "'],
];
for (const [what, value, cell] of cells) test(`a cell: ${what}`, () => assert.equal(csvCell(value), cell));

test('whatever text a row is made of, a reader finds as many cells, none of them a formula', () => {
  fc.assert(
    fc.property(fc.array(fc.string({ unit: 'grapheme' }), { minLength: 1, maxLength: 6 }), (row) => {
      const rows = [...parseCsv(csvRow(row))];
      // A row of one empty cell is an empty line, which no reader can tell from none.
      if (row.length === 1 && row[0] === '') return;
      assert.equal(rows.length, 1);
      assert.equal(rows[0]!.length, row.length);
      for (const cell of rows[0]!) assert.doesNotMatch(cell, /^[=+\-@\t\r]/);
    }),
    { numRuns: 60 },
  );
});

async function text(pieces: AsyncIterable<string>): Promise<string> {
  let out = '';
  for await (const piece of pieces) out += piece;
  return out;
}

test('the population has every host in scope once, and totals that fit', async () => {
  const out = await text(populationCsv(await prepare(fleet(80, { frameworks: [] }), [])));
  assert.ok(out.startsWith('\uFEFFhost,name,') && out.endsWith('\r\n') && !/[^\r]\n/.test(out));
  const [heads, ...rows] = [...parseCsv(out)];
  assert.deepEqual(
    rows.map(([id]) => id),
    Array.from({ length: 80 }, (_, n) => hostId(n)),
  );
  assert.ok(rows.every((row) => row.length === heads!.length));
  assert.ok(!out.includes('\u202E'), 'nothing reorders what is read');
});

test('every exception is a row', async () => {
  const assessment = await prepare(fleet(80, { frameworks: [] }), []);
  const [, ...rows] = [...parseCsv(await text(exceptionsCsv(assessment)))];
  const kinds = (weight: string) => rows.filter((row) => row[2] === weight).map((row) => row[3]);
  assert.deepEqual(kinds('waived'), ['finding', 'finding']);
  assert.deepEqual(kinds('explained'), ['gap']);
  assert.deepEqual(kinds('ended'), ['finding', 'finding']);
});

test('a sample is drawn again with sha256 alone, and does not hang on the order of the list', async () => {
  const assessment = await prepare(fleet(80, { frameworks: [] }), []);
  const [, ...rows] = [...parseCsv(await text(sampleCsv(assessment)!))];
  const order = (id: string) => createHash('sha256').update(`2026-Q3 audit\n${id}`).digest('hex');
  const ids = Array.from({ length: 80 }, (_, n) => hostId(n));
  const expected = [...ids].sort((a, b) => (order(a) < order(b) ? -1 : 1)).slice(0, 5);
  assert.deepEqual(
    rows.map(([id]) => id),
    expected,
  );
  assert.deepEqual(drawSample([...ids].reverse(), '2026-Q3 audit', 5), expected);
});

test('a sample of none, of more than there are, and of what stands there twice', () => {
  assert.deepEqual(drawSample(['a', 'b'], 's', 0), []);
  assert.deepEqual(drawSample(['a', 'b'], 's', 9).sort(), ['a', 'b']);
  const draw = new Draw<string>((id) => id, 's', 2);
  for (const id of ['a', 'a', 'b', 'c']) draw.offer(id);
  assert.equal(draw.drawn.length, 2);
});

/** Lists that others keep: what is read of a file, what is refused and where, and by what a row is the host. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { INVENTORY_CELL_CHARS_MAX, INVENTORY_ROWS_MAX } from '#src/limits.ts';
import { InventoryError, readList, reconcile } from '#server/inventory.ts';
import type { Mapping } from '#server/store/inventoryrecords.ts';
import { rejectsCode } from '#test/throws.ts';

const mapping = (more: Partial<Mapping> = {}): Mapping => ({
  id: null,
  name: null,
  labels: [],
  shortNames: false,
  ...more,
});

test('the name is the column that is named, or the one that is called so', async () => {
  for (const [text, wanted] of [
    ['name\nweb-1\n', mapping()],
    ['Owner,HostName\nbob,web-1\n', mapping()],
    ['\uFEFF"Host Name",x\nweb-1,7\n', mapping()],
    ['Serial,Server\n7,"web-1"\r\n', mapping({ name: 'server' })],
  ] as const)
    assert.deepEqual((await readList(text, wanted)).rows, [{ id: null, name: 'web-1', labels: [] }], text);
});

test('ids and labels are read as they are named, spaces around cells and what is said twice are left out', async () => {
  const text = 'Name,Id,Tag\n web-1 ,h_1, 7\nweb-1,h_1,7\n,,\nweb-2,,\n\n__proto__,constructor,';
  const wanted = mapping({ name: 'Name', id: 'ID', labels: [{ key: 'asset', column: 'tag' }] });
  const { rows, repeated, blank, mapping: used } = await readList(text, wanted);
  assert.deepEqual(rows, [
    { id: 'h_1', name: 'web-1', labels: ['7'] },
    { id: null, name: 'web-2', labels: [null] },
    { id: 'constructor', name: '__proto__', labels: [null] },
  ]);
  assert.deepEqual([repeated, blank, used], [1, 1, wanted]);
});

const refused: readonly (readonly [what: string, text: string, code: string, says: RegExp])[] = [
  ['an empty file', '', 'INVENTORY_SYNTAX', /its first line names/],
  ['a head alone', 'name\n', 'INVENTORY_SYNTAX', /no row .* exported whole/],
  ['rows that say nothing', 'name,x\n,1\n ,2', 'INVENTORY_SYNTAX', /no row/],
  ['a quote that does not end', 'name\nweb-1\n"web', 'INVENTORY_SYNTAX', /line 3: a quote/],
  ['a row longer than the head', 'name,x\nweb-1,1\nweb,2,3', 'INVENTORY_SYNTAX', /row 2 has 3 cells/],
  ['half a character', 'name\n\ud800', 'INVENTORY_SYNTAX', /UTF-8/],
  ['a name of a page', `name\n${'x'.repeat(INVENTORY_CELL_CHARS_MAX + 1)}`, 'INVENTORY_SYNTAX', /row 1 has 301/],
  ['no column of a name', 'server,owner\na,b', 'INVENTORY_COLUMN', /no column is called "name"; there are "server"/],
  ['semicolons', 'name;owner\na;b', 'INVENTORY_COLUMN', /semicolons .* export it with commas/],
  ['a column that is there twice', 'name,Name\na,b', 'INVENTORY_COLUMN', /two columns are called "name"/],
  ['columns without end', `${'a,'.repeat(1001)}\n`, 'INVENTORY_SYNTAX', /line 1: a row of more than/],
];
for (const [what, text, code, says] of refused)
  test(`refuses ${what}`, async () => {
    await rejectsCode(() => readList(text, mapping()), InventoryError, code);
    await assert.rejects(readList(text, mapping()), (error: Error) => says.test(error.message));
  });

test('a slip in a title is told, and rows have an end', async () => {
  await assert.rejects(readList('Hostname,x\na,b', mapping({ name: 'Hostnmae' })), /did you mean "Hostname"/);
  await rejectsCode(
    () => readList(`name\n${'a\n'.repeat(INVENTORY_ROWS_MAX + 1)}`, mapping()),
    InventoryError,
    'INVENTORY_TOO_LARGE',
  );
});

const host = (id: string, name: string, labels: Record<string, string> = {}) => ({ id, name, labels });
const row = (name: string | null, id: string | null = null, ...labels: (string | null)[]) => ({ id, name, labels });

test('a row is the host of its id, else of its label, else of its name, whatever the case', () => {
  const hosts = [host('h_a', 'Web-1', { asset: '7' }), host('h_b', 'web-2', { asset: '8' }), host('h_c', 'db-1')];
  const wanted = mapping({ id: 'i', name: 'n', labels: [{ key: 'asset', column: 'a' }] });
  const rows = [
    row('renamed', 'h_a', '9'),
    row('other', 'h_gone', '8'),
    row('DB-1', null, null),
    row('new', 'h_x', '1'),
  ];
  assert.deepEqual(reconcile(rows, hosts, wanted), {
    matched: [
      { by: 'id', rows: 1 },
      { by: 'label:asset', rows: 1 },
      { by: 'name', rows: 1 },
    ],
    onlyTheirs: ['new'],
    onlyOurs: [],
  });
});

test('names of several hosts are all of them, and short names end at the dot', () => {
  const hosts = [host('h_a', 'web-1'), host('h_b', 'web-1'), host('h_c', 'db-1.example'), host('h_d', 'toString')];
  const rows = [row('web-1.prod.example'), row('db-1'), row('constructor')];
  const plain = reconcile(rows, hosts, mapping({ name: 'n' }));
  assert.deepEqual([plain.onlyTheirs.length, plain.onlyOurs.length], [3, 4]);
  const short = reconcile(rows, hosts, mapping({ name: 'n', shortNames: true }));
  assert.deepEqual(short, {
    matched: [{ by: 'name', rows: 2 }],
    onlyTheirs: ['constructor'],
    onlyOurs: [{ host: 'h_d', name: 'toString' }],
  });
});

test('every row is matched or told, every host is found or told, and no more', () => {
  const name = fc.constantFrom('a', 'b', 'c', 'd', '__proto__', 'valueOf');
  fc.assert(
    fc.property(fc.array(name), fc.array(name), (theirs, ours) => {
      const hosts = ours.map((own, n) => host(`h_${n}`, own));
      const { matched, onlyTheirs, onlyOurs } = reconcile(
        theirs.map((one) => row(one)),
        hosts,
        mapping({ name: 'n' }),
      );
      const missing = theirs.filter((one) => !ours.includes(one)).sort();
      assert.deepEqual(onlyTheirs, missing);
      assert.equal(
        matched.reduce((sum, { rows }) => sum + rows, 0),
        theirs.length - missing.length,
      );
      assert.deepEqual(
        onlyOurs.map((one) => one.name),
        ours.filter((one) => !theirs.includes(one)).sort(),
      );
    }),
    { numRuns: 40 },
  );
});

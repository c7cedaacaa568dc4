/** docs/errors.md explains every code that there is, and none that is gone; `/problems/CODE` leads to it, for programs and for people. */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ERRORS_FILE, explanations, explanationsIn } from '#server/problems.ts';
import { ALL_PROBLEMS } from '#server/api/problem.ts';
import { serverFor } from './fleet.ts';

const root = join(import.meta.dirname, '../..');
const sources = globSync('{src,agent,server,cli,demo,load}/**/*.ts', { cwd: root }).map(
  (file) => [file, readFileSync(join(root, file), 'utf8')] as const,
);
const markdown = readFileSync(ERRORS_FILE, 'utf8');

/** Codes of every union in a `BootproofError<…>`, with the file. */
const thrown = new Map<string, string>();
for (const [file, text] of sources)
  for (const [, union = ''] of text.matchAll(/BootproofError<([^>]*)>/g))
    for (const [, code = ''] of union.replaceAll(/\/\*[^]*?\*\//g, '').matchAll(/'([A-Z][A-Z0-9_]+)'/g))
      thrown.set(code, file);

test('every code that is thrown or told has a row that says what it means', () => {
  assert.ok(thrown.size > 80, `${thrown.size} codes were found`);
  const known = explanationsIn(markdown);
  const missing = [
    ...thrown,
    ...Object.keys(ALL_PROBLEMS).map((code) => [code, 'server/api/problem.ts'] as const),
  ].filter(([code]) => !known.get(code)?.some(({ cells }) => cells.some(({ text }) => text.length > 5)));
  assert.deepEqual(missing, []);
});

test('no row is left of a code that is gone', () => {
  const all = sources.map(([, text]) => text).join('\n');
  const words = new Set(all.match(/[A-Z][A-Z0-9_]{2,}/g));
  assert.deepEqual(
    [...explanationsIn(markdown).keys()].filter((code) => !words.has(code)),
    [],
  );
});

test('nothing in it refers to what a clone does not have', () => {
  assert.doesNotMatch(markdown, /PROTOCOL|DESIGN\.md|facts\//);
  for (const [, file = ''] of markdown.matchAll(/`?(docs\/[a-z-]+\.md)/g))
    assert.doesNotThrow(() => readFileSync(join(root, file)), file);
});

test('a table is read with its section, several codes a row, and a code in several tables', () => {
  const found = explanationsIn(
    '# T\n## One\n| code | status | what it means |\n|---|---|---|\n| A_B, C_D | 400 | x \\| y |\ntext\n## Two\n| code | rule |\n|:-|-|\n| `A_B` | |\n',
  );
  assert.deepEqual(found.get('A_B'), [
    {
      section: 'One',
      cells: [
        { name: 'status', text: '400' },
        { name: 'what it means', text: 'x | y' },
      ],
    },
    { section: 'Two', cells: [] },
  ]);
  assert.equal(found.get('C_D')!.length, 1);
});

test("the type of a problem document leads to its explanation: a program's and a person's, without a session", async (t) => {
  const server = await serverFor(t);
  const refused = await server.server.app.request('/api/v1/hosts');
  const { type, code } = (await refused.json()) as { type: string; code: string };
  assert.equal(code, 'UNAUTHENTICATED');
  const told = await server.server.app.request(type);
  assert.equal(told.status, 200);
  const { status, explanations: rows } = (await told.json()) as {
    status: number;
    explanations: { text: Record<string, string> }[];
  };
  assert.equal(status, 401);
  assert.match(rows[0]!.text['what to do']!, /new-admin-token/);
  const page = await server.server.app.request(type, { headers: { accept: 'text/html,application/xhtml+xml' } });
  assert.deepEqual([page.status, page.headers.get('location')], [200, null]);
  const text = await page.text();
  assert.match(text, /<h1>UNAUTHENTICATED<\/h1>/);
  assert.match(text, /<code>bootproof server --new-admin-token<\/code>/);
  for (const accept of ['application/json', 'text/html'])
    assert.equal((await server.server.app.request('/problems/%3Cb%3E', { headers: { accept } })).status, 404);
  assert.ok(explanations().size > 100);
});

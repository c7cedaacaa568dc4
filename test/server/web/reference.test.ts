/** `/api`: whatever the OpenAPI document describes is on the page, once, and every link of it leads somewhere. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { serverFor } from '#test/server/fleet.ts';
import { visitor } from './visitor.ts';

test('the page of the API has every route, what it takes and answers, and who may ask', async (t) => {
  const server = await serverFor(t);
  const reader = await visitor(server);
  const { html: markup } = await reader.page('/api');
  const { paths, components } = (await server.api('/api/v1/openapi.json')).body;
  const ids = [...markup.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id);
  assert.equal(new Set(ids).size, ids.length, 'ids are unique');
  let routes = 0;
  for (const operations of Object.values<Record<string, { operationId: string }>>(paths))
    for (const { operationId } of Object.values(operations)) {
      routes++;
      assert.ok(ids.includes(operationId), operationId);
    }
  assert.ok(routes > 60);
  for (const name of Object.keys(components.schemas)) assert.ok(ids.includes(`schema-${name}`), name);
  for (const [, id] of markup.matchAll(/href="#([^"]+)"/g)) assert.ok(ids.includes(id), `#${id}`);
  const approve = markup.slice(markup.indexOf('id="approveWaiver"')).split('</details>')[0]!;
  for (const part of ['For reviewer or admin', 'if-match', '>412<', 'curl -sS -X POST', 'W-17'])
    assert.ok(approve.includes(part), part);
});

test('whoever is not signed in is asked to; the document itself is for everybody', async (t) => {
  const server = await serverFor(t);
  const answer = await server.server.app.request('/api');
  assert.deepEqual([answer.status, answer.headers.get('location')], [303, '/login?next=%2Fapi']);
  assert.equal((await server.server.app.request('/api/v1/openapi.json')).status, 200);
  assert.equal((await server.server.app.request('/api/v2/hosts')).status, 404);
});

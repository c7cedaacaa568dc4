/** Lists of others from a terminal and on the page: imported, compared, kept by version, and what is refused. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { inventory } from '#cli/inventory.ts';
import { ServerError } from '#cli/connection.ts';
import { UsageError } from '#src/terminal.ts';
import { visitor } from '#test/server/web/visitor.ts';
import { ran } from '#test/ran.ts';
import { enrol, folder, serverFor, type TestServer } from '#test/server/fleet.ts';
import { rejectsCode } from '#test/throws.ts';

const run = (server: TestServer, ...args: string[]) =>
  ran(inventory, args, { env: { BOOTPROOF_SERVER: server.server.url, BOOTPROOF_TOKEN: server.admin } });

test('a list is imported and both differences are told, then and later, here and on the page', async (t) => {
  const server = await serverFor(t);
  const files = folder(t);
  const file = (name: string, content: string | Uint8Array): string => {
    writeFileSync(join(files, name), content);
    return join(files, name);
  };
  const hosts = [];
  for (const name of ['web-1', 'web-2', 'db-1', '<b>']) hosts.push(await enrol(server, null, { name }));
  await server.api(`/api/v1/hosts/${hosts[1]!.id}`, { method: 'PATCH', body: { labels: { asset: '4711' } } });
  assert.equal((await run(server, 'list')).err, 'no list was imported\n');

  const csv = file(
    'cmdb.csv',
    `\uFEFFOwner,Hostname,Asset\r\nbob,WEB-1.prod.example,\r\nann,renamed,4711\r\nann,"gone ""1""",\r\nann,"\u001b[31mred",\r\n`,
  );
  const columns = ['--column', 'name=Hostname', '--column', 'label:asset=Asset', '--short-names'];
  const made = await run(server, 'import', csv, '--source', 'cmdb', ...columns);
  assert.equal(made.exit, 1);
  assert.match(made.out, /^list +cmdb, version 1, imported 2026\S+ \S+ by admin$/m);
  assert.match(made.out, /^matched +1 by label asset, 1 by name$/m);
  assert.match(made.out, /in the list and not enrolled:\n {2}\S*\[31mred\n {2}gone "1"\n/);
  assert.ok(!made.out.includes('\u001b[31m'), 'a cell moves no cursor');
  assert.match(
    made.out,
    new RegExp(`enrolled and not in the list:\\n {2}<b> {2}h_\\w+\\n {2}db-1 {2}${hosts[2]!.id}\\n$`),
  );

  server.time.now += 60_000;
  const second = file('second.csv', 'name\nweb-1\nweb-2\ndb-1\n<b>\n');
  const agreed = await run(server, 'import', second, '--source', 'cmdb');
  assert.deepEqual([agreed.exit, agreed.err], [0, '']);
  assert.match((await run(server, 'list')).out, /^cmdb +2 +2026\S+ \S+ +admin +4 +4 +0 +0$/m);
  assert.equal((await run(server, 'show', 'cmdb')).exit, 0);
  const old = await run(server, 'show', 'cmdb', '--version', '1', '--json');
  assert.deepEqual([old.exit, (JSON.parse(old.out) as { onlyTheirs: string[] }).onlyTheirs.length], [1, 2]);
  const cut = await run(server, 'show', 'cmdb', '--version', '1', '--limit', '1');
  assert.match(cut.err, /^these are the first 1; --limit 10 shows more/);
  assert.match((await run(server, 'versions', 'cmdb')).out, /cmdb +2 [\s\S]*cmdb +1 /);
  const { items } = (await server.api('/api/v1/audit?object=inventory%3Acmdb')).body;
  assert.deepEqual(
    items.map(({ action, after }: any) => [action, after.version, after.onlyTheirs, after.onlyOurs]),
    [
      ['inventory.import', 2, 0, 0],
      ['inventory.import', 1, 2, 2],
    ],
  );

  const reader = await visitor(server);
  assert.match((await reader.page('/settings')).text, /Inventories of others ?1 list/);
  assert.match((await reader.page('/inventory')).text, /cmdb ?4 ?0 ?0/);
  assert.match((await reader.page('/inventory/cmdb')).text, /cmdb and the fleet agree on 4 hosts/);
  const page = await reader.page('/inventory/cmdb?version=1');
  assert.match(page.text, /2 hosts of cmdb are not enrolled, 2 of ours are not in it/);
  assert.match(page.html, /gone (?:&quot;|&#34;|")1/);
  assert.ok(page.links.includes(`/hosts/${hosts[2]!.id}`));
  for (const path of ['/inventory/cmdb?version=9', '/inventory/aws', '/inventory/cmdb?version=x'])
    assert.equal((await reader.visit(path)).status, 404, path);

  for (const [args, code] of [
    [['import', csv], 'USAGE'],
    [['import', csv, '--source', 'cmdb', '--column', 'Hostname'], 'USAGE'],
    [['import', csv, '--source', 'cmdb', '--column', 'name=a', '--column', 'name=b'], 'USAGE'],
    [['import', join(files, 'none.csv'), '--source', 'cmdb'], 'USAGE'],
    [['import', file('latin.csv', Buffer.from('name\nm\xfcnchen\n', 'latin1')), '--source', 'cmdb'], 'USAGE'],
    [['import', csv, '--source', 'C M D B'], 'USAGE'],
    [['import', csv, '--source', 'cmdb', '--column', 'name=Hostnam'], 'INVENTORY_COLUMN'],
    [['import', file('empty.csv', 'name\n'), '--source', 'cmdb'], 'INVENTORY_SYNTAX'],
    [['show', 'aws'], 'INVENTORY_UNKNOWN'],
    [['show', 'cmdb', '--version', '9'], 'INVENTORY_UNKNOWN'],
    [['versions', 'aws'], 'INVENTORY_UNKNOWN'],
  ] as const)
    await rejectsCode(() => run(server, ...args), code === 'USAGE' ? UsageError : ServerError, code);
  assert.equal((await server.api('/api/v1/inventories/cmdb')).body.inventory.version, 2, 'nothing was written');
  const large = await server.api('/api/v1/inventories/cmdb', {
    method: 'POST',
    body: { csv: `name\n${'a'.repeat(200_000)}` },
  });
  assert.equal(large.body.code, 'INVENTORY_SYNTAX', 'a list may be larger than other bodies');
});

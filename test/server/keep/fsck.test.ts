/** `bootproof server fsck`: a store that was lived in is sound, and each thing that is changed, removed or doubled is named. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { copyFileSync } from 'node:fs';
import { test, type TestContext } from 'node:test';
import Database from 'better-sqlite3';
import pg from 'pg';
import { publicKeyOfSeed } from '#src/signing/node.ts';
import { fsck } from '#server/keep/fsck.ts';
import { onPostgres } from '#test/postgres.ts';
import { folder, serverFor, type TestServer } from '#test/server/fleet.ts';
import { deep, isFull } from '#test/depth.ts';
import { DAY, fleet, groupAt, NEXT, odd, OS, shows } from '../decisions/people.ts';

/** Three days of three hosts: drift that came, was acknowledged and went, `same` reports, and one that came late. */
async function lived(t: TestContext, storeUrl: string): Promise<TestServer> {
  const server = await serverFor(t, { images: [OS, NEXT], storeUrl });
  const [a, b, c] = await fleet(server);
  const post = async (path: string, body: object): Promise<void> => {
    const { status, body: answer } = await server.api(path, { method: 'POST', body });
    assert.ok(status < 300, JSON.stringify(answer));
  };
  const { id } = await groupAt(server);
  const done = await server.api('/api/v1/bulk/preview', {
    method: 'POST',
    body: { action: 'acknowledge', filter: { q: 'path:/usr/bin/odd' }, note: 'rollout' },
  });
  await server.server.app.request(`/api/v1/bulk/${done.body.token}/apply`, {
    method: 'POST',
    headers: { authorization: `Bearer ${server.admin}`, 'idempotency-key': 'k' },
  });
  await post(`/api/v1/groups/${id}/comments`, { text: 'seen' });
  for (let day = 0; day < 3; day++) {
    for (const host of [a, b, c]) await host.sendSame();
    server.time.now += DAY;
  }
  await shows(b);
  await shows(c, odd('y'));
  // One that was lost on its way, and comes later.
  const late = await a.seal(a.sameReport());
  await a.sendSame();
  assert.equal((await a.post(late.text)).status, 200);
  await server.settle();
  await server.server.evidence.turn();
  return server;
}

/** What is done to a copy, and what must be told of it: code and table. */
const CHANGES: readonly (readonly [title: string, sql: string, ...told: string[]])[] = [
  [
    'a full report is gone',
    `delete from report where seq = 2 and kind = 'full' and host_id = (select min(id) from host)`,
    'LOG log_entry',
  ],
  [
    'the report that a host leans on is gone',
    `delete from report where (host_id, seq) in (select host_id, full_seq from pulse limit 1)`,
    'REPORT_MISSING report',
    'CHAIN pulse',
  ],
  [
    'bytes of a report were changed',
    `update report set envelope = replace(cast(envelope as text), 'a', 'b') where rowid = (select min(rowid) from report)`,
    'REPORT_BYTES report',
  ],
  [
    'bytes of a report were emptied',
    `update report set envelope = x'' where rowid = (select min(rowid) from report)`,
    'REPORT_EMPTY report',
  ],
  [
    'a report stands twice',
    `insert into report select host_id, seq, copy + 1, 'fork', digest, class, started_at, received_at, answer, envelope from report order by received_at desc limit 1`,
    'REPORT_TWICE report',
    'NOT_LOGGED report',
  ],
  [
    'a host has another key',
    `update host set public_key = '${publicKeyOfSeed(new Uint8Array(32))}' where name = 'web-1'`,
    'REPORT_BYTES report',
  ],
  [
    'the newest same was changed',
    `update pulse set same_envelope = replace(cast(same_envelope as text), 'a', 'b') where same_seq is not null`,
    'REPORT_BYTES pulse',
  ],
  ['a chain went back', `update pulse set head_seq = head_seq - 1`, 'CHAIN pulse'],
  ['a chain remembers nothing', `update pulse set recent = x''`, 'CHAIN pulse'],
  ['a host has no chain', `delete from pulse where host_id = (select min(host_id) from pulse)`, 'PULSE host'],
  [
    'a host is gone',
    `delete from host where id = (select min(id) from host)`,
    'PULSE pulse',
    'REFERENCE report',
    'REFERENCE finding',
  ],
  ['a row holds something else', `update host set labels = 'none'`, 'ROW_SYNTAX database'],
  ['a verdict was changed', `update host set verdict = 'compliant'`, 'VERDICT host', 'PULSE pulse'],
  ['a counter of a host', `update host set open3 = open3 + 1`, 'HOST_COUNT host'],
  ['a counter of a group', `update group_count set ever = ever + 1`, 'GROUP_COUNT group_count'],
  ['a group stands under another tab', `update finding_group set status = 3 - status`, 'GROUP_STATUS finding_group'],
  [
    'a finding is gone',
    `delete from finding where is_open = 1`,
    'HOST_COUNT host',
    'GROUP_COUNT group_count',
    'REFERENCE episode',
  ],
  [
    'an index does not hold what its table holds',
    `pragma writable_schema = 1; update sqlite_master set sql = replace(sql, 'is_open = 1', 'is_open = 0') where name = 'finding_placed'`,
    'DATABASE_DAMAGED database',
  ],
  ['a finding is open and over', `update finding set resolved_at = 1 where is_open = 1`, 'FINDING_STATE finding'],
  ['an episode is gone', `delete from episode`, 'EPISODES finding', 'LOG log_entry'],
  ['a waiver that is not there', `update finding set waiver_id = 'W-7'`, 'WAIVED_BY finding'],
  [
    'a text of a manifest was changed',
    `update blob set bytes = (select bytes from blob as b where b.key <> blob.key limit 1)`,
    'BLOB_BYTES blob',
  ],
  ['a text of a manifest is no zstd', `update blob set bytes = x'00'`, 'BLOB_BYTES blob'],
  ['a text of a manifest is gone', `delete from blob`, 'BLOB_MISSING manifest'],
  ['a manifest is gone', `delete from manifest`, 'REFERENCE image'],
  ['an entry of the log was changed', `update log_entry set leaf = zeroblob(32) where idx = 3`, 'LOG log_entry'],
  ['a tile of the log is gone', `delete from log_tile`, 'LOG log_entry'],
  ['a payload is gone', `delete from log_payload where ref like 'report:%'`, 'NOT_LOGGED report', 'LOG log_entry'],
  ['a line of the trail was changed', `update audit set actor = 'nobody' where rowid = 1`, 'LOG log_entry'],
  [
    'a line of the trail was added',
    `insert into audit select 'a_zz', at + 86400000, actor, action, object, note, before, after from audit order by at desc limit 1`,
    'NOT_LOGGED audit',
  ],
  ['a key is gone', `delete from setting where key = 'server-key-seed'`, 'KEY_MISSING setting'],
  [
    'the log’s key is another one',
    `update setting set value = zeroblob(32) where key = 'log-key-seed'`,
    'LOG_KEY log_head',
  ],
  [
    'work that nobody does',
    `insert into job values ('j_1', 'build', 'build:x', 1, 1, 2, null, null, '{}', 'no route')`,
    'JOB_STUCK job',
  ],
];

test('a store that was lived in is sound, and each change of it is named', async (t) => {
  const home = folder(t);
  const path = join(home, 'store.db');
  const url = `sqlite:${path}`;
  const server = await lived(t, url);
  const own = { checkpointFile: join(home, 'log.checkpoint'), exports: join(home, 'evidence') };
  const whole = await fsck({ url, ...own });
  assert.deepEqual([whole.faults, whole.sound, whole.ended], [[], true, null], 'while its server runs');
  assert.ok(
    whole.looked.hosts === 3 && whole.looked.reports > 10 && whole.looked.blobs > 2 && whole.looked.entries > 30,
  );
  await server.server.close();
  for (const [title, sql, ...told] of CHANGES.filter((_, n) => n % deep(1, 6) === 0))
    await t.test(title, async () => {
      const copy = join(home, 'changed.db');
      copyFileSync(path, copy);
      const raw = new Database(copy);
      raw.unsafeMode();
      raw.exec(sql);
      raw.close();
      const done = await fsck({ url: `sqlite:${copy}`, ...own });
      const found = done.faults.map(({ code, table }) => `${code} ${table}`);
      for (const one of told) assert.ok(found.includes(one), `${one} is told among ${found.join(', ') || 'nothing'}`);
      assert.equal(done.sound, false);
      for (const { means, todo, first, count } of done.faults)
        assert.ok(means !== '' && todo !== '' && first.length > 0 && count >= first.length && first[0]!.key !== '');
    });
});

// What a restore, a standby and a full disk leave behind is looked at on PostgreSQL by test/foreign/durability.test.ts.
if (isFull)
  onPostgres('a store that was lived in is sound, and changes of it are named', async (t, url) => {
    const server = await lived(t, url);
    assert.deepEqual((await fsck({ url })).faults, [], 'while its server runs');
    await server.server.close();
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    t.after(() => client.end());
    await client.query(`delete from report where seq = 2 and host_id = (select min(id) from host)`);
    await client.query(`update host set open3 = open3 + 1`);
    await client.query(`insert into report select host_id, seq, copy + 1, 'fork', digest, class, started_at, received_at, answer, envelope
    from report where seq = 1 limit 1`);
    await client.query(`insert into blob values ('evidence/ev_0/1/00000000', 'identity', 'half')`);
    await client.query(`insert into blob values ('evidence/ev_1/1/00000000', 'identity', 'changed')`);
    await client.query(
      `insert into evidence_export select 'ev_1', 1, 'a', 1, 2, null, null, '[]', null, '{}', 'done', '[]', null, null, 1, 1, null, $1, 7, 3, 4`,
      ['0'.repeat(64)],
    );
    const { faults } = await fsck({ url });
    assert.deepEqual(faults.map(({ code, table }) => `${code} ${table}`).sort(), [
      'CHAIN report',
      'EXPORT_BYTES evidence_export',
      'HOST_COUNT host',
      'LOG log_entry',
      'REPORT_TWICE report',
    ]);
  });

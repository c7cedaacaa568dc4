/** A server that runs while a newer build migrates its database; both builds for real, under load: test/foreign/servers.test.ts. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import Database from 'better-sqlite3';
import { readPolicy } from '#server/prepare.ts';
import { SCHEMA_VERSION } from '#server/store/migrate.ts';
import { startServer } from '#server/start.ts';
import { migratedSqlite } from '#test/sqlite.ts';
import { rejectsCode } from '#test/throws.ts';
import { StoreError } from '#server/store/store.ts';
import { enrol, folder, serverFor } from './fleet.ts';

test('a server whose database a newer build migrated goes on, and says so; it does not start on it again', async (t) => {
  const path = join(folder(t), 'store.db');
  const storeUrl = await migratedSqlite(path);
  const server = await serverFor(t, { storeUrl });
  const host = await enrol(server, null);
  const ready = async () => {
    const { status, body } = await server.api('/readyz');
    return [status, body];
  };
  assert.deepEqual(await ready(), [200, 'ok']);
  const newer = new Database(path);
  newer.exec(
    `insert into store_schema (version) values (${SCHEMA_VERSION + 1}); create table of_the_newer (x integer)`,
  );
  newer.close();
  const behind = `the database has schema ${SCHEMA_VERSION + 1}, and this build knows up to ${SCHEMA_VERSION}: upgrade this server`;
  assert.deepEqual(await ready(), [200, `ok\n${behind}`]);
  assert.equal((await host.sendFull()).status, 200);
  await rejectsCode(
    async () => startServer({ storeUrl, policy: await readPolicy(undefined), listen: { host: '127.0.0.1', port: 0 } }),
    StoreError,
    'STORE_NEWER',
  );
});

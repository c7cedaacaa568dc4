/** Migrating apart from the server: how a database stands, the command, and a server that waits for it. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { existsSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import Database from 'better-sqlite3';
import { main } from '#cli/server.ts';
import { migrated } from '#server/migration.ts';
import { MIGRATIONS, SCHEMA_VERSION, DIALECTS } from '#server/store/migrate.ts';
import { openStore } from '#server/store/open.ts';
import { standingOf } from '#server/store/standing.ts';
import { StoreError } from '#server/store/store.ts';
import { runCommand } from '#src/terminal.ts';
import { rejectsCode } from '#test/throws.ts';
import { folder } from './fleet.ts';

async function run(...args: readonly string[]) {
  const said = { out: '', err: '' };
  const stream = (name: 'out' | 'err') => ({
    isTTY: false,
    columns: 100,
    write: async (text: string | Uint8Array) => void (said[name] += String(text)),
  });
  const exit = await runCommand(['migrate', ...args], { stdout: stream('out'), stderr: stream('err'), env: {} }, main);
  return { exit, ...said };
}

/** A database as a build with so many migrations left it. */
function older(path: string, version: number): void {
  const db = new Database(path);
  db.exec('create table store_schema (version bigint primary key)');
  for (const [at, step] of MIGRATIONS.slice(0, version).entries()) {
    for (const statement of step(DIALECTS.sqlite)) db.exec(statement);
    db.prepare('insert into store_schema values (?)').run(at + 1);
  }
  db.close();
}

test('a database is told as it stands, brought up to this build, and told again', async (t) => {
  const data = folder(t);
  const path = join(data, 'bootproof.db');
  const status = await run('--status', '--data', data);
  assert.equal(status.exit, 1);
  assert.match(status.out, /nothing of ours yet/);
  assert.ok(!existsSync(path), 'asking makes nothing');
  older(path, SCHEMA_VERSION - 2);
  const dry = JSON.parse((await run('--dry-run', '--json', '--data', data)).out) as {
    steps: { version: number; statements: string[] }[];
  };
  assert.deepEqual(
    dry.steps.map(({ version }) => version),
    [SCHEMA_VERSION - 1, SCHEMA_VERSION],
  );
  assert.ok(dry.steps.every(({ statements }) => statements.length > 0));
  assert.equal((await standingOf(`sqlite:${path}`)).version, SCHEMA_VERSION - 2, 'nothing ran');
  const done = await run('--data', data);
  assert.equal(done.exit, 0);
  assert.match(done.out, new RegExp(`schema ${SCHEMA_VERSION - 2} → ${SCHEMA_VERSION}, 2 steps`));
  const after = await run('--status', '--data', data);
  assert.deepEqual([after.exit, /nothing is to do/.test(after.out)], [0, true]);
});

test('a newer database, one of others, and a file that is none are told apart, and left as they are', async (t) => {
  const data = folder(t);
  const path = join(data, 'bootproof.db');
  older(path, SCHEMA_VERSION);
  const db = new Database(path);
  db.prepare('insert into store_schema values (?)').run(SCHEMA_VERSION + 1);
  db.close();
  const { exit, out } = await run('--status', '--data', data);
  assert.deepEqual([exit, /use the newer build/.test(out)], [1, true]);
  assert.match((await run('--data', data)).err, /STORE_NEWER/);
  const other = join(data, 'other.db');
  const strange = new Database(other);
  strange.exec('create table guests (name text)');
  strange.close();
  await rejectsCode(() => standingOf(`sqlite:${other}`), StoreError, 'STORE_FOREIGN');
  const none = join(data, 'none.db');
  writeFileSync(
    none,
    'no database at all, and longer than a header of one would be: a hundred bytes and some more of them',
  );
  await rejectsCode(() => standingOf(`sqlite:${none}`), StoreError, 'STORE_FOREIGN');
});

test('a server that must not migrate waits until somebody has, and says so', async (t) => {
  const url = `sqlite:${join(folder(t), 'store.db')}`;
  const said: string[] = [];
  const waited = migrated(url, (level, event) => void said.push(`${level} ${event}`), { lookMs: 10 });
  await rejectsCode(() => migrated(url, () => {}, { waitMs: 1 }), StoreError, 'STORE_OLDER');
  await (await openStore(url)).close();
  await waited;
  assert.deepEqual(said, ['warn waiting for migration']);
});

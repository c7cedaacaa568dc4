/** PostgreSQL keeps the store's contract, and what is its own: connections that break, and asks to repeat. */
import assert from 'node:assert/strict';
import { after, before, test, type TestContext } from 'node:test';
import pg from 'pg';
import { sql } from 'kysely';
import { openEngine, openStore } from '#server/store/open.ts';
import { standingOf } from '#server/store/standing.ts';
import { StoreError } from '#server/store/store.ts';
import { POSTGRES_RETRIES_MAX } from '#src/limits.ts';
import { startPostgres, type Postgres } from '#test/postgres.ts';
import { rejectsCode } from '#test/throws.ts';
import { opened, openedEngine, people, suiteOn, type Suite } from './contract.ts';
import { decided } from './contract-decided.ts';
import { intakes } from './contract-intake.ts';
import { kills } from './contract-kill.ts';
import { lists } from './contract-lists.ts';
import { logs } from './contract-log.ts';
import { logCrashes } from './contract-logcrash.ts';
import { origins } from './contract-origins.ts';
import { texts } from './contract-texts.ts';
import { plans } from './contract-plans.ts';
import { evidence } from './contract-evidence.ts';
import { policies } from './contract-policies.ts';
import { inventories } from './contract-inventory.ts';
import { retention } from './contract-retention.ts';
import { trusts } from './contract-trust.ts';
import { upkeep } from './contract-upkeep.ts';
import { admit, hostId } from './make.ts';

let server: Postgres | { skip: string };
before(async () => {
  server = await startPostgres();
});
after(async () => {
  if (!('skip' in server)) await server.stop();
});

const skipped = () => ('skip' in server ? server.skip : undefined);
const suite: Suite = suiteOn(
  {
    name: 'postgres',
    async fresh() {
      if ('skip' in server) throw new Error(server.skip);
      return server.migrated();
    },
  },
  skipped,
);
/** Where the tables themselves are the matter. */
const emptySuite: Suite = suiteOn({ name: 'postgres', fresh: () => (server as Postgres).database() }, skipped);
people(suite);
intakes(suite);
lists(suite);
plans(suite);
upkeep(suite);
trusts(suite);
decided(suite);
policies(suite);
evidence(suite);
origins(suite);
texts(suite);
logs(suite);
retention(suite);
inventories(suite);
logCrashes(suite);
kills(suite);

async function query(url: string, text: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query(text);
  await client.end();
}

emptySuite('a database of another program, or of a newer build, is left alone', async (url) => {
  await query(url, 'create table photo (name text)');
  await rejectsCode(() => openStore(url), StoreError, 'STORE_FOREIGN');
  await query(url, 'drop table photo');
  await (await openStore(url)).close();
  await query(url, 'insert into store_schema values (99)');
  await rejectsCode(() => openStore(url), StoreError, 'STORE_NEWER');
});

suite('a database that is not there is named, without the password', async (url) => {
  const missing = url.replace(/bootproof_[0-9a-f]+/, 'bootproof_missing').replace('bootproof@', 'bootproof:s3cret@');
  await rejectsCode(() => openStore(missing), StoreError, 'STORE_URL');
  await assert.rejects(openStore(missing), (error: Error) => !error.message.includes('s3cret'));
});

test('postgres: a server that does not answer is unavailable, and its password stays out of the message', async () => {
  const url = 'postgres://root:s3cret@127.0.0.1:1/x';
  await rejectsCode(() => openStore(url), StoreError, 'STORE_UNAVAILABLE');
  await assert.rejects(openStore(url), (error: Error) => !error.message.includes('s3cret'));
});

emptySuite('several servers that start at once migrate once', async (url, t) => {
  const stores = await Promise.all([1, 2, 3, 4].map(() => opened(t, url)));
  await admit(stores[0]!, 1);
  for (const store of stores) assert.equal((await store.hosts.get(hostId(1)))?.name, 'host-1');
});

suite('broken connections are reported, and the next call has a new one', async (url, t) => {
  const { engine, store } = await openedEngine(t, url);
  await Promise.all([1, 2, 3].map((n) => admit(store, n)));
  const others =
    'select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()';
  await query(url, others);
  // Idle ones were dropped silently; one that breaks under its query is told.
  await insist(() => store.ping());
  const slow = engine.write(async ({ db }) => {
    await sql`insert into setting (key, value) values ('half', '')`.execute(db);
    await sql`select pg_sleep(20)`.execute(db);
  });
  const told = rejectsCode(() => slow, StoreError, 'STORE_UNAVAILABLE');
  await untilSleeping(t, url);
  await query(url, others);
  await told;
  assert.equal(await insist(() => store.settings.get('half')), undefined, 'all of it or nothing');
});

/** As a caller does it: a call that hits a connection already broken is repeated. */
async function insist<T>(act: () => Promise<T>): Promise<T> {
  for (let left = 20; ; left--) {
    try {
      return await act();
    } catch (error) {
      if (!(error instanceof StoreError) || error.code !== 'STORE_UNAVAILABLE' || left === 0) throw error;
    }
  }
}

async function untilSleeping(t: TestContext, url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  const text = `select 1 from pg_stat_activity where query like '%pg_sleep(20)%' and pid <> pg_backend_pid() and state = 'active'`;
  while ((await client.query(text)).rowCount === 0) t.signal.throwIfAborted();
  // It will be ended with the others.
  client.on('error', () => undefined);
  await client.end();
}

suite('a database that acknowledges before anything lies on a disk is overruled, and no other', async (url, t) => {
  const level = async (set: string) => {
    await query(url, `alter database "${new URL(url).pathname.slice(1)}" set synchronous_commit = ${set}`);
    const engine = await openEngine(url);
    t.after(() => engine.close());
    const { rows } = await engine.write(({ db }) =>
      sql<{ level: string }>`
      select current_setting('synchronous_commit') as level`.execute(db),
    );
    return rows[0]?.level;
  };
  assert.deepEqual(
    [await level('off'), await level('remote_apply'), await level('local')],
    ['on', 'remote_apply', 'local'],
  );
});

suite('what PostgreSQL asks to repeat is repeated, a bounded number of times', async (url, t) => {
  const engine = await openEngine(url);
  t.after(() => engine.close());
  const refused = sql.raw(`do $$ begin raise exception 'again' using errcode = '40001'; end $$`);
  let runs = 0;
  const answer = await engine.write(async ({ db }) => {
    runs++;
    await sql`insert into setting (key, value) values (${`run ${runs}`}, '')`.execute(db);
    if (runs < 3) await refused.execute(db);
    return runs;
  });
  assert.equal(answer, 3);
  const kept = await engine.reading((db) => db.selectFrom('setting').select('key').execute());
  assert.deepEqual(kept, [{ key: 'run 3' }]);
  runs = 0;
  const never = engine.write(({ db }) => {
    runs++;
    return refused.execute(db);
  });
  await rejectsCode(() => never, StoreError, 'STORE_UNAVAILABLE');
  assert.equal(runs, POSTGRES_RETRIES_MAX);
});

test('postgres: a database is told as it stands before it is opened, and how large it is after', async (t) => {
  if ('skip' in server) return t.skip(server.skip);
  const url = await server.database();
  const { version, known, steps } = await standingOf(url);
  assert.deepEqual([version, steps.length], [0, known]);
  await query(url, 'create table guests (name text)');
  await rejectsCode(() => standingOf(url), StoreError, 'STORE_FOREIGN');
  const ready = await server.migrated();
  assert.deepEqual(
    { ...(await standingOf(ready)), known: 0 },
    { engine: 'postgres', version: known, known: 0, steps: [] },
  );
  const store = await openStore(ready);
  t.after(() => store.close());
  assert.equal(await store.schema(), known);
  const { bytes, tables, freeBytes } = await store.sizes();
  assert.ok(bytes! > 1_000_000 && tables.length > 5 && tables.every((one) => one.bytes > 0));
  assert.equal(freeBytes, null);
  await rejectsCode(() => standingOf('postgres://nobody@127.0.0.1:1/x'), StoreError, 'STORE_UNAVAILABLE');
});

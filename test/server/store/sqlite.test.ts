/** SQLite keeps the store's contract, and what is its own: files, folders, a full disk. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import Database from 'better-sqlite3';
import { sql } from 'kysely';
import { openStore } from '#server/store/open.ts';
import { StoreError } from '#server/store/store.ts';
import { migratedSqlite } from '#test/sqlite.ts';
import { rejectsCode } from '#test/throws.ts';
import { people, openedEngine, opened, suiteOn } from './contract.ts';
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

function folder(t: TestContext): string {
  const made = mkdtempSync(join(tmpdir(), 'bootproof-store-'));
  t.after(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

const suite = suiteOn({ name: 'sqlite', fresh: (t) => migratedSqlite(join(folder(t), 'store.db')) }, () => undefined);
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

for (const url of ['', 'store.db', 'sqlite:', 'sqlite::memory:', 'sqlite://host/x', 'mysql://root:s3cret@db/x'])
  test(`refuses the URL ${JSON.stringify(url)}`, async () => {
    await rejectsCode(() => openStore(url), StoreError, 'STORE_URL');
    await assert.rejects(openStore(url), (error: Error) => !error.message.includes('s3cret'));
  });

test('makes file and folders, for their owner alone, and opens them again', async (t) => {
  const at = join(folder(t), 'a', 'b');
  const url = `sqlite:${join(at, 'store.db')}`;
  const store = await opened(t, url);
  await admit(store, 1);
  for (const name of ['store.db', 'store.db-wal', 'store.db-shm'])
    assert.equal(statSync(join(at, name)).mode & 0o777, 0o600, name);
  assert.equal(statSync(at).mode & 0o777, 0o700);
  await store.close();
  const again = await opened(t, url);
  assert.equal((await again.hosts.get(hostId(1)))?.name, 'host-1');
});

test('says so where a folder cannot be made', async (t) => {
  const file = join(folder(t), 'file');
  writeFileSync(file, '');
  await rejectsCode(() => openStore(`sqlite:${file}/store.db`), StoreError, 'STORE_FOLDER');
  await rejectsCode(() => openStore(`sqlite:${folder(t)}`), StoreError, 'STORE_FOLDER');
});

test('says so where a folder cannot be written', async (t) => {
  if (process.getuid?.() === 0) return t.skip('root may write everywhere');
  const at = join(folder(t), 'closed');
  mkdirSync(at, { mode: 0o500 });
  await rejectsCode(() => openStore(`sqlite:${join(at, 'store.db')}`), StoreError, 'STORE_FOLDER');
});

test('leaves a file alone that is no database', async (t) => {
  const path = join(folder(t), 'notes.txt');
  const notes = 'not a database, but somebody’s notes\n'.repeat(200);
  writeFileSync(path, notes);
  await rejectsCode(() => openStore(`sqlite:${path}`), StoreError, 'STORE_FOREIGN');
  assert.equal(readFileSync(path, 'utf8'), notes);
});

test('leaves a database alone that is another program’s', async (t) => {
  const path = join(folder(t), 'other.db');
  const other = new Database(path);
  other.exec('create table photo (name text)');
  other.close();
  await rejectsCode(() => openStore(`sqlite:${path}`), StoreError, 'STORE_FOREIGN');
  const names = new Database(path).prepare('select name from sqlite_master').pluck().all();
  assert.deepEqual(names, ['photo']);
});

test('refuses a schema that a newer build made, and changes nothing in it', async (t) => {
  const path = join(folder(t), 'store.db');
  await (await openStore(`sqlite:${path}`)).close();
  const raw = new Database(path);
  raw.exec('insert into store_schema values (99)');
  raw.close();
  await rejectsCode(() => openStore(`sqlite:${path}`), StoreError, 'STORE_NEWER');
});

test('a full disk refuses the write whole, and the store goes on when there is room', async (t) => {
  const { engine, store } = await openedEngine(t, `sqlite:${join(folder(t), 'store.db')}`);
  const limit = (pages: number) => engine.write(({ db }) => sql.raw(`pragma max_page_count = ${pages}`).execute(db));
  await limit(200);
  const big = { key: 'big', encoding: 'identity' as const, bytes: new Uint8Array(2 ** 20) };
  await rejectsCode(() => store.blobs.put(big), StoreError, 'STORE_UNAVAILABLE');
  assert.equal(await store.blobs.has('big'), false);
  await admit(store, 1);
  await limit(100_000);
  await store.blobs.put(big);
  assert.equal((await store.blobs.get('big'))?.bytes.length, 2 ** 20);
});

test('a second opening in the same process takes no lock from the first', async (t) => {
  const path = join(folder(t), 'store.db');
  const first = await openStore(`sqlite:${path}`);
  const locks = () => {
    const { ino } = statSync(path);
    return readFileSync('/proc/locks', 'utf8')
      .split('\n')
      .filter((line) => line.includes(`:${ino} `)).length;
  };
  assert.ok(locks() > 0, 'it holds one while it is open');
  const second = await openStore(`sqlite:${path}`);
  await second.close();
  assert.ok(
    locks() > 0,
    'whoever closes the database elsewhere would take itself for the last one, and remove its log',
  );
  await first.close();
});

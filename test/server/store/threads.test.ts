/** Lists of SQLite that are read in threads: what they tell, that they see what was written, and that they end. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { sql } from 'kysely';
import { openEngine, storeOn } from '#server/store/open.ts';
import { StoreError } from '#server/store/store.ts';
import { rejectsCode } from '#test/throws.ts';
import { admit, commit, hostId, present, report, T0 } from './make.ts';

async function threaded(t: TestContext, listMs?: number) {
  const folder = mkdtempSync(join(tmpdir(), 'bootproof-threads-'));
  const engine = await openEngine(`sqlite:${join(folder, 'store.db')}`, {
    inlineBytes: 0,
    ...(listMs === undefined ? {} : { listMs }),
  });
  t.after(async () => {
    await engine.close();
    rmSync(folder, { recursive: true, force: true });
  });
  return { engine, store: storeOn(engine) };
}

/** Counts for half a second without a row to hand out: nothing that a page would do, and nothing that can be stopped. */
const endless = sql<{ n: number }>`with recursive n(i) as (select 1 union all select i + 1 from n where i < 3000000)
  select count(*) as n from n`;

test('lists in threads see every write that was acknowledged before they began, and tell what they tell elsewhere', async (t) => {
  const { engine, store } = await threaded(t);
  for (let n = 0; n < 20; n++) {
    await admit(store, n);
    assert.deepEqual(await store.read.countHosts({ now: T0 }, 100), { count: n + 1, exact: true });
  }
  await commit(store, hostId(3), (host) => ({ ...report(host, 'full'), findings: [present(1), present(2, 1)] }));
  const { items } = await store.read.findings({}, { cursor: null, limit: 10 });
  assert.deepEqual(
    items.map(({ hostId: id, severity, hostName }) => [id, severity, hostName]),
    [
      [hostId(3), 3, 'host-3'],
      [hostId(3), 1, 'host-3'],
    ],
  );
  const glob = await engine.listing((db) => sql`select bp_glob('/usr/**', '/usr/a/b') as fits`.execute(db as never));
  assert.deepEqual(glob.rows, [{ fits: 1 }]);
  await rejectsCode(
    () => engine.listing((db) => db.selectFrom('host').select('id').where('name', '=', 'a\0').execute()),
    StoreError,
    'STORE_TEXT',
  );
  // A thread cannot write, whatever is asked of it.
  await assert.rejects(
    engine.listing((db) => sql`delete from host returning id`.execute(db as never)),
    /readonly/,
  );
});

test('a list that takes too long is refused, writes and other lists go on, and the store still closes', async (t) => {
  const { engine, store } = await threaded(t, 80);
  await admit(store, 1);
  const heavy = [1, 2, 3, 4, 5].map(() =>
    rejectsCode(() => engine.listing((db) => endless.execute(db as never)), StoreError, 'STORE_SLOW'),
  );
  let turns = 0;
  const ticking = setInterval(() => turns++, 5);
  await admit(store, 2);
  await Promise.all(heavy);
  clearInterval(ticking);
  // How often is the machine's affair. On the loop itself no list would have been called slow, nor this have turned.
  assert.ok(turns > 0, 'the event loop stood while lists were read');
  // Threads that linger end with their statement; then lists are served again.
  for (;;) {
    try {
      assert.equal((await store.read.countHosts({ now: T0 }, 10)).count, 2);
      break;
    } catch (error) {
      if (!(error instanceof StoreError) || error.code !== 'STORE_SLOW') throw error;
    }
  }
  await engine.close();
  await rejectsCode(() => store.read.countHosts({ now: T0 }, 10), StoreError, 'STORE_CLOSED');
});

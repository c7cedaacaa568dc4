/** The contract of server/store/inventoryrecords.ts as tests: versions, what is kept of them, and what a bundle takes. */
import assert from 'node:assert/strict';
import { sql } from 'kysely';
import { ReconciliationFact } from '#src/evidence/facts.ts';
import { reconciliationFacts } from '#server/inventory.ts';
import type { NewInventory } from '#server/store/inventoryrecords.ts';
import type { Store } from '#server/store/store.ts';
import { opened, openedEngine, type Suite } from './contract.ts';
import { admit, DAY, digest, hostId, sha, T0 } from './make.ts';

const list = (source: string, more: Partial<NewInventory> = {}): NewInventory => ({
  source,
  digest: digest(source),
  bytes: 10,
  mapping: { id: null, name: 'Name', labels: [], shortNames: false },
  theirs: 3,
  ours: 2,
  matched: [{ by: 'name', rows: 2 }],
  repeated: 0,
  blank: 1,
  onlyTheirs: 1,
  onlyOurs: 1,
  ...more,
});
const differences = { onlyTheirs: ['web-9\u202e'], onlyOurs: [{ host: hostId(1), name: 'host-1' }] };
const parts = { differences, list: [{ id: null, name: 'web-9', labels: [] }], lists: 2 };
const add = (store: Store, source: string, day: number) =>
  store.inventories.add(list(source), parts, { actor: 'service:sync', at: T0 + day * DAY });

export function inventories(suite: Suite): void {
  suite(
    'each import is the next version of its source, told in the log, and found by source and time',
    async (url, t) => {
      const { engine, store } = await openedEngine(t, url);
      assert.deepEqual(await store.inventories.newest(), []);
      assert.equal(await store.inventories.get('cmdb', null), undefined);
      const made = [];
      for (const [source, day] of [
        ['cmdb', 0],
        ['aws', 1],
        ['cmdb', 2],
        ['cmdb', 3],
      ] as const)
        made.push(await add(store, source, day));
      assert.deepEqual(
        made.map(({ version }) => version),
        [1, 1, 2, 3],
      );
      const newest = await store.inventories.newest();
      assert.deepEqual(newest, [made[1], made[3]]);
      assert.deepEqual(await store.inventories.get('cmdb', 2), made[2]);
      assert.equal(await store.inventories.get('cmdb', 4), undefined);
      assert.deepEqual(await store.inventories.differences('cmdb', 1), differences);
      assert.equal(await store.inventories.differences('cmdb', 9), undefined);
      const page = await store.inventories.versions('cmdb', { cursor: null, limit: 2 });
      assert.deepEqual([page.items.map(({ version }) => version), page.next], [[3, 2], { version: 2 }]);
      // The list itself is kept of two versions, what it came to of all.
      const { rows } = await engine.reading((db) =>
        sql<{
          version: number;
        }>`select version from inventory where list is not null and source = 'cmdb' order by version`.execute(
          db as never,
        ),
      );
      assert.deepEqual(
        rows.map(({ version }) => version),
        [2, 3],
      );
      const { items } = await store.audit.list({ object: 'inventory:cmdb' }, { cursor: null, limit: 10 });
      assert.deepEqual(
        items.map(({ action, actor, after }) => [action, actor, (after as { version: number }).version]),
        [3, 2, 1].map((version) => ['inventory.import', 'service:sync', version]),
      );
    },
  );

  suite('imports at once get a version each', async (url, t) => {
    const stores = [await opened(t, url), await opened(t, url)];
    const made = await Promise.all([...stores, ...stores].map((store) => add(store, 'cmdb', 0)));
    assert.deepEqual(
      made.map(({ version }) => version).sort((a, b) => a - b),
      [1, 2, 3, 4],
    );
  });

  suite('a bundle takes the newest of each source in its period, at the index of its act', async (url, t) => {
    const store = await opened(t, url);
    await store.log.begin({ origin: 'log.example/a', publicKey: sha('log key') }, T0);
    for (const [source, day] of [
      ['cmdb', 0],
      ['aws', 1],
      ['cmdb', 2],
      ['cmdb', 9],
    ] as const)
      await add(store, source, day);
    await store.log.sequence(1, 100);
    const facts = async (log: number) => {
      const found = [];
      const period = { from: T0 + DAY, to: T0 + 9 * DAY, log };
      for await (const fact of reconciliationFacts(store, period)) found.push(ReconciliationFact.parse(fact));
      return found;
    };
    assert.deepEqual(await facts(1), [
      { source: 'aws', at: new Date(T0 + DAY).toISOString(), index: 1, theirs: 3, ours: 2, ...differences },
      { source: 'cmdb', at: new Date(T0 + 2 * DAY).toISOString(), index: 2, theirs: 3, ours: 2, ...differences },
    ]);
    assert.deepEqual(
      (await facts(2)).map(({ index }) => index),
      [null, null],
    );
  });

  suite('hosts are given by id, without those that were retired', async (url, t) => {
    const store = await opened(t, url);
    for (let n = 0; n < 4; n++) await admit(store, n);
    await store.hosts.retire(hostId(2), { actor: 'admin', at: T0 });
    const ids = [0, 1, 3].map(hostId).sort();
    const first = await store.inventories.hosts('', 2);
    assert.deepEqual(
      first.map(({ id }) => id),
      ids.slice(0, 2),
    );
    assert.deepEqual(first[0]!.labels, {});
    assert.deepEqual(
      (await store.inventories.hosts(ids[1]!, 2)).map(({ id }) => id),
      ids.slice(2),
    );
  });
}

/** Group commit: who shares a transaction, who is answered when, and what a bad write costs the others. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Batch } from '#server/ingest/batch.ts';
import { Load, Shares } from '#server/ingest/quota.ts';
import { StoreError, type HostWrite, type IntakeResult } from '#server/store/store.ts';
import { INTAKE_BATCH_MAX, INTAKE_BYTES_MAX, INTAKE_PENDING_MAX } from '#src/limits.ts';

const write = (hostId: string): HostWrite => ({ hostId, expectRevision: 1, at: 0 });
const committed: IntakeResult = { kind: 'committed', revision: 2, opened: [], reopened: [], resolved: [] };

/** A store whose commits end when the test says so. */
function store(answer: (item: HostWrite) => IntakeResult = () => committed) {
  const begun: { items: string[]; end: (error?: Error) => void }[] = [];
  return {
    begun,
    intake: (items: readonly HostWrite[]) =>
      new Promise<readonly IntakeResult[]>((resolve, reject) => {
        begun.push({
          items: items.map(({ hostId }) => hostId),
          end: (error) => (error ? reject(error) : resolve(items.map(answer))),
        });
      }),
  };
}

const turn = () => new Promise((resolve) => setTimeout(resolve, 15));

test('what comes together is committed together; what comes meanwhile goes next', async () => {
  const fake = store();
  const batch = new Batch(fake);
  const done: string[] = [];
  const commit = (id: string) => batch.commit(write(id)).then(() => done.push(id));
  const first = [commit('a'), commit('b')];
  await turn();
  const second = [commit('c'), commit('d')];
  await turn();
  assert.deepEqual(
    fake.begun.map(({ items }) => items),
    [['a', 'b']],
    'one commit at a time',
  );
  assert.deepEqual(done, [], 'nobody is acknowledged before its commit');
  fake.begun[0]!.end();
  await Promise.all(first);
  await turn();
  assert.deepEqual(
    fake.begun.map(({ items }) => items),
    [
      ['a', 'b'],
      ['c', 'd'],
    ],
  );
  assert.deepEqual(done, ['a', 'b']);
  fake.begun[1]!.end();
  await Promise.all(second);
});

test('a full batch does not wait, and no batch is larger', async () => {
  const fake = store();
  const batch = new Batch(fake);
  const all = Array.from({ length: INTAKE_BATCH_MAX + 3 }, (_, n) => batch.commit(write(`h${n}`)));
  assert.equal(fake.begun[0]!.items.length, INTAKE_BATCH_MAX);
  fake.begun[0]!.end();
  await turn();
  assert.equal(fake.begun[1]!.items.length, 3);
  fake.begun[1]!.end();
  await Promise.all(all);
});

test('each gets its own result', async () => {
  const fake = store(({ hostId }) => (hostId === 'b' ? { kind: 'conflict' } : committed));
  const batch = new Batch(fake);
  const results = Promise.all(['a', 'b', 'c'].map((id) => batch.commit(write(id))));
  await turn();
  fake.begun[0]!.end();
  assert.deepEqual(
    (await results).map(({ kind }) => kind),
    ['committed', 'conflict', 'committed'],
  );
});

test('a store that is gone refuses the whole batch: the outcome is not known', async () => {
  const fake = store();
  const batch = new Batch(fake);
  const results = Promise.allSettled(['a', 'b'].map((id) => batch.commit(write(id))));
  await turn();
  fake.begun[0]!.end(new StoreError('STORE_UNAVAILABLE', 'gone'));
  assert.deepEqual(
    (await results).map(({ status }) => status),
    ['rejected', 'rejected'],
  );
  assert.equal(fake.begun.length, 1, 'not tried again: that is for the host to do');
});

test('a write that the store cannot hold does not take down those beside it', async () => {
  const held: string[] = [];
  const batch = new Batch({
    intake: async (items) => {
      if (items.some(({ hostId }) => hostId === 'poison')) throw new StoreError('STORE_TEXT', 'a NUL');
      held.push(...items.map(({ hostId }) => hostId));
      return items.map(() => committed);
    },
  });
  const results = await Promise.allSettled(['a', 'poison', 'b'].map((id) => batch.commit(write(id))));
  assert.deepEqual(
    results.map(({ status }) => status),
    ['fulfilled', 'rejected', 'fulfilled'],
  );
  assert.deepEqual(held, ['a', 'b']);
});

test('drain waits for everything', async () => {
  const fake = store();
  const batch = new Batch(fake);
  const one = batch.commit(write('a'));
  let drained = false;
  const drain = batch.drain().then(() => (drained = true));
  await turn();
  assert.equal(drained, false);
  fake.begun[0]!.end();
  await Promise.all([one, drain]);
  await batch.drain();
});

test('a host has its share at once and then its share a second; another host is not touched', () => {
  const shares = new Shares({ burst: 3, perSecond: 0.5 });
  assert.deepEqual(
    [1, 2, 3, 4].map(() => shares.take('a', 0)),
    [0, 0, 0, 2],
  );
  assert.equal(shares.take('b', 0), 0);
  assert.equal(shares.take('a', 1000), 1);
  assert.equal(shares.take('a', 2000), 0);
  assert.equal(shares.take('a', 1000), 2, 'a clock that goes back gives nothing');
});

test('a large piece is taken on credit, and paid off before the next', () => {
  const shares = new Shares({ burst: 10, perSecond: 2 });
  assert.deepEqual([shares.take('a', 0, 8), shares.take('a', 0, 8), shares.wait('a', 0)], [0, 0, 4]);
  assert.deepEqual([shares.take('a', 3000, 1), shares.take('a', 4000, 1)], [1, 0]);
});

test('who asks how long to wait takes nothing', () => {
  const shares = new Shares({ burst: 1, perSecond: 0.5 });
  assert.deepEqual([shares.wait('a', 0), shares.wait('a', 0), shares.take('a', 0)], [0, 0, 0]);
  assert.deepEqual([shares.wait('a', 0), shares.wait('a', 1000), shares.take('a', 2000)], [2, 1, 0]);
});

test('what is looked at is bounded in number, and who only sends slowly keeps nobody out', () => {
  const load = new Load();
  const slow = Array.from({ length: INTAKE_PENDING_MAX }, () => load.open(false)!);
  const holds = Array.from({ length: INTAKE_PENDING_MAX }, () => load.open(false)!);
  for (const hold of holds) assert.ok(hold.begin());
  assert.ok(!slow[0]!.begin());
  slow[0]!.end();
  holds[0]!.end();
  assert.ok(slow[1]!.begin());
});

test('large bodies are bounded in bytes, as they come, and never keep out small ones', () => {
  const load = new Load();
  const first = load.open(true)!;
  assert.ok(first.add(INTAKE_BYTES_MAX - 1));
  const second = load.open(true)!;
  assert.ok(second.add(1));
  assert.ok(!second.add(1), 'told while it still comes');
  assert.equal(load.open(true), undefined);
  assert.ok(load.open(false)!.begin());
  second.end();
  assert.ok(load.open(true) !== undefined);
  first.end();
  assert.ok(load.open(true)!.add(INTAKE_BYTES_MAX));
});

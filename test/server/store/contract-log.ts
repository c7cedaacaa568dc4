/** The contract of server/store/logrecords.ts as tests: places, heads, checkpoints. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { appendLog, type Logged } from '#server/store/logpending.ts';
import type { LoggedEntry } from '#server/store/logrecords.ts';
import type { Store } from '#server/store/store.ts';
import { opened, openedEngine, type Suite } from './contract.ts';
import { ADMIN, absent, admit, commit, DAY, hostId, present, report, sha, T0 } from './make.ts';

const KEY = sha('log key');
const begin = (store: Store, origin = 'log.example/a') => store.log.begin({ origin, publicKey: KEY }, T0);
const sha256 = (...parts: Uint8Array[]) => createHash('sha256').update(Buffer.concat(parts)).digest();

/** RFC 6962 2.1, as it stands there. */
function mth(leaves: readonly Uint8Array[]): Uint8Array {
  if (leaves.length === 0) return sha256();
  if (leaves.length === 1) return leaves[0]!;
  let k = 1;
  while (k * 2 < leaves.length) k *= 2;
  return sha256(Buffer.of(1), mth(leaves.slice(0, k)), mth(leaves.slice(k)));
}

async function all(store: Store, log = 1): Promise<LoggedEntry[]> {
  const found: LoggedEntry[] = [];
  for (;;) {
    const more = await store.log.entries(log, found.length, 1000);
    found.push(...more);
    if (more.length < 1000) return found;
  }
}

const note = (n: number): Logged => {
  const payload = Buffer.from(`payload ${n}`);
  const facts = { report: 'full', seq: n + 1, copy: 0, count: null } as const;
  return { at: T0 + n, said: { kind: 'report', host: hostId(1), facts }, ref: `test:${n}`, payload, body: payload };
};

/** Rows, leaves, tiles and root fit each other. */
async function checkTree(store: Store): Promise<void> {
  const head = (await store.log.head())!;
  const rows = await all(store, head.log);
  assert.deepEqual(
    rows.map(({ index }) => index),
    rows.map((_, i) => i),
  );
  assert.equal(rows.length, head.size);
  for (const { entry, leaf } of rows) assert.deepEqual(Buffer.from(leaf), sha256(Buffer.of(0), entry));
  const root = mth(rows.map(({ leaf }) => leaf));
  assert.equal(Buffer.compare(head.root, root), 0);
  let level = rows.map(({ leaf }) => leaf);
  for (let l = 0; level.length > 0; l++) {
    const up: Uint8Array[] = [];
    for (let n = 0; n * 256 < level.length; n++) {
      const part = level.slice(n * 256, n * 256 + 256);
      assert.equal(Buffer.compare((await store.log.tile(head.log, l, n))!, Buffer.concat(part)), 0, `tile ${l}/${n}`);
      if (part.length === 256) up.push(mth(part));
    }
    assert.equal(await store.log.tile(head.log, l, Math.ceil(level.length / 256)), undefined);
    level = up;
  }
}

export function logs(suite: Suite): void {
  suite('what is appended gets a place each, in batches of any size, and the tree is RFC 6962’s', async (url, t) => {
    const { engine, store } = await openedEngine(t, url);
    const head = await begin(store);
    assert.equal(head.size, 0);
    assert.deepEqual(Buffer.from(head.root), sha256());
    let added = 0;
    for (const [count, limit] of [
      [1, 10],
      [2, 1],
      [300, 1000],
      [500, 130],
      [40, 20_000],
    ] as const) {
      await engine.write((tx) =>
        appendLog(
          tx,
          Array.from({ length: count }, (_, n) => note(added + n)),
        ),
      );
      added += count;
      while ((await store.log.sequence(1, limit))!.added > 0);
      await checkTree(store);
    }
    assert.equal((await store.log.head())!.size, added);
    assert.deepEqual(await store.log.pending(), { count: 0, oldest: null });
    const rows = await all(store);
    assert.deepEqual(
      rows.map(({ entry }) => (JSON.parse(Buffer.from(entry).toString()) as { facts: { seq: number } }).facts.seq - 1),
      rows.map((_, n) => n),
    );
  });

  suite('a transaction that is rolled back leaves nothing to log, a late one is not lost', async (url, t) => {
    const { engine, store } = await openedEngine(t, url);
    await begin(store);
    await assert.rejects(
      engine.write(async (tx) => {
        await appendLog(tx, [note(1)]);
        throw new Error('no');
      }),
    );
    assert.equal((await store.log.pending()).count, 0);
    if (engine.kind === 'postgres') {
      // One that began first and commits last, behind what is sequenced meanwhile.
      const late = engine.write(async (tx) => {
        await appendLog(tx, [note(0)]);
        await sleep(60);
      });
      await engine.write((tx) => appendLog(tx, [note(5)]));
      assert.equal((await store.log.sequence(1, 10))!.added, 1);
      await late;
      assert.equal((await store.log.sequence(1, 10))!.added, 1);
      await checkTree(store);
    }
  });

  suite('processes that sequence at once give no place twice', async (url, t) => {
    const { engine, store } = await openedEngine(t, url);
    const others = [await opened(t, url), await opened(t, url)];
    await begin(store);
    const writing = (async () => {
      for (let n = 0; n < 30; n++)
        await engine.write((tx) =>
          appendLog(
            tx,
            Array.from({ length: 7 }, (_, m) => note(7 * n + m)),
          ),
        );
    })();
    await Promise.all([
      writing,
      ...[store, ...others].map(async (one) => {
        for (let n = 0; n < 20; n++) await one.log.sequence(1, 13);
      }),
    ]);
    while ((await store.log.sequence(1, 13))!.added > 0);
    assert.equal((await store.log.head())!.size, 210);
    await checkTree(store);
  });

  suite('a second root of one size cannot be kept, nor what the tree does not say', async (url, t) => {
    const { engine, store } = await openedEngine(t, url);
    const { origin } = await begin(store);
    await engine.write((tx) => appendLog(tx, [note(1), note(2)]));
    const { head } = (await store.log.sequence(1, 10))!;
    const signed = { origin, size: 2, root: head.root, note: 'signed', at: T0 };
    assert.equal(await store.log.keepCheckpoint({ ...signed, size: 3 }), 'ahead');
    assert.equal(await store.log.keepCheckpoint({ ...signed, root: sha256() }), 'ahead');
    assert.equal(await store.log.keepCheckpoint({ ...signed, origin: 'log.example/b' }), 'ahead');
    assert.equal(await store.log.keepCheckpoint(signed), 'kept');
    assert.equal(await store.log.keepCheckpoint(signed), 'there');
    // Whatever stands in the head: the rows themselves do not take it.
    await engine.write(async (tx) => {
      await tx.db.updateTable('log_head').set({ root: sha256() }).where('id', '=', 1).execute();
    });
    assert.equal(await store.log.keepCheckpoint({ ...signed, root: sha256(), note: 'other' }), 'forked');
    await assert.rejects(
      engine.write(async ({ db }) => {
        await db
          .insertInto('log_checkpoint')
          .values({ ...signed, root: sha256() })
          .execute();
      }),
    );
    assert.equal((await store.log.newestCheckpoint(origin))!.note, 'signed');
  });

  suite('a restart ends a log and begins one that names where the old one was', async (url, t) => {
    const { engine, store } = await openedEngine(t, url);
    await begin(store);
    await engine.write((tx) => appendLog(tx, [note(1)]));
    await store.log.sequence(1, 10);
    const previous = { origin: 'log.example/a', size: 9, root: Buffer.from(sha256()).toString('base64') };
    const wanted = { origin: 'log.example/b', publicKey: KEY, previous, expect: 1 };
    assert.equal(await store.log.restart({ ...wanted, expect: 2 }, ADMIN), false);
    assert.equal(await store.log.restart({ ...wanted, origin: 'log.example/a' }, ADMIN), false);
    assert.equal(await store.log.restart(wanted, ADMIN), true);
    assert.equal(await store.log.restart(wanted, ADMIN), false);
    const head = (await store.log.head())!;
    assert.deepEqual([head.log, head.origin, head.size, head.previous], [2, 'log.example/b', 1, previous]);
    assert.equal(await store.log.sequence(1, 10), undefined);
    await store.log.sequence(2, 10);
    await checkTree(store);
    const [first, second] = await all(store, 2);
    assert.deepEqual((JSON.parse(Buffer.from(first!.entry).toString()) as { facts: unknown }).facts, { previous });
    assert.equal(second!.kind, 'act');
    assert.equal((await store.log.past())[0]!.size, 1);
    assert.equal((await all(store, 1)).length, 1);
    // Again in the same moment: each log has a first entry of its own.
    const next = { ...wanted, origin: 'log.example/c', previous: { ...previous, origin: 'log.example/b' }, expect: 2 };
    assert.equal(await store.log.restart(next, ADMIN), true);
    assert.equal((await all(store, 3)).length, 1);
  });

  suite('what others signed of a checkpoint is kept once, and how it went to ask them', async (url, t) => {
    const { anchors, log } = await opened(t, url);
    const origin = 'log.example/a';
    const line = (size: number, at = size) => ({ size, witness: 'w', line: `line ${size}`, at });
    const trouble = { code: 'WITNESS_KEY', text: 'no', alarm: false };
    // Of two at once one asks, and nobody does before it is time again.
    const claims = await Promise.all([anchors.claim('w', origin, 100, 40), anchors.claim('w', origin, 100, 40)]);
    assert.deepEqual(claims.filter(Boolean), [true]);
    assert.equal(await anchors.claim('w', origin, 150, 99), false);
    assert.equal(await anchors.claim('w', origin, 160, 100), true);
    for (const at of [10, 20]) await anchors.failed('w', origin, trouble, at);
    await anchors.failed('x', 'log.example/b', { ...trouble, alarm: true }, 5);
    const w = { anchor: 'w', origin, triedAt: 160 };
    assert.deepEqual(await anchors.states(origin), [
      { ...w, size: 0, at: null, trouble: { ...trouble, since: 10, times: 2 } },
    ]);
    await anchors.failed('w', origin, { ...trouble, code: 'WITNESS_ANSWER' }, 30);
    assert.deepEqual((await anchors.states(origin))[0]!.trouble?.times, 1);
    await anchors.cosigned(origin, line(7));
    await anchors.cosigned(origin, line(9));
    // An answer that was late: kept, and the newest stays.
    await anchors.cosigned(origin, line(8, 800));
    await anchors.cosigned(origin, { ...line(9), line: 'another' });
    assert.deepEqual(await anchors.states(origin), [{ ...w, size: 9, at: 9, trouble: null }]);
    assert.deepEqual(await anchors.cosignatures(origin, 9), [line(9)]);
    assert.deepEqual(await anchors.cosignatures('log.example/b', 9), []);
    assert.deepEqual(await anchors.cosignaturesIn(origin, 7, 9), [line(7), line(8, 800)]);
    assert.deepEqual(await anchors.cosignaturesIn(origin, 8, null), [line(8, 800), line(9)]);
    assert.deepEqual([await anchors.newestCosigned(origin), await anchors.newestCosigned('other')], [9, undefined]);
    const stamp = (size: number, authority: string) => ({ size, authority, token: Buffer.from([size]), at: 5 });
    for (const [size, authority] of [
      [4, 'b'],
      [4, 'a'],
      [2, 'a'],
    ] as const)
      await anchors.stamped(origin, stamp(size, authority));
    assert.deepEqual(await anchors.stamps(origin, 3), [stamp(4, 'a'), stamp(4, 'b')]);
    assert.deepEqual(await anchors.stamps(origin, 0, 4), [stamp(2, 'a')]);
    assert.deepEqual(await log.signedNames(), [origin]);
    await anchors.noted('kept by hosts', origin, 3, 1);
    await anchors.noted('kept by hosts', origin, 2, 9);
    assert.deepEqual(
      (await anchors.states(origin)).map(({ anchor, size, at }) => [anchor, size, at]),
      [
        ['kept by hosts', 3, 1],
        ['rfc3161 a', 4, 5],
        ['rfc3161 b', 4, 5],
        ['w', 9, 9],
      ],
    );
  });

  suite(
    'each act, each full report, each change and each day’s last same is logged with its commit',
    async (url, t) => {
      const { store } = await openedEngine(t, url);
      await begin(store);
      await admit(store, 1);
      const id = hostId(1);
      const kinds = async () => {
        while ((await store.log.sequence(1, 100))!.added > 0);
        return (await all(store)).map(({ kind }) => kind);
      };
      const before = (await kinds()).length;
      await commit(store, id, (host) => ({ ...report(host, 'full'), findings: [present(1), present(2)] }));
      await commit(store, id, (host) => report(host, 'same', T0 + 1000));
      await commit(store, id, (host) => report(host, 'same', T0 + 2000));
      assert.deepEqual((await kinds()).slice(before), ['report', 'judgement']);
      await commit(store, id, (host) => report(host, 'same', T0 + DAY));
      await commit(store, id, (host) => report(host, 'same', T0 + DAY + 1000));
      assert.deepEqual((await kinds()).slice(before), ['report', 'judgement', 'report']);
      await commit(store, id, (host) => ({ ...report(host, 'full', T0 + DAY + 2000), findings: [absent(1)] }));
      await store.sources.allow('docker://registry.example/os', {}, ADMIN);
      const added = (await kinds()).slice(before);
      assert.deepEqual([...added].sort(), ['act', 'judgement', 'judgement', 'report', 'report', 'report']);
      const rows = await all(store);
      const payloads = await store.log.payloads(rows.map((row) => row.id));
      for (const row of rows) {
        const { salt, bytes } = payloads.get(row.id)!;
        const { digest } = JSON.parse(Buffer.from(row.entry).toString()) as { digest: string };
        assert.equal(digest, `sha256:${sha256(salt!, bytes!).toString('hex')}`, row.kind);
      }
      const [receipt] = await store.log.receipts(`report:${id}/1/0`);
      assert.equal(rows[receipt!.index!]!.hostId, id);
    },
  );
}

/** The evidence log when the store fails in the middle of a turn, before or after it persisted: nothing is lost, told too early, or signed twice. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openCheckpoint } from '#src/log/checkpoint.ts';
import { sameBytes } from '#src/log/proof.ts';
import { nodeSigner, pkcs8OfSeed, verifyInPool } from '#src/signing/node.ts';
import { CheckpointFile } from '#server/log/checkpointfile.ts';
import { EvidenceLog } from '#server/log/evidencelog.ts';
import { StoreError, type Store } from '#server/store/store.ts';
import { opened, type Suite } from './contract.ts';
import { faulty, type Fault } from './faulty.ts';
import { ADMIN, T0 } from './make.ts';

const signer = nodeSigner(pkcs8OfSeed(new Uint8Array(32).fill(7)));
const METHODS = [
  'log.head',
  'log.begin',
  'log.sequence',
  'log.newestCheckpoint',
  'log.keepCheckpoint',
  'log.checkpoint',
  'log.tile',
];

const open = (store: Store, file: CheckpointFile) =>
  EvidenceLog.open(
    { store, clock: () => T0, log: () => {}, signer },
    { origin: undefined, defaultOrigin: 'log.example/crash', file },
  );
const act = (store: Store, n: number) =>
  store.audit.append(ADMIN, { action: 'test.act', object: `n:${n}`, before: null, after: null });

/** Whatever was told is durable, signed, and what the tree has at its size. */
async function check(store: Store, file: CheckpointFile, log: EvidenceLog): Promise<void> {
  const head = (await store.log.head())!;
  for (const one of await store.log.checkpoints(head.origin, 0, 100)) {
    const { root } = await openCheckpoint(one.note, log.key(head.origin), verifyInPool);
    assert.ok(sameBytes(root, (await log.reads.rootAt(head.log, one.size))!), `checkpoint ${one.size}`);
  }
  const note = file.read()!;
  const { size } = await openCheckpoint(note, log.key(head.origin), verifyInPool);
  assert.equal((await store.log.checkpoint(head.origin, size))!.note, note);
}

export function logCrashes(suite: Suite): void {
  suite('a log whose store fails at any call, persisted or not, goes on as if nothing had been', async (url, t) => {
    const store = await opened(t, url);
    const folder = mkdtempSync(join(tmpdir(), 'bootproof-crash-'));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    const file = new CheckpointFile(join(folder, 'log.checkpoint'));
    let acts = 0;
    let hits = 0;
    for (const method of METHODS)
      for (const fault of ['unpersisted', 'persisted'] satisfies Fault[])
        for (const nth of [1, 2]) {
          await act(store, acts++);
          let armed = true;
          const broken = faulty(store, (call) => {
            if (!armed || call.method !== method || call.nth !== nth) return undefined;
            hits++;
            return fault;
          });
          const turn = async () => {
            const log = await open(broken, file);
            await log.turn();
            await act(store, acts++);
            await log.turn();
            return log;
          };
          await turn().catch((error: unknown) => assert.ok(error instanceof StoreError, String(error)));
          armed = false;
          // The next process, which knows nothing of it.
          const next = await open(store, file);
          await next.turn();
          assert.equal(next.refusal, undefined, `${method} ${nth} ${fault}`);
          assert.equal(next.published!.checkpoint.size, acts, `${method} ${nth} ${fault}`);
          await check(store, file, next);
        }
    assert.ok(hits >= 2 * METHODS.length, `${hits} calls failed`);
    assert.equal((await store.log.entries(1, 0, 1000)).length, acts);
  });

  suite('two processes that turn at once sign one tree, and each publishes it', async (url, t) => {
    const folder = mkdtempSync(join(tmpdir(), 'bootproof-crash-'));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    const stores = [await opened(t, url), await opened(t, url)];
    const files = [1, 2].map((n) => new CheckpointFile(join(folder, String(n))));
    const logs = await Promise.all(stores.map((store, i) => open(store, files[i]!)));
    for (let round = 0; round < 5; round++) {
      await Promise.all(stores.flatMap((store, i) => [act(store, 10 * round + i), act(store, 10 * round + i + 5)]));
      await Promise.all(logs.map((log) => log.turn()));
    }
    for (const log of logs) await log.turn();
    for (const [i, log] of logs.entries()) {
      assert.equal(log.refusal, undefined);
      assert.equal(log.published!.checkpoint.size, 20);
      await check(stores[i]!, files[i]!, log);
    }
  });
}

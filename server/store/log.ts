/** The evidence log's rows: giving places, keeping what was signed, reading tiles and entries (docs/log.md). */
import assert from 'node:assert/strict';
import type { ReadonlyKysely } from 'kysely/readonly';
import { toBase64 } from '#src/bytes.ts';
import type { NamedHead } from '#src/log/entry.ts';
import { treeHash } from '#src/log/proof.ts';
import { writeAudit } from './audit.ts';
import type { Engine, Tx } from './engine.ts';
import { nodeSha, pendingOf, type Logged } from './logpending.ts';
import { judgedDiffers, payloadsOf, purgesOf } from './logpayload.ts';
import type { LogHead, LoggedEntry, LogRows, StoredCheckpoint } from './logrecords.ts';
import { growTiles } from './logtree.ts';
import type { LogEntryRow, LogHeadRow, LogPastRow, LogPendingRow, Tables } from './tables.ts';

const TREE = treeHash(nodeSha);

const headOf = (row: Omit<LogHeadRow, 'id' | 'compact'>): LogHead => ({
  log: row.log,
  origin: row.origin,
  publicKey: row.public_key,
  size: row.size,
  root: row.root,
  beganAt: row.began_at,
  previous: row.previous === null ? null : (JSON.parse(row.previous) as NamedHead),
});

/** The head's row is the sequencer's lock: whoever holds it is alone in giving places. */
function lockedHead({ db, locks }: Tx): Promise<LogHeadRow | undefined> {
  let query = db.selectFrom('log_head').selectAll().where('id', '=', 1);
  if (locks) query = query.forUpdate();
  return query.executeTakeFirst();
}

async function newHead(
  { db }: Tx,
  log: number,
  { origin, publicKey }: Pick<LogHead, 'origin' | 'publicKey'>,
  previous: NamedHead | null,
  at: number,
): Promise<LogHeadRow> {
  const row: LogHeadRow = {
    id: 1,
    log,
    origin,
    public_key: publicKey,
    size: 0,
    root: TREE.empty,
    compact: new Uint8Array(),
    began_at: at,
    previous: previous && JSON.stringify(previous),
  };
  await db
    .insertInto('log_head')
    .values(row)
    .onConflict((conflict) => conflict.column('id').doNothing())
    .execute();
  return row;
}

/** Gives rows their places behind the head. The caller holds the head's lock, and deletes them where they waited. */
async function place(tx: Tx, head: LogHeadRow, rows: readonly LogPendingRow[]): Promise<LogHeadRow> {
  const { db, bulk } = tx;
  const leaves = rows.map(({ entry }) => TREE.leaf(entry));
  const grown = await growTiles(head, leaves, TREE, async (level, n) => {
    const row = await db
      .selectFrom('log_tile')
      .select('hashes')
      .where('log', '=', head.log)
      .where('level', '=', level)
      .where('n', '=', n)
      .executeTakeFirst();
    return row?.hashes;
  });
  await bulk.insert(
    'log_entry',
    ['log', 'idx', 'id', 'at', 'kind', 'host_id', 'entry', 'leaf'],
    rows.map(({ id, at, kind, host_id, entry }, i) => ({
      log: head.log,
      idx: head.size + i,
      id,
      at,
      kind,
      host_id,
      entry,
      leaf: leaves[i]!,
    })),
  );
  await bulk.insert(
    'log_payload',
    ['id', 'ref', 'salt', 'body', 'purged_at'],
    rows.map(({ id, ref, salt, body }) => ({ id, ref, salt, body, purged_at: null })),
  );
  await bulk.insert(
    'log_tile',
    ['log', 'level', 'n', 'hashes'],
    grown.tiles.map((tile) => ({ log: head.log, ...tile })),
    { key: ['log', 'level', 'n'], set: ['hashes'] },
  );
  const { size, root, compact } = grown;
  // The lock alone would do where it is kept; the comparison holds everywhere.
  const moved = await db
    .updateTable('log_head')
    .set({ size, root, compact })
    .where('id', '=', 1)
    .where('log', '=', head.log)
    .where('size', '=', head.size)
    .executeTakeFirst();
  assert.equal(moved.numUpdatedRows, 1n, 'the head is where the lock found it');
  return { ...head, size, root, compact };
}

async function sequenceIn(tx: Tx, log: number, limit: number) {
  const head = await lockedHead(tx);
  if (head?.log !== log) return undefined;
  // Whatever waits, never "behind the last one seen": a transaction that began earlier may commit later.
  const rows = await tx.db.selectFrom('log_pending').selectAll().orderBy('id').limit(limit).execute();
  if (rows.length === 0) return { head: headOf(head), added: 0 };
  const next = await place(tx, head, rows);
  const ids = rows.map(({ id }) => id);
  for (let from = 0; from < ids.length; from += 500)
    await tx.db
      .deleteFrom('log_pending')
      .where('id', 'in', ids.slice(from, from + 500))
      .execute();
  return { head: headOf(next), added: rows.length };
}

async function restartIn(
  tx: Tx,
  wanted: Parameters<LogRows['restart']>[0],
  by: Parameters<LogRows['restart']>[1],
): Promise<boolean> {
  const { db } = tx;
  const old = await lockedHead(tx);
  if ((old?.log ?? null) !== wanted.expect) return false;
  const used = await db.selectFrom('log_past').select('log').where('origin', '=', wanted.origin).executeTakeFirst();
  if (used !== undefined || wanted.origin === old?.origin || wanted.origin === wanted.previous.origin) return false;
  if (old !== undefined) {
    const { id: _, compact: __, ...kept } = old;
    await db
      .insertInto('log_past')
      .values({ ...kept, ended_at: by.at })
      .execute();
    await db.deleteFrom('log_head').where('id', '=', 1).execute();
  }
  const head = await newHead(tx, (old?.log ?? 0) + 1, wanted, wanted.previous, by.at);
  const found = old && { origin: old.origin, size: old.size, root: toBase64(old.root) };
  const body = Buffer.from(JSON.stringify({ previous: wanted.previous, found: found ?? null, by: by.actor }));
  const first: Logged = {
    at: by.at,
    said: { kind: 'restart', host: null, facts: { previous: wanted.previous } },
    ref: `restart:${head.log}`,
    payload: body,
    body,
  };
  // Its number, not chance: no other entry has it, whatever the clock says.
  await place(tx, head, [pendingOf(first, 0, String(head.log).padStart(16, '0'))]);
  await writeAudit(tx, by, {
    action: 'log.restart',
    object: `log:${head.log}`,
    before: found ?? null,
    after: { origin: wanted.origin, previous: wanted.previous },
  });
  return true;
}

const checkpointOf = (row: Tables['log_checkpoint']): StoredCheckpoint => ({ ...row });
const entryOf = ({ idx, host_id, ...row }: LogEntryRow): LoggedEntry => ({ ...row, index: idx, hostId: host_id });
const isSame = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;

/** What is signed must be in the tree as it stands, at its own size, or be an earlier checkpoint of it. */
async function keepIn(tx: Tx, checkpoint: StoredCheckpoint): Promise<'kept' | 'there' | 'forked' | 'ahead'> {
  const { origin, size, root, note, at } = checkpoint;
  const head = await lockedHead(tx);
  if (head?.origin !== origin || head.size < size || (head.size === size && !isSame(head.root, root))) return 'ahead';
  const made = await tx.db
    .insertInto('log_checkpoint')
    .values({ origin, size, root, note, at })
    .onConflict((conflict) => conflict.columns(['origin', 'size']).doNothing())
    .executeTakeFirst();
  if ((made.numInsertedOrUpdatedRows ?? 0n) > 0n) return 'kept';
  const standing = await checkpointIn(tx.db as unknown as ReadonlyKysely<Tables>, origin, size);
  return isSame(standing!.root, root) ? 'there' : 'forked';
}

function checkpointIn(db: ReadonlyKysely<Tables>, origin: string, size: number) {
  return db
    .selectFrom('log_checkpoint')
    .selectAll()
    .where('origin', '=', origin)
    .where('size', '=', size)
    .executeTakeFirst();
}

export function logOn(engine: Engine): LogRows {
  const head = () =>
    engine.reading(async (db) => {
      const row = await db.selectFrom('log_head').selectAll().where('id', '=', 1).executeTakeFirst();
      return row && headOf(row);
    });
  return {
    head,
    past: () =>
      engine.reading(async (db) => {
        const rows = await db.selectFrom('log_past').selectAll().orderBy('log').execute();
        return rows.map((row: LogPastRow) => ({ ...headOf(row), endedAt: row.ended_at }));
      }),
    signedNames: () =>
      engine.reading(async (db) => {
        const names = new Set<string>();
        for (const table of ['log_checkpoint', 'log_cosignature', 'log_timestamp'] as const)
          // From one to the next: a log has a checkpoint for many a second.
          for (let after: string | undefined; ;) {
            let query = db.selectFrom(table).select('origin').orderBy('origin').limit(1);
            if (after !== undefined) query = query.where('origin', '>', after);
            const row = await query.executeTakeFirst();
            if (row === undefined) break;
            names.add(row.origin);
            after = row.origin;
          }
        return [...names].sort();
      }),
    begin: (wanted, at) =>
      engine.write(async (tx) => {
        await newHead(tx, 1, wanted, null, at);
        const row = await tx.db.selectFrom('log_head').selectAll().where('id', '=', 1).executeTakeFirstOrThrow();
        return headOf(row);
      }),
    restart: (wanted, by) => engine.write((tx) => restartIn(tx, wanted, by)),
    pending: () =>
      engine.reading(async (db) => {
        const { count, oldest } = await db
          .selectFrom('log_pending')
          .select((eb) => [eb.fn.countAll<number>().as('count'), eb.fn.min('at').as('oldest')])
          .executeTakeFirstOrThrow();
        return { count, oldest };
      }),
    async sequence(log, limit) {
      // Nothing waits, as a rule: then no lock is taken.
      const idle = await engine.reading(async (db) => {
        const waiting = await db.selectFrom('log_pending').select('id').limit(1).executeTakeFirst();
        return waiting === undefined
          ? await db.selectFrom('log_head').selectAll().where('id', '=', 1).executeTakeFirst()
          : null;
      });
      if (idle === undefined || (idle !== null && idle.log !== log)) return undefined;
      return idle === null ? engine.write((tx) => sequenceIn(tx, log, limit)) : { head: headOf(idle), added: 0 };
    },
    keepCheckpoint: (checkpoint) => engine.write((tx) => keepIn(tx, checkpoint)),
    newestCheckpoint: (origin) =>
      engine.reading(async (db) => {
        const row = await db
          .selectFrom('log_checkpoint')
          .selectAll()
          .where('origin', '=', origin)
          .orderBy('size', 'desc')
          .limit(1)
          .executeTakeFirst();
        return row && checkpointOf(row);
      }),
    checkpoint: (origin, size) =>
      engine.reading(async (db) => {
        const row = await checkpointIn(db, origin, size);
        return row && checkpointOf(row);
      }),
    checkpoints: (origin, from, limit) =>
      engine.reading(async (db) => {
        const rows = await db
          .selectFrom('log_checkpoint')
          .selectAll()
          .where('origin', '=', origin)
          .where('size', '>=', from)
          .orderBy('size')
          .limit(limit)
          .execute();
        return rows.map(checkpointOf);
      }),
    tile: (log, level, n) =>
      engine.reading(async (db) => {
        const row = await db
          .selectFrom('log_tile')
          .select('hashes')
          .where('log', '=', log)
          .where('level', '=', level)
          .where('n', '=', n)
          .executeTakeFirst();
        return row?.hashes;
      }),
    entries: (log, from, limit) =>
      engine.reading(async (db) => {
        const rows = await db
          .selectFrom('log_entry')
          .selectAll()
          .where('log', '=', log)
          .where('idx', '>=', from)
          .orderBy('idx')
          .limit(limit)
          .execute();
        return rows.map(entryOf);
      }),
    payloads: (ids) => engine.reading((db) => payloadsOf(db, ids)),
    purges: (refs) => engine.reading((db) => purgesOf(db, refs)),
    judgedDiffers: (payloads) => engine.reading((_, select) => judgedDiffers(select, payloads)),
    receipts: (ref) =>
      engine.reading(async (db) => {
        // What waits first: a row goes from there to here, and never back.
        const waiting = await db.selectFrom('log_pending').select('id').where('ref', '=', ref).execute();
        const placed = await db
          .selectFrom('log_payload')
          .innerJoin('log_entry', 'log_entry.id', 'log_payload.id')
          .select(['log_payload.id', 'log_entry.log', 'log_entry.idx'])
          .where('log_payload.ref', '=', ref)
          .orderBy('log_entry.log')
          .orderBy('log_entry.idx')
          .execute();
        const known = new Set(placed.map(({ id }) => id));
        return [
          ...placed.map(({ id, log, idx }) => ({ id, log, index: idx })),
          ...waiting.flatMap(({ id }) => (known.has(id) ? [] : [{ id, log: null, index: null }])),
        ];
      }),
  };
}

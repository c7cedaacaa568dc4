/**
 * Acts on many. What an act covers is copied when it is previewed: a finding that arrives later is in another act, and an act that was
 * cut off goes on with the items that have no result yet.
 */
import { sql, type Kysely } from 'kysely';
import type { ReadonlyKysely } from 'kysely/readonly';
import { BULK_ITEMS_MAX } from '#src/limits.ts';
import { writeAudit } from './audit.ts';
import type { Bulks } from './decided.ts';
import type { Engine, Tx } from './engine.ts';
import { DISPOSITIONS } from './findingdraft.ts';
import { enqueue } from './jobs.ts';
import { findingParts, findingSelection, groupParts, groupSelection, walksOf } from './read/findings.ts';
import { beyond, pageOf } from './read/page.ts';
import type * as r from './records.ts';
import type { BulkItemRow, BulkRow, Tables } from './tables.ts';

const bulkOf = (row: BulkRow): r.Bulk => ({
  id: row.id,
  actor: row.actor,
  action: row.action,
  terms: JSON.parse(row.terms) as unknown,
  filter: JSON.parse(row.filter) as unknown,
  asOf: row.as_of,
  matched: row.matched,
  state: row.state as r.BulkState,
  expiresAt: row.expires_at,
  applyKey: row.apply_key,
  appliedAt: row.applied_at,
  doneAt: row.done_at,
  changed: row.changed,
  skipped: row.skipped,
  undoUntil: row.undo_until,
  undoes: row.undoes,
});

const itemOf = (row: BulkItemRow): r.BulkItem => ({
  hostId: row.host_id,
  groupId: row.group_id,
  episode: row.episode,
  result: row.result,
  before: row.before === null ? null : (JSON.parse(row.before) as unknown),
});

const ITEM = ['bulk_id', 'host_id', 'group_id', 'episode'] as const;

/** Copies what is covered; false where it is more than one act may cover. */
async function cover(tx: Tx, id: string, what: Parameters<Bulks['preview']>[1], engine: Engine): Promise<boolean> {
  const { db } = tx;
  let left = BULK_ITEMS_MAX + 1;
  const copied = async (): Promise<boolean> => {
    const { count } = await db
      .selectFrom('bulk_item')
      .select((eb) => eb.fn.countAll<number>().as('count'))
      .where('bulk_id', '=', id)
      .executeTakeFirstOrThrow();
    left = BULK_ITEMS_MAX + 1 - count;
    return left > 0;
  };
  if (what.kind === 'items') {
    const rows = what.items.map(({ hostId, groupId }) => ({ bulk_id: id, host_id: hostId, group_id: groupId }));
    const known = await tx.bulk.select('finding', ['host_id', 'group_id', 'episode'], ['host_id', 'group_id'], rows);
    const episodes = new Map(known.map((row) => [`${row.host_id} ${row.group_id}`, row.episode]));
    const unique = new Map(rows.map((row) => [`${row.host_id} ${row.group_id}`, row]));
    await tx.bulk.insert(
      'bulk_item',
      [...ITEM],
      [...unique].map(([key, row]) => ({ ...row, episode: episodes.get(key) ?? 0 })),
    );
    return copied();
  }
  if (what.kind === 'groups') {
    const parts = groupParts(what.filter, engine.kind);
    for (const walk of walksOf(parts)) {
      const chosen = groupSelection(db as unknown as ReadonlyKysely<Tables>, what.filter, parts, walk)
        .select([
          sql<string>`${id}`.as('bulk_id'),
          sql<string>`''`.as('host_id'),
          'finding_group.id',
          'finding_group.revision',
        ])
        .limit(left);
      await db
        .insertInto('bulk_item')
        .columns([...ITEM])
        .expression(chosen)
        .execute();
      if (!(await copied())) return false;
    }
    return true;
  }
  const parts = findingParts(what.filter, engine.kind);
  for (const walk of walksOf(parts)) {
    const chosen = findingSelection(db as unknown as ReadonlyKysely<Tables>, parts, walk)
      .innerJoin('finding_group', 'finding_group.id', 'finding.group_id')
      .innerJoin('host', 'host.id', 'finding.host_id')
      .innerJoin('pulse', 'pulse.host_id', 'finding.host_id')
      .select([sql<string>`${id}`.as('bulk_id'), 'finding.host_id', 'finding.group_id', 'finding.episode'])
      .limit(left);
    await db
      .insertInto('bulk_item')
      .columns([...ITEM])
      .expression(chosen)
      .execute();
    if (!(await copied())) return false;
  }
  return true;
}

/** Undoes everything of a preview that covers too much. */
class TooMany extends Error {}

export function bulksOn(engine: Engine): Bulks {
  const find = async (db: Kysely<Tables>, id: string, lock: boolean): Promise<BulkRow | undefined> => {
    const query = db.selectFrom('bulk').selectAll().where('id', '=', id);
    return (lock ? query.forUpdate() : query).executeTakeFirst();
  };
  return {
    async preview(bulk, what) {
      try {
        return await engine.write(async (tx) => {
          if (!(await cover(tx, bulk.id, what, engine))) throw new TooMany();
          const { matched } = await tx.db
            .selectFrom('bulk_item')
            .select((eb) => eb.fn.countAll<number>().as('matched'))
            .where('bulk_id', '=', bulk.id)
            .executeTakeFirstOrThrow();
          const row: BulkRow = {
            id: bulk.id,
            actor: bulk.actor,
            action: bulk.action,
            terms: JSON.stringify(bulk.terms ?? null),
            filter: JSON.stringify(bulk.filter ?? null),
            as_of: bulk.asOf,
            matched,
            state: 'previewed',
            expires_at: bulk.expiresAt,
            apply_key: null,
            applied_at: null,
            done_at: null,
            changed: 0,
            skipped: 0,
            undo_until: null,
            undoes: null,
          };
          await tx.db.insertInto('bulk').values(row).execute();
          return bulkOf(row);
        });
      } catch (error) {
        if (error instanceof TooMany) return undefined;
        throw error;
      }
    },
    get: (id) =>
      engine.reading(async (db) => {
        const row = await find(db as unknown as Kysely<Tables>, id, false);
        return row === undefined ? undefined : bulkOf(row);
      }),
    begin: (id, applyKey, by, jobs) =>
      engine.write(async (tx) => {
        const row = await find(tx.db, id, tx.locks);
        if (row === undefined) return undefined;
        // The same request again: the answer is what became of the first one.
        if (row.state !== 'previewed') return row.apply_key === applyKey ? bulkOf(row) : undefined;
        if (row.expires_at <= by.at) return undefined;
        const next = { ...row, state: 'applying', apply_key: applyKey, applied_at: by.at };
        await tx.db
          .updateTable('bulk')
          .set({ state: next.state, apply_key: applyKey, applied_at: by.at })
          .where('id', '=', id)
          .execute();
        await writeAudit(tx, by, {
          action: row.action,
          object: `bulk:${id}`,
          before: null,
          after: {
            terms: JSON.parse(row.terms) as unknown,
            filter: JSON.parse(row.filter) as unknown,
            matched: row.matched,
          },
        });
        await enqueue(tx, jobs);
        return bulkOf(next);
      }),
    todo: (id, limit) =>
      engine.reading(async (db) => {
        const rows = await db
          .selectFrom('bulk_item')
          .selectAll()
          .where('bulk_id', '=', id)
          .where('result', 'is', null)
          .orderBy('host_id')
          .orderBy('group_id')
          .limit(limit)
          .execute();
        return rows.map(itemOf);
      }),
    note: (id, items) =>
      engine.write(async (tx) => {
        // Its row is the lock: two workers never count one item twice.
        const row = await find(tx.db, id, tx.locks);
        if (row === undefined) return;
        const keys = items.map(({ hostId, groupId }) => ({ bulk_id: id, host_id: hostId, group_id: groupId }));
        const standing = await tx.bulk.select(
          'bulk_item',
          ['bulk_id', 'host_id', 'group_id', 'result'],
          ['bulk_id', 'host_id', 'group_id'],
          keys,
        );
        const waiting = new Set(
          standing.filter(({ result }) => result === null).map((one) => `${one.host_id} ${one.group_id}`),
        );
        const rows = items
          .filter(({ hostId, groupId }) => waiting.has(`${hostId} ${groupId}`))
          .map((item) => ({
            bulk_id: id,
            host_id: item.hostId,
            group_id: item.groupId,
            result: item.result,
            before: JSON.stringify(item.before ?? null),
          }));
        await tx.bulk.update('bulk_item', ['bulk_id', 'host_id', 'group_id'], ['result', 'before'], rows);
        const changed = rows.filter(({ result }) => result === 'changed').length;
        await tx.db
          .updateTable('bulk')
          .set({ changed: row.changed + changed, skipped: row.skipped + rows.length - changed })
          .where('id', '=', id)
          .execute();
      }),
    end: (id, at, undoUntil) =>
      engine.write(async (tx) => {
        await tx.db
          .updateTable('bulk')
          .set({ state: 'done', done_at: at, undo_until: undoUntil })
          .where('id', '=', id)
          .where('state', '=', 'applying')
          .execute();
      }),
    undo: (id, by, jobs) =>
      engine.write(async (tx) => {
        const row = await find(tx.db, id, tx.locks);
        if (row?.state !== 'done' || row.undo_until === null || row.undo_until <= by.at) return undefined;
        const undo: BulkRow = {
          ...row,
          id: `${id}.undo`,
          actor: by.actor,
          action: `${row.action}.undo`,
          as_of: by.at,
          state: 'applying',
          expires_at: by.at,
          apply_key: '',
          applied_at: by.at,
          done_at: null,
          changed: 0,
          skipped: 0,
          undo_until: null,
          undoes: id,
        };
        await tx.db.updateTable('bulk').set({ state: 'undone', undo_until: null }).where('id', '=', id).execute();
        const items = tx.db
          .selectFrom('bulk_item')
          .select([sql<string>`${undo.id}`.as('bulk_id'), 'host_id', 'group_id', 'episode', 'before'])
          .where('bulk_id', '=', id)
          .where('result', '=', 'changed');
        await tx.db
          .insertInto('bulk_item')
          .columns([...ITEM, 'before'])
          .expression(items)
          .execute();
        const { matched } = await tx.db
          .selectFrom('bulk_item')
          .select((eb) => eb.fn.countAll<number>().as('matched'))
          .where('bulk_id', '=', undo.id)
          .executeTakeFirstOrThrow();
        await tx.db
          .insertInto('bulk')
          .values({ ...undo, matched })
          .execute();
        await writeAudit(tx, by, { action: undo.action, object: `bulk:${id}`, before: null, after: { matched } });
        await enqueue(tx, jobs);
        return bulkOf({ ...undo, matched });
      }),
    items: (id, page) =>
      engine.reading(async (db) => {
        let query = (db as unknown as Kysely<Tables>)
          .selectFrom('bulk_item')
          .selectAll()
          .where('bulk_id', '=', id)
          .orderBy('host_id')
          .orderBy('group_id')
          .limit(page.limit + 1);
        if (page.cursor !== null)
          query = query.where(beyond(['host_id', 'group_id'], 'up', [page.cursor.hostId, page.cursor.groupId]));
        return pageOf(await query.execute(), page.limit, itemOf, ({ host_id, group_id }) => ({
          hostId: host_id,
          groupId: group_id,
        }));
      }),
    summary: (id) =>
      engine.reading(async (db) => {
        const rows = await db
          .selectFrom('bulk_item')
          .leftJoin('finding', (join) =>
            join
              .onRef('finding.host_id', '=', 'bulk_item.host_id')
              .onRef('finding.group_id', '=', 'bulk_item.group_id')
              .onRef('finding.episode', '=', 'bulk_item.episode')
              .on('finding.is_open', '=', (eb) => eb.lit(1)),
          )
          .select((eb) => [
            'finding.disposition',
            eb.fn.countAll<number>().as('count'),
            eb.fn.count<number>('bulk_item.host_id').distinct().as('hosts'),
          ])
          .where('bulk_item.bulk_id', '=', id)
          .groupBy('finding.disposition')
          .orderBy('finding.disposition')
          .execute();
        return rows.map(({ disposition, count, hosts }) => ({
          disposition: disposition === null ? null : DISPOSITIONS[disposition]!,
          count,
          hosts,
        }));
      }),
    sweep: (now) =>
      engine.write(async ({ db }) => {
        const old = await db
          .selectFrom('bulk')
          .select('id')
          .where('state', '=', 'previewed')
          .where('expires_at', '<=', now)
          .limit(100)
          .execute();
        for (const { id } of old) {
          await db.deleteFrom('bulk_item').where('bulk_id', '=', id).execute();
          await db.deleteFrom('bulk').where('id', '=', id).execute();
        }
      }),
  };
}

/**
 * Acts on many. What an act covers is copied when it is previewed: a finding that arrives later is in another act, and an act that was
 * cut off goes on with the items that have no result yet.
 */
import { sql, type Expression, type Kysely } from 'kysely';
import type { ReadonlyKysely } from 'kysely/readonly';
import { BULK_ITEMS_MAX } from '#src/limits.ts';
import { writeAudit } from './audit.ts';
import type { Bulks } from './decided.ts';
import type { Engine, Tx } from './engine.ts';
import { DISPOSITIONS } from './findingdraft.ts';
import { disposeIn } from './findings.ts';
import { enqueue } from './jobs.ts';
import { findingParts, findingSelection, groupParts, groupSelection, walksOf } from './read/findings.ts';
import { within } from './read/line.ts';
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
  const copy = async (chosen: Expression<unknown>): Promise<boolean> => {
    await db
      .insertInto('bulk_item')
      .columns([...ITEM])
      .expression(chosen)
      .execute();
    return copied();
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
      if (!(await copy(chosen))) return false;
    }
    return true;
  }
  const parts = findingParts(what.filter, engine.kind);
  for (const walk of walksOf(parts)) {
    const chosen = findingSelection(db as unknown as ReadonlyKysely<Tables>, parts, walk)
      .select([sql<string>`${id}`.as('bulk_id'), 'finding.host_id', 'finding.group_id', 'finding.episode'])
      .limit(left);
    if (!(await copy(chosen))) return false;
  }
  return true;
}

type Done = { readonly result: string; readonly before: unknown };

async function disposeItems(
  tx: Tx,
  items: readonly r.BulkItem[],
  disposal: (item: r.BulkItem) => r.Disposal | null,
  by: r.Act,
): Promise<Done[]> {
  const planned = items.map((item) => {
    const wanted = disposal(item);
    return wanted === null ? null : { hostId: item.hostId, disposal: { ...wanted, episode: item.episode } };
  });
  const wanted = planned.filter((one) => one !== null);
  const results = await disposeIn(tx, wanted, by, null);
  let at = 0;
  return planned.map((one) => (one === null ? { result: 'so_already', before: null } : results[at++]!));
}

async function assignItems(
  tx: Tx,
  items: readonly r.BulkItem[],
  to: (item: r.BulkItem) => { readonly assignee: string | null; readonly expect?: string | null },
): Promise<Done[]> {
  const rows = await tx.bulk.select(
    'finding_group',
    ['id', 'assignee', 'revision'],
    ['id'],
    items.map(({ groupId }) => ({ id: groupId })).sort((a, b) => (a.id < b.id ? -1 : 1)),
    true,
  );
  const known = new Map(rows.map((row) => [row.id, row]));
  const changes: { id: string; assignee: string | null; revision: number }[] = [];
  const done = items.map((item): Done => {
    const row = known.get(item.groupId);
    if (row === undefined) return { result: 'resolved', before: null };
    const { assignee, expect } = to(item);
    const before = { assignee: row.assignee };
    // Claimed, or given to somebody, since it was looked at.
    if (expect === undefined && row.revision !== item.episode) return { result: 'changed_meanwhile', before };
    if (row.assignee === assignee || (expect !== undefined && expect !== row.assignee))
      return { result: 'so_already', before };
    changes.push({ id: row.id, assignee, revision: row.revision + 1 });
    return { result: 'changed', before };
  });
  await tx.bulk.update('finding_group', ['id'], ['assignee', 'revision'], changes);
  return done;
}

/** Items on hosts that are not the actor's any more, and groups that none of theirs shows, are done with. Answers how many. */
async function leaveOut({ db }: Tx, id: string, scope: readonly string[] | null): Promise<number> {
  if (scope === null) return 0;
  const theirs = within(sql.ref('host.host_group'), scope);
  const left = await db
    .updateTable('bulk_item')
    .set({ result: 'not_yours' })
    .where('bulk_id', '=', id)
    .where('result', 'is', null)
    .where(
      sql<boolean>`not (case when bulk_item.host_id = ''
        then exists (select 1 from finding join host on host.id = finding.host_id
          where finding.group_id = bulk_item.group_id and ${theirs})
        else exists (select 1 from host where host.id = bulk_item.host_id and ${theirs}) end)`,
    )
    .executeTakeFirst();
  const skipped = Number(left.numUpdatedRows);
  if (skipped > 0) await db.updateTable('bulk').set({ skipped }).where('id', '=', id).execute();
  return skipped;
}

/** What an act covers, with the finding as it stands now; none where it ended, or ended and came back. */
const itemsNow = (db: Kysely<Tables>, id: string) =>
  db
    .selectFrom('bulk_item')
    .leftJoin('finding', (join) =>
      join
        .onRef('finding.host_id', '=', 'bulk_item.host_id')
        .onRef('finding.group_id', '=', 'bulk_item.group_id')
        .onRef('finding.episode', '=', 'bulk_item.episode')
        .on('finding.is_open', '=', (eb) => eb.lit(1)),
    )
    .where('bulk_item.bulk_id', '=', id);

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
    begin: (id, applyKey, by, scope, jobs) =>
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
        const skipped = await leaveOut(tx, id, scope);
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
        return bulkOf({ ...next, skipped });
      }),
    step: (id, limit, plan, by) =>
      engine.write(async (tx) => {
        // Its row is the lock: two workers never do one item twice.
        const row = await find(tx.db, id, tx.locks);
        if (row?.state !== 'applying') return 0;
        const rows = await tx.db
          .selectFrom('bulk_item')
          .selectAll()
          .where('bulk_id', '=', id)
          .where('result', 'is', null)
          .orderBy('host_id')
          .orderBy('group_id')
          .limit(limit)
          .execute();
        if (rows.length === 0) return 0;
        const items = rows.map(itemOf);
        const done =
          plan.kind === 'dispose'
            ? await disposeItems(tx, items, plan.disposal, by)
            : await assignItems(tx, items, plan.to);
        const noted = items.map((item, at) => ({
          bulk_id: id,
          host_id: item.hostId,
          group_id: item.groupId,
          result: done[at]!.result,
          // What was there before an act is what taking it back restores.
          before: row.undoes === null ? JSON.stringify(done[at]!.before) : JSON.stringify(item.before ?? null),
        }));
        await tx.bulk.update('bulk_item', ['bulk_id', 'host_id', 'group_id'], ['result', 'before'], noted);
        const changed = noted.filter(({ result }) => result === 'changed').length;
        await tx.db
          .updateTable('bulk')
          .set({ changed: row.changed + changed, skipped: row.skipped + noted.length - changed })
          .where('id', '=', id)
          .execute();
        return items.length;
      }),
    end: (id, by, undoUntil) =>
      engine.write(async (tx) => {
        const row = await find(tx.db, id, tx.locks);
        if (row?.state !== 'applying') return;
        await tx.db
          .updateTable('bulk')
          .set({ state: 'done', done_at: by.at, undo_until: undoUntil })
          .where('id', '=', id)
          .execute();
        const groups = await tx.db
          .selectFrom('bulk_item')
          .select((eb) => ['group_id', eb.fn.countAll<number>().as('count')])
          .where('bulk_id', '=', id)
          .where('result', '=', 'changed')
          .groupBy('group_id')
          .orderBy('group_id')
          .execute();
        // Whose hosts they were: in whose story it stands.
        const places = await tx.db
          .selectFrom('bulk_item')
          .innerJoin('host', 'host.id', 'bulk_item.host_id')
          .select(['bulk_item.group_id', 'host.host_group'])
          .distinct()
          .where('bulk_item.bulk_id', '=', id)
          .where('bulk_item.result', '=', 'changed')
          .where('host.host_group', 'is not', null)
          .orderBy('host.host_group')
          .execute();
        const scopes = Map.groupBy(places, ({ group_id }) => group_id);
        for (const { group_id, count } of groups)
          await writeAudit(tx, by, {
            action: row.action.replace('finding.', 'group.'),
            object: `group:${group_id}`,
            before: null,
            after: {
              ...(JSON.parse(row.terms) as object | null),
              findings: count,
              act: id,
              scope: (scopes.get(group_id) ?? []).map(({ host_group }) => host_group),
            },
          });
      }),
    undo: (id, by, scope, jobs) =>
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
        const skipped = await leaveOut(tx, undo.id, scope);
        await writeAudit(tx, by, { action: undo.action, object: `bulk:${id}`, before: null, after: { matched } });
        await enqueue(tx, jobs);
        return bulkOf({ ...undo, matched, skipped });
      }),
    items: (id, page) =>
      engine.listing(async (db) => {
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
      engine.listing(async (db) => {
        const rows = await itemsNow(db as unknown as Kysely<Tables>, id)
          .select((eb) => ['finding.disposition', eb.fn.countAll<number>().as('count')])
          .groupBy('finding.disposition')
          .orderBy('finding.disposition')
          .execute();
        return rows.map(({ disposition, count }) => ({
          disposition: disposition === null ? null : DISPOSITIONS[disposition]!,
          count,
        }));
      }),
    hostsIn: (id, dispositions) =>
      engine.listing(async (db) => {
        const { hosts } = await itemsNow(db as unknown as Kysely<Tables>, id)
          .select((eb) => eb.fn.count<number>('bulk_item.host_id').distinct().as('hosts'))
          .where(
            'finding.disposition',
            'in',
            dispositions.map((one) => DISPOSITIONS.indexOf(one)),
          )
          .executeTakeFirstOrThrow();
        return hosts;
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

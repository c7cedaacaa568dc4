/** Legal holds: who set them on what, until somebody releases them; and which payloads lie under one. */
import type { Kysely } from 'kysely';
import { covers } from '#src/finding/scope.ts';
import type { Instant } from '#src/clock.ts';
import { writeAudit } from './audit.ts';
import type { Engine, Tx } from './engine.ts';
import { sortableTime } from './ids.ts';
import { pageOf } from './read/page.ts';
import type { Hold, HoldScope, Holds } from './retentionrecords.ts';
import type { HoldRow, Tables } from './tables.ts';

const numberOf = (id: string): number => (/^H-[1-9][0-9]{0,14}$/.test(id) ? Number(id.slice(2)) : 0);

function holdOf(row: HoldRow): Hold {
  return {
    id: `H-${row.n}`,
    scope: JSON.parse(row.scope) as HoldScope,
    from: row.from_at,
    to: row.to_at,
    reason: row.reason,
    setBy: row.set_by,
    setAt: row.set_at,
    released:
      row.released_at === null ? null : { by: row.released_by!, at: row.released_at, reason: row.release_reason! },
  };
}

/** Waits for purges that are on their way, and keeps new ones until the end of the transaction; or the other way round. */
export async function lockHolds({ db, locks }: Tx): Promise<number> {
  let query = db.selectFrom('hold_counter').select('next').where('id', '=', 1);
  if (locks) query = query.forUpdate();
  return (await query.executeTakeFirstOrThrow()).next;
}

export async function standingIn(db: Kysely<Tables>): Promise<Hold[]> {
  const rows = await db.selectFrom('hold').selectAll().where('released_at', 'is', null).orderBy('n').execute();
  return rows.map(holdOf);
}

/** An entry, as far as a hold asks about it. */
export type Holdable = { readonly at: Instant; readonly hostId: string | null };

const inPeriod = ({ from, to }: Hold, at: Instant): boolean =>
  (from === null || at >= from) && (to === null || at < to);

/**
 * Which of these lie under a hold. What is about no host (a waiver, a group of findings) may be about each, so every hold is on it. A host that
 * was moved out of a group since is held as if it had stayed: its acts, which are never purged, tell where it was.
 */
export async function heldOf<Entry extends Holdable>(
  db: Kysely<Tables>,
  holds: readonly Hold[],
  entries: readonly Entry[],
): Promise<ReadonlySet<Entry>> {
  const held = new Set<Entry>();
  const asked = new Set<string>();
  for (const entry of entries)
    for (const hold of holds) {
      if (!inPeriod(hold, entry.at)) continue;
      const { hostId } = entry;
      if (hold.scope === null || hostId === null || hold.scope.hosts.includes(hostId)) held.add(entry);
      else if (hold.scope.groups.length > 0) asked.add(hostId);
    }
  if (asked.size === 0) return held;
  const groups = await groupsSince(db, [...asked], Math.min(...holds.map(({ setAt }) => setAt)));
  for (const entry of entries)
    for (const hold of holds) {
      const { hostId } = entry;
      if (held.has(entry) || hostId === null || hold.scope === null || !inPeriod(hold, entry.at)) continue;
      const been = groups.get(hostId)?.filter(({ until }) => until === null || until >= hold.setAt) ?? [];
      if (been.some(({ group }) => covers(hold.scope!.groups, group))) held.add(entry);
    }
  return held;
}

type Been = { readonly group: string | null; readonly until: Instant | null };

/** Host groups of hosts now, and those that they left since. */
async function groupsSince(
  db: Kysely<Tables>,
  hostIds: readonly string[],
  since: Instant,
): Promise<ReadonlyMap<string, readonly Been[]>> {
  const now = await db.selectFrom('host').select(['id', 'host_group']).where('id', 'in', hostIds).execute();
  const found = new Map<string, Been[]>(now.map(({ id, host_group }) => [id, [{ group: host_group, until: null }]]));
  const left = await db
    .selectFrom('audit')
    .select(['object', 'at', 'before'])
    .where(
      'object',
      'in',
      hostIds.map((id) => `host:${id}`),
    )
    .where('id', '>=', `a_${sortableTime(since)}`)
    .where('action', '=', 'host.group')
    .execute();
  for (const { object, at, before } of left) {
    const { group } = JSON.parse(before) as { readonly group: string | null };
    found.get(object.slice('host:'.length))?.push({ group, until: at });
  }
  return found;
}

export function holdsOn(engine: Engine): Holds {
  return {
    set: ({ scope, from, to, reason }, by) =>
      engine.write(async (tx) => {
        const n = await lockHolds(tx);
        await tx.db
          .updateTable('hold_counter')
          .set({ next: n + 1 })
          .where('id', '=', 1)
          .execute();
        const row: HoldRow = {
          n,
          scope: JSON.stringify(scope),
          from_at: from,
          to_at: to,
          reason,
          set_by: by.actor,
          set_at: by.at,
          release_reason: null,
          released_by: null,
          released_at: null,
        };
        await tx.db.insertInto('hold').values(row).execute();
        const after = { scope, from, to };
        await writeAudit(
          tx,
          { ...by, note: reason },
          { action: 'hold.set', object: `hold:H-${n}`, before: null, after },
        );
        return holdOf(row);
      }),
    release: (id, reason, by) =>
      engine.write(async (tx) => {
        await lockHolds(tx);
        const n = numberOf(id);
        const row = await tx.db.selectFrom('hold').selectAll().where('n', '=', n).executeTakeFirst();
        if (row === undefined) return undefined;
        if (row.released_at !== null) return { hold: holdOf(row), changed: false };
        const end = { release_reason: reason, released_by: by.actor, released_at: by.at };
        await tx.db.updateTable('hold').set(end).where('n', '=', n).execute();
        const { scope, from, to } = holdOf(row);
        await writeAudit(
          tx,
          { ...by, note: reason },
          { action: 'hold.release', object: `hold:${id}`, before: { scope, from, to }, after: null },
        );
        return { hold: holdOf({ ...row, ...end }), changed: true };
      }),
    list: ({ cursor, limit }) =>
      engine.listing(async (db) => {
        let query = db
          .selectFrom('hold')
          .selectAll()
          .orderBy('n', 'desc')
          .limit(limit + 1);
        if (cursor !== null) query = query.where('n', '<', cursor.n);
        return pageOf(await query.execute(), limit, holdOf, ({ n }) => ({ n }));
      }),
    standing: () => engine.reading((db) => standingIn(db as unknown as Kysely<Tables>)),
  };
}

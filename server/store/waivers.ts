/** Waivers as rows. Whatever has an effect, or loses it, moves the stamp, so that no judgement commits what another list allowed. */
import { sql, type Kysely } from 'kysely';
import { WAIVER_STATES, type Extension, type Selector, type Waiver, type WaiverState } from '#src/finding/waiver.ts';
import { SEVERITIES } from '#src/policy/judgement.ts';
import type { Instant } from '#src/clock.ts';
import { writeAudit } from './audit.ts';
import type { Waivers } from './decided.ts';
import type { Engine, Tx } from './engine.ts';
import { enqueue } from './jobs.ts';
import { pageOf } from './read/page.ts';
import type { Tables, WaiverRow } from './tables.ts';
import { reachOn } from './waiverreach.ts';

const numberOf = (id: string): number => (/^W-[1-9][0-9]{0,14}$/.test(id) ? Number(id.slice(2)) : 0);

export function waiverOf(row: WaiverRow): Waiver {
  return {
    id: `W-${row.n}`,
    revision: row.revision,
    kind: row.kind as Waiver['kind'],
    title: row.title,
    justification: row.justification,
    compensating: row.compensating,
    ticket: row.ticket,
    selector: JSON.parse(row.selector) as Selector,
    ceiling: SEVERITIES[row.ceiling]!,
    startsAt: row.starts_at,
    expiresAt: row.expires_at,
    decision: row.state as Waiver['decision'],
    requestedBy: row.requested_by,
    requestedAt: row.requested_at,
    decidedBy: row.decided_by,
    decidedAt: row.decided_at,
    decisionNote: row.decision_note,
    alone: row.alone === 1,
    endedBy: row.ended_by,
    endedAt: row.ended_at,
    endReason: row.end_reason,
    extension: row.extension === null ? null : (JSON.parse(row.extension) as Extension),
    scope: row.scope === null ? null : (JSON.parse(row.scope) as string[]),
  };
}

function rowOf(waiver: Waiver): Omit<WaiverRow, 'expiry_noted'> {
  return {
    n: numberOf(waiver.id),
    revision: waiver.revision,
    kind: waiver.kind,
    title: waiver.title,
    justification: waiver.justification,
    compensating: waiver.compensating,
    ticket: waiver.ticket,
    selector: JSON.stringify(waiver.selector),
    ceiling: SEVERITIES.indexOf(waiver.ceiling),
    starts_at: waiver.startsAt,
    expires_at: waiver.expiresAt,
    state: waiver.decision,
    requested_by: waiver.requestedBy,
    requested_at: waiver.requestedAt,
    decided_by: waiver.decidedBy,
    decided_at: waiver.decidedAt,
    decision_note: waiver.decisionNote,
    alone: waiver.alone ? 1 : 0,
    ended_by: waiver.endedBy,
    ended_at: waiver.endedAt,
    end_reason: waiver.endReason,
    extension: waiver.extension === null ? null : JSON.stringify(waiver.extension),
    scope: waiver.scope === null ? null : JSON.stringify(waiver.scope),
  };
}

/** Nothing that was judged before it commits after it. */
export async function moveStamp({ db }: Tx): Promise<void> {
  await db
    .updateTable('waiver_counter')
    .set((eb) => ({ stamp: eb('stamp', '+', 1) }))
    .where('id', '=', 1)
    .execute();
}

/** A state as a condition on rows. */
function isIn(state: WaiverState, now: Instant) {
  const begins = sql<number>`coalesce(starts_at, decided_at, 0)`;
  switch (state) {
    case 'approved':
      return sql<boolean>`(state = 'approved' and expires_at > ${now} and ${begins} > ${now})`;
    case 'active':
      return sql<boolean>`(state = 'approved' and expires_at > ${now} and ${begins} <= ${now})`;
    case 'expired':
      return sql<boolean>`(state in ('approved', 'requested') and expires_at <= ${now})`;
    case 'requested':
      return sql<boolean>`(state = 'requested' and expires_at > ${now})`;
    default:
      return sql<boolean>`(state = ${state})`;
  }
}

async function sameRequest({ db }: Tx, waiver: Waiver): Promise<Waiver | undefined> {
  if (waiver.decision !== 'requested') return undefined;
  const { n: _, requested_at: __, revision: ___, ...wanted } = rowOf(waiver);
  const rows = await db
    .selectFrom('waiver')
    .selectAll()
    .where('state', '=', 'requested')
    .where('requested_by', '=', waiver.requestedBy)
    .where('expires_at', '=', waiver.expiresAt)
    .where('expires_at', '>', waiver.requestedAt)
    .execute();
  const row = rows.find((one) =>
    Object.entries(wanted).every(([name, value]) => one[name as keyof WaiverRow] === value),
  );
  return row === undefined ? undefined : waiverOf(row);
}

export function waiversOn(engine: Engine): Waivers {
  const one = async (db: Kysely<Tables>, id: string, lock: boolean): Promise<WaiverRow | undefined> => {
    const query = db.selectFrom('waiver').selectAll().where('n', '=', numberOf(id));
    return (lock ? query.forUpdate() : query).executeTakeFirst();
  };
  return {
    ...reachOn(engine),
    create: (draft, by) =>
      engine.write(async (tx) => {
        const counter = await tx.db
          .updateTable('waiver_counter')
          .set((eb) => ({ next: eb('next', '+', 1) }))
          .where('id', '=', 1)
          .returning('next')
          .executeTakeFirstOrThrow();
        const waiver: Waiver = { ...draft, id: `W-${counter.next - 1}`, revision: 1 };
        // Behind the lock of the counter: a form that was sent twice at once is one request, too.
        const standing = await sameRequest(tx, waiver);
        if (standing !== undefined) {
          await tx.db
            .updateTable('waiver_counter')
            .set((eb) => ({ next: eb('next', '-', 1) }))
            .where('id', '=', 1)
            .execute();
          return standing;
        }
        await tx.db
          .insertInto('waiver')
          .values({ ...rowOf(waiver), expiry_noted: 0 })
          .execute();
        await writeAudit(tx, by, {
          action: 'waiver.request',
          object: `waiver:${waiver.id}`,
          before: null,
          after: waiver,
        });
        return waiver;
      }),
    get: (id) =>
      engine.reading(async (db) => {
        const row = await one(db as unknown as Kysely<Tables>, id, false);
        return row === undefined ? undefined : waiverOf(row);
      }),
    put: (next, by, action, jobs) =>
      engine.write(async (tx) => {
        // The stamp first, as intake takes it before a waiver's row is looked at.
        await moveStamp(tx);
        const row = await one(tx.db, next.id, tx.locks);
        if (row === undefined || row.revision !== next.revision - 1) return false;
        const before = waiverOf(row);
        await tx.db
          .updateTable('waiver')
          .set({ ...rowOf(next), expiry_noted: next.expiresAt > by.at ? 0 : row.expiry_noted })
          .where('n', '=', row.n)
          .execute();
        await writeAudit(tx, by, { action, object: `waiver:${next.id}`, before, after: next });
        await enqueue(tx, jobs);
        return true;
      }),
    effective: (now) =>
      engine.reading(async (db) => {
        // The stamp first: a list read under a stamp that moved meanwhile is refused at the commit.
        const { stamp } = await db
          .selectFrom('waiver_counter')
          .select('stamp')
          .where('id', '=', 1)
          .executeTakeFirstOrThrow();
        const rows = await db
          .selectFrom('waiver')
          .selectAll()
          .where('state', '=', 'approved')
          .where('expires_at', '>', now)
          .orderBy('expires_at')
          .orderBy('n')
          .execute();
        return { stamp: String(stamp), waivers: rows.map(waiverOf) };
      }),
    stamp: () =>
      engine.reading(async (db) => {
        const row = await db.selectFrom('waiver_counter').select('stamp').where('id', '=', 1).executeTakeFirstOrThrow();
        return String(row.stamp);
      }),
    list: ({ now, states, expiringBefore, decide = false }, page) =>
      engine.listing(async (db) => {
        let query = (db as unknown as Kysely<Tables>)
          .selectFrom('waiver')
          .selectAll()
          .orderBy('n', 'desc')
          .limit(page.limit + 1);
        if (states !== undefined) query = query.where((eb) => eb.or(states.map((state) => isIn(state, now))));
        if (decide)
          query = query.where(
            sql<boolean>`(state = 'requested' or (state = 'approved' and extension is not null)) and expires_at > ${now}`,
          );
        if (expiringBefore !== undefined) query = query.where('expires_at', '<=', expiringBefore);
        if (page.cursor !== null) query = query.where('n', '<', page.cursor.n);
        return pageOf(await query.execute(), page.limit, waiverOf, ({ n }) => ({ n }));
      }),
    count: (now, expiringBefore) =>
      engine.listing(async (db) => {
        const out = { ...Object.fromEntries(WAIVER_STATES.map((state) => [state, 0])), expiring: 0 } as Record<
          WaiverState,
          number
        > & { expiring: number };
        for (const state of WAIVER_STATES) {
          const { count } = await (db as unknown as Kysely<Tables>)
            .selectFrom('waiver')
            .select((eb) => eb.fn.countAll<number>().as('count'))
            .where(isIn(state, now))
            .executeTakeFirstOrThrow();
          out[state] = count;
        }
        const soon = await (db as unknown as Kysely<Tables>)
          .selectFrom('waiver')
          .select((eb) => eb.fn.countAll<number>().as('count'))
          .where(isIn('active', now))
          .where('expires_at', '<=', expiringBefore)
          .executeTakeFirstOrThrow();
        out.expiring = soon.count;
        return out;
      }),
    hosts: (id, { cursor, limit }) =>
      engine.listing(async (db) => {
        let query = db
          .selectFrom('finding')
          .select('host_id')
          .distinct()
          .where('waiver_id', '=', id)
          .where('disposition', '=', 2)
          .orderBy('host_id')
          .limit(limit + 1);
        if (cursor !== null) query = query.where('host_id', '>', cursor.id);
        const rows = await query.execute();
        return pageOf(
          rows,
          limit,
          ({ host_id }) => host_id,
          ({ host_id }) => ({ id: host_id }),
        );
      }),
    unnotedExpiry: (now, limit) =>
      engine.reading(async (db) => {
        const rows = await db
          .selectFrom('waiver')
          .selectAll()
          .where('state', '=', 'approved')
          .where('expires_at', '<=', now)
          .where('expiry_noted', '=', 0)
          .orderBy('expires_at')
          .limit(limit)
          .execute();
        return rows.map(waiverOf);
      }),
    noteExpiry: (id, by) =>
      engine.write(async (tx) => {
        await moveStamp(tx);
        const row = await one(tx.db, id, tx.locks);
        if (row === undefined || row.expiry_noted === 1 || row.expires_at > by.at) return false;
        await tx.db.updateTable('waiver').set({ expiry_noted: 1 }).where('n', '=', row.n).execute();
        await writeAudit(tx, by, {
          action: 'waiver.expire',
          object: `waiver:${id}`,
          before: { state: 'active' },
          after: { state: 'expired' },
        });
        return true;
      }),
  };
}

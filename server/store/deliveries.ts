/** Deliveries as rows: what is due, what came of each attempt, what was given up and is sent again. */
import { sql } from 'kysely';
import { writeAudit } from './audit.ts';
import { locked, write } from './channelrow.ts';
import type { Engine } from './engine.ts';
import { enqueue } from './jobs.ts';
import type * as n from './noticerecords.ts';
import { outcomesIn, tally } from './noticetally.ts';
import { pageOf } from './read/page.ts';
import type * as r from './records.ts';
import type { DeliveryRow } from './tables.ts';

export const deliveryOf = (row: DeliveryRow): n.Delivery => ({
  id: row.id,
  channelId: row.channel_id,
  topic: row.topic,
  transition: row.transition,
  episode: row.episode,
  n: row.n,
  severity: row.sev as r.Severity,
  createdAt: row.created_at,
  notice: JSON.parse(row.notice) as unknown,
  hosts: row.hosts,
  ended: row.ended === 1,
  state: row.state as n.DeliveryState,
  attempts: row.attempts,
  nextAt: row.next_at,
  doneAt: row.done_at,
  status: row.status,
  error: row.error,
});

export const deliveryRow = (delivery: n.NewDelivery): DeliveryRow => ({
  id: delivery.id,
  channel_id: delivery.channelId,
  topic: delivery.topic,
  transition: delivery.transition,
  episode: delivery.episode,
  n: delivery.n,
  sev: delivery.severity,
  created_at: delivery.createdAt,
  notice: JSON.stringify(delivery.notice ?? null),
  hosts: delivery.hosts,
  ended: delivery.ended ? 1 : 0,
  state: 'waiting',
  attempts: 0,
  // A test is sent by whoever asked for it, who waits for what comes of it.
  next_at: delivery.topic === 'test' ? null : delivery.createdAt,
  done_at: null,
  status: null,
  error: null,
});

export function deliveriesOn(
  engine: Engine,
): Pick<n.Notices, 'due' | 'nextDue' | 'attempted' | 'get' | 'deliveries' | 'resend' | 'count' | 'outcomes' | 'sweep'> {
  return {
    due: (channelId, now, limit) =>
      engine.reading(async (db) => {
        const rows = await db
          .selectFrom('delivery')
          .selectAll()
          .where('channel_id', '=', channelId)
          .where(sql<boolean>`state = 'waiting'`)
          .where('next_at', '<=', now)
          .orderBy('next_at')
          .orderBy('id')
          .limit(limit)
          .execute();
        return rows.map(deliveryOf);
      }),
    nextDue: (channelId) =>
      engine.reading(async (db) => {
        const row = await db
          .selectFrom('delivery')
          .select('next_at')
          .where('channel_id', '=', channelId)
          .where(sql<boolean>`state = 'waiting'`)
          .where('next_at', 'is not', null)
          .orderBy('next_at')
          .limit(1)
          .executeTakeFirst();
        return row?.next_at ?? null;
      }),
    attempted: (delivery, came, at, disable) =>
      engine.write(async (tx) => {
        // The channel first, as whoever removes it takes it.
        const channel = disable === null ? undefined : await locked(tx, delivery.channelId);
        const done = await tx.db
          .updateTable('delivery')
          .set({
            state: came.state,
            attempts: delivery.attempts + 1,
            next_at: came.nextAt,
            done_at: came.state === 'waiting' ? null : at,
            status: came.status,
            error: came.error,
          })
          .where('id', '=', delivery.id)
          .where('state', '=', 'waiting')
          .where('attempts', '=', delivery.attempts)
          .executeTakeFirst();
        if (done.numUpdatedRows === 0n) return false;
        if (disable !== null && channel?.state === 'active') {
          const { by, why } = disable;
          const next: n.Channel = {
            ...channel,
            state: 'disabled',
            revision: channel.revision + 1,
            disabledAt: by.at,
            disabledWhy: why,
          };
          await write(tx, next, channel, by, 'channel.disable');
        }
        return true;
      }),
    get: (id) =>
      engine.reading(async (db) => {
        const row = await db.selectFrom('delivery').selectAll().where('id', '=', id).executeTakeFirst();
        return row === undefined ? undefined : deliveryOf(row);
      }),
    deliveries: ({ channelId, state }, page) =>
      engine.reading(async (db) => {
        let query = db.selectFrom('delivery').selectAll().orderBy('id', 'desc');
        if (channelId !== undefined) query = query.where('channel_id', '=', channelId);
        if (state !== undefined) query = query.where('state', '=', state);
        if (page.cursor !== null) query = query.where('id', '<', page.cursor.id);
        const rows = await query.limit(page.limit + 1).execute();
        return pageOf(rows, page.limit, deliveryOf, ({ id }) => ({ id }));
      }),
    resend: (id, by, jobs) =>
      engine.write(async (tx) => {
        let query = tx.db.selectFrom('delivery').selectAll().where('id', '=', id);
        if (tx.locks) query = query.forUpdate();
        const row = await query.executeTakeFirst();
        if (row === undefined || row.state === 'waiting') return false;
        await tx.db
          .updateTable('delivery')
          .set({ state: 'waiting', attempts: 0, next_at: by.at, done_at: null })
          .where('id', '=', id)
          .execute();
        await writeAudit(tx, by, {
          action: 'notice.resend',
          object: `channel:${row.channel_id}`,
          before: { delivery: id, state: row.state },
          after: { delivery: id, state: 'waiting' },
        });
        await enqueue(tx, jobs);
        return true;
      }),
    count: () =>
      engine.reading(async (db) => {
        const rows = await db
          .selectFrom('delivery')
          .select((eb) => ['state', eb.fn.countAll<number>().as('count')])
          .groupBy('state')
          .execute();
        const counts = { waiting: 0, delivered: 0, dead: 0 };
        for (const { state, count } of rows) counts[state as n.DeliveryState] = count;
        return counts;
      }),
    outcomes: (period) => engine.listing((db) => outcomesIn(db, period)),
    sweep: ({ told: toldBefore, delivered, dead, reminded }) =>
      engine.write(async (tx) => {
        const { db } = tx;
        await tally(
          tx,
          sql<boolean>`((state = 'delivered' and created_at < ${delivered}) or (state = 'dead' and created_at < ${dead}))`,
        );
        await db.deleteFrom('outbox').where('delivery_id', 'is not', null).where('at', '<', toldBefore).execute();
        // A change that committed while its channel was removed: on PostgreSQL it did not see that.
        for (const table of ['outbox', 'delivery'] as const)
          await db
            .deleteFrom(table)
            .where('channel_id', 'not in', (eb) => eb.selectFrom('channel').select('id'))
            .execute();
        await db.deleteFrom('delivery').where('state', '=', 'delivered').where('created_at', '<', delivered).execute();
        await db
          .deleteFrom('delivery')
          .where('state', '=', 'waiting')
          .where('next_at', 'is', null)
          .where('created_at', '<', delivered)
          .execute();
        await db.deleteFrom('delivery').where('state', '=', 'dead').where('created_at', '<', dead).execute();
        // A waiver lives a year at most, and what is overdue is forgotten when it is so no more.
        await db.deleteFrom('reminded').where('kind', '<>', 'overdue').where('at', '<', reminded).execute();
      }),
  };
}

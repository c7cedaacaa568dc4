/** Reminders as rows: what was reminded of, so that it is once, whichever process looks, and what is still to be. */
import { sql, type Kysely } from 'kysely';
import { deliveryRow } from './deliveries.ts';
import type { Engine, Tx } from './engine.ts';
import { enqueue } from './jobs.ts';
import type * as n from './noticerecords.ts';
import { writeOutbox } from './outbox.ts';
import type * as r from './records.ts';
import type { Tables } from './tables.ts';

const OVERDUE = 'overdue';

/** Notes it; false where it stands. */
async function isFirst({ db }: Tx, kind: string, object: string, at: number): Promise<boolean> {
  const done = await db
    .insertInto('reminded')
    .values({ kind, object, at })
    .onConflict((conflict) => conflict.columns(['kind', 'object']).doNothing())
    .executeTakeFirst();
  return (done.numInsertedOrUpdatedRows ?? 0n) > 0n;
}

export function remindersOn(
  engine: Engine,
): Pick<n.Notices, 'noteCondition' | 'overdue' | 'remind' | 'isReminded' | 'addOnce'> {
  return {
    noteCondition: (channelId, { at, text }) =>
      engine.write(async ({ db }) => {
        await db
          .updateTable('channel')
          .set({ condition_error: text, condition_error_at: at })
          .where('id', '=', channelId)
          .execute();
      }),
    async overdue(now, limits, limit) {
      await engine.write(async ({ db }) => {
        await db
          .deleteFrom('reminded')
          .where('kind', '=', OVERDUE)
          .where('object', 'in', (eb) => eb.selectFrom('finding_group').select('id').where('status', '<>', 0))
          .execute();
      });
      const found: { groupId: string; severity: r.Severity; since: number }[] = [];
      for (const [severity, ms] of [...limits.entries()].reverse()) {
        if (ms === null || found.length >= limit) continue;
        const until = now - ms;
        const open = sql`from finding where finding.group_id = finding_group.id and finding.is_open = 1
          and finding.disposition = 0`;
        const rows = await engine.listing((db) =>
          (db as unknown as Kysely<Tables>)
            .selectFrom('finding_group')
            .select(['finding_group.id', sql<number>`(select min(finding.opened_at) ${open})`.as('since')])
            .where('finding_group.status', '=', 0)
            .where('finding_group.sev', '=', severity)
            .where('finding_group.first_seen', '<=', until)
            .where(sql<boolean>`exists (select 1 ${open} and finding.opened_at <= ${until})`)
            .where((eb) =>
              eb.not(
                eb.exists(
                  eb
                    .selectFrom('reminded')
                    .select('reminded.at')
                    .where('reminded.kind', '=', OVERDUE)
                    .whereRef('reminded.object', '=', 'finding_group.id'),
                ),
              ),
            )
            .orderBy('finding_group.id')
            .limit(limit - found.length)
            .execute(),
        );
        for (const { id, since } of rows) found.push({ groupId: id, severity: severity as r.Severity, since });
      }
      return found;
    },
    remind: (reminders, at) =>
      engine.write(async (tx) => {
        const fresh: n.Reminder[] = [];
        for (const reminder of reminders)
          if (await isFirst(tx, reminder.kind, reminder.object, at)) fresh.push(reminder);
        await enqueue(
          tx,
          await writeOutbox(
            tx,
            fresh.map((about) => ({ kind: 'reminder', at, about })),
          ),
        );
        return fresh.length;
      }),
    isReminded: (kind, object) =>
      engine.reading(async (db) => {
        const row = await db
          .selectFrom('reminded')
          .select('at')
          .where('kind', '=', kind)
          .where('object', '=', object)
          .executeTakeFirst();
        return row !== undefined;
      }),
    addOnce: (kind, object, delivery, jobs) =>
      engine.write(async (tx) => {
        if (!(await isFirst(tx, kind, object, delivery.createdAt))) return false;
        await tx.db.insertInto('delivery').values(deliveryRow(delivery)).execute();
        await enqueue(tx, jobs);
        return true;
      }),
  };
}

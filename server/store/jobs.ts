/** Work for later: a table of jobs with leases. */
import { randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import type { Engine, Tx } from './engine.ts';
import { sortableId } from './ids.ts';
import type * as r from './records.ts';
import type { Jobs } from './store.ts';
import type { JobRow } from './tables.ts';

/** Adds jobs, or brings those forward that wait under the same key. Taken by key order, so that two writers never cross. */
export async function enqueue(tx: Tx, jobs: readonly r.NewJob[]): Promise<void> {
  const byKey = new Map<string, r.NewJob>();
  for (const job of jobs) {
    const other = byKey.get(job.dedupeKey);
    byKey.set(job.dedupeKey, other === undefined ? job : { ...job, runAt: Math.min(job.runAt, other.runAt) });
  }
  for (const key of [...byKey.keys()].sort()) {
    const job = byKey.get(key)!;
    const row: JobRow = {
      id: `j_${sortableId(job.runAt)}`,
      kind: job.kind,
      dedupe_key: key,
      due_at: job.runAt,
      run_at: job.runAt,
      attempts: 0,
      lease: null,
      again_at: null,
      payload: JSON.stringify(job.payload),
      error: null,
    };
    // A running job keeps its lease and notes that it was asked for again.
    await tx.db
      .insertInto('job')
      .values(row)
      .onConflict((conflict) =>
        conflict.column('dedupe_key').doUpdateSet({
          payload: (eb) => eb.ref('excluded.payload'),
          due_at: sql`case when job.lease is null and excluded.run_at < job.due_at then excluded.run_at else job.due_at end`,
          run_at: sql`case when job.lease is null and excluded.run_at < job.run_at then excluded.run_at else job.run_at end`,
          again_at: sql`case when job.lease is null then null
            when job.again_at is null or excluded.run_at < job.again_at then excluded.run_at else job.again_at end`,
        }),
      )
      .execute();
  }
}

const jobOf = (row: JobRow): r.Job => ({
  id: row.id,
  kind: row.kind,
  dedupeKey: row.dedupe_key,
  runAt: row.run_at,
  payload: JSON.parse(row.payload) as unknown,
  attempts: row.attempts,
  leaseUntil: row.due_at,
  lease: row.lease!,
  lastError: row.error,
});

export function jobsOn(engine: Engine): Jobs {
  return {
    enqueue: (jobs) => engine.write((tx) => enqueue(tx, jobs)),
    take: (kinds, now, lease, limit) =>
      engine.write(async ({ db, locks }) => {
        if (kinds.length === 0) return [];
        let due = db
          .selectFrom('job')
          .select('id')
          .where('due_at', '<=', now)
          .where('kind', 'in', [...kinds])
          .orderBy('due_at')
          .orderBy('id')
          .limit(limit);
        if (locks) due = due.forUpdate().skipLocked();
        const rows = await due.execute();
        if (rows.length === 0) return [];
        const taken = await db
          .updateTable('job')
          .set({ lease: randomUUID(), due_at: now + lease, attempts: (eb) => eb('attempts', '+', 1) })
          .where(
            'id',
            'in',
            rows.map(({ id }) => id),
          )
          .returningAll()
          .execute();
        return taken.sort((a, b) => a.run_at - b.run_at || (a.id < b.id ? -1 : 1)).map(jobOf);
      }),
    extend: ({ id, lease }, until) =>
      engine.write(async ({ db }) => {
        const done = await db
          .updateTable('job')
          .set({ due_at: until })
          .where('id', '=', id)
          .where('lease', '=', lease)
          .executeTakeFirst();
        return done.numUpdatedRows > 0n;
      }),
    finish: ({ id, lease }) =>
      engine.write(async ({ db }) => {
        const again = await db
          .updateTable('job')
          .set({
            lease: null,
            attempts: 0,
            error: null,
            due_at: (eb) => eb.fn.coalesce('again_at', 'due_at'),
            run_at: (eb) => eb.fn.coalesce('again_at', 'run_at'),
            again_at: null,
          })
          .where('id', '=', id)
          .where('lease', '=', lease)
          .where('again_at', 'is not', null)
          .executeTakeFirst();
        if (again.numUpdatedRows > 0n) return true;
        const gone = await db.deleteFrom('job').where('id', '=', id).where('lease', '=', lease).executeTakeFirst();
        return gone.numDeletedRows > 0n;
      }),
    fail: ({ id, lease }, retryAt, error) =>
      engine.write(async ({ db, locks }) => {
        let mine = db.selectFrom('job').select('again_at').where('id', '=', id).where('lease', '=', lease);
        if (locks) mine = mine.forUpdate();
        const row = await mine.executeTakeFirst();
        if (row === undefined) return false;
        // Asked for again meanwhile: that request stands, even where this run gives up.
        const times = [retryAt, row.again_at].filter((at) => at !== null);
        if (times.length === 0) await db.deleteFrom('job').where('id', '=', id).execute();
        else
          await db
            .updateTable('job')
            .set({ lease: null, again_at: null, due_at: Math.min(...times), run_at: Math.min(...times), error })
            .where('id', '=', id)
            .execute();
        return true;
      }),
    lag: (now) =>
      engine.reading(async (db) => {
        const rows = await db
          .selectFrom('job')
          .select((eb) => [
            'kind',
            eb.fn.countAll<number>().as('jobs'),
            sql<number>`sum(case when lease is not null and due_at > ${now} then 1 else 0 end)`.as('running'),
            eb.fn.min<number>('run_at').as('oldest'),
          ])
          .groupBy('kind')
          .orderBy('kind')
          .execute();
        return rows.map(({ kind, jobs, running, oldest }) => ({ kind, waiting: jobs - running, running, oldest }));
      }),
  };
}

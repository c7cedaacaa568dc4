/** Reports as received. The newest `same` lies in the host's pulse, all others in `report`. */
import type { ReadonlyKysely } from 'kysely/readonly';
import type { Digest } from '#src/digest.ts';
import type { Engine } from './engine.ts';
import { reportOfSame, SAME_COLUMNS } from './intake.ts';
import type * as r from './records.ts';
import type { Reports } from './store.ts';
import type { ReportRow, Tables } from './tables.ts';

export const headOf = (row: Omit<ReportRow, 'envelope'>): r.ReportHead => ({
  hostId: row.host_id,
  seq: row.seq,
  kind: row.kind as r.ReportKind,
  digest: row.digest as Digest,
  class: row.class as r.ChallengeClass,
  startedAt: row.started_at,
  receivedAt: row.received_at,
  answer: row.answer,
});
const reportOf = (row: ReportRow): r.StoredReport => ({ ...headOf(row), envelope: row.envelope });

/** The newest `same` as a row of `report`. */
export async function newestSame(db: ReadonlyKysely<Tables>, hostId: string): Promise<ReportRow | undefined> {
  const row = await db
    .selectFrom('pulse')
    .select([...SAME_COLUMNS])
    .where('host_id', '=', hostId)
    .executeTakeFirst();
  return row === undefined ? undefined : reportOfSame(hostId, row);
}

export function reportsOn(engine: Engine): Reports {
  /** The pulse before the reports: a `same` moves only from there to here. */
  const first = (hostId: string, fits: (row: ReportRow) => boolean, column: 'seq' | 'digest', value: number | string) =>
    engine.reading(async (db) => {
      const same = await newestSame(db, hostId);
      if (same !== undefined && fits(same)) return same;
      return db
        .selectFrom('report')
        .selectAll()
        .where('host_id', '=', hostId)
        .where(column, '=', value)
        .where('copy', '=', 0)
        .executeTakeFirst();
    });
  const bySeq = (hostId: string, seq: number) => first(hostId, (row) => row.seq === seq, 'seq', seq);
  return {
    async head(hostId, seq) {
      const row = await bySeq(hostId, seq);
      return row === undefined ? undefined : headOf(row);
    },
    async get(hostId, seq) {
      const row = await bySeq(hostId, seq);
      return row === undefined ? undefined : reportOf(row);
    },
    async byDigest(hostId, digest) {
      const row = await first(hostId, (same) => same.digest === digest, 'digest', digest);
      return row === undefined ? undefined : reportOf(row);
    },
    forks: (hostId, seq) =>
      engine.reading(async (db) => {
        const rows = await db
          .selectFrom('report')
          .selectAll()
          .where('host_id', '=', hostId)
          .where('seq', '=', seq)
          .where('copy', '>', 0)
          .orderBy('copy')
          .execute();
        return rows.map(reportOf);
      }),
  };
}

/** Where payloads lie, and how many bytes each has (logpayload.ts says what a reference is). */
import { sql, type Kysely } from 'kysely';
import { auditPayload, auditRef } from './logpayload.ts';
import type { AuditRow, ReportRow, Tables } from './tables.ts';

export type ReportKey = Pick<ReportRow, 'host_id' | 'seq' | 'copy'>;
const REPORT_REF = /^report:([^/]+)\/([0-9]+)\/([0-9]+)$/;

export function reportKeyOf(ref: string): ReportKey | undefined {
  const match = REPORT_REF.exec(ref);
  return match === null ? undefined : { host_id: match[1]!, seq: Number(match[2]), copy: Number(match[3]) };
}

export const actIdOf = (ref: string): string | undefined =>
  ref.startsWith('audit:') ? ref.slice('audit:'.length) : undefined;

export type StoredReportRow = Omit<ReportRow, 'envelope' | 'answer' | 'digest'> & { readonly bytes: number };

/** Reports by key, without what is large of them. */
export async function reportRowsOf(
  db: Kysely<Tables>,
  refs: readonly string[],
): Promise<ReadonlyMap<string, StoredReportRow>> {
  const keys = refs.flatMap((ref) => reportKeyOf(ref) ?? []);
  if (keys.length === 0) return new Map();
  const values = keys.map(
    ({ host_id, seq, copy }) => sql`(${host_id}, cast(${seq} as bigint), cast(${copy} as bigint))`,
  );
  const { rows } = await sql<StoredReportRow>`
    select host_id, seq, copy, kind, class, started_at, received_at, length(envelope) as bytes
    from report where (host_id, seq, copy) in (values ${sql.join(values)})`.execute(db);
  return new Map(rows.map((row) => [`report:${row.host_id}/${row.seq}/${row.copy}`, row]));
}

export async function actRowsOf(db: Kysely<Tables>, refs: readonly string[]): Promise<ReadonlyMap<string, AuditRow>> {
  const ids = refs.flatMap((ref) => actIdOf(ref) ?? []);
  if (ids.length === 0) return new Map();
  const rows = await db.selectFrom('audit').selectAll().where('id', 'in', ids).execute();
  return new Map(rows.map((row) => [auditRef(row.id), row]));
}

/** Bytes of payloads, in their order; 0 where one is not there. */
export async function sizesOf(
  db: Kysely<Tables>,
  payloads: readonly { readonly ref: string; readonly bytes: number | null }[],
): Promise<readonly number[]> {
  const refs = payloads.map(({ ref }) => ref);
  const [reports, acts] = [await reportRowsOf(db, refs), await actRowsOf(db, refs)];
  return payloads.map(({ ref, bytes }) => {
    const act = acts.get(ref);
    return bytes ?? reports.get(ref)?.bytes ?? (act === undefined ? 0 : auditPayload(act).length);
  });
}

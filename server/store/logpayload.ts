/**
 * Payloads of log entries (docs/log.md): what an entry's salted digest is over, and where it lies. An envelope lies with the reports, an act in
 * the trail, what became of a host's findings beside the log; so a changed row of any of them no longer fits its entry.
 */
import { fromBase64 } from '#src/bytes.ts';
import { formatInstant, parseInstant, type Instant } from '#src/clock.ts';
import type { ReadonlyKysely } from 'kysely/readonly';
import type { Bulk } from './engine.ts';
import type { LoggedPurge, LogPayload } from './logrecords.ts';
import type { Logged } from './logpending.ts';
import type { AuditRow, LogPayloadRow, ReportRow, Tables } from './tables.ts';

const encoder = new TextEncoder();
const text = (value: unknown): Uint8Array => encoder.encode(JSON.stringify(value));

export type LoggedFinding = {
  readonly group: string;
  readonly episode: number;
  readonly transition: 'new' | 'regressed' | 'returned' | 'resolved' | 'acknowledged' | 'waived';
  readonly severity: number;
  /** Why it ended or returned, or by which waiver it is covered. */
  readonly why: string | null;
};

/** Where an envelope lies. */
/** What an act is logged under. */
export const auditRef = (id: string): string => `audit:${id}`;
export const reportRef = (hostId: string, seq: number, copy: number): string => `report:${hostId}/${seq}/${copy}`;

/** An envelope as it is kept: every full one, what filled a gap, forks, and of each day the last `same`, with its count. */
export function reportLogged(row: ReportRow): Logged {
  const { host_id: host, seq, copy, envelope, received_at: at } = row;
  const count = row.kind === 'full' ? null : countIn(envelope);
  return {
    at,
    said: { kind: 'report', host, facts: { report: count === null ? 'full' : 'same', seq, copy, count } },
    ref: reportRef(host, seq, copy),
    payload: envelope,
    body: null,
  };
}

/** How often a `same` says that it was said; null for a full report. It passed its schema before it was kept. */
function countIn(envelope: Uint8Array): number | null {
  try {
    const { payload } = JSON.parse(new TextDecoder().decode(envelope)) as { payload: string };
    const report = JSON.parse(new TextDecoder().decode(fromBase64(payload))) as { kind: string; count: number };
    return report.kind === 'same' ? report.count : null;
  } catch {
    return null; // only in tests of the store, whose envelopes are none
  }
}

/** An act, as the trail has it. Before and after are texts: what was hashed must not hang on how JSON is written again. */
export function auditPayload({ id, at, actor, action, object, note, before, after }: AuditRow): Uint8Array {
  return text({ id, at: formatInstant(at), actor, action, object, note, before, after });
}

export function auditLogged(row: AuditRow): Logged {
  const host = HOST_OBJECT.exec(row.object)?.[1] ?? null;
  return {
    at: row.at,
    said: { kind: 'act', host, facts: { action: row.action } },
    ref: auditRef(row.id),
    payload: auditPayload(row),
    body: null,
  };
}

/** What one write changed about a host: its verdict, as judged and as told (silence is told without a report), and its findings. */
export type Judged = {
  readonly host: string;
  readonly revision: number;
  readonly at: Instant;
  readonly seq: number | null;
  readonly before: { readonly verdict: string; readonly told: string };
  readonly after: { readonly verdict: string; readonly told: string };
  readonly findings: readonly LoggedFinding[];
};

/** `loggedAt`: the server's time. That of the judgement is when what it says was so, and earlier where the report waited on its host. */
export function judgedLogged(judged: Judged, loggedAt: Instant): Logged {
  const { host, revision, at, before, after } = judged;
  const payload = text({ ...judged, at: formatInstant(at) });
  const verdict = before.told === after.told ? null : { from: before.told, to: after.told };
  return {
    at: loggedAt,
    said: { kind: 'judgement', host, facts: { findings: judged.findings.length, verdict } },
    ref: `judged:${host}/${revision}`,
    payload,
    body: payload,
  };
}

/**
 * Rows that a judgement tells of, held against it: the host's history of verdicts, and the episodes of its findings. An episode is told of when
 * it opens and when it ends.
 */
export async function judgedDiffers(
  select: Bulk['select'],
  payloads: readonly Uint8Array[],
): Promise<readonly (readonly [number, string])[]> {
  const judged = payloads.map((bytes) => JSON.parse(new TextDecoder().decode(bytes)) as JudgedPayload);
  const turned = judged.filter(({ before, after }) => before.verdict !== after.verdict);
  const verdicts = await select(
    'verdict_change',
    ['host_id', 'revision', 'at', 'from_verdict', 'to_verdict'],
    ['host_id', 'revision'],
    turned.map(({ host, revision }) => ({ host_id: host, revision })),
  );
  const keys = judged.flatMap(({ host, findings }) => findings.map(({ group, episode }) => ({ host, group, episode })));
  const episodes = await select(
    'episode',
    ['host_id', 'group_id', 'n', 'opened_at', 'closed_at', 'reason'],
    ['host_id', 'group_id', 'n'],
    keys.map(({ host, group, episode }) => ({ host_id: host, group_id: group, n: episode })),
  );
  const verdictAt = new Map(verdicts.map((row) => [`${row.host_id} ${row.revision}`, row]));
  const episodeAt = new Map(episodes.map((row) => [`${row.host_id} ${row.group_id} ${row.n}`, row]));
  return judged.flatMap((one, i): (readonly [number, string])[] => {
    const { host, revision, before, after } = one;
    const at = parseInstant(one.at);
    const out: (readonly [number, string])[] = [];
    if (before.verdict !== after.verdict) {
      const row = verdictAt.get(`${host} ${revision}`);
      if (row?.from_verdict !== before.verdict || row.to_verdict !== after.verdict || row.at !== at)
        out.push([
          i,
          `the change of verdict of ${host} in its history was ${row === undefined ? 'removed' : 'changed'}`,
        ]);
    }
    for (const { group, episode, transition, why } of one.findings) {
      const row = episodeAt.get(`${host} ${group} ${episode}`);
      const opens = transition === 'new' || transition === 'regressed';
      const fits = opens
        ? row?.opened_at === at
        : transition !== 'resolved' || (row?.closed_at === at && row?.reason === why);
      if (row === undefined || !fits)
        out.push([
          i,
          `episode ${episode} of finding ${group} on ${host} was ${row === undefined ? 'removed' : 'changed'}`,
        ]);
    }
    return out;
  });
}
type JudgedPayload = Omit<Judged, 'at'> & { readonly at: string };

const HOST_OBJECT = /^host:(h_[a-z2-7]{26})$/;
const REPORT_REF = /^report:([^/]+)\/([0-9]+)\/([0-9]+)$/;
const AUDIT_REF = /^audit:(.+)$/;
/** Keys in one statement. */
const AT_ONCE = 200;

/** Payloads as they lie now. */
export async function payloadsOf(
  db: ReadonlyKysely<Tables>,
  ids: readonly string[],
): Promise<ReadonlyMap<string, LogPayload>> {
  const found = new Map<string, LogPayload>();
  for (let from = 0; from < ids.length; from += AT_ONCE) {
    const rows = await db
      .selectFrom('log_payload')
      .selectAll()
      .where('id', 'in', ids.slice(from, from + AT_ONCE))
      .execute();
    const acts = await actsOf(db, rows);
    for (const row of rows) {
      const { ref, salt, purged_at: purgedAt, purged_by: purgedBy } = row;
      // What is left of a report that was purged is a row with an empty envelope.
      const bytes = purgedAt === null ? (row.body ?? acts.get(ref) ?? (await envelopeAt(db, ref))) : null;
      found.set(row.id, { ref, salt, bytes, purgedAt, purgedBy });
    }
  }
  return found;
}

async function actsOf(db: ReadonlyKysely<Tables>, rows: readonly LogPayloadRow[]): Promise<Map<string, Uint8Array>> {
  const ids = rows.flatMap(({ ref }) => AUDIT_REF.exec(ref)?.[1] ?? []);
  if (ids.length === 0) return new Map();
  const acts = await db.selectFrom('audit').selectAll().where('id', 'in', ids).execute();
  return new Map(acts.map((act) => [auditRef(act.id), auditPayload(act)]));
}

async function envelopeAt(db: ReadonlyKysely<Tables>, ref: string): Promise<Uint8Array | null> {
  const match = REPORT_REF.exec(ref);
  if (match === null) return null;
  const row = await db
    .selectFrom('report')
    .select('envelope')
    .where('host_id', '=', match[1]!)
    .where('seq', '=', Number(match[2]))
    .where('copy', '=', Number(match[3]))
    .executeTakeFirst();
  return row?.envelope ?? null;
}

/** Entries `purge` with their payloads, by reference. */
export async function purgesOf(
  db: ReadonlyKysely<Tables>,
  refs: readonly string[],
): Promise<ReadonlyMap<string, LoggedPurge>> {
  const found = new Map<string, LoggedPurge>();
  for (let from = 0; from < refs.length; from += AT_ONCE) {
    const some = refs.slice(from, from + AT_ONCE);
    // What waits first: a row goes from there to here, and never back.
    const waiting = await db
      .selectFrom('log_pending')
      .select(['ref', 'entry', 'salt', 'body'])
      .where('ref', 'in', some)
      .execute();
    const placed = await db
      .selectFrom('log_payload')
      .innerJoin('log_entry', 'log_entry.id', 'log_payload.id')
      .select(['log_payload.ref', 'log_entry.entry', 'log_payload.salt', 'log_payload.body'])
      .where('log_payload.ref', 'in', some)
      .execute();
    for (const { ref, entry, salt, body } of [...waiting, ...placed]) found.set(ref, { entry, salt, body });
  }
  return found;
}

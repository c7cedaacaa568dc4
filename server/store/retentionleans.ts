/**
 * What may be purged, and what leans on the rest (docs/retention.md 2). All of it is reads: rows are taken in the order of time, and what leans on
 * one is looked up by indexes, so that a night's walk past everything that stays is cheap.
 */
import { sql, type Kysely } from 'kysely';
import type { Instant } from '#src/clock.ts';
import { auditPayload, type Judged } from './logpayload.ts';
import { sortableTime } from './ids.ts';
import { nextFullIn } from './read/posture.ts';
import type { PurgedKind, PurgeStep } from './retentionrecords.ts';
import {
  actIdOf,
  actRowsOf,
  reportKeyOf,
  reportRowsOf,
  type ReportKey,
  type StoredReportRow,
} from './retentionsizes.ts';
import type { AuditRow, Tables } from './tables.ts';

/** A payload that may go, if no hold is on it. */
export type Candidate = {
  /** Of the entry. */
  readonly id: string;
  readonly log: number;
  readonly index: number;
  readonly at: Instant;
  readonly hostId: string | null;
  readonly size: number;
  /** What goes with it. */
  readonly report?: ReportKey;
  readonly act?: string;
};

export type Page = {
  readonly candidates: readonly Candidate[];
  readonly leaned: number;
  readonly next: string | null;
};

type Db = Kysely<Tables>;
type HeldRow = {
  readonly id: string;
  readonly ref: string;
  readonly log: number;
  readonly idx: number;
  readonly at: number;
  readonly host_id: string | null;
  /** Of the body, where the payload lies there. */
  readonly bytes: number | null;
};

/** How references of a kind begin: the first column of the index of what is held. */
const PREFIX: Readonly<Record<PurgedKind, string>> = { report: 'rep', judgement: 'jud', act: 'aud' };

/** The next rows of a kind that were logged before a time, oldest first: at most so many, and so many bytes of bodies. */
export async function candidatesIn(
  db: Db,
  { of, before, after }: PurgeStep,
  { rows: limit, bytes }: { readonly rows: number; readonly bytes: number },
): Promise<Page> {
  const found = await db
    .selectFrom('log_payload')
    .innerJoin('log_entry', 'log_entry.id', 'log_payload.id')
    .select([
      'log_payload.id',
      'log_payload.ref',
      'log_entry.log',
      'log_entry.idx',
      'log_entry.at',
      'log_entry.host_id',
    ])
    .select(sql<number | null>`length(log_payload.body)`.as('bytes'))
    .where(sql<boolean>`substr(log_payload.ref, 1, 3) = ${sql.lit(PREFIX[of])}`)
    .where('log_payload.purged_at', 'is', null)
    .where('log_payload.id', '>', after ?? '')
    .where('log_payload.id', '<', `l_${sortableTime(before)}`)
    .orderBy('log_payload.id')
    .limit(limit)
    .execute();
  let left = bytes;
  const end = found.findIndex((row) => (left -= row.bytes ?? 0) <= 0);
  const rows = end < 0 ? found : found.slice(0, end + 1);
  const candidates = await FREE[of](db, rows, before);
  return {
    candidates,
    leaned: rows.length - candidates.length,
    next: rows.length < found.length || found.length === limit ? rows.at(-1)!.id : null,
  };
}

const FREE: Readonly<
  Record<PurgedKind, (db: Db, rows: readonly HeldRow[], before: Instant) => Promise<readonly Candidate[]>>
> = { report: freeReports, judgement: freeJudgements, act: freeActs };

const candidate = ({ id, log, idx, at, host_id }: HeldRow, size: number): Candidate => ({
  id,
  log,
  index: idx,
  at,
  hostId: host_id,
  size,
});

const unique = <T>(all: Iterable<T>): T[] => [...new Set(all)];

// ── reports ──────────────────────────────────────────────────────────────────────────────────────────────────────────

async function freeReports(db: Db, rows: readonly HeldRow[], before: Instant): Promise<readonly Candidate[]> {
  const reports = await reportRowsOf(
    db,
    rows.map(({ ref }) => ref),
  );
  const hostIds = unique([...reports.values()].map(({ host_id }) => host_id));
  if (hostIds.length === 0) return [];
  const pulses = new Map(
    (
      await db.selectFrom('pulse').select(['host_id', 'full_seq', 'doubts']).where('host_id', 'in', hostIds).execute()
    ).map((row) => [row.host_id, row]),
  );
  const turns = await newestTurns(db, hostIds);
  const brought = await broughtWhatIsOpen(db, [...reports.values()]);
  const free: Candidate[] = [];
  for (const row of rows) {
    const report = reports.get(row.ref);
    if (report === undefined) continue;
    const { host_id: host, seq, kind, copy } = report;
    const pulse = pulses.get(host);
    const isForked = pulse !== undefined && pulse.doubts.includes('"forked"');
    if (
      // What the verdict of today, and what is open, came with.
      turns.get(host)?.seq === seq ||
      brought.has(`${host} ${seq}`) ||
      // Both envelopes under one number are the proof that two speak with one key, until a person accepts it.
      (isForked && (copy > 0 || (await hasFork(db, report)))) ||
      (kind === 'full' && (pulse?.full_seq === seq || !(await isSuperseded(db, report, before))))
    )
      continue;
    free.push({ ...candidate(row, report.bytes), report: reportKeyOf(row.ref)! });
  }
  return free;
}

/** The newest change of verdict of each host: the report that brought it, and the write. */
async function newestTurns(db: Db, hostIds: readonly string[]) {
  const { rows } = await sql<{ host_id: string; revision: number; seq: number | null }>`
    select turn.host_id, turn.revision, turn.seq from verdict_change as turn
    inner join (select host_id, max(revision) as revision from verdict_change
      where host_id in (${sql.join([...hostIds])}) group by host_id) as newest
      on newest.host_id = turn.host_id and newest.revision = turn.revision`.execute(db);
  return new Map(rows.map((row) => [row.host_id, row]));
}

async function broughtWhatIsOpen(db: Db, reports: readonly StoredReportRow[]): Promise<ReadonlySet<string>> {
  const values = reports.map(({ host_id, seq }) => sql`(${host_id}, cast(${seq} as bigint))`);
  const { rows } = await sql<{ host_id: string; opened_seq: number }>`
    select distinct host_id, opened_seq from episode
    where closed_at is null and (host_id, opened_seq) in (values ${sql.join(values)})`.execute(db);
  return new Set(rows.map(({ host_id, opened_seq }) => `${host_id} ${opened_seq}`));
}

async function hasFork(db: Db, { host_id, seq }: StoredReportRow): Promise<boolean> {
  const fork = await db
    .selectFrom('report')
    .select('copy')
    .where('host_id', '=', host_id)
    .where('seq', '=', seq)
    .where('copy', '>', 0)
    .limit(1)
    .executeTakeFirst();
  return fork !== undefined;
}

/**
 * Whether the next full report of the host came before that time, too. If not, this one shows the host until then: every `same` that is kept
 * repeats it, and so does every answer about the time that is kept.
 */
async function isSuperseded(db: Db, { host_id, seq }: StoredReportRow, before: Instant): Promise<boolean> {
  const next = await nextFullIn(db, host_id, seq);
  return next !== undefined && next.at < before;
}

// ── judgements ───────────────────────────────────────────────────────────────────────────────────────────────────────

const JUDGED_REF = /^judged:([^/]+)\/([0-9]+)$/;

async function freeJudgements(db: Db, rows: readonly HeldRow[], before: Instant): Promise<readonly Candidate[]> {
  if (rows.length === 0) return [];
  const turns = await newestTurns(db, unique(rows.flatMap(({ host_id }) => host_id ?? [])));
  const older: HeldRow[] = [];
  for (const row of rows) {
    const revision = Number(JUDGED_REF.exec(row.ref)?.[2]);
    if (turns.get(row.host_id!)?.revision !== revision && (await isJudgedAgain(db, row, before))) older.push(row);
  }
  if (older.length === 0) return [];
  const bodies = await db
    .selectFrom('log_payload')
    .select(['id', 'body'])
    .where(
      'id',
      'in',
      older.map(({ id }) => id),
    )
    .execute();
  const told = new Map(
    bodies.map(({ id, body }) => [
      id,
      body === null ? null : (JSON.parse(new TextDecoder().decode(body)) as Pick<Judged, 'host' | 'findings'>),
    ]),
  );
  const open = await standingEpisodes(
    db,
    [...told.values()].flatMap((judged) => judged ?? []),
    before,
  );
  return older.flatMap((row) => {
    const judged = told.get(row.id);
    if (judged == null) return [];
    const isOpen = judged.findings.some(({ group, episode }) => open.has(`${judged.host} ${group} ${episode}`));
    return isOpen ? [] : [candidate(row, row.bytes ?? 0)];
  });
}

/** Whether the host was judged again before that time: else this judgement says how it stood then. */
async function isJudgedAgain(db: Db, { host_id, at }: HeldRow, before: Instant): Promise<boolean> {
  const later = await db
    .selectFrom('log_entry')
    .select('idx')
    .where('host_id', '=', host_id)
    .where('kind', '=', 'judgement')
    .where('at', '>', at)
    .where('at', '<', before)
    .limit(1)
    .executeTakeFirst();
  return later !== undefined;
}

/** Of findings in these judgements: episodes that were open at that time, or are. */
async function standingEpisodes(
  db: Db,
  judged: readonly Pick<Judged, 'host' | 'findings'>[],
  before: Instant,
): Promise<ReadonlySet<string>> {
  const keys = unique(
    judged.flatMap(({ host, findings }) => findings.map(({ group, episode }) => `${host} ${group} ${episode}`)),
  );
  const standing = new Set<string>();
  for (let from = 0; from < keys.length; from += EPISODES_AT_ONCE) {
    const values = keys.slice(from, from + EPISODES_AT_ONCE).map((key) => {
      const [host, group, n] = key.split(' ');
      return sql`(${host}, ${group}, cast(${Number(n)} as bigint))`;
    });
    const { rows } = await sql<{ host_id: string; group_id: string; n: number }>`
      select host_id, group_id, n from episode
      where (closed_at is null or closed_at >= ${before}) and (host_id, group_id, n) in (values ${sql.join(values)})`.execute(
      db,
    );
    for (const { host_id, group_id, n } of rows) standing.add(`${host_id} ${group_id} ${n}`);
  }
  return standing;
}
const EPISODES_AT_ONCE = 500;

// ── acts ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

async function freeActs(db: Db, rows: readonly HeldRow[], before: Instant): Promise<readonly Candidate[]> {
  const acts = await actRowsOf(
    db,
    rows.map(({ ref }) => ref),
  );
  const over = new Map<string, boolean>();
  const free: Candidate[] = [];
  for (const row of rows) {
    const act = acts.get(row.ref);
    if (act === undefined || !(await isOver(db, act, before, over))) continue;
    free.push({ ...candidate(row, auditPayload(act).length), act: actIdOf(row.ref)! });
  }
  return free;
}

/** By what an act was done to: those that nothing leans on once they are old; of the others, see `isOver`. All that is not named stays. */
const PLAIN = /^(?:session\.|view\.|notice\.|bulk\.|image\.rebuild$|group\.recount$|host\.recount$)/;
const DECIDED = /^(group|finding|waiver):(.+)$/;

async function isOver(
  db: Db,
  { action, object }: AuditRow,
  before: Instant,
  known: Map<string, boolean>,
): Promise<boolean> {
  if (PLAIN.test(action) || /^(?:view|bulk|sign-in)(?::|$)/.test(object)) return true;
  const [, kind, name] = DECIDED.exec(object) ?? [];
  if (kind === undefined) return false;
  const key = kind === 'finding' ? `group:${name!.slice(name!.indexOf('/') + 1)}` : object;
  let answer = known.get(key);
  if (answer === undefined) {
    answer =
      kind === 'waiver'
        ? await isWaiverOver(db, name!, before)
        : await isGroupOver(db, key.slice('group:'.length), before);
    known.set(key, answer);
  }
  return answer;
}

/** Nothing of the group is open anywhere, or was at that time or later. */
async function isGroupOver(db: Db, group: string, before: Instant): Promise<boolean> {
  const open = await db
    .selectFrom('finding')
    .select('host_id')
    .where('group_id', '=', group)
    .where('is_open', '=', (eb) => eb.lit(1))
    .limit(1)
    .executeTakeFirst();
  if (open !== undefined) return false;
  const since = await db
    .selectFrom('finding')
    .select('host_id')
    .where('group_id', '=', group)
    .where('is_open', '=', (eb) => eb.lit(0))
    .where('resolved_at', '>=', before)
    .limit(1)
    .executeTakeFirst();
  if (since !== undefined) return false;
  const aside = await db
    .selectFrom('finding_archive')
    .select('host_id')
    .where('group_id', '=', group)
    .where('resolved_at', '>=', before)
    .limit(1)
    .executeTakeFirst();
  if (aside !== undefined) return false;
  const waiting = await db
    .selectFrom('group_ack')
    .select('until')
    .where('group_id', '=', group)
    .where('until', '>=', before)
    .limit(1)
    .executeTakeFirst();
  return waiting === undefined;
}

/** It was refused, taken back or revoked before, or its time was over. */
async function isWaiverOver(db: Db, id: string, before: Instant): Promise<boolean> {
  const row = await db
    .selectFrom('waiver')
    .select(['state', 'expires_at', 'decided_at', 'ended_at'])
    .where('n', '=', Number(/^W-([1-9][0-9]{0,14})$/.exec(id)?.[1] ?? 0))
    .executeTakeFirst();
  if (row === undefined || row.state === 'requested') return false;
  const ended = row.state === 'approved' ? row.expires_at : (row.ended_at ?? row.decided_at ?? row.expires_at);
  return ended < before;
}

/**
 * Group commit: what many reports change, as few statements. First everything is read that the items touch, under the lock
 * of each host's pulse; then each item is carried out in memory, in order; then the changed rows are written, sorted by key.
 *
 * Lock order, the same for every writer: pulses by host id, findings (only ever of locked hosts), groups by id, jobs by key.
 */
import assert from 'node:assert/strict';
import { FORK_COPIES_MAX } from '#src/limits.ts';
import { writeAudit, type Entry } from './audit.ts';
import type { Row, Tx } from './engine.ts';
import { FindingDraft } from './findingdraft.ts';
import { chainRow, freshnessRow, lastRow, PULSE_COLUMNS, standingRow, type Pulse } from './hostrow.ts';
import { enqueue } from './jobs.ts';
import { judgedLogged, reportLogged } from './logpayload.ts';
import { appendLog, type Logged } from './logpending.ts';
import { writeLineages } from './policies.ts';
import type { Lineage } from './policyrecords.ts';
import { writeOutbox, type Happening } from './outbox.ts';
import type * as r from './records.ts';
import type { Disposed, HostWrite, IntakeResult } from './store.ts';
import type { ReportRow, VerdictChangeRow } from './tables.ts';

const SAME = [
  'same_seq',
  'same_digest',
  'same_class',
  'same_started',
  'same_received',
  'same_answer',
  'same_envelope',
] as const;
type SameColumns = Row<'pulse', (typeof SAME)[number]>;

const STANDING = [
  'verdict',
  'rank',
  'since',
  'integrity',
  'provenance',
  'allowed',
  'waived',
  'reasons',
  'drift',
  'valid_until',
  'bare_verdict',
  'bare_rank',
  'bare_integrity',
] as const;
const COUNTERS = ['open0', 'open1', 'open2', 'open3', 'open4', 'acknowledged', 'waived_findings'] as const;
const JUDGED = [...STANDING, ...COUNTERS, 'facts', 'image_booted', 'image_staged', 'image_rollback', 'rule'] as const;
type Judged = Row<'host', 'id' | 'host_group' | (typeof JUDGED)[number]>;

/** Columns of `pulse` that an intake may change, the newest `same` apart. */
const PULSE_SET = PULSE_COLUMNS.filter(
  (c): c is Exclude<(typeof PULSE_COLUMNS)[number], 'host_id' | 'state' | 'same_seq' | 'same_received'> =>
    c !== 'host_id' && c !== 'state' && c !== 'same_seq' && c !== 'same_received',
);

type HostDraft = {
  pulse: Pulse;
  same: SameColumns | null;
  /** The `same` that stands in the database goes to the reports before it is overwritten. */
  keepStanding: boolean;
  judged: Judged | undefined;
  judgedChanged: boolean;
  touched: boolean;
};

const DAY = 86_400_000;
const day = (at: number) => Math.floor(at / DAY);
/** As it is told: silence that the job noted stands before every verdict but `new`. */
const toldVerdict = ({ verdict, silence_noted }: Pick<Pulse, 'verdict' | 'silence_noted'>): string =>
  verdict !== 'new' && silence_noted === 1 ? 'silent' : verdict;
const byKey = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);

const judges = (item: HostWrite) =>
  item.standing !== undefined ||
  item.facts !== undefined ||
  item.images !== undefined ||
  item.rule !== undefined ||
  item.audit !== undefined ||
  (item.findings !== undefined && item.findings.length > 0) ||
  (item.disposals !== undefined && item.disposals.length > 0);

function rowOfReport(hostId: string, copy: number, report: NonNullable<HostWrite['report']>): ReportRow {
  return {
    host_id: hostId,
    seq: report.seq,
    copy,
    kind: report.kind,
    digest: report.digest,
    class: report.class,
    started_at: report.startedAt,
    received_at: report.receivedAt,
    answer: report.answer,
    envelope: report.envelope,
  };
}

/** The newest `same` as a row of `report`. */
export function reportOfSame(hostId: string, same: SameColumns): ReportRow | undefined {
  if (same.same_seq === null) return undefined;
  return {
    host_id: hostId,
    seq: same.same_seq,
    copy: 0,
    kind: 'same',
    digest: same.same_digest!,
    class: same.same_class!,
    started_at: same.same_started!,
    received_at: same.same_received!,
    answer: same.same_answer!,
    envelope: same.same_envelope!,
  };
}
export { SAME as SAME_COLUMNS };

/** Carries out a group inside a transaction of the caller. */
export async function intakeIn(tx: Tx, items: readonly HostWrite[]): Promise<readonly Carried[]> {
  const group = new Intake(tx);
  await group.load(items);
  const results: Carried[] = [];
  for (const item of items) results.push(group.apply(item));
  await group.write();
  return results;
}

/** With what became of an item's disposals, for those who decide. */
type Carried =
  | (Extract<IntakeResult, { kind: 'committed' }> & { readonly disposed: readonly Disposed[] })
  | Exclude<IntakeResult, { kind: 'committed' }>;

class Intake {
  readonly #tx: Tx;
  #waiverStamp: string | undefined;
  readonly #hosts = new Map<string, HostDraft>();
  readonly #findings = new FindingDraft();
  /** Highest copy kept under numbers that `history` and `fork` items name; absent: none. */
  readonly #copies = new Map<string, number>();
  /** The envelopes that stand under those numbers: `host seq digest`. */
  readonly #kept = new Set<string>();
  readonly #reports: ReportRow[] = [];
  readonly #verdicts: VerdictChangeRow[] = [];
  readonly #lineages: { readonly hostId: string; readonly lineage: Lineage }[] = [];
  readonly #jobs: r.NewJob[] = [];
  readonly #happened: Happening[] = [];
  readonly #logged: Logged[] = [];
  readonly #audits: { by: r.Act; entry: Entry }[] = [];

  constructor(tx: Tx) {
    this.#tx = tx;
  }

  async load(items: readonly HostWrite[]): Promise<void> {
    const { bulk } = this.#tx;
    const ids = [...new Set(items.map(({ hostId }) => hostId))].sort(byKey);
    const pulses = await bulk.select(
      'pulse',
      PULSE_COLUMNS,
      ['host_id'],
      ids.map((host_id) => ({ host_id })),
      true,
    );
    for (const pulse of pulses)
      this.#hosts.set(pulse.host_id, {
        pulse,
        same: null,
        keepStanding: false,
        judged: undefined,
        judgedChanged: false,
        touched: false,
      });
    const cold = [...new Set(items.filter(judges).map(({ hostId }) => hostId))].sort(byKey);
    const rows = await bulk.select(
      'host',
      ['id', 'host_group', ...JUDGED],
      ['id'],
      cold.map((id) => ({ id })),
    );
    for (const row of rows) {
      const draft = this.#hosts.get(row.id);
      if (draft !== undefined) draft.judged = row;
    }
    await this.#findings.load(this.#tx, items);
    await this.#loadCopies(items);
    if (items.some(({ waiverStamp }) => waiverStamp !== undefined)) {
      // Shared and held to the end: who revokes a waiver meanwhile waits, and then sees what was written under it.
      let query = this.#tx.db.selectFrom('waiver_counter').select('stamp').where('id', '=', 1);
      if (this.#tx.locks) query = query.forShare();
      this.#waiverStamp = String((await query.executeTakeFirstOrThrow()).stamp);
    }
    await this.#findings.loadAcks(this.#tx, items);
  }

  async #loadCopies(items: readonly HostWrite[]): Promise<void> {
    const named = new Map<string, { host_id: string; seq: number }>();
    for (const { hostId, report } of items)
      if (report?.kind === 'history' || report?.kind === 'fork')
        named.set(`${hostId} ${report.seq}`, { host_id: hostId, seq: report.seq });
    const rows = await this.#tx.bulk.select(
      'report',
      ['host_id', 'seq', 'copy', 'digest'],
      ['host_id', 'seq'],
      [...named.values()],
    );
    for (const { host_id, seq, copy, digest } of rows) {
      const key = `${host_id} ${seq}`;
      this.#kept.add(`${key} ${digest}`);
      this.#copies.set(key, Math.max(copy, this.#copies.get(key) ?? 0));
    }
  }

  apply(item: HostWrite): Carried {
    const draft = this.#hosts.get(item.hostId);
    if (draft === undefined) return { kind: 'unknown-host' };
    const { pulse } = draft;
    if (pulse.revision !== item.expectRevision || !this.#fits(draft, item)) return { kind: 'conflict' };
    if (item.waiverStamp !== undefined && item.waiverStamp !== this.#waiverStamp) return { kind: 'conflict' };
    draft.touched = true;
    const before = toldVerdict(pulse);
    const verdict = pulse.verdict;
    pulse.revision++;
    if (item.report !== undefined) this.#keep(draft, item.report);
    if (item.chain !== undefined) Object.assign(pulse, chainRow(item.chain));
    if (item.last !== undefined) Object.assign(pulse, lastRow(item.last));
    if (item.freshness !== undefined) Object.assign(pulse, freshnessRow(item.freshness));
    const changed = judges(item) ? this.#judge(draft, item) : NOTHING;
    if (item.lineage !== undefined) this.#lineages.push({ hostId: item.hostId, lineage: item.lineage });
    if (item.jobs !== undefined) this.#jobs.push(...item.jobs);
    this.#noteVerdict(item, before, toldVerdict(pulse));
    this.#noteLogged(item, pulse, { verdict, told: before });
    return { kind: 'committed', revision: pulse.revision, ...changed };
  }

  /** A first verdict that is good is what everybody expects, and no news. */
  #noteVerdict({ hostId, at }: HostWrite, from: string, to: string): void {
    if (from === to || (from === 'new' && to === 'compliant')) return;
    this.#happened.push({ kind: 'verdict', hostId, from, to, at });
  }

  /** One entry for all that changed on the host: a storm of findings is as many lines of one payload. */
  #noteLogged(
    { hostId, at, report }: HostWrite,
    pulse: Pulse,
    before: { readonly verdict: string; readonly told: string },
  ): void {
    const findings = this.#findings.takeLogged();
    const after = { verdict: pulse.verdict, told: toldVerdict(pulse) };
    if (findings.length === 0 && before.verdict === after.verdict && before.told === after.told) return;
    const { revision } = pulse;
    const judged = { host: hostId, revision, at, seq: report?.seq ?? null, before, after, findings };
    this.#logged.push(judgedLogged(judged, report?.receivedAt ?? at));
  }

  /** A number is taken once, whatever the revision says: two rows under one key would fail the whole group. */
  #fits(draft: HostDraft, { hostId, report }: HostWrite): boolean {
    if (report === undefined || report.kind === 'fork') return true;
    if (report.kind === 'history') return !this.#copies.has(`${hostId} ${report.seq}`);
    return report.seq > draft.pulse.head_seq;
  }

  #keep(draft: HostDraft, report: NonNullable<HostWrite['report']>): void {
    const { pulse } = draft;
    const hostId = pulse.host_id;
    if (report.kind === 'same') {
      this.#keepDay(draft, report.receivedAt);
      draft.same = {
        same_seq: report.seq,
        same_digest: report.digest,
        same_class: report.class,
        same_started: report.startedAt,
        same_received: report.receivedAt,
        same_answer: report.answer,
        same_envelope: report.envelope,
      };
      pulse.same_seq = report.seq;
      pulse.same_received = report.receivedAt;
      return;
    }
    const key = `${hostId} ${report.seq}`;
    let copy = 0;
    if (report.kind === 'fork') {
      // Both envelopes are the proof: the first one must not go when the next `same` comes.
      if (report.seq === pulse.same_seq) this.#keepSame(draft);
      // Posted again because its refusal was lost: what is there already needs no second copy, and would take another's place.
      if (this.#kept.has(`${key} ${report.digest}`)) return;
      copy = (this.#copies.get(key) ?? 0) + 1;
      if (copy > FORK_COPIES_MAX) return;
    }
    this.#copies.set(key, copy);
    this.#kept.add(`${key} ${report.digest}`);
    this.#reports.push(rowOfReport(hostId, copy, report));
  }

  /** Of every past UTC day its last `same` stays. */
  #keepDay(draft: HostDraft, now: number): void {
    const { same_received } = draft.pulse;
    if (same_received !== null && day(same_received) !== day(now)) this.#keepSame(draft);
  }

  #keepSame(draft: HostDraft): void {
    const row = draft.same === null ? undefined : reportOfSame(draft.pulse.host_id, draft.same);
    if (row === undefined) draft.keepStanding = true;
    else this.#reports.push(row);
  }

  #judge(draft: HostDraft, item: HostWrite) {
    const { pulse, judged } = draft;
    assert(judged !== undefined, `host ${item.hostId} has a pulse and no row`);
    draft.judgedChanged = true;
    const before = { revision: item.expectRevision, verdict: judged.verdict };
    if (item.facts !== undefined) judged.facts = JSON.stringify(item.facts);
    if (item.rule !== undefined) judged.rule = item.rule;
    if (item.images !== undefined) {
      judged.image_booted = item.images.booted;
      judged.image_staged = item.images.staged;
      judged.image_rollback = item.images.rollback;
    }
    const seq = item.report?.seq ?? null;
    const changed = this.#findings.apply(item, seq, judged);
    if (item.standing !== undefined) {
      const from = judged.verdict;
      Object.assign(judged, standingRow(item.standing));
      pulse.verdict = judged.verdict;
      if (from !== judged.verdict)
        this.#verdicts.push({
          host_id: pulse.host_id,
          revision: pulse.revision,
          at: item.at,
          from_verdict: from,
          to_verdict: judged.verdict,
          seq,
        });
    }
    if (item.audit !== undefined)
      this.#audits.push({
        by: item.audit.by,
        entry: {
          action: item.audit.action,
          object: `host:${item.hostId}`,
          before,
          after: { revision: pulse.revision, verdict: judged.verdict },
        },
      });
    return changed;
  }

  async write(): Promise<void> {
    const { bulk } = this.#tx;
    const drafts = [...this.#hosts.values()].filter(({ touched }) => touched);
    if (drafts.length === 0) return;
    await this.#keepStanding(drafts);
    await bulk.insert('report', Object.keys(EMPTY_REPORT) as (keyof ReportRow)[], this.#reports, {
      key: ['host_id', 'seq', 'copy'],
      nothing: true,
    });
    const plain = drafts.filter(({ same }) => same === null);
    const withSame = drafts.filter(({ same }) => same !== null);
    await bulk.update(
      'pulse',
      ['host_id'],
      PULSE_SET,
      plain.map(({ pulse }) => pulse),
    );
    await bulk.update(
      'pulse',
      ['host_id'],
      [...PULSE_SET, ...SAME],
      withSame.map(({ pulse, same }) => ({ ...pulse, ...same! })),
    );
    await bulk.update(
      'host',
      ['id'],
      JUDGED,
      drafts.flatMap(({ judged, judgedChanged }) => (judged !== undefined && judgedChanged ? [judged] : [])),
    );
    await bulk.insert(
      'verdict_change',
      ['host_id', 'revision', 'at', 'from_verdict', 'to_verdict', 'seq'],
      this.#verdicts,
    );
    await this.#findings.write(this.#tx);
    await writeLineages(this.#tx, this.#lineages);
    // Once all stands that it reads; its jobs with the others, in the order of their keys.
    const telling = await writeOutbox(this.#tx, [...this.#findings.happened(), ...this.#happened]);
    await enqueue(this.#tx, [...this.#jobs, ...telling]);
    for (const { by, entry } of this.#audits) await writeAudit(this.#tx, by, entry);
    await appendLog(this.#tx, [...this.#reports.map(reportLogged), ...this.#logged]);
  }

  async #keepStanding(drafts: readonly HostDraft[]): Promise<void> {
    const keep = drafts.filter(({ keepStanding }) => keepStanding);
    if (keep.length === 0) return;
    const rows = await this.#tx.bulk.select(
      'pulse',
      ['host_id', ...SAME],
      ['host_id'],
      keep.map(({ pulse }) => ({ host_id: pulse.host_id })),
    );
    this.#reports.push(...(await unkept(this.#tx, rows)));
  }
}

/** The newest `same` of each, as far as it is not among the reports: an export may have kept it before its day was over. */
async function unkept({ bulk }: Tx, rows: readonly (SameColumns & Row<'pulse', 'host_id'>)[]): Promise<ReportRow[]> {
  const reports = rows.flatMap((row) => reportOfSame(row.host_id, row) ?? []);
  const kept = await bulk.select(
    'report',
    ['host_id', 'seq'],
    ['host_id', 'seq'],
    reports.map(({ host_id, seq }) => ({ host_id, seq })),
  );
  const known = new Set(kept.map(({ host_id, seq }) => `${host_id} ${seq}`));
  return reports.filter(({ host_id, seq }) => !known.has(`${host_id} ${seq}`));
}

/** Keeps and logs the newest `same` of these hosts that was received before a time; answers how many were not kept yet. */
export async function keepSamesIn(tx: Tx, hostIds: readonly string[], before: number): Promise<number> {
  const { bulk } = tx;
  const keys = [...hostIds].sort(byKey).map((host_id) => ({ host_id }));
  const pulses = await bulk.select('pulse', ['host_id', ...SAME], ['host_id'], keys, true);
  const due = pulses.filter(({ same_received }) => same_received !== null && same_received < before);
  const reports = await unkept(tx, due);
  await bulk.insert('report', Object.keys(EMPTY_REPORT) as (keyof ReportRow)[], reports, {
    key: ['host_id', 'seq', 'copy'],
    nothing: true,
  });
  await appendLog(tx, reports.map(reportLogged));
  return reports.length;
}

const NOTHING = { opened: [], reopened: [], resolved: [], disposed: [] } as const;

/** Only its keys count: the columns of `report`, checked against the row's type. */
const EMPTY_REPORT: Readonly<Record<keyof ReportRow, null>> = {
  host_id: null,
  seq: null,
  copy: null,
  kind: null,
  digest: null,
  class: null,
  started_at: null,
  received_at: null,
  answer: null,
  envelope: null,
};

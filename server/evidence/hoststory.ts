/**
 * One host in a period, out of what the log tells of it (docs/evidence.md 3.2, 3.3): when it was heard, how it stood at the end, what it ran, its
 * findings with their history. Only this one host is in memory, whatever the fleet.
 */
import { hash } from 'node:crypto';
import { formatInstant, type Instant } from '#src/clock.ts';
import type { FindingFact, HostInScope } from '#src/evidence/facts.ts';
import { VERDICTS, type Verdict } from '#src/finding/verdict.ts';
import { EXPORT_PAGE, EXPORT_REPORTS_BACK } from '#src/limits.ts';
import { freshnessOf, type Policy } from '#src/policy/document.ts';
import { openReport } from '#src/report/accept.ts';
import type { FullReport, Report } from '#src/report/report.ts';
import { hostFactsOf } from '#server/hostfacts.ts';
import type { EntryKey, HostEntry, Range } from '#server/store/evidencerecords.ts';
import type { Host } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';
import { checkInsOf, type Heard } from './checkins.ts';
import { entriesBy, FOREVER, own, said, type StoryAbout } from './entries.ts';
import { explained, findingsOf, judgedOf, type Judgements, type Told } from './judgements.ts';

export type HostStory = {
  readonly host: HostInScope;
  readonly findings: readonly FindingFact[];
  /** Entries of the present log that the bundle must hold. */
  readonly reports: readonly number[];
  readonly judgements: readonly number[];
  readonly acts: readonly number[];
  /** Waivers that cover, or covered, its findings. */
  readonly waivers: readonly string[];
};

const sha256 = (data: string | Uint8Array): string => hash('sha256', data, 'hex');
type ReportFacts = { readonly report: 'full' | 'same'; readonly seq: number; readonly copy: number };

/** Undefined where the host was not enrolled in the period, and the log says nothing of it then. */
export async function storyOf(host: Host, about: StoryAbout): Promise<HostStory | undefined> {
  const { period } = about;
  if (host.createdAt >= period.to) return undefined;
  const acts = await actsOf(host, about);
  const heard = await heardOf(host.id, about);
  const judged = await judgedOf(host.id, about);
  const isOver = acts.retiredAt !== null && acts.retiredAt <= period.from;
  if (isOver && heard.inPeriod.length + acts.inPeriod.length + judged.inPeriod.length === 0) return undefined;

  const span = {
    from: Math.max(period.from, host.createdAt),
    to: Math.min(period.to, about.exportedAt, acts.retiredAt ?? FOREVER),
  };
  const { reportEvery, silentAfter, lateAfter } = termsOf(host, about.policy);
  const intervalSeconds = Math.max(1, Math.floor(reportEvery / 1000));
  const { checkIns, gaps } = checkInsOf({
    span,
    period,
    intervalMs: 1000 * intervalSeconds,
    silentMs: silentAfter,
    before: heard.before,
    heard: heard.heard,
    after: heard.after,
    missing: host.chain.gaps,
    silences: silencesOf(judged.told, heard.heard, { silentAfter, span }),
  });
  const findings = await findingsOf(host, judged, about);
  const last = heard.lastFull === undefined ? undefined : await fullAt(host.id, heard.lastFull, about.store);
  const lastHeard = heard.heard.at(-1)?.at ?? heard.before?.at ?? host.createdAt;
  const verdict = judged.told.at(-1)?.to ?? toldBefore(host, judged);
  return {
    host: {
      host: host.id,
      inScope: true,
      name: host.name,
      group: host.group,
      labels: Object.entries(host.labels)
        .map(([key, value]) => ({ key, value }))
        .sort((a, b) => (a.key < b.key ? -1 : 1)),
      key: host.publicKey,
      enrolment: acts.enrolment,
      enrolledAt: formatInstant(host.createdAt),
      retiredAt: acts.retiredAt === null ? null : formatInstant(acts.retiredAt),
      intervalSeconds,
      checkIns,
      gaps: gaps.map(({ from, to }) => ({
        from: formatInstant(from),
        to: formatInstant(to),
        why: explained(findings, { from, to }),
      })),
      standing: {
        ...(await standingOf(
          host,
          judged,
          { verdict, findings, booted: last?.deployment.booted?.image?.digest ?? null },
          about,
        )),
        freshness: verdict === 'silent' ? 'silent' : span.to - lastHeard >= lateAfter ? 'late' : 'current',
      },
      deployments: await deploymentsOf(host, last, heard.since, about),
      staged: last?.deployment.staged?.image?.digest ?? null,
      rollback: last?.deployment.rollback?.image?.digest ?? null,
    },
    findings: findings.map(({ fact }) => fact),
    reports: heard.indexes,
    judgements: [...judged.inPeriod, ...findings.flatMap(({ earlier }) => earlier)],
    acts: [...acts.inPeriod, ...(acts.enrolment === null ? [] : [acts.enrolment])],
    waivers: findings.flatMap(({ fact }) =>
      fact.history.flatMap(({ transition, why }) => (transition === 'waived' && why !== null ? [why] : [])),
    ),
  };
}

async function actsOf({ id, state }: Host, about: StoryAbout) {
  const { store, period, exportedAt } = about;
  const inPeriod: number[] = [];
  let enrolment: number | null = null;
  let retiredAt: Instant | null = null;
  for await (const entry of entriesBy(id, 'act', { from: 0, to: FOREVER }, about)) {
    const { action } = said(entry.entry) as { readonly action: string };
    const index = own(about, entry);
    if (index !== null && entry.at >= period.from && entry.at < period.to) inPeriod.push(index);
    if (action === 'host.enrol') enrolment ??= index;
    if (action === 'host.retire') retiredAt ??= entry.at;
  }
  // Retired before there was a log: the trail is older.
  if (retiredAt === null && state === 'retired') {
    const trail = await store.postures.acts(`host:${id}`, exportedAt, EXPORT_PAGE);
    const act = trail.findLast(({ action }) => action === 'host.retire');
    // Since the cut: it was not yet retired.
    if (act !== undefined && act.at < about.beganAt) retiredAt = act.at;
  }
  return { inPeriod, enrolment, retiredAt };
}

async function heardOf(id: string, about: StoryAbout) {
  const { store, period, cut } = about;
  const all: Heard[] = [];
  const inPeriod: number[] = [];
  let lastFull: number | undefined;
  for await (const entry of entriesBy(id, 'report', period, about)) {
    const { seq, copy, report } = said(entry.entry) as ReportFacts;
    const index = own(about, entry);
    if (index !== null) inPeriod.push(index);
    if (copy > 0) continue;
    all.push({ at: entry.at, seq });
    if (report === 'full') lastFull = Math.max(lastFull ?? 0, seq);
  }
  const indexes = [...inPeriod];
  // Of earlier ones the newest, by which check-ins are counted, and the full report that a `same` of the period leans on.
  let before: Heard | undefined;
  let since = period.from;
  let cursor: EntryKey | null = null;
  for (let walked = 0, found = false; !found && walked < EXPORT_REPORTS_BACK; walked += EXPORT_PAGE) {
    const page: readonly HostEntry[] = await store.evidence.reportsBefore(id, cut, period.from, {
      after: cursor,
      limit: EXPORT_PAGE,
    });
    for (const entry of page) {
      const { seq, copy, report } = said(entry.entry) as ReportFacts;
      if (copy > 0) continue;
      const isFull = report === 'full';
      if (before === undefined || isFull) {
        since = Math.min(since, entry.at);
        const index = own(about, entry);
        if (index !== null) indexes.push(index);
      }
      if (before === undefined || seq > before.seq) before = { at: entry.at, seq };
      if (!isFull) continue;
      lastFull ??= seq;
      found = true;
      break;
    }
    if (page.length < EXPORT_PAGE) break;
    cursor = page.at(-1)!;
  }
  const [next] = await store.evidence.entries(
    id,
    'report',
    cut,
    { from: period.to, to: FOREVER },
    { after: null, limit: 1 },
  );
  const after = next && { at: next.at, seq: (said(next.entry) as ReportFacts).seq };
  return { indexes, inPeriod, heard: all, before, after, lastFull, since };
}

/** Times for which it was told silent: from when it was last heard, as far as that is known, until it was told otherwise. */
function silencesOf(
  told: Judgements['told'],
  heard: readonly Heard[],
  { silentAfter, span }: { readonly silentAfter: number; readonly span: Range },
): Range[] {
  const out: Range[] = [];
  let from: Instant | undefined;
  for (const turn of told) {
    if (turn.to === 'silent') {
      const last = heard.findLast(({ at }) => at <= turn.at)?.at ?? span.from;
      from ??= Math.max(last, turn.at - silentAfter);
    } else if (turn.from === 'silent' && from !== undefined) {
      out.push({ from, to: turn.at });
      from = undefined;
    }
  }
  if (from !== undefined) out.push({ from, to: span.to });
  return out;
}

/** When the host must report: by policy, or as it was told itself. */
function termsOf(host: Host, policy: Policy | undefined) {
  if (policy !== undefined) return freshnessOf(policy, hostFactsOf(host));
  const { interval, liveAt, lateAfter, silentAfter } = host.freshness;
  const since = liveAt ?? host.createdAt;
  return { reportEvery: interval, lateAfter: lateAfter - since, silentAfter: silentAfter - since };
}

/** A verdict that the log does not tell of: nothing changed since it began. */
function toldBefore({ standing, freshness, chain }: Host, { isLast }: Judgements): string {
  if (!isLast || chain.headSeq === 0) return 'new';
  return standing.verdict !== 'new' && freshness.silenceNoted ? 'silent' : standing.verdict;
}

const INTEGRITY: Readonly<Record<string, string>> = {
  compliant: 'intact',
  drifted: 'drifted',
  unsigned: 'intact',
  unverifiable: 'unverifiable',
};
const DRIFTS = new Set([
  'drift',
  'secret',
  'account',
  'overlay',
  'layered',
  'karg',
  'verity',
  'transient-root',
  'stale-config',
]);

/** As it was last judged; where it was judged again since, what its verdict and its findings say of the three answers. */
async function standingOf(
  { standing }: Host,
  { verdict: bare, isLast }: Judgements,
  {
    verdict,
    findings,
    booted,
  }: { readonly verdict: string; readonly findings: readonly Told[]; readonly booted: string | null },
  { store, image }: StoryAbout,
): Promise<Omit<HostInScope['standing'], 'freshness'>> {
  const known = (VERDICTS as readonly string[]).includes(verdict) ? (verdict as Verdict) : 'unverifiable';
  const judged = bare ?? (verdict === 'silent' ? standing.verdict : verdict);
  if (isLast && (bare === null || bare === standing.verdict)) {
    const { integrity, provenance, allowed, waived } = standing;
    return { verdict: known, integrity, provenance, allowed, waived };
  }
  const open = findings.filter(({ fact }) => fact.open && fact.disposition !== 'waived');
  const drifted = open.some(({ fact }) => DRIFTS.has(fact.kind));
  const trust = booted === null ? undefined : await store.trust.get(await image(booted));
  return {
    verdict: known,
    integrity: drifted && judged !== 'unverifiable' ? 'drifted' : (INTEGRITY[judged] ?? 'unverifiable'),
    provenance: trust?.state ?? 'not-assessed',
    allowed: null,
    waived: findings.filter(({ fact }) => fact.open && fact.disposition === 'waived').length,
  };
}

async function fullAt(hostId: string, seq: number, store: Store): Promise<FullReport | undefined> {
  const stored = await store.reports.get(hostId, seq);
  return stored === undefined ? undefined : fullOf(stored.envelope);
}

function fullOf(envelope: Uint8Array): FullReport | undefined {
  if (envelope.length === 0) return undefined;
  const opened = openReport(envelope, sha256);
  const report = opened.kind === 'opened' ? (opened.value as Report) : undefined;
  return report?.kind === 'full' ? report : undefined;
}

type Deployments = HostInScope['deployments'];

/** What it ran by its stays, from the oldest report in the bundle on (`since`), and what reports say that came late or twice: those begin none. */
async function deploymentsOf(
  host: Host,
  last: FullReport | undefined,
  since: Instant,
  about: StoryAbout,
): Promise<Deployments> {
  const { store, period, image } = about;
  const out: Deployments = [];
  const current = last?.deployment.booted?.image?.digest ?? null;
  const booted = current === null ? null : await image(current);
  const seen = new Set<string>();
  for (const stay of await store.evidence.stays(host.id, { from: since, to: period.to })) {
    const digest = await image(stay.image);
    const isCurrent = digest === booted;
    seen.add(digest);
    out.push({
      image: digest,
      rule: isCurrent ? (last?.manifest?.rule ?? null) : null,
      enforced: isCurrent ? last?.deployment.booted?.image?.signature === 'containerPolicy' : null,
      from: formatInstant(stay.from),
      to: stay.to === null ? null : formatInstant(stay.to),
    });
  }
  for (const { envelope } of await store.evidence.oddReports(host.id, period, EXPORT_PAGE)) {
    const report = fullOf(envelope);
    const named = report?.deployment.booted?.image?.digest;
    if (report === undefined || named === undefined || named === null) continue;
    const digest = await image(named);
    if (seen.has(digest)) continue;
    seen.add(digest);
    out.push({
      image: digest,
      rule: report.manifest?.rule ?? null,
      enforced: null,
      from: report.startedAt,
      to: report.finishedAt,
    });
  }
  return out.sort((a, b) => (a.from < b.from ? -1 : a.from > b.from ? 1 : 0)).slice(0, 10_000);
}

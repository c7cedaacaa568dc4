/** What was judged of one host, in order, and its findings with their history (docs/evidence.md 3.3). */
import { formatInstant, type Instant } from '#src/clock.ts';
import type { FindingFact } from '#src/evidence/facts.ts';
import { EXPORT_REPORTS_BACK } from '#src/limits.ts';
import { SEVERITIES } from '#src/policy/judgement.ts';
import type { EntryKey, Range } from '#server/store/evidencerecords.ts';
import type { LoggedFinding } from '#server/store/logpayload.ts';
import type { Host } from '#server/store/records.ts';
import { entriesBy, FOREVER, own, said, type StoryAbout } from './entries.ts';

const decoder = new TextDecoder();
type JudgedFacts = { readonly verdict: { readonly from: string; readonly to: string } | null };

type Revised = EntryKey & { readonly revision: number };
type Event = Revised & LoggedFinding & { readonly n: number };
export type Turn = Revised & { readonly from: string; readonly to: string };
export type Judgements = {
  readonly inPeriod: readonly number[];
  /** What became of its findings until the end of the period, in order. */
  readonly events: readonly Event[];
  readonly told: readonly Turn[];
  /** As last judged in the period or before, without silence. */
  readonly verdict: string | null;
  /** Nothing was judged after the period. */
  readonly isLast: boolean;
};

/** As they happened: what one moment brought may be logged in another order. */
const inOrder = (a: Revised, b: Revised): number => a.log - b.log || a.revision - b.revision || a.index - b.index;

export async function judgedOf(id: string, about: StoryAbout): Promise<Judgements> {
  const { store, period, cut } = about;
  const inPeriod: number[] = [];
  const events: Event[] = [];
  const told: Turn[] = [];
  let after: { readonly revision: number; readonly verdict: string } | undefined;
  let revision = 0;
  for await (const entry of entriesBy(id, 'judgement', { from: 0, to: period.to }, about)) {
    const { at, log, index } = entry;
    if (own(about, entry) !== null && at >= period.from) inPeriod.push(index);
    const payload =
      entry.body === null
        ? undefined
        : (JSON.parse(decoder.decode(entry.body)) as {
            readonly revision: number;
            readonly after: { readonly verdict: string };
            readonly findings: readonly LoggedFinding[];
          });
    // What was purged stands where the log has it.
    revision = payload?.revision ?? revision;
    const { verdict } = said(entry.entry) as JudgedFacts;
    if (verdict !== null) told.push({ at, log, index, revision, ...verdict });
    if (payload === undefined) continue;
    if (after === undefined || after.revision <= revision) after = { revision, verdict: payload.after.verdict };
    for (const [n, finding] of payload.findings.entries()) events.push({ at, log, index, revision, n, ...finding });
  }
  const later = await store.evidence.entries(
    id,
    'judgement',
    cut,
    { from: period.to, to: FOREVER },
    { after: null, limit: 1 },
  );
  return {
    inPeriod,
    events: events.sort((a, b) => inOrder(a, b) || a.n - b.n),
    told: told.sort(inOrder),
    verdict: after?.verdict ?? null,
    isLast: later.length === 0,
  };
}

export type Told = {
  readonly fact: FindingFact;
  /** Entries before the period that its history names. */
  readonly earlier: readonly number[];
};

export async function findingsOf(host: Host, { events }: Judgements, about: StoryAbout): Promise<Told[]> {
  const { period, cut, beganAt, store } = about;
  const byGroup = new Map<string, Event[]>();
  for (const event of events) byGroup.set(event.group, [...(byGroup.get(event.group) ?? []), event]);
  // What opened before the log began, and did not end since, it tells nothing of.
  if (host.createdAt < beganAt)
    for (const { groupId } of await store.postures.episodes(
      host.id,
      { openedBy: Math.min(period.to - 1, beganAt), endedFrom: period.from },
      EXPORT_REPORTS_BACK,
    ))
      if (!byGroup.has(groupId)) byGroup.set(groupId, []);
  const out: Told[] = [];
  for (const [id, turns] of [...byGroup].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const fold = folded(turns);
    if (!fold.open && fold.endedAt < period.from) continue;
    const [group, row] = await Promise.all([
      about.group(id),
      turns[0]?.transition === 'new' ? undefined : store.findings.get(host.id, id),
    ]);
    if (group === undefined) continue;
    out.push({
      fact: {
        host: host.id,
        group: id,
        rule: group.rule,
        kind: group.kind,
        subject: group.subject.slice(0, 8192),
        severity: SEVERITIES[turns.at(-1)?.severity ?? row?.severity ?? 0]!,
        controls: [...(about.controls.get(group.rule) ?? [])],
        firstSeen: formatInstant(row?.firstSeen ?? turns[0]?.at ?? host.createdAt),
        open: fold.open,
        disposition: fold.disposition,
        waiver: fold.waiver,
        answeredAt: fold.answeredAt === null ? null : formatInstant(fold.answeredAt),
        history: turns.map(({ log, index, at, transition, episode, severity, why }) => ({
          index: log === cut.log ? index : null,
          at: formatInstant(at),
          transition,
          episode,
          severity,
          why,
        })),
      },
      earlier: turns.flatMap(({ log, index, at }) => (log === cut.log && at < period.from ? [index] : [])),
    });
  }
  return out;
}

function folded(turns: readonly Event[]) {
  let open = true;
  let endedAt = Infinity;
  let disposition: FindingFact['disposition'] = 'none';
  let waiver: string | null = null;
  let answeredAt: Instant | null = null;
  for (const { transition, at, why } of turns) {
    if (transition === 'resolved') {
      open = false;
      endedAt = at;
    } else if (transition !== 'acknowledged' && transition !== 'waived') open = true;
    disposition = transition === 'acknowledged' || transition === 'waived' ? transition : 'none';
    waiver = transition === 'waived' ? why : null;
    if (transition === 'acknowledged' || transition === 'waived' || transition === 'resolved') answeredAt ??= at;
  }
  return { open, endedAt, disposition, waiver, answeredAt };
}

/** What a person said of a silence: the waiver of the finding that told of it. */
export function explained(findings: readonly Told[], { from, to }: Range): string | null {
  const [begin, end] = [formatInstant(from), formatInstant(to)];
  for (const { fact } of findings) {
    if (fact.kind !== 'silence') continue;
    const answer = fact.history.find(({ transition, at }) => transition === 'waived' && at >= begin && at <= end);
    if (answer !== undefined) return `waived by ${answer.why ?? ''}`;
  }
  return null;
}

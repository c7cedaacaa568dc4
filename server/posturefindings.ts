/** Findings of a host at a moment (docs/posture.md 3): which stood, and what people had decided about them by then. */
import type { Instant } from '#src/clock.ts';
import { describe } from '#src/finding/describe.ts';
import { POSTURE_EPISODES_MAX, POSTURE_PAGE, POSTURE_WALK_MAX } from '#src/limits.ts';
import { SEVERITIES, type JudgementKind, type Severity } from '#src/policy/judgement.ts';
import type { Rest, Stated } from './stated.ts';
import type { WaiverThen } from './posturefacts.ts';
import type { EpisodeSpan, JudgedEntry, ReportEntry } from './store/posturerecords.ts';
import type { Store } from './store/store.ts';

export type FindingThen = {
  readonly group: string;
  readonly rule: string;
  readonly kind: string;
  readonly subject: string;
  /** In one line, for people. */
  readonly what: string;
  /** Null where the log does not tell of its opening. */
  readonly severity: Severity | null;
  /** When it was first so, of this time that it stood. */
  readonly since: Instant;
  /** What people had decided; null where more was logged meanwhile than is looked at. */
  readonly disposition: 'none' | 'acknowledged' | 'waived' | null;
  readonly waiver: string | null;
  /** Of its opening, and of what was decided. Empty where it opened before the log began. */
  readonly rests: readonly Rest[];
};

/** One turn of a finding, as a judgement logged it. */
export type Turn = {
  readonly key: string;
  readonly transition: string;
  readonly severity: number;
  readonly why: string | null;
  readonly entry: JudgedEntry;
};

export function turnsOf(entry: JudgedEntry): Turn[] {
  return (entry.judged?.findings ?? []).map(({ group, episode, transition, severity, why }) => ({
    key: `${group} ${episode}`,
    transition,
    severity,
    why,
    entry,
  }));
}

/** Of what only the clock makes: that time went by after the moment says nothing of it. */
const BY_CLOCK: ReadonlySet<string> = new Set<JudgementKind>(['silence', 'outdated']);

/** Why findings of a host that was retired end. */
export const RETIRED = 'host_retired';

type About = {
  readonly at: Instant;
  readonly known: Instant;
  readonly shown: ReportEntry | undefined;
  readonly next: { readonly seq: number; readonly at: Instant } | undefined;
  /** Judgements after `at` that count, oldest first. */
  readonly later: readonly JudgedEntry[];
  readonly waivers: readonly WaiverThen[];
  readonly isSilent: boolean;
  readonly beganAt: Instant;
};

export async function findingsThen(
  hostId: string,
  about: About,
  { postures }: Pick<Store, 'postures'>,
): Promise<Stated<readonly FindingThen[]>> {
  const { at, known, shown, next } = about;
  const endedFrom = Math.min(at, shown?.kept?.startedAt ?? at);
  const spans = await postures.episodes(hostId, { openedBy: known, endedFrom }, POSTURE_EPISODES_MAX + 1);
  if (spans.length > POSTURE_EPISODES_MAX)
    return {
      value: null,
      why: { code: 'too-many', text: `more than ${POSTURE_EPISODES_MAX} findings of the host stood then or since` },
      rests: [],
    };
  // By the report that it came of where it came of one: reports of one moment keep their order.
  const counts = (when: Instant, seq: number | null): boolean =>
    when <= known && (next === undefined || (seq === null ? when < next.at : seq < next.seq));
  // That a host was retired later says nothing of what it showed.
  const ended = ({ closedAt, closedSeq, reason }: EpisodeSpan): boolean =>
    closedAt !== null && counts(closedAt, closedSeq) && (reason !== RETIRED || closedAt <= at);
  const opened = spans.filter((span) => counts(span.openedAt, span.openedSeq));
  const groups = await postures.groups([...new Set(opened.map(({ groupId }) => groupId))]);
  const asOf = opened.filter((span) => {
    const kind = groups.get(span.groupId)?.kind ?? '';
    // What came later ends no silence that had been so, but may tell that there was none.
    if (kind === 'silence' && known > at && !about.isSilent) return false;
    if (BY_CLOCK.has(kind)) return span.openedAt <= at && (span.closedAt === null || span.closedAt > at);
    return !ended(span);
  });
  const turns = await turnsBy(hostId, about, asOf, postures);
  const found = asOf.flatMap((span): FindingThen[] => {
    const group = groups.get(span.groupId);
    if (group === undefined) return [];
    const { id, rule, kind, subject, signature } = group;
    return [
      {
        group: id,
        rule,
        kind,
        subject,
        what: describe({ kind: kind as JudgementKind, subject, signature }),
        since: span.openedAt,
        ...decidedOn(span, turns, about),
      },
    ];
  });
  const weight = ({ severity }: FindingThen): number => (severity === null ? -1 : SEVERITIES.indexOf(severity));
  found.sort((a, b) => weight(b) - weight(a) || (a.what < b.what ? -1 : 1));
  return { value: found, rests: [] };
}

type Turns = {
  /** The newest turn by `at` of each finding. */
  readonly newest: ReadonlyMap<string, Turn>;
  readonly opened: ReadonlyMap<string, Turn>;
  /** Waived in the very judgement that opened it, after `at`. */
  readonly waivedAtOnce: ReadonlyMap<string, Turn>;
  /** Everything up to the log's beginning was looked at. */
  readonly whole: boolean;
};

/** Walks the host's judgements back from the moment until each finding that stood then was met. */
async function turnsBy(
  hostId: string,
  { at, later }: About,
  spans: readonly EpisodeSpan[],
  postures: Store['postures'],
): Promise<Turns> {
  const newest = new Map<string, Turn>();
  const opened = new Map<string, Turn>();
  const waivedAtOnce = new Map<string, Turn>();
  for (const turn of later.flatMap(turnsOf)) {
    if (isOpening(turn)) opened.set(turn.key, turn);
    else if (turn.transition === 'waived' && opened.get(turn.key)?.entry === turn.entry)
      waivedAtOnce.set(turn.key, turn);
  }
  const open = new Set(spans.map(({ groupId, n }) => `${groupId} ${n}`).filter((key) => !opened.has(key)));
  let to = at;
  for (let walked = 0; open.size > 0; walked += POSTURE_PAGE) {
    if (walked >= POSTURE_WALK_MAX) return { newest, opened, waivedAtOnce, whole: false };
    const page = await postures.judged(hostId, { from: 0, to }, 'newest', POSTURE_PAGE);
    for (const entry of page.toSorted((a, b) => (b.judged?.revision ?? 0) - (a.judged?.revision ?? 0)))
      // Of one judgement the decision comes behind the opening.
      for (const turn of turnsOf(entry).reverse()) {
        if (!newest.has(turn.key)) newest.set(turn.key, turn);
        if (!isOpening(turn)) continue;
        opened.set(turn.key, turn);
        open.delete(turn.key);
      }
    if (page.length < POSTURE_PAGE) break;
    const last = page.at(-1)!.at;
    to = last === to ? last - 1 : last;
  }
  return { newest, opened, waivedAtOnce, whole: true };
}

const isOpening = ({ transition }: Turn): boolean => transition === 'new' || transition === 'regressed';
const restOf = ({ entry: { log, index, at } }: Turn): Rest => ({ kind: 'judgement', log, index, at });

function decidedOn(
  { groupId, n, openedAt }: EpisodeSpan,
  { newest, opened, waivedAtOnce, whole }: Turns,
  { waivers, beganAt }: About,
): Pick<FindingThen, 'severity' | 'disposition' | 'waiver' | 'rests'> {
  const key = `${groupId} ${n}`;
  const began = opened.get(key);
  const last = newest.get(key);
  const severity = began === undefined ? null : SEVERITIES[began.severity]!;
  const rests = [began, last]
    .filter((turn, at, all) => turn !== undefined && all.findIndex((other) => other?.entry === turn.entry) === at)
    .map((turn) => restOf(turn!));
  if (last?.transition === 'waived') return { severity, disposition: 'waived', waiver: last.why, rests };
  if (last?.transition === 'acknowledged') return { severity, disposition: 'acknowledged', waiver: null, rests };
  if (last !== undefined) return { severity, disposition: 'none', waiver: null, rests };
  // It is known only by what came later: nobody had decided about it, but a waiver that was in force then may reach it.
  const at = waivedAtOnce.get(key);
  if (at?.why != null && waivers.some(({ id }) => id === at.why))
    return { severity, disposition: 'waived', waiver: at.why, rests };
  if (began !== undefined) return { severity, disposition: 'none', waiver: null, rests };
  return { severity, disposition: whole && openedAt >= beganAt ? 'none' : null, waiver: null, rests };
}

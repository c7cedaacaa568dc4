/**
 * How a host stood at one moment, as far as it was known at another (docs/posture.md): from what the evidence log tells, never from the
 * host's row of today. Two times: `at`, when it was so, and `known`, up to when what the server learned counts. What came later than
 * `known` (a report that waited on its host, a new policy's judgement, an approval) is as if it had not happened.
 */
import type { Instant } from '#src/clock.ts';
import { freshnessOf } from '#src/policy/document.ts';
import { POSTURE_PAGE } from '#src/limits.ts';
import { hostFactsOf } from './hostfacts.ts';
import { PolicyError } from './policies.ts';
import { DocumentError } from '#src/document/yaml.ts';
import { answersThen, type Answers } from './postureanswers.ts';
import { findingsThen, RETIRED, turnsOf, type FindingThen, type Turn } from './posturefindings.ts';
import {
  hostThen,
  policyThen,
  waiversThen,
  type HostThen,
  type PolicyInForce,
  type WaiverThen,
} from './posturefacts.ts';
import {
  imageOf,
  noneShown,
  type ImageThen,
  reportOf,
  reportsOf,
  type PostureDeps,
  type Reports,
  type ReportThen,
} from './posturereports.ts';
import { day, rest, unknown, type Stated } from './stated.ts';
import type { JudgedEntry } from './store/posturerecords.ts';
import type { Host } from './store/records.ts';
import type { Store } from './store/store.ts';

export type Posture = {
  readonly at: Instant;
  readonly known: Instant;
  readonly host: Stated<HostThen>;
  readonly verdict: Stated<string>;
  /** What the verdict is made of. */
  readonly answers: Answers;
  /** Why the verdict is that, beside the findings. */
  readonly notes: readonly string[];
  readonly report: Stated<ReportThen>;
  readonly image: Stated<ImageThen>;
  readonly policy: Stated<PolicyInForce>;
  /** The policy under which the verdict was judged, where it is another one. */
  readonly judgedBy: PolicyInForce | null;
  readonly findings: Stated<readonly FindingThen[]>;
  readonly waivers: readonly WaiverThen[];
  /** What the entries that it rests on are numbered in. */
  readonly logs: Logs;
};

/** Which logs there are, by number, and when the first began. */
export type Logs = { readonly origins: ReadonlyMap<number, string>; readonly beganAt: Instant | null };

export async function logsOf({ log }: Pick<Store, 'log'>): Promise<Logs> {
  const [head, past] = await Promise.all([log.head(), log.past()]);
  const all = [...past, ...(head === undefined ? [] : [head])];
  return { origins: new Map(all.map((one) => [one.log, one.origin])), beganAt: all[0]?.beganAt ?? null };
}

/** `at` is not after `known`, and `known` not after now: callers refuse those. */
export async function postureOf(host: Host, at: Instant, known: Instant, deps: PostureDeps): Promise<Posture> {
  const { store } = deps;
  const logs = await logsOf(store);
  const out = unreached(host, at, logs);
  if (out !== undefined)
    return {
      at,
      known,
      host: out,
      verdict: out,
      answers: { integrity: out, provenance: out, freshness: out },
      notes: [],
      report: out,
      image: out,
      policy: out,
      judgedBy: null,
      findings: out,
      waivers: [],
      logs,
    };

  const [reports, hostFacts, policy] = await Promise.all([
    reportsOf(host, at, known, deps),
    hostThen(host, at, store),
    policyThen(at, store),
  ]);
  const { shown, next } = reports;
  const none = noneShown(host, logs.beganAt!);
  const judged = await judgementsOf(host.id, at, known, reports, store);
  const report = reportOf(reports, none);
  const image = await imageOf(host.id, reports, none, deps);
  const booted = image.value?.digest ?? null;
  const waivers = await waiversThen(host.id, hostFacts.value ?? host, booted, at, known, store);
  const verdict = await verdictOf(
    host,
    at,
    known,
    { reports, judged, waivers, policy, beganAt: logs.beganAt!, facts: hostFacts.value ?? host },
    deps,
  );
  const isSilent = verdict.stated.value === 'silent';
  const findings =
    shown === undefined && none.why.code === 'before-log'
      ? none
      : shown?.kept?.kind === 'history'
        ? unknown(
            'not-judged',
            `report ${shown.seq} came when later ones had been judged, and was kept without a judgement of its own`,
          )
        : await findingsThen(
            host.id,
            { at, known, next, shown, later: judged.later, waivers, isSilent, beganAt: logs.beganAt! },
            store,
          );
  const judgedAt = verdict.stated.rests.find(({ kind }) => kind === 'judgement')?.at;
  const by = judgedAt === undefined ? undefined : await policyThen(judgedAt, store);
  const coverage = new Map<string, number>();
  for (const { waiver, disposition } of findings.value ?? [])
    if (disposition === 'waived' && waiver !== null) coverage.set(waiver, (coverage.get(waiver) ?? 0) + 1);
  return {
    at,
    known,
    host: hostFacts,
    verdict: verdict.stated,
    answers: await answersThen({ at, verdict: verdict.stated, findings, report, image, policy }, deps),
    notes: verdict.notes,
    report,
    image,
    policy,
    judgedBy: by?.value != null && by.value.version !== policy.value?.version ? by.value : null,
    findings,
    waivers: waivers.map((waiver) => ({ ...waiver, covers: coverage.get(waiver.id) ?? 0 })),
    logs,
  };
}

/** What is asked lies before the host, or before the log. */
function unreached({ createdAt }: Host, at: Instant, { beganAt }: Logs) {
  if (at < createdAt) return unknown('not-enrolled', `the host was enrolled later, at ${day(createdAt)}`);
  if (beganAt === null || at < beganAt)
    return unknown(
      'before-log',
      beganAt === null
        ? 'there is no evidence log yet'
        : `the evidence log begins at ${day(beganAt)}: nothing before it can be shown to be unchanged`,
    );
  return undefined;
}

// ── judgements ───────────────────────────────────────────────────────────────────────────────────────────────────────

type Judgements = {
  /** The newest by `at`. */
  readonly standing: JudgedEntry | undefined;
  /** Where there is none: the first one after it, which says what was before. */
  readonly first: JudgedEntry | undefined;
  /** Those of the shown report that were logged after `at`, up to `known`, oldest first. */
  readonly later: readonly JudgedEntry[];
  /** There are more of them than are looked at. */
  readonly cut: boolean;
};

const order = (a: JudgedEntry, b: JudgedEntry): number =>
  (a.judged?.revision ?? 0) - (b.judged?.revision ?? 0) || a.log - b.log || a.index - b.index;

async function judgementsOf(
  hostId: string,
  at: Instant,
  known: Instant,
  { next }: Reports,
  { postures }: Pick<Store, 'postures'>,
): Promise<Judgements> {
  // Some of one moment: a group of reports is committed at once, and the host's revision tells their order.
  const page = await postures.judged(hostId, { from: 0, to: at }, 'newest', 20);
  const newest = page
    .filter((one) => one.at === page[0]!.at)
    .toSorted(order)
    .at(-1);
  const standing =
    newest?.told != null || newest?.judged != null ? newest : (page.find(({ told }) => told !== null) ?? newest);
  if (known <= at) return { standing, first: undefined, later: [], cut: false };
  const to = Math.min(known, next?.at ?? known);
  const after = await postures.judged(hostId, { from: at + 1, to }, 'oldest', POSTURE_PAGE + 1);
  const later = after
    .filter(({ judged, at: when }) =>
      next === undefined ? true : judged?.seq == null ? when < next.at : judged.seq < next.seq,
    )
    .toSorted(order);
  const [first] = standing === undefined ? await postures.judged(hostId, { from: at + 1, to: known }, 'oldest', 1) : [];
  return { standing, first, later, cut: after.length > POSTURE_PAGE };
}

/** A judgement of what the host showed, not of what people decided or of time that went by. */
function isOfHost({ judged }: JudgedEntry): boolean {
  if (judged === null) return true;
  const { seq, before, after, findings } = judged;
  if (seq !== null) return true;
  if (after.told === 'silent' && before.told !== 'silent' && before.verdict === after.verdict) return false;
  if (findings.length === 0) return before.verdict !== after.verdict;
  return findings.some(
    ({ transition, why }) =>
      transition === 'new' || transition === 'regressed' || (transition === 'resolved' && why !== RETIRED),
  );
}

/** What was told at `at`. */
function toldThen(host: Host, at: Instant, { standing, first }: Judgements, beganAt: Instant): Stated<string> {
  const told = standing?.told?.to ?? standing?.judged?.after.told;
  if (told !== undefined) return { value: told, rests: [rest('judgement', standing!)] };
  if (standing !== undefined)
    return unknown('purged', `what judgement ${standing.index} said is not kept any more; its entry in the log stays`, [
      rest('judgement', standing),
    ]);
  const before = first?.told?.from ?? first?.judged?.before.told;
  if (before !== undefined) return { value: before, rests: [rest('judgement', first!)] };
  if (host.createdAt >= beganAt) return { value: 'new', rests: [] };
  return unknown(
    'before-log',
    `the host was judged before the evidence log began, at ${day(beganAt)}, and by ${day(at)} nothing had changed that the log tells of`,
  );
}

async function verdictOf(
  host: Host,
  at: Instant,
  known: Instant,
  about: {
    readonly reports: Reports;
    readonly judged: Judgements;
    readonly waivers: readonly WaiverThen[];
    readonly policy: Stated<PolicyInForce>;
    readonly beganAt: Instant;
    readonly facts: Pick<Host, 'group' | 'labels'>;
  },
  deps: Pick<PostureDeps, 'policies'>,
): Promise<{ readonly stated: Stated<string>; readonly notes: readonly string[] }> {
  const { reports, judged } = about;
  const told = toldThen(host, at, judged, about.beganAt);
  const { shown, cameLater, heardLater } = reports;
  const again = judged.later.filter(isOfHost).at(-1);
  if (known <= at || (again === undefined && !cameLater)) return { stated: told, notes: [] };
  if (cameLater && shown!.kept?.kind === 'history')
    return {
      stated: unknown(
        'not-judged',
        `report ${shown!.seq} shows the host then; it came at ${day(shown!.at)}, when later ones had been judged, and was kept without a judgement of its own`,
        [rest('report', shown!)],
      ),
      notes: [],
    };
  if (told.value === 'silent') {
    const quiet = heardLater === null ? Infinity : at - heardLater;
    if (quiet >= (await silentAfter(about.policy.value, about.facts, deps)))
      return {
        stated: told,
        notes: heardLater === null ? [] : [`the newest report from before then was made at ${day(heardLater)}`],
      };
  }
  if (judged.cut)
    return {
      stated: unknown('too-many', `more than ${POSTURE_PAGE} judgements followed on the same report`),
      notes: [],
    };
  const last = again ?? judged.standing;
  if (last?.judged == null)
    return {
      stated:
        last === undefined
          ? told
          : unknown('purged', `what judgement ${last.index} said is not kept any more`, [rest('judgement', last)]),
      notes: [],
    };
  const changed = changedBy(judged.later.filter((one) => order(one, last) <= 0).flatMap(turnsOf), about.waivers);
  if (changed !== undefined)
    return {
      stated: unknown(
        'changed-since',
        `at ${day(last.at)} it was judged ${last.judged.after.verdict}, but ${changed}: how it would have been judged with what was decided at ${day(at)}, nobody computed`,
        [rest('judgement', last)],
      ),
      notes: [],
    };
  return {
    stated: { value: last.judged.after.verdict, rests: [rest('judgement', last)] },
    notes: notesOf(told, last, reports),
  };
}

/** What people decided between `at` and the judgement, about findings that stood when it was made. */
function changedBy(turns: readonly Turn[], waivers: readonly WaiverThen[]): string | undefined {
  const inForce = new Set(waivers.map(({ id }) => id));
  const decided = new Map<string, { readonly first: Turn; readonly last: Turn }>();
  for (const turn of turns) {
    const { key, transition } = turn;
    if (transition === 'resolved') decided.delete(key);
    // An acknowledgement excepts nothing, so neither does its end.
    else if (transition === 'waived' || (transition === 'returned' && turn.why?.startsWith('waiver_') === true))
      decided.set(key, { first: decided.get(key)?.first ?? turn, last: turn });
  }
  for (const { first, last } of decided.values()) {
    if (last.transition === 'waived' && !inForce.has(last.why ?? '')) return `${last.why} had been approved meanwhile`;
    if (last.transition === 'returned' && first.transition === 'returned')
      return 'what was excepted then was so no more';
  }
  return undefined;
}

function notesOf(
  told: Stated<string>,
  last: JudgedEntry,
  { shown, cameLater, heardLater }: Reports,
): readonly string[] {
  if (cameLater)
    return [
      `report ${shown!.seq} was made before then and came at ${day(shown!.at)}`,
      ...(told.value === 'silent' && heardLater !== null
        ? ['at the time itself nothing had been heard, and it was told silent']
        : []),
    ];
  return [`judged again at ${day(last.at)}, from the same report`];
}

/** How long a host might be quiet under the policy in force. */
async function silentAfter(
  inForce: PolicyInForce | null,
  facts: Pick<Host, 'group' | 'labels'>,
  { policies }: Pick<PostureDeps, 'policies'>,
): Promise<number> {
  if (inForce === null) return 0;
  try {
    return freshnessOf((await policies.get(inForce.version)).policy, hostFactsOf(facts)).silentAfter;
  } catch (error) {
    // One that an older build understood: then what is not known is not called heard.
    if (!(error instanceof PolicyError) && !(error instanceof DocumentError)) throw error;
    return 0;
  }
}

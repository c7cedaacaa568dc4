/**
 * A host's standing between store and faces: what a judgement leaves behind, and what it says at a later moment. The clock
 * comes in only here, when it is read (PROTOCOL 5): a host that says nothing becomes silent without any row being written.
 */
import type { Instant } from '#src/clock.ts';
import type { Digest } from '#src/digest.ts';
import {
  judgeHost,
  type Freshness,
  type Integrity,
  type Provenance,
  type Reason,
  type Standing as Judged,
  type Verdict,
} from '#src/finding/verdict.ts';
import type { IntegrityFacts } from '#src/policy/evaluate.ts';
import { SEVERITIES } from '#src/policy/judgement.ts';
import type { Host, Standing } from '#server/store/records.ts';

/** What `Standing.reasons` holds: everything that a face shows and that needs no clock. */
export type Told = {
  readonly sentence: string;
  readonly integrity: Integrity;
  readonly provenance: Provenance;
  readonly reasons: readonly Reason[];
  readonly facts: IntegrityFacts | null;
  /** What was known of who built the image (server/trust/provenance.ts); absent in what older builds wrote. */
  readonly stamp?: string;
  /** The policy that judged; null before the first judgement. */
  readonly policy: Digest | null;
  /** The host's clock minus the server's when it was last judged; null where it could not be told. */
  readonly skewMs: number | null;
};

/** Freshness as `judgeHost` wants it: the host's own terms, as they were set at its last live report. */
function factsOfTime(host: Pick<Host, 'createdAt' | 'freshness'>): {
  readonly enrolledAt: Instant;
  readonly lastLiveAt: Instant | null;
  readonly freshness: Parameters<typeof judgeHost>[0]['freshness'];
} {
  const { interval, lateAfter, silentAfter, liveAt } = host.freshness;
  const since = liveAt ?? host.createdAt;
  return {
    enrolledAt: host.createdAt,
    lastLiveAt: liveAt,
    freshness: {
      reportEvery: interval,
      lateAfter: lateAfter - since,
      silentAfter: silentAfter - since,
      behindTagAfter: null,
      imageAgeMax: null,
    },
  };
}

const NOT_ASSESSED: Provenance = { state: 'not-assessed' };
const IMAGE_AGE_UNKNOWN = { behindTagSince: null, builtAt: null };

/** Verdicts by how soon they need attention; severity decides within one. */
const URGENCY: Readonly<Record<Verdict, number>> = {
  compliant: 0,
  new: 1,
  silent: 2,
  unverifiable: 3,
  unsigned: 4,
  drifted: 5,
};

/**
 * Judges a host as of its last judgement, without the clock: as if it had just been heard. `before` is the standing that it had.
 */
export function standingFrom(
  host: Pick<Host, 'createdAt' | 'freshness' | 'standing'>,
  about: {
    readonly facts: IntegrityFacts;
    readonly findings: Parameters<typeof judgeHost>[0]['findings'];
    readonly provenance: Provenance;
    readonly stamp: string;
    readonly policy: Digest;
    readonly skewMs: number | null;
    readonly drift: Standing['drift'];
    readonly at: Instant;
  },
): Standing {
  const time = factsOfTime(host);
  const judged = judgeHost(
    {
      ...time,
      lastLiveAt: about.at,
      integrity: about.facts,
      findings: about.findings,
      provenance: about.provenance,
      image: IMAGE_AGE_UNKNOWN,
    },
    about.at,
  );
  const severities = judged.reasons.map((reason) =>
    reason.severity === undefined ? 0 : SEVERITIES.indexOf(reason.severity),
  );
  const told: Told = {
    sentence: judged.sentence,
    integrity: judged.integrity,
    provenance: judged.provenance,
    reasons: judged.reasons,
    facts: about.facts,
    stamp: about.stamp,
    policy: about.policy,
    skewMs: about.skewMs,
  };
  return {
    verdict: judged.verdict,
    rank: URGENCY[judged.verdict] * 8 + Math.max(0, ...severities),
    since: judged.verdict === host.standing.verdict ? host.standing.since : about.at,
    integrity: judged.integrity.state,
    provenance: judged.provenance.state,
    allowed: judged.integrity.allowed,
    waived: judged.integrity.waived,
    reasons: told,
    drift: about.drift,
  };
}

/** What was told at the last judgement; undefined where there was none. */
export function toldOf(host: Pick<Host, 'standing'>): Told | undefined {
  const told = host.standing.reasons as Partial<Told> | readonly unknown[] | null;
  return told !== null && typeof told === 'object' && 'sentence' in told ? (told as Told) : undefined;
}

/** A host's answers and verdict at a moment. */
export type View = {
  readonly verdict: Verdict;
  readonly sentence: string;
  /** When the verdict began. */
  readonly since: Instant;
  readonly integrity: Integrity;
  readonly provenance: Provenance;
  readonly freshness: Freshness;
  readonly reasons: readonly Reason[];
};

/** What a host's record says at `now`. */
export function viewOf(host: Host, now: Instant): View {
  const told = toldOf(host);
  const clock: Judged = judgeHost(
    {
      ...factsOfTime(host),
      integrity: told?.facts ?? null,
      findings: [],
      provenance: told?.provenance ?? NOT_ASSESSED,
      image: IMAGE_AGE_UNKNOWN,
    },
    now,
  );
  const integrity = told?.integrity ?? clock.integrity;
  const provenance = told?.provenance ?? clock.provenance;
  const rest = { integrity, provenance, freshness: clock.freshness };
  // `new` and `silent` go before every other verdict, and both follow from the clock and what was ever heard.
  if (told === undefined || clock.verdict === 'new' || clock.verdict === 'silent')
    return {
      ...rest,
      verdict: clock.verdict,
      sentence: clock.sentence,
      since: clock.verdict === 'silent' ? host.freshness.silentAfter : host.standing.since,
      reasons: clock.verdict === 'silent' ? [...clock.reasons, ...(told?.reasons ?? [])] : clock.reasons,
    };
  return {
    ...rest,
    verdict: host.standing.verdict as Verdict,
    sentence: told.sentence,
    since: host.standing.since,
    reasons: told.reasons,
  };
}

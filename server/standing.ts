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
import type { AgeFacts, IntegrityFacts } from '#src/policy/evaluate.ts';
import { SEVERITIES } from '#src/policy/judgement.ts';
import type { Host, Standing } from '#server/store/records.ts';

/** What `Standing.reasons` holds: everything that a face shows and that needs no clock. */
export type Told = {
  readonly sentence: string;
  readonly integrity: Integrity;
  readonly provenance: Provenance;
  readonly reasons: readonly Reason[];
  /** The same without any waiver: what is told once the first of them has ended (`Standing.lapse`). */
  readonly bare?: {
    readonly sentence: string;
    readonly integrity: Integrity;
    readonly reasons: readonly Reason[];
  };
  readonly facts: IntegrityFacts | null;
  /** What was known of who built the image (server/trust/provenance.ts); absent in what older builds wrote. */
  readonly stamp?: string;
  /** The policy that judged; null before the first judgement. */
  readonly policy: Digest | null;
  /** Its number in the store; null where it belongs to none; absent in what older builds wrote. */
  readonly policyVersion?: number | null;
  /** The host's clock minus the server's when it was last judged; null where it could not be told. */
  readonly skewMs: number | null;
};

/** Freshness as `judgeHost` wants it: the host's own terms, as they were set at its last live report. */
function factsOfTime(
  host: Pick<Host, 'createdAt' | 'freshness'>,
  age: AgeFacts | undefined,
): {
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
      behindTagAfter: age?.behindTagAfter ?? null,
      imageAgeMax: age?.imageAgeMax ?? null,
    },
  };
}

const NOT_ASSESSED: Provenance = { state: 'not-assessed' };
/** What the clock needs of the booted image, as it was known at the last judgement. */
const imageOf = (age: AgeFacts | undefined) => ({
  behindTagSince: age?.behindTagSince ?? null,
  builtAt: age?.madeAt ?? null,
});

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
    readonly policyVersion?: number | null | undefined;
    readonly skewMs: number | null;
    readonly drift: Standing['drift'];
    /** When the first waiver ends that counts among the findings; null where none does. */
    readonly validUntil: Instant | null;
    readonly at: Instant;
  },
): Standing {
  const time = factsOfTime(host, about.facts.age);
  const findings = [...about.findings];
  const judgeAs = (as: typeof findings): Judged =>
    judgeHost(
      {
        ...time,
        lastLiveAt: about.at,
        integrity: about.facts,
        findings: as,
        provenance: about.provenance,
        image: imageOf(about.facts.age),
      },
      about.at,
    );
  const judged = judgeAs(findings);
  const bare =
    about.validUntil === null ? undefined : judgeAs(findings.map((finding) => ({ ...finding, waived: false })));
  const told: Told = {
    sentence: judged.sentence,
    integrity: judged.integrity,
    provenance: judged.provenance,
    reasons: judged.reasons,
    ...(bare === undefined
      ? {}
      : { bare: { sentence: bare.sentence, integrity: bare.integrity, reasons: bare.reasons } }),
    facts: about.facts,
    stamp: about.stamp,
    policy: about.policy,
    policyVersion: about.policyVersion ?? null,
    skewMs: about.skewMs,
  };
  return {
    verdict: judged.verdict,
    rank: rankOf(judged),
    since: judged.verdict === host.standing.verdict ? host.standing.since : about.at,
    integrity: judged.integrity.state,
    provenance: judged.provenance.state,
    allowed: judged.integrity.allowed,
    waived: judged.integrity.waived,
    reasons: told,
    drift: about.drift,
    lapse:
      bare === undefined || about.validUntil === null
        ? null
        : {
            validUntil: about.validUntil,
            verdict: bare.verdict,
            rank: rankOf(bare),
            integrity: bare.integrity.state,
          },
  };
}

function rankOf({ verdict, reasons }: Judged): number {
  const severities = reasons.map(({ severity }) => (severity === undefined ? 0 : SEVERITIES.indexOf(severity)));
  return URGENCY[verdict] * 8 + Math.max(0, ...severities);
}

/** The standing again, from what the last judgement left, with what people decided since; undefined where there was none. */
export function standingAgain(
  host: Pick<Host, 'createdAt' | 'freshness' | 'standing'>,
  decided: Pick<Parameters<typeof standingFrom>[1], 'findings' | 'validUntil' | 'at'>,
): Standing | undefined {
  const told = toldOf(host);
  if (told === undefined || told.facts === null || told.policy === null) return undefined;
  return standingFrom(host, {
    ...told,
    ...decided,
    facts: told.facts,
    policy: told.policy,
    stamp: told.stamp ?? '',
    drift: host.standing.drift,
  });
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
  const told = toldAt(host, now);
  const clock: Judged = judgeHost(
    {
      ...factsOfTime(host, told?.facts?.age),
      integrity: told?.facts ?? null,
      findings: [],
      provenance: told?.provenance ?? NOT_ASSESSED,
      image: imageOf(told?.facts?.age),
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
      // Behind its silence the clock's own judgement repeats what the last one told already.
      reasons: clock.verdict === 'silent' ? [clock.reasons[0]!, ...(told?.reasons ?? [])] : clock.reasons,
    };
  return {
    ...rest,
    verdict: told.verdict,
    sentence: told.sentence,
    since: told.since,
    reasons: told.reasons,
  };
}

/**
 * What the last judgement says at `now`: where a waiver has ended since, what it says without any. That may be stricter than what
 * judging anew will find, and never milder.
 */
function toldAt(host: Host, now: Instant): (Told & { readonly verdict: Verdict; readonly since: Instant }) | undefined {
  const told = toldOf(host);
  if (told === undefined) return undefined;
  const { verdict, since, lapse } = host.standing;
  if (lapse === null || lapse === undefined || told.bare === undefined || now < lapse.validUntil)
    return { ...told, verdict: verdict as Verdict, since };
  const isOther = lapse.verdict !== verdict;
  return { ...told, ...told.bare, verdict: lapse.verdict as Verdict, since: isOther ? lapse.validUntil : since };
}

/** A host's three answers and the verdict that follows from them (PROTOCOL 5): a function of what is known and of now. */
import type { Instant } from '#src/clock.ts';
import type { IntegrityFacts } from '#src/policy/evaluate.ts';
import type { Freshness as FreshnessPolicy } from '#src/policy/document.ts';
import type { JudgementKind, Severity, Weight } from '#src/policy/judgement.ts';

/** In the order in which they apply. */
export const VERDICTS = ['new', 'silent', 'unverifiable', 'unsigned', 'drifted', 'compliant'] as const;
export type Verdict = (typeof VERDICTS)[number];

/** One present finding as the verdict sees it. */
export type FindingFacts = {
  readonly rule: string;
  readonly kind: JudgementKind;
  readonly subject: string;
  readonly signature: string;
  readonly severity: Severity;
  readonly verdict: Weight;
  /** Acknowledged ones still weigh; waived ones do not. */
  readonly waived: boolean;
};

export type Provenance =
  | { readonly state: 'not-assessed' }
  | { readonly state: 'trusted'; readonly by: string; readonly policy: string }
  | { readonly state: 'unsigned' | 'rejected'; readonly why: string }
  | { readonly state: 'unverifiable'; readonly since: Instant; readonly why: string };

export type HostFacts = {
  readonly enrolledAt: Instant;
  /** From the last evaluation; null where no full report was ever accepted. */
  readonly integrity: IntegrityFacts | null;
  /** Every present finding of the host, the waived ones too. */
  readonly findings: Iterable<FindingFacts>;
  readonly provenance: Provenance;
  /** When the last *live* report was accepted, by the server's clock. */
  readonly lastLiveAt: Instant | null;
  readonly freshness: FreshnessPolicy;
  /** What the server knows of the booted image's age; both null where it knows nothing. */
  readonly image: { readonly behindTagSince: Instant | null; readonly builtAt: Instant | null };
};

/** Why: a sentence for people, with what it is about for programs. */
export type Reason = {
  readonly text: string;
  readonly weight: Weight;
  readonly severity?: Severity;
  readonly rule?: string;
  readonly kind?: JudgementKind;
  readonly subject?: string;
};

export type Integrity = {
  readonly state: 'intact' | 'drifted' | 'masked' | 'unverifiable';
  /** The first reason's code where `unverifiable`: `MANIFEST_PENDING`, `HOLES` … */
  readonly code: string | null;
  readonly allowed: number;
  readonly local: number;
  readonly waived: number;
};
export type Freshness = {
  readonly state: 'current' | 'late' | 'silent' | 'outdated';
  /** When that state began; null for `current`. */
  readonly since: Instant | null;
};

export type Standing = {
  readonly verdict: Verdict;
  /** `compliant (3 allowed differences, signatures not assessed)`. */
  readonly sentence: string;
  readonly integrity: Integrity;
  readonly provenance: Provenance;
  readonly freshness: Freshness;
  /** The findings and facts that explain the verdict, heaviest first; at most 20. */
  readonly reasons: readonly Reason[];
};

export declare function judgeHost(facts: HostFacts, now: Instant): Standing;
/** When a host that says nothing more will be silent: for a column with an index. */
export declare function silentAt(facts: Pick<HostFacts, 'enrolledAt' | 'lastLiveAt' | 'freshness'>): Instant;

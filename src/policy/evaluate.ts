/** One host's accepted report under a policy → judgements (docs/policy.md, section 6). Pure: no store, no clock. */
import type { DeploymentState, Overlay } from '#src/deployment/state.ts';
import type { Drift, Hole, Secret } from '#src/drift/drift.ts';
import type { Digest } from '#src/digest.ts';
import type { TreeName } from '#src/manifest/entry.ts';
import type { Policy } from './document.ts';
import type { Effect, Judgement, JudgementKind, ReportFlag } from './judgement.ts';

/** What the server has to compare with (PROTOCOL 2.7, 5). Without a manifest nothing is drift. */
export type ManifestState =
  | { readonly state: 'ready'; readonly image: Digest; readonly rule: string }
  | {
      readonly state: 'pending' | 'failed' | 'unknown' | 'not-allowed';
      /** The image digest, or what the host gave for one. */
      readonly image: string;
      /** `MANIFEST_PENDING`, `IMAGE_SOURCE_NOT_ALLOWED` … */
      readonly code: string;
      /** In words, for people; null where the code says it all. */
      readonly detail: string | null;
    };

/** What one accepted full report, and the server's memory of the host, give to judge. */
export type Evidence = {
  readonly manifest: ManifestState;
  readonly drift: readonly Drift[];
  readonly secrets: readonly Secret[];
  readonly trees: Readonly<Record<TreeName, { readonly holes: readonly Hole[]; readonly holesCapped: boolean }>>;
  readonly truncated: { readonly added: number; readonly removed: number; readonly modified: number } | null;
  readonly deployment: DeploymentState;
  /** What holds as of this report. `truncated`, `holes-capped` and `clock-skew` are found here and need not be given. */
  readonly flags: readonly ReportFlag[];
  /** The host's clock minus the server's; null where it could not be told (carried by file). */
  readonly skewMs: number | null;
  /** Whether the report renews freshness (PROTOCOL 3.6): then silence is over. */
  readonly live: boolean;
  /** The other importer's rule that explains a difference (PROTOCOL 2.2): a label, not drift. */
  readonly variant?: (drift: Drift) => string | undefined;
};

/** What of the host could be told: only this may resolve (PROTOCOL 3.8, 3.9). */
export type Seen = {
  readonly trees: Readonly<
    Record<
      TreeName,
      {
        /** False: nothing in this tree may resolve (no manifest, truncated, capped, implausible). */
        readonly told: boolean;
        /** Escaped paths; nothing at or below one may resolve. */
        readonly holes: readonly string[];
      }
    >
  >;
  /** The kinds other than drift and secret that were told whole. */
  readonly kinds: readonly JudgementKind[];
};

/** What the integrity answer needs beside the findings; plain data, to be stored with the host. */
export type IntegrityFacts = {
  readonly manifest: ManifestState;
  readonly allowed: Readonly<Record<TreeName, number>>;
  readonly local: Readonly<Record<TreeName, number>>;
  /** Differences that another importer's rule explains. */
  readonly variants: Readonly<Record<TreeName, number>>;
  /** What lies over /usr or /etc, and what policy says of it. */
  readonly masks: readonly { readonly path: string; readonly kind: Overlay['kind']; readonly effect: Effect }[];
  readonly truncated: Evidence['truncated'];
  readonly holesCapped: boolean;
  readonly implausible: boolean;
};

export type Evaluation = {
  readonly policy: Digest;
  readonly judgements: readonly Judgement[];
  readonly facts: IntegrityFacts;
  readonly seen: Seen;
};

/** Judges one host's newest accepted full report under a policy. */
export declare function evaluate(evidence: Evidence, policy: Policy): Evaluation;

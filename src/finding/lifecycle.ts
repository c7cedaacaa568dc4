/**
 * What a report (or a new policy) makes of a host's findings: opened, reopened, resolved, unchanged. A person is nowhere in
 * here: people acknowledge and waive, only what a host shows opens and resolves.
 */
import type { Judgement, JudgementKind, Severity } from '#src/policy/judgement.ts';
import type { Seen } from '#src/policy/evaluate.ts';

/** What the machine sees. `unknown` is never stored: it is `present` on a host that fell silent. */
export type Observation = 'present' | 'absent' | 'unknown';
/** What people decided. */
export type Disposition = 'none' | 'acknowledged' | 'waived';
export type Status = 'open' | 'acknowledged' | 'waived' | 'stale' | 'resolved';

/** A stored finding of one host, as far as its life needs it. */
export type Held = {
  /** `groupOf(judgement)`. */
  readonly group: string;
  readonly kind: JudgementKind;
  readonly subject: string;
  readonly severity: Severity;
  readonly observation: 'present' | 'absent';
};

/** Why findings are looked at again. */
export type Cause =
  /** A newer accepted report; whether the booted image is another than that of the report before. */
  | { readonly kind: 'report'; readonly imageChanged: boolean }
  /** The last report again, under another policy. */
  | { readonly kind: 'policy' }
  /** An older report that came late: it touches nothing (PROTOCOL 3.5). */
  | { readonly kind: 'history' };

export type Resolution = 'reverted' | 'host_updated' | 'policy_changed' | 'host_retired';

export type Changes<H extends Held> = {
  /** Never seen on this host. */
  readonly opened: readonly { readonly group: string; readonly judgement: Judgement }[];
  /** Seen before, resolved, and here again: same row, new episode; an acknowledgement does not come back. */
  readonly reopened: readonly { readonly held: H; readonly judgement: Judgement }[];
  readonly resolved: readonly { readonly held: H; readonly reason: Resolution }[];
  /** Still there, with a severity that policy rates otherwise now. */
  readonly rerated: readonly { readonly held: H; readonly severity: Severity }[];
  /** Still there: no row is written. */
  readonly unchanged: number;
  /** Not seen this time because it could not be read: kept as it was. */
  readonly kept: number;
};

/** `held`: the host's present findings, and those absent ones whose group a judgement names. */
export declare function advance<H extends Held>(
  held: Iterable<H>,
  judgements: readonly Judgement[],
  seen: Seen,
  cause: Cause,
): Changes<H>;

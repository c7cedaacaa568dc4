/**
 * Waivers: approved exceptions that end (docs/findings.md, section 3). What one covers is its selector, its ceiling and its time; all
 * three are asked when a finding is judged and when it is read, so that a waiver whose time is over has no effect, whatever ran or not.
 */
import { z } from 'zod';
import type { Instant } from '#src/clock.ts';
import { BootproofError } from '#src/error.ts';
import {
  WAIVER_LIFE_MS,
  WAIVER_LIST_MAX,
  WAIVER_PINS_MAX,
  WAIVER_START_AHEAD_MS,
  WAIVER_TEXT_MAX,
  WAIVER_TITLE_MAX,
} from '#src/limits.ts';
import { SEVERITIES, type Severity } from '#src/policy/judgement.ts';
import { intersection } from './scope.ts';

export class WaiverError extends BootproofError<
  /** It is not in a state in which that can be done. */
  | 'WAIVER_STATE'
  /** Whoever asked for it decides about it. */
  | 'WAIVER_OWN'
  /** It would live longer than its severity allows, or end before it begins. */
  | 'WAIVER_LIFE'
  /** A selector that cannot be read, or that would cover everything. */
  | 'WAIVER_SELECTOR'
  /** Whoever acts may not do that. */
  | 'WAIVER_ROLE'
> {}

/** Why an exception is right. There is no state "false positive" of a finding: it is a waiver of that kind, which ends too. */
export const WAIVER_KINDS = ['accepted_risk', 'mitigated', 'false_positive', 'expected_local'] as const;
export type WaiverKind = (typeof WAIVER_KINDS)[number];

/** As shown: `approved` has not begun yet, `expired` is told by the clock, also of what nobody decided in time. */
export const WAIVER_STATES = [
  'requested',
  'approved',
  'active',
  'expired',
  'revoked',
  'rejected',
  'withdrawn',
] as const;
export type WaiverState = (typeof WAIVER_STATES)[number];
/** As decided; what the clock adds is `stateOf`. */
export type WaiverDecision = 'requested' | 'approved' | 'rejected' | 'withdrawn' | 'revoked';

const line = (max: number) =>
  z
    .string()
    .min(1)
    .max(max)
    // eslint-disable-next-line no-control-regex
    .regex(/^[^\x00-\x1f\x7f]*$/, 'expected one line of text')
    .refine((text) => text.isWellFormed(), 'expected whole characters');
const list = <Item extends z.ZodType>(item: Item, max = WAIVER_LIST_MAX) => z.array(item).min(1).max(max);

/**
 * What content is excepted: an observed file by its digest wherever the selector reaches, or one subject with its whole change
 * signature (docs/policy.md, section 7). Other content at the same path is another finding and stays open.
 */
export const Pin = z.union([
  z.strictObject({ digest: z.string().regex(/^sha256:[0-9a-f]{64}$/, 'expected sha256:<64 hex digits>') }),
  z.strictObject({ subject: line(8192), signature: line(8192) }),
]);
export type Pin = z.infer<typeof Pin>;

/** Where an exception holds: all that is given must match; within a list, any. */
export const Selector = z.strictObject({
  /** Ids of rules. */
  rules: list(line(100)).optional(),
  /** The subject as findings show it (a path is escaped), or a glob over it as in policies. */
  subject: z.union([z.strictObject({ exact: line(8192) }), z.strictObject({ glob: line(4096) })]).optional(),
  content: z.union([z.literal('any'), z.strictObject({ pins: list(Pin, WAIVER_PINS_MAX) })]),
  hosts: z
    .strictObject({
      ids: list(line(64)).optional(),
      groups: list(line(200)).optional(),
      labels: list(z.strictObject({ key: line(100), value: z.string().max(200) })).optional(),
    })
    .optional(),
  image: z.strictObject({ repository: line(512).optional(), digest: line(200).optional() }).optional(),
});
export type Selector = z.infer<typeof Selector>;

/** Asked for and not decided yet: the approved terms go on meanwhile, until their own end. */
export type Extension = {
  readonly expiresAt: Instant;
  readonly requestedBy: string;
  readonly requestedAt: Instant;
  readonly note: string;
};

export type Waiver = {
  /** `W-17`. */
  readonly id: string;
  /** Rises with every change; the precondition of every decision. */
  readonly revision: number;
  readonly kind: WaiverKind;
  readonly title: string;
  readonly justification: string;
  /** What makes up for it meanwhile. */
  readonly compensating: string | null;
  readonly ticket: string | null;
  readonly selector: Selector;
  /** Findings above it stay open, whatever the selector says: the severity for which its life was allowed. */
  readonly ceiling: Severity;
  /** Null: from the moment of its approval. */
  readonly startsAt: Instant | null;
  readonly expiresAt: Instant;
  readonly decision: WaiverDecision;
  readonly requestedBy: string;
  readonly requestedAt: Instant;
  readonly decidedBy: string | null;
  readonly decidedAt: Instant | null;
  readonly decisionNote: string | null;
  /** One person asked and decided: allowed by a setting, and shown wherever the waiver is. */
  readonly alone: boolean;
  /** Who revoked or withdrew it. */
  readonly endedBy: string | null;
  readonly endedAt: Instant | null;
  readonly endReason: string | null;
  readonly extension: Extension | null;
  /** Host groups of whoever asked and of whoever approved: it reaches no further. Null for every host. */
  readonly scope: readonly string[] | null;
};

/** As long as nobody has decided about it. */
export const UNDECIDED = {
  decidedBy: null,
  decidedAt: null,
  decisionNote: null,
  alone: false,
  endedBy: null,
  endedAt: null,
  endReason: null,
  extension: null,
} as const satisfies Partial<Waiver>;

/** What a person fills in. */
export type WaiverTerms = Pick<
  Waiver,
  'kind' | 'title' | 'justification' | 'compensating' | 'ticket' | 'selector' | 'ceiling' | 'startsAt' | 'expiresAt'
>;

/** The state at a moment. */
export function stateOf(
  waiver: Pick<Waiver, 'decision' | 'startsAt' | 'expiresAt' | 'decidedAt'>,
  now: Instant,
): WaiverState {
  const { decision } = waiver;
  if (decision !== 'approved' && decision !== 'requested') return decision;
  if (now >= waiver.expiresAt) return 'expired';
  if (decision === 'requested') return decision;
  return now < (waiver.startsAt ?? waiver.decidedAt ?? 0) ? 'approved' : 'active';
}

/** How long an exception up to this severity may live at once; it can be extended, by another decision. */
export function maxLife(ceiling: Severity): number {
  return WAIVER_LIFE_MS[ceiling];
}

/** @throws {WaiverError} WAIVER_LIFE where the times do not fit the severity. */
export function checkLife(
  { ceiling, startsAt, expiresAt }: Pick<Waiver, 'ceiling' | 'startsAt' | 'expiresAt'>,
  now: Instant,
): void {
  const from = Math.max(startsAt ?? now, now);
  const days = Math.round(maxLife(ceiling) / 86_400_000);
  if (from - now > WAIVER_START_AHEAD_MS)
    throw new WaiverError('WAIVER_LIFE', 'it begins more than 90 days from now: ask again nearer to that day');
  if (expiresAt <= from)
    throw new WaiverError(
      'WAIVER_LIFE',
      'its end lies in the past or before its beginning: every waiver needs a later one',
    );
  if (expiresAt - from > maxLife(ceiling))
    throw new WaiverError(
      'WAIVER_LIFE',
      `what is ${ceiling} may be waived for ${days} days at once; name an earlier end, and extend it when that day comes`,
    );
}

/** Who acts, as far as the rules of waivers need it. */
export type Actor = {
  readonly id: string;
  /** May decide about waivers. */
  readonly decides: boolean;
  /** Other ids behind which the same person may be: of a program whoever made it, of a person the programs that they made. */
  readonly also?: readonly string[];
  readonly groups: readonly string[] | null;
};

/**
 * The acts on a waiver, each on its own state; each answers the waiver as it is afterwards.
 * @throws {WaiverError} WAIVER_STATE, WAIVER_OWN, WAIVER_ROLE, WAIVER_LIFE with what to do instead.
 */
export type WaiverAct =
  | { readonly kind: 'approve'; readonly note: string | null; readonly singlePerson: boolean }
  | { readonly kind: 'reject'; readonly note: string }
  | { readonly kind: 'withdraw'; readonly reason: string | null }
  | { readonly kind: 'revoke'; readonly reason: string }
  | { readonly kind: 'extend'; readonly expiresAt: Instant; readonly note: string };

export function actOn(waiver: Waiver, act: WaiverAct, actor: Actor, now: Instant): Waiver {
  const state = stateOf(waiver, now);
  const next = { ...waiver, revision: waiver.revision + 1 };
  switch (act.kind) {
    case 'approve':
    case 'reject':
      return decide(waiver, next, act, actor, now);
    case 'withdraw': {
      if (state !== 'requested' && waiver.extension === null) throw wrongState(waiver, state, 'withdrawn');
      const asker = waiver.extension?.requestedBy ?? waiver.requestedBy;
      if (asker !== actor.id)
        throw new WaiverError('WAIVER_ROLE', `only ${asker}, who asked for it, withdraws it; others reject it`);
      if (state !== 'requested') return { ...next, extension: null };
      return { ...next, decision: 'withdrawn', endedBy: actor.id, endedAt: now, endReason: act.reason };
    }
    case 'revoke':
      if (state !== 'active' && state !== 'approved') throw wrongState(waiver, state, 'revoked');
      if (!actor.decides) throw mayNot('revoke');
      return {
        ...next,
        decision: 'revoked',
        endedBy: actor.id,
        endedAt: now,
        endReason: act.reason,
        extension: null,
      };
    case 'extend':
      if (state !== 'active' && state !== 'approved') throw wrongState(waiver, state, 'extended');
      if (act.expiresAt <= waiver.expiresAt)
        throw new WaiverError(
          'WAIVER_LIFE',
          'an extension ends later than what it extends; to end it early, revoke it',
        );
      checkLife({ ...waiver, expiresAt: act.expiresAt }, now);
      // The date that was asked for is kept as it is, and takes effect only when another person approves it.
      return {
        ...next,
        extension: { expiresAt: act.expiresAt, requestedBy: actor.id, requestedAt: now, note: act.note },
      };
  }
}

function decide(
  waiver: Waiver,
  next: Waiver,
  act: Extract<WaiverAct, { kind: 'approve' | 'reject' }>,
  actor: Actor,
  now: Instant,
): Waiver {
  const state = stateOf(waiver, now);
  const verb = act.kind === 'approve' ? 'approved' : 'rejected';
  if (!actor.decides) throw mayNot(act.kind);
  const { extension } = waiver;
  if (state !== 'requested' && extension === null) throw wrongState(waiver, state, verb);
  // What lies in the past is no extension any more: the waiver is over, and what it covered was seen open.
  if (extension !== null && state === 'expired') throw wrongState(waiver, state, verb);
  if (act.kind === 'reject') {
    if (extension !== null) return { ...next, extension: null };
    return { ...next, decision: 'rejected', decidedBy: actor.id, decidedAt: now, decisionNote: act.note };
  }
  const asker = extension?.requestedBy ?? waiver.requestedBy;
  const throughProgram = actor.also?.includes(asker) === true;
  const alone = asker === actor.id || throughProgram;
  if (alone && !act.singlePerson)
    throw new WaiverError(
      'WAIVER_OWN',
      `${waiver.id} was asked for by ${asker}${throughProgram ? `, and one of ${asker} and ${actor.id} made the other` : ''}: another person must approve it (or set single-person mode, which is shown on the waiver)`,
    );
  const expiresAt = extension?.expiresAt ?? waiver.expiresAt;
  checkLife({ ...waiver, expiresAt }, now);
  // Who approved the waiver stays who did: its story tells who let it go on.
  if (extension !== null)
    return {
      ...next,
      startsAt: waiver.startsAt ?? waiver.decidedAt,
      expiresAt,
      extension: null,
      alone: waiver.alone || alone,
    };
  return {
    ...next,
    decidedBy: actor.id,
    decidedAt: now,
    decisionNote: act.note,
    decision: 'approved',
    startsAt: Math.max(waiver.startsAt ?? now, now),
    alone,
    scope: intersection(waiver.scope, actor.groups),
  };
}

function wrongState(waiver: Waiver, state: WaiverState, verb: string): WaiverError {
  const hint = state === 'expired' || state === 'revoked' ? ': ask for a new one' : '';
  return new WaiverError('WAIVER_STATE', `${waiver.id} is ${state} and cannot be ${verb}${hint}`);
}

function mayNot(verb: string): WaiverError {
  return new WaiverError('WAIVER_ROLE', `to ${verb} waivers is for reviewers`);
}

export const WAIVER_TEXT = { title: line(WAIVER_TITLE_MAX), text: z.string().min(1).max(WAIVER_TEXT_MAX) };

/** The higher of two severities. */
export function higher(a: Severity, b: Severity): Severity {
  return SEVERITIES.indexOf(a) >= SEVERITIES.indexOf(b) ? a : b;
}

/**
 * The condition of a channel (docs/notices.md 1.2): CEL over one transition of one host, group, image or waiver. What it cannot say yes or
 * no to is told, because a channel that falls silent over a typing error is worse than one message too many.
 */
import { parseExpression, type Expression } from '#src/document/expression.ts';
import { NOTICE_CONDITION_STEPS_MAX, NOTICE_CONDITIONS_KEPT } from '#src/limits.ts';
import { Lru } from './lru.ts';

/** What a condition may ask about. All of it is always there: what does not belong to an event is empty. */
export type ConditionFacts = {
  /** `finding.new`, `host.verdict` … */
  readonly event: string;
  readonly severity: string;
  /** Why it returned or ended. */
  readonly why: string;
  readonly rule: string;
  readonly kind: string;
  /** A path, an image digest, an account … */
  readonly subject: string;
  readonly signature: string;
  readonly verdict: string;
  readonly was: string;
  readonly image: string;
  readonly trust: string;
  readonly waiver: string;
  readonly host: { readonly name: string; readonly group: string; readonly labels: Readonly<Record<string, string>> };
};

const VARIABLES: ReadonlyMap<keyof ConditionFacts, readonly string[] | null> = new Map<
  keyof ConditionFacts,
  readonly string[] | null
>([
  ['event', null],
  ['severity', null],
  ['why', null],
  ['rule', null],
  ['kind', null],
  ['subject', null],
  ['signature', null],
  ['verdict', null],
  ['was', null],
  ['image', null],
  ['trust', null],
  ['waiver', null],
  ['host', ['name', 'group', 'labels']],
]);

/** @throws {ConditionError} that says what is wrong at which line and column. */
export function parseCondition(source: string): Expression {
  return parseExpression(source, VARIABLES, { steps: NOTICE_CONDITION_STEPS_MAX, subject: 'what happened' });
}

const known = new Lru<string, Expression>(NOTICE_CONDITIONS_KEPT);

/** Whether it is told; `error` where the condition could not say, and it is told for that. */
export function asks(
  source: string | null,
  facts: ConditionFacts,
): { readonly told: boolean; readonly error: string | null } {
  if (source === null) return { told: true, error: null };
  let expression = known.get(source);
  if (expression === undefined) {
    expression = parseCondition(source);
    known.set(source, expression);
  }
  const result = expression.run(facts);
  if (result.kind === 'true' || result.kind === 'false') return { told: result.kind === 'true', error: null };
  return { told: true, error: result.message };
}

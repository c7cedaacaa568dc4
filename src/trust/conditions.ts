/** Conditions on what an attestation states (docs/image-policy.md 6): CEL over the in-toto statement and who signed it. */
import { parseExpression, type ConditionResult, type Variables } from '#src/document/expression.ts';
import { CONDITION_STEPS_MAX } from '#src/limits.ts';

/** What a condition sees. */
export type ConditionFacts = {
  /** The whole statement, as it was signed. */
  readonly statement: Readonly<Record<string, unknown>>;
  /** The image's own digest, and `host/path` of the names under which it is known. */
  readonly image: { readonly digest: string; readonly repositories: readonly string[] };
  /** Who signed the statement. Of a key there is only the fingerprint, of a certificate the names in it; the others are empty. */
  readonly signer: {
    readonly kind: 'key' | 'keyless';
    readonly fingerprint: string;
    readonly issuer: string;
    readonly subject: string;
  };
};

export type Condition = {
  /** As it was written. */
  readonly source: string;
  readonly evaluate: (facts: ConditionFacts) => ConditionResult;
};

/** `null`: whatever was signed. */
const VARIABLES: Variables = new Map([
  ['statement', ['_type', 'subject', 'predicateType', 'predicate']],
  ['predicate', null],
  ['predicateType', null],
  ['subject', null],
  ['image', ['digest', 'repositories']],
  ['signer', ['kind', 'fingerprint', 'issuer', 'subject']],
]);

/** Reads a condition. @throws {ConditionError} with the place inside the expression. */
export function parseCondition(source: string): Condition {
  const { run } = parseExpression(source, VARIABLES, { steps: CONDITION_STEPS_MAX, subject: 'the statement' });
  const evaluate = ({ statement, image, signer }: ConditionFacts): ConditionResult =>
    run({
      statement,
      predicate: statement['predicate'] ?? {},
      predicateType: statement['predicateType'],
      subject: statement['subject'],
      image: { digest: image.digest, repositories: [...image.repositories] },
      signer: { ...signer },
    });
  return { source, evaluate };
}

/** What comes of judging an image: per policy, per authority, per signature, each with the first reason why not. */
import type { Format, Place, SignedEntity, TrustCode } from './material.ts';
import type { Verified } from './verify.ts';

/** Why an image is not trusted. Stable; docs/errors.md, "Signatures" and "Image policy". */
export type JudgeCode =
  | TrustCode
  /** In another form than the authority's signatureFormat. */
  | 'WRONG_FORMAT'
  | 'CONDITION_FALSE'
  | 'CONDITION_ERROR'
  | 'CONDITION_LIMIT'
  | 'UNSUPPORTED_POLICY'
  | 'STATIC_FAIL'
  | 'NO_POLICY'
  /** A place where signatures may lie did not answer. */
  | 'NOT_READ';

/** The later a signature failed, the more it says: the reason that is told is the furthest one (docs/trust.md 3). */
export const REACHED: Readonly<Record<JudgeCode, number>> = Object.fromEntries(
  (
    [
      'NO_POLICY',
      'NO_SIGNATURE',
      'WRONG_KIND',
      'WRONG_PREDICATE',
      'WRONG_FORMAT',
      'MALFORMED',
      'TOO_MANY',
      'WRONG_DIGEST',
      'WRONG_REFERENCE',
      'NO_TRUST_ROOT',
      'NO_CERTIFICATE',
      'WRONG_KEY',
      'UNSUPPORTED_ALGORITHM',
      'WRONG_HASH',
      'BAD_SIGNATURE',
      'NO_LOG_ENTRY',
      'UNKNOWN_LOG',
      'UNSUPPORTED_LOG_ENTRY',
      'NO_TIMESTAMP',
      'BROKEN_TIMESTAMP',
      'FUTURE_TIMESTAMP',
      'CERTIFICATE_USAGE',
      'NO_SCT',
      'UNTRUSTED_CHAIN',
      'OUTSIDE_VALIDITY',
      'BROKEN_INCLUSION',
      'LOG_ENTRY_MISMATCH',
      'WRONG_ISSUER',
      'WRONG_IDENTITY',
      'CONDITION_LIMIT',
      'CONDITION_ERROR',
      'CONDITION_FALSE',
      'STATIC_FAIL',
      'NOT_READ',
      'UNSUPPORTED_POLICY',
      'DENIED',
    ] satisfies JudgeCode[]
  ).map((code, index) => [code, index]),
) as Record<JudgeCode, number>;

/** What is missing here: whether a signature counts, nobody can tell. */
export const MISSING_HERE: ReadonlySet<JudgeCode> = new Set(['NO_TRUST_ROOT', 'CONDITION_LIMIT']);

/** It may be a good signature that we cannot read. Whoever may push can add one. */
export const UNREADABLE: ReadonlySet<JudgeCode> = new Set([
  'UNSUPPORTED_ALGORITHM',
  'UNSUPPORTED_LOG_ENTRY',
  'TOO_MANY',
]);

/** Something else than what was asked for; as if it were not there. */
export const OTHER: ReadonlySet<JudgeCode> = new Set(['WRONG_KIND', 'WRONG_PREDICATE', 'WRONG_FORMAT']);

export type Proof = {
  /** With the bytes as they were received, which are to be kept. */
  readonly entity: SignedEntity;
  readonly verified: Verified;
};

/** One signature against one demand, with the first reason why it failed. */
export type CheckedSignature = {
  readonly place: Place;
  readonly format: Format;
  readonly outcome: 'verified' | 'failed';
  readonly code: JudgeCode | undefined;
  readonly reason: string | undefined;
};

export type State = 'passed' | 'failed' | 'unverifiable';

export type AuthorityResult = {
  readonly name: string;
  /** `spec.authorities[0]`. */
  readonly field: string;
  readonly state: State;
  readonly code: JudgeCode | undefined;
  readonly reason: string | undefined;
  readonly proofs: readonly Proof[];
  readonly checked: readonly CheckedSignature[];
};

export type PolicyResult = {
  readonly name: string;
  readonly mode: 'enforce' | 'warn';
  readonly state: State;
  readonly code: JudgeCode | undefined;
  readonly reason: string | undefined;
  readonly authorities: readonly AuthorityResult[];
};

export type ImageJudgement = {
  readonly state: 'trusted' | 'unsigned' | 'rejected' | 'unverifiable' | 'not-assessed';
  /** Who signed, in words; undefined where it is not trusted. */
  readonly by: string | undefined;
  /** Names of the policies under which it is trusted. */
  readonly policy: string | undefined;
  /** Why it is not trusted. */
  readonly code: JudgeCode | undefined;
  readonly reason: string | undefined;
  /** Those that are about the image, in the order of their names. */
  readonly policies: readonly PolicyResult[];
  /** What policies of `mode: warn` would have refused. */
  readonly warnings: readonly { readonly policy: string; readonly code: JudgeCode; readonly reason: string }[];
  /** Each signature at its best. */
  readonly checked: readonly CheckedSignature[];
  /** Of policies that passed. */
  readonly proofs: readonly Proof[];
};

/** The policy document (docs/policy.md): YAML text → a policy, or errors with file, line, column and what was meant. */
import type { Digest } from '#src/digest.ts';

/** Milliseconds throughout. */
export type Freshness = {
  /** How often a host is asked to report. */
  readonly reportEvery: number;
  readonly lateAfter: number;
  readonly silentAfter: number;
  /** How long a host may run an image after its tag has moved on; null: not judged. */
  readonly behindTagAfter: number | null;
  /** How old an image may be; null: not judged. */
  readonly imageAgeMax: number | null;
};

export type Policy = {
  readonly name: string;
  /** Of the policy's canonical text: comments and layout do not change it. */
  readonly digest: Digest;
  readonly freshness: Freshness;
};

/** @throws PolicyError naming every problem with its place. `base` gives the policy that `extends` names. */
export declare function parsePolicy(
  text: string,
  options: { readonly file: string; readonly base?: (name: string) => Policy | undefined },
): Policy;

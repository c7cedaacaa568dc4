/** What the event loop and the thread that tries a policy say to each other. */
import type { PolicyDocumentText } from '#src/policy/documents.ts';
import type { Evaluation, Evidence } from '#src/policy/evaluate.ts';

export type TrialData = { readonly documents: readonly PolicyDocumentText[] };
/** `variants`: what `evidence.variant` answers of each line of drift, in its order; a function does not go into another thread. */
export type ToTrial = {
  readonly n: number;
  readonly evidence: Omit<Evidence, 'variant'>;
  readonly variants: readonly (string | undefined)[] | null;
};
export type FromTrial = { readonly n: number } & ({ readonly value: Evaluation } | { readonly why: string });

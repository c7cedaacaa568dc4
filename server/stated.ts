/** A statement about the past: a value with the log's entries that it rests on, or why it cannot be told (docs/posture.md 1). */
import type { Instant } from '#src/clock.ts';
import type { LogPlace } from './store/posturerecords.ts';

/** An entry of the log that a statement rests on. */
export type Rest = { readonly kind: 'judgement' | 'report' | 'act' } & LogPlace;

/** Why something cannot be told. */
export const UNKNOWN_CODES = [
  'not-enrolled',
  'before-log',
  'no-report',
  'no-policy',
  'purged',
  'not-judged',
  'changed-since',
  'too-many',
] as const;
export type Unknown = {
  readonly code: (typeof UNKNOWN_CODES)[number];
  readonly text: string;
};

export type Stated<Value> =
  | { readonly value: Value; readonly rests: readonly Rest[] }
  | { readonly value: null; readonly why: Unknown; readonly rests: readonly Rest[] };

/** A moment as sentences have it. */
export const day = (at: Instant): string => `${new Date(at).toISOString().slice(0, 19).replace('T', ' ')} UTC`;
export const rest = (kind: Rest['kind'], { log, index, at }: LogPlace): Rest => ({ kind, log, index, at });
export const unknown = (code: Unknown['code'], text: string, rests: readonly Rest[] = []) =>
  ({ value: null, why: { code, text }, rests }) as const;

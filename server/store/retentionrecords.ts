/** Retention and legal hold as the store keeps them (docs/retention.md): what goes, what stays whatever the settings say, and who said so. */
import type { Instant } from '#src/clock.ts';
import type { Act, Page } from './records.ts';
import type { PageRequest } from './store.ts';

/** Kinds of log entries whose payloads may be purged. */
export const PURGED_KINDS = ['report', 'judgement', 'act'] as const;
export type PurgedKind = (typeof PURGED_KINDS)[number];

/** By which rule payloads go, as the entry `purge` tells it. */
export type PurgeRule =
  | { readonly kind: 'age'; readonly days: number }
  /** There was more than `bytes`; nothing younger than `days` goes for that. */
  | { readonly kind: 'size'; readonly bytes: number; readonly days: number };

export type PurgeStep = {
  readonly of: PurgedKind;
  readonly rule: PurgeRule;
  /** Only what was logged before. */
  readonly before: Instant;
  /** Where the last step ended; null at the beginning. */
  readonly after: string | null;
  /** No more than so many bytes; null: all. */
  readonly bytes: number | null;
};

export type PurgeDone = {
  readonly payloads: number;
  readonly bytes: number;
  /** That were old enough and stayed, since something leans on them or a hold is on them. */
  readonly leaned: number;
  readonly held: number;
  /** From where to go on; null at the end. */
  readonly next: string | null;
};

/** Payloads of one kind, of one UTC day (days since 1970). */
export type Retained = {
  readonly of: PurgedKind;
  readonly day: number;
  readonly payloads: number;
  readonly bytes: number;
};

/** What an entry `purge` tells. */
export type Purge = {
  /** Its place. */
  readonly log: number;
  readonly index: number;
  readonly at: Instant;
  readonly of: PurgedKind;
  readonly payloads: number;
  readonly before: Instant;
  readonly rule: PurgeRule;
  /** By log: first and last index of each run. */
  readonly entries: readonly {
    readonly log: number;
    readonly ranges: readonly (readonly [first: number, last: number])[];
  }[];
};

export interface Retention {
  /** Adds to the sums what was logged since the last time, at most `limit` entries; answers how many. Purges take what is in the sums alone. */
  count(limit: number): Promise<number>;
  /** What is held, oldest day first. */
  retained(): Promise<readonly Retained[]>;
  /**
   * One small batch, in one transaction with its entry `purge`: payloads of one kind that are old enough, on which nothing leans and no hold
   * is. Salt and payload are gone when it returns, and the entry's digest stays.
   */
  purge(step: PurgeStep, by: Act): Promise<PurgeDone>;
  /** Newest first. */
  purges(page: PageRequest<{ readonly id: string }>): Promise<Page<Purge, { readonly id: string }>>;
  /**
   * What the settings are now, told in the trail where they were others before; `standard`: what they are as long as nobody set any. Answers
   * since when they are these; null: always.
   */
  note(settings: unknown, standard: unknown, by: Act): Promise<Instant | null>;
  /** The settings that were noted last, and since when; undefined where nobody ever set any. */
  noted(): Promise<{ readonly settings: unknown; readonly since: Instant } | undefined>;
}

export type HoldScope = {
  readonly hosts: readonly string[];
  /** Host groups, with all below them: every host that is, or was since the hold was set, in one of them. */
  readonly groups: readonly string[];
} | null;

export type NewHold = {
  /** Null: every host. */
  readonly scope: HoldScope;
  /** Of the entries: from then on, and before then; null without a bound. */
  readonly from: Instant | null;
  readonly to: Instant | null;
  readonly reason: string;
};

/** What is kept whatever the settings say, until somebody releases it. Holds are never deleted. */
export type Hold = NewHold & {
  /** `H-1`. */
  readonly id: string;
  readonly setBy: string;
  readonly setAt: Instant;
  readonly released: { readonly by: string; readonly at: Instant; readonly reason: string } | null;
};

export interface Holds {
  /** From its return on no payload under it goes. */
  set(hold: NewHold, by: Act): Promise<Hold>;
  /** Undefined where there is none; as it stands where it was released before. */
  release(id: string, reason: string, by: Act): Promise<{ readonly hold: Hold; readonly changed: boolean } | undefined>;
  /** Newest first. */
  list(page: PageRequest<{ readonly n: number }>): Promise<Page<Hold, { readonly n: number }>>;
  standing(): Promise<readonly Hold[]>;
}

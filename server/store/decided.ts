/** The store's contract, continued (store.ts): what people decide about findings: waivers, acts on many, saved views. */
import type { Instant } from '#src/clock.ts';
import type { Selector, Waiver, WaiverState } from '#src/finding/waiver.ts';
import type * as r from './records.ts';
import type { FindingFilter, GroupFilter, PageRequest } from './store.ts';

/** Waivers. Everything that has an effect moves `stamp` in its own transaction, and enqueues the work that it asks for. */
export interface Waivers {
  /** Gives the next number. The very same request of the same person, where it stands and nobody has decided, is answered instead of a second one. */
  create(waiver: Omit<Waiver, 'id' | 'revision'>, by: r.Act): Promise<Waiver>;
  get(id: string): Promise<Waiver | undefined>;
  /** Compare-and-set on the revision before `next`'s; false where it moved. Audited as `action`. */
  put(next: Waiver, by: r.Act, action: string, jobs: readonly r.NewJob[]): Promise<boolean>;
  /** Approved and not ended at `now`, with the stamp under which they are so. */
  effective(now: Instant): Promise<{ readonly stamp: string; readonly waivers: readonly Waiver[] }>;
  stamp(): Promise<string>;
  list(
    filter: {
      readonly now: Instant;
      readonly states?: readonly WaiverState[];
      readonly expiringBefore?: Instant;
      /** Those that wait for a decision: requests, and extensions of what is in force or will be. */
      readonly decide?: boolean;
    },
    page: PageRequest<{ readonly n: number }>,
  ): Promise<r.Page<Waiver, { readonly n: number }>>;
  /** Numbers by state at `now`, and of those active, how many end before `expiringBefore`. */
  count(
    now: Instant,
    expiringBefore: Instant,
  ): Promise<Readonly<Record<WaiverState, number>> & { readonly expiring: number }>;
  /** Whether the selector's hosts name one that lies within all these host groups (null: every host). */
  reaches(hosts: Selector['hosts'], scopes: readonly (readonly string[] | null)[]): Promise<boolean>;
  /** How many findings a waiver would cover, on how many hosts, and of which of the groups. */
  forecast(
    about: Foreseen,
  ): Promise<{ readonly findings: number; readonly hosts: number; readonly groups: readonly string[] }>;
  /** Those hosts, by id, at most `limit`. */
  forecastHosts(about: Foreseen, limit: number): Promise<readonly string[]>;
  /** Findings that a waiver covers now, and since when it covers none; on hosts of these groups, null: every host. */
  use(
    ids: readonly string[],
    scope: readonly string[] | null,
  ): Promise<
    ReadonlyMap<string, { readonly findings: number; readonly hosts: number; readonly lastEnded: Instant | null }>
  >;
  /** Hosts with findings that it covers now, by id. */
  hosts(id: string, page: PageRequest<{ readonly id: string }>): Promise<r.Page<string, { readonly id: string }>>;
  /** Approved ones past their end whose end is not noted, oldest first; `noteExpiry` writes it into the trail, once. */
  unnotedExpiry(now: Instant, limit: number): Promise<readonly Waiver[]>;
  noteExpiry(id: string, by: r.Act): Promise<boolean>;
}

/** Groups that one forecast may name: below what SQLite takes as variables in a statement (32,766), and half a large fleet's. */
export const FORECAST_GROUPS = 10_000;

/** Present findings of groups on a selector's hosts within all `scopes`, up to a severity. */
export type Foreseen = {
  readonly groups: readonly string[];
  readonly ceiling: r.Severity;
  readonly hosts: Selector['hosts'];
  /** Images by all their names; null: whatever is booted. */
  readonly booted: readonly string[] | null;
  readonly scopes: readonly (readonly string[] | null)[];
  /** What a waiver covers at that moment is left out; null: nothing is. */
  readonly now: Instant | null;
};

/** Acts on many findings: what they cover is written down at their preview. */
export interface Bulks {
  /**
   * Writes down the act and every item that `filter` matches at that moment, in one transaction; more than BULK_ITEMS_MAX: undefined,
   * and nothing is written.
   */
  preview(
    bulk: Pick<r.Bulk, 'id' | 'actor' | 'action' | 'terms' | 'filter' | 'asOf' | 'expiresAt'>,
    cover:
      | { readonly kind: 'findings'; readonly filter: FindingFilter }
      | { readonly kind: 'groups'; readonly filter: GroupFilter }
      | { readonly kind: 'items'; readonly items: readonly Pick<r.BulkItem, 'hostId' | 'groupId'>[] },
  ): Promise<r.Bulk | undefined>;
  get(id: string): Promise<r.Bulk | undefined>;
  /**
   * previewed → applying, with its key and its job, without what lies beyond `scope` by now; undefined where it is neither previewed
   * nor applied under this key.
   */
  begin(
    id: string,
    applyKey: string,
    by: r.Act,
    scope: readonly string[] | null,
    jobs: readonly r.NewJob[],
  ): Promise<r.Bulk | undefined>;
  /**
   * Carries out the next items, at most `limit`, and notes what became of each, in one transaction: cut off, it goes on with the rest,
   * and no item is done twice. Answers how many were looked at; 0: nothing is left.
   */
  step(id: string, limit: number, plan: BulkPlan, by: r.Act): Promise<number>;
  /** applying → done, with a line in the trail of each group that changed; undoUntil null: cannot be taken back. */
  end(id: string, by: r.Act, undoUntil: Instant | null): Promise<void>;
  /**
   * done → undone, with a new act that is applied at once and takes the changed items back, as far as they lie within `scope`;
   * undefined where it is too late.
   */
  undo(id: string, by: r.Act, scope: readonly string[] | null, jobs: readonly r.NewJob[]): Promise<r.Bulk | undefined>;
  items(
    id: string,
    page: PageRequest<{ readonly hostId: string; readonly groupId: string }>,
  ): Promise<r.Page<r.BulkItem, { readonly hostId: string; readonly groupId: string }>>;
  /** Items by what they are and what would become of them, without doing it. */
  summary(id: string): Promise<readonly { readonly disposition: r.Disposition | null; readonly count: number }[]>;
  /** On how many hosts there are items that are in one of these dispositions. */
  hostsIn(id: string, dispositions: readonly r.Disposition[]): Promise<number>;
  /** Drops previews that were not applied in time. */
  sweep(now: Instant): Promise<void>;
}

export interface Views {
  /** Shared ones and those of `owner`, by name. */
  list(owner: string): Promise<readonly r.SavedView[]>;
  put(view: r.SavedView, by: r.Act): Promise<void>;
  get(id: string): Promise<r.SavedView | undefined>;
  remove(id: string, by: r.Act): Promise<boolean>;
}

/** What an act does with each of its items. */
export type BulkPlan =
  | { readonly kind: 'dispose'; readonly disposal: (item: r.BulkItem) => r.Disposal | null }
  /** `expect`: only where it is that now; absent: whatever it is. */
  | {
      readonly kind: 'assign';
      readonly to: (item: r.BulkItem) => { readonly assignee: string | null; readonly expect?: string | null };
    };

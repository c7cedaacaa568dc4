/** Lists of hosts that others keep, as the store keeps them (docs/inventory.md): each import is a version of its source. */
import type { Instant } from '#src/clock.ts';
import type { Digest } from '#src/digest.ts';
import type { Act, Labels, Page } from './records.ts';
import type { PageRequest } from './store.ts';

/** Which columns of the file say what. */
export type Mapping = {
  readonly id: string | null;
  readonly name: string | null;
  readonly labels: readonly { readonly key: string; readonly column: string }[];
  /** Names are compared up to their first dot. */
  readonly shortNames: boolean;
};

export type Matched = {
  /** `id`, `label:KEY`, `name`. */
  readonly by: string;
  /** Rows of the list. */
  readonly rows: number;
};

export type Inventory = {
  readonly source: string;
  /** From 1. */
  readonly version: number;
  readonly at: Instant;
  readonly by: string;
  /** Of the file, and its size. */
  readonly digest: Digest;
  readonly bytes: number;
  readonly mapping: Mapping;
  /** Rows of the list that say something, each once. */
  readonly theirs: number;
  /** Hosts that are enrolled, pending ones too. */
  readonly ours: number;
  readonly matched: readonly Matched[];
  /** Rows that said what another one said, and rows that said nothing. */
  readonly repeated: number;
  readonly blank: number;
  /** How many. */
  readonly onlyTheirs: number;
  readonly onlyOurs: number;
};

export type Differences = {
  /** As the list calls them: name, else id, else label. */
  readonly onlyTheirs: readonly string[];
  readonly onlyOurs: readonly { readonly host: string; readonly name: string }[];
};

export type NewInventory = Omit<Inventory, 'version' | 'at' | 'by'>;

/** A host, as lists are held against it. */
export type Listed = { readonly id: string; readonly name: string; readonly labels: Labels };

export interface Inventories {
  /**
   * Keeps an import as the next version, with its act in the log. `list`: what was read of the file, any JSON; kept of the newest `lists`
   * versions of a source.
   */
  add(
    inventory: NewInventory,
    parts: { readonly differences: Differences; readonly list: unknown; readonly lists: number },
    by: Act,
  ): Promise<Inventory>;
  /** The newest version of each source, by name. */
  newest(): Promise<readonly Inventory[]>;
  /** A version, or the newest. */
  get(source: string, version: number | null): Promise<Inventory | undefined>;
  differences(source: string, version: number): Promise<Differences | undefined>;
  /** Newest first. */
  versions(
    source: string,
    page: PageRequest<{ readonly version: number }>,
  ): Promise<Page<Inventory, { readonly version: number }>>;
  /** Of each source the newest that was imported within the period, with the line of the trail that tells of it; by name. */
  within(period: {
    readonly from: Instant;
    readonly to: Instant;
  }): Promise<readonly (Inventory & { readonly act: string })[]>;
  /** Hosts that are not retired, by id, from behind `after` on. */
  hosts(after: string, limit: number): Promise<readonly Listed[]>;
}

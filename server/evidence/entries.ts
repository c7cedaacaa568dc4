/** Entries about one host, page by page, and what is around its story (hoststory.ts). */
import type { Instant } from '#src/clock.ts';
import { EXPORT_PAGE } from '#src/limits.ts';
import type { Policy } from '#src/policy/document.ts';
import type { EntryKey, HostEntry, LogCut, Range } from '#server/store/evidencerecords.ts';
import type { Store } from '#server/store/store.ts';

export type StoryAbout = {
  readonly store: Store;
  readonly cut: LogCut;
  readonly period: Range;
  readonly exportedAt: Instant;
  /** The policy in force at the end of the period, and which controls each of its rules names; undefined for one without versions. */
  readonly policy: Policy | undefined;
  readonly controls: ReadonlyMap<string, readonly string[]>;
  /** The present log began before the period did: an older host without an entry said nothing. */
  readonly beganAt: Instant;
  /** What findings of a group are about. */
  readonly group: (
    id: string,
  ) => Promise<{ readonly rule: string; readonly kind: string; readonly subject: string } | undefined>;
  /** An image as the server knows it, by whatever name. */
  readonly image: (reported: string) => Promise<string>;
};

const decoder = new TextDecoder();
/** Entries are ours, and were held against their schema when they were written. */
export const said = (entry: Uint8Array): unknown => (JSON.parse(decoder.decode(entry)) as { facts: unknown }).facts;
/** After every entry. */
export const FOREVER = Number.MAX_SAFE_INTEGER;

/** Places in an older log are not in the bundle's. */
export const own = ({ cut }: StoryAbout, { log, index }: EntryKey): number | null => (log === cut.log ? index : null);

export async function* entriesBy(
  hostId: string,
  kind: 'report' | 'judgement' | 'act',
  range: Range,
  { store, cut }: StoryAbout,
): AsyncGenerator<HostEntry> {
  let after: EntryKey | null = null;
  for (;;) {
    const page: readonly HostEntry[] = await store.evidence.entries(hostId, kind, cut, range, {
      after,
      limit: EXPORT_PAGE,
    });
    yield* page;
    if (page.length < EXPORT_PAGE) return;
    after = page.at(-1)!;
  }
}

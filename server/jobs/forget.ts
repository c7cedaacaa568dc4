/**
 * Images that hosts once named, that could never be built, and that no host has any more: forgotten after a day, with the work of looking
 * for them. A host that makes up digests leaves nothing behind.
 */
import type { Instant } from '#src/clock.ts';
import { IMAGE_IDLE_MS } from '#src/limits.ts';
import type { Deps } from '#server/deps.ts';
import { IMAGE_SLOTS } from '#server/store/records.ts';
import type { Chore } from './runner.ts';

const PAGE = 200;

export function forgetChore({ store, clock, log }: Pick<Deps, 'store' | 'clock' | 'log'>, everyMs: number): Chore {
  return {
    name: 'forget',
    everyMs,
    run: async () => {
      const before = clock() - IMAGE_IDLE_MS;
      let forgotten = 0;
      // Newest first: what is younger than a day is passed over.
      let cursor: { readonly at: Instant; readonly digest: string } | null = { at: before, digest: '' };
      do {
        const page: Awaited<ReturnType<typeof store.read.images>> = await store.read.images(
          { states: ['pending', 'failed', 'building'] },
          { cursor, limit: PAGE },
        );
        for (const { digest, hosts } of page.items)
          if (IMAGE_SLOTS.every((slot) => hosts[slot] === 0) && (await store.images.drop(digest))) forgotten++;
        cursor = page.next;
      } while (cursor !== null);
      if (forgotten > 0) log('info', 'images forgotten', { count: forgotten });
    },
  };
}

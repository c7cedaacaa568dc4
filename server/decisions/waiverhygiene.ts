/** How waivers are kept in order: what nobody needs, what two cover, what ends soon. */
import type { Instant } from '#src/clock.ts';
import { coversFinding, ready, type Ready } from '#src/finding/exempt.ts';
import { stateOf, type Waiver } from '#src/finding/waiver.ts';
import type { Principal } from '#server/access/principal.ts';
import type { GroupCursor, Store } from '#server/store/store.ts';
import { effectiveWaivers, useOf, type ShownWaiver } from './waiverreads.ts';
import { targetOf } from './waiverterms.ts';
import type { WaiverDeps } from './waivers.ts';

export type Hygiene = {
  readonly unused: readonly { readonly waiver: ShownWaiver; readonly since: Instant }[];
  readonly expiring: readonly ShownWaiver[];
  readonly overlaps: readonly { readonly a: string; readonly b: string; readonly groups: number }[];
};

const UNUSED_MS = 30 * 86_400_000;
export const EXPIRING_MS = 14 * 86_400_000;

/** Of the waivers that they may read, on hosts of theirs. */
export async function hygieneOf(
  who: Principal,
  { store, clock }: Pick<WaiverDeps, 'store' | 'clock'>,
): Promise<Hygiene> {
  const now = clock();
  const active = (await effectiveWaivers(now, who, { store })).filter((waiver) => stateOf(waiver, now) === 'active');
  const ids = active.map(({ id }) => id);
  const use = await useOf(ids, who, { store });
  const unused = active.flatMap((waiver) => {
    const { findings, lastEnded } = use.get(waiver.id)!;
    const since = Math.max(lastEnded ?? 0, waiver.startsAt ?? waiver.decidedAt ?? 0);
    return findings === 0 && now - since >= UNUSED_MS ? [{ waiver, since }] : [];
  });
  return {
    unused,
    expiring: active.filter(({ expiresAt }) => expiresAt - now <= EXPIRING_MS),
    overlaps: await overlapsOf(active, who, store),
  };
}

/** Two waivers overlap where the same present group is covered by both; which hosts is theirs to look at. */
async function overlapsOf(
  waivers: readonly Waiver[],
  { groups: scope }: Principal,
  store: Store,
): Promise<Hygiene['overlaps']> {
  const active: readonly Ready[] = waivers.map(ready);
  const pairs = new Map<string, { a: string; b: string; groups: number }>();
  if (active.length < 2) return [];
  let cursor: GroupCursor | null = null;
  do {
    const page: Awaited<ReturnType<typeof store.read.groups>> = await store.read.groups({ scope }, 'recent', {
      cursor,
      limit: 200,
    });
    for (const group of page.items) {
      const both = active.filter((one) => coversFinding(one, targetOf(group))).map(({ waiver }) => waiver.id);
      for (const [i, a] of both.entries())
        for (const b of both.slice(i + 1)) {
          const pair = pairs.get(`${a} ${b}`) ?? { a, b, groups: 0 };
          pair.groups++;
          pairs.set(`${a} ${b}`, pair);
        }
    }
    cursor = page.next;
  } while (cursor !== null);
  return [...pairs.values()];
}

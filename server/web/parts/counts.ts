/** Counts that several pages share, so that a number and the list behind it are one question. */
import type { Instant } from '#src/clock.ts';
import type { Waiver } from '#src/finding/waiver.ts';
import type { WebServices } from '../services.ts';

/** Waivers whose extension waits for a decision; they are in force meanwhile. */
export async function extensions({ store }: Pick<WebServices, 'store'>, now: Instant): Promise<readonly Waiver[]> {
  const { waivers } = await store.waivers.effective(now);
  return waivers.filter(({ extension }) => extension !== null);
}

/** How many waivers wait for a person: those asked for, and extensions of those in force. */
export async function decidable({ store }: Pick<WebServices, 'store'>, now: Instant): Promise<number> {
  const [{ requested }, extended] = await Promise.all([store.waivers.count(now, now), extensions({ store }, now)]);
  return requested + extended.length;
}

/** Counts that several pages share, so that a number and the list behind it are one question. */
import type { Instant } from '#src/clock.ts';
import type { Principal } from '#server/access/principal.ts';
import { countWaivers, effectiveWaivers, type ShownWaiver } from '#server/decisions/waiverreads.ts';
import type { WebServices } from '../services.ts';

/** Waivers whose extension waits for a decision; they are in force meanwhile. */
export async function extensions(
  { store }: Pick<WebServices, 'store'>,
  who: Principal,
  now: Instant,
): Promise<readonly ShownWaiver[]> {
  return (await effectiveWaivers(now, who, { store })).filter(({ extension }) => extension !== null);
}

/** How many waivers wait for a person: those asked for, and extensions of those in force. */
export async function decidable({ store }: Pick<WebServices, 'store'>, who: Principal, now: Instant): Promise<number> {
  const [{ requested }, extended] = await Promise.all([
    countWaivers(now, now, who, { store }),
    extensions({ store }, who, now),
  ]);
  return requested + extended.length;
}

/** Hours in which a channel hears of what is critical alone (docs/notices.md 2.8): the rest waits for their end. */
import type { Instant } from '#src/clock.ts';
import { SEVERITIES } from '#src/policy/judgement.ts';
import type { Routing } from '#server/store/noticerecords.ts';
import type { Severity } from '#server/store/records.ts';

/** What wakes people: told at any hour. */
export const WAKES: Severity = SEVERITIES.indexOf('critical') as Severity;

const DAY_MS = 86_400_000;

/** When the quiet that a moment lies in ends; null where it lies in none. */
export function quietUntil({ quiet }: Pick<Routing, 'quiet'>, now: Instant): Instant | null {
  if (quiet === undefined || quiet === null) return null;
  const day = now - (now % DAY_MS);
  const [from, to] = [quiet.from, quiet.to].map((time) => {
    const [hours = 0, minutes = 0] = time.split(':').map(Number);
    return (hours * 60 + minutes) * 60_000;
  }) as [number, number];
  const at = now - day;
  if (from < to) return at >= from && at < to ? day + to : null;
  // Over midnight.
  if (at >= from) return day + DAY_MS + to;
  return at < to ? day + to : null;
}

/** Challenges: they tell a report that was made now from one that waited (docs/report.md 5.2, 5.3). */
import type { Instant } from '#src/clock.ts';
import { parseTicket, printTicket, type TicketKeys } from './ticket.ts';

/** `none`: the host had no challenge yet. `carried`: the report came by file. Only `live` renews freshness. */
export const CHALLENGE_CLASSES = ['live', 'late', 'carried', 'none'] as const;
export type ChallengeClass = (typeof CHALLENGE_CLASSES)[number];

export function makeChallenge(host: string, now: Instant, keys: TicketKeys): string {
  return printTicket({ kind: 'challenge', subject: host, time: now }, keys);
}

export type ChallengeReading =
  | { readonly kind: 'malformed' }
  | { readonly kind: 'foreign' }
  /** `issuedAt` is null where there is no challenge, or none that a key of ours explains. */
  | { readonly kind: 'read'; readonly class: ChallengeClass; readonly issuedAt: Instant | null };

/**
 * What the echoed challenge of a report says, at its receipt. `intervalMs` is the host's expected time between reports.
 * A challenge from the future is live: only our own clock can have gone back.
 */
export function readChallenge(
  text: string | null,
  about: { readonly host: string; readonly now: Instant; readonly intervalMs: number; readonly carried: boolean },
  keys: TicketKeys,
): ChallengeReading {
  if (text === null) return { kind: 'read', class: about.carried ? 'carried' : 'none', issuedAt: null };
  const ticket = parseTicket('challenge', text, keys);
  if (ticket === undefined) return { kind: 'malformed' };
  if (ticket.subject !== about.host) return { kind: 'foreign' };
  const issuedAt = ticket.ours ? ticket.time : null;
  if (about.carried) return { kind: 'read', class: 'carried', issuedAt };
  const live = issuedAt !== null && about.now - issuedAt <= 2 * about.intervalMs;
  return { kind: 'read', class: live ? 'live' : 'late', issuedAt };
}

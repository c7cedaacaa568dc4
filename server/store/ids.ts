/** Ids that sort by time: 10 characters of milliseconds and 16 of chance, in Crockford's base 32 (as ULID, lower case). */
import { randomBytes } from 'node:crypto';
import type { Instant } from '#src/clock.ts';

const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz';

/** What every id of this moment begins with: a bound between those before and those from it on. */
export function sortableTime(at: Instant): string {
  let time = '';
  for (let rest = Math.max(0, at), i = 0; i < 10; i++, rest = Math.floor(rest / 32)) time = ALPHABET[rest % 32]! + time;
  return time;
}

/** 26 characters; two made in the same millisecond differ in 80 bits and have no order. */
export function sortableId(at: Instant): string {
  let chance = '';
  for (const byte of randomBytes(16)) chance += ALPHABET[byte & 31]!;
  return sortableTime(at) + chance;
}

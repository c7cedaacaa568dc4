/** Days in forms: what a date field shows and what it means. */
import type { Instant } from '#src/clock.ts';

/** The day of a moment, as a date field has it; a moment at midnight is the end of the day before. */
export function dateInput(instant: Instant): string {
  return new Date(instant - 1).toISOString().slice(0, 10);
}

/** The end of a day in UTC, as the API reads a bare day; undefined for what is no day. */
export function endOf(day: string): Instant | undefined {
  if (!/^[0-9]{4}-[0-9]{2}-[0-9]{2}$/.test(day)) return undefined;
  const begin = Date.parse(`${day}T00:00:00.000Z`);
  if (Number.isNaN(begin) || new Date(begin).toISOString().slice(0, 10) !== day) return undefined;
  return begin + 86_400_000;
}

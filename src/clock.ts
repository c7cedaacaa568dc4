/** Points in time. A pure function takes an `Instant`; only the three `main.ts` hold a `Clock`. */

/** Milliseconds since 1970-01-01T00:00:00Z. */
export type Instant = number;

/** Where long-lived parts get the time from; handed in, so that tests can move it. */
export type Clock = () => Instant;

/** RFC 3339 in UTC with milliseconds: the one spelling that Bootproof writes. */
export function formatInstant(instant: Instant): string {
  return new Date(instant).toISOString();
}

/** Parses what `formatInstant` writes; undefined for any other spelling. */
export function parseInstant(text: string): Instant | undefined {
  const instant = Date.parse(text);
  return Number.isNaN(instant) || formatInstant(instant) !== text ? undefined : instant;
}

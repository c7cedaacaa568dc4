/** What routes of decisions share: the asker, revisions as entity tags, moments in bodies, and the filter line. */
import { z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import type { Instant } from '#src/clock.ts';
import { FilterError, type FilterLine } from '#src/finding/filter.ts';
import { FILTER_QUERY_CHARS_MAX, WAIVER_TEXT_MAX } from '#src/limits.ts';
import type { Principal } from '#server/access/principal.ts';
import { readLine } from '#server/decisions/line.ts';
import type { Store } from '#server/store/store.ts';
import { ApiError } from './problem.ts';
import type { Env } from './route.ts';

export function whoOf(c: Context<Env>): Principal {
  return c.get('principal');
}

/** A revision as an entity tag: `"7"`. */
export const etagOf = (revision: number): string => `"${revision}"`;

export const IF_MATCH = z.object({
  'if-match': z
    .string()
    .max(100)
    .optional()
    .openapi({ description: 'The ETag under which it was read: a decision about what nobody has seen is refused.' }),
});

/** The revision that the asker has read. @throws {ApiError} PRECONDITION_REQUIRED where it is not said. */
export function readRevision(header: string | undefined): number {
  const match = /^"([1-9][0-9]{0,14}|0)"$/.exec(header?.trim() ?? '');
  if (match !== null) return Number(match[1]);
  throw new ApiError(
    'PRECONDITION_REQUIRED',
    'say what you decide on: If-Match with the ETag of what you read, such as "3"',
    [{ parameter: 'If-Match', detail: header === undefined ? 'is missing' : 'is not an ETag of this server' }],
  );
}

/** A moment in a body: RFC 3339 with a zone, or a day, which ends in UTC. */
export const Moment = z
  .union([z.iso.datetime({ offset: true }), z.iso.date()])
  .openapi({ type: 'string', format: 'date-time', description: 'RFC 3339; a bare day is its end in UTC.' });

export function instantOf(moment: string): Instant {
  return moment.length === 10 ? Date.parse(`${moment}T00:00:00.000Z`) + 86_400_000 : Date.parse(moment);
}

// eslint-disable-next-line no-control-regex
const PRINTABLE = /^[^\x00-\x08\x0b-\x1f\x7f]*$/;
/** What people write, of several lines perhaps. */
export const Note = z
  .string()
  .min(1)
  .max(WAIVER_TEXT_MAX)
  .regex(PRINTABLE, 'expected text without control characters')
  .refine((text) => text.isWellFormed(), 'expected whole characters');

export const Q = z.string().max(FILTER_QUERY_CHARS_MAX).optional().openapi({
  description: 'A filter line (docs/findings.md 6): `sev:high path:/usr/lib/** -group:lab is:regressed`.',
  example: 'sev:>=high is:regressed',
});

/** Reads a filter line; images by each of their names. @throws {ApiError} QUERY_INVALID that names the word. */
export async function lineOf(
  q: string | undefined,
  store: Pick<Store, 'images' | 'read'>,
  place = 'q',
): Promise<FilterLine> {
  if (q === undefined) return [];
  try {
    return await readLine(q, store);
  } catch (error) {
    if (!(error instanceof FilterError)) throw error;
    throw new ApiError('QUERY_INVALID', `${place}: ${error.message}`, [{ parameter: place, detail: error.message }]);
  }
}

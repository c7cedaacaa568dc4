/**
 * What every list of the API shares: bounded pages, and cursors that are bound to the list, sort and filter that made them,
 * so that a cursor used elsewhere is an error and not another list.
 */
import { createHash } from 'node:crypto';
import { z } from '@hono/zod-openapi';
import { fromBase64Url, toBase64Url } from '#src/wire/token.ts';
import type { Page, Count } from '#server/store/records.ts';
import { ApiError } from './problem.ts';

/** An integer in a query: text that is one, within bounds; described as one in the OpenAPI document. */
export function queryInt(min: number, max: number, standard: number): z.ZodType<number, string | undefined> {
  return z
    .string()
    .regex(/^(0|[1-9][0-9]{0,8})$/, 'expected an integer')
    .optional()
    .transform((text) => (text === undefined ? standard : Number(text)))
    .refine((value) => value >= min && value <= max, `expected ${min} to ${max}`)
    .openapi({ type: 'integer', minimum: min, maximum: max, default: standard });
}

/** Words separated by commas, each one of `words`. */
export function queryList<const Words extends readonly [string, ...string[]]>(
  words: Words,
): z.ZodType<Words[number][] | undefined, string | undefined> {
  const word = z.enum(words);
  return z
    .string()
    .max(400)
    .optional()
    .transform((text, context) => {
      if (text === undefined) return undefined;
      const parts = text.split(',').map((part) => word.safeParse(part));
      if (parts.some((part) => !part.success)) {
        context.addIssue({ code: 'custom', message: `expected words of ${words.join(', ')}, separated by commas` });
        return z.NEVER;
      }
      return parts.map((part) => part.data!);
    })
    .openapi({
      type: 'string',
      example: words[0],
      description: `Of ${words.map((each) => `\`${each}\``).join(', ')}; several with commas between.`,
    });
}

/** The host, or the image, that a path is about. */
export const HostParam = z.object({
  id: z
    .string()
    .max(64)
    .openapi({ param: { name: 'id', in: 'path' } }),
});
export const ImageParam = z.object({
  digest: z
    .string()
    .max(200)
    .openapi({ param: { name: 'digest', in: 'path' }, description: 'Digest or any alias.' }),
});

export const LIMIT = queryInt(1, 200, 50);
export const CURSOR = z.string().max(2000).optional().openapi({ description: 'From `next` of the page before.' });

/** Up to here totals are counted; beyond, `at_least` is said. */
export const COUNT_MAX = 10_000;

export const Total = z
  .object({ count: z.int().min(0), type: z.enum(['exact', 'at_least']) })
  .openapi('Total', { description: 'Exact up to 10,000.' });

export function totalJson({ count, exact }: Count): z.infer<typeof Total> {
  return { count, type: exact ? 'exact' : 'at_least' };
}

/** A cursor text for the keys of a page's last item, or null on the last page. */
export function printCursor<Cursor>(page: Page<unknown, Cursor>, bound: string): string | null {
  if (page.next === null) return null;
  return toBase64Url(new TextEncoder().encode(JSON.stringify([1, tie(bound), page.next])));
}

/** @throws {ApiError} CURSOR_INVALID for what `printCursor` did not write for this very list and filter. */
export function parseCursor<Cursor>(text: string | undefined, bound: string, keys: z.ZodType<Cursor>): Cursor | null {
  if (text === undefined) return null;
  const parsed = z.tuple([z.literal(1), z.literal(tie(bound)), keys]).safeParse(decode(text));
  if (parsed.success) return parsed.data[2];
  throw new ApiError(
    'CURSOR_INVALID',
    'this cursor does not belong to this list with this filter; begin again without one',
    [{ parameter: 'cursor', detail: 'belongs to another list, sort or filter' }],
  );
}

function decode(text: string): unknown {
  const bytes = fromBase64Url(text);
  if (bytes === undefined) return undefined;
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return undefined; // not JSON, so not ours: refused by the schema
  }
}

function tie(bound: string): string {
  return createHash('sha256').update(bound).digest('base64url').slice(0, 11);
}

/** What a cursor is bound to: the list's name and everything in the query but the page itself. */
export function boundTo(list: string, query: Readonly<Record<string, unknown>>): string {
  const { cursor: _, limit: __, ...filter } = query;
  const named = Object.keys(filter).filter((name) => filter[name] !== undefined);
  return JSON.stringify([list, named.sort().map((name) => [name, filter[name]])]);
}

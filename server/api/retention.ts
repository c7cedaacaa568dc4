/** `/api/v1/retention`: how long what lies beside the log stays, how much that is, and what was purged by which rule (docs/retention.md). */
import { z } from '@hono/zod-openapi';
import { formatInstant } from '#src/clock.ts';
import { ruleText, volumesOf } from '#server/retention.ts';
import { PURGED_KINDS, type Purge } from '#server/store/retentionrecords.ts';
import { HoldJson, holdJson } from './holds.ts';
import { boundTo, CURSOR, LIMIT, parseCursor, printCursor } from './query.ts';
import { adminRoute, json, type Api } from './route.ts';
import { Time } from './schemas.ts';
import type { ApiServices } from './services.ts';

const DAY_MS = 86_400_000;
const Days = z.int().nullable().openapi({ description: 'Days; null: for good.' });

export const RetentionJson = z
  .object({
    settings: z.object({
      reports: Days,
      judgements: Days,
      acts: Days,
      bytes: z.int().nullable().openapi({ description: 'Of reports and judgements together; null: without a bound.' }),
      atLeast: z.int().openapi({ description: 'Days: nothing younger goes for want of room.' }),
    }),
    since: z.string().nullable().openapi({
      format: 'date-time',
      description: 'They are these since then, and nothing goes under them for a day; null: always.',
    }),
    held: z
      .array(
        z.object({
          of: z.enum(PURGED_KINDS),
          payloads: z.int(),
          bytes: z.int(),
          oldest: z.string().nullable().openapi({ format: 'date', description: 'Day of the oldest.' }),
        }),
      )
      .openapi({ description: 'What is held that may be purged in time, as counted last night.' }),
    holds: z.array(HoldJson).openapi({ description: 'Legal holds that stand.' }),
  })
  .openapi('Retention');

export const PurgeJson = z
  .object({
    origin: z.string().openapi({ description: 'The log that tells it, and the index of its entry there.' }),
    index: z.int(),
    at: Time,
    of: z.enum(PURGED_KINDS),
    payloads: z.int(),
    before: Time.openapi({ description: 'All that went was logged before.' }),
    rule: z.string(),
    entries: z.array(
      z.object({
        origin: z.string(),
        ranges: z
          .array(z.array(z.int()))
          .openapi({ description: 'First and last index of each run of entries whose payloads went.' }),
      }),
    ),
  })
  .openapi('Purge');

function purgeJson(purge: Purge, origins: ReadonlyMap<number, string>): z.infer<typeof PurgeJson> {
  const { log, index, at, of, payloads, before, rule, entries } = purge;
  const named = (which: number): string => origins.get(which) ?? `log ${which}`;
  return {
    origin: named(log),
    index,
    at: formatInstant(at),
    of,
    payloads,
    before: formatInstant(before),
    rule: ruleText(rule),
    entries: entries.map((one) => ({ origin: named(one.log), ranges: one.ranges.map((range) => [...range]) })),
  };
}

const show = adminRoute({
  method: 'get',
  path: '/api/v1/retention',
  operationId: 'getRetention',
  tags: ['retention'],
  responses: { 200: json(RetentionJson, 'The settings, what is held, and the holds that stand.') },
});

const purges = adminRoute({
  method: 'get',
  path: '/api/v1/retention/purges',
  operationId: 'listPurges',
  tags: ['retention'],
  request: { query: z.strictObject({ limit: LIMIT, cursor: CURSOR }) },
  responses: {
    200: json(z.object({ items: z.array(PurgeJson), next: z.string().nullable() }), 'What was purged, newest first.'),
  },
});

export function retentionRoutes(api: Api, { store, retention }: Pick<ApiServices, 'store' | 'retention'>): void {
  api.openapi(show, async (c) => {
    const [noted, retained, holds] = await Promise.all([
      store.retention.noted(),
      store.retention.retained(),
      store.holds.standing(),
    ]);
    const since = noted === undefined ? null : formatInstant(noted.since);
    const held = volumesOf(retained).map(({ oldest, ...volume }) => ({
      ...volume,
      oldest: oldest === null ? null : formatInstant(oldest * DAY_MS).slice(0, 10),
    }));
    return c.json({ settings: { ...retention }, since, held, holds: holds.map(holdJson) }, 200);
  });
  api.openapi(purges, async (c) => {
    const query = c.req.valid('query');
    const bound = boundTo('purges', query);
    const cursor = parseCursor(query.cursor, bound, z.strictObject({ id: z.string() }));
    const [page, head, past] = await Promise.all([
      store.retention.purges({ limit: query.limit, cursor }),
      store.log.head(),
      store.log.past(),
    ]);
    const origins = new Map([...past, ...(head === undefined ? [] : [head])].map(({ log, origin }) => [log, origin]));
    return c.json({ items: page.items.map((purge) => purgeJson(purge, origins)), next: printCursor(page, bound) }, 200);
  });
}

/** `/api/v1/holds`: what is kept whatever the settings say, who set it and who released it (docs/retention.md 4). */
import { z } from '@hono/zod-openapi';
import { formatInstant, type Instant } from '#src/clock.ts';
import { HoldOn, Reason, releaseHold, setHold } from '#server/decisions/holds.ts';
import type { Hold } from '#server/store/retentionrecords.ts';
import { whoOf } from './deciding.ts';
import { boundTo, CURSOR, LIMIT, parseCursor, printCursor } from './query.ts';
import { adminRoute, body, json, type Api } from './route.ts';
import { Time } from './schemas.ts';
import type { ApiServices } from './services.ts';

const TimeOrNull = z.string().nullable().openapi({ format: 'date-time' });
const time = (at: Instant | null): string | null => (at === null ? null : formatInstant(at));

export const HoldJson = z
  .object({
    id: z.string().openapi({ example: 'H-1' }),
    all: z.boolean().openapi({ description: 'On every host, and on what is about none.' }),
    hosts: z.array(z.string()),
    groups: z
      .array(z.string())
      .openapi({ description: 'With all below them; whoever was in one since it was set is held.' }),
    from: TimeOrNull.openapi({ description: 'On what was logged from then on; null: from the beginning.' }),
    to: TimeOrNull.openapi({ description: 'On what was logged before then; null: without an end.' }),
    reason: z.string(),
    setBy: z.string(),
    setAt: Time,
    released: z.object({ by: z.string(), at: Time, reason: z.string() }).nullable(),
  })
  .openapi('Hold');

export function holdJson({ id, scope, from, to, reason, setBy, setAt, released }: Hold): z.infer<typeof HoldJson> {
  return {
    id,
    all: scope === null,
    hosts: [...(scope?.hosts ?? [])],
    groups: [...(scope?.groups ?? [])],
    from: time(from),
    to: time(to),
    reason,
    setBy,
    setAt: formatInstant(setAt),
    released: released && { ...released, at: formatInstant(released.at) },
  };
}

const Bound = z.iso.datetime({ offset: true }).nullable().default(null);

const list = adminRoute({
  method: 'get',
  path: '/api/v1/holds',
  operationId: 'listHolds',
  tags: ['retention'],
  request: { query: z.strictObject({ limit: LIMIT, cursor: CURSOR }) },
  responses: {
    200: json(
      z.object({ items: z.array(HoldJson), next: z.string().nullable() }),
      'Legal holds, newest first; released ones too.',
    ),
  },
});

const set = adminRoute({
  method: 'post',
  path: '/api/v1/holds',
  operationId: 'setHold',
  tags: ['retention'],
  request: {
    body: body(
      z.strictObject({
        on: HoldOn,
        from: Bound.openapi({ description: 'On what was logged from then on.' }),
        to: Bound.openapi({ description: 'On what was logged before then.' }),
        reason: Reason,
      }),
    ),
  },
  responses: { 201: json(HoldJson, 'Set: nothing that it is on goes from now on.') },
});

const release = adminRoute({
  method: 'post',
  path: '/api/v1/holds/{id}/release',
  operationId: 'releaseHold',
  tags: ['retention'],
  request: {
    params: z.object({
      id: z
        .string()
        .max(20)
        .openapi({ param: { name: 'id', in: 'path' } }),
    }),
    body: body(z.strictObject({ reason: Reason })),
  },
  responses: { 200: json(HoldJson, 'Released: what is past its retention goes with the next night.') },
});

const instantOr = (text: string | null): Instant | null => (text === null ? null : Date.parse(text));

export function holdRoutes(api: Api, services: Pick<ApiServices, 'store' | 'clock'>): void {
  const { store } = services;
  api.openapi(list, async (c) => {
    const query = c.req.valid('query');
    const bound = boundTo('holds', query);
    const cursor = parseCursor(query.cursor, bound, z.strictObject({ n: z.int() }));
    const page = await store.holds.list({ limit: query.limit, cursor });
    return c.json({ items: page.items.map(holdJson), next: printCursor(page, bound) }, 200);
  });
  api.openapi(set, async (c) => {
    const { on, from, to, reason } = c.req.valid('json');
    const hold = await setHold({ on, from: instantOr(from), to: instantOr(to), reason }, whoOf(c), services);
    return c.json(holdJson(hold), 201);
  });
  api.openapi(release, async (c) => {
    const hold = await releaseHold(c.req.valid('param').id, c.req.valid('json').reason, whoOf(c), services);
    return c.json(holdJson(hold), 200);
  });
}

/** `/api/v1/audit`: the trail of what people, services and jobs did, newest first. It is only ever added to. */
import { z } from '@hono/zod-openapi';
import { instantOf, Moment } from './deciding.ts';
import { boundTo, CURSOR, LIMIT, parseCursor, printCursor } from './query.ts';
import { adminRoute, json, type Api } from './route.ts';
import { AuditEntry, auditJson } from './trail.ts';
import type { ApiServices } from './services.ts';

const Text = z
  .string()
  .min(1)
  .max(300)
  .refine((text) => !text.includes('\0'), 'must not hold a NUL');

const list = adminRoute({
  method: 'get',
  path: '/api/v1/audit',
  operationId: 'listAudit',
  tags: ['access'],
  request: {
    query: z.strictObject({
      object: Text.optional().openapi({ description: 'What it was done to.', example: 'user:alice' }),
      actor: Text.optional().openapi({ description: 'Who did it.', example: 'service:ci' }),
      since: Moment.optional().openapi({ description: 'From then on.' }),
      until: Moment.optional().openapi({ description: 'Before then.' }),
      limit: LIMIT,
      cursor: CURSOR,
    }),
  },
  responses: {
    200: json(z.object({ items: z.array(AuditEntry), next: z.string().nullable() }), 'The trail, newest first.'),
  },
});

export function auditRoutes(api: Api, { store }: Pick<ApiServices, 'store'>): void {
  api.openapi(list, async (c) => {
    const query = c.req.valid('query');
    const { object, actor, since, until } = query;
    const bound = boundTo('audit', query);
    const cursor = parseCursor(query.cursor, bound, z.strictObject({ id: z.string() }));
    const filter = {
      ...(object === undefined ? {} : { object }),
      ...(actor === undefined ? {} : { actor }),
      ...(since === undefined ? {} : { since: instantOf(since) }),
      ...(until === undefined ? {} : { until: instantOf(until) }),
    };
    const page = await store.audit.list(filter, { limit: query.limit, cursor });
    return c.json({ items: page.items.map(auditJson), next: printCursor(page, bound) }, 200);
  });
}

/** `/api/v1/views`: lists that people want again, for themselves or for all. */
import { z } from '@hono/zod-openapi';
import { formatInstant } from '#src/clock.ts';
import { listViews, removeView, saveView } from '#server/decisions/views.ts';
import type { SavedView } from '#server/store/records.ts';
import { lineOf, whoOf } from './deciding.ts';
import { adminRoute, body, json, type Api } from './route.ts';
import { Time } from './schemas.ts';
import type { ApiServices } from './services.ts';

export const ViewJson = z
  .object({
    id: z.string(),
    name: z.string(),
    shared: z.boolean(),
    q: z.string(),
    createdAt: Time,
    createdBy: z.string(),
  })
  .openapi('SavedView');

const viewJson = (view: SavedView): z.infer<typeof ViewJson> => ({
  id: view.id,
  name: view.name,
  shared: view.owner === null,
  q: view.query,
  createdAt: formatInstant(view.createdAt),
  createdBy: view.createdBy,
});

export const ViewBody = z.strictObject({
  name: z.string().min(1).max(100),
  q: z.string().max(2000),
  shared: z.boolean().default(false),
});
const Param = z.object({
  id: z
    .string()
    .max(80)
    .openapi({ param: { name: 'id', in: 'path' } }),
});

const list = adminRoute({
  method: 'get',
  path: '/api/v1/views',
  operationId: 'listViews',
  tags: ['findings'],
  request: { query: z.strictObject({}) },
  responses: { 200: json(z.object({ items: z.array(ViewJson) }), "The asker's views and shared ones, by name.") },
});
const create = adminRoute({
  method: 'post',
  path: '/api/v1/views',
  operationId: 'createView',
  tags: ['findings'],
  request: { body: body(ViewBody) },
  responses: { 201: json(ViewJson, 'Saved.') },
});
const put = adminRoute({
  method: 'put',
  path: '/api/v1/views/{id}',
  operationId: 'changeView',
  tags: ['findings'],
  request: { params: Param, body: body(ViewBody) },
  responses: { 200: json(ViewJson, 'Changed.') },
});
const remove = adminRoute({
  method: 'delete',
  path: '/api/v1/views/{id}',
  operationId: 'removeView',
  tags: ['findings'],
  request: { params: Param },
  responses: { 200: json(z.object({ done: z.boolean() }), 'Gone.') },
});

export function viewRoutes(api: Api, services: ApiServices): void {
  const { store } = services;
  api.openapi(list, async (c) => c.json({ items: (await listViews(whoOf(c), services)).map(viewJson) }, 200));
  api.openapi(create, async (c) => {
    const { name, q, shared } = c.req.valid('json');
    await lineOf(q, store);
    return c.json(viewJson(await saveView(null, { name, query: q, shared }, whoOf(c), services)), 201);
  });
  api.openapi(put, async (c) => {
    const { name, q, shared } = c.req.valid('json');
    await lineOf(q, store);
    return c.json(
      viewJson(await saveView(c.req.valid('param').id, { name, query: q, shared }, whoOf(c), services)),
      200,
    );
  });
  api.openapi(remove, async (c) =>
    c.json({ done: await removeView(c.req.valid('param').id, whoOf(c), services) }, 200),
  );
}

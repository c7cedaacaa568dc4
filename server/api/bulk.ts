/** `/api/v1/bulk`: one act on many findings; first what it would do, then the act (docs/findings.md 5). */
import { z } from '@hono/zod-openapi';
import { formatInstant } from '#src/clock.ts';
import { ASSIGNEE_CHARS_MAX, BULK_ITEMS_MAX, FILTER_CHARS_MAX } from '#src/limits.ts';
import { applyBulk, bulkOf, previewBulk, undoBulk, type BulkWanted } from '#server/decisions/bulk.ts';
import type { Bulk } from '#server/store/records.ts';
import { instantOf, lineOf, Moment, Note, whoOf } from './deciding.ts';
import { ApiError } from './problem.ts';
import { boundTo, CURSOR, LIMIT, parseCursor, printCursor } from './query.ts';
import { adminRoute, body, json, type Api } from './route.ts';
import { oneLine, Time } from './schemas.ts';
import type { ApiServices } from './services.ts';

const Id = z.string().max(80);
const ITEMS_MAX = Math.min(1000, BULK_ITEMS_MAX);

const Cover = {
  filter: z
    .strictObject({ q: z.string().max(FILTER_CHARS_MAX).default('') })
    .optional()
    .openapi({ description: 'A filter line, the same as of lists. An empty one needs `all: true`.' }),
  ids: z
    .array(z.strictObject({ host: Id.default(''), group: Id }))
    .min(1)
    .max(ITEMS_MAX)
    .optional()
    .openapi({ description: 'The very findings; of `assign` the groups, without hosts.' }),
  all: z.boolean().default(false),
};
const PreviewBody = z.discriminatedUnion('action', [
  z.strictObject({
    action: z.literal('acknowledge'),
    until: Moment.nullable().default(null),
    note: Note.nullable().default(null),
    ...Cover,
  }),
  z.strictObject({ action: z.literal('unacknowledge'), note: Note.nullable().default(null), ...Cover }),
  z.strictObject({
    action: z.literal('assign'),
    assignee: oneLine(ASSIGNEE_CHARS_MAX).nullable(),
    note: Note.nullable().default(null),
    ...Cover,
  }),
]);

const Preview = z
  .object({
    token: z.string(),
    matched: z.int(),
    changes: z.int(),
    hosts: z.int(),
    skipped: z.array(z.object({ reason: z.string(), count: z.int() })),
    as_of: Time,
    expires_at: Time,
  })
  .openapi('BulkPreview');

const BulkJson = z
  .object({
    id: z.string(),
    action: z.string(),
    state: z.enum(['previewed', 'applying', 'done', 'undone']),
    actor: z.string(),
    matched: z.int(),
    changed: z.int(),
    skipped: z.int(),
    as_of: Time,
    applied_at: z.string().nullable(),
    done_at: z.string().nullable(),
    undo_until: z.string().nullable(),
    undoes: z.string().nullable(),
  })
  .openapi('Bulk');

function bulkJson(bulk: Bulk): z.infer<typeof BulkJson> {
  const time = (at: number | null): string | null => (at === null ? null : formatInstant(at));
  const { id, action, state, actor, matched, changed, skipped, undoes } = bulk;
  return {
    id,
    action,
    state,
    actor,
    matched,
    changed,
    skipped,
    as_of: formatInstant(bulk.asOf),
    applied_at: time(bulk.appliedAt),
    done_at: time(bulk.doneAt),
    undo_until: time(bulk.undoUntil),
    undoes,
  };
}

const Param = z.object({
  id: z
    .string()
    .max(80)
    .openapi({ param: { name: 'id', in: 'path' } }),
});

const preview = adminRoute({
  method: 'post',
  path: '/api/v1/bulk/preview',
  operationId: 'previewBulk',
  tags: ['findings'],
  request: { body: body(PreviewBody) },
  responses: { 200: json(Preview, 'What it would do. The token covers just that: what arrives later is not in it.') },
});
const apply = adminRoute({
  method: 'post',
  path: '/api/v1/bulk/{id}/apply',
  operationId: 'applyBulk',
  tags: ['findings'],
  request: { params: Param, headers: z.object({ 'idempotency-key': z.string().max(200).optional() }) },
  responses: { 200: json(BulkJson, 'Done, or (state `applying`) under way: ask for it again.') },
});
const undo = adminRoute({
  method: 'post',
  path: '/api/v1/bulk/{id}/undo',
  operationId: 'undoBulk',
  tags: ['findings'],
  request: { params: Param },
  responses: { 200: json(BulkJson, 'The act that takes it back.') },
});
const get = adminRoute({
  method: 'get',
  path: '/api/v1/bulk/{id}',
  operationId: 'getBulk',
  tags: ['findings'],
  request: { params: Param },
  responses: { 200: json(BulkJson, 'How far it is.') },
});
const items = adminRoute({
  method: 'get',
  path: '/api/v1/bulk/{id}/items',
  operationId: 'listBulkItems',
  tags: ['findings'],
  request: { params: Param, query: z.strictObject({ limit: LIMIT, cursor: CURSOR }) },
  responses: {
    200: json(
      z.object({
        items: z.array(z.object({ host: z.string(), group: z.string(), result: z.string().nullable() })),
        next: z.string().nullable(),
      }),
      'What became of each; null: not yet.',
    ),
  },
});

export function bulkRoutes(api: Api, services: ApiServices): void {
  const { store } = services;

  api.openapi(preview, async (c) => {
    const { filter, ids, all, ...terms } = c.req.valid('json');
    if ((filter === undefined) === (ids === undefined))
      throw new ApiError('BODY_INVALID', 'name filter or ids, one of them', [
        { pointer: '/filter', detail: 'filter or ids' },
      ]);
    if (terms.action !== 'assign' && ids?.some(({ host }) => host === '') === true)
      throw new ApiError('BODY_INVALID', 'findings are named by host and group', [
        { pointer: '/ids', detail: 'host is missing' },
      ]);
    // Refused here with its place; the decision reads the very same line again.
    if (filter !== undefined) await lineOf(filter.q, store, 'filter.q');
    const wanted: BulkWanted = {
      terms:
        terms.action === 'acknowledge'
          ? { ...terms, until: terms.until === null ? null : instantOf(terms.until) }
          : terms,
      cover:
        filter !== undefined
          ? { kind: 'filter', q: filter.q, all }
          : {
              kind: 'items',
              items: ids!.map(({ host, group }) => ({ hostId: terms.action === 'assign' ? '' : host, groupId: group })),
            },
    };
    const found = await previewBulk(wanted, whoOf(c), services);
    return c.json(
      {
        token: found.token,
        matched: found.matched,
        changes: found.changes,
        hosts: found.hosts,
        skipped: [...found.skipped],
        as_of: formatInstant(found.asOf),
        expires_at: formatInstant(found.expiresAt),
      },
      200,
    );
  });

  api.openapi(apply, async (c) => {
    const key = c.req.valid('header')['idempotency-key'];
    if (key === undefined || key === '')
      throw new ApiError(
        'PRECONDITION_REQUIRED',
        'give the request a key of its own, so that sending it again does nothing twice',
        [{ parameter: 'Idempotency-Key', detail: 'is missing' }],
      );
    return c.json(bulkJson(await applyBulk(c.req.valid('param').id, key, whoOf(c), services)), 200);
  });

  api.openapi(undo, async (c) => c.json(bulkJson(await undoBulk(c.req.valid('param').id, whoOf(c), services)), 200));
  api.openapi(get, async (c) => c.json(bulkJson(await bulkOf(c.req.valid('param').id, whoOf(c), services)), 200));

  api.openapi(items, async (c) => {
    const { id } = await bulkOf(c.req.valid('param').id, whoOf(c), services);
    const query = c.req.valid('query');
    const bound = boundTo(`bulk/${id}/items`, query);
    const keys = z.strictObject({ hostId: z.string(), groupId: z.string() });
    const page = await store.bulks.items(id, { limit: query.limit, cursor: parseCursor(query.cursor, bound, keys) });
    const shown = page.items.map(({ hostId, groupId, result }) => ({ host: hostId, group: groupId, result }));
    return c.json({ items: shown, next: printCursor(page, bound) }, 200);
  });
}

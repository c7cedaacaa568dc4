/** `/api/v1/evidence/exports`: bundles for auditors, made as jobs; their files are fetched in parts, so that a download goes on (docs/evidence.md 7). */
import { z } from '@hono/zod-openapi';
import { formatInstant, type Instant } from '#src/clock.ts';
import { downloadOf } from '#server/evidence/download.ts';
import { Exports, PARAMETERS } from '#server/evidence/exports.ts';
import { EXPORT_STAGES, EXPORT_STATES, type EvidenceExport } from '#server/store/evidencerecords.ts';
import { whoOf } from './deciding.ts';
import { momentOf, queryMoment } from './posture.ts';
import { boundTo, CURSOR, LIMIT, parseCursor, printCursor } from './query.ts';
import { adminRoute, body, json, type Api } from './route.ts';
import { Time } from './schemas.ts';
import type { ApiServices } from './services.ts';

const Sampling = z.strictObject({
  seed: z.string().min(1).max(200).openapi({ description: 'The auditor chooses it: it decides the draw.' }),
  size: z.int().min(1).max(100_000),
});
const Parameters = z.strictObject({
  completenessMin: z.number().min(0).max(1),
  answerHours: z.number().min(0).max(87_600),
});

const ExportJson = z
  .object({
    id: z.string(),
    state: z.enum(EXPORT_STATES).openapi({ description: 'New ones may come.' }),
    createdAt: Time,
    createdBy: z.string(),
    from: Time,
    to: Time.openapi({ description: 'Not included.' }),
    hosts: z.string().nullable().openapi({ description: 'The filter of hosts; null for every one.' }),
    scope: z
      .array(z.string())
      .nullable()
      .openapi({ description: 'Host groups that the asker may take away; null for every host.' }),
    frameworks: z.array(z.string()),
    sampling: Sampling.nullable(),
    parameters: Parameters,
    stages: z
      .array(z.object({ stage: z.enum(EXPORT_STAGES), done: z.int(), total: z.int().nullable() }))
      .openapi({ description: 'How far it is: each stage that was begun, in their order.' }),
    attempts: z.int().openapi({
      description: 'How often it was begun: more than once where a server stopped in the middle; each begins anew.',
    }),
    hostCount: z.int().nullable().openapi({ description: 'Hosts in the bundle, as far as they were counted.' }),
    logSize: z.int().nullable().openapi({ description: 'Size of the log that it is about.' }),
    error: z.object({ code: z.string(), text: z.string() }).nullable(),
    file: z
      .object({ name: z.string(), bytes: z.int(), sha256: z.string() })
      .nullable()
      .openapi({ description: 'Of the finished bundle.' }),
    finishedAt: Time.nullable(),
    expiresAt: Time.openapi({ description: 'From then on it is deleted.' }),
  })
  .openapi('EvidenceExport');

const time = (at: Instant): string => formatInstant(at);

function exportJson(one: EvidenceExport): z.infer<typeof ExportJson> {
  const { id, state, createdBy, frameworks, sampling, attempts } = one;
  return {
    id,
    state,
    createdAt: time(one.createdAt),
    createdBy,
    from: time(one.from),
    to: time(one.to),
    hosts: one.filter,
    scope: one.scope === null ? null : [...one.scope],
    frameworks: [...frameworks],
    sampling: sampling === null ? null : { ...sampling },
    parameters: { ...one.parameters },
    stages: one.progress.map((step) => ({ ...step })),
    attempts,
    hostCount: one.hosts,
    logSize: one.cut?.size ?? null,
    error: one.error === null ? null : { ...one.error },
    file: one.file === null ? null : { name: Exports.nameOf(one), ...one.file },
    finishedAt: one.finishedAt === null ? null : time(one.finishedAt),
    expiresAt: time(one.expiresAt),
  };
}

const Param = z.object({
  id: z
    .string()
    .max(64)
    .openapi({ param: { name: 'id', in: 'path' } }),
});

const create = adminRoute({
  method: 'post',
  path: '/api/v1/evidence/exports',
  operationId: 'createEvidenceExport',
  tags: ['evidence'],
  request: {
    body: body(
      z.strictObject({
        from: queryMoment('Begin of the period.').unwrap(),
        to: queryMoment('Its end, not included; default: now. It must be over.'),
        hosts: z.string().max(2000).optional().openapi({
          description:
            'A filter line about hosts (docs/findings.md 6): `group:prod/web label:tier=front -host:web-3`; default: every host.',
        }),
        frameworks: z
          .array(z.string().max(40))
          .max(20)
          .optional()
          .openapi({ description: 'Control mappings to compute; default: all that ship.' }),
        sampling: Sampling.optional(),
        parameters: Parameters.partial()
          .optional()
          .openapi({ description: 'docs/controls.md 2.', example: PARAMETERS }),
      }),
    ),
  },
  responses: { 202: json(ExportJson, 'It is queued; ask again how far it is.') },
});

const list = adminRoute({
  method: 'get',
  path: '/api/v1/evidence/exports',
  operationId: 'listEvidenceExports',
  tags: ['evidence'],
  request: { query: z.strictObject({ limit: LIMIT, cursor: CURSOR }) },
  responses: {
    200: json(
      z.object({ items: z.array(ExportJson), next: z.string().nullable() }),
      'Those that the asker may take, newest first.',
    ),
  },
});

const show = adminRoute({
  method: 'get',
  path: '/api/v1/evidence/exports/{id}',
  operationId: 'getEvidenceExport',
  tags: ['evidence'],
  request: { params: Param },
  responses: { 200: json(ExportJson, 'How far it is, and what came of it.') },
});

const file = adminRoute({
  method: 'get',
  path: '/api/v1/evidence/exports/{id}/file',
  operationId: 'downloadEvidenceExport',
  tags: ['evidence'],
  request: {
    params: Param,
    headers: z.object({
      range: z.string().max(100).optional().openapi({ description: '`bytes=FROM-` or `bytes=FROM-TO`.' }),
      'if-range': z.string().max(200).optional().openapi({ description: 'The ETag of what was begun.' }),
    }),
  },
  responses: {
    200: {
      description: 'The bundle (docs/evidence.md). Its ETag is its SHA-256.',
      content: { 'application/zip': { schema: z.string().openapi({ format: 'binary' }) } },
    },
    206: {
      description: 'The part that was asked for.',
      content: { 'application/zip': { schema: z.string().openapi({ format: 'binary' }) } },
    },
  },
});

const remove = adminRoute({
  method: 'delete',
  path: '/api/v1/evidence/exports/{id}',
  operationId: 'removeEvidenceExport',
  tags: ['evidence'],
  request: { params: Param },
  responses: { 200: json(z.object({ done: z.boolean() }), 'Gone, with its file; stopped where it was running.') },
});

export function evidenceRoutes(api: Api, services: ApiServices): void {
  const { exports, clock, wake } = services;

  api.openapi(create, async (c) => {
    const { from, to, hosts = null, frameworks, sampling = null, parameters = {} } = c.req.valid('json');
    const made = await exports.create(
      {
        from: momentOf(from),
        to: to === undefined ? clock() : momentOf(to),
        hosts,
        frameworks,
        sampling,
        parameters: {
          ...(parameters.completenessMin === undefined ? {} : { completenessMin: parameters.completenessMin }),
          ...(parameters.answerHours === undefined ? {} : { answerHours: parameters.answerHours }),
        },
      },
      whoOf(c),
    );
    wake();
    return c.json(exportJson(made), 202);
  });

  api.openapi(list, async (c) => {
    const { limit, cursor } = c.req.valid('query');
    const bound = boundTo('evidence/exports', {});
    const page = await exports.list(whoOf(c), {
      limit,
      cursor: parseCursor(cursor, bound, z.strictObject({ id: z.string() })),
    });
    return c.json({ items: page.items.map(exportJson), next: printCursor(page, bound) }, 200);
  });

  api.openapi(show, async (c) => c.json(exportJson(await exports.get(c.req.valid('param').id, whoOf(c))), 200));

  api.openapi(file, async (c) => {
    const found = await exports.file(c.req.valid('param').id, whoOf(c));
    const {
      status,
      headers,
      body: bytes,
    } = downloadOf(found, {
      range: c.req.header('range'),
      ifRange: c.req.header('if-range'),
    });
    return c.body(bytes, status, headers);
  });

  api.openapi(remove, async (c) => {
    await exports.remove(c.req.valid('param').id, whoOf(c));
    return c.json({ done: true }, 200);
  });
}

/** `/api/v1/log`: how the evidence log stands, entries with their proofs, its verification in steps, and its restart (docs/log.md). */
import { z } from '@hono/zod-openapi';
import { toBase64 } from '#src/bytes.ts';
import { formatInstant } from '#src/clock.ts';
import { parseEntry } from '#src/log/entry.ts';
import { printConsistencyFile, printInclusionFile } from '#src/log/prooffile.ts';
import { LOG_CHECK_ROWS } from '#src/limits.ts';
import { ORIGIN } from '#src/signing/note.ts';
import { checkRows } from '#server/log/checkrows.ts';
import { LogError } from '#server/log/evidencelog.ts';
import { isTheirs } from '#server/decisions/may.ts';
import { reportRef } from '#server/store/logpayload.ts';
import { whoOf } from './deciding.ts';
import { publishedOf } from './logfiles.ts';
import { ApiError } from './problem.ts';
import { actOf, adminRoute, body, json, type Api } from './route.ts';
import type { ApiServices } from './services.ts';

const Index = z.string().regex(/^(?:0|[1-9][0-9]{0,14})$/, 'expected a whole number');
const Hash = z.string().openapi({ description: '32 bytes in base64.' });
const NamedHead = z.object({ origin: z.string(), size: z.int(), root: Hash });
const Place = z.object({ place: z.string(), detail: z.string() });

const Anchor = z.object({
  kind: z.enum(['witness', 'authority', 'hosts']),
  name: z.string(),
  size: z.int().openapi({ description: 'Entries that it signed, stamped or keeps; 0: none yet.' }),
  at: z.string().nullable().openapi({ description: 'When, as it states.' }),
  triedAt: z.string().nullable(),
  trouble: z
    .object({
      code: z.string(),
      text: z.string(),
      alarm: z.boolean().openapi({ description: 'It knows another log of this name.' }),
      since: z.string(),
      times: z.int(),
    })
    .nullable(),
});

const LogState = z
  .object({
    state: z.enum(['signing', 'refused']).openapi({ description: 'refused: nothing is signed until somebody acts.' }),
    why: z.string().nullable(),
    origin: z.string().nullable(),
    vkey: z.string().nullable(),
    size: z.int().openapi({ description: 'Entries that have a place.' }),
    root: Hash.nullable(),
    beganAt: z.string().nullable(),
    checkpoint: z
      .object({ size: z.int(), at: z.string(), note: z.string() })
      .nullable()
      .openapi({ description: 'The newest that was published.' }),
    pending: z.object({ count: z.int(), oldest: z.string().nullable() }),
    previous: NamedHead.nullable().openapi({ description: 'Where the log before ended, after a restart.' }),
    past: z.array(NamedHead.extend({ endedAt: z.string() })),
    level: z
      .union([z.literal(0), z.literal(1), z.literal(2)])
      .openapi({ description: 'How much the log proves (docs/log.md 1), as far as `anchors` reach.' }),
    raise: z.array(z.string()).openapi({ description: 'What there is to be done for a higher level.' }),
    anchors: z.array(Anchor).openapi({ description: 'Who signed, stamped or keeps checkpoints besides this server.' }),
  })
  .openapi('LogState');

const state = adminRoute({
  method: 'get',
  path: '/api/v1/log',
  operationId: 'getLog',
  tags: ['log'],
  responses: { 200: json(LogState, 'How the evidence log stands.') },
});

const entry = adminRoute({
  method: 'get',
  path: '/api/v1/log/entries/{index}',
  operationId: 'getLogEntry',
  tags: ['log'],
  request: { params: z.object({ index: Index.openapi({ param: { name: 'index', in: 'path' } }) }) },
  responses: {
    200: json(
      z.object({
        index: z.int(),
        entry: z.record(z.string(), z.unknown()),
        bytes: z.string().openapi({ description: 'What was hashed, in base64.' }),
        salt: z.string().nullable().openapi({ description: 'In base64; null once it was purged.' }),
        payload: z.string().nullable().openapi({ description: 'What the digest is over, behind the salt, in base64.' }),
        ref: z.string().nullable(),
        purgedAt: z.string().nullable(),
      }),
      'An entry, with what its digest is over.',
    ),
  },
});

const File = (description: string) => ({
  200: { description, content: { 'text/plain': { schema: z.string() } } },
});

const inclusion = adminRoute({
  method: 'get',
  path: '/api/v1/log/entries/{index}/proof',
  operationId: 'proveLogEntry',
  tags: ['log'],
  request: { params: z.object({ index: Index.openapi({ param: { name: 'index', in: 'path' } }) }) },
  responses: File('A C2SP tlog-proof: the entry is in the tree of the newest checkpoint.'),
});

const consistency = adminRoute({
  method: 'get',
  path: '/api/v1/log/consistency',
  operationId: 'proveLogConsistency',
  tags: ['log'],
  request: { query: z.strictObject({ from: Index.openapi({ description: 'Size of an earlier checkpoint.' }) }) },
  responses: File('The body of C2SP tlog-witness’s add-checkpoint: the newest checkpoint begins with the earlier one.'),
});

const checkpoints = adminRoute({
  method: 'get',
  path: '/api/v1/log/checkpoints',
  operationId: 'listLogCheckpoints',
  tags: ['log'],
  request: { query: z.strictObject({ from: Index.default('0') }) },
  responses: {
    200: json(
      z.object({ items: z.array(z.object({ size: z.int(), root: Hash, note: z.string(), at: z.string() })) }),
      'Checkpoints that were signed, by size from `from` on; empty at the end.',
    ),
  },
});

const check = adminRoute({
  method: 'get',
  path: '/api/v1/log/check',
  operationId: 'checkLogRows',
  tags: ['log'],
  request: { query: z.strictObject({ from: Index.default('0') }) },
  responses: {
    200: json(
      z.object({
        next: z.int().nullable(),
        faults: z.array(Place),
        held: z.int(),
        purged: z.int(),
        anchors: z.object({
          cosignatures: z.int(),
          stamps: z.int(),
          unknown: z.array(z.string()).openapi({ description: 'Witnesses whose key is not kept here.' }),
        }),
        step: z.int(),
      }),
      'Rows beside the tree held against their entries: one step; `bootproof log verify` takes all of them.',
    ),
  },
});

const restart = adminRoute({
  method: 'post',
  path: '/api/v1/log/restart',
  operationId: 'restartLog',
  tags: ['log'],
  request: {
    body: body(
      z.strictObject({
        origin: z
          .string()
          .regex(ORIGIN, 'expected a name without spaces and plus')
          .openapi({ description: 'Name of the new log; never one that was used.' }),
      }),
    ),
  },
  responses: {
    200: json(z.object({ previous: NamedHead }), 'The old log ended; entry 0 of the new one names its head.'),
  },
});

const receipt = adminRoute({
  method: 'get',
  path: '/api/v1/hosts/{id}/reports/{seq}/receipt',
  operationId: 'getReportReceipt',
  tags: ['hosts'],
  request: {
    params: z.object({
      id: z
        .string()
        .max(64)
        .openapi({ param: { name: 'id', in: 'path' } }),
      seq: z
        .string()
        .regex(/^[1-9][0-9]{0,14}$/)
        .openapi({ param: { name: 'seq', in: 'path' } }),
    }),
  },
  responses: {
    200: json(
      z.object({
        state: z.enum(['logged', 'pending', 'daily']).openapi({
          description:
            'logged: it has a place. pending: it is in the log, its place comes within a second. daily: a `same`; the last of a day is logged when the day is over.',
        }),
        index: z.int().nullable(),
      }),
      'Where a report stands in the evidence log.',
    ),
  },
});

export function logRoutes(api: Api, services: ApiServices): void {
  const { store, evidence } = services;
  const timeOrNull = (at: number | null) => (at === null ? null : formatInstant(at));

  api.openapi(state, async (c) => {
    const [head, pending, past] = await Promise.all([store.log.head(), store.log.pending(), store.log.past()]);
    const { refusal, published } = evidence;
    const { level, raise, anchors } = await services.anchors.standing(head?.origin);
    return c.json(
      {
        state: refusal === undefined ? ('signing' as const) : ('refused' as const),
        why: refusal?.message ?? null,
        origin: head?.origin ?? null,
        vkey: head === undefined ? null : evidence.vkey(head.origin),
        size: head?.size ?? 0,
        root: head === undefined ? null : toBase64(head.root),
        beganAt: timeOrNull(head?.beganAt ?? null),
        checkpoint:
          published === undefined
            ? null
            : {
                size: published.checkpoint.size,
                at: formatInstant(published.checkpoint.at),
                note: published.checkpoint.note,
              },
        pending: { count: pending.count, oldest: timeOrNull(pending.oldest) },
        previous: head?.previous ?? null,
        level,
        raise: [...raise],
        anchors: anchors.map(({ at, triedAt, trouble, ...rest }) => ({
          ...rest,
          at: timeOrNull(at),
          triedAt: timeOrNull(triedAt),
          trouble: trouble && { ...trouble, since: formatInstant(trouble.since) },
        })),
        past: past.map(({ origin, size, root, endedAt }) => ({
          origin,
          size,
          root: toBase64(root),
          endedAt: formatInstant(endedAt),
        })),
      },
      200,
    );
  });

  const rowAt = async (index: number) => {
    const head = await store.log.head();
    const [row] = head === undefined ? [] : await store.log.entries(head.log, index, 1);
    if (row?.index !== index) throw new ApiError('LOG_ENTRY_UNKNOWN', `the log has no entry ${index}`);
    return row;
  };

  api.openapi(entry, async (c) => {
    const row = await rowAt(Number(c.req.valid('param').index));
    const payload = (await store.log.payloads([row.id])).get(row.id);
    return c.json(
      {
        index: row.index,
        entry: parseEntry(row.entry),
        bytes: toBase64(row.entry),
        salt: payload?.salt == null ? null : toBase64(payload.salt),
        payload: payload?.bytes == null ? null : toBase64(payload.bytes),
        ref: payload?.ref ?? null,
        purgedAt: timeOrNull(payload?.purgedAt ?? null),
      },
      200,
    );
  });

  api.openapi(inclusion, async (c) => {
    const index = Number(c.req.valid('param').index);
    const { log, checkpoint } = publishedOf(services);
    if (index >= checkpoint.size)
      throw new ApiError('LOG_ENTRY_UNKNOWN', `the newest checkpoint is of ${checkpoint.size} entries`);
    const proof = await evidence.reads.inclusion(log, index, checkpoint.size);
    return c.text(printInclusionFile({ index, proof, checkpoint: checkpoint.note }), 200);
  });

  api.openapi(consistency, async (c) => {
    const old = Number(c.req.valid('query').from);
    const { log, checkpoint } = publishedOf(services);
    if (old > checkpoint.size)
      throw new ApiError('LOG_ENTRY_UNKNOWN', `the newest checkpoint is of ${checkpoint.size} entries`);
    const proof = await evidence.reads.consistency(log, old, checkpoint.size);
    return c.text(printConsistencyFile({ old, proof, checkpoint: checkpoint.note }), 200);
  });

  api.openapi(checkpoints, async (c) => {
    const head = await store.log.head();
    const from = Number(c.req.valid('query').from);
    const rows = head === undefined ? [] : await store.log.checkpoints(head.origin, from, LOG_CHECK_ROWS);
    const items = rows.map(({ size, root, note, at }) => ({ size, root: toBase64(root), note, at: formatInstant(at) }));
    return c.json({ items }, 200);
  });

  api.openapi(check, async (c) => {
    const head = await store.log.head();
    const from = Number(c.req.valid('query').from);
    const done =
      head === undefined
        ? { next: null, faults: [], held: 0, purged: 0, anchors: { cosignatures: 0, stamps: 0, unknown: [] } }
        : await checkRows(store, head, from, LOG_CHECK_ROWS);
    const { unknown, ...counts } = done.anchors;
    const anchors = { ...counts, unknown: [...unknown] };
    return c.json({ ...done, anchors, faults: done.faults.map((fault) => ({ ...fault })), step: LOG_CHECK_ROWS }, 200);
  });

  api.openapi(restart, async (c) => {
    try {
      const previous = await evidence.restart(c.req.valid('json').origin, actOf(c, services.clock()));
      return c.json({ previous: { ...previous } }, 200);
    } catch (error) {
      if (error instanceof LogError) throw new ApiError('LOG_RESTART', error.message);
      throw error;
    }
  });

  api.openapi(receipt, async (c) => {
    const { id, seq } = c.req.valid('param');
    const host = await store.hosts.get(id);
    if (host === undefined || !isTheirs(whoOf(c), host.group))
      throw new ApiError('HOST_UNKNOWN', `no host ${id} is enrolled here`);
    const [placed] = await store.log.receipts(reportRef(id, Number(seq), 0));
    if (placed !== undefined)
      return c.json(
        { state: placed.index === null ? ('pending' as const) : ('logged' as const), index: placed.index },
        200,
      );
    const head = await store.reports.head(id, Number(seq));
    if (head?.kind === 'same') return c.json({ state: 'daily' as const, index: null }, 200);
    throw new ApiError('REPORT_UNKNOWN', 'this report is not kept, was not logged by itself, or never came');
  });
}

/** `/api/v1/waivers`: exceptions that end, from the request to the decision and its end (docs/findings.md 3). */
import { z } from '@hono/zod-openapi';
import { formatInstant, type Instant } from '#src/clock.ts';
import { Selector, stateOf, WAIVER_KINDS, WAIVER_STATES, WAIVER_TEXT } from '#src/finding/waiver.ts';
import { WAIVER_TICKET_MAX } from '#src/limits.ts';
import { SEVERITIES } from '#src/policy/judgement.ts';
import { EXPIRING_MS, hygieneOf } from '#server/decisions/waiverhygiene.ts';
import { previewWaiver } from '#server/decisions/waiverpreview.ts';
import {
  changeWaiver,
  decideWaiver,
  isSinglePerson,
  requestWaiver,
  setSinglePerson,
  type Act,
} from '#server/decisions/waivers.ts';
import { termsOf, type WaiverDraft } from '#server/decisions/waiverterms.ts';
import {
  countWaivers,
  effectiveWaivers,
  listWaivers,
  readWaiver,
  shownTo,
  useOf,
  waiversOfPeriod,
  waiverStory,
  type ShownWaiver,
} from '#server/decisions/waiverreads.ts';
import type { Principal } from '#server/access/principal.ts';
import { etagOf, IF_MATCH, instantOf, Moment, Note, readRevision, whoOf } from './deciding.ts';
import { momentOf, periodOf, queryMoment } from './posture.ts';
import { ApiError } from './problem.ts';
import { boundTo, CURSOR, LIMIT, parseCursor, printCursor, queryList } from './query.ts';
import { adminRoute, body, json, type Api } from './route.ts';
import { AuditEntry, auditJson } from './trail.ts';
import { oneLine, Severity, Time } from './schemas.ts';
import type { ApiServices } from './services.ts';

const TimeOrNull = z.string().nullable().openapi({ format: 'date-time' });

export const WaiverJson = z
  .object({
    id: z.string(),
    revision: z.int(),
    state: z.enum(WAIVER_STATES),
    kind: z.enum(WAIVER_KINDS),
    title: z.string(),
    justification: z.string(),
    compensating: z.string().nullable(),
    ticket: z.string().nullable(),
    selector: z.unknown(),
    ceiling: Severity.openapi({ description: 'Findings above it stay open.' }),
    startsAt: TimeOrNull,
    expiresAt: Time,
    requestedBy: z.string(),
    requestedAt: Time,
    decidedBy: z.string().nullable(),
    decidedAt: TimeOrNull,
    decisionNote: z.string().nullable(),
    alone: z.boolean().openapi({ description: 'One person asked and decided (single-person mode).' }),
    endedBy: z.string().nullable(),
    endedAt: TimeOrNull,
    endReason: z.string().nullable(),
    extension: z.object({ expiresAt: Time, requestedBy: z.string(), requestedAt: Time, note: z.string() }).nullable(),
    scope: z.array(z.string()).nullable().openapi({ description: "The approver's host groups; null: every host." }),
    beyond: z.boolean().openapi({
      description: 'It reaches hosts beyond the groups of whoever asks: those, and their groups, are left out of it.',
    }),
  })
  .openapi('Waiver');

const time = (at: Instant | null): string | null => (at === null ? null : formatInstant(at));

export function waiverJson(waiver: ShownWaiver, now: Instant): z.infer<typeof WaiverJson> {
  const { decision: _, extension, ...rest } = waiver;
  return {
    ...rest,
    state: stateOf(waiver, now),
    startsAt: time(waiver.startsAt),
    expiresAt: formatInstant(waiver.expiresAt),
    requestedAt: formatInstant(waiver.requestedAt),
    decidedAt: time(waiver.decidedAt),
    endedAt: time(waiver.endedAt),
    extension: extension && {
      ...extension,
      expiresAt: formatInstant(extension.expiresAt),
      requestedAt: formatInstant(extension.requestedAt),
    },
    scope: waiver.scope === null ? null : [...waiver.scope],
  };
}

const SelectorBody = Selector.extend({
  content: z
    .union([z.literal('pinned'), Selector.shape.content])
    .default('pinned')
    .openapi({ description: '`pinned`: what is present now and matches; other content stays open.' }),
});

const Terms = {
  kind: z.enum(WAIVER_KINDS),
  title: WAIVER_TEXT.title,
  justification: Note,
  compensating: Note.nullable(),
  ticket: oneLine(WAIVER_TICKET_MAX).nullable(),
  selector: SelectorBody,
  ceiling: z.enum(SEVERITIES).nullable().openapi({ description: 'Null: the highest of what matches now.' }),
  startsAt: Moment.nullable(),
  expiresAt: Moment,
};
export const WaiverBody = z.strictObject({
  ...Terms,
  compensating: Terms.compensating.default(null),
  ticket: Terms.ticket.default(null),
  ceiling: Terms.ceiling.default(null),
  startsAt: Terms.startsAt.default(null),
});
// No defaults here: what a change leaves out stays as it is.
const WaiverPatch = z.strictObject(Terms).partial();

function draftOf(body: z.infer<typeof WaiverBody>): WaiverDraft {
  return {
    ...body,
    startsAt: body.startsAt === null ? null : instantOf(body.startsAt),
    expiresAt: instantOf(body.expiresAt),
  };
}

const Param = z.object({
  id: z
    .string()
    .max(40)
    .openapi({ param: { name: 'id', in: 'path' }, example: 'W-17' }),
});

const list = adminRoute({
  method: 'get',
  path: '/api/v1/waivers',
  operationId: 'listWaivers',
  tags: ['waivers'],
  request: {
    query: z.strictObject({
      state: queryList(WAIVER_STATES),
      expiring: z.enum(['true']).optional().openapi({ description: 'Only those that end within 14 days.' }),
      decide: z.enum(['true']).optional().openapi({
        description: 'Only those that wait for a decision: requests, and those of which more time is asked.',
      }),
      'active-from': queryMoment(
        'Only those that had an effect at some time from then on; a bare day is its beginning in UTC.',
      ),
      'active-to': queryMoment('Only those that had an effect at some time before then; default: now.'),
      known: queryMoment('With a period: as it was known at that moment; default: now.'),
      limit: LIMIT,
      cursor: CURSOR,
    }),
  },
  responses: {
    200: json(z.object({ items: z.array(WaiverJson), next: z.string().nullable() }), 'Waivers, newest first.'),
  },
});

const counts = adminRoute({
  method: 'get',
  path: '/api/v1/waivers/counts',
  operationId: 'countWaivers',
  tags: ['waivers'],
  request: { query: z.strictObject({}) },
  responses: {
    200: json(
      z.object({ states: z.record(z.enum(WAIVER_STATES), z.int()), expiring: z.int(), toDecide: z.int() }),
      'Waivers by state; `expiring`: active ones that end within 14 days; `toDecide`: requests, and extensions that wait.',
    ),
  },
});

const hygiene = adminRoute({
  method: 'get',
  path: '/api/v1/waivers/hygiene',
  operationId: 'waiverHygiene',
  tags: ['waivers'],
  request: { query: z.strictObject({}) },
  responses: {
    200: json(
      z.object({
        unused: z.array(z.object({ waiver: WaiverJson, since: Time })),
        expiring: z.array(WaiverJson),
        overlaps: z.array(z.object({ a: z.string(), b: z.string(), groups: z.int() })),
      }),
      'Waivers that nothing needed for 30 days, that end soon, and that cover the same.',
    ),
  },
});

const PreviewJson = z
  .object({
    findings: z.int(),
    hosts: z.int(),
    groups: z.int(),
    compliant: z.int().openapi({ description: 'Hosts whose verdict would become compliant.' }),
    complete: z.boolean().openapi({ description: 'False: findings, hosts and groups are at least so many.' }),
    judged: z.boolean().openapi({ description: 'False: `compliant` is at least so many; not every host was judged.' }),
    ceiling: Severity,
    selector: z.unknown(),
    warnings: z.array(
      z.object({ code: z.enum(['MANY_HOSTS', 'CRITICAL', 'ANY_CONTENT', 'NOTHING']), text: z.string() }),
    ),
    text: z.string(),
  })
  .openapi('WaiverPreview');

const preview = adminRoute({
  method: 'post',
  path: '/api/v1/waivers/preview',
  operationId: 'previewWaiver',
  tags: ['waivers'],
  request: { body: body(WaiverBody) },
  responses: { 200: json(PreviewJson, 'What it would do; nothing is written.') },
});

const create = adminRoute({
  method: 'post',
  path: '/api/v1/waivers',
  operationId: 'requestWaiver',
  tags: ['waivers'],
  request: { body: body(WaiverBody) },
  responses: { 201: json(WaiverJson, 'Asked for; it has no effect until another person approves it.') },
});

const WaiverDetail = WaiverJson.extend({
  covers: z.object({ findings: z.int(), hosts: z.int() }),
}).openapi('WaiverDetail');

const get = adminRoute({
  method: 'get',
  path: '/api/v1/waivers/{id}',
  operationId: 'getWaiver',
  tags: ['waivers'],
  request: { params: Param },
  responses: { 200: json(WaiverDetail, 'The waiver; its ETag is what decisions name.') },
});

const patch = adminRoute({
  method: 'patch',
  path: '/api/v1/waivers/{id}',
  operationId: 'changeWaiver',
  tags: ['waivers'],
  request: { params: Param, headers: IF_MATCH, body: body(WaiverPatch) },
  responses: { 200: json(WaiverJson, 'Changed; what was not named is as before.') },
});

const Acted = z.object({
  waiver: WaiverJson,
  hosts: z.int().openapi({ description: 'Hosts that follow it by now.' }),
  pending: z.boolean().openapi({ description: 'True: more hosts than one answer waits for; a job is at them.' }),
});

const action = <const Name extends string, const Schema extends z.ZodType>(
  name: Name,
  schema: Schema,
  description: string,
) =>
  adminRoute({
    method: 'post',
    path: `/api/v1/waivers/{id}/${name}`,
    operationId: `${name}Waiver`,
    tags: ['waivers'],
    request: { params: Param, headers: IF_MATCH, body: body(schema) },
    responses: { 200: json(Acted, description) },
  });

const approve = action(
  'approve',
  z.strictObject({ note: Note.nullable().default(null) }),
  'Approved, or its extension: in effect.',
);
const reject = action('reject', z.strictObject({ note: Note }), 'Rejected, or its extension.');
const withdraw = action(
  'withdraw',
  z.strictObject({ reason: Note.nullable().default(null) }),
  'Taken back by who asked.',
);
const revoke = action('revoke', z.strictObject({ reason: Note }), 'Over; what it covered is open again.');
const extend = action(
  'extend',
  z.strictObject({ expiresAt: Moment, note: Note }),
  'A later end is asked for; it takes effect when another person approves.',
);

const history = adminRoute({
  method: 'get',
  path: '/api/v1/waivers/{id}/history',
  operationId: 'waiverHistory',
  tags: ['waivers'],
  request: { params: Param, query: z.strictObject({ limit: LIMIT, cursor: CURSOR }) },
  responses: {
    200: json(
      z.object({ items: z.array(AuditEntry), next: z.string().nullable() }),
      'Who did what with it, newest first, with before and after.',
    ),
  },
});

const Setting = z.strictObject({ singlePerson: z.boolean() });
const getSetting = adminRoute({
  method: 'get',
  path: '/api/v1/settings/waivers',
  operationId: 'getWaiverSettings',
  tags: ['waivers'],
  request: { query: z.strictObject({}) },
  responses: { 200: json(Setting, 'How waivers are decided.') },
});
const putSetting = adminRoute({
  method: 'put',
  path: '/api/v1/settings/waivers',
  operationId: 'putWaiverSettings',
  tags: ['waivers'],
  request: { body: body(Setting) },
  responses: {
    200: json(Setting, 'As it is now. In single-person mode each waiver says that one person asked and decided.'),
  },
});

/** Waivers that had an effect in a period. @throws {ApiError} QUERY_INVALID for a period that is none, or with a filter of today. */
function periodPage(
  query: { readonly [name in 'active-from' | 'active-to']?: string | undefined } & {
    readonly state?: unknown;
    readonly expiring?: unknown;
    readonly decide?: unknown;
    readonly limit: number;
  },
  {
    now,
    known,
    cursor,
  }: { readonly now: Instant; readonly known: Instant; readonly cursor: { readonly n: number } | null },
  who: Principal,
  deps: ApiServices,
) {
  for (const parameter of ['state', 'expiring', 'decide'] as const)
    if (query[parameter] !== undefined) {
      const detail = 'asks for what is so now; leave it out with active-from, active-to or known';
      throw new ApiError('QUERY_INVALID', `${parameter} ${detail}`, [{ parameter, detail }]);
    }
  const period = periodOf({ from: query['active-from'], to: query['active-to'] }, now, ['active-from', 'active-to']);
  return waiversOfPeriod(period, known, { limit: query.limit, cursor }, who, deps);
}

export function waiverRoutes(api: Api, services: ApiServices): void {
  const { store, clock } = services;

  api.openapi(list, async (c) => {
    const query = c.req.valid('query');
    const now = clock();
    const bound = boundTo('waivers', query);
    const cursor = parseCursor(query.cursor, bound, z.strictObject({ n: z.int() }));
    if (query['active-from'] !== undefined || query['active-to'] !== undefined || query.known !== undefined) {
      const known = query.known === undefined ? now : momentOf(query.known);
      const page = await periodPage(query, { now, known, cursor }, whoOf(c), services);
      return c.json(
        { items: page.items.map((waiver) => waiverJson(waiver, known)), next: printCursor(page, bound) },
        200,
      );
    }
    const filter = {
      now,
      ...(query.state === undefined ? {} : { states: query.state }),
      ...(query.decide === undefined ? {} : { decide: true }),
      ...(query.expiring === undefined ? {} : { states: ['active' as const], expiringBefore: now + EXPIRING_MS }),
    };
    const page = await listWaivers(filter, { limit: query.limit, cursor }, whoOf(c), services);
    return c.json({ items: page.items.map((waiver) => waiverJson(waiver, now)), next: printCursor(page, bound) }, 200);
  });

  api.openapi(counts, async (c) => {
    const now = clock();
    const { expiring, ...states } = await countWaivers(now, now + EXPIRING_MS, whoOf(c), services);
    const extended = (await effectiveWaivers(now, whoOf(c), services)).filter(({ extension }) => extension !== null);
    return c.json({ states, expiring, toDecide: states.requested + extended.length }, 200);
  });

  api.openapi(hygiene, async (c) => {
    const now = clock();
    const { unused, expiring, overlaps } = await hygieneOf(whoOf(c), services);
    return c.json(
      {
        unused: unused.map(({ waiver, since }) => ({ waiver: waiverJson(waiver, now), since: formatInstant(since) })),
        expiring: expiring.map((waiver) => waiverJson(waiver, now)),
        overlaps: [...overlaps],
      },
      200,
    );
  });

  api.openapi(preview, async (c) => {
    const { terms, scope } = await termsOf(draftOf(c.req.valid('json')), whoOf(c), services);
    const found = await previewWaiver(terms, scope, services);
    return c.json({ ...found, warnings: [...found.warnings], selector: terms.selector }, 200);
  });

  api.openapi(create, async (c) => {
    const waiver = await requestWaiver(draftOf(c.req.valid('json')), whoOf(c), services);
    c.header('ETag', etagOf(waiver.revision));
    return c.json(waiverJson(await shownTo(waiver, whoOf(c), services), clock()), 201);
  });

  api.openapi(get, async (c) => {
    const waiver = await readWaiver(c.req.valid('param').id, whoOf(c), services);
    const use = (await useOf([waiver.id], whoOf(c), services)).get(waiver.id)!;
    c.header('ETag', etagOf(waiver.revision));
    return c.json({ ...waiverJson(waiver, clock()), covers: { findings: use.findings, hosts: use.hosts } }, 200);
  });

  api.openapi(patch, async (c) => {
    const revision = readRevision(c.req.valid('header')['if-match']);
    const { startsAt, expiresAt, ...rest } = c.req.valid('json');
    const given = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined));
    const waiver = await changeWaiver(
      c.req.valid('param').id,
      revision,
      {
        ...given,
        ...(startsAt === undefined ? {} : { startsAt: startsAt === null ? null : instantOf(startsAt) }),
        ...(expiresAt === undefined ? {} : { expiresAt: instantOf(expiresAt) }),
      },
      whoOf(c),
      services,
    );
    c.header('ETag', etagOf(waiver.revision));
    return c.json(waiverJson(await shownTo(waiver, whoOf(c), services), clock()), 200);
  });

  const decide = async (id: string, ifMatch: string | undefined, act: Act, who: ReturnType<typeof whoOf>) => {
    const acted = await decideWaiver(id, readRevision(ifMatch), act, who, services);
    return { ...acted, waiver: waiverJson(await shownTo(acted.waiver, who, services), clock()) };
  };
  api.openapi(approve, async (c) => {
    const act = { kind: 'approve', ...c.req.valid('json') } as const;
    const acted = await decide(c.req.valid('param').id, c.req.valid('header')['if-match'], act, whoOf(c));
    c.header('ETag', etagOf(acted.waiver.revision));
    return c.json(acted, 200);
  });
  api.openapi(reject, async (c) => {
    const act = { kind: 'reject', ...c.req.valid('json') } as const;
    const acted = await decide(c.req.valid('param').id, c.req.valid('header')['if-match'], act, whoOf(c));
    c.header('ETag', etagOf(acted.waiver.revision));
    return c.json(acted, 200);
  });
  api.openapi(withdraw, async (c) => {
    const act = { kind: 'withdraw', ...c.req.valid('json') } as const;
    const acted = await decide(c.req.valid('param').id, c.req.valid('header')['if-match'], act, whoOf(c));
    c.header('ETag', etagOf(acted.waiver.revision));
    return c.json(acted, 200);
  });
  api.openapi(revoke, async (c) => {
    const act = { kind: 'revoke', ...c.req.valid('json') } as const;
    const acted = await decide(c.req.valid('param').id, c.req.valid('header')['if-match'], act, whoOf(c));
    c.header('ETag', etagOf(acted.waiver.revision));
    return c.json(acted, 200);
  });
  api.openapi(extend, async (c) => {
    const { expiresAt, note } = c.req.valid('json');
    const act = { kind: 'extend', expiresAt: instantOf(expiresAt), note } as const;
    const acted = await decide(c.req.valid('param').id, c.req.valid('header')['if-match'], act, whoOf(c));
    c.header('ETag', etagOf(acted.waiver.revision));
    return c.json(acted, 200);
  });

  api.openapi(history, async (c) => {
    const { id } = c.req.valid('param');
    const query = c.req.valid('query');
    const bound = boundTo(`waivers/${id}/history`, query);
    const cursor = parseCursor(query.cursor, bound, z.strictObject({ id: z.string() }));
    const page = await waiverStory(id, { limit: query.limit, cursor }, whoOf(c), services);
    return c.json({ items: page.items.map(auditJson), next: printCursor(page, bound) }, 200);
  });

  api.openapi(getSetting, async (c) => c.json({ singlePerson: await isSinglePerson(store) }, 200));
  api.openapi(putSetting, async (c) => {
    await setSinglePerson(c.req.valid('json').singlePerson, whoOf(c), services);
    return c.json({ singlePerson: await isSinglePerson(store) }, 200);
  });
}

/** `/api/v1/findings` and `/api/v1/groups`: what policy found, host by host, and the same finding on many hosts as one. */
import { z } from '@hono/zod-openapi';
import { formatInstant, type Instant } from '#src/clock.ts';
import { describe } from '#src/finding/describe.ts';
import { ASSIGNEE_CHARS_MAX } from '#src/limits.ts';
import { JUDGEMENT_KINDS, SEVERITIES, type JudgementKind } from '#src/policy/judgement.ts';
import {
  acknowledge,
  assign,
  comment,
  groupOf,
  laterAcks,
  timelineOf,
  unacknowledge,
  type Outcome as Decided,
} from '#server/decisions/findings.ts';
import type { FindingDetail } from '#server/ingest/judge.ts';
import type { FindingGroup, FindingWithGroup, GroupAck, Severity as SeverityNumber } from '#server/store/records.ts';
import { ApiError } from './problem.ts';
import { etagOf, IF_MATCH, instantOf, lineOf, Moment, Note, Q, readRevision, whoOf } from './deciding.ts';
import { boundTo, COUNT_MAX, CURSOR, LIMIT, parseCursor, printCursor, queryList, Total, totalJson } from './query.ts';
import { adminRoute, body, json, type Api } from './route.ts';
import { Finding, Group, oneLine, Time } from './schemas.ts';
import type { ApiServices } from './services.ts';

type Located = FindingWithGroup & { readonly hostName: string; readonly silentAfter: Instant };

/** A finding as the API tells it at `now`: on a host that fell silent, what is open is stale. */
export function findingJson(finding: Located, now: Instant): z.infer<typeof Finding> {
  const { group, severity } = finding;
  const { reason, controls, verdict: _, ...detail } = (finding.detail ?? {}) as Partial<FindingDetail>;
  return {
    host: { id: finding.hostId, name: finding.hostName },
    group: finding.groupId,
    rule: group.rule,
    kind: group.kind,
    subject: group.subject,
    what: whatOf(group),
    severity: SEVERITIES[severity],
    status: statusAt(finding, now),
    firstSeen: formatInstant(finding.firstSeen),
    openedAt: formatInstant(finding.openedAt),
    resolvedAt: finding.resolvedAt === null ? null : formatInstant(finding.resolvedAt),
    reopened: finding.reopened,
    ...decidedJson(finding, now),
    reason: reason ?? null,
    controls: [...(controls ?? [])],
    detail,
  };
}

/** What people decided about it, as of now: what is over is told as over, whether or not a job has been at the row. */
function decidedJson(finding: Located, now: Instant) {
  const { disposition, until, ack, returned, waiverId, flappingUntil, reopened, status } = finding;
  const isOver = until !== null && until <= now && disposition !== 'none';
  const over =
    disposition === 'waived'
      ? { how: 'waiver_expired' as const, what: waiverId ?? '', at: until ?? now }
      : { how: 'acknowledgement_over' as const, what: ack?.by ?? '', at: until ?? now };
  const back = isOver ? over : returned;
  return {
    disposition: isOver ? ('none' as const) : disposition,
    waiver: waiverId,
    until: isOver || until === null ? null : formatInstant(until),
    acknowledged:
      isOver || ack === null ? null : { ...ack, at: formatInstant(ack.at), until: formatInstant(ack.until) },
    returned: back === null ? null : { ...back, at: formatInstant(back.at) },
    regressed: reopened > 0 && status !== 'resolved',
    flapping: flappingUntil !== null && flappingUntil > now,
  };
}

/** The status as of now. */
function statusAt({ status, until, silentAfter }: Located, now: Instant): z.infer<typeof Finding>['status'] {
  if (status === 'resolved') return status;
  if (now >= silentAfter) return 'stale';
  return until !== null && until <= now ? 'open' : status;
}

function whatOf({ kind, subject, signature }: Pick<FindingGroup, 'kind' | 'subject' | 'signature'>): string {
  return describe({ kind: kind as JudgementKind, subject, signature: String(signature) });
}

export function groupJson(group: FindingGroup, now: Instant): z.infer<typeof Group> {
  return {
    id: group.id,
    rule: group.rule,
    kind: group.kind,
    subject: group.subject,
    signature: group.signature,
    what: whatOf(group),
    severity: SEVERITIES[group.severity],
    open: group.isOpen,
    firstSeen: formatInstant(group.firstSeen),
    lastNewAt: formatInstant(group.lastNewAt),
    status: group.status,
    assignee: group.assignee,
    revision: group.revision,
    regressed: group.hosts.reopened > 0,
    flapping: group.flappingUntil > now,
    hosts: { ...group.hosts },
  };
}

const numbers = (words: readonly (typeof SEVERITIES)[number][] | undefined): { severities?: SeverityNumber[] } =>
  words === undefined ? {} : { severities: words.map((word) => SEVERITIES.indexOf(word) as SeverityNumber) };

const GroupParam = z.object({
  id: z
    .string()
    .max(80)
    .openapi({ param: { name: 'id', in: 'path' } }),
});

export const TABS = ['open', 'acknowledged', 'waived', 'resolved'] as const;

const GroupQuery = z.strictObject({
  q: Q,
  tab: z.enum(TABS).optional(),
  status: z
    .enum(['open', 'all'])
    .optional()
    .openapi({ description: '`open`: present on some host, whatever people decided.' }),
  severity: queryList(SEVERITIES),
  rule: z.string().max(100).optional(),
  kind: z.enum(JUDGEMENT_KINDS).optional(),
  subject: z.string().max(4096).optional().openapi({ description: 'Beginning of the subject, such as a path.' }),
  sort: z.enum(['severity', 'recent']).optional(),
  limit: LIMIT,
  cursor: CURSOR,
});

const GroupCursor = z.discriminatedUnion('sort', [
  z.strictObject({ sort: z.literal('severity'), severity: z.int(), at: z.int(), id: z.string() }),
  z.strictObject({ sort: z.literal('recent'), at: z.int(), id: z.string() }),
]);

const listGroups = adminRoute({
  method: 'get',
  path: '/api/v1/groups',
  operationId: 'listGroups',
  tags: ['findings'],
  request: { query: GroupQuery },
  responses: {
    200: json(
      z.object({ items: z.array(Group), next: z.string().nullable(), total: Total }),
      'Findings grouped by what they are.',
    ),
  },
});

const LaterAck = z.object({
  by: z.string(),
  at: Time,
  until: Time,
  note: z.string().nullable(),
  scope: z.array(z.string()).nullable().openapi({ description: 'Host groups; null: every host.' }),
  apart: z.array(z.string()).openapi({ description: 'Host groups within it for which it was taken back.' }),
});
export const GroupDetail = Group.extend({
  later: z
    .array(LaterAck)
    .openapi({ description: 'Acknowledgements that hosts come under which show it for the first time.' }),
}).openapi('FindingGroupDetail');

const laterJson = ({ scope, apart, ...ack }: GroupAck): z.infer<typeof LaterAck> => ({
  ...ack,
  at: formatInstant(ack.at),
  until: formatInstant(ack.until),
  scope: scope && [...scope],
  apart: [...apart],
});

const getGroup = adminRoute({
  method: 'get',
  path: '/api/v1/groups/{id}',
  operationId: 'getGroup',
  tags: ['findings'],
  request: { params: GroupParam },
  responses: { 200: json(GroupDetail, 'The group.') },
});

const groupHosts = adminRoute({
  method: 'get',
  path: '/api/v1/groups/{id}/hosts',
  operationId: 'listGroupHosts',
  tags: ['findings'],
  request: { params: GroupParam, query: z.strictObject({ limit: LIMIT, cursor: CURSOR }) },
  responses: { 200: json(z.object({ items: z.array(Finding), next: z.string().nullable() }), 'Where it is present.') },
});

const FindingQuery = z.strictObject({
  q: Q,
  severity: queryList(SEVERITIES),
  status: queryList(['open', 'acknowledged', 'waived']),
  limit: LIMIT,
  cursor: CURSOR,
});
const FindingCursor = z.strictObject({ severity: z.int(), at: z.int(), hostId: z.string(), groupId: z.string() });

const listFindings = adminRoute({
  method: 'get',
  path: '/api/v1/findings',
  operationId: 'listFindings',
  tags: ['findings'],
  request: { query: FindingQuery },
  responses: {
    200: json(
      z.object({ items: z.array(Finding), next: z.string().nullable(), total: Total }),
      'Present findings of the fleet.',
    ),
  },
});

const groupTimeline = adminRoute({
  method: 'get',
  path: '/api/v1/groups/{id}/timeline',
  operationId: 'groupTimeline',
  tags: ['findings'],
  request: { params: GroupParam, query: z.strictObject({ limit: LIMIT }) },
  responses: {
    200: json(
      z.object({
        items: z.array(
          z.object({
            kind: z.enum(['decision', 'opened', 'reopened', 'resolved']),
            at: z.string(),
            hosts: z.int().optional(),
            actor: z.string().optional(),
            action: z.string().optional(),
            note: z.string().nullable().optional(),
            before: z.unknown().optional(),
            after: z.unknown().optional(),
          }),
        ),
      }),
      'What machines showed, by the minute, and what people decided, newest first.',
    ),
  },
});

const Outcome = z
  .object({ changed: z.int(), skipped: z.array(z.object({ reason: z.string(), count: z.int() })) })
  .openapi('Outcome', { description: 'How many findings changed; why the others did not.' });
const outcomeJson = ({ changed, skipped }: Decided): z.infer<typeof Outcome> => ({ changed, skipped: [...skipped] });

const AckBody = z.strictObject({
  until: Moment.nullable().default(null).openapi({ description: 'At most 30 days; null: a week.' }),
  note: Note.nullable().default(null),
});
const UnackBody = z.strictObject({ note: Note.nullable().default(null) });
const FindingParam = z.object({
  id: z
    .string()
    .max(64)
    .openapi({ param: { name: 'id', in: 'path' } }),
  group: z
    .string()
    .max(80)
    .openapi({ param: { name: 'group', in: 'path' } }),
});

const decision = <const Path extends string, const Params extends z.ZodObject, const Schema extends z.ZodType>(
  path: Path,
  operationId: string,
  params: Params,
  schema: Schema,
) =>
  adminRoute({
    method: 'post',
    path,
    operationId,
    tags: ['findings'],
    request: { params, body: body(schema) },
    responses: { 200: json(Outcome, 'What became of it.') },
  });
const ackGroup = decision('/api/v1/groups/{id}/acknowledge', 'acknowledgeGroup', GroupParam, AckBody);
const unackGroup = decision('/api/v1/groups/{id}/unacknowledge', 'unacknowledgeGroup', GroupParam, UnackBody);
const ackFinding = decision(
  '/api/v1/hosts/{id}/findings/{group}/acknowledge',
  'acknowledgeFinding',
  FindingParam,
  AckBody,
);
const unackFinding = decision(
  '/api/v1/hosts/{id}/findings/{group}/unacknowledge',
  'unacknowledgeFinding',
  FindingParam,
  UnackBody,
);

const assignGroup = adminRoute({
  method: 'post',
  path: '/api/v1/groups/{id}/assign',
  operationId: 'assignGroup',
  tags: ['findings'],
  request: {
    params: GroupParam,
    headers: IF_MATCH,
    body: body(
      z.strictObject({
        assignee: oneLine(ASSIGNEE_CHARS_MAX).nullable(),
        note: Note.nullable().default(null),
      }),
    ),
  },
  responses: { 200: json(Group, 'Assigned.') },
});

const commentGroup = adminRoute({
  method: 'post',
  path: '/api/v1/groups/{id}/comments',
  operationId: 'commentGroup',
  tags: ['findings'],
  request: { params: GroupParam, body: body(z.strictObject({ text: Note })) },
  responses: { 201: json(z.object({ done: z.boolean() }), 'Kept, for good.') },
});

export function findingRoutes(api: Api, services: ApiServices): void {
  const { store, clock } = services;

  api.openapi(listGroups, async (c) => {
    const query = c.req.valid('query');
    const { q, tab, status, severity, rule, kind, subject, sort = 'severity' } = query;
    const filter = {
      line: await lineOf(q, store),
      scope: whoOf(c).groups,
      now: clock(),
      ...(tab === undefined ? {} : { tab }),
      ...numbers(severity),
      ...(status === undefined ? {} : { status }),
      ...(rule === undefined ? {} : { rule }),
      ...(kind === undefined ? {} : { kind }),
      ...(subject === undefined ? {} : { subjectPrefix: subject }),
    };
    const bound = boundTo('groups', query);
    const page = await store.read.groups(filter, sort, {
      limit: query.limit,
      cursor: parseCursor(query.cursor, bound, GroupCursor),
    });
    const total = totalJson(await store.read.countGroups(filter, COUNT_MAX));
    return c.json(
      { items: page.items.map((group) => groupJson(group, clock())), next: printCursor(page, bound), total },
      200,
    );
  });

  api.openapi(getGroup, async (c) => {
    const group = await groupOf(c.req.valid('param').id, whoOf(c), services);
    c.header('ETag', etagOf(group.revision));
    const later = await laterAcks(group.id, whoOf(c), services);
    return c.json({ ...groupJson(group, clock()), later: later.map(laterJson) }, 200);
  });

  api.openapi(groupTimeline, async (c) => {
    const { id } = await groupOf(c.req.valid('param').id, whoOf(c), services);
    const items = await timelineOf(id, c.req.valid('query').limit, services, whoOf(c));
    return c.json({ items: items.map((item) => ({ ...item, at: formatInstant(item.at) })) }, 200);
  });

  api.openapi(ackGroup, async (c) => {
    const { until, note } = c.req.valid('json');
    const terms = { until: until === null ? null : instantOf(until), note };
    return c.json(outcomeJson(await acknowledge({ groupId: c.req.valid('param').id }, terms, whoOf(c), services)), 200);
  });
  api.openapi(unackGroup, async (c) => {
    const { note } = c.req.valid('json');
    return c.json(
      outcomeJson(await unacknowledge({ groupId: c.req.valid('param').id }, note, whoOf(c), services)),
      200,
    );
  });
  api.openapi(ackFinding, async (c) => {
    const { until, note } = c.req.valid('json');
    const { id: hostId, group: groupId } = c.req.valid('param');
    const terms = { until: until === null ? null : instantOf(until), note };
    return c.json(outcomeJson(await acknowledge({ hostId, groupId }, terms, whoOf(c), services)), 200);
  });
  api.openapi(unackFinding, async (c) => {
    const { id: hostId, group: groupId } = c.req.valid('param');
    const { note } = c.req.valid('json');
    return c.json(outcomeJson(await unacknowledge({ hostId, groupId }, note, whoOf(c), services)), 200);
  });
  api.openapi(assignGroup, async (c) => {
    const revision = readRevision(c.req.valid('header')['if-match']);
    const group = await assign(c.req.valid('param').id, { ...c.req.valid('json'), revision }, whoOf(c), services);
    c.header('ETag', etagOf(group.revision));
    return c.json(groupJson(group, clock()), 200);
  });
  api.openapi(commentGroup, async (c) => {
    await comment(c.req.valid('param').id, c.req.valid('json').text, whoOf(c), services);
    return c.json({ done: true }, 201);
  });

  api.openapi(groupHosts, async (c) => {
    const group = await groupOf(c.req.valid('param').id, whoOf(c), services);
    const query = c.req.valid('query');
    const bound = boundTo(`groups/${group.id}/hosts`, query);
    const cursor = parseCursor(query.cursor, bound, z.strictObject({ hostId: z.string() }));
    const page = await store.read.groupHosts(group.id, { limit: query.limit, cursor }, whoOf(c).groups);
    const items = page.items.map((finding) => findingJson({ ...finding, group }, clock()));
    return c.json({ items, next: printCursor(page, bound) }, 200);
  });

  api.openapi(listFindings, async (c) => {
    const query = c.req.valid('query');
    const { q, severity, status } = query;
    const line = await lineOf(q, store);
    if (line.some((term) => term.field === 'status' && (term.values as readonly string[]).includes('resolved')))
      throw new ApiError(
        'QUERY_INVALID',
        'q: findings that are present are listed here; what is resolved is a tab of groups',
        [{ parameter: 'q', detail: 'status:resolved is for groups' }],
      );
    const filter = {
      line,
      scope: whoOf(c).groups,
      now: clock(),
      ...numbers(severity),
      ...(status === undefined ? {} : { statuses: status }),
    };
    const bound = boundTo('findings', query);
    const page = await store.read.findings(filter, {
      limit: query.limit,
      cursor: parseCursor(query.cursor, bound, FindingCursor),
    });
    const total = totalJson(await store.read.countFindings(filter, COUNT_MAX));
    return c.json(
      { items: page.items.map((finding) => findingJson(finding, clock())), next: printCursor(page, bound), total },
      200,
    );
  });
}

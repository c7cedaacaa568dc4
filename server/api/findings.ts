/** `/api/v1/findings` and `/api/v1/groups`: what policy found, host by host, and the same finding on many hosts as one. */
import { z } from '@hono/zod-openapi';
import { formatInstant, type Instant } from '#src/clock.ts';
import { describe } from '#src/finding/describe.ts';
import { JUDGEMENT_KINDS, SEVERITIES, type JudgementKind } from '#src/policy/judgement.ts';
import type { FindingDetail } from '#server/ingest/judge.ts';
import type { FindingGroup, FindingWithGroup, Severity as SeverityNumber } from '#server/store/records.ts';
import { ApiError } from './problem.ts';
import { boundTo, COUNT_MAX, CURSOR, LIMIT, parseCursor, printCursor, queryList, Total, totalJson } from './query.ts';
import { adminRoute, json, type Api } from './route.ts';
import { Finding, Group } from './schemas.ts';
import type { ApiServices } from './services.ts';

type Located = FindingWithGroup & { readonly hostName: string; readonly silentAfter: Instant };

/** A finding as the API tells it at `now`: on a host that fell silent, what is open is stale. */
export function findingJson(finding: Located, now: Instant): z.infer<typeof Finding> {
  const { group, status, severity } = finding;
  const { reason, controls, verdict: _, ...detail } = (finding.detail ?? {}) as Partial<FindingDetail>;
  return {
    host: { id: finding.hostId, name: finding.hostName },
    group: finding.groupId,
    rule: group.rule,
    kind: group.kind,
    subject: group.subject,
    what: whatOf(group),
    severity: SEVERITIES[severity],
    status: status !== 'resolved' && now >= finding.silentAfter ? 'stale' : status,
    firstSeen: formatInstant(finding.firstSeen),
    openedAt: formatInstant(finding.openedAt),
    resolvedAt: finding.resolvedAt === null ? null : formatInstant(finding.resolvedAt),
    reopened: finding.reopened,
    reason: reason ?? null,
    controls: [...(controls ?? [])],
    detail,
  };
}

function whatOf({ kind, subject, signature }: Pick<FindingGroup, 'kind' | 'subject' | 'signature'>): string {
  return describe({ kind: kind as JudgementKind, subject, signature: String(signature) });
}

export function groupJson(group: FindingGroup): z.infer<typeof Group> {
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

const GroupQuery = z.strictObject({
  status: z.enum(['open', 'all']).optional(),
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

const getGroup = adminRoute({
  method: 'get',
  path: '/api/v1/groups/{id}',
  operationId: 'getGroup',
  tags: ['findings'],
  request: { params: GroupParam },
  responses: { 200: json(Group, 'The group.') },
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

export function findingRoutes(api: Api, { store, clock }: ApiServices): void {
  api.openapi(listGroups, async (c) => {
    const query = c.req.valid('query');
    const { status, severity, rule, kind, subject, sort = 'severity' } = query;
    const filter = {
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
    return c.json({ items: page.items.map(groupJson), next: printCursor(page, bound), total }, 200);
  });

  api.openapi(getGroup, async (c) => {
    const group = await store.findings.group(c.req.valid('param').id);
    if (group === undefined) throw new ApiError('FINDING_UNKNOWN', 'there is no such group of findings');
    return c.json(groupJson(group), 200);
  });

  api.openapi(groupHosts, async (c) => {
    const group = await store.findings.group(c.req.valid('param').id);
    if (group === undefined) throw new ApiError('FINDING_UNKNOWN', 'there is no such group of findings');
    const query = c.req.valid('query');
    const bound = boundTo(`groups/${group.id}/hosts`, query);
    const cursor = parseCursor(query.cursor, bound, z.strictObject({ hostId: z.string() }));
    const page = await store.read.groupHosts(group.id, { limit: query.limit, cursor });
    const items = page.items.map((finding) => findingJson({ ...finding, group }, clock()));
    return c.json({ items, next: printCursor(page, bound) }, 200);
  });

  api.openapi(listFindings, async (c) => {
    const query = c.req.valid('query');
    const { severity, status } = query;
    const filter = { ...numbers(severity), ...(status === undefined ? {} : { statuses: status }) };
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

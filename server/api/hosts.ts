/** `/api/v1/hosts`: the fleet, one host, and what people decide about it. */
import { z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import { formatInstant, type Instant } from '#src/clock.ts';
import { VERDICTS } from '#src/finding/verdict.ts';
import { HOST_LABELS_MAX } from '#src/limits.ts';
import { printableText } from '#src/terminal.ts';
import { EnrolBody } from '#src/wire/enrol.ts';
import { acceptFork, admitHost, approveHost, changeHost } from '#server/decisions/hosts.ts';
import { mayTake } from '#server/contents.ts';
import { lastFull } from '#server/ingest/rejudge.ts';
import { toldOf, viewOf } from '#server/standing.ts';
import type { Host as HostRecord } from '#server/store/records.ts';
import type { HostFilter } from '#server/store/store.ts';
import { isTheirs } from '#server/decisions/may.ts';
import { whoOf } from './deciding.ts';
import { findingJson } from './findings.ts';
import { ApiError } from './problem.ts';
import { provenanceJson } from './provenance.ts';
import {
  boundTo,
  COUNT_MAX,
  CURSOR,
  HostParam,
  LIMIT,
  parseCursor,
  printCursor,
  queryList,
  Total,
  totalJson,
} from './query.ts';
import { actOf, adminRoute, body, json, type Api, type Env } from './route.ts';
import { Finding, GroupName, Host, HostDetail, LabelKey, LabelValue, ReportHead } from './schemas.ts';
import type { ApiServices } from './services.ts';

const time = (instant: Instant): string => formatInstant(instant);
const timeOrNull = (instant: Instant | null | undefined): string | null =>
  instant === null || instant === undefined ? null : formatInstant(instant);

/** A host as the API tells it at `now`. */
export function hostJson(host: HostRecord, now: Instant): z.infer<typeof Host> {
  const { verdict, sentence, since, integrity, provenance, freshness, reasons } = viewOf(host, now);
  const { open, acknowledged, waived } = host.counters;
  const told = toldOf(host);
  return {
    id: host.id,
    name: host.name,
    state: host.state,
    group: host.group,
    labels: { ...host.labels },
    verdict,
    sentence,
    since: time(since),
    policy: told?.policy == null ? null : { digest: told.policy, version: told.policyVersion ?? null },
    integrity: { ...integrity },
    provenance: provenanceJson(provenance),
    freshness: {
      state: freshness.state,
      since: timeOrNull(freshness.since),
      lateAfter: time(host.freshness.lateAfter),
      silentAfter: time(host.freshness.silentAfter),
    },
    reasons: reasons.map((reason) => ({ ...reason })),
    drift: host.standing.drift === null ? null : { ...host.standing.drift },
    images: { ...host.images },
    findings: {
      open: { critical: open[4], high: open[3], medium: open[2], low: open[1], info: open[0] },
      acknowledged,
      waived,
    },
    last:
      host.last === null
        ? null
        : { ...host.last, startedAt: time(host.last.startedAt), receivedAt: time(host.last.receivedAt) },
    enrolledAt: time(host.createdAt),
  };
}

const HostQuery = z.strictObject({
  verdict: queryList(VERDICTS),
  freshness: z.enum(['current', 'late', 'silent']).optional(),
  integrity: z.enum(['intact', 'drifted', 'masked', 'unverifiable']).optional(),
  provenance: z.enum(['not-assessed', 'trusted', 'unsigned', 'rejected', 'unverifiable']).optional(),
  state: queryList(['active', 'pending', 'retired']),
  group: z.string().max(200).optional(),
  label: z
    .string()
    .regex(/^[^=]{1,100}=.{0,200}$/, 'expected key=value')
    .optional(),
  image: z.string().max(200).optional().openapi({ description: 'Booted image: digest or any of its aliases.' }),
  staged: z.string().max(200).optional().openapi({ description: 'Image that waits for a restart, likewise.' }),
  rollback: z.string().max(200).optional().openapi({ description: 'Image to go back to, likewise.' }),
  name: z.string().max(255).optional().openapi({ description: 'Beginning of the name.' }),
  sort: z.enum(['attention', 'name']).optional(),
  limit: LIMIT,
  cursor: CURSOR,
});

const HostCursor = z.discriminatedUnion('sort', [
  z.strictObject({ sort: z.literal('name'), name: z.string(), id: z.string() }),
  z.strictObject({ sort: z.literal('attention'), rank: z.int(), id: z.string() }),
]);

/** The filter of a list of hosts; the image by each of its names. */
async function filterOf(
  query: z.infer<typeof HostQuery>,
  now: Instant,
  { store }: Pick<ApiServices, 'store'>,
): Promise<HostFilter> {
  const { verdict, freshness, integrity, provenance, state, group, label, image, staged, rollback, name } = query;
  const at = label?.indexOf('=') ?? -1;
  return {
    now,
    ...(verdict === undefined ? {} : { verdicts: verdict }),
    ...(freshness === undefined ? {} : { freshness }),
    ...(integrity === undefined ? {} : { integrity }),
    ...(provenance === undefined ? {} : { provenance }),
    ...(state === undefined ? {} : { states: state }),
    ...(group === undefined ? {} : { group }),
    ...(label === undefined ? {} : { label: { key: label.slice(0, at), value: label.slice(at + 1) } }),
    ...(image === undefined ? {} : { booted: await namesOf(image, store) }),
    ...(staged === undefined ? {} : { staged: await namesOf(staged, store) }),
    ...(rollback === undefined ? {} : { rollback: await namesOf(rollback, store) }),
    ...(name === undefined ? {} : { namePrefix: name }),
  };
}

async function namesOf(image: string, store: ApiServices['store']): Promise<string[]> {
  const found = await store.images.find(image);
  if (found === undefined) return [image];
  const aliases = await store.read.aliases(found.image.digest);
  return [found.image.digest, ...aliases.map(({ alias }) => alias)];
}

const listHosts = adminRoute({
  method: 'get',
  path: '/api/v1/hosts',
  operationId: 'listHosts',
  tags: ['hosts'],
  request: { query: HostQuery },
  responses: {
    200: json(
      z.object({ items: z.array(Host), next: z.string().nullable(), total: Total }),
      'Hosts, those that need attention first.',
    ),
  },
});

const verdictCounts = adminRoute({
  method: 'get',
  path: '/api/v1/verdicts',
  operationId: 'countVerdicts',
  tags: ['hosts'],
  request: { query: z.strictObject({}) },
  responses: { 200: json(z.record(z.enum(VERDICTS), z.int().min(0)), 'Hosts by verdict, now.') },
});

const getHost = adminRoute({
  method: 'get',
  path: '/api/v1/hosts/{id}',
  operationId: 'getHost',
  tags: ['hosts'],
  request: { params: HostParam },
  responses: { 200: json(HostDetail, 'The host.') },
});

const getDrift = adminRoute({
  method: 'get',
  path: '/api/v1/hosts/{id}/drift',
  operationId: 'getHostDrift',
  tags: ['hosts'],
  request: { params: HostParam },
  responses: {
    200: json(
      z.object({
        seq: z.int(),
        comparedWith: z.object({ image: z.string(), rule: z.string() }).nullable(),
        trees: z.unknown(),
        drift: z.array(z.unknown()),
        truncated: z.object({ added: z.int(), removed: z.int(), modified: z.int() }).nullable(),
        secrets: z.array(z.unknown()),
        deployment: z.unknown(),
      }),
      'What the last accepted full report lists, as the host sent it.',
    ),
  },
});

const hostFindings = adminRoute({
  method: 'get',
  path: '/api/v1/hosts/{id}/findings',
  operationId: 'listHostFindings',
  tags: ['hosts', 'findings'],
  request: {
    params: HostParam,
    query: z.strictObject({ which: z.enum(['present', 'resolved']).optional(), limit: LIMIT, cursor: CURSOR }),
  },
  responses: { 200: json(z.object({ items: z.array(Finding), next: z.string().nullable() }), 'Findings of the host.') },
});

const hostReports = adminRoute({
  method: 'get',
  path: '/api/v1/hosts/{id}/reports',
  operationId: 'listHostReports',
  tags: ['hosts'],
  request: { params: HostParam, query: z.strictObject({ limit: LIMIT, cursor: CURSOR }) },
  responses: {
    200: json(z.object({ items: z.array(ReportHead), next: z.string().nullable() }), 'Kept reports, newest first.'),
  },
});

const getReport = adminRoute({
  method: 'get',
  path: '/api/v1/hosts/{id}/reports/{seq}',
  operationId: 'getHostReport',
  tags: ['hosts'],
  request: {
    params: HostParam.extend({
      seq: z
        .string()
        .regex(/^[1-9][0-9]{0,15}$/)
        .openapi({ param: { name: 'seq', in: 'path' } }),
    }),
  },
  responses: {
    200: {
      description: 'The signed envelope as the host sent it.',
      content: { 'application/octet-stream': { schema: z.string() } },
    },
  },
});

const Done = z.object({ done: z.boolean() });
const decide = <const Verb extends 'approve' | 'retire' | 'accept-fork'>(verb: Verb, description: string) =>
  adminRoute({
    method: 'post',
    path: `/api/v1/hosts/{id}/${verb}`,
    operationId: verb === 'accept-fork' ? 'acceptFork' : `${verb}Host`,
    tags: ['hosts'],
    request: { params: HostParam },
    responses: { 200: json(Done, description) },
  });

const HostPatch = z
  .strictObject({
    name: z
      .string()
      .min(1)
      .max(255)
      .refine((text) => text.trim() === text && printableText(text) === text, 'expected a name of printable characters')
      .optional(),
    group: GroupName.nullable().optional().openapi({ description: 'null: of no group' }),
    labels: z
      .record(LabelKey, LabelValue.nullable())
      .refine((labels) => Object.keys(labels).length <= HOST_LABELS_MAX, `at most ${HOST_LABELS_MAX} labels`)
      .optional()
      .openapi({ description: 'Labels to set; null takes one away, others stay.' }),
  })
  .refine((change) => Object.keys(change).length > 0, 'expected name, group or labels')
  .openapi('HostPatch');

const patchHost = adminRoute({
  method: 'patch',
  path: '/api/v1/hosts/{id}',
  operationId: 'changeHost',
  tags: ['hosts'],
  request: { params: HostParam, body: body(HostPatch) },
  responses: { 200: json(Host, 'The host as it is now, judged anew where its group or labels changed.') },
});

const postHost = adminRoute({
  method: 'post',
  path: '/api/v1/hosts',
  operationId: 'admitHost',
  tags: ['hosts'],
  request: {
    body: body(EnrolBody),
    query: z.strictObject({
      replace: z.enum(['true', 'false']).optional().openapi({
        description: 'Retire the host that another key speaks for on the same machine; without it, that is a CONFLICT.',
      }),
    }),
  },
  responses: {
    200: json(z.object({ host: Host, enrolment: z.unknown() }), 'The host, and the signed answer to carry back to it.'),
  },
});

export function hostRoutes(api: Api, services: ApiServices): void {
  const { store, clock } = services;
  // Another group's host is none, for whoever does not see that group.
  const known = async (id: string, c: Context<Env>): Promise<HostRecord> => {
    const host = await store.hosts.get(id);
    if (host === undefined || !isTheirs(whoOf(c), host.group))
      throw new ApiError('HOST_UNKNOWN', 'there is no such host');
    return host;
  };

  api.openapi(listHosts, async (c) => {
    const query = c.req.valid('query');
    const now = clock();
    const filter = { ...(await filterOf(query, now, services)), scope: whoOf(c).groups };
    const bound = boundTo('hosts', query);
    const sort = query.sort ?? 'attention';
    const page = await store.read.hosts(filter, sort, {
      limit: query.limit,
      cursor: parseCursor(query.cursor, bound, HostCursor),
    });
    return c.json(
      {
        items: page.items.map((host) => hostJson(host, now)),
        next: printCursor(page, bound),
        total: totalJson(await store.read.countHosts(filter, COUNT_MAX)),
      },
      200,
    );
  });

  api.openapi(verdictCounts, async (c) => {
    const counts = new Map(
      (await store.read.verdicts(clock(), whoOf(c).groups)).map(({ verdict, count }) => [verdict, count]),
    );
    return c.json(
      Object.fromEntries(VERDICTS.map((verdict) => [verdict, counts.get(verdict) ?? 0])) as Record<
        (typeof VERDICTS)[number],
        number
      >,
      200,
    );
  });

  api.openapi(getHost, async (c) => {
    const host = await known(c.req.valid('param').id, c);
    const [refused, history] = await Promise.all([store.read.refusals(host.id), store.read.history(host.id, 50)]);
    const { chain, facts } = host;
    return c.json(
      {
        ...hostJson(host, clock()),
        publicKey: host.publicKey,
        rule: host.rule,
        agent: facts === null ? null : { version: facts.agentVersion, config: facts.config },
        backend: facts?.backend ?? null,
        chain: {
          head: chain.headSeq,
          full: chain.full === null ? null : { ...chain.full },
          same: chain.sameCount,
          gaps: chain.gaps.map((gap) => ({ ...gap })),
          forkedAt: timeOrNull(chain.flags.forked),
          clonedAt: timeOrNull(chain.flags.cloned),
          gapAt: timeOrNull(chain.flags.gap),
        },
        refused: refused.map(({ code, count, firstAt, lastAt, detail }) => ({
          code,
          count,
          firstAt: time(firstAt),
          lastAt: time(lastAt),
          detail,
        })),
        history: history.map(({ at, from, to, seq }) => ({ at: time(at), from, to, seq })),
      },
      200,
    );
  });

  api.openapi(getDrift, async (c) => {
    const host = await known(c.req.valid('param').id, c);
    const examined = await lastFull(host, services);
    if (examined === undefined) throw new ApiError('REPORT_UNKNOWN', 'this host has no full report yet');
    const { seq, manifest, trees, drift, truncated, secrets, deployment } = examined.report;
    return c.json({ seq, comparedWith: manifest, trees, drift, truncated, secrets, deployment }, 200);
  });

  api.openapi(hostFindings, async (c) => {
    const host = await known(c.req.valid('param').id, c);
    const query = c.req.valid('query');
    const bound = boundTo(`hosts/${host.id}/findings`, query);
    const keys = z.strictObject({ severity: z.int(), groupId: z.string() });
    const page = await store.read.hostFindings(host.id, query.which ?? 'present', {
      limit: query.limit,
      cursor: parseCursor(query.cursor, bound, keys),
    });
    const about = { hostName: host.name, silentAfter: host.freshness.silentAfter };
    return c.json(
      {
        items: page.items.map((finding) => findingJson({ ...finding, ...about }, clock())),
        next: printCursor(page, bound),
      },
      200,
    );
  });

  api.openapi(hostReports, async (c) => {
    const host = await known(c.req.valid('param').id, c);
    const query = c.req.valid('query');
    const bound = boundTo(`hosts/${host.id}/reports`, query);
    const page = await store.read.reports(host.id, {
      limit: query.limit,
      cursor: parseCursor(query.cursor, bound, z.strictObject({ seq: z.int() })),
    });
    const items = page.items.map(({ seq, kind, digest, class: of, startedAt, receivedAt }) => ({
      seq,
      kind,
      digest,
      class: of,
      startedAt: time(startedAt),
      receivedAt: time(receivedAt),
    }));
    return c.json({ items, next: printCursor(page, bound) }, 200);
  });

  api.openapi(getReport, async (c) => {
    const { id, seq } = c.req.valid('param');
    await known(id, c);
    const report = await store.reports.get(id, Number(seq));
    if (report === undefined) throw new ApiError('REPORT_UNKNOWN', 'this report is not kept, or never came');
    if (report.envelope.length === 0)
      throw new ApiError(
        'REPORT_UNKNOWN',
        'its envelope passed its retention and was purged; its entry in the log stays',
      );
    if (!mayTake(report.envelope, whoOf(c), services.policies.current))
      throw new ApiError('FORBIDDEN', 'it holds a text that the policy denies: it is for auditors and admins');
    return c.body(new Uint8Array(report.envelope), 200, {
      'Content-Type': 'application/octet-stream',
      ETag: `"${report.digest}"`,
    });
  });

  api.openapi(patchHost, async (c) => {
    const host = await known(c.req.valid('param').id, c);
    const change = c.req.valid('json');
    const labels = new Set(Object.keys(host.labels));
    for (const [key, value] of Object.entries(change.labels ?? {})) if (value !== null) labels.add(key);
    if (labels.size > HOST_LABELS_MAX)
      throw new ApiError('BODY_INVALID', `a host has at most ${HOST_LABELS_MAX} labels`, [
        { pointer: '/labels', detail: `they would be ${labels.size}` },
      ]);
    if (change.group !== undefined && !isTheirs(whoOf(c), change.group))
      throw new ApiError(
        'FORBIDDEN',
        `hosts move within your groups only, and ${change.group ?? 'no group'} is not among them`,
      );
    const changed = await changeHost(host.id, change, actOf(c, clock()), services);
    if (changed === undefined) throw new ApiError('HOST_UNKNOWN', 'there is no such host');
    return c.json(hostJson(changed, clock()), 200);
  });

  api.openapi(decide('approve', 'Approved: the host may report, others of its machine are retired.'), async (c) => {
    const host = await known(c.req.valid('param').id, c);
    if (!(await approveHost(host.id, whoOf(c), services)))
      throw new ApiError('HOST_NOT_PENDING', 'this host waits for no approval');
    return c.json({ done: true }, 200);
  });

  api.openapi(
    decide('retire', 'Retired: its findings are closed, its reports are refused. Already so: done is false.'),
    async (c) => {
      const host = await known(c.req.valid('param').id, c);
      return c.json({ done: await store.hosts.retire(host.id, actOf(c, clock())) }, 200);
    },
  );

  api.openapi(decide('accept-fork', 'Explained: what was held against its identity is over.'), async (c) => {
    const host = await known(c.req.valid('param').id, c);
    if (host.chain.flags.forked === undefined && host.chain.flags.cloned === undefined)
      throw new ApiError('NOT_FORKED', 'nothing is held against the identity of this host');
    const outcome = await acceptFork(host.id, actOf(c, clock()), services);
    if (outcome === 'busy' || outcome === 'gone')
      throw new ApiError('CONFLICT', 'the host changed meanwhile; look again');
    return c.json({ done: true }, 200);
  });

  api.openapi(postHost, async (c) => {
    const replace = c.req.valid('query').replace === 'true';
    const admitted = await admitHost(c.req.valid('json'), { replace }, actOf(c, clock()), services);
    if ('replaces' in admitted) {
      const { host, replaces } = admitted;
      const heard = (last: HostRecord['last']) =>
        last === null ? 'never heard' : `last heard ${formatInstant(last.receivedAt)}`;
      const holder = replaces === null ? 'another host' : `${replaces.name} (${replaces.id}, ${heard(replaces.last)})`;
      throw new ApiError(
        'CONFLICT',
        `the machine of ${host.name} is that of ${holder}, which would be retired: ask again with --replace (?replace=true), if that is meant; ${host.id} waits until then`,
      );
    }
    return c.json({ host: hostJson(admitted.host, clock()), enrolment: admitted.answer.enrolment }, 200);
  });
}

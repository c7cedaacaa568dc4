/** How things stood: a host at a moment as known at another, and which hosts ran an image in a period (docs/posture.md). */
import { z } from '@hono/zod-openapi';
import { formatInstant, type Instant } from '#src/clock.ts';
import { covers } from '#src/finding/scope.ts';
import { imageFor } from '#server/decisions/images.ts';
import { isTheirs } from '#server/decisions/may.ts';
import { readableWaivers } from '#server/decisions/waiverreads.ts';
import { logsOf, postureOf, type Logs, type Posture } from '#server/posture.ts';
import { FRESHNESS_THEN, INTEGRITY_THEN, PROVENANCE_THEN } from '#server/postureanswers.ts';
import { UNKNOWN_CODES, type Rest, type Stated } from '#server/stated.ts';
import { reportRef } from '#server/store/logpayload.ts';
import { Moment, whoOf } from './deciding.ts';
import { ApiError } from './problem.ts';
import { boundTo, CURSOR, HostParam, ImageParam, LIMIT, parseCursor, printCursor } from './query.ts';
import { adminRoute, json, type Api } from './route.ts';
import { Labels, Severity, Time } from './schemas.ts';
import type { ApiServices } from './services.ts';

/** A moment in a query: RFC 3339 with a zone, or a day, which is its beginning in UTC. */
const QueryMoment = Moment.openapi({ description: 'RFC 3339; a bare day is its beginning in UTC.' });
export const queryMoment = (description: string) =>
  QueryMoment.optional().openapi({ type: 'string', format: 'date-time', description });

export function momentOf(text: string): Instant {
  return Date.parse(text.length === 10 ? `${text}T00:00:00.000Z` : text);
}

const RestJson = z
  .object({
    kind: z.enum(['judgement', 'report', 'act']),
    log: z.string().openapi({ description: 'Origin of the log.' }),
    index: z.int(),
    at: Time,
  })
  .openapi('LogReference', { description: 'An entry of the evidence log that a statement rests on.' });
const Why = z
  .object({
    code: z.enum(UNKNOWN_CODES),
    text: z.string(),
  })
  .nullable()
  .openapi({ description: 'Why it cannot be told; null where it can.' });

/** A value with what it rests on, or why there is none. */
const stated = <Schema extends z.ZodType>(value: Schema) =>
  z.object({ value: value.nullable(), unknown: Why, entries: z.array(RestJson) });

const PolicyJson = z.object({ version: z.int(), digest: z.string(), name: z.string(), since: Time });

const PostureJson = z
  .object({
    at: Time.openapi({ description: 'When it was so.' }),
    known: Time.openapi({ description: 'Up to when what the server learned counts.' }),
    id: z.string(),
    host: stated(
      z.object({
        name: z.string(),
        group: z.string().nullable(),
        labels: Labels,
        state: z.enum(['active', 'pending', 'retired']),
      }),
    ),
    verdict: stated(z.string()),
    answers: z
      .object({
        integrity: stated(z.enum(INTEGRITY_THEN)),
        provenance: stated(z.enum(PROVENANCE_THEN)),
        freshness: stated(z.enum(FRESHNESS_THEN)),
      })
      .openapi({ description: 'What the verdict is made of: is it the image, is the image ours, did we hear.' }),
    reasons: z.array(z.string()).openapi({ description: 'What explains the verdict, heaviest first.' }),
    report: stated(
      z.object({
        seq: z.int(),
        class: z.string().nullable(),
        madeAt: Time.nullable(),
        receivedAt: Time,
        cameLater: z.boolean().openapi({ description: 'It came after `at`.' }),
      }),
    ),
    image: stated(z.object({ digest: z.string().nullable(), reference: z.string().nullable() })),
    policy: stated(PolicyJson),
    judgedBy: PolicyJson.nullable().openapi({ description: 'The policy that judged, where it came into force later.' }),
    findings: stated(
      z.array(
        z.object({
          group: z.string(),
          rule: z.string(),
          kind: z.string(),
          subject: z.string(),
          what: z.string(),
          severity: Severity.nullable(),
          since: Time,
          disposition: z.enum(['none', 'acknowledged', 'waived']).nullable(),
          waiver: z.string().nullable(),
          entries: z.array(RestJson).openapi({ description: 'Empty where it opened before the log began.' }),
        }),
      ),
    ),
    waivers: z
      .array(
        z.object({
          id: z.string(),
          title: z.string(),
          kind: z.string(),
          from: Time,
          until: Time,
          approvedBy: z.string().nullable(),
          covers: z.int().openapi({ description: 'Findings of this host.' }),
          entries: z.array(RestJson),
        }),
      )
      .nullable()
      .openapi({ description: 'In force then and reaching the host; null for who may not read waivers.' }),
    log: z.object({
      origin: z.string().nullable(),
      beganAt: Time.nullable(),
      waiting: z.string().nullable().openapi({
        format: 'date-time',
        description: 'What was logged from then on has no place in the log yet, and is not counted here.',
      }),
    }),
  })
  .openapi('HostPosture');

const time = (at: Instant): string => formatInstant(at);

function restJson({ kind, log, index, at }: Rest, { origins }: Logs): z.infer<typeof RestJson> {
  return { kind, log: origins.get(log) ?? '', index, at: time(at) };
}

function statedJson<Value, Json>(one: Stated<Value>, logs: Logs, of: (value: Value) => Json) {
  return {
    value: one.value === null ? null : of(one.value),
    unknown: 'why' in one ? { ...one.why } : null,
    entries: one.rests.map((rest) => restJson(rest, logs)),
  };
}

const policyJson = ({ since, ...rest }: NonNullable<Posture['policy']['value']>) => ({ ...rest, since: time(since) });

/** What explains the verdict: what people have not excepted, and what else was noted. */
function reasonsOf({ notes, findings, verdict }: Posture): string[] {
  const open = (findings.value ?? []).filter(({ disposition }) => disposition !== 'waived').map(({ what }) => what);
  return [...('why' in verdict ? [verdict.why.text] : []), ...notes, ...open];
}

const posture = adminRoute({
  method: 'get',
  path: '/api/v1/hosts/{id}/posture',
  operationId: 'getHostPosture',
  tags: ['hosts'],
  request: {
    params: HostParam,
    query: z.strictObject({
      at: QueryMoment,
      known: queryMoment('Default: now. `known` equal to `at` is what was told then.'),
    }),
  },
  responses: { 200: json(PostureJson, 'How the host stood at a moment, as known at another.') },
});

const HostOn = z.object({
  id: z.string(),
  name: z.string(),
  group: z.string().nullable(),
  state: z.enum(['active', 'pending', 'retired']),
  stays: z.array(
    z.object({
      from: Time,
      to: Time.nullable().openapi({ description: 'When it was last heard before it ran another; null: it runs it.' }),
      entry: RestJson.nullable().openapi({ description: 'Of the first report of it.' }),
    }),
  ),
  heardAt: Time.nullable().openapi({ description: 'When the host was last heard at all.' }),
});

const imageHosts = adminRoute({
  method: 'get',
  path: '/api/v1/images/{digest}/hosts',
  operationId: 'listImageHosts',
  tags: ['images'],
  request: {
    params: ImageParam,
    query: z.strictObject({
      from: QueryMoment.optional(),
      to: queryMoment('Not included; default: now.'),
      limit: LIMIT,
      cursor: CURSOR,
    }),
  },
  responses: {
    200: json(
      z.object({ items: z.array(HostOn), next: z.string().nullable() }),
      'Hosts that ran the image at some time of the period, by id; those that are retired since, too.',
    ),
  },
});

/** The two ends of a period as a query gives them. @throws {ApiError} QUERY_INVALID where the first is not before the second. */
export function periodOf(
  { from, to }: { readonly from?: string | undefined; readonly to?: string | undefined },
  now: Instant,
  names: readonly [from: string, to: string],
): { readonly from: Instant; readonly to: Instant } {
  const period = { from: from === undefined ? 0 : momentOf(from), to: to === undefined ? now + 1 : momentOf(to) };
  if (period.from < period.to) return period;
  const detail = `a period begins before it ends: ${names[0]} is ${time(period.from)}, ${names[1]} ${time(period.to)}`;
  throw new ApiError('QUERY_INVALID', detail, [{ parameter: names[0], detail }]);
}

export function postureRoutes(api: Api, services: ApiServices): void {
  const { store, clock } = services;

  api.openapi(posture, async (c) => {
    const who = whoOf(c);
    const host = await store.hosts.get(c.req.valid('param').id);
    if (host === undefined || !isTheirs(who, host.group)) throw new ApiError('HOST_UNKNOWN', 'there is no such host');
    const query = c.req.valid('query');
    const now = clock();
    const at = momentOf(query.at);
    const known = query.known === undefined ? now : momentOf(query.known);
    for (const [parameter, wrong, detail] of [
      ['at', at > now, 'lies in the future'],
      ['known', known > now, 'lies in the future'],
      ['known', known < at, 'is before `at`: nothing was known of it yet'],
    ] as const)
      if (wrong) throw new ApiError('QUERY_INVALID', `${parameter} ${detail}`, [{ parameter, detail }]);
    const [then, pending] = await Promise.all([postureOf(host, at, known, services), store.log.pending()]);
    const { logs } = then;
    const readable = await readableWaivers(
      then.waivers.map(({ id }) => id),
      who,
      services,
    );
    return c.json(
      {
        at: time(at),
        known: time(known),
        id: host.id,
        host: statedJson(then.host, logs, (value) => ({ ...value, labels: { ...value.labels } })),
        verdict: statedJson(then.verdict, logs, (value) => value),
        answers: {
          integrity: statedJson(then.answers.integrity, logs, (value) => value),
          provenance: statedJson(then.answers.provenance, logs, (value) => value),
          freshness: statedJson(then.answers.freshness, logs, (value) => value),
        },
        reasons: reasonsOf(then),
        report: statedJson(then.report, logs, ({ madeAt, receivedAt, ...value }) => ({
          ...value,
          madeAt: madeAt === null ? null : time(madeAt),
          receivedAt: time(receivedAt),
        })),
        image: statedJson(then.image, logs, (value) => ({ ...value })),
        policy: statedJson(then.policy, logs, policyJson),
        judgedBy: then.judgedBy === null ? null : policyJson(then.judgedBy),
        findings: statedJson(then.findings, logs, (value) =>
          value.map(({ rests, since, ...finding }) => ({
            ...finding,
            since: time(since),
            entries: rests.map((rest) => restJson(rest, logs)),
          })),
        ),
        waivers: readable
          ? then.waivers
              .filter(({ id }) => readable.has(id))
              .map(({ from, until, rests, ...waiver }) => ({
                ...waiver,
                from: time(from),
                until: time(until),
                entries: rests.map((rest) => restJson(rest, logs)),
              }))
          : null,
        log: {
          origin: [...logs.origins.values()].at(-1) ?? null,
          beganAt: logs.beganAt === null ? null : time(logs.beganAt),
          waiting: pending.oldest === null || pending.oldest > known ? null : time(pending.oldest),
        },
      },
      200,
    );
  });

  api.openapi(imageHosts, async (c) => {
    const { groups: scope } = whoOf(c);
    const query = c.req.valid('query');
    const found = await imageFor(whoOf(c), c.req.valid('param').digest, store);
    if (found === undefined) throw new ApiError('IMAGE_UNKNOWN', 'no host has named this image');
    const { digest } = found.image;
    const period = periodOf(query, clock(), ['from', 'to']);
    const bound = boundTo(`images/${digest}/hosts`, query);
    const aliases = await store.read.aliases(digest);
    const page = await store.postures.hostsOn(
      [digest, ...aliases.map(({ alias }) => alias)],
      { ...period, scope },
      { limit: query.limit, cursor: parseCursor(query.cursor, bound, z.strictObject({ id: z.string() })) },
    );
    const logs = await logsOf(store);
    const refs = page.items.flatMap(({ id, stays }) =>
      stays.flatMap(({ seq }) => (seq === null ? [] : [reportRef(id, seq, 0)])),
    );
    const places = await store.postures.places(refs);
    return c.json(
      {
        items: page.items
          .filter(({ group }) => covers(scope, group))
          .map(({ id, name, group, state, stays, heardAt }) => ({
            id,
            name,
            group,
            state: state as 'active' | 'pending' | 'retired',
            stays: stays.map(({ from, to, seq }) => {
              const place = seq === null ? undefined : places.get(reportRef(id, seq, 0));
              return {
                from: time(from),
                to: to === null ? null : time(to),
                entry: place === undefined ? null : restJson({ kind: 'report', ...place }, logs),
              };
            }),
            heardAt: heardAt === null ? null : time(heardAt),
          })),
        next: printCursor(page, bound),
      },
      200,
    );
  });
}

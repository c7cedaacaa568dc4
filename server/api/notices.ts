/** `/api/v1/channels` and `/api/v1/deliveries`: who is told what, and what came of it (docs/notices.md). Keys are told once. */
import { z } from '@hono/zod-openapi';
import { formatInstant, type Instant } from '#src/clock.ts';
import { SEVERITIES } from '#src/policy/judgement.ts';
import {
  changeChannel,
  ChannelError,
  checkChannel,
  createChannel,
  newKey,
  removeChannel,
  resend,
  testChannel,
} from '#server/decisions/channels.ts';
import {
  CHANNEL_KINDS,
  RoutingBody,
  routingJson,
  routingOf,
  shownTarget,
  TargetBody,
  targetOf,
} from '#server/notices/channel.ts';
import { DELIVERY_STATES, type Channel, type Delivery } from '#server/store/noticerecords.ts';
import { etagOf, IF_MATCH, readRevision, whoOf } from './deciding.ts';
import { boundTo, CURSOR, LIMIT, parseCursor, printCursor } from './query.ts';
import { adminRoute, body, json, type Api } from './route.ts';
import { Severity, Time } from './schemas.ts';
import type { ApiServices } from './services.ts';

const TimeOrNull = z.string().nullable().openapi({ format: 'date-time' });
const time = (at: Instant | null): string | null => (at === null ? null : formatInstant(at));

export const ChannelJson = z
  .object({
    id: z.string(),
    name: z.string(),
    kind: z.enum(CHANNEL_KINDS),
    target: z
      .string()
      .openapi({ description: 'Where it leads, without what may be secret: paths and queries of webhooks.' }),
    signed: z.boolean().openapi({ description: 'Its messages carry a Standard Webhooks signature.' }),
    routing: z.object({
      events: z.array(z.string()),
      minSeverity: Severity,
      hostGroups: z.array(z.string()).nullable(),
      hostLabels: z.array(z.object({ key: z.string(), value: z.string() })),
      graceSeconds: z.int(),
      condition: z.string().nullable().openapi({ description: 'CEL, asked of each transition (docs/notices.md 1.3).' }),
      digestAt: z.string().nullable().openapi({ description: "When the day's digest is told, HH:MM in UTC." }),
      quiet: z
        .object({ from: z.string(), to: z.string() })
        .nullable()
        .openapi({ description: 'Hours of each day, HH:MM in UTC, in which only what is critical is told.' }),
    }),
    conditionError: z
      .object({ at: Time, text: z.string() })
      .nullable()
      .openapi({ description: 'Its condition could not say yes or no then: it was told all the same.' }),
    state: z.enum(['active', 'disabled']),
    revision: z.int(),
    createdAt: Time,
    createdBy: z.string(),
    disabledAt: TimeOrNull,
    disabledWhy: z.string().nullable(),
  })
  .openapi('Channel');

function channelJson(channel: Channel): z.infer<typeof ChannelJson> {
  const { id, name, state, revision, createdBy, disabledWhy } = channel;
  const target = targetOf(channel);
  return {
    id,
    name,
    kind: target.kind,
    target: shownTarget(target),
    signed: target.kind !== 'syslog' && target.keys.length > 0,
    routing: routingJson(channel.routing),
    conditionError: channel.conditionError && {
      at: formatInstant(channel.conditionError.at),
      text: channel.conditionError.text,
    },
    state,
    revision,
    createdAt: formatInstant(channel.createdAt),
    createdBy,
    disabledAt: time(channel.disabledAt),
    disabledWhy,
  };
}

export const DeliveryJson = z
  .object({
    id: z.string().openapi({ description: 'Also the message id that the receiver is told.' }),
    channel: z.string(),
    topic: z.string(),
    transition: z.string(),
    episode: z.int(),
    n: z.int(),
    severity: Severity,
    hosts: z.int(),
    text: z.string(),
    createdAt: Time,
    state: z.enum(DELIVERY_STATES),
    attempts: z.int(),
    nextAt: TimeOrNull,
    doneAt: TimeOrNull,
    status: z.int().nullable().openapi({ description: 'HTTP status of the last answer.' }),
    error: z.string().nullable(),
  })
  .openapi('Delivery');

function deliveryJson(delivery: Delivery): z.infer<typeof DeliveryJson> {
  const { id, channelId, topic, transition, episode, n, severity, hosts, state, attempts, status, error } = delivery;
  return {
    id,
    channel: channelId,
    topic,
    transition,
    episode,
    n,
    severity: SEVERITIES[severity],
    hosts,
    text: (delivery.notice as { readonly text: string }).text,
    createdAt: formatInstant(delivery.createdAt),
    state,
    attempts,
    nextAt: time(delivery.nextAt),
    doneAt: time(delivery.doneAt),
    status,
    error,
  };
}

const Name = z
  .string()
  .min(1)
  .max(100)
  // eslint-disable-next-line no-control-regex
  .regex(/^[^\x00-\x1f\x7f]+$/, 'expected one line')
  .refine((text) => text.isWellFormed(), 'expected whole characters');

export const ChannelBody = z.strictObject({
  name: Name,
  target: TargetBody,
  routing: RoutingBody.prefault({}),
  open: z
    .enum(['nothing', 'summary'])
    .default('summary')
    .openapi({ description: 'What is told of what is open already: one summary, or nothing.' }),
});
// No defaults here: what a change leaves out stays as it is.
const ChannelPatch = z.strictObject({
  name: Name.optional(),
  target: TargetBody.optional(),
  routing: RoutingBody.optional().openapi({ description: 'As a whole.' }),
  state: z.enum(['active', 'disabled']).optional(),
});

const Id = z.object({
  id: z
    .string()
    .max(64)
    .openapi({ param: { name: 'id', in: 'path' }, example: 'c_01kb2m4x8r' }),
});
const one = (path: string) => `/api/v1/channels/{id}${path}`;

const listChannels = adminRoute({
  method: 'get',
  path: '/api/v1/channels',
  operationId: 'listChannels',
  tags: ['channels'],
  responses: { 200: json(z.object({ items: z.array(ChannelJson) }), 'Channels by name, without their secrets.') },
});
const DryRun = z.strictObject({
  dryRun: z
    .enum(['true', 'false'])
    .optional()
    .openapi({ description: 'Make nothing: only say whether condition and target would be taken.' }),
});
const postChannel = adminRoute({
  method: 'post',
  path: '/api/v1/channels',
  operationId: 'createChannel',
  tags: ['channels'],
  request: { body: body(ChannelBody), query: DryRun },
  responses: {
    200: json(z.object({ channel: z.null() }), 'With `dryRun`: it would be taken, but for its name perhaps.'),
    201: json(
      z.object({ channel: ChannelJson, key: z.string().nullable() }),
      'The channel, and its signing key, told this once; null where its kind has none.',
    ),
  },
});
const getChannel = adminRoute({
  method: 'get',
  path: one(''),
  operationId: 'getChannel',
  tags: ['channels'],
  request: { params: Id },
  responses: { 200: json(ChannelJson, 'The channel, with its ETag.') },
});
const patchChannel = adminRoute({
  method: 'patch',
  path: one(''),
  operationId: 'changeChannel',
  tags: ['channels'],
  request: { params: Id, headers: IF_MATCH, body: body(ChannelPatch) },
  responses: { 200: json(ChannelJson, 'The channel as it is now.') },
});
const deleteChannel = adminRoute({
  method: 'delete',
  path: one(''),
  operationId: 'removeChannel',
  tags: ['channels'],
  request: { params: Id },
  responses: { 200: json(z.object({ done: z.boolean() }), 'It is gone, with everything that it had yet to tell.') },
});
const testRoute = adminRoute({
  method: 'post',
  path: one('/test'),
  operationId: 'testChannel',
  tags: ['channels'],
  request: { params: Id },
  responses: {
    200: json(
      z.object({
        delivery: z.string(),
        delivered: z.boolean(),
        status: z.int().nullable(),
        error: z.string().nullable(),
      }),
      'What the receiver said to a test.',
    ),
  },
});
const newKeyRoute = adminRoute({
  method: 'post',
  path: one('/new-key'),
  operationId: 'newChannelKey',
  tags: ['channels'],
  request: { params: Id },
  responses: {
    200: json(
      z.object({ key: z.string(), oldUntil: Time }),
      'The new signing key, told this once; the old one signs beside it until then.',
    ),
  },
});
const listDeliveries = adminRoute({
  method: 'get',
  path: '/api/v1/deliveries',
  operationId: 'listDeliveries',
  tags: ['channels'],
  request: {
    query: z.strictObject({
      channel: z.string().max(64).optional(),
      state: z.enum(DELIVERY_STATES).optional(),
      limit: LIMIT,
      cursor: CURSOR,
    }),
  },
  responses: {
    200: json(z.object({ items: z.array(DeliveryJson), next: z.string().nullable() }), 'Messages, newest first.'),
  },
});
const getDelivery = adminRoute({
  method: 'get',
  path: '/api/v1/deliveries/{id}',
  operationId: 'getDelivery',
  tags: ['channels'],
  request: { params: Id },
  responses: {
    200: json(DeliveryJson.extend({ notice: z.unknown() }), 'The message, with what it tells.'),
  },
});
const resendRoute = adminRoute({
  method: 'post',
  path: '/api/v1/deliveries/{id}/resend',
  operationId: 'resendDelivery',
  tags: ['channels'],
  request: { params: Id },
  responses: { 200: json(DeliveryJson, 'It waits to be sent again, under the same id.') },
});

export function noticeRoutes(api: Api, services: ApiServices): void {
  const { store, notices: deps } = services;

  api.openapi(listChannels, async (c) => c.json({ items: (await store.notices.channels()).map(channelJson) }, 200));

  api.openapi(postChannel, async (c) => {
    const { name, target, routing, open } = c.req.valid('json');
    const draft = { name, target, routing: routingOf(routing), open };
    if (c.req.valid('query').dryRun === 'true') {
      checkChannel(draft, whoOf(c), deps);
      return c.json({ channel: null }, 200);
    }
    const made = await createChannel(draft, whoOf(c), deps);
    return c.json({ channel: channelJson(made.channel), key: made.key }, 201, {
      ETag: etagOf(made.channel.revision),
      'Cache-Control': 'no-store',
    });
  });

  api.openapi(getChannel, async (c) => {
    const channel = await store.notices.channel(c.req.valid('param').id);
    if (channel === undefined) throw new ChannelError('CHANNEL_UNKNOWN', 'there is no such channel');
    return c.json(channelJson(channel), 200, { ETag: etagOf(channel.revision) });
  });

  api.openapi(patchChannel, async (c) => {
    const { routing, ...change } = c.req.valid('json');
    const next = await changeChannel(
      c.req.valid('param').id,
      readRevision(c.req.valid('header')['if-match']),
      { ...change, routing: routing === undefined ? undefined : routingOf(routing) },
      whoOf(c),
      deps,
    );
    return c.json(channelJson(next), 200, { ETag: etagOf(next.revision) });
  });

  api.openapi(deleteChannel, async (c) => {
    await removeChannel(c.req.valid('param').id, whoOf(c), deps);
    return c.json({ done: true }, 200);
  });

  api.openapi(testRoute, async (c) => {
    const { delivery, came } = await testChannel(c.req.valid('param').id, whoOf(c), deps);
    return c.json({ delivery, delivered: came.ok, status: came.status, error: came.error }, 200);
  });

  api.openapi(newKeyRoute, async (c) => {
    const { key, until } = await newKey(c.req.valid('param').id, whoOf(c), deps);
    return c.json({ key, oldUntil: formatInstant(until) }, 200, { 'Cache-Control': 'no-store' });
  });

  api.openapi(listDeliveries, async (c) => {
    const query = c.req.valid('query');
    const bound = boundTo('deliveries', query);
    const cursor = parseCursor(query.cursor, bound, z.strictObject({ id: z.string() }));
    const { channel, state, limit } = query;
    const filter = {
      ...(channel === undefined ? {} : { channelId: channel }),
      ...(state === undefined ? {} : { state }),
    };
    const page = await store.notices.deliveries(filter, { limit, cursor });
    return c.json({ items: page.items.map(deliveryJson), next: printCursor(page, bound) }, 200);
  });

  api.openapi(getDelivery, async (c) => {
    const delivery = await store.notices.get(c.req.valid('param').id);
    if (delivery === undefined)
      throw new ChannelError('DELIVERY_UNKNOWN', 'there is no such message, or it is no longer kept');
    return c.json({ ...deliveryJson(delivery), notice: delivery.notice }, 200);
  });

  api.openapi(resendRoute, async (c) =>
    c.json(deliveryJson(await resend(c.req.valid('param').id, whoOf(c), deps)), 200),
  );
}

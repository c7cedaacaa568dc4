/** Channels: what each kind needs, what of it is shown, and what is secret (docs/notices.md 4). */
import { z } from 'zod';
import type { Instant } from '#src/clock.ts';
import { CONDITION_CHARS_MAX, NOTICE_GRACE_MS, NOTICE_GRACE_MS_MAX } from '#src/limits.ts';
import { SEVERITIES } from '#src/policy/judgement.ts';
import { NOTICE_EVENTS, TRANSITIONS, type Channel, type Routing } from '#server/store/noticerecords.ts';
import type { Severity } from '#server/store/records.ts';

export const CHANNEL_KINDS = ['webhook', 'slack', 'ocsf', 'syslog'] as const;

/** One name or address, as it stands before a port. */
const Host = z
  .string()
  .max(255)
  .regex(/^(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])$/, 'expected a host name or address');
const Address = z
  .string()
  .max(2000)
  .refine((text) => {
    const url = URL.canParse(text) ? new URL(text) : undefined;
    return (
      url !== undefined &&
      /^https?:$/.test(url.protocol) &&
      url.username === '' &&
      url.password === '' &&
      url.hash === ''
    );
  }, 'expected http(s)://host/path without a user and without a fragment');
const Ca = z
  .string()
  .max(65_536)
  .regex(/-----BEGIN CERTIFICATE-----/, 'expected certificates in PEM')
  .nullable()
  .default(null);
/** `whsec_` and base64 of 24 to 64 bytes (Standard Webhooks). */
export const SigningKey = z
  .string()
  .regex(/^whsec_[A-Za-z0-9+/]{32,86}={0,2}$/, 'expected whsec_ and base64 of 24 to 64 bytes');

const TimeOfDay = z.string().regex(/^(?:[01][0-9]|2[0-3]):[0-5][0-9]$/, 'expected a time of day in UTC, as in 06:30');

export const RoutingBody = z.strictObject({
  events: z
    .array(z.enum(NOTICE_EVENTS))
    .min(1)
    .default([...TRANSITIONS]),
  minSeverity: z.enum(SEVERITIES).default('info'),
  hostGroups: z.array(z.string().min(1).max(200)).max(100).nullable().default(null),
  hostLabels: z
    .array(z.strictObject({ key: z.string().min(1).max(200), value: z.string().max(200) }))
    .max(20)
    .default([]),
  graceSeconds: z
    .int()
    .min(0)
    .max(NOTICE_GRACE_MS_MAX / 1000)
    .default(NOTICE_GRACE_MS / 1000),
  condition: z.string().min(1).max(CONDITION_CHARS_MAX).nullable().default(null),
  digestAt: TimeOfDay.nullable().default(null),
  quiet: z
    .strictObject({ from: TimeOfDay, to: TimeOfDay })
    .refine(({ from, to }) => from !== to, 'expected hours that end at another time than they begin')
    .nullable()
    .default(null),
});

export function routingOf(body: z.infer<typeof RoutingBody>): Routing {
  return {
    events: [...new Set(body.events)],
    minSeverity: SEVERITIES.indexOf(body.minSeverity) as Severity,
    hosts: { groups: body.hostGroups, labels: body.hostLabels },
    graceMs: body.graceSeconds * 1000,
    condition: body.condition,
    digestAt: body.digestAt,
    quiet: body.quiet,
  };
}

export function routingJson({
  events,
  minSeverity,
  hosts,
  graceMs,
  condition,
  digestAt,
  quiet,
}: Routing): z.infer<typeof RoutingBody> {
  return {
    events: [...events],
    minSeverity: SEVERITIES[minSeverity],
    hostGroups: hosts.groups === null ? null : [...hosts.groups],
    hostLabels: [...hosts.labels],
    graceSeconds: graceMs / 1000,
    condition: condition ?? null,
    digestAt: digestAt ?? null,
    quiet: quiet == null ? null : { ...quiet },
  };
}

const Webhook = z.strictObject({ url: Address, key: SigningKey.optional(), ca: Ca });
/** What people give of where a channel leads, by kind. */
export const TargetBody = z.discriminatedUnion('kind', [
  Webhook.extend({ kind: z.literal('webhook') }),
  Webhook.extend({ kind: z.literal('ocsf') }),
  z.strictObject({ kind: z.literal('slack'), url: Address }),
  z.strictObject({
    kind: z.literal('syslog'),
    host: Host,
    port: z.int().min(1).max(65_535).default(6514),
    transport: z.enum(['tls', 'tcp', 'udp']).default('tls'),
    body: z.enum(['text', 'ocsf']).default('ocsf'),
    facility: z.int().min(0).max(23).default(13),
    ca: Ca,
  }),
]);
export type TargetBody = z.infer<typeof TargetBody>;

/** A key, and until when it also signs after another one came. */
const Keys = z.array(z.strictObject({ key: z.string(), until: z.number().nullable() }));
const HttpSecret = z.strictObject({ url: z.string(), keys: Keys });
const HttpOptions = z.strictObject({ ca: z.string().nullable() });
const SyslogOptions = z.strictObject({
  host: z.string(),
  port: z.int(),
  transport: z.enum(['tls', 'tcp', 'udp']),
  body: z.enum(['text', 'ocsf']),
  facility: z.int(),
  ca: z.string().nullable(),
});

/** Where a channel leads, as the store keeps it. */
export type Target =
  | ({ readonly kind: 'webhook' | 'ocsf' | 'slack' } & z.infer<typeof HttpSecret> & z.infer<typeof HttpOptions>)
  | ({ readonly kind: 'syslog' } & z.infer<typeof SyslogOptions>);

export function targetOf({ kind, options, secret }: Pick<Channel, 'kind' | 'options' | 'secret'>): Target {
  if (kind === 'syslog') return { kind, ...SyslogOptions.parse(options) };
  return {
    kind: z.enum(['webhook', 'ocsf', 'slack']).parse(kind),
    ...HttpSecret.parse(secret),
    ...HttpOptions.parse(options),
  };
}

/** What the store keeps of a target: what may be shown, and what may not. */
export function kept(target: Target): Pick<Channel, 'kind' | 'options' | 'secret'> {
  if (target.kind === 'syslog') {
    const { kind, ...options } = target;
    return { kind, options, secret: {} };
  }
  const { kind, url, keys, ca } = target;
  return { kind, options: { ca }, secret: { url, keys } };
}

/** A target from what people gave; `newKey` makes a signing key where none was given and one is needed. */
export function targetFrom(body: TargetBody, newKey: () => string): Target {
  if (body.kind === 'syslog') return body;
  if (body.kind === 'slack') return { kind: body.kind, url: body.url, keys: [], ca: null };
  const { kind, url, key, ca } = body;
  return { kind, url, keys: [{ key: key ?? newKey(), until: null }], ca };
}

/** Host and port. */
export function placeOf(target: Target): { readonly host: string; readonly port: number } {
  if (target.kind === 'syslog') return { host: target.host, port: target.port };
  const { hostname, port, protocol } = new URL(target.url);
  return { host: hostname, port: port === '' ? (protocol === 'https:' ? 443 : 80) : Number(port) };
}

/** What may be shown: paths and queries of webhooks are often secrets themselves. */
export function shownTarget(target: Target): string {
  if (target.kind === 'syslog') return `syslog+${target.transport}://${target.host}:${target.port}`;
  const { origin, pathname, search } = new URL(target.url);
  return pathname === '/' && search === '' ? origin : `${origin}/…`;
}

/** Keys that sign at a moment: the newest, and those before it until their end. */
export function signingKeys({ keys }: Pick<Extract<Target, { keys: unknown }>, 'keys'>, now: Instant): string[] {
  return keys.filter(({ until }) => until === null || until > now).map(({ key }) => key);
}

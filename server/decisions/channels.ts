/** What people decide about channels: make, change, remove, try out, new keys; and to send again what was given up (docs/notices.md). */
import { ConditionError } from '#src/document/expression.ts';
import { BootproofError } from '#src/error.ts';
import { CHANNELS_MAX } from '#src/limits.ts';
import { isFleetWide, type Principal } from '#server/access/principal.ts';
import type { Deps } from '#server/deps.ts';
import { kept, placeOf, targetFrom, targetOf, type Target, type TargetBody } from '#server/notices/channel.ts';
import { send, type Came, type SendDeps } from '#server/notices/send.ts';
import { newSigningKey } from '#server/notices/signature.ts';
import { TargetError } from '#server/notices/target.ts';
import { parseCondition } from '#server/noticecondition.ts';
import { sendJob } from '#server/notices/delivery.ts';
import { summary, testNotice } from '#server/notices/tell.ts';
import { sortableId } from '#server/store/ids.ts';
import type { Channel, ChannelState, Delivery, Routing } from '#server/store/noticerecords.ts';
import type { Store } from '#server/store/store.ts';
import { actOf, DecisionError } from './may.ts';

export class ChannelError extends BootproofError<
  | 'CHANNEL_UNKNOWN'
  | 'DELIVERY_UNKNOWN'
  /** It lies where notices do not go, would be told in the clear, or has no key to change. */
  | 'CHANNEL_INVALID'
  /** There are as many as are held, or one of that name. */
  | 'CHANNEL_CONFLICT'
> {}

export type ChannelDeps = SendDeps & Pick<Deps, 'random'> & { readonly store: Store; readonly wake: () => void };

/** How long the key before signs beside the new one, ms: receivers change theirs meanwhile. */
const OLD_KEY_MS = 86_400_000;

export type ChannelDraft = {
  readonly name: string;
  readonly target: TargetBody;
  readonly routing: Routing;
  /** What is told of what is open already. */
  readonly open: 'nothing' | 'summary';
};

/** A channel hears of hosts of every group, and its address reaches out of the server: for admins of the whole fleet. */
function mustBeAdmin(who: Principal): void {
  if (!isFleetWide(who, 'admin')) throw new DecisionError('FORBIDDEN', 'channels are for admins of every host group');
}

function checked(target: Target, { targets }: Pick<ChannelDeps, 'targets'>): Target {
  const { host, port } = placeOf(target);
  try {
    targets.check(host, port);
  } catch (error) {
    if (!(error instanceof TargetError)) throw error;
    throw new ChannelError('CHANNEL_INVALID', error.message, { cause: error });
  }
  if (target.kind !== 'syslog' && !target.url.startsWith('https:') && !targets.isNamed(host, port))
    throw new ChannelError(
      'CHANNEL_INVALID',
      `${host} would be told in the clear; use https, or have whoever runs the server allow it: --notice-target ${host}:${port}`,
    );
  return target;
}

/** A condition is read when it is saved: what is wrong with it is said with line and column, and not found out by silence. */
function mustRead({ condition }: Routing): void {
  if (condition === undefined || condition === null) return;
  try {
    parseCondition(condition);
  } catch (error) {
    if (!(error instanceof ConditionError)) throw error;
    throw new ChannelError('CHANNEL_INVALID', `its condition: ${error.message}`, { cause: error });
  }
}

async function mustBeFree(name: string, { store }: ChannelDeps, own?: string): Promise<void> {
  const all = await store.notices.channels();
  if (own === undefined && all.length >= CHANNELS_MAX)
    throw new ChannelError('CHANNEL_CONFLICT', `there are ${all.length} channels already; more are not held`);
  if (all.some((one) => one.name === name && one.id !== own))
    throw new ChannelError('CHANNEL_CONFLICT', `there is a channel named ${JSON.stringify(name)} already`);
}

async function channelOf(id: string, { store }: ChannelDeps): Promise<Channel> {
  const channel = await store.notices.channel(id);
  if (channel === undefined) throw new ChannelError('CHANNEL_UNKNOWN', 'there is no such channel');
  return channel;
}

/** Whether this server would take it, but for its name: its condition is read, and its target is one that may be told. @throws {ChannelError} */
export function checkChannel({ target, routing }: ChannelDraft, who: Principal, deps: ChannelDeps): void {
  mustBeAdmin(who);
  mustRead(routing);
  checked(
    targetFrom(target, () => newSigningKey(deps.random)),
    deps,
  );
}

/** Answers the channel, and its signing key, which is told this once; null where its kind has none. */
export async function createChannel(
  { name, target: body, routing, open }: ChannelDraft,
  who: Principal,
  deps: ChannelDeps,
): Promise<{ readonly channel: Channel; readonly key: string | null }> {
  mustBeAdmin(who);
  mustRead(routing);
  const { store, clock, random, wake } = deps;
  const target = checked(
    targetFrom(body, () => newSigningKey(random)),
    deps,
  );
  await mustBeFree(name, deps);
  const at = clock();
  const channel: Channel = {
    id: `c_${sortableId(at)}`,
    name,
    routing,
    ...kept(target),
    state: 'active',
    revision: 1,
    createdAt: at,
    createdBy: who.id,
    disabledAt: null,
    disabledWhy: null,
    conditionError: null,
  };
  const told = open === 'summary' ? await summary(channel, deps) : undefined;
  const first = told === undefined ? [] : [told];
  await store.notices.create(channel, actOf(who, at), first, first.length === 0 ? [] : [sendJob(channel.id, at)]);
  wake();
  return { channel, key: target.kind === 'syslog' ? null : (target.keys[0]?.key ?? null) };
}

export type ChannelChange = {
  readonly name?: string | undefined;
  readonly target?: TargetBody | undefined;
  readonly routing?: Routing | undefined;
  readonly state?: ChannelState | undefined;
};

/** Changes what is named. @throws {DecisionError} STALE_DECISION where somebody else changed it since `revision` was read. */
export async function changeChannel(
  id: string,
  revision: number,
  change: ChannelChange,
  who: Principal,
  deps: ChannelDeps,
): Promise<Channel> {
  mustBeAdmin(who);
  const { store, clock, random, wake } = deps;
  const before = await channelOf(id, deps);
  const at = clock();
  if (change.routing !== undefined) mustRead(change.routing);
  if (change.name !== undefined) await mustBeFree(change.name, deps, id);
  const target =
    change.target === undefined
      ? undefined
      : checked(
          targetFrom(change.target, () => keyOf(before) ?? newSigningKey(random)),
          deps,
        );
  const { name = before.name, routing = before.routing, state = before.state } = change;
  const isOff = state === 'disabled';
  const next: Channel = {
    ...before,
    ...(target === undefined ? {} : kept(target)),
    name,
    routing,
    state,
    revision: revision + 1,
    disabledAt: isOff ? (before.disabledAt ?? at) : null,
    // Of a condition that stands no more.
    conditionError: change.routing === undefined ? before.conditionError : null,
    disabledWhy: isOff ? (before.disabledWhy ?? `switched off by ${who.name}`) : null,
  };
  await put(next, who, 'channel.change', deps);
  // Switched on: what waits is sent.
  if (before.state === 'disabled' && !isOff) await store.jobs.enqueue([sendJob(id, at)]);
  wake();
  return next;
}

function keyOf(channel: Channel): string | undefined {
  const target = targetOf(channel);
  return target.kind === 'syslog' ? undefined : target.keys.find(({ until }) => until === null)?.key;
}

async function put(next: Channel, who: Principal, action: string, { store, clock }: ChannelDeps): Promise<void> {
  if (await store.notices.put(next, actOf(who, clock()), action)) return;
  const now = await store.notices.channel(next.id);
  if (now === undefined) throw new ChannelError('CHANNEL_UNKNOWN', 'there is no such channel any more');
  throw new DecisionError('STALE_DECISION', 'somebody changed this channel since you read it; look at it again', {
    revision: now.revision,
  });
}

export async function removeChannel(id: string, who: Principal, deps: ChannelDeps): Promise<void> {
  mustBeAdmin(who);
  if (!(await deps.store.notices.remove(id, actOf(who, deps.clock()))))
    throw new ChannelError('CHANNEL_UNKNOWN', 'there is no such channel');
}

/** A new signing key, told this once; the one before signs beside it for a day. */
export async function newKey(id: string, who: Principal, deps: ChannelDeps): Promise<{ key: string; until: number }> {
  mustBeAdmin(who);
  const channel = await channelOf(id, deps);
  const target = targetOf(channel);
  if (target.kind === 'syslog' || target.keys.length === 0)
    throw new ChannelError('CHANNEL_INVALID', `messages of the kind ${channel.kind} are not signed: there is no key`);
  const now = deps.clock();
  const key = newSigningKey(deps.random);
  const until = now + OLD_KEY_MS;
  const before = target.keys
    .filter((old) => old.until === null || old.until > now)
    .map((old) => ({ key: old.key, until: Math.min(old.until ?? until, until) }))
    // Two at once are enough; a third would be one that somebody changed twice within a day.
    .slice(0, 1);
  const next = {
    ...channel,
    ...kept({ ...target, keys: [{ key, until: null }, ...before] }),
    revision: channel.revision + 1,
  };
  await put(next, who, 'channel.new-key', deps);
  return { key, until };
}

/** Sends a test now, and answers what came of it. */
export async function testChannel(
  id: string,
  who: Principal,
  deps: ChannelDeps,
): Promise<{ readonly delivery: string; readonly came: Came }> {
  mustBeAdmin(who);
  const { store, clock } = deps;
  const channel = await channelOf(id, deps);
  // By chance and not by counting: two people may try it in the same moment, and a number is taken once.
  const episode = Buffer.from(deps.random(4)).readUInt32BE() >>> 1;
  const made = testNotice(channel, episode, deps);
  await store.notices.add(made, actOf(who, clock()), []);
  const delivery = (await store.notices.get(made.id))!;
  // Whoever tries it waits for the answer; it is not the queue's.
  const came = await send(delivery, channel, deps, new AbortController().signal);
  return { delivery: made.id, came };
}

/** Sends again what was delivered or given up. Answers it as it is then. */
export async function resend(id: string, who: Principal, deps: ChannelDeps): Promise<Delivery> {
  mustBeAdmin(who);
  const { store, clock, wake } = deps;
  const delivery = await store.notices.get(id);
  if (delivery === undefined)
    throw new ChannelError('DELIVERY_UNKNOWN', 'there is no such message, or it is no longer kept');
  const channel = await channelOf(delivery.channelId, deps);
  if (channel.state === 'disabled')
    throw new ChannelError('CHANNEL_CONFLICT', `the channel ${channel.name} is switched off: switch it on first`);
  const at = clock();
  await store.notices.resend(id, actOf(who, at), [sendJob(delivery.channelId, at)]);
  wake();
  return (await store.notices.get(id)) ?? delivery;
}

/** What people decide about legal holds: set and released with a reason, each an act in the log (docs/retention.md 4). */
import { z } from 'zod';
import type { Instant } from '#src/clock.ts';
import { BootproofError } from '#src/error.ts';
import { HOLD_GROUPS_MAX, HOLD_HOSTS_MAX, HOLD_REASON_MAX } from '#src/limits.ts';
import { HostId } from '#src/wire/hostid.ts';
import type { Principal } from '#server/access/principal.ts';
import type { Hold } from '#server/store/retentionrecords.ts';
import type { Store } from '#server/store/store.ts';
import { actOf, mustBeEverywhere } from './may.ts';

export class HoldError extends BootproofError<
  | 'HOLD_UNKNOWN'
  /** On nothing, on hosts that are not there, or on a period that ends before it begins. */
  | 'HOLD_INVALID'
  /** Released before. */
  | 'HOLD_OVER'
> {}

// eslint-disable-next-line no-control-regex
const PRINTABLE = /^[^\x00-\x08\x0b-\x1f\x7f]*$/;
export const Reason = z
  .string()
  .trim()
  .min(1)
  .max(HOLD_REASON_MAX)
  .regex(PRINTABLE, 'expected text without control characters')
  .refine((text) => text.isWellFormed(), 'expected whole characters');

/** What a hold is on. */
export const HoldOn = z.discriminatedUnion('on', [
  z.strictObject({ on: z.literal('all') }),
  z.strictObject({
    on: z.literal('part'),
    hosts: z.array(HostId).max(HOLD_HOSTS_MAX).default([]),
    groups: z.array(z.string().min(1).max(200).regex(PRINTABLE)).max(HOLD_GROUPS_MAX).default([]),
  }),
]);
export type HoldOn = z.infer<typeof HoldOn>;

export type HoldWanted = {
  readonly on: HoldOn;
  readonly from: Instant | null;
  readonly to: Instant | null;
  readonly reason: string;
};

export type HoldDeps = { readonly store: Pick<Store, 'holds' | 'hosts'>; readonly clock: () => Instant };

/** From its return on nothing that it is on goes. @throws {HoldError | DecisionError} */
export async function setHold(
  { on, from, to, reason }: HoldWanted,
  who: Principal,
  { store, clock }: HoldDeps,
): Promise<Hold> {
  mustBeEverywhere(who, 'set a legal hold', 'admin');
  if (from !== null && to !== null && to <= from)
    throw new HoldError('HOLD_INVALID', 'the period ends before it begins: nothing would be held');
  if (on.on === 'all') return store.holds.set({ scope: null, from, to, reason }, actOf(who, clock()));
  const hosts = [...new Set(on.hosts)].sort();
  const groups = [...new Set(on.groups)].sort();
  if (hosts.length + groups.length === 0)
    throw new HoldError('HOLD_INVALID', 'name hosts or host groups, or say that it is on everything');
  const known = await store.hosts.getMany(hosts);
  const missing = hosts.find((id) => !known.has(id));
  if (missing !== undefined) throw new HoldError('HOLD_INVALID', `no host ${missing} is or was enrolled here`);
  return store.holds.set({ scope: { hosts, groups }, from, to, reason }, actOf(who, clock()));
}

/** What it was on goes with the next night, where it is past its retention. @throws {HoldError | DecisionError} */
export async function releaseHold(
  id: string,
  reason: string,
  who: Principal,
  { store, clock }: HoldDeps,
): Promise<Hold> {
  mustBeEverywhere(who, 'release a legal hold', 'admin');
  const done = await store.holds.release(id, reason, actOf(who, clock()));
  if (done === undefined) throw new HoldError('HOLD_UNKNOWN', `there is no hold ${id}`);
  if (!done.changed) throw new HoldError('HOLD_OVER', `${id} was released by ${done.hold.released!.by} before`);
  return done.hold;
}

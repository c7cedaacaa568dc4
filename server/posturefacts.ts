/** What was so around a host at a moment (docs/posture.md 4): its name and group, the policy in force, waivers. From acts, which nobody rewrites. */
import type { Instant } from '#src/clock.ts';
import type { Digest } from '#src/digest.ts';
import { ready } from '#src/finding/exempt.ts';
import { covers } from '#src/finding/scope.ts';
import type { Waiver } from '#src/finding/waiver.ts';
import { POSTURE_PAGE } from '#src/limits.ts';
import { targetHost } from './exempt.ts';
import type { Rest, Stated } from './stated.ts';
import { auditRef } from './store/logpayload.ts';
import type { LogPlace } from './store/posturerecords.ts';
import type { AuditEntry, Host, Page } from './store/records.ts';
import type { PageRequest, Store } from './store/store.ts';

export type HostThen = {
  readonly name: string;
  readonly group: string | null;
  readonly labels: Readonly<Record<string, string>>;
  readonly state: 'active' | 'pending' | 'retired';
};

export type PolicyInForce = {
  readonly version: number;
  readonly digest: Digest;
  readonly name: string;
  readonly since: Instant;
};

export type WaiverThen = {
  readonly id: string;
  readonly title: string;
  readonly kind: Waiver['kind'];
  readonly from: Instant;
  /** When it ends as it was known: by its term, or because it was revoked. */
  readonly until: Instant;
  readonly approvedBy: string | null;
  /** Findings of the host that it covered then. */
  readonly covers: number;
  readonly rests: readonly Rest[];
};

type Reads = Pick<Store, 'postures' | 'images' | 'read'>;

const restsOf = (places: ReadonlyMap<string, LogPlace>, acts: readonly (AuditEntry | undefined)[]): Rest[] =>
  acts.flatMap((act) => {
    const place = act && places.get(auditRef(act.id));
    return place === undefined ? [] : [{ kind: 'act', ...place }];
  });

/** Acts that say what a host is called and where it belongs, whole, before and after. */
export const NAMING: readonly string[] = ['host.rename', 'host.group', 'host.labels'];
const STATING: readonly string[] = ['host.enrol', 'host.approve', 'host.retire'];
export type Naming = Pick<HostThen, 'name' | 'group' | 'labels'>;

/** One change of a host is as many acts of one moment, whose ids have no order: what the one leaves, the next one finds. */
const AT_A_MOMENT = 10;
const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);
const ofMoment = (acts: readonly AuditEntry[]) => acts.filter(({ at }) => at === acts[0]!.at);
const lastOf = (acts: readonly AuditEntry[]): AuditEntry | undefined =>
  ofMoment(acts).find((act, _, all) => !all.some((other) => other !== act && same(other.before, act.after))) ?? acts[0];
const firstOf = (acts: readonly AuditEntry[]): AuditEntry | undefined =>
  ofMoment(acts).find((act, _, all) => !all.some((other) => other !== act && same(other.after, act.before))) ?? acts[0];

/** What a host was called just before `to`, as the first change since found it; as it is now where there was none, or its line was purged. */
export async function namingBefore(host: Host, to: Instant, { postures }: Pick<Store, 'postures'>): Promise<Naming> {
  const next = firstOf(await postures.nextActs(`host:${host.id}`, to - 1, NAMING, AT_A_MOMENT));
  return (next?.before as Naming | null | undefined) ?? host;
}

/** The host as people had named and sorted it by then. */
export async function hostThen(host: Host, at: Instant, { postures }: Reads): Promise<Stated<HostThen>> {
  const object = `host:${host.id}`;
  const acts = await postures.acts(object, at, POSTURE_PAGE);
  const named = lastOf(acts.filter(({ action }) => NAMING.includes(action)));
  const stated = acts.find(({ action }) => STATING.includes(action));
  // What was never changed is as it is; what was changed only later is as that act found it.
  const next = named === undefined ? firstOf(await postures.nextActs(object, at, NAMING, AT_A_MOMENT)) : undefined;
  const naming = ((named?.after ?? next?.before) as Naming | undefined) ?? host;
  const enrolled = acts.find(({ action }) => action === 'host.enrol');
  const state = (stated?.after as { readonly state?: HostThen['state'] } | undefined)?.state ?? 'active';
  const said = [named ?? next ?? enrolled, stated];
  const places = await postures.places(said.flatMap((act) => (act === undefined ? [] : [auditRef(act.id)])));
  const { name, group, labels } = naming;
  return { value: { name, group, labels, state }, rests: restsOf(places, [...new Set(said)]) };
}

export async function policyThen(at: Instant, { postures }: Pick<Store, 'postures'>): Promise<Stated<PolicyInForce>> {
  const version = await postures.policyAt(at);
  if (version === undefined)
    return { value: null, why: { code: 'no-policy', text: 'no policy had been applied by then' }, rests: [] };
  const { n, digest, name, createdAt } = version;
  const [act] = await postures.acts(`policy:${n}`, createdAt, 1);
  const places = await postures.places(act === undefined ? [] : [auditRef(act.id)]);
  return { value: { version: n, digest, name, since: createdAt }, rests: restsOf(places, [act]) };
}

/** When a waiver has an effect, by what it says itself: undefined where never. */
export function effectOf({ decision, startsAt, decidedAt, expiresAt, endedAt }: Waiver): Span | undefined {
  const from = startsAt ?? decidedAt;
  if (from === null || (decision !== 'approved' && decision !== 'revoked')) return undefined;
  const until = decision === 'revoked' ? Math.min(expiresAt, endedAt ?? expiresAt) : expiresAt;
  return from < until ? { from, until } : undefined;
}
export type Span = { readonly from: Instant; readonly until: Instant };

/** A waiver as it was known at a moment; undefined where nobody had asked for it. */
export async function waiverAsKnown(
  now: Waiver,
  known: Instant,
  { postures }: Pick<Store, 'postures'>,
): Promise<Waiver | undefined> {
  if (Math.max(now.requestedAt, now.decidedAt ?? 0, now.endedAt ?? 0) <= known) return now;
  const acts = await postures.acts(`waiver:${now.id}`, known, POSTURE_PAGE);
  return acts.find(({ after }) => typeof after === 'object' && after !== null && 'selector' in after)?.after as
    | Waiver
    | undefined;
}

/** Waivers that had an effect in a period, as known at a moment, newest first. */
export async function waiversInEffect(
  period: { readonly from: Instant; readonly to: Instant },
  known: Instant,
  page: PageRequest<{ readonly n: number }>,
  { postures }: Pick<Store, 'postures'>,
): Promise<Page<Waiver, { readonly n: number }>> {
  const found = await postures.waiversIn(period, page);
  const items: Waiver[] = [];
  for (const now of found.items) {
    const waiver = await waiverAsKnown(now, known, { postures });
    const effect = waiver && effectOf(waiver);
    if (effect !== undefined && effect.from < period.to && effect.until > period.from) items.push(waiver!);
  }
  return { items, next: found.next };
}

/** Those that reached the host then. */
export async function waiversThen(
  hostId: string,
  { group, labels }: Pick<HostThen, 'group' | 'labels'>,
  booted: string | null,
  at: Instant,
  known: Instant,
  store: Reads,
): Promise<readonly WaiverThen[]> {
  const target = await targetHost({ id: hostId, group, labels }, booted, store);
  const reaching: Waiver[] = [];
  let cursor: { readonly n: number } | null = null;
  do {
    const page: Page<Waiver, { readonly n: number }> = await waiversInEffect(
      { from: at, to: at + 1 },
      known,
      { cursor, limit: POSTURE_PAGE },
      store,
    );
    reaching.push(...page.items.filter((one) => covers(one.scope, group) && ready(one).matcher.host(target)));
    cursor = page.next;
  } while (cursor !== null);
  const approvals = await Promise.all(
    reaching.map(async ({ id }) =>
      (await store.postures.acts(`waiver:${id}`, at, POSTURE_PAGE)).find(({ action }) =>
        action.startsWith('waiver.approve'),
      ),
    ),
  );
  const places = await store.postures.places(approvals.flatMap((act) => (act === undefined ? [] : [auditRef(act.id)])));
  return reaching.map((waiver, i) => ({
    id: waiver.id,
    title: waiver.title,
    kind: waiver.kind,
    ...effectOf(waiver)!,
    approvedBy: waiver.decidedBy,
    covers: 0,
    rests: restsOf(places, [approvals[i]]),
  }));
}

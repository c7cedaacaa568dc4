/** What people decide about hosts. */
import { EnrolError, openEnrolRequest, type EnrolAnswer, type EnrolBody } from '#src/wire/enrol.ts';
import type { Deps } from '#server/deps.ts';
import type { Enrolments } from '#server/ingest/enrol.ts';
import { rejudge, type RejudgeDeps, type Rejudged } from '#server/ingest/rejudge.ts';
import type { Principal, Role } from '#server/access/principal.ts';
import type { Act, Host, HostChange } from '#server/store/records.ts';
import { actOf, DecisionError, isTheirs, mustBe } from './may.ts';

/** Both reports under one number are known and explained: the finding `identity-forked`, or `cloned`, may go. */
export function acceptFork(hostId: string, by: Act, deps: RejudgeDeps): Promise<Rejudged> {
  return rejudge(
    hostId,
    {
      cause: { kind: 'report', imageChanged: false },
      flags: ({ gap }) => (gap === undefined ? {} : { gap }),
      audit: { by, action: 'host.accept-fork' },
    },
    deps,
  );
}

/**
 * Takes in a host that has no network, from the file of `agent enroll --offline` (docs/report.md 6.8). It proved possession of its key;
 * that it is who it says is for the person who approves it.
 * @throws {EnrolError}
 */
export async function admitHost(
  body: EnrolBody,
  { replace }: { readonly replace: boolean },
  by: Act,
  deps: Deps & { readonly enrolments: Enrolments },
): Promise<
  { readonly host: Host; readonly answer: EnrolAnswer } | { readonly host: Host; readonly replaces: Host | null }
> {
  const { request } = await openEnrolRequest(body, deps.verify);
  if (request.host === null)
    throw new EnrolError('ENROL_SYNTAX', 'this request was made for a server that answers; make one with --offline');
  const outcome = await deps.store.hosts.admit(
    { ...deps.enrolments.newHost(request), hostId: request.host, group: null, labels: {} },
    by,
  );
  if (outcome.kind === 'refused')
    throw new EnrolError('ENROL_KEY', 'this key belongs to a host that was retired; make a new one');
  // Another key speaks for the machine: the host that has it goes with an approval, which is for whoever hands in the file to mean.
  const waits = outcome.host.state === 'pending';
  if (waits && !replace) {
    const holder = outcome.kind === 'pending' ? await deps.store.hosts.get(outcome.heldBy) : undefined;
    return { host: outcome.host, replaces: holder ?? null };
  }
  // For an admin of every host alone.
  if (waits) await deps.store.hosts.approve(outcome.host.id, by, null);
  const host = (await deps.store.hosts.get(outcome.host.id)) ?? outcome.host;
  return { host, answer: await deps.enrolments.answer(request, host) };
}

/**
 * Changes a host, and judges it anew where rules and waivers may be about its group or labels. Answers it as it is then; undefined
 * where there is none.
 */
export async function changeHost(
  id: string,
  change: HostChange,
  by: Act,
  deps: RejudgeDeps & { readonly store: Deps['store'] },
): Promise<Host | undefined> {
  const { hosts } = deps.store;
  const done = await hosts.change(id, change, by);
  if (done === undefined) return undefined;
  if (done.isSorted) await rejudge(id, { cause: { kind: 'policy' } }, deps);
  return hosts.get(id);
}

/** What is done to many hosts at once. */
export type HostAct =
  | { readonly kind: 'group'; readonly group: string | null }
  | { readonly kind: 'label'; readonly labels: Readonly<Record<string, string | null>> }
  | { readonly kind: 'retire' };

/** Sorting hosts is daily work in one's own groups; who belongs to the fleet is for who runs it. */
const MAY: Readonly<
  Record<HostAct['kind'] | 'approve' | 'accept-fork' | 'rename', readonly [what: string, ...roles: Role[]]>
> = {
  group: ['move hosts', 'operator', 'admin'],
  label: ['label hosts', 'operator', 'admin'],
  rename: ['rename hosts', 'operator', 'admin'],
  retire: ['retire hosts', 'admin'],
  approve: ['approve hosts', 'admin'],
  'accept-fork': ['explain what is held against the identity of a host', 'admin'],
};

/** Of these hosts those that the asker may do this to. @throws {DecisionError} FORBIDDEN where they may do it to none at all. */
export async function hostsFor(
  kind: keyof typeof MAY,
  ids: readonly string[],
  who: Principal,
  { store }: Pick<Deps, 'store'>,
): Promise<readonly Host[]> {
  const held = mustBe(who, ...MAY[kind]);
  const known = await store.hosts.getMany(ids);
  return ids.flatMap((id) => {
    const host = known.get(id);
    return host !== undefined && isTheirs(held, host.group) ? [host] : [];
  });
}

/** One host that the asker may do this to. @throws {DecisionError} */
export async function hostFor(
  kind: keyof typeof MAY,
  id: string,
  who: Principal,
  deps: Pick<Deps, 'store'>,
): Promise<Host> {
  const [host] = await hostsFor(kind, [id], who, deps);
  if (host === undefined)
    throw new DecisionError('FINDING_UNKNOWN', 'there is no such host, or it is not yours to change');
  return host;
}

/**
 * Lets a host in that waited, and retires whoever held its machine's identity: also that one must be the asker's to retire. False where it
 * waits for nothing. @throws {DecisionError}
 */
export async function approveHost(id: string, who: Principal, deps: Pick<Deps, 'store' | 'clock'>): Promise<boolean> {
  const host = await hostFor('approve', id, who, deps);
  const { groups } = mustBe(who, ...MAY.retire);
  const done = await deps.store.hosts.approve(host.id, actOf(who, deps.clock()), groups);
  if (done === 'beyond') throw beyond();
  return done;
}

const beyond = (): DecisionError =>
  new DecisionError(
    'FORBIDDEN',
    'its machine id belongs to a host that is not of your groups, and approving would retire that one: it is for an admin of both',
  );

/**
 * Does one thing to many hosts, each in a transaction of its own, and answers to how many it made a difference. A host that is moved must
 * stay the asker's: who may not see the group that it would go to cannot send it there.
 * @throws {DecisionError}
 */
export async function actOnHosts(
  ids: readonly string[],
  act: HostAct,
  who: Principal,
  deps: RejudgeDeps & Pick<Deps, 'store'>,
): Promise<number> {
  const hosts = await hostsFor(act.kind, ids, who, deps);
  if (act.kind === 'group' && !isTheirs(mustBe(who, ...MAY.group), act.group))
    throw new DecisionError('FORBIDDEN', 'this group is not yours, so hosts cannot be moved there by you');
  const by = actOf(who, deps.clock());
  let done = 0;
  for (const host of hosts) {
    if (act.kind === 'retire') {
      if (await deps.store.hosts.retire(host.id, by)) done++;
      continue;
    }
    const change = act.kind === 'group' ? { group: act.group } : { labels: act.labels };
    if ((await changeHost(host.id, change, by, deps)) !== undefined) done++;
  }
  return done;
}

/**
 * Waivers as people make and decide them (docs/findings.md, section 3). An approval takes effect in the same breath: the hosts that it
 * reaches are held against it before the answer, and a job, enqueued with the approval itself, makes sure of the rest.
 */
import type { Instant } from '#src/clock.ts';
import { intersection, lies } from '#src/finding/scope.ts';
import {
  actOn,
  stateOf,
  UNDECIDED,
  WaiverError,
  type Waiver,
  type WaiverAct,
  type WaiverTerms,
} from '#src/finding/waiver.ts';
import { acting, type Principal, type Role } from '#server/access/principal.ts';
import type { NewJob } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';
import { actOf, DecisionError, mustBe, mustBeEverywhere } from './may.ts';
import { isOnePerson } from './oneperson.ts';
import { restandAll, type RestandDeps } from './restand.ts';
import { readWaiver } from './waiverreads.ts';
import { matching, termsOf, type WaiverDraft } from './waiverterms.ts';

export type WaiverDeps = RestandDeps & { readonly wake: () => void };

/** Holds the hosts that a waiver reaches, or reached, against what is so now; payload `{waiver}`. */
export const WAIVER_JOB = 'waiver';

function waiverJob(id: string, moment: string, runAt: Instant): NewJob {
  return { kind: WAIVER_JOB, dedupeKey: `${WAIVER_JOB}:${id}:${moment}`, runAt, payload: { waiver: id } };
}

const SINGLE_PERSON = 'waivers-single-person';

/** Whether one person may ask for and approve the same waiver. A setting that is shown wherever it had an effect. */
export async function isSinglePerson(store: Pick<Store, 'settings'>): Promise<boolean> {
  const value = await store.settings.get(SINGLE_PERSON);
  return value !== undefined && new TextDecoder().decode(value) === 'on';
}

export async function setSinglePerson(
  on: boolean,
  who: Principal,
  { store, clock }: Pick<WaiverDeps, 'store' | 'clock'>,
): Promise<void> {
  mustBeEverywhere(who, 'change how waivers are decided', 'admin');
  const before = (await store.settings.get(SINGLE_PERSON)) ?? null;
  const was = before !== null && new TextDecoder().decode(before) === 'on';
  if (was === on) return;
  if (!(await store.settings.swap(SINGLE_PERSON, before, new TextEncoder().encode(on ? 'on' : 'off'))))
    throw new DecisionError('STALE_DECISION', 'somebody else changed this setting at the same moment; look again');
  await store.audit.append(actOf(who, clock()), {
    action: 'setting.change',
    object: `setting:${SINGLE_PERSON}`,
    before: was,
    after: on,
  });
}

/** Asks for a waiver. It has no effect until another person approves it. @throws {WaiverError | DecisionError} */
export async function requestWaiver(draft: WaiverDraft, who: Principal, deps: WaiverDeps): Promise<Waiver> {
  const { terms, scope } = await termsOf(draft, who, deps);
  const now = deps.clock();
  return deps.store.waivers.create(
    {
      ...terms,
      decision: 'requested',
      requestedBy: who.id,
      requestedAt: now,
      ...UNDECIDED,
      // It never reaches further than whoever asked for it.
      scope,
    },
    actOf(who, now),
  );
}

/** @throws {DecisionError} WAIVER_UNKNOWN */
export async function waiverOf(id: string, store: Pick<Store, 'waivers'>): Promise<Waiver> {
  const waiver = await store.waivers.get(id);
  if (waiver === undefined) throw new DecisionError('WAIVER_UNKNOWN', `there is no waiver ${id}`);
  return waiver;
}

/** The whole of one that they may read. @throws {DecisionError} WAIVER_UNKNOWN */
async function theirWaiver(id: string, who: Principal, { store }: Pick<WaiverDeps, 'store'>): Promise<Waiver> {
  await readWaiver(id, who, { store });
  return waiverOf(id, store);
}

/** What whoever decided read, and vouches for since. */
const DECIDED_WORDS = ['kind', 'justification', 'compensating'] as const;

/** Once somebody decided, its title and ticket alone: what it covers, for how long, and why is what was decided on. */
export type WaiverChange = Partial<Pick<WaiverTerms, 'kind' | 'title' | 'justification' | 'compensating' | 'ticket'>> &
  Partial<Pick<WaiverDraft, 'selector' | 'ceiling' | 'startsAt' | 'expiresAt'>>;

/** Changes what is given and nothing else. `revision` is the waiver's as it was read. @throws {WaiverError | DecisionError} */
export async function changeWaiver(
  id: string,
  revision: number,
  change: WaiverChange,
  who: Principal,
  deps: WaiverDeps,
): Promise<Waiver> {
  mustBe(who, 'change waivers', 'operator', 'reviewer', 'admin');
  const before = await theirWaiver(id, who, deps);
  expectRevision(before, revision);
  const { selector, ceiling, startsAt, expiresAt, ...words } = change;
  const terms = { selector, ceiling, startsAt, expiresAt };
  const touched = Object.values(terms).some((value) => value !== undefined);
  const state = stateOf(before, deps.clock());
  if (state !== 'requested') {
    const reworded = DECIDED_WORDS.filter((name) => change[name] !== undefined && change[name] !== before[name]);
    if (touched || reworded.length > 0)
      throw new WaiverError(
        'WAIVER_STATE',
        `${id} is ${state}: ${touched ? 'what it covers' : reworded.join(' and ')} was decided on and stays as it is; extend it, revoke it, or ask for another`,
      );
  }
  if (before.requestedBy !== who.id) {
    const may = acting(who, 'reviewer', 'admin');
    if (may === undefined)
      throw new DecisionError(
        'FORBIDDEN',
        `${before.requestedBy} asked for it; reviewers may change its words as well`,
      );
    mustHoldAll(before, may);
  }
  if (touched && before.requestedBy !== who.id)
    throw new DecisionError('FORBIDDEN', `what ${id} covers is for ${before.requestedBy} to change, who asked for it`);
  const given = Object.fromEntries(Object.entries(words).filter(([, value]) => value !== undefined)) as typeof words;
  let next: Waiver = { ...before, ...given, revision: before.revision + 1 };
  if (touched) {
    const asked = await termsOf(
      {
        ...next,
        selector: selector ?? before.selector,
        ceiling: ceiling === undefined ? (selector === undefined ? before.ceiling : null) : ceiling,
        startsAt: startsAt === undefined ? before.startsAt : startsAt,
        expiresAt: expiresAt ?? before.expiresAt,
      },
      who,
      deps,
    );
    next = { ...next, ...asked.terms, scope: intersection(before.scope, asked.scope) };
  }
  await put(next, { action: 'waiver.change', note: null }, who, [], deps);
  return next;
}

/** @throws {DecisionError} FORBIDDEN where it reaches hosts that are not theirs. */
function mustHoldAll({ id, scope }: Waiver, { groups }: Pick<Principal, 'groups'>): void {
  if (lies(scope, groups)) return;
  throw new DecisionError(
    'FORBIDDEN',
    `${id} reaches hosts beyond your groups: it is for somebody whose groups hold all`,
  );
}

function expectRevision(waiver: Waiver, revision: number): void {
  if (waiver.revision === revision) return;
  throw new DecisionError(
    'STALE_DECISION',
    `${waiver.id} was changed meanwhile (it is at revision ${waiver.revision}, you read ${revision}); look again and decide on that`,
    { revision: waiver.revision },
  );
}

async function put(
  next: Waiver,
  { action, note }: { readonly action: string; readonly note: string | null },
  who: Principal,
  jobs: readonly NewJob[],
  { store, clock }: WaiverDeps,
): Promise<void> {
  if (!(await store.waivers.put(next, actOf(who, clock(), note), action, jobs)))
    throw new DecisionError(
      'STALE_DECISION',
      `${next.id} was changed at the same moment; look again and decide on that`,
    );
}

/** A waiver after an act, with on how many hosts it covers something by now, or did until it was revoked. */
export type Acted = {
  readonly waiver: Waiver;
  readonly hosts: number;
  /** More hosts than one answer waits for: a job is at them. */
  readonly pending: boolean;
};

/**
 * Approves, rejects, withdraws, revokes, or asks for an extension. What has an effect has it when this resolves, on as many hosts as
 * can be waited for, and on the rest by the job that was enqueued with the decision.
 * @throws {WaiverError | DecisionError}
 */
export async function decideWaiver(
  id: string,
  revision: number,
  act: Act,
  who: Principal,
  deps: WaiverDeps,
): Promise<Acted> {
  const singlePerson = await isSinglePerson(deps.store);
  const may = mustBe(who, `${act.kind} waivers`, ...rolesFor(act.kind, singlePerson));
  const before = await theirWaiver(id, who, deps);
  expectRevision(before, revision);
  // An approval reaches as far as they do; what is asked for or in effect elsewhere is not theirs to end or to prolong.
  const isApproval = act.kind === 'approve' && before.extension === null;
  if (act.kind !== 'withdraw' && !isApproval) mustHoldAll(before, may);
  const now = deps.clock();
  const asker = before.extension?.requestedBy ?? before.requestedBy;
  const actor = {
    id: who.id,
    decides: act.kind !== 'extend' && act.kind !== 'withdraw',
    groups: may.groups,
    also: act.kind === 'approve' && (await isOnePerson(asker, who.id, deps.store)) ? [asker] : [],
  };
  const whole: WaiverAct = act.kind === 'approve' ? { ...act, singlePerson } : act;
  const next = actOn(before, whole, actor, now);
  const begins = next.startsAt ?? now;
  const effect = act.kind === 'approve' || act.kind === 'revoke';
  const jobs = effect ? [waiverJob(id, 'now', now), ...(begins > now ? [waiverJob(id, 'begin', begins)] : [])] : [];
  const verb =
    next.decision === before.decision && before.extension !== null && act.kind !== 'revoke'
      ? `${act.kind}-extension`
      : act.kind;
  const covered = await coveredBy(id, deps.store);
  await put(next, { action: `waiver.${verb}`, note: 'note' in act ? act.note : act.reason }, who, jobs, deps);
  if (!effect) return { waiver: next, hosts: 0, pending: false };
  const { pending } = await followWaiver(id, deps, HOSTS_AT_ONCE);
  deps.wake();
  return { waiver: next, hosts: act.kind === 'revoke' ? covered : await coveredBy(id, deps.store), pending };
}

/** Administering is not reviewing: only where one person is all there is, admins decide as well. */
function rolesFor(act: WaiverAct['kind'], singlePerson: boolean): readonly Role[] {
  if (act === 'extend' || act === 'withdraw') return ['operator', 'reviewer', 'admin'];
  if (act === 'revoke') return ['reviewer', 'admin'];
  return singlePerson ? ['reviewer', 'admin'] : ['reviewer'];
}

async function coveredBy(id: string, store: Pick<Store, 'waivers'>): Promise<number> {
  return (await store.waivers.use([id], null)).get(id)?.hosts ?? 0;
}
export type Act = Exclude<WaiverAct, { kind: 'approve' }> | { readonly kind: 'approve'; readonly note: string | null };

/** Hosts that a person waits for: some seconds at most. */
const HOSTS_AT_ONCE = 2000;
const PAGE = 200;

/** Holds every host that the waiver covers something on, or could, against what is so now. At most `limit` hosts. */
export async function followWaiver(
  id: string,
  deps: RestandDeps,
  limit = Infinity,
  signal?: AbortSignal,
): Promise<{ readonly changed: number; readonly pending: boolean }> {
  const waiver = await waiverOf(id, deps.store);
  let changed = 0;
  let seen = 0;
  for await (const hosts of hostsAbout(waiver, deps.store)) {
    if (seen >= limit || signal?.aborted === true) return { changed, pending: true };
    seen += hosts.length;
    const done = await restandAll(hosts, deps, signal);
    changed += done.changed;
    if (done.busy.length > 0) return { changed, pending: true };
  }
  return { changed, pending: false };
}

/** Hosts with something that it covers, then those where something matches: by groups, since the same finding is one group. */
export async function* hostsAbout(waiver: Waiver, store: Store): AsyncGenerator<readonly string[]> {
  let cursor: { readonly id: string } | null = null;
  do {
    const page: Awaited<ReturnType<typeof store.waivers.hosts>> = await store.waivers.hosts(waiver.id, {
      cursor,
      limit: PAGE,
    });
    if (page.items.length > 0) yield page.items;
    cursor = page.next;
  } while (cursor !== null);
  const groups = (await matching(waiver.selector, store)).map((group) => group.id);
  if (groups.length === 0) return;
  do {
    const page: Awaited<ReturnType<typeof store.findings.hostsOf>> = await store.findings.hostsOf(groups, {
      cursor,
      limit: PAGE,
    });
    if (page.items.length > 0) yield page.items;
    cursor = page.next;
  } while (cursor !== null);
}

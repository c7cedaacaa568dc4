/**
 * Waivers as people make and decide them (docs/findings.md, section 3). An approval takes effect in the same breath: the hosts that it
 * reaches are held against it before the answer, and a job, enqueued with the approval itself, makes sure of the rest.
 */
import { formatInstant, type Instant } from '#src/clock.ts';
import { compileSelector, coversFinding, reachesHost, ready, type Ready } from '#src/finding/exempt.ts';
import type { FindingFacts } from '#src/finding/verdict.ts';
import {
  actOn,
  checkLife,
  higher,
  stateOf,
  UNDECIDED,
  WaiverError,
  type Pin,
  type Selector,
  type Waiver,
  type WaiverAct,
  type WaiverTerms,
} from '#src/finding/waiver.ts';
import { WAIVER_PINS_MAX } from '#src/limits.ts';
import { SEVERITIES, type JudgementKind, type Severity } from '#src/policy/judgement.ts';
import { lies } from '#src/finding/scope.ts';
import { hasRole, type Principal, type Role } from '#server/access/principal.ts';
import { decideOn, standingOf, targetHost } from '#server/exempt.ts';
import { standingAgain } from '#server/standing.ts';
import type { FindingGroup, NewJob } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';
import { actOf, DecisionError, mustBe, mustBeEverywhere } from './may.ts';
import { restandAll, type RestandDeps } from './restand.ts';

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

/** What a person asks for. Content is pinned to what is seen now unless they say otherwise. */
export type WaiverDraft = Omit<WaiverTerms, 'selector' | 'ceiling'> & {
  readonly selector: Omit<Selector, 'content'> & { readonly content: 'pinned' | Selector['content'] };
  /** Null: the highest of what it matches now. */
  readonly ceiling: Severity | null;
};

/** The draft with its content pinned and its ceiling found. @throws {WaiverError | DecisionError} */
export async function termsOf(
  draft: WaiverDraft,
  who: Principal,
  deps: Pick<WaiverDeps, 'store' | 'clock'>,
): Promise<WaiverTerms> {
  const { content, ...where } = draft.selector;
  if (content === 'any') mustBe(who, 'ask for a waiver of any content', 'reviewer', 'admin');
  const selector: Selector = { ...where, content: content === 'pinned' ? 'any' : content };
  // What is pinned narrows it, whatever else does not.
  if (content !== 'pinned') compileSelector(selector);
  const groups = await matching(selector, deps.store, content === 'pinned');
  const pinned: Selector = content === 'pinned' ? { ...where, content: { pins: pinsOf(groups) } } : selector;
  compileSelector(pinned);
  const found = groups.reduce<Severity | null>((most, { severity }) => {
    const word = SEVERITIES[severity];
    return most === null ? word : higher(most, word);
  }, null);
  const terms: WaiverTerms = { ...draft, selector: pinned, ceiling: draft.ceiling ?? found ?? 'medium' };
  checkLife(terms, deps.clock());
  return terms;
}

function pinsOf(groups: readonly FindingGroup[]): Pin[] {
  if (groups.length === 0)
    throw new DecisionError(
      'WAIVER_EMPTY',
      'nothing that is present matches, so there is no content to pin; check rule and path, name a digest, or say content: any',
    );
  const pins = new Map(
    groups.map(({ subject, signature }) => [
      `${subject}\n${String(signature)}`,
      { subject, signature: String(signature) },
    ]),
  );
  if (pins.size > WAIVER_PINS_MAX)
    throw new WaiverError(
      'WAIVER_SELECTOR',
      `it matches ${pins.size} different contents, and pins hold ${WAIVER_PINS_MAX}: narrow it, or ask a reviewer for any content`,
    );
  return [...pins.values()];
}

/** Present groups that a selector covers, hosts aside. */
async function matching(selector: Selector, store: Store, pinning = false): Promise<FindingGroup[]> {
  const narrowed = pinning && selector.rules === undefined && selector.subject === undefined;
  if (narrowed)
    throw new WaiverError('WAIVER_SELECTOR', 'name rules or a subject: what is pinned is what those match now');
  const { finding } = compileSelector(selector);
  const out: FindingGroup[] = [];
  let cursor: { readonly id: string } | null = null;
  do {
    const page: Awaited<ReturnType<typeof store.findings.presentGroups>> = await store.findings.presentGroups({
      cursor,
      limit: 200,
    });
    out.push(...page.items.filter((group) => finding(targetOf(group))));
    cursor = page.next;
  } while (cursor !== null);
  return out;
}

function targetOf({ rule, kind, subject, signature, severity }: FindingGroup) {
  return {
    rule,
    kind: kind as JudgementKind,
    subject,
    signature: String(signature),
    severity: SEVERITIES[severity],
  };
}

/** Asks for a waiver. It has no effect until another person approves it. @throws {WaiverError | DecisionError} */
export async function requestWaiver(draft: WaiverDraft, who: Principal, deps: WaiverDeps): Promise<Waiver> {
  const may = mustBe(who, 'ask for waivers', 'operator', 'reviewer', 'admin');
  const terms = await termsOf(draft, who, deps);
  const now = deps.clock();
  return deps.store.waivers.create(
    {
      ...terms,
      decision: 'requested',
      requestedBy: who.id,
      requestedAt: now,
      ...UNDECIDED,
      // It never reaches further than whoever asked for it.
      scope: may.groups,
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

/** What may be changed without being decided again: words. What it covers, and for how long, only while nobody has decided. */
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
  const before = await waiverOf(id, deps.store);
  expectRevision(before, revision);
  const { selector, ceiling, startsAt, expiresAt, ...words } = change;
  const terms = { selector, ceiling, startsAt, expiresAt };
  const touched = Object.values(terms).some((value) => value !== undefined);
  const state = stateOf(before, deps.clock());
  if (touched && state !== 'requested')
    throw new WaiverError(
      'WAIVER_STATE',
      `${id} is ${state}: what it covers was decided on and stays as it is; extend it, revoke it, or ask for another`,
    );
  if (before.requestedBy !== who.id && !hasRole(who, 'reviewer', 'admin'))
    throw new DecisionError('FORBIDDEN', `${before.requestedBy} asked for it; reviewers may change its words as well`);
  if (touched && before.requestedBy !== who.id)
    throw new DecisionError('FORBIDDEN', `what ${id} covers is for ${before.requestedBy} to change, who asked for it`);
  const given = Object.fromEntries(Object.entries(words).filter(([, value]) => value !== undefined)) as typeof words;
  const next: Waiver = touched
    ? {
        ...before,
        ...given,
        ...(await termsOf(
          {
            ...before,
            ...given,
            selector: selector ?? before.selector,
            ceiling: ceiling === undefined ? (selector === undefined ? before.ceiling : null) : ceiling,
            startsAt: startsAt === undefined ? before.startsAt : startsAt,
            expiresAt: expiresAt ?? before.expiresAt,
          },
          who,
          deps,
        )),
        revision: before.revision + 1,
      }
    : { ...before, ...given, revision: before.revision + 1 };
  await put(next, { action: 'waiver.change', note: null }, who, [], deps);
  return next;
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
  const before = await waiverOf(id, deps.store);
  expectRevision(before, revision);
  // What is in effect where they may not decide is not theirs to end or to prolong; an approval reaches as far as they do.
  if ((act.kind === 'revoke' || act.kind === 'extend') && !lies(before.scope, may.groups))
    throw new DecisionError(
      'FORBIDDEN',
      `${id} reaches hosts beyond your groups: it is for somebody whose groups hold all`,
    );
  const now = deps.clock();
  const actor = { id: who.id, decides: act.kind !== 'extend' && act.kind !== 'withdraw', groups: may.groups };
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
  return (await store.waivers.use([id])).get(id)?.hosts ?? 0;
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
async function* hostsAbout(waiver: Waiver, store: Store): AsyncGenerator<readonly string[]> {
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

/** What a waiver would do, before it is asked for or decided. */
export type Preview = {
  readonly findings: number;
  readonly hosts: number;
  readonly groups: number;
  /** Hosts whose verdict would become compliant. */
  readonly compliant: number;
  /** False: it reaches more hosts than a preview looks at, and the numbers are those of the first ones. */
  readonly complete: boolean;
  readonly ceiling: Severity;
  readonly warnings: readonly {
    readonly code: 'MANY_HOSTS' | 'CRITICAL' | 'ANY_CONTENT' | 'NOTHING';
    readonly text: string;
  }[];
  /** In one sentence. */
  readonly text: string;
};

/** Hosts that a preview looks at. */
const PREVIEW_HOSTS_MAX = 2000;
/** From this part of the fleet on, an exception is rather a rule. */
const MANY = 0.1;

export async function previewWaiver(
  terms: WaiverTerms,
  who: Pick<Principal, 'groups'>,
  deps: WaiverDeps,
): Promise<Preview> {
  const { store } = deps;
  const now = deps.clock();
  const begun: Waiver = asApproved(terms, who, now);
  const candidate = ready(begun);
  const groups = await matching(terms.selector, store);
  const counts = { findings: 0, hosts: 0, compliant: 0 };
  const touched = new Set<string>();
  let complete = true;
  let looked = 0;
  for await (const ids of hostsAbout(begun, store)) {
    for (const id of ids) {
      if (looked >= PREVIEW_HOSTS_MAX) {
        complete = false;
        break;
      }
      looked++;
      await lookAt(id, candidate, counts, touched, deps);
    }
    if (!complete) break;
  }
  const fleet = await store.read.countHosts({ now }, 1_000_000);
  return {
    ...counts,
    groups: touched.size,
    complete,
    ceiling: terms.ceiling,
    warnings: warningsOf(
      terms,
      counts,
      fleet.count,
      groups.some(({ id, severity }) => touched.has(id) && severity === 4),
    ),
    text: previewText({ ...counts, groups: touched.size, complete }),
  };
}

function asApproved(terms: WaiverTerms, { groups }: Pick<Principal, 'groups'>, now: Instant): Waiver {
  return {
    ...terms,
    id: 'W-0',
    revision: 0,
    // As if it had begun: what it will do, not what it does before its day.
    startsAt: now,
    decision: 'approved',
    requestedBy: '',
    requestedAt: now,
    ...UNDECIDED,
    decidedAt: now,
    scope: groups,
  };
}

async function lookAt(
  id: string,
  candidate: Ready,
  counts: { findings: number; hosts: number; compliant: number },
  touched: Set<string>,
  { store, waivers }: WaiverDeps,
): Promise<void> {
  const host = await store.hosts.get(id);
  if (host === undefined || host.state === 'retired') return;
  const reaching = await waivers.reaching(host, host.images.booted);
  const target = await targetHost(host, host.images.booted, store);
  if (!reachesHost(candidate, target, reaching.now)) return;
  const standing = (await store.findings.present(id)).map(standingOf);
  const before = await decideOn(standing, reaching);
  const newly = standing.filter(({ facts }, at) => !before.findings[at]!.waived && coversFinding(candidate, facts));
  if (newly.length === 0) return;
  counts.findings += newly.length;
  counts.hosts++;
  for (const { groupId } of newly) touched.add(groupId);
  const after = await decideOn(standing, { ...reaching, waivers: [...reaching.waivers, candidate] });
  const verdict = (findings: readonly FindingFacts[]) =>
    standingAgain(host, { findings, validUntil: null, at: reaching.now })?.verdict;
  if (verdict(before.findings) !== 'compliant' && verdict(after.findings) === 'compliant') counts.compliant++;
}

const many = (n: number, what: string): string => `${n.toLocaleString('en')} ${what}${n === 1 ? '' : 's'}`;

function previewText({
  findings,
  hosts,
  groups,
  compliant,
  complete,
}: Pick<Preview, 'findings' | 'hosts' | 'groups' | 'compliant' | 'complete'>): string {
  if (findings === 0) return 'matches no open finding';
  const least = complete ? '' : 'at least ';
  return `matches ${least}${many(findings, 'open finding')} on ${many(hosts, 'host')}, ${many(groups, 'group')}; would change ${least}${many(compliant, 'host')} to compliant`;
}

function warningsOf(
  terms: WaiverTerms,
  { hosts, findings }: { hosts: number; findings: number },
  fleet: number,
  critical: boolean,
): Preview['warnings'] {
  const out: { code: 'MANY_HOSTS' | 'CRITICAL' | 'ANY_CONTENT' | 'NOTHING'; text: string }[] = [];
  if (hosts > 0 && fleet > 0 && hosts > fleet * MANY)
    out.push({
      code: 'MANY_HOSTS',
      text: `it covers ${Math.round((hosts / fleet) * 100)} % of all hosts: what is so everywhere belongs into the policy`,
    });
  if (critical || terms.ceiling === 'critical')
    out.push({ code: 'CRITICAL', text: 'it covers critical findings: 30 days at most' });
  if (terms.selector.content === 'any')
    out.push({ code: 'ANY_CONTENT', text: 'any content is covered, also content that nobody has seen yet' });
  if (findings === 0) out.push({ code: 'NOTHING', text: 'nothing that is open matches now' });
  return out;
}

/** How a waiver is kept in order: what nobody needs, what two cover, what ends soon. */
export type Hygiene = {
  readonly unused: readonly { readonly waiver: Waiver; readonly since: Instant }[];
  readonly expiring: readonly Waiver[];
  readonly overlaps: readonly { readonly a: string; readonly b: string; readonly groups: number }[];
};

const UNUSED_MS = 30 * 86_400_000;
export const EXPIRING_MS = 14 * 86_400_000;

export async function hygieneOf({ store, clock }: Pick<WaiverDeps, 'store' | 'clock'>): Promise<Hygiene> {
  const now = clock();
  const active = (await store.waivers.effective(now)).waivers.filter((waiver) => stateOf(waiver, now) === 'active');
  const use = await store.waivers.use(active.map(({ id }) => id));
  const unused = active.flatMap((waiver) => {
    const { findings, lastEnded } = use.get(waiver.id)!;
    const since = Math.max(lastEnded ?? 0, waiver.startsAt ?? waiver.decidedAt ?? 0);
    return findings === 0 && now - since >= UNUSED_MS ? [{ waiver, since }] : [];
  });
  return {
    unused,
    expiring: active.filter(({ expiresAt }) => expiresAt - now <= EXPIRING_MS),
    overlaps: await overlapsOf(active.map(ready), store),
  };
}

/** Two waivers overlap where the same present group is covered by both; which hosts is theirs to look at. */
async function overlapsOf(active: readonly Ready[], store: Store): Promise<Hygiene['overlaps']> {
  const pairs = new Map<string, { a: string; b: string; groups: number }>();
  let cursor: { readonly id: string } | null = null;
  do {
    const page: Awaited<ReturnType<typeof store.findings.presentGroups>> = await store.findings.presentGroups({
      cursor,
      limit: 200,
    });
    for (const group of page.items) {
      const both = active.filter((one) => coversFinding(one, targetOf(group))).map(({ waiver }) => waiver.id);
      for (const [i, a] of both.entries())
        for (const b of both.slice(i + 1)) {
          const pair = pairs.get(`${a} ${b}`) ?? { a, b, groups: 0 };
          pair.groups++;
          pairs.set(`${a} ${b}`, pair);
        }
    }
    cursor = page.next;
  } while (cursor !== null);
  return [...pairs.values()];
}

/** For people: until when, in words that need no reckoning. */
export function untilText({ expiresAt }: Pick<Waiver, 'expiresAt'>): string {
  return formatInstant(expiresAt).slice(0, 10);
}

/**
 * What people decide about findings themselves: acknowledge, take that back, assign, comment. Nobody resolves one: only a report does
 * (docs/findings.md, section 1).
 */
import type { Instant } from '#src/clock.ts';
import type { FilterLine } from '#src/finding/filter.ts';
import { covers, intersection, lies, type Scope } from '#src/finding/scope.ts';
import { ACKNOWLEDGE_MS_MAX, BULK_CHUNK } from '#src/limits.ts';
import type { Principal } from '#server/access/principal.ts';
import type { Deps } from '#server/deps.ts';
import type { Ack, AuditEntry, Disposal, FindingGroup, GroupAck, Page } from '#server/store/records.ts';
import type { AuditCursor, Disposed } from '#server/store/store.ts';
import { readableWaivers, waiverStory } from './waiverreads.ts';
import { actOf, DecisionError, isTheirs, mustBe } from './may.ts';

export type FindingDeps = Pick<Deps, 'store' | 'clock'>;

/** One finding of a host, or a group on every host where it is present. */
export type About = { readonly groupId: string; readonly hostId?: string };

/** What became of an act on findings. */
export type Outcome = {
  readonly changed: number;
  readonly skipped: readonly { readonly reason: Disposed['result']; readonly count: number }[];
};

/** Without a date an acknowledgement holds for a week: long enough to get to it, short enough not to be forgotten. */
export const ACKNOWLEDGE_MS = 7 * 86_400_000;

/** @throws {DecisionError} UNTIL_INVALID */
export function ackUntil(until: Instant | null, now: Instant): Instant {
  const end = until ?? now + ACKNOWLEDGE_MS;
  if (end <= now) throw new DecisionError('UNTIL_INVALID', 'the day until which it is acknowledged lies in the past');
  if (end > now + ACKNOWLEDGE_MS_MAX)
    throw new DecisionError(
      'UNTIL_INVALID',
      'an acknowledgement holds for 30 days at most; what should stay longer is a waiver, which another person approves',
    );
  return end;
}

/**
 * The finding leaves the queue until then; it weighs as before. A group does so wherever it is present, and wherever it shows for the
 * first time until then, as long as it is open somewhere. @throws {DecisionError}
 */
export async function acknowledge(
  about: About,
  { until, note }: { readonly until: Instant | null; readonly note: string | null },
  who: Principal,
  deps: FindingDeps,
): Promise<Outcome> {
  const may = mustBe(who, 'acknowledge findings', 'operator', 'reviewer', 'admin');
  const now = deps.clock();
  const ack: Ack = { by: who.id, at: now, until: ackUntil(until, now), note };
  const trail = { verb: 'acknowledge', note, after: { until: ack.until } };
  if (about.hostId !== undefined) return onHost(about.groupId, about.hostId, acknowledging(ack), trail, may, deps);
  const group = await groupOf(about.groupId, may, deps);
  // Before those that stand are looked at: a host that shows it meanwhile comes under the one or the other.
  await deps.store.findings.acknowledgeGroup(group.id, { ...ack, scope: may.groups }, actOf(who, now, note), {
    action: 'group.acknowledge',
    object: `group:${group.id}`,
    before: null,
    after: { until: ack.until, hosts: group.hosts.open + group.hosts.acknowledged, later: true, scope: may.groups },
  });
  return onGroup(group.id, acknowledging(ack), may, deps);
}

export const acknowledging =
  (ack: Ack) =>
  (groupId: string): Disposal => ({
    groupId,
    from: ['none', 'acknowledged'],
    to: { kind: 'acknowledged', ack },
  });

/** @throws {DecisionError} */
export async function unacknowledge(
  about: About,
  note: string | null,
  who: Principal,
  deps: FindingDeps,
): Promise<Outcome> {
  const may = mustBe(who, 'take back acknowledgements', 'operator', 'reviewer', 'admin');
  const now = deps.clock();
  const trail = { verb: 'unacknowledge', note, after: null };
  if (about.hostId !== undefined) return onHost(about.groupId, about.hostId, withdrawing(who, now), trail, may, deps);
  const group = await groupOf(about.groupId, may, deps);
  const entry = {
    action: 'group.unacknowledge',
    object: `group:${group.id}`,
    before: null,
    after: { hosts: group.hosts.acknowledged, scope: may.groups },
  };
  const by = actOf(who, now, note);
  const stood = await deps.store.findings.unacknowledgeGroup(group.id, may.groups, by, entry);
  return onGroup(group.id, withdrawing(who, now), may, deps, stood ? null : entry);
}

export const withdrawing =
  ({ id }: Pick<Principal, 'id'>, at: Instant) =>
  (groupId: string): Disposal => ({
    groupId,
    from: ['acknowledged'],
    to: { kind: 'none', why: { how: 'acknowledgement_withdrawn', what: id, at } },
  });

type Trail = { readonly verb: string; readonly note: string | null; readonly after: object | null };

async function onHost(
  groupId: string,
  hostId: string,
  disposal: (groupId: string) => Disposal,
  { verb, note, after }: Trail,
  who: Principal,
  { store, clock }: FindingDeps,
): Promise<Outcome> {
  const host = await store.hosts.get(hostId);
  const finding = host && (await store.findings.get(hostId, groupId));
  if (host === undefined || finding === undefined || !isTheirs(who, host.group))
    throw new DecisionError('FINDING_UNKNOWN', 'this host has no such finding');
  const before = { disposition: finding.disposition, ack: finding.ack };
  const entry = { action: `finding.${verb}`, object: `finding:${hostId}/${groupId}`, before, after };
  const wanted = [{ hostId, disposal: disposal(groupId) }];
  return tally(await store.findings.dispose(wanted, actOf(who, clock(), note), entry));
}

/** Wherever it is present. `entry`: for the trail, once, if anything changes; null where it stands there already. */
async function onGroup(
  groupId: string,
  disposal: (groupId: string) => Disposal,
  who: Principal,
  deps: FindingDeps,
  entry: Parameters<FindingDeps['store']['findings']['dispose']>[2] = null,
): Promise<Outcome> {
  const by = actOf(who, deps.clock());
  const all: Disposed[] = [];
  let left = entry;
  for await (const hostIds of hostsOfGroup(groupId, who, deps)) {
    const wanted = hostIds.map((id) => ({ hostId: id, disposal: disposal(groupId) }));
    const done = await deps.store.findings.dispose(wanted, by, left);
    if (done.some(({ result }) => result === 'changed')) left = null;
    all.push(...done);
  }
  return tally(all);
}

/** Acknowledgements of a group that hosts of the asker come under when they show it for the first time. */
export async function laterAcks(
  groupId: string,
  who: Pick<Principal, 'groups'>,
  { store, clock }: FindingDeps,
): Promise<readonly GroupAck[]> {
  const acks = (await store.findings.acknowledgements([groupId], clock())).get(groupId) ?? [];
  return acks.flatMap((ack) => {
    const scope = intersection(ack.scope, who.groups);
    if (scope !== null && scope.every((group) => covers(ack.apart, group))) return [];
    return [{ ...ack, scope, apart: ack.apart.filter((group) => covers(who.groups, group)) }];
  });
}

/** Where a group is present and the asker may act, so many at a time that reports do not wait behind them. */
async function* hostsOfGroup(
  groupId: string,
  who: Principal,
  { store }: FindingDeps,
): AsyncGenerator<readonly string[]> {
  let cursor: { readonly id: string } | null = null;
  do {
    const page: Awaited<ReturnType<typeof store.findings.hostsOf>> = await store.findings.hostsOf([groupId], {
      cursor,
      limit: PAGE,
    });
    const theirs = who.groups === null ? page.items : await within(page.items, who, store);
    if (theirs.length > 0) yield theirs;
    cursor = page.next;
  } while (cursor !== null);
}
const PAGE = Math.min(BULK_CHUNK, 200);

async function within(ids: readonly string[], who: Principal, store: FindingDeps['store']): Promise<string[]> {
  const hosts = await store.hosts.getMany(ids);
  return ids.filter((id) => isTheirs(who, hosts.get(id)?.group ?? null));
}

export function tally(results: readonly Disposed[]): Outcome {
  const skipped = new Map<Disposed['result'], number>();
  for (const { result } of results) if (result !== 'changed') skipped.set(result, (skipped.get(result) ?? 0) + 1);
  return {
    changed: results.filter(({ result }) => result === 'changed').length,
    skipped: [...skipped].map(([reason, count]) => ({ reason, count })),
  };
}

/** A group that the asker sees at all, with the numbers of their hosts. @throws {DecisionError} FINDING_UNKNOWN */
export async function groupOf(
  groupId: string,
  who: Pick<Principal, 'groups'>,
  { store }: Pick<FindingDeps, 'store'>,
): Promise<FindingGroup> {
  const group = who.groups === null ? await store.findings.group(groupId) : await onTheirs(groupId, who.groups, store);
  if (group === undefined) throw new DecisionError('FINDING_UNKNOWN', 'there is no such group of findings');
  return group;
}

/** As lists show it to them: present on some host of theirs, and counted there alone. */
async function onTheirs(
  groupId: string,
  scope: readonly string[],
  store: FindingDeps['store'],
): Promise<FindingGroup | undefined> {
  const line: FilterLine = [{ field: 'id', negated: false, values: [groupId] }];
  const page = await store.read.groups({ status: 'all', line, scope }, 'recent', { cursor: null, limit: 1 });
  return page.items[0];
}

/** Says who looks after a group; `revision` is the group's as it was read. @throws {DecisionError} STALE_DECISION */
export async function assign(
  groupId: string,
  {
    assignee,
    revision,
    note,
  }: { readonly assignee: string | null; readonly revision: number; readonly note: string | null },
  who: Principal,
  deps: FindingDeps,
): Promise<FindingGroup> {
  const may = mustBe(who, 'assign findings', 'operator', 'reviewer', 'admin');
  await groupOf(groupId, may, deps);
  const done = await deps.store.findings.assign(groupId, revision, assignee, actOf(who, deps.clock(), note));
  const now = await groupOf(groupId, who, deps);
  if (!done)
    throw new DecisionError(
      'STALE_DECISION',
      `it was assigned to ${now.assignee ?? 'nobody'} meanwhile; look again and decide on that`,
      { revision: now.revision },
    );
  return now;
}

/** A remark on a group, for good: the trail is not edited. */
export async function comment(groupId: string, text: string, who: Principal, deps: FindingDeps): Promise<void> {
  const may = mustBe(who, 'comment', 'operator', 'reviewer', 'admin');
  await groupOf(groupId, may, deps);
  await deps.store.audit.append(actOf(who, deps.clock(), text), {
    action: 'group.comment',
    object: `group:${groupId}`,
    before: null,
    // Whose hosts it is about: in whose story it stands.
    after: { scope: may.groups },
  });
}

/** One line of a group's story, newest first. */
export type TimelineItem =
  | {
      readonly kind: 'decision';
      readonly at: Instant;
      readonly actor: string;
      readonly action: string;
      readonly note: string | null;
      readonly before: unknown;
      readonly after: unknown;
    }
  | { readonly kind: 'opened' | 'reopened' | 'resolved'; readonly at: Instant; readonly hosts: number };

const rank = ({ kind }: TimelineItem): number => (kind === 'decision' ? 0 : 1);

/** What machines showed on hosts that the asker sees, and people decided about a group, interleaved. */
export async function timelineOf(
  groupId: string,
  limit: number,
  { store }: Pick<FindingDeps, 'store'>,
  who: Principal,
): Promise<TimelineItem[]> {
  const { groups } = who;
  const [seen, decided] = await Promise.all([
    store.findings.changes(groupId, limit, groups),
    Promise.all([decidedWithin(groupId, limit, groups, store), waiversOf(groupId, limit, who, store)]),
  ]);
  const items: TimelineItem[] = [
    ...seen.map(({ kind, at, hosts }) => ({ kind, at, hosts })),
    ...decided.flat().map(({ at, actor, action, note, before, after }) => ({
      kind: 'decision' as const,
      at,
      actor,
      action,
      note,
      before,
      after,
    })),
  ];
  // What was seen is told by the minute, so what was decided within it came after.
  return items.sort((a, b) => b.at - a.at || rank(a) - rank(b)).slice(0, limit);
}

/** Waivers that cover it or did, as far as the reader may read them: asked for, decided, ended. */
async function waiversOf(
  groupId: string,
  limit: number,
  who: Principal,
  store: FindingDeps['store'],
): Promise<readonly AuditEntry[]> {
  const ids = await store.findings.waiversOf(groupId, who.groups);
  const readable = (await readableWaivers(ids, who, { store })) ?? new Set<string>();
  const stories = await Promise.all(
    [...readable].map((id) => waiverStory(id, { cursor: null, limit }, who, { store })),
  );
  // The waiver's own page has its words; here it is named.
  return stories.flatMap(({ items }) =>
    items.map((entry) => ({
      ...entry,
      before: null,
      after: { waiver: entry.object.replace(/^waiver:/, '') },
    })),
  );
}

/** Pages of the trail that a story is looked for in. */
const STORY_PAGES = 10;

/** What was decided about it where they see hosts. Of others' decisions that reach theirs, numbers and groups beyond them are left out. */
async function decidedWithin(
  groupId: string,
  limit: number,
  groups: Scope,
  store: Pick<FindingDeps['store'], 'audit'>,
): Promise<readonly AuditEntry[]> {
  const found: AuditEntry[] = [];
  let cursor: AuditCursor | null = null;
  for (let pages = 0; pages < STORY_PAGES && found.length < limit; pages++) {
    const page: Page<AuditEntry, AuditCursor> = await store.audit.list(
      { object: `group:${groupId}` },
      { cursor, limit },
    );
    found.push(...page.items.flatMap((entry) => seenBy(entry, groups)));
    cursor = page.next;
    if (cursor === null) break;
  }
  return found;
}

function seenBy(entry: AuditEntry, groups: Scope): readonly AuditEntry[] {
  if (groups === null) return [entry];
  // Who looks after it is told to all who see the group.
  if (entry.action === 'group.assign') return [{ ...entry, note: null }];
  const { scope, hosts, findings, ...after } = (entry.after ?? {}) as Readonly<Record<string, unknown>>;
  // Written before scopes were: whose hosts it is about cannot be told.
  if (scope === undefined) return [];
  const reach = scope as Scope;
  const both = intersection(reach, groups)!;
  if (both.length === 0) return [];
  const counted = lies(reach, groups) ? { hosts, findings } : {};
  return [{ ...entry, after: { ...after, ...counted, scope: both } }];
}

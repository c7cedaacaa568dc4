/**
 * From the outbox to deliveries (docs/notices.md 2): one message for a channel and a topic, after a wait that gathers what belongs
 * together, updates at most each five minutes, and one message where so much happens at once that it is one thing. Nothing is told
 * twice: the rows of the outbox and the delivery change in one transaction, and of two processes one writes it.
 */
import type { Instant } from '#src/clock.ts';
import { printFilter, type FilterLine, type FilterTerm } from '#src/finding/filter.ts';
import {
  NOTICE_GROUPS_SHOWN,
  NOTICE_INTERVAL_MS,
  NOTICE_ROWS_AT_ONCE,
  NOTICE_STORM_GROUPS,
  NOTICE_STORM_HOSTS_MIN,
  NOTICE_STORM_MS,
  NOTICE_STORM_SHARE,
  NOTICE_WAIT_MS,
} from '#src/limits.ts';
import { SEVERITIES } from '#src/policy/judgement.ts';
import type { Deps } from '#server/deps.ts';
import type { Channel, HostNow, LastTold, NewDelivery, Pending, ToldHost } from '#server/store/noticerecords.ts';
import type { Severity } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';
import { delivery, sendJob } from './delivery.ts';
import { count, noticeGroup, onHosts, type Notice, type NoticeType } from './notice.ts';
import { quietUntil, WAKES } from './quiet.ts';
import { aboutOverdue, aboutWaiver } from './reminded.ts';

export type TellDeps = Pick<Deps, 'clock' | 'log'> & {
  readonly store: Pick<Store, 'notices' | 'read'>;
  /** Without a slash at its end. */
  readonly baseUrl: () => string;
};

const STORM = 'storm';
/** A storm that begins again within this long after its last message is the same one. */
const STORM_EPISODE_MS = 3 * NOTICE_STORM_MS;

/** Makes deliveries of what is due. Answers when there may be more to tell; null: nothing waits. */
export async function tell(channelId: string, deps: TellDeps): Promise<Instant | null> {
  const { store, clock } = deps;
  const now = clock();
  const channel = await store.notices.channel(channelId);
  if (channel === undefined) return null;
  const quiet = channel.state === 'disabled' ? null : quietUntil(channel.routing, now);
  const rows = await store.notices.pending(channelId, now, NOTICE_ROWS_AT_ONCE, quiet === null ? 0 : WAKES);
  const ahead = await store.notices.nextReady(channelId, now);
  const next: Instant[] = ahead === null ? [] : [ahead + NOTICE_WAIT_MS];
  // What is left for then.
  if (quiet !== null) next.push(quiet);
  if (channel.state === 'disabled') {
    // Written before it was switched off: whoever switches it on again is not told of the past.
    if (rows.length > 0) await store.notices.tell(channelId, { readyBy: now }, null, []);
    return ahead === null ? null : ahead + NOTICE_WAIT_MS;
  }
  const topics = Map.groupBy(rows, ({ topic }) => topic);
  const last = await store.notices.last(channelId, [...topics.keys(), STORM]);
  const due: [string, Pending[]][] = [];
  for (const [topic, own] of topics) {
    const told = last.get(topic)?.createdAt;
    const at = Math.max(
      Math.min(...own.map(({ readyAt }) => readyAt)) + NOTICE_WAIT_MS,
      told === undefined ? 0 : told + NOTICE_INTERVAL_MS,
    );
    if (at <= now) due.push([topic, own]);
    else next.push(at);
  }
  if (due.length > 0) {
    const storm = await stormOf(channel, rows, now, deps);
    if (storm !== undefined) next.push(await tellStorm(channel, storm, last.get(STORM), now, deps));
    else for (const [topic, own] of due) await tellTopic(channel, topic, own, last.get(topic), now, deps);
    // More than was read at once: the rest has its turn at once.
    if (storm === undefined && rows.length === NOTICE_ROWS_AT_ONCE) next.push(now);
  }
  return next.length === 0 ? null : Math.min(...next);
}

type Storm = {
  readonly rows: readonly Pending[];
  readonly groups: number;
  readonly hosts: number;
  readonly of: number;
};

/** What happened lately, where that is more than people can read one by one. */
async function stormOf(
  channel: Channel,
  waiting: readonly Pending[],
  now: Instant,
  { store }: TellDeps,
): Promise<Storm | undefined> {
  const groups = new Set<string>();
  const hosts = new Set<string>();
  const add = (row: Pending): void => {
    if (row.readyAt > now) return;
    if (row.topic.startsWith('finding:')) groups.add(row.topic);
    for (const host of row.hosts) hosts.add(host.id);
  };
  // Counting a large fleet walks an index of all of it: only where so many hosts are named that their share matters.
  let of: number | undefined;
  const isStorm = async (): Promise<boolean> => {
    if (groups.size > NOTICE_STORM_GROUPS) return true;
    if (hosts.size < NOTICE_STORM_HOSTS_MIN) return false;
    of ??= await hostCount(channel, now, store);
    return hosts.size > of * NOTICE_STORM_SHARE;
  };
  for (const row of waiting) add(row);
  let before: { at: Instant; id: string } | null = null;
  while (!(await isStorm())) {
    const rows = await store.notices.lately(channel.id, now - NOTICE_STORM_MS, before, NOTICE_ROWS_AT_ONCE);
    for (const row of rows) add(row);
    const end = rows.at(-1);
    if (end === undefined || rows.length < NOTICE_ROWS_AT_ONCE) break;
    before = { at: end.at, id: end.id };
  }
  if (!(await isStorm())) return undefined;
  return { rows: waiting, groups: groups.size, hosts: hosts.size, of: of ?? (await hostCount(channel, now, store)) };
}

/** Hosts that the channel hears of; of several labels, those with the one that the fewest have. */
async function hostCount({ routing }: Channel, now: Instant, { read }: TellDeps['store']): Promise<number> {
  const { groups, labels } = routing.hosts;
  if (labels.length === 0) return (await read.verdicts(now, groups)).reduce((sum, { count: hosts }) => sum + hosts, 0);
  const having = labels.map((label) => read.countHosts({ now, scope: groups, label }, HOSTS_COUNTED));
  return Math.min(...(await Promise.all(having)).map(({ count: hosts }) => hosts));
}
const HOSTS_COUNTED = 1_000_000;

/** One message for everything that waits; answers when the next one may come. */
async function tellStorm(
  channel: Channel,
  { rows, groups, hosts, of }: Storm,
  last: LastTold | undefined,
  now: Instant,
  deps: TellDeps,
): Promise<Instant> {
  const { store, baseUrl, log } = deps;
  if (last !== undefined && last.createdAt + NOTICE_STORM_MS > now) return last.createdAt + NOTICE_STORM_MS;
  const isSame = last !== undefined && last.createdAt + STORM_EPISODE_MS > now;
  const episode = isSame ? last.episode : (last?.episode ?? 0) + 1;
  const n = isSame ? last.n + 1 : 1;
  const named = [...Map.groupBy(rows.filter(isFinding), ({ topic }) => topic)]
    .map(([topic, own]) => ({
      id: topic.slice('finding:'.length),
      severity: Math.max(...own.map(({ severity }) => severity)),
      hosts: own.reduce((sum, row) => sum + row.hosts.length, 0),
    }))
    .sort((a, b) => b.severity - a.severity || b.hosts - a.hosts);
  const shown = [];
  for (const { id } of named.slice(0, NOTICE_GROUPS_SHOWN)) {
    const group = await store.notices.groupNow(id, channel.routing.hosts);
    if (group !== undefined) shown.push(noticeGroup(group, baseUrl()));
  }
  const changed = changedBy(rows);
  const drifts = changed.opened >= changed.resolved;
  const severity = Math.max(0, ...rows.map((row) => row.severity)) as Severity;
  const text = `${drifts ? 'mass drift' : 'mass recovery'}: ${count(groups, 'group')} of findings changed on ${hosts} of ${of} hosts within ${NOTICE_STORM_MS / 60_000} minutes; this is often one cause, such as a rollout, a policy or a manifest`;
  const told = await store.notices.tell(
    channel.id,
    { readyBy: now },
    delivery(channel, STORM, 'mass_change', { episode, n, severity, ended: false, now }, hostsIn(rows), {
      type: 'fleet.mass_change',
      text,
      link: `${baseUrl()}/findings`,
      changed,
      groups: shown,
      moreGroups: Math.max(0, named.length - shown.length),
    }),
    [sendJob(channel.id, now)],
  );
  if (told) log('warn', 'storm of notices', { channel: channel.id, groups, hosts });
  return now + NOTICE_STORM_MS;
}

const isFinding = ({ topic }: Pending): boolean => topic.startsWith('finding:');
const isOpening = ({ transition }: Pick<Pending, 'transition'>): boolean => transition !== 'resolved';

function hostsIn(rows: readonly Pending[]): ToldHost[] {
  return [...new Map(rows.flatMap(({ hosts }) => hosts.map((host) => [host.id, host] as const))).values()].sort(byName);
}
const byName = (a: ToldHost, b: ToldHost) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);

function changedBy(rows: readonly Pending[]): { opened: number; resolved: number } {
  const findings = rows.filter(isFinding);
  return {
    opened: hostsIn(findings.filter(isOpening)).length,
    resolved: hostsIn(findings.filter((row) => !isOpening(row))).length,
  };
}

async function tellTopic(
  channel: Channel,
  topic: string,
  rows: readonly Pending[],
  last: LastTold | undefined,
  now: Instant,
  deps: TellDeps,
): Promise<void> {
  const what = topic.slice(topic.indexOf(':') + 1);
  const made = topic.startsWith('finding:')
    ? await aboutFinding(channel, what, rows, last, now, deps)
    : topic.startsWith('verdict:')
      ? await aboutVerdict(channel, what, rows, last, now, deps)
      : topic.startsWith('overdue:')
        ? await aboutOverdue(channel, what, last, now, deps)
        : topic.startsWith('waiver:')
          ? aboutWaiver(channel, what, rows, last, now, deps)
          : aboutImage(channel, what, rows, last, now, deps);
  const failed = rows.map(({ facts }) => (facts as { readonly conditionError?: string } | null)?.conditionError);
  const conditionError = failed.findLast((error) => error !== undefined);
  const told =
    made === undefined || conditionError === undefined
      ? made
      : { ...made, notice: { ...(made.notice as Notice), conditionError } };
  const done = await deps.store.notices.tell(
    channel.id,
    { ids: rows.map(({ id }) => id) },
    told ?? null,
    told === undefined ? [] : [sendJob(channel.id, now)],
  );
  if (done && conditionError !== undefined)
    await deps.store.notices.noteCondition(channel.id, { at: now, text: conditionError });
}

type Turn = { readonly host: ToldHost; readonly transition: string; readonly isHeld: boolean };

/** What became of each host, by its newest row. */
function turnsOf(rows: readonly Pending[]): Turn[] {
  const turns = new Map<string, Turn>();
  for (const { hosts, transition, at, readyAt } of rows.toSorted((a, b) => a.at - b.at))
    for (const host of hosts) turns.set(host.id, { host, transition, isHeld: readyAt > at });
  return [...turns.values()].sort((a, b) => byName(a.host, b.host));
}

/** Whether an opening is still worth a word: not waived since, and not over where it was held back. */
function stands({ isHeld }: Turn, now: HostNow | undefined): boolean {
  if (now === undefined) return false;
  return now.finding === 'present' || (now.finding === 'absent' && !isHeld);
}

async function aboutFinding(
  channel: Channel,
  groupId: string,
  rows: readonly Pending[],
  last: LastTold | undefined,
  now: Instant,
  { store, baseUrl }: TellDeps,
): Promise<NewDelivery | undefined> {
  const group = await store.notices.groupNow(groupId, channel.routing.hosts);
  if (group === undefined) return undefined;
  // An opening that is over again within the wait is told all the same: that it was there is news.
  const opened = turnsOf(rows.filter(isOpening));
  const standing = await store.notices.hostsNow(
    groupId,
    opened.map(({ host }) => host.id),
    now,
  );
  const openings = opened.filter((turn) => stands(turn, standing.get(turn.host.id)));
  const resolved = turnsOf(rows.filter((row) => !isOpening(row)));
  const { open, acknowledged, waived } = group.hosts;
  const ended = open + acknowledged + waived === 0;
  const isOngoing = last !== undefined && !last.ended;
  if (openings.length === 0 && !(ended && resolved.some(({ isHeld }) => !isHeld || isOngoing))) return undefined;
  const transition = openings.length === 0 ? 'resolved' : transitionOf(openings, isOngoing);
  const shown = noticeGroup(group, baseUrl());
  const hosts = (openings.length === 0 ? resolved : openings).map(({ host }) => host);
  const why = reasonOf(rows.filter((row) => isOpening(row) === openings.length > 0));
  const place = {
    episode: isOngoing ? last.episode : (last?.episode ?? 0) + 1,
    n: isOngoing ? last.n + 1 : 1,
    severity: group.severity,
    ended,
    now,
  };
  const says = SAYS[transition](onHosts(hosts));
  const after = openings.length > 0 && ended ? '; it is over there by now' : '';
  const total = open > hosts.length ? `; open on ${count(open, 'host')} now` : '';
  return delivery(channel, `finding:${groupId}`, transition, place, hosts, {
    type: `finding.${transition}` as NoticeType,
    text: `${shown.what}: ${says}${why === null ? '' : ` (${why.replaceAll('_', ' ')})`}${after}${total}`,
    link: shown.link,
    group: shown,
    why,
    changed: { opened: openings.length, resolved: resolved.length },
  });
}

const SAYS = {
  new: (where: string) => `new ${where}`,
  regressed: (where: string) => `back ${where}`,
  returned: (where: string) => `open again ${where}`,
  spread: (where: string) => `also ${where}`,
  resolved: (where: string) => `resolved, last ${where}`,
} as const;

function transitionOf(openings: readonly Turn[], isOngoing: boolean): keyof typeof SAYS {
  const has = (transition: string) => openings.some((turn) => turn.transition === transition);
  if (!has('new') && !has('regressed')) return 'returned';
  if (isOngoing) return 'spread';
  return has('new') ? 'new' : 'regressed';
}

/** The one reason of all of them, or null. */
function reasonOf(rows: readonly Pending[]): string | null {
  const reasons = new Set(rows.map(({ facts }) => (facts as { readonly why?: string | null } | null)?.why ?? null));
  return reasons.size === 1 ? [...reasons][0]! : null;
}

async function aboutVerdict(
  channel: Channel,
  verdict: string,
  rows: readonly Pending[],
  last: LastTold | undefined,
  now: Instant,
  { store, baseUrl }: TellDeps,
): Promise<NewDelivery | undefined> {
  const all = hostsIn(rows);
  const standing = await store.notices.hostsNow(
    null,
    all.map(({ id }) => id),
    now,
  );
  const hosts = all.filter(({ id }) => standing.get(id)?.verdict === verdict);
  if (hosts.length === 0) return undefined;
  const severity = Math.max(...rows.map((row) => row.severity)) as Severity;
  const place = { episode: (last?.episode ?? 0) + 1, n: 1, severity, ended: true, now };
  const who = hosts.length === 1 ? `${hosts[0]!.name} is` : `${count(hosts.length, 'host')} are`;
  return delivery(channel, `verdict:${verdict}`, verdict, place, hosts, {
    type: 'host.verdict',
    text: `${who} ${verdict} now`,
    link:
      hosts.length === 1
        ? `${baseUrl()}/hosts/${encodeURIComponent(hosts[0]!.id)}`
        : `${baseUrl()}/hosts?verdict=${encodeURIComponent(verdict)}`,
    verdict: { to: verdict },
  });
}

const CHANGES: ReadonlyMap<string, string> = new Map([
  ['signature-vanished', 'a signature that verified is gone'],
  ['signature-returned', 'a signature that verifies is back'],
]);

function aboutImage(
  channel: Channel,
  digest: string,
  rows: readonly Pending[],
  last: LastTold | undefined,
  now: Instant,
  { baseUrl }: TellDeps,
): NewDelivery {
  const newest = rows.reduce((a, b) => (b.at >= a.at ? b : a));
  const { state, after } = newest.facts as {
    readonly state: string;
    readonly after: { readonly why?: string | null; readonly by?: string | null } | null;
  };
  const because = newest.transition === 'trust.change' ? (after?.by ?? after?.why ?? null) : null;
  const place = { episode: (last?.episode ?? 0) + 1, n: 1, severity: newest.severity, ended: true, now };
  const says = CHANGES.get(newest.transition) ?? `its signatures: ${state}${because === null ? '' : ` (${because})`}`;
  return delivery(channel, `image:${digest}`, newest.transition, place, [], {
    type: 'image.trust',
    text: `image ${digest}: ${says}`,
    link: `${baseUrl()}/images/${encodeURIComponent(digest)}`,
    image: { digest, state, change: newest.transition },
  });
}

/** What is open when a channel begins, in one message: whoever switches it on is told, and is not flooded. Undefined: nothing is. */
export async function summary(channel: Channel, { store, clock, baseUrl }: TellDeps): Promise<NewDelivery | undefined> {
  const now = clock();
  const { groups: scope, labels } = channel.routing.hosts;
  const heard = labels.map((label): FilterTerm => ({ field: 'label', negated: false, values: [label] }));
  const from = channel.routing.minSeverity;
  // As many as the list behind its link has.
  const open = await Promise.all(
    SEVERITIES.map((_, rank) =>
      store.read.countGroups({ scope, now, tab: 'open', line: heard, severities: [rank as Severity] }, SUMMARY_COUNTED),
    ),
  );
  const wanted = open.map(({ count: groups }, severity) => (severity >= from ? groups : 0));
  const isExact = open.every(({ exact }) => exact);
  const total = wanted.reduce((sum, groups) => sum + groups, 0);
  if (total === 0) return undefined;
  const parts = wanted
    .flatMap((groups, severity) => (groups > 0 ? [`${groups} ${SEVERITIES[severity]}`] : []))
    .reverse();
  const severity = Math.max(
    0,
    wanted.findLastIndex((groups) => groups > 0),
  ) as Severity;
  const line: FilterLine = scope === null ? heard : [{ field: 'group', negated: false, values: [...scope] }, ...heard];
  return delivery(channel, 'summary', 'summary', { episode: 1, n: 1, severity, ended: true, now }, [], {
    type: 'fleet.summary',
    text: `${isExact ? '' : 'at least '}${count(total, 'group')} of findings ${total === 1 ? 'is' : 'are'} open as this channel begins: ${parts.join(', ')}`,
    link: `${baseUrl()}/findings${line.length === 0 ? '' : `?q=${encodeURIComponent(printFilter(line))}`}`,
  });
}
/** Of each severity; beyond, at least so many are told. */
const SUMMARY_COUNTED = 100_000;

/** A message that says that messages arrive. */
export function testNotice(
  channel: Channel,
  n: number,
  { clock, baseUrl }: Pick<TellDeps, 'clock' | 'baseUrl'>,
): NewDelivery {
  const now = clock();
  return delivery(channel, 'test', 'test', { episode: n, n: 1, severity: 0, ended: true, now }, [], {
    type: 'channel.test',
    text: `this is a test of the channel ${channel.name}: notices arrive here`,
    link: baseUrl(),
  });
}

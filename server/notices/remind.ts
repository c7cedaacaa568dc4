/**
 * Reminders and the day's digest (docs/notices.md 9): that something still is so. What is due follows from what stands and from the clock
 * alone; each is noted in the transaction that writes it, so that it is once, whichever process looks, and after a crash, too.
 */
import { formatInstant, type Instant } from '#src/clock.ts';
import type { FilterLine, FilterTerm } from '#src/finding/filter.ts';
import { stateOf, type Waiver } from '#src/finding/waiver.ts';
import { NOTICE_EXPIRING_MS, NOTICE_OVERDUE_AT_ONCE, NOTICE_OVERDUE_MS, NOTICE_WAITING_MS } from '#src/limits.ts';
import { SEVERITIES } from '#src/policy/judgement.ts';
import type { Deps } from '#server/deps.ts';
import type { Channel, NewDelivery, NoticeEvent, Reminder } from '#server/store/noticerecords.ts';
import type { Count, Severity } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';
import { delivery, sendJob } from './delivery.ts';
import { count } from './notice.ts';

export type RemindDeps = Pick<Deps, 'clock' | 'log'> & {
  readonly store: Pick<Store, 'notices' | 'read' | 'waivers'>;
  readonly baseUrl: () => string;
};

const rankOf = (word: (typeof SEVERITIES)[number]): Severity => SEVERITIES.indexOf(word) as Severity;

/** Writes what is due, at most so much at once; answers whether anything was. */
export async function remind(deps: RemindDeps): Promise<boolean> {
  const { store, clock } = deps;
  const now = clock();
  const channels = (await store.notices.channels()).filter(({ state }) => state === 'active');
  const wants = (event: NoticeEvent): boolean => channels.some(({ routing }) => routing.events.includes(event));
  const reminders: Reminder[] = [];
  if (wants('finding.overdue')) {
    const limits = SEVERITIES.map((word) => NOTICE_OVERDUE_MS[word]);
    for (const found of await store.notices.overdue(now, limits, NOTICE_OVERDUE_AT_ONCE))
      reminders.push({ kind: 'overdue', object: found.groupId, ...found });
  }
  if (wants('waiver.expiring') || wants('waiver.waiting')) reminders.push(...(await aboutWaivers(now, deps)));
  const written = reminders.length === 0 ? 0 : await store.notices.remind(reminders, now);
  let digests = 0;
  for (const channel of channels) if (await tellDigest(channel, now, deps)) digests++;
  return written + digests > 0;
}

async function aboutWaivers(now: Instant, { store }: RemindDeps): Promise<Reminder[]> {
  const out: Reminder[] = [];
  const waits = (waiver: Waiver, since: Instant): void => {
    if (now - since < NOTICE_WAITING_MS) return;
    out.push({ kind: 'waiting', object: `${waiver.id}/${since}`, waiver, severity: rankOf(waiver.ceiling) });
  };
  for (const waiver of (await store.waivers.effective(now)).waivers) {
    if (waiver.extension !== null) waits(waiver, waiver.extension.requestedAt);
    if (stateOf(waiver, now) !== 'active') continue;
    const life = waiver.expiresAt - (waiver.startsAt ?? waiver.decidedAt ?? waiver.requestedAt);
    // Of those that are reached, the nearest to its end; one that never lived so long is not warned of from its first day.
    const before = NOTICE_EXPIRING_MS.findLast((ms) => waiver.expiresAt - now <= ms && life > ms);
    if (before !== undefined)
      out.push({
        kind: 'expiring',
        object: `${waiver.id}/${waiver.expiresAt}/${before}`,
        waiver,
        severity: rankOf(waiver.ceiling),
      });
  }
  let cursor: { readonly n: number } | null = null;
  do {
    const page: Awaited<ReturnType<typeof store.waivers.list>> = await store.waivers.list(
      { now, states: ['requested'] },
      { cursor, limit: 200 },
    );
    for (const waiver of page.items) waits(waiver, waiver.requestedAt);
    cursor = page.next;
  } while (cursor !== null);
  return out;
}

/** Once a day, from its hour on: a server that was down then tells it when it is back, of that day. */
async function tellDigest(channel: Channel, now: Instant, deps: RemindDeps): Promise<boolean> {
  const { digestAt } = channel.routing;
  if (digestAt === undefined || digestAt === null) return false;
  const day = formatInstant(now).slice(0, 10);
  const [hours = 0, minutes = 0] = digestAt.split(':').map(Number);
  const due = Date.parse(`${day}T00:00:00Z`) + (hours * 60 + minutes) * 60_000;
  // Made after its hour: the first one is tomorrow's.
  if (now < due || channel.createdAt > due) return false;
  const kind = `digest:${channel.id}`;
  if (await deps.store.notices.isReminded(kind, day)) return false;
  return deps.store.notices.addOnce(kind, day, await digest(channel, day, now, deps), [sendJob(channel.id, now)]);
}

/** Counts of a digest: beyond, at least so many. */
const COUNTED_MAX = 10_000;

async function digest(
  channel: Channel,
  day: string,
  now: Instant,
  { store, baseUrl }: RemindDeps,
): Promise<NewDelivery> {
  const { groups, labels } = channel.routing.hosts;
  const heard: FilterLine = labels.map((label): FilterTerm => ({ field: 'label', negated: false, values: [label] }));
  const counted = (more: FilterLine, tab: 'open' | 'resolved', severity?: Severity): Promise<Count> =>
    store.read.countGroups(
      {
        scope: groups,
        now,
        tab,
        line: [...heard, ...more],
        ...(severity === undefined ? {} : { severities: [severity] }),
      },
      COUNTED_MAX,
    );
  const within = (field: 'age' | 'reopened' | 'resolved'): FilterTerm => ({
    field,
    negated: false,
    values: [{ older: false, ms: 86_400_000 }],
  });
  const [open, fresh, back, over, verdicts, waivers] = await Promise.all([
    Promise.all(SEVERITIES.map(async (word, rank) => [word, await counted([], 'open', rank as Severity)] as const)),
    counted([within('age')], 'open'),
    counted([within('reopened'), { ...within('age'), negated: true }], 'open'),
    counted([within('resolved')], 'resolved'),
    store.read.verdicts(now, groups),
    groups === null && labels.length === 0 ? store.waivers.count(now, now + NOTICE_EXPIRING_MS[0]) : null,
  ]);
  const from = channel.routing.minSeverity;
  const shown = open.filter(([, n], rank) => rank >= from && n.count > 0).reverse();
  const told = (n: Count): string => `${n.count}${n.exact ? '' : '+'}`;
  const total = shown.reduce((sum, [, n]) => sum + n.count, 0);
  const severity = Math.max(0, ...shown.map(([word]) => rankOf(word))) as Severity;
  const hosts = verdicts.reduce((sum, { count: n }) => sum + n, 0);
  const compliant = verdicts.find(({ verdict }) => verdict === 'compliant')?.count ?? 0;
  const parts = [
    total === 0 ? 'nothing is open' : `${shown.map(([word, n]) => `${told(n)} ${word}`).join(', ')} open`,
    `${told(fresh)} new, ${told(back)} back and ${told(over)} resolved since yesterday`,
    `${compliant} of ${count(hosts, 'host')} compliant`,
    ...(waivers !== null && waivers.requested > 0 ? [`${count(waivers.requested, 'waiver')} to decide`] : []),
    ...(waivers !== null && waivers.expiring > 0 ? [`${count(waivers.expiring, 'waiver')} to end within 14 days`] : []),
  ];
  return delivery(channel, 'digest', day, { episode: 1, n: 1, severity, ended: true, now }, [], {
    type: 'fleet.digest',
    text: `${day}: ${parts.join('; ')}`,
    link: `${baseUrl()}/`,
    digest: {
      day,
      hosts: Object.fromEntries(verdicts.map(({ verdict, count: n }) => [verdict, n])),
      open: Object.fromEntries(open.map(([word, n]) => [word, n.count])),
      since: { new: fresh.count, regressed: back.count, resolved: over.count },
      waivers: waivers && { toDecide: waivers.requested, expiring: waivers.expiring, active: waivers.active },
    },
  });
}

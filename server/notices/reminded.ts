/** What a reminder says (docs/notices.md 9): of a group that nobody took up, of a waiver that ends or waits. */
import { formatInstant, type Instant } from '#src/clock.ts';
import type { Deps } from '#server/deps.ts';
import type { Channel, LastTold, NewDelivery, Pending } from '#server/store/noticerecords.ts';
import type { Store } from '#server/store/store.ts';
import { delivery } from './delivery.ts';
import { count, noticeGroup } from './notice.ts';

type RemindedDeps = Pick<Deps, 'clock' | 'log'> & {
  readonly store: Pick<Store, 'notices' | 'read'>;
  readonly baseUrl: () => string;
};

/** Undefined where it is open on no host any more that the channel hears of. */
export async function aboutOverdue(
  channel: Channel,
  groupId: string,
  last: LastTold | undefined,
  now: Instant,
  { store, baseUrl }: RemindedDeps,
): Promise<NewDelivery | undefined> {
  const group = await store.notices.groupNow(groupId, channel.routing.hosts);
  if (group === undefined || group.hosts.open === 0) return undefined;
  const shown = noticeGroup(group, baseUrl());
  const place = { episode: (last?.episode ?? 0) + 1, n: 1, severity: group.severity, ended: true, now };
  const days = Math.floor((now - group.firstSeen) / 86_400_000);
  return delivery(channel, `overdue:${groupId}`, 'overdue', place, [], {
    type: 'finding.overdue',
    text: `${shown.what}: open on ${count(group.hosts.open, 'host')} and acknowledged by nobody; first seen ${count(days, 'day')} ago`,
    link: shown.link,
    group: shown,
  });
}

type WaiverFacts = {
  readonly id: string;
  readonly title: string;
  readonly expiresAt: Instant;
  /** The end that was asked for, where it waits. */
  readonly until: Instant;
  readonly requestedBy: string;
  readonly decidedBy: string | null;
};

export function aboutWaiver(
  channel: Channel,
  id: string,
  rows: readonly Pending[],
  last: LastTold | undefined,
  now: Instant,
  { baseUrl }: RemindedDeps,
): NewDelivery {
  const newest = rows.reduce((a, b) => (b.at >= a.at ? b : a));
  const { title, expiresAt, until, requestedBy, decidedBy } = newest.facts as WaiverFacts;
  const place = { episode: (last?.episode ?? 0) + 1, n: 1, severity: newest.severity, ended: true, now };
  const isWaiting = newest.transition === 'waiting';
  const day = (at: Instant): string => formatInstant(at - 1).slice(0, 10);
  return delivery(channel, `waiver:${id}`, newest.transition, place, [], {
    type: isWaiting ? 'waiver.waiting' : 'waiver.expiring',
    text: isWaiting
      ? `${id} waits for a decision: ${requestedBy} asks for it until ${day(until)} (${title})`
      : `${id} ends on ${day(expiresAt)}: what it covers is open again then, unless more time is approved (${title})`,
    link: `${baseUrl()}/waivers/${encodeURIComponent(id)}`,
    waiver: { id, title, expiresAt: formatInstant(expiresAt), requestedBy, decidedBy },
  });
}

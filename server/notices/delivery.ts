/** A message about to be delivered: what it tells, under the key by which a receiver drops repeats (docs/notices.md 2.2). */
import type { Instant } from '#src/clock.ts';
import { sortableId } from '#server/store/ids.ts';
import type { Channel, NewDelivery, ToldHost } from '#server/store/noticerecords.ts';
import type { NewJob, Severity } from '#server/store/records.ts';
import { notice, type About } from './notice.ts';

/** The job that sends what a channel has to deliver. */
export const SEND_JOB = 'notice.send';
export const sendJob = (channel: string, runAt: Instant): NewJob => ({
  kind: SEND_JOB,
  dedupeKey: `${SEND_JOB}:${channel}`,
  runAt,
  payload: { channel },
});

export type Place = {
  readonly episode: number;
  readonly n: number;
  readonly severity: Severity;
  readonly ended: boolean;
  readonly now: Instant;
};

export function delivery(
  channel: Channel,
  topic: string,
  transition: string,
  { episode, n, severity, ended, now }: Place,
  hosts: readonly ToldHost[],
  about: Omit<About, 'dedupe'>,
): NewDelivery {
  const dedupe = `${channel.id}/${topic}/${transition}/${episode}/${n}`;
  return {
    id: `msg_${sortableId(now)}`,
    channelId: channel.id,
    topic,
    transition,
    episode,
    n,
    severity,
    createdAt: now,
    notice: notice(now, severity, hosts, { ...about, dedupe }),
    hosts: hosts.length,
    ended,
  };
}

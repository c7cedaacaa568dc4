/**
 * The loudest notice (docs/notices.md 9): that the evidence log is not signed, or that a witness knows another one. Told to every channel that hears of
 * every host, whatever its events: who set them chose among findings, and not whether to hear that nothing here can be believed. Once a day while it lasts.
 */
import { formatInstant } from '#src/clock.ts';
import type { Deps } from '#server/deps.ts';
import type { Store } from '#server/store/store.ts';
import { delivery, sendJob } from './delivery.ts';

export type AlarmDeps = Pick<Deps, 'clock'> & {
  readonly store: Pick<Store, 'notices'>;
  readonly baseUrl: () => string;
};

export type Alarm = {
  /** What it is about: `refused`, a witness. */
  readonly subject: string;
  /** One sentence. */
  readonly text: string;
};

/** Answers whether anything was written. */
export async function tellAlarms(alarms: readonly Alarm[], { store, clock, baseUrl }: AlarmDeps): Promise<boolean> {
  if (alarms.length === 0) return false;
  const now = clock();
  const day = formatInstant(now).slice(0, 10);
  let written = false;
  for (const channel of await store.notices.channels()) {
    const { groups, labels } = channel.routing.hosts;
    if (channel.state !== 'active' || groups !== null || labels.length > 0) continue;
    for (const { subject, text } of alarms) {
      const kind = `alarm:${channel.id}`;
      const object = `${subject} ${day}`;
      if (await store.notices.isReminded(kind, object)) continue;
      const place = { episode: 1, n: 1, severity: 4, ended: true, now } as const;
      const told = delivery(channel, `log:${subject}`, day, place, [], {
        type: 'log.alarm',
        text: `the evidence log: ${text}`,
        link: `${baseUrl()}/log`,
      });
      if (await store.notices.addOnce(kind, object, told, [sendJob(channel.id, now)])) written = true;
    }
  }
  return written;
}

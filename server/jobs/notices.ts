/** Tells and sends what channels hear of: two kinds of jobs a channel, and a chore that forgets what is long over. */
import { z } from 'zod';
import { NOTICE_KEPT_MS } from '#src/limits.ts';
import { sendDue, type SendDeps } from '#server/notices/send.ts';
import { SEND_JOB, sendJob } from '#server/notices/delivery.ts';
import { remind, type RemindDeps } from '#server/notices/remind.ts';
import { tell, type TellDeps } from '#server/notices/tell.ts';
import { TELL_JOB, tellJob } from '#server/store/outbox.ts';
import type { Store } from '#server/store/store.ts';
import type { Chore, Work } from './runner.ts';

const LEASE_MS = 120_000;
const Payload = z.strictObject({ channel: z.string() });

type NoticeDeps = TellDeps & SendDeps & { readonly store: Pick<Store, 'notices' | 'read' | 'jobs'> };

export function tellWork(deps: NoticeDeps, wake: () => void): Work {
  return {
    kind: TELL_JOB,
    leaseMs: LEASE_MS,
    run: async (job) => {
      const { channel } = Payload.parse(job.payload);
      const next = await tell(channel, deps);
      // Asked for while it runs: the queue has it again once this run is done.
      if (next !== null) await deps.store.jobs.enqueue([tellJob(channel, next)]);
      wake();
      return { kind: 'done' };
    },
  };
}

export function sendWork(deps: NoticeDeps): Work {
  return {
    kind: SEND_JOB,
    leaseMs: LEASE_MS,
    run: async (job, signal) => {
      const { channel } = Payload.parse(job.payload);
      const next = await sendDue(channel, deps, signal);
      if (signal.aborted) return { kind: 'again', inMs: 0, why: 'stopped' };
      if (next !== null) await deps.store.jobs.enqueue([sendJob(channel, next)]);
      return { kind: 'done' };
    },
  };
}

export function noticeChore({ store, clock }: Pick<NoticeDeps, 'store' | 'clock'>, everyMs: number): Chore {
  return {
    name: 'notices',
    everyMs,
    run: () => {
      const now = clock();
      const { told, delivered, dead, reminded } = NOTICE_KEPT_MS;
      return store.notices.sweep({
        told: now - told,
        delivered: now - delivered,
        dead: now - dead,
        reminded: now - reminded,
      });
    },
  };
}

/** Looks for what is to be reminded of, and tells the day's digests. */
export function remindChore(deps: RemindDeps, wake: () => void, everyMs: number): Chore {
  return {
    name: 'reminders',
    everyMs,
    run: async () => {
      if (await remind(deps)) wake();
    },
  };
}

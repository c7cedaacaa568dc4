/**
 * What is done by the night: counters are held against the rows that they count, and findings that ended long ago are moved aside. A counter
 * that is wrong is our own fault: it is set right, written into the trail, and logged as an error.
 */
import type { Instant } from '#src/clock.ts';
import { ARCHIVE_PAGE, RECOUNT_PAGE, RESOLVED_KEPT_MS } from '#src/limits.ts';
import type { Deps } from '#server/deps.ts';
import type { NewJob } from '#server/store/records.ts';
import type { Outcome, Work } from './runner.ts';

const NIGHTLY_JOB = 'nightly';
const LEASE_MS = 300_000;
const DAY_MS = 86_400_000;
/** At three in the morning, UTC. */
const HOUR_MS = 3 * 3_600_000;

/** One in the queue for all servers, at the next night. */
export function nightlyJob(now: Instant): NewJob {
  const today = now - (now % DAY_MS) + HOUR_MS;
  return { kind: NIGHTLY_JOB, dedupeKey: NIGHTLY_JOB, runAt: today > now ? today : today + DAY_MS, payload: {} };
}

export function nightlyWork({ store, clock, log }: Pick<Deps, 'store' | 'clock' | 'log'>): Work {
  return {
    kind: NIGHTLY_JOB,
    leaseMs: LEASE_MS,
    run: async (_job, signal): Promise<Outcome> => {
      const by = { actor: 'job:recount', at: clock() };
      let checked = 0;
      for (const what of ['groups', 'hosts'] as const)
        for (let after: string | null = null; ;) {
          if (signal.aborted) return { kind: 'again', inMs: 0, why: 'stopped' };
          const step: Awaited<ReturnType<typeof store.upkeep.recount>> = await store.upkeep.recount(
            what,
            after,
            RECOUNT_PAGE,
            by,
          );
          checked += step.checked;
          if (step.repaired.length > 0)
            log('error', 'counters were wrong and are set right', { what, ids: step.repaired.slice(0, 20) });
          if (step.next === null) break;
          after = step.next;
        }
      let aside = 0;
      for (let moved = ARCHIVE_PAGE; moved === ARCHIVE_PAGE; aside += moved) {
        if (signal.aborted) return { kind: 'again', inMs: 0, why: 'stopped' };
        moved = await store.upkeep.archive(by.at - RESOLVED_KEPT_MS, ARCHIVE_PAGE);
      }
      log('info', 'nightly', { counters: checked, aside });
      await store.jobs.enqueue([nightlyJob(clock())]);
      return { kind: 'done' };
    },
  };
}

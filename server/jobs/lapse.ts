/** Brings rows and counters after what ended, and holds hosts against waivers that begin, were approved or revoked. */
import { z } from 'zod';
import type { Lapses } from '#server/decisions/lapse.ts';
import type { RestandDeps } from '#server/decisions/restand.ts';
import { followWaiver, WAIVER_JOB } from '#server/decisions/waivers.ts';
import type { Chore, Outcome, Work } from './runner.ts';

const LEASE_MS = 120_000;
const Payload = z.strictObject({ waiver: z.string() });

export function waiverWork(deps: RestandDeps): Work {
  return {
    kind: WAIVER_JOB,
    leaseMs: LEASE_MS,
    run: async (job, signal): Promise<Outcome> => {
      const { waiver } = Payload.parse(job.payload);
      const { pending } = await followWaiver(waiver, deps, Infinity, signal);
      return pending ? { kind: 'again', inMs: 1000, why: 'hosts were written to by others' } : { kind: 'done' };
    },
  };
}

export function lapseChore(lapses: Lapses, everyMs: number): Chore {
  return {
    name: 'lapse',
    everyMs,
    run: async () => {
      await lapses.run();
    },
  };
}

/** Goes on with acts on many that one answer could not wait for, or that were cut off; drops previews that nobody applied. */
import { z } from 'zod';
import { BULK_JOB, carryOn, type BulkDeps } from '#server/decisions/bulk.ts';
import type { Chore, Outcome, Work } from './runner.ts';

const Payload = z.strictObject({ bulk: z.string() });

export function bulkWork(deps: BulkDeps): Work {
  return {
    kind: BULK_JOB,
    leaseMs: 60_000,
    run: async (job, signal): Promise<Outcome> => {
      const { state } = await carryOn(Payload.parse(job.payload).bulk, deps, Infinity, signal);
      return state === 'applying' ? { kind: 'again', inMs: 0, why: 'stopped in the middle' } : { kind: 'done' };
    },
  };
}

export function bulkChore({ store, clock }: Pick<BulkDeps, 'store' | 'clock'>, everyMs: number): Chore {
  return { name: 'previews', everyMs, run: () => store.bulks.sweep(clock()) };
}

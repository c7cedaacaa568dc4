/** Keeps trust roots up with their TUF repositories, where the operator allowed it (docs/provenance.md 7). */
import { z } from 'zod';
import type { Deps } from '#server/deps.ts';
import type { Basis } from '#server/trust/basis.ts';
import { trustAllJob } from '#server/trust/known.ts';
import { refreshRoot, ROOT_JOB, rootJob } from '#server/trust/roots.ts';
import { noteRoots } from '#server/trust/rootstold.ts';
import type { Outcome, Work } from './runner.ts';

const LEASE_MS = 300_000;
/** A repository that does not answer is asked again after so long at first. */
const RETRY_FIRST_MS = 60_000;

const Payload = z.strictObject({ root: z.string() });

export type RootDeps = Pick<Deps, 'store' | 'clock' | 'log'> & { readonly basis: Basis; readonly everyMs: number };

export function rootWork({ store, clock, log, basis, everyMs }: RootDeps): Work {
  return {
    kind: ROOT_JOB,
    leaseMs: LEASE_MS,
    run: async (job): Promise<Outcome> => {
      await basis.reload();
      const { root: name } = Payload.parse(job.payload);
      const refresh = basis.refreshes.find((one) => one.name === name);
      // The operator no longer allows it.
      if (refresh === undefined) return { kind: 'done' };
      const at = clock();
      const by = { actor: 'job:trust-root', at };
      const { note, changed, error } = await refreshRoot(refresh, store, {
        by,
        // Every image is judged again in the same transaction that makes the new root count.
        jobs: (isNew) => (isNew ? [trustAllJob(at)] : []),
      });
      if (error !== null)
        log('warn', 'trust-root.refresh-failed', { root: name, code: error.code, reason: error.message });
      if (changed) log('info', 'trust-root.change', { root: name, sha256: note.root?.blob });
      await basis.reload();
      await noteRoots(basis, store, by);
      const inMs =
        note.failure === null ? everyMs : Math.min(everyMs, Math.max(RETRY_FIRST_MS, at - note.failure.since));
      await store.jobs.enqueue([rootJob(name, clock() + inMs)]);
      return { kind: 'done' };
    },
  };
}

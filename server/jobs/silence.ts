/**
 * Writes the finding of hosts that fell silent. Their verdict needs no job, it follows from the clock when it is read (PROTOCOL 5);
 * this only makes the finding that people and, later, notices see.
 */
import type { Policy } from '#src/policy/document.ts';
import { judgeSilence } from '#src/policy/state.ts';
import type { Deps } from '#server/deps.ts';
import { hostFactsOf } from '#server/hostfacts.ts';
import type { Batch } from '#server/ingest/batch.ts';
import { presentChange } from '#server/ingest/judge.ts';
import type { Chore } from './runner.ts';

const PAGE = 200;

export type SilenceDeps = Pick<Deps, 'store' | 'clock' | 'log'> & {
  readonly batch: Batch;
  readonly policies: { readonly current: Policy };
};

export function silenceChore(deps: SilenceDeps, everyMs: number): Chore {
  return {
    name: 'silence',
    everyMs,
    run: async () => {
      // A host that cannot be written now is found again in the next round, so a round ends after one page without progress.
      for (;;) {
        const ids = await deps.store.read.unnotedSilence(deps.clock(), PAGE);
        const noted = await Promise.all(ids.map((id) => note(id, deps)));
        if (ids.length < PAGE || !noted.includes(true)) return;
      }
    },
  };
}

async function note(id: string, { store, clock, batch, policies }: SilenceDeps): Promise<boolean> {
  const host = await store.hosts.get(id);
  const now = clock();
  if (host === undefined || host.freshness.silenceNoted || now < host.freshness.silentAfter) return false;
  const result = await batch.commit({
    hostId: id,
    expectRevision: host.revision,
    at: Math.max(now, host.standing.since),
    freshness: { ...host.freshness, silenceNoted: true },
    findings: judgeSilence(policies.current, hostFactsOf(host)).map(presentChange),
  });
  return result.kind === 'committed';
}

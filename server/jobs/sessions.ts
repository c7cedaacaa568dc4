/** Sessions that are over by their time are dropped: they count for nothing before that, whether or not this has run. */
import type { Deps } from '#server/deps.ts';
import type { Chore } from './runner.ts';

export function sessionChore({ store, clock }: Pick<Deps, 'store' | 'clock'>, everyMs: number): Chore {
  return {
    name: 'sessions',
    everyMs,
    run: async () => void (await store.access.sweepSessions(clock())),
  };
}

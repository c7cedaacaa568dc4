/** A server that leaves its database as it is (`--no-migrate`): it waits until somebody else has brought that up to this build. */
import { setTimeout as sleep } from 'node:timers/promises';
import { MIGRATION_WAIT_MS } from '#src/limits.ts';
import { standingOf } from '#server/store/standing.ts';
import { StoreError } from '#server/store/store.ts';
import type { Log } from './deps.ts';

const LOOK_MS = 1_000;
/** Told again so often. */
const TELL_MS = 30_000;

/** @throws {StoreError} STORE_OLDER where that takes too long; as `standingOf` where the database is not ours or not there. */
export async function migrated(
  url: string,
  log: Log,
  { waitMs = MIGRATION_WAIT_MS, lookMs = LOOK_MS } = {},
): Promise<void> {
  const begun = performance.now();
  let told = -Infinity;
  for (;;) {
    const { version, known } = await standingOf(url);
    // A newer one is refused by whoever opens the store.
    if (version >= known) return;
    const waited = performance.now() - begun;
    if (waited >= waitMs)
      throw new StoreError(
        'STORE_OLDER',
        `the database has schema ${version}, this build needs ${known}, and nobody migrated it: run bootproof server migrate, or start without --no-migrate`,
      );
    if (waited - told >= TELL_MS) {
      told = waited;
      log('warn', 'waiting for migration', { schema: version, needed: known, run: 'bootproof server migrate' });
    }
    await sleep(Math.min(lookMs, waitMs));
  }
}

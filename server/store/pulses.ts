/** The lock on everything that is written about a host: the row of its pulse. */
import type { Tx } from './engine.ts';

/** Locks the pulses of these hosts, in order, and answers their revisions. */
export async function lockPulses(
  tx: Tx,
  ids: readonly string[],
): Promise<Map<string, { revision: number; state: string }>> {
  const sorted = [...ids].sort();
  const rows = await tx.bulk.select(
    'pulse',
    ['host_id', 'revision', 'state'],
    ['host_id'],
    sorted.map((host_id) => ({ host_id })),
    true,
  );
  return new Map(rows.map(({ host_id, revision, state }) => [host_id, { revision, state }]));
}

/** A log as a database holds it, for its verification (verify.ts). */
import { noteKey, type NoteKey } from '#src/signing/note.ts';
import { parsePublicKey } from '#src/signing/ed25519.ts';
import { LOG_CHECK_ROWS } from '#src/limits.ts';
import type { LogHead } from '#server/store/logrecords.ts';
import type { Store } from '#server/store/store.ts';
import { checkRows } from './checkrows.ts';
import type { LogReader } from './verify.ts';

/** By what the database itself says; who verifies should know it another way. */
export const keyOf = ({ origin, publicKey }: Pick<LogHead, 'origin' | 'publicKey'>): NoteKey =>
  noteKey(origin, 1, parsePublicKey(publicKey));

export function storeReader(
  store: Pick<Store, 'log' | 'anchors' | 'settings'>,
  head: Pick<LogHead, 'log' | 'origin' | 'size' | 'root'>,
): LogReader {
  const { log: rows } = store;
  const { log, origin, size, root } = head;
  return {
    origin,
    size,
    root,
    async entries(from, count) {
      const found = new Map((await rows.entries(log, from, count)).map(({ index, entry }) => [index, entry]));
      return Array.from({ length: count }, (_, i) => found.get(from + i));
    },
    tile: async (level, n, width) => (await rows.tile(log, level, n))?.subarray(0, width * 32),
    checkpoints: (from) => rows.checkpoints(origin, from, LOG_CHECK_ROWS),
    async rows(from) {
      const checked = await checkRows(store, head, from);
      if (checked.next !== null) return checked;
      // Behind the last place: somebody wrote a row that was never hashed.
      const beyond = await rows.entries(log, size, 1);
      const faults = beyond.map(({ index }) => ({
        place: `entry ${index}`,
        detail: 'lies behind the end of the log: its row was added',
      }));
      return { ...checked, faults: [...checked.faults, ...faults] };
    },
  };
}

/**
 * Where finished bundles lie (docs/evidence.md 7.6): beside an SQLite database; on PostgreSQL in the database, in pieces, so that every process on it
 * gives them away. Either way one piece is in memory.
 */
import { createReadStream } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { EXPORT_BYTES_MAX, EXPORT_PAGE, EXPORT_PIECE_BYTES, EXPORT_STORED_BYTES_MAX } from '#src/limits.ts';
import type { Store } from '#server/store/store.ts';
import { fileOf, folderIds, removeFiles, type Attempt } from './attempts.ts';

export interface BundleFiles {
  /** The largest that is taken. */
  readonly bytesMax: number;
  /** Puts the file that an attempt made where it stays. */
  keep(attempt: Attempt, signal: AbortSignal): Promise<void>;
  /** What was made of an attempt, but for the finished file: its time is over. */
  keepOnly(attempt: Attempt): Promise<void>;
  /** Whether it is there, whole. */
  has(attempt: Attempt, bytes: number): Promise<boolean>;
  /** Its bytes from one place to another, that included. */
  read(attempt: Attempt, from: number, to: number): AsyncIterable<Uint8Array>;
  /** Everything of an export. */
  remove(id: string): Promise<void>;
  /** Exports of which something is there. */
  ids(): Promise<readonly string[]>;
}

export const bundleFiles = (store: Store, folder: string): BundleFiles =>
  store.engine === 'postgres' ? inStore(store, folder) : onDisk(folder);

const onDisk = (folder: string): BundleFiles => ({
  bytesMax: EXPORT_BYTES_MAX,
  keep: () => Promise.resolve(),
  keepOnly: (attempt) => removeFiles(folder, attempt.id, [fileOf(folder, attempt)]),
  has: (attempt, bytes) =>
    stat(fileOf(folder, attempt)).then(
      ({ size }) => size === bytes,
      () => false,
    ),
  read: (attempt, from, to) => createReadStream(fileOf(folder, attempt), { start: from, end: to }),
  remove: (id) => removeFiles(folder, id),
  ids: () => folderIds(folder),
});

const inStore = (store: Store, folder: string): BundleFiles => {
  const { pieces } = store.evidence;
  const removeBut = async (id: string, attempts: number | null): Promise<void> => {
    while ((await pieces.remove(id, attempts, EXPORT_PAGE)) > 0);
  };
  return {
    bytesMax: EXPORT_STORED_BYTES_MAX,
    async keep(attempt, signal) {
      await using file = await open(fileOf(folder, attempt), 'r');
      const room = new Uint8Array(EXPORT_PIECE_BYTES);
      for (let n = 0; ; n++) {
        signal.throwIfAborted();
        const { bytesRead } = await file.read(room, 0, room.length, n * room.length);
        if (bytesRead > 0) await pieces.put(attempt, n, room.subarray(0, bytesRead));
        if (bytesRead < room.length) return;
      }
    },
    async keepOnly({ id, attempts }) {
      await removeBut(id, attempts);
      await removeFiles(folder, id);
    },
    async has(attempt, bytes) {
      const last = await pieces.get(attempt, Math.ceil(bytes / EXPORT_PIECE_BYTES) - 1);
      return last?.length === ((bytes - 1) % EXPORT_PIECE_BYTES) + 1;
    },
    async *read(attempt, from, to) {
      for (let at = from; at <= to;) {
        const n = Math.floor(at / EXPORT_PIECE_BYTES);
        const piece = await pieces.get(attempt, n);
        if (piece === undefined)
          throw new Error(`piece ${n} of the export ${attempt.id} is gone: it was deleted meanwhile`);
        const begin = n * EXPORT_PIECE_BYTES;
        yield piece.subarray(at - begin, to + 1 - begin);
        at = begin + EXPORT_PIECE_BYTES;
      }
    },
    async remove(id) {
      await removeBut(id, null);
      await removeFiles(folder, id);
    },
    ids: async () => [...new Set([...(await pieces.ids()), ...(await folderIds(folder))])],
  };
};

/** A copy of an SQLite database, of one moment, while others write to it. */
import { closeSync, fsyncSync, openSync } from 'node:fs';
import { isSqlite, translate } from './sqlite.ts';
import { openReader } from './sqlitereader.ts';
import { StoreError } from './store.ts';

/**
 * Writes everything that was committed into a new file, without what lay in free pages: what was purged is not in it. Durable when it returns.
 * Holds one reading transaction, and this thread, until it is done.
 * @throws {StoreError} STORE_UNAVAILABLE where there is no room, or the database cannot be read.
 */
export function copySqlite(path: string, to: string): void {
  const from = openReader(path);
  try {
    // Made first: SQLite would let everybody read it, and it holds the server's keys.
    closeSync(openSync(to, 'wx', 0o600));
    from.prepare('vacuum into ?').run(to);
    const file = openSync(to, 'r+');
    try {
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
  } catch (error) {
    if (isSqlite(error)) throw translate(error);
    const { code = String(error) } = error as NodeJS.ErrnoException;
    throw new StoreError('STORE_UNAVAILABLE', `the copy cannot be written to ${to}: ${code}`, { cause: error });
  } finally {
    from.close();
  }
}

/** A reading connection to SQLite, as the event loop and the threads beside it open it alike. */
import Database from 'better-sqlite3';
import { globMatcher } from '#src/finding/exempt.ts';
import { SQLITE_BUSY_WAIT_MS, SQLITE_STATEMENTS_MAX } from '#src/limits.ts';
import { StoreError } from './store.ts';

export type Statement = Database.Statement;

/** Prepared statements by their text, the longest unused dropped first. */
export function statements(db: Database.Database): (text: string) => Statement {
  const kept = new Map<string, Statement>();
  return (text) => {
    const known = kept.get(text);
    if (known !== undefined && kept.size < SQLITE_STATEMENTS_MAX / 2) return known;
    if (known !== undefined) kept.delete(text);
    const statement = known ?? db.prepare(text);
    kept.set(text, statement);
    if (kept.size > SQLITE_STATEMENTS_MAX) kept.delete(kept.keys().next().value!);
    return statement;
  };
}

/** SQLite would take a NUL inside text and PostgreSQL would not: one contract, so neither does. */
export function checked(parameters: readonly unknown[]): readonly unknown[] {
  for (const value of parameters)
    if (typeof value === 'string' && value.includes('\0'))
      throw new StoreError('STORE_TEXT', 'text for the store holds a NUL character');
  return parameters;
}

/** Sets what every connection has: memory for pages and sorting, and `bp_glob`. */
export function prepareConnection(db: Database.Database, cacheKiB = 65_536): void {
  db.pragma(`cache_size = -${cacheKiB}`);
  db.pragma('temp_store = memory');
  db.function('bp_glob', { deterministic: true }, globFunction());
}

/** Opens a database that stands already. */
export function openReader(path: string, cacheKiB?: number): Database.Database {
  const reader = new Database(path, { readonly: true, timeout: SQLITE_BUSY_WAIT_MS });
  prepareConnection(reader, cacheKiB);
  return reader;
}

/** `bp_glob(glob, subject)`: the policies' own globs, so that a filter means what a policy would. */
function globFunction(): (glob: unknown, subject: unknown) => number {
  const known = new Map<string, (subject: string) => boolean>();
  return (glob, subject) => {
    const source = String(glob);
    let matches = known.get(source);
    if (matches === undefined) {
      if (known.size > 100) known.clear();
      matches = globMatcher(source);
      known.set(source, matches);
    }
    return matches(String(subject)) ? 1 : 0;
  };
}

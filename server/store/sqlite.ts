/**
 * The store on SQLite: one writing connection, its transactions one after another; one read-only connection beside it.
 * Writes of this process wait in a queue of promises, not in SQLite's busy handler, which would stop the event loop.
 */
import { closeSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { Kysely, sql, SqliteDialect, type SqliteDatabase } from 'kysely';
import type { ReadonlyKysely } from 'kysely/readonly';
import { SQLITE_BUSY_WAIT_MS, SQLITE_STATEMENTS_MAX, SQLITE_WAL_PAGES } from '#src/limits.ts';
import { globMatcher } from '#src/finding/exempt.ts';
import { makeFolders } from '#server/folder.ts';
import { conflictClause, quoted } from './bulktext.ts';
import type { Bulk, Engine, Tx } from './engine.ts';
import { migrate } from './migrate.ts';
import type { Tables } from './tables.ts';
import { StoreError } from './store.ts';

type Statement = Database.Statement;

/** Prepared statements by their text, the longest unused dropped first. */
function statements(db: Database.Database): (text: string) => Statement {
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
function checked(parameters: readonly unknown[]): readonly unknown[] {
  for (const value of parameters)
    if (typeof value === 'string' && value.includes('\0'))
      throw new StoreError('STORE_TEXT', 'text for the store holds a NUL character');
  return parameters;
}

/** What Kysely needs of a database, over prepared statements that are kept. */
function forKysely(db: Database.Database, prepare: (text: string) => Statement): SqliteDatabase {
  return {
    close: () => db.close(),
    prepare: (text) => {
      const statement = prepare(text);
      return {
        reader: statement.reader,
        all: (parameters) => statement.all(...checked(parameters)),
        run: (parameters) => statement.run(...checked(parameters)),
        iterate: (parameters) => statement.iterate(...checked(parameters)),
      };
    },
  };
}

function bulkOf(prepare: (text: string) => Statement): Bulk {
  const values = (row: Readonly<Record<string, unknown>>, columns: readonly string[]) =>
    checked(columns.map((column) => row[column]));
  const insertText = (table: string, columns: readonly string[], tail: string) =>
    `insert into "${table}" (${quoted(columns)}) values (${columns.map(() => '?').join(', ')})${tail}`;
  const where = (columns: readonly string[]) => columns.map((c) => `"${c}" = ?`).join(' and ');
  return {
    async insert(table, columns, rows, conflict) {
      if (rows.length === 0) return;
      const statement = prepare(insertText(table, columns, conflictClause(table, conflict)));
      for (const row of rows) statement.run(...values(row, columns));
    },
    async addReturning(table, columns, rows, conflict) {
      if (rows.length === 0) return [];
      const tail = `${conflictClause(table, conflict)} returning ${quoted(columns)}`;
      const statement = prepare(insertText(table, columns, tail));
      return rows.map((row) => statement.get(...values(row, columns)) as never);
    },
    async update(table, key, set, rows) {
      if (rows.length === 0) return;
      const assignments = set.map((c) => `"${c}" = ?`).join(', ');
      const statement = prepare(`update "${table}" set ${assignments} where ${where(key)}`);
      const columns = [...set, ...key];
      for (const row of rows) statement.run(...values(row, columns));
    },
    async select(table, columns, key, keys) {
      const statement = prepare(`select ${quoted(columns)} from "${table}" where ${where(key)}`);
      return keys.flatMap((one) => statement.all(...values(one, key)) as never[]);
    },
  };
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

const FOREIGN = new Set(['SQLITE_NOTADB', 'SQLITE_CORRUPT']);
const isSqlite = (error: unknown): error is Error & { code: string } => error instanceof Database.SqliteError;

function translate(error: unknown): unknown {
  if (!isSqlite(error)) return error;
  const { code } = error;
  if (/^SQLITE_(BUSY|LOCKED|FULL|IOERR|READONLY|CANTOPEN|NOMEM|CORRUPT)/.test(code))
    return new StoreError('STORE_UNAVAILABLE', `SQLite could not: ${error.message} (${code})`, { cause: error });
  return error;
}

/** Opens or makes the file, readable to its owner alone: it holds the server's keys. */
function open(path: string): Database.Database {
  try {
    makeFolders(dirname(path));
    closeSync(openSync(path, 'a', 0o600));
    return new Database(path, { timeout: SQLITE_BUSY_WAIT_MS });
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new StoreError('STORE_FOLDER', `the store cannot be opened or made at ${JSON.stringify(path)}: ${why}`, {
      cause,
    });
  }
}

/** @throws {StoreError} STORE_FOLDER, STORE_FOREIGN, STORE_NEWER, STORE_UNAVAILABLE. */
export async function openSqlite(path: string): Promise<Engine> {
  const writer = open(path);
  const prepare = statements(writer);
  const db = new Kysely<Tables>({ dialect: new SqliteDialect({ database: forKysely(writer, prepare) }) });
  const tx: Tx = { db, bulk: bulkOf(prepare), locks: false };
  let tail: Promise<unknown> = Promise.resolve();
  let closed = false;

  async function begin(): Promise<void> {
    // Another process writes: wait without holding the event loop.
    for (let attempt = 1; ; attempt++) {
      try {
        prepare('begin immediate').run();
        return;
      } catch (error) {
        if (!isSqlite(error) || !error.code.startsWith('SQLITE_BUSY') || attempt >= 200) throw error;
        await sleep(Math.min(5 * attempt, 50));
      }
    }
  }
  async function transaction<T>(work: (tx: Tx) => Promise<T>): Promise<T> {
    await begin();
    try {
      const answer = await work(tx);
      prepare('commit').run();
      return answer;
    } catch (error) {
      if (writer.inTransaction) prepare('rollback').run();
      throw error;
    }
  }
  const shut = () => new StoreError('STORE_CLOSED', 'the store was closed');
  async function write<T>(work: (tx: Tx) => Promise<T>): Promise<T> {
    if (closed) throw shut();
    const mine = tail.then(() => transaction(work));
    // The next writer only waits for the end of this one; its failure belongs to its own caller.
    tail = mine.then(
      () => undefined,
      () => undefined,
    );
    try {
      return await mine;
    } catch (error) {
      throw translate(error);
    }
  }

  let reader: Database.Database;
  try {
    // The order matters: a file that is no database must fail before anything is changed in it.
    writer.prepare('select count(*) from sqlite_master').get();
    writer.pragma('journal_mode = WAL');
    writer.pragma('synchronous = FULL');
    writer.pragma(`wal_autocheckpoint = ${SQLITE_WAL_PAGES}`);
    writer.pragma('cache_size = -65536');
    writer.pragma('temp_store = memory');
    await write(async ({ db }) => {
      const { rows } = await sql<{ name: string }>`
        select name from sqlite_master where type = 'table' and name not like 'sqlite_%'`.execute(db);
      const dialect = { text: 'text', bytes: 'blob', clustered: ' without rowid' };
      await migrate(
        db,
        dialect,
        rows.map(({ name }) => name),
      );
    });
    reader = new Database(path, { readonly: true, timeout: SQLITE_BUSY_WAIT_MS });
    reader.pragma('cache_size = -65536');
    reader.pragma('temp_store = memory');
    // Both: previews of acts on many choose what they cover inside their write.
    for (const one of [reader, writer]) one.function('bp_glob', { deterministic: true }, globFunction());
  } catch (error) {
    writer.close();
    if (isSqlite(error) && FOREIGN.has(error.code))
      throw new StoreError('STORE_FOREIGN', `${JSON.stringify(path)} is no database of ours: ${error.message}`, {
        cause: error,
      });
    throw translate(error);
  }
  const prepareRead = statements(reader);
  const bulkRead = bulkOf(prepareRead);
  const read = new Kysely<Tables>({
    dialect: new SqliteDialect({ database: forKysely(reader, prepareRead) }),
  }) as unknown as ReadonlyKysely<Tables>;
  const select: Bulk['select'] = (...args) => bulkRead.select(...args);

  return {
    kind: 'sqlite',
    write,
    async reading(work) {
      if (closed) throw shut();
      try {
        return await work(read, select);
      } catch (error) {
        throw translate(error);
      }
    },
    async close() {
      if (closed) return;
      closed = true;
      await tail;
      // The writer last: closing it folds the log into the file.
      reader.close();
      writer.close();
    },
  };
}

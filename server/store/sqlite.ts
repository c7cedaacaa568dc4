/**
 * The store on SQLite: one writing connection, its transactions one after another; one read-only connection beside it, and
 * more of them in threads for lists (listthreads.ts).
 * Writes of this process wait in a queue of promises, not in SQLite's busy handler, which would stop the event loop.
 */
import { closeSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { Kysely, sql, SqliteDialect, type SqliteDatabase } from 'kysely';
import type { ReadonlyKysely } from 'kysely/readonly';
import { LIST_INLINE_BYTES, LIST_MS, SQLITE_BUSY_WAIT_MS, SQLITE_WAL_PAGES } from '#src/limits.ts';
import { makeFolders } from '#server/folder.ts';
import { conflictClause, quoted } from './bulktext.ts';
import type { Bulk, Engine, Tx } from './engine.ts';
import { ListThreads } from './listthreads.ts';
import { DIALECTS, migrate } from './migrate.ts';
import { checked, openReader, prepareConnection, statements, type Statement } from './sqlitereader.ts';
import type { Tables } from './tables.ts';
import { StoreError } from './store.ts';

/** What Kysely needs of a database, over prepared statements that are kept. */
export function forKysely(db: Database.Database, prepare: (text: string) => Statement): SqliteDatabase {
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

export function bulkOf(prepare: (text: string) => Statement): Bulk {
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

export const FOREIGN = new Set(['SQLITE_NOTADB', 'SQLITE_CORRUPT']);
export const isSqlite = (error: unknown): error is Error & { code: string } => error instanceof Database.SqliteError;

export function translate(error: unknown): unknown {
  if (!isSqlite(error)) return error;
  const { code } = error;
  if (/^SQLITE_(BUSY|LOCKED|FULL|IOERR|READONLY|CANTOPEN|NOMEM|CORRUPT)/.test(code))
    return new StoreError('STORE_UNAVAILABLE', `SQLite could not: ${error.message} (${code})`, { cause: error });
  return error;
}

/**
 * Opens or makes the file, readable to its owner alone: it holds the server's keys. One that is there is opened by SQLite alone: closing
 * any descriptor of it would take away the locks of every connection in this process (sqlite.org/howtocorrupt.html, 2.2), and whoever
 * closed it last elsewhere would then remove the log that these still write.
 */
function open(path: string): Database.Database {
  try {
    makeFolders(dirname(path));
    makeFile(path);
    return new Database(path, { timeout: SQLITE_BUSY_WAIT_MS });
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new StoreError('STORE_FOLDER', `the store cannot be opened or made at ${JSON.stringify(path)}: ${why}`, {
      cause,
    });
  }
}

function makeFile(path: string): void {
  try {
    closeSync(openSync(path, 'wx', 0o600));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

/** How lists are read; otherwise as limits say. */
export type Listing = {
  readonly inlineBytes?: number;
  readonly listMs?: number;
  /** Pages that a connection keeps. */
  readonly cacheKiB?: number;
};

/** @throws {StoreError} STORE_FOLDER, STORE_FOREIGN, STORE_NEWER, STORE_UNAVAILABLE. */
export async function openSqlite(path: string, listing: Listing = {}): Promise<Engine> {
  const { inlineBytes = LIST_INLINE_BYTES, listMs = LIST_MS, cacheKiB } = listing;
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
    // Previews of acts on many choose what they cover inside their write.
    prepareConnection(writer, cacheKiB);
    await write(async ({ db }) => {
      const { rows } = await sql<{ name: string }>`
        select name from sqlite_master where type = 'table' and name not like 'sqlite_%'`.execute(db);
      await migrate(
        db,
        DIALECTS.sqlite,
        rows.map(({ name }) => name),
      );
    });
    reader = openReader(path, cacheKiB);
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
  const threads = new ListThreads(path);
  const pageBytes = Number(reader.pragma('page_size', { simple: true }));
  const pages = reader.prepare<[], number>('pragma page_count').pluck();
  const isSmall = () => pages.get()! * pageBytes <= inlineBytes;

  async function reading<T>(work: () => Promise<T>): Promise<T> {
    if (closed) throw shut();
    try {
      return await work();
    } catch (error) {
      throw translate(error);
    }
  }
  return {
    kind: 'sqlite',
    write,
    reading: (work) => reading(() => work(read, select)),
    listing: (work) => reading(() => work(isSmall() ? read : threads.reader(listMs))),
    async close() {
      if (closed) return;
      closed = true;
      await tail;
      await threads.close();
      // The writer last: closing it folds the log into the file.
      reader.close();
      writer.close();
    },
  };
}

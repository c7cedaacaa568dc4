/**
 * One moment of a database, read from beginning to end: beside a server that goes on writing, without migrating and without writing anything.
 * SQLite: a reading transaction (until it ends the write-ahead log cannot shrink). PostgreSQL: REPEATABLE READ, READ ONLY, also on a standby.
 */
import { existsSync } from 'node:fs';
import { Kysely, PostgresDialect, sql, SqliteDialect } from 'kysely';
import type { ReadonlyKysely } from 'kysely/readonly';
import type { Bulk, Engine } from './engine.ts';
import { schemaOf, SCHEMA_VERSION } from './migrate.ts';
import { bulkOf as postgresBulk, columnTypes, poolOf, translate as translatePostgres } from './postgres.ts';
import { bulkOf as sqliteBulk, forKysely, FOREIGN, isSqlite, translate as translateSqlite } from './sqlite.ts';
import { openReader, statements } from './sqlitereader.ts';
import { StoreError, type Store } from './store.ts';
import { storeOn } from './open.ts';
import { soundnessOn, type Soundness } from './sound/reads.ts';
import type { Tables } from './tables.ts';

export type Moment = {
  readonly engine: Engine['kind'];
  /** Reads of the moment; a write rejects. */
  readonly store: Store;
  readonly sound: Soundness;
  close(): Promise<void>;
};

type Held = Pick<Engine, 'kind'> & {
  readonly db: Kysely<Tables>;
  readonly select: Bulk['select'];
  readonly translate: (error: unknown) => unknown;
  end(): Promise<void>;
};

/** @throws {StoreError} STORE_URL, STORE_FOLDER, STORE_FOREIGN, STORE_NEWER, STORE_OLDER, STORE_UNAVAILABLE. */
export async function openMoment(url: string): Promise<Moment> {
  const held = url.startsWith('sqlite:') ? openFile(url.slice('sqlite:'.length)) : await openServer(url);
  let closed = false;
  const read = held.db as unknown as ReadonlyKysely<Tables>;
  const reading = async <T>(work: (db: ReadonlyKysely<Tables>, select: Bulk['select']) => Promise<T>): Promise<T> => {
    if (closed) throw new StoreError('STORE_CLOSED', 'it was closed');
    try {
      return await work(read, held.select);
    } catch (error) {
      throw held.translate(error);
    }
  };
  const close = async (): Promise<void> => {
    if (closed) return;
    closed = true;
    await held.end();
  };
  const engine: Engine = {
    kind: held.kind,
    reading,
    listing: (work) => reading((db) => work(db)),
    write: () => Promise.reject(new Error('a moment of the past is never written')),
    close,
  };
  try {
    await mustBeOurs(engine);
    return { engine: held.kind, store: storeOn(engine), sound: soundnessOn(engine), close };
  } catch (error) {
    await close();
    throw error;
  }
}

function openFile(path: string): Held {
  if (!existsSync(path))
    throw new StoreError(
      'STORE_FOLDER',
      `there is no database at ${JSON.stringify(path)}: name its folder with --data`,
    );
  const translated = (error: unknown): unknown =>
    isSqlite(error) && FOREIGN.has(error.code)
      ? new StoreError('STORE_FOREIGN', `${JSON.stringify(path)} is damaged, or no database: ${error.message}`, {
          cause: error,
        })
      : translateSqlite(error);
  let file;
  try {
    file = openReader(path);
  } catch (error) {
    throw translated(error);
  }
  const prepare = statements(file);
  const db = new Kysely<Tables>({ dialect: new SqliteDialect({ database: forKysely(file, prepare) }) });
  const bulk = sqliteBulk(prepare);
  file.exec('begin');
  return {
    kind: 'sqlite',
    db,
    select: (...args) => bulk.select(...args),
    translate: translated,
    // Nothing was written: closing ends the transaction.
    end: () => Promise.resolve(void file.close()),
  };
}

async function openServer(url: string): Promise<Held> {
  if (!/^postgres(?:ql)?:\/\//.test(url))
    throw new StoreError('STORE_URL', 'expected sqlite:PATH or postgres://…: nothing else is a store of ours');
  // 0: whoever looks at every row of a large database takes as long as that takes.
  const pool = poolOf(url, 1, 0);
  const db = new Kysely<Tables>({ dialect: new PostgresDialect({ pool }) });
  try {
    const tx = await db.startTransaction().setIsolationLevel('repeatable read').setAccessMode('read only').execute();
    await sql`set local idle_in_transaction_session_timeout = 0`.execute(tx);
    const bulk = postgresBulk(tx, await columnTypes(tx));
    return {
      kind: 'postgres',
      db: tx,
      select: (...args) => bulk.select(...args),
      translate: translatePostgres,
      end: async () => {
        // One that broke under us is gone already.
        await tx
          .rollback()
          .execute()
          .catch(() => undefined);
        await db.destroy();
      },
    };
  } catch (error) {
    await db.destroy();
    throw translatePostgres(error);
  }
}

async function mustBeOurs(engine: Engine): Promise<void> {
  const schema = await engine.reading(async (db) => {
    const { rows } = await (
      engine.kind === 'sqlite'
        ? sql<{ name: string }>`select name from sqlite_master where name = 'store_schema'`
        : sql<{ name: string }>`select table_name as name from information_schema.tables
          where table_schema = current_schema() and table_name = 'store_schema'`
    ).execute(db as unknown as Kysely<Tables>);
    return rows.length === 0 ? undefined : schemaOf(db);
  });
  if (schema === undefined)
    throw new StoreError('STORE_FOREIGN', 'there is nothing of ours in this database: was another one meant?');
  if (schema > SCHEMA_VERSION)
    throw new StoreError(
      'STORE_NEWER',
      `the database has schema ${schema}, this build knows up to ${SCHEMA_VERSION}: use the newer build`,
    );
  if (schema < SCHEMA_VERSION)
    throw new StoreError(
      'STORE_OLDER',
      `the database has schema ${schema}, this build reads ${SCHEMA_VERSION}: use the build that wrote it, or bring it up to this one with 'bootproof server migrate'`,
    );
}

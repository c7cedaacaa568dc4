/** How much room the store takes, and how much is left: for metrics, and whoever must see a full disk come. */
import { stat, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { sql, type Kysely } from 'kysely';
import type { Engine } from './engine.ts';
import type { Tables } from './tables.ts';

export type StoreSizes = {
  /** Of the whole database, its write-ahead log not counted; null where the engine does not tell. */
  readonly bytes: number | null;
  /** Of the write-ahead log (SQLite). */
  readonly walBytes: number | null;
  /** Inside the database, free for what is written next (SQLite). */
  readonly unusedBytes: number | null;
  /** On the disk that it lies on (SQLite). */
  readonly freeBytes: number | null;
  /** The largest tables with their indexes, largest first (PostgreSQL). */
  readonly tables: readonly { readonly name: string; readonly bytes: number }[];
};

/** Tables that are told one by one: the large ones are reports, findings, judgements, the log and blobs. */
const TABLES_TOLD = 12;

export function sizesOf(engine: Engine): Promise<StoreSizes> {
  return engine.reading(async (db) => {
    const asked = db as unknown as Kysely<Tables>;
    return engine.kind === 'sqlite' ? sqliteSizes(asked) : postgresSizes(asked);
  });
}

async function sqliteSizes(db: Kysely<Tables>): Promise<StoreSizes> {
  const { rows } = await sql<{ pages: number; page: number; unused: number; file: string }>`
    select p.page_count as pages, s.page_size as page, f.freelist_count as unused, d.file as file
    from pragma_page_count() p, pragma_page_size() s, pragma_freelist_count() f, pragma_database_list() d
    where d.name = 'main'`.execute(db);
  const { pages, page, unused, file } = rows[0]!;
  const [wal, disk] = await Promise.all([
    stat(`${file}-wal`).then(
      ({ size }) => size,
      (error: unknown) => {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
        return 0;
      },
    ),
    statfs(dirname(file)),
  ]);
  return {
    bytes: pages * page,
    walBytes: wal,
    unusedBytes: unused * page,
    freeBytes: disk.bavail * disk.bsize,
    tables: [],
  };
}

async function postgresSizes(db: Kysely<Tables>): Promise<StoreSizes> {
  const nothing = { bytes: null, walBytes: null, unusedBytes: null, freeBytes: null, tables: [] };
  try {
    const { rows } = await sql<{ bytes: number }>`select pg_database_size(current_database()) as bytes`.execute(db);
    const tables = await sql<{ name: string; bytes: number }>`
      select relname as name, pg_total_relation_size(oid) as bytes from pg_class
      where relkind = 'r' and relnamespace = current_schema()::regnamespace
      order by 2 desc limit ${TABLES_TOLD}`.execute(db);
    return { ...nothing, bytes: rows[0]!.bytes, tables: tables.rows };
  } catch (error) {
    // 42883: of the distributed kin not every one has these functions.
    if ((error as { readonly code?: string }).code !== '42883') throw error;
    return nothing;
  }
}

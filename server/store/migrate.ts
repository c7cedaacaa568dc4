/** Forward migrations: one list for both engines, each step in the transaction that records it. */
import { sql, type Kysely } from 'kysely';
import type { ReadonlyKysely } from 'kysely/readonly';
import type { Tables } from './tables.ts';
import { schema0001, type Dialect } from './migrations/0001.ts';
import { schema0002 } from './migrations/0002.ts';
import { schema0003 } from './migrations/0003.ts';
import { schema0004 } from './migrations/0004.ts';
import { schema0005 } from './migrations/0005.ts';
import { schema0006 } from './migrations/0006.ts';
import { schema0007 } from './migrations/0007.ts';
import { schema0008 } from './migrations/0008.ts';
import { schema0009 } from './migrations/0009.ts';
import { schema0010 } from './migrations/0010.ts';
import { schema0011 } from './migrations/0011.ts';
import { schema0012 } from './migrations/0012.ts';
import { schema0013 } from './migrations/0013.ts';
import { schema0014 } from './migrations/0014.ts';
import { schema0015 } from './migrations/0015.ts';
import { StoreError } from './store.ts';

export const DIALECTS: Readonly<Record<'sqlite' | 'postgres', Dialect>> = {
  sqlite: {
    text: 'text',
    bytes: 'blob',
    clustered: ' without rowid',
    position: 'instr',
    eachOf: (json, key) => `json_each(${json}, '$.${key}')`,
  },
  // Byte order, as SQLite and JavaScript compare: keyset pages and prefix ranges rest on it.
  postgres: {
    text: 'text collate "C"',
    bytes: 'bytea',
    clustered: '',
    position: 'strpos',
    eachOf: (json, key) => `jsonb_array_elements(cast(${json} as jsonb) -> '${key}')`,
  },
};

/** By version, from 1: what has landed never changes. */
export const MIGRATIONS: readonly ((dialect: Dialect) => readonly string[])[] = [
  schema0001,
  schema0002,
  schema0003,
  schema0004,
  schema0005,
  schema0006,
  schema0007,
  schema0008,
  schema0009,
  schema0010,
  schema0011,
  schema0012,
  schema0013,
  schema0014,
  schema0015,
];

/** The schema that this build reads and writes. */
export const SCHEMA_VERSION = MIGRATIONS.length;

/** The schema of a database that is ours; 0 before its first. */
export async function schemaOf(db: Kysely<Tables> | ReadonlyKysely<Tables>): Promise<number> {
  const { rows } = await sql<{ version: number | null }>`select max(version) as version from store_schema`.execute(
    db as Kysely<Tables>,
  );
  return rows[0]?.version ?? 0;
}

/**
 * Brings an empty or older database up to this build. Runs inside one transaction that excludes other migrators.
 * @throws {StoreError} STORE_FOREIGN where other tables stand in it, STORE_NEWER where a newer build was here.
 */
export async function migrate(db: Kysely<Tables>, dialect: Dialect, tables: readonly string[]): Promise<void> {
  if (!tables.includes('store_schema')) {
    if (tables.length > 0)
      throw new StoreError(
        'STORE_FOREIGN',
        `this database holds other tables (${tables.slice(0, 3).join(', ')} …) and none of ours; name an empty one`,
      );
    await sql`create table store_schema (version bigint primary key)`.execute(db);
  }
  const version = await schemaOf(db);
  if (version > SCHEMA_VERSION)
    throw new StoreError(
      'STORE_NEWER',
      `the database has schema ${version}, this build knows up to ${SCHEMA_VERSION}: start the newer build, or restore the backup made before the upgrade`,
    );
  for (let next = version; next < SCHEMA_VERSION; next++) {
    for (const statement of MIGRATIONS[next]!(dialect)) await sql.raw(statement).execute(db);
    await sql`insert into store_schema (version) values (${next + 1})`.execute(db);
  }
}

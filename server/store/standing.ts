/** How a database stands before anything is done to it: whether it is there, ours, and of which schema. Nothing is made or changed. */
import { existsSync } from 'node:fs';
import Database from 'better-sqlite3';
import pg from 'pg';
import { STANDING_WAIT_MS } from '#src/limits.ts';
import { DIALECTS, MIGRATIONS, SCHEMA_VERSION } from './migrate.ts';
import { StoreError } from './store.ts';

export type Standing = {
  readonly engine: 'sqlite' | 'postgres';
  /** The database's; 0: nothing of ours is in it yet. */
  readonly version: number;
  /** What this build reads and writes. */
  readonly known: number;
  /** Each step from the one to the other, with its statements. */
  readonly steps: readonly { readonly version: number; readonly statements: readonly string[] }[];
};

/** @throws {StoreError} STORE_URL, STORE_FOREIGN where other tables stand in it, STORE_UNAVAILABLE where it does not answer. */
export async function standingOf(url: string): Promise<Standing> {
  const engine = url.startsWith('sqlite:') ? 'sqlite' : 'postgres';
  const version = engine === 'sqlite' ? sqliteVersion(url.slice('sqlite:'.length)) : await postgresVersion(url);
  const steps = MIGRATIONS.map((step, at) => ({ version: at + 1, statements: step(DIALECTS[engine]) }));
  return { engine, version, known: SCHEMA_VERSION, steps: steps.slice(version) };
}

const foreign = (tables: readonly string[]): StoreError =>
  new StoreError(
    'STORE_FOREIGN',
    `this database holds other tables (${tables.slice(0, 3).join(', ')} …) and none of ours; name an empty one`,
  );

function sqliteVersion(path: string): number {
  if (!existsSync(path)) return 0;
  try {
    const db = new Database(path, { readonly: true, timeout: STANDING_WAIT_MS });
    try {
      const tables = db
        .prepare<[], string>("select name from sqlite_master where type = 'table' and name not like 'sqlite_%'")
        .pluck()
        .all();
      if (tables.length === 0) return 0;
      if (!tables.includes('store_schema')) throw foreign(tables);
      return db.prepare<[], number | null>('select max(version) from store_schema').pluck().get() ?? 0;
    } finally {
      db.close();
    }
  } catch (cause) {
    if (!(cause instanceof Database.SqliteError)) throw cause;
    const code = cause.code === 'SQLITE_NOTADB' ? 'STORE_FOREIGN' : 'STORE_UNAVAILABLE';
    throw new StoreError(code, `${JSON.stringify(path)} cannot be read as a database: ${cause.message}`, { cause });
  }
}

async function postgresVersion(url: string): Promise<number> {
  const client = new pg.Client({
    connectionString: url,
    application_name: 'bootproof',
    connectionTimeoutMillis: STANDING_WAIT_MS,
    statement_timeout: STANDING_WAIT_MS,
  });
  // A connection that breaks fails its query; besides that it is an event, which unheard would end the process.
  client.on('error', () => undefined);
  try {
    await client.connect();
    const { rows } = await client.query<{ name: string }>(
      'select table_name as name from information_schema.tables where table_schema = current_schema()',
    );
    if (rows.length === 0) return 0;
    if (!rows.some(({ name }) => name === 'store_schema')) throw foreign(rows.map(({ name }) => name));
    const found = await client.query<{ version: string | null }>('select max(version) as version from store_schema');
    return Number(found.rows[0]?.version ?? 0);
  } catch (cause) {
    if (cause instanceof StoreError) throw cause;
    const { code = '', message } = cause as Error & { readonly code?: string };
    throw new StoreError(
      code === '3D000' || code.startsWith('28') ? 'STORE_URL' : 'STORE_UNAVAILABLE',
      `PostgreSQL does not answer as it should: ${message === '' ? code : message}`,
      { cause },
    );
  } finally {
    await client.end().catch(() => undefined);
  }
}

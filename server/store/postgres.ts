/**
 * The store on PostgreSQL: a pool, short transactions at READ COMMITTED with explicit row locks in a fixed order, many rows
 * a statement by unnest. What the database asks to be repeated (40001, 40P01) is repeated, a bounded number of times.
 */
import type { EventEmitter } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { CompiledQuery, Kysely, PostgresDialect, sql } from 'kysely';
import type { ReadonlyKysely } from 'kysely/readonly';
import {
  LIST_MS,
  POSTGRES_BULK_BYTES,
  POSTGRES_CONNECTIONS,
  POSTGRES_LIST_CONNECTIONS,
  POSTGRES_RETRIES_MAX,
  POSTGRES_STATEMENT_MS,
} from '#src/limits.ts';
import { conflictClause, quoted } from './bulktext.ts';
import type { Bulk, Engine, Tx } from './engine.ts';
import { DIALECTS, migrate } from './migrate.ts';
import type { Tables } from './tables.ts';
import { StoreError } from './store.ts';

const INT8 = pg.types.builtins.INT8;
const NUMERIC = pg.types.builtins.NUMERIC;
/** int8 (and sums of it, which are numeric) as numbers: ours stay below 2^53. */
const types: pg.CustomTypesConfig = {
  getTypeParser: ((id: Parameters<typeof pg.types.getTypeParser>[0], format?: 'text') =>
    id === INT8 || id === NUMERIC ? Number : pg.types.getTypeParser(id, format)) as typeof pg.types.getTypeParser,
};

const codeOf = (error: unknown): string =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';

// 23505: two enrolments of one machine, two first writers of one setting; the second run sees what the first one did.
const AGAIN = new Set(['40001', '40P01', '23505']);
const GONE =
  /^(08|53|57P0|58|25006|55P03|57014|ECONN|EPIPE|ETIMEDOUT|ENOTFOUND|EAI_|ENOENT|EACCES|EHOSTUNREACH|ENETUNREACH)/;

/** What the driver says without a code. */
const BROKEN = /^Connection terminated|^Client .*is not queryable$|timeout exceeded when trying to connect/;

export function translate(error: unknown): unknown {
  if (error instanceof StoreError) return error;
  const code = codeOf(error);
  const message = error instanceof Error ? error.message : String(error);
  if (code === '22021')
    return new StoreError('STORE_TEXT', 'text for the store holds a NUL character', { cause: error });
  if (code === '3D000' || code.startsWith('28'))
    return new StoreError('STORE_URL', `PostgreSQL does not let us in: ${message} (${code})`, { cause: error });
  // The driver reports a connection that ended under a query without a code.
  // Of one that broke before, it is the rollback that fails.
  if (GONE.test(code) || BROKEN.test(message))
    return new StoreError('STORE_UNAVAILABLE', `PostgreSQL could not: ${message} (${code || 'connection'})`, {
      cause: error,
    });
  if (AGAIN.has(code) && code !== '23505')
    return new StoreError('STORE_UNAVAILABLE', `PostgreSQL asked to repeat too often: ${message} (${code})`, {
      cause: error,
    });
  return error;
}

/** Column types by `table.column`, for the casts of unnest. */
type ColumnTypes = ReadonlyMap<string, string>;

function sizeOf(row: Readonly<Record<string, unknown>>): number {
  let bytes = 0;
  for (const value of Object.values(row))
    if (value instanceof Uint8Array) bytes += 2 * value.length;
    else if (typeof value === 'string') bytes += value.length;
    else bytes += 8;
  return bytes;
}

/** Rows in portions that one statement can carry. */
function* portions<R extends object>(rows: readonly R[]): Generator<readonly R[]> {
  let start = 0;
  let bytes = 0;
  for (let i = 0; i < rows.length; i++) {
    bytes += sizeOf(rows[i] as Readonly<Record<string, unknown>>);
    if (bytes > POSTGRES_BULK_BYTES && i > start) {
      yield rows.slice(start, i);
      start = i;
      bytes = sizeOf(rows[i] as Readonly<Record<string, unknown>>);
    }
  }
  if (start < rows.length) yield rows.slice(start);
}

export function bulkOf(db: Kysely<Tables>, typesOf: ColumnTypes): Bulk {
  const unnest = (table: string, columns: readonly string[]) =>
    `unnest(${columns.map((c, i) => `$${i + 1}::${typesOf.get(`${table}.${c}`)}[]`).join(', ')})`;
  const arrays = (rows: readonly object[], columns: readonly string[]) =>
    columns.map((c) => rows.map((row) => (row as Readonly<Record<string, unknown>>)[c] ?? null));
  const run = async (text: string, parameters: unknown[]) =>
    (await db.executeQuery(CompiledQuery.raw(text, parameters))).rows;

  const insertText = (table: string, columns: readonly string[], tail: string) =>
    `insert into "${table}" (${quoted(columns)}) select * from ${unnest(table, columns)}${tail}`;
  return {
    async insert(table, columns, rows, conflict) {
      const text = insertText(table, columns, conflictClause(table, conflict));
      for (const part of portions(rows)) await run(text, arrays(part, columns));
    },
    async addReturning(table, columns, rows, conflict) {
      const found: unknown[] = [];
      const text = insertText(table, columns, `${conflictClause(table, conflict)} returning ${quoted(columns)}`);
      for (const part of portions(rows)) found.push(...(await run(text, arrays(part, columns))));
      return found as never[];
    },
    async update(table, key, set, rows) {
      const columns = [...key, ...set];
      const text =
        `update "${table}" as t set ${set.map((c) => `"${c}" = u."${c}"`).join(', ')} ` +
        `from ${unnest(table, columns)} as u(${quoted(columns)}) ` +
        `where ${key.map((c) => `t."${c}" = u."${c}"`).join(' and ')}`;
      for (const part of portions(rows)) await run(text, arrays(part, columns));
    },
    async select(table, columns, key, keys, lock = false) {
      if (keys.length === 0) return [];
      const wanted = columns.map((c) => `t."${c}"`).join(', ');
      const order = key.map((c) => `t."${c}"`).join(', ');
      const tail = lock ? ` order by ${order} for update of t` : '';
      const text =
        key.length === 1
          ? `select ${wanted} from "${table}" as t where t."${key[0]}" = any($1::${typesOf.get(`${table}.${key[0]}`)}[])${tail}`
          : `select ${wanted} from ${unnest(table, key)} as u(${quoted(key)}) ` +
            `join "${table}" as t on ${key.map((c) => `t."${c}" = u."${c}"`).join(' and ')}${tail}`;
      return (await run(text, arrays(keys, key))) as never[];
    },
  };
}

async function prepareDatabase(db: Kysely<Tables>): Promise<ColumnTypes> {
  await db.transaction().execute(async (tx) => {
    // One migrator at a time, to the end of this transaction; nothing else ever takes this lock.
    await sql`select pg_advisory_xact_lock(4785074604081152)`.execute(tx);
    const { rows: encoding } = await sql<{ server_encoding: string }>`show server_encoding`.execute(tx);
    if (encoding[0]?.server_encoding !== 'UTF8')
      throw new StoreError(
        'STORE_FOREIGN',
        `the database is encoded in ${encoding[0]?.server_encoding}; make one in UTF8`,
      );
    const { rows } = await sql<{ name: string }>`
      select table_name as name from information_schema.tables where table_schema = current_schema()`.execute(tx);
    await migrate(
      tx,
      DIALECTS.postgres,
      rows.map(({ name }) => name),
    );
  });
  return columnTypes(db);
}

export async function columnTypes(db: Kysely<Tables>): Promise<ColumnTypes> {
  const { rows } = await sql<{ name: string; type: string }>`
    select table_name || '.' || column_name as name, data_type as type
    from information_schema.columns where table_schema = current_schema()`.execute(db);
  return new Map(rows.map(({ name, type }) => [name, type]));
}

export function poolOf(url: string, max: number, statementMs: number): pg.Pool {
  const pool = new pg.Pool({
    connectionString: url,
    types,
    max,
    application_name: 'bootproof',
    connectionTimeoutMillis: 10_000,
    statement_timeout: statementMs,
    keepAlive: true,
    verify: (client, done) => {
      client.query(DURABLE, done);
    },
  });
  // An idle connection that breaks belongs to no query: the pool drops it, and the next query tells if the server is gone.
  pool.on('error', () => undefined);
  // One that breaks in use fails its query, and besides that is an event, which unheard would end the process.
  pool.on('connect', (client) => {
    client.on('error', () => undefined);
    client.on('notice', (notice) => failUnreplicated(client, notice));
  });
  return pool;
}

/**
 * Where somebody ends a commit that waits for its synchronous standby, PostgreSQL says that it committed, and warns that the standby may not have
 * it. That is not what was promised: such a commit fails here, with its outcome not known (08007), and its connection with it.
 */
function failUnreplicated(client: pg.PoolClient, { routine }: { readonly routine?: string | undefined }): void {
  if (routine !== 'SyncRepWaitForLSN') return;
  const error = Object.assign(new Error('a commit was told before its synchronous standby had it'), { code: '08007' });
  (client as unknown as { readonly connection: EventEmitter }).connection.emit('error', error);
}

/** Whoever set this database or role to acknowledge before anything lies on a disk did not mean reports. */
const DURABLE = `select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'`;

/** A list that outlasted its time was ended by the database. */
function translateListed(error: unknown): unknown {
  if (codeOf(error) !== '57014') return translate(error);
  const seconds = LIST_MS / 1000;
  return new StoreError(
    'STORE_SLOW',
    `this list took longer than ${seconds} s; narrow its filter, or ask again later`,
    { cause: error },
  );
}

/** @throws {StoreError} STORE_URL, STORE_FOREIGN, STORE_NEWER, STORE_UNAVAILABLE. */
export async function openPostgres(url: string): Promise<Engine> {
  const pool = poolOf(url, POSTGRES_CONNECTIONS, POSTGRES_STATEMENT_MS);
  const lists = poolOf(url, POSTGRES_LIST_CONNECTIONS, LIST_MS);
  const db = new Kysely<Tables>({ dialect: new PostgresDialect({ pool }) });
  // Connects to nothing before its first list.
  const dbOfLists = new Kysely<Tables>({ dialect: new PostgresDialect({ pool: lists }) });
  let typesOf: ColumnTypes;
  try {
    typesOf = await prepareDatabase(db);
  } catch (error) {
    await Promise.all([db.destroy(), dbOfLists.destroy()]);
    throw translate(error);
  }
  const read = db as unknown as ReadonlyKysely<Tables>;
  const bulkRead = bulkOf(db, typesOf);
  const select: Bulk['select'] = (...args) => bulkRead.select(...args);
  let closed = false;
  const running = new Set<Promise<unknown>>();
  const shut = () => new StoreError('STORE_CLOSED', 'the store was closed');

  async function repeated<T>(work: (tx: Tx) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await db.transaction().execute((tx) => work({ db: tx, bulk: bulkOf(tx, typesOf), locks: true }));
      } catch (error) {
        if (!AGAIN.has(codeOf(error)) || attempt >= POSTGRES_RETRIES_MAX) throw translate(error);
        await sleep(Math.random() * Math.min(5 * 2 ** attempt, 250));
      }
    }
  }
  async function tracked<T>(work: () => Promise<T>, translated = translate): Promise<T> {
    if (closed) throw shut();
    const mine = work();
    running.add(mine);
    try {
      return await mine;
    } catch (error) {
      throw translated(error);
    } finally {
      running.delete(mine);
    }
  }
  return {
    kind: 'postgres',
    write: (work) => tracked(() => repeated(work)),
    reading: (work) => tracked(() => work(read, select)),
    listing: (work) => tracked(() => work(dbOfLists as unknown as ReadonlyKysely<Tables>), translateListed),
    async close() {
      if (closed) return;
      closed = true;
      await Promise.allSettled(running);
      await Promise.all([db.destroy(), dbOfLists.destroy()]);
    },
  };
}

/** What both engines offer to the rest of the room: typed reads, one write transaction at a time a caller, and bulk statements. */
import type { Kysely } from 'kysely';
import type { ReadonlyKysely } from 'kysely/readonly';
import type { TableName, Tables } from './tables.ts';

export type Tx = {
  readonly db: Kysely<Tables>;
  readonly bulk: Bulk;
  /** Whether a row that is read to be changed must be locked; SQLite's one writer needs none. */
  readonly locks: boolean;
};

export interface Engine {
  readonly kind: 'sqlite' | 'postgres';
  /** Runs `work` in one transaction and commits it durably; repeats it where the database asks for that. */
  write<T>(work: (tx: Tx) => Promise<T>): Promise<T>;
  /** Runs reads, with the engine's errors brought to ours. Each statement sees what was committed before it. */
  reading<T>(work: (db: ReadonlyKysely<Tables>, select: Bulk['select']) => Promise<T>): Promise<T>;
  /**
   * As `reading`, for what looks at many rows: lists, counts, sums. It has its own connections, and on SQLite its own threads, so that
   * intake goes on beside it; it is given up after `LIST_MS`. @throws {StoreError} STORE_SLOW then.
   */
  listing<T>(work: (db: ReadonlyKysely<Tables>) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

export type Column<T extends TableName> = keyof Tables[T] & string;
export type Row<T extends TableName, C extends Column<T> = Column<T>> = Pick<Tables[T], C>;

export type OnConflict<T extends TableName> =
  | { readonly key: readonly Column<T>[]; readonly nothing: true }
  /** Takes the new row's values. */
  | { readonly key: readonly Column<T>[]; readonly set: readonly Column<T>[] }
  /** Adds the new row's values to those that stand. */
  | { readonly key: readonly Column<T>[]; readonly add: readonly Column<T>[] };

/**
 * Many rows with one prepared statement (SQLite) or one statement (PostgreSQL, unnest): what intake is made of. All rows
 * of a call have the same columns. Callers sort rows by key, so that two writers lock in the same order.
 */
export interface Bulk {
  insert<T extends TableName, C extends Column<T>>(
    table: T,
    columns: readonly C[],
    rows: readonly Row<T, C>[],
    conflict?: OnConflict<T>,
  ): Promise<void>;
  /** As `insert` with `add`, and answers the rows as they stand after it. */
  addReturning<T extends TableName, C extends Column<T>>(
    table: T,
    columns: readonly C[],
    rows: readonly Row<T, C>[],
    conflict: { readonly key: readonly Column<T>[]; readonly add: readonly Column<T>[] },
  ): Promise<Row<T, C>[]>;
  /** Each row carries its key columns and the columns to set. */
  update<T extends TableName, K extends Column<T>, C extends Column<T>>(
    table: T,
    key: readonly K[],
    set: readonly C[],
    rows: readonly Row<T, K | C>[],
  ): Promise<void>;
  /** Rows by key; those not there are left out. `lock`: for update, in the order of the key. */
  select<T extends TableName, K extends Column<T>, C extends Column<T>>(
    table: T,
    columns: readonly C[],
    key: readonly K[],
    keys: readonly Row<T, K>[],
    lock?: boolean,
  ): Promise<Row<T, C>[]>;
}

/**
 * Threads that read lists out of SQLite beside the event loop, and the way from a query to them. SQLite here cannot be interrupted, so a
 * statement that outlasts its time is given up with its thread: whoever asked is told at once, the thread ends with the statement, and
 * another one takes its place as long as not too many of them linger.
 */
import { Worker } from 'node:worker_threads';
import Database from 'better-sqlite3';
import {
  Kysely,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
  type DatabaseConnection,
  type Driver,
} from 'kysely';
import type { ReadonlyKysely } from 'kysely/readonly';
import { LIST_MS, LIST_THREADS, LIST_THREADS_MAX } from '#src/limits.ts';
import { threadEnv } from '#server/thread.ts';
import { checked } from './sqlitereader.ts';
import { StoreError } from './store.ts';
import type { Tables } from './tables.ts';

export type ToList = { readonly text: string; readonly parameters: readonly unknown[] };
/** Rows as arrays, since the names of their columns would be copied with each; or why there are none. */
export type Listed =
  | { readonly columns: readonly string[]; readonly rows: readonly (readonly unknown[])[] }
  | { readonly code: string | null; readonly message: string };

type Asked = ToList & {
  readonly resolve: (rows: Record<string, unknown>[]) => void;
  readonly reject: (error: unknown) => void;
  timer: NodeJS.Timeout | undefined;
};
/** `ready`: it has said that it can be asked. A thread that is still loading is given up with no statement. */
type Thread = { readonly worker: Worker; ready: boolean; asked: Asked | undefined };

const slow = () =>
  new StoreError('STORE_SLOW', `this list took longer than ${LIST_MS / 1000} s; narrow its filter, or ask again later`);
const shut = () => new StoreError('STORE_CLOSED', 'the store was closed');

export class ListThreads {
  readonly #path: string;
  readonly #threads: Thread[] = [];
  /** Those that were given up and have not ended yet. */
  readonly #lingering = new Set<Worker>();
  readonly #row: Asked[] = [];
  #closed = false;

  constructor(path: string) {
    this.#path = path;
  }

  /** Reads for one list. All of its statements have to be answered `ms` from now. */
  reader(ms: number): ReadonlyKysely<Tables> {
    const until = performance.now() + ms;
    const connection: DatabaseConnection = {
      executeQuery: async ({ sql, parameters }) => ({
        rows: (await this.#ask(sql, checked(parameters), until - performance.now())) as never[],
      }),
      // eslint-disable-next-line require-yield -- no list is read row by row
      async *streamQuery() {
        throw new TypeError('lists are read whole');
      },
    };
    const never = () => Promise.reject(new TypeError('a list has no transaction'));
    const driver: Driver = {
      init: () => Promise.resolve(),
      acquireConnection: () => Promise.resolve(connection),
      beginTransaction: never,
      commitTransaction: never,
      rollbackTransaction: never,
      releaseConnection: () => Promise.resolve(),
      destroy: () => Promise.resolve(),
    };
    return new Kysely<Tables>({
      dialect: {
        createAdapter: () => new SqliteAdapter(),
        createDriver: () => driver,
        createIntrospector: (db) => new SqliteIntrospector(db),
        createQueryCompiler: () => new SqliteQueryCompiler(),
      },
    }) as unknown as ReadonlyKysely<Tables>;
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const asked of this.#row.splice(0)) this.#refuse(asked, shut());
    const workers = [...this.#threads.map(({ worker }) => worker), ...this.#lingering];
    await Promise.all(workers.map(ended));
  }

  #ask(text: string, parameters: readonly unknown[], ms: number): Promise<Record<string, unknown>[]> {
    if (this.#closed) return Promise.reject(shut());
    if (ms <= 0) return Promise.reject(slow());
    return new Promise((resolve, reject) => {
      const asked: Asked = { text, parameters, resolve, reject, timer: undefined };
      asked.timer = setTimeout(() => this.#giveUp(asked), ms);
      this.#row.push(asked);
      this.#serve();
    });
  }

  /** Hands what waits to threads that are free, in the order of coming. */
  #serve(): void {
    while (this.#row.length > 0 && !this.#closed) {
      const thread = this.#threads.find(({ ready, asked }) => ready && asked === undefined);
      if (thread === undefined) {
        let loading = this.#threads.filter(({ ready }) => !ready).length;
        while (loading < this.#row.length && this.#start()) loading++;
        return;
      }
      const { text, parameters } = (thread.asked = this.#row.shift()!);
      thread.worker.ref();
      // eslint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port has no origin
      thread.worker.postMessage({ text, parameters } satisfies ToList);
    }
  }

  /** False where there are as many as may be. */
  #start(): boolean {
    if (this.#threads.length >= LIST_THREADS) return false;
    if (this.#threads.length + this.#lingering.size >= LIST_THREADS_MAX) return false;
    const worker = new Worker(new URL('./listworker.ts', import.meta.url), {
      workerData: this.#path,
      env: threadEnv(),
    });
    // Whoever waits for it has a timer, which keeps the process.
    worker.unref();
    const thread: Thread = { worker, ready: false, asked: undefined };
    this.#threads.push(thread);
    let why: unknown = 'it ended';
    worker.on('message', (listed: Listed | null) => {
      if (listed !== null) return this.#heard(thread, listed);
      thread.ready = true;
      this.#serve();
    });
    worker.on('error', (error: unknown) => {
      why = error;
    });
    worker.on('exit', () => {
      this.#lingering.delete(worker);
      const at = this.#threads.indexOf(thread);
      if (at >= 0) this.#threads.splice(at, 1);
      // One that cannot even load would be started over and over for whoever waits.
      const broken = thread.asked ?? (thread.ready ? undefined : this.#row.shift());
      if (broken !== undefined)
        this.#refuse(
          broken,
          this.#closed
            ? shut()
            : new StoreError('STORE_UNAVAILABLE', `a thread that reads lists broke: ${String(why)}`),
        );
      this.#serve();
    });
    return true;
  }

  #heard(thread: Thread, listed: Listed): void {
    const { asked } = thread;
    if (asked === undefined) return;
    thread.asked = undefined;
    // One that waits for work keeps no process alive.
    thread.worker.unref();
    clearTimeout(asked.timer);
    if ('rows' in listed) asked.resolve(listed.rows.map((row) => named(listed.columns, row)));
    else
      asked.reject(
        listed.code === null ? new Error(listed.message) : new Database.SqliteError(listed.message, listed.code),
      );
    this.#serve();
  }

  #giveUp(asked: Asked): void {
    const waiting = this.#row.indexOf(asked);
    if (waiting >= 0) this.#row.splice(waiting, 1);
    const at = this.#threads.findIndex((thread) => thread.asked === asked);
    this.#refuse(asked, slow());
    if (at < 0) return;
    const [thread] = this.#threads.splice(at, 1);
    thread!.asked = undefined;
    this.#lingering.add(thread!.worker);
    void ended(thread!.worker);
    this.#serve();
  }

  #refuse(asked: Asked, error: StoreError): void {
    clearTimeout(asked.timer);
    asked.reject(error);
  }
}

/**
 * Asks a thread to end, and resolves when it has: with its statement. Never `terminate()`: a thread that is stopped while it loads SQLite's
 * addon takes the whole process with it (a failed assertion of Node-API).
 */
function ended(worker: Worker): Promise<void> {
  return new Promise((resolve) => {
    worker.once('exit', () => resolve());
    worker.ref();
    // eslint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port has no origin
    worker.postMessage(null);
  });
}

function named(columns: readonly string[], values: readonly unknown[]): Record<string, unknown> {
  const row: Record<string, unknown> = {};
  for (const [at, column] of columns.entries()) row[column] = values[at];
  return row;
}

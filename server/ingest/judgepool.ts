/**
 * Threads that look at full reports and hold them against policy. One of 5 MB takes a second of a core: on the event loop every other host would wait
 * for it. A report has a place in one thread until it is judged; who finds none waits in a bounded row. Its commit is waited for without a
 * place: the more reports share one, the less each costs.
 */
import { Worker } from 'node:worker_threads';
import { JUDGE_AT_ONCE, JUDGE_BYTES_MAX, JUDGE_HEAP_MB, JUDGE_WAITING_MAX } from '#src/limits.ts';
import type { Arrival } from '#src/report/accept.ts';
import type { Log } from '#server/deps.ts';
import type { PolicyDocumentText } from '#src/policy/documents.ts';
import type { Store } from '#server/store/store.ts';
import { threadEnv } from '#server/thread.ts';
import type { Held, Looker, Lookups, Opened } from './examiner.ts';
import type { Asked, FromThread, ThreadData, ToThread } from './judgewire.ts';
import { overloaded } from './reporterror.ts';

export type JudgePoolDeps = {
  readonly lookups: Lookups;
  readonly store: {
    readonly images: Pick<Store['images'], 'find' | 'manifests'>;
    readonly blobs: Pick<Store['blobs'], 'get'>;
  };
  /** Documents of a version of the policy. */
  readonly policy: (n: number) => Promise<readonly PolicyDocumentText[]>;
  readonly ticketKeys: readonly Uint8Array[];
  readonly log: Log;
};

type Pending = { readonly resolve: (message: FromThread) => void; readonly reject: (error: unknown) => void };

type Thread = {
  readonly worker: Worker;
  /** By session: the call that waits for its answer; undefined while none does. */
  readonly sessions: Map<number, Pending | undefined>;
  /** Of the reports that it holds. */
  bytes: number;
  gone: boolean;
};

type Place = { readonly thread: Thread; readonly session: number; readonly bytes: number };

export class JudgePool implements Looker {
  readonly #deps: JudgePoolDeps;
  readonly #size: number;
  readonly #textBytes: number;
  readonly #threads: Thread[] = [];
  readonly #row: {
    readonly bytes: number;
    readonly resolve: (place: Place) => void;
    readonly reject: (error: unknown) => void;
  }[] = [];
  #sessions = 0;
  #closed = false;
  /** Why a lookup failed: what its askers are told. */
  #unread: unknown;

  constructor(deps: JudgePoolDeps, { threads, textBytes }: { readonly threads: number; readonly textBytes: number }) {
    this.#deps = deps;
    this.#size = threads;
    this.#textBytes = Math.floor(textBytes / threads);
  }

  /** Reports that wait for a place in a thread. */
  get waiting(): number {
    return this.#row.length;
  }

  async open(bytes: Uint8Array, arrival: Arrival): Promise<Opened<Held>> {
    const place = await this.#place(bytes.length, false);
    try {
      const answer = await this.#call(place, { kind: 'open', session: place.session, bytes, arrival });
      const { value } = answer as Extract<FromThread, { kind: 'opened' }>;
      if (value.kind === 'examined') return { ...value, held: this.#held(place) };
      this.#leave(place);
      return value;
    } catch (error) {
      this.#leave(place);
      throw error;
    }
  }

  async reopen(envelope: Uint8Array, patient: boolean): Promise<Held | undefined> {
    const place = await this.#place(envelope.length, patient);
    try {
      const answer = await this.#call(place, { kind: 'reopen', session: place.session, bytes: envelope });
      if ((answer as Extract<FromThread, { kind: 'reopened' }>).held) return this.#held(place);
      this.#leave(place);
      return undefined;
    } catch (error) {
      this.#leave(place);
      throw error;
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const { reject } of this.#row.splice(0)) reject(overloaded('the server is stopping'));
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()));
  }

  #held(place: Place): Held {
    return {
      evaluate: async (occasion, { n }) => {
        try {
          if (n === null) throw new Error('a policy that is no version cannot be read in another thread');
          const answer = await this.#call(place, { kind: 'evaluate', session: place.session, occasion, policy: n });
          return (answer as Extract<FromThread, { kind: 'evaluated' }>).value;
        } finally {
          this.#leave(place);
        }
      },
      close: () => this.#leave(place),
    };
  }

  /** A place in the thread that has most room, or the next one that is left; in the order of coming. */
  #place(bytes: number, patient: boolean): Promise<Place> {
    if (this.#closed) return Promise.reject(overloaded('the server is stopping'));
    const free = this.#row.length === 0 ? this.#freest(bytes) : undefined;
    if (free !== undefined) return Promise.resolve(this.#enter(free, bytes));
    if (!patient && this.#row.length >= JUDGE_WAITING_MAX)
      return Promise.reject(overloaded('too many full reports are waiting to be judged; send it again'));
    return new Promise((resolve, reject) => this.#row.push({ bytes, resolve, reject }));
  }

  #freest(bytes: number): Thread | undefined {
    const [least] = this.#threads.toSorted((a, b) => a.sessions.size - b.sessions.size || a.bytes - b.bytes);
    // Started when there is work for it: a server that only hears `same` needs none.
    if (this.#threads.length < this.#size && (least === undefined || least.sessions.size > 0)) return this.#start();
    if (least === undefined || least.sessions.size >= JUDGE_AT_ONCE) return undefined;
    // One is taken whatever its size.
    return least.sessions.size === 0 || least.bytes + bytes <= JUDGE_BYTES_MAX ? least : undefined;
  }

  #enter(thread: Thread, bytes: number): Place {
    const session = ++this.#sessions;
    thread.sessions.set(session, undefined);
    thread.bytes += bytes;
    return { thread, session, bytes };
  }

  #leave({ thread, session, bytes }: Place): void {
    if (!thread.sessions.delete(session)) return;
    thread.bytes -= bytes;
    if (!thread.gone) this.#say(thread, { kind: 'close', session });
    this.#admit();
  }

  /** Whoever waits longest takes what is free. */
  #admit(): void {
    while (this.#row.length > 0 && !this.#closed) {
      const { bytes } = this.#row[0]!;
      const free = this.#freest(bytes);
      if (free === undefined) return;
      this.#row.shift()!.resolve(this.#enter(free, bytes));
    }
  }

  #call({ thread, session }: Place, message: ToThread): Promise<FromThread> {
    return new Promise((resolve, reject) => {
      if (thread.gone) return reject(new Error('the thread that judged this report ended'));
      thread.sessions.set(session, { resolve, reject });
      this.#say(thread, message);
    });
  }

  #say({ worker }: Thread, message: ToThread): void {
    // eslint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port has no origin
    worker.postMessage(message);
  }

  #start(): Thread {
    const { ticketKeys, log } = this.#deps;
    const worker = new Worker(new URL('./judgeworker.ts', import.meta.url), {
      workerData: { ticketKeys, textBytes: this.#textBytes } satisfies ThreadData,
      resourceLimits: { maxOldGenerationSizeMb: JUDGE_HEAP_MB },
      env: threadEnv(),
    });
    const thread: Thread = { worker, sessions: new Map(), bytes: 0, gone: false };
    this.#threads.push(thread);
    let why: unknown = new Error('the thread ended');
    worker.on('message', (message: FromThread) => this.#heard(thread, message));
    worker.on('error', (error: Error) => {
      why = error;
      log('error', 'judging thread ended', { error: error.stack ?? error.message });
    });
    worker.on('exit', () => {
      thread.gone = true;
      this.#threads.splice(this.#threads.indexOf(thread), 1);
      const calls = [...thread.sessions.values()];
      thread.sessions.clear();
      for (const call of calls) call?.reject(why);
      this.#admit();
    });
    return thread;
  }

  #heard(thread: Thread, message: FromThread): void {
    if (message.kind === 'ask') return void this.#tell(thread, message.ask, message.asked);
    const call = thread.sessions.get(message.session);
    if (call === undefined) return;
    thread.sessions.set(message.session, undefined);
    if (message.kind !== 'failed') call.resolve(message);
    else call.reject(message.lookup ? this.#unread : new Error(`in a judging thread: ${message.why}`));
  }

  async #tell(thread: Thread, ask: number, asked: Asked): Promise<void> {
    try {
      const value = await this.#look(asked);
      if (!thread.gone) this.#say(thread, { kind: 'told', ask, value });
    } catch (error) {
      this.#unread = error;
      if (!thread.gone) this.#say(thread, { kind: 'untold', ask });
    }
  }

  #look(asked: Asked): Promise<unknown> {
    const { lookups, store, policy } = this.#deps;
    switch (asked.what) {
      case 'admit':
        return lookups.admit(asked.of);
      case 'provenance':
        return lookups.provenances.of(asked.of).then(({ facts }) => facts);
      case 'tag':
        return lookups.tag(asked.of);
      case 'policy':
        return policy(asked.of);
      case 'find':
        return store.images.find(asked.of);
      case 'manifests':
        return store.images.manifests(asked.of);
      case 'blob':
        return store.blobs.get(asked.of);
    }
  }
}

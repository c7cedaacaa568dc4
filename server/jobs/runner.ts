/**
 * Runs what waits in the store's queue: takes with a lease, renews it while the work goes on, and gives back what failed with a
 * growing delay. A process that dies leaves a lease that ends; the work is taken by the next one.
 */
import type { Log, World } from '#server/deps.ts';
import type { Job } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';

/** How a job ended; a throw is `again` with a growing delay. */
export type Outcome =
  | { readonly kind: 'done' }
  | { readonly kind: 'again'; readonly inMs: number; readonly why: string };

export type Work = {
  /** Kind of job. */
  readonly kind: string;
  /** A renewal comes after a third of it. */
  readonly leaseMs: number;
  /** Aborted when the lease is lost or the server stops: then the outcome counts for nothing. */
  readonly run: (job: Job, signal: AbortSignal) => Promise<Outcome>;
};

/** Something that is looked after in every round, whether or not a job asks for it. */
export type Chore = { readonly name: string; readonly everyMs: number; readonly run: () => Promise<void> };

const RETRY_FIRST_MS = 5_000;
const RETRY_MOST_MS = 3_600_000;

/** Delay before attempt `n + 1`, n from 1. */
export function backoff(attempts: number): number {
  return Math.min(RETRY_MOST_MS, RETRY_FIRST_MS * 2 ** Math.min(attempts - 1, 20));
}

export type RunnerDeps = Pick<World, 'clock' | 'log'> & { readonly store: Pick<Store, 'jobs'> };

/** One lane: one job at a time. Work of different lanes does not wait for each other. */
export class Lane {
  readonly #deps: RunnerDeps;
  readonly #works: ReadonlyMap<string, Work>;
  readonly #everyMs: number;
  readonly #stop = new AbortController();
  #wake: () => void = () => {};
  #done: Promise<void> = Promise.resolve();

  constructor(deps: RunnerDeps, works: readonly Work[], everyMs: number) {
    this.#deps = deps;
    this.#works = new Map(works.map((work) => [work.kind, work]));
    this.#everyMs = everyMs;
  }

  start(): void {
    this.#done = this.#loop();
  }

  /** Looks for due work at once. */
  wake(): void {
    this.#wake();
  }

  /** Stops what runs and resolves when nothing runs any more. */
  async close(): Promise<void> {
    this.#stop.abort();
    this.#wake();
    await this.#done;
  }

  async #loop(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const busy = await this.#round().catch((error: unknown) => {
        this.#deps.log('error', 'jobs', { error: String(error) });
        return false;
      });
      if (!busy && !signal.aborted) await this.#rest();
    }
  }

  #rest(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, this.#everyMs);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Runs one due job; false where there is none. */
  async #round(): Promise<boolean> {
    const { store, clock } = this.#deps;
    // A lease is the longest that any kind of this lane asks for; each job's own is set when it is renewed.
    const lease = Math.max(...[...this.#works.values()].map((work) => work.leaseMs));
    const [job] = await store.jobs.take([...this.#works.keys()], clock(), lease, 1);
    if (job === undefined) return false;
    await this.#run(job, this.#works.get(job.kind)!);
    return true;
  }

  async #run(job: Job, work: Work): Promise<void> {
    const { store, clock, log } = this.#deps;
    const lost = new AbortController();
    const signal = AbortSignal.any([this.#stop.signal, lost.signal]);
    const renewal = setInterval(() => {
      store.jobs.extend(job, clock() + work.leaseMs).then(
        (held) => held || lost.abort(),
        (error: unknown) => log('warn', 'lease not renewed', { job: job.id, error: String(error) }),
      );
    }, work.leaseMs / 3);
    try {
      const outcome = await work.run(job, signal).catch((error: unknown): Outcome => {
        if (!signal.aborted) log('error', 'job failed', { kind: job.kind, job: job.id, error: stackOf(error) });
        return {
          kind: 'again',
          inMs: backoff(job.attempts),
          why: error instanceof Error ? error.message : String(error),
        };
      });
      if (lost.signal.aborted) return;
      if (outcome.kind === 'done') await store.jobs.finish(job);
      // Stopped in the middle: at once for whoever comes next.
      else
        await store.jobs.fail(
          job,
          clock() + (this.#stop.signal.aborted ? 0 : outcome.inMs),
          outcome.why.slice(0, 1000),
        );
    } finally {
      clearInterval(renewal);
    }
  }
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

/** Runs chores by themselves, one after the other's end; never two runs of one at once. */
export class Chores {
  readonly #log: Log;
  readonly #timers: NodeJS.Timeout[] = [];
  readonly #running = new Set<Promise<void>>();
  #closed = false;

  constructor(log: Log) {
    this.#log = log;
  }

  start(chores: readonly Chore[]): void {
    for (const chore of chores) {
      let idle = true;
      const turn = (): void => {
        if (!idle || this.#closed) return;
        idle = false;
        const run = chore
          .run()
          .catch((error: unknown) => this.#log('error', 'chore failed', { chore: chore.name, error: stackOf(error) }))
          .finally(() => {
            idle = true;
            this.#running.delete(run);
          });
        this.#running.add(run);
      };
      this.#timers.push(setInterval(turn, chore.everyMs));
      turn();
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const timer of this.#timers) clearInterval(timer);
    await Promise.all(this.#running);
  }
}

/**
 * Group commit: reports that are ready wait at most a few milliseconds for each other and share one transaction, so that
 * `fsync` costs a batch and not a report. Whoever waits here is acknowledged only after its own commit.
 *
 * Judged reports come from other threads while a commit holds the event loop: after a commit that wrote findings those are let in
 * first. The more of them share one, the less each costs, as the same finding on many hosts is one row of its group.
 */
import { INTAKE_BATCH_MAX, INTAKE_GATHER_MS, INTAKE_WAIT_MS } from '#src/limits.ts';
import { StoreError, type HostWrite, type IntakeResult, type Store } from '#server/store/store.ts';

type Waiting = {
  readonly write: HostWrite;
  readonly resolve: (result: IntakeResult) => void;
  readonly reject: (error: unknown) => void;
};

/** Hears of each batch: how many writes it had, and how long its commit took, s. */
export type BatchHeard = (size: number, seconds: number) => void;

export class Batch {
  readonly #store: Pick<Store, 'intake'>;
  readonly #heard: BatchHeard;
  #waiting: Waiting[] = [];
  #committing: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(store: Pick<Store, 'intake'>, heard: BatchHeard = () => {}) {
    this.#store = store;
    this.#heard = heard;
  }

  /** Writes that wait for a batch. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Resolves when the write is durable, or was refused by its precondition. Rejects as `Store.intake` does. */
  commit(write: HostWrite): Promise<IntakeResult> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ write, resolve, reject });
      this.#arm();
    });
  }

  /** Resolves when nothing waits any more. */
  async drain(): Promise<void> {
    while (this.#waiting.length > 0 || this.#committing !== undefined) {
      this.#flush();
      await this.#committing;
    }
  }

  #arm(): void {
    // While a commit runs, the next batch gathers by itself and goes as soon as the commit is done.
    if (this.#committing !== undefined) return;
    if (this.#waiting.length >= INTAKE_BATCH_MAX) this.#flush();
    else this.#timer ??= setTimeout(() => this.#flush(), INTAKE_WAIT_MS);
  }

  #flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#committing !== undefined || this.#waiting.length === 0) return;
    const batch = this.#waiting.slice(0, INTAKE_BATCH_MAX);
    this.#waiting = this.#waiting.slice(INTAKE_BATCH_MAX);
    const begun = performance.now();
    this.#committing = this.#run(batch).finally(() => {
      this.#committing = undefined;
      this.#heard(batch.length, (performance.now() - begun) / 1000);
      const isHeavy = batch.some(({ write }) => write.findings !== undefined && write.findings.length > 0);
      const waitMs = isHeavy ? Math.min(performance.now() - begun, INTAKE_GATHER_MS) : 0;
      if (waitMs > INTAKE_WAIT_MS && this.#waiting.length < INTAKE_BATCH_MAX)
        this.#timer = setTimeout(() => this.#flush(), waitMs);
      else if (this.#waiting.length > 0) this.#flush();
    });
  }

  async #run(batch: readonly Waiting[]): Promise<void> {
    let results: readonly IntakeResult[];
    try {
      results = await this.#store.intake(batch.map((item) => item.write));
    } catch (error) {
      const unavailable = error instanceof StoreError && error.code !== 'STORE_TEXT';
      if (batch.length === 1 || unavailable) {
        for (const item of batch) item.reject(error);
        return;
      }
      // One write that the store cannot hold must not take down those that happened to stand beside it.
      for (const item of batch) await this.#run([item]);
      return;
    }
    for (const [index, item] of batch.entries()) item.resolve(results[index]!);
  }
}

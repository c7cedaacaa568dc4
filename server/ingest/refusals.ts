/**
 * Counts of refused reports by host and code (issue: what is refused is counted and visible on the host). Gathered and written
 * some times a second, so that a flood of refused reports costs no flood of writes.
 */
import { REFUSAL_DETAIL_MAX } from '#src/limits.ts';
import type { Log } from '#server/deps.ts';
import type { Refusal } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';

const WRITE_EVERY_MS = 200;
/** Refusals held between two writes: beyond, they are only counted as too many. */
const HELD_MAX = 10_000;

export class Refusals {
  readonly #store: Pick<Store, 'hosts'>;
  readonly #log: Log;
  #held: Refusal[] = [];
  #lost = 0;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();

  constructor(store: Pick<Store, 'hosts'>, log: Log) {
    this.#store = store;
    this.#log = log;
  }

  count(refusal: Refusal): void {
    if (this.#held.length >= HELD_MAX) this.#lost++;
    else this.#held.push({ ...refusal, detail: refusal.detail.slice(0, REFUSAL_DETAIL_MAX) });
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      void this.flush();
    }, WRITE_EVERY_MS);
  }

  /** Writes what is held. Never rejects: a count that cannot be written is logged, and nothing else waits for it. */
  flush(): Promise<void> {
    this.#writing = this.#writing.then(async () => {
      const held = this.#held;
      if (held.length === 0) return;
      this.#held = [];
      if (this.#lost > 0) this.#log('warn', 'refusals not counted', { lost: this.#lost });
      this.#lost = 0;
      try {
        await this.#store.hosts.refuse(held);
      } catch (error) {
        this.#log('error', 'refusals not written', { count: held.length, error: String(error) });
      }
    });
    return this.#writing;
  }

  async close(): Promise<void> {
    clearTimeout(this.#timer);
    await this.flush();
  }
}

/** Reads of hosts that come at the same moment, as one: a read by itself costs eight times what it costs among others. */
import { HOST_READS_MAX } from '#src/limits.ts';
import type { Host } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';

type Waiting = {
  readonly id: string;
  readonly resolve: (host: Host | undefined) => void;
  readonly reject: (error: unknown) => void;
};

export class HostReads {
  readonly #store: Pick<Store, 'hosts'>;
  #waiting: Waiting[] = [];

  constructor(store: Pick<Store, 'hosts'>) {
    this.#store = store;
  }

  get(id: string): Promise<Host | undefined> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ id, resolve, reject });
      // After the requests of this turn of the event loop were all read.
      if (this.#waiting.length === 1) setImmediate(() => void this.#read());
      else if (this.#waiting.length >= HOST_READS_MAX) void this.#read();
    });
  }

  async #read(): Promise<void> {
    const batch = this.#waiting;
    if (batch.length === 0) return;
    this.#waiting = [];
    try {
      const hosts = await this.#store.hosts.getMany(batch.map(({ id }) => id));
      for (const { id, resolve } of batch) resolve(hosts.get(id));
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  }
}

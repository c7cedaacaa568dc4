/**
 * The end of what people decided. Nothing has to run for it to count: verdicts carry until when they hold, and are read so. This brings
 * rows and counters after, from a chore at the very time, and from whoever reads before the chore has come.
 */
import type { Log } from '#server/deps.ts';
import { restandAll, type RestandDeps } from './restand.ts';

/** Findings looked for at once, and how long a reader waits for what ended just now, ms. */
const LAPSED_AT_ONCE = 500;
const READER_WAITS_MS = 2000;

export class Lapses {
  readonly #deps: RestandDeps & { readonly log: Log };
  #running: Promise<boolean> | undefined;

  constructor(deps: RestandDeps & { readonly log: Log }) {
    this.#deps = deps;
  }

  /**
   * Before a person reads: whatever has ended is over in rows and counters, too. Where more ended at once than can be waited for, the
   * chore goes on; verdicts and findings are told as of now all the same.
   */
  async settled(): Promise<void> {
    if (!(await this.#isDue())) return;
    let timer: NodeJS.Timeout | undefined;
    const enough = new Promise<void>((resolve) => (timer = setTimeout(resolve, READER_WAITS_MS)));
    await Promise.race([this.run(), enough]);
    clearTimeout(timer);
  }

  /** Ends everything that is over. True where nothing is left. */
  run(): Promise<boolean> {
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  async #isDue(): Promise<boolean> {
    const { store, clock } = this.#deps;
    const next = await store.findings.nextLapse();
    return next !== null && next <= clock();
  }

  async #run(): Promise<boolean> {
    const { store, clock } = this.#deps;
    try {
      for (;;) {
        const lapsed = await store.findings.lapsed(clock(), LAPSED_AT_ONCE);
        if (lapsed.length === 0) return true;
        const hosts = [...new Set(lapsed.map(({ hostId }) => hostId))];
        const { changed } = await restandAll(hosts, this.#deps);
        // Written to by others at this moment: they are found again in the next round.
        if (changed === 0) return false;
      }
    } finally {
      await this.#noteExpiry();
    }
  }

  /** One line in the trail for each waiver that ended, whichever process comes first. */
  async #noteExpiry(): Promise<void> {
    const { store, clock, log } = this.#deps;
    const now = clock();
    for (const waiver of await store.waivers.unnotedExpiry(now, 100)) {
      const noted = await store.waivers.noteExpiry(waiver.id, {
        actor: 'job:lapse',
        at: Math.max(now, waiver.expiresAt),
      });
      if (noted) log('info', 'waiver expired', { waiver: waiver.id });
    }
  }
}

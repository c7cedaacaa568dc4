/** The images that hosts name, each noted once so that it is built; a host names only so many new ones (PROTOCOL 2.6, 2.7). */
import type { Instant } from '#src/clock.ts';
import { HOST_IMAGES_BURST, HOST_IMAGES_PER_SECOND, IMAGE_NOTED_MS, KNOWN_IMAGES_MAX } from '#src/limits.ts';
import { Lru } from '#server/lru.ts';
import type { Store } from '#server/store/store.ts';
import { Shares } from './quota.ts';

export class NotedImages {
  readonly #store: { readonly images: Pick<Store['images'], 'note'> };
  /** When. */
  readonly #noted = new Lru<string, Instant>(KNOWN_IMAGES_MAX * 10);
  readonly #shares = new Shares({ burst: HOST_IMAGES_BURST, perSecond: HOST_IMAGES_PER_SECOND });

  constructor(store: { readonly images: Pick<Store['images'], 'note'> }) {
    this.#store = store;
  }

  /**
   * Notes images that a host names, so that they are built. Before the report that names them is committed: a repeat costs nothing,
   * an image never built would. False where the host has named more new ones than a host has: those wait for its next report.
   */
  async note(
    hostId: string,
    seen: readonly { readonly reported: string; readonly claim: string | null }[],
    now: Instant,
  ): Promise<boolean> {
    const notedAt = seen.map(({ reported, claim }) => this.#noted.get(`${reported} ${claim}`));
    const isDue = (at: Instant | undefined) => at === undefined || Math.abs(now - at) > IMAGE_NOTED_MS;
    const due = seen.filter((_, index) => isDue(notedAt[index]));
    // What was noted before costs a host nothing of what it may name anew.
    const allowed = due.filter(
      (image) => notedAt[seen.indexOf(image)] !== undefined || this.#shares.take(hostId, now) === 0,
    );
    if (allowed.length > 0) await this.#store.images.note(allowed, now);
    for (const { reported, claim } of allowed) this.#noted.set(`${reported} ${claim}`, now);
    return allowed.length === due.length;
  }
}

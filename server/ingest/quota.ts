/**
 * How much a host may send, and how much a server process holds at once: a bucket a host, and a count of what is under way.
 */
import type { Instant } from '#src/clock.ts';
import {
  INTAKE_BYTES_MAX,
  INTAKE_PENDING_MAX,
  QUOTA_HOSTS_MAX,
  SAME_BYTES_MAX,
  STRAIN_FROM,
  STRAIN_FULL,
} from '#src/limits.ts';
import { Lru } from '#server/lru.ts';

/** A bucket for each host: so many at once, then so many a second. */
export class Shares {
  // A host that is forgotten here begins with a full bucket: only as many as fit can be held back at once.
  readonly #buckets = new Lru<string, { tokens: number; at: Instant }>(QUOTA_HOSTS_MAX);
  readonly #burst: number;
  readonly #perSecond: number;

  constructor({ burst, perSecond }: { readonly burst: number; readonly perSecond: number }) {
    this.#burst = burst;
    this.#perSecond = perSecond;
  }

  /** Takes so many where there is one, if need be of what comes later; 0, or the seconds after which there is one again. */
  take(host: string, now: Instant, count = 1): number {
    const bucket = this.#filled(host, now);
    if (bucket === undefined) {
      this.#buckets.set(host, { tokens: this.#burst - count, at: now });
      return 0;
    }
    if (bucket.tokens < 1) return this.#secondsTo(bucket.tokens);
    bucket.tokens -= count;
    return 0;
  }

  /** What `take` would answer. Takes nothing, so a stranger may be told it of a host that it only names. */
  wait(host: string, now: Instant): number {
    const bucket = this.#filled(host, now);
    return bucket === undefined || bucket.tokens >= 1 ? 0 : this.#secondsTo(bucket.tokens);
  }

  #filled(host: string, now: Instant): { tokens: number } | undefined {
    const bucket = this.#buckets.get(host);
    if (bucket === undefined) return undefined;
    const passed = Math.max(0, now - bucket.at) / 1000;
    bucket.tokens = Math.min(this.#burst, bucket.tokens + passed * this.#perSecond);
    bucket.at = now;
    return bucket;
  }

  #secondsTo(tokens: number): number {
    return Math.ceil((1 - tokens) / this.#perSecond);
  }
}

/**
 * What is under way in this process; beyond its bounds hosts are told to come back. Small bodies never wait for large ones: a stranger
 * can send large ones, and the fleet's `same` reports go on.
 */
export class Load {
  #pending = 0;
  #bytes = 0;

  /** Reports that came whole and are not answered yet, and bytes of those that are coming or came. */
  get held(): { readonly reports: number; readonly bytes: number } {
    return { reports: this.#pending, bytes: this.#bytes };
  }

  /** How much it is at its limit: 0 where it is only busy, 1 where hosts should come as seldom as they may. */
  get strain(): number {
    return Math.min(1, Math.max(0, (this.#pending - STRAIN_FROM) / (STRAIN_FULL - STRAIN_FROM)));
  }

  /**
   * A body that begins to come; undefined where there is no room for it. Every hold must end. One that said it is small and then is not, once it was
   * decoded, counts as large from there on.
   */
  open(large: boolean): Hold | undefined {
    if (large && this.#bytes >= INTAKE_BYTES_MAX) return undefined;
    let held = 0;
    let begun = false;
    return {
      add: (bytes) => {
        held += bytes;
        this.#bytes += bytes;
        return (!large && held <= SAME_BYTES_MAX) || this.#bytes <= INTAKE_BYTES_MAX;
      },
      begin: () => {
        if (this.#pending >= INTAKE_PENDING_MAX) return false;
        begun = true;
        this.#pending++;
        return true;
      },
      end: () => {
        this.#bytes -= held;
        if (begun) this.#pending--;
      },
    };
  }
}

export type Hold = {
  /** So many bytes more are held; false where that is too much. */
  readonly add: (bytes: number) => boolean;
  /** All of it came, and is looked at now; false where too many are. Who sends slowly keeps nobody out until then. */
  readonly begin: () => boolean;
  readonly end: () => void;
};

/**
 * How much a host may send, and how much a server process holds at once: a bucket a host, and a count of what is under way.
 */
import type { Instant } from '#src/clock.ts';
import { INTAKE_BYTES_MAX, INTAKE_PENDING_MAX, QUOTA_HOSTS_MAX } from '#src/limits.ts';
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

  /** Takes one; 0, or the seconds after which there is one again. */
  take(host: string, now: Instant): number {
    let bucket = this.#buckets.get(host);
    if (bucket === undefined) {
      bucket = { tokens: this.#burst, at: now };
      this.#buckets.set(host, bucket);
    }
    const passed = Math.max(0, now - bucket.at) / 1000;
    bucket.tokens = Math.min(this.#burst, bucket.tokens + passed * this.#perSecond);
    bucket.at = now;
    if (bucket.tokens >= 1) {
      bucket.tokens -= 1;
      return 0;
    }
    return Math.ceil((1 - bucket.tokens) / this.#perSecond);
  }
}

/** What is under way in this process; beyond its bounds hosts are told to come back. */
export class Load {
  #pending = 0;
  #bytes = 0;

  /** Enters with a body of so many bytes; false where there is no room. Every entry must leave. */
  enter(): boolean {
    if (this.#pending >= INTAKE_PENDING_MAX || this.#bytes >= INTAKE_BYTES_MAX) return false;
    this.#pending++;
    return true;
  }

  /** The body turned out to hold so many bytes; they count until `leave` is given them. */
  hold(bytes: number): void {
    this.#bytes += bytes;
  }

  leave(bytes: number): void {
    this.#pending--;
    this.#bytes -= bytes;
  }
}

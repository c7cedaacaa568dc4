/**
 * How often somebody may fail: a bucket for each address, and one for all together, in bounded memory. Only failures are counted and
 * slowed. What is right is never refused because others were wrong: a secret of 256 bits is not guessed, and nobody is locked out.
 */
import type { Clock } from '#src/clock.ts';
import { FAILING_ADDRESSES_MAX } from '#src/limits.ts';

type Bucket = { level: number; at: number };
type Rate = { readonly burst: number; readonly perMinute: number };
/** How often one address may fail, and all together. */
export type Bounds = { readonly each: Rate; readonly all: Rate };

export class Attempts {
  readonly #clock: Clock;
  readonly #bounds: Bounds;
  readonly #ofAddress = new Map<string, Bucket>();
  readonly #ofAll: Bucket = { level: 0, at: 0 };

  constructor(clock: Clock, bounds: Bounds) {
    this.#clock = clock;
    this.#bounds = bounds;
  }

  /** Seconds after which this address is within its bounds again, 0 where it is; counts nothing. */
  wait(address: string): number {
    const own = this.#ofAddress.get(bucketOf(address));
    return own === undefined ? 0 : take({ ...own }, this.#clock(), this.#bounds.each);
  }

  /**
   * Counts one more failure. Answers 0 where it is within bounds, else the seconds after which the next one is.
   */
  note(address: string): number {
    const now = this.#clock();
    const key = bucketOf(address);
    const own = this.#ofAddress.get(key) ?? { level: 0, at: now };
    // Last in the map's order is what was seen last.
    this.#ofAddress.delete(key);
    this.#ofAddress.set(key, own);
    if (this.#ofAddress.size > FAILING_ADDRESSES_MAX)
      this.#ofAddress.delete(this.#ofAddress.keys().next().value as string);
    const wait = take(own, now, this.#bounds.each);
    return wait > 0 ? wait : take(this.#ofAll, now, this.#bounds.all);
  }

  /** Addresses that are remembered. */
  get size(): number {
    return this.#ofAddress.size;
  }
}

/** A leaky bucket: what is in it runs out evenly, and what does not fit is refused. */
function take(bucket: Bucket, now: number, { burst, perMinute }: Rate): number {
  const each = 60_000 / perMinute;
  // A clock that was set back must not fill the bucket for the time that it lost.
  bucket.level = Math.max(0, bucket.level - Math.max(0, now - bucket.at) / each);
  bucket.at = now;
  if (bucket.level + 1 > burst) return Math.ceil(((bucket.level + 1 - burst) * each) / 1000);
  bucket.level++;
  return 0;
}

/** Of IPv6 whoever has one address has the /64 around it. */
function bucketOf(address: string): string {
  if (!address.includes(':')) return address;
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address);
  if (mapped !== null) return mapped[1]!;
  const [head = ''] = address.split('::');
  const groups = head.split(':');
  return `${[0, 1, 2, 3].map((at) => Number.parseInt(groups[at] || '0', 16).toString(16)).join(':')}::/64`;
}

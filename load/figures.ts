/** What a run counted and timed, in memory that does not grow with it. */

/** Each bucket is this much wider than the one before: quantiles are right within 2 %. */
const GROWTH = 1.02;
const LEAST_MS = 0.05;
/** Up to some days. */
const BUCKETS = 1100;

export type TimesTold = {
  readonly count: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
};

/** Times in ms by their logarithm. */
export class Times {
  readonly #buckets = new Float64Array(BUCKETS);
  #count = 0;
  #max = 0;

  add(ms: number): void {
    const at = ms <= LEAST_MS ? 0 : Math.ceil(Math.log(ms / LEAST_MS) / Math.log(GROWTH));
    const bucket = Math.min(BUCKETS - 1, at);
    this.#buckets[bucket] = this.#buckets[bucket]! + 1;
    this.#count++;
    this.#max = Math.max(this.#max, ms);
  }

  quantile(q: number): number {
    let left = q * this.#count;
    for (const [at, count] of this.#buckets.entries()) {
      left -= count;
      if (left <= 0 && count > 0) return Math.min(this.#max, LEAST_MS * GROWTH ** at);
    }
    return this.#max;
  }

  told(): TimesTold {
    const rounded = (ms: number): number => Number(ms.toPrecision(3));
    const [p50, p90, p99] = [0.5, 0.9, 0.99].map((q) => rounded(this.quantile(q))) as [number, number, number];
    return { count: this.#count, p50, p90, p99, max: rounded(this.#max) };
  }
}

/** How often each of some reasons was met. */
export class Reasons {
  readonly #counts = new Map<string, number>();

  add(reason: string): void {
    this.#counts.set(reason, (this.#counts.get(reason) ?? 0) + 1);
  }

  get total(): number {
    return [...this.#counts.values()].reduce((sum, count) => sum + count, 0);
  }

  /** The most frequent first. */
  told(): { readonly reason: string; readonly count: number }[] {
    return [...this.#counts].map(([reason, count]) => ({ reason, count })).sort((a, b) => b.count - a.count);
  }
}

export type Spread = {
  readonly hosts: number;
  readonly slots: number;
  readonly slotSeconds: number;
  /** Hosts that come in a slot. */
  readonly mean: number;
  readonly least: number;
  readonly most: number;
  /** Variance over mean: 1 where each host's place is chance, more where they bunch. */
  readonly dispersion: number;
};

/** How evenly times lie in the interval that they repeat in; undefined where there are too few to say. */
export function spreadOf(times: Iterable<number>, intervalMs: number, slots = 60): Spread | undefined {
  const counts = new Float64Array(slots);
  let hosts = 0;
  for (const at of times) {
    if (at <= 0) continue;
    const slot = Math.floor(((at % intervalMs) / intervalMs) * slots);
    counts[slot] = counts[slot]! + 1;
    hosts++;
  }
  const mean = hosts / slots;
  if (mean < 1) return undefined;
  const variance = counts.reduce((sum, count) => sum + (count - mean) ** 2, 0) / (slots - 1);
  return {
    hosts,
    slots,
    slotSeconds: Number((intervalMs / slots / 1000).toPrecision(3)),
    mean: Number(mean.toPrecision(4)),
    least: Math.min(...counts),
    most: Math.max(...counts),
    dispersion: Number((variance / mean).toPrecision(3)),
  };
}

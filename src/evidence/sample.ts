/**
 * The repeatable draw of hosts (docs/evidence.md 3.4, `sha256-order/1`): who knows seed and population draws the same ones. It is not random
 * against whoever chooses the seed, so the auditor does.
 */
import { sha256Hex } from '#src/digest.ts';

export const SAMPLE_METHOD = 'sha256-order/1';

/** What decides the place of an id, in hex; `printf '%s\n%s' SEED ID | sha256sum` prints the same. */
export const sampleOrder = (seed: string, id: string): string => sha256Hex(`${seed}\n${id}`);

/** The first `size` of the ids by SHA-256(seed ‖ 0x0A ‖ id) in hex. */
export function drawSample(ids: Iterable<string>, seed: string, size: number): string[] {
  const draw = new Draw<string>((id) => id, seed, size);
  for (const id of ids) draw.offer(id);
  return draw.drawn.map(({ id }) => id);
}

export type Drawn<T> = { readonly item: T; readonly id: string; readonly order: string };

/** A draw from what streams by: memory grows with the sample, not with what it is drawn from. */
export class Draw<T> {
  readonly #idOf: (item: T) => string;
  readonly #seed: string;
  readonly #size: number;
  readonly #drawn: Drawn<T>[] = [];

  constructor(idOf: (item: T) => string, seed: string, size: number) {
    this.#idOf = idOf;
    this.#seed = seed;
    this.#size = size;
  }

  offer(item: T): void {
    const id = this.#idOf(item);
    const one = { item, id, order: sampleOrder(this.#seed, id) };
    const drawn = this.#drawn;
    let low = 0;
    for (let high = drawn.length; low < high;) {
      const middle = (low + high) >>> 1;
      if (before(drawn[middle]!, one)) low = middle + 1;
      else high = middle;
    }
    if (low >= this.#size) return;
    drawn.splice(low, 0, one);
    if (drawn.length > this.#size) drawn.pop();
  }

  /** First drawn first. */
  get drawn(): readonly Drawn<T>[] {
    return this.#drawn;
  }
}

const before = (a: Omit<Drawn<unknown>, 'item'>, b: Omit<Drawn<unknown>, 'item'>): boolean =>
  a.order < b.order || (a.order === b.order && a.id < b.id);

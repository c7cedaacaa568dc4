/** Who comes next: a heap of hosts by the time at which they are due. */
export class Due {
  readonly #hosts: Uint32Array;
  readonly #at: Float64Array;
  #size = 0;

  /** Holds each of `hosts` at most once. */
  constructor(hosts: number) {
    this.#hosts = new Uint32Array(hosts);
    this.#at = new Float64Array(hosts);
  }

  get size(): number {
    return this.#size;
  }

  /** When the first is due; undefined where nobody is. */
  first(): number | undefined {
    return this.#size === 0 ? undefined : this.#at[0];
  }

  push(host: number, at: number): void {
    let place = this.#size++;
    while (place > 0) {
      const above = (place - 1) >> 1;
      if (this.#at[above]! <= at) break;
      this.#move(above, place);
      place = above;
    }
    this.#hosts[place] = host;
    this.#at[place] = at;
  }

  /** The first, which is then no longer here; there must be one. */
  pop(): number {
    const [host, size] = [this.#hosts[0]!, --this.#size];
    const [last, at] = [this.#hosts[size]!, this.#at[size]!];
    let place = 0;
    for (;;) {
      let below = 2 * place + 1;
      if (below >= size) break;
      if (below + 1 < size && this.#at[below + 1]! < this.#at[below]!) below++;
      if (this.#at[below]! >= at) break;
      this.#move(below, place);
      place = below;
    }
    this.#hosts[place] = last;
    this.#at[place] = at;
    return host;
  }

  #move(from: number, to: number): void {
    this.#hosts[to] = this.#hosts[from]!;
    this.#at[to] = this.#at[from]!;
  }
}

/**
 * Digests of files that were read before, in memory that all threads of a scan share (docs/agent.md, "Not read twice"). It stands alone, without an
 * import, because its source is handed to the worker threads as text (pool.ts, `workerSource`).
 */

/** What must be as it was for a digest to stand in for reading: `fstat` with bigints. */
export type FileKey = {
  readonly dev: bigint;
  readonly ino: bigint;
  readonly size: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
};

/** A record: the five of `FileKey`, 32 bytes of SHA-256, and when the file is to be read again (milliseconds since boot, a double). */
export const DIGEST_WORDS = 10;
export const DIGEST_BYTES = DIGEST_WORDS * 8;
const SHA_AT = 5;
const DUE_AT = 9;

/** What is shared. `records` are dense; `index` finds them by device and inode: number of the record + 1, 0 for none. */
export type TableData = {
  readonly records: SharedArrayBuffer;
  readonly index: SharedArrayBuffer;
  /** One byte a record: 1 if the scan met its file, unchanged. */
  readonly seen: SharedArrayBuffer;
  /** See `COUNT`. */
  readonly counts: SharedArrayBuffer;
  /** Records that were there before this run. */
  readonly loaded: number;
  /** Milliseconds since boot, when this run began. */
  readonly now: number;
  /** Within this every file is read again, though nothing seems to have changed. */
  readonly rereadMs: number;
  /** Nanoseconds since 1970: what changed then or later may change again without another time. */
  readonly racyNs: bigint;
};

/** Places in `counts`. `cached`: files whose digest came from a run before. `silent`: read again, with other content under the same key. */
export const COUNT = { records: 0, full: 1, cached: 2, silent: 3 } as const;

/** A table with room for `max` records; memory is taken only as they come. */
export function newTable(max: number, about: Omit<TableData, 'records' | 'index' | 'seen' | 'counts'>): TableData {
  return {
    ...about,
    records: new SharedArrayBuffer(max * DIGEST_BYTES),
    // At most half of it is taken, so that a search ends soon.
    index: new SharedArrayBuffer(2 ** Math.ceil(Math.log2(2 * max)) * 4),
    seen: new SharedArrayBuffer(max),
    counts: new SharedArrayBuffer(16),
  };
}

export class DigestTable {
  readonly #data: TableData;
  readonly #words: BigUint64Array;
  readonly #halves: Uint32Array;
  readonly #doubles: Float64Array;
  readonly #bytes: Buffer;
  readonly #index: Int32Array;
  readonly #seen: Uint8Array;
  readonly #counts: Int32Array;

  constructor(data: TableData) {
    this.#data = data;
    this.#words = new BigUint64Array(data.records);
    this.#halves = new Uint32Array(data.records);
    this.#doubles = new Float64Array(data.records);
    this.#bytes = Buffer.from(data.records);
    this.#index = new Int32Array(data.index);
    this.#seen = new Uint8Array(data.seen);
    this.#counts = new Int32Array(data.counts);
  }

  /** The digest of a file that is as it was, in hex; undefined where it is to be read. */
  lookup(key: FileKey): string | undefined {
    const record = Atomics.load(this.#index, this.#slotOf(key.dev, key.ino)) - 1;
    if (record < 0 || !this.#is(record, key)) return undefined;
    const { now, rereadMs, loaded } = this.#data;
    const due = this.#doubles[record * DIGEST_WORDS + DUE_AT]!;
    // Further away than any that we write: not ours, or the setting was lowered since.
    if (record < loaded && !(due > now && due <= now + rereadMs)) return undefined;
    this.#seen[record] = 1;
    // What this run read under another name was read.
    if (record < loaded) Atomics.add(this.#counts, COUNT.cached, 1);
    return this.#sha256(record);
  }

  /** Keeps what was just read, unless it changed so lately that it may change again unseen. */
  store(key: FileKey, sha256: string): void {
    const { now, rereadMs, racyNs, loaded } = this.#data;
    const slot = this.#slotOf(key.dev, key.ino);
    const before = Atomics.load(this.#index, slot) - 1;
    const known = before >= 0 && this.#is(before, key);
    if (known && before < loaded && this.#sha256(before) !== sha256) Atomics.add(this.#counts, COUNT.silent, 1);
    if (key.mtimeNs >= racyNs || key.ctimeNs >= racyNs) return;
    const record = Atomics.add(this.#counts, COUNT.records, 1);
    if (record >= this.#seen.length) {
      Atomics.sub(this.#counts, COUNT.records, 1);
      Atomics.store(this.#counts, COUNT.full, 1);
      return;
    }
    // A file keeps its turn, so that the slices stay as even as they were; a new one draws its own.
    const turn = known ? this.#doubles[before * DIGEST_WORDS + DUE_AT]! : now + rereadMs * Math.random();
    const at = record * DIGEST_WORDS;
    const values = [key.dev, key.ino, key.size, key.mtimeNs, key.ctimeNs];
    for (let i = 0; i < values.length; i++) this.#words[at + i] = values[i]!;
    this.#bytes.write(sha256, (at + SHA_AT) * 8, 'hex');
    this.#doubles[at + DUE_AT] = turn + rereadMs * Math.ceil((now - turn) / rereadMs + Number.EPSILON);
    this.#seen[record] = 1;
    this.#publish(record, key.dev, key.ino);
  }

  /** Takes in a record that lies behind the others, loaded from a file; false where one of the same file was there, and was replaced. */
  adopt(record: number): boolean {
    const at = record * DIGEST_WORDS;
    const halves = this.#halves;
    const slot = this.#slot(halves[2 * at]!, halves[2 * at + 1]!, halves[2 * at + 2]!, halves[2 * at + 3]!);
    const before = this.#index[slot]! - 1;
    if (before < 0) this.#index[slot] = record + 1;
    else this.#words.copyWithin(before * DIGEST_WORDS, at, at + DIGEST_WORDS);
    return before < 0;
  }

  /** Numbers of the records that hold: of each file the newest, if the scan met it. */
  *live(): Generator<number> {
    for (const entry of this.#index) if (entry > 0 && this.#seen[entry - 1] === 1) yield entry - 1;
  }

  #publish(record: number, dev: bigint, ino: bigint): void {
    for (;;) {
      const slot = this.#slotOf(dev, ino);
      const before = Atomics.load(this.#index, slot);
      if (Atomics.compareExchange(this.#index, slot, before, record + 1) === before) return;
    }
  }

  #slotOf(dev: bigint, ino: bigint): number {
    return this.#slot(low(dev), high(dev), low(ino), high(ino));
  }

  /** The slot of a file: its own, or the empty one that it would take. Numbers, as bigints would cost more than the rest of the search. */
  #slot(devLow: number, devHigh: number, inoLow: number, inoHigh: number): number {
    const halves = this.#halves;
    const mask = this.#index.length - 1;
    const hash = Math.imul(Math.imul(inoLow ^ inoHigh, 0x9e3779b1) ^ devLow ^ devHigh, 0x85ebca6b);
    for (let slot = (hash ^ (hash >>> 15)) & mask; ; slot = (slot + 1) & mask) {
      const record = Atomics.load(this.#index, slot) - 1;
      if (record < 0) return slot;
      const at = 2 * record * DIGEST_WORDS;
      const same =
        halves[at + 2] === inoLow && halves[at + 3] === inoHigh && halves[at] === devLow && halves[at + 1] === devHigh;
      if (same) return slot;
    }
  }

  #is(record: number, { dev, ino, size, mtimeNs, ctimeNs }: FileKey): boolean {
    const words = this.#words;
    const at = record * DIGEST_WORDS;
    return (
      words[at] === dev &&
      words[at + 1] === ino &&
      words[at + 2] === size &&
      words[at + 3] === mtimeNs &&
      words[at + 4] === ctimeNs
    );
  }

  #sha256(record: number): string {
    const at = (record * DIGEST_WORDS + SHA_AT) * 8;
    return this.#bytes.toString('hex', at, at + 32);
  }
}

const low = (word: bigint): number => Number(BigInt.asUintN(32, word));
const high = (word: bigint): number => Number(BigInt.asUintN(32, word >> 32n));

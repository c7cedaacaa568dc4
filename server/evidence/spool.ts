/** What an export keeps on disk beside its file while it is made: lists of facts as lines of JSON, read as often as results need them. */
import { once } from 'node:events';
import { createReadStream, createWriteStream, type WriteStream } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export class SpoolList<Value> {
  readonly #path: string;
  readonly #file: WriteStream;
  #failed: Error | undefined;
  lines = 0;

  private constructor(path: string) {
    this.#path = path;
    this.#file = createWriteStream(path, { mode: 0o600, highWaterMark: 2 ** 18 });
    this.#file.on('error', (error) => {
      this.#failed = error;
    });
  }

  static async in<Value>(folder: string, name: string): Promise<SpoolList<Value>> {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    return new SpoolList<Value>(join(folder, `${name}.ndjson`));
  }

  async add(value: Value): Promise<void> {
    if (this.#failed !== undefined) throw this.#failed;
    this.lines++;
    if (!this.#file.write(`${JSON.stringify(value)}\n`)) await once(this.#file, 'drain');
  }

  /** No line is added after it. */
  async close(): Promise<void> {
    if (this.#failed !== undefined) throw this.#failed;
    this.#file.end();
    await once(this.#file, 'close');
    // eslint-disable-next-line typescript/no-unnecessary-condition -- set by the stream meanwhile
    if (this.#failed !== undefined) throw this.#failed;
  }

  /** From the beginning, each time. */
  async *read(): AsyncGenerator<Value> {
    const stream = createReadStream(this.#path);
    try {
      for await (const line of createInterface({ input: stream, crlfDelay: Infinity })) yield JSON.parse(line) as Value;
    } finally {
      stream.destroy();
    }
  }
}

/** Indexes of log entries: a bit for each entry of the log, so that ten million take a little more than a megabyte. */
export class IndexSet {
  readonly #bits: Uint8Array;
  #count = 0;

  constructor(size: number) {
    this.#bits = new Uint8Array(Math.ceil(size / 8));
  }

  get count(): number {
    return this.#count;
  }

  add(index: number): void {
    const at = Math.floor(index / 8);
    const bit = 1 << (index % 8);
    if ((this.#bits[at]! & bit) !== 0) return;
    this.#bits[at]! |= bit;
    this.#count++;
  }

  /** By rising index, at most `limit` at a time. */
  *pages(limit: number): Generator<readonly number[]> {
    let page: number[] = [];
    for (const [at, byte] of this.#bits.entries()) {
      if (byte === 0) continue;
      for (let bit = 0; bit < 8; bit++) {
        if ((byte & (1 << bit)) === 0) continue;
        page.push(8 * at + bit);
        if (page.length < limit) continue;
        yield page;
        page = [];
      }
    }
    if (page.length > 0) yield page;
  }
}

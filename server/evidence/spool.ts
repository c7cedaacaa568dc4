/**
 * What an export keeps on disk beside its file while it is made: lists as lines of JSON, read as often as results need them. A mark says how much of a
 * list was there when; whoever goes on copies that much of it, and sees whether it is what was marked (docs/evidence.md 7.5).
 */
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';

/** How much of a list lies on disk. */
export const SpoolMark = z.strictObject({
  lines: z.int().min(0),
  bytes: z.int().min(0),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
});
export type SpoolMark = Readonly<z.infer<typeof SpoolMark>>;

const HELD_BYTES = 2 ** 18;
const LF = 0x0a;
const pathOf = (folder: string, name: string): string => join(folder, `${name}.ndjson`);

export class SpoolList<Value> {
  readonly #file: FileHandle;
  readonly #hash: Hash;
  #held: Buffer[] = [];
  #heldBytes = 0;
  #isOpen = true;
  #lines: number;
  #bytes: number;

  private constructor(file: FileHandle, hash: Hash, { lines, bytes }: Pick<SpoolMark, 'lines' | 'bytes'>) {
    this.#file = file;
    this.#hash = hash;
    this.#lines = lines;
    this.#bytes = bytes;
  }

  /** A new one; with `from`, it begins with what lies there up to the mark. Undefined where something else lies there. */
  static async in<Value>(folder: string, name: string): Promise<SpoolList<Value>>;
  static async in<Value>(
    folder: string,
    name: string,
    from: { readonly folder: string; readonly mark: SpoolMark },
  ): Promise<SpoolList<Value> | undefined>;
  static async in<Value>(
    folder: string,
    name: string,
    from?: { readonly folder: string; readonly mark: SpoolMark },
  ): Promise<SpoolList<Value> | undefined> {
    const file = await open(pathOf(folder, name), 'w', 0o600);
    const hash = createHash('sha256');
    if (from === undefined) return new SpoolList<Value>(file, hash, { lines: 0, bytes: 0 });
    if (await copied(pathOf(from.folder, name), from.mark, file, hash))
      return new SpoolList<Value>(file, hash, from.mark);
    await file.close();
    return undefined;
  }

  async add(value: Value): Promise<void> {
    const line = Buffer.from(`${JSON.stringify(value)}\n`);
    this.#held.push(line);
    this.#heldBytes += line.length;
    this.#lines++;
    if (this.#heldBytes >= HELD_BYTES) await this.#write();
  }

  async #write(): Promise<void> {
    const bytes = Buffer.concat(this.#held);
    this.#held = [];
    this.#heldBytes = 0;
    this.#hash.update(bytes);
    this.#bytes += bytes.length;
    await this.#file.writeFile(bytes);
  }

  /** Everything that was added lies on disk; a machine that loses power may still lose it, and then the mark says so. */
  async mark(): Promise<SpoolMark> {
    await this.#write();
    return { lines: this.#lines, bytes: this.#bytes, sha256: this.#hash.copy().digest('hex') };
  }

  /** No line is added after it. */
  async close(): Promise<SpoolMark> {
    const mark = await this.mark();
    await this[Symbol.asyncDispose]();
    return mark;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isOpen) await this.#file.close();
    this.#isOpen = false;
  }
}

/** What a list holds, from the beginning, each time. */
export async function* spooled<Value>(folder: string, name: string): AsyncGenerator<Value> {
  // By its bytes: to readline U+2028 ends a line, too, and people may have written one.
  let held: Buffer = Buffer.alloc(0);
  for await (const piece of createReadStream(pathOf(folder, name), { highWaterMark: HELD_BYTES })) {
    const bytes: Buffer = held.length === 0 ? (piece as Buffer) : Buffer.concat([held, piece as Buffer]);
    let at = 0;
    for (let end = bytes.indexOf(LF); end >= 0; end = bytes.indexOf(LF, at)) {
      yield JSON.parse(bytes.toString('utf8', at, end)) as Value;
      at = end + 1;
    }
    held = bytes.subarray(at);
  }
}

/** Whether a list is there as it was marked. */
export const isWhole = (folder: string, name: string, mark: SpoolMark): Promise<boolean> =>
  copied(pathOf(folder, name), mark, undefined, createHash('sha256'));

async function copied(
  path: string,
  { bytes, sha256 }: SpoolMark,
  to: FileHandle | undefined,
  hash: Hash,
): Promise<boolean> {
  let found = 0;
  try {
    if (bytes > 0)
      for await (const piece of createReadStream(path, { end: bytes - 1, highWaterMark: HELD_BYTES })) {
        hash.update(piece as Buffer);
        found += (piece as Buffer).length;
        await to?.writeFile(piece as Buffer);
      }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return false;
  }
  return found === bytes && hash.copy().digest('hex') === sha256;
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

  /** By rising index, behind the first `skip`, at most `limit` at a time. */
  *pages(limit: number, skip = 0): Generator<readonly number[]> {
    let page: number[] = [];
    let seen = 0;
    for (const [at, byte] of this.#bits.entries()) {
      if (byte === 0) continue;
      for (let bit = 0; bit < 8; bit++) {
        if ((byte & (1 << bit)) === 0 || seen++ < skip) continue;
        page.push(8 * at + bit);
        if (page.length < limit) continue;
        yield page;
        page = [];
      }
    }
    if (page.length > 0) yield page;
  }
}

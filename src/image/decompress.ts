/**
 * A layer's blob as the stream of bytes that its media type says: plain, gzip (RFC 1952) or zstd (RFC 8878). All members of a gzip
 * file and all frames of a zstd file are decoded; where the first one ends is told, because some importers stop there.
 */
import {
  createGunzip,
  createInflateRaw,
  createZstdDecompress,
  crc32,
  type Gunzip,
  type InflateRaw,
  type ZstdDecompress,
} from 'node:zlib';
import { BootproofError } from '#src/error.ts';
import { PATH_BYTES_MAX } from '#src/limits.ts';

export class DecompressError extends BootproofError<
  'COMPRESSION_MISMATCH' | 'COMPRESSION_DAMAGED' | 'COMPRESSION_TRAILING'
> {}

export type Compression = 'none' | 'gzip' | 'zstd';

/** Called between the last byte of the first member or frame and what follows it; not called where nothing follows. */
export type FirstEnd = () => void;

const GZIP_MAGIC = 0x1f8b;
const ZSTD_MAGIC = 0x28b52ffd;
// Large enough that a step into the thread pool is rare, small enough for the second-level cache.
const CHUNK = 256 * 1024;
const OPTIONS = { chunkSize: CHUNK, readableHighWaterMark: 4 * CHUNK };

/** @throws {DecompressError} where the bytes are not what the media type says, are damaged, or are followed by others. */
export async function* decompress(
  blob: AsyncIterable<Uint8Array>,
  compression: Compression,
  firstEnd: FirstEnd,
): AsyncGenerator<Buffer> {
  const input = new Input(blob);
  try {
    await checkMagic(input, compression);
    if (compression === 'gzip') yield* gunzip(input, firstEnd);
    else if (compression === 'zstd') yield* unzstd(input, firstEnd);
    else for (let chunk = await input.chunk(); chunk; chunk = await input.chunk()) yield chunk;
  } finally {
    await input.close();
  }
}

async function checkMagic(input: Input, compression: Compression): Promise<void> {
  const head = await input.peek(4);
  const found: Compression =
    head.length >= 2 && head.readUInt16BE() === GZIP_MAGIC
      ? 'gzip'
      : head.length === 4 && (head.readUInt32BE() === ZSTD_MAGIC || isSkippable(head.readUInt32LE()))
        ? 'zstd'
        : 'none';
  // No tar header begins with these bytes: its checksum would have to count them in a name.
  if (found !== compression)
    throw new DecompressError('COMPRESSION_MISMATCH', `the media type says ${compression}, the bytes are ${found}`);
}

async function* gunzip(input: Input, firstEnd: FirstEnd): AsyncGenerator<Buffer> {
  await skipGzipHeader(input);
  let sum = 0;
  let length = 0;
  for await (const out of through(createInflateRaw(OPTIONS), input)) {
    sum = crc32(out, sum);
    length = (length + out.length) % 2 ** 32;
    yield out;
  }
  const trailer = await input.take(8);
  if (trailer.length < 8 || trailer.readUInt32LE(0) !== sum || trailer.readUInt32LE(4) !== length)
    throw new DecompressError('COMPRESSION_DAMAGED', 'gzip: the checksum at the end does not match');
  const next = await input.peek(2);
  if (next.length === 0) return;
  if (next.length < 2 || next.readUInt16BE() !== GZIP_MAGIC) throw trailing('gzip');
  firstEnd();
  // zlib goes from member to member by itself, and checks each.
  yield* through(createGunzip(OPTIONS), input);
  if ((await input.peek(1)).length > 0) throw trailing('gzip');
}

const trailing = (what: string): DecompressError =>
  new DecompressError('COMPRESSION_TRAILING', `${what}: bytes that are no ${what} follow the compressed data`);

async function skipGzipHeader(input: Input): Promise<void> {
  const head = await input.take(10);
  if (head.length < 10 || head[2] !== 8 || (head[3]! & 0xe0) !== 0)
    throw new DecompressError('COMPRESSION_DAMAGED', 'gzip: the header is damaged');
  const flags = head[3]!;
  if (flags & 4) {
    const extra = await input.take(2);
    if (extra.length === 2) await input.take(extra.readUInt16LE());
  }
  for (const flag of [8, 16]) if (flags & flag) await skipText(input);
  if (flags & 2) await input.take(2);
}

/** A file name or comment of the gzip header: up to a NUL. */
async function skipText(input: Input): Promise<void> {
  let length = 0;
  for (let chunk = await input.chunk(); chunk; chunk = await input.chunk()) {
    const end = chunk.indexOf(0);
    if (end >= 0) return input.unread(chunk.subarray(end + 1));
    length += chunk.length;
    if (length > PATH_BYTES_MAX + CHUNK)
      throw new DecompressError('COMPRESSION_DAMAGED', 'gzip: a name or comment without end in the header');
  }
}

async function* unzstd(input: Input, firstEnd: FirstEnd): AsyncGenerator<Buffer> {
  const frame = new FirstFrame();
  yield* through(createZstdDecompress(OPTIONS), {
    async chunk() {
      if (frame.done) return undefined;
      const chunk = await input.chunk();
      if (chunk === undefined) return undefined;
      const end = frame.scan(chunk);
      if (end < chunk.length) input.unread(chunk.subarray(end));
      return chunk.subarray(0, end);
    },
    unread: (chunk) => input.unread(chunk),
  });
  if ((await input.peek(1)).length === 0) return;
  const rest = through(createZstdDecompress(OPTIONS), input);
  let told = false;
  for await (const out of rest) {
    if (!told) firstEnd(); // skippable frames alone, such as the table of zstd:chunked, lose nothing
    told = true;
    yield out;
  }
  if ((await input.peek(1)).length > 0) throw trailing('zstd');
}

const isSkippable = (magic: number): boolean => (magic & 0xffff_fff0) >>> 0 === 0x184d_2a50;

/**
 * Finds the end of the first frame by walking its blocks (RFC 8878, 3.1.1), without decoding them. A skippable one is a frame, too:
 * composefs-rs stops behind it.
 */
class FirstFrame {
  done = false;
  #need: 'magic' | 'skip' | 'descriptor' | 'block' = 'magic';
  #field = 0;
  #fieldBytes = 0;
  #jump = 0;
  #checksum = false;
  #last = false;

  /** Takes bytes; returns how many of them belong to the frame. */
  scan(chunk: Buffer): number {
    let at = 0;
    while (at < chunk.length && !this.done) {
      if (this.#jump > 0) {
        const step = Math.min(this.#jump, chunk.length - at);
        this.#jump -= step;
        at += step;
        if (this.#jump === 0 && this.#last) this.done = true;
        continue;
      }
      this.#field += chunk[at++]! * 2 ** (8 * this.#fieldBytes++);
      const wanted = { magic: 4, skip: 4, descriptor: 1, block: 3 }[this.#need];
      if (this.#fieldBytes === wanted) this.#take();
    }
    return at;
  }

  #take(): void {
    const value = this.#field;
    this.#field = this.#fieldBytes = 0;
    if (this.#need === 'magic') this.#need = isSkippable(value) ? 'skip' : 'descriptor';
    else if (this.#need === 'skip') {
      this.#jump = value;
      this.#last = true;
      this.done = value === 0;
    } else if (this.#need === 'descriptor') {
      const single = (value & 0x20) !== 0;
      const contentSize = [single ? 1 : 0, 2, 4, 8][value >> 6]!;
      this.#checksum = (value & 4) !== 0;
      this.#jump = (single ? 0 : 1) + [0, 1, 2, 4][value & 3]! + contentSize;
      this.#need = 'block';
    } else {
      this.#last = (value & 1) !== 0;
      const type = (value >> 1) & 3;
      this.#jump = (type === 1 ? 1 : value >> 3) + (this.#last && this.#checksum ? 4 : 0);
      if (this.#jump === 0 && this.#last) this.done = true;
    }
  }
}

type Chunks = { chunk(): Promise<Buffer | undefined>; unread(chunk: Buffer): void };

/** Runs input through a zlib stream until the compressed data ends there; what it did not consume goes back to the input. */
async function* through(stream: InflateRaw | Gunzip | ZstdDecompress, input: Chunks): AsyncGenerator<Buffer> {
  let fed = 0;
  let last: Buffer = Buffer.alloc(0);
  let failure: { readonly cause: unknown } | undefined;
  const over = new Promise<void>((resolve) => {
    stream.once('end', resolve).once('close', resolve).once('error', resolve);
  });
  let ended = false;
  void over.then(() => (ended = true));
  async function feed(): Promise<void> {
    for (let chunk = await input.chunk(); chunk; chunk = await input.chunk()) {
      if (ended) return input.unread(chunk);
      fed += chunk.length;
      last = chunk;
      await Promise.race([over, new Promise((resolve) => stream.write(chunk, resolve))]);
      // What it does not want, it has no use for: the data ended in this chunk or before it.
      if (ended || fed > stream.bytesWritten) return;
    }
    stream.end();
  }
  const feeding = feed().catch((cause: unknown) => {
    failure = { cause };
    stream.destroy();
  });
  try {
    for await (const out of stream) yield out as Buffer;
  } catch (cause) {
    await feeding;
    if (failure) throw failure.cause;
    throw new DecompressError('COMPRESSION_DAMAGED', `the compressed data is damaged: ${(cause as Error).message}`, {
      cause,
    });
  } finally {
    stream.destroy();
  }
  await feeding;
  const rest = fed - stream.bytesWritten;
  if (rest > 0) input.unread(last.subarray(last.length - rest));
}

/** The blob's chunks, with bytes that can be taken ahead and given back. */
class Input implements Chunks {
  readonly #iterator: AsyncIterator<Uint8Array>;
  #held: Buffer | undefined;
  #over = false;

  constructor(blob: AsyncIterable<Uint8Array>) {
    this.#iterator = blob[Symbol.asyncIterator]();
  }

  async chunk(): Promise<Buffer | undefined> {
    const held = this.#held;
    this.#held = undefined;
    if (held !== undefined) return held;
    while (!this.#over) {
      const step = await this.#iterator.next();
      if (step.done) this.#over = true;
      else if (step.value.length > 0) return Buffer.from(step.value.buffer, step.value.byteOffset, step.value.length);
    }
    return undefined;
  }

  unread(chunk: Buffer): void {
    if (chunk.length > 0) this.#held = this.#held ? Buffer.concat([chunk, this.#held]) : chunk;
  }

  /** Up to `count` bytes that stay to be read; fewer at the end. */
  async peek(count: number): Promise<Buffer> {
    const head = await this.take(count);
    this.unread(head);
    return head;
  }

  /** Up to `count` bytes; fewer at the end. */
  async take(count: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    for (let left = count; left > 0;) {
      const chunk = await this.chunk();
      if (chunk === undefined) break;
      if (chunk.length > left) this.unread(chunk.subarray(left));
      parts.push(chunk.subarray(0, left));
      left -= Math.min(left, chunk.length);
    }
    return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
  }

  /** Lets the blob's iterator end where it was not read out. */
  async close(): Promise<void> {
    if (!this.#over) await this.#iterator.return?.();
  }
}

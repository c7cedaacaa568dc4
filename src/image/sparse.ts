/**
 * Sparse files: which bytes of a file are in the archive, the rest is zeros (GNU manual, "Storing Sparse Files"). Old GNU headers
 * (`S`), PAX 0.0 and 0.1 (the map in the extended header) and PAX 1.0 (the map before the data).
 */
import type { Hash } from 'node:crypto';
import { BLOCK, number, TarError } from './tarheader.ts';
import { tooManyPieces } from './pax.ts';

/** Offset, length, offset, length … */
export type SparseMap = number[];

/** The four pieces in an old GNU header, and whether an extension block follows. */
export function gnuPieces(block: Buffer, at: number): { map: SparseMap; realSize: number; more: boolean } {
  return {
    map: pieces(block, at + 386, 4),
    realSize: number(block, at + 483, 12, 'the apparent size'),
    more: block[at + 482] !== 0,
  };
}

/** The 21 pieces of an extension block, and whether another follows. */
export function gnuExtension(block: Buffer, at: number): { map: SparseMap; more: boolean } {
  return { map: pieces(block, at, 21), more: block[at + 504] !== 0 };
}

function pieces(block: Buffer, at: number, count: number): SparseMap {
  const map: SparseMap = [];
  for (let i = 0; i < count; i++) {
    const piece = at + 24 * i;
    if (block[piece] === 0) break;
    map.push(number(block, piece, 12, 'a sparse offset'), number(block, piece + 12, 12, 'a sparse length'));
  }
  return map;
}

/**
 * Checks a map: ascending, inside the file, and as long as what the archive stores.
 * @throws {TarError} TAR_SPARSE; LIMIT_SPARSE where its holes are more than `holeBytes`.
 */
export function checkMap(map: SparseMap, realSize: number, stored: number, holeBytes: number): void {
  let end = 0;
  let data = 0;
  for (let i = 0; i < map.length; i += 2) {
    const offset = map[i]!;
    const length = map[i + 1]!;
    if (offset < end) throw new TarError('TAR_SPARSE', 'the sparse map is out of order or overlaps');
    end = offset + length;
    data += length;
  }
  if (end > realSize)
    throw new TarError('TAR_SPARSE', `the sparse map ends at ${end}, beyond the file's ${realSize} bytes`);
  if (data !== stored)
    throw new TarError('TAR_SPARSE', `the sparse map counts ${data} bytes of data, the archive stores ${stored}`);
  if (realSize - data > holeBytes)
    throw new TarError('LIMIT_SPARSE', `its holes and those before it are more than the layer's limit`);
}

/** Reads the map of PAX 1.0 from the beginning of the body: count, then offsets and lengths, a line each, filled up to 512 bytes. */
export class MapReader {
  readonly map: SparseMap = [];
  /** Bytes taken so far. */
  taken = 0;
  readonly #limit: number;
  #left = -1;
  #value = 0;
  #digits = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get done(): boolean {
    return this.#left === 0 && this.taken % BLOCK === 0;
  }

  /** Takes bytes from `at` up to `end` until the map is whole; returns where it stopped. */
  read(chunk: Buffer, at: number, end: number): number {
    while (at < end && !this.done) {
      const byte = chunk[at++]!;
      this.taken++;
      if (this.#left === 0) continue; // filling
      if (byte === 0x0a && this.#digits > 0) this.#line();
      else if (byte >= 0x30 && byte <= 0x39 && this.#digits < 16) {
        this.#value = this.#value * 10 + byte - 0x30;
        this.#digits++;
      } else throw new TarError('TAR_SPARSE', 'the sparse map is not lines of decimal numbers');
    }
    return at;
  }

  #line(): void {
    if (this.#left < 0) {
      if (this.#value > this.#limit) throw tooManyPieces(this.#limit);
      this.#left = 2 * this.#value;
    } else {
      this.map.push(this.#value);
      this.#left--;
    }
    this.#value = 0;
    this.#digits = 0;
  }
}

const ZEROS = Buffer.alloc(256 * 1024);

/** Hashes a sparse body as the file it stands for; holes cost time, but no memory. */
export class SparseHash {
  readonly #map: SparseMap;
  readonly #realSize: number;
  readonly #hash: Hash;
  #piece = 0;
  #at = 0;

  constructor(map: SparseMap, realSize: number, hash: Hash) {
    this.#map = map;
    this.#realSize = realSize;
    this.#hash = hash;
  }

  update(data: Buffer): void {
    let from = 0;
    while (from < data.length) {
      const offset = this.#map[this.#piece]!;
      const end = offset + this.#map[this.#piece + 1]!;
      if (this.#at < offset) this.#zeros(offset - this.#at);
      const take = Math.min(end - this.#at, data.length - from);
      if (take > 0) this.#hash.update(data.subarray(from, from + take));
      from += take;
      this.#at += take;
      if (this.#at === end) this.#piece += 2;
    }
  }

  digest(): string {
    this.#zeros(this.#realSize - this.#at);
    return this.#hash.digest('hex');
  }

  #zeros(count: number): void {
    for (let left = count; left > 0; left -= ZEROS.length)
      this.#hash.update(left < ZEROS.length ? ZEROS.subarray(0, left) : ZEROS);
    this.#at += count;
  }
}

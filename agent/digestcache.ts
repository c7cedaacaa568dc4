/**
 * The digest cache on disk (docs/agent.md, "Not read twice"). It is good for one boot alone: device numbers begin anew with the next, and what was done
 * to the disk meanwhile leaves no trace in times. Nothing depends on it: where it cannot be read or written everything is read, and that is said.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  statSync,
  writeSync,
} from 'node:fs';
import { uptime } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { CACHE_FILES_MAX } from '#src/limits.ts';
import { unlink } from './disk.ts';
import { COUNT, DIGEST_BYTES, DigestTable, newTable, type TableData } from './digesttable.ts';

export type CacheOptions = {
  readonly file: string;
  /** Milliseconds within which every file is read again, though nothing seems to have changed. */
  readonly rereadMs: number;
  /** Of this boot; null where the kernel does not tell. */
  readonly bootId?: string | null;
  /** Milliseconds since boot, suspension included: no change of the clock moves it. */
  readonly uptimeMs?: number;
  /** Milliseconds since 1970 by the clock that stamps files. */
  readonly nowMs?: number;
  /** Files at most; `CACHE_FILES_MAX` unless a test wants fewer. */
  readonly filesMax?: number;
};

/**
 * What changed in the last minute is not cached: a file may change twice within one tick of its times (10 ms; a second on old ext4), and a page that is
 * mapped and dirty changes without them until the kernel has written it out (30 s and a little).
 */
const RACY_MS = 60_000;

const MAGIC = 'bootproof-digests/1 ';
const HEAD_BYTES = MAGIC.length + 36 + 1;
const NO_BOOT = '-'.repeat(36);
/** Before the records of a segment: how many, and the SHA-256 over head, number and records. */
const SEGMENT_HEAD = 4 + 32;
const PIECE_RECORDS = 4096;
/** Records that may stand in the file for nothing before it is written anew. */
const WASTE_MAX = 4096;

/** What a run knows of files from runs before it. */
export class DigestCache {
  readonly #file: string;
  readonly #head: Buffer;
  readonly #counts: Int32Array;
  readonly #table: DigestTable;
  /** Where the next segment goes; null where the file is to be written anew. */
  #end: number | null = null;
  /** Records in the file, and of ours those that stand in it. */
  #written = 0;
  #saved = 0;
  readonly #notes = new Set<string>();
  /** The file is there and was not made by us. */
  readonly isForeign: boolean = false;
  readonly data: TableData;

  /** Reads the file; one that is not ours, damaged or of another boot counts as empty. Never throws. */
  constructor({ file, rereadMs, filesMax = CACHE_FILES_MAX, ...given }: CacheOptions) {
    const bootId = given.bootId === undefined ? readBootId() : given.bootId;
    const now = given.uptimeMs ?? uptime() * 1000;
    const racyNs = BigInt(Math.floor((given.nowMs ?? Date.now()) - RACY_MS)) * 1_000_000n;
    this.#file = file;
    this.#head = Buffer.from(`${MAGIC}${bootId ?? NO_BOOT}\n`);
    const data = newTable(filesMax, { loaded: 0, now, rereadMs, racyNs });
    this.#counts = new Int32Array(data.counts);
    this.#table = new DigestTable(data);
    if (bootId === null) this.#notes.add('the kernel tells no boot id: every file is read, and no digest is cached');
    else
      try {
        this.isForeign = !this.#load(data.records, filesMax);
      } catch (error) {
        this.isForeign = true;
        this.#empty(`it cannot be read (${codeOf(error)})`);
      }
    this.data = { ...data, loaded: this.#counts[COUNT.records]! };
    this.#saved = this.data.loaded;
  }

  /** Files whose digest came from runs before this one, so far. */
  get cached(): number {
    return this.#counts[COUNT.cached]!;
  }

  /** What a person should know, in sentences. */
  get notes(): readonly string[] {
    return [...this.#notes];
  }

  /** Puts what was read on the disk: behind what stands there, or all of it anew where half of that is of no use any more. Never throws. */
  save(): void {
    if (this.#head.includes(NO_BOOT)) return;
    const records = this.#counts[COUNT.records]!;
    const silent = this.#counts[COUNT.silent]!;
    if (silent > 0)
      this.#notes.add(
        `${silent} file${silent === 1 ? ' has' : 's have'} other content than when last read, though neither size nor times changed: a disk that fails, or somebody who hides a change`,
      );
    if (this.#counts[COUNT.full] === 1)
      this.#notes.add(`the digest cache is full: what does not fit into ${CACHE_FILES_MAX} files is always read`);
    try {
      const fresh = Array.from({ length: records - this.#saved }, (_, i) => this.#saved + i);
      const live = [...this.#table.live()];
      const anew = this.#end === null || this.#written + fresh.length > 2 * live.length + WASTE_MAX;
      if (anew) this.#writeAnew(live);
      else if (fresh.length > 0) this.#append(fresh);
      this.#saved = records;
    } catch (error) {
      this.#end = null;
      this.#notes.add(`the digest cache ${this.#file} cannot be written (${codeOf(error)}): the next run reads more`);
    }
  }

  #empty(why: string): void {
    this.#notes.add(`the digest cache ${this.#file} is not used: ${why}`);
  }

  /** False where the file is there and is not ours. */
  #load(memory: SharedArrayBuffer, filesMax: number): boolean {
    const fd = openExisting(this.#file);
    if (fd === undefined) return true;
    try {
      const stat = fstatSync(fd);
      const head = Buffer.alloc(HEAD_BYTES);
      if (!stat.isFile()) return (this.#empty('it is no regular file'), false);
      if (!isWhole(fd, head, 0) || !head.toString('latin1').startsWith(MAGIC))
        return (this.#empty('it is none of ours'), stat.size === 0);
      // Who may write it says which digests we believe.
      const owners = [0, process.geteuid?.(), statSync(dirname(this.#file)).uid];
      if (!owners.includes(stat.uid) || (stat.mode & 0o022) !== 0)
        return (this.#empty('others than this user may write it'), true);
      if (!head.equals(this.#head)) return true; // of another boot
      let at = HEAD_BYTES;
      while (at < stat.size) {
        const next = this.#segment(fd, at, memory, filesMax);
        if (next === undefined) {
          const kept = this.#counts[COUNT.records]!;
          this.#notes.add(
            `the digest cache ${this.#file} is cut off or damaged behind ${kept} files: what is missing is read`,
          );
          return true;
        }
        at = next;
      }
      this.#end = at;
      return true;
    } finally {
      closeSync(fd);
    }
  }

  /** Takes in the segment at `at`, and gives where the next one is; undefined where it is not whole, or has no room. */
  #segment(fd: number, at: number, memory: SharedArrayBuffer, filesMax: number): number | undefined {
    const head = Buffer.alloc(SEGMENT_HEAD);
    if (!isWhole(fd, head, at)) return undefined;
    const count = head.readUInt32LE(0);
    const first = this.#counts[COUNT.records]!;
    if (count > filesMax - first) return undefined;
    const bytes = Buffer.from(memory, first * DIGEST_BYTES, count * DIGEST_BYTES);
    if (!isWhole(fd, bytes, at + SEGMENT_HEAD)) return undefined;
    if (!this.#digest(head, [bytes]).equals(head.subarray(4))) return undefined;
    const all = Buffer.from(memory);
    let last = first;
    for (let record = first; record < first + count; record++) {
      if (record !== last) all.copyWithin(last * DIGEST_BYTES, record * DIGEST_BYTES, (record + 1) * DIGEST_BYTES);
      if (this.#table.adopt(last)) last++;
    }
    this.#counts[COUNT.records] = last;
    this.#written += count;
    return at + SEGMENT_HEAD + bytes.length;
  }

  #digest(head: Uint8Array, pieces: Iterable<Uint8Array>): Buffer {
    const sum = createHash('sha256').update(this.#head).update(head.subarray(0, 4));
    for (const piece of pieces) sum.update(piece);
    return sum.digest();
  }

  /** A segment of these records, in pieces. */
  *#pieces(records: readonly number[]): Generator<Uint8Array> {
    const all = Buffer.from(this.data.records);
    const piece = Buffer.alloc(Math.min(PIECE_RECORDS, records.length) * DIGEST_BYTES);
    for (let from = 0; from < records.length; from += PIECE_RECORDS) {
      const some = records.slice(from, from + PIECE_RECORDS);
      for (const [i, record] of some.entries())
        all.copy(piece, i * DIGEST_BYTES, record * DIGEST_BYTES, (record + 1) * DIGEST_BYTES);
      yield piece.subarray(0, some.length * DIGEST_BYTES);
    }
  }

  #write(fd: number, at: number, records: readonly number[]): number {
    const head = Buffer.alloc(SEGMENT_HEAD);
    head.writeUInt32LE(records.length);
    this.#digest(head, this.#pieces(records)).copy(head, 4);
    let end = writeWhole(fd, head, at);
    for (const piece of this.#pieces(records)) end = writeWhole(fd, piece, end);
    fsyncSync(fd);
    return end;
  }

  /** A power cut leaves a segment that is not whole: then the file is written anew. */
  #append(records: readonly number[]): void {
    const fd = openSync(this.#file, constants.O_WRONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      if (fstatSync(fd).size !== this.#end) return this.#writeAnew([...this.#table.live()]);
      this.#end = this.#write(fd, this.#end, records);
      this.#written += records.length;
    } finally {
      closeSync(fd);
    }
  }

  #writeAnew(live: readonly number[]): void {
    const fresh = join(dirname(this.#file), `.new-${basename(this.#file)}`);
    unlink(fresh);
    const fd = openSync(fresh, 'wx', 0o600);
    try {
      try {
        this.#end = this.#write(fd, writeWhole(fd, this.#head, 0), live);
      } finally {
        closeSync(fd);
      }
      renameSync(fresh, this.#file);
    } catch (error) {
      unlink(fresh);
      throw error;
    }
    this.#written = live.length;
  }
}

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? String(error);

function openExisting(file: string): number | undefined {
  try {
    return openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** Fills `bytes` from `at`; false where the file ends before. */
function isWhole(fd: number, bytes: Uint8Array, at: number): boolean {
  for (let done = 0; done < bytes.length;) {
    const length = readSync(fd, bytes, done, bytes.length - done, at + done);
    if (length === 0) return false;
    done += length;
  }
  return true;
}

function writeWhole(fd: number, bytes: Uint8Array, at: number): number {
  for (let done = 0; done < bytes.length;) done += writeSync(fd, bytes, done, bytes.length - done, at + done);
  return at + bytes.length;
}

function readBootId(): string | null {
  try {
    const text = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
    return /^[0-9a-f-]{36}$/.test(text) ? text : null;
  } catch {
    return null; // no /proc: the caller says so
  }
}

/** The scan's worker threads: batches of paths in, records out, in the order in which they were given. */
import { readFileSync } from 'node:fs';
import { getCompileCacheDir, stripTypeScriptTypes } from 'node:module';
import { getAsset, isSea } from 'node:sea';
import { Worker } from 'node:worker_threads';
import {
  BATCH,
  GLIMPSE,
  HOLE,
  RECORD,
  SLOT_BYTES,
  TEXT_AT,
  TEXT_BYTES,
  TYPES,
  WITH_TEXT,
  type Answer,
  type Task,
  type WorkerData,
} from './hashworker.ts';
import { SPARSE_BYTES_MAX, SPARSE_SCAN_BYTES_MAX } from '#src/limits.ts';
import { HOLE_KINDS, type Glimpse, type Hole } from '#src/drift/drift.ts';
import type { ByteString } from '#src/bytes.ts';
import type { Entry } from '#src/manifest/entry.ts';
import type { BackingData } from './backedfile.ts';
import type { TableData } from './digesttable.ts';
import type { Found } from './walk.ts';

export { BATCH };

/** The name of the workers' source within the single executable. */
export const WORKER_ASSET = 'hashworker.js';

/** What a worker saw at one path. */
export type Seen = { readonly hole: Hole; readonly glimpse?: Glimpse } | Entry;

/** Batches that may be under way: while one worker reads a huge file, the other needs this many to go on with. */
const WINDOW = 96;
/** Batches that lie before a worker, so that it never waits for the walk. */
const AHEAD = 3;
// The heaps hold a batch's paths and little else; left alone they grow to fill what is there.
const HEAP = { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: 48 };

/** A batch that is done: what was seen at each of its `count` paths. Valid until the next `take`. */
export type Batch = { readonly count: number; next(): Seen };

/**
 * A batch that a worker has. Thousands of paths are under way at a time; as strings they would leave the young heap and stay
 * as garbage until a collection that a scan hardly sees, so they wait as bytes in the batch's slot.
 */
type Waiting = {
  readonly count: number;
  readonly length: number;
  /** The access paths, where the slot is too small for them. */
  readonly text: string | undefined;
  /** The paths, where they are not simply the access paths without the root. */
  readonly paths: readonly ByteString[] | undefined;
  texts: readonly string[] | undefined;
};

export type PoolOptions = {
  readonly workers: number;
  /** What stands before every path in its access path, as far as the walk has no shorter way. */
  readonly root: ByteString;
  /** What all workers together read at most. */
  readonly bytesPerSecond?: number | undefined;
  /** What is known of files from runs before, and takes what this one reads. */
  readonly cache?: TableData | undefined;
  /** Where the data lie that are served through composefs. */
  readonly backing?: BackingData | undefined;
  /** Whether page cache that reading brought in is given back. */
  readonly releases?: boolean;
};

/** How the files of a batch are looked at. */
export type Manner = {
  /** The tree's device; null where its files may have others. */
  readonly dev: number | null;
  /** Whether digests may come from the cache, if there is one. */
  readonly cached: boolean;
  /** Whether the tree is served through composefs, from the files of `backing`. */
  readonly backed?: boolean;
  /** Paths whose digest no cache may hold. */
  readonly isSecret?: (path: ByteString) => boolean;
};

type Member = { readonly worker: Worker; busy: number };

export class HashPool {
  readonly #root: ByteString;
  readonly #slots = new SharedArrayBuffer(WINDOW * SLOT_BYTES);
  readonly #numbers = new Float64Array(this.#slots);
  readonly #bytes = Buffer.from(this.#slots);
  readonly #measured = new SharedArrayBuffer(4);
  readonly #members: Member[];
  readonly #waiting = new Map<number, Waiting>();
  #starting: number;
  #sent = 0;
  #taken = 0;
  #wake: (() => void) | undefined;
  #error: unknown;
  /** Why capabilities cannot be read; null if they can. Known once `ready` resolved. */
  noXattr: string | null = null;

  constructor({ workers, root, bytesPerSecond, cache, backing, releases = false }: PoolOptions) {
    this.#root = root;
    const url = workerUrl();
    const sparseLeft = new SharedArrayBuffer(4);
    new Int32Array(sparseLeft)[0] = SPARSE_SCAN_BYTES_MAX / 2 ** 20;
    const workerData: WorkerData = {
      slots: this.#slots,
      sparseMax: SPARSE_BYTES_MAX,
      sparseLeft,
      pace: bytesPerSecond === undefined ? null : new SharedArrayBuffer(8),
      nsPerByte: bytesPerSecond === undefined ? 0 : 1e9 / bytesPerSecond,
      cache: cache ?? null,
      backing: backing ?? null,
      measured: this.#measured,
      releases,
    };
    this.#starting = workers;
    this.#members = Array.from({ length: workers }, () => {
      const member: Member = { worker: new Worker(url, { workerData, resourceLimits: HEAP }), busy: 0 };
      member.worker.on('error', (error) => this.#fail(error));
      member.worker.on('exit', (code) => this.#fail(new Error(`a scan worker ended too early, with ${code}`)));
      member.worker.on('message', (answer: Answer) => this.#answered(member, answer));
      return member;
    });
  }

  /** Resolves when all workers can work. Rejects, as all waiting does, if one cannot or dies: that is our own fault. */
  async ready(): Promise<void> {
    while (this.#starting > 0) await this.change();
  }

  /** Files that the kernel measured, so far. */
  get measured(): number {
    return new Int32Array(this.#measured)[0]!;
  }

  /** Whether a batch can be given now. */
  get hasRoom(): boolean {
    return this.#sent - this.#taken < WINDOW && this.#members.some(({ busy }) => busy < AHEAD);
  }

  /** Whether batches are still to be taken. */
  get pending(): boolean {
    return this.#sent > this.#taken;
  }

  give(found: readonly Found[], { dev, cached, backed = false, isSecret = () => false }: Manner): void {
    const seq = this.#sent++;
    const slot = seq % WINDOW;
    const text = found.map(({ access }) => access).join('\0');
    const fits = text.length <= TEXT_BYTES;
    const straight = found.every(({ access, path }) => access.length === this.#root.length + path.length);
    this.#waiting.set(seq, {
      count: found.length,
      length: text.length,
      text: fits ? undefined : text,
      paths: straight ? undefined : found.map(({ path }) => path),
      texts: found.length === 0 ? [] : undefined,
    });
    if (found.length === 0) return;
    if (fits) this.#bytes.write(text, slot * SLOT_BYTES + TEXT_AT, 'latin1');
    let kinds = '';
    for (const [i, { kind, path, stat }] of found.entries()) {
      kinds += (cached || backed) && kind === 'f' && isSecret(path) ? 'F' : kind;
      if (stat === undefined) continue;
      const at = (slot * SLOT_BYTES) / 8 + i * RECORD;
      this.#numbers[at + 1] = stat.mode & 0o7777;
      this.#numbers[at + 2] = stat.uid;
      this.#numbers[at + 3] = stat.gid;
    }
    const member = this.#members.reduce((a, b) => (b.busy < a.busy ? b : a));
    member.busy++;
    const task: Task = { seq, slot, length: text.length, text: fits ? null : text, kinds, dev, cached, backed };
    // eslint-disable-next-line unicorn/require-post-message-target-origin
    member.worker.postMessage(task);
  }

  /** The oldest batch, if it is done. */
  take(): Batch | undefined {
    const seq = this.#taken;
    const batch = this.#waiting.get(seq);
    if (batch?.texts === undefined) return undefined;
    this.#waiting.delete(seq);
    this.#taken++;
    const { texts } = batch;
    const slot = (seq % WINDOW) * SLOT_BYTES;
    const from = slot + TEXT_AT;
    const access = (batch.text ?? this.#bytes.toString('latin1', from, from + batch.length)).split('\0');
    let index = 0;
    let text = 0;
    const next = (): Seen => {
      const record = slot / 8 + index * RECORD;
      const path = batch.paths === undefined ? access[index]!.slice(this.#root.length) : batch.paths[index]!;
      index++;
      return this.#decode(path, record, this.#numbers[record]! >= WITH_TEXT ? texts[text++] : undefined);
    };
    return { count: batch.count, next };
  }

  /** Resolves when a worker has answered. */
  async change(): Promise<void> {
    if (this.#error !== undefined) throw this.#error;
    await new Promise<void>((resolve) => (this.#wake = resolve));
    if (this.#error !== undefined) throw this.#error;
  }

  /** Ends the workers, wherever they are. */
  async close(): Promise<void> {
    for (const { worker } of this.#members)
      worker
        .removeAllListeners('exit')
        .removeAllListeners('error')
        .on('error', () => {});
    await Promise.all(this.#members.map(({ worker }) => worker.terminate()));
  }

  /** Makes all waiting reject with `reason`. */
  abort(reason: unknown): void {
    this.#fail(reason);
  }

  #answered(member: Member, answer: Answer): void {
    if (answer.seq < 0) {
      this.#starting--;
      this.noXattr ??= 'noXattr' in answer ? answer.noXattr : null;
    } else if ('texts' in answer) {
      member.busy--;
      this.#waiting.get(answer.seq)!.texts = answer.texts;
    }
    this.#wake?.();
  }

  #fail(reason: unknown): void {
    this.#error ??= reason;
    this.#wake?.();
  }

  // Each kind spelled out: this runs for every path, and copying properties costs more than the rest of it.
  #decode(path: ByteString, record: number, text: string | undefined): Seen {
    const numbers = this.#numbers;
    const code = numbers[record]! % WITH_TEXT;
    if (code >= HOLE) return this.#decodeHole(path, record, code, text ?? '');
    const type = TYPES[code]!;
    const mode = numbers[record + 1]!;
    const uid = numbers[record + 2]!;
    const gid = numbers[record + 3]!;
    if (type === 'file') {
      const at = (record + 6) * 8;
      const size = numbers[record + 4]!;
      const sha256 = this.#bytes.toString('latin1', at, at + 64);
      if (text === undefined) return { path, type, mode, uid, gid, size, sha256 };
      return { path, type, mode, uid, gid, size, sha256, capability: text };
    }
    if (type === 'symlink') {
      const [link = '', capability] = (text ?? '').split('\0', 2);
      if (capability === undefined) return { path, type, mode: 0, uid, gid, link };
      return { path, type, mode: 0, uid, gid, link, capability };
    }
    if (type === 'char' || type === 'block') {
      const rdev = device(numbers[record + 5]!);
      if (text === undefined) return { path, type, mode, uid, gid, device: rdev };
      return { path, type, mode, uid, gid, device: rdev, capability: text };
    }
    return text === undefined ? { path, type, mode, uid, gid } : { path, type, mode, uid, gid, capability: text };
  }

  #decodeHole(path: ByteString, record: number, code: number, text: string): Seen {
    const numbers = this.#numbers;
    const [detail = '', ...more] = text.split('\0', 3);
    const hole: Hole = { path, kind: HOLE_KINDS[code - HOLE]!, detail };
    const type = TYPES[numbers[record + GLIMPSE]! - 1];
    if (type === undefined) return { hole };
    const symlink = type === 'symlink';
    const link = symlink ? (more.shift() ?? '') : undefined;
    const [capability] = more;
    const facts = {
      type,
      mode: symlink ? 0 : numbers[record + 1]!,
      uid: numbers[record + 2]!,
      gid: numbers[record + 3]!,
      ...(type === 'file' ? { size: numbers[record + 4]! } : {}),
      ...(link === undefined ? {} : { link }),
      ...(capability === undefined ? {} : { capability }),
      ...(type === 'char' || type === 'block' ? { device: device(numbers[record + 5]!) } : {}),
    };
    return { hole, glimpse: { facts, capability: numbers[record + GLIMPSE + 1] === 1 } };
  }
}

/** `major:minor` of a dev_t, as glibc takes it apart (gnu_dev_major). */
export function device(rdev: number): string {
  const dev = BigInt(rdev);
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn);
  const minor = (dev & 0xffn) | ((dev >> 12n) & ~0xffn & 0xffffffffn);
  return `${major}:${minor}`;
}

/**
 * What a worker runs. The single executable has it as JavaScript within. With a compile cache Node has the stripped sources at
 * hand; without one we strip them, once for all threads: each that did so itself would take 17 MB and 50 ms.
 */
function workerUrl(): URL {
  const script = (source: string) => new URL(`data:text/javascript,${encodeURIComponent(source)}`);
  if (isSea()) return script(getAsset(WORKER_ASSET, 'utf8'));
  const url = new URL('./hashworker.ts', import.meta.url);
  return getCompileCacheDir() === undefined ? script(workerSource(url)) : url;
}

/** Files that stand alone, in the order in which each finds what it imports. */
const WORKER_FILES = ['clibrary.ts', 'backedfile.ts', 'digesttable.ts', 'hashworker.ts'];

/** The source of a worker as one module of JavaScript. `place`: a URL of the folder in which its files lie. */
export function workerSource(place: URL): string {
  return WORKER_FILES.map((name) => {
    const source = stripTypeScriptTypes(readFileSync(new URL(name, place), 'utf8'));
    // What one of them takes from another stands before it.
    return source.replace(/^import [^;]*'\.\/[^']+';$/gm, '');
  }).join('\n');
}

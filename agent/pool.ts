/** The scan's worker threads: batches of paths in, records out, in the order in which they were given. */
import { readFileSync } from 'node:fs';
import { getCompileCacheDir, stripTypeScriptTypes } from 'node:module';
import { Worker } from 'node:worker_threads';
import { BATCH, HOLE, RECORD, TYPES, WITH_TEXT, type Answer, type Task, type WorkerData } from './hashworker.ts';
import { SPARSE_BYTES_MAX } from '#src/limits.ts';
import { HOLE_KINDS, type HoleKind } from '#src/drift/drift.ts';
import type { ByteString } from '#src/bytes.ts';
import type { Entry } from '#src/manifest/entry.ts';

export { BATCH };

/** What a worker saw at one path. Of a folder only the capability; the walk knows the rest. */
export type Seen = { readonly hole: HoleKind; readonly detail: string } | Entry;

/** Batches that may be under way: while one worker reads a huge file, the other needs this many to go on with. */
const WINDOW = 96;
/** Batches that lie before a worker, so that it never waits for the walk. */
const AHEAD = 3;
// The heaps hold a batch's paths and little else; left alone they grow to fill what is there.
const HEAP = { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: 48 };

/** A batch as the scan gives it. */
export type Job = { readonly paths: readonly string[]; readonly kinds: string; readonly dev: number | null };
/** A batch's end: how many bytes were read, and what was seen at each of its paths. Valid until the next `take`. */
export type Batch = { readonly bytes: number; next(path: ByteString): Seen };

type Member = { readonly worker: Worker; busy: number };

export class HashPool {
  readonly #answers = new SharedArrayBuffer(WINDOW * BATCH * RECORD * 8);
  readonly #numbers = new Float64Array(this.#answers);
  readonly #bytes = Buffer.from(this.#answers);
  readonly #members: Member[];
  readonly #done = new Map<number, { readonly bytes: number; readonly texts: readonly string[] }>();
  #starting: number;
  #sent = 0;
  #taken = 0;
  #wake: (() => void) | undefined;
  #error: unknown;
  /** Why capabilities cannot be read; null if they can. Known once `ready` resolved. */
  noXattr: string | null = null;

  constructor(workers: number) {
    const url = workerUrl();
    const workerData: WorkerData = { answers: this.#answers, sparseMax: SPARSE_BYTES_MAX };
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

  /** Whether a batch can be given now. */
  get hasRoom(): boolean {
    return this.#sent - this.#taken < WINDOW && this.#members.some(({ busy }) => busy < AHEAD);
  }

  /** Whether batches are still to be taken. */
  get pending(): boolean {
    return this.#sent > this.#taken;
  }

  give({ paths, kinds, dev }: Job): void {
    const seq = this.#sent++;
    if (paths.length === 0) {
      this.#done.set(seq, { bytes: 0, texts: [] });
      return;
    }
    const member = this.#members.reduce((a, b) => (b.busy < a.busy ? b : a));
    member.busy++;
    // eslint-disable-next-line unicorn/require-post-message-target-origin
    member.worker.postMessage({ seq, slot: seq % WINDOW, paths: paths.join('\0'), kinds, dev } satisfies Task);
  }

  /** The oldest batch, if it is done. */
  take(): Batch | undefined {
    const seq = this.#taken;
    const answer = this.#done.get(seq);
    if (answer === undefined) return undefined;
    this.#done.delete(seq);
    this.#taken++;
    let record = (seq % WINDOW) * BATCH * RECORD;
    let text = 0;
    const next = (path: ByteString): Seen => {
      const code = this.#numbers[record]!;
      const seen = this.#decode(path, record, code >= WITH_TEXT ? answer.texts[text++] : undefined);
      record += RECORD;
      return seen;
    };
    return { bytes: answer.bytes, next };
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
      this.#done.set(answer.seq, answer);
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
    if (code >= HOLE) return { hole: HOLE_KINDS[code - HOLE]!, detail: text ?? '' };
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
    if (type === 'symlink') return { path, type, mode: 0, uid, gid, link: text ?? '' };
    if (type === 'char' || type === 'block')
      return { path, type, mode, uid, gid, device: device(numbers[record + 5]!) };
    return text === undefined ? { path, type, mode, uid, gid } : { path, type, mode, uid, gid, capability: text };
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
 * What a worker runs. A built agent has it as JavaScript beside this file. With a compile cache Node has the stripped
 * source at hand; without one we strip it, once for all threads: each that did so itself would take 17 MB and 50 ms.
 */
function workerUrl(): URL {
  if (!import.meta.url.endsWith('.ts')) return new URL('./hashworker.js', import.meta.url);
  const url = new URL('./hashworker.ts', import.meta.url);
  if (getCompileCacheDir() !== undefined) return url;
  const source = stripTypeScriptTypes(readFileSync(url, 'utf8'));
  return new URL(`data:text/javascript,${encodeURIComponent(source)}`);
}

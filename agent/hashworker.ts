/**
 * A worker of the scan: reads what it is told to and says what it saw. It leans on nothing but `node:` and files that stand alone as well, because
 * their source is handed to the worker thread as text (pool.ts, `workerSource`).
 */
import { createHash, hash } from 'node:crypto';
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readlinkSync,
  readSync,
  type BigIntStats,
  type Stats,
} from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { Backing, type BackingData, type Beneath } from './backedfile.ts';
import { openC, XattrError, type C } from './clibrary.ts';
import { DigestTable, type TableData } from './digesttable.ts';

/**
 * What is shared with the workers: slots, each a batch's records and paths; how many zeros of one file's holes are hashed, and how many are
 * left for the whole scan, in MiB.
 */
export type WorkerData = {
  readonly slots: SharedArrayBuffer;
  readonly sparseMax: number;
  readonly sparseLeft: SharedArrayBuffer;
  /** Where reading is held back: the time up to which what was read is paid for, shared by all workers; null where it is not. */
  readonly pace: SharedArrayBuffer | null;
  /** Nanoseconds that reading a byte may take at least. */
  readonly nsPerByte: number;
  /** What is known of files from runs before; null where everything is read. */
  readonly cache: TableData | null;
  /** Where the data lie that are served through composefs; null where that is not known. */
  readonly backing: BackingData | null;
  /** Files that the kernel measured. */
  readonly measured: SharedArrayBuffer;
  /** Whether page cache that reading brought in is given back. */
  readonly releases: boolean;
};
/** A batch: its slot, and a letter for each path: how to look at it. */
export type Task = {
  readonly seq: number;
  readonly slot: number;
  /** Of the access paths in the slot, joined by NUL, a byte a character; or the text itself where it does not fit there. */
  readonly length: number;
  readonly text: string | null;
  readonly kinds: string;
  /** The tree's device; files on another one are mounted over. Null where files may have devices of their own (overlayfs). */
  readonly dev: number | null;
  /** Whether a digest of the cache may stand in for reading: where the file system keeps the times of changes. */
  readonly cached: boolean;
  /** Whether the tree is served through composefs, from the files of `backing`. */
  readonly backed: boolean;
};
/** Ready for work, with the reason if capabilities cannot be read; or a batch is done: texts for those records that have one. */
export type Answer =
  | { readonly seq: -1; readonly noXattr: string | null }
  | { readonly seq: number; readonly texts: readonly string[] };

/** Records in a batch. */
export const BATCH = 128;
/** Doubles in a record: code, mode, uid, gid, size, rdev, then 64 bytes of hex; of a hole instead of those what GLIMPSE says. */
export const RECORD = 14;
/** Where a hole's record says what `lstat` saw all the same: 0 nothing, else 1 + the type's code; and behind it 1 if the capability was read. */
export const GLIMPSE = 6;
/** Behind its records a slot has room for paths: 128 of 128 bytes; those of real trees have 70. */
export const TEXT_AT = BATCH * RECORD * 8;
export const TEXT_BYTES = 16 * 1024;
export const SLOT_BYTES = TEXT_AT + TEXT_BYTES;
/** Codes below HOLE are types, in the order of TYPES. */
export const TYPES = ['dir', 'file', 'symlink', 'char', 'block', 'fifo', 'socket'] as const;
/** Codes of holes: HOLE + index in `unreadable unstable mount`. */
export const HOLE = 8;
/**
 * Added to a code: the next of the batch's texts belongs to it: link target, capability in base64, detail of a hole; a link has its capability
 * behind the target, after a NUL. Behind the detail, after a NUL, stands what the path would have had.
 */
export const WITH_TEXT = 16;

const UNREADABLE = HOLE;
const UNSTABLE = HOLE + 1;
const MOUNT = HOLE + 2;

// Fits the second-level cache with room to spare: larger buffers were slower or no faster (bench/RESULTS.md).
const buffer = Buffer.allocUnsafeSlow(128 * 1024);
const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK, O_NOATIME = 0 } = constants as typeof constants & { O_NOATIME?: number };
// O_NONBLOCK: a FIFO that took the file's place must not hang the scan.
const FLAGS = O_RDONLY | O_NOFOLLOW | O_NONBLOCK;
let noatime = O_NOATIME;

type Seen = {
  code: number;
  stat: Stats | BigIntStats | undefined;
  sha256: string;
  /** Of a file: the bytes that were read, whatever its `stat` says. */
  size: number;
  text: string | undefined;
  /** Of a hole. */
  glimpse: number;
  capability: boolean;
};
const seen: Seen = { code: 0, stat: undefined, sha256: '', size: 0, text: undefined, glimpse: 0, capability: false };

function result(code: number, stat?: Stats | BigIntStats, text?: string, sha256 = '', size = Number(stat?.size)): void {
  seen.code = code;
  seen.stat = stat;
  seen.size = size;
  seen.sha256 = sha256;
  seen.text = text;
  seen.glimpse = 0;
  seen.capability = false;
}

// fs takes a string as UTF-8: a byte beyond ASCII must go in as bytes.
// eslint-disable-next-line no-control-regex
const pathOf = (path: string): string | Buffer => (/[\x80-\xff]/.test(path) ? Buffer.from(path, 'latin1') : path);
const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? String(error);
const isGone = (code: string): boolean => code === 'ENOENT' || code === 'ENOTDIR';

function open(path: string | Buffer): number {
  try {
    return openSync(path, FLAGS | noatime);
  } catch (error) {
    if (noatime === 0 || codeOf(error) !== 'EPERM') throw error;
    // Only the owner and root may leave the access time alone.
    noatime = 0;
    return openSync(path, FLAGS);
  }
}

/** A debt below this is not worth a pause: small files are paid for together. */
const PAUSE_NS = 20_000_000n;

/**
 * Enters bytes that were read into the time that they cost, and tells how many nanoseconds to pause for it: what was not used in the past is no
 * credit, so that a disk that was idle is not flooded. `pace` holds one time, as `now` (`process.hrtime.bigint`, the same for all threads).
 */
export function pauseFor(pace: BigInt64Array, bytes: number, nsPerByte: number, now: bigint): bigint {
  const cost = BigInt(Math.ceil(bytes * nsPerByte));
  for (;;) {
    const until = Atomics.load(pace, 0);
    const paid = (until > now ? until : now) + cost;
    if (Atomics.compareExchange(pace, 0, until, paid) !== until) continue;
    return paid - now < PAUSE_NS ? 0n : paid - now;
  }
}

let pace: BigInt64Array | undefined;
let nsPerByte = 0;
const nobody = new Int32Array(new SharedArrayBuffer(4));

/** Holds the thread back after `bytes` were read. */
function paced(bytes: number): void {
  if (pace === undefined) return;
  const ns = pauseFor(pace, bytes, nsPerByte, process.hrtime.bigint());
  if (ns > 0n) Atomics.wait(nobody, 0, 0, Number(ns) / 1e6);
}

/** Bytes behind the end that a file tells: whoever hides something there needs no more, and no file shall go on for ever. */
const BEHIND_MAX = 64 * 2 ** 20;

/** What an open file holds, to the last byte: a digest, and how many bytes that are. Or why there is none: `GROWS`, or a sentence. */
type Content = { readonly sha256: string; readonly size: number } | string;
const GROWS = '';

/**
 * Reads an open file to its end, not to the `size` that `fstat` tells: through composefs that is the image's, whatever the file beneath holds
 * (docs/agent.md, "How each file is judged").
 */
function digest(fd: number, size: number): Content {
  let length = readSync(fd, buffer);
  paced(length);
  // A read that returns less than it may is the end of a regular file; the second fstat guards it.
  if (length === size && length < buffer.length)
    return { sha256: hash('sha256', buffer.subarray(0, length), 'hex'), size };
  const sum = createHash('sha256');
  let total = 0;
  while (length > 0) {
    // A file that grows as fast as we read would have no end.
    if (total <= size && total + length > size && fstatSync(fd).size !== size) return GROWS;
    total += length;
    if (total > size + BEHIND_MAX) return BEHIND;
    if (releasing !== undefined && total % RELEASE_BYTES === 0)
      releasing.forget(fd, total - RELEASE_BYTES, RELEASE_BYTES);
    sum.update(length === buffer.length ? buffer : buffer.subarray(0, length));
    length = readSync(fd, buffer);
    paced(length);
  }
  return { sha256: sum.digest('hex'), size: total };
}

/** Set while a file is read of which nothing was in the page cache before: what is there afterwards, we brought. */
let releasing: C | undefined;
/** A large file gives back what was read of it from time to time, so that it never fills the cache. */
const RELEASE_BYTES = 4 * 2 ** 20;

const zeros = Buffer.alloc(buffer.length);

type Sparse = { readonly sparseMax: number; readonly left: Int32Array };
/** Bytes without blocks from which a file is asked for its holes. On file systems that compress they may be no holes. */
const SPARSE_FROM = 2 ** 20;

/**
 * The digest of an open sparse file: what is data is read, and of holes their zeros are hashed without reading them. `TOO_SPARSE` where those
 * are too many.
 */
function sparseDigest(fd: number, size: number, sparse: Sparse, c: C): Content {
  const sum = createHash('sha256');
  let total = 0;
  for (let at = 0; at < size;) {
    const data = c.data(fd, at, size);
    total += data - at;
    if (total > sparse.sparseMax || !takeZeros(data - at, sparse)) return TOO_SPARSE;
    for (; at < data; at += Math.min(zeros.length, data - at))
      sum.update(data - at < zeros.length ? zeros.subarray(0, data - at) : zeros);
    for (const hole = c.hole(fd, data, size); at < hole;) {
      const length = readSync(fd, buffer, 0, Math.min(buffer.length, hole - at), at);
      if (length === 0) return GROWS; // it ended before `size`: the other way of changing
      paced(length);
      sum.update(length === buffer.length ? buffer : buffer.subarray(0, length));
      at += length;
    }
  }
  return { sha256: sum.digest('hex'), size };
}

/** Takes zeros from what the scan has left; false where that is too little. */
function takeZeros(bytes: number, { left }: Sparse): boolean {
  const mib = Math.ceil(bytes / 2 ** 20);
  if (Atomics.sub(left, 0, mib) >= mib) return true;
  Atomics.add(left, 0, mib);
  return false;
}

// How much is not said: of a secret that would tell the size.
const TOO_SPARSE = 'sparse, with more empty space than is hashed: its content was not read';
const BEHIND = 'it goes on behind the end that it tells, for longer than is read';

/** The digest of an open file of which `missing` bytes have no blocks on the disk. */
function contentDigest(fd: number, size: number, missing: number, sparse: Sparse, c: C | undefined): Content {
  if (missing < SPARSE_FROM) return digest(fd, size);
  if (c !== undefined) return sparseDigest(fd, size, sparse, c);
  // Without the C library the zeros are read like anything else.
  return missing > sparse.sparseMax || !takeZeros(missing, sparse) ? TOO_SPARSE : digest(fd, size);
}

/** What a worker needs for each path. */
type Tools = {
  readonly sparse: Sparse;
  readonly c: C | undefined;
  /** Where its digest may come from and go to. */
  readonly table: DigestTable | undefined;
  readonly backing: Backing | undefined;
  readonly measured: Int32Array;
  readonly releases: boolean;
};

/** One attempt at a regular file; false where it changed under our hands. `under`: where the file lies beneath. */
function tryFile(path: string | Buffer, dev: number | null, tools: Tools, under: string | undefined): boolean {
  const { sparse, c, backing } = tools;
  const fd = open(path);
  let beneath: Beneath | undefined;
  try {
    if (backing !== undefined && under !== undefined) beneath = backing.open(fd, pathOf(under), FLAGS | noatime);
    // Through composefs times are the image's: those beneath tell a change.
    const table = backing === undefined || beneath !== undefined ? tools.table : undefined;
    const before = table === undefined ? fstatSync(fd) : fstatSync(fd, { bigint: true });
    if (!before.isFile()) return false;
    if (dev !== null && Number(before.dev) !== dev) {
      result(MOUNT, undefined, 'another file system begins here');
      return true;
    }
    const size = Number(before.size);
    // What is told of a file whose length is told otherwise would be said of another one.
    if (beneath === undefined || Number(beneath.stat.size) === size) {
      const content = beneath && backing?.measured(beneath);
      const known = content ?? table?.lookup(beneath?.stat ?? (before as BigIntStats));
      if (known !== undefined) {
        if (content !== undefined) Atomics.add(tools.measured, 0, 1);
        result(1, before, c?.file(fd), known);
        return true;
      }
    }
    releasing = tools.releases && size > 0 && c?.isResident(fd, size) === false ? c : undefined;
    const content = contentDigest(fd, size, size - Number(before.blocks) * 512, sparse, c);
    releasing?.forget(fd, 0, 0);
    if (content === GROWS) return false;
    if (typeof content === 'string') {
      result(UNREADABLE, undefined, content);
      return true;
    }
    const capability = c?.file(fd);
    const after = table === undefined ? fstatSync(fd) : fstatSync(fd, { bigint: true });
    if (after.size !== before.size || !isSameTime(before, after)) return false;
    result(1, after, capability, content.sha256, content.size);
    if (content.size !== size || table === undefined) return true;
    if (beneath === undefined) table.store(after as BigIntStats, content.sha256);
    else if (Number(beneath.stat.size) === size && backing!.isSame(fd, beneath))
      table.store(beneath.stat, content.sha256);
    return true;
  } finally {
    if (beneath !== undefined) closeSync(beneath.fd);
    closeSync(fd);
  }
}

function isSameTime(before: Stats | BigIntStats, after: Stats | BigIntStats): boolean {
  return 'mtimeNs' in before && 'mtimeNs' in after
    ? before.mtimeNs === after.mtimeNs && before.ctimeNs === after.ctimeNs
    : before.mtimeMs === after.mtimeMs && before.ctimeMs === after.ctimeMs;
}

function inspectFile(path: string, dev: number | null, tools: Tools): void {
  const under = tools.backing?.pathOf(path);
  // What is being replaced or written has often settled a moment later.
  for (let attempt = 0; attempt < 3; attempt++) if (tryFile(pathOf(path), dev, tools, under)) return;
  result(UNSTABLE, undefined, 'it changed while it was read');
}

function inspectOther(path: string, wanted: string, dev: number | null, c: C | undefined): void {
  const name = pathOf(path);
  const stat = lstatSync(name);
  if (dev !== null && stat.dev !== dev) result(MOUNT, undefined, 'another file system begins here');
  else if (stat.isSymbolicLink() && wanted === 'l')
    result(2, stat, joined(readlinkSync(name, { encoding: 'latin1' as BufferEncoding }), c?.path(path)));
  else if (typeOf(stat) > 2) result(typeOf(stat), stat, c?.path(path));
  else result(UNSTABLE, undefined, 'it changed its type while the scan ran');
}

/** What fs-verity answers at open where another file was put in the place of an object, and when reading where its bytes were changed. */
const EIO = 'EIO: the disk fails, or the kernel refuses content that is not the one of the image (fs-verity)';

/** Looks at one path; whatever happens is an answer. Letters: d folder, f file, F file that no cache may know, l symlink, o anything else. */
function inspect(path: string, kind: string, { dev }: Task, tools: Tools): void {
  const { c } = tools;
  try {
    // Of a folder the walker knows all but the capability.
    if (kind === 'd') result(0, undefined, c?.path(path));
    else if (kind === 'f') inspectFile(path, dev, tools);
    else if (kind === 'F') inspectFile(path, dev, { ...tools, table: undefined, backing: undefined });
    else inspectOther(path, kind, dev, c);
  } catch (error) {
    const code = codeOf(error);
    if (isGone(code)) result(UNSTABLE, undefined, 'it vanished while the scan ran');
    else if (error instanceof XattrError) result(UNREADABLE, undefined, error.message);
    // O_NOFOLLOW and O_NONBLOCK answer so where a link, or a device or socket, has taken the file's place.
    else if (code === 'ELOOP' || code === 'ENXIO' || code === 'EINVAL')
      result(UNSTABLE, undefined, 'it changed its type while the scan ran');
    else if (code === 'EIO') result(UNREADABLE, undefined, EIO);
    else result(UNREADABLE, undefined, code);
  }
  if (seen.code === UNREADABLE || seen.code === UNSTABLE) glimpse(path, dev, c);
}

/** What `lstat` shows of a path that could not be read (docs/report.md 1.10); nothing where it is gone. */
function glimpse(path: string, dev: number | null, c: C | undefined): void {
  const name = pathOf(path);
  const detail = seen.text!;
  let stat: Stats;
  let text: string | undefined;
  let capability = false;
  try {
    stat = lstatSync(name);
    if (stat.isSymbolicLink()) text = readlinkSync(name, { encoding: 'latin1' as BufferEncoding });
  } catch {
    return; // it could not be read, and is no longer what it was: the hole says so
  }
  if (dev !== null && stat.dev !== dev) return result(MOUNT, undefined, 'another file system begins here');
  if (c !== undefined)
    try {
      const value = c.path(path);
      text = text === undefined ? value : joined(text, value);
      capability = true;
    } catch (error) {
      if (!(error instanceof XattrError)) throw error;
    }
  // How much stands behind the end that it tells is not known; that something does is a difference.
  const size = detail === BEHIND ? stat.size + BEHIND_MAX : stat.size;
  result(seen.code, stat, text === undefined ? detail : `${detail}\0${text}`, '', size);
  seen.glimpse = 1 + typeOf(stat);
  seen.capability = capability;
}

/** A link's target and its capability: no target has a NUL. */
const joined = (link: string, capability: string | undefined): string =>
  capability === undefined ? link : `${link}\0${capability}`;

function typeOf(stat: Stats): number {
  if (stat.isDirectory()) return 0;
  if (stat.isFile()) return 1;
  if (stat.isSymbolicLink()) return 2;
  if (stat.isCharacterDevice()) return 3;
  if (stat.isBlockDevice()) return 4;
  return stat.isFIFO() ? 5 : 6;
}

async function serve({ slots, sparseMax, sparseLeft, cache, backing, measured, ...held }: WorkerData): Promise<void> {
  if (held.pace !== null) pace = new BigInt64Array(held.pace);
  nsPerByte = held.nsPerByte;
  const port = parentPort!;
  const numbers = new Float64Array(slots);
  const bytes = Buffer.from(slots);
  const sparse: Sparse = { sparseMax, left: new Int32Array(sparseLeft) };
  let c: C | undefined;
  let noXattr: string | null = null;
  try {
    c = await openC();
  } catch (error) {
    noXattr = error instanceof Error ? error.message : String(error);
  }
  const table = cache === null ? undefined : new DigestTable(cache);
  const plain: Tools = {
    sparse,
    c,
    table: undefined,
    backing: undefined,
    measured: new Int32Array(measured),
    releases: held.releases,
  };
  // Without the C library nothing shows that a file is the one beneath.
  const known = backing === null || c === undefined ? undefined : new Backing(backing, c);
  const toolsOf = ({ cached, backed }: Task): Tools =>
    backed && known !== undefined
      ? { ...plain, backing: known, table: known.data.keepsTimes ? table : undefined }
      : { ...plain, table: cached ? table : undefined };
  port.on('message', (task: Task) => {
    const texts: string[] = [];
    const tools = toolsOf(task);
    const from = task.slot * SLOT_BYTES + TEXT_AT;
    const paths = (task.text ?? bytes.toString('latin1', from, from + task.length)).split('\0');
    for (let i = 0; i < paths.length; i++) {
      inspect(paths[i]!, task.kinds[i]!, task, tools);
      const at = (task.slot * SLOT_BYTES) / 8 + i * RECORD;
      const { stat, text } = seen;
      numbers[at] = seen.code + (text === undefined ? 0 : WITH_TEXT);
      if (text !== undefined) texts.push(text);
      if (seen.code >= HOLE) {
        numbers[at + GLIMPSE] = seen.glimpse;
        numbers[at + GLIMPSE + 1] = seen.capability ? 1 : 0;
      }
      if (stat === undefined) continue;
      numbers[at + 1] = Number(stat.mode) & 0o7777;
      numbers[at + 2] = Number(stat.uid);
      numbers[at + 3] = Number(stat.gid);
      numbers[at + 4] = seen.size;
      numbers[at + 5] = Number(stat.rdev);
      if (seen.code === 1) bytes.write(seen.sha256, (at + 6) * 8, 'latin1');
    }
    port.postMessage({ seq: task.seq, texts } satisfies Answer);
  });
  port.postMessage({ seq: -1, noXattr } satisfies Answer);
}

// Not awaited: in the one file of a built agent (packaging/single.ts) there is no `await` outside of functions.
if (parentPort !== null && workerData?.slots instanceof SharedArrayBuffer) void serve(workerData as WorkerData);

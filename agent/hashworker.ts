/**
 * A worker of the scan: reads what it is told to and says what it saw. It stands alone, with nothing but `node:`, because
 * its source is handed to the worker thread as text (pool.ts, `workerUrl`).
 */
import { createHash, hash } from 'node:crypto';
import { closeSync, constants, fstatSync, lstatSync, openSync, readlinkSync, readSync, type Stats } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';

/** What is shared with the workers: slots, each a batch's records and paths; how many bytes of a file may be holes. */
export type WorkerData = { readonly slots: SharedArrayBuffer; readonly sparseMax: number };
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
};
/** Ready for work, with the reason if capabilities cannot be read; or a batch is done: texts for those records that have one. */
export type Answer =
  | { readonly seq: -1; readonly noXattr: string | null }
  | { readonly seq: number; readonly texts: readonly string[] };

/** Records in a batch. */
export const BATCH = 128;
/** Doubles in a record: code, mode, uid, gid, size, rdev, then 64 bytes of hex. */
export const RECORD = 14;
/** Behind its records a slot has room for paths: 128 of 128 bytes; those of real trees have 70. */
export const TEXT_AT = BATCH * RECORD * 8;
export const TEXT_BYTES = 16 * 1024;
export const SLOT_BYTES = TEXT_AT + TEXT_BYTES;
/** Codes below HOLE are types, in the order of TYPES. */
export const TYPES = ['dir', 'file', 'symlink', 'char', 'block', 'fifo', 'socket'] as const;
/** Codes of holes: HOLE + index in `unreadable unstable mount`. */
export const HOLE = 8;
/** Added to a code: the next of the batch's texts belongs to it (link target, capability in base64, detail of a hole). */
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

type Seen = { code: number; stat: Stats | undefined; sha256: string; text: string | undefined };
const seen: Seen = { code: 0, stat: undefined, sha256: '', text: undefined };

function result(code: number, stat?: Stats, text?: string, sha256 = ''): void {
  seen.code = code;
  seen.stat = stat;
  seen.sha256 = sha256;
  seen.text = text;
}

// fs takes a string as UTF-8: a byte beyond ASCII must go in as bytes.
// eslint-disable-next-line no-control-regex
const pathOf = (path: string): string | Buffer => (/[\x80-\xff]/.test(path) ? Buffer.from(path, 'latin1') : path);
const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? String(error);
const isGone = (code: string): boolean => code === 'ENOENT' || code === 'ENOTDIR';

/** The raw capability of an open file, or of what stands at a path: base64, undefined for none. */
type Xattr = { file(fd: number): string | undefined; path(path: string): string | undefined };
class XattrError extends Error {}

/** @throws whatever the loader says where there is no node:ffi or no such C library. */
async function openXattr(): Promise<Xattr> {
  const { dlopen, getInt32 } = await import('node:ffi');
  const { functions: c } = dlopen('libc.so.6', {
    fgetxattr: { arguments: ['int32', 'buffer', 'buffer', 'uint64'], return: 'int64' },
    lgetxattr: { arguments: ['buffer', 'buffer', 'buffer', 'uint64'], return: 'int64' },
    __errno_location: { arguments: [], return: 'pointer' },
  });
  const name = Buffer.from('security.capability\0');
  // The longest form (revision 3) has 24 bytes; whatever else stands there is told as far as this.
  const value = Buffer.alloc(256);
  const room = BigInt(value.length);
  const errno = c.__errno_location();
  const ENODATA = 61;
  const EOPNOTSUPP = 95;
  const value64 = (length: bigint): string | undefined => {
    if (length >= 0n) return value.toString('base64', 0, Number(length));
    const code = getInt32(errno);
    if (code === ENODATA || code === EOPNOTSUPP) return undefined;
    throw new XattrError(`security.capability cannot be read: error ${code}`);
  };
  return {
    file: (fd) => value64(c.fgetxattr(fd, name, value, room)),
    path: (path) => value64(c.lgetxattr(Buffer.from(`${path}\0`, 'latin1'), name, value, room)),
  };
}

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

/** The digest of an open file of `size` bytes, or undefined if it has more or fewer. */
function digest(fd: number, size: number): string | undefined {
  let length = readSync(fd, buffer);
  // A read that returns less than it may is the end of a regular file; the second fstat guards it.
  if (length === size && length < buffer.length) return hash('sha256', buffer.subarray(0, length), 'hex');
  const sum = createHash('sha256');
  let total = 0;
  while (length > 0) {
    total += length;
    if (total > size) return undefined; // a file that grows as fast as we read would have no end
    sum.update(length === buffer.length ? buffer : buffer.subarray(0, length));
    length = readSync(fd, buffer);
  }
  return total === size ? sum.digest('hex') : undefined;
}

/** One attempt at a regular file; false where it changed under our hands. */
function tryFile(path: string | Buffer, dev: number | null, sparseMax: number, xattr: Xattr | undefined): boolean {
  const fd = open(path);
  try {
    const before = fstatSync(fd);
    if (!before.isFile()) return false;
    if (dev !== null && before.dev !== dev) {
      result(MOUNT, undefined, 'another file system begins here');
      return true;
    }
    const holes = before.size - before.blocks * 512;
    if (holes > sparseMax) {
      result(UNREADABLE, undefined, `sparse: ${before.size} bytes, ${before.blocks * 512} of them on disk: not read`);
      return true;
    }
    const sha256 = digest(fd, before.size);
    const capability = xattr?.file(fd);
    const after = fstatSync(fd);
    if (sha256 === undefined || after.size !== before.size) return false;
    if (after.mtimeMs !== before.mtimeMs || after.ctimeMs !== before.ctimeMs) return false;
    result(1, after, capability, sha256);
    return true;
  } finally {
    closeSync(fd);
  }
}

function inspectFile(path: string | Buffer, dev: number | null, sparseMax: number, xattr: Xattr | undefined): void {
  // What is being replaced or written has often settled a moment later.
  for (let attempt = 0; attempt < 3; attempt++) if (tryFile(path, dev, sparseMax, xattr)) return;
  result(UNSTABLE, undefined, 'it changed while it was read');
}

function inspectOther(path: string | Buffer, wanted: string, dev: number | null): void {
  const stat = lstatSync(path);
  if (dev !== null && stat.dev !== dev) result(MOUNT, undefined, 'another file system begins here');
  else if (stat.isSymbolicLink() && wanted === 'l')
    result(2, stat, readlinkSync(path, { encoding: 'latin1' as BufferEncoding }));
  else if (stat.isCharacterDevice()) result(3, stat);
  else if (stat.isBlockDevice()) result(4, stat);
  else if (stat.isFIFO()) result(5, stat);
  else if (stat.isSocket()) result(6, stat);
  else result(UNSTABLE, undefined, 'it changed its type while the scan ran');
}

/** Looks at one path; whatever happens is an answer. Letters: d folder, f file, l symlink, o anything else. */
function inspect(path: string, kind: string, { dev }: Task, sparseMax: number, xattr: Xattr | undefined): void {
  try {
    // Of a folder the walker knows all but the capability.
    if (kind === 'd') result(0, undefined, xattr?.path(path));
    else if (kind === 'f') inspectFile(pathOf(path), dev, sparseMax, xattr);
    else inspectOther(pathOf(path), kind, dev);
  } catch (error) {
    const code = codeOf(error);
    if (error instanceof XattrError) result(UNREADABLE, undefined, error.message);
    else if (isGone(code)) result(UNSTABLE, undefined, 'it vanished while the scan ran');
    // O_NOFOLLOW and O_NONBLOCK answer so where a link, or a device or socket, has taken the file's place.
    else if (code === 'ELOOP' || code === 'ENXIO' || code === 'EINVAL')
      result(UNSTABLE, undefined, 'it changed its type while the scan ran');
    else result(UNREADABLE, undefined, code);
  }
}

async function serve({ slots, sparseMax }: WorkerData): Promise<void> {
  const port = parentPort!;
  const numbers = new Float64Array(slots);
  const bytes = Buffer.from(slots);
  let xattr: Xattr | undefined;
  let noXattr: string | null = null;
  try {
    xattr = await openXattr();
  } catch (error) {
    noXattr = error instanceof Error ? error.message : String(error);
  }
  port.on('message', (task: Task) => {
    const texts: string[] = [];
    const from = task.slot * SLOT_BYTES + TEXT_AT;
    const paths = (task.text ?? bytes.toString('latin1', from, from + task.length)).split('\0');
    for (let i = 0; i < paths.length; i++) {
      inspect(paths[i]!, task.kinds[i]!, task, sparseMax, xattr);
      const at = (task.slot * SLOT_BYTES) / 8 + i * RECORD;
      const { stat, text } = seen;
      numbers[at] = seen.code + (text === undefined ? 0 : WITH_TEXT);
      if (text !== undefined) texts.push(text);
      if (stat === undefined) continue;
      numbers[at + 1] = stat.mode & 0o7777;
      numbers[at + 2] = stat.uid;
      numbers[at + 3] = stat.gid;
      numbers[at + 4] = stat.size;
      numbers[at + 5] = stat.rdev;
      if (seen.code === 1) bytes.write(seen.sha256, (at + 6) * 8, 'latin1');
    }
    port.postMessage({ seq: task.seq, texts } satisfies Answer);
  });
  port.postMessage({ seq: -1, noXattr } satisfies Answer);
}

if (parentPort !== null && workerData?.slots instanceof SharedArrayBuffer) await serve(workerData as WorkerData);

/**
 * The walk: what stands below a tree's folder, in the order of the canonical text, without following a link, opening a
 * device or crossing into what is mounted over.
 */
import {
  closeSync,
  constants,
  lstatSync,
  opendirSync,
  openSync,
  readdirSync,
  statfsSync,
  type Dirent,
  type Stats,
} from 'node:fs';
import type { ByteString } from '#src/bytes.ts';
import { ACCESS_BYTES_MAX, FOLDER_NAMES_MAX, PATH_BYTES_MAX } from '#src/limits.ts';
import type { Glimpse, Hole, HoleKind } from '#src/drift/drift.ts';
import type { TreeName } from '#src/manifest/entry.ts';

/** A path to look at: `access` is how the kernel reaches it, `stat` is there for folders. */
export type Found = {
  readonly kind: 'd' | 'f' | 'l' | 'o';
  readonly path: ByteString;
  readonly access: string;
  readonly stat?: Stats;
};
/** What a walk yields: a path, a hole, or a descriptor that may be closed when all before it was looked at. */
export type Step = Found | { readonly hole: Hole; readonly glimpse?: Glimpse } | { readonly done: number };

export type Walk = {
  /** The device of the tree, or null if its files may have other ones. */
  readonly dev: number | null;
  /** Whether the file system tells each change of a file by its times: what none keeps is never taken from a cache. */
  readonly keepsTimes: boolean;
  readonly steps: Iterable<Step>;
};

const OVERLAYFS = 0x794c7630;
/**
 * File systems on which every change of a file moves its ctime (linux/magic.h): ext2 to ext4, xfs, btrfs, f2fs, bcachefs, zfs, tmpfs. No others: an
 * EROFS, squashfs or iso9660 has the image's times whatever it holds, an overlay those of a layer that is not seen, and network file systems the server's.
 */
const KEEP_TIMES = new Set([0xef53, 0x58465342, 0x9123683e, 0xf2f52010, 0xca451a4e, 0x2fc12fc1, 0x01021994]);
const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants;

/** `fs` takes a string as UTF-8: a byte beyond ASCII must go in as bytes. */
// eslint-disable-next-line no-control-regex
const native = (path: string): string | Buffer => (/[\x80-\xff]/.test(path) ? Buffer.from(path, 'latin1') : path);
const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? String(error);
const hole = (path: ByteString, kind: HoleKind, detail: string) => ({ hole: { path, kind, detail } }) as const;

/**
 * Walks one tree below `root` (bytes, without a slash at its end). A tree that is not there has no steps. `mounts` are
 * the paths inside the root at which something is mounted over the tree.
 */
export function walkTree(root: ByteString, tree: TreeName, mounts: ReadonlySet<ByteString>): Walk {
  const path = `/${tree}`;
  const access = root + path;
  const none = { dev: null, keepsTimes: false };
  if (mounts.has(path)) return { ...none, steps: [hole(path, 'mount', 'something is mounted over the whole tree')] };
  const stat = statOf(access);
  if (typeof stat === 'string') return { ...none, steps: stat === 'ENOENT' ? [] : [hole(path, 'unreadable', stat)] };
  if (!stat.isDirectory()) return { ...none, steps: [{ kind: kindOf(stat), path, access }] };
  const type = typeOf(access);
  // On an overlay, files keep the device of the layer they lie in; only folders have the overlay's own. Where the type cannot be
  // told, the devices of files say nothing either; the mount table still does.
  const dev = type === undefined || type === OVERLAYFS ? null : stat.dev;
  return {
    dev,
    keepsTimes: keepsTimes(access),
    steps: walk(path, { prefix: root, cut: 0 }, stat, mounts),
  };
}

/** Whether the file system of a path tells each change of a file by its times. */
export function keepsTimes(access: string): boolean {
  const type = typeOf(access);
  return type !== undefined && KEEP_TIMES.has(type);
}

/** Of the file system, as statfs(2) has it. */
function typeOf(access: string): number | undefined {
  try {
    return statfsSync(native(access)).type;
  } catch {
    return undefined; // what follows from not knowing, the caller says
  }
}

/** How the kernel reaches the paths of a folder: what `prefix` names is the path's first `cut` bytes. */
type Base = { readonly prefix: string; readonly cut: number };
const accessOf = (path: ByteString, { prefix, cut }: Base): string =>
  cut === 0 && prefix === '' ? path : prefix + path.slice(cut);

/** A folder that is being walked. */
type Frame = {
  /** The folder's path and a slash: one string the less for each name in it. */
  readonly slash: ByteString;
  readonly base: Base;
  readonly items: readonly Item[];
  readonly anchor: number | undefined;
  next: number;
};

// A stack of our own: a nest of generators would cost each path its depth, and hostile depth is 2,000.
function* walk(path: ByteString, base: Base, top: Stats, mounts: ReadonlySet<ByteString>): Generator<Step> {
  const stack: Frame[] = [];
  function enter(path: ByteString, base: Base, stat: Stats): Step {
    if (stat.dev !== top.dev) return hole(path, 'mount', 'another file system begins here');
    const access = accessOf(path, base);
    // PATH_MAX ends what one name can reach: from here on paths start at an open folder.
    const anchor = access.length > ACCESS_BYTES_MAX ? openFolder(access) : undefined;
    if (typeof anchor === 'string') return { ...unread(path, anchor), glimpse: folderGlimpse(stat) };
    const inner = anchor === undefined ? base : { prefix: `/proc/self/fd/${anchor}`, cut: path.length };
    let items = list(anchor === undefined ? access : inner.prefix, stat.size);
    let step: Step = { kind: 'd', path, access, stat };
    if (typeof items === 'string') step = unread(path, items);
    else if (
      path.length + 256 > PATH_BYTES_MAX &&
      items.some(({ name }) => path.length + 1 + name.length > PATH_BYTES_MAX)
    )
      step = hole(path, 'unreadable', `it holds paths of more than ${PATH_BYTES_MAX} bytes`);
    if ('hole' in step) {
      items = [];
      step = { ...step, glimpse: folderGlimpse(stat) };
    }
    stack.push({ slash: `${path}/`, base: inner, items: items as readonly Item[], anchor, next: 0 });
    return step;
  }
  yield enter(path, base, top);
  for (let frame = stack.at(-1); frame !== undefined; frame = stack.at(-1)) {
    const item = frame.items[frame.next++];
    if (item === undefined) {
      stack.pop();
      if (frame.anchor !== undefined) yield { done: frame.anchor };
      continue;
    }
    const path = frame.slash + item.name;
    const access = accessOf(path, frame.base);
    if (mounts.size > 0 && mounts.has(path)) yield hole(path, 'mount', 'something is mounted over it');
    else if (!item.isDirectory()) yield { kind: kindOf(item), path, access };
    else {
      const stat = statOf(access);
      if (typeof stat === 'string') yield unread(path, stat);
      else if (stat.isDirectory()) yield enter(path, frame.base, stat);
      else yield { kind: kindOf(stat), path, access };
    }
  }
}

/** What is known of a folder that cannot be listed. */
function folderGlimpse({ mode, uid, gid }: Stats): Glimpse {
  return { facts: { type: 'dir', mode: mode & 0o7777, uid, gid }, capability: false };
}

function unread(path: ByteString, code: string): { readonly hole: Hole } {
  const gone = code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP';
  return hole(path, gone ? 'unstable' : 'unreadable', gone ? 'it vanished while the scan ran' : code);
}

/** A descriptor, or the error's code. */
function openFolder(access: string): number | string {
  try {
    return openSync(native(access), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  } catch (error) {
    return codeOf(error);
  }
}

function statOf(access: string): Stats | string {
  try {
    return lstatSync(native(access));
  } catch (error) {
    return codeOf(error);
  }
}

/** A name in a listing. Whatever calls itself a folder is asked again: so is all where the listing tells no types. */
type Item = Pick<Dirent, 'name' | 'isFile' | 'isDirectory' | 'isSymbolicLink'>;
const UNTYPED = { isFile: () => false, isDirectory: () => true, isSymbolicLink: () => false };

const kindOf = (item: Omit<Item, 'name'>): Found['kind'] =>
  item.isFile() ? 'f' : item.isDirectory() ? 'd' : item.isSymbolicLink() ? 'l' : 'o';

/** Bytes of a folder that may hold more names than are read: no file system needs fewer than 16 for one. */
const LARGE_FOLDER = FOLDER_NAMES_MAX * 16;

/**
 * The names in a folder of `size` bytes, sorted as bytes, or the error's code, or why they were not read. latin1 is both exact and the fastest.
 */
function list(access: string, size: number): Item[] | string {
  const encoding = 'latin1' as BufferEncoding;
  const path = native(access);
  try {
    return size > LARGE_FOLDER ? listLarge(path) : sorted(readdirSync(path, { encoding, withFileTypes: true }));
  } catch (error) {
    // Where a listing tells no types Node asks for each with lstat, and fails at names that are not UTF-8.
    if (codeOf(error) !== 'ENOENT') return codeOf(error);
  }
  try {
    return sorted(readdirSync(path, { encoding }).map((name) => ({ name, ...UNTYPED })));
  } catch (error) {
    return codeOf(error);
  }
}

/** A few names at a time, so that no more are held than may be. @throws the errors of node:fs */
function listLarge(path: string | Buffer): Item[] | string {
  using folder = opendirSync(path, { encoding: 'latin1' as BufferEncoding, bufferSize: 256 });
  const items: Item[] = [];
  for (let item = folder.readSync(); item !== null; item = folder.readSync())
    if (items.push(item) > FOLDER_NAMES_MAX) return `it holds more than ${FOLDER_NAMES_MAX} names`;
  return sorted(items);
}

const sorted = <T extends Item>(items: T[]): T[] => items.sort((a, b) => (a.name < b.name ? -1 : 1));

/** Closes what a `done` step named. */
export function release(descriptor: number): void {
  closeSync(descriptor);
}

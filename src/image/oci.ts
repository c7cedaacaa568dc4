/**
 * What a plain unpacker makes of an image (image-spec, layer.md), as umoci 0.6.0 does it: its `oci/layer/tar_extract.go`, on a tree
 * in memory. No host shows this; it is for comparing with other tools. Root's umask is taken as 022.
 */
import type { ByteString } from '#src/bytes.ts';
import type { ImageLimits } from '#src/limits.ts';
import type { Layer } from './layer.ts';
import { BackendError, entryAt, shortName, type Warnings } from './refusal.ts';
import { checkXattrs } from './xattr.ts';
import { FLAG, type TarEntry } from './tarentry.ts';
import { Budget, components, Dir, PLAIN_DIR, type DirMeta, type Leaf, type Node } from './tree.ts';

const MARKER = '.wh.';
const LINKS_MAX = 255; // filepath-securejoin: maxSymlinkLimit

/** @throws {BackendError} */
export function deployOci(layers: readonly Layer[], warnings: Warnings, limits: ImageLimits): Dir {
  const root = new Dir(-1, PLAIN_DIR);
  const budget = new Budget(limits);
  for (const layer of layers) {
    if (layer.declaredDiffId !== layer.diffId)
      throw new BackendError(
        'DIFFID_MISMATCH',
        `layer ${layer.index}: decompressed it is ${layer.diffId}, the configuration says ${layer.declaredDiffId ?? 'nothing'}`,
      );
    const unpacker = new Unpacker(root, warnings, budget);
    for (const entry of layer.entries) unpacker.unpack(entry);
  }
  return root;
}

/** Paths that the layer has made so far, with their ancestors: whiteouts leave them alone (upperPaths). */
type Upper = Map<ByteString, Upper>;

/** A path without symlinks, and what is at each of its components. */
type Place = { readonly path: readonly ByteString[]; readonly node: Node | undefined };

class Unpacker {
  readonly #root: Dir;
  readonly #warnings: Warnings;
  readonly #budget: Budget;
  readonly #upper: Upper = new Map();
  /** Directories that hold nothing of lower layers any more: a thousand opaque markers look at them once. */
  readonly #clear = new Set<Dir>();

  constructor(root: Dir, warnings: Warnings, budget: Budget) {
    this.#root = root;
    this.#warnings = warnings;
    this.#budget = budget;
  }

  /** UnpackEntry */
  unpack(entry: TarEntry): void {
    const clean = clamped(components(entry.name));
    const name = clean.at(-1);
    const marker = name?.startsWith(MARKER) ?? false; // of whatever type
    checkReadable(entry);
    const type = marker ? 'file' : typeOf(entry);
    if (name === undefined) {
      if (type !== 'dir') throw new BackendError('ROOT_ENTRY', `${entryAt(entry)}: the root is not a directory`);
      this.#root.set(entry);
      return;
    }
    const place = this.#resolve(clean.slice(0, -1), entry);
    if (marker) return this.#whiteout(place, name, entry);
    // A hard link is what its target is; umoci passes over namespaces that the file system does not know.
    if (type !== 'hardlink') checkXattrs(entry, false);
    const dir = this.#makeParents(place, entry);
    const existing = dir.children.get(name);
    if (type === 'dir') {
      if (existing instanceof Dir) existing.set(entry);
      else dir.children.set(name, new Dir(entry.layer, entry));
    } else {
      // What was there is removed before the target is looked up.
      dir.children.delete(name);
      dir.children.set(name, type === 'hardlink' ? this.#target(entry) : entry);
    }
    let upper = this.#upper;
    for (const part of [...place.path, name]) {
      let next = upper.get(part);
      if (next === undefined) upper.set(part, (next = new Map()));
      upper = next;
    }
  }

  /** securejoin.SecureJoinVFS: symlinks are followed inside the root, what is not there is taken as it stands. */
  #resolve(path: readonly ByteString[], entry: TarEntry): Place {
    // The part without symlinks is nearly always all of it.
    let nodes: (Node | undefined)[] = [this.#root];
    let done: ByteString[] = [];
    const todo = [...path].reverse();
    let links = 0;
    while (todo.length > 0) {
      const part = todo.pop()!;
      if (links > 0) this.#budget.step(entry);
      if (part === '' || part === '.') continue;
      if (part === '..') {
        if (done.length > 0) {
          done.pop();
          nodes.pop();
        }
        continue;
      }
      const parent = nodes.at(-1);
      const node = parent instanceof Dir ? parent.children.get(part) : undefined;
      if (node === undefined || node instanceof Dir || node.type !== 'symlink') {
        done.push(part);
        nodes.push(node);
        continue;
      }
      if (++links > LINKS_MAX)
        throw new BackendError('SYMLINK_LOOP', `${entryAt(entry)}: its path leads through too many symlinks`);
      if (links === 1)
        this.#warnings.add('SYMLINK_FOLLOWED', entry.layer, 'its path leads through a symlink', `/${path.join('/')}`);
      if (node.link.startsWith('/')) {
        done = [];
        nodes = [this.#root];
      }
      const steps = node.link.split('/');
      for (let i = steps.length - 1; i >= 0; i--) todo.push(steps[i]!);
    }
    return { path: done, node: nodes.at(-1) };
  }

  /** mkdirAll; and the metadata of what was at the parent's place before, which umoci puts back. */
  #makeParents({ path, node }: Place, entry: TarEntry): Dir {
    if (node instanceof Dir) return node;
    let dir = this.#root;
    for (const part of path) {
      let child = dir.children.get(part);
      if (!(child instanceof Dir)) {
        this.#budget.node(entry);
        child = new Dir(entry.layer, madeIn(dir));
        dir.children.set(part, child);
      }
      dir = child;
    }
    if (node !== undefined) dir.set(node);
    else
      this.#warnings.add(
        'PARENT_MADE',
        entry.layer,
        'no entry for this directory: umoci makes it, 0755 0:0 or as a setgid parent says',
        `/${path.join('/')}`,
      );
    return dir;
  }

  #target(entry: TarEntry): Leaf {
    const clean = clamped(components(entry.link));
    const name = clean.at(-1);
    const { node: dir } = this.#resolve(clean.slice(0, -1), entry);
    const node = name === undefined ? this.#root : dir instanceof Dir ? dir.children.get(name) : undefined;
    if (node === undefined)
      throw new BackendError(
        'HARDLINK_TARGET_MISSING',
        `${entryAt(entry)}: nothing before it is at ${shortName(entry.link)}`,
      );
    if (node instanceof Dir)
      throw new BackendError('HARDLINK_TARGET_DIRECTORY', `${entryAt(entry)}: a hard link to a directory`);
    return node;
  }

  /** ociWhiteout: removes what lower layers left, and leaves what this layer made. */
  #whiteout({ path, node: dir }: Place, name: ByteString, entry: TarEntry): void {
    let gone = name.slice(MARKER.length);
    if (gone === '') {
      this.#warnings.add(
        'MARKER_EMPTY',
        entry.layer,
        'a whiteout of the empty name acts as an opaque marker',
        `/${path.join('/')}`,
      );
      gone = '.wh..opq';
    }
    if (gone === '.' || gone === '..') return this.#whiteoutOfParent(path, dir, gone, entry);
    if (!(dir instanceof Dir)) return;
    const upper = this.#upperAt(path);
    if (gone === '.wh..opq') this.#clearOut(dir, upper);
    else this.#remove(dir, gone, upper?.get(gone));
  }

  #remove(dir: Dir, name: ByteString, touched: Upper | undefined): void {
    const node = dir.children.get(name);
    if (touched === undefined) dir.children.delete(name);
    else if (node instanceof Dir) this.#clearOut(node, touched);
  }

  /**
   * A whiteout of its own directory or of the one above. umoci puts its directory's metadata back in the end, and fails where that
   * went with it: the layer must have made the directory, or there must be none.
   */
  #whiteoutOfParent(path: readonly ByteString[], dir: Node | undefined, gone: '.' | '..', entry: TarEntry): void {
    if (gone === '.' && dir === undefined) return;
    const top = gone === '.' ? path : path.slice(0, -1);
    if (top.length === 0 || (dir !== undefined && this.#upperAt(path) === undefined))
      throw new BackendError(
        'WHITEOUT_NAME',
        `${entryAt(entry)}: a whiteout of "${gone}" takes its own directory away`,
      );
    const parent = this.#resolve(top.slice(0, -1), entry).node;
    if (parent instanceof Dir) this.#remove(parent, top.at(-1)!, this.#upperAt(top));
  }

  #clearOut(dir: Dir, upper: Upper | undefined): void {
    if (this.#clear.has(dir)) return;
    this.#clear.add(dir);
    for (const [name, node] of dir.children) {
      const touched = upper?.get(name);
      if (touched === undefined) dir.children.delete(name);
      else if (node instanceof Dir) this.#clearOut(node, touched);
    }
  }

  #upperAt(path: readonly ByteString[]): Upper | undefined {
    let upper: Upper | undefined = this.#upper;
    for (const part of path) upper = upper?.get(part);
    return upper;
  }
}

/** mkdir(2) in a directory with the setgid bit takes over group and bit. */
function madeIn(parent: Dir): DirMeta {
  return (parent.mode & 0o2000) === 0 ? PLAIN_DIR : { ...PLAIN_DIR, mode: 0o2755, gid: parent.gid };
}

/** Go's archive/tar refuses the archive at such an entry, whatever it is. */
function checkReadable(entry: TarEntry): void {
  if ((entry.flags & FLAG.oddForGo) !== 0)
    throw new BackendError(
      'PAX_UNREADABLE',
      `${entryAt(entry)}: a PAX time or owner's name that umoci takes for damage`,
    );
  if ((entry.flags & FLAG.oddNumber) !== 0)
    throw new BackendError(
      'HEADER_NUMBER',
      `${entryAt(entry)}: a time or device number that is no number, which umoci takes for damage`,
    );
}

/** Go's archive/tar makes directories of v7 entries whose name ends in a slash; umoci knows seven types. */
function typeOf(entry: TarEntry): TarEntry['type'] {
  if (entry.type === 'global')
    throw new BackendError('GLOBAL_HEADER', `${entryAt(entry)}: a PAX global header, which umoci takes for an entry`);
  if ((entry.flags & FLAG.sparseGnu) !== 0)
    throw new BackendError(
      'SPARSE_UNSUPPORTED',
      `${entryAt(entry)}: an old GNU sparse file, which umoci does not unpack`,
    );
  if (entry.type !== 'file' || entry.typeflag === 0x30) return entry.type;
  if (entry.typeflag === 0) return entry.name.endsWith('/') ? 'dir' : 'file';
  throw new BackendError(
    'TYPE_UNSUPPORTED',
    `${entryAt(entry)}: an entry of type ${entry.typeflag}, which umoci does not unpack`,
  );
}

/** CleanPath: `..` ends at the root. */
function clamped(path: readonly ByteString[]): ByteString[] {
  const out: ByteString[] = [];
  for (const part of path) {
    if (part === '..') out.pop();
    else out.push(part);
  }
  return out;
}

/** Trees of files in memory: what the rules build, and the list of entries that a manifest is made of. */
import type { ByteString } from '#src/bytes.ts';
import { PATH_BYTES_MAX, type ImageLimits } from '#src/limits.ts';
import type { Entry } from '#src/manifest/entry.ts';
import { BackendError, entryAt, type Blamed } from './refusal.ts';
import type { TarEntry } from './tarentry.ts';

/** Anything but a directory. A `TarEntry` is one, so that most of a tree shares the layers' own entries. */
export type Leaf = Pick<
  TarEntry,
  'layer' | 'type' | 'mode' | 'uid' | 'gid' | 'size' | 'sha256' | 'link' | 'capability' | 'device' | 'text'
>;

export type Node = Dir | Leaf;

/** Mode, owner and capability of a directory. */
export type DirMeta = Pick<TarEntry, 'mode' | 'uid' | 'gid' | 'capability'>;

export class Dir {
  /** The layer that made it, or named it last. */
  layer: number;
  /** While one layer is imported: the missing parent for whose sake it has its metadata; undefined where its own entry gave that. */
  missing: ByteString | undefined;
  /** While one layer is imported: what its own entry last gave, also where a stamp came after it. */
  own: DirMeta | undefined;
  mode: number;
  uid: number;
  gid: number;
  capability: string | undefined;
  readonly children = new Map<ByteString, Node>();

  constructor(layer: number, meta: DirMeta) {
    this.layer = layer;
    this.mode = meta.mode;
    this.uid = meta.uid;
    this.gid = meta.gid;
    this.capability = meta.capability;
  }

  set(meta: DirMeta): void {
    this.mode = meta.mode;
    this.uid = meta.uid;
    this.gid = meta.gid;
    this.capability = meta.capability;
  }
}

export const PLAIN_DIR: DirMeta = { mode: 0o755, uid: 0, gid: 0, capability: undefined };

/** Names that stand between slashes, without empty ones and `.`: `./usr//bin/` is `usr`, `bin`. `..` stays. */
export function components(path: ByteString): ByteString[] {
  return path.split('/').filter((part) => part !== '' && part !== '.');
}

/**
 * Counts what a tree grows by beyond the layers' own entries (directories that no entry names, paths): short names make much of
 * it, and a hostile layer must end in a refusal, not in an exhausted memory.
 */
export class Budget {
  readonly #limits: ImageLimits;
  #nodes = 0;
  #pathBytes = 0;
  #steps = 0;

  constructor(limits: ImageLimits) {
    this.#limits = limits;
  }

  /** One path, for the sake of an entry. @throws {BackendError} TREE_LIMIT */
  node(of: Blamed): void {
    if (++this.#nodes > this.#limits.treeNodes)
      throw limit(of, `the tree has more than ${this.#limits.treeNodes} paths`);
  }

  /** One component of a path behind a symlink. @throws {BackendError} TREE_LIMIT */
  step(of: Blamed): void {
    if (++this.#steps > this.#limits.treeNodes) throw limit(of, 'paths lead through symlinks without end');
  }

  /** The bytes of a path, which is the name. @throws {BackendError} TREE_LIMIT */
  path(of: Blamed): void {
    if (of.name.length > PATH_BYTES_MAX)
      throw limit(of, `a path of more than ${PATH_BYTES_MAX} bytes, which does not exist on Linux`);
    this.#pathBytes += of.name.length;
    if (this.#pathBytes > this.#limits.treePathBytes)
      throw limit(of, `the tree's paths are more than ${this.#limits.treePathBytes} bytes in all`);
  }
}

const limit = (of: Blamed, message: string): BackendError =>
  new BackendError('TREE_LIMIT', `${entryAt(of)}: ${message}`);

/** `/usr` and `/etc` of a tree, in `comparePaths` order: `/etc` first. `seen` is told of each, with the directory that it lies in. */
export function list(
  root: Dir,
  limits: ImageLimits,
  seen: (node: Node, parent: Dir, name: ByteString) => void = () => {},
): Entry[] {
  const entries: Entry[] = [];
  const budget = new Budget(limits);
  const walk = (path: ByteString, node: Node, parent: Dir, name: ByteString): void => {
    const at = { layer: node.layer, name: path };
    budget.node(at);
    budget.path(at);
    entries.push(entryOf(path, node));
    seen(node, parent, name);
    if (!(node instanceof Dir)) return;
    for (const child of [...node.children.keys()].sort())
      walk(`${path}/${child}`, node.children.get(child)!, node, child);
  };
  for (const name of ['etc', 'usr']) {
    const node = root.children.get(name);
    if (node !== undefined) walk(`/${name}`, node, root, name);
  }
  return entries;
}

function entryOf(path: ByteString, node: Node): Entry {
  const { uid, gid } = node;
  if (node instanceof Dir) {
    if (node.capability === undefined) return { path, type: 'dir', mode: node.mode, uid, gid };
    return { path, type: 'dir', mode: node.mode, uid, gid, capability: node.capability };
  }
  const capability = node.capability === undefined ? {} : { capability: node.capability };
  switch (node.type) {
    case 'symlink':
      return { path, type: 'symlink', mode: 0, uid, gid, link: node.link, ...capability };
    case 'char':
    case 'block':
      return { path, type: node.type, mode: node.mode, uid, gid, device: node.device!, ...capability };
    case 'fifo':
      return { path, type: 'fifo', mode: node.mode, uid, gid, ...capability };
    default:
      return { path, type: 'file', mode: node.mode, uid, gid, size: node.size, sha256: node.sha256, ...capability };
  }
}

/** Which package owns which path of a tree: what a package database says, held against the tree it came with. */
import type { ByteString } from '#src/bytes.ts';
import { OWNER_LINKS_MAX, PACKAGE_FILES_MAX, PATH_OWNERS_MAX } from '#src/limits.ts';
import { markOf, type PackageFiles } from './packages.ts';
import { components, Dir, type Leaf, type Node } from './tree.ts';

/** Who owns a path together; `altered`: the tree's content there is not what any of them installed. */
export type OwnerSet = { readonly packages: readonly number[]; readonly altered: boolean };

/** A package database that lies in a tree. */
export type FoundDatabase =
  | { readonly kind: 'rpm'; readonly path: string; readonly db: Leaf; readonly wal: Leaf | undefined }
  | {
      readonly kind: 'dpkg';
      readonly path: string;
      readonly status: Leaf;
      /** By the name before `.list`. */
      readonly lists: ReadonlyMap<ByteString, Leaf>;
    }
  /** There is one, in a form that is not read. */
  | { readonly kind: 'unread'; readonly path: string; readonly why: string };

/** `/usr` first: that is the image's; what lies in /var is a host's own after its first boot. */
const RPM_PLACES = ['/usr/lib/sysimage/rpm', '/usr/share/rpm', '/var/lib/rpm'];
const DPKG_PLACES = ['/usr/lib/sysimage/dpkg', '/usr/lib/dpkg', '/usr/share/dpkg', '/var/lib/dpkg'];
const OLD_RPM = new Map([
  ['Packages', 'Berkeley DB'],
  ['Packages.db', 'ndb'],
]);

/** The package database of a tree, if it has one. */
export function databaseIn(root: Dir): FoundDatabase | undefined {
  const finder = new Finder(root);
  const file = (dir: Dir | undefined, name: ByteString): Leaf | undefined => {
    const node = dir?.children.get(name);
    return node !== undefined && !(node instanceof Dir) && node.type === 'file' ? node : undefined;
  };
  for (const path of RPM_PLACES) {
    const dir = finder.folder(path);
    const db = file(dir, 'rpmdb.sqlite');
    if (db !== undefined) return { kind: 'rpm', path: `${path}/rpmdb.sqlite`, db, wal: file(dir, 'rpmdb.sqlite-wal') };
    for (const [name, form] of OLD_RPM)
      if (file(dir, name))
        return { kind: 'unread', path: `${path}/${name}`, why: `it is a ${form} database, and only SQLite is read` };
  }
  for (const path of DPKG_PLACES) {
    const dir = finder.folder(path);
    const status = file(dir, 'status');
    const info = dir?.children.get('info');
    if (status === undefined || !(info instanceof Dir)) continue;
    const lists = new Map<ByteString, Leaf>();
    for (const name of info.children.keys()) {
      const list = name.endsWith('.list') ? file(info, name) : undefined;
      if (list !== undefined) lists.set(name.slice(0, -'.list'.length), list);
    }
    return { kind: 'dpkg', path, status, lists };
  }
  return undefined;
}

/** A tree's folders by path, symlinks followed inside it. */
class Finder {
  readonly #root: Dir;
  readonly #known = new Map<ByteString, Dir | undefined>();
  /** What a hostile database may make us walk in all. */
  #steps = 16 * PACKAGE_FILES_MAX;

  constructor(root: Dir) {
    this.#root = root;
  }

  folder(path: ByteString): Dir | undefined {
    if (this.#known.has(path)) return this.#known.get(path);
    const found = this.#walk(path);
    this.#known.set(path, found);
    return found;
  }

  #walk(path: ByteString): Dir | undefined {
    const at = [this.#root];
    const todo = components(path).reverse();
    let links = 0;
    for (let part = todo.pop(); part !== undefined; part = todo.pop()) {
      if (this.#steps-- <= 0) return undefined;
      if (part === '..') {
        if (at.length > 1) at.pop();
        continue;
      }
      const node = at.at(-1)!.children.get(part);
      if (node instanceof Dir) at.push(node);
      else if (node?.type === 'symlink') {
        if (++links > OWNER_LINKS_MAX) return undefined;
        if (node.link.startsWith('/')) at.length = 1;
        todo.push(...components(node.link).reverse());
      }
      // The links at the top go where an importer drops what is not in /usr; packages still name files by them.
      else if (at.length === 1 && /^(?:s?bin|lib(?:x?32|64)?)$/.test(part)) todo.push(part, 'usr');
      else return undefined;
    }
    return at.at(-1);
  }
}

export class Owners {
  readonly packages: readonly PackageFiles[];
  /** Directories belong to whichever packages have files in them with dpkg: that says nothing. */
  readonly #directories: boolean;
  readonly #sets: OwnerSet[] = [];
  /** By set, package and whether it is altered, in one number: there is one step for each file of the image. */
  readonly #larger = new Map<number, number>();

  constructor(packages: readonly PackageFiles[], { directories }: { readonly directories: boolean }) {
    this.packages = packages;
    this.#directories = directories;
  }

  /** What the numbers of `over` stand for: `n` for `sets[n - 1]`. */
  get sets(): readonly OwnerSet[] {
    return this.#sets;
  }

  /** For a path of the tree, by where it lies: 0 where nobody owns it, else the number of its set. */
  over(root: Dir): (node: Node, parent: Dir, name: ByteString) => number {
    const finder = new Finder(root);
    const owned = new Map<Dir, Map<ByteString, number>>();
    for (const [index, { dirs, dirOf, names, isOwned, marks }] of this.packages.entries()) {
      const folders = dirs.map((dir) => finder.folder(dir));
      for (let file = 0; file < names.length; file++) {
        if (!isOwned(file)) continue;
        const name = names[file]!;
        const dir = folders[dirOf[file]!];
        const node = dir?.children.get(name);
        if (dir === undefined || node === undefined || (node instanceof Dir && !this.#directories)) continue;
        let inside = owned.get(dir);
        if (inside === undefined) owned.set(dir, (inside = new Map()));
        const isAltered = marks !== undefined && isOther(node, marks[file]!);
        inside.set(name, this.#with(inside.get(name) ?? 0, index, isAltered));
      }
    }
    return (_, parent, name) => owned.get(parent)?.get(name) ?? 0;
  }

  #with(set: number, index: number, isAltered: boolean): number {
    const known = this.#sets[set - 1];
    if (known !== undefined && (known.packages.length >= PATH_OWNERS_MAX || known.packages.includes(index))) return set;
    const key = 2 * (set * this.packages.length + index) + Number(isAltered);
    let larger = this.#larger.get(key);
    if (larger === undefined) {
      const packages = [...(known?.packages ?? []), index];
      larger = this.#sets.push({ packages, altered: isAltered && (known?.altered ?? true) });
      this.#larger.set(key, larger);
    }
    return larger;
  }
}

/** A file whose content is not the one that the package brought. What has no digest is nobody's to say. */
function isOther(node: Node, mark: number): boolean {
  return !(node instanceof Dir) && node.type === 'file' && !Number.isNaN(mark) && markOf(node.sha256) !== mark;
}

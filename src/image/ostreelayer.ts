/**
 * Rule 2 of test/vectors/merge/README.md, "ostree-first-wins": a derived layer becomes a tree of its own, knowing nothing of those
 * below. First ostree-ext filters the archive (tar/write.rs), then libostree reads it (ostree-repo-libarchive.c).
 */
import { toUtf8, type ByteString } from '#src/bytes.ts';
import { hashTableOrder } from './ghash.ts';
import { BackendError, entryAt, shortName, type Warnings } from './refusal.ts';
import { FLAG, type TarEntry } from './tarentry.ts';
import { components, Dir, PLAIN_DIR, type Budget, type DirMeta, type Leaf } from './tree.ts';
import { checkXattrs } from './xattr.ts';

export type ImportOptions = {
  /** Whether names outside /usr, /etc and /var stay: the base has composefs enabled. */
  readonly nonUsr: boolean;
  readonly noXattrs: boolean;
};

// write.rs: EXCLUDED_TOPLEVEL_PATHS; the directories themselves stay.
const EXCLUDED = new Set(['run', 'tmp', 'proc', 'sys', 'dev']);
const REPO = ['sysroot', 'ostree', 'repo'];
/** What the link field of a header holds; tar-rs writes longer targets as they are. */
const LINK_FIELD = 100;

/** @throws {BackendError} */
export function importLayer(
  layer: number,
  entries: readonly TarEntry[],
  options: ImportOptions,
  warnings: Warnings,
  budget: Budget,
): Dir {
  const importer = new Importer(layer, options, warnings, budget);
  for (const entry of entries) importer.filter(entry);
  return importer.finish();
}

type Link = { readonly parent: Dir; readonly name: ByteString; readonly entry: TarEntry };

class Importer {
  readonly #options: ImportOptions;
  readonly #warnings: Warnings;
  readonly #budget: Budget;
  readonly #layer: number;
  readonly #root: Dir;
  #rootSet = false;
  /** Changed objects of the base, by path: the first hard link becomes the file (write.rs: changed_sysroot_objects). */
  readonly #changed = new Map<ByteString, TarEntry>();
  readonly #moved = new Map<ByteString, ByteString>();
  /** Hard links by target, resolved at the end. */
  readonly #links = new Map<ByteString, Link[]>();
  readonly #linkNames = new Set<ByteString>();
  readonly #targets = new Set<ByteString>();
  /** A link leads to another, or stands twice: then the order decides. */
  #linksMeet = false;
  readonly #dropped = new Set<ByteString>();
  #xattrsLost = 0;

  constructor(layer: number, options: ImportOptions, warnings: Warnings, budget: Budget) {
    this.#layer = layer;
    this.#options = options;
    this.#warnings = warnings;
    this.#budget = budget;
    this.#root = new Dir(layer, PLAIN_DIR);
  }

  /** write.rs: filter_tar, for one entry. */
  filter(entry: TarEntry): void {
    const name = entry.headerName ?? entry.name;
    if (toUtf8(name) === undefined) throw new BackendError('NOT_UTF8', `${entryAt(entry)}: the name is not UTF-8`);
    const path = components(name);
    const modified = (entry.flags & FLAG.modified) !== 0;
    if (isUnderRepo(name, path)) {
      if (modified && entry.type === 'file' && (entry.typeflag === 0x30 || entry.typeflag === 0)) {
        if (entry.headerName !== undefined)
          throw new BackendError('SPARSE_UNSUPPORTED', `${entryAt(entry)}: a sparse ostree object`);
        this.#changed.set(path.join('/'), entry);
        return;
      }
    } else if (entry.type === 'hardlink' && modified) {
      this.#checkLink(entry);
      const target = components(entry.link);
      if (!entry.link.startsWith('/') && isUnderRepo(entry.link, target))
        return this.#relink(entry, path, target.join('/'));
    }
    if (this.#isDropped(entry, name, path)) return;
    // write.rs: copy_entry
    if ((entry.flags & FLAG.paxNewline) !== 0)
      throw new BackendError(
        'PAX_NEWLINE',
        `${entryAt(entry)}: a PAX value (often an xattr) with a newline byte, which ostree-ext cannot read`,
      );
    if ((entry.flags & FLAG.paxKey) !== 0)
      throw new BackendError(
        'NOT_UTF8',
        `${entryAt(entry)}: the key of a PAX record (often an xattr's name) is not UTF-8`,
      );
    if (path.length === 0 && !name.startsWith('.'))
      throw new BackendError('ROOT_ENTRY', `${entryAt(entry)}: a root entry that is spelled as an absolute path`);
    if (entry.type === 'global')
      throw new BackendError(
        'GLOBAL_HEADER',
        `${entryAt(entry)}: a PAX global header, as git archive writes; ostree-ext damages it`,
      );
    if (path[0] === 'etc') path.unshift('usr');
    if ((entry.flags & FLAG.sparseGnu) !== 0)
      this.#warnings.add('SPARSE_MISREAD', this.#layer, SPARSE_MISREAD, `/${path.join('/')}`);
    // libarchive takes the name of a PAX sparse file from its own record, which ostree-ext does not move below usr.
    const placed = entry.headerName === undefined ? path : components(entry.name);
    if (entry.headerName !== undefined) {
      if (placed.includes('..')) throw new BackendError('DOTDOT', `${entryAt(entry)}: ".." in a path`);
      this.#warnings.add(
        'SPARSE_UNPORTABLE',
        this.#layer,
        'a sparse file in PAX form: composefs refuses it',
        `/${placed.join('/')}`,
      );
    }
    this.#import(entry, placed);
  }

  /** A hard link to an object of the base that was changed in a container (write.rs; errata 16). Its path is not moved below usr. */
  #relink(entry: TarEntry, path: ByteString[], target: ByteString): void {
    if (path.includes('..') || path.length === 0) throw new BackendError('DOTDOT', `${entryAt(entry)}: ".." in a path`);
    const object = this.#changed.get(target);
    const moved = this.#moved.get(target);
    if (object !== undefined) {
      this.#changed.delete(target);
      this.#moved.set(target, path.join('/'));
      this.#file(object, path, { ...object, capability: undefined });
    } else if (moved !== undefined) this.#link(entry, path, moved);
    else
      this.#warnings.add(
        'SYSROOT_LINK_DROPPED',
        this.#layer,
        'a changed hard link to an object that the layer does not carry: missing on the host',
        `/${path.join('/')}`,
      );
  }

  /** Rule 2, place (write.rs: normalize_validate_path). */
  #isDropped(entry: TarEntry, name: ByteString, path: readonly ByteString[]): boolean {
    const [first] = path;
    const stays =
      first === undefined || ['usr', 'etc', 'var'].includes(first) || EXCLUDED.has(first) || this.#options.nonUsr;
    const seen = !stays ? 1 : first !== undefined && EXCLUDED.has(first) ? Math.min(2, path.length) : path.length;
    // What stands behind the part that decides is not looked at.
    if (path.slice(0, seen).includes('..'))
      throw new BackendError('DOTDOT', `${entryAt(entry)}: ".." in a path, which ostree-ext refuses`);
    if (stays && !(EXCLUDED.has(first ?? '') && path.length > 1)) return false;
    if (!this.#dropped.has(first!)) {
      this.#dropped.add(first!);
      const why = stays ? 'what is below is dropped' : 'dropped: the base does not have composefs enabled';
      this.#warnings.add('TOPLEVEL_DROPPED', this.#layer, `${why} (first: ${shortName(name)})`, `/${first}`);
    }
    return true;
  }

  /** aic_import_entry */
  #import(entry: TarEntry, path: ByteString[]): void {
    if (entry.type !== 'hardlink' && !this.#options.noXattrs) checkXattrs(entry, true);
    if ((entry.flags & FLAG.emptyXattr) !== 0)
      this.#warnings.add(
        'XATTR_EMPTY',
        this.#layer,
        'an xattr without a value: "ostree fsck" calls the import corrupt',
        `/${path.join('/')}`,
      );
    switch (entry.type) {
      case 'dir':
        return this.#directory(entry, path);
      case 'hardlink':
        this.#checkLink(entry);
        return this.#link(entry, path, relativeTarget(entry, normalised(remapEtc(entry.link))));
      case 'symlink':
        return this.#symlink(entry, path);
      case 'file':
        return this.#file(entry, path, this.#stripped(entry));
      default:
        throw special(entry);
    }
  }

  #symlink(entry: TarEntry, path: ByteString[]): void {
    this.#checkLink(entry);
    const link = normalised(entry.link);
    const shown = `/${path.join('/')}`;
    if (link !== entry.link)
      this.#warnings.add(
        'SYMLINK_REWRITTEN',
        this.#layer,
        'the target is not in normal form; ostree-ext rewrites it',
        shown,
      );
    if (entry.mode !== 0o777)
      this.#warnings.add(
        'SYMLINK_MODE',
        this.#layer,
        'a symlink with a mode of its own: "ostree fsck" calls the import corrupt',
        shown,
      );
    const leaf = this.#stripped(entry);
    this.#file(entry, path, link === entry.link ? leaf : { ...leaf, link });
  }

  #stripped(entry: TarEntry): Leaf {
    if (!this.#options.noXattrs || entry.capability === undefined) return entry;
    this.#xattrsLost++;
    return { ...entry, capability: undefined };
  }

  #directory(entry: TarEntry, path: ByteString[]): void {
    const meta: DirMeta = this.#options.noXattrs ? { ...entry, capability: undefined } : entry;
    const name = path.at(-1);
    let dir: Dir;
    if (name === undefined) {
      dir = this.#root;
      this.#rootSet = true;
    } else {
      const parent = this.#parent(entry, path);
      const existing = parent.children.get(name);
      if (existing !== undefined && !(existing instanceof Dir))
        throw new BackendError(
          'TYPE_CONFLICT',
          `${entryAt(entry)}: a directory where the same layer has a ${existing.type}`,
        );
      dir = existing ?? this.#newDir(parent, name, entry);
    }
    dir.set(meta);
    dir.own = meta;
    dir.missing = undefined;
  }

  #file(entry: TarEntry, path: ByteString[], leaf: Leaf): void {
    const name = path.at(-1);
    if (name === undefined) throw new BackendError('ROOT_ENTRY', `${entryAt(entry)}: the root is not a directory`);
    const parent = this.#parent(entry, path);
    put(parent, name, leaf, entry);
  }

  #link(entry: TarEntry, path: ByteString[], target: ByteString): void {
    const name = path.at(-1);
    if (name === undefined) throw new BackendError('ROOT_ENTRY', `${entryAt(entry)}: the root is not a directory`);
    const parent = this.#parent(entry, path);
    const own = path.join('/');
    this.#linksMeet ||= this.#linkNames.has(own) || this.#targets.has(own);
    this.#linkNames.add(own);
    const links = this.#links.get(target);
    if (links) links.push({ parent, name, entry });
    else this.#links.set(target, [{ parent, name, entry }]);
    const reached = components(target).join('/');
    this.#targets.add(reached);
    this.#linksMeet ||= this.#linkNames.has(reached);
  }

  #checkLink(entry: TarEntry): void {
    if (toUtf8(entry.link) === undefined)
      throw new BackendError('NOT_UTF8', `${entryAt(entry)}: the link target is not UTF-8`);
  }

  /** aic_get_parent_dir: where the immediate parent is missing, every ancestor up to the root is made or set anew. */
  #parent(entry: TarEntry, path: readonly ByteString[]): Dir {
    let dir: Dir | undefined = this.#root;
    for (let i = 0; i < path.length - 1 && dir; i++) {
      const child = dir.children.get(path[i]!);
      dir = child instanceof Dir ? child : undefined;
    }
    if (dir) return dir;
    const stamp: DirMeta = { mode: 0o755, uid: entry.uid, gid: entry.gid, capability: undefined };
    const missing = `/${path.slice(0, -1).join('/')}`;
    dir = this.#root;
    dir.set(stamp);
    dir.missing = missing;
    this.#rootSet = true;
    for (const name of path.slice(0, -1)) {
      const child: Dir | Leaf | undefined = dir.children.get(name);
      if (child !== undefined && !(child instanceof Dir))
        throw new BackendError(
          'PARENT_NOT_DIRECTORY',
          `${entryAt(entry)}: its parent is a ${child.type} of the same layer`,
        );
      dir = child ?? this.#newDir(dir, name, entry);
      dir.set(stamp);
      dir.missing = missing;
    }
    return dir;
  }

  #newDir(parent: Dir, name: ByteString, entry: TarEntry): Dir {
    this.#budget.node(entry);
    const dir = new Dir(this.#layer, PLAIN_DIR);
    parent.children.set(name, dir);
    return dir;
  }

  /** aic_import_deferred_hardlinks, and the root where nothing set it. */
  finish(): Dir {
    const targets = this.#linksMeet ? hashTableOrder(this.#links.keys()) : [...this.#links.keys()];
    for (const target of targets) {
      const links = this.#links.get(target)!;
      const leaf = this.#target(target, links[0]!.entry);
      for (const { parent, name, entry } of links) put(parent, name, leaf, entry);
    }
    if (!this.#rootSet) this.#root.set(PLAIN_DIR);
    if (this.#xattrsLost > 0)
      this.#warnings.add('XATTR_LOST', this.#layer, `${this.#xattrsLost} entries lose security.capability`);
    return this.#root;
  }

  #target(target: ByteString, entry: TarEntry): Leaf {
    const path = components(target);
    const name = target.slice(target.lastIndexOf('/') + 1);
    let dir: Dir | undefined = this.#root;
    for (const part of path.slice(0, -1)) {
      const child: Dir | Leaf | undefined = dir?.children.get(part);
      dir = child instanceof Dir ? child : undefined;
    }
    const node = dir?.children.get(name);
    if (node === undefined)
      throw new BackendError(
        'HARDLINK_TARGET_MISSING',
        `${entryAt(entry)}: the same layer has no ${shortName(target)} to link to`,
      );
    if (node instanceof Dir)
      throw new BackendError('HARDLINK_TARGET_DIRECTORY', `${entryAt(entry)}: a hard link to a directory`);
    return node;
  }
}

export function special(entry: TarEntry): BackendError {
  return entry.type === 'fifo'
    ? new BackendError('FIFO_IN_TREE', `${entryAt(entry)}: a FIFO, which an ostree commit cannot hold`)
    : new BackendError('DEVICE_IN_TREE', `${entryAt(entry)}: a device node, which an ostree commit cannot hold`);
}

const SPARSE_MISREAD =
  'an old GNU sparse file: ostree-ext 0.15 imports wrong content and loses the entries behind it; the manifest says what the image says';

function put(parent: Dir, name: ByteString, leaf: Leaf, entry: TarEntry): void {
  if (parent.children.get(name) instanceof Dir)
    throw new BackendError('TYPE_CONFLICT', `${entryAt(entry)}: a ${entry.type} where the same layer has a directory`);
  parent.children.set(name, leaf);
}

/** Rust's Path::strip_prefix("sysroot/ostree/repo/"): by component, a leading `./` counts. */
function isUnderRepo(name: ByteString, path: readonly ByteString[]): boolean {
  return REPO.every((part, i) => path[i] === part) && !/^\/*\.(?:\/|$)/.test(name);
}

/** write.rs: remap_etc_path */
function remapEtc(link: ByteString): ByteString {
  const path = parts(link);
  const first = path[0] === '/' || path[0] === '.' ? 1 : 0;
  if (path[first] !== 'etc') return link;
  path.splice(first, 0, 'usr');
  return path[0] === '/' ? `/${path.slice(1).join('/')}` : path.join('/');
}

/** Rust's Path::components: `/` for the root, `.` only at the beginning, no empty ones. */
function parts(path: ByteString): ByteString[] {
  const rest = components(path);
  if (path.startsWith('/')) return ['/', ...rest];
  return /^\.(?:\/|$)/.test(path) ? ['.', ...rest] : rest;
}

/** Errata 1: what tar-rs makes of a link target that fits the header's field (header.rs: copy_path_into). */
function normalised(link: ByteString): ByteString {
  const path = parts(link);
  let out = path[0] === '/' ? `/${path.slice(1).join('/')}` : path.join('/');
  if (link.endsWith('/')) out += '/';
  return out.length <= LINK_FIELD ? out : link;
}

/** ostree-repo-libarchive.c: path_relative, of a hard link's target. */
function relativeTarget(entry: TarEntry, link: ByteString): ByteString {
  let at = 0;
  while (link[at] === '/') {
    at++;
    if (link.startsWith('../', at)) at += 2;
  }
  while (link[at] === '/' || link.startsWith('./', at)) at += link[at] === '/' ? 1 : 2;
  const rest = link.slice(at);
  const target = rest === '.' ? '' : rest;
  if (target.split('/').includes('..'))
    throw new BackendError('HARDLINK_TARGET_OUTSIDE', `${entryAt(entry)}: ".." in the target of a hard link`);
  return target;
}

/**
 * What bootc's composefs backend shows of an image: composefs-rs unpacks all layers onto one tree. The numbers are those of
 * test/vectors/merge/README.md, "oci-last-wins as composefs-rs does it"; source: composefs-oci `image.rs` and `tar.rs`, tar-core.
 */
import type { ByteString } from '#src/bytes.ts';
import type { Layer } from './layer.ts';
import { readable } from './members.ts';
import { BackendError, entryAt, shortName, type Warnings } from './refusal.ts';
import { FLAG, type TarEntry } from './tarentry.ts';
import { components, Dir, PLAIN_DIR, type Leaf, type Node } from './tree.ts';

const MARKER = '.wh.';
const OPAQUE = '.wh..wh..opq';

/** @throws {BackendError} */
export function deployComposefs(layers: readonly Layer[], warnings: Warnings): Dir {
  const root = new Dir(-1, PLAIN_DIR);
  for (const layer of layers) {
    const entries = readable(layer, ['gzip', 'zstd'], warnings);
    if (layer.halfEnd && entries === layer.entries)
      throw new BackendError(
        'END_BLOCK_MISSING',
        `layer ${layer.index}: one zero block at the end, composefs-rs wants two or none`,
      );
    let lost = 0;
    let firstLost: TarEntry | undefined;
    for (const entry of entries) {
      if (entry.type === 'global') continue; // nothing in it applies to entries
      check(entry);
      if ((entry.flags & FLAG.otherXattrs) !== 0) {
        lost++;
        firstLost ??= entry;
      }
      unpack(root, entry, warnings);
    }
    if (firstLost)
      warnings.add(
        'XATTR_LOST',
        layer.index,
        `${lost} entries lose xattrs other than security.capability (first: ${entryAt(firstLost)})`,
      );
  }
  return finish(root, warnings);
}

/** What tar-core and composefs-rs refuse in an archive, wherever it stands. */
function check(entry: TarEntry): void {
  if ((entry.flags & (FLAG.sparseGnu | FLAG.sparsePax)) !== 0)
    throw new BackendError('SPARSE_UNSUPPORTED', `${entryAt(entry)}: a sparse file, which composefs-rs does not read`);
  if ((entry.flags & FLAG.oddTime) !== 0)
    throw new BackendError(
      'PAX_TIME',
      `${entryAt(entry)}: a PAX modification time before 1970, which composefs-rs does not read`,
    );
  if ((entry.flags & FLAG.oddNumber) !== 0)
    throw new BackendError(
      'HEADER_NUMBER',
      `${entryAt(entry)}: a time or device number that is no number, which composefs-rs takes for damage`,
    );
  if (entry.type === 'file' && ![0, 0x30, 0x37].includes(entry.typeflag))
    throw new BackendError(
      'TYPE_UNSUPPORTED',
      `${entryAt(entry)}: an entry of type ${entry.typeflag}, unknown to composefs-rs`,
    );
}

/** Rules 1 to 4 (image.rs: process_entry). */
function unpack(root: Dir, entry: TarEntry, warnings: Warnings): void {
  const path = components(entry.name);
  const name = path.at(-1);
  if (name === undefined || name === '..') {
    if (entry.type === 'dir') return; // the root's metadata comes from /usr in the end
    throw new BackendError(
      name === undefined ? 'ROOT_ENTRY' : 'DOTDOT',
      `${entryAt(entry)}: the root is not a directory`,
    );
  }
  const leaf = entry.type === 'hardlink' ? target(root, entry) : entry;
  const parent = parentOf(root, entry, path);
  if (name.startsWith(MARKER)) return remove(parent, name, entry, warnings);
  if (entry.type !== 'dir') {
    parent.children.set(name, leaf);
    return;
  }
  const existing = parent.children.get(name);
  if (existing instanceof Dir) {
    existing.set(entry);
    existing.layer = entry.layer;
    return;
  }
  parent.children.set(name, new Dir(entry.layer, entry));
}

function parentOf(root: Dir, entry: TarEntry, path: readonly ByteString[]): Dir {
  let dir = root;
  for (const part of path.slice(0, -1)) {
    if (part === '..')
      throw new BackendError('DOTDOT', `${entryAt(entry)}: ".." in a path, which composefs-rs refuses`);
    const child = dir.children.get(part);
    if (child === undefined)
      throw new BackendError('PARENT_MISSING', `${entryAt(entry)}: no entry makes its parent ${shortName(part)}`);
    if (!(child instanceof Dir))
      throw new BackendError(
        'PARENT_NOT_DIRECTORY',
        `${entryAt(entry)}: its parent ${shortName(part)} is a ${child.type}`,
      );
    dir = child;
  }
  return dir;
}

/** Rule 3: at once, against the whole tree so far. */
function target(root: Dir, entry: TarEntry): Leaf {
  const path = components(entry.link);
  if (path.includes('..') || path.length === 0)
    throw new BackendError(
      'HARDLINK_TARGET_OUTSIDE',
      `${entryAt(entry)}: ".." or nothing in the target of a hard link`,
    );
  let node: Node | undefined = root;
  for (const part of path) node = node instanceof Dir ? node.children.get(part) : undefined;
  if (node === undefined)
    throw new BackendError(
      'HARDLINK_TARGET_MISSING',
      `${entryAt(entry)}: nothing before it is at ${shortName(entry.link)}`,
    );
  if (node instanceof Dir)
    throw new BackendError('HARDLINK_TARGET_DIRECTORY', `${entryAt(entry)}: a hard link to a directory`);
  return node;
}

/** Rule 4: at that moment, whatever layer the entries came from. */
function remove(parent: Dir, name: ByteString, entry: TarEntry, warnings: Warnings): void {
  const gone = name === OPAQUE ? [...parent.children.values()] : [parent.children.get(name.slice(MARKER.length))];
  if (gone.some((node) => node !== undefined && holds(node, entry.layer)))
    warnings.add(
      'MARKER_ORDER',
      entry.layer,
      'removes what stands before it in the same layer; the specification means lower layers only',
      `/${components(entry.name).join('/')}`,
    );
  if (name === OPAQUE) parent.children.clear();
  else parent.children.delete(name.slice(MARKER.length));
}

// Each node is looked at once at most: it is gone afterwards.
function holds(node: Node, layer: number): boolean {
  if (node.layer === layer) return true;
  return node instanceof Dir && [...node.children.values()].some((child) => holds(child, layer));
}

/** Rule 5 (transform_for_oci, transform_for_boot), as far as it touches /usr and /etc. */
function finish(root: Dir, warnings: Warnings): Dir {
  const usr = root.children.get('usr');
  if (usr === undefined) throw new BackendError('USR_MISSING', 'the image has no /usr');
  if (!(usr instanceof Dir)) throw new BackendError('USR_NOT_DIRECTORY', `layer ${usr.layer}: /usr is a ${usr.type}`);
  root.set(usr);
  for (const name of ['run', 'boot', 'sysroot']) {
    const dir = root.children.get(name);
    if (dir === undefined && name !== 'run')
      warnings.add('BOOT_DIRECTORY_MISSING', null, 'bootc needs this directory to boot the image', `/${name}`);
    if (!(dir instanceof Dir) || dir.children.size === 0) continue;
    // Every encapsulated base has its objects below sysroot; losing them is the rule, not a loss.
    if (name !== 'sysroot') warnings.add('TOPLEVEL_DROPPED', null, 'what is below is dropped', `/${name}`);
    dir.children.clear();
  }
  return root;
}

/**
 * What bootc's ostree backend shows of an image: ostree-ext imports each layer, libostree merges and deploys. The numbers are those
 * of test/vectors/merge/README.md, "ostree-first-wins"; where these leave something open, the programs' source decides (ostree-ext
 * `tar/write.rs` and `container/store.rs`, libostree `ostree-repo-libarchive.c` in ostreelayer.ts and `ostree-repo-checkout.c` here).
 */
import type { ByteString } from '#src/bytes.ts';
import type { ImageLimits } from '#src/limits.ts';
import { printable } from '#src/terminal.ts';
import type { ImageFacts, Layer } from './layer.ts';
import { importLayer, special } from './ostreelayer.ts';
import { enablesComposefs } from './preparerootconf.ts';
import { readable } from './members.ts';
import { BackendError, entryAt, type Warnings } from './refusal.ts';
import { OBJECTS, type TarEntry } from './tarentry.ts';
import { Budget, components, Dir, PLAIN_DIR, type DirMeta, type Leaf, type Node } from './tree.ts';

/** How an older importer differs from the newest. */
export type OstreeVariant = {
  /** Zero-size hostname and resolv.conf stay. */
  readonly debris: boolean;
  /** Derived layers lose their xattrs, and an image needs the label. */
  readonly noXattrs: boolean;
};

const LABEL = 'ostree.final-diffid';

/** @throws {BackendError} */
export function deployOstree(
  layers: readonly Layer[],
  image: ImageFacts,
  variant: OstreeVariant,
  warnings: Warnings,
  limits: ImageLimits,
): Dir {
  const budget = new Budget(limits);
  const baseCount = countBase(layers, image, variant);
  let root: Dir | undefined;
  let nonUsr = true; // "for generic images we assume they're using composefs"
  if (baseCount > 0) {
    root = baseTree(layers.slice(0, baseCount), warnings, budget);
    const enabled = composefsEnabled(root) ?? false;
    if (enabled === 'unreadable')
      throw new BackendError(
        'PREPARE_ROOT_SYNTAX',
        'the base: /usr/lib/ostree/prepare-root.conf is not a key file that ostree-ext reads',
      );
    nonUsr = enabled;
  }
  for (const layer of layers.slice(baseCount)) {
    const entries = readable(layer, ['gzip'], warnings);
    const tree = importLayer(layer.index, entries, { nonUsr, noXattrs: variant.noXattrs }, warnings, budget);
    root = merge(root, tree, '', warnings);
  }
  return finish(root ?? new Dir(0, PLAIN_DIR), variant, warnings);
}

/** Rule 1: how many layers the encapsulated base has (store.rs: parse_manifest_layout). */
function countBase(layers: readonly Layer[], image: ImageFacts, variant: OstreeVariant): number {
  const label = image.labels.get(LABEL);
  if (label === undefined) {
    if (variant.noXattrs)
      throw new BackendError(
        'BASE_LABEL_MISSING',
        `no label ${LABEL}: bootc before 1.1.3 takes encapsulated images only`,
      );
    return 0;
  }
  const at = image.diffIds.findIndex((diffId) => diffId === label);
  const last = layers[at];
  if (last === undefined)
    throw new BackendError(
      'BASE_LABEL_UNKNOWN',
      `the label ${LABEL} names ${JSON.stringify(label.slice(0, 80))}, no layer has it`,
    );
  if (layers.some((layer, index) => index !== at && layer.digest === last.digest && layer.mediaType === last.mediaType))
    throw new BackendError('BASE_LABEL_UNKNOWN', `the layer that the label ${LABEL} names is there twice`);
  return at + 1;
}

/** Rule 1: the visible tree of an encapsulated commit; its files are hard links to objects. */
function baseTree(layers: readonly Layer[], warnings: Warnings, budget: Budget): Dir {
  const root = new Dir(0, PLAIN_DIR);
  const objects = new Map<ByteString, TarEntry>();
  let commit = false;
  for (const layer of layers) {
    for (const entry of readable(layer, ['gzip'], warnings)) {
      const path = components(entry.name);
      if (path.includes('..')) throw new BackendError('DOTDOT', `${entryAt(entry)}: ".." in the base`);
      if (path[0] === 'sysroot' && path[1] === 'ostree') {
        const name = path.join('/');
        if (name.startsWith(OBJECTS) && entry.type !== 'dir') objects.set(name, entry);
        commit ||= name.endsWith('.commit') && layer === layers[0];
        continue;
      }
      if (entry.type === 'global' || (path[0] === 'var' && path[1] === 'tmp')) continue;
      if (path[0] === 'etc') path.unshift('usr');
      place(root, path, entry, objects, budget);
    }
  }
  if (!commit)
    throw new BackendError(
      'BASE_COMMIT_MISSING',
      `the label ${LABEL} is there, but the first layer holds no ostree commit`,
    );
  return root;
}

function place(
  root: Dir,
  path: ByteString[],
  entry: TarEntry,
  objects: Map<ByteString, TarEntry>,
  budget: Budget,
): void {
  let dir = root;
  for (const name of path.slice(0, -1)) {
    let child = dir.children.get(name);
    if (!(child instanceof Dir)) {
      budget.node(entry);
      child = new Dir(entry.layer, PLAIN_DIR);
      dir.children.set(name, child);
    }
    dir = child;
  }
  const name = path.at(-1);
  if (entry.type === 'dir') {
    const existing = name === undefined ? root : dir.children.get(name);
    if (existing instanceof Dir) existing.set(entry);
    else dir.children.set(name!, new Dir(entry.layer, entry));
    return;
  }
  if (name === undefined) throw new BackendError('ROOT_ENTRY', `${entryAt(entry)}: the root is not a directory`);
  if (entry.type === 'char' || entry.type === 'block' || entry.type === 'fifo') throw special(entry);
  const leaf = entry.type === 'hardlink' ? objects.get(components(entry.link).join('/')) : entry;
  if (leaf === undefined)
    throw new BackendError(
      'BASE_OBJECT_MISSING',
      `${entryAt(entry)}: the object that it links to is in no layer before it`,
    );
  dir.children.set(name, leaf);
}

/** What the tree's prepare-root.conf says of composefs; undefined where it has none. */
function composefsEnabled(root: Dir): boolean | 'unreadable' | undefined {
  let node: Node | undefined = root;
  for (const name of ['usr', 'lib', 'ostree', 'prepare-root.conf'])
    node = node instanceof Dir ? node.children.get(name) : undefined;
  if (node === undefined) return undefined;
  if (node instanceof Dir || node.type !== 'file') return 'unreadable';
  return enablesComposefs(node.text ?? '') ?? 'unreadable';
}

const MARKER = '.wh.';
const OPAQUE = '.wh..wh..opq';

/** Rule 3: one directory of a layer's own tree over the one below (checkout_tree_at_recurse, UNION_FILES, process_whiteouts). */
function merge(below: Node | undefined, layer: Dir, path: ByteString, warnings: Warnings, layerRoot = layer): Dir {
  const shown = path === '' ? '/' : path;
  const opaque = isLeaf(layer.children.get(OPAQUE));
  let dir: Dir;
  if (below instanceof Dir && !opaque) {
    dir = below; // first wins: mode, owner, xattrs stay
    if (layer.missing === undefined && path !== '' && !sameMeta(dir, layer))
      warnings.add(
        'DIRECTORY_KEPT',
        layer.layer,
        'the directory is restated with other metadata: the host keeps the first',
        shown,
      );
  } else {
    dir = new Dir(layer.layer, layer);
    // No tree has the root; and a stamp that leaves what the directory's own entry said changes nothing.
    if (layer.missing !== undefined && path !== '' && !(layer.own && sameMeta(layer.own, layer)))
      warnImplicit(below, layer, shown, entered(layerRoot, layer.missing), warnings);
  }
  // Non-directories act in byte order of their names, so a marker takes its own layer's file only where that sorts before it.
  for (const [name, node] of layer.children) {
    if (node instanceof Dir || !isMarker(name, node)) continue;
    const gone = name.slice(MARKER.length);
    if (gone === '' || gone === '.' || gone === '..')
      throw new BackendError('WHITEOUT_NAME', `layer ${layer.layer}: ${shown}: a whiteout of "${gone}"`);
    dir.children.delete(gone);
  }
  for (const [name, node] of layer.children) {
    if (node instanceof Dir) {
      if (name.startsWith(MARKER)) keptMarker(name, 'directory');
      continue;
    }
    if (isMarker(name, node)) continue;
    if (name.startsWith(MARKER)) keptMarker(name, 'symlink');
    const marker = layer.children.get(MARKER + name);
    if (marker !== undefined && !(marker instanceof Dir) && isMarker(MARKER + name, marker) && name < MARKER + name) {
      const message = 'a whiteout of the same layer removes it, because its name sorts before ".wh."';
      warnings.add('MARKER_ORDER', layer.layer, message, `${path}/${name}`);
    } else dir.children.set(name, node);
  }
  for (const [name, node] of layer.children)
    if (node instanceof Dir)
      dir.children.set(name, merge(dir.children.get(name), node, `${path}/${name}`, warnings, layerRoot));
  return dir;

  function keptMarker(name: ByteString, what: string): void {
    warnings.add(
      'MARKER_KEPT',
      layer.layer,
      `a whiteout that is a ${what} removes nothing and stays`,
      `${path}/${name}`,
    );
  }
}

/** Whether a directory of a layer's own tree has an entry in that layer. */
function entered(layerRoot: Dir, path: ByteString): boolean {
  let node: Node | undefined = layerRoot;
  for (const name of components(path)) node = node instanceof Dir ? node.children.get(name) : undefined;
  return node instanceof Dir && node.own !== undefined;
}

/**
 * A directory that has its metadata from a path below it (rule 2, errata 3 and 6): the layer lacks an entry for a parent, or has it
 * (`late`) only after what is in there.
 */
function warnImplicit(below: Node | undefined, layer: Dir, path: ByteString, late: boolean, warnings: Warnings): void {
  const parent = path === layer.missing ? 'it' : printable(layer.missing!);
  const reason =
    layer.own === undefined
      ? 'the layer has no entry for it'
      : late
        ? `what is in ${parent} comes before its entry`
        : `the layer has no entry for ${parent}`;
  const becomes = `becomes 0755 ${layer.uid}:${layer.gid}`;
  if (layer.own === undefined && isLeaf(below))
    warnings.add('PARENT_REPLACED', layer.layer, `a ${below.type} of a lower layer ${becomes}: a directory`, path);
  else if (layer.own === undefined && below !== undefined)
    warnings.add(
      'OPAQUE_RESET',
      layer.layer,
      `an opaque marker without an entry for its directory: it ${becomes}`,
      path,
    );
  else warnings.add('PARENT_STAMPED', layer.layer, `${printable(path)} ${becomes}, because ${reason}`, path);
}

function isLeaf(node: Node | undefined): node is Leaf {
  return node !== undefined && !(node instanceof Dir);
}

function isMarker(name: ByteString, node: Leaf): boolean {
  return name.startsWith(MARKER) && node.type !== 'symlink';
}

function sameMeta(a: DirMeta, b: DirMeta): boolean {
  return a.mode === b.mode && a.uid === b.uid && a.gid === b.gid && a.capability === b.capability;
}

/** Rules 4 and 5, and what `ostree admin deploy` does to the merged commit (ostree-sysroot-deploy.c: prepare_deployment_etc). */
function finish(root: Dir, variant: OstreeVariant, warnings: Warnings): Dir {
  const usr = root.children.get('usr');
  if (isLeaf(usr)) throw new BackendError('USR_NOT_DIRECTORY', `layer ${usr.layer}: /usr is a ${usr.type}`);
  if (usr === undefined || [...usr.children.keys()].every((name) => name === 'etc'))
    throw new BackendError('USR_MISSING', 'the image has no /usr');
  const composefs = composefsEnabled(root) !== false;
  const etc = root.children.get('etc');
  let usrEtc = usr.children.get('etc');
  if (isLeaf(etc) || isLeaf(usrEtc)) throw new BackendError('ETC_NOT_DIRECTORY', '/etc is not a directory');
  if (!variant.debris && usrEtc) removeDebris(usrEtc, warnings);
  if (etc && etc.children.size > 0) {
    if (usrEtc)
      throw new BackendError('ETC_TWICE', 'the tree contains both /etc and /usr/etc, which ostree does not deploy');
    usrEtc = etc;
    usr.children.set('etc', etc);
  }
  if (!hasKernel(root, usr))
    warnings.add(
      'KERNEL_MISSING',
      null,
      'no kernel in /usr/lib/modules, /usr/lib/ostree-boot or /boot: ostree refuses to deploy it',
    );
  const shown = new Dir(root.layer, root);
  for (const [name, node] of root.children) shown.children.set(name, node);
  // The copy for /etc is made from the commit, where the names of overlay whiteouts are still quoted.
  if (usrEtc) shown.children.set('etc', usrEtc);
  for (const [name, node] of root.children)
    if (node instanceof Dir && name !== 'etc') {
      const replaced = overlayWhiteouts(node, `/${name}`, composefs, warnings);
      if (replaced) shown.children.set(name, replaced);
    }
  return shown;
}

function removeDebris(etc: Dir, warnings: Warnings): void {
  for (const name of ['hostname', 'resolv.conf']) {
    const node = etc.children.get(name);
    if (!isLeaf(node) || node.type !== 'file' || node.size !== 0) continue;
    etc.children.delete(name);
    warnings.add(
      'DEBRIS_REMOVED',
      node.layer,
      'an empty file that container builds leave behind: bootc removes it',
      `/etc/${name}`,
    );
  }
}

function hasKernel(root: Dir, usr: Dir): boolean {
  const names = (dir: Node | undefined): ByteString[] => (dir instanceof Dir ? [...dir.children.keys()] : []);
  const lib = usr.children.get('lib');
  const inLib = (name: string) => (lib instanceof Dir ? lib.children.get(name) : undefined);
  const modules = inLib('modules');
  if (modules instanceof Dir && [...modules.children.values()].some((dir) => names(dir).includes('vmlinuz')))
    return true;
  return [...names(inLib('ostree-boot')), ...names(root.children.get('boot'))].some((name) =>
    name.startsWith('vmlinuz'),
  );
}

const OVERLAY = '.ostree-wh.';

/**
 * Errata 14: `.ostree-wh.NAME` becomes an overlayfs whiteout NAME where the root is the checkout itself; under composefs the name
 * stays quoted. Returns the tree with whiteouts in place, or undefined where nothing changes.
 * @throws {BackendError} OVERLAY_WHITEOUT_CONFLICT where NAME is there as well: the checkout fails in either case.
 */
function overlayWhiteouts(dir: Dir, path: ByteString, composefs: boolean, warnings: Warnings): Dir | undefined {
  const changes = new Map<ByteString, Node | undefined>();
  for (const [name, node] of dir.children) {
    if (node instanceof Dir) {
      const replaced = overlayWhiteouts(node, `${path}/${name}`, composefs, warnings);
      if (replaced) changes.set(name, replaced);
      continue;
    }
    if (!name.startsWith(OVERLAY) || node.type === 'symlink') continue;
    const target = name.slice(OVERLAY.length);
    if (target === '' || target === '.' || target === '..' || dir.children.has(target))
      throw new BackendError(
        'OVERLAY_WHITEOUT_CONFLICT',
        `${entryAt({ layer: node.layer, name: `${path}/${name}` })}: it stands beside the name that it hides, or hides none: ostree cannot check that out`,
      );
    const message = composefs
      ? 'the checkout has an overlayfs whiteout here; the composefs root, which the host shows, has this file'
      : 'becomes an overlayfs whiteout (character device 0:0) on the host';
    warnings.add('OVERLAY_WHITEOUT', node.layer, message, `${path}/${name}`);
    if (composefs) continue;
    changes.set(name, undefined);
    changes.set(target, { ...node, type: 'char', device: '0:0', size: 0, sha256: '' });
  }
  if (changes.size === 0) return undefined;
  const out = new Dir(dir.layer, dir);
  for (const [name, node] of dir.children) out.children.set(name, node);
  for (const [name, node] of changes) {
    if (node === undefined) out.children.delete(name);
    else out.children.set(name, node);
  }
  return out;
}

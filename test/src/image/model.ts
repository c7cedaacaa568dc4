/**
 * The merge rules once more, slow and plain, written from test/vectors/merge/README.md alone: one flat map from path to node, every
 * pass as the README words it. No archive, no compression, no trees.
 */
import { fromUtf8, type ByteString } from '#src/bytes.ts';
import { sha256, type Member } from './archive.ts';

export type ModelNode = { type: string; mode: number; uid: number; gid: number; data?: string; link?: ByteString };
export type Model = Map<ByteString, ModelNode>;
/** Thrown where the program would refuse the image. */
export class Refused extends Error {}

const parent = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf('/')));
const base = (path: string): string => path.slice(path.lastIndexOf('/') + 1);
const join = (dir: string, name: string): string => (dir === '' ? name : `${dir}/${name}`);
/** `./usr//x/` → `usr/x` */
const clean = (name: string): string =>
  name
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .join('/');
const ancestors = (path: string): string[] => (path === '' ? [] : [...ancestors(parent(path)), parent(path)]);
const below = (tree: Model, path: string): string[] => [...tree.keys()].filter((key) => key.startsWith(`${path}/`));
const children = (tree: Model, dir: string): string[] =>
  [...tree.keys()].filter((key) => key !== '' && parent(key) === dir).map(base);
function remove(tree: Model, path: string): void {
  for (const key of [path, ...below(tree, path)]) tree.delete(key);
}
const TYPES: Record<string, string> = { '0': 'file', '5': 'dir', '2': 'symlink', '1': 'hardlink' };
function nodeOf(member: Member): ModelNode {
  const type = TYPES[member.type ?? '0']!;
  return {
    type,
    mode: type === 'symlink' ? 0 : (member.mode ?? (type === 'dir' ? 0o755 : 0o644)),
    uid: member.uid ?? 0,
    gid: member.gid ?? 0,
    ...(type === 'file' ? { data: String(member.data ?? '') } : {}),
    ...(type === 'symlink' ? { link: member.link! } : {}),
  };
}
const plainDir = (uid = 0, gid = 0): ModelNode => ({ type: 'dir', mode: 0o755, uid, gid });

/** Rule 2 of ostree-first-wins: a layer's own tree. */
function ownTree(layer: readonly Member[]): Model {
  const tree: Model = new Map();
  const links: { path: string; target: string }[] = [];
  const moved = (name: string) => clean(name).replace(/^etc(?=\/|$)/, 'usr/etc');
  for (const member of layer) {
    const path = moved(member.name);
    const node = nodeOf(member);
    if (path !== '' && parent(path) !== '' && tree.get(parent(path))?.type !== 'dir')
      for (const dir of ancestors(path)) {
        if (tree.has(dir) && tree.get(dir)!.type !== 'dir') throw new Refused('a parent that is a non-directory');
        tree.set(dir, plainDir(node.uid, node.gid));
      }
    const existing = tree.get(path);
    if (node.type === 'hardlink') links.push({ path, target: moved(member.link!) });
    else {
      if (existing && (existing.type === 'dir') !== (node.type === 'dir')) throw new Refused('a type conflict');
      tree.set(path, node);
    }
  }
  for (const { path, target } of links) {
    const node = tree.get(target);
    if (!node || node.type === 'dir' || tree.get(path)?.type === 'dir') throw new Refused('a hard link without target');
    tree.set(path, node);
  }
  if (!tree.has('')) tree.set('', plainDir());
  return tree;
}

/** Rule 3. */
function merge(tree: Model, layer: Model, dir: string): void {
  const names = children(layer, dir).sort();
  for (const name of names) {
    const node = layer.get(join(dir, name))!;
    if (node.type === 'dir') continue;
    if (name.startsWith('.wh.') && node.type === 'file') remove(tree, join(dir, name.slice(4)));
    else {
      remove(tree, join(dir, name));
      tree.set(join(dir, name), node);
    }
  }
  for (const name of names) {
    const path = join(dir, name);
    if (layer.get(path)!.type !== 'dir') continue;
    const opaque = layer.get(join(path, '.wh..wh..opq'))?.type === 'file';
    if (opaque || tree.get(path)?.type !== 'dir') {
      remove(tree, path);
      tree.set(path, layer.get(path)!);
    }
    merge(tree, layer, path);
  }
}

export function modelOstree(layers: readonly (readonly Member[])[]): Model {
  const tree: Model = new Map();
  for (const [index, layer] of layers.entries()) {
    const own = ownTree(layer);
    if (index === 0) tree.set('', own.get('')!);
    merge(tree, own, '');
  }
  for (const name of ['usr/etc/hostname', 'usr/etc/resolv.conf']) {
    const node = tree.get(name);
    if (node?.type === 'file' && node.data === '') tree.delete(name);
  }
  for (const key of ['usr/etc', ...below(tree, 'usr/etc')]) {
    const node = tree.get(key);
    if (node) tree.set(key.slice('usr/'.length), node);
  }
  return tree;
}

/** oci-last-wins as composefs-rs does it. */
export function modelComposefs(layers: readonly (readonly Member[])[]): Model {
  const tree: Model = new Map([['', plainDir()]]);
  for (const member of layers.flat()) {
    const path = clean(member.name);
    if (path === '') continue;
    let node = nodeOf(member);
    if (node.type === 'hardlink') {
      const target = tree.get(clean(member.link!));
      if (!target || target.type === 'dir') throw new Refused('a hard link without target');
      node = target;
    }
    if (tree.get(parent(path))?.type !== 'dir') throw new Refused('a missing parent');
    const name = base(path);
    if (name === '.wh..wh..opq') for (const key of below(tree, parent(path)).filter(Boolean)) tree.delete(key);
    else if (name.startsWith('.wh.')) remove(tree, join(parent(path), name.slice(4)));
    else if (node.type === 'dir' && tree.get(path)?.type === 'dir') tree.set(path, node);
    else {
      remove(tree, path);
      tree.set(path, node);
    }
  }
  return tree;
}

/** A plain unpacker; paths that lead through symlinks are not in this model. */
export function modelOci(layers: readonly (readonly Member[])[]): Model {
  const tree: Model = new Map([['', plainDir()]]);
  for (const layer of layers) {
    const touched = new Set<string>();
    for (const member of layer) {
      const path = clean(member.name);
      const node = nodeOf(member);
      const dir = parent(path);
      const name = base(path);
      if (name.startsWith('.wh.')) {
        const lower = (key: string) => !touched.has(key);
        if (name === '.wh..wh..opq') for (const key of below(tree, dir).filter(lower)) tree.delete(key);
        else {
          const gone = join(dir, name.slice(4));
          for (const key of [gone, ...below(tree, gone)].filter(lower)) tree.delete(key);
        }
        continue;
      }
      for (const up of ancestors(path)) {
        if (tree.get(up)?.type === 'dir') continue;
        const above = tree.get(parent(up))!;
        const setgid = (above.mode & 0o2000) !== 0;
        const was = up === dir ? tree.get(up) : undefined;
        remove(tree, up);
        const made = { ...plainDir(), ...(setgid ? { mode: 0o2755, gid: above.gid } : {}) };
        tree.set(up, was ? { ...made, mode: was.mode, uid: was.uid, gid: was.gid } : made);
      }
      if (node.type === 'dir' && tree.get(path)?.type === 'dir') tree.set(path, node);
      else {
        remove(tree, path);
        const target = node.type === 'hardlink' ? tree.get(clean(member.link!)) : node;
        if (!target || (node.type === 'hardlink' && target.type === 'dir'))
          throw new Refused('a hard link without target');
        tree.set(path, target);
      }
      for (const key of [path, ...ancestors(path)]) touched.add(key);
    }
  }
  return tree;
}

/** /usr and /etc as lines that say the same as an `Entry`. */
export function modelLines(tree: Model): string[] {
  return [...tree]
    .filter(([path]) => /^(?:usr|etc)(?:\/|$)/.test(path))
    .map(([path, { type, mode, uid, gid, data, link }]) =>
      [`/${path}`, type, mode, uid, gid, data === undefined ? '' : sha256(data), link ?? ''].join(' '),
    )
    .sort();
}

export const NAMES: readonly ByteString[] = ['a', 'b', 'dd', '.e', '-c', '!z', 'hostname', fromUtf8('ü')];

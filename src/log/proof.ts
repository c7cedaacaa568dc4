/**
 * The Merkle tree of the log (RFC 6962 2.1; docs/log.md 2): hashes, growing, inclusion and consistency, made and checked. Sizes are whole
 * numbers below 2^53, so bits are taken by division. Splits lie at the largest power of two strictly below a size.
 */
import { sha256 } from '@noble/hashes/sha2.js';
import { BootproofError } from '#src/error.ts';

export class ProofError extends BootproofError<
  /** Index or size that no tree has, or a proof of another length than its place has. */
  | 'PROOF_SHAPE'
  /** It leads to another root. */
  | 'PROOF_ROOT'
> {}

export const HASH_BYTES = 32;

/** The tree's hashing, over a SHA-256 that may be handed in where there is a faster one. */
export type TreeHash = {
  leaf(entry: Uint8Array): Uint8Array;
  node(left: Uint8Array, right: Uint8Array): Uint8Array;
  /** The root of no entries. */
  readonly empty: Uint8Array;
};

export function treeHash(sha: (bytes: Uint8Array) => Uint8Array): TreeHash {
  return {
    leaf(entry) {
      const bytes = new Uint8Array(1 + entry.length);
      bytes.set(entry, 1);
      return sha(bytes);
    },
    node(left, right) {
      const bytes = new Uint8Array(1 + 2 * HASH_BYTES);
      bytes[0] = 1;
      bytes.set(left, 1);
      bytes.set(right, 1 + HASH_BYTES);
      return sha(bytes);
    },
    empty: sha(new Uint8Array()),
  };
}

/** With the portable SHA-256. */
export const PORTABLE: TreeHash = treeHash(sha256);

/** A whole subtree: `height` 0 is a leaf; it covers entries [index·2^height, (index+1)·2^height). */
export type TreeNode = { readonly height: number; readonly index: number };

/** Hashes of whole subtrees: out of tiles (tile.ts), a database, memory. */
export type HashReader = (node: TreeNode) => Uint8Array | Promise<Uint8Array>;

export function isSize(size: number): boolean {
  return Number.isSafeInteger(size) && size >= 0;
}

/** Largest power of two strictly below `size`, which is at least 2. */
function split(size: number): number {
  let k = 1;
  while (k * 2 < size) k *= 2;
  return k;
}

/** The whole subtrees that [from, to) consists of, left to right. `from` is a multiple of the largest of them. */
export function subtreesOf(from: number, to: number): TreeNode[] {
  const out: TreeNode[] = [];
  for (let at = from; at < to;) {
    let height = 0;
    let width = 1;
    while (width * 2 <= to - at && at % (width * 2) === 0) {
      width *= 2;
      height++;
    }
    out.push({ height, index: at / width });
    at += width;
  }
  return out;
}

/** The root above subtrees as `subtreesOf` names them; a lone right one is passed up unhashed. */
export function foldRight(hashes: readonly Uint8Array[], tree: TreeHash = PORTABLE): Uint8Array {
  let root = hashes.at(-1);
  if (root === undefined) return tree.empty;
  for (let i = hashes.length - 2; i >= 0; i--) root = tree.node(hashes[i]!, root);
  return root;
}

/** A tree as far as it takes to grow: size, and the hashes of the whole subtrees of its right edge, left to right. */
export type CompactRange = { readonly size: number; readonly hashes: readonly Uint8Array[] };

export const EMPTY_RANGE: CompactRange = { size: 0, hashes: [] };

/** The range with one more leaf. `grown` hears of each subtree that became whole, from the leaf upward: what tiles store. */
export function appendLeaf(
  { size, hashes }: CompactRange,
  leaf: Uint8Array,
  tree: TreeHash = PORTABLE,
  grown?: (node: TreeNode, hash: Uint8Array) => void,
): CompactRange {
  const next = [...hashes];
  let carry = leaf;
  let index = size;
  grown?.({ height: 0, index }, carry);
  // A carry of binary counting: each one-bit of the size is a subtree that the leaf completes.
  for (let height = 1; index % 2 === 1; height++) {
    carry = tree.node(next.pop()!, carry);
    index = (index - 1) / 2;
    grown?.({ height, index }, carry);
  }
  next.push(carry);
  return { size: size + 1, hashes: next };
}

export function rootOfRange({ hashes }: CompactRange, tree: TreeHash = PORTABLE): Uint8Array {
  return foldRight(hashes, tree);
}

/** The root of the first `size` entries. */
export async function rootAt(size: number, read: HashReader, tree: TreeHash = PORTABLE): Promise<Uint8Array> {
  must(isSize(size), `no tree has ${size} entries`);
  return rangeHash(0, size, read, tree);
}

async function rangeHash(from: number, to: number, read: HashReader, tree: TreeHash): Promise<Uint8Array> {
  const hashes: Uint8Array[] = [];
  for (const node of subtreesOf(from, to)) hashes.push(await read(node));
  return foldRight(hashes, tree);
}

/** Half-open ranges of entries whose roots make up a proof, from the leaf upward. */
type Span = readonly [from: number, to: number];

/** RFC 6962 2.1.1. */
function inclusionSpans(index: number, size: number): Span[] {
  const out: Span[] = [];
  for (let from = 0, to = size; to - from > 1;) {
    const middle = from + split(to - from);
    if (index < middle) {
      out.push([middle, to]);
      to = middle;
    } else {
      out.push([from, middle]);
      from = middle;
    }
  }
  return out.reverse();
}

/** RFC 6962 2.1.2. */
function consistencySpans(old: number, size: number): Span[] {
  const out: Span[] = [];
  let from = 0;
  let to = size;
  while (to > old) {
    const middle = from + split(to - from);
    if (old <= middle) {
      out.push([middle, to]);
      to = middle;
    } else {
      out.push([from, middle]);
      from = middle;
    }
  }
  // The old tree itself, unless it is the whole left edge: its root is known then.
  if (from !== 0) out.push([from, to]);
  return out.reverse();
}

/** The inclusion proof of entry `index` in the tree of `size`. @throws {ProofError} PROOF_SHAPE */
export async function proveInclusion(
  index: number,
  size: number,
  read: HashReader,
  tree: TreeHash = PORTABLE,
): Promise<readonly Uint8Array[]> {
  mustHold(index, size);
  const out: Uint8Array[] = [];
  for (const [from, to] of inclusionSpans(index, size)) out.push(await rangeHash(from, to, read, tree));
  return out;
}

/** The consistency proof from the tree of `old` to that of `size`; empty from no entries and from equal sizes. @throws {ProofError} PROOF_SHAPE */
export async function proveConsistency(
  old: number,
  size: number,
  read: HashReader,
  tree: TreeHash = PORTABLE,
): Promise<readonly Uint8Array[]> {
  mustGrow(old, size);
  if (old === 0) return [];
  const out: Uint8Array[] = [];
  for (const [from, to] of consistencySpans(old, size)) out.push(await rangeHash(from, to, read, tree));
  return out;
}

/** The root that the proof leads to from a leaf. @throws {ProofError} PROOF_SHAPE */
export function rootOfInclusion(
  leaf: Uint8Array,
  index: number,
  size: number,
  proof: readonly Uint8Array[],
  tree: TreeHash = PORTABLE,
): Uint8Array {
  mustHold(index, size);
  const spans = inclusionSpans(index, size);
  mustHave(proof, spans.length);
  let hash = leaf;
  for (const [i, [from]] of spans.entries())
    hash = from > index ? tree.node(hash, proof[i]!) : tree.node(proof[i]!, hash);
  return hash;
}

/** @throws {ProofError} PROOF_SHAPE, PROOF_ROOT */
export function verifyInclusion(
  leaf: Uint8Array,
  index: number,
  { size, root }: { readonly size: number; readonly root: Uint8Array },
  proof: readonly Uint8Array[],
  tree: TreeHash = PORTABLE,
): void {
  if (!sameBytes(rootOfInclusion(leaf, index, size, proof, tree), root))
    throw new ProofError('PROOF_ROOT', `entry ${index} is not in the tree of ${size} that was signed`);
}

/** That the larger tree begins with the smaller one. @throws {ProofError} PROOF_SHAPE, PROOF_ROOT */
export function verifyConsistency(
  old: { readonly size: number; readonly root: Uint8Array },
  tree: { readonly size: number; readonly root: Uint8Array },
  proof: readonly Uint8Array[],
  hashing: TreeHash = PORTABLE,
): void {
  mustGrow(old.size, tree.size);
  if (old.size === 0) {
    mustHave(proof, 0);
    if (!sameBytes(old.root, hashing.empty)) throw forked(old.size, tree.size);
    return;
  }
  const spans = consistencySpans(old.size, tree.size);
  mustHave(proof, spans.length);
  // The first span is the smallest subtree that ends where the old tree ends, or the old tree itself is.
  const whole = spans[0] === undefined || spans[0][0] >= old.size;
  let before = whole ? old.root : proof[0]!;
  let after = before;
  for (const [i, [from]] of spans.entries()) {
    if (!whole && i === 0) continue;
    const hash = proof[i]!;
    if (from >= old.size) after = hashing.node(after, hash);
    else {
      before = hashing.node(hash, before);
      after = hashing.node(hash, after);
    }
  }
  if (!sameBytes(before, old.root) || !sameBytes(after, tree.root)) throw forked(old.size, tree.size);
}

function forked(old: number, size: number): ProofError {
  return new ProofError('PROOF_ROOT', `the log of ${size} entries does not begin with the log of ${old} entries`);
}

export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

function must(holds: boolean, message: string): void {
  if (!holds) throw new ProofError('PROOF_SHAPE', message);
}
function mustHold(index: number, size: number): void {
  must(isSize(index) && isSize(size) && index < size, `no tree of ${size} has an entry ${index}`);
}
function mustGrow(old: number, size: number): void {
  must(isSize(old) && isSize(size) && old <= size, `a log of ${old} entries does not become one of ${size}`);
}
function mustHave(proof: readonly Uint8Array[], length: number): void {
  must(proof.length === length, `a proof of ${proof.length} hashes, its place has ${length}`);
  must(
    proof.every((hash) => hash.length === HASH_BYTES),
    'a hash has 32 bytes',
  );
}

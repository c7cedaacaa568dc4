/**
 * Growing the tree: what new leaves change in tiles and in the compact range of the right edge (docs/log.md). Each leaf is a carry in binary
 * counting; where the carry passes a height that is a multiple of 8, a tile of the level above grows by one hash.
 */
import assert from 'node:assert/strict';

export type NodeHash = (left: Uint8Array, right: Uint8Array) => Uint8Array;

const HASH = 32;
const TILE_BITS = 8;

/** A tile that grew: what stands in it now. */
export type GrownTile = { readonly level: number; readonly n: number; readonly hashes: Uint8Array };

export type Grown = {
  readonly size: number;
  readonly root: Uint8Array;
  readonly compact: Uint8Array;
  readonly tiles: readonly GrownTile[];
};

/** Hashes of the full subtrees of the right edge, largest first: as many as `size` has ones in binary. */
function unpack(compact: Uint8Array): Uint8Array[] {
  return Array.from({ length: compact.length / HASH }, (_, i) => compact.subarray(i * HASH, (i + 1) * HASH));
}

/** Level, and number within it, of the tile that the next hash of the level belongs to. */
function edge(size: number, level: number): { readonly n: number; readonly width: number } {
  const hashes = Math.floor(size / 256 ** level);
  return { n: Math.floor(hashes / 256), width: hashes % 256 };
}

/** The root of a compact range; `empty` for no leaves. */
export function rootOf(compact: Uint8Array, node: NodeHash, empty: Uint8Array): Uint8Array {
  const hashes = unpack(compact);
  let root = hashes.pop();
  if (root === undefined) return empty;
  for (let left = hashes.pop(); left !== undefined; left = hashes.pop()) root = node(left, root);
  return root;
}

/** `tile` reads the rightmost tile of a level where it is partial. */
export async function grow(
  from: { readonly size: number; readonly compact: Uint8Array },
  leaves: readonly Uint8Array[],
  node: NodeHash,
  empty: Uint8Array,
  tile: (level: number, n: number) => Promise<Uint8Array | undefined>,
): Promise<Grown> {
  const stack = unpack(from.compact);
  const growing = new Map<number, { n: number; hashes: Uint8Array[]; before: Uint8Array }>();
  const done: GrownTile[] = [];
  const put = async (level: number, size: number, hash: Uint8Array): Promise<void> => {
    const { n, width } = edge(size, level);
    let at = growing.get(level);
    if (at === undefined || at.n !== n) {
      const before = width === 0 ? new Uint8Array() : ((await tile(level, n)) ?? new Uint8Array()).slice();
      assert.equal(before.length, width * HASH, `tile ${level}/${n} holds what the head says`);
      at = { n, hashes: [], before };
      growing.set(level, at);
    }
    at.hashes.push(hash);
    if (width + 1 === 256) {
      done.push({ level, n, hashes: Buffer.concat([at.before, ...at.hashes]) });
      growing.delete(level);
    }
  };
  let size = from.size;
  for (const leaf of leaves) {
    let carry = leaf;
    // Bits by division: sizes may go beyond 32 bits.
    let rest = size;
    for (let height = 0; ; height++) {
      if (height % TILE_BITS === 0) await put(height / TILE_BITS, size, carry);
      if (rest % 2 === 0) break;
      carry = node(stack.pop()!, carry);
      rest = (rest - 1) / 2;
    }
    stack.push(carry);
    size++;
  }
  for (const [level, { n, hashes, before }] of growing)
    done.push({ level, n, hashes: Buffer.concat([before, ...hashes]) });
  const compact = Buffer.concat(stack);
  return { size, root: rootOf(compact, node, empty), compact, tiles: done };
}

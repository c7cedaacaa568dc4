/** Growing the tree in the store: what new leaves change in tiles and in the compact range, which lies in the head's row (docs/log.md). */
import assert from 'node:assert/strict';
import { appendLeaf, HASH_BYTES, rootOfRange, type CompactRange, type TreeHash } from '#src/log/proof.ts';
import { hashesIn, placeOf, TILE_WIDTH, widthAt } from '#src/log/tile.ts';

/** A tile that grew: what stands in it now. */
export type GrownTile = { readonly level: number; readonly n: number; readonly hashes: Uint8Array };

export type Grown = {
  readonly size: number;
  readonly root: Uint8Array;
  readonly compact: Uint8Array;
  readonly tiles: readonly GrownTile[];
};

/** `tile` reads the rightmost tile of a level where it is partial. */
export async function growTiles(
  from: { readonly size: number; readonly compact: Uint8Array },
  leaves: readonly Uint8Array[],
  tree: TreeHash,
  tile: (level: number, n: number) => Promise<Uint8Array | undefined>,
): Promise<Grown> {
  const added = new Map<string, { readonly level: number; readonly n: number; readonly hashes: Uint8Array[] }>();
  let range: CompactRange = { size: from.size, hashes: hashesIn(from.compact) };
  for (const leaf of leaves)
    range = appendLeaf(range, leaf, tree, (node, hash) => {
      const { level, n, count } = placeOf(node);
      // What is no single hash of a tile lies in no tile: it is made of those that do.
      if (count !== 1) return;
      const key = `${level}/${n}`;
      const at = added.get(key) ?? { level, n, hashes: [] };
      at.hashes.push(hash);
      added.set(key, at);
    });
  const tiles: GrownTile[] = [];
  for (const { level, n, hashes } of added.values()) {
    const width = widthAt({ level, n }, from.size);
    const before = width === 0 ? new Uint8Array() : ((await tile(level, n)) ?? new Uint8Array());
    assert.equal(before.length, width * HASH_BYTES, `tile ${level}/${n} holds what the head says`);
    assert(width + hashes.length <= TILE_WIDTH);
    tiles.push({ level, n, hashes: Buffer.concat([before, ...hashes]) });
  }
  return { size: range.size, root: rootOfRange(range, tree), compact: Buffer.concat(range.hashes), tiles };
}

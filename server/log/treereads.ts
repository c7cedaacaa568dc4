/** Reading the log's tree: proofs and roots out of its tiles, of which those that were read lately are kept at hand. */
import { hash } from 'node:crypto';
import { LOG_PROOFS_KEPT, LOG_TILES_KEPT } from '#src/limits.ts';
import { proveConsistency, proveInclusion, rootAt, treeHash, type HashReader } from '#src/log/proof.ts';
import { TileError, tileHashes } from '#src/log/tile.ts';
import { HASH_BYTES } from '#src/log/proof.ts';
import { Lru } from '#server/lru.ts';
import type { Store } from '#server/store/store.ts';

/** The tree's hashing by Node's own SHA-256. */
export const TREE = treeHash((bytes) => hash('sha256', bytes, 'buffer'));

export class TreeReads {
  readonly #store: Pick<Store, 'log'>;
  readonly #tiles = new Lru<string, Uint8Array>(LOG_TILES_KEPT);
  readonly #proofs = new Lru<string, Promise<readonly Uint8Array[]>>(LOG_PROOFS_KEPT);

  constructor(store: Pick<Store, 'log'>) {
    this.#store = store;
  }

  /** Hashes of a tile, as many as asked for; undefined where there are not so many. */
  async tile(log: number, level: number, n: number, width: number): Promise<Uint8Array | undefined> {
    const key = `${log}/${level}/${n}`;
    // A tile only grows, so any of its beginnings that is long enough will do.
    let bytes = this.#tiles.get(key);
    if (bytes === undefined || bytes.length < width * HASH_BYTES) {
      bytes = await this.#store.log.tile(log, level, n);
      if (bytes === undefined || bytes.length < width * HASH_BYTES) return undefined;
      this.#tiles.set(key, bytes);
    }
    return bytes.subarray(0, width * HASH_BYTES);
  }

  hashes(log: number, size: number): HashReader {
    return tileHashes(
      size,
      async ({ level, n, width }) => (await this.tile(log, level, n, width)) ?? new Uint8Array(),
      TREE,
    );
  }

  /** Root of the first `size` entries, as the tiles say; undefined where some are not there. */
  async rootAt(log: number, size: number): Promise<Uint8Array | undefined> {
    try {
      return await rootAt(size, this.hashes(log, size), TREE);
    } catch (error) {
      if (error instanceof TileError) return undefined;
      throw error;
    }
  }

  /** Asked for by many hosts at the same two sizes: made once. @throws {TileError} where the store lost a tile. */
  consistency(log: number, old: number, size: number): Promise<readonly Uint8Array[]> {
    const key = `${log}/${old}/${size}`;
    let proof = this.#proofs.get(key);
    if (proof === undefined) {
      proof = proveConsistency(old, size, this.hashes(log, size), TREE);
      this.#proofs.set(key, proof);
      proof.catch(() => this.#proofs.delete(key));
    }
    return proof;
  }

  inclusion(log: number, index: number, size: number): Promise<readonly Uint8Array[]> {
    return proveInclusion(index, size, this.hashes(log, size), TREE);
  }
}

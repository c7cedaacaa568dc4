/**
 * fs-verity digests of an image's files, computed from their bytes (Linux, Documentation/filesystems/fsverity.rst, "Merkle tree" and "fs-verity
 * descriptor"): SHA-256, blocks of 4096 bytes, no salt, as ostree and mkcomposefs enable it. Held to fsverity-utils by test/vectors/verity.
 */
import { hash } from 'node:crypto';
import type { VerityDigests } from '#src/manifest/verity.ts';
import type { Keep, Sink } from './keep.ts';

const BLOCK = 4096;
const DIGEST = 32;

const sha256 = (data: Uint8Array): Buffer => hash('sha256', data, 'buffer');

/** One level of the tree: a block that is being filled with digests of the blocks below. */
type Level = { readonly block: Buffer; fill: number };

/** The fs-verity digest of a file whose bytes come in pieces; memory does not grow with the file. */
export class VerityHash {
  readonly #levels: Level[] = [];
  readonly #rest = Buffer.alloc(BLOCK);
  #held = 0;
  #size = 0;

  write(data: Uint8Array): void {
    this.#size += data.length;
    let at = 0;
    if (this.#held > 0) {
      at = Math.min(BLOCK - this.#held, data.length);
      this.#rest.set(data.subarray(0, at), this.#held);
      this.#held += at;
      if (this.#held < BLOCK) return;
      this.#held = 0;
      this.#add(0, sha256(this.#rest));
    }
    for (; data.length - at >= BLOCK; at += BLOCK) this.#add(0, sha256(data.subarray(at, at + BLOCK)));
    this.#rest.set(data.subarray(at), 0);
    this.#held = data.length - at;
  }

  /** In hex. Nothing can be written afterwards. */
  digest(): string {
    if (this.#held > 0) this.#add(0, sha256(this.#rest.fill(0, this.#held)));
    const descriptor = Buffer.alloc(256);
    descriptor[0] = 1; // version
    descriptor[1] = 1; // FS_VERITY_HASH_ALG_SHA256
    descriptor[2] = Math.log2(BLOCK);
    descriptor.writeBigUInt64LE(BigInt(this.#size), 8);
    // Of an empty file the root is zeros.
    this.#root()?.copy(descriptor, 16);
    return hash('sha256', descriptor, 'hex');
  }

  #add(index: number, digest: Uint8Array): void {
    const level = (this.#levels[index] ??= { block: Buffer.alloc(BLOCK), fill: 0 });
    level.block.set(digest, level.fill);
    level.fill += DIGEST;
    if (level.fill < BLOCK) return;
    level.fill = 0;
    this.#add(index + 1, sha256(level.block));
  }

  #root(): Buffer | undefined {
    for (let index = 0; index < this.#levels.length; index++) {
      const { block, fill } = this.#levels[index]!;
      const isTop = index === this.#levels.length - 1;
      if (isTop && fill === DIGEST) return block.subarray(0, DIGEST);
      if (fill > 0) this.#add(index + 1, sha256(block.fill(0, fill)));
    }
    return undefined;
  }
}

/** The fs-verity digest of bytes that are at hand, in hex. */
export function verityDigest(bytes: Uint8Array): string {
  const sum = new VerityHash();
  sum.write(bytes);
  return sum.digest();
}

/**
 * Takes each file of an image as it comes by, and tells the fs-verity digest of each content. Empty files have none on any host, and those that an
 * archive holds with holes are not told: hosts read both.
 */
export class VerityKeep implements Keep {
  readonly #found = new Map<string, string>();

  open(_layer: number, _name: string, size: number): Sink | undefined {
    if (size === 0) return undefined;
    const sum = new VerityHash();
    return {
      write: (data) => sum.write(data),
      end: (content) => void (this.#found.has(content) || this.#found.set(content, sum.digest())),
    };
  }

  /** SHA-256 of contents and their fs-verity digests. */
  get found(): VerityDigests {
    return this.#found;
  }
}

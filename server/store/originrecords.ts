/** What passes between the store and those who ask where a file comes from. */
import type { Instant } from '#src/clock.ts';

/** What is kept of an image besides its manifests. */
export type ImageOrigin = {
  /** JSON of `OriginsJson` (src/image/origins.ts) in zstd; null for an image that was built before that was kept. */
  readonly origins: Uint8Array | null;
  /** How many contents it has; null while they are not looked through. */
  readonly contents: number | null;
  /** Why it could not be built again, when somebody asked for that. */
  readonly failure: string | null;
};

export interface ImageOrigins {
  get(image: string): Promise<ImageOrigin | undefined>;
  /** Marks of contents by shard (src/manifest/contents.ts), and where paths come from; `origins` null leaves what stands. */
  put(
    image: string,
    kept: {
      readonly origins: Uint8Array | null;
      readonly shards: readonly Uint8Array[];
      readonly contents: number;
    },
    at: Instant,
  ): Promise<void>;
  /** An image could not be built again. */
  failed(image: string, failure: string, at: Instant): Promise<void>;
  /** Images with the marks of one shard, at most `limit`, by digest. */
  shard(shard: number, limit: number): Promise<readonly { readonly image: string; readonly marks: Uint8Array }[]>;
  /** Groups with a present finding of a content (SHA-256 in hex, whole or its beginning), at most `limit`. */
  groups(sha256: string, limit: number): Promise<readonly string[]>;
  /** Ready images whose contents are not looked through, at most `limit`. */
  unseen(limit: number): Promise<readonly string[]>;
}

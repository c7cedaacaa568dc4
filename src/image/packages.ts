/** Packages and their files, whichever package manager installed them. */
import type { ByteString } from '#src/bytes.ts';

/** A package as its manager names it; `version` with epoch and release. */
export type Package = { readonly name: string; readonly version: string; readonly arch: string };

/** A package with its paths: file `i` is `names[i]` in `dirs[dirOf[i]]`. */
export type PackageFiles = Package & {
  readonly dirs: readonly ByteString[];
  readonly dirOf: ArrayLike<number>;
  readonly names: readonly ByteString[];
  /** Whether the file was installed, and is not another package's by now. */
  readonly isOwned: (file: number) => boolean;
  /** The first 48 bits of each file's SHA-256, NaN where it has none; undefined where the database has no such digests. */
  readonly marks: Float64Array | undefined;
};

/** The first 48 bits of a SHA-256 in hex, which a number holds exactly; NaN where there is none. */
export function markOf(sha256: string): number {
  return /^[0-9a-f]{64}$/.test(sha256) ? Number.parseInt(sha256.slice(0, 12), 16) : Number.NaN;
}

/** One layer: blob bytes → decompressed to the last byte, diffID, and the compact list of its tar entries. */
import { createHash } from 'node:crypto';
import { BootproofError } from '#src/error.ts';
import type { Digest } from '#src/digest.ts';
import { IMAGE_LIMITS, type ImageLimits } from '#src/limits.ts';
import { decompress, DecompressError, type Compression } from './decompress.ts';
import type { Keep } from './keep.ts';
import { TarReader } from './tar.ts';
import type { TarEntry } from './tarentry.ts';
import { TarError, type TarCode } from './tarheader.ts';

/** Refusals of a layer that no backend can read; the message names layer and entry. Codes: docs/errors.md, "Image refusals". */
export class ImageError extends BootproofError<
  TarCode | DecompressError['code'] | 'LAYER_MEDIA_TYPE' | 'LIMIT_BYTES' | 'LIMIT_RATIO'
> {}

/** What the image manifest and configuration say of a layer. */
export type LayerSource = {
  /** From 0. */
  readonly index: number;
  readonly digest: Digest;
  /** The descriptor's media type: says how the layer is compressed. */
  readonly mediaType: string;
  /** The configuration's `rootfs.diff_ids[index]`, if it has one. */
  readonly diffId: Digest | undefined;
};

/** A layer that was read once; serves every rule. */
export type Layer = {
  readonly index: number;
  readonly digest: Digest;
  readonly mediaType: string;
  readonly compression: Compression;
  /** SHA-256 of all that the blob decompresses to, as computed. */
  readonly diffId: Digest;
  /** What the configuration said it would be. */
  readonly declaredDiffId: Digest | undefined;
  /** Decompressed bytes. */
  readonly bytes: number;
  readonly entries: readonly TarEntry[];
  /** Where the first gzip member or zstd frame ends, if others with content follow: some importers read no further. */
  readonly first: { readonly entries: number; readonly between: boolean } | undefined;
  /** The archive ends with one zero block instead of two or none. */
  readonly halfEnd: boolean;
};

/** What a rule needs of the image besides its layers. */
export type ImageFacts = {
  /** The configuration's `config.Labels`. */
  readonly labels: ReadonlyMap<string, string>;
  /** The configuration's `rootfs.diff_ids`. */
  readonly diffIds: readonly Digest[];
  /** Docker schema 2 media types inside an OCI layout or archive: composefs-rs and umoci refuse these (merge errata 20). */
  readonly dockerInLayout: boolean;
};

// image-spec, media-types.md and layer.md; Docker's image manifest version 2, schema 2.
const MEDIA_TYPES = new Map<string, Compression>([
  ['application/vnd.oci.image.layer.v1.tar', 'none'],
  ['application/vnd.oci.image.layer.v1.tar+gzip', 'gzip'],
  ['application/vnd.oci.image.layer.v1.tar+zstd', 'zstd'],
  ['application/vnd.oci.image.layer.nondistributable.v1.tar', 'none'],
  ['application/vnd.oci.image.layer.nondistributable.v1.tar+gzip', 'gzip'],
  ['application/vnd.oci.image.layer.nondistributable.v1.tar+zstd', 'zstd'],
  ['application/vnd.docker.image.rootfs.diff.tar', 'none'],
  ['application/vnd.docker.image.rootfs.diff.tar.gzip', 'gzip'],
  ['application/vnd.docker.image.rootfs.diff.tar.zstd', 'zstd'],
  ['application/vnd.docker.image.rootfs.foreign.diff.tar', 'none'],
  ['application/vnd.docker.image.rootfs.foreign.diff.tar.gzip', 'gzip'],
]);

/**
 * Reads a layer's blob to its end. The caller verifies digest and size of `blob` (src/source/verified.ts): an error that the
 * iterable throws passes through. Memory does not grow with the size of files, only with the number of entries.
 * @throws {ImageError} for what no program reads, or what goes beyond `limits`.
 */
export async function readLayer(
  source: LayerSource,
  blob: AsyncIterable<Uint8Array>,
  limits: ImageLimits = IMAGE_LIMITS,
  keep?: Keep,
): Promise<Layer> {
  const { index, digest, mediaType } = source;
  const compression = MEDIA_TYPES.get(mediaType);
  if (compression === undefined)
    throw new ImageError(
      'LAYER_MEDIA_TYPE',
      `layer ${index} (${digest}): ${JSON.stringify(mediaType.slice(0, 100))} is not a media type of layers`,
    );
  const tar = new TarReader(index, limits, keep);
  const hash = createHash('sha256');
  let compressed = 0;
  let bytes = 0;
  let first: { entries: number; between: boolean } | undefined;

  async function* counted(): AsyncGenerator<Uint8Array> {
    for await (const chunk of blob) {
      compressed += chunk.length;
      yield chunk;
    }
  }
  const refuse = (code: ImageError['code'], message: string, cause?: Error): ImageError =>
    new ImageError(code, `layer ${index} (${digest}): ${tar.where}: ${message}`, { cause });

  try {
    const firstEnd = () => (first = { entries: tar.entries.length, between: tar.atBoundary });
    for await (const chunk of decompress(counted(), compression, firstEnd)) {
      bytes += chunk.length;
      if (bytes > limits.layerBytes)
        throw refuse('LIMIT_BYTES', `more than ${limits.layerBytes} bytes when decompressed`);
      if (bytes > limits.layerRatioFrom && bytes > compressed * limits.layerRatio)
        throw refuse(
          'LIMIT_RATIO',
          `${compressed} bytes became ${bytes}: more than ${limits.layerRatio} times as many`,
        );
      hash.update(chunk);
      tar.write(chunk);
    }
    tar.end();
  } catch (error) {
    if (error instanceof TarError || error instanceof DecompressError) throw refuse(error.code, error.message, error);
    throw error;
  }
  return {
    index,
    digest,
    mediaType,
    compression,
    diffId: `sha256:${hash.digest('hex')}` as Digest,
    declaredDiffId: source.diffId,
    bytes,
    entries: tar.entries,
    first,
    halfEnd: tar.halfEnd,
  };
}

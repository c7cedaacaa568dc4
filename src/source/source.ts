/** Where images lie: one interface over registries, OCI layouts and archives. */
import type { Digest } from '#src/digest.ts';

/** An OCI content descriptor (image-spec, descriptor.md), as far as we use it. */
export type Descriptor = {
  readonly mediaType: string;
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
  readonly annotations?: Readonly<Record<string, string>>;
};

/**
 * A source answers what it is asked, as bytes; it is not believed. `src/source/verified.ts` checks digest and size
 * of everything that comes from one, to the last byte.
 */
export interface Source {
  /** For messages: `docker://quay.io/x/y`, `oci:/srv/layout`. Never holds credentials. */
  readonly name: string;
  /** The bytes of the manifest or index under a tag or digest, with the media type that was told. */
  manifest(tagOrDigest: string): Promise<{ readonly bytes: Uint8Array; readonly mediaType: string | undefined }>;
  /** The bytes of a blob. The iterable must be read to its end or returned. */
  blob(descriptor: Descriptor): Promise<AsyncIterable<Uint8Array>>;
}

/** Where images lie: one interface over registries, OCI layouts and archives. */
import type { Digest } from '#src/digest.ts';
import { BootproofError } from '#src/error.ts';
import type { Descriptor } from '#src/image/ocimanifest.ts';

export type { Descriptor };

/** A manifest or index as a source hands it out. */
export type FoundManifest = {
  readonly bytes: Uint8Array;
  /** The media type that was told for it. */
  readonly mediaType: string | undefined;
  /** What the source's own index says it is: then it must be that. Registries say it of a tag only in a header, which proves nothing. */
  readonly claimed: { readonly digest: Digest; readonly size: number } | undefined;
};

/**
 * A source answers what it is asked, as bytes; it is not believed. `src/source/verified.ts` checks digest and size
 * of everything that comes from one, to the last byte.
 */
export interface Source {
  /** For messages: `docker://quay.io/x/y`, `oci:/srv/layout`. Never holds credentials. */
  readonly name: string;
  /** Whether image-spec's media types alone are read there by every importer (merge errata 20). */
  readonly kind: 'registry' | 'layout';
  /** The manifest or index under a tag or digest. Without either: the tag `latest` of a registry, the only image of a layout. */
  manifest(tagOrDigest?: string): Promise<FoundManifest>;
  /** The bytes of a blob, opened when the reading begins. Each chunk belongs to who reads it. */
  blob(descriptor: Pick<Descriptor, 'digest' | 'size'>): AsyncIterable<Uint8Array>;
}

/** What a source says refers to a manifest (image-spec, `subject`). Hints: each is opened, checked, and its subject compared. */
export type Referrers = {
  /** Whether the source can be asked so; a registry without the API keeps a tag instead (distribution-spec, referrers tag schema). */
  readonly supported: boolean;
  readonly listed: readonly ListedReferrer[];
  /** Manifests that stand beside the image and are about it without saying so: what `cosign save` marks as signatures. */
  readonly attached: readonly ListedReferrer[];
  /** False where there were more than are looked at. */
  readonly complete: boolean;
};
export type ListedReferrer = Pick<Descriptor, 'digest' | 'size'> & {
  /** Some registries tell the configuration's type here, some nothing: good for an order, never for a choice. */
  readonly artifactType: string | undefined;
};

/** A source that can also be asked what refers to a manifest. */
export interface SignatureSource extends Source {
  referrers(digest: Digest): Promise<Referrers>;
}

/** What a source refused, or what it answered and should not have. Codes: docs/errors.md, "Source refusals". */
export class SourceError extends BootproofError<
  | 'SOURCE_NOT_FOUND'
  | 'SOURCE_UNAUTHORIZED'
  | 'SOURCE_UNAVAILABLE'
  | 'SOURCE_NETWORK'
  | 'SOURCE_ABORTED'
  | 'SOURCE_ANSWER'
  | 'SOURCE_REDIRECT'
  | 'SOURCE_ADDRESS'
  | 'SOURCE_PLAIN_HTTP'
  | 'LAYOUT_SYNTAX'
  | 'LAYOUT_AMBIGUOUS'
  | 'ARCHIVE_SYNTAX'
  | 'ARCHIVE_COMPRESSED'
  | 'CREDENTIALS_SYNTAX'
  | 'CREDENTIALS_FILE'
  | 'BLOB_SIZE'
  | 'BLOB_DIGEST'
  | 'IMAGE_LIMIT'
> {}

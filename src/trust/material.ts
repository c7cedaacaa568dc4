/**
 * The one shape into which every format of signature is brought (docs/trust.md 2): what was signed, by which signature, with which
 * certificate, log entries and timestamps. Nothing in it is verified; verify.ts does that.
 */
import type { TransparencyLogEntry } from '@sigstore/bundle';
import type { Digest } from '#src/digest.ts';
import { BootproofError } from '#src/error.ts';

/** In which form a signature was found; what a host that enforces containers policy can read is `cosign-signature` alone. */
export type Format = 'cosign-signature' | 'cosign-attestation' | 'cosign-oci11' | 'bundle';

/** Where a signature was found. */
export type Place = {
  /** The source: `docker://host/repository`, `oci:DIR`, a file. */
  readonly source: string;
  /** A tag of cosign's, a listed referrer, the fallback tag of referrers, a place inside a layout, or a file of its own. */
  readonly by: 'tag' | 'referrer' | 'referrers-tag' | 'layout' | 'file';
  /** The tag, where it was one. */
  readonly tag: string | undefined;
  /** Whose signatures were asked for: the image's own manifest, or an index that holds it. */
  readonly of: Digest | undefined;
  /** The manifest that carries it, and which of its layers. */
  readonly manifest: Digest | undefined;
  readonly layer: number;
};

/** The bytes as they were received: what is kept as evidence, and what reading them again gives the same entity from. */
export type Raw = { readonly manifest: Uint8Array | undefined; readonly blob: Uint8Array };

/** A simple signing payload (containers-signature(5)), strictly read. */
export type SimpleSigning = {
  readonly digest: Digest;
  /** The name under which it was signed: `host/path`, with a tag where skopeo wrote it. */
  readonly dockerReference: string;
  readonly optional: ReadonlyMap<string, unknown>;
};

/** One digest of a subject, by its algorithm's in-toto name (`sha256`), in hex. */
export type SubjectDigest = { readonly algorithm: string; readonly hex: string };

/** An in-toto statement, v0.1 or v1, strictly read as far as verification needs it. */
export type Statement = {
  readonly subjects: readonly (readonly SubjectDigest[])[];
  readonly predicateType: string;
  /** The whole document as parsed, for conditions over the predicate. */
  readonly json: Readonly<Record<string, unknown>>;
};

/** What a signature was made over. */
export type Signed =
  | { readonly kind: 'simple-signing'; readonly payload: Uint8Array; readonly claims: SimpleSigning }
  | {
      readonly kind: 'statement';
      readonly payloadType: string;
      readonly payload: Uint8Array;
      readonly statement: Statement;
    }
  /** The bytes of the artifact itself; the bundle tells only their digest. */
  | { readonly kind: 'message'; readonly digest: SubjectDigest };

/** What a signature says of its maker. A hint is only a hint. */
export type SignedBy =
  | { readonly kind: 'certificate'; readonly der: Uint8Array }
  | { readonly kind: 'key'; readonly hint: string };

export type Material = {
  readonly signed: Signed;
  readonly signature: Uint8Array;
  readonly by: SignedBy;
  readonly entries: readonly TransparencyLogEntry[];
  /** RFC 3161 responses in DER, and what else than the signature they may have stamped (facts of cosign 2: the envelope). */
  readonly timestamps: readonly Uint8Array[];
  readonly stampedInstead: Uint8Array | undefined;
};

/** Why a signature did not count. Stable; docs/errors.md, "Signatures". */
export type TrustCode =
  | 'NO_SIGNATURE'
  | 'MALFORMED'
  | 'TOO_MANY'
  | 'WRONG_KIND'
  | 'WRONG_PREDICATE'
  | 'WRONG_DIGEST'
  | 'WRONG_REFERENCE'
  | 'WRONG_KEY'
  | 'WRONG_HASH'
  | 'BAD_SIGNATURE'
  | 'UNSUPPORTED_ALGORITHM'
  | 'UNUSABLE_KEY'
  | 'NO_TRUST_ROOT'
  | 'NO_CERTIFICATE'
  | 'UNTRUSTED_CHAIN'
  | 'CERTIFICATE_USAGE'
  | 'OUTSIDE_VALIDITY'
  | 'NO_SCT'
  | 'NO_TIMESTAMP'
  | 'BROKEN_TIMESTAMP'
  | 'FUTURE_TIMESTAMP'
  | 'NO_LOG_ENTRY'
  | 'UNKNOWN_LOG'
  | 'BROKEN_INCLUSION'
  | 'LOG_ENTRY_MISMATCH'
  | 'UNSUPPORTED_LOG_ENTRY'
  | 'WRONG_IDENTITY'
  | 'WRONG_ISSUER'
  | 'DENIED';

/** Inside this room a failed check throws; `verifySignature` and the readers turn it into a value. */
export class TrustError extends BootproofError<TrustCode> {}

export type Failed = { readonly kind: 'failed'; readonly code: TrustCode; readonly message: string };

/** Something that claims to be a signature, read or not. */
export type SignedEntity = {
  readonly format: Format;
  readonly place: Place;
  readonly raw: Raw;
  readonly content: Material | Failed;
};

/** Whether an entity could be read at all. */
export function isMaterial(content: Material | Failed): content is Material {
  return !('kind' in content);
}

/** Runs what reads hostile bytes: every refusal and every surprise of a parser becomes a value, none escapes and none accepts. */
export function orFailed<T>(what: string, act: () => T): T | Failed {
  try {
    return act();
  } catch (error) {
    return failedBy(what, error);
  }
}

/** The value that a thrown error stands for; whatever is not one of our refusals is malformed input (docs/trust.md 3.11). */
export function failedBy(what: string, error: unknown): Failed {
  if (error instanceof TrustError) return { kind: 'failed', code: error.code, message: error.message };
  const name = error instanceof Error ? error.name : typeof error;
  // The text of a foreign parser may quote what it parsed: only its class is told.
  return { kind: 'failed', code: 'MALFORMED', message: `${what} cannot be read (${name.slice(0, 60)})` };
}

/** What passes between the store and those who find out who signed an image (docs/provenance.md). */
import type { Instant } from '#src/clock.ts';
import type { Digest } from '#src/digest.ts';
import type { Format, Place } from '#src/trust/material.ts';

/** What a result was reached under, by digests: another one of them means to judge again. */
export type TrustBasis = { readonly policy: Digest; readonly roots: Digest; readonly deny: Digest };

/** `not-assessed`: the image policy says nothing of this image. */
export type TrustState = 'trusted' | 'unsigned' | 'rejected' | 'unverifiable' | 'not-assessed';

/** A signature whose bytes are kept: keys of blobs. Reading them again gives what was judged. */
export type KeptSignature = {
  readonly format: Format;
  readonly place: Place;
  /** The manifest that carries it; null for a file of its own. */
  readonly manifest: Digest | null;
  readonly blob: Digest;
};

export type LastGood = {
  readonly state: Exclude<TrustState, 'unverifiable'>;
  /** When it was last judged so. */
  readonly at: Instant;
  readonly basis: TrustBasis;
  /** A JSON value, as `ImageTrust.told`. */
  readonly told: unknown;
};

export type ImageTrust = {
  /** Manifest digest. */
  readonly image: string;
  /** Rises with each write: the precondition of the next, and what hosts remember of it. */
  readonly revision: number;
  readonly basis: TrustBasis;
  readonly state: TrustState;
  /** When this state began. */
  readonly since: Instant;
  /** When it was last judged. */
  readonly verifiedAt: Instant;
  /** When every place last answered; null where that never happened. */
  readonly lookedAt: Instant | null;
  /** Since when a place does not answer; null where all did. */
  readonly unreachableSince: Instant | null;
  /** Since when a signature that verified is gone from where it lay. */
  readonly vanishedAt: Instant | null;
  /** What was found, where, and why it counts or not: a JSON value, bounded by who writes it. */
  readonly told: unknown;
  readonly kept: readonly KeptSignature[];
  /** Blobs of indexes that list the image. */
  readonly indexes: readonly Digest[];
  /** The newest result that was reached with every place answering, while it is another than this one. */
  readonly lastGood: LastGood | null;
};

/** Something that no longer counts although it verifies. */
export type Denial = {
  /** Of what is denied: the same thing is on the list once. */
  readonly id: string;
  /** A JSON value that the caller parses. */
  readonly entry: unknown;
  readonly createdAt: Instant;
  readonly createdBy: string;
};

/** What passes between the store and those who show texts of /etc files. */
import type { Instant } from '#src/clock.ts';
import type { Omission } from '#src/drift/contents.ts';

/** Texts of an image's /etc files by content; both sides of a difference come from elsewhere than the image's manifest says them. */
export interface ImageTexts {
  /** Texts (zstd) by their SHA-256 in hex, and why contents of the image are not among them. What is there stays. */
  put(
    image: string,
    kept: {
      readonly texts: readonly { readonly sha256: string; readonly bytes: Uint8Array }[];
      readonly omitted: readonly (readonly [sha256: string, why: Omission])[];
    },
    at: Instant,
  ): Promise<void>;
  /** A text (zstd); undefined where none is kept. */
  text(sha256: string): Promise<Uint8Array | undefined>;
  /** Why an image's content is not kept: `unread` for an image that was built before texts were, undefined where nothing is known. */
  why(image: string, sha256: string): Promise<Omission | 'unread' | undefined>;
}

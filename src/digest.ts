/** Content digests as OCI writes them (image-spec, descriptor.md#digests). Only sha256, only lower case. */
import { sha256 } from '@noble/hashes/sha2.js';
import { toHex } from '#src/bytes.ts';
import { BootproofError } from '#src/error.ts';

declare const digest: unique symbol;
/** `sha256:` and 64 lower-case hex digits. */
export type Digest = string & { readonly [digest]: true };

export class DigestError extends BootproofError<'DIGEST_SYNTAX' | 'DIGEST_ALGORITHM'> {}

/** @throws {DigestError} for every spelling but one. */
export function parseDigest(text: string): Digest {
  const algorithm = /^([a-z0-9+._-]+):/.exec(text)?.[1];
  // Others are legal in OCI, but then the tree digest would not be what `sha256sum` prints.
  if (algorithm !== undefined && algorithm !== 'sha256')
    throw new DigestError('DIGEST_ALGORITHM', `expected sha256, got ${algorithm.slice(0, 40)}`);
  // Upper case is refused, not folded: one content, one spelling.
  if (!isDigest(text))
    throw new DigestError(
      'DIGEST_SYNTAX',
      `expected sha256:<64 lower-case hex>, got ${JSON.stringify(text.slice(0, 80))}`,
    );
  return text;
}

export function isDigest(text: string): text is Digest {
  return /^sha256:[0-9a-f]{64}$/.test(text);
}

/** SHA-256 in lower-case hex, of bytes or of ASCII text. Handed in where texts are large, so that Node can use its own. */
export type Sha256 = (data: string | Uint8Array) => string;

/** The portable `Sha256`: runs in a browser, fit for a few kilobytes. */
export const sha256Hex: Sha256 = (data) =>
  toHex(sha256(typeof data === 'string' ? new TextEncoder().encode(data) : data));

/** The digest of `data`, with the given SHA-256 or the portable one. */
export function digestOf(data: string | Uint8Array, hash: Sha256 = sha256Hex): Digest {
  return `sha256:${hash(data)}` as Digest;
}

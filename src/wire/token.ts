/**
 * Enrolment tokens, `bp1.<id>.<secret>.<server key fingerprint>` (docs/report.md 6.1). The secret is the seed of an Ed25519 key: the
 * server keeps its public half alone, and the secret itself never travels.
 */
import { BootproofError } from '#src/error.ts';
import { base32 } from './hostid.ts';

export class TokenError extends BootproofError<'TOKEN_SYNTAX'> {}

export type Token = {
  /** Names the token, 16 characters of base32; public. */
  readonly id: string;
  /** Seed of the token's key, 32 bytes. */
  readonly seed: Uint8Array;
  /** Fingerprint of the server's key, 64 hex digits (docs/report.md 2.7). */
  readonly serverFingerprint: string;
};

/** How a token's id looks: for schemas. */
export const TOKEN_ID = /^[a-z2-7]{16}$/;

/** A new token from 42 random bytes: 10 for the id, 32 for the seed. */
export function tokenFrom(random: Uint8Array, serverFingerprint: string): Token {
  return { id: base32(random.subarray(0, 10)), seed: random.slice(10, 42), serverFingerprint };
}

export function printToken({ id, seed, serverFingerprint }: Token): string {
  return `bp1.${id}.${toBase64Url(seed)}.${serverFingerprint}`;
}

/** @throws {TokenError} for every spelling but one. The message never shows the token. */
export function parseToken(text: string): Token {
  const match = /^bp1\.([a-z2-7]{16})\.([A-Za-z0-9_-]{43})\.([0-9a-f]{64})$/.exec(text);
  const [, id = '', secret = '', serverFingerprint = ''] = match ?? [];
  const seed = match === null ? undefined : fromBase64Url(secret);
  if (seed === undefined)
    throw new TokenError(
      'TOKEN_SYNTAX',
      'not an enrolment token: expected bp1.<id>.<secret>.<fingerprint>, as `bootproof tokens create` printed it, whole and on one line',
    );
  return { id, seed, serverFingerprint };
}

/** base64url without padding (RFC 4648 section 5). */
export function toBase64Url(bytes: Uint8Array): string {
  return bytes.toBase64({ alphabet: 'base64url', omitPadding: true });
}

/** Undefined for every spelling that `toBase64Url` would not have written. */
export function fromBase64Url(text: string): Uint8Array | undefined {
  try {
    const bytes = Uint8Array.fromBase64(text, { alphabet: 'base64url' });
    return toBase64Url(bytes) === text ? bytes : undefined;
  } catch {
    return undefined; // the decoder's only failure is "not base64url", which is the answer
  }
}

/**
 * API tokens: `bp_`, 40 random characters, and 6 of a checksum over both, all of [0-9A-Za-z]. Scanners of source code find them by
 * `bp_[0-9A-Za-z]{46}` and know by the checksum that it is no accident. What is kept is the hash.
 */
import { crc32 } from 'node:zlib';
import { hashToken } from './token.ts';

const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const SHAPE = /^bp_[0-9A-Za-z]{46}$/;
const RANDOM = 40;

/** A new token (238 bits of chance), and the hash that is kept of it. */
export function newApiToken(random: (bytes: number) => Uint8Array): { readonly token: string; readonly hash: string } {
  let body = 'bp_';
  // Of a byte the values below 248 = 4 × 62 are used: each character is as likely as any other.
  while (body.length < 3 + RANDOM)
    for (const byte of random(RANDOM)) if (byte < 248 && body.length < 3 + RANDOM) body += ALPHABET[byte % 62]!;
  const token = body + checksum(body);
  return { token, hash: hashToken(token) };
}

/** The hash under which a token is kept; undefined for what is none, which a slip of the keyboard is too. */
export function apiTokenHash(token: string): string | undefined {
  if (!SHAPE.test(token) || checksum(token.slice(0, -6)) !== token.slice(-6)) return undefined;
  return hashToken(token);
}

/** CRC-32 of the text before it, six digits to the base 62. */
function checksum(text: string): string {
  let rest = crc32(text);
  let out = '';
  for (let at = 0; at < 6; at++, rest = Math.floor(rest / 62)) out = ALPHABET[rest % 62]! + out;
  return out;
}

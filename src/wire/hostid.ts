/** Host ids: `h_` and 26 characters of base32 in lower case (RFC 4648 alphabet), from 16 random bytes handed in. */
import { z } from 'zod';

/** A host's name between programs; says nothing of the machine. */
export const HostId = z.string().regex(/^h_[a-z2-7]{26}$/, 'expected h_ and 26 characters of base32');

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567';

/** Base32 in lower case, without padding. */
export function base32(bytes: Uint8Array): string {
  let out = '';
  let held = 0;
  let bits = 0;
  for (const byte of bytes) {
    held = ((held << 8) | byte) & 0xfff;
    bits += 8;
    for (; bits >= 5; bits -= 5) out += ALPHABET[(held >> (bits - 5)) & 31];
  }
  return bits === 0 ? out : out + ALPHABET[(held << (5 - bits)) & 31];
}

/** A host id from 16 random bytes. */
export function hostIdFrom(random: Uint8Array): string {
  return `h_${base32(random.subarray(0, 16))}`;
}

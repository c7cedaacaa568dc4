/**
 * Ed25519 keys (RFC 8032) and what is asked of whoever signs and verifies with them. The arithmetic is handed in: a server
 * verifies in its thread pool, a browser with Web Crypto.
 */
import { fromHex, toHex } from '#src/bytes.ts';
import { sha256Hex } from '#src/digest.ts';
import { BootproofError } from '#src/error.ts';

declare const publicKey: unique symbol;
/** An Ed25519 public key: lower-case hex of its 32 bytes. Made by `parsePublicKey` alone, so never of small order. */
export type PublicKey = string & { readonly [publicKey]: true };

export class KeyError extends BootproofError<'KEY_SYNTAX' | 'KEY_WEAK'> {}

/** Whether `signature` over `message` is by `key`. Never throws for what a stranger sent: then it is just not by that key. */
export type Verify = (key: PublicKey, message: Uint8Array, signature: Uint8Array) => Promise<boolean>;

/** A private key as far as others may see it. */
export type Signer = {
  readonly publicKey: PublicKey;
  /** 64 bytes. */
  sign(message: Uint8Array): Promise<Uint8Array>;
};

/** SubjectPublicKeyInfo of Ed25519 up to the key itself (RFC 8410 section 4). */
const SPKI_HEAD = '302a300506032b6570032100';

// y of the points of order 1, 2, 4 and 8, little-endian, sign bit cleared. Under such a key one signature fits every message.
const SMALL_ORDER = new Set([
  `01${'00'.repeat(31)}`,
  `ec${'ff'.repeat(30)}7f`,
  '00'.repeat(32),
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
]);

/**
 * @throws {KeyError} KEY_SYNTAX for anything but 64 lower-case hex digits, KEY_WEAK for points of small order and for
 * coordinates that are not reduced (docs/report.md 2.4).
 */
export function parsePublicKey(text: string): PublicKey {
  if (!/^[0-9a-f]{64}$/.test(text))
    throw new KeyError('KEY_SYNTAX', 'expected an Ed25519 key as 64 lower-case hex digits');
  const bytes = fromHex(text);
  bytes[31]! &= 0x7f;
  const y = toHex(bytes);
  // 2^255 - 19 is ed ff … ff 7f: at or above it the same point has a second spelling.
  if (SMALL_ORDER.has(y) || /^(?:e[d-f]|f.)(?:ff){30}7f$/.test(y))
    throw new KeyError('KEY_WEAK', 'this Ed25519 key would accept signatures that nobody made');
  return text as PublicKey;
}

/** SubjectPublicKeyInfo in DER, 44 bytes. */
export function spkiOf(key: PublicKey): Uint8Array {
  return fromHex(SPKI_HEAD + key);
}

/** @throws {KeyError} for anything but the SubjectPublicKeyInfo of a usable Ed25519 key. */
export function publicKeyFromSpki(der: Uint8Array): PublicKey {
  const hex = toHex(der);
  if (!hex.startsWith(SPKI_HEAD))
    throw new KeyError('KEY_SYNTAX', 'expected the SubjectPublicKeyInfo of an Ed25519 key');
  return parsePublicKey(hex.slice(SPKI_HEAD.length));
}

/** SHA-256 of the SubjectPublicKeyInfo, lower-case hex (docs/report.md 2.7): what `openssl pkey -pubout -outform DER | sha256sum` prints. */
export function fingerprintOf(key: PublicKey): string {
  return sha256Hex(spkiOf(key));
}

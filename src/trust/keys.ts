/**
 * Which signature algorithms of which keys count (docs/trust.md 3.4). The table is ours, because signers and verifiers disagree: cosign
 * signs with SHA-384 under a P-384 key and with Ed25519ph under an Ed25519 key, and its own verifier refuses both by default.
 */
import { constants, createPublicKey, hash, verify, type KeyObject } from 'node:crypto';
import { ed25519ph } from '@noble/curves/ed25519.js';
import { p256, p384, p521 } from '@noble/curves/nist.js';
import { fromHex } from '#src/bytes.ts';
import { digestOf, type Digest } from '#src/digest.ts';
import { BootproofError } from '#src/error.ts';
import type { SubjectDigest } from './material.ts';
import { HASH_ALGORITHMS, type HashAlgorithm } from './requirement.ts';

export class KeyError extends BootproofError<'KEY_SYNTAX' | 'KEY_ALGORITHM'> {}

export type Key = {
  readonly object: KeyObject;
  /** SubjectPublicKeyInfo in DER. */
  readonly spki: Uint8Array;
  /** Of the SPKI: how a key is named everywhere. cosign's hint is the same in base64. */
  readonly fingerprint: Digest;
};

/** How a signature was made, e.g. `ecdsa-p256-sha256`, `ed25519ph`. */
export type Algorithm = { readonly name: string; readonly hash: HashAlgorithm };

export type SignatureCheck =
  | { readonly kind: 'good'; readonly algorithm: Algorithm }
  /** Good, but with another digest algorithm than the one asked for. */
  | { readonly kind: 'other-hash'; readonly algorithm: Algorithm }
  | { readonly kind: 'unsupported'; readonly what: string }
  | { readonly kind: 'bad' };

const CURVES = new Map([
  ['prime256v1', { name: 'p256', noble: p256, usual: ['sha256'] }],
  ['secp384r1', { name: 'p384', noble: p384, usual: ['sha384', 'sha256'] }],
  ['secp521r1', { name: 'p521', noble: p521, usual: ['sha512', 'sha256'] }],
] as const);

/** RFC 8017 keys below this are breakable; containers/image and cosign make none. */
const RSA_BITS_MIN = 2048;

/** One public key in PEM. @throws {KeyError} KEY_SYNTAX, KEY_ALGORITHM */
export function readKey(pem: string): Key {
  const blocks = pem.match(/-----BEGIN [A-Z0-9 ]+-----/g) ?? [];
  if (blocks.length !== 1 || !/^-----BEGIN (?:RSA )?PUBLIC KEY-----$/.test(blocks[0]))
    throw new KeyError(
      'KEY_SYNTAX',
      `expected one PEM block PUBLIC KEY or RSA PUBLIC KEY, got ${blocks.length === 0 ? 'none' : blocks.slice(0, 3).join(' ')}`,
    );
  let key: Key;
  try {
    key = keyOf(createPublicKey(pem));
  } catch (cause) {
    throw new KeyError('KEY_SYNTAX', 'the public key cannot be read', { cause });
  }
  const unsupported = unsupportedKey(key.object);
  if (unsupported !== undefined) throw new KeyError('KEY_ALGORITHM', `${unsupported} is not taken`);
  return key;
}

export function keyOf(object: KeyObject): Key {
  const spki = Uint8Array.from(object.export({ format: 'der', type: 'spki' }));
  return { object, spki, fingerprint: digestOf(spki, (data) => hash('sha256', data, 'hex')) };
}

/** The digest algorithms with which a certificate's key may have signed: nobody said which, so those that signers use. */
export function usualHashes(key: KeyObject): readonly HashAlgorithm[] {
  return CURVES.get(curveOf(key) as 'prime256v1')?.usual ?? ['sha256'];
}

/** Why a key is not in the table; undefined where it is. */
function unsupportedKey(key: KeyObject): string | undefined {
  const type = key.asymmetricKeyType;
  const details = key.asymmetricKeyDetails;
  if (type === 'ed25519') return undefined;
  if (type === 'rsa') {
    const bits = details?.modulusLength ?? 0;
    return bits >= RSA_BITS_MIN ? undefined : `an RSA key of ${bits} bits`;
  }
  if (type === 'ec') return CURVES.has(curveOf(key) as 'prime256v1') ? undefined : `a key on the curve ${curveOf(key)}`;
  return `a key of type ${type ?? 'unknown'}`;
}

const curveOf = (key: KeyObject): string => key.asymmetricKeyDetails?.namedCurve ?? 'unnamed';

/** Whether `signature` over `data` is `key`'s, made with one of `hashes`; where it is not, the nearest reason. */
export function checkSignature(
  key: KeyObject,
  data: Uint8Array,
  signature: Uint8Array,
  hashes: readonly HashAlgorithm[],
): SignatureCheck {
  const unsupported = unsupportedKey(key);
  if (unsupported !== undefined) return { kind: 'unsupported', what: unsupported };
  if (key.asymmetricKeyType === 'ed25519') return checkEd25519(key, data, signature);
  const family =
    key.asymmetricKeyType === 'rsa' ? 'rsa-pkcs1' : `ecdsa-${CURVES.get(curveOf(key) as 'prime256v1')!.name}`;
  for (const algorithm of [...hashes, ...HASH_ALGORITHMS.filter((other) => !hashes.includes(other))]) {
    if (!quietly(() => verify(algorithm, data, key, signature))) continue;
    const made = { name: `${family}-${algorithm}`, hash: algorithm };
    return hashes.includes(algorithm) ? { kind: 'good', algorithm: made } : { kind: 'other-hash', algorithm: made };
  }
  return otherScheme(key, data, signature) ?? { kind: 'bad' };
}

/** Schemes that no signer of images uses by default, looked at only to say so instead of "wrong key". */
function otherScheme(key: KeyObject, data: Uint8Array, signature: Uint8Array): SignatureCheck | undefined {
  const rsa = key.asymmetricKeyType === 'rsa';
  for (const algorithm of HASH_ALGORITHMS) {
    const found = rsa
      ? quietly(() => verify(algorithm, data, { key, padding: constants.RSA_PKCS1_PSS_PADDING }, signature))
      : quietly(() => verify(algorithm, data, { key, dsaEncoding: 'ieee-p1363' }, signature));
    if (found) return { kind: 'unsupported', what: rsa ? `RSA-PSS with ${algorithm}` : `ECDSA in IEEE P1363 form` };
  }
  return undefined;
}

/** Pure (RFC 8032 5.1) or prehashed (ph, empty context): cosign writes the second, older clients the first. */
function checkEd25519(key: KeyObject, data: Uint8Array, signature: Uint8Array): SignatureCheck {
  if (quietly(() => verify(null, data, key, signature)))
    return { kind: 'good', algorithm: { name: 'ed25519', hash: 'sha512' } };
  const raw = keyOf(key).spki.subarray(-32);
  if (quietly(() => ed25519ph.verify(signature, data, raw, { zip215: false })))
    return { kind: 'good', algorithm: { name: 'ed25519ph', hash: 'sha512' } };
  return { kind: 'bad' };
}

/**
 * The same over a digest alone, where the signed bytes are not at hand: ECDSA only, since Node verifies no digests and RSA or Ed25519
 * would need primitives that nobody here needs.
 */
export function checkDigestSignature(key: KeyObject, digest: SubjectDigest, signature: Uint8Array): SignatureCheck {
  const curve = CURVES.get(curveOf(key) as 'prime256v1');
  if (curve === undefined)
    return { kind: 'unsupported', what: `a signature by a key of type ${key.asymmetricKeyType} over a digest alone` };
  const usual: readonly string[] = curve.usual;
  if (!usual.includes(digest.algorithm))
    return { kind: 'unsupported', what: `a signature on ${curve.name} over a ${digest.algorithm} digest alone` };
  const { x = '', y = '' } = key.export({ format: 'jwk' }) as { x?: string; y?: string };
  const point = Buffer.concat([Buffer.of(4), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')]);
  const good = quietly(() =>
    curve.noble.verify(signature, fromHex(digest.hex), point, { prehash: false, lowS: false, format: 'der' }),
  );
  const name = `ecdsa-${curve.name}-${digest.algorithm}`;
  return good ? { kind: 'good', algorithm: { name, hash: digest.algorithm as HashAlgorithm } } : { kind: 'bad' };
}

/** Node and noble throw at some malformed signatures and return false at others: both are "no". */
function quietly(act: () => boolean): boolean {
  try {
    return act();
  } catch {
    return false;
  }
}

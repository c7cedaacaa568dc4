/** Ed25519 by Node's crypto: verifying in the libuv pool, signing with a key made from its seed. For agent, server and command. */
import { createPrivateKey, createPublicKey, sign, verify, type KeyObject } from 'node:crypto';
import { fromHex, toHex } from '#src/bytes.ts';
import { publicKeyFromSpki, spkiOf, type PublicKey, type Signer, type Verify } from './ed25519.ts';
import type { VerifyBy } from './x509.ts';

/** PKCS #8 of an Ed25519 private key up to its 32 bytes of seed (RFC 8410 section 7). */
const PKCS8_HEAD = '302e020100300506032b657004220420';

/**
 * Verifies in the thread pool, so that the event loop goes on: 133 µs of a core a signature, and nearly all of the work of
 * taking a report. Importing the key each time costs 4 to 9 % of that: no cache.
 */
export const verifyInPool: Verify = (key, message, signature) =>
  new Promise((resolve, reject) => {
    let imported: KeyObject;
    try {
      imported = createPublicKey({ key: Buffer.from(spkiOf(key)), format: 'der', type: 'spki' });
    } catch {
      resolve(false); // 32 bytes that are no point of the curve: nothing can be signed by them
      return;
    }
    verify(null, message, imported, signature, (error, valid) => (error === null ? resolve(valid) : reject(error)));
  });

/** PKCS #8 in DER of the key that `seed` (32 random bytes) makes. */
export function pkcs8OfSeed(seed: Uint8Array): Uint8Array {
  return fromHex(PKCS8_HEAD + toHex(seed));
}

/** A signer from a private key in PKCS #8 (PEM text or DER). @throws whatever Node says of a file that holds no Ed25519 key. */
export function nodeSigner(pkcs8: string | Uint8Array): Signer {
  const key =
    typeof pkcs8 === 'string'
      ? createPrivateKey(pkcs8)
      : createPrivateKey({ key: Buffer.from(pkcs8), format: 'der', type: 'pkcs8' });
  const publicKey = publicKeyFromSpki(createPublicKey(key).export({ format: 'der', type: 'spki' }));
  return {
    publicKey,
    sign: (message) =>
      new Promise((resolve, reject) => {
        sign(null, message, key, (error, signature) => (error === null ? resolve(signature) : reject(error)));
      }),
  };
}

/** The public key that a seed makes. */
export function publicKeyOfSeed(seed: Uint8Array): PublicKey {
  return nodeSigner(pkcs8OfSeed(seed)).publicKey;
}

/** Signatures of certificates and timestamps. RSA below 2048 bits is nobody's signature any more. */
export const verifyByKey: VerifyBy = (spki, { kind, hash }, message, signature) =>
  new Promise((resolve, reject) => {
    let key: KeyObject;
    try {
      key = createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' });
    } catch {
      resolve(false); // no key that OpenSSL knows: nothing is signed by it
      return;
    }
    const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key;
    if (type !== (kind === 'ecdsa' ? 'ec' : kind) || (type === 'rsa' && (details?.modulusLength ?? 0) < 2048)) {
      resolve(false);
      return;
    }
    verify(kind === 'ed25519' ? null : hash, message, key, signature, (error, valid) =>
      error === null ? resolve(valid) : reject(error),
    );
  });

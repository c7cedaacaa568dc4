/** The signed bytes of an entity, and their digests: as our table of algorithms checks them, and as the library asks for them. */
import { hash, timingSafeEqual, type KeyObject } from 'node:crypto';
import type { SignedEntity as LibraryEntity } from '@sigstore/verify';
import { fromHex } from '#src/bytes.ts';
import { pae } from '#src/signing/dsse.ts';
import { checkDigestSignature, checkSignature, type SignatureCheck } from './keys.ts';
import { TrustError, type Material, type Signed } from './material.ts';
import type { HashAlgorithm } from './requirement.ts';

/** The bytes that the signature is over; undefined where only their digest is known. */
export function signedBytes(signed: Signed, artifact: Uint8Array | undefined): Uint8Array | undefined {
  switch (signed.kind) {
    case 'simple-signing':
      return signed.payload;
    case 'statement':
      return pae(signed.payloadType, signed.payload);
    case 'message':
      return artifact;
  }
}

/** @throws {TrustError} UNSUPPORTED_ALGORITHM where only another digest of the bytes is known */
export function signedDigest(
  signed: Signed,
  artifact: Uint8Array | undefined,
  algorithm: 'sha256' | 'sha384' | 'sha512',
): Buffer {
  const bytes = signedBytes(signed, artifact);
  if (bytes !== undefined) return hash(algorithm, bytes, 'buffer');
  if (signed.kind === 'message' && signed.digest.algorithm === algorithm)
    return Buffer.from(fromHex(signed.digest.hex));
  throw new TrustError(
    'UNSUPPORTED_ALGORITHM',
    `the ${algorithm} of the signed bytes is not known, only another digest`,
  );
}

/** Checks the signature of `material` by `key`. */
export function checkMaterial(
  material: Material,
  artifact: Uint8Array | undefined,
  key: KeyObject,
  hashes: readonly HashAlgorithm[],
): SignatureCheck {
  const bytes = signedBytes(material.signed, artifact);
  if (bytes !== undefined) return checkSignature(key, bytes, material.signature, hashes);
  return material.signed.kind === 'message'
    ? checkDigestSignature(key, material.signed.digest, material.signature)
    : { kind: 'bad' };
}

/** What the library's verifier asks of a signature that `checkMaterial` found to be `key`'s. */
export function libraryContent(
  material: Material,
  artifact: Uint8Array | undefined,
  key: KeyObject,
): LibraryEntity['signature'] {
  const { signed } = material;
  const equal = (a: Uint8Array, b: Uint8Array) => a.length === b.length && timingSafeEqual(a, b);
  const compareSignedDigest = (digest: Buffer): boolean => {
    const algorithm = digestBySize(digest.length);
    return algorithm !== undefined && equal(digest, signedDigest(signed, artifact, algorithm));
  };
  return {
    signature: Buffer.from(material.signature),
    compareSignature: (signature) => equal(signature, material.signature),
    // Entries of kind dsse and intoto hold the digest of the payload, not of what was signed.
    compareDigest: (digest) =>
      signed.kind === 'statement'
        ? equal(digest, hash('sha256', signed.payload, 'buffer'))
        : compareSignedDigest(digest),
    compareSignedDigest,
    // Checked with our table before; the library must have read the same key out of the certificate as we did.
    verifySignature: (asked) => asked.equals(key),
  };
}

/** The SHA-2 whose digests have so many bytes. */
export function digestBySize(bytes: number): 'sha256' | 'sha384' | 'sha512' | undefined {
  return bytes === 32 ? 'sha256' : bytes === 48 ? 'sha384' : bytes === 64 ? 'sha512' : undefined;
}

/** By which key a signature was made, of those that an authority allows, or that its certificate has (docs/trust.md 3.4). */
import { readCertificate, type SigningCertificate } from './certificate.ts';
import { checkMaterial } from './content.ts';
import { KeyError, keyOf, readKey, usualHashes, type Algorithm, type Key } from './keys.ts';
import { TrustError, type Material, type TrustCode } from './material.ts';
import type { Authority, KeyAuthority } from './requirement.ts';
import type { TargetDigest } from './target.ts';

export type SignerOf = {
  readonly key: Key;
  readonly certificate: SigningCertificate | undefined;
  readonly algorithm: Algorithm;
};

/** @throws {TrustError} with the nearest reason why it is none of theirs */
export function signerOf(material: Material, covered: TargetDigest, authority: Authority): SignerOf {
  return authority.kind === 'key' ? signerOfKeys(material, covered, authority) : signerOfCertificate(material, covered);
}

/** For a key: the hint in the bundle is the signer's word, so every key of the authority is tried. */
function signerOfKeys(material: Material, { bytes }: TargetDigest, { keys, hashAlgorithm }: KeyAuthority): SignerOf {
  const hashes = [hashAlgorithm];
  const reasons: TrustError[] = [];
  for (const key of usableKeys(keys)) {
    if (key instanceof TrustError) {
      reasons.push(key);
      continue;
    }
    const check = checkMaterial(material, bytes, key.object, hashes);
    switch (check.kind) {
      case 'good':
        return { key, certificate: undefined, algorithm: check.algorithm };
      case 'other-hash':
        reasons.unshift(
          new TrustError(
            'WRONG_HASH',
            `signed by the key ${key.fingerprint} with ${check.algorithm.name}; the policy allows ${hashAlgorithm} (hashAlgorithm)`,
          ),
        );
        break;
      case 'unsupported':
        reasons.push(new TrustError('UNSUPPORTED_ALGORITHM', `${check.what} is not taken`));
        break;
      case 'bad': {
        const hint = material.by.kind === 'key' ? material.by.hint : '';
        const ours = Buffer.from(key.fingerprint.slice('sha256:'.length), 'hex').toString('base64');
        reasons.push(
          hint === ours
            ? new TrustError(
                'BAD_SIGNATURE',
                `told to be by the key ${key.fingerprint}, but changed since it was signed`,
              )
            : new TrustError('WRONG_KEY', `not signed by the key ${key.fingerprint}, or changed since it was signed`),
        );
      }
    }
  }
  const order: readonly TrustCode[] = ['WRONG_HASH', 'BAD_SIGNATURE', 'UNSUPPORTED_ALGORITHM'];
  throw (
    order.map((code) => reasons.find((reason) => reason.code === code)).find((reason) => reason !== undefined) ??
    reasons[0] ??
    new TrustError('WRONG_KEY', 'the policy names no key')
  );
}

/** Reading a key takes longer than checking with it, and a policy's are asked for with every signature. */
const READ = new WeakMap<readonly string[], readonly (Key | TrustError)[]>();

function usableKeys(pems: readonly string[]): readonly (Key | TrustError)[] {
  const read = READ.get(pems) ?? pems.map(usableKey);
  READ.set(pems, read);
  return read;
}

/** A key of the policy; one that cannot be read is told, and does not keep the others from counting. */
function usableKey(pem: string): Key | TrustError {
  try {
    return readKey(pem);
  } catch (error) {
    if (!(error instanceof KeyError)) throw error;
    return new TrustError('UNUSABLE_KEY', `a key of the policy: ${error.message}`, { cause: error });
  }
}

/** For a certificate. That the certificate is to be trusted comes after: identities of strangers mean nothing. */
function signerOfCertificate(material: Material, { bytes }: TargetDigest): SignerOf {
  if (material.by.kind !== 'certificate')
    throw new TrustError('NO_CERTIFICATE', 'signed with a key; the policy asks for an identity in a certificate');
  const certificate = readCertificate(material.by.der);
  const key = keyOf(certificate.node.publicKey);
  const hashes = usualHashes(key.object);
  const check = checkMaterial(material, bytes, key.object, hashes);
  if (check.kind === 'good') return { key, certificate, algorithm: check.algorithm };
  throw check.kind === 'bad'
    ? new TrustError('BAD_SIGNATURE', 'not signed by the key in its certificate, or changed since it was signed')
    : new TrustError(
        'UNSUPPORTED_ALGORITHM',
        `${check.kind === 'unsupported' ? check.what : check.algorithm.name} is not taken under a certificate`,
      );
}

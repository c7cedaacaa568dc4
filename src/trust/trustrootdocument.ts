/**
 * TrustRoot documents (docs/image-policy.md 7). Keys that stand in one become a trust root of its name; what policy-controller would
 * fetch by TUF is accepted and absent, until a trusted_root.json of that name is imported.
 */
import { createPublicKey, hash, X509Certificate } from 'node:crypto';
import { fromBase64 } from '#src/bytes.ts';
import { problemOf } from '#src/document/shape.ts';
import type { Problem } from '#src/document/yaml.ts';
import { TrustRootDocument, withoutNulls } from './cipschema.ts';
import { fieldOf, sentence, type Path } from './cipvalidate.ts';
import type { Unsupported } from './cipauthority.ts';
import type { DocumentAt } from './clusterimagepolicy.ts';
import type { TrustRootName } from './requirement.ts';
import { readTrustRoot, TrustRootError, type TrustRoot } from './trustroot.ts';

export type DocumentedRoot =
  | { readonly kind: 'root'; readonly name: TrustRootName; readonly root: TrustRoot }
  | { readonly kind: 'absent'; readonly name: TrustRootName; readonly unsupported: Unsupported };

const WAYS = ['remote', 'repository', 'sigstoreKeys'] as const;

/** Refusals are added to `problems`, in which case nothing is returned. */
export function readTrustRootDocument(
  { yaml, at, value }: DocumentAt,
  problems: Problem[],
): DocumentedRoot | undefined {
  const parsed = TrustRootDocument.safeParse(withoutNulls(value), { reportInput: true });
  if (!parsed.success) {
    problems.push(...parsed.error.issues.map((issue) => problemOf({ ...issue, path: [...at, ...issue.path] }, yaml)));
    return undefined;
  }
  const {
    metadata: { name },
    spec,
  } = parsed.data;
  const refuse = (path: Path, message: string): undefined => {
    problems.push({ ...yaml.placeOf([...at, ...path]), message });
    return undefined;
  };
  const ways = WAYS.filter((way) => spec[way] !== undefined);
  if (ways.length !== 1) {
    const say = ways.length === 0 ? sentence.neither : sentence.both;
    return refuse(['spec'], say(WAYS.map((way) => ['spec', way])));
  }
  const { sigstoreKeys } = spec;
  if (sigstoreKeys === undefined) {
    const why =
      'nothing is fetched because a document says so; give the trusted_root.json under this name, or let the server keep it up (--tuf)';
    return { kind: 'absent', name, unsupported: { field: fieldOf(['spec', ways[0]!]), why } };
  }
  const path = ['spec', 'sigstoreKeys'];
  try {
    const json = {
      mediaType: 'application/vnd.dev.sigstore.trustedroot+json;version=0.1',
      tlogs: (sigstoreKeys.tLogs ?? []).map((log, i) => logOf(log, [...path, 'tLogs', i])),
      ctlogs: (sigstoreKeys.ctLogs ?? []).map((log, i) => logOf(log, [...path, 'ctLogs', i])),
      certificateAuthorities: (sigstoreKeys.certificateAuthorities ?? []).map((authority, i) =>
        authorityOf(authority, [...path, 'certificateAuthorities', i]),
      ),
      timestampAuthorities: (sigstoreKeys.timestampAuthorities ?? []).map((authority, i) =>
        authorityOf(authority, [...path, 'timestampAuthorities', i]),
      ),
    };
    if (json.certificateAuthorities.length + json.timestampAuthorities.length === 0)
      return refuse(
        path,
        sentence.neither([
          [...path, 'certificateAuthority'],
          [...path, 'timestampAuthorities'],
        ]),
      );
    const bytes = new TextEncoder().encode(JSON.stringify(json));
    const root = readTrustRoot(name, bytes, (data) => hash('sha256', data, 'hex'));
    return { kind: 'root', name, root };
  } catch (error) {
    if (error instanceof PartError) return refuse(error.path, error.message);
    if (error instanceof TrustRootError) return refuse(path, error.message);
    throw error;
  }
}

/** A part that cannot be converted; never leaves this file. */
class PartError extends Error {
  readonly path: Path;

  constructor(path: Path, message: string) {
    super(message);
    this.path = path;
  }
}

/** As policy-controller converts them: these documents have no times, so what they name is valid for ever. */
const EVER = { start: '1970-01-01T00:00:00Z' };
const DETAILS = new Map([
  ['prime256v1', 'PKIX_ECDSA_P256_SHA_256'],
  ['secp384r1', 'PKIX_ECDSA_P384_SHA_384'],
  ['secp521r1', 'PKIX_ECDSA_P521_SHA_512'],
]);

type Log = NonNullable<NonNullable<TrustRootDocument['spec']['sigstoreKeys']>['tLogs']>[number];
type CertificateAuthority = NonNullable<
  NonNullable<TrustRootDocument['spec']['sigstoreKeys']>['certificateAuthorities']
>[number];

function logOf({ baseURL, hashAlgorithm, publicKey }: Log, path: Path) {
  const parts = { baseURL, hashAlgorithm, publicKey };
  const missing = Object.entries(parts).filter(([, text]) => text === undefined || text === '');
  if (missing.length > 0) throw new PartError(path, sentence.missing(missing.map(([key]) => [...path, key])));
  const at = [...path, 'publicKey'];
  let spki: Uint8Array;
  let details: string | undefined;
  try {
    const key = createPublicKey(pemOf(publicKey!, at));
    spki = Uint8Array.from(key.export({ format: 'der', type: 'spki' }));
    details =
      key.asymmetricKeyType === 'ed25519' ? 'PKIX_ED25519' : DETAILS.get(key.asymmetricKeyDetails?.namedCurve ?? '');
  } catch (error) {
    if (error instanceof PartError) throw error;
    throw new PartError(at, 'the public key cannot be read');
  }
  if (details === undefined) throw new PartError(at, 'logs sign with ECDSA or Ed25519 keys');
  return {
    baseUrl: baseURL!,
    hashAlgorithm: 'SHA2_256',
    publicKey: { rawBytes: base64(spki), keyDetails: details, validFor: EVER },
    logId: { keyId: Buffer.from(hash('sha256', spki, 'hex'), 'hex').toString('base64') },
  };
}

function authorityOf({ subject, uri, certChain }: CertificateAuthority, path: Path) {
  const parts = {
    uri,
    certChain,
    'subject.organization': subject?.organization,
    'subject.commonName': subject?.commonName,
  };
  const missing = Object.entries(parts).filter(([, text]) => text === undefined || text === '');
  if (missing.length > 0) throw new PartError(path, sentence.missing(missing.map(([key]) => [...path, key])));
  const at = [...path, 'certChain'];
  const blocks = pemOf(certChain!, at).match(/-----BEGIN CERTIFICATE-----[^]*?-----END CERTIFICATE-----/g) ?? [];
  if (blocks.length === 0) throw new PartError(at, 'no certificate in PEM stands here');
  const certificates = blocks.map((pem) => {
    try {
      return { rawBytes: base64(new X509Certificate(pem).raw) };
    } catch {
      throw new PartError(at, 'a certificate cannot be read');
    }
  });
  return {
    subject: { organization: subject!.organization!, commonName: subject!.commonName! },
    uri: uri!,
    certChain: { certificates },
    validFor: EVER,
  };
}

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');

/** Go's []byte in JSON: base64, which YAML may have folded. */
function pemOf(text: string, path: Path): string {
  try {
    return new TextDecoder().decode(fromBase64(text.replace(/\s+/g, '')));
  } catch {
    throw new PartError(path, 'expected base64 of PEM');
  }
}

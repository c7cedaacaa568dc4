/**
 * Certificates (RFC 5280) as far as timestamp authorities need them: read, and a path from one to a root that somebody trusts. The arithmetic
 * of signatures is handed in. Revocation is not looked at: there is no network here, and lists are over before evidence is.
 */
import type { Instant } from '#src/clock.ts';
import { BootproofError } from '#src/error.ts';
import { TIMESTAMP_CERTIFICATES_MAX, TIMESTAMP_PATH_MAX } from '#src/limits.ts';
import {
  bitsOf,
  context,
  DerError,
  expect,
  integerOf,
  oidOf,
  partsOf,
  readDer,
  sameDer,
  sequenceOf,
  TAG,
  timeOf,
  type Der,
} from './der.ts';

export class CertificateError extends BootproofError<
  /** Not a certificate, or not one that is read here. */
  | 'CERTIFICATE_SYNTAX'
  /** No path from it to a certificate that is trusted. */
  | 'CERTIFICATE_PATH'
> {}

/** How something is signed; by the kind of key and the hash. */
export type Algorithm = {
  readonly kind: 'rsa' | 'ecdsa' | 'ed25519';
  readonly hash: 'sha256' | 'sha384' | 'sha512';
};

/** Whether `signature` over `message` is by the key of a SubjectPublicKeyInfo. False for keys of another kind, and for weak ones; never throws for them. */
export type VerifyBy = (
  spki: Uint8Array,
  algorithm: Algorithm,
  message: Uint8Array,
  signature: Uint8Array,
) => Promise<boolean>;

export type Certificate = {
  readonly der: Uint8Array;
  /** What is signed. */
  readonly tbs: Uint8Array;
  readonly serial: string;
  /** Names as DER: equal where their bytes are. */
  readonly issuer: Uint8Array;
  readonly subject: Uint8Array;
  /** The common name, else the last part of the subject: for people. */
  readonly name: string;
  readonly from: Instant;
  readonly to: Instant;
  readonly spki: Uint8Array;
  readonly algorithm: Algorithm;
  readonly signature: Uint8Array;
  /** Null where it may issue none. */
  readonly authority: { readonly pathLength: number | null } | null;
  readonly keyId: Uint8Array | null;
  readonly usages: { readonly critical: boolean; readonly oids: readonly string[] } | null;
  /** A critical extension that is not known here: such a certificate is not used. */
  readonly unknown: string | null;
};

const HASHES: ReadonlyMap<string, Algorithm> = new Map<string, Algorithm>([
  ['1.2.840.113549.1.1.11', { kind: 'rsa', hash: 'sha256' }],
  ['1.2.840.113549.1.1.12', { kind: 'rsa', hash: 'sha384' }],
  ['1.2.840.113549.1.1.13', { kind: 'rsa', hash: 'sha512' }],
  ['1.2.840.10045.4.3.2', { kind: 'ecdsa', hash: 'sha256' }],
  ['1.2.840.10045.4.3.3', { kind: 'ecdsa', hash: 'sha384' }],
  ['1.2.840.10045.4.3.4', { kind: 'ecdsa', hash: 'sha512' }],
  ['1.3.101.112', { kind: 'ed25519', hash: 'sha512' }],
]);

/** By the algorithm's OID. @throws {CertificateError} for those that are weak or not known here: SHA-1, RSASSA-PSS. */
export function algorithmOf(oid: string): Algorithm {
  const found = HASHES.get(oid);
  if (found === undefined)
    throw new CertificateError('CERTIFICATE_SYNTAX', `signed by ${oid}, an algorithm that is not taken`);
  return found;
}

const KEY_USAGE = '2.5.29.15';
const BASIC_CONSTRAINTS = '2.5.29.19';
const EXTENDED_USAGE = '2.5.29.37';
const SUBJECT_KEY_ID = '2.5.29.14';
/** Of no weight for a path: policies that nobody asks for, other names of the subject. */
const PASSED_OVER = new Set(['2.5.29.32', '2.5.29.17']);
const COMMON_NAME = '2.5.4.3';

/** @throws {CertificateError} CERTIFICATE_SYNTAX */
export function readCertificate(der: Uint8Array): Certificate {
  try {
    const [tbs, algorithm, signature, ...rest] = sequenceOf(readDer(der), 'the certificate');
    const parts = sequenceOf(tbs, 'what is certified');
    if (parts[0]?.tag !== context(0) || rest.length > 0)
      throw new DerError('DER_SYNTAX', 'not a certificate of version 3');
    const [, serial, inner, issuer, validity, subject, spki, ...more] = parts;
    const [from, to] = sequenceOf(validity, 'its validity');
    const oid = oidOf(sequenceOf(algorithm, 'its algorithm')[0], 'its algorithm');
    // RFC 5280 4.1.1.2: both say the same.
    if (!sameDer(expect(inner, TAG.sequence, 'its algorithm').whole, algorithm!.whole))
      throw new DerError('DER_SYNTAX', 'the certificate names two algorithms');
    return {
      der,
      tbs: tbs!.whole,
      serial: integerOf(serial, 'its number'),
      issuer: expect(issuer, TAG.sequence, 'its issuer').whole,
      subject: expect(subject, TAG.sequence, 'its subject').whole,
      name: nameOf(subject!),
      from: timeOf(from, 'its begin'),
      to: timeOf(to, 'its end'),
      spki: expect(spki, TAG.sequence, 'its key').whole,
      algorithm: algorithmOf(oid),
      signature: bitsOf(signature, 'its signature'),
      ...extensionsOf(more.find(({ tag }) => tag === context(3))),
    };
  } catch (cause) {
    if (!(cause instanceof DerError)) throw cause;
    throw new CertificateError('CERTIFICATE_SYNTAX', `a certificate cannot be read: ${cause.message}`, { cause });
  }
}

function extensionsOf(extensions: Der | undefined): Pick<Certificate, 'authority' | 'keyId' | 'usages' | 'unknown'> {
  let authority: Certificate['authority'] = null;
  let maySign = true;
  let keyId: Uint8Array | null = null;
  let usages: Certificate['usages'] = null;
  let unknown: string | null = null;
  const seen = new Set<string>();
  for (const extension of extensions === undefined ? [] : sequenceOf(partsOf(extensions)[0], 'its extensions')) {
    const parts = sequenceOf(extension, 'an extension');
    const oid = oidOf(parts[0], 'an extension');
    const critical = parts[1]?.tag === TAG.boolean && parts[1].value[0] === 0xff;
    const value = expect(parts.at(-1), TAG.octetString, `the extension ${oid}`).value;
    // Two of one kind: each reader may take another (RFC 5280 4.2).
    if (seen.has(oid)) throw new DerError('DER_SYNTAX', `two extensions ${oid}`);
    seen.add(oid);
    if (oid === BASIC_CONSTRAINTS) {
      const [isCa, length] = sequenceOf(readDer(value), 'its constraints');
      if (isCa?.tag === TAG.boolean && isCa.value[0] === 0xff)
        authority = { pathLength: length === undefined ? null : Number.parseInt(integerOf(length, 'its path'), 16) };
    } else if (oid === KEY_USAGE) {
      // keyCertSign is bit 5 (RFC 5280 4.2.1.3).
      maySign = ((bitsOf(readDer(value), 'its usage')[0] ?? 0) & 0x04) !== 0;
    } else if (oid === EXTENDED_USAGE)
      usages = { critical, oids: sequenceOf(readDer(value), 'its usages').map((one) => oidOf(one, 'a usage')) };
    else if (oid === SUBJECT_KEY_ID) keyId = expect(readDer(value), TAG.octetString, 'its key id').value;
    else if (critical && !PASSED_OVER.has(oid)) unknown ??= oid;
  }
  return { authority: maySign ? authority : null, keyId, usages, unknown };
}

function nameOf(subject: Der): string {
  let last = '';
  for (const rdn of partsOf(subject))
    for (const pair of partsOf(rdn)) {
      const [type, text] = partsOf(pair);
      last = new TextDecoder('utf-8').decode(text?.value ?? new Uint8Array()).slice(0, 200);
      if (oidOf(type, 'a part of its subject') === COMMON_NAME) return last;
    }
  return last;
}

/** Certificates in a PEM text. @throws {CertificateError} where there is none, or one cannot be read. */
export function readPem(text: string): Certificate[] {
  const found = text.match(/-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g) ?? [];
  if (found.length === 0)
    throw new CertificateError('CERTIFICATE_SYNTAX', 'no certificate in PEM form: -----BEGIN CERTIFICATE-----');
  if (found.length > TIMESTAMP_CERTIFICATES_MAX)
    throw new CertificateError(
      'CERTIFICATE_SYNTAX',
      `${found.length} certificates; ${TIMESTAMP_CERTIFICATES_MAX} are taken`,
    );
  return found.map((pem) => {
    const base64 = pem.replaceAll(/-----[A-Z ]+-----|\s/g, '');
    let der: Uint8Array;
    try {
      der = Uint8Array.fromBase64(base64);
    } catch (cause) {
      throw new CertificateError('CERTIFICATE_SYNTAX', 'a certificate in PEM form is no base64', { cause });
    }
    return readCertificate(der);
  });
}

/**
 * That a path leads from `leaf` to one of `trusted`, each signed by the next and valid at `at`; `others` may lie between. A certificate that is
 * itself trusted needs none. @throws {CertificateError} CERTIFICATE_PATH
 */
export async function mustLeadTo(
  leaf: Certificate,
  trusted: readonly Certificate[],
  others: readonly Certificate[],
  at: Instant,
  verify: VerifyBy,
): Promise<void> {
  const isTrusted = (one: Certificate) => trusted.some(({ der }) => sameDer(der, one.der));
  let why = `nobody who is trusted certified ${leaf.name}`;
  let looked = 0;
  const leads = async (one: Certificate, below: number): Promise<boolean> => {
    if (at < one.from || at > one.to) {
      why = `the certificate of ${one.name} was valid from ${iso(one.from)} to ${iso(one.to)}, not at ${iso(at)}`;
      return false;
    }
    if (one.unknown !== null) {
      why = `the certificate of ${one.name} has the critical extension ${one.unknown}, which is not known here`;
      return false;
    }
    if (isTrusted(one)) return true;
    if (below >= TIMESTAMP_PATH_MAX) return false;
    for (const issuer of [...trusted, ...others]) {
      if (!sameDer(issuer.subject, one.issuer) || sameDer(issuer.der, one.der)) continue;
      // Names may be shared by many: what is tried is bounded.
      if (++looked > TIMESTAMP_CERTIFICATES_MAX) return false;
      const { authority } = issuer;
      if (authority === null || (authority.pathLength !== null && authority.pathLength < below)) {
        why = `${issuer.name} may not certify ${one.name}`;
        continue;
      }
      if (!(await verify(issuer.spki, one.algorithm, one.tbs, one.signature))) {
        why = `the certificate of ${one.name} is not signed by ${issuer.name}`;
        continue;
      }
      if (await leads(issuer, below + 1)) return true;
    }
    return false;
  };
  if (!(await leads(leaf, 0))) throw new CertificateError('CERTIFICATE_PATH', why);
}

const iso = (at: Instant): string => new Date(at).toISOString();

/**
 * Timestamps (RFC 3161) over a text: the question, and the answer verified to the last field. Against a path to certificates that somebody trusts
 * for this, named one by one; the certificate's purpose and the binding of the signature to it (RFC 5816) are held, revocation is not asked for.
 */
import { sha1 } from '@noble/hashes/legacy.js';
import { sha256, sha384, sha512 } from '@noble/hashes/sha2.js';
import { toHex } from '#src/bytes.ts';
import type { Instant } from '#src/clock.ts';
import { BootproofError } from '#src/error.ts';
import { TIMESTAMP_BYTES_MAX, TIMESTAMP_CERTIFICATES_MAX } from '#src/limits.ts';
import {
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
  writeDer,
  writeInteger,
  writeOid,
  type Der,
} from './der.ts';
import {
  algorithmOf,
  CertificateError,
  mustLeadTo,
  readCertificate,
  type Algorithm,
  type Certificate,
  type VerifyBy,
} from './x509.ts';

export class TimestampError extends BootproofError<
  /** Not an answer as RFC 3161 has it, or with something in it that is not taken. */
  | 'TIMESTAMP_SYNTAX'
  /** The authority answered that it does not stamp. */
  | 'TIMESTAMP_REFUSED'
  /** Over another text. */
  | 'TIMESTAMP_IMPRINT'
  /** An answer to another question: an old one, sent again. */
  | 'TIMESTAMP_NONCE'
  /** Not signed by the certificate that it names, or by one that is not for timestamps. */
  | 'TIMESTAMP_SIGNATURE'
  /** By an authority that nobody here trusts. */
  | 'TIMESTAMP_UNTRUSTED'
> {}

const SIGNED_DATA = '1.2.840.113549.1.7.2';
const TST_INFO = '1.2.840.113549.1.9.16.1.4';
const CONTENT_TYPE = '1.2.840.113549.1.9.3';
const MESSAGE_DIGEST = '1.2.840.113549.1.9.4';
/** By SHA-1 (RFC 2634), and by any hash (RFC 5816): which certificate signed. */
const SIGNING_CERTIFICATE = '1.2.840.113549.1.9.16.2.12';
const SIGNING_CERTIFICATE_V2 = '1.2.840.113549.1.9.16.2.47';
const TIME_STAMPING = '1.3.6.1.5.5.7.3.8';
const RSA_ENCRYPTION = '1.2.840.113549.1.1.1';
const SHA256 = '2.16.840.1.101.3.4.2.1';

const HASHES: ReadonlyMap<
  string,
  { readonly name: Algorithm['hash']; readonly of: (bytes: Uint8Array) => Uint8Array }
> = new Map([
  [SHA256, { name: 'sha256', of: sha256 }],
  ['2.16.840.1.101.3.4.2.2', { name: 'sha384', of: sha384 }],
  ['2.16.840.1.101.3.4.2.3', { name: 'sha512', of: sha512 }],
]);

function hashOf(algorithm: Der | undefined, what: string) {
  const oid = oidOf(sequenceOf(algorithm, what)[0], what);
  const found = HASHES.get(oid);
  if (found === undefined) throw new TimestampError('TIMESTAMP_SYNTAX', `${what} is ${oid}, which is not taken`);
  return found;
}

/** The question for a text: its SHA-256, a nonce (some random bytes), and that the certificate be sent along. */
export function timestampQuery(text: Uint8Array, nonce: Uint8Array): Uint8Array {
  const algorithm = writeDer(TAG.sequence, writeOid(SHA256), writeDer(TAG.null));
  return writeDer(
    TAG.sequence,
    writeInteger(Uint8Array.of(1)),
    writeDer(TAG.sequence, algorithm, writeDer(TAG.octetString, sha256(text))),
    writeInteger(nonce),
    writeDer(TAG.boolean, Uint8Array.of(0xff)),
  );
}

export type TimestampChecks = {
  /** Certificates of authorities that are trusted to stamp: roots, or the authority's own. */
  readonly trusted: readonly Certificate[];
  readonly verify: VerifyBy;
  /** Of the question; undefined where it is not known any more. */
  readonly nonce?: Uint8Array;
};

export type Timestamp = {
  readonly time: Instant;
  /** The authority by the name in its certificate. */
  readonly authority: string;
  readonly serial: string;
};

/** Verifies an authority's answer over `text`. @throws {TimestampError} */
export const verifyTimestamp = (answer: Uint8Array, text: Uint8Array, checks: TimestampChecks): Promise<Timestamp> =>
  verified(answer, text, checks, checks.trusted);

/** Verifies that it is over `text`, and signed by the certificate in it: not changed since. Whose that is, it does not tell. @throws {TimestampError} */
export const selfVerifyTimestamp = (answer: Uint8Array, text: Uint8Array, verify: VerifyBy): Promise<Timestamp> =>
  verified(answer, text, { verify }, undefined);

async function verified(
  answer: Uint8Array,
  text: Uint8Array,
  checks: Pick<TimestampChecks, 'verify' | 'nonce'>,
  trusted: readonly Certificate[] | undefined,
): Promise<Timestamp> {
  if (answer.length > TIMESTAMP_BYTES_MAX)
    throw new TimestampError('TIMESTAMP_SYNTAX', `${answer.length} bytes; ${TIMESTAMP_BYTES_MAX} are taken`);
  try {
    const signed = signedIn(answer);
    const info = infoOf(signed.content);
    mustBeOver(info, text, checks.nonce);
    const signer = await mustBeSigned(signed, checks.verify);
    if (trusted !== undefined) await mustLeadTo(signer, trusted, signed.certificates, info.time, checks.verify);
    return { time: info.time, authority: signer.name, serial: info.serial };
  } catch (cause) {
    if (cause instanceof TimestampError) throw cause;
    if (cause instanceof CertificateError && cause.code === 'CERTIFICATE_PATH')
      throw new TimestampError('TIMESTAMP_UNTRUSTED', `no authority that is trusted stamped it: ${cause.message}`, {
        cause,
      });
    if (cause instanceof DerError || cause instanceof CertificateError)
      throw new TimestampError('TIMESTAMP_SYNTAX', `not a timestamp: ${cause.message}`, { cause });
    throw cause;
  }
}

type Signed = {
  /** TSTInfo. */
  readonly content: Uint8Array;
  readonly certificates: readonly Certificate[];
  readonly signer: readonly Der[];
};

/** RFC 3161 2.4.2 around RFC 5652 5.1. */
function signedIn(answer: Uint8Array): Signed {
  const [status, token, ...more] = sequenceOf(readDer(answer), 'the answer');
  const code = integerOf(sequenceOf(status, 'its status')[0], 'its status');
  // Granted, or granted with modifications.
  if (code !== '0' && code !== '1')
    throw new TimestampError(
      'TIMESTAMP_REFUSED',
      `the authority does not stamp it: status ${code}${statusText(status!)}`,
    );
  if (more.length > 0) throw new DerError('DER_SYNTAX', 'something follows the token');
  const [type, wrapped] = sequenceOf(token, 'the token');
  if (oidOf(type, 'its type') !== SIGNED_DATA) throw new DerError('DER_SYNTAX', 'the token is not signed data');
  const [, , capsule, ...rest] = sequenceOf(partsOf(expect(wrapped, context(0), 'what is signed'))[0], 'signed data');
  const [contentType, octets] = sequenceOf(capsule, 'what is stamped');
  if (oidOf(contentType, 'what is stamped') !== TST_INFO) throw new DerError('DER_SYNTAX', 'no timestamp is signed');
  const content = expect(
    partsOf(expect(octets, context(0), 'the timestamp'))[0],
    TAG.octetString,
    'the timestamp',
  ).value;
  const certificates = rest.filter(({ tag }) => tag === context(0)).flatMap(partsOf);
  if (certificates.length > TIMESTAMP_CERTIFICATES_MAX)
    throw new DerError('DER_SYNTAX', `${certificates.length} certificates`);
  const signers = partsOf(expect(rest.at(-1), TAG.set, 'its signers'));
  if (signers.length !== 1) throw new DerError('DER_SYNTAX', `${signers.length} signers, not one`);
  return {
    content,
    // Other kinds of certificates may lie there, and say nothing.
    certificates: certificates.filter(({ tag }) => tag === TAG.sequence).map(({ whole }) => readCertificate(whole)),
    signer: sequenceOf(signers[0], 'its signer'),
  };
}

function statusText(status: Der): string {
  const free = partsOf(status).find(({ tag }) => tag === TAG.sequence);
  const text = free === undefined ? '' : new TextDecoder().decode(partsOf(free)[0]?.value ?? new Uint8Array());
  return text === '' ? '' : ` (${text.slice(0, 200)})`;
}

type Info = {
  readonly imprint: Uint8Array;
  readonly hash: (bytes: Uint8Array) => Uint8Array;
  readonly serial: string;
  readonly time: Instant;
  readonly nonce: string | null;
};

function infoOf(content: Uint8Array): Info {
  const [version, , imprint, serial, time, ...rest] = sequenceOf(readDer(content), 'the timestamp');
  if (integerOf(version, 'its version') !== '1') throw new DerError('DER_SYNTAX', 'not a timestamp of version 1');
  const [algorithm, digest] = sequenceOf(imprint, 'its imprint');
  const nonce = rest.find(({ tag }) => tag === TAG.integer);
  if (time?.tag !== TAG.generalizedTime) throw new DerError('DER_SYNTAX', 'its time is missing');
  return {
    imprint: expect(digest, TAG.octetString, 'its imprint').value,
    hash: hashOf(algorithm, 'the hash of its imprint').of,
    serial: integerOf(serial, 'its number'),
    time: timeOf(time, 'its time'),
    nonce: nonce === undefined ? null : integerOf(nonce, 'its nonce'),
  };
}

function mustBeOver({ imprint, hash, nonce }: Info, text: Uint8Array, asked: Uint8Array | undefined): void {
  if (!sameDer(imprint, hash(text)))
    throw new TimestampError('TIMESTAMP_IMPRINT', 'the timestamp is over something else');
  if (asked !== undefined && nonce !== integerOf(readDer(writeInteger(asked)), 'the nonce'))
    throw new TimestampError(
      'TIMESTAMP_NONCE',
      'the timestamp answers another question: it was made before, and sent again',
    );
}

/** RFC 5652 5.3, 5.4; RFC 3161 2.4.2. Answers the certificate by which it is signed. */
async function mustBeSigned({ content, certificates, signer }: Signed, verify: VerifyBy): Promise<Certificate> {
  const [, who, digest, ...rest] = signer;
  const [attributes, algorithm, signature] = rest;
  const no = (why: string) => new TimestampError('TIMESTAMP_SIGNATURE', why);
  const certificate = certificates.find((one) => isNamed(one, who));
  if (certificate === undefined) throw no('the certificate by which it is signed is not in it');
  const hash = hashOf(digest, 'the hash of its signature');
  const signed = attributesOf(expect(attributes, context(0), 'what is signed'));
  const type = signed.get(CONTENT_TYPE);
  const sum = signed.get(MESSAGE_DIGEST);
  if (type === undefined || oidOf(type, 'its type') !== TST_INFO) throw no('it is not signed as a timestamp');
  if (sum === undefined || !sameDer(expect(sum, TAG.octetString, 'its digest').value, hash.of(content)))
    throw no('what is signed is not the timestamp in it');
  if (!isBound(signed, certificate)) throw no('it is signed for another certificate than the one in it');
  const oid = oidOf(sequenceOf(algorithm, 'its algorithm')[0], 'its algorithm');
  const by: Algorithm = oid === RSA_ENCRYPTION ? { kind: 'rsa', hash: hash.name } : algorithmOf(oid);
  // What is signed is the SET, whatever tag it has in its place.
  const bytes = Uint8Array.from(attributes!.whole);
  bytes[0] = TAG.set;
  if (!(await verify(certificate.spki, by, bytes, expect(signature, TAG.octetString, 'its signature').value)))
    throw no(`it is not signed by ${certificate.name}`);
  const { usages } = certificate;
  // RFC 3161 2.3: critical, and nothing else.
  if (usages === null || !usages.critical || usages.oids.length !== 1 || usages.oids[0] !== TIME_STAMPING)
    throw no(`the certificate of ${certificate.name} is not one for timestamps`);
  return certificate;
}

function isNamed({ issuer, serial, keyId }: Certificate, who: Der | undefined): boolean {
  if (who?.tag === 0x80) return keyId !== null && sameDer(who.value, keyId);
  const [name, number] = sequenceOf(who, 'its signer');
  return name !== undefined && sameDer(name.whole, issuer) && integerOf(number, 'its signer') === serial;
}

/** The one value of each attribute. */
function attributesOf(set: Der): ReadonlyMap<string, Der> {
  const out = new Map<string, Der>();
  for (const attribute of partsOf(set)) {
    const [type, values] = sequenceOf(attribute, 'a signed attribute');
    const oid = oidOf(type, 'a signed attribute');
    const [value, ...more] = partsOf(expect(values, TAG.set, oid));
    if (value === undefined || more.length > 0 || out.has(oid))
      throw new DerError('DER_SYNTAX', `the signed attribute ${oid} is not one value`);
    out.set(oid, value);
  }
  return out;
}

/** Whether the signed attributes name this very certificate. */
function isBound(signed: ReadonlyMap<string, Der>, { der }: Certificate): boolean {
  const newer = signed.get(SIGNING_CERTIFICATE_V2);
  const value = newer ?? signed.get(SIGNING_CERTIFICATE);
  if (value === undefined) return false;
  const [first] = sequenceOf(sequenceOf(value, 'the certificates that it names')[0], 'the certificates that it names');
  const parts = sequenceOf(first, 'the certificate that it names');
  // Of ESSCertIDv2 the hash may be left out, which means SHA-256.
  const hash =
    newer === undefined
      ? sha1
      : parts[0]?.tag === TAG.sequence
        ? hashOf(parts.shift(), 'the hash of a name').of
        : sha256;
  return toHex(expect(parts[0], TAG.octetString, 'the certificate that it names').value) === toHex(hash(der));
}

/**
 * Trusted times of signing (docs/trust.md 3.3): what a log promised, or a timestamp authority stamped. Everything else that looks like a
 * time, in payloads, annotations, certificates and SCTs, is somebody's word.
 */
import { RFC3161Timestamp, type ASN1Obj } from '@sigstore/core';
import type { TransparencyLogEntry } from '@sigstore/bundle';
import type { TrustMaterial } from '@sigstore/verify';
import { formatInstant, type Instant } from '#src/clock.ts';
import { SIGNING_TIME_SKEW_MS } from '#src/limits.ts';
import { TrustError, type Material } from './material.ts';
import { quote } from './strictjson.ts';

const RSA_ALGORITHMS = new Map([
  ['1.2.840.113549.1.1.11', 'sha256'],
  ['1.2.840.113549.1.1.12', 'sha384'],
  ['1.2.840.113549.1.1.13', 'sha512'],
]);
/** rsaEncryption: the digest algorithm stands beside it. */
const RSA_ENCRYPTION = '1.2.840.113549.1.1.1';

/**
 * A token as the library verifies it, with three gaps closed: fractions of a second of any length (RFC 3161 2.4.2), RSA, and what was
 * stamped may be the envelope instead of the signature (cosign 2).
 */
class Token extends RFC3161Timestamp {
  readonly #stamped: readonly Uint8Array[];

  constructor(root: ASN1Obj, stamped: readonly Uint8Array[]) {
    super(root);
    this.#stamped = stamped;
  }

  override get signingTime(): Date {
    const text = this.tstInfo.root.subs[4]?.value.toString('latin1') ?? '';
    const match = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(?:\.(\d{1,9}))?Z$/.exec(text);
    if (match === null) throw new TrustError('BROKEN_TIMESTAMP', 'the timestamp has no time that RFC 3161 knows');
    const [, year, month, day, hour, minute, second, fraction = ''] = match;
    const iso = `${year}-${month}-${day}T${hour}:${minute}:${second}.${fraction.padEnd(3, '0').slice(0, 3)}Z`;
    const time = new Date(iso);
    if (Number.isNaN(time.getTime()) || time.toISOString() !== iso)
      throw new TrustError('BROKEN_TIMESTAMP', 'the timestamp names a day or an hour that does not exist');
    return time;
  }

  override get signatureAlgorithm(): string {
    const oid = this.signerInfo.subs[4]!.subs[0]!.toOID();
    if (oid === RSA_ENCRYPTION) return this.signerDigestAlgorithm;
    const algorithm: string | undefined = RSA_ALGORITHMS.get(oid) ?? super.signatureAlgorithm;
    // The library would go on with undefined, which OpenSSL takes for the usual digest of the key.
    if (algorithm === undefined)
      throw new TrustError(
        'BROKEN_TIMESTAMP',
        `the timestamp is signed by ${quote(oid)}, an algorithm that is not taken`,
      );
    return algorithm;
  }

  override verify(_data: Buffer, key: Parameters<RFC3161Timestamp['verify']>[1]): void {
    const fitting = this.#stamped.find((bytes) => this.#covers(bytes)) ?? this.#stamped[0]!;
    super.verify(Buffer.from(fitting), key);
  }

  #covers(bytes: Uint8Array): boolean {
    try {
      this.tstInfo.verify(Buffer.from(bytes));
      return true;
    } catch {
      return false; // another imprint: the answer to the question
    }
  }

  /** The one SignerInfo (RFC 5652 5.1): the last element of SignedData. */
  get signerInfo(): ASN1Obj {
    const signedData = this.root.subs[1]?.subs.find((sub) => sub.tag.isContextSpecific(0))?.subs[0];
    const infos = signedData?.subs.at(-1)?.subs ?? [];
    if (infos.length !== 1)
      throw new TrustError('BROKEN_TIMESTAMP', `the timestamp has ${infos.length} signers, not one`);
    return infos[0]!;
  }
}

/** The tokens that an authority of the root claims to have made. Those of others are nobody's word, as if they were not there. */
export function tokensOf(
  material: Material,
  authorities: TrustMaterial['timestampAuthorities'],
): { readonly tokens: readonly RFC3161Timestamp[]; readonly foreign: number } {
  const stamped = [material.signature, ...(material.stampedInstead === undefined ? [] : [material.stampedInstead])];
  const all = material.timestamps.map((der) => readToken(der, stamped));
  const tokens = all.filter((token) =>
    authorities.some(
      ({ certChain: [leaf] }) =>
        leaf !== undefined &&
        leaf.serialNumber.equals(token.signerSerialNumber) &&
        leaf.issuer.equals(token.signerIssuer),
    ),
  );
  return { tokens, foreign: all.length - tokens.length };
}

function readToken(der: Uint8Array, stamped: readonly Uint8Array[]): Token {
  try {
    const token = new Token(RFC3161Timestamp.parse(Buffer.from(der)).root, stamped);
    const { status } = token;
    // PKIStatus granted, or granted with modifications (RFC 3161 2.4.2).
    if (status !== 0n && status !== 1n) throw new TrustError('BROKEN_TIMESTAMP', 'the authority refused to stamp');
    // Each is read once here, so that what is malformed is said of the token and not of a chain later.
    void token.signingTime;
    void token.signatureAlgorithm;
    void token.signerIssuer;
    void token.signerSerialNumber;
    return token;
  } catch (cause) {
    if (cause instanceof TrustError) throw cause;
    throw new TrustError('BROKEN_TIMESTAMP', 'the timestamp is no RFC 3161 response', { cause });
  }
}

/** The times that an entry's log promised; an inclusion proof alone has none. */
export function promisedTime(entry: TransparencyLogEntry): Instant | undefined {
  return entry.inclusionPromise === undefined || Number(entry.integratedTime) === 0
    ? undefined
    : Number(entry.integratedTime) * 1000;
}

/** @throws {TrustError} FUTURE_TIMESTAMP */
export function mustBePast(times: readonly Instant[], now: Instant): void {
  const ahead = times.find((time) => !(time <= now + SIGNING_TIME_SKEW_MS));
  if (ahead !== undefined)
    throw new TrustError(
      'FUTURE_TIMESTAMP',
      `signed at ${Number.isFinite(ahead) && Math.abs(ahead) < 8e15 ? formatInstant(ahead) : ahead}, which is after now, ${formatInstant(now)}`,
    );
}

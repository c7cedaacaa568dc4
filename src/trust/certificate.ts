/** What a certificate allows, and what it says of itself: checks that the library leaves to us (docs/trust.md 3.5). */
import { X509Certificate } from 'node:crypto';
import { ASN1Obj, X509Certificate as CoreCertificate } from '@sigstore/core';
import { toHex } from '#src/bytes.ts';
import { formatInstant, type Instant } from '#src/clock.ts';
import { TrustError } from './material.ts';

export const EXTENDED_KEY_USAGE = '2.5.29.37';
export const CODE_SIGNING = '1.3.6.1.5.5.7.3.3';
export const TIME_STAMPING = '1.3.6.1.5.5.7.3.8';
const ANY_USAGE = '2.5.29.37.0';
const SUBJECT_ALT_NAME = '2.5.29.17';

/** A signing certificate, by both readers: Node's for what it says, the library's for what it verifies. */
export type SigningCertificate = {
  readonly der: Uint8Array;
  readonly node: X509Certificate;
  readonly core: CoreCertificate;
  /** Lower-case hex, as short as DER has it. */
  readonly serial: string;
};

/** @throws {TrustError} MALFORMED; whatever the parsers throw means the same. */
export function readCertificate(der: Uint8Array): SigningCertificate {
  const node = new X509Certificate(der);
  if (!node.raw.equals(der)) throw new TrustError('MALFORMED', 'the certificate has bytes after its end');
  const core = rememberDer(CoreCertificate.parse(Buffer.from(der)));
  // Two extensions of one kind: each reader may take another (RFC 5280 4.2 forbids it).
  const kinds = core.extensions.map((extension) => extension.subs[0]!.toOID());
  if (new Set(kinds).size !== kinds.length)
    throw new TrustError('MALFORMED', 'the certificate has two extensions of one kind');
  if (!kinds.includes(SUBJECT_ALT_NAME)) throw new TrustError('MALFORMED', 'the certificate names no subject');
  return { der, node, core, serial: toHex(core.serialNumber).replace(/^(?:00)+(?=.)/, '') };
}

/**
 * The library encodes a certificate anew for each comparison and verification, which was nine tenths of the time of one judgement. Parsed
 * certificates are not written to, so their encodings may be kept.
 */
export function rememberDer(certificate: CoreCertificate): CoreCertificate {
  const { root } = certificate;
  const tbs = root.subs[0];
  for (const part of [root, tbs, tbs?.subs[6]]) {
    if (part === undefined) continue;
    const der = part.toDER();
    part.toDER = () => der;
  }
  return certificate;
}

/** Whether the extended key usage allows `usage`. Without the extension everything is allowed, unless it must be `explicit`. */
export function allowsUsage(certificate: CoreCertificate, usage: string, { explicit }: { explicit: boolean }): boolean {
  const extension = certificate.extension(EXTENDED_KEY_USAGE);
  if (extension === undefined) return !explicit;
  const usages = ASN1Obj.parseBuffer(Buffer.from(extension.value)).subs.map((sub) => sub.toOID());
  return usages.includes(usage) || (!explicit && usages.includes(ANY_USAGE));
}

/** A leaf that signs code: not an authority, for digital signatures, for code. @throws {TrustError} CERTIFICATE_USAGE */
export function mustSignCode({ node, core }: SigningCertificate): void {
  const fault = (message: string) => new TrustError('CERTIFICATE_USAGE', `the signing certificate ${message}`);
  if (node.ca || core.extBasicConstraints?.isCA === true) throw fault('is that of an authority');
  if (core.extKeyUsage !== undefined && !core.extKeyUsage.digitalSignature) throw fault('may not sign');
  if (!allowsUsage(core, CODE_SIGNING, { explicit: true }))
    throw fault(`is not for signing code: its extended key usage is ${(node.keyUsage ?? ['none']).join(', ')}`);
}

/** Valid at each trusted time of signing; never asked about now. @throws {TrustError} OUTSIDE_VALIDITY */
export function mustBeValidAt({ core }: SigningCertificate, times: readonly Instant[]): void {
  const from = core.notBefore.getTime();
  const to = core.notAfter.getTime();
  const outside = times.find((time) => !(time >= from && time <= to));
  if (outside !== undefined)
    throw new TrustError(
      'OUTSIDE_VALIDITY',
      `signed at ${formatInstant(outside)}, but the certificate is valid from ${formatInstant(from)} to ${formatInstant(to)}`,
    );
}

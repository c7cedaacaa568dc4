/**
 * Who a certificate says signed, and whether that is who was asked for (docs/trust.md 3.6). Read from the certificate's bytes: the
 * library decodes names as seven-bit text, so that other bytes read as the name hoped for, and compares them as an unanchored pattern.
 */
import { RE2JS } from '@bufbuild/re2';
import { ASN1Obj } from '@sigstore/core';
import { IDENTITY_CHARS_MAX } from '#src/limits.ts';
import type { SigningCertificate } from './certificate.ts';
import { TrustError } from './material.ts';
import type { Identity, Pattern } from './requirement.ts';
import { quote } from './strictjson.ts';

// https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md
const ISSUER_V1 = '1.3.6.1.4.1.57264.1.1';
const ISSUER_V2 = '1.3.6.1.4.1.57264.1.8';
const OTHER_NAME = '1.3.6.1.4.1.57264.1.7';
const SUBJECT_ALT_NAME = '2.5.29.17';

/** Universal tag of an ASN.1 UTF8String. */
const UTF8_STRING = 0x0c;

export type CertificateIdentity = {
  readonly issuer: string;
  /** Each subject alternative name of a kind that an identity can have: e-mail, DNS, URI, IP address, Fulcio's other name. */
  readonly subjects: readonly string[];
};

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** @throws {TrustError} MALFORMED, WRONG_ISSUER where the certificate names two issuers */
export function identityOf({ core }: SigningCertificate): CertificateIdentity {
  const v1 = core.extension(ISSUER_V1)?.value;
  const v2 = inside(core.extension(ISSUER_V2));
  if (v2 !== undefined && !(v2.tag.isUniversal() && v2.tag.number === UTF8_STRING))
    throw new TrustError('MALFORMED', 'the issuer in the certificate is no UTF8String');
  const issuers = [v2?.value, v1].filter((bytes) => bytes !== undefined).map((bytes) => plain(bytes, 'issuer'));
  const [issuer] = issuers;
  if (issuer === undefined)
    throw new TrustError('WRONG_ISSUER', 'the certificate does not say who vouched for its subject');
  if (issuers.some((other) => other !== issuer))
    throw new TrustError('WRONG_ISSUER', `the certificate names two issuers: ${issuers.map(quote).join(' and ')}`);
  const names = inside(core.extension(SUBJECT_ALT_NAME))?.subs ?? [];
  return { issuer, subjects: names.flatMap(subjectOf) };
}

/** What an extension's octet string spells in DER. */
function inside(extension: { readonly value: Uint8Array } | undefined): ASN1Obj | undefined {
  return extension && ASN1Obj.parseBuffer(Buffer.from(extension.value));
}

/** GeneralName (RFC 5280 4.2.1.6). */
function subjectOf(name: ASN1Obj): string[] {
  if (name.tag.isContextSpecific(1)) return [plain(name.value, 'e-mail address')];
  if (name.tag.isContextSpecific(2)) return [plain(name.value, 'DNS name')];
  if (name.tag.isContextSpecific(6)) return [plain(name.value, 'URI')];
  if (name.tag.isContextSpecific(7)) return name.value.length === 4 ? [name.value.join('.')] : [];
  if (!name.tag.isContextSpecific(0)) return [];
  const [type, value] = name.subs;
  if (type?.toOID() !== OTHER_NAME) return [];
  const text = value?.subs[0];
  if (text === undefined || !(text.tag.isUniversal() && text.tag.number === UTF8_STRING))
    throw new TrustError('MALFORMED', 'the other name in the certificate is no UTF8String');
  return [plain(text.value, 'other name')];
}

/** Printable ASCII and nothing else: no NUL that ends a name for one reader, no letter that only looks like another. */
function plain(bytes: Uint8Array, what: string): string {
  const text = utf8.decode(bytes);
  if (!/^[\x20-\x7e]+$/.test(text) || text.length > IDENTITY_CHARS_MAX)
    throw new TrustError('MALFORMED', `the ${what} in the certificate is empty, too long or not plain ASCII`);
  return text;
}

/**
 * A regular expression as Go's `regexp.MatchString` takes it: RE2 syntax, unanchored, linear in what it reads.
 * @throws whatever the engine says of a pattern that is none; policy documents are checked with it when they are read.
 */
export function compileRegExp(pattern: string): (text: string) => boolean {
  if (pattern.length > IDENTITY_CHARS_MAX) throw new RangeError(`longer than ${IDENTITY_CHARS_MAX} characters`);
  const compiled = RE2JS.compile(pattern);
  return (text) => text.length <= IDENTITY_CHARS_MAX && compiled.test(text);
}

export function matches(pattern: Pattern, text: string): boolean {
  return 'exact' in pattern ? pattern.exact === text : compileRegExp(pattern.regExp)(text);
}

const show = (pattern: Pattern): string =>
  'exact' in pattern ? quote(pattern.exact) : `like ${quote(pattern.regExp)}`;

/** The subject that fits one of the identities, together with the issuer. @throws {TrustError} WRONG_ISSUER, WRONG_IDENTITY */
export function mustMatch({ issuer, subjects }: CertificateIdentity, wanted: readonly Identity[]): string {
  let nearest: 'WRONG_ISSUER' | 'WRONG_IDENTITY' = 'WRONG_IDENTITY';
  for (const identity of wanted) {
    const subject = subjects.find((name) => matches(identity.subject, name));
    if (subject === undefined) continue;
    if (matches(identity.issuer, issuer)) return subject;
    nearest = 'WRONG_ISSUER';
  }
  const asked = wanted.slice(0, 5).map(({ issuer, subject }) => `${show(subject)} (issuer ${show(issuer)})`);
  throw new TrustError(
    nearest,
    `signed by ${subjects.map(quote).join(', ') || 'nobody'} (issuer ${quote(issuer)}); asked for ${asked.join(' or ') || 'nobody'}`,
  );
}

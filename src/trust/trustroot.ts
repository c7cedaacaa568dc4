/**
 * Trust roots: `trusted_root.json` files (protobuf-specs, sigstore_trustroot.proto), each under a name of its own and never merged: a
 * private authority must not vouch for public identities, nor the other way round (docs/trust.md 4).
 */
import { X509Certificate } from 'node:crypto';
import { X509Certificate as CoreCertificate } from '@sigstore/core';
import { TrustedRoot } from '@sigstore/protobuf-specs';
import { toTrustMaterial, type TrustMaterial } from '@sigstore/verify';
import { z } from 'zod';
import { fromBase64 } from '#src/bytes.ts';
import type { Instant } from '#src/clock.ts';
import { digestOf, type Digest, type Sha256 } from '#src/digest.ts';
import { BootproofError } from '#src/error.ts';
import { TRUST_ROOT_BYTES_MAX } from '#src/limits.ts';
import { allowsUsage, CODE_SIGNING, TIME_STAMPING, EXTENDED_KEY_USAGE, rememberDer } from './certificate.ts';
import { TrustError } from './material.ts';
import type { TrustRootName } from './requirement.ts';
import { quote, strictObject } from './strictjson.ts';

export class TrustRootError extends BootproofError<'TRUST_ROOT_SYNTAX' | 'TRUST_ROOT_TOO_LARGE'> {}

export type TrustRoot = {
  readonly name: TrustRootName;
  /** Of the file's bytes: what a verdict says it was reached under. */
  readonly sha256: Digest;
  readonly material: Pick<TrustMaterial, 'certificateAuthorities' | 'timestampAuthorities' | 'tlogs' | 'ctlogs'>;
  /** Authorities of the file that are set aside because their certificates do not allow what they are listed for. */
  readonly setAside: readonly string[];
};

export type TrustRoots = ReadonlyMap<TrustRootName, TrustRoot>;

const MEDIA_TYPES = new Set([
  'application/vnd.dev.sigstore.trustedroot+json;version=0.1',
  'application/vnd.dev.sigstore.trustedroot+json;version=0.2',
  'application/vnd.dev.sigstore.trustedroot.v0.1+json',
  'application/vnd.dev.sigstore.trustedroot.v0.2+json',
]);

const Base64 = z.string().refine((text) => {
  try {
    return text !== '' && fromBase64(text).length > 0;
  } catch {
    return false; // another spelling: the answer to the question
  }
}, 'expected base64');
const Time = z.iso.datetime({ offset: true });
// The library takes a missing start for the epoch, and the conformance suite wants it refused: a key without one counts from nowhere.
const Validity = z.looseObject({ start: Time, end: Time.nullish() });
const Log = z.looseObject({
  baseUrl: z.string().min(1).max(2048),
  publicKey: z.looseObject({ rawBytes: Base64, keyDetails: z.string(), validFor: Validity }),
  logId: z.looseObject({ keyId: Base64 }),
  checkpointKeyId: z.looseObject({ keyId: Base64 }).nullish(),
});
const Authority = z.looseObject({
  uri: z.string().max(2048).optional(),
  certChain: z.looseObject({
    certificates: z
      .array(z.looseObject({ rawBytes: Base64 }))
      .min(1)
      .max(10),
  }),
  validFor: Validity,
});
const TrustedRootJson = z.looseObject({
  mediaType: z.string().refine((type) => MEDIA_TYPES.has(type), 'no trusted root of version 0.1 or 0.2'),
  tlogs: z.array(Log).max(100).optional(),
  certificateAuthorities: z.array(Authority).max(100).optional(),
  ctlogs: z.array(Log).max(100).optional(),
  timestampAuthorities: z.array(Authority).max(100).optional(),
});

/** Reads a trusted_root.json. @throws {TrustRootError} */
export function readTrustRoot(name: TrustRootName, bytes: Uint8Array, hash?: Sha256): TrustRoot {
  if (bytes.length > TRUST_ROOT_BYTES_MAX)
    throw new TrustRootError(
      'TRUST_ROOT_TOO_LARGE',
      `trust root ${name} has ${bytes.length} bytes; at most ${TRUST_ROOT_BYTES_MAX}`,
    );
  const fault = (message: string, cause?: unknown) =>
    new TrustRootError('TRUST_ROOT_SYNTAX', `trust root ${name}: ${message}`, { cause });
  let material: TrustMaterial;
  const setAside: string[] = [];
  try {
    const json = strictObject(bytes, 'the file');
    const checked = TrustedRootJson.safeParse(json);
    if (!checked.success) {
      const { path, message } = checked.error.issues[0]!;
      throw fault(`${path.join('.')}: ${message}`);
    }
    material = toTrustMaterial(TrustedRoot.fromJSON(json));
    for (const { certChain } of [...material.certificateAuthorities, ...material.timestampAuthorities])
      for (const certificate of certChain) rememberDer(certificate);
    for (const { publicKey, baseURL } of [...material.tlogs, ...material.ctlogs])
      if (publicKey.asymmetricKeyType === undefined) throw fault(`the key of ${quote(baseURL)} has no type`);
  } catch (error) {
    if (error instanceof TrustRootError) throw error;
    if (error instanceof TrustError) throw fault(error.message, error);
    throw fault('a key or certificate in it cannot be read', error);
  }
  const allowed = <T extends { certChain: CoreCertificate[] }>(
    authorities: readonly T[],
    what: string,
    fits: (chain: readonly CoreCertificate[]) => boolean,
  ) =>
    authorities.filter(({ certChain }, index) => {
      if (fits(certChain)) return true;
      setAside.push(`${what} ${index}`);
      return false;
    });
  try {
    return {
      name,
      sha256: digestOf(bytes, hash),
      material: {
        tlogs: material.tlogs,
        ctlogs: material.ctlogs,
        certificateAuthorities: allowed(
          material.certificateAuthorities,
          'certificate authority',
          // RFC 5280 4.2.1.12 as Go reads it: usages of an issuer bound those of what it issues.
          (chain) => chain.every((certificate) => allowsUsage(certificate, CODE_SIGNING, { explicit: false })),
        ),
        timestampAuthorities: allowed(material.timestampAuthorities, 'timestamp authority', mayStamp),
      },
      setAside,
    };
  } catch (error) {
    throw fault('a certificate in it cannot be read', error);
  }
}

/** RFC 3161 2.3: the stamping certificate allows timeStamping, critically, and is no authority. */
function mayStamp(chain: readonly CoreCertificate[]): boolean {
  const [leaf, ...issuers] = chain;
  if (leaf === undefined || new X509Certificate(leaf.root.toDER()).ca) return false;
  return (
    allowsUsage(leaf, TIME_STAMPING, { explicit: true }) &&
    leaf.extension(EXTENDED_KEY_USAGE)?.critical === true &&
    issuers.every((issuer) => allowsUsage(issuer, TIME_STAMPING, { explicit: false }))
  );
}

/** Something of a root that is valid only so long; what was signed before stays good (docs/trust.md 4.3). */
export type RootEnd = { readonly what: string; readonly at: Instant };

/** What of a root ends next after `now`: the window of a key or authority, or a certificate's own time. */
export function endsNext({ material }: Pick<TrustRoot, 'material'>, now: Instant): RootEnd | undefined {
  const { tlogs, ctlogs, certificateAuthorities, timestampAuthorities } = material;
  const logs = (all: typeof tlogs, what: string): RootEnd[] =>
    all.map(({ baseURL, validFor }) => ({ what: `${what} ${baseURL}`, at: validFor.end.getTime() }));
  const authorities = (all: typeof certificateAuthorities, what: string): RootEnd[] =>
    all.flatMap(({ certChain, validFor }, index) =>
      [validFor.end, ...certChain.map(({ notAfter }) => notAfter)].map((end) => ({
        what: `${what} ${index}`,
        at: end.getTime(),
      })),
    );
  return (
    [
      ...logs(tlogs, 'transparency log'),
      ...logs(ctlogs, 'CT log'),
      ...authorities(certificateAuthorities, 'certificate authority'),
      ...authorities(timestampAuthorities, 'timestamp authority'),
    ]
      // What has no end has the end of time in sigstore's library.
      .filter(({ at }) => at > now && at < NO_END)
      .sort((a, b) => a.at - b.at)[0]
  );
}

const NO_END = Date.UTC(9999, 0, 1);

/** Sigstore bundles v0.1 to v0.3 (protobuf-specs, sigstore_bundle.proto) → material. Strict, bounded, nothing verified (docs/trust.md 2.2). */
import { bundleFromJSON, ValidationError } from '@sigstore/bundle';
import { z } from 'zod';
import { fromBase64, toHex } from '#src/bytes.ts';
import {
  CHAIN_CERTIFICATES_MAX,
  LOG_ENTRIES_MAX,
  SIGNATURE_DER_BYTES_MAX,
  STATEMENT_BYTES_MAX,
  TIMESTAMPS_MAX,
} from '#src/limits.ts';
import {
  orFailed,
  TrustError,
  type Material,
  type Place,
  type Signed,
  type SignedBy,
  type SignedEntity,
} from './material.ts';
import { readStatement } from './statement.ts';
import { quote, strictObject } from './strictjson.ts';

/** What every media type of a bundle's layer begins with. */
export const BUNDLE_LAYER = 'application/vnd.dev.sigstore.bundle';

const MEDIA_TYPES = new Set([
  'application/vnd.dev.sigstore.bundle+json;version=0.1',
  'application/vnd.dev.sigstore.bundle+json;version=0.2',
  'application/vnd.dev.sigstore.bundle+json;version=0.3',
  'application/vnd.dev.sigstore.bundle.v0.3+json',
]);

/** Envelope and JSON around a statement, in base64. */
const BUNDLE_BYTES_MAX = 2 * STATEMENT_BYTES_MAX;

// The library's base64 takes anything; two spellings of one content would be two evidences.
const Base64 = z.string().refine((text) => {
  try {
    return text !== '' && fromBase64(text).length > 0;
  } catch {
    return false; // another spelling: the answer to the question
  }
}, 'expected base64 in its one canonical spelling');
const Der = z
  .string()
  .max(2 * SIGNATURE_DER_BYTES_MAX)
  .pipe(Base64);
const Short = z.string().max(4096).pipe(Base64);
// Protobuf writes int64 as text; a negative index has verified elsewhere (conformance, bundle-negative-log-index).
const Int64 = z.union([z.string().regex(/^(?:0|[1-9][0-9]{0,17})$/), z.int().min(0)]);
const Hash = z.string().max(128).pipe(Base64);

const EntryJson = z.looseObject({
  logIndex: Int64.optional(),
  logId: z.looseObject({ keyId: Short }),
  kindVersion: z.looseObject({ kind: z.string().max(64), version: z.string().max(64) }),
  integratedTime: Int64.optional(),
  inclusionPromise: z.looseObject({ signedEntryTimestamp: Short }).nullish(),
  inclusionProof: z
    .looseObject({
      logIndex: Int64.optional(),
      rootHash: Hash,
      treeSize: Int64,
      hashes: z.array(Hash).max(64).optional(),
      checkpoint: z.looseObject({ envelope: z.string().max(65_536) }),
    })
    .nullish(),
  canonicalizedBody: Base64,
});

const BundleJson = z.looseObject({
  mediaType: z.string().refine((type) => MEDIA_TYPES.has(type), 'no bundle of version 0.1, 0.2 or 0.3'),
  verificationMaterial: z.looseObject({
    publicKey: z.looseObject({ hint: z.string().max(4096).optional() }).optional(),
    certificate: z.looseObject({ rawBytes: Der }).optional(),
    x509CertificateChain: z
      .looseObject({
        certificates: z
          .array(z.looseObject({ rawBytes: Der }))
          .min(1)
          .max(CHAIN_CERTIFICATES_MAX),
      })
      .optional(),
    tlogEntries: z.array(EntryJson).max(LOG_ENTRIES_MAX).optional(),
    timestampVerificationData: z
      .looseObject({
        rfc3161Timestamps: z
          .array(z.looseObject({ signedTimestamp: Der }))
          .max(TIMESTAMPS_MAX)
          .optional(),
      })
      .nullish(),
  }),
  messageSignature: z
    .looseObject({ messageDigest: z.looseObject({ algorithm: z.string().max(64), digest: Hash }), signature: Short })
    .optional(),
  dsseEnvelope: z
    .looseObject({
      payload: Base64,
      payloadType: z.string().max(256),
      signatures: z.tuple([z.looseObject({ sig: Short, keyid: z.string().max(4096).optional() })]),
    })
    .optional(),
});

const MESSAGE_DIGESTS = new Map([
  ['SHA2_256', 'sha256'],
  ['SHA2_384', 'sha384'],
  ['SHA2_512', 'sha512'],
]);

/** A bundle in a file of its own, as `--bundle` takes it. Bytes that are none become an entity that says so. */
export function bundleFile(bytes: Uint8Array, name: string): SignedEntity {
  const place: Place = { source: name, by: 'file', tag: undefined, of: undefined, manifest: undefined, layer: 0 };
  const content = orFailed('the bundle', () => readBundle(bytes));
  return { format: 'bundle', place, raw: { manifest: undefined, blob: bytes }, content };
}

/** @throws {TrustError} MALFORMED, TOO_MANY; others that the library throws mean malformed too. */
export function readBundle(bytes: Uint8Array): Material {
  if (bytes.length > BUNDLE_BYTES_MAX)
    throw new TrustError('TOO_MANY', `a bundle of ${bytes.length} bytes; at most ${BUNDLE_BYTES_MAX}`);
  const json = strictObject(bytes, 'the bundle');
  const checked = BundleJson.safeParse(json);
  if (!checked.success) {
    const issue = checked.error.issues[0]!;
    throw new TrustError(
      issue.code === 'too_big' && issue.path.at(-1) !== 'signatures' ? 'TOO_MANY' : 'MALFORMED',
      `the bundle: ${quote(issue.path.join('.'))}: ${issue.message}`,
    );
  }
  const { verificationMaterial, messageSignature, dsseEnvelope } = checked.data;
  const { publicKey, certificate, x509CertificateChain } = verificationMaterial;
  exactlyOne([messageSignature, dsseEnvelope], 'messageSignature, dsseEnvelope');
  exactlyOne([publicKey, certificate, x509CertificateChain], 'publicKey, certificate, x509CertificateChain');
  const bundle = fromJson(json);
  return {
    signed: signedOf(bundle.content),
    signature: Uint8Array.from(
      bundle.content.$case === 'dsseEnvelope'
        ? bundle.content.dsseEnvelope.signatures[0]!.sig
        : bundle.content.messageSignature.signature,
    ),
    by: byOf(bundle.verificationMaterial.content),
    entries: bundle.verificationMaterial.tlogEntries,
    timestamps: (bundle.verificationMaterial.timestampVerificationData?.rfc3161Timestamps ?? []).map(
      ({ signedTimestamp }) => Uint8Array.from(signedTimestamp),
    ),
    stampedInstead: undefined,
  };

  // Narrowed here, because the library's own types say less than its messages do.
  function signedOf(content: typeof bundle.content): Signed {
    if (content.$case === 'dsseEnvelope') {
      const { payloadType } = content.dsseEnvelope;
      const payload = Uint8Array.from(content.dsseEnvelope.payload);
      return { kind: 'statement', payloadType, payload, statement: readStatement(payloadType, payload) };
    }
    const name = messageSignature?.messageDigest.algorithm ?? '';
    const algorithm = MESSAGE_DIGESTS.get(name);
    if (algorithm === undefined)
      throw new TrustError('UNSUPPORTED_ALGORITHM', `a message digest by ${quote(name)}, which is not taken`);
    return { kind: 'message', digest: { algorithm, hex: toHex(content.messageSignature.messageDigest.digest) } };
  }

  function byOf(content: typeof bundle.verificationMaterial.content): SignedBy {
    switch (content.$case) {
      case 'publicKey':
        return { kind: 'key', hint: content.publicKey.hint };
      case 'certificate':
        return { kind: 'certificate', der: Uint8Array.from(content.certificate.rawBytes) };
      case 'x509CertificateChain':
        // Only the leaf is taken from the bundle: issuers come from the trust root.
        return { kind: 'certificate', der: Uint8Array.from(content.x509CertificateChain.certificates[0]!.rawBytes) };
    }
  }
}

function fromJson(json: unknown): ReturnType<typeof bundleFromJSON> {
  try {
    return bundleFromJSON(json);
  } catch (cause) {
    const fields = cause instanceof ValidationError ? cause.fields?.map(quote).join(', ') : undefined;
    throw new TrustError('MALFORMED', `the bundle lacks what its version demands: ${fields ?? 'a readable field'}`, {
      cause,
    });
  }
}

function exactlyOne(parts: readonly unknown[], names: string): void {
  if (parts.filter((part) => part !== undefined).length !== 1)
    throw new TrustError('MALFORMED', `the bundle must have exactly one of ${names}`);
}

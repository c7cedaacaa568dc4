/**
 * What cosign 1 and 2 (and 3 when told to), skopeo and podman write: a layer for each signature or attestation, with everything else in
 * the layer's annotations (cosign specs/SIGNATURE_SPEC.md; docs/trust.md 2.6) → material.
 */
import { X509Certificate } from 'node:crypto';
import type { TransparencyLogEntry } from '@sigstore/bundle';
import { TransparencyLogEntry as EntryMessage } from '@sigstore/protobuf-specs';
import { z } from 'zod';
import { fromHex, toBase64 } from '#src/bytes.ts';
import { SIGNATURE_DER_BYTES_MAX, STATEMENT_BYTES_MAX } from '#src/limits.ts';
import { TrustError, type Material, type SignedBy } from './material.ts';
import { readSimpleSigning, readStatement } from './statement.ts';
import { base64, strictObject } from './strictjson.ts';

export const SIMPLE_SIGNING_LAYER = 'application/vnd.dev.cosign.simplesigning.v1+json';
export const ENVELOPE_LAYER = 'application/vnd.dsse.envelope.v1+json';

const SIGNATURE = 'dev.cosignproject.cosign/signature';
const CERTIFICATE = 'dev.sigstore.cosign/certificate';
const BUNDLE = 'dev.sigstore.cosign/bundle';
const TIMESTAMP = 'dev.sigstore.cosign/rfc3161timestamp';

export type Annotations = ReadonlyMap<string, string>;

/** Whether a layer says that it is a signature at all: without the annotation cosign does not read it either. */
export function isSignatureLayer(annotations: Annotations): boolean {
  return annotations.has(SIGNATURE);
}

/** A `.sig` layer: the payload is signed as the bytes that it is. @throws {TrustError} MALFORMED, TOO_MANY */
export function readSignatureLayer(blob: Uint8Array, annotations: Annotations): Material {
  const claims = readSimpleSigning(blob);
  return {
    signed: { kind: 'simple-signing', payload: blob, claims },
    signature: base64(annotations.get(SIGNATURE), `annotation ${SIGNATURE}`),
    ...materialOf(annotations),
    stampedInstead: undefined,
  };
}

const Envelope = z.looseObject({
  payloadType: z.string().max(256),
  payload: z.string(),
  signatures: z.tuple([z.looseObject({ sig: z.string().max(4096), keyid: z.string().max(4096).nullish() })]),
});

/** An `.att` layer: a DSSE envelope around a statement. @throws {TrustError} MALFORMED, TOO_MANY */
export function readAttestationLayer(blob: Uint8Array, annotations: Annotations): Material {
  const what = 'the envelope';
  if (blob.length > 2 * STATEMENT_BYTES_MAX) throw new TrustError('TOO_MANY', `${what} has ${blob.length} bytes`);
  const envelope = Envelope.safeParse(strictObject(blob, what));
  if (!envelope.success) throw new TrustError('MALFORMED', `${what} is no DSSE envelope with exactly one signature`);
  const { payloadType, signatures } = envelope.data;
  const payload = base64(envelope.data.payload, `${what}: payload`);
  return {
    signed: { kind: 'statement', payloadType, payload, statement: readStatement(payloadType, payload) },
    signature: base64(signatures[0].sig, `${what}: sig`),
    ...materialOf(annotations),
    // cosign 2 has the envelope stamped and not the signature; both are tried (time.ts).
    stampedInstead: blob,
  };
}

function materialOf(annotations: Annotations): Pick<Material, 'by' | 'entries' | 'timestamps'> {
  return {
    by: signedBy(annotations.get(CERTIFICATE)),
    entries: present(annotations.get(BUNDLE), readLogEntry),
    timestamps: present(annotations.get(TIMESTAMP), readTimestamp),
  };
}

/** cosign 3 writes some annotations as empty texts. What is there must be readable: a broken entry is never "none" (CVE-2022-36056). */
function present<T>(text: string | undefined, read: (text: string) => T): readonly T[] {
  return text === undefined || text === '' ? [] : [read(text)];
}

function signedBy(pem: string | undefined): SignedBy {
  if (pem === undefined || pem === '') return { kind: 'key', hint: '' };
  const what = `annotation ${CERTIFICATE}`;
  const match = /^\s*-----BEGIN CERTIFICATE-----\s*([A-Za-z0-9+/=\s]+?)\s*-----END CERTIFICATE-----\s*$/.exec(pem);
  if (pem.length > 2 * SIGNATURE_DER_BYTES_MAX || match === null)
    throw new TrustError('MALFORMED', `${what} is not one certificate in PEM`);
  const der = base64(match[1]!.replace(/\s/g, ''), what);
  const certificate = new X509Certificate(der);
  // What stands after the certificate in its own bytes is nobody's.
  if (!certificate.raw.equals(der)) throw new TrustError('MALFORMED', `${what} has bytes after its end`);
  return { kind: 'certificate', der };
}

const RekorBundle = z.looseObject({
  SignedEntryTimestamp: z.string().max(4096),
  Payload: z.looseObject({
    body: z.string().max(1_000_000),
    integratedTime: z.int().min(1),
    logIndex: z.int().min(0),
    logID: z.string().max(128),
  }),
});
const Body = z.looseObject({ kind: z.string().max(64), apiVersion: z.string().max(64) });

/** Rekor's "bundle" of a signed entry timestamp, which is no sigstore bundle → a log entry with a promise and no proof. */
function readLogEntry(text: string): TransparencyLogEntry {
  const what = `annotation ${BUNDLE}`;
  const parsed = RekorBundle.safeParse(strictObject(text, what));
  if (!parsed.success) throw new TrustError('MALFORMED', `${what} is no signed entry timestamp`);
  const { SignedEntryTimestamp, Payload } = parsed.data;
  // The promise signs this very text, so only the spelling that we would write again may pass.
  const body = base64(Payload.body, `${what}: body`);
  const kind = Body.safeParse(strictObject(body, `${what}: body`));
  if (!kind.success) throw new TrustError('MALFORMED', `${what}: the body has no kind`);
  return EntryMessage.fromJSON({
    logIndex: String(Payload.logIndex),
    logId: { keyId: toBase64(fromHex(Payload.logID)) },
    kindVersion: { kind: kind.data.kind, version: kind.data.apiVersion },
    integratedTime: String(Payload.integratedTime),
    inclusionPromise: { signedEntryTimestamp: toBase64(base64(SignedEntryTimestamp, what)) },
    canonicalizedBody: Payload.body,
  }) as TransparencyLogEntry;
}

function readTimestamp(text: string): Uint8Array {
  const what = `annotation ${TIMESTAMP}`;
  const { SignedRFC3161Timestamp } = strictObject(text, what);
  const der = base64(SignedRFC3161Timestamp, what);
  if (der.length > SIGNATURE_DER_BYTES_MAX) throw new TrustError('TOO_MANY', `${what} has ${der.length} bytes`);
  return der;
}

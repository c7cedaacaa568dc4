/**
 * Binds a log entry to the signature (docs/trust.md 3.7). That an entry is in the log says nothing until it is the entry of these bytes,
 * this signature and this key: the library compares the first two, and cosign forgot the third once (CVE-2026-22703).
 */
import { createPublicKey, hash, X509Certificate } from 'node:crypto';
import type { TransparencyLogEntry } from '@sigstore/bundle';
import { z } from 'zod';
import { toBase64, toHex } from '#src/bytes.ts';
import { canonicalJson } from '#src/signing/canonical.ts';
import { digestBySize, signedDigest } from './content.ts';
import { keyOf, type Key } from './keys.ts';
import { TrustError, type Material } from './material.ts';
import { quote, strictObject, type JsonObject } from './strictjson.ts';

/** The key that verified, and the certificate where it came out of one. */
export type Verifier = { readonly key: Key; readonly certificate: Uint8Array | undefined };

const Pem = z.string().max(100_000);
const HashedRekord1 = z.looseObject({
  spec: z.looseObject({
    data: z.looseObject({ hash: z.looseObject({ algorithm: z.string(), value: z.string() }) }),
    signature: z.looseObject({ content: z.string(), publicKey: z.looseObject({ content: Pem }) }),
  }),
});
const Dsse1 = z.looseObject({
  spec: z.looseObject({
    payloadHash: z.looseObject({ algorithm: z.literal('sha256'), value: z.string() }),
    signatures: z.tuple([z.looseObject({ signature: z.string(), verifier: Pem })]),
  }),
});
const Intoto2 = z.looseObject({
  spec: z.looseObject({
    content: z.looseObject({
      payloadHash: z.looseObject({ algorithm: z.literal('sha256'), value: z.string() }),
      envelope: z.looseObject({ signatures: z.tuple([z.looseObject({ sig: z.string(), publicKey: Pem })]) }),
    }),
  }),
});
const VerifierJson = z.union([
  z.strictObject({ keyDetails: z.string(), x509Certificate: z.strictObject({ rawBytes: z.string() }) }),
  z.strictObject({ keyDetails: z.string(), publicKey: z.strictObject({ rawBytes: z.string() }) }),
]);
const Digest2 = z.strictObject({ algorithm: z.enum(['SHA2_256', 'SHA2_384', 'SHA2_512']), digest: z.string() });
const Signature2 = z.strictObject({ content: z.string(), verifier: VerifierJson });
const HashedRekord2 = z.strictObject({
  apiVersion: z.literal('0.0.2'),
  kind: z.literal('hashedrekord'),
  spec: z.strictObject({ hashedRekordV002: z.strictObject({ data: Digest2, signature: Signature2 }) }),
});
const Dsse2 = z.strictObject({
  apiVersion: z.literal('0.0.2'),
  kind: z.literal('dsse'),
  spec: z.strictObject({ dsseV002: z.strictObject({ payloadHash: Digest2, signatures: z.tuple([Signature2]) }) }),
});

const HASHES = { SHA2_256: 'sha256', SHA2_384: 'sha384', SHA2_512: 'sha512' } as const;
/** PublicKeyDetails (sigstore_common.proto) by type of key; an entry may not call a key something else. */
const KEY_DETAILS = new Map([
  ['ec', /^PKIX_ECDSA_P(?:256|384|521)_SHA_(?:256|384|512)$/],
  ['rsa', /^PKIX_RSA_PKCS1V15_(?:2048|3072|4096)_SHA256$/],
  ['ed25519', /^PKIX_ED25519(?:_PH)?$/],
]);

/** @throws {TrustError} LOG_ENTRY_MISMATCH, UNSUPPORTED_LOG_ENTRY */
export function mustBind(
  entry: TransparencyLogEntry,
  material: Material,
  artifact: Uint8Array | undefined,
  verifier: Verifier,
): void {
  const { kind, version } = entry.kindVersion;
  const body = strictObject(Uint8Array.from(entry.canonicalizedBody), 'the body of the log entry');
  const id = `${kind} ${version}`;
  if (body['kind'] !== kind || body['apiVersion'] !== version)
    throw mismatch(
      `it is told as ${quote(id)} and is ${quote(`${String(body['kind'])} ${String(body['apiVersion'])}`)}`,
    );
  const signature = toBase64(material.signature);
  switch (id) {
    case 'hashedrekord 0.0.1': {
      const { data, signature: logged } = parse(HashedRekord1, body).spec;
      const algorithm = digestBySize(data.hash.value.length / 2);
      if (algorithm === undefined || data.hash.algorithm !== algorithm)
        throw mismatch('its digest has no known algorithm');
      same(data.hash.value, toHex(signedDigest(material.signed, artifact, algorithm)), 'the signed bytes');
      same(logged.content, signature, 'the signature');
      return sameVerifier(logged.publicKey.content, verifier);
    }
    case 'dsse 0.0.1': {
      const { payloadHash, signatures } = parse(Dsse1, body).spec;
      same(payloadHash.value, payloadDigest(material), 'the payload');
      same(signatures[0].signature, signature, 'the signature');
      return sameVerifier(signatures[0].verifier, verifier);
    }
    case 'intoto 0.0.2': {
      const { payloadHash, envelope } = parse(Intoto2, body).spec.content;
      same(payloadHash.value, payloadDigest(material), 'the payload');
      // The signature is in base64 twice (rekor's type has bytes of what already was text).
      same(envelope.signatures[0].sig, toBase64(Buffer.from(signature, 'latin1')), 'the signature');
      return sameVerifier(envelope.signatures[0].publicKey, verifier);
    }
    case 'hashedrekord 0.0.2': {
      const { data, signature: logged } = parse(HashedRekord2, body).spec.hashedRekordV002;
      const digest = toBase64(signedDigest(material.signed, artifact, HASHES[data.algorithm]));
      return rebuilt(entry, kind, 'hashedRekordV002', {
        data: { algorithm: data.algorithm, digest },
        signature: { content: signature, verifier: verifierJson(logged.verifier.keyDetails, verifier) },
      });
    }
    case 'dsse 0.0.2': {
      const { payloadHash, signatures } = parse(Dsse2, body).spec.dsseV002;
      if (payloadHash.algorithm !== 'SHA2_256') throw mismatch('it has another digest than SHA-256 of the payload');
      return rebuilt(entry, kind, 'dsseV002', {
        payloadHash: { algorithm: 'SHA2_256', digest: Buffer.from(payloadDigest(material), 'hex').toString('base64') },
        signatures: [{ content: signature, verifier: verifierJson(signatures[0].verifier.keyDetails, verifier) }],
      });
    }
    default:
      throw new TrustError(
        'UNSUPPORTED_LOG_ENTRY',
        `a log entry of kind ${quote(id)}, which cannot be bound to a signature`,
      );
  }
}

/**
 * The proof's own size and root must be those of the checkpoint: the library takes the checkpoint's and lets the others say anything.
 * @throws {TrustError} BROKEN_INCLUSION
 */
export function mustAgree({ inclusionProof }: TransparencyLogEntry): void {
  if (inclusionProof === undefined) return;
  const [, size, root] = (inclusionProof.checkpoint?.envelope ?? '').split('\n', 3);
  if (size !== inclusionProof.treeSize || root !== toBase64(inclusionProof.rootHash))
    throw new TrustError('BROKEN_INCLUSION', 'the inclusion proof is for another tree than its checkpoint');
}

/** Rekor v2 writes canonical JSON of nothing but the signature: rebuilt from ours it must be the same bytes (sigstore-go does so). */
function rebuilt(entry: TransparencyLogEntry, kind: string, part: string, spec: object): void {
  const text = canonicalJson({ apiVersion: '0.0.2', kind, spec: { [part]: spec } });
  if (text !== Buffer.from(entry.canonicalizedBody).toString('utf8'))
    throw mismatch('its body is that of another signature, key or artifact');
}

function verifierJson(keyDetails: string, { key, certificate }: Verifier): object {
  if (KEY_DETAILS.get(key.object.asymmetricKeyType ?? '')?.test(keyDetails) !== true)
    throw mismatch(`it calls the key ${quote(keyDetails)}`);
  return certificate === undefined
    ? { keyDetails, publicKey: { rawBytes: toBase64(key.spki) } }
    : { keyDetails, x509Certificate: { rawBytes: toBase64(certificate) } };
}

function payloadDigest({ signed }: Material): string {
  if (signed.kind !== 'statement') throw mismatch('it is that of an envelope, and this signature has none');
  return hash('sha256', signed.payload, 'hex');
}

/** The PEM in a Rekor v1 entry must be our certificate, or our key. A certificate around our key is our key with a name. */
function sameVerifier(content: string, { key, certificate }: Verifier): void {
  const pem = Buffer.from(content, 'base64').toString('latin1');
  let equal: boolean;
  try {
    const isCertificate = pem.includes('BEGIN CERTIFICATE');
    equal =
      certificate !== undefined
        ? isCertificate && new X509Certificate(pem).raw.equals(certificate)
        : Buffer.from(keyOf(isCertificate ? new X509Certificate(pem).publicKey : createPublicKey(pem)).spki).equals(
            key.spki,
          );
  } catch (cause) {
    throw new TrustError('LOG_ENTRY_MISMATCH', 'the log entry names a key that cannot be read', { cause });
  }
  if (!equal) throw mismatch(`it was logged for another ${certificate === undefined ? 'key' : 'certificate'}`);
}

function parse<T>(schema: z.ZodType<T>, body: JsonObject): T {
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  throw mismatch(`its body is not of its kind (${quote(parsed.error.issues[0]!.path.join('.'))})`);
}

function same(logged: string, ours: string, what: string): void {
  if (logged !== ours) throw mismatch(`it is that of another artifact: ${what} differ`);
}

const mismatch = (why: string): TrustError =>
  new TrustError('LOG_ENTRY_MISMATCH', `the log entry does not fit: ${why}`);

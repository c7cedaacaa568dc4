/** Signs images without a long-lived key: a certificate for ten minutes, a log entry and a timestamp prove who and when. In cosign's two forms. */
import { hash, sign } from 'node:crypto';
import { fromHex, toBase64 } from '#src/bytes.ts';
import { digestOf, type Digest } from '#src/digest.ts';
import { OCI_MANIFEST } from '#src/image/ocimanifest.ts';
import { pae } from '#src/signing/dsse.ts';
import { COSIGN_SIGN, INTOTO_PAYLOAD } from '#src/trust/statement.ts';
import { nodeSha256, type PackedImage } from './pack.ts';
import { makeKey, signatureImage, signatureOf } from './sign.ts';
import type { Sigstore, Who } from './sigstore.ts';

const BUNDLE = 'application/vnd.dev.sigstore.bundle.v0.3+json';

const pem = (der: Uint8Array): string =>
  `-----BEGIN CERTIFICATE-----\n${toBase64(der).replace(/.{1,64}/g, '$&\n')}-----END CERTIFICATE-----\n`;
const base64 = (text: string): string => Buffer.from(text).toString('base64');

/** As cosign 2: under the tag `sha256-HEX.sig`, with certificate and log entry as annotations. Hosts can read it. */
export async function keylessSignature(
  sigstore: Sigstore,
  who: Who,
  digest: Digest,
  reference: string,
): Promise<{ readonly image: PackedImage; readonly tag: string }> {
  const key = makeKey();
  const { leaf, root } = await sigstore.certify(who, key.publicPem);
  const { payload, signature } = signatureOf(digest, reference, key);
  const { body, integratedTime, logID, logIndex, verification } = await sigstore.log({
    apiVersion: '0.0.1',
    kind: 'hashedrekord',
    spec: {
      data: { hash: { algorithm: 'sha256', value: nodeSha256(payload) } },
      signature: { content: signature, publicKey: { content: base64(pem(leaf)) } },
    },
  });
  const annotations = {
    'dev.sigstore.cosign/bundle': JSON.stringify({
      SignedEntryTimestamp: verification.signedEntryTimestamp,
      Payload: { body, integratedTime, logIndex, logID },
    }),
    'dev.sigstore.cosign/certificate': pem(leaf),
    'dev.sigstore.cosign/chain': pem(root),
  };
  return signatureImage(digest, [{ payload, signature, annotations }]);
}

/** As cosign 3: a sigstore bundle around a statement, in a manifest that refers to the image. `size`: of the image's manifest. */
export async function keylessBundle(
  sigstore: Sigstore,
  who: Who,
  { digest, size }: { readonly digest: Digest; readonly size: number },
): Promise<PackedImage> {
  const key = makeKey();
  const { leaf } = await sigstore.certify(who, key.publicPem);
  const payload = Buffer.from(
    JSON.stringify({
      _type: 'https://in-toto.io/Statement/v1',
      subject: [{ digest: { sha256: digest.slice('sha256:'.length) }, annotations: {} }],
      predicateType: COSIGN_SIGN,
      predicate: {},
    }),
  );
  const signature = sign('sha256', pae(INTOTO_PAYLOAD, payload), key.privateKey);
  const envelope = {
    payload: payload.toString('base64'),
    payloadType: INTOTO_PAYLOAD,
    signatures: [{ sig: signature.toString('base64') }],
  };
  const { body, integratedTime, logID, logIndex, verification } = await sigstore.log({
    apiVersion: '0.0.1',
    kind: 'dsse',
    spec: {
      envelopeHash: { algorithm: 'sha256', value: hash('sha256', JSON.stringify(envelope)) },
      payloadHash: { algorithm: 'sha256', value: nodeSha256(payload) },
      signatures: [{ signature: signature.toString('base64'), verifier: base64(pem(leaf)) }],
    },
  });
  const { inclusionProof, signedEntryTimestamp } = verification;
  const bundle = {
    mediaType: BUNDLE,
    verificationMaterial: {
      certificate: { rawBytes: toBase64(leaf) },
      tlogEntries: [
        {
          logIndex: String(logIndex),
          logId: { keyId: toBase64(fromHex(logID)) },
          kindVersion: { kind: 'dsse', version: '0.0.1' },
          integratedTime: String(integratedTime),
          inclusionPromise: { signedEntryTimestamp },
          inclusionProof: {
            logIndex: String(inclusionProof.logIndex),
            rootHash: toBase64(fromHex(inclusionProof.rootHash)),
            treeSize: String(inclusionProof.treeSize),
            hashes: inclusionProof.hashes.map((hex) => toBase64(fromHex(hex))),
            checkpoint: { envelope: inclusionProof.checkpoint },
          },
          canonicalizedBody: body,
        },
      ],
      timestampVerificationData: {
        rfc3161Timestamps: [{ signedTimestamp: toBase64(await sigstore.stamp(signature)) }],
      },
    },
    dsseEnvelope: envelope,
  };
  return referrer({ digest, size }, Buffer.from(JSON.stringify(bundle)), new Date(integratedTime * 1000));
}

function referrer(subject: { digest: Digest; size: number }, bundle: Uint8Array, created: Date): PackedImage {
  const blobs = new Map<Digest, Uint8Array>();
  const add = (mediaType: string, bytes: Uint8Array) => {
    const digest = digestOf(bytes, nodeSha256);
    blobs.set(digest, bytes);
    return { mediaType, size: bytes.length, digest };
  };
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      config: { ...add('application/vnd.oci.empty.v1+json', Buffer.from('{}')), artifactType: BUNDLE },
      layers: [add(BUNDLE, bundle)],
      annotations: {
        'dev.sigstore.bundle.content': 'dsse-envelope',
        'dev.sigstore.bundle.predicateType': COSIGN_SIGN,
        'org.opencontainers.image.created': created.toISOString().replace('.000', ''),
      },
      subject: { mediaType: OCI_MANIFEST, ...subject },
      artifactType: BUNDLE,
    }),
  );
  return { digest: digestOf(manifest, nodeSha256), manifest, blobs };
}

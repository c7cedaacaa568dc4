/** Signs images as cosign does with a key (its legacy form): a simple signing payload under the tag `sha256-HEX.sig` of the same repository. */
import { generateKeyPairSync, sign, type KeyObject } from 'node:crypto';
import { digestOf, type Digest } from '#src/digest.ts';
import { OCI_MANIFEST } from '#src/image/ocimanifest.ts';
import { nodeSha256, push, type PackedImage } from './pack.ts';

/** A signer's key; the private half never leaves this process. */
export type SigningKey = { readonly privateKey: KeyObject; /** SPKI in PEM. */ readonly publicPem: string };

export function makeKey(): SigningKey {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { privateKey, publicPem: publicKey.export({ type: 'spki', format: 'pem' }) };
}

/** One signature over `digest`, made for the name `reference`, `host/path`. */
export function signatureOf(
  digest: Digest,
  reference: string,
  { privateKey }: SigningKey,
): { payload: Uint8Array; signature: string } {
  const payload = Buffer.from(
    JSON.stringify({
      critical: {
        identity: { 'docker-reference': reference },
        image: { 'docker-manifest-digest': digest },
        type: 'cosign container image signature',
      },
      optional: null,
    }),
  );
  return { payload, signature: sign('sha256', payload, privateKey).toString('base64') };
}

/** One signature: what was signed, in base64 by what, and what cosign notes beside it. */
export type SignatureLayer = {
  readonly payload: Uint8Array;
  readonly signature: string;
  readonly annotations?: Readonly<Record<string, string>>;
};

/** The manifest that carries signatures of `digest`, one a layer, as cosign writes it. */
export function signatureImage(
  digest: Digest,
  signatures: readonly SignatureLayer[],
): { readonly image: PackedImage; readonly tag: string } {
  const blobs = new Map<Digest, Uint8Array>();
  const add = (mediaType: string, bytes: Uint8Array, annotations?: Record<string, string>) => {
    const blob = digestOf(bytes, nodeSha256);
    blobs.set(blob, bytes);
    return { mediaType, size: bytes.length, digest: blob, ...(annotations === undefined ? {} : { annotations }) };
  };
  const layers = signatures.map(({ payload, signature, annotations }) =>
    add('application/vnd.dev.cosign.simplesigning.v1+json', payload, {
      'dev.cosignproject.cosign/signature': signature,
      ...annotations,
    }),
  );
  const config = {
    architecture: '',
    created: '0001-01-01T00:00:00Z',
    history: layers.map(() => ({ created: '0001-01-01T00:00:00Z' })),
    os: '',
    rootfs: { type: 'layers', diff_ids: layers.map((layer) => layer.digest) },
    config: {},
  };
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      config: add('application/vnd.oci.image.config.v1+json', Buffer.from(JSON.stringify(config))),
      layers,
    }),
  );
  return { image: { digest: digestOf(manifest, nodeSha256), manifest, blobs }, tag: signatureTag(digest) };
}

/** Where cosign's older form lies. */
export const signatureTag = (digest: Digest): string => `${digest.replace(':', '-')}.sig`;

/** Signs an image and pushes the signature beside it, or to another repository of the same registry. */
export async function signInto(
  registry: string,
  { name, digest, key, under = name }: { name: string; digest: Digest; key: SigningKey; under?: string },
): Promise<void> {
  const { image, tag } = signatureImage(digest, [signatureOf(digest, `${registry}/${name}`, key)]);
  await push(image, registry, under, tag);
}

/** A ClusterImagePolicy over a repository: signed by any of these keys, or as `more` says. */
export function keyPolicy(
  name: string,
  glob: string,
  keys: readonly Pick<SigningKey, 'publicPem'>[],
  more: readonly object[] = [],
): string {
  const ofKeys = keys.map(({ publicPem }, index) => ({ name: `key-${index + 1}`, key: { data: publicPem } }));
  const authorities = [...ofKeys, ...more];
  return `${JSON.stringify(
    {
      apiVersion: 'policy.sigstore.dev/v1beta1',
      kind: 'ClusterImagePolicy',
      metadata: { name },
      spec: { images: [{ glob }], authorities },
    },
    undefined,
    2,
  )}\n`;
}

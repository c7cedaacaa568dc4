/** The OCI image: layers that guest.sh packed, put where the demo's registry serves them; and what a host that pulled it is made from. */
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, linkSync, mkdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { digestOf, type Digest } from '#src/digest.ts';
import { nodeSha256 } from '#demo/pack.ts';

/** The repository in the registry. */
export const REPOSITORY = 'vm/os';

const MEDIA = {
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar+gzip',
} as const;

export type PackedLayer = { readonly diffId: Digest; readonly digest: Digest; readonly size: number };

/** Compresses a layer's tar into the folder of a registry. */
export async function addLayer(registry: string, tar: string): Promise<PackedLayer> {
  const [plain, packed] = [createHash('sha256'), createHash('sha256')];
  const part = `${tar}.gz`;
  await pipeline(
    createReadStream(tar),
    async function* (chunks: AsyncIterable<Buffer>) {
      for await (const chunk of chunks) {
        plain.update(chunk);
        yield chunk;
      }
    },
    createGzip({ level: 1 }),
    async function* (chunks: AsyncIterable<Buffer>) {
      for await (const chunk of chunks) {
        packed.update(chunk);
        yield chunk;
      }
    },
    createWriteStream(part),
  );
  const digest = `sha256:${packed.digest('hex')}` as Digest;
  const { size } = statSync(part);
  mkdirSync(join(registry, 'blobs'), { recursive: true });
  renameSync(part, blob(registry, digest));
  return { diffId: `sha256:${plain.digest('hex')}` as Digest, digest, size };
}

const blob = (registry: string, digest: Digest) => join(registry, 'blobs', digest.slice('sha256:'.length));

/** Puts an image of these layers into the folder of a registry, under a tag too; answers the digest of its manifest. */
export function addImage(registry: string, layers: readonly PackedLayer[], tag: string): Digest {
  const config = Buffer.from(
    JSON.stringify({
      architecture: 'amd64',
      os: 'linux',
      config: { Labels: { 'containers.bootc': '1', 'org.opencontainers.image.version': tag } },
      rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
    }),
  );
  const configDigest = digestOf(config, nodeSha256);
  writeFileSync(blob(registry, configDigest), config);
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA.manifest,
      config: { mediaType: MEDIA.config, digest: configDigest, size: config.length },
      layers: layers.map(({ digest, size }) => ({ mediaType: MEDIA.layer, digest, size })),
    }),
  );
  const digest = digestOf(manifest, nodeSha256);
  const manifests = join(registry, 'manifests', REPOSITORY);
  mkdirSync(manifests, { recursive: true });
  for (const reference of [digest, tag]) writeFileSync(join(manifests, `${reference}.json`), manifest);
  return digest;
}

/** A folder for `guest.sh deploy`: the layers as the registry gives them, digest, version and the origin file that bootc would write. */
export function toDeploy(
  folder: string,
  registry: { readonly folder: string; readonly host: string },
  image: { readonly digest: Digest; readonly layers: readonly PackedLayer[]; readonly tag: string },
): void {
  mkdirSync(folder);
  const names = image.layers.map(({ digest }) => digest.slice('sha256:'.length));
  for (const name of names) linkSync(join(registry.folder, 'blobs', name), join(folder, name));
  const write = (name: string, text: string) => writeFileSync(join(folder, name), text);
  write('layers', names.map((name) => `${name}\n`).join(''));
  write('digest', image.digest);
  write('version', image.tag);
  const reference = `${registry.host}/${REPOSITORY}:${image.tag}`;
  write('origin', `[origin]\ncontainer-image-reference=ostree-unverified-registry:${reference}\n`);
}

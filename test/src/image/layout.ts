/** An OCI layout on disk as layers and facts: no more than these tests need. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Digest } from '#src/digest.ts';
import { readLayer, type ImageFacts, type Layer } from '#src/image/layer.ts';
import { pieces } from './archive.ts';

type Descriptor = { digest: Digest; mediaType: string };

/** Reads the only image of the layout `dir`, blobs in pieces of `size` bytes; a layer that is among the `known` of that size is not read again. */
export async function readLayout(
  dir: string,
  size = 65536,
  known = new Map<string, Layer>(),
): Promise<{ layers: Layer[]; facts: ImageFacts }> {
  const json = (path: string) => JSON.parse(readFileSync(join(dir, path), 'utf8'));
  const path = (digest: string) => join('blobs', ...digest.split(':'));
  const [descriptor] = json('index.json').manifests as [Descriptor];
  const manifest = json(path(descriptor.digest)) as { config: Descriptor; layers: Descriptor[] };
  const config = json(path(manifest.config.digest)) as {
    config?: { Labels?: Record<string, string> };
    rootfs: { diff_ids: Digest[] };
  };
  const diffIds = config.rootfs.diff_ids;
  const layers: Layer[] = [];
  for (const [index, { digest, mediaType }] of manifest.layers.entries()) {
    const key = [index, digest, mediaType, diffIds[index]].join();
    const layer =
      known.get(key) ??
      (await readLayer(
        { index, digest, mediaType, diffId: diffIds[index] },
        pieces(readFileSync(join(dir, path(digest))), size),
      ));
    known.set(key, layer);
    layers.push(layer);
  }
  return {
    layers,
    facts: {
      labels: new Map(Object.entries(config.config?.Labels ?? {})),
      diffIds,
      dockerInLayout: descriptor.mediaType.includes('docker'),
    },
  };
}

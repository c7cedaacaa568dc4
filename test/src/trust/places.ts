/** The same image in other places: a layout in memory, and registries with and without the referrers API. */
import { digestOf, type Digest } from '#src/digest.ts';
import { OCI_INDEX, OCI_MANIFEST } from '#src/image/ocimanifest.ts';
import { layoutSource, type Directory } from '#src/source/layout.ts';
import { registrySource } from '#src/source/registry.ts';
import type { SignatureRepository } from '#src/source/signatures.ts';
import { httpFetch } from '#server/sources.ts';
import { serveRegistry, type TestRegistry } from '#test/src/source/registryserver.ts';

export type Held = { readonly blobs: Map<string, Uint8Array>; readonly tags: Record<string, string> };

const json = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));

/** A layout whose index.json names the tags; everything else is in blobs alone, as `cosign save` leaves bundles. */
export function memoryLayout({ blobs, tags }: Held): SignatureRepository {
  const manifests = Object.entries(tags).map(([name, digest]) => ({
    mediaType: OCI_MANIFEST,
    digest,
    size: blobs.get(digest)!.length,
    annotations: { 'org.opencontainers.image.ref.name': name },
  }));
  const files = new Map([['index.json', json({ schemaVersion: 2, manifests })]]);
  for (const [digest, bytes] of blobs) files.set(`blobs/sha256/${digest.slice(7)}`, bytes);
  const directory: Directory = {
    stat: async (name) => (files.has(name) ? { size: files.get(name)!.length } : undefined),
    async *read(name) {
      yield files.get(name)!.slice();
    },
    async *list(folder) {
      for (const name of files.keys()) if (name.startsWith(`${folder}/`)) yield name.slice(folder.length + 1);
    },
  };
  return { source: layoutSource(directory, 'oci:memory'), own: true };
}

/** What in `blobs` says that it refers to `of`. */
export function referrersIn(blobs: ReadonlyMap<string, Uint8Array>, of: string): object[] {
  return [...blobs].flatMap(([digest, bytes]) => {
    if (bytes[0] !== 0x7b) return [];
    let manifest: { subject?: { digest?: string } | null; layers?: unknown };
    try {
      manifest = JSON.parse(new TextDecoder().decode(bytes)) as typeof manifest;
    } catch {
      return [];
    }
    if (manifest.subject?.digest !== of) return [];
    // As go-containerregistry's registry answers: the configuration's type instead of the manifest's.
    return [{ mediaType: OCI_MANIFEST, digest, size: bytes.length, artifactType: 'application/vnd.oci.empty.v1+json' }];
  });
}

const http = httpFetch({ env: {} });
export const closeHttp = (): Promise<void> => http.close();

export const registryOf = ({ host }: Pick<TestRegistry, 'host'>): SignatureRepository => ({
  source: registrySource({ registry: host, repository: 'a/b' }, { fetch: http.fetch }),
  own: true,
});

/** Answers the referrers API for everything in its blobs, one on a page. */
export async function registryWithApi({ blobs, tags }: Held): Promise<TestRegistry> {
  const registry = await serveRegistry(blobs, tags);
  registry.hooks.push(({ path }, answer) => {
    const [, of, from = '0'] = /^\/v2\/a\/b\/referrers\/(sha256:[0-9a-f]{64})(?:\?from=([0-9]+))?$/.exec(path) ?? [];
    if (of === undefined) return false;
    const all = referrersIn(registry.blobs, of);
    const at = Number(from);
    const link = at + 1 < all.length ? { link: `</v2/a/b/referrers/${of}?from=${at + 1}>; rel="next"` } : {};
    answer.writeHead(200, { 'content-type': OCI_INDEX, ...link });
    answer.end(JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests: all.slice(at, at + 1) }));
    return true;
  });
  return registry;
}

/** Knows no referrers API: its clients kept an index under the fallback tag of each subject. */
export async function registryWithTags({ blobs, tags }: Held, subjects: readonly Digest[]): Promise<TestRegistry> {
  const all = new Map(blobs);
  const names = { ...tags };
  for (const of of subjects) {
    const manifests = referrersIn(blobs, of);
    if (manifests.length === 0) continue;
    const index = json({ schemaVersion: 2, mediaType: OCI_INDEX, manifests });
    const digest = digestOf(index);
    all.set(digest, index);
    names[of.replace(':', '-')] = digest;
  }
  return serveRegistry(all, names);
}

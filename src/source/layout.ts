/** An OCI image layout (image-spec, image-layout.md) over a folder, or over a tar that is read as one. */
import { isDigest, type Digest } from '#src/digest.ts';
import {
  inDocument,
  parseJson,
  parseManifest,
  OCI_INDEX,
  type ImageIndex,
  type IndexEntry,
} from '#src/image/ocimanifest.ts';
import { MANIFEST_BYTES_MAX } from '#src/limits.ts';
import { layoutReferrers } from './layoutreferrers.ts';
import { SourceError, type FoundManifest, type SignatureSource } from './source.ts';
import { readBounded } from './verified.ts';

/** Files by name; names are relative, of the layout's own making: `index.json`, `blobs/sha256/<hex>`. */
export interface Directory {
  /** The size of a regular file in bytes, undefined where there is none. */
  stat(name: string): Promise<{ readonly size: number } | undefined>;
  /** A file's bytes, opened when the reading begins. Each chunk belongs to who reads it. */
  read(name: string): AsyncIterable<Uint8Array>;
  /** Names of the files in a folder, in any order; without it no blob is found that no index names. */
  list?(folder: string): AsyncIterable<string>;
}

const LAYOUT_FILE_BYTES_MAX = 4096;

/** The source over a layout; `name` is for messages, `oci:/srv/layout`. */
export function layoutSource(directory: Directory, name: string): SignatureSource {
  return {
    name,
    kind: 'layout',
    async manifest(tagOrDigest): Promise<FoundManifest> {
      if (tagOrDigest !== undefined && isDigest(tagOrDigest)) {
        const bytes = await manifestBlob(directory, name, tagOrDigest);
        return { bytes, mediaType: undefined, claimed: undefined };
      }
      const { bytes, index } = await readIndex(directory, name);
      const found = select(index, tagOrDigest, name);
      // Manifests of several platforms stand side by side: then index.json itself is the index of the image.
      if (found === 'all') return { bytes, mediaType: OCI_INDEX, claimed: undefined };
      return {
        bytes: await manifestBlob(directory, name, found.digest),
        mediaType: found.mediaType,
        claimed: { digest: found.digest, size: found.size },
      };
    },
    async *blob({ digest, size }) {
      const file = blobName(digest);
      const found = await directory.stat(file);
      if (found === undefined) throw new SourceError('SOURCE_NOT_FOUND', `${name}: ${file} is not there`);
      if (found.size !== size)
        throw new SourceError('BLOB_SIZE', `${name}: ${file} has ${found.size} bytes, its descriptor says ${size}`);
      yield* directory.read(file);
    },
    async referrers(digest) {
      const { bytes } = await readIndex(directory, name);
      return layoutReferrers(directory, bytes, digest, name);
    },
  };
}

const blobName = (digest: Digest): string => `blobs/sha256/${digest.slice('sha256:'.length)}`;

async function readIndex(directory: Directory, name: string): Promise<{ bytes: Uint8Array; index: ImageIndex }> {
  const marker = await directory.stat('oci-layout');
  if (marker !== undefined) {
    const bytes = await readBounded(directory.read('oci-layout'), LAYOUT_FILE_BYTES_MAX, `${name}: oci-layout`);
    const version = parseJson(bytes, 'MANIFEST_SYNTAX', `${name}: oci-layout`)['imageLayoutVersion'];
    if (typeof version !== 'string' || !/^1\.[0-9]+\.[0-9]+$/.test(version))
      throw new SourceError('LAYOUT_SYNTAX', `${name}: oci-layout does not say version 1`);
  }
  if ((await directory.stat('index.json')) === undefined) {
    // `skopeo copy … dir:` writes its version beside the manifest; `docker save`, before it wrote layouts, and docker-archive: do not.
    const manifest = (await directory.stat('manifest.json')) !== undefined;
    const kind = (await directory.stat('version')) === undefined ? 'a docker-archive' : 'what skopeo calls dir:';
    const way = manifest ? `; it is ${kind}, which skopeo copies to an oci: folder or an oci-archive` : '';
    throw new SourceError('SOURCE_NOT_FOUND', `${name}: no index.json there, so this is no OCI layout${way}`);
  }
  const bytes = await readBounded(directory.read('index.json'), MANIFEST_BYTES_MAX, `${name}: index.json`);
  const index = inDocument(`${name}: index.json`, () => parseManifest(bytes, undefined));
  if (index.kind !== 'index') throw new SourceError('LAYOUT_SYNTAX', `${name}: index.json is no index`);
  return { bytes, index };
}

async function manifestBlob(directory: Directory, name: string, digest: Digest): Promise<Uint8Array> {
  const file = blobName(digest);
  if ((await directory.stat(file)) === undefined)
    throw new SourceError('SOURCE_NOT_FOUND', `${name}: ${file} is not there`);
  return readBounded(directory.read(file), MANIFEST_BYTES_MAX, `${name}: ${file}`);
}

/** The entry of a tag, or the only one there is (containers/image, oci/layout). */
function select({ manifests }: ImageIndex, tag: string | undefined, name: string): IndexEntry | 'all' {
  const [first, ...others] = tag === undefined ? manifests : manifests.filter((entry) => entry.name === tag);
  if (first === undefined)
    throw new SourceError('SOURCE_NOT_FOUND', `${name}: no image ${tag ?? ''} there; it holds ${names(manifests)}`);
  if (others.every(({ digest }) => digest === first.digest)) return first;
  if (tag === undefined && manifests.every((entry) => entry.platform && entry.name === first.name)) return 'all';
  throw new SourceError(
    'LAYOUT_AMBIGUOUS',
    `${name}: ${manifests.length} images there${tag === undefined ? '; say which by its tag' : ` of which several are ${tag}`}: ${names(manifests)}`,
  );
}

function names(manifests: readonly IndexEntry[]): string {
  const all = [...new Set(manifests.map((entry) => entry.name ?? entry.digest))];
  return all.length === 0 ? 'none' : all.slice(0, 20).join(', ') + (all.length > 20 ? ' …' : '');
}

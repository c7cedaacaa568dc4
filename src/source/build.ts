/** Reference → image → file manifest: what a source holds, read once and checked to the last byte, and the texts that follow from it. */
import { comparisonText, SECRET_PATHS_ID } from '#src/drift/redact.ts';
import { isDigest, type Digest } from '#src/digest.ts';
import { deploy, type Deployed, type ImageFacts, type Rule } from '#src/image/backend.ts';
import type { Keep } from '#src/image/keep.ts';
import { ImageError, readLayer, type Layer } from '#src/image/layer.ts';
import {
  choosePlatform,
  DOCKER_MANIFEST,
  formatPlatform,
  inDocument,
  OciManifestError,
  parseConfig,
  parseManifest,
  platformsOf,
  type ImageConfig,
  type ImageManifest,
  type Platform,
} from '#src/image/ocimanifest.ts';
import {
  BLAME_BYTES_MAX,
  CONFIG_BYTES_MAX,
  IMAGE_BYTES_MAX,
  IMAGE_LAYERS_FACTOR,
  IMAGE_LIMITS,
  INDEX_DEPTH_MAX,
  LAYERS_AT_ONCE,
  type ImageLimits,
} from '#src/limits.ts';
import { treeOf, type TreeName } from '#src/manifest/entry.ts';
import { MANIFEST_FORMAT, type FileManifest, type ManifestHeader } from '#src/manifest/header.ts';
import { digestTree } from '#src/manifest/treedigest.ts';
import { SourceError, type Source } from './source.ts';
import { nodeSha256, readVerified, verified, verifiedDigest } from './verified.ts';

/** An image of one platform as its documents tell it, before a layer is read. */
export type FoundImage = {
  /** Digest of the image manifest. */
  readonly digest: Digest;
  /** The outermost index through which it was found, if any. */
  readonly index: Digest | null;
  readonly manifest: ImageManifest;
  readonly config: ImageConfig;
  readonly facts: ImageFacts;
};

/** An image whose layers were read. Serves every rule. */
export type Image = FoundImage & { readonly layers: readonly Layer[] };

export type FindOptions = {
  /** The platform to take from an index. Without it an index is refused. */
  readonly platform?: Platform | undefined;
  /** Refuse an image of another platform also where it was named directly. */
  readonly platformOnly?: boolean;
  /** Compressed bytes of all layers together. */
  readonly imageBytes?: number;
};

/** How far the reading is; bytes are compressed ones. */
export type Progress = { readonly bytes: number; readonly bytesTotal: number; readonly layers: number };

export type ReadOptions = FindOptions & {
  readonly limits?: ImageLimits;
  readonly layersAtOnce?: number;
  readonly onProgress?: (progress: Progress) => void;
  /** Takes the contents that are wanted besides digests. */
  readonly keep?: Keep;
};

/**
 * Resolves a tag, a digest or (without either) a source's own default to the image of one platform.
 * @throws {SourceError | OciManifestError}
 */
export async function findImage(
  source: Source,
  tagOrDigest: string | undefined,
  { platform, platformOnly = false, imageBytes = IMAGE_BYTES_MAX }: FindOptions = {},
): Promise<FoundImage> {
  let outermost: Digest | null = null;
  let asked = tagOrDigest;
  let told: string | undefined;
  // Without a platform of its own an index entry is the last choice: then the configuration decides.
  let unsure = platformOnly;
  for (let depth = 0; depth <= INDEX_DEPTH_MAX; depth++) {
    const what = `${source.name}: manifest ${asked ?? ''}`.trimEnd();
    const found = await source.manifest(asked);
    const expected = asked !== undefined && isDigest(asked) ? asked : found.claimed?.digest;
    const digest = verifiedDigest(found.bytes, expected, what);
    const document = inDocument(what, () => parseManifest(found.bytes, told ?? found.mediaType));
    if (document.kind === 'image') {
      const config = await readConfig(source, document);
      if (platform && unsure && !samePlatform(platform, config.platform))
        throw new OciManifestError(
          'PLATFORM_MISSING',
          `${what} is for ${formatPlatform(config.platform)}, not for ${formatPlatform(platform)}`,
        );
      const size = document.layers.reduce((sum, layer) => sum + layer.size, 0);
      if (size > imageBytes)
        throw new SourceError(
          'IMAGE_LIMIT',
          `${what}: layers of ${size} bytes in all; at most ${imageBytes} are fetched`,
        );
      return { digest, index: outermost, manifest: document, config, facts: factsOf(source, document, config) };
    }
    outermost ??= digest;
    const entry = platform && choosePlatform(document.manifests, platform);
    if (!entry)
      throw new OciManifestError(
        'PLATFORM_MISSING',
        `${what} is an index without ${platform ? formatPlatform(platform) : 'a platform to choose by'}; it offers ${platformsOf(document.manifests)}`,
      );
    unsure = entry.platform === undefined;
    asked = entry.digest;
    told = entry.mediaType;
  }
  throw new OciManifestError(
    'MANIFEST_LIMIT',
    `${source.name}: more than ${INDEX_DEPTH_MAX} indexes inside each other`,
  );
}

/**
 * Finds an image and reads each of its layers once, some beside each other; memory grows with the number of paths, not with bytes.
 * @throws {SourceError | OciManifestError | ImageError}
 */
export async function readImage(
  source: Source,
  tagOrDigest: string | undefined,
  options: ReadOptions = {},
): Promise<Image> {
  const found = await findImage(source, tagOrDigest, options);
  return { ...found, layers: await readLayers(source, found, options) };
}

async function readLayers(
  source: Source,
  { manifest, config }: FoundImage,
  { limits = IMAGE_LIMITS, layersAtOnce = LAYERS_AT_ONCE, onProgress, keep }: ReadOptions,
): Promise<Layer[]> {
  const layers: Layer[] = [];
  const left = {
    bytes: IMAGE_LAYERS_FACTOR * limits.layerBytes,
    entries: limits.treeNodes,
    held: IMAGE_LAYERS_FACTOR * limits.heldBytes,
  };
  const bytesTotal = manifest.layers.reduce((sum, layer) => sum + layer.size, 0);
  let bytes = 0;
  let next = 0;
  let failed = false;

  /** Passes a blob on without ending it when the reader stops, so that the rest can still be checked. */
  async function* watched(blob: AsyncIterator<Uint8Array>, what: string): AsyncGenerator<Uint8Array, void, undefined> {
    for (let step = await blob.next(); !step.done; step = await blob.next()) {
      // What is read from here on is read for nothing.
      if (failed) throw new SourceError('SOURCE_ABORTED', `${what}: given up, another layer was refused`);
      bytes += step.value.length;
      onProgress?.({ bytes, bytesTotal, layers: manifest.layers.length });
      yield step.value;
    }
  }

  async function readOne(index: number): Promise<Layer> {
    const descriptor = manifest.layers[index]!;
    const what = `layer ${index} (${source.name}: blob ${descriptor.digest})`;
    const blob = verified(source.blob(descriptor), descriptor, what);
    const of = { index, digest: descriptor.digest, mediaType: descriptor.mediaType, diffId: config.diffIds[index] };
    try {
      const layer = await readLayer(of, watched(blob, what), within(limits, left), keep);
      await drain(blob); // a layer counts only after its blob's last byte
      left.bytes -= layer.bytes;
      left.entries -= layer.entries.length;
      for (const { name, link } of layer.entries) left.held -= name.length + link.length;
      return layer;
    } catch (error) {
      // A blob that was damaged on the way looks like a malformed layer first. Then the blob is to blame, and that is said.
      if (!failed && error instanceof ImageError && descriptor.size <= BLAME_BYTES_MAX) await drain(blob);
      throw error;
    } finally {
      await blob.return();
    }
  }

  async function work(): Promise<void> {
    while (!failed && next < manifest.layers.length) {
      const index = next++;
      try {
        layers[index] = await readOne(index);
      } catch (error) {
        if (failed) return; // the first refusal is the one that counts
        failed = true;
        throw error;
      }
    }
  }
  await Promise.all(Array.from({ length: layersAtOnce }, work));
  return layers;
}

/** A thousand layers, each within its bounds, must not be a thousand times as much: what the layers before took is no longer there. */
function within(limits: ImageLimits, left: { bytes: number; entries: number; held: number }): ImageLimits {
  return {
    ...limits,
    layerBytes: Math.max(0, Math.min(limits.layerBytes, left.bytes)),
    layerEntries: Math.max(0, Math.min(limits.layerEntries, left.entries)),
    heldBytes: Math.max(0, Math.min(limits.heldBytes, left.held)),
  };
}

async function drain(blob: AsyncIterator<Uint8Array>): Promise<void> {
  while (!(await blob.next()).done);
}

async function readConfig(source: Source, manifest: ImageManifest): Promise<ImageConfig> {
  const { config } = manifest;
  const what = `${source.name}: configuration ${config.digest}`;
  if (config.size > CONFIG_BYTES_MAX)
    throw new OciManifestError('MANIFEST_LIMIT', `${what} of ${config.size} bytes; at most ${CONFIG_BYTES_MAX}`);
  const bytes = await readVerified(source.blob(config), config, what);
  return inDocument(what, () => parseConfig(bytes, manifest.layers.length));
}

function factsOf(source: Source, manifest: ImageManifest, config: ImageConfig): ImageFacts {
  const docker = [manifest, manifest.config, ...manifest.layers].some(
    ({ mediaType }) => mediaType === DOCKER_MANIFEST || mediaType.startsWith('application/vnd.docker.'),
  );
  return { labels: config.labels, diffIds: config.diffIds, dockerInLayout: docker && source.kind === 'layout' };
}

function samePlatform(wanted: Platform, actual: Platform): boolean {
  return (
    wanted.os === actual.os &&
    wanted.architecture === actual.architecture &&
    (wanted.variant === undefined || actual.variant === undefined || wanted.variant === actual.variant)
  );
}

export type BuildOptions = {
  /** Program and version, as the header names its builder. */
  readonly builder: string;
  readonly limits?: ImageLimits;
};

/**
 * What each path of a host that booted the image must be, under one rule.
 * @throws {BackendError} where the backend's importer would refuse the image.
 */
export function buildManifest(image: Image, rule: Rule, options: BuildOptions): FileManifest {
  return manifestOf(image, rule, deploy(image.layers, image.facts, rule, options.limits), options);
}

/** The file manifest over a tree that was deployed already. */
export function manifestOf(image: Image, rule: Rule, deployed: Deployed, { builder }: BuildOptions): FileManifest {
  const made = (tree: TreeName) =>
    digestTree(
      deployed.entries.filter(({ path }) => treeOf(path) === tree),
      nodeSha256,
      comparisonText,
    );
  const usr = made('usr');
  const etc = made('etc');
  const header: ManifestHeader = {
    format: MANIFEST_FORMAT,
    image: image.digest,
    index: image.index,
    config: image.manifest.config.digest,
    platform: formatPlatform(image.config.platform),
    layers: image.layers.map(({ digest, diffId, mediaType }, index) => ({
      digest,
      diffId,
      mediaType,
      size: image.manifest.layers[index]!.size,
    })),
    rule,
    secretPaths: SECRET_PATHS_ID,
    trees: { usr: usr.digests, etc: etc.digests },
    warnings: deployed.warnings,
    builder,
  };
  return { header, trees: { usr: usr.texts, etc: etc.texts } };
}

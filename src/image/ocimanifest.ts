/**
 * What image-spec (manifest.md, image-index.md, config.md, descriptor.md) and Docker's image manifest v2, schema 2 say of an
 * image: bytes → index, manifest or configuration. Unknown fields are let be; what could be read in two ways is refused.
 */
import { z } from 'zod';
import { isDigest, type Digest } from '#src/digest.ts';
import { BootproofError } from '#src/error.ts';
import { CONFIG_BYTES_MAX, INDEX_ENTRIES_MAX, LAYERS_MAX, MANIFEST_BYTES_MAX } from '#src/limits.ts';
import { componentsOf, historyOf, type LayerHistory } from './history.ts';

/** An OCI content descriptor (image-spec, descriptor.md), as far as we use it. */
export type Descriptor = {
  readonly mediaType: string;
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
};

/** image-spec, image-index.md, `platform`. */
export type Platform = { readonly os: string; readonly architecture: string; readonly variant?: string };

export type IndexEntry = Descriptor & {
  readonly platform: Platform | undefined;
  /** `org.opencontainers.image.ref.name`: the tag inside a layout. */
  readonly name: string | undefined;
  /** Marked as a zstd instance for those who can read it (containers/image, `io.github.containers.compression.zstd`). */
  readonly zstd: boolean;
};
export type ImageIndex = {
  readonly kind: 'index';
  readonly mediaType: string;
  readonly manifests: readonly IndexEntry[];
};
export type ImageManifest = {
  readonly kind: 'image';
  readonly mediaType: string;
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
  /** By layer: what its builder says that it put into it (history.ts); nothing for most. */
  readonly components: readonly (readonly string[])[];
};
export type ImageConfig = {
  readonly platform: Platform;
  /** `rootfs.diff_ids`, one a layer. */
  readonly diffIds: readonly Digest[];
  /** `config.Labels`. */
  readonly labels: ReadonlyMap<string, string>;
  /** `created`, as it stands there; null where it is not text. */
  readonly created: string | null;
  /** By layer, where `history` has as many entries with a layer as there are layers; else empty. */
  readonly history: readonly LayerHistory[];
};

export class OciManifestError extends BootproofError<
  | 'MANIFEST_SYNTAX'
  | 'MANIFEST_TYPE'
  | 'MANIFEST_AMBIGUOUS'
  | 'MANIFEST_LIMIT'
  | 'NOT_AN_IMAGE'
  | 'CONFIG_SYNTAX'
  | 'PLATFORM_SYNTAX'
  | 'PLATFORM_MISSING'
> {}

export const OCI_INDEX = 'application/vnd.oci.image.index.v1+json';
export const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
export const DOCKER_LIST = 'application/vnd.docker.distribution.manifest.list.v2+json';
export const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json';
/** What we can read; registries choose by it. */
export const MANIFEST_TYPES = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST] as const;
const CONFIG_TYPES = new Set([
  'application/vnd.oci.image.config.v1+json',
  'application/vnd.docker.container.image.v1+json',
]);
const INDEX_TYPES = new Set<string>([OCI_INDEX, DOCKER_LIST]);
const IMAGE_TYPES = new Set<string>([OCI_MANIFEST, DOCKER_MANIFEST]);

const KEYS = new Set(['schemaVersion', 'mediaType', 'config', 'layers', 'manifests', 'fsLayers']);
const FOLDED = new Set([...KEYS].map((name) => name.toLowerCase()));

const Text = z.string().max(4096);
const DigestText = z.string().refine(isDigest, 'expected sha256:<64 lower-case hex>');
const DescriptorJson = z.object({ mediaType: Text, digest: DigestText, size: z.int().min(0) });
const PlatformJson = z.object({ os: Text, architecture: Text, variant: Text.optional() });
const Annotations = z.record(z.string(), z.string()).nullish();
const IndexJson = z.object({
  schemaVersion: z.literal(2),
  manifests: z.array(z.object({ ...DescriptorJson.shape, platform: PlatformJson.nullish(), annotations: Annotations })),
});
const ManifestJson = z.object({
  schemaVersion: z.literal(2),
  config: DescriptorJson,
  // Annotations are only ever told.
  layers: z.array(z.object({ ...DescriptorJson.shape, annotations: z.unknown().optional() })),
});
const ConfigJson = z.object({
  os: Text,
  architecture: Text,
  variant: Text.nullish(),
  // Only ever told: what is no text says nothing.
  created: z.unknown().optional(),
  history: z.unknown().optional(),
  config: z.object({ Labels: z.record(z.string(), z.string()).nullish() }).nullish(),
  rootfs: z.object({ type: z.literal('layers'), diff_ids: z.array(DigestText).max(LAYERS_MAX) }),
});

/** `linux/amd64`, `linux/arm64/v8`. @throws {OciManifestError} PLATFORM_SYNTAX */
export function parsePlatform(text: string): Platform {
  const match = /^([a-z0-9_]+)\/([a-z0-9_]+)(?:\/([a-z0-9_.]+))?$/.exec(text);
  if (match === null || text.length > 100)
    throw new OciManifestError('PLATFORM_SYNTAX', `expected OS/ARCHITECTURE[/VARIANT], got ${quote(text)}`);
  const [, os = '', architecture = '', variant] = match;
  return { os, architecture, ...(variant === undefined ? {} : { variant }) };
}

export function formatPlatform({ os, architecture, variant }: Platform): string {
  return `${os}/${architecture}${variant === undefined || variant === '' ? '' : `/${variant}`}`;
}

/**
 * Reads an index or an image manifest. `told` is the media type that the registry or descriptor gave for it, if any.
 * @throws {OciManifestError}
 */
export function parseManifest(bytes: Uint8Array, told: string | undefined): ImageIndex | ImageManifest {
  if (bytes.length > MANIFEST_BYTES_MAX)
    throw new OciManifestError('MANIFEST_LIMIT', `a manifest of ${bytes.length} bytes; at most ${MANIFEST_BYTES_MAX}`);
  const json = parseJson(bytes, 'MANIFEST_SYNTAX', 'the manifest');
  const own = typeof json['mediaType'] === 'string' ? json['mediaType'] : undefined;
  const has = (...names: string[]) => names.filter((name) => Object.hasOwn(json, name));
  // Go folds the case of names, others do not: `Layers` beside `layers` is another image to each.
  const folded = Object.keys(json).find((name) => !KEYS.has(name) && FOLDED.has(name.toLowerCase()));
  if (folded !== undefined)
    throw new OciManifestError('MANIFEST_AMBIGUOUS', `a field that is spelled ${quote(folded)}`);
  if (json['schemaVersion'] === 1)
    throw new OciManifestError('MANIFEST_TYPE', 'a Docker schema 1 manifest; push the image again with a current tool');
  const isIndex = Object.hasOwn(json, 'manifests');
  // A document that is both is one image to us and another to the host that pulls it (CVE-2021-41190).
  const foreign = isIndex ? has('config', 'layers', 'fsLayers', 'history') : has('fsLayers', 'history');
  if (foreign.length > 0)
    throw new OciManifestError(
      'MANIFEST_AMBIGUOUS',
      `the ${isIndex ? 'index' : 'manifest'} also has ${foreign.join(', ')}`,
    );
  for (const type of [told, own]) {
    if (type === undefined || (isIndex ? INDEX_TYPES : IMAGE_TYPES).has(type)) continue;
    if ((isIndex ? IMAGE_TYPES : INDEX_TYPES).has(type))
      throw new OciManifestError(
        'MANIFEST_AMBIGUOUS',
        `${isIndex ? 'an index' : 'an image manifest'} that says it is ${type}`,
      );
    // A registry may say application/json or text/plain of anything; only the document's own word is final.
    if (type === own || type.startsWith('application/vnd.'))
      throw new OciManifestError('MANIFEST_TYPE', `media type ${quote(type)} is no image manifest and no index`);
  }
  if (told !== undefined && own !== undefined && MANIFEST_TYPES.some((t) => t === told) && told !== own)
    throw new OciManifestError('MANIFEST_AMBIGUOUS', `told as ${told}, calls itself ${own}`);
  return isIndex ? toIndex(json, own ?? told ?? OCI_INDEX) : toImage(json, own ?? told ?? OCI_MANIFEST);
}

function toIndex(json: unknown, mediaType: string): ImageIndex {
  const { manifests } = check(IndexJson, json, 'MANIFEST_SYNTAX', 'the index');
  if (manifests.length > INDEX_ENTRIES_MAX)
    throw new OciManifestError(
      'MANIFEST_LIMIT',
      `an index of ${manifests.length} entries; at most ${INDEX_ENTRIES_MAX}`,
    );
  return {
    kind: 'index',
    mediaType,
    manifests: manifests.map(({ platform, annotations, ...descriptor }) => ({
      ...descriptor,
      platform: platform ? platformOf(platform) : undefined,
      name: annotation(annotations, 'org.opencontainers.image.ref.name'),
      zstd: annotation(annotations, 'io.github.containers.compression.zstd') === 'true',
    })),
  };
}

function toImage(json: Record<string, unknown>, mediaType: string): ImageManifest {
  // Helm charts, signatures, SBOMs and the like are manifests too (image-spec, manifest.md#guidelines-for-artifact-usage).
  const configType = (json['config'] as { mediaType?: unknown } | null | undefined)?.mediaType;
  if (typeof configType === 'string' && !CONFIG_TYPES.has(configType))
    throw new OciManifestError(
      'NOT_AN_IMAGE',
      `an artifact, not an image: its configuration is of type ${quote(configType)}`,
    );
  const { config, layers } = check(ManifestJson, json, 'MANIFEST_SYNTAX', 'the manifest');
  if (layers.length === 0) throw new OciManifestError('NOT_AN_IMAGE', 'a manifest without layers');
  if (layers.length > LAYERS_MAX)
    throw new OciManifestError('MANIFEST_LIMIT', `an image of ${layers.length} layers; at most ${LAYERS_MAX}`);
  return {
    kind: 'image',
    mediaType,
    config,
    layers: layers.map(({ mediaType: type, digest, size }) => ({ mediaType: type, digest, size })),
    components: layers.map(({ annotations }) => componentsOf(annotations)),
  };
}

/**
 * Reads an image configuration; `layers` is how many layers its manifest has.
 * @throws {OciManifestError} CONFIG_SYNTAX
 */
export function parseConfig(bytes: Uint8Array, layers: number): ImageConfig {
  if (bytes.length > CONFIG_BYTES_MAX)
    throw new OciManifestError(
      'MANIFEST_LIMIT',
      `a configuration of ${bytes.length} bytes; at most ${CONFIG_BYTES_MAX}`,
    );
  const json = check(
    ConfigJson,
    parseJson(bytes, 'CONFIG_SYNTAX', 'the configuration'),
    'CONFIG_SYNTAX',
    'the configuration',
  );
  const diffIds = json.rootfs.diff_ids;
  if (diffIds.length !== layers)
    throw new OciManifestError(
      'CONFIG_SYNTAX',
      `the configuration names ${diffIds.length} layers (rootfs.diff_ids), the manifest ${layers}`,
    );
  return {
    platform: platformOf(json),
    diffIds,
    labels: new Map(Object.entries(json.config?.Labels ?? {})),
    created: typeof json.created === 'string' ? json.created : null,
    history: historyOf(json.history, layers),
  };
}

// containers/image, internal/pkg/platform: most capable first; a host takes its own variant or a lesser one.
const VARIANTS = new Map([
  ['arm', ['v8', 'v7', 'v6', 'v5']],
  ['arm64', ['v8']],
]);

/**
 * The entry that a host of this platform pulls: by variant, then zstd before others, then as they stand; entries without a
 * platform come last (containers/image, manifest/oci_index.go). Undefined where none fits.
 */
export function choosePlatform(entries: readonly IndexEntry[], wanted: Platform): IndexEntry | undefined {
  const known = VARIANTS.get(wanted.architecture) ?? [];
  const from = known.indexOf(wanted.variant ?? '');
  const order =
    wanted.variant === undefined ? ['', ...known] : [...(from < 0 ? [wanted.variant] : known.slice(from)), ''];
  let best: { rank: number; entry: IndexEntry } | undefined;
  for (const entry of entries) {
    const { platform } = entry;
    if (platform && (platform.os !== wanted.os || platform.architecture !== wanted.architecture)) continue;
    const rank = platform ? order.indexOf(platform.variant ?? '') : order.length;
    if (rank < 0) continue;
    if (!best || rank < best.rank || (rank === best.rank && entry.zstd && !best.entry.zstd)) best = { rank, entry };
  }
  return best?.entry;
}

/** What an index offers, for messages. */
export function platformsOf(entries: readonly IndexEntry[]): string {
  const all = [...new Set(entries.map(({ platform }) => (platform ? formatPlatform(platform) : 'no platform')))];
  return all.length === 0 ? 'nothing' : all.slice(0, 30).join(', ');
}

function platformOf({
  os,
  architecture,
  variant,
}: {
  os: string;
  architecture: string;
  variant?: string | null | undefined;
}): Platform {
  return { os, architecture, ...(variant === undefined || variant === null || variant === '' ? {} : { variant }) };
}

function annotation(annotations: Record<string, string> | null | undefined, name: string): string | undefined {
  return annotations && Object.hasOwn(annotations, name) ? annotations[name] : undefined;
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** The object that JSON text spells. @throws {OciManifestError} */
export function parseJson(
  bytes: Uint8Array,
  code: 'MANIFEST_SYNTAX' | 'CONFIG_SYNTAX',
  what: string,
): Record<string, unknown> {
  let json: unknown;
  try {
    json = JSON.parse(utf8.decode(bytes));
  } catch {
    // The parser's own message quotes the text, which may be an error page with anything in it.
    throw new OciManifestError(code, `${what} is no JSON`);
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw new OciManifestError(code, `${what} is no JSON object`);
  return json as Record<string, unknown>;
}

function check<T>(schema: z.ZodType<T>, json: unknown, code: 'MANIFEST_SYNTAX' | 'CONFIG_SYNTAX', what: string): T {
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  const { path, message } = result.error.issues[0]!;
  throw new OciManifestError(code, `${what}: ${path.join('.')}: ${message}`);
}

/** Says of which document a refusal speaks. */
export function inDocument<T>(what: string, act: () => T): T {
  try {
    return act();
  } catch (error) {
    if (error instanceof OciManifestError)
      throw new OciManifestError(error.code, `${what}: ${error.message}`, { cause: error });
    throw error;
  }
}

const quote = (text: string): string => JSON.stringify(text.slice(0, 200));

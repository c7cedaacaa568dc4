/**
 * What the server knows of the images that hosts name: by digest or alias, with the manifests of every rule, and texts as far as
 * they are asked for. What is ready is immutable, so it is remembered; what is not is asked of the store each time.
 */
import { promisify } from 'node:util';
import { gunzip, zstdDecompress } from 'node:zlib';
import { isDigest, type Digest } from '#src/digest.ts';
import { compareTexts } from '#src/drift/compare.ts';
import type { Drift } from '#src/drift/drift.ts';
import { comparisonText } from '#src/drift/redact.ts';
import { BACKENDS, rulesOf } from '#src/image/backend.ts';
import { KNOWN_IMAGES_MAX, MANIFEST_TEXT_BYTES_MAX } from '#src/limits.ts';
import type { TreeName } from '#src/manifest/entry.ts';
import { MANIFEST_HEADER_TYPE, ManifestHeader, type TreeTexts } from '#src/manifest/header.ts';
import type { ManifestState } from '#src/policy/evaluate.ts';
import type { KnownManifest } from '#src/report/contradict.ts';
import { parseEnvelope } from '#src/signing/dsse.ts';
import type { BuildNotes, BuildReason } from '#server/jobs/builder.ts';
import type { Blob, Image, Manifest } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';
import { Lru } from '#server/lru.ts';

const gunzipAsync = promisify(gunzip);
const zstdAsync = promisify(zstdDecompress);

/** A manifest with its texts at hand. */
export type Ruled = KnownManifest & { readonly record: Manifest };

/** An image whose manifests are there: newest rule first within a backend. */
export type ReadyImage = Pick<Image, 'repositories' | 'version' | 'madeAt'> & {
  readonly digest: Digest;
  /** The index through which it was found, if any. */
  readonly index: Digest | null;
  readonly manifests: readonly Ruled[];
  /** Why a backend has none: what its importer refuses the image for. */
  readonly refused: readonly BuildReason[];
};

/** An image as far as it is known; `state` says why nothing can be compared with it yet. */
export type Known =
  | { readonly kind: 'ready'; readonly image: ReadyImage }
  | {
      readonly kind: 'not-ready';
      readonly state: Exclude<ManifestState, { readonly state: 'ready' }>;
      readonly image: Image | undefined;
    };

const RULE_ORDER: readonly string[] = BACKENDS.flatMap((backend) => rulesOf(backend));

/** What is read of images. */
export type ImageReads = {
  readonly images: Pick<Store['images'], 'find' | 'manifests'>;
  readonly blobs: Pick<Store['blobs'], 'get'>;
};

export class KnownImages {
  readonly #store: ImageReads;
  /** By whatever a host calls it. */
  readonly #ready = new Lru<string, ReadyImage>(KNOWN_IMAGES_MAX);
  readonly #texts: Lru<string, string>;
  readonly #making = new Map<string, Promise<string>>();
  readonly #variants = new Lru<string, ReadonlyMap<string, Drift>>(KNOWN_IMAGES_MAX);

  /** `textBytes`: manifest texts that are kept at hand. */
  constructor(store: ImageReads, textBytes: number) {
    this.#store = store;
    this.#texts = new Lru(textBytes);
  }

  /** What stands behind a digest as a host spells it; null where the host told none. */
  async resolve(reported: string | null): Promise<Known> {
    if (reported === null)
      return notReady(undefined, '', 'unknown', 'IMAGE_NOT_TOLD', 'the host does not say which image it booted');
    const ready = this.#ready.get(reported);
    if (ready !== undefined) return { kind: 'ready', image: ready };
    const found = await this.#store.images.find(reported);
    if (found === undefined) return notReady(undefined, reported, 'pending', 'MANIFEST_PENDING', null);
    const { image } = found;
    if (image.state !== 'ready') return stateOf(image, reported);
    const loaded = await this.#load(image);
    this.#ready.set(reported, loaded);
    return { kind: 'ready', image: loaded };
  }

  /**
   * Paths at which another rule of the same image expects something else than `ruled` does, with what the other expects as the
   * actual side (PROTOCOL 2.2): a host that shows just that was imported by another bootc.
   */
  async variants(image: ReadyImage, ruled: Ruled, other: Ruled): Promise<ReadonlyMap<string, Drift>> {
    const key = `${image.digest} ${ruled.header.rule} ${other.header.rule}`;
    const known = this.#variants.get(key);
    if (known !== undefined) return known;
    const found = new Map<string, Drift>();
    for (const tree of ['usr', 'etc'] as const) {
      const { drift } = compareTexts(await ruled.texts(tree), await other.texts(tree));
      for (const line of drift) found.set(line.path, line);
    }
    this.#variants.set(key, found);
    return found;
  }

  async #load(image: Image): Promise<ReadyImage> {
    const records = await this.#store.images.manifests(image.digest);
    const manifests = records
      .map((record): Ruled => ({
        record,
        header: headerOf(record),
        texts: (tree) => this.#treeTexts(record, tree),
        comparison: (tree) => this.#comparison(record, tree),
      }))
      .sort((a, b) => RULE_ORDER.indexOf(a.header.rule) - RULE_ORDER.indexOf(b.header.rule));
    const { repositories, version, madeAt } = image;
    return {
      digest: image.digest as Digest,
      index: manifests[0]?.header.index ?? null,
      repositories,
      version,
      madeAt: madeAt ?? null,
      manifests,
      refused: ((image.warnings ?? {}) as Partial<BuildNotes>).refused ?? [],
    };
  }

  async #treeTexts(record: Manifest, tree: TreeName): Promise<TreeTexts> {
    const { mainBlob, extraBlob } = record.trees[tree];
    return { main: await this.#text(mainBlob), extra: await this.#text(extraBlob) };
  }

  #comparison(record: Manifest, tree: TreeName): Promise<string> {
    const { mainBlob } = record.trees[tree];
    // Secrets lie below /etc alone (docs/manifest.md, rule 4).
    if (tree === 'usr') return this.#text(mainBlob);
    return this.#once(`comparison ${mainBlob}`, async () => comparisonText(await this.#text(mainBlob)));
  }

  #text(key: string): Promise<string> {
    return this.#once(key, async () => {
      const blob = await this.#store.blobs.get(key);
      if (blob === undefined) throw new Error(`the store has a manifest but not its text ${key}`);
      return (await decodeBlob(blob)).toString('latin1');
    });
  }

  /** A text from memory, or made once however many reports wait for it. */
  async #once(key: string, make: () => Promise<string>): Promise<string> {
    const known = this.#texts.get(key);
    if (known !== undefined) return known;
    const begun = this.#making.get(key);
    if (begun !== undefined) return begun;
    const making = make();
    this.#making.set(key, making);
    try {
      const made = await making;
      this.#texts.set(key, made, made.length);
      return made;
    } finally {
      this.#making.delete(key);
    }
  }
}

/** Why no manifest of an image is for a backend, as people read it. */
export function whyNoManifest({ refused }: Pick<ReadyImage, 'refused'>, backend: string): string {
  // The builder tells each refusal with its backend before it.
  const why = refused.find(({ text }) => text.startsWith(`${backend}: `));
  const detail = why === undefined ? '' : `: ${why.text.slice(backend.length + 2)} [${why.code}]`;
  return `there is no manifest of this image for the backend ${backend}${detail}`;
}

/** The bytes of a kept text. */
export async function decodeBlob({ encoding, bytes }: Blob): Promise<Buffer> {
  const limit = { maxOutputLength: MANIFEST_TEXT_BYTES_MAX };
  if (encoding === 'zstd') return zstdAsync(bytes, limit);
  return encoding === 'gzip' ? gunzipAsync(bytes, limit) : Buffer.from(bytes);
}

/** The header inside a manifest's signed envelope. */
export function headerOf(record: Pick<Manifest, 'header'>): ManifestHeader {
  const { payload } = parseEnvelope(record.header, MANIFEST_HEADER_TYPE, MANIFEST_TEXT_BYTES_MAX);
  return ManifestHeader.parse(JSON.parse(new TextDecoder().decode(payload)));
}

function stateOf(image: Image, reported: string): Known {
  const digest = isDigest(image.digest) ? image.digest : reported;
  if (image.state !== 'failed')
    return notReady(image, digest, 'pending', 'MANIFEST_PENDING', image.reasons[0]?.text ?? null);
  const [reason] = image.reasons;
  const code = reason?.code ?? 'MANIFEST_FAILED';
  return notReady(
    image,
    digest,
    code === 'IMAGE_SOURCE_NOT_ALLOWED' ? 'not-allowed' : 'failed',
    code,
    reason?.text ?? null,
  );
}

function notReady(
  image: Image | undefined,
  digest: string,
  state: 'pending' | 'failed' | 'unknown' | 'not-allowed',
  code: string,
  detail: string | null,
): Known {
  return { kind: 'not-ready', state: { state, image: digest, code, detail }, image };
}

/** Blobs beside an image's manifests, by its digest: the text of fs-verity digests (docs/manifest.md, rule 8), and the signed header that names it. */
export const verityTextKey = (image: string): string => `verity/1 ${image}`;
export const verityHeaderKey = (image: string): string => `verity-header/1 ${image}`;

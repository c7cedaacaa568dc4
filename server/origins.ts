/**
 * Where a file comes from: which layer and package of an image brought a path, and which images have a content (docs/origin.md).
 * Read of what the build kept; one image's is kept at hand while it is asked for.
 */
import { promisify } from 'node:util';
import { zstdDecompress } from 'node:zlib';
import type { ByteString } from '#src/bytes.ts';
import type { DriftJson } from '#src/drift/drift.ts';
import { Origins, type PathOrigin } from '#src/image/origins.ts';
import { MANIFEST_TEXT_BYTES_MAX, ORIGINS_IMAGES_MAX, ORIGINS_MEMORY_BYTES } from '#src/limits.ts';
import { hasMark, pathsWith, shardOf } from '#src/manifest/contents.ts';
import { treeOf, TREES, type TreeName } from '#src/manifest/entry.ts';
import { vis } from '#src/manifest/vis.ts';
import type { KnownImages, ReadyImage, Ruled } from '#server/ingest/known.ts';
import { Lru } from '#server/lru.ts';
import type { Host } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';

const zstd = promisify(zstdDecompress);

export type Told =
  | { readonly kind: 'told'; readonly origin: PathOrigin }
  /** The image has no such path: no layer and no package of it explains it. */
  | { readonly kind: 'absent' }
  /**
   * `not-kept`: it was built before that was kept, `failure` says why it could not be read again; `other-text`: it was read again, and the tree
   * is another by now; `not-ready`: it has no manifest.
   */
  | {
      readonly kind: 'untold';
      readonly why: 'not-kept' | 'other-text' | 'not-ready';
      readonly failure: string | null;
    };

/** An image that has a content, and where. */
export type ContentPlace = {
  readonly digest: string;
  /** Repository and version, for people. */
  readonly name: string;
  /** As a main text spells it. */
  readonly path: string;
  /** At the very path that was asked about. */
  readonly same: boolean;
  /** What the image is to the host that was asked about. */
  readonly slot: 'booted' | 'staged' | 'rollback' | 'before' | null;
};

export type Elsewhere = {
  /** Those that matter to the host first, then the others by digest; their texts were looked into. */
  readonly places: readonly ContentPlace[];
  /** Images that have the content. */
  readonly images: number;
  /** Images that were looked through. */
  readonly looked: number;
  /** There are more images than are looked through. */
  readonly more: boolean;
};

/** Images whose texts are read to say at which path they have a content. */
const PLACES_MAX = 4;

export type OriginDeps = { readonly store: Pick<Store, 'imageOrigins' | 'images'>; readonly images: KnownImages };

export class KnownOrigins {
  readonly #deps: OriginDeps;
  readonly #known = new Lru<string, Origins>(ORIGINS_MEMORY_BYTES);

  constructor(deps: OriginDeps) {
    this.#deps = deps;
  }

  /** Of each path (bytes), in an image as a host or person names it; `rule`: of which importer, the newest where it is null. */
  async of(image: string | null, rule: string | null, paths: readonly ByteString[]): Promise<Map<ByteString, Told>> {
    const resolved = await this.#deps.images.resolve(image);
    const all = (told: Told): Map<ByteString, Told> => new Map(paths.map((path) => [path, told]));
    if (resolved.kind !== 'ready') return all({ kind: 'untold', why: 'not-ready', failure: null });
    const { manifests, digest } = resolved.image;
    const ruled = manifests.find(({ header }) => header.rule === rule) ?? manifests[0];
    const kept = await this.#origins(digest);
    const out = new Map<ByteString, Told>();
    if (ruled === undefined) return all({ kind: 'untold', why: 'not-ready', failure: null });
    for (const tree of TREES) {
      const wanted = paths.filter((path) => treeOf(path) === tree);
      if (wanted.length === 0) continue;
      const places = linesOf(wanted, (await ruled.texts(tree)).main);
      for (const path of wanted) out.set(path, toldOf(places.get(path), ruled, tree, kept));
    }
    for (const path of paths) if (!out.has(path)) out.set(path, { kind: 'absent' });
    return out;
  }

  /** Notes of what could not be told of an image, such as a package database that is not read. */
  async notes(digest: string): Promise<Origins['notes']> {
    return (await this.#origins(digest)).origins?.notes ?? [];
  }

  /**
   * Images that have the content which a change shows; undefined where the change is about no file's content. `host`: whose deployments come first.
   * `theirs`: the images that the asker sees, where not all: others are not looked through.
   */
  async elsewhere(
    change: DriftJson | undefined,
    path: ByteString | undefined,
    host: Pick<Host, 'images'> | undefined,
    before: readonly string[] = [],
    theirs?: () => Promise<ReadonlySet<string>>,
  ): Promise<Elsewhere | undefined> {
    const sha256 = change?.actual?.sha256;
    if (change === undefined || sha256 === undefined || sha256 === change.expected?.sha256) return undefined;
    const { store, images } = this.#deps;
    const rows = await store.imageOrigins.shard(shardOf(sha256), ORIGINS_IMAGES_MAX + 1);
    const seen = await theirs?.();
    const through = rows.slice(0, ORIGINS_IMAGES_MAX).filter(({ image }) => seen?.has(image) !== false);
    const having = through.filter(({ marks }) => hasMark(marks, sha256)).map(({ image }) => image);
    const slots = await this.#slots(host, before);
    const rank = (digest: string): number => [...slots.keys()].indexOf(digest) + 1 || Infinity;
    const ordered = [...having].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
    const places: ContentPlace[] = [];
    let untrue = 0;
    for (const digest of ordered.slice(0, PLACES_MAX)) {
      const known = await images.resolve(digest);
      const place = known.kind === 'ready' ? await placeIn(known.image, sha256, path) : undefined;
      if (known.kind === 'ready' && place !== undefined)
        places.push({ digest, name: nameOf(known.image), ...place, slot: slots.get(digest) ?? null });
      else untrue++;
    }
    return {
      places,
      images: having.length - untrue,
      looked: through.length,
      more: rows.length > ORIGINS_IMAGES_MAX,
    };
  }

  /** By manifest digest: what is staged says most, because a host may have it early. */
  async #slots(
    host: Pick<Host, 'images'> | undefined,
    before: readonly string[],
  ): Promise<ReadonlyMap<string, NonNullable<ContentPlace['slot']>>> {
    const out = new Map<string, NonNullable<ContentPlace['slot']>>();
    const add = async (named: string | null | undefined, slot: NonNullable<ContentPlace['slot']>): Promise<void> => {
      const known = named == null ? undefined : await this.#deps.images.resolve(named);
      if (known?.kind === 'ready' && !out.has(known.image.digest)) out.set(known.image.digest, slot);
    };
    for (const slot of ['staged', 'rollback', 'booted'] as const) await add(host?.images[slot], slot);
    for (const image of [...before].reverse()) await add(image, 'before');
    return out;
  }

  async #origins(digest: string): Promise<{ readonly origins: Origins | undefined; readonly failure: string | null }> {
    const known = this.#known.get(digest);
    if (known !== undefined) return { origins: known, failure: null };
    const row = await this.#deps.store.imageOrigins.get(digest);
    if (row?.origins == null) return { origins: undefined, failure: row?.failure ?? null };
    const json = await zstd(row.origins, { maxOutputLength: MANIFEST_TEXT_BYTES_MAX });
    const origins = new Origins(JSON.parse(json.toString('utf8')));
    this.#known.set(digest, origins, origins.weight);
    return { origins, failure: null };
  }
}

/** In which line (from 0) of a main text each path stands; those that are not in it are left out. One pass, however many paths. */
function linesOf(paths: readonly ByteString[], text: string): ReadonlyMap<ByteString, number> {
  const wanted = new Map(paths.map((path) => [`.${vis(path)}`, path]));
  const found = new Map<ByteString, number>();
  let number = 0;
  for (let start = 0; start < text.length && found.size < wanted.size; number++) {
    const path = wanted.get(text.slice(start, text.indexOf(' ', start)));
    if (path !== undefined) found.set(path, number);
    start = text.indexOf('\n', start) + 1;
  }
  return found;
}

function toldOf(
  line: number | undefined,
  ruled: Ruled,
  tree: TreeName,
  { origins, failure }: { readonly origins: Origins | undefined; readonly failure: string | null },
): Told {
  if (line === undefined) return { kind: 'absent' };
  if (origins === undefined) return { kind: 'untold', why: 'not-kept', failure };
  const origin = origins.at(ruled.header.rule, tree, ruled.header.trees[tree].main.full, line);
  return origin === undefined ? { kind: 'untold', why: 'other-text', failure } : { kind: 'told', origin };
}

async function placeIn(
  image: ReadyImage,
  sha256: string,
  path: ByteString | undefined,
): Promise<Pick<ContentPlace, 'path' | 'same'> | undefined> {
  const wanted = path === undefined ? undefined : vis(path);
  for (const manifest of image.manifests.slice(0, 1)) {
    const found: string[] = [];
    for (const tree of TREES) found.push(...pathsWith(sha256, (await manifest.texts(tree)).main, PATHS_MAX));
    const same = found.find((each) => each === wanted);
    const first = same ?? found[0];
    if (first !== undefined) return { path: first, same: same !== undefined };
  }
  return undefined;
}

/** Copies of one file in one image. */
const PATHS_MAX = 50;

/** `team/os 41.2`. */
function nameOf({ repositories, version }: ReadyImage): string {
  const place = repositories[0]?.replace(/^[a-z-]+:(?:\/\/[^/]+)?\/*/, '') ?? 'an image';
  return version === null ? place : `${place} ${version}`;
}

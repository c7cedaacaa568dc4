/** Looks for an image's signatures where they may lie, and for indexes that list it. The only part of trust that asks a registry. */
import { BootproofError } from '#src/error.ts';
import { isDigest, type Digest } from '#src/digest.ts';
import { parseManifest } from '#src/image/ocimanifest.ts';
import { parseReference } from '#src/image/reference.ts';
import { SIGNATURE_INDEXES_MAX, SIGNATURE_PLACES_MAX } from '#src/limits.ts';
import { findSignatures, type FoundSignatures, type Looked, type SignatureRepository } from '#src/source/signatures.ts';
import type { SignatureSource } from '#src/source/source.ts';
import { nodeSha256, verifiedDigest } from '#src/source/verified.ts';
import type { Reach } from '#src/source/address.ts';
import type { Mirror } from '#server/mirrors.ts';
import { openSource, type OpenSource } from '#server/sources.ts';

/** A place that may be asked, in its canonical spelling. */
export type LookPlace = {
  readonly pattern: string;
  readonly plainHttp: boolean;
  /** Whether hosts pull the image from there. */
  readonly own: boolean;
  /** How far a person who named it vouches for where it lies. */
  readonly reach?: Reach;
  /** Stands before `sha256-` of cosign's tags. */
  readonly tagPrefix?: string | undefined;
};

export type LookRequest = {
  readonly image: Digest;
  readonly places: readonly LookPlace[];
  /** Places that may hold some and may not be asked. */
  readonly closed: readonly string[];
  /** Tags, and digests of indexes, under which the image was pulled: an index of them may be what is signed. */
  readonly pulledAs: readonly string[];
  /** Bytes of indexes that were kept. */
  readonly indexes: readonly Uint8Array[];
};

/** How registries are spoken to. */
export type RegistryTerms = {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly caFiles: readonly string[];
  readonly authFile: string | undefined;
  readonly mirrors?: readonly Mirror[];
};

export type LookResult = FoundSignatures & {
  /** Of the image, where a place has it. */
  readonly manifest: Uint8Array | undefined;
  readonly indexes: readonly Uint8Array[];
  /** Whether the image is itself an index. */
  readonly isIndex: boolean;
  /** Names of sources from which hosts pull. */
  readonly own: readonly string[];
};

/** Asks every place. What a place refuses is in the result; only an abort is thrown. */
export async function look(request: LookRequest, terms: RegistryTerms, signal: AbortSignal): Promise<LookResult> {
  const opened: (OpenSource & LookPlace)[] = [];
  const looked = request.closed.map((where): Looked => ({
    where,
    of: request.image,
    outcome: 'unreadable',
    count: 0,
    code: 'IMAGE_SOURCE_NOT_ALLOWED',
    reason: 'it is not on the list of sources',
  }));
  try {
    for (const place of request.places.slice(0, SIGNATURE_PLACES_MAX)) {
      try {
        opened.push({ ...place, ...(await openPlace(place, terms, signal)) });
      } catch (error) {
        looked.push(unreadable(place.pattern, request.image, error));
      }
    }
    const [unasked, ...more] = request.places.slice(SIGNATURE_PLACES_MAX);
    if (unasked !== undefined)
      looked.push({
        where: `${unasked.pattern}${more.length === 0 ? '' : ` and ${more.length} more`}`,
        of: request.image,
        outcome: 'too-many',
        count: 0,
        code: 'TOO_MANY',
        reason: `at most ${SIGNATURE_PLACES_MAX} places are asked for one image: let fewer policies name one of their own`,
      });
    return await lookIn(opened, request, looked);
  } finally {
    for (const { close } of opened) await close();
  }
}

function openPlace(
  { pattern, plainHttp, reach }: LookPlace,
  terms: RegistryTerms,
  signal: AbortSignal,
): Promise<OpenSource> {
  return openSource(parseReference(pattern), {
    ...terms,
    insecureHttp: plainHttp,
    // A person named this registry as one on loopback or in the local net; others keep to what their own name says.
    ...(reach !== undefined ? { reach } : plainHttp ? { reach: 'any' as const } : {}),
    signal,
  });
}

/** The same over sources that are open already. */
export async function lookIn(
  places: readonly (Pick<LookPlace, 'own' | 'tagPrefix'> & { readonly source: SignatureSource })[],
  { image, pulledAs, indexes: kept }: Omit<LookRequest, 'places' | 'closed'>,
  before: readonly Looked[] = [],
): Promise<LookResult> {
  const indexes = new Map<Digest, Uint8Array>();
  for (const bytes of kept) indexes.set(verifiedDigest(bytes, undefined, 'a kept index'), bytes);
  const looked = [...before];
  let manifest: Uint8Array | undefined;
  for (const { source, own } of places) {
    if (!own) continue;
    manifest ??= await manifestOf(source, image, image, looked);
    for (const name of pulledAs) {
      const bytes = indexes.size < SIGNATURE_INDEXES_MAX ? await manifestOf(source, name, image, looked) : undefined;
      if (bytes !== undefined && lists(bytes, image)) indexes.set(verifiedDigest(bytes, undefined, source.name), bytes);
    }
  }
  const isIndex = manifest !== undefined && kindOf(manifest)?.kind === 'index';
  const found = await findSignatures({
    image,
    isIndex,
    indexes: [...indexes.keys()],
    repositories: places.map(({ source, own, tagPrefix }): SignatureRepository => ({
      source,
      own,
      ...(tagPrefix === undefined ? {} : { tagPrefix }),
    })),
  });
  return {
    ...found,
    looked: [...looked, ...found.looked],
    complete: found.complete && looked.every(({ outcome }) => outcome !== 'unreadable'),
    manifest,
    indexes: [...indexes.values()],
    isIndex,
    // A prefix before the tag is nothing that hosts look for.
    own: places.filter(({ own, tagPrefix = '' }) => own && tagPrefix === '').map(({ source }) => source.name),
  };
}

/** The manifest under a name; undefined where there is none. What could not be asked is noted. */
async function manifestOf(
  source: SignatureSource,
  name: string,
  image: Digest,
  looked: Looked[],
): Promise<Uint8Array | undefined> {
  try {
    const { bytes, claimed } = await source.manifest(name);
    verifiedDigest(bytes, isDigest(name) ? name : claimed?.digest, `${source.name}: ${name}`);
    return bytes;
  } catch (error) {
    if (!(error instanceof BootproofError) || error.code === 'SOURCE_ABORTED') throw error;
    if (error.code !== 'SOURCE_NOT_FOUND') looked.push(unreadable(`${source.name}: ${name}`, image, error));
    return undefined;
  }
}

function unreadable(where: string, of: Digest, error: unknown): Looked {
  if (!(error instanceof BootproofError)) throw error;
  return { where, of, outcome: 'unreadable', count: 0, code: error.code, reason: error.message };
}

/** Whether an index lists the image; what is no index lists nothing. */
function lists(bytes: Uint8Array, image: Digest): boolean {
  const parsed = kindOf(bytes);
  return parsed?.kind === 'index' && parsed.manifests.some(({ digest }) => digest === image);
}

function kindOf(bytes: Uint8Array): ReturnType<typeof parseManifest> | undefined {
  try {
    return parseManifest(bytes, undefined);
  } catch (error) {
    if (error instanceof BootproofError) return undefined; // no image of ours either way: it proves nothing
    throw error;
  }
}

/** A digest as bytes are kept under. */
export const blobKey = (bytes: Uint8Array): Digest => `sha256:${nodeSha256(bytes)}` as Digest;

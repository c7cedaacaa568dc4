/**
 * Finds signatures in every place where cosign, podman and others put them (docs/trust.md 7): tags, referrers, the fallback tag, layouts,
 * another repository. Says where it looked and what it found; what could not be asked is apart from what is not there. Verifies nothing.
 */
import { z } from 'zod';
import { isDigest, type Digest } from '#src/digest.ts';
import { BootproofError } from '#src/error.ts';
import { DOCKER_MANIFEST, OCI_MANIFEST } from '#src/image/ocimanifest.ts';
import {
  REFERRERS_MAX,
  SIGNATURE_MANIFEST_BYTES_MAX,
  SIGNATURES_ALL_MAX,
  SIGNATURES_BYTES_MAX,
  SIGNATURES_MAX,
  SIMPLE_SIGNING_BYTES_MAX,
  STATEMENT_BYTES_MAX,
} from '#src/limits.ts';
import { BUNDLE_LAYER, readBundle } from '#src/trust/bundle.ts';
import {
  ENVELOPE_LAYER,
  isSignatureLayer,
  readAttestationLayer,
  readSignatureLayer,
  SIMPLE_SIGNING_LAYER,
  type Annotations,
} from '#src/trust/cosign.ts';
import { hostPolicy, type HostPolicy } from '#src/trust/hostpolicy.ts';
import {
  orFailed,
  TrustError,
  type Format,
  type Place,
  type SignedEntity,
  type TrustCode,
} from '#src/trust/material.ts';
import { quote, strictObject } from '#src/trust/strictjson.ts';
import { parseReferrers } from './referrers.ts';
import { SourceError, type Descriptor, type ListedReferrer, type SignatureSource } from './source.ts';
import { readVerified, verifiedDigest } from './verified.ts';

/** One place that was asked, and what came of it. */
export type Looked = {
  /** `docker://host/repository: tag sha256-….sig`, as a person reads it. */
  readonly where: string;
  readonly of: Digest;
  /** `nothing`: the place answered, and is empty. `unreadable`: it did not answer, so nobody knows. `not-supported`: asked in vain, another place stands for it. */
  readonly outcome: 'found' | 'nothing' | 'not-supported' | 'too-many' | 'malformed' | 'unreadable';
  readonly count: number;
  readonly code: string | undefined;
  readonly reason: string | undefined;
};

export type FoundSignatures = {
  readonly looked: readonly Looked[];
  readonly found: readonly SignedEntity[];
  /** False where a place did not answer: what is missing then may be there. */
  readonly complete: boolean;
  /** What a host could read of it, by form alone; hostpolicy.ts tells more once something verified. */
  readonly hostReadable: HostPolicy;
};

export type SignatureRepository = {
  readonly source: SignatureSource;
  /** Whether hosts pull from there; signatures elsewhere (COSIGN_REPOSITORY) are nothing to them. */
  readonly own: boolean;
  /** policy-controller's `source.tagPrefix`: stands before `sha256-` of cosign's tags. */
  readonly tagPrefix?: string;
};

export type Wanted = {
  readonly image: Digest;
  /** Whether that is itself an index, of which hosts pull a member. */
  readonly isIndex?: boolean;
  /** Indexes that list it: a signature on one of them counts through its bytes. */
  readonly indexes?: readonly Digest[];
  readonly repositories: readonly SignatureRepository[];
};

/** Looks everywhere, one place after another. Refusals of places are values; only an abort is thrown. */
export async function findSignatures({
  image,
  isIndex = false,
  indexes = [],
  repositories,
}: Wanted): Promise<FoundSignatures> {
  const search = new Search();
  for (const repository of repositories)
    for (const of of new Set([image, ...indexes])) await search.lookFor(of, repository);
  const ownTags = repositories
    .filter(({ own, tagPrefix = '' }) => own && tagPrefix === '')
    .map(({ source }) => source.name);
  const isOwn = ({ source, by }: Place) => ownTags.includes(source) && (by === 'tag' || by === 'layout');
  return {
    looked: search.looked,
    found: search.found,
    complete: search.looked.every(({ outcome }) => outcome !== 'unreadable'),
    hostReadable: hostPolicy(search.found, { digest: image, isIndex }, isOwn),
  };
}

/**
 * Where the signatures of a repository lie: in the one that stands for it in the mirrors map (longest prefix of whole path parts), or in
 * itself. Keys and values are `host/path`.
 */
export function mirroredRepository(repository: string, mirrors: ReadonlyMap<string, string>): string {
  const prefixes = [...mirrors.keys()].filter((prefix) => repository === prefix || repository.startsWith(`${prefix}/`));
  const longest = prefixes.sort((a, b) => b.length - a.length)[0];
  return longest === undefined ? repository : mirrors.get(longest)! + repository.slice(longest.length);
}

const Layer = z.object({
  mediaType: z.string().max(256),
  digest: z.string().refine(isDigest, 'expected sha256:<64 lower-case hex>'),
  size: z.int().min(0),
  annotations: z.record(z.string(), z.string()).nullish(),
});
const SignatureManifest = z.object({
  schemaVersion: z.literal(2),
  mediaType: z.enum([OCI_MANIFEST, DOCKER_MANIFEST]).nullish(),
  artifactType: z.string().max(256).nullish(),
  subject: z.looseObject({ digest: z.string() }).nullish(),
  layers: z.array(Layer),
});
type SignatureManifest = z.infer<typeof SignatureManifest>;

class Search {
  readonly looked: Looked[] = [];
  readonly found: SignedEntity[] = [];
  /** Manifests read already: one that lies in two places is one. */
  readonly #seen = new Set<string>();
  #bytesLeft = SIGNATURES_BYTES_MAX;

  async lookFor(of: Digest, { source, tagPrefix = '' }: SignatureRepository): Promise<void> {
    const tag = of.replace(':', '-');
    await this.#tag(source, of, `${tagPrefix}${tag}.sig`);
    await this.#tag(source, of, `${tagPrefix}${tag}.att`);
    const any = await this.#referrers(source, of);
    // After an upgrade of the registry some referrers may still be under the tag alone.
    if (!any) await this.#fallback(source, of, tag);
  }

  /** cosign's own tags: a manifest whose layers are the signatures. */
  async #tag(source: SignatureSource, of: Digest, tag: string): Promise<void> {
    await this.#place(`${source.name}: tag ${tag}`, of, async () => {
      const { bytes, claimed } = await source.manifest(tag);
      const digest = verifiedDigest(bytes, claimed?.digest, `${source.name}: ${tag}`);
      return this.#manifest(source, bytes, { source: source.name, by: 'tag', tag, of, manifest: digest, layer: 0 });
    });
  }

  /** Whether there were signatures among them. */
  async #referrers(source: SignatureSource, of: Digest): Promise<boolean> {
    let any = false;
    const where = `${source.name}: referrers of ${of}`;
    await this.#place(
      where,
      of,
      async () => {
        const { supported, listed, attached, complete } = await source.referrers(of);
        if (!supported) return 'not-supported';
        const by = source.kind === 'layout' ? 'layout' : 'referrer';
        let count = await this.#open(source, listed, of, by, undefined);
        for (const { digest } of attached) count += await this.#attached(source, digest, of);
        any = count > 0;
        if (!complete) throw tooMany(`${where}: more than are looked at, or a list without an end`);
        return count;
      },
      true,
    );
    return any;
  }

  async #fallback(source: SignatureSource, of: Digest, tag: string): Promise<void> {
    const where = `${source.name}: tag ${tag}`;
    await this.#place(where, of, async () => {
      const { bytes, claimed } = await source.manifest(tag);
      verifiedDigest(bytes, claimed?.digest, where);
      const { listed, complete } = parseReferrers(bytes, where);
      const count = await this.#open(source, listed, of, 'referrers-tag', tag);
      if (!complete) throw tooMany(`${where}: more than are looked at`);
      return count;
    });
  }

  /**
   * Runs what asks one place, and writes down what came of it. `isOwnList`: a list that the registry or layout itself keeps; what whoever
   * may push has garbled is an answer, a list that cannot be read is none.
   */
  async #place(
    where: string,
    of: Digest,
    ask: () => Promise<number | 'not-supported'>,
    isOwnList = false,
  ): Promise<void> {
    const before = this.found.length;
    const note = (outcome: Looked['outcome'], code?: string, reason?: string) =>
      this.looked.push({ where, of, outcome, count: this.found.length - before, code, reason });
    try {
      const count = await ask();
      note(count === 'not-supported' ? count : count === 0 ? 'nothing' : 'found');
    } catch (error) {
      if (!(error instanceof BootproofError)) throw error;
      if (error.code === 'SOURCE_ABORTED') throw error;
      if (error.code === 'SOURCE_NOT_FOUND') note('nothing');
      else if (error.code === 'TOO_MANY') note('too-many', error.code, error.message);
      else note(isAnswer(error) && !isOwnList ? 'malformed' : 'unreadable', error.code, error.message);
    }
  }

  /** Opens what a list names: each by its digest, checked, and with the subject that was asked for. */
  async #open(
    source: SignatureSource,
    listed: readonly ListedReferrer[],
    of: Digest,
    by: Place['by'],
    tag: string | undefined,
  ): Promise<number> {
    let count = 0;
    // Where there are more than are opened, those go first that call themselves signatures.
    const hinted = (entry: ListedReferrer) => (/sigstore|cosign/.test(entry.artifactType ?? '') ? 0 : 1);
    const ordered = listed.toSorted((a, b) => hinted(a) - hinted(b)).slice(0, REFERRERS_MAX);
    for (const { digest, size } of ordered) {
      const place: Place = { source: source.name, by, tag, of, manifest: digest, layer: 0 };
      if (size > SIGNATURE_MANIFEST_BYTES_MAX) continue; // an artifact of another kind: a list says its size, and its bytes must have it
      const bytes = await this.#referrer(source, digest, size, place);
      if (bytes !== undefined) count += await this.#manifest(source, bytes, place, of);
    }
    return count;
  }

  /** A listed manifest's bytes; one that is not there, or not what the list said, is no signature but a finding. */
  async #referrer(
    source: SignatureSource,
    digest: Digest,
    size: number,
    place: Place,
  ): Promise<Uint8Array | undefined> {
    try {
      const { bytes } = await source.manifest(digest);
      verifiedDigest(bytes, digest, `${source.name}: ${digest}`);
      if (bytes.length !== size)
        throw new SourceError(
          'BLOB_SIZE',
          `${source.name}: ${digest} has ${bytes.length} bytes, not the ${size} that its list says`,
        );
      return bytes;
    } catch (error) {
      if (!(error instanceof SourceError) || !isDamage(error)) throw error;
      this.#add({ format: 'bundle', place, raw: { manifest: undefined, blob: new Uint8Array() } }, () => {
        throw new TrustError('MALFORMED', `the referrer cannot be had: ${error.message}`);
      });
      return undefined;
    }
  }

  async #attached(source: SignatureSource, digest: Digest, of: Digest): Promise<number> {
    const { bytes } = await source.manifest(digest);
    verifiedDigest(bytes, digest, `${source.name}: ${digest}`);
    return this.#manifest(source, bytes, {
      source: source.name,
      by: 'layout',
      tag: undefined,
      of,
      manifest: digest,
      layer: 0,
    });
  }

  /** The signatures that a manifest holds. `subject`: what a referrer must say that it refers to. */
  async #manifest(source: SignatureSource, bytes: Uint8Array, place: Place, subject?: Digest): Promise<number> {
    const key = `${source.name} ${place.manifest}`;
    if (this.#seen.has(key)) return 0;
    this.#seen.add(key);
    const manifest = orFailed('the manifest of signatures', () => parseSignatureManifest(bytes));
    if ('kind' in manifest) {
      // Under cosign's tag, or told to be a bundle, it claims to be a signature; another referrer need not be an image manifest.
      const claims = subject === undefined || place.by === 'tag';
      if (!claims) return 0;
      this.#add({ format: formatOfTag(place.tag), place, raw: { manifest: bytes, blob: new Uint8Array() } }, () => {
        throw new TrustError(manifest.code, manifest.message);
      });
      return 1;
    }
    const layers = manifest.layers.flatMap((layer, index) => {
      const format = formatOf(layer, manifest, subject !== undefined);
      return format === undefined ? [] : [{ layer, index, format }];
    });
    if (layers.length === 0) return 0;
    if (subject !== undefined && manifest.subject?.digest !== subject) {
      this.#add({ format: layers[0]!.format, place, raw: { manifest: bytes, blob: new Uint8Array() } }, () => {
        throw new TrustError(
          'WRONG_DIGEST',
          `listed for ${subject}, but refers to ${quote(manifest.subject?.digest ?? 'nothing')}`,
        );
      });
      return 1;
    }
    // Signing again appends: the newest are the last.
    for (const { layer, index, format } of layers.slice(-SIGNATURES_MAX))
      await this.#layer(source, layer, format, { ...place, layer: index }, bytes);
    if (layers.length > SIGNATURES_MAX)
      throw tooMany(`${layers.length} signatures in one manifest; the last ${SIGNATURES_MAX} are looked at`);
    return layers.length;
  }

  async #layer(
    source: SignatureSource,
    { digest, size, annotations }: SignatureManifest['layers'][number],
    format: Format,
    place: Place,
    manifest: Uint8Array,
  ): Promise<void> {
    if (this.found.length >= SIGNATURES_ALL_MAX)
      throw tooMany(`more than ${SIGNATURES_ALL_MAX} signatures in all places together; the first are looked at`);
    const max =
      format === 'bundle' || format === 'cosign-attestation' ? 2 * STATEMENT_BYTES_MAX : SIMPLE_SIGNING_BYTES_MAX;
    const refuse = (code: TrustCode, message: string) =>
      this.#add({ format, place, raw: { manifest, blob: new Uint8Array() } }, () => {
        throw new TrustError(code, message);
      });
    if (size > max) return refuse('TOO_MANY', `the layer has ${size} bytes; at most ${max}`);
    if (size > this.#bytesLeft)
      throw tooMany(`all signatures together are larger than ${SIGNATURES_BYTES_MAX} bytes; the first are looked at`);
    this.#bytesLeft -= size;
    let blob: Uint8Array;
    try {
      const descriptor: Pick<Descriptor, 'digest' | 'size'> = { digest, size };
      blob = await readVerified(source.blob(descriptor), descriptor, `${source.name}: blob ${digest}`);
    } catch (error) {
      if (!(error instanceof SourceError) || !isDamage(error)) throw error;
      return refuse('MALFORMED', `the layer cannot be had: ${error.message}`);
    }
    const notes: Annotations = new Map(Object.entries(annotations ?? {}));
    this.#add({ format, place, raw: { manifest, blob } }, () => readLayer(format, blob, notes));
  }

  #add(entity: Omit<SignedEntity, 'content'>, read: () => Exclude<SignedEntity['content'], { kind: string }>): void {
    this.found.push({ ...entity, content: orFailed(`the ${entity.format}`, read) });
  }
}

/** @throws {TrustError} */
export function parseSignatureManifest(bytes: Uint8Array): SignatureManifest {
  const what = 'the manifest of signatures';
  if (bytes.length > SIGNATURE_MANIFEST_BYTES_MAX)
    throw new TrustError('TOO_MANY', `${what} has ${bytes.length} bytes; at most ${SIGNATURE_MANIFEST_BYTES_MAX}`);
  const json = strictObject(bytes, what);
  if (Object.hasOwn(json, 'manifests')) throw new TrustError('MALFORMED', `${what} is an index`);
  const parsed = SignatureManifest.safeParse(json);
  if (parsed.success) return parsed.data;
  const { path, message } = parsed.error.issues[0]!;
  throw new TrustError('MALFORMED', `${what}: ${quote(path.join('.'))}: ${message}`);
}

function formatOf(
  { mediaType, annotations }: SignatureManifest['layers'][number],
  { layers }: SignatureManifest,
  isReferrer: boolean,
): Format | undefined {
  // A bundle is alone in its manifest (cosign pkg/oci/remote, Bundle).
  if (mediaType.startsWith(BUNDLE_LAYER)) return layers.length === 1 ? 'bundle' : undefined;
  if (!isSignatureLayer(new Map(Object.entries(annotations ?? {})))) return undefined;
  if (mediaType === SIMPLE_SIGNING_LAYER) return isReferrer ? 'cosign-oci11' : 'cosign-signature';
  return mediaType === ENVELOPE_LAYER ? 'cosign-attestation' : undefined;
}

const formatOfTag = (tag: string | undefined): Format =>
  tag?.endsWith('.att') === true ? 'cosign-attestation' : 'cosign-signature';

/** A signature read again from the bytes that were kept of it: what was found then, in every part. */
export function readKept({ format, place, raw }: Omit<SignedEntity, 'content'>): SignedEntity {
  const content = orFailed(`the ${format}`, () => {
    if (raw.manifest === undefined) return readLayer(format, raw.blob, new Map());
    const layer = parseSignatureManifest(raw.manifest).layers[place.layer];
    if (layer === undefined) throw new TrustError('MALFORMED', 'the kept manifest has no such layer');
    return readLayer(format, raw.blob, new Map(Object.entries(layer.annotations ?? {})));
  });
  return { format, place, raw, content };
}

function readLayer(format: Format, blob: Uint8Array, annotations: Annotations) {
  switch (format) {
    case 'bundle':
      return readBundle(blob);
    case 'cosign-attestation':
      return readAttestationLayer(blob, annotations);
    case 'cosign-signature':
    case 'cosign-oci11':
      return readSignatureLayer(blob, annotations);
  }
}

const tooMany = (message: string): TrustError => new TrustError('TOO_MANY', message);

/** What was there and is not what it should be, apart from a source that does not answer. */
function isDamage({ code }: SourceError): boolean {
  return code === 'SOURCE_NOT_FOUND' || code === 'BLOB_DIGEST' || code === 'BLOB_SIZE';
}

/** A refusal of what was answered; asking again would answer the same. */
function isAnswer(error: BootproofError): boolean {
  return error instanceof TrustError || ['BLOB_DIGEST', 'BLOB_SIZE', 'MANIFEST_SYNTAX'].includes(error.code);
}

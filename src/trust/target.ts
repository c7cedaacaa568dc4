/**
 * What a signature must be about (docs/trust.md 3.2): the digest that the host reports, an index that provably lists it, or a file's
 * bytes. The binding is never skipped; a target without digests binds nothing and so lets nothing through.
 */
import { hash } from 'node:crypto';
import { parseDigest, type Digest } from '#src/digest.ts';
import { parseManifest } from '#src/image/ocimanifest.ts';
import { ImageReferenceError, parseReference } from '#src/image/reference.ts';
import { INDEX_DEPTH_MAX } from '#src/limits.ts';
import { TrustError, type Signed, type SubjectDigest } from './material.ts';
import { quote } from './strictjson.ts';

/** A digest that counts as the target's, and the bytes that have it, where they are at hand. */
export type TargetDigest = SubjectDigest & { readonly bytes: Uint8Array | undefined };

export type Target = {
  readonly digests: readonly TargetDigest[];
  /** `host/path`, normalised. Empty where nobody said under which name the image is known: then names are not compared. */
  readonly repositories: readonly string[];
};

export type ImageTarget = {
  /** The manifest that the host booted. */
  readonly digest: Digest;
  /** Its bytes, where they are kept; only signatures over the bytes themselves need them. */
  readonly manifest?: Uint8Array;
  /** Bytes of indexes that may list it, kept since it was pulled. Those that do not are no help and no harm. */
  readonly indexes?: readonly Uint8Array[];
  /** References under which the image is known, `host/path[:tag]`, with or without `docker://`: the one tracked, and its mirrors' original. */
  readonly references?: readonly string[];
};

/** @throws {ImageReferenceError} for a reference of ours that is none */
export function imageTarget({ digest, manifest, indexes = [], references = [] }: ImageTarget): Target {
  const own = { ...subjectOf(digest), bytes: bytesOf(manifest, digest) };
  const found = new Map([[digest as string, own as TargetDigest]]);
  // Indexes inside indexes: each round adds those that list what counts already.
  for (let depth = 0; depth < INDEX_DEPTH_MAX; depth++)
    for (const bytes of indexes) {
      const index = `sha256:${hash('sha256', bytes, 'hex')}`;
      if (!found.has(index) && listed(bytes).some((entry) => found.has(entry)))
        found.set(index, { ...subjectOf(parseDigest(index)), bytes });
    }
  return { digests: [...found.values()], repositories: references.map(repositoryOf) };
}

/** A file, or what somebody signed that is no image. */
export function fileTarget(bytes: Uint8Array): Target {
  const algorithms = ['sha256', 'sha384', 'sha512'] as const;
  return {
    digests: algorithms.map((algorithm) => ({ algorithm, hex: hash(algorithm, bytes, 'hex'), bytes })),
    repositories: [],
  };
}

const subjectOf = (digest: Digest): SubjectDigest => ({ algorithm: 'sha256', hex: digest.slice('sha256:'.length) });

function bytesOf(bytes: Uint8Array | undefined, digest: Digest): Uint8Array | undefined {
  return bytes !== undefined && `sha256:${hash('sha256', bytes, 'hex')}` === digest ? bytes : undefined;
}

function listed(bytes: Uint8Array): readonly string[] {
  try {
    const index = parseManifest(bytes, undefined);
    return index.kind === 'index' ? index.manifests.map((entry) => entry.digest) : [];
  } catch {
    return []; // kept bytes that are no index prove nothing, which is the answer
  }
}

function repositoryOf(reference: string): string {
  const parsed = parseReference(reference.startsWith('docker://') ? reference : `docker://${reference}`);
  return parsed.transport === 'docker' ? `${parsed.registry}/${parsed.repository}` : '';
}

/** The digest of the target that was signed. @throws {TrustError} WRONG_DIGEST, with both sides */
export function mustCover(signed: Signed, target: Target): TargetDigest {
  const claimed: readonly SubjectDigest[] =
    signed.kind === 'simple-signing'
      ? [subjectOf(signed.claims.digest)]
      : signed.kind === 'statement'
        ? signed.statement.subjects.flat()
        : [signed.digest];
  const match = target.digests.find(({ algorithm, hex }) =>
    claimed.some((subject) => subject.algorithm === algorithm && subject.hex === hex),
  );
  if (match === undefined)
    throw new TrustError('WRONG_DIGEST', `made for ${show(claimed)}; this image is ${show(target.digests)}`);
  return match;
}

/**
 * The name that was signed must be one of the target's. One key signs many products: without the name a signature made for one is good for all that have the same bytes. Tags are not compared:
 * they move, and cosign writes none. Bundles sign no name at all. @throws {TrustError} WRONG_REFERENCE, with both sides
 */
export function mustName(signed: Signed, { repositories }: Target): void {
  if (signed.kind !== 'simple-signing' || repositories.length === 0) return;
  const { dockerReference } = signed.claims;
  let name: string | undefined;
  try {
    name = repositoryOf(dockerReference);
  } catch (error) {
    if (!(error instanceof ImageReferenceError)) throw error;
  }
  if (name === undefined || !repositories.includes(name))
    throw new TrustError(
      'WRONG_REFERENCE',
      `signed as ${quote(dockerReference)}; this image is ${repositories.slice(0, 5).map(quote).join(', ')}`,
    );
}

const show = (digests: readonly SubjectDigest[]): string =>
  digests.length === 0
    ? 'nothing'
    : digests
        .slice(0, 3)
        .map(({ algorithm, hex }) => quote(`${algorithm}:${hex}`))
        .join(', ') + (digests.length > 3 ? ` and ${digests.length - 3} more` : '');

/**
 * Where an image's signatures may be looked for: where it was found, else in sources that are allowed, else where its image policy says.
 * A host's claim chooses among what is allowed and never adds a place (PROTOCOL 2.6).
 */
import type { Digest } from '#src/digest.ts';
import { ImageReferenceError, parseReference, type Reference } from '#src/image/reference.ts';
import { imageName, matchesImage } from '#src/trust/imageglob.ts';
import { claimedSource, SourceTerms } from '#server/decisions/sources.ts';
import { liesUnder, type SignatureRepository } from '#server/mirrors.ts';
import type { Image, Source } from '#server/store/records.ts';
import type { LookPlace } from './look.ts';
import type { TrustSetup } from './setup.ts';

export type Places = {
  readonly places: readonly LookPlace[];
  /** `host/path`: names by which policies know it. */
  readonly references: readonly string[];
  /** Tags under which hosts say they pulled it. */
  readonly tags: readonly string[];
  /** Where hosts say it is from, and nobody may ask: what is missing elsewhere may lie there. */
  readonly closed: readonly string[];
};

export function placesOf(
  image: Pick<Image, 'repositories' | 'claims'>,
  digest: Digest,
  sources: readonly Source[],
  setup: TrustSetup,
  signatureRepositories: readonly SignatureRepository[] = [],
  /** Where somebody said under which names it is known, those and no others. */
  knownAs?: readonly string[],
): Places {
  const allowed = sources.map(({ pattern, options }) => ({
    pattern,
    plainHttp: SourceTerms.safeParse(options ?? {}).data?.plainHttp ?? false,
  }));
  const claimed = new Set(image.claims.flatMap((claim) => claimedSource(claim) ?? []));
  const known = [
    allowed.filter(({ pattern }) => image.repositories.includes(pattern)),
    allowed.filter(({ pattern }) => claimed.has(pattern)),
  ].find((some) => some.length > 0);
  // Only where no host says where it is from, it may be from anywhere that is allowed.
  const asked = known ?? (claimed.size === 0 ? allowed : []);
  const closed = asked.length > 0 ? [] : claimed.size === 0 ? ['any source'] : [...claimed];
  const own = asked.map((place) => ({ ...place, own: true }));
  const names = own.flatMap(({ pattern }) => nameOf(parse(pattern)) ?? []);
  // A layout on this server's disk has no name; hosts say under which one they pulled it.
  const references =
    knownAs ?? (names.length > 0 ? names : [...claimed].flatMap((pattern) => nameOf(parse(pattern)) ?? []));
  const places: LookPlace[] = [...own];
  const insecure = new Set(
    allowed.filter(({ plainHttp }) => plainHttp).flatMap(({ pattern }) => hostOf(parse(pattern)) ?? []),
  );
  for (const { repository, tagPrefix } of elsewhere(references, digest, setup)) {
    if (repository === undefined) {
      places.push(...own.map((place) => ({ ...place, tagPrefix })));
      continue;
    }
    const reference = parse(`docker://${repository}`);
    if (reference === undefined) continue;
    const plainHttp = insecure.has(hostOf(reference)!);
    places.push({ pattern: `docker://${repository}`, plainHttp, own: false, tagPrefix });
  }
  for (const { of, repository, plainHttp } of signatureRepositories)
    if (of === '' || references.some((name) => liesUnder(name, of)))
      places.push({
        pattern: `docker://${repository}`,
        plainHttp: plainHttp || insecure.has(hostOf(parse(`docker://${repository}`)) ?? ''),
        own: false,
      });
  const tags = image.claims.flatMap((claim) => {
    const source = claimedSource(claim);
    return source !== undefined && own.some(({ pattern }) => pattern === source) ? (tagOf(claim) ?? []) : [];
  });
  return { places, references, tags: [...new Set(tags)], closed };
}

/** Repositories and tag prefixes that policies about the image name (COSIGN_REPOSITORY, `source`). */
export function elsewhere(
  references: readonly string[],
  digest: Digest,
  { policy }: TrustSetup,
): readonly { readonly repository: string | undefined; readonly tagPrefix: string | undefined }[] {
  const names =
    references.length === 0 ? [imageName(undefined, digest)] : references.map((name) => imageName(name, digest));
  const about = policy.policies.filter(({ globs }) =>
    globs.some((glob) => names.some((name) => matchesImage(glob, name))),
  );
  return about.flatMap(({ authorities }) => authorities.flatMap(({ source }) => source ?? []));
}

function parse(text: string): Reference | undefined {
  try {
    return parseReference(text);
  } catch (error) {
    if (error instanceof ImageReferenceError) return undefined;
    throw error;
  }
}

const hostOf = (reference: Reference | undefined): string | undefined =>
  reference?.transport === 'docker' ? reference.registry : undefined;

const nameOf = (reference: Reference | undefined): string | undefined =>
  reference?.transport === 'docker' ? `${reference.registry}/${reference.repository}` : undefined;

function tagOf(claim: string): string | undefined {
  const spelled = claim.replace(/^(?:registry:(?:\/\/)?|docker:\/\/)/, '');
  const reference = parse(`docker://${spelled}`);
  return reference?.transport === 'docker' ? (reference.tag ?? 'latest') : undefined;
}

/**
 * Whether hosts that enforce containers policy (policy.json, sigstoreSigned) could read a signature at all (docs/trust.md 6). containers/image
 * up to 5.42 looks for the `.sig` tag of the pulled platform's own manifest in the same repository, and for nothing else: signed for us
 * and accepted there are two findings.
 */
import type { Digest } from '#src/digest.ts';
import { isMaterial, type Failed, type Place, type SignedEntity, type TrustCode } from './material.ts';
import type { Verified } from './verify.ts';

export type HostPolicy = {
  readonly readable: boolean;
  readonly code:
    | 'READABLE'
    /** Readable only with `"signedIdentity": {"type": "matchRepository"}`: cosign signs the name without a tag. */
    | 'READABLE_BY_REPOSITORY'
    | 'NO_SIGNATURE'
    | 'BUNDLE_ONLY'
    | 'INDEX_ONLY'
    | 'OTHER_PLACE'
    | 'OTHER_ALGORITHM'
    | 'REFUSED';
  readonly reason: string;
};

/** containers/image takes SHA-256 and pure Ed25519 (signature/sigstore, LoadVerifier). */
const HOST_ALGORITHMS = /^(?:ecdsa-p(?:256|384|521)-sha256|rsa-pkcs1-sha256|ed25519)$/;

const OTHER_HASH: ReadonlySet<TrustCode> = new Set<TrustCode>(['WRONG_HASH', 'UNSUPPORTED_ALGORITHM']);

/** Why a host refuses a signature as we do, whatever else its policy asks for. */
const REFUSED: ReadonlySet<TrustCode> = new Set<TrustCode>([
  'MALFORMED',
  'TOO_MANY',
  'WRONG_DIGEST',
  'WRONG_REFERENCE',
  'WRONG_KEY',
  'BAD_SIGNATURE',
  'CERTIFICATE_USAGE',
]);

/**
 * `isOwn`: the place is where the host pulls from, under a tag without a prefix. `outcomes`: what verification said of each entity, in
 * their order, the best of several authorities; without them the form alone decides.
 */
export function hostPolicy(
  entities: readonly SignedEntity[],
  { digest, isIndex }: { readonly digest: Digest; readonly isIndex: boolean },
  isOwn: (place: Place) => boolean,
  outcomes: readonly (Verified | Failed)[] = [],
): HostPolicy {
  const all = entities.map((entity, index) => ({ ...entity, outcome: outcomes[index] }));
  const legacy = all.filter(({ format }) => format === 'cosign-signature');
  if (legacy.length === 0)
    return entities.some(({ format }) => format === 'bundle' || format === 'cosign-oci11')
      ? no('BUNDLE_ONLY', 'signed only in the form of bundles or referrers, which hosts do not look for')
      : no('NO_SIGNATURE', 'no signature under a tag that hosts look for');
  const own = legacy.filter(({ place }) => isOwn(place));
  if (own.length === 0) return no('OTHER_PLACE', 'signed only in another repository or under a prefixed tag');
  const direct = own.filter(({ place }) => !isIndex && place.of === digest);
  if (direct.length === 0)
    return no(
      'INDEX_ONLY',
      'only the index is signed; hosts ask for the manifest of their platform (cosign sign --recursive)',
    );
  const sound = direct.flatMap(({ content, outcome }) =>
    isMaterial(content) &&
    content.signed.kind === 'simple-signing' &&
    content.signed.claims.digest === digest &&
    !(outcome?.kind === 'failed' && REFUSED.has(outcome.code))
      ? [{ name: content.signed.claims.dockerReference, outcome }]
      : [],
  );
  if (sound.length === 0) return no('REFUSED', 'what lies under the tag that hosts look for is refused by them too');
  const taken = sound.filter(({ outcome }) =>
    outcome?.kind === 'verified'
      ? HOST_ALGORITHMS.test(outcome.algorithm)
      : !OTHER_HASH.has(outcome?.code ?? 'NO_SIGNATURE'),
  );
  if (taken.length === 0)
    return no(
      'OTHER_ALGORITHM',
      'signed with an algorithm that hosts do not verify: they take SHA-256 and pure Ed25519',
    );
  return taken.some(({ name }) => hasTagOrDigest(name))
    ? { readable: true, code: 'READABLE', reason: 'signed under the tag that hosts look for' }
    : {
        readable: true,
        code: 'READABLE_BY_REPOSITORY',
        reason: 'signed by repository name alone: hosts need signedIdentity matchRepository, their default refuses it',
      };
}

const no = (code: HostPolicy['code'], reason: string): HostPolicy => ({ readable: false, code, reason });

/** A colon after the last slash is a tag's; before it, a port's. */
function hasTagOrDigest(name: string): boolean {
  return name.includes('@') || name.lastIndexOf(':') > name.lastIndexOf('/');
}

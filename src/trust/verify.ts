/** One signed entity against one requirement: docs/trust.md 3, in its order. Nothing is thrown, and nothing is accepted by omission. */
import type { Instant } from '#src/clock.ts';
import type { Digest } from '#src/digest.ts';
import { deniedBy, type DenyEntry } from './deny.ts';
import { provenEntry, verifyEvidence, type ProvenEntry, type TrustedTime } from './evidence.ts';
import { identityOf, mustMatch, type CertificateIdentity } from './identity.ts';
import {
  failedBy,
  isMaterial,
  TrustError,
  type Failed,
  type Format,
  type Material,
  type Place,
  type SignedEntity,
  type Statement,
} from './material.ts';
import type { Requirement, TrustRootName, What } from './requirement.ts';
import { scopeOf } from './scope.ts';
import { signerOf } from './signer.ts';
import { COSIGN_SIGN } from './statement.ts';
import { quote } from './strictjson.ts';
import { mustCover, mustName, type Target } from './target.ts';
import type { TrustRoots } from './trustroot.ts';

export type Verified = {
  readonly kind: 'verified';
  readonly by:
    | { readonly kind: 'key'; readonly fingerprint: Digest }
    | {
        readonly kind: 'keyless';
        readonly issuer: string;
        /** The name that the policy asked for, and all that the certificate has. */
        readonly subject: string;
        readonly subjects: readonly string[];
        readonly serial: string;
        /** DER. */
        readonly certificate: Uint8Array;
        readonly fingerprint: Digest;
      };
  /** `ecdsa-p256-sha256`, `ed25519ph` … */
  readonly algorithm: string;
  readonly format: Format;
  readonly place: Place;
  /** What was signed: the target's own digest, or that of an index that lists it. `algorithm:hex`. */
  readonly signs: string;
  /** The name in a simple signing payload; bundles sign none. */
  readonly dockerReference: string | undefined;
  readonly predicateType: string | undefined;
  /** For conditions over the predicate. */
  readonly statement: Statement | undefined;
  readonly entries: readonly ProvenEntry[];
  readonly times: readonly TrustedTime[];
  readonly roots: readonly { readonly name: TrustRootName; readonly sha256: Digest }[];
};

/** Everything but the signature and the requirement. */
export type Circumstances = {
  readonly target: Target;
  readonly roots: TrustRoots;
  readonly deny: readonly DenyEntry[];
  /** When it is judged: certificates are not held against it, only claims to come from the future and the deny list are. */
  readonly now: Instant;
};

/** Whether `entity` is what `requirement` asks for, and why not. */
export function verifySignature(
  entity: SignedEntity,
  requirement: Requirement,
  circumstances: Circumstances,
): Verified | Failed {
  try {
    if (!isMaterial(entity.content)) return entity.content;
    return verifyMaterial(entity, entity.content, requirement, circumstances);
  } catch (error) {
    return failedBy(`the ${entity.format}`, error);
  }
}

function verifyMaterial(
  { format, place }: SignedEntity,
  material: Material,
  { what, authority }: Requirement,
  { target, roots, deny, now }: Circumstances,
): Verified {
  mustBeOfKind(material, what);
  const covered = mustCover(material.signed, target);
  const scope = scopeOf(authority, roots);
  const signer = signerOf(material, covered, authority);
  const times = verifyEvidence(material, covered, scope, signer, now);
  let identity: CertificateIdentity | undefined;
  let subject = '';
  if (authority.kind === 'keyless' && signer.certificate !== undefined) {
    identity = identityOf(signer.certificate);
    subject = mustMatch(identity, authority.identities);
  }
  mustName(material.signed, target);
  const entries = (scope.logs === undefined ? [] : material.entries).map((entry) => provenEntry(entry, scope));
  const signs = `${covered.algorithm}:${covered.hex}`;
  const denied = deniedBy(
    deny,
    {
      digests: [...new Set([signs, ...target.digests.slice(0, 1).map(({ algorithm, hex }) => `${algorithm}:${hex}`)])],
      fingerprint: signer.key.fingerprint,
      identity,
      serial: signer.certificate?.serial,
      // Both indexes of an entry: whoever takes the promise out of a bundle leaves only the other one proven.
      entries: entries.flatMap(({ logId, logIndex }, index) => [
        { logId, logIndex },
        { logId, logIndex: material.entries[index]!.logIndex },
      ]),
      times: times.map(({ at }) => at),
    },
    now,
  );
  if (denied !== undefined) throw new TrustError('DENIED', denied);
  const { signed } = material;
  const statement = signed.kind === 'statement' ? signed.statement : undefined;
  return {
    kind: 'verified',
    by:
      identity === undefined || signer.certificate === undefined
        ? { kind: 'key', fingerprint: signer.key.fingerprint }
        : {
            kind: 'keyless',
            issuer: identity.issuer,
            subject,
            subjects: identity.subjects,
            serial: signer.certificate.serial,
            certificate: signer.certificate.der,
            fingerprint: signer.key.fingerprint,
          },
    algorithm: signer.algorithm.name,
    format,
    place,
    signs,
    dockerReference: signed.kind === 'simple-signing' ? signed.claims.dockerReference : undefined,
    predicateType: statement?.predicateType,
    statement,
    entries,
    times,
    roots: scope.roots.map(({ name, sha256 }) => ({ name, sha256 })),
  };
}

/** docs/trust.md 3.1. cosign takes any statement about the image as its signature; a failed test report is one. */
function mustBeOfKind({ signed }: Material, what: What): void {
  const predicate = signed.kind === 'statement' ? signed.statement.predicateType : undefined;
  if (what.kind === 'signature') {
    if (predicate !== undefined && predicate !== COSIGN_SIGN)
      throw new TrustError('WRONG_KIND', `an attestation of ${quote(predicate)} is no signature of the image`);
    return;
  }
  if (predicate === undefined)
    throw new TrustError('WRONG_KIND', `a signature of the image is no attestation of ${quote(what.predicateType)}`);
  if (predicate !== what.predicateType)
    throw new TrustError(
      'WRONG_PREDICATE',
      `an attestation of ${quote(predicate)}; asked for ${quote(what.predicateType)}`,
    );
}

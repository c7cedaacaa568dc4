/** What a look at an image's signatures is remembered as, ready for API and pages: a JSON value of ours, bounded where it is made. */
import { formatInstant } from '#src/clock.ts';
import type { Digest } from '#src/digest.ts';
import { TRUST_TOLD_MAX } from '#src/limits.ts';
import type { Looked } from '#src/source/signatures.ts';
import type { HostPolicy } from '#src/trust/hostpolicy.ts';
import type { AuthorityResult, ImageJudgement, PolicyResult, Proof as JudgedProof } from '#src/trust/judgement.ts';
import type { Place } from '#src/trust/material.ts';
import { blobKey } from './look.ts';

/** A signature that counts: who, with what, when, and where it lay. */
export type Proof = {
  /** In words: `key sha256:…`, or an identity and who vouches for it. */
  readonly by: string;
  readonly kind: 'key' | 'keyless';
  readonly fingerprint: Digest;
  readonly issuer: string | null;
  readonly subject: string | null;
  readonly serial: string | null;
  /** DER in base64. */
  readonly certificate: string | null;
  readonly algorithm: string;
  readonly format: string;
  /** The image's own digest, or that of an index that lists it. */
  readonly signs: string;
  readonly predicateType: string | null;
  readonly entries: readonly {
    readonly log: string;
    readonly logId: string;
    readonly logIndex: string;
    readonly at: string | null;
  }[];
  readonly times: readonly { readonly at: string; readonly by: string }[];
  readonly roots: readonly { readonly name: string; readonly sha256: Digest }[];
  readonly where: string;
  /** Key of the kept bytes. */
  readonly blob: Digest;
};

/** One authority of one policy: that it is satisfied, or the first reason why not, with both sides. */
export type AuthorityTold = {
  readonly name: string;
  readonly state: 'passed' | 'failed' | 'unverifiable';
  readonly code: string | null;
  readonly reason: string | null;
  readonly proofs: readonly Proof[];
};

export type PolicyTold = {
  readonly name: string;
  readonly mode: 'enforce' | 'warn';
  readonly state: 'passed' | 'failed' | 'unverifiable';
  readonly code: string | null;
  readonly reason: string | null;
  readonly authorities: readonly AuthorityTold[];
};

/** One signature that was found, and what came of it at its best. */
export type CheckedTold = {
  readonly where: string;
  readonly format: string;
  readonly outcome: 'verified' | 'failed';
  readonly code: string | null;
  readonly reason: string | null;
};

export type TrustTold = {
  /** Who signed, in words; null where nobody did who counts. */
  readonly by: string | null;
  /** Names of the policies under which it is trusted. */
  readonly policy: string | null;
  /** The first reason where it is not trusted. */
  readonly code: string | null;
  readonly why: string | null;
  readonly policies: readonly PolicyTold[];
  /** What policies of mode warn would have refused. */
  readonly warnings: readonly { readonly policy: string; readonly code: string; readonly reason: string }[];
  readonly checked: readonly CheckedTold[];
  readonly looked: readonly Looked[];
  readonly hostPolicy: HostPolicy | null;
};

/** What is remembered of a judgement. */
export function tell(judgement: ImageJudgement, looked: readonly Looked[], hostPolicy: HostPolicy | null): TrustTold {
  const { by, policy, code, reason, policies, checked, warnings } = judgement;
  return {
    by: by ?? null,
    policy: policy ?? null,
    code: code ?? null,
    why: reason ?? null,
    policies: policies.map((result) => ({
      name: result.name,
      mode: result.mode,
      ...outcomeOf(result),
      authorities: result.authorities.map((authority) => ({
        name: authority.name,
        ...outcomeOf(authority),
        proofs: authority.proofs.map(proofOf),
      })),
    })),
    warnings: warnings.map((warning) => ({ ...warning })),
    checked: checked.slice(0, TRUST_TOLD_MAX).map((each) => ({
      where: placeText(each.place),
      format: each.format,
      outcome: each.outcome,
      code: each.code ?? null,
      reason: each.reason ?? null,
    })),
    looked,
    hostPolicy,
  };
}

const outcomeOf = ({ state, code, reason }: Pick<PolicyResult | AuthorityResult, 'state' | 'code' | 'reason'>) => ({
  state,
  code: code ?? null,
  reason: reason ?? null,
});

/** `docker://host/repository: tag sha256-….sig, layer 0`, as a person reads it. */
export function placeText({ source, by, tag, of, manifest, layer }: Place): string {
  switch (by) {
    case 'tag':
      return `${source}: tag ${tag}, layer ${layer}`;
    case 'referrer':
      return `${source}: referrer ${manifest} of ${of}`;
    case 'referrers-tag':
      return `${source}: tag ${tag}, ${manifest}`;
    case 'layout':
      return `${source}: ${manifest}, layer ${layer}`;
    case 'file':
      return source;
  }
}

function proofOf({ entity, verified }: JudgedProof): Proof {
  const { by } = verified;
  const isKeyless = by.kind === 'keyless';
  return {
    by: isKeyless ? `${by.subject} (${by.issuer})` : `key ${by.fingerprint}`,
    kind: by.kind,
    fingerprint: by.fingerprint,
    issuer: isKeyless ? by.issuer : null,
    subject: isKeyless ? by.subject : null,
    serial: isKeyless ? by.serial : null,
    certificate: isKeyless ? Buffer.from(by.certificate).toString('base64') : null,
    algorithm: verified.algorithm,
    format: verified.format,
    signs: verified.signs,
    predicateType: verified.predicateType ?? null,
    entries: verified.entries.map(({ log, logId, logIndex, at }) => ({
      log,
      logId,
      logIndex,
      at: at === undefined ? null : formatInstant(at),
    })),
    times: verified.times.map(({ at, by: witness }) => ({ at: formatInstant(at), by: witness })),
    roots: verified.roots.map((root) => ({ ...root })),
    where: placeText(entity.place),
    blob: blobKey(entity.raw.blob),
  };
}

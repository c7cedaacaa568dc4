/**
 * An image under the image policies of a site (docs/image-policy.md 4): AND over policies, OR over authorities, AND over attestations. A
 * function of what was found and what counts; what could not be told is never trusted, and nothing is trusted by omission.
 */
import type { Instant } from '#src/clock.ts';
import type { DemandedAttestation, PolicyAuthority } from './cipauthority.ts';
import type { ClusterImagePolicy } from './clusterimagepolicy.ts';
import type { DenyEntry } from './deny.ts';
import { imageName, matchesImage } from './imageglob.ts';
import type { ImagePolicy } from './imagepolicy.ts';
import {
  MISSING_HERE,
  OTHER,
  REACHED,
  UNREADABLE,
  type AuthorityResult,
  type CheckedSignature,
  type ImageJudgement,
  type JudgeCode,
  type PolicyResult,
  type Proof,
  type State,
} from './judgement.ts';
import type { Format, SignedEntity } from './material.ts';
import type { Authority, Requirement, TrustRootName } from './requirement.ts';
import { quote } from './strictjson.ts';
import { imageTarget, type ImageTarget } from './target.ts';
import type { TrustRoots } from './trustroot.ts';
import { verifySignature, type Verified } from './verify.ts';

export type ImageEvidence = {
  readonly image: ImageTarget;
  readonly entities: readonly SignedEntity[];
  /** Places that did not answer, or (`cut`) hold more than is looked at: what is missing may be there. */
  readonly unread: readonly { readonly where: string; readonly reason: string | undefined; readonly cut?: boolean }[];
};

export type ImageTerms = {
  readonly policy: ImagePolicy;
  /** Those that are imported here; the policy's own are added to them, and never take the place of one. */
  readonly roots: TrustRoots;
  /** Besides what the policy denies. */
  readonly deny: readonly DenyEntry[];
  readonly now: Instant;
  /** What holds a signature against a requirement; handed in by who remembers results. */
  readonly verify?: typeof verifySignature;
};

/** The policies that are about an image, by the names under which it is known. @throws {ImageReferenceError} */
export function policiesFor(
  policies: readonly ClusterImagePolicy[],
  { digest, references = [] }: Pick<ImageTarget, 'digest' | 'references'>,
): ClusterImagePolicy[] {
  const names =
    references.length === 0 ? [imageName(undefined, digest)] : references.map((ref) => imageName(ref, digest));
  return policies
    .filter(({ globs }) => globs.some((glob) => names.some((name) => matchesImage(glob, name))))
    .toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

/** Judges an image. @throws {ImageReferenceError} for a reference of ours that is none */
export function judgeImage(evidence: ImageEvidence, terms: ImageTerms): ImageJudgement {
  const court = new Court(evidence, terms);
  const policies = policiesFor(terms.policy.policies, evidence.image).map((policy) => court.policy(policy));
  const warnings = policies
    .filter(({ mode, state }) => mode === 'warn' && state !== 'passed')
    .map(({ name, code, reason }) => ({ policy: name, code: code!, reason: reason! }));
  const passed = policies.filter(({ state }) => state === 'passed');
  const rest = { policies, warnings, checked: court.checked() };
  const say = (
    state: ImageJudgement['state'],
    { code, reason }: { readonly code: JudgeCode | undefined; readonly reason: string | undefined },
  ): ImageJudgement => ({ state, by: undefined, policy: undefined, code, reason, ...rest, proofs: [] });

  const denied = court.imageDenied();
  if (denied !== undefined) return say('rejected', { code: 'DENIED', reason: denied });
  if (policies.length === 0) {
    const { noMatch } = terms.policy;
    const reason = `no image policy is about ${names(evidence.image)}`;
    if (noMatch !== 'allow') return say(noMatch, { code: 'NO_POLICY', reason });
    return {
      ...say('trusted', { code: undefined, reason: undefined }),
      by: 'nobody (noMatch: allow)',
      policy: 'noMatch',
    };
  }
  const enforced = policies.filter(({ mode }) => mode === 'enforce');
  const failed = enforced.filter(({ state }) => state === 'failed');
  if (failed.length > 0) {
    const isSigned = failed.some(({ code }) => code !== 'NO_SIGNATURE');
    return say(isSigned ? 'rejected' : 'unsigned', furthest(failed, court.label));
  }
  const untold = enforced.find(({ state }) => state === 'unverifiable');
  if (untold !== undefined) return say('unverifiable', court.label(untold));
  // Only policies that warn are about it, and none of them is satisfied: nobody vouches for it, and nobody refuses it.
  if (passed.length === 0) return say('not-assessed', court.label(policies[0]!));
  const proofs = unique(passed.flatMap((policy) => policy.authorities.flatMap((authority) => authority.proofs)));
  return {
    ...say('trusted', { code: undefined, reason: undefined }),
    by: byWhom(proofs),
    policy: passed.map(({ name }) => name).join(', '),
    proofs,
  };
}

const names = ({ digest, references = [] }: ImageTarget): string =>
  references.length === 0 ? digest : references.slice(0, 3).map(quote).join(', ');

function byWhom(proofs: readonly Proof[]): string {
  const all = [
    ...new Set(
      proofs.map(({ verified: { by } }) =>
        by.kind === 'key' ? `key ${by.fingerprint}` : `${by.subject} (${by.issuer})`,
      ),
    ),
  ];
  if (all.length === 0) return 'nobody (static: pass)';
  return all.length > 3 ? `${all.slice(0, 3).join(', ')} and ${all.length - 3} more` : all.join(', ');
}

function unique(proofs: readonly Proof[]): Proof[] {
  return [...new Map(proofs.map((proof) => [proof.entity, proof])).values()];
}

type Reason = { readonly code: JudgeCode | undefined; readonly reason: string | undefined };

/** The reason that got furthest; the first of equals. */
function furthest<T extends Reason>(all: readonly T[], label: (one: T) => Reason = (one) => one): Reason {
  return label(all.reduce((best, one) => (REACHED[one.code!] > REACHED[best.code!] ? one : best)));
}

type Outcome = Verified | { readonly kind: 'failed'; readonly code: JudgeCode; readonly message: string };
type Held = { readonly entity: SignedEntity; readonly outcome: Outcome };
type DemandResult = Reason & { readonly state: State; readonly held: readonly Held[] };

/** One image's evidence, with what each signature came to remembered: policies often ask for the same. */
class Court {
  readonly #evidence: ImageEvidence;
  readonly #terms: ImageTerms;
  readonly #around: Parameters<typeof verifySignature>[2];
  readonly #remembered = new Map<string, readonly Outcome[]>();
  readonly #best = new Map<SignedEntity, Outcome>();

  constructor(evidence: ImageEvidence, terms: ImageTerms) {
    this.#evidence = evidence;
    this.#terms = terms;
    this.#around = {
      target: imageTarget(evidence.image),
      roots: new Map([...terms.policy.trustRoots.map((root) => [root.name, root] as const), ...terms.roots]),
      deny: [...terms.policy.deny, ...terms.deny],
      now: terms.now,
    };
  }

  policy(policy: ClusterImagePolicy): PolicyResult {
    const { name, mode, unsupported } = policy;
    const authorities = policy.authorities.map((authority) => this.#authority(authority));
    const result = (state: State, reason: Reason): PolicyResult => ({
      name,
      mode,
      state,
      ...pick(reason),
      authorities,
    });
    // Not every(): a policy without authorities lets nothing through.
    if (authorities.some(({ state }) => state === 'passed'))
      return unsupported === undefined
        ? result('passed', NOTHING)
        : result('unverifiable', { code: 'UNSUPPORTED_POLICY', reason: `${unsupported.field}: ${unsupported.why}` });
    const untold = authorities.filter(({ state }) => state === 'unverifiable');
    if (untold.length > 0) return result('unverifiable', furthest(untold));
    return result('failed', furthest(authorities.length > 0 ? authorities : [NO_AUTHORITY]));
  }

  #authority(authority: PolicyAuthority): AuthorityResult {
    const { name, field, signer } = authority;
    const result = (state: State, reason: Reason, held: readonly Held[] = []): AuthorityResult => ({
      name,
      field,
      state,
      ...pick(reason),
      proofs: state === 'passed' ? unique(held.flatMap(proofOf)) : [],
      checked: held.map(checkedOf),
    });
    if (signer.kind === 'static')
      return signer.action === 'pass'
        ? result('passed', NOTHING)
        : result('failed', {
            code: 'STATIC_FAIL',
            reason: `refused by static policy${signer.message === '' ? '' : `: ${signer.message.slice(0, 300)}`}`,
          });
    if (signer.kind === 'unsupported')
      return result('unverifiable', {
        code: 'UNSUPPORTED_POLICY',
        reason: `${signer.unsupported.field}: ${signer.unsupported.why}`,
      });
    const demands =
      authority.attestations.length === 0
        ? [undefined, ...authority.also]
        : [...authority.attestations, ...authority.also];
    const results = [
      ...demands.map((demand) => this.#demand(signer.authority, demand, authority.format)),
      ...this.#everyKey(signer.authority, authority),
    ];
    const held = results.flatMap((demanded) => demanded.held);
    const failed = results.find(({ state }) => state === 'failed');
    const untold = results.find(({ state }) => state === 'unverifiable');
    if (failed !== undefined) return result('failed', failed, held);
    if (untold !== undefined) return result('unverifiable', untold, held);
    return result('passed', NOTHING, held);
  }

  /** Whether a plain signature (undefined) or an attestation is there, and holds. */
  #demand(
    authority: Authority,
    demand: DemandedAttestation | undefined,
    format: PolicyAuthority['format'],
  ): DemandResult {
    const what: Requirement['what'] =
      demand === undefined ? { kind: 'signature' } : { kind: 'attestation', predicateType: demand.predicateType };
    const held = this.#hold({ what, authority }, format).map(({ entity, outcome }): Held => ({
      entity,
      outcome: this.#holds(outcome, demand),
    }));
    for (const { entity, outcome } of held) this.#remember(entity, outcome);
    const asked = demand === undefined ? 'signature' : `attestation of ${quote(demand.predicateType)}`;
    if (held.some(({ outcome }) => outcome.kind === 'verified')) {
      const unsupported = demand?.unsupported;
      if (unsupported === undefined) return { state: 'passed', ...NOTHING, held };
      const reason = `${unsupported.field}: ${unsupported.why}`;
      return { state: 'unverifiable', code: 'UNSUPPORTED_POLICY', reason, held };
    }
    const failures = held.flatMap(({ outcome }) =>
      outcome.kind === 'failed' ? [{ code: outcome.code, reason: outcome.message }] : [],
    );
    const relevant = failures.filter(({ code }) => !OTHER.has(code));
    const missing = relevant.filter(({ code }) => MISSING_HERE.has(code));
    if (missing.length > 0) return { state: 'unverifiable', ...this.#withRoot(furthest(missing), authority), held };
    const reason: Reason =
      relevant.length === 0
        ? {
            code: 'NO_SIGNATURE',
            reason: `no ${asked}${failures.length === 0 ? '' : `; found ${furthest(failures).reason}`}`,
          }
        : furthest(relevant);
    const [unread] = this.#evidence.unread.toSorted((a, b) => Number(a.cut ?? false) - Number(b.cut ?? false));
    if (unread !== undefined) {
      const { where, reason: why, cut = false } = unread;
      const text = `${where} ${cut ? 'was not looked through' : 'did not answer'}${why === undefined ? '' : ` (${why})`}; elsewhere: ${reason.reason}`;
      return { state: 'unverifiable', code: cut ? 'TOO_MANY' : 'NOT_READ', reason: text, held };
    }
    // Only where all are: what somebody added must not turn a refusal into "could not tell".
    const isUnreadable = relevant.length > 0 && relevant.every(({ code }) => UNREADABLE.has(code));
    return { state: isUnreadable ? 'unverifiable' : 'failed', ...reason, held };
  }

  /** policy-controller: where an authority has several keys, each of them must have made one of its attestations. */
  #everyKey(authority: Authority, { attestations, format }: PolicyAuthority): DemandResult[] {
    if (authority.kind !== 'key' || authority.keys.length < 2) return [];
    return attestations.length === 0
      ? []
      : authority.keys.map((key, index) => {
          const alone = { ...authority, keys: [key] };
          const all = attestations.map((demand) =>
            this.#demand(alone, { ...demand, unsupported: undefined, condition: undefined }, format),
          );
          const passing = all.find(({ state }) => state === 'passed');
          if (passing !== undefined) return passing;
          const { state, code, reason } = all.find((each) => each.state === 'unverifiable') ?? all[0]!;
          return { state, code, reason: `key ${index + 1} of ${authority.keys.length}: ${reason}`, held: [] };
        });
  }

  /** Where a document said that a missing root has to be fetched. */
  #withRoot({ code, reason }: Reason, authority: Authority): Reason {
    if (code !== 'NO_TRUST_ROOT') return { code, reason };
    const names: readonly (TrustRootName | undefined)[] =
      authority.kind === 'key'
        ? [authority.tlog, authority.tsa]
        : [authority.trustRoot, authority.tlogRoot, authority.tsaRoot];
    const absent = names.flatMap((name) => this.#terms.policy.absentRoots.get(name ?? '') ?? [])[0];
    return { code, reason: absent === undefined ? reason : `${reason} (${absent.field}: ${absent.why})` };
  }

  #hold(requirement: Requirement, format: PolicyAuthority['format']): Held[] {
    const key = JSON.stringify(requirement);
    let outcomes = this.#remembered.get(key);
    if (outcomes === undefined) {
      const verify = this.#terms.verify ?? verifySignature;
      outcomes = this.#evidence.entities.map((entity) => verify(entity, requirement, this.#around));
      this.#remembered.set(key, outcomes);
    }
    return this.#evidence.entities.map((entity, index) => ({
      entity,
      outcome: fits(entity.format, format) ? outcomes[index]! : wrongFormat(entity.format, format!),
    }));
  }

  /** What a statement says, beside that it was signed. */
  #holds(outcome: Outcome, demand: DemandedAttestation | undefined): Outcome {
    if (outcome.kind === 'failed' || demand?.condition === undefined) return outcome;
    const failed = (code: JudgeCode, message: string): Outcome => ({ kind: 'failed', code, message });
    const { by, statement } = outcome;
    if (statement === undefined) return failed('CONDITION_ERROR', 'it states nothing');
    const { image } = this.#evidence;
    const result = demand.condition.evaluate({
      statement: statement.json,
      image: { digest: image.digest, repositories: this.#around.target.repositories },
      signer:
        by.kind === 'key'
          ? { kind: 'key', fingerprint: by.fingerprint, issuer: '', subject: '' }
          : { kind: 'keyless', fingerprint: by.fingerprint, issuer: by.issuer, subject: by.subject },
    });
    const about = `${demand.name} (${demand.reason ?? demand.field})`;
    switch (result.kind) {
      case 'true':
        return outcome;
      case 'false':
        return failed(
          'CONDITION_FALSE',
          `${about}: its condition does not hold: ${demand.condition.source.slice(0, 200)}`,
        );
      case 'error':
        return failed('CONDITION_ERROR', `${about}: its condition cannot be answered: ${result.message}`);
      case 'limit':
        return failed('CONDITION_LIMIT', `${about}: ${result.message}`);
    }
  }

  #remember(entity: SignedEntity, outcome: Outcome): void {
    const best = this.#best.get(entity);
    if (best === undefined || rank(outcome) > rank(best)) this.#best.set(entity, outcome);
  }

  /** Each signature at its best; what no policy asked for is told as what it is. */
  checked(): CheckedSignature[] {
    return this.#evidence.entities.map((entity) => {
      const outcome = this.#best.get(entity) ?? {
        kind: 'failed' as const,
        code: 'NO_POLICY' as const,
        message: 'no policy asked for it',
      };
      return checkedOf({ entity, outcome });
    });
  }

  /** An image is denied whoever signed it, and so is everything in an index that is. */
  imageDenied(): string | undefined {
    const own = new Set(this.#around.target.digests.map(({ algorithm, hex }) => `${algorithm}:${hex}`));
    const entry = this.#around.deny.find(
      (denied) => denied.what === 'image' && own.has(denied.digest) && (denied.from ?? -Infinity) <= this.#terms.now,
    );
    return entry === undefined ? undefined : `denied by image: ${entry.reason}`;
  }

  readonly label = ({ name, code, reason }: PolicyResult): Reason => ({ code, reason: `${name}: ${reason}` });
}

const NOTHING: Reason = { code: undefined, reason: undefined };
const NO_AUTHORITY: Reason = { code: 'NO_SIGNATURE', reason: 'the policy has no authority' };

const pick = ({ code, reason }: Reason): Reason => ({ code, reason });

const rank = (outcome: Outcome): number => (outcome.kind === 'verified' ? Infinity : REACHED[outcome.code]);

const proofOf = ({ entity, outcome }: Held): Proof[] =>
  outcome.kind === 'verified' ? [{ entity, verified: outcome }] : [];

function checkedOf({ entity: { place, format }, outcome }: Held): CheckedSignature {
  const failed = outcome.kind === 'failed';
  return {
    place,
    format,
    outcome: failed ? 'failed' : 'verified',
    code: failed ? outcome.code : undefined,
    reason: failed ? outcome.message : undefined,
  };
}

const fits = (found: Format, asked: PolicyAuthority['format']): boolean =>
  asked === undefined || (found === 'bundle') === (asked === 'bundle');

const wrongFormat = (found: Format, asked: 'legacy' | 'bundle'): Outcome => ({
  kind: 'failed',
  code: 'WRONG_FORMAT',
  message: `a ${found}; the policy asks for signatureFormat ${asked}`,
});

/**
 * How an image came to its state under image policies, for people: which policies are about it and by which glob, what each authority
 * asked for, and how the parts were put together (docs/image-policy.md 3, 4).
 */
import type { DemandedAttestation, PolicyAuthority } from './cipauthority.ts';
import type { ClusterImagePolicy } from './clusterimagepolicy.ts';
import { imageName, matchesImage } from './imageglob.ts';
import type { ImagePolicy } from './imagepolicy.ts';
import type { NoMatch } from './imagesdocument.ts';
import type { ImageJudgement, PolicyResult } from './judgement.ts';
import { readKey } from './keys.ts';
import type { Authority, Pattern } from './requirement.ts';
import type { ImageTarget } from './target.ts';

export type ExplainedAuthority = PolicyResult['authorities'][number] & {
  /** What would satisfy it: all of these. */
  readonly wanted: readonly string[];
  /** Where its policy has signatures looked for besides. */
  readonly source: string | undefined;
};

export type ExplainedPolicy = {
  readonly name: string;
  readonly file: string;
  readonly line: number;
  readonly mode: 'enforce' | 'warn';
  /** Each glob, and the image's name that it matches. */
  readonly globs: readonly { readonly glob: string; readonly matches: string | undefined }[];
  /** Undefined: it is not about this image. */
  readonly result: Pick<PolicyResult, 'state' | 'code' | 'reason'> | undefined;
  /** How its authorities made the result. */
  readonly because: string;
  readonly authorities: readonly ExplainedAuthority[];
};

export type Explanation = {
  /** Names by which policies know the image. */
  readonly names: readonly string[];
  readonly policies: readonly ExplainedPolicy[];
  /** How the policies made the state. */
  readonly because: string;
  readonly noMatch: NoMatch;
};

/** Explains a judgement of the same image under the same policy. @throws {ImageReferenceError} for a reference of ours that is none */
export function explainImage(
  { digest, references = [] }: Pick<ImageTarget, 'digest' | 'references'>,
  policy: ImagePolicy,
  judgement: ImageJudgement,
): Explanation {
  const names =
    references.length === 0 ? [imageName(undefined, digest)] : references.map((ref) => imageName(ref, digest));
  const policies = policy.policies
    .map((each) => explainPolicy(each, names, judgement))
    .toSorted((a, b) => Number(b.result !== undefined) - Number(a.result !== undefined) || (a.name < b.name ? -1 : 1));
  return { names, policies, because: becauseOf(judgement, policy.noMatch), noMatch: policy.noMatch };
}

function explainPolicy(
  { name, place, mode, globs, authorities }: ClusterImagePolicy,
  names: readonly string[],
  judgement: ImageJudgement,
): ExplainedPolicy {
  const result = judgement.policies.find((each) => each.name === name);
  return {
    name,
    file: place.file,
    line: place.line,
    mode,
    globs: globs.map((glob) => ({ glob: glob.source, matches: names.find((each) => matchesImage(glob, each)) })),
    result: result && { state: result.state, code: result.code, reason: result.reason },
    because: result === undefined ? 'none of its globs matches a name of this image' : authoritiesText(result),
    authorities: (result?.authorities ?? []).map((each, index) => ({
      ...each,
      wanted: wantedOf(authorities[index]!),
      source: sourceOf(authorities[index]!),
    })),
  };
}

function authoritiesText({ state, authorities }: PolicyResult): string {
  const named = (wanted: string) =>
    authorities
      .filter((each) => each.state === wanted)
      .map(({ name }) => name)
      .join(', ');
  const passed = named('passed');
  if (state === 'passed') return `one authority suffices, and it is satisfied: ${passed}`;
  if (authorities.length === 0) return 'it has no authority, so nothing satisfies it';
  if (passed !== '') return `${passed} is satisfied, and spec.policy besides cannot be evaluated here`;
  if (state === 'unverifiable')
    return `no authority is satisfied, and it could not be told of ${named('unverifiable')}`;
  return authorities.length === 1
    ? `its one authority is not satisfied: ${named('failed')}`
    : `one authority would suffice, and none of ${authorities.length} is satisfied: ${named('failed')}`;
}

const NO_MATCH_TEXT: Readonly<Record<NoMatch, string>> = {
  unsigned: 'such an image counts as unsigned (noMatch: unsigned)',
  allow: 'such an image is trusted, by nobody (noMatch: allow)',
  'not-assessed': 'nothing is said of such an image (noMatch: not-assessed)',
};

function becauseOf({ state, code, policies, reason }: ImageJudgement, noMatch: NoMatch): string {
  if (code === 'DENIED' && policies.every((policy) => policy.code !== 'DENIED')) return reason ?? 'it is denied';
  if (policies.length === 0) return `no policy is about it; ${NO_MATCH_TEXT[noMatch]}`;
  const enforced = policies.filter(({ mode }) => mode === 'enforce');
  const list = (wanted: string, of: readonly PolicyResult[]) =>
    of
      .filter((policy) => policy.state === wanted)
      .map(({ name }) => name)
      .join(', ');
  const all = `every policy that is about it must be satisfied (${enforced.length === 0 ? 'all of them only warn' : enforced.map(({ name }) => name).join(', ')})`;
  switch (state) {
    case 'trusted':
      return `${all}, and each is: ${list('passed', policies)}`;
    case 'unverifiable':
      return `${all}; none failed, and it could not be told of ${list('unverifiable', enforced)}`;
    case 'not-assessed':
      return 'only policies that warn are about it, and none of them is satisfied';
    case 'unsigned':
      return `${all}; ${list('failed', enforced)} found nothing of what it asks for`;
    case 'rejected':
      return `${all}, and failed did ${list('failed', enforced)}`;
  }
}

const textOf = (pattern: Pattern): string =>
  'exact' in pattern ? JSON.stringify(pattern.exact) : `/${pattern.regExp}/`;

/** What satisfies an authority, in words; all of it. */
function wantedOf({ signer, attestations, also, format }: PolicyAuthority): string[] {
  if (signer.kind === 'static')
    return [signer.action === 'pass' ? 'nothing: it passes always' : 'nothing satisfies it: it fails always'];
  if (signer.kind === 'unsupported')
    return [`what cannot be evaluated here: ${signer.unsupported.field}: ${signer.unsupported.why}`];
  const demands = [...attestations, ...also].map(demandText);
  const signature = attestations.length === 0 ? ['a signature of the image'] : [];
  return [
    ...[...signature, ...demands].map((demand) => `${demand}, ${byText(signer.authority)}`),
    ...besidesOf(signer.authority),
    ...(format === undefined ? [] : [`in the form that signatureFormat names: ${format}`]),
  ];
}

function demandText({ name, predicateType, unsupported, condition }: DemandedAttestation): string {
  const that = `an attestation of ${predicateType} (${name})`;
  if (unsupported !== undefined) return `${that} whose policy cannot be evaluated here: ${unsupported.field}`;
  return condition === undefined ? that : `${that} of which holds ${condition.source.slice(0, 300)}`;
}

function byText(authority: Authority): string {
  if (authority.kind === 'key') {
    const keys = authority.keys.map((pem) => readKey(pem).fingerprint);
    return `by ${keys.length === 1 ? 'the key' : 'one of the keys'} ${keys.join(', ')} with ${authority.hashAlgorithm}`;
  }
  const who = authority.identities.map(({ subject, issuer }) => `${textOf(subject)} as ${textOf(issuer)} says`);
  return `by a certificate under the trust root ${authority.trustRoot} for ${who.join(' or ')}`;
}

function besidesOf(authority: Authority): string[] {
  const log = (root: string) => `an entry of it in a transparency log of the trust root ${root}`;
  const stamp = (root: string) => `a timestamp by an authority of the trust root ${root}`;
  if (authority.kind === 'key')
    return [
      ...(authority.tlog === undefined ? [] : [log(authority.tlog)]),
      ...(authority.tsa === undefined ? [] : [stamp(authority.tsa)]),
    ];
  return [
    ...(authority.sct ? [`a CT log's promise in the certificate`] : []),
    ...(authority.tlog ? [log(authority.tlogRoot ?? authority.trustRoot)] : []),
    ...(authority.tsa ? [stamp(authority.tsaRoot ?? authority.trustRoot)] : []),
  ];
}

function sourceOf({ source }: PolicyAuthority): string | undefined {
  if (source === undefined) return undefined;
  const { repository, tagPrefix } = source;
  return `${repository ?? 'its own repository'}${tagPrefix === undefined ? '' : `, under tags that begin with ${tagPrefix}`}`;
}

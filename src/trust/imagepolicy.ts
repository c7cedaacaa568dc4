/**
 * All image policies of a site (docs/image-policy.md): files of any number of documents → one set. ClusterImagePolicies and TrustRoots
 * stay as policy-controller loads them; what it has no words for stands in documents of ours, `format: bootproof.images/1`.
 */
import { digestOf, type Digest } from '#src/digest.ts';
import { nearest } from '#src/document/spelling.ts';
import { DocumentError, readYamlDocuments, type Problem } from '#src/document/yaml.ts';
import { DENY_ENTRIES_MAX, IMAGE_POLICIES_MAX } from '#src/limits.ts';
import { PREDICATE_TYPES, type DemandedAttestation, type PolicyAuthority, type Unsupported } from './cipauthority.ts';
import type { Lint } from './cipvalidate.ts';
import { PUBLIC_GOOD, readClusterImagePolicy, type ClusterImagePolicy, type DocumentAt } from './clusterimagepolicy.ts';
import type { DenyEntry } from './deny.ts';
import {
  IMAGES_FORMAT,
  readImagesDocument,
  type ImagesDocument,
  type NoMatch,
  type PolicyCondition,
} from './imagesdocument.ts';
import type { Authority, TrustRootName } from './requirement.ts';
import { readTrustRootDocument } from './trustrootdocument.ts';
import type { TrustRoot } from './trustroot.ts';

export type ImagePolicy = {
  readonly policies: readonly ClusterImagePolicy[];
  /** What an image is that no policy is about. */
  readonly noMatch: NoMatch;
  readonly deny: readonly DenyEntry[];
  /** Roots that the documents bring with them; those that are imported here come before them. */
  readonly trustRoots: readonly TrustRoot[];
  /** Roots that the documents say must be fetched: nobody does. */
  readonly absentRoots: ReadonlyMap<TrustRootName, Unsupported>;
  /** Of all that decides, in canonical form: comments, layout and the order of files do not change it. */
  readonly digest: Digest;
  readonly lints: readonly Lint[];
};

export type PolicyFile = { readonly file: string; readonly text: string };

/** @throws {DocumentError} for the first file that has problems, naming all of its problems. */
export function parseImagePolicy(files: readonly PolicyFile[]): ImagePolicy {
  const read = files.map(({ file, text }) => documentsOf(file, text));
  const lints: Lint[] = [];

  // Ours first: which root is meant where none is named decides how the others are read.
  const ours: ImagesDocument[] = [];
  for (const { file, documents } of read)
    withProblems(file, (problems) => {
      for (const document of documents.filter(({ kind }) => kind === 'images')) {
        const images = readImagesDocument(document, problems);
        if (images !== undefined) ours.push(images);
      }
      for (const said of ['noMatch', 'defaultTrustRoot'] as const) {
        const all = ours.filter((images) => images[said] !== undefined);
        const [first, ...others] = all;
        for (const other of others)
          if (other.place.file === file)
            problems.push({ ...other.place, message: `${said} is said in ${first!.place.file} as well: say it once` });
      }
    });
  const defaultRoot = ours.find(({ defaultTrustRoot }) => defaultTrustRoot !== undefined)?.defaultTrustRoot;

  const policies: ClusterImagePolicy[] = [];
  const trustRoots: TrustRoot[] = [];
  const absentRoots = new Map<TrustRootName, Unsupported>();
  for (const { file, documents } of read)
    withProblems(file, (problems) => {
      for (const document of documents) {
        if (document.kind === 'policy') {
          const policy = readClusterImagePolicy(document, { problems, lints, defaultRoot: defaultRoot ?? PUBLIC_GOOD });
          const other = policies.find(({ name }) => name === policy?.name);
          if (policy !== undefined && other !== undefined)
            problems.push({
              ...policy.place,
              message: `the policy ${policy.name} stands in ${other.place.file}:${other.place.line} as well`,
            });
          else if (policy !== undefined) policies.push(policy);
        }
        if (document.kind === 'root') {
          const root = readTrustRootDocument(document, problems);
          const name = root?.name;
          if (name !== undefined && (absentRoots.has(name) || trustRoots.some((known) => known.name === name)))
            problems.push({
              ...document.yaml.placeOf(document.at),
              message: `the trust root ${name} stands here twice`,
            });
          else if (root?.kind === 'root') trustRoots.push(root.root);
          else if (root?.kind === 'absent') absentRoots.set(root.name, root.unsupported);
        }
      }
      if (policies.length > IMAGE_POLICIES_MAX)
        problems.push({ line: 1, column: 1, message: `more than ${IMAGE_POLICIES_MAX} policies` });
    });

  // What a condition stands for is evaluated after all.
  const answered = new Set<string>();
  const deny = ours.flatMap((images) => images.deny);
  const demanding = policies.map((policy) => ({ ...policy, authorities: [...policy.authorities] }));
  for (const { file } of read)
    withProblems(file, (problems) => {
      for (const { place, conditions } of ours)
        if (place.file === file) for (const condition of conditions) demand(condition, demanding, problems, answered);
      if (deny.length > DENY_ENTRIES_MAX)
        problems.push({ line: 1, column: 1, message: `more than ${DENY_ENTRIES_MAX} entries to deny` });
    });

  const noMatch =
    ours.find((images) => images.noMatch !== undefined)?.noMatch ??
    (policies.length === 0 ? 'not-assessed' : 'unsigned');
  const said = { policies: demanding, noMatch, deny };
  const roots = trustRoots.map(({ name, sha256 }) => ({ name, sha256 }));
  return {
    ...said,
    trustRoots,
    absentRoots,
    digest: digestOf(canonicalText({ ...said, roots, absentRoots: [...absentRoots.keys()] })),
    lints: lints
      .filter(({ code, policy, field }) => code !== 'UNSUPPORTED' || !answered.has(`${policy} ${field}`))
      .toSorted((a, b) => (a.file === b.file ? a.line - b.line : a.file < b.file ? -1 : 1)),
  };
}

/** A policy of one authority over every image, as command lines spell it: all of `attestations` (short names as cosign has them), or the signature where there are none. */
export function policyOfAuthority(authority: Authority, attestations: readonly string[] = []): ImagePolicy {
  return {
    policies: [
      {
        name: 'command line',
        place: { file: '', line: 1, column: 1 },
        mode: 'enforce',
        globs: [{ source: '**', tokens: [{ is: '**' }] }],
        authorities: [
          {
            name: authority.kind,
            field: '',
            signer: { kind: 'signer', authority },
            attestations: attestations.map((predicateType) => ({
              name: predicateType,
              predicateType: PREDICATE_TYPES.get(predicateType) ?? predicateType,
              field: '',
              unsupported: undefined,
              condition: undefined,
              reason: undefined,
            })),
            also: [],
            format: undefined,
            source: undefined,
          },
        ],
        unsupported: undefined,
      },
    ],
    noMatch: 'unsigned',
    deny: [],
    trustRoots: [],
    absentRoots: new Map(),
    digest: digestOf(JSON.stringify({ authority, attestations })),
    lints: [],
  };
}

type Kind = 'policy' | 'root' | 'images';
type Found = DocumentAt & { readonly kind: Kind };

const GROUP = 'policy.sigstore.dev';

/** The documents of a file, lists taken apart. */
function documentsOf(file: string, text: string): { readonly file: string; readonly documents: readonly Found[] } {
  const documents: Found[] = [];
  withProblems(file, (problems) => {
    for (const yaml of readYamlDocuments(text, file))
      collect({ yaml, at: [], value: yaml.value, file }, documents, problems);
  });
  return { file, documents };
}

function collect(document: DocumentAt, found: Found[], problems: Problem[]): void {
  const { yaml, at, value } = document;
  const { format, apiVersion, kind, items } = (typeof value === 'object' && value !== null ? value : {}) as Record<
    string,
    unknown
  >;
  const refuse = (message: string) => problems.push({ ...yaml.placeOf(at), message });
  if (format !== undefined) {
    if (format === IMAGES_FORMAT) found.push({ ...document, kind: 'images' });
    else if (typeof format === 'string' && format.startsWith('bootproof.policy/'))
      refuse(
        `this is a host policy, by which drift is judged; who must have signed images stands in files of their own: ClusterImagePolicy documents, and format: ${IMAGES_FORMAT} (docs/image-policy.md)`,
      );
    else refuse(`expected format: ${IMAGES_FORMAT}`);
    return;
  }
  if ((kind === 'List' || kind === 'ClusterImagePolicyList' || kind === 'TrustRootList') && Array.isArray(items)) {
    for (const [index, item] of items.entries())
      collect({ ...document, at: [...at, 'items', index], value: item }, found, problems);
    return;
  }
  const versions = kind === 'TrustRoot' ? ['v1alpha1'] : ['v1alpha1', 'v1beta1'];
  if (kind !== 'ClusterImagePolicy' && kind !== 'TrustRoot')
    return void refuse(
      `${typeof kind === 'string' ? `a ${kind.slice(0, 60)} is` : 'this is'} no image policy: here may stand documents of kind ClusterImagePolicy and TrustRoot (${GROUP}), and of format ${IMAGES_FORMAT}`,
    );
  if (!versions.some((version) => apiVersion === `${GROUP}/${version}`))
    return void refuse(`apiVersion: a ${kind} is of ${versions.map((version) => `${GROUP}/${version}`).join(' or ')}`);
  found.push({ ...document, kind: kind === 'TrustRoot' ? 'root' : 'policy' });
}

/** Puts a condition of ours to the authorities that it is for. */
function demand(
  condition: PolicyCondition,
  policies: readonly (ClusterImagePolicy & { authorities: PolicyAuthority[] })[],
  problems: Problem[],
  answered: Set<string>,
): void {
  const refuse = (message: string) => problems.push({ ...condition.place, message });
  const policy = policies.find(({ name }) => name === condition.policy);
  if (policy === undefined)
    return void refuse(
      `no policy is called ${condition.policy}${hint(
        condition.policy,
        policies.map(({ name }) => name),
      )}`,
    );
  const named = policy.authorities.filter(
    ({ name }) => condition.authority === undefined || name === condition.authority,
  );
  if (named.length === 0)
    return void refuse(
      `${policy.name} has no authority ${condition.authority}${hint(
        condition.authority!,
        policy.authorities.map(({ name }) => name),
      )}`,
    );
  for (const authority of named) {
    if (authority.signer.kind === 'static')
      return void refuse(`the authority ${authority.name} of ${policy.name} is static: nobody signs for it`);
    const { id, predicateType, insteadOf, check, reason, field } = condition;
    const demanded = { name: id, field, unsupported: undefined, condition: check, reason };
    const at = policy.authorities.indexOf(authority);
    if (insteadOf === undefined) {
      policy.authorities[at] = {
        ...authority,
        also: [...authority.also, { ...demanded, predicateType: predicateType! }],
      };
      continue;
    }
    const meant = authority.attestations.find(({ name }) => name === insteadOf);
    if (meant === undefined)
      return void refuse(
        `the authority ${authority.name} of ${policy.name} has no attestation ${insteadOf}${hint(
          insteadOf,
          authority.attestations.map(({ name }) => name),
        )}`,
      );
    if (meant.condition !== undefined) return void refuse(`another condition stands for ${insteadOf} already`);
    if (predicateType !== undefined && predicateType !== meant.predicateType)
      return void refuse(`${insteadOf} is of the type ${meant.predicateType}`);
    const replaced: DemandedAttestation = {
      ...meant,
      ...demanded,
      name: meant.name,
      predicateType: meant.predicateType,
    };
    answered.add(`${policy.name} ${meant.field}.policy`);
    policy.authorities[at] = {
      ...authority,
      attestations: authority.attestations.map((each) => (each === meant ? replaced : each)),
    };
  }
}

function hint(name: string, names: readonly string[]): string {
  const meant = nearest(name, names);
  return meant === undefined ? '' : `, did you mean ${meant}?`;
}

function withProblems(file: string, act: (problems: Problem[]) => void): void {
  const problems: Problem[] = [];
  act(problems);
  if (problems.length === 0) return;
  problems.sort((a, b) => a.line - b.line || a.column - b.column);
  throw new DocumentError('DOCUMENT_INVALID', file, problems);
}

/** JSON with sorted keys, without places; policies by name, conditions as they were written. */
function canonicalText({
  policies,
  ...rest
}: Pick<ImagePolicy, 'policies' | 'noMatch' | 'deny'> & {
  readonly roots: readonly Pick<TrustRoot, 'name' | 'sha256'>[];
  readonly absentRoots: readonly TrustRootName[];
}): string {
  const sorted = policies.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  return JSON.stringify({ format: IMAGES_FORMAT, policies: sorted, ...rest }, (key, value: unknown) => {
    if (key === 'place') return undefined;
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
    // Globs and conditions are their source.
    if ('source' in value && typeof value.source === 'string') return value.source;
    return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}

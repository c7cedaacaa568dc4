/**
 * One ClusterImagePolicy: document → what it demands (docs/image-policy.md 2, 4). What policy-controller's webhook refuses is refused
 * here, in its words where it has some (pkg/apis/policy/v1beta1). What it evaluates and we cannot becomes `Unsupported` with the
 * field's path: accepted as a document, and never passed.
 */
import type { Place, Problem, YamlDocument } from '#src/document/yaml.ts';
import { problemOf } from '#src/document/shape.ts';
import { authorityAt, given, policyAt, type PolicyAuthority, type Unsupported } from './cipauthority.ts';
import { ClusterImagePolicyDocument, withoutNulls } from './cipschema.ts';
import { fieldOf, sentence, type Checked, type Lint } from './cipvalidate.ts';
import { ImageGlobError, lintImageGlob, parseImageGlob, type ImageGlob } from './imageglob.ts';
import type { TrustRootName } from './requirement.ts';

/** The root that counts where a document names none: sigstore's public instance, as policy-controller has it built in. */
export const PUBLIC_GOOD: TrustRootName = 'public-good';

export type ClusterImagePolicy = {
  readonly name: string;
  readonly place: Place & { readonly file: string };
  readonly mode: 'enforce' | 'warn';
  readonly globs: readonly ImageGlob[];
  /** Any one suffices. */
  readonly authorities: readonly PolicyAuthority[];
  /** `spec.policy`, which is looked at once an authority is satisfied. */
  readonly unsupported: Unsupported | undefined;
};

const RESOURCES = ['replicasets', 'deployments', 'pods', 'cronjobs', 'jobs', 'statefulsets', 'daemonsets'];

/** A document, or an item of a list in one. */
export type DocumentAt = {
  readonly yaml: YamlDocument;
  readonly at: readonly PropertyKey[];
  readonly value: unknown;
  readonly file: string;
};

/** Where refusals and notes of a file go, and which root counts where none is named. */
export type Reading = { readonly problems: Problem[]; readonly lints: Lint[]; readonly defaultRoot: TrustRootName };

/** Reads one policy. Refusals are added to `problems`, in which case nothing is returned. */
export function readClusterImagePolicy(
  { yaml, at, value, file }: DocumentAt,
  { problems, lints, defaultRoot }: Reading,
): ClusterImagePolicy | undefined {
  const before = problems.length;
  const parsed = ClusterImagePolicyDocument.safeParse(withoutNulls(value), { reportInput: true });
  if (!parsed.success) {
    problems.push(...parsed.error.issues.map((issue) => problemOf({ ...issue, path: [...at, ...issue.path] }, yaml)));
    return undefined;
  }
  const { metadata, spec } = parsed.data;
  const checked: Checked & { readonly defaultRoot: TrustRootName } = {
    defaultRoot,
    refuse: (path, message) => problems.push({ ...yaml.placeOf([...at, ...path]), message }),
    note: (path, code, message) =>
      lints.push({
        ...yaml.placeOf([...at, ...path]),
        file,
        policy: metadata.name,
        field: fieldOf(path),
        code,
        message,
      }),
  };
  const { refuse, note } = checked;

  const globs = (spec.images ?? []).flatMap(({ glob }, index) => {
    const path = ['spec', 'images', index, 'glob'];
    if (given(glob) === undefined) refuse(path, sentence.missing([path]));
    else return globAt(glob!, path, checked);
    return [];
  });
  if ((spec.images ?? []).length === 0) refuse(['spec'], sentence.missing([['spec', 'images']]));
  if ((spec.authorities ?? []).length === 0) refuse(['spec'], sentence.missing([['spec', 'authorities']]));
  const authorities = (spec.authorities ?? []).flatMap(
    (authority, index) => authorityAt(authority, index, checked) ?? [],
  );
  const mode = given(spec.mode) ?? 'enforce';
  if (mode !== 'enforce' && mode !== 'warn')
    refuse(['spec', 'mode'], sentence.invalid(mode, ['spec', 'mode'], 'enforce or warn'));
  for (const [index, { resource, version, group, selector }] of (spec.match ?? []).entries()) {
    const path = ['spec', 'match', index];
    if (given(resource) !== undefined && !RESOURCES.includes(resource!))
      refuse([...path, 'resource'], sentence.invalid(resource!, [...path, 'resource'], RESOURCES.join(', ')));
    if (selector !== undefined && [resource, version, group].every((text) => given(text) === undefined))
      refuse([...path, 'selector'], sentence.invalid('', [...path, 'selector'], 'it needs a resource type'));
  }
  if ((spec.match ?? []).length > 0)
    note(
      ['spec', 'match'],
      'STRICTER_HERE',
      'spec.match chooses among resources of a cluster, and a host is none: here the policy applies to every image that its globs match',
    );
  const unsupported = policyAt(spec.policy, ['spec', 'policy'], true, checked);
  if (problems.length > before) return undefined;
  return {
    name: metadata.name,
    place: { ...yaml.placeOf(at), file },
    mode: mode as 'enforce' | 'warn',
    globs,
    authorities,
    unsupported,
  };
}

function globAt(text: string, path: readonly PropertyKey[], { refuse, note }: Checked): ImageGlob[] {
  try {
    const glob = parseImageGlob(text);
    const lint = lintImageGlob(glob);
    if (lint !== undefined) note(path, lint.code, lint.message);
    return [glob];
  } catch (error) {
    if (!(error instanceof ImageGlobError)) throw error;
    refuse(path, sentence.invalid(text, path, error.message));
    return [];
  }
}

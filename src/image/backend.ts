/**
 * Layers → what a host that booted the image must show of it, under one named rule (PROTOCOL 2.1). The rules restate what the
 * real importers do; test/vectors/merge holds them to the trees that those programs made.
 */
import { BootproofError } from '#src/error.ts';
import type { Digest } from '#src/digest.ts';
import type { Entry } from '#src/manifest/entry.ts';
import type { ManifestWarning } from '#src/manifest/header.ts';
import { IMAGE_LIMITS, type ImageLimits } from '#src/limits.ts';
import type { Layer } from './layer.ts';

/**
 * What the importing program makes of an image, newest first within a backend. `-debris`: bootc 1.1.3 and 1.1.4, where zero-size
 * hostname and resolv.conf stay. `-debris-noxattr`: before, when derived layers lost their xattrs as well and images without
 * the label `ostree.final-diffid` were refused. (Nothing ever lost xattrs but removed the debris.)
 */
export const RULES = ['ostree/1', 'ostree/1-debris', 'ostree/1-debris-noxattr', 'composefs/1', 'oci'] as const;
export type Rule = (typeof RULES)[number];
export const BACKENDS = ['ostree', 'composefs', 'oci'] as const;
/** `oci` is what a plain unpacker makes (image-spec, layer.md): a format for tools, no host runs it. */
export type Backend = (typeof BACKENDS)[number];

/** The rules of a backend, newest first: the first is the one to compare with where nothing is known. */
export function rulesOf(backend: Backend): readonly Rule[] {
  return RULES.filter((rule) => backendOf(rule) === backend);
}

export function backendOf(rule: Rule): Backend {
  return rule === 'oci' ? 'oci' : rule === 'composefs/1' ? 'composefs' : 'ostree';
}

/** What `deploy` needs of the image besides its layers. */
export type ImageFacts = {
  /** The configuration's `config.Labels`. */
  readonly labels: ReadonlyMap<string, string>;
  /** The configuration's `rootfs.diff_ids`. */
  readonly diffIds: readonly Digest[];
  /** Docker schema 2 media types inside an OCI layout or archive: composefs-rs and umoci refuse these (merge errata 20). */
  readonly dockerInLayout: boolean;
};

/** Why a backend cannot deploy an image that is readable as such. */
export type RefusalCode = 'NOT_UTF8';
export class BackendError extends BootproofError<RefusalCode> {}

/** The host's `/usr` and `/etc` in `comparePaths` order, and what the host loses or changes without saying so. */
export type Deployed = { readonly entries: Entry[]; readonly warnings: ManifestWarning[] };

/**
 * The tree that a host shows of an image.
 * @throws {BackendError} where the backend's importer would refuse the image.
 */
export function deploy(
  layers: readonly Layer[],
  image: ImageFacts,
  rule: Rule,
  limits: ImageLimits = IMAGE_LIMITS,
): Deployed {
  throw new Error(`${rule}: ${layers.length} ${image.diffIds.length} ${limits.treeNodes}`);
}

/** What `manifest lint` prints of one backend. */
export type Verdict =
  | { readonly backend: Backend; readonly deployable: true; readonly warnings: readonly ManifestWarning[] }
  | { readonly backend: Backend; readonly deployable: false; readonly code: RefusalCode; readonly message: string };

/** Whether each backend (its newest rule) deploys the image, and what would be lost on the way. */
export function lint(layers: readonly Layer[], image: ImageFacts, limits: ImageLimits = IMAGE_LIMITS): Verdict[] {
  return BACKENDS.map((backend) => {
    const { warnings } = deploy(layers, image, rulesOf(backend)[0]!, limits);
    return { backend, deployable: true, warnings };
  });
}

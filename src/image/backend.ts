/**
 * Layers → what a host that booted the image must show of it, under one named rule (PROTOCOL 2.1). The rules restate what the
 * real importers do; test/vectors/merge holds them to the trees that those programs made.
 */
import { IMAGE_LIMITS, type ImageLimits } from '#src/limits.ts';
import type { Entry } from '#src/manifest/entry.ts';
import type { ManifestWarning } from '#src/manifest/header.ts';
import { deployComposefs } from './composefs.ts';
import type { ImageFacts, Layer } from './layer.ts';
import { deployOci } from './oci.ts';
import { deployOstree, type OstreeVariant } from './ostree.ts';
import type { Owners } from './owners.ts';
import { BackendError, Warnings, type RefusalCode } from './refusal.ts';
import { list, type Dir } from './tree.ts';

export { BackendError, type RefusalCode, type WarningCode } from './refusal.ts';
export type { ImageFacts } from './layer.ts';

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

/** The host's `/usr` and `/etc` in `comparePaths` order, and what the host loses or changes without saying so. */
export type Deployed = {
  readonly entries: Entry[];
  readonly warnings: ManifestWarning[];
  /** By entry: the layer that wrote it last, from 0. Of a hard link: the layer that has its content. */
  readonly layers: readonly number[];
  /** By entry: who owns the path (owners.ts), where that was asked for. */
  readonly owners: readonly number[] | undefined;
};

/** Reads the package database that a tree holds; undefined where it has none. */
export type ReadOwners = (root: Dir) => Owners | undefined;

const VARIANTS: Record<Exclude<Rule, 'composefs/1' | 'oci'>, OstreeVariant> = {
  'ostree/1': { debris: false, noXattrs: false },
  'ostree/1-debris': { debris: true, noXattrs: false },
  'ostree/1-debris-noxattr': { debris: true, noXattrs: true },
};

/**
 * The tree that a host shows of an image.
 * @throws {BackendError} where the backend's importer would refuse the image.
 */
export function deploy(
  layers: readonly Layer[],
  image: ImageFacts,
  rule: Rule,
  limits: ImageLimits = IMAGE_LIMITS,
  readOwners: ReadOwners = () => undefined,
): Deployed {
  const warnings = new Warnings();
  const backend = backendOf(rule);
  checkTypes(layers, image, backend);
  if (backend !== 'oci')
    for (const layer of layers)
      if (layer.diffId !== layer.declaredDiffId)
        warnings.add(
          'DIFFID_MISMATCH',
          layer.index,
          `decompressed the layer is ${layer.diffId}, the configuration says ${layer.declaredDiffId ?? 'nothing'}; hosts do not check this`,
        );
  const root = build(layers, image, rule, warnings, limits);
  const owning = readOwners(root)?.over(root);
  const from: number[] = [];
  const owners: number[] | undefined = owning && [];
  const entries = list(root, limits, (node, parent, name) => {
    from.push(node.layer);
    owners?.push(owning!(node, parent, name));
  });
  return { entries, warnings: warnings.list(), layers: from, owners };
}

function build(layers: readonly Layer[], image: ImageFacts, rule: Rule, warnings: Warnings, limits: ImageLimits): Dir {
  if (rule === 'oci') return deployOci(layers, warnings, limits);
  if (rule === 'composefs/1') return deployComposefs(layers, warnings);
  return deployOstree(layers, image, VARIANTS[rule], warnings, limits);
}

function checkTypes(layers: readonly Layer[], image: ImageFacts, backend: Backend): void {
  if (image.dockerInLayout && backend !== 'ostree')
    throw new BackendError(
      'DOCKER_MEDIA_TYPES',
      'Docker media types inside an OCI layout, which composefs-rs and umoci do not read; push the image to a registry, or convert it',
    );
  if (backend !== 'ostree') return;
  for (const { index, mediaType } of layers)
    if (/\.nondistributable\.|\.foreign\./.test(mediaType))
      throw new BackendError('MEDIA_TYPE_UNSUPPORTED', `layer ${index}: ostree-ext does not read ${mediaType}`);
}

/** What `manifest lint` prints of one backend. */
export type Verdict =
  | { readonly backend: Backend; readonly deployable: true; readonly warnings: readonly ManifestWarning[] }
  | { readonly backend: Backend; readonly deployable: false; readonly code: RefusalCode; readonly message: string };

/** Whether each backend (its newest rule) deploys the image, and what would be lost on the way. */
export function lint(layers: readonly Layer[], image: ImageFacts, limits: ImageLimits = IMAGE_LIMITS): Verdict[] {
  return BACKENDS.map((backend) => {
    try {
      const { warnings } = deploy(layers, image, rulesOf(backend)[0]!, limits);
      return { backend, deployable: true, warnings };
    } catch (error) {
      if (!(error instanceof BackendError)) throw error;
      return { backend, deployable: false, code: error.code, message: error.message };
    }
  });
}

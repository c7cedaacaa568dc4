/**
 * `rpm-ostree status --json` (rpm-ostree, rpmostreed-deployment-utils.cxx): what bootc does not tell of hosts with layered
 * packages. A status of the daemon, so it needs no privilege.
 */
import { z } from 'zod';
import { toUtf8, type ByteString } from '#src/bytes.ts';
import { HOST_STATUS_BYTES_MAX } from '#src/limits.ts';
import { checkLength, DeploymentError } from './error.ts';

const Text = z.string().max(4096).nullish();
const Flag = z.boolean().nullish();
const Names = z.array(z.string().max(4096)).max(100_000).nullish();
/** A package as rpm-ostree lists it: name-epoch:version-release.arch, then its parts. */
const Nevra = z.union([z.string().max(4096), z.tuple([z.string().max(4096)], z.unknown())]);

const Deployment = z.looseObject({
  checksum: Text,
  'base-checksum': Text,
  osname: Text,
  serial: z.number().nullish(),
  booted: Flag,
  staged: Flag,
  pinned: Flag,
  version: Text,
  'base-version': Text,
  /** `none`, `development`, `hotfix`, `transient`. */
  unlocked: Text,
  'container-image-reference': Text,
  'container-image-reference-digest': Text,
  'base-commit-meta': z.looseObject({ 'ostree.manifest-digest': Text }).nullish(),
  packages: Names,
  'requested-packages': Names,
  'requested-local-packages': Names,
  'requested-local-fileoverride-packages': Names,
  'requested-base-removals': Names,
  'base-removals': z.array(Nevra).max(100_000).nullish(),
  'base-local-replacements': z.array(z.array(Nevra).min(1)).max(100_000).nullish(),
  'requested-modules': Names,
  'regenerate-initramfs': Flag,
  'initramfs-etc': Names,
  /** A commit that `apply-live` writes or has written over /usr and /etc of the running system. */
  'live-inprogress': Text,
  'live-replaced': Text,
});
export type RpmOstreeDeployment = z.infer<typeof Deployment>;

const Status = z.looseObject({ deployments: z.array(Deployment).max(1000) });
export type RpmOstreeStatus = z.infer<typeof Status>;

/**
 * The deployments in boot order: what stands before the booted one is pending, what follows it is for rollback.
 * @throws {DeploymentError} RPMOSTREE_STATUS_SYNTAX, HOST_TEXT_TOO_LARGE
 */
export function parseRpmOstreeStatus(bytes: ByteString): RpmOstreeStatus {
  checkLength("rpm-ostree's status", bytes.length, HOST_STATUS_BYTES_MAX);
  let json: unknown;
  try {
    json = JSON.parse(toUtf8(bytes) ?? '');
  } catch (cause) {
    throw new DeploymentError('RPMOSTREE_STATUS_SYNTAX', "rpm-ostree's status is not JSON: use --json", { cause });
  }
  const status = Status.safeParse(json);
  if (status.success) return status.data;
  const [issue] = status.error.issues;
  throw new DeploymentError(
    'RPMOSTREE_STATUS_SYNTAX',
    `rpm-ostree's status is not as expected: ${issue?.path.join('.')}: ${issue?.message}`,
    { cause: status.error },
  );
}

/** Digest of the image manifest that the base commit was imported from; null for plain ostree refs. */
export function baseDigestOf(deployment: RpmOstreeDeployment): string | null {
  return (
    deployment['container-image-reference-digest'] ?? deployment['base-commit-meta']?.['ostree.manifest-digest'] ?? null
  );
}

/** What the deployment has on top of its image, one phrase each, in the words of `src/deployment/origin.ts`. */
export function layeredOf(deployment: RpmOstreeDeployment): string[] {
  const local = [
    ...(deployment['requested-local-packages'] ?? []),
    ...(deployment['requested-local-fileoverride-packages'] ?? []),
  ];
  const packages = new Set([...(deployment['requested-packages'] ?? []), ...(deployment.packages ?? [])]);
  const removed = new Set([
    ...(deployment['requested-base-removals'] ?? []),
    ...(deployment['base-removals'] ?? []).map(nameOf),
  ]);
  const phrases = [
    ...[...packages].map((name) => `package ${name}`),
    ...local.map((name) => `local package ${name}`),
    ...[...removed].map((name) => `removed ${name}`),
    ...(deployment['base-local-replacements'] ?? []).map(([to]) => `replaced ${nameOf(to!)}`),
    ...remoteReplacements(deployment['base-remote-replacements']).map((name) => `replaced ${name}`),
    ...(deployment['requested-modules'] ?? []).map((name) => `module ${name}`),
    ...(deployment['initramfs-etc'] ?? []).map((path) => `initramfs with ${path}`),
  ];
  if (deployment['regenerate-initramfs'] === true) phrases.push('initramfs made on the host');
  // rpm-ostree writes empty strings where nothing was applied.
  if (deployment['live-replaced']) phrases.push('packages applied to the running system');
  if (deployment['live-inprogress']) phrases.push('packages being applied to the running system');
  return phrases;
}

/** The short name where rpm-ostree gives the parts, as an override's name is told too. */
function nameOf(nevra: z.infer<typeof Nevra>): string {
  if (typeof nevra === 'string') return nevra;
  const [whole, name] = nevra;
  return typeof name === 'string' ? name : whole;
}

/** Repository → replaced packages: the repository's name is the site's, so only the values are read. */
function remoteReplacements(value: unknown): string[] {
  const sources = z.record(z.string(), z.array(z.array(Nevra).min(1))).safeParse(value ?? {});
  return sources.success
    ? Object.values(sources.data)
        .flat()
        .map(([to]) => nameOf(to!))
    : ['packages from a repository'];
}

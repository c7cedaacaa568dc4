/** What a site demands of its images, from its files: policies, trust roots, and what each is called by (docs/image-policy.md). */
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { digestOf, type Digest } from '#src/digest.ts';
import { BootproofError } from '#src/error.ts';
import { IMAGE_POLICIES_MAX, RECORDED_CASE_BYTES_MAX, TRUST_ROOT_BYTES_MAX, YAML_BYTES_MAX } from '#src/limits.ts';
import { nodeSha256 } from '#src/source/verified.ts';
import { parseImagePolicy, type ImagePolicy, type PolicyFile } from '#src/trust/imagepolicy.ts';
import { readTrustRoot, type TrustRoot, type TrustRoots } from '#src/trust/trustroot.ts';
import { CASE_FORMAT } from './recorded.ts';
import { isTufRoot, PUBLIC_MIRROR, type RootRefresh } from './roots.ts';

/** A trusted_root.json as it was read. */
export type RootFile = { readonly name: string; readonly bytes: Uint8Array };

/** As plain data, so that a thread can be given it. */
export type TrustFiles = { readonly policies: readonly PolicyFile[]; readonly roots: readonly RootFile[] };

export type TrustSetup = {
  readonly files: TrustFiles;
  readonly policy: ImagePolicy;
  readonly roots: TrustRoots;
  /** Of the policies, and of the roots by their names: what a result was reached under. */
  readonly digests: { readonly policy: Digest; readonly roots: Digest };
};

export class TrustSetupError extends BootproofError<
  'IMAGE_POLICY_FILE' | 'TRUST_ROOT_FILE' | 'TRUST_ROOT_NAME' | 'KEY_FILE' | 'TUF_REPOSITORY'
> {}

/** @throws {DocumentError | TrustRootError} with file and place */
export function trustSetup(files: TrustFiles): TrustSetup {
  const policy = parseImagePolicy(files.policies);
  const roots = new Map<string, TrustRoot>(policy.trustRoots.map((root) => [root.name, root]));
  // What was imported by hand comes before what a document brings.
  for (const { name, bytes } of files.roots) roots.set(name, readTrustRoot(name, bytes, nodeSha256));
  const named = [...roots.values()].map(({ name, sha256 }) => `${name}=${sha256}\n`).sort();
  return {
    files,
    policy,
    roots,
    digests: { policy: policy.digest, roots: digestOf(named.join(''), nodeSha256) },
  };
}

/**
 * Reads the files that a command line names: policies as files or folders, roots as NAME=FILE.
 * @throws {TrustSetupError}
 */
export async function readTrustFiles(named: {
  readonly policies: readonly string[];
  readonly roots: readonly string[];
}): Promise<TrustFiles> {
  const policies: PolicyFile[] = [];
  for (const path of named.policies) {
    const found = await filesOf(path);
    const before = policies.length;
    for (const file of found) {
      const mayBeOther = file !== path && file.endsWith('.json');
      const max = mayBeOther ? RECORDED_CASE_BYTES_MAX : YAML_BYTES_MAX;
      const text = (await readNamed(file, max, 'IMAGE_POLICY_FILE', 'image policy')).toString('utf8');
      if (!mayBeOther || !isOtherJson(text)) policies.push({ file, text });
    }
    if (policies.length === before)
      throw new TrustSetupError(
        'IMAGE_POLICY_FILE',
        `${path} holds no image policy: what lies in it are trust roots and recorded cases`,
      );
  }
  const roots: RootFile[] = [];
  for (const text of named.roots) {
    const [, name, file] = /^([a-z0-9][a-z0-9.-]{0,252})=(.+)$/.exec(text) ?? [];
    if (name === undefined || file === undefined)
      throw new TrustSetupError(
        'TRUST_ROOT_NAME',
        `trust root ${JSON.stringify(text.slice(0, 200))}: expected NAME=FILE, the name as policies call it`,
      );
    if (roots.some((root) => root.name === name))
      throw new TrustSetupError('TRUST_ROOT_NAME', `the trust root ${name} is given twice`);
    roots.push({ name, bytes: await readNamed(file, TRUST_ROOT_BYTES_MAX, 'TRUST_ROOT_FILE', 'trust root') });
  }
  return { policies, roots };
}

/**
 * Trust roots that a TUF repository keeps up: NAME=URL, and the first root.json of each as NAME=FILE.
 * @throws {TrustSetupError}
 */
export async function readRootRefreshes(named: {
  readonly repositories: readonly string[];
  readonly initial: readonly string[];
}): Promise<RootRefresh[]> {
  const refuse = (message: string) => new TrustSetupError('TUF_REPOSITORY', message);
  const initial = new Map<string, Uint8Array>();
  for (const text of named.initial) {
    const [, name, file] = /^([a-z0-9][a-z0-9.-]{0,252})=(.+)$/.exec(text) ?? [];
    if (name === undefined || file === undefined)
      throw refuse(`--tuf-root ${JSON.stringify(text.slice(0, 200))}: expected NAME=FILE, the name as in --tuf`);
    const bytes = await readNamed(file, TRUST_ROOT_BYTES_MAX, 'TRUST_ROOT_FILE', 'TUF root');
    if (!isTufRoot(bytes))
      throw refuse(`--tuf-root ${name}: ${file} is no root.json of a TUF repository ("signed": {"_type": "root", …})`);
    if (initial.has(name)) throw refuse(`--tuf-root: ${name} is given twice`);
    initial.set(name, bytes);
  }
  const refreshes: RootRefresh[] = [];
  for (const text of named.repositories) {
    const [, name, mirror = ''] = /^([a-z0-9][a-z0-9.-]{0,252})=(.+)$/.exec(text) ?? [];
    const url = URL.canParse(mirror) ? new URL(mirror) : undefined;
    if (name === undefined || url === undefined || !/^https?:$/.test(url.protocol) || url.search + url.hash !== '')
      throw refuse(
        `--tuf ${JSON.stringify(text.slice(0, 200))}: expected NAME=URL, the name as policies call it, such as public-good=${PUBLIC_MIRROR}`,
      );
    // The URL is shown wherever the root is.
    if (url.username + url.password !== '') throw refuse(`--tuf ${name}: the URL must hold no credentials`);
    if (refreshes.some((other) => other.name === name)) throw refuse(`--tuf: ${name} is given twice`);
    const at = url.href.replace(/\/$/, '');
    const first = initial.get(name) ?? null;
    if (first === null && at !== PUBLIC_MIRROR)
      throw refuse(
        `--tuf ${name}: with it goes --tuf-root ${name}=FILE, the repository's first root.json from a hand that you trust`,
      );
    refreshes.push({ name, mirror: at, initial: first });
    initial.delete(name);
  }
  const [left] = initial.keys();
  if (left !== undefined) throw refuse(`--tuf-root ${left}: no --tuf is called so`);
  return refreshes;
}

/** Tests of image policies lie beside them, and are none. */
export const TESTS_FILE = /\.test\.ya?ml$/;

/** A file, or the YAML and JSON files of a folder in the order of their names; what lies in folders below is left alone. */
async function filesOf(path: string): Promise<string[]> {
  try {
    if (!(await stat(path)).isDirectory()) return [path];
    const names = (await readdir(path)).filter(
      (name) => /\.(?:ya?ml|json)$/.test(name) && !name.startsWith('.') && !TESTS_FILE.test(name),
    );
    if (names.length === 0)
      throw new TrustSetupError(
        'IMAGE_POLICY_FILE',
        `${path} holds no image policy: no .yaml, .yml or .json lies in it`,
      );
    if (names.length > IMAGE_POLICIES_MAX)
      throw new TrustSetupError(
        'IMAGE_POLICY_FILE',
        `${path} holds ${names.length} files; at most ${IMAGE_POLICIES_MAX}`,
      );
    return names.sort().map((name) => join(path, name));
  } catch (error) {
    if (error instanceof TrustSetupError) throw error;
    throw new TrustSetupError('IMAGE_POLICY_FILE', `image policy ${path} cannot be read: ${codeOf(error)}`);
  }
}

/** JSON that says of itself that it is no policy: a trust root or a recorded case, which people keep beside the policies that need them. */
function isOtherJson(text: string): boolean {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return false; // whoever reads policies says what is wrong with it, and where
  }
  if (typeof json !== 'object' || json === null || 'apiVersion' in json || 'kind' in json) return false;
  if ('format' in json) return json.format === CASE_FORMAT;
  return (
    'mediaType' in json &&
    typeof json.mediaType === 'string' &&
    json.mediaType.startsWith('application/vnd.dev.sigstore.trustedroot')
  );
}

/** A file that a command line names, at most `max` bytes of it. @throws {TrustSetupError} with the code */
export async function readNamed(
  file: string,
  max: number,
  code: 'IMAGE_POLICY_FILE' | 'TRUST_ROOT_FILE' | 'KEY_FILE',
  what: string,
): Promise<Buffer> {
  try {
    const { size } = await stat(file);
    if (size > max) throw new TrustSetupError(code, `${what} ${file} has ${size} bytes; at most ${max} are read`);
    return await readFile(file);
  } catch (error) {
    if (error instanceof TrustSetupError) throw error;
    throw new TrustSetupError(code, `${what} ${file} cannot be read: ${codeOf(error)}`, { cause: error });
  }
}

const codeOf = (error: unknown): string => String((error as NodeJS.ErrnoException).code);

/** Host policies on disk: the one that ships, a file, or a folder that people keep in git. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join, resolve } from 'node:path';
import { POLICY_DOCUMENTS_MAX, YAML_BYTES_MAX } from '#src/limits.ts';
import { parsePolicy, type Policy } from '#src/policy/document.ts';
import type { PolicyDocumentText } from '#src/policy/documents.ts';
import { printableText, UsageError } from '#src/terminal.ts';

/** The policy that comes with this build. */
export type Shipped = { readonly policy: Policy; readonly document: PolicyDocumentText };

const SHIPPED_POLICY = join(import.meta.dirname, '..', 'policies', 'default.yaml');

/** Table tests lie beside the policies that they test. */
export const isTestFile = (name: string): boolean => /\.test\.ya?ml$/.test(name);
const isPolicyFile = (name: string): boolean => /\.ya?ml$/.test(name) && !name.startsWith('.') && !isTestFile(name);

let shipped: Promise<Shipped> | undefined;
/** Read once in a process: it comes with the build. */
export function shippedPolicy(): Promise<Shipped> {
  return (shipped ??= readShipped());
}

async function readShipped(): Promise<Shipped> {
  const document = { file: 'policies/default.yaml', text: await readFile(SHIPPED_POLICY, 'utf8') };
  return { policy: parsePolicy(document.text, { file: document.file }), document };
}

/**
 * The documents of a file, or of the `*.yaml` in a folder. A folder's subfolders, hidden files and `*.test.yaml` are left alone.
 * @throws {UsageError} for what cannot be read, or holds no policy.
 */
export async function readPolicyFiles(place: string): Promise<readonly PolicyDocumentText[]> {
  try {
    if (!(await stat(place)).isDirectory()) return [{ file: place, text: await textOf(place) }];
    const names = (await readdir(place)).filter(isPolicyFile).sort();
    if (names.length === 0) throw new UsageError(`${printableText(place)} holds no policy: no *.yaml lies in it`);
    // Beyond this the documents are refused with a reason; how many more there are does not matter.
    const some = names.slice(0, POLICY_DOCUMENTS_MAX + 1);
    return await Promise.all(some.map(async (name) => ({ file: name, text: await textOf(join(place, name)) })));
  } catch (cause) {
    if (cause instanceof UsageError) throw cause;
    throw new UsageError(`${printableText(place)} cannot be read: ${(cause as NodeJS.ErrnoException).code}`);
  }
}

async function textOf(file: string): Promise<string> {
  const { size } = await stat(file);
  // One more than what a document may have: it is then refused as too long, with its name.
  if (size > 4 * YAML_BYTES_MAX) throw new UsageError(`${printableText(file)} is no policy: ${size} bytes`);
  return readFile(file, 'utf8');
}

/**
 * The commit that a folder is checked out at: what HEAD of the git repository around it says; null where there is none. Whether files
 * were changed since is not looked at: the digest of the policy says what it is.
 */
export async function gitCommit(place: string): Promise<string | null> {
  const found = await gitFolder(resolve(place));
  if (found === null) return null;
  const head = await textIf(join(found, 'HEAD'));
  const ref = /^ref: (refs\/[\w./-]+)$/.exec(head?.trim() ?? '')?.[1];
  if (ref === undefined) return commitIn(head);
  if (ref.includes('..')) return null;
  // A worktree keeps HEAD to itself and branches with the repository that it belongs to.
  const common = (await textIf(join(found, 'commondir')))?.trim();
  const shared = common === undefined ? found : isAbsolute(common) ? common : join(found, common);
  const loose = commitIn(await textIf(join(shared, ref)));
  if (loose !== null) return loose;
  const packed = (await textIf(join(shared, 'packed-refs'))) ?? '';
  return commitIn(packed.split('\n').find((line) => line.endsWith(` ${ref}`)));
}

const commitIn = (text: string | undefined): string | null =>
  /^([0-9a-f]{40}|[0-9a-f]{64})(?:\s|$)/.exec(text ?? '')?.[1] ?? null;

async function gitFolder(place: string): Promise<string | null> {
  for (let folder = place; ; folder = dirname(folder)) {
    const git = join(folder, '.git');
    const told = await stat(git).catch(() => undefined);
    if (told?.isDirectory() === true) return git;
    if (told?.isFile() === true) {
      const link = /^gitdir: (.+)$/m.exec((await textIf(git)) ?? '')?.[1];
      return link === undefined ? null : isAbsolute(link) ? link : join(folder, link);
    }
    if (basename(folder) === '' || folder === dirname(folder)) return null;
  }
}

/** A small text of git's, undefined where it cannot be read: then the commit is not known, which nobody's judgement depends on. */
async function textIf(file: string): Promise<string | undefined> {
  return readFile(file, 'utf8').catch(() => undefined);
}

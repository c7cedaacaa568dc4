/** Where registries are really asked: a mirrors map, as `location` in containers-registries.conf(5), and repositories that hold signatures. */
import { formatReference, ImageReferenceError, parseReference, type RegistryReference } from '#src/image/reference.ts';
import { mirroredRepository } from '#src/source/signatures.ts';
import { UsageError } from '#src/terminal.ts';

/** What lies under `from` (`host[/path]`, whole parts) is asked for under `to` instead; what is said of it keeps its own name. */
export type Mirror = { readonly from: string; readonly to: string; readonly plainHttp: boolean };

/** Signatures of images under `of` (`host[/path]`; empty: of all) are looked for in `repository` as well (COSIGN_REPOSITORY). */
export type SignatureRepository = { readonly of: string; readonly repository: string; readonly plainHttp: boolean };

/** The reference under which a repository is really asked for; undefined where no mirror stands for it. */
export function mirrorOf(
  reference: RegistryReference,
  mirrors: readonly Mirror[],
): { readonly reference: RegistryReference; readonly plainHttp: boolean } | undefined {
  const name = `${reference.registry}/${reference.repository}`;
  const mapped = mirroredRepository(name, new Map(mirrors.map(({ from, to }) => [from, to])));
  if (mapped === name) return undefined;
  const there = parseReference(`docker://${mapped}`);
  const { plainHttp } = mirrors.find(({ to }) => mapped === to || mapped.startsWith(`${to}/`))!;
  return there.transport === 'docker' ? { reference: { ...reference, ...bare(there) }, plainHttp } : undefined;
}

const bare = ({ registry, repository }: RegistryReference) => ({ registry, repository });

/** @throws {UsageError} naming the option */
export function parseMirrors(
  texts: readonly string[],
  isPlain: (registry: string) => boolean,
  option = '--mirror',
): Mirror[] {
  const mirrors = texts.map((text): Mirror => {
    const [from = '', to = '', ...more] = text.split('=').map((side) => side.replace(/^docker:\/\//, ''));
    if (more.length > 0 || !isPlace(from) || !isPlace(to))
      throw new UsageError(
        `${option} ${text.slice(0, 200)}: expected FROM=TO, each HOST[:PORT][/PATH] without tag, such as quay.io=mirror.example:5000/quay`,
      );
    if (from.includes('/') && !to.includes('/'))
      throw new UsageError(
        `${option} ${text}: ${from} may be a repository, and ${to} is a registry alone: name the repository or path there`,
      );
    return { from, to, plainHttp: isPlain(to.split('/')[0]!) };
  });
  for (const [at, { from }] of mirrors.entries())
    if (mirrors.findIndex((other) => other.from === from) !== at)
      throw new UsageError(`${option}: ${from} is given twice`);
  return mirrors;
}

/** @throws {UsageError} naming the option */
export function parseSignatureRepositories(
  texts: readonly string[],
  isPlain: (registry: string) => boolean,
  option = '--signature-repository',
): SignatureRepository[] {
  return texts.map((text): SignatureRepository => {
    const sides = text.split('=').map((side) => side.replace(/^docker:\/\//, ''));
    const [of, repository] = sides.length === 1 ? ['', sides[0]!] : sides;
    if (sides.length > 2 || (of !== '' && !isPlace(of!)) || !isRepository(repository!))
      throw new UsageError(
        `${option} ${text.slice(0, 200)}: expected [FROM=]REPOSITORY, such as quay.io/acme=registry.example/signatures`,
      );
    return { of: of!, repository: repository!, plainHttp: isPlain(repository!.split('/')[0]!) };
  });
}

/** Whether a repository lies under a place, by whole parts of its path. */
export const liesUnder = (name: string, place: string): boolean =>
  place === '' || name === place || name.startsWith(`${place}/`);

/** `host[:port][/path]` in its one spelling. */
const isPlace = (text: string): boolean => isRepository(`${text}/x/y`);

function isRepository(text: string): boolean {
  try {
    const reference = parseReference(`docker://${text}`);
    return (
      reference.transport === 'docker' &&
      formatReference({ transport: 'docker', ...bare(reference) }) === `docker://${text}`
    );
  } catch (error) {
    if (error instanceof ImageReferenceError) return false;
    throw error;
  }
}

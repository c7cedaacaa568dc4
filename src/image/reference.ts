/**
 * Image references as containers/image spells them (containers-transports(5)): `docker://host/repository[:tag][@digest]`,
 * `oci:DIR[:tag]`, `oci-archive:FILE[:tag]`. Nothing is guessed: a name without a registry is refused, not looked up somewhere.
 */
import { isDigest, type Digest } from '#src/digest.ts';
import { BootproofError } from '#src/error.ts';
import { REFERENCE_CHARS_MAX, REPOSITORY_CHARS_MAX } from '#src/limits.ts';

export type RegistryReference = {
  readonly transport: 'docker';
  /** `host[:port]`, as written; Docker Hub is `docker.io`. */
  readonly registry: string;
  readonly repository: string;
  readonly tag?: string;
  readonly digest?: Digest;
};
export type LayoutReference = {
  readonly transport: 'oci' | 'oci-archive';
  /** A folder, or the file of an archive. */
  readonly path: string;
  readonly tag?: string;
  readonly digest?: Digest;
};
/** Where an image is said to lie. Where tag and digest are both given, the digest decides. */
export type Reference = RegistryReference | LayoutReference;

export class ImageReferenceError extends BootproofError<
  'REFERENCE_TRANSPORT' | 'REFERENCE_SYNTAX' | 'REFERENCE_SHORT_NAME' | 'REFERENCE_DIGEST'
> {}

const FORMS = 'docker://HOST/REPOSITORY[:TAG][@sha256:HEX], oci:DIR[:TAG] or oci-archive:FILE[:TAG]';

// github.com/distribution/reference, regexp.go.
const LABEL = '(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])';
const HOST = new RegExp(`^(?:${LABEL}(?:\\.${LABEL})*|\\[[a-fA-F0-9:]+\\])(?::([0-9]{1,5}))?$`);
const COMPONENT = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*';
const REPOSITORY = new RegExp(`^${COMPONENT}(?:/${COMPONENT})*$`);
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
// containers/image, oci/internal/oci_util.go: names inside a layout may hold slashes and plus signs.
const NAME_PART = '[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*';
const LAYOUT_NAME = new RegExp(`^${NAME_PART}(?:/${NAME_PART})*$`);

/** @throws {ImageReferenceError} saying what is missing or wrong, and the spelling that is expected. */
export function parseReference(text: string): Reference {
  if (text.length > REFERENCE_CHARS_MAX)
    throw new ImageReferenceError('REFERENCE_SYNTAX', `an image reference of ${text.length} characters is too long`);
  const transport = /^([a-z][a-z-]*):/.exec(text)?.[1];
  if (transport === 'docker' && text.startsWith('docker://'))
    return parseRegistry(text, text.slice('docker://'.length));
  if (transport === 'oci' || transport === 'oci-archive')
    return parseLayout(text, transport, text.slice(transport.length + 1));
  throw new ImageReferenceError('REFERENCE_TRANSPORT', `${quote(text)} is no image reference: expected ${FORMS}`);
}

/** The one spelling of a reference; `parseReference` reads it back. */
export function formatReference(reference: Reference): string {
  const tag = reference.tag === undefined ? '' : `:${reference.tag}`;
  const digest = reference.digest === undefined ? '' : `@${reference.digest}`;
  return reference.transport === 'docker'
    ? `docker://${reference.registry}/${reference.repository}${tag}${digest}`
    : `${reference.transport}:${reference.path}${tag}${digest}`;
}

function parseRegistry(text: string, rest: string): RegistryReference {
  // Not quoted: it may be a password.
  if (/^[^/]*@[^/]*\//.test(rest))
    throw new ImageReferenceError(
      'REFERENCE_SYNTAX',
      'a reference names no user; credentials belong into an auth file',
    );
  const { head, digest } = splitDigest(text, rest);
  const slash = head.indexOf('/');
  const first = slash < 0 ? '' : head.slice(0, slash);
  // The rule of distribution/reference for what is a host and not the first part of a Docker Hub name.
  if (!/[.:A-Z]/.test(first) && first !== 'localhost')
    throw new ImageReferenceError(
      'REFERENCE_SHORT_NAME',
      `${quote(text)} names no registry; short names are not looked up: write it in full, as docker://docker.io/library/${head.slice(0, 60) || 'NAME'}`,
    );
  const port = HOST.exec(first);
  if (port === null || Number(port[1] ?? 1) > 65535 || Number(port[1] ?? 1) === 0)
    throw new ImageReferenceError('REFERENCE_SYNTAX', `${quote(text)}: ${quote(first)} is no host[:port]`);
  const path = head.slice(slash + 1);
  const colon = path.lastIndexOf(':');
  const tag = colon < 0 ? undefined : path.slice(colon + 1);
  const name = colon < 0 ? path : path.slice(0, colon);
  const hub = first === 'docker.io' || first === 'index.docker.io';
  // On Docker Hub a name of one part stands for an official image, for every client alike (distribution/reference, normalize.go).
  const repository = hub && !name.includes('/') ? `library/${name}` : name;
  if (!REPOSITORY.test(repository) || first.length + 1 + repository.length > REPOSITORY_CHARS_MAX)
    throw new ImageReferenceError(
      'REFERENCE_SYNTAX',
      `${quote(text)}: ${quote(name)} is no repository name (lower-case parts of letters and digits, joined by . _ - and /, at most ${REPOSITORY_CHARS_MAX} characters)`,
    );
  if (tag !== undefined && !TAG.test(tag))
    throw new ImageReferenceError('REFERENCE_SYNTAX', `${quote(text)}: ${quote(tag)} is no tag`);
  return {
    transport: 'docker',
    registry: hub ? 'docker.io' : first,
    repository,
    ...(tag === undefined ? {} : { tag }),
    ...(digest === undefined ? {} : { digest }),
  };
}

function parseLayout(text: string, transport: 'oci' | 'oci-archive', rest: string): LayoutReference {
  const { head, digest } = splitDigest(text, rest);
  // As containers/image: the first colon ends the path, so a path that holds one cannot be spelled.
  const colon = head.indexOf(':');
  const path = colon < 0 ? head : head.slice(0, colon);
  const tag = colon < 0 ? undefined : head.slice(colon + 1);
  if (path === '' || path.includes('\0'))
    throw new ImageReferenceError(
      'REFERENCE_SYNTAX',
      `${quote(text)} names no ${transport === 'oci' ? 'folder' : 'file'}`,
    );
  if (tag !== undefined && !LAYOUT_NAME.test(tag))
    throw new ImageReferenceError(
      'REFERENCE_SYNTAX',
      `${quote(text)}: ${quote(tag)} is no tag (the first colon ends the path; a path cannot hold one)`,
    );
  return { transport, path, ...(tag === undefined ? {} : { tag }), ...(digest === undefined ? {} : { digest }) };
}

function splitDigest(text: string, rest: string): { head: string; digest: Digest | undefined } {
  const at = rest.lastIndexOf('@');
  // In a layout, `@` may stand in the path or the tag; it begins a digest only where an algorithm follows it.
  if (at < 0 || !/^@[a-z0-9+._-]+:[^/]*$/.test(rest.slice(at))) return { head: rest, digest: undefined };
  const digest = rest.slice(at + 1);
  if (!isDigest(digest))
    throw new ImageReferenceError(
      'REFERENCE_DIGEST',
      `${quote(text)}: expected @sha256:<64 lower-case hex digits> at the end`,
    );
  return { head: rest.slice(0, at), digest };
}

const quote = (text: string): string => JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text);

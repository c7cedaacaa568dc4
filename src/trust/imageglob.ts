/**
 * Which images a ClusterImagePolicy is about (docs/image-policy.md 3): policy-controller's globs (pkg/apis/glob) over the name that its
 * webhook sees, `host/path@sha256:…`. Matching takes time in proportion to glob × name.
 */
import type { Digest } from '#src/digest.ts';
import { BootproofError } from '#src/error.ts';
import { parseReference } from '#src/image/reference.ts';
import { IMAGE_GLOB_CHARS_MAX } from '#src/limits.ts';

export class ImageGlobError extends BootproofError<'IMAGE_GLOB_SYNTAX' | 'IMAGE_GLOB_LIMIT'> {}

/** A character as itself; `*`: any that are no slash; `**`: any. */
type Token = { readonly is: 'char'; readonly char: string } | { readonly is: '*' | '**' };

export type ImageGlob = {
  /** As it was written. */
  readonly source: string;
  readonly tokens: readonly Token[];
};

/** @throws {ImageGlobError} */
export function parseImageGlob(source: string): ImageGlob {
  if (source.length > IMAGE_GLOB_CHARS_MAX)
    throw new ImageGlobError(
      'IMAGE_GLOB_LIMIT',
      `a glob of ${source.length} characters; at most ${IMAGE_GLOB_CHARS_MAX} are taken`,
    );
  if (!/^[a-zA-Z0-9\-_:/*.@]+$/.test(source))
    throw new ImageGlobError(
      'IMAGE_GLOB_SYNTAX',
      `${JSON.stringify(source.slice(0, 100))}: a glob holds letters, digits and - _ : / . @, with * and ** as wildcards`,
    );
  // Only the whole glob is completed; `*/*` inside a longer one is itself.
  const full = source === '*' ? `${HUB}/library/*` : source === '*/*' ? `${HUB}/*/*` : source;
  const tokens = (full.match(/\*\*|[^]/g) ?? []).map((part): Token =>
    part === '*' || part === '**' ? { is: part } : { is: 'char', char: part },
  );
  return { source, tokens };
}

/** As go-containerregistry spells it, whatever was written. */
const HUB = 'index.docker.io';

/**
 * An image as policies see it: its reference's repository in full and its digest. A tag makes no difference. Where nobody said under which
 * name an image is known, only globs that take any name are about it: `@sha256:…`.
 * @throws {ImageReferenceError}
 */
export function imageName(reference: string | undefined, digest: Digest): string {
  if (reference === undefined) return `@${digest}`;
  const parsed = parseReference(
    /^(?:docker:\/\/|oci:|oci-archive:)/.test(reference) ? reference : `docker://${reference}`,
  );
  if (parsed.transport !== 'docker') return `@${digest}`;
  const host = parsed.registry === 'docker.io' ? HUB : parsed.registry;
  return `${host}/${parsed.repository}@${digest}`;
}

/** Whether a glob matches a whole name. */
export function matchesImage({ tokens }: ImageGlob, name: string): boolean {
  // One bit a place in the glob: those reached after the characters so far. No place is ever tried twice for one character.
  let reached = closed(tokens, new Uint8Array(tokens.length + 1).fill(1, 0, 1));
  for (const char of name) reached = step(tokens, reached, (token) => accepts(token, char));
  return reached[tokens.length] === 1;
}

const accepts = (token: Token, char: string): boolean =>
  token.is === 'char' ? token.char === char : token.is === '**' || char !== '/';

/** Places after one more character, of those that `fits` the tokens there. */
function step(tokens: readonly Token[], from: Uint8Array, fits: (token: Token) => boolean): Uint8Array {
  const to = new Uint8Array(from.length);
  for (const [place, token] of tokens.entries())
    if (from[place] === 1 && fits(token)) to[token.is === 'char' ? place + 1 : place] = 1;
  return closed(tokens, to);
}

/** Wildcards may take nothing. */
function closed(tokens: readonly Token[], places: Uint8Array): Uint8Array {
  for (const [place, token] of tokens.entries()) if (places[place] === 1 && token.is !== 'char') places[place + 1] = 1;
  return places;
}

/**
 * Whether any image at all can match: `ghcr.io/acme/os` names no digest, and `ghcr.io/acme/os:v1*` would need a tag, which the name has
 * not. Walks glob and the grammar of names together.
 */
export function canMatch({ tokens }: ImageGlob): boolean {
  const start = closed(tokens, new Uint8Array(tokens.length + 1).fill(1, 0, 1));
  const reached = GRAMMAR.map((_, state) => (state === 0 ? start : new Uint8Array(tokens.length + 1)));
  const grown = new Set([0]);
  // The first state that grew before those after it: host and path repeat, the digest is walked once.
  while (grown.size > 0) {
    const state = Math.min(...grown);
    grown.delete(state);
    for (const { chars, to } of GRAMMAR[state]!) {
      const next = step(tokens, reached[state]!, (token) =>
        token.is === 'char' ? chars.test(token.char) : token.is === '**' || !chars.test('/'),
      );
      if (merge(reached[to]!, next)) grown.add(to);
    }
  }
  return reached.at(-1)![tokens.length] === 1;
}

function merge(into: Uint8Array, more: Uint8Array): boolean {
  let grew = false;
  for (const [place, is] of more.entries())
    if (is === 1 && into[place] === 0) {
      into[place] = 1;
      grew = true;
    }
  return grew;
}

type Edge = { readonly chars: RegExp; readonly to: number };

/** `host[:port]/path@sha256:<64 hex>` as states and what leads from one to the next (distribution/reference). */
const GRAMMAR: readonly (readonly Edge[])[] = [
  [{ chars: /[A-Za-z0-9.[\]-]/, to: 1 }],
  [
    { chars: /[A-Za-z0-9.[\]-]/, to: 1 },
    { chars: /:/, to: 2 },
    { chars: /\//, to: 3 },
  ],
  [
    { chars: /[0-9]/, to: 2 },
    { chars: /\//, to: 3 },
  ],
  [{ chars: /[a-z0-9]/, to: 4 }],
  [
    { chars: /[a-z0-9._-]/, to: 4 },
    { chars: /\//, to: 3 },
    { chars: /@/, to: 5 },
  ],
  ...'sha256:'.split('').map((char, index) => [{ chars: new RegExp(char), to: 6 + index }]),
  ...Array.from({ length: 64 }, (_, index) => [{ chars: /[0-9a-f]/, to: 13 + index }]),
  [],
];

/** Something about a glob that its author should know. */
export type GlobLint = { readonly code: 'NEVER_MATCHES' | 'OPEN_END'; readonly message: string };

export function lintImageGlob(glob: ImageGlob): GlobLint | undefined {
  const { source } = glob;
  if (!canMatch(glob))
    return {
      code: 'NEVER_MATCHES',
      message: `${source} matches no image: names end in @sha256:… and have no tag; ${source.replace(/@.*$|:[^/]*$/, '')}@* is a whole repository`,
    };
  // `os*` is os@sha256:…, and os-evil@sha256:… as well; after a slash it is meant so.
  const stem = /^([^@*]*[^*/@:])\*+$/.exec(source)?.[1];
  if (stem !== undefined)
    return {
      code: 'OPEN_END',
      message: `${source} also matches ${stem}-other@sha256:…; ${stem}@* is this repository alone`,
    };
  return undefined;
}

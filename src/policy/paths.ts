/**
 * The globs of policies (docs/policy.md, section 3). They decide what may differ on a host, so they are few, small and never
 * surprising: `*`, `?`, `[…]`, `{a,b}`, `**` alone between slashes, and `\` before a character meant as itself. Matching
 * takes time in proportion to pattern × path: after a mismatch only the last star is tried again, never all of them.
 */
import { fromUtf8, toUtf8, type ByteString } from '#src/bytes.ts';
import { BootproofError } from '#src/error.ts';
import { GLOB_ALTERNATIVES_MAX, GLOB_BYTES_MAX } from '#src/limits.ts';
import { vis } from '#src/manifest/vis.ts';

export class GlobError extends BootproofError<'GLOB_SYNTAX' | 'GLOB_LIMIT'> {}

/**
 * What is matched. `path`: an absolute path at or below /usr or /etc. `link`: a symlink's target, which may be relative.
 * `text`: anything else (a kernel argument, a package), where `/` is a character like any other and `**` has no place.
 */
export type GlobKind = 'path' | 'link' | 'text';

export type Glob = {
  /** As it was written. */
  readonly source: string;
  readonly kind: GlobKind;
  readonly alternatives: readonly Alternative[];
};

/** One way through the braces. */
type Alternative = {
  /** What every match begins with. */
  readonly head: ByteString;
  /** The text of the only match, where there are no wildcards. */
  readonly literal: ByteString | undefined;
  /** `head`, where the alternative is `head/**`: the commonest form, decided without cutting the path up. */
  readonly tree: ByteString | undefined;
  /** Cut at slashes; `DEEP` is `**`. */
  readonly parts: readonly (Part | typeof DEEP)[];
};
type Part = readonly Unit[];
/** A byte by its code, any byte, any run of bytes, or one byte of a set. */
type Unit = number | typeof ANY | typeof STAR | Set;
type Set = { readonly has: readonly boolean[]; readonly negated: boolean };

const DEEP = '**';
const STAR = '*';
const ANY = '?';
const SLASH = 0x2f;

/** @throws {GlobError} for everything that a reader could take for something else than it does. */
export function parseGlob(source: string, kind: GlobKind): Glob {
  // eslint-disable-next-line no-control-regex
  if (source === '' || /[\0-\x1f\x7f]/.test(source) || !source.isWellFormed())
    throw refuse(source, 'expected printable text (a control character in a name is matched by ?)');
  const bytes = fromUtf8(source);
  if (bytes.length > GLOB_BYTES_MAX)
    throw new GlobError('GLOB_LIMIT', `a glob of ${bytes.length} bytes; the limit is ${GLOB_BYTES_MAX}`);
  const alternatives = expand(bytes, source).map((text) => parseAlternative(text, kind, source));
  return { source, kind, alternatives };
}

/**
 * Whether a path, link target or text (bytes, as they are) is one that the glob names. `parts` is the path cut at slashes, for
 * who holds it against many globs.
 */
export function matchesGlob(glob: Glob, subject: ByteString, parts?: readonly ByteString[]): boolean {
  let names = parts;
  for (const { literal, tree, head, parts: pattern } of glob.alternatives) {
    if (literal !== undefined) {
      if (literal === subject) return true;
    } else if (subject.startsWith(head)) {
      if (tree !== undefined) {
        if (subject.length === tree.length || subject.charCodeAt(tree.length) === SLASH) return true;
        continue;
      }
      names ??= glob.kind === 'text' ? [subject] : subject.split('/');
      if (matchParts(pattern, names, glob.kind)) return true;
    }
  }
  return false;
}

/** Whether the glob may match something at or below `folder`: false only where nothing there can match. */
export function reachesInto(glob: Glob, folder: ByteString): boolean {
  return glob.alternatives.some(({ head }) => head.startsWith(folder) || folder.startsWith(head));
}

/**
 * Paths that a glob names, made up: one for each way through its braces, with a name that nobody gives for each star. For who wants to see
 * what a rule is about.
 */
export function witnessOf({ alternatives, kind }: Glob): ByteString[] {
  return alternatives.map(({ literal, parts }) => {
    if (literal !== undefined) return literal;
    const named = parts.map((part) => (part === DEEP ? 'q7x' : part.map(witnessUnit).join('')));
    return kind === 'text' ? named.join('') : named.join('/');
  });
}

function witnessUnit(unit: Unit): string {
  if (typeof unit === 'number') return String.fromCharCode(unit);
  if (unit === STAR) return 'q7x';
  if (unit === ANY) return 'q';
  const code = unit.has.findIndex((has, at) => has !== unit.negated && at > 0x20 && at < 0x7f && at !== SLASH);
  return code < 0 ? 'q' : String.fromCharCode(code);
}

/** The texts that braces stand for. Escapes and sets are left as they are. */
function expand(text: string, source: string): string[] {
  const open = nextOf(text, 0, '{}', source);
  if (open === text.length) return [text];
  if (text[open] === '}') throw refuse(source, 'a } without its {');
  const choices: string[] = [];
  let depth = 0;
  let start = open + 1;
  let at = open;
  do {
    if (text[at] === '{') depth++;
    else if (text[at] === '}') depth--;
    else if (depth === 1) {
      choices.push(text.slice(start, at));
      start = at + 1;
    }
    if (depth === 0) break;
    at = nextOf(text, at + 1, '{},', source);
  } while (at < text.length);
  if (at === text.length) throw refuse(source, 'a { without its }');
  choices.push(text.slice(start, at));
  if (choices.length < 2) throw refuse(source, 'braces hold at least two choices, as in {a,b}');
  const rests = expand(text.slice(at + 1), source);
  const out: string[] = [];
  for (const choice of choices)
    for (const middle of expand(choice, source))
      for (const rest of rests) {
        if (out.length === GLOB_ALTERNATIVES_MAX)
          throw new GlobError('GLOB_LIMIT', `${quote(source)}: more than ${GLOB_ALTERNATIVES_MAX} alternatives`);
        out.push(text.slice(0, open) + middle + rest);
      }
  return out;
}

/** Where the next of `wanted` stands outside escapes and sets; the text's length if nowhere. */
function nextOf(text: string, from: number, wanted: string, source: string): number {
  let at = from;
  while (at < text.length && !wanted.includes(text[at]!)) {
    if (text[at] === '\\') at += 2;
    else if (text[at] === '[') at = endOfSet(text, at, source);
    else at++;
  }
  return Math.min(at, text.length);
}

/** The index behind the `]` of the set that begins at `at`. A `]` right after `[` or `[!` does not close it: it must be escaped. */
function endOfSet(text: string, at: number, source: string): number {
  for (let i = at + 1; i < text.length; i++) {
    if (text[i] === '\\') i++;
    else if (text[i] === ']') return i + 1;
  }
  throw refuse(source, 'a [ without its ]');
}

function parseAlternative(text: string, kind: GlobKind, source: string): Alternative {
  if (kind === 'path') {
    if (!text.startsWith('/')) throw refuse(source, 'a path glob begins with /');
    if (!/^\/(?:usr|etc|\*\*|\*)(?:\/|$)/.test(text))
      throw refuse(source, 'a path glob names something at or below /usr or /etc');
  }
  const pieces = kind === 'text' ? [text] : split(text);
  const parts = pieces.map((piece, index): Part | typeof DEEP => {
    if (kind !== 'text' && piece === '' && !(index === 0 && pieces.length > 1))
      throw refuse(source, 'a slash stands between two names: neither doubled nor at the end');
    if (kind === 'path' && (piece === '.' || piece === '..')) throw refuse(source, 'a path has no . or ..');
    if (piece === DEEP && kind !== 'text') return DEEP;
    const part = parsePart(piece, source);
    if (part.some((unit, i) => unit === STAR && part[i + 1] === STAR))
      throw refuse(source, kind === 'text' ? 'one * is enough' : '** stands alone between two slashes');
    return part;
  });
  const fixed = parts.flatMap((part, index) =>
    (index === 0 ? [] : [SLASH as Unit]).concat(part === DEEP ? [ANY] : part),
  );
  const wild = fixed.findIndex((unit) => typeof unit !== 'number');
  const bytes = String.fromCharCode(...(fixed.slice(0, wild < 0 ? fixed.length : wild) as number[]));
  // `/usr/**` matches `/usr` too, so what stands before `**` does not end in a slash.
  const head = wild >= 0 && parts.includes(DEEP) && bytes.endsWith('/') ? bytes.slice(0, -1) : bytes;
  // A path has neither empty names nor dots, so all that begins right is below; a link target may have both.
  const isTree = kind === 'path' && parts.indexOf(DEEP) === parts.length - 1 && bytes.length === head.length + 1;
  const tree = isTree && wild === fixed.length - 1 ? head : undefined;
  return { head, literal: wild < 0 ? bytes : undefined, tree, parts };
}

/** At slashes outside sets and escapes. */
function split(text: string): string[] {
  const out: string[] = [];
  let start = 0;
  for (let at = 0; at < text.length; at++) {
    if (text[at] === '\\') at++;
    else if (text[at] === '[') {
      // A set never matches a slash, so one inside it is a mistake: found by parsePart, which gets the set whole.
      const end = text.indexOf(']', at);
      at = end < 0 ? at : end;
    } else if (text[at] === '/') {
      out.push(text.slice(start, at));
      start = at + 1;
    }
  }
  out.push(text.slice(start));
  return out;
}

function parsePart(text: string, source: string): Part {
  const units: Unit[] = [];
  for (let at = 0; at < text.length; at++) {
    const char = text[at]!;
    if (char === '*') units.push(STAR);
    else if (char === '?') units.push(ANY);
    else if (char === '[') {
      const end = endOfSet(text, at, source);
      units.push(parseSet(text.slice(at + 1, end - 1), source));
      at = end - 1;
    } else if (char === '\\') {
      at++;
      if (at === text.length) throw refuse(source, 'a \\ with nothing behind it');
      units.push(text.charCodeAt(at));
    } else if (char === ']') throw refuse(source, 'a ] without its [; write \\] for the character');
    else units.push(text.charCodeAt(at));
  }
  return units;
}

function parseSet(text: string, source: string): Set {
  const negated = text.startsWith('!') || text.startsWith('^');
  const bytes: { code: number; bare: boolean }[] = [];
  for (let at = negated ? 1 : 0; at < text.length; at++) {
    const escaped = text[at] === '\\';
    if (escaped) at++;
    const code = text.charCodeAt(at);
    // A set holds bytes; a character of several would silently match each of them.
    if (code > 0x7f) throw refuse(source, 'a set holds ASCII only');
    if (code === SLASH || (!escaped && text[at] === '[')) throw refuse(source, `a set holds no unescaped ${text[at]}`);
    bytes.push({ code, bare: !escaped });
  }
  if (bytes.length === 0) throw refuse(source, 'an empty set');
  const has = Array.from({ length: 256 }, () => false);
  for (let i = 0; i < bytes.length; i++) {
    const from = bytes[i]!.code;
    const isRange = bytes[i + 1]?.code === 0x2d && bytes[i + 1]!.bare && i + 2 < bytes.length;
    const to = isRange ? bytes[i + 2]!.code : from;
    if (to < from) throw refuse(source, 'a range in a set goes upward, as in [a-z]');
    has.fill(true, from, to + 1);
    if (isRange) i += 2;
  }
  return { has, negated };
}

/** Names of a path against parts of a pattern; `**` is any number of names, also none. */
function matchParts(parts: Alternative['parts'], names: readonly string[], kind: GlobKind): boolean {
  let p = 0;
  let n = 0;
  let star = -1;
  let mark = 0;
  while (n < names.length) {
    const part = parts[p];
    const name = names[n]!;
    if (part === DEEP) {
      star = p++;
      mark = n;
    } else if (part !== undefined && matchName(part, name, kind)) {
      p++;
      n++;
      // In a link target `..` must be written out: no star climbs over it.
    } else if (star >= 0 && isName(names[mark]!)) {
      p = star + 1;
      n = ++mark;
    } else return false;
  }
  while (parts[p] === DEEP) p++;
  return p === parts.length;
}

const isName = (name: string): boolean => name !== '' && name !== '.' && name !== '..';

function matchName(units: Part, name: string, kind: GlobKind): boolean {
  if (kind !== 'text' && !isName(name))
    return units.length === name.length && units.every((u, i) => u === name.charCodeAt(i));
  let u = 0;
  let c = 0;
  let star = -1;
  let mark = 0;
  while (c < name.length) {
    const unit = units[u];
    if (unit === STAR) {
      star = u++;
      mark = c;
    } else if (unit !== undefined && matchUnit(unit, name.charCodeAt(c))) {
      u++;
      c++;
    } else if (star >= 0) {
      u = star + 1;
      c = ++mark;
    } else return false;
  }
  while (units[u] === STAR) u++;
  return u === units.length;
}

function matchUnit(unit: Exclude<Unit, typeof STAR>, code: number): boolean {
  if (typeof unit === 'number') return unit === code;
  return unit === ANY || unit.has[code] !== unit.negated;
}

const quote = (source: string): string => JSON.stringify(source.slice(0, 200));
const refuse = (source: string, why: string): GlobError => new GlobError('GLOB_SYNTAX', `${quote(source)}: ${why}`);

/**
 * The glob as a regular expression (POSIX advanced, as PostgreSQL reads it) over subjects as findings keep them: bytes that vis escapes
 * stand there as `\\ooo`. For path and text globs; of a link's target it would let a star climb over `..`.
 */
export function regexOf({ alternatives, kind }: Glob): string {
  return `^(?:${alternatives.map((one) => alternativeRegex(one, kind)).join('|')})$`;
}

function alternativeRegex({ parts }: Alternative, kind: GlobKind): string {
  let out = '';
  for (const [index, part] of parts.entries()) {
    if (part === DEEP) {
      // Any number of names, also none: each brings its own slash.
      out += '(?:/[^/]+)*';
      continue;
    }
    // The empty name before a path's first slash.
    out += index === 0 ? '' : '/';
    out += kind === 'text' ? textRegex(part) : part.map((unit) => unitRegex(unit)).join('');
  }
  return out;
}

/** Texts are matched as characters, so bytes that stand together are brought back to theirs. */
function textRegex(part: Part): string {
  let out = '';
  let run = '';
  const flush = (): void => {
    out += (toUtf8(run) ?? run).replaceAll(SPECIAL, '\\$&');
    run = '';
  };
  for (const unit of part) {
    if (typeof unit === 'number') {
      run += String.fromCharCode(unit);
      continue;
    }
    flush();
    if (unit === STAR) out += '.*';
    else if (unit === ANY) out += '.';
    else
      out += `(?:${bytesOf(unit, 0x80)
        .map((code) => String.fromCharCode(code).replace(SPECIAL, '\\$&'))
        .join('|')})`;
  }
  flush();
  return out;
}
const SPECIAL = /[\\^$.|?*+()[\]{}]/g;

function unitRegex(unit: Unit): string {
  if (unit === STAR) return '[^/]*';
  if (unit === ANY) return '(?:\\\\[0-7]{3}|[^/\\\\])';
  if (typeof unit === 'number') return byteRegex(unit);
  return `(?:${bytesOf(unit, 0x100).map(byteRegex).join('|')})`;
}

function bytesOf({ has, negated }: Set, end: number): number[] {
  const all = Array.from({ length: end - 1 }, (_, index) => index + 1);
  return all.filter((code) => has[code] !== negated && code !== SLASH);
}

function byteRegex(code: number): string {
  return vis(String.fromCharCode(code)).replaceAll(SPECIAL, '\\$&');
}

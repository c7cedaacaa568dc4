/**
 * The contradiction check (PROTOCOL 3.7): a manifest's comparison texts with the listed drift applied must have the digests
 * that were reported. Works on the texts by offsets, so its cost follows the drift, not the 130,000 lines of a tree.
 */
import type { ByteString } from '#src/bytes.ts';
import { digestOf, type Digest, type Sha256 } from '#src/digest.ts';
import { BootproofError } from '#src/error.ts';
import { NAME_BYTES_MAX, PATH_BYTES_MAX } from '#src/limits.ts';
import { comparePaths, treeOf, type Entry, type Facts, type TreeName } from '#src/manifest/entry.ts';
import type { TreeTexts } from '#src/manifest/header.ts';
import { extraLine, mainLine } from '#src/manifest/mtree.ts';
import { unvis } from '#src/manifest/vis.ts';
import { attributesOf, isUnread, type Drift, type Secret } from './drift.ts';
import { isSecret } from './redact.ts';

/**
 * Drift that cannot be true of this manifest. DRIFT_PATH: not a path of the tree in normal form. DRIFT_ORDER: unsorted or
 * twice. DRIFT_FACTS: facts that no entry has, content of a path that was not read, or a modification that changes nothing. DRIFT_SECRET: a
 * secret with size or digest, another file without. DRIFT_EXPECTED: the manifest says otherwise. SECRET_STATE: a secret that is none, or whose
 * state the drift denies.
 */
export class DriftError extends BootproofError<
  'DRIFT_PATH' | 'DRIFT_ORDER' | 'DRIFT_FACTS' | 'DRIFT_SECRET' | 'DRIFT_EXPECTED' | 'SECRET_STATE'
> {}

export type Claim = {
  readonly tree: TreeName;
  /** The tree's drift, complete, in `comparePaths` order. */
  readonly drift: readonly Drift[];
  /** The tree's secrets, in the same order; a report may leave some out. */
  readonly secrets: readonly Secret[];
  /** The site's own secret globs, as the report names them. */
  readonly secretPaths: readonly string[];
  /** Paths that could not be read, and of which a line may say all the same what `lstat` shows (docs/report.md 1.10). */
  readonly unread?: ReadonlySet<ByteString>;
};

/**
 * The digests that a tree must have if the claim is true. `expected.main` is the manifest's comparison text under the same
 * secret paths (`comparisonText`).
 * @throws {DriftError} where the claim contradicts the manifest or itself.
 */
export function recompute(expected: TreeTexts, claim: Claim, sha256: Sha256): { main: Digest; extra: Digest } {
  const { main, extra } = applyDrift(expected, claim);
  return { main: digestOf(main, sha256), extra: digestOf(extra, sha256) };
}

/** The comparison texts that a tree must have if the claim is true. @throws {DriftError} as `recompute`. */
export function applyDrift(expected: TreeTexts, claim: Claim): TreeTexts {
  const main = new Splice(expected.main, ' ');
  const extra = new Splice(expected.extra, '\t');
  let last: ByteString | undefined;
  for (const drift of claim.drift) {
    checkPath(drift.path, claim.tree, last);
    last = drift.path;
    const unread = claim.unread?.has(drift.path) === true;
    const before = 'expected' in drift ? entryOf(drift.path, drift.expected, claim, false) : undefined;
    const after = 'actual' in drift ? entryOf(drift.path, drift.actual, claim, unread) : undefined;
    if (drift.change === 'modified' && attributesOf(drift).length === 0)
      throw new DriftError('DRIFT_FACTS', `${show(drift.path)} is called modified, but nothing of it differs`);
    main.replace(drift.path, before ? mainLine(before) : '', after ? mainLine(after) : '');
    // A capability that was not read is neither expected nor seen.
    const blind = unread && before?.capability === undefined && after?.capability === undefined;
    const hidden = blind ? (CAPABILITY.exec(extra.at(drift.path))?.[0] ?? '') : '';
    extra.replace(drift.path, hidden + (before ? extraLine(before) : ''), hidden + (after ? extraLine(after) : ''));
  }
  checkSecrets(new Splice(expected.main, ' '), claim);
  return { main: main.end(), extra: extra.end() };
}

function checkPath(path: ByteString, tree: TreeName, last: ByteString | undefined): void {
  const names = path.split('/').slice(1);
  if (
    treeOf(path) !== tree ||
    path.length > PATH_BYTES_MAX ||
    path.includes('\0') ||
    names.some((name) => name === '' || name === '.' || name === '..' || name.length > NAME_BYTES_MAX)
  )
    throw new DriftError('DRIFT_PATH', `${show(path)} is no path of /${tree}`);
  if (last !== undefined && comparePaths(last, path) >= 0)
    throw new DriftError(
      'DRIFT_ORDER',
      `${show(path)} stands after ${show(last)}: expected each path once, in canonical order`,
    );
}

const CAPABILITY = /^.*\tsecurity\.capability=.*\n/;

function entryOf(path: ByteString, facts: Facts, { secretPaths }: Claim, unread: boolean): Entry {
  const file = facts.type === 'file';
  const secret = file && isSecret(path, secretPaths);
  const device = facts.type === 'char' || facts.type === 'block';
  if (
    (facts.link === undefined) === (facts.type === 'symlink') ||
    (facts.device === undefined) === device ||
    (file && !secret && isUnread(facts) !== unread) ||
    (facts.size !== undefined && !file) ||
    (facts.sha256 !== undefined && facts.size === undefined) ||
    (facts.link ?? '').includes('\0')
  )
    throw new DriftError('DRIFT_FACTS', `${show(path)}: the attributes do not belong to a ${facts.type}`);
  if (file && secret !== (facts.size === undefined))
    throw new DriftError(
      'DRIFT_SECRET',
      facts.size === undefined
        ? `${show(path)} has no size and digest, but is no secret`
        : `${show(path)} is a secret, its size and digest must not be told`,
    );
  return { ...facts, path };
}

function checkSecrets(manifest: Splice, { tree, drift, secrets, secretPaths }: Claim): void {
  const changes = new Map(drift.map((d) => [d.path, d.change]));
  let last: ByteString | undefined;
  for (const { path, state } of secrets) {
    checkPath(path, tree, last);
    last = path;
    if (!isSecret(path, secretPaths)) throw new DriftError('SECRET_STATE', `${show(path)} is no secret path`);
    const change = changes.get(path);
    const denied =
      state === 'added' || state === 'removed'
        ? change !== state
        : change === 'added' || change === 'removed' || !manifest.has(path);
    if (denied)
      throw new DriftError('SECRET_STATE', `${show(path)} is called ${state}, which drift and manifest do not say`);
  }
}

/** A canonical text that is read and rewritten from its beginning to its end. */
class Splice {
  readonly #text: string;
  /** What ends the path in a line. */
  readonly #separator: string;
  readonly #out: string[] = [];
  /** Start of the first line that was not passed yet; before it, what was not copied yet. */
  #at = 0;
  #copied = 0;

  constructor(text: string, separator: string) {
    this.#text = text;
    this.#separator = separator;
  }

  /** Replaces the lines of `path`, which must be `before`, by `after`; '' is no line. Paths must rise. */
  replace(path: ByteString, before: string, after: string): void {
    const [start, end] = this.#find(path);
    if (this.#text.slice(start, end) !== before)
      throw new DriftError('DRIFT_EXPECTED', `${show(path)}: the manifest has ${difference(before, start === end)}`);
    if (before === after) return;
    this.#out.push(this.#text.slice(this.#copied, start), after);
    this.#copied = end;
  }

  /** The lines of `path`. Paths must rise. */
  at(path: ByteString): string {
    return this.#text.slice(...this.#find(path));
  }

  /** Whether the text has a line for `path`. Paths must rise. */
  has(path: ByteString): boolean {
    const [start, end] = this.#find(path);
    return start < end;
  }

  end(): string {
    this.#out.push(this.#text.slice(this.#copied));
    return this.#out.join('');
  }

  /** From the start of the first line whose path is not before `path`, to the end of those that have it. */
  #find(path: ByteString): [number, number] {
    const text = this.#text;
    let low = this.#at;
    let high = text.length;
    // Drift is often dense: look near before halving the rest.
    for (let step = 4096; low + step < high; step *= 4) {
      const line = text.lastIndexOf('\n', low + step) + 1;
      if (line > low && comparePaths(this.#pathAt(line), path) >= 0) {
        high = line;
        break;
      }
      if (line > low) low = line;
    }
    while (low < high) {
      const line = Math.max(low, text.lastIndexOf('\n', Math.floor((low + high) / 2) - 1) + 1);
      if (comparePaths(this.#pathAt(line), path) < 0) low = this.#next(line);
      else high = line;
    }
    let end = low;
    while (end < text.length && this.#pathAt(end) === path) end = this.#next(end);
    this.#at = low;
    return [low, end];
  }

  #next(line: number): number {
    return this.#text.indexOf('\n', line) + 1 || this.#text.length;
  }

  #pathAt(line: number): ByteString {
    const key = this.#text.slice(line + 1, this.#text.indexOf(this.#separator, line));
    return key.includes('\\') ? unvis(key) : key;
  }
}

const difference = (before: string, absent: boolean): string =>
  before === '' ? 'it already' : absent ? 'no such path' : 'something else than is called expected';

// Escaped for people by whoever prints it; JSON only marks where the name begins and ends.
const show = (path: ByteString): string => JSON.stringify(path.slice(0, 200));

/**
 * Manifest × scan → drift: a linear merge of two sorted texts. What is the same, which is nearly everything, is compared as
 * text and never becomes an object; memory is the text handed in and the drift found.
 */
import type { ByteString } from '#src/bytes.ts';
import { DRIFT_BYTES_MAX, DRIFT_LINES_MAX } from '#src/limits.ts';
import { comparePaths, treeOf, type Entry, type Facts } from '#src/manifest/entry.ts';
import type { TreeTexts } from '#src/manifest/header.ts';
import { extraText, mainLine, mainText, MtreeError, parseMainLine } from '#src/manifest/mtree.ts';
import { unvis } from '#src/manifest/vis.ts';
import { attributesOf, driftJson, type Drift, type Glimpse, type Secret } from './drift.ts';
import { comparisonEntry, isSecret } from './redact.ts';

/** What a tree must be; a large main text may come in pieces, cut anywhere, and is then never held as a whole. */
export type ExpectedTree = {
  readonly main: string | Iterable<string>;
  /** Null where it is not known: capabilities and device numbers are then left out of the comparison. */
  readonly extra: string | null;
};

/** Where a comparison puts what it finds, in `comparePaths` order. */
export type Findings = { drift(drift: Drift): void; secret(secret: Secret): void };

/**
 * The comparison of one tree while its scan runs. Lines and holes come in canonical order; without an expected side
 * nothing is found and only the comparison text is made.
 */
export class TreeComparison {
  readonly #expected: Cursor | undefined;
  readonly #extraKnown: boolean;
  readonly #added: readonly string[];
  readonly #findings: Findings;
  /** Sizes of the scanned secrets together: what must be left out of any sum that leaves the host. */
  secretBytes = 0;
  /** SHA-256 of the scanned secrets: never leaves the host, and tells that a file of another name is a copy of one. */
  readonly secretContents = new Set<string>();

  /** `secretPaths`: the site's own globs (`parseSecretPath`). */
  constructor(expected: ExpectedTree | undefined, secretPaths: readonly string[], findings: Findings) {
    this.#expected = expected && new Cursor(expected.main, expected.extra ?? '');
    this.#extraKnown = expected?.extra !== null;
    this.#added = secretPaths;
    this.#findings = findings;
  }

  /**
   * The next whole lines of the scanned tree's two texts, every `extra` line belonging to a line of `main`. Returns `main`
   * as it may leave the host: secrets without size and digest.
   * @throws {MtreeError} where the manifest is not canonical: no line that differs from the scan's is taken unread.
   */
  lines(main: string, extra: string): string {
    // Secrets must be told even where they are the same, and only /etc has them.
    const secrets = main.startsWith('./etc');
    const known = this.#extraKnown ? extra : '';
    if (!secrets && (this.#expected === undefined || this.#expected.skip(main, known))) return main;
    const extras = readExtra(known);
    let out = '';
    for (let start = 0; start < main.length;) {
      const end = main.indexOf('\n', start) + 1;
      const line = main.slice(start, end);
      const key = keyOf(line);
      const actual = new Line(line, key, extras.get(key) ?? NO_EXTRA);
      const secret = secrets && line.startsWith(' type=file ', key.length + 1) && isSecret(actual.path, this.#added);
      const content = secret ? CONTENT.exec(line) : null;
      if (content !== null) {
        this.secretBytes += Number(content[1]);
        this.secretContents.add(line.slice(-65, -1));
      }
      out += content === null ? line : `${line.slice(0, content.index)}\n`;
      if (this.#expected !== undefined) this.#meet(this.#expected, actual, secret);
      start = end;
    }
    return out;
  }

  /**
   * A path that could not be judged: what the manifest has below it is no drift, and of itself only what `glimpse` shows
   * (docs/report.md 1.10).
   */
  hole(path: ByteString, glimpse?: Glimpse): void {
    const expected = this.#expected;
    if (expected === undefined) return;
    this.#removeBefore(expected, path);
    if (glimpse !== undefined) this.#glimpse(expected, path, glimpse);
    for (let line = expected.line(); line !== undefined && isWithin(line.path, path); line = expected.line())
      expected.advance();
  }

  /** Nothing follows: what the manifest still has was removed. */
  end(): void {
    const expected = this.#expected;
    for (let line = expected?.line(); line !== undefined; line = expected?.line()) {
      this.#removed(line);
      expected!.advance();
    }
    expected?.end();
  }

  #meet(expected: Cursor, actual: Line, secret: boolean): void {
    this.#removeBefore(expected, actual.path);
    const wanted = expected.line();
    if (wanted === undefined || wanted.key !== actual.key) {
      const facts = factsOf(secret ? comparisonEntry(actual.entry()) : actual.entry());
      this.#findings.drift({ path: actual.path, change: 'added', actual: facts });
      if (secret) this.#findings.secret({ path: actual.path, state: 'added' });
      return;
    }
    expected.advance();
    if (wanted.text === actual.text && sameExtra(wanted.extra, actual.extra)) {
      if (secret) this.#findings.secret({ path: actual.path, state: 'same' });
      return;
    }
    this.#modified(wanted.entry(), actual.entry());
  }

  #modified(before: Entry, after: Entry): void {
    const { path } = after;
    // Either side may be the secret: a file that became a link still must not tell what it was.
    const secret = (before.type === 'file' || after.type === 'file') && isSecret(path, this.#added);
    const hide = (entry: Entry) => factsOf(secret ? comparisonEntry(entry) : entry);
    const drift: Drift = { path, change: 'modified', expected: hide(before), actual: hide(after) };
    if (attributesOf(drift).length > 0) this.#findings.drift(drift);
    if (!secret) return;
    const same = before.type === after.type && before.sha256 === after.sha256;
    this.#findings.secret({ path, state: same ? 'same' : 'differs' });
  }

  /** Of what was not read nothing is said: it is neither expected nor seen. Nor is it told whether a secret there is the image's. */
  #glimpse(expected: Cursor, path: ByteString, { facts, capability }: Glimpse): void {
    const line = expected.line();
    const wanted = line?.path === path ? line.entry() : undefined;
    const secret = [wanted?.type, facts.type].includes('file') && isSecret(path, this.#added);
    const shown = (entry: Entry): Facts => {
      const { capability: value, device, ...rest } = factsOf(secret ? comparisonEntry(entry) : entry);
      return {
        ...rest,
        ...(capability && this.#extraKnown && value !== undefined ? { capability: value } : {}),
        ...(this.#extraKnown && device !== undefined ? { device } : {}),
      };
    };
    const actual = shown({ ...facts, path });
    if (wanted === undefined) {
      this.#findings.drift({ path, change: 'added', actual });
      if (secret && facts.type === 'file') this.#findings.secret({ path, state: 'added' });
      return;
    }
    const drift: Drift = { path, change: 'modified', expected: shown(wanted), actual };
    if (attributesOf(drift).length > 0) this.#findings.drift(drift);
  }

  #removeBefore(expected: Cursor, path: ByteString): void {
    for (let line = expected.line(); line !== undefined && comparePaths(line.path, path) < 0; line = expected.line()) {
      this.#removed(line);
      expected.advance();
    }
  }

  #removed(line: Line): void {
    const entry = line.entry();
    const secret = entry.type === 'file' && isSecret(entry.path, this.#added);
    this.#findings.drift({
      path: entry.path,
      change: 'removed',
      expected: factsOf(secret ? comparisonEntry(entry) : entry),
    });
    if (secret) this.#findings.secret({ path: entry.path, state: 'removed' });
  }
}

/** Drift and secrets between two trees given as entries in `comparePaths` order. */
export function compare(
  expected: Iterable<Entry>,
  actual: Iterable<Entry>,
  secretPaths: readonly string[] = [],
): { readonly drift: Drift[]; readonly secrets: Secret[] } {
  const texts = (entries: Iterable<Entry>): TreeTexts => {
    const list = [...entries];
    return { main: mainText(list), extra: extraText(list) };
  };
  return compareTexts(texts(expected), texts(actual), secretPaths);
}

/** Drift and secrets between two trees given by their full texts. */
export function compareTexts(
  expected: TreeTexts,
  actual: TreeTexts,
  secretPaths: readonly string[] = [],
): { readonly drift: Drift[]; readonly secrets: Secret[] } {
  const drift: Drift[] = [];
  const secrets: Secret[] = [];
  const comparison = new TreeComparison(expected, secretPaths, {
    drift: (d) => drift.push(d),
    secret: (s) => secrets.push(s),
  });
  comparison.lines(actual.main, actual.extra);
  comparison.end();
  return { drift, secrets };
}

const CONTENT = / size=([0-9]+) sha256digest=[0-9a-f]{64}\n$/;

/** Whether `path` is `top` or below it. */
export function isWithin(path: ByteString, top: ByteString): boolean {
  return path.startsWith(top) && (path.length === top.length || path[top.length] === '/');
}

function factsOf(entry: Entry): Facts {
  const { path: _path, ...facts } = entry;
  return facts;
}

type Extra = { readonly capability?: string; readonly device?: string };
const NO_EXTRA: Extra = {};
const sameExtra = (a: Extra, b: Extra): boolean => a.capability === b.capability && a.device === b.device;
const EXTRA = /^\.([^\t]+)\t(?:security\.capability=0s(.*)|device=(.*))$/;

/** The lines of an extra text by their escaped path. Few in any real tree. */
function readExtra(text: string): Map<string, Extra> {
  const out = new Map<string, Extra>();
  for (const line of text.split('\n').slice(0, -1)) {
    const match = EXTRA.exec(line);
    if (match === null)
      throw new MtreeError('EXTRA_SYNTAX', `extra line is not canonical: ${JSON.stringify(line.slice(0, 200))}`);
    const [, key = '', capability, device] = match;
    out.set(key, {
      ...out.get(key),
      ...(capability === undefined ? {} : { capability }),
      ...(device === undefined ? {} : { device }),
    });
  }
  return out;
}

/** A line of the main text with what the extra text says of its path. */
class Line {
  readonly text: string;
  /** The path as it is escaped in the text. */
  readonly key: string;
  readonly path: ByteString;
  readonly extra: Extra;

  constructor(text: string, key: string, extra: Extra) {
    this.text = text;
    this.key = key;
    this.path = pathOf(key);
    this.extra = extra;
  }

  entry(): Entry {
    const entry = parseMainLine(this.text.slice(0, -1));
    if (entry === undefined || treeOf(entry.path) === undefined || mainLine(entry) !== this.text)
      throw new MtreeError('MTREE_SYNTAX', `line is not canonical: ${JSON.stringify(this.text.slice(0, 200))}`);
    return { ...entry, ...this.extra };
  }
}

/**
 * The expected side, read as far as the comparison has come. Lines that equal the scan's are canonical because those are;
 * every other one is checked, and its order too.
 */
class Cursor {
  readonly #pieces: Iterator<string>;
  /** What was pulled and not yet passed, from `#at` on. */
  #text = '';
  #at = 0;
  readonly #extra: string;
  readonly #extras: Map<string, Extra>;
  #extraAt = 0;
  #line: Line | undefined;
  /** The last line passed, or the text that ends with it. */
  #last = '';

  constructor(main: string | Iterable<string>, extra: string) {
    this.#pieces = (typeof main === 'string' ? [main] : main)[Symbol.iterator]();
    this.#extra = extra;
    this.#extras = readExtra(extra);
  }

  line(): Line | undefined {
    if (this.#line === undefined && this.#has(1)) {
      let end = this.#text.indexOf('\n', this.#at) + 1;
      while (end === 0 && this.#pull()) end = this.#text.indexOf('\n', this.#at) + 1;
      const text = this.#text.slice(this.#at, end || this.#text.length);
      const key = keyOf(text);
      this.#line = new Line(text, key, this.#extras.get(key) ?? NO_EXTRA);
      if (this.#last !== '' && comparePaths(pathOf(keyOf(lastLine(this.#last))), this.#line.path) >= 0)
        throw new MtreeError('MTREE_ORDER', `manifest line is out of order: ${JSON.stringify(text.slice(0, 200))}`);
    }
    return this.#line;
  }

  advance(): void {
    const line = this.line();
    if (line === undefined) return;
    this.#at += line.text.length;
    this.#line = undefined;
    this.#last = line.text;
    if (line.extra !== NO_EXTRA)
      while (this.#extra.startsWith(`.${line.key}\t`, this.#extraAt))
        this.#extraAt = this.#extra.indexOf('\n', this.#extraAt) + 1;
  }

  /** Passes over lines that are exactly the next ones of both texts; false, and nothing moved, where they are not. */
  skip(main: string, extra: string): boolean {
    if (!this.#has(main.length) || !this.#text.startsWith(main, this.#at)) return false;
    if (!this.#extra.startsWith(extra, this.#extraAt)) return false;
    // And the manifest has no more extra lines for these paths than the scan saw.
    const next = this.#extraAt + extra.length;
    if (next < this.#extra.length) {
      const key = this.#extra.slice(next + 1, this.#extra.indexOf('\t', next));
      if (comparePaths(pathOf(key), pathOf(keyOf(lastLine(main)))) <= 0) return false;
    }
    this.#at += main.length;
    this.#extraAt = next;
    this.#line = undefined;
    this.#last = main;
    return true;
  }

  /** @throws {MtreeError} if extra lines are left: they had no place in the tree, or not in this order. */
  end(): void {
    if (this.#extraAt === this.#extra.length) return;
    const line = this.#extra.slice(this.#extraAt, this.#extraAt + 200);
    throw new MtreeError('EXTRA_SYNTAX', `extra line has no place in the tree: ${JSON.stringify(line)}`);
  }

  /** Whether `length` more characters are there, after pulling what it takes. */
  #has(length: number): boolean {
    while (this.#text.length - this.#at < length) if (!this.#pull()) return false;
    return true;
  }

  #pull(): boolean {
    const { done, value } = this.#pieces.next();
    if (done === true) return false;
    this.#text = this.#text.slice(this.#at) + value;
    this.#at = 0;
    return true;
  }
}

const keyOf = (line: string): string => line.slice(1, line.indexOf(' '));
const pathOf = (key: string): ByteString => (key.includes('\\') ? unvis(key) : key);
const lastLine = (text: string): string => text.slice(text.lastIndexOf('\n', text.length - 2) + 1);

/**
 * Keeps drift within what a report may hold (PROTOCOL 3.8). Lines come in `comparePaths` order; where they are too many,
 * those stay that come first by class and then by path: setuid and setgid files, executable files, files with
 * capabilities, the rest.
 */
export class DriftList {
  readonly #classes: { drift: Drift; bytes: number }[][] = [[], [], [], []];
  readonly #lines: number;
  readonly #bytes: number;
  #count = 0;
  #size = 0;
  /** Lines of this class and above are full. */
  #closed = Infinity;
  #totals = { added: 0, removed: 0, modified: 0 };

  constructor(lines: number = DRIFT_LINES_MAX, bytes: number = DRIFT_BYTES_MAX) {
    this.#lines = lines;
    this.#bytes = bytes;
  }

  add(drift: Drift): void {
    this.#totals[drift.change]++;
    const rank = driftClass(drift);
    if (rank >= this.#closed) return;
    const bytes = jsonBytes(drift);
    this.#classes[rank]!.push({ drift, bytes });
    this.#count++;
    this.#size += bytes;
    while (this.#count > this.#lines || this.#size > this.#bytes) {
      const last = this.#classes.findLastIndex((list) => list.length > 0);
      this.#size -= this.#classes[last]!.pop()!.bytes;
      this.#count--;
      this.#closed = last;
    }
  }

  /** What was kept, in `comparePaths` order. */
  list(): Drift[] {
    return this.#classes
      .flat()
      .map(({ drift }) => drift)
      .sort((a, b) => comparePaths(a.path, b.path));
  }

  /** Totals by kind if something was left out, else null. */
  truncated(): { added: number; removed: number; modified: number } | null {
    return this.#closed === Infinity ? null : { ...this.#totals };
  }
}

function driftClass(drift: Drift): 0 | 1 | 2 | 3 {
  const sides: Facts[] =
    drift.change === 'modified' ? [drift.expected, drift.actual] : ['actual' in drift ? drift.actual : drift.expected];
  if (sides.some((facts) => facts.type === 'file' && (facts.mode & 0o6000) !== 0)) return 0;
  if (sides.some((facts) => facts.type === 'file' && (facts.mode & 0o111) !== 0)) return 1;
  if (sides.some((facts) => facts.capability !== undefined)) return 2;
  return 3;
}

const encoder = new TextEncoder();
const jsonBytes = (drift: Drift): number => encoder.encode(JSON.stringify(driftJson(drift))).length + 1;

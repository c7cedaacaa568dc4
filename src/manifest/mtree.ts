/**
 * The canonical texts of a tree (docs/manifest.md, rules 1 to 4): the main text, mtree(5) in pure BSD keys, and
 * the extra text for what no mtree tool reads faithfully. What this file would not write, it refuses to read.
 */
import { fromBase64 } from '#src/bytes.ts';
import { BootproofError } from '#src/error.ts';
import { comparePaths, treeOf, type Entry, type EntryType } from './entry.ts';
import { unvis, vis } from './vis.ts';

export class MtreeError extends BootproofError<'MTREE_SYNTAX' | 'MTREE_ORDER' | 'EXTRA_SYNTAX'> {}

/** What stands before the first tree in the main text. */
export const MTREE_HEAD = '#mtree\n. type=dir\n';

const TYPE_WORDS: Record<EntryType, string> = {
  dir: 'dir',
  file: 'file',
  symlink: 'link',
  char: 'char',
  block: 'block',
  fifo: 'fifo',
  socket: 'socket',
};

const octal = (mode: number): string => mode.toString(8).padStart(4, '0');

/** One line of the main text, with its LF. A file without digest is a secret in the comparison text. */
export function mainLine(entry: Entry): string {
  const head = `.${vis(entry.path)} type=${TYPE_WORDS[entry.type]}`;
  const owner = ` uid=${entry.uid} gid=${entry.gid}`;
  if (entry.type === 'symlink') return `${head}${owner} link=${vis(entry.link ?? '')}\n`;
  const content =
    entry.type !== 'file' || entry.sha256 === undefined ? '' : ` size=${entry.size} sha256digest=${entry.sha256}`;
  return `${head} mode=${octal(entry.mode)}${owner}${content}\n`;
}

/** The line of the extra text for one path, or '' where it has none. */
export function extraLine(entry: Entry): string {
  let out = '';
  if (entry.capability !== undefined) out += `.${vis(entry.path)}\tsecurity.capability=0s${entry.capability}\n`;
  if (entry.device !== undefined) out += `.${vis(entry.path)}\tdevice=${entry.device}\n`;
  return out;
}

/** A tree's part of the main text; entries in `comparePaths` order. */
export function mainText(entries: Iterable<Entry>): string {
  let out = '';
  for (const entry of entries) out += mainLine(entry);
  return out;
}

/** A tree's part of the extra text; entries in `comparePaths` order. */
export function extraText(entries: Iterable<Entry>): string {
  let out = '';
  for (const entry of entries) out += extraLine(entry);
  return out;
}

const NUMBER = '(0|[1-9][0-9]*)';
const LINE = new RegExp(
  `^\\.(/[!-~]+) type=(dir|file|link|char|block|fifo|socket)(?: mode=([0-7]{4}))? uid=${NUMBER} gid=${NUMBER}` +
    `(?: size=${NUMBER} sha256digest=([0-9a-f]{64}))?(?: link=([!-~]*))?$`,
);

/** One line of the main text, without its LF; undefined where it has another form. Whether it is canonical, `parseTexts` tells. */
export function parseMainLine(line: string): Entry | undefined {
  const match = LINE.exec(line);
  if (match === null) return undefined;
  const [, path = '', word = '', mode, uid, gid, size, sha256, link] = match;
  const type = word === 'link' ? 'symlink' : (word as EntryType);
  return {
    path: unvis(path),
    type,
    mode: mode === undefined ? 0 : Number.parseInt(mode, 8),
    uid: Number(uid),
    gid: Number(gid),
    ...(sha256 === undefined ? {} : { size: Number(size), sha256 }),
    ...(link === undefined ? {} : { link: unvis(link) }),
  };
}

/**
 * Reads both texts of one tree back.
 * @throws {MtreeError} with the line number for every text that `mainText` and `extraText` would not have written.
 */
export function parseTexts(main: string, extra: string): Entry[] {
  const entries: Entry[] = [];
  let number = 0;
  for (const line of lines(main, 'MTREE_SYNTAX')) {
    number++;
    const entry = parseMainLine(line);
    if (entry === undefined || treeOf(entry.path) === undefined || mainLine(entry) !== `${line}\n`)
      throw new MtreeError('MTREE_SYNTAX', `line ${number} is not canonical: ${JSON.stringify(line.slice(0, 200))}`);
    const last = entries.at(-1);
    if (last !== undefined && comparePaths(last.path, entry.path) >= 0)
      throw new MtreeError('MTREE_ORDER', `line ${number} is out of order: ${JSON.stringify(line.slice(0, 200))}`);
    entries.push(entry);
  }
  return extra === '' ? entries : withExtra(entries, extra);
}

const EXTRA = new RegExp(
  `^\\.(/[!-~]+)\\t(?:security\\.capability=0s([A-Za-z0-9+/]*={0,2})|device=(${NUMBER}:${NUMBER}))$`,
);

function withExtra(entries: Entry[], extra: string): Entry[] {
  const out = [...entries];
  let at = 0;
  let number = 0;
  for (const line of lines(extra, 'EXTRA_SYNTAX')) {
    number++;
    const match = EXTRA.exec(line);
    const path = match?.[1] === undefined ? undefined : unvis(match[1]);
    if (path !== undefined) while (at < out.length && comparePaths(out[at]!.path, path) < 0) at++; // eslint-disable-line no-unmodified-loop-condition
    const entry = out[at];
    if (match === null || entry === undefined || entry.path !== path)
      throw new MtreeError(
        'EXTRA_SYNTAX',
        `extra line ${number} has no place in the tree: ${JSON.stringify(line.slice(0, 200))}`,
      );
    if (match[2] !== undefined) fromBase64(match[2]);
    out[at] = match[2] === undefined ? { ...entry, device: match[3]! } : { ...entry, capability: match[2] };
  }
  if (extraText(out) !== extra) throw new MtreeError('EXTRA_SYNTAX', 'extra text is not in canonical form');
  return out;
}

function* lines(text: string, code: 'MTREE_SYNTAX' | 'EXTRA_SYNTAX'): Generator<string> {
  let start = 0;
  while (start < text.length) {
    const end = text.indexOf('\n', start);
    if (end < 0) throw new MtreeError(code, 'the last line has no end');
    yield text.slice(start, end);
    start = end + 1;
  }
}

/** What a scan found, for programs and for people. */
import { styleText } from 'node:util';
import type { ByteString } from '#src/bytes.ts';
import { isWithin } from '#src/drift/compare.ts';
import { attributesOf, driftJson, totalsOf, type Drift, type Hole, type Secret } from '#src/drift/drift.ts';
import { comparePaths, TREES, treeOf, type Facts, type TreeName } from '#src/manifest/entry.ts';
import { nameJson, type FactsJson } from '#src/manifest/json.ts';
import { printable, printableText, type Io, type Stream } from '#src/terminal.ts';
import { capabilityText } from './capability.ts';
import type { Expected } from './manifestfile.ts';
import type { Scan } from './scan.ts';

/** Whether a difference was seen: drift of whatever kind, or a secret that is not the image's. */
export function isDifferent({ drift, secrets, truncated }: Scan): boolean {
  return drift.length > 0 || truncated !== null || secrets.some(({ state }) => state !== 'same');
}

/** Whether all of both trees could be judged. */
export function isComplete({ trees }: Scan, expected: Expected | undefined): boolean {
  return TREES.every(
    (tree) =>
      trees[tree].main !== null && trees[tree].extra !== null && (expected?.digests[tree].extra ?? null) !== null,
  );
}

/** The document of `agent scan --json`. */
export function scanJson(scan: Scan, expected: Expected | undefined) {
  const tree = (name: TreeName) => ({
    main: { digest: scan.trees[name].main, expected: expected?.digests[name].main ?? null },
    extra: { digest: scan.trees[name].extra, expected: expected?.digests[name].extra ?? null },
    entries: scan.trees[name].entries,
    holes: scan.trees[name].holes.map(({ path, kind, detail }) => ({ ...nameJson('path', path), kind, detail })),
    holesCapped: scan.trees[name].holesCapped,
  });
  return {
    image: expected?.image ?? null,
    rule: expected?.rule ?? null,
    complete: isComplete(scan, expected),
    trees: { usr: tree('usr'), etc: tree('etc') },
    drift: scan.drift.map(driftTold),
    truncated: scan.truncated,
    secrets: scan.secrets.map(({ path, state }) => ({ ...nameJson('path', path), state })),
    accounts: scan.accounts,
    notes: scan.notes,
    stats: scan.stats,
  };
}

/** A line of drift under the names of its attributes; how manifests spell device and capability is no part of this document. */
function driftTold(drift: Drift) {
  const { expected, actual, ...line } = driftJson(drift);
  const facts = ({ rdev, xattrs, ...rest }: FactsJson) => ({
    ...rest,
    ...(rdev === undefined ? {} : { device: rdev }),
    ...(xattrs === undefined ? {} : { capability: xattrs['security.capability'] }),
  });
  return {
    ...line,
    ...(expected === undefined ? {} : { expected: facts(expected) }),
    ...(actual === undefined ? {} : { actual: facts(actual) }),
  };
}

type Style = Parameters<typeof styleText>[0];
type Paint = (style: Style, text: string) => string;

/** Colours text for a stream, if it is a terminal and nobody asked for plain text (no-color.org). */
export function painter(stream: Stream, env: Io['env']): Paint {
  const colour = stream.isTTY && !env['NO_COLOR'] && env['TERM'] !== 'dumb';
  return (style, text) => (colour ? styleText(style, text, { validateStream: false }) : text);
}

/** `12.3 MiB`; below 1 KiB the number of bytes. */
export function sizeText(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  const units = ['KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];
  let value = bytes / 1024;
  let unit = 0;
  for (; value >= 1023.95 && unit < units.length - 1; unit++) value /= 1024;
  return `${value.toFixed(1)} ${units[unit]}`;
}

/** One thing to say of a path; some stand for all that is below it. */
type Line = {
  readonly path: ByteString;
  readonly drift?: Drift;
  readonly secret?: Secret;
  readonly hole?: Hole;
  below: number;
};

/** The tree of changes, line by line, with totals at its end. `all` also lists what came or went with its folder. */
export function* scanText(scan: Scan, expected: Expected | undefined, all: boolean, paint: Paint): Generator<string> {
  for (const tree of TREES) {
    const lines = linesOf(scan, tree, all);
    if (lines.length > 0) yield* treeLines(lines, paint);
  }
  yield* summary(scan, expected, paint);
}

function linesOf(scan: Scan, tree: TreeName, all: boolean): Line[] {
  const lines: Line[] = [];
  for (const drift of scan.drift) {
    if (treeOf(drift.path) !== tree) continue;
    const last = lines.at(-1);
    const came = last?.drift?.change === drift.change && drift.change !== 'modified' && isWithin(drift.path, last.path);
    if (came && !all) last.below++;
    else lines.push({ path: drift.path, drift, below: 0 });
  }
  const told = new Map(lines.map((line, index) => [line.path, index]));
  // A secret that came or went is a line of drift; one whose content differs need not be.
  for (const secret of scan.secrets) {
    if (secret.state !== 'differs' || treeOf(secret.path) !== tree) continue;
    const index = told.get(secret.path);
    if (index === undefined) lines.push({ path: secret.path, secret, below: 0 });
    else lines[index] = { ...lines[index]!, secret };
  }
  for (const hole of scan.trees[tree].holes) {
    const index = told.get(hole.path);
    if (index === undefined) lines.push({ path: hole.path, hole, below: 0 });
    else lines[index] = { ...lines[index]!, hole };
  }
  return lines.sort((a, b) => comparePaths(a.path, b.path));
}

/** Folders on the way to a line are said once, and what lies below them is set in. */
function* treeLines(lines: readonly Line[], paint: Paint): Generator<string> {
  let open: string[] = []; // the folders that stand above, from the tree's own
  for (const line of lines) {
    const names = line.path.slice(1).split('/');
    const folders = names.slice(0, -1);
    let same = 0;
    while (same < open.length && same < folders.length && open[same] === folders[same]) same++;
    for (let depth = same; depth < folders.length; depth++)
      yield `${'  '.repeat(depth)}${paint('dim', `${depth === 0 ? '/' : ''}${printable(folders[depth]!)}/`)}\n`;
    open = [...folders, names.at(-1)!];
    const name = `${folders.length === 0 ? '/' : ''}${printable(names.at(-1)!)}`;
    yield* lineText(line, '  '.repeat(folders.length), name, paint);
  }
}

function* lineText(
  { drift, secret, hole, below }: Line,
  indent: string,
  name: string,
  paint: Paint,
): Generator<string> {
  const more = below === 0 ? '' : paint('dim', `  and ${below} below`);
  const unread = hole === undefined ? '' : paint('magenta', `${hole.kind}: ${printableText(hole.detail)}`);
  if (drift === undefined && hole !== undefined) yield `${indent}${paint('magenta', `? ${name}`)}  ${unread}\n`;
  else if (drift?.change === 'added')
    yield `${indent}${paint('green', `+ ${name}`)}  ${factsText(drift.actual)}${more}${unread === '' ? '' : `  ${unread}`}\n`;
  else if (drift?.change === 'removed')
    yield `${indent}${paint('red', `- ${name}`)}  ${factsText(drift.expected)}${more}\n`;
  else {
    yield `${indent}${paint('yellow', `~ ${name}`)}${unread === '' ? '' : `  ${unread}`}\n`;
    const rows = drift === undefined ? [] : attributesOf(drift).map((attribute) => row(drift, attribute));
    if (secret !== undefined) rows.push(['content', 'a secret', 'differs']);
    const width = Math.max(...rows.map(([, before]) => before.length));
    for (const [what, before, after] of rows)
      yield `${indent}    ${what.padEnd(10)} ${paint('red', before.padEnd(width))}  ${paint('green', after)}\n`;
  }
}

function row(drift: Drift, attribute: ReturnType<typeof attributesOf>[number]): [string, string, string] {
  const side = (facts: Facts | undefined): string => {
    if (facts === undefined) return '';
    if (attribute === 'mode') return facts.type === 'symlink' ? '-' : octal(facts.mode);
    if (attribute === 'link') return facts.link === undefined ? '-' : printable(facts.link);
    if (attribute === 'sha256') return facts.sha256 === undefined ? '-' : `${facts.sha256.slice(0, 16)}…`;
    if (attribute === 'capability') return facts.capability === undefined ? '-' : capabilityText(facts.capability);
    return String(facts[attribute] ?? '-');
  };
  const { expected, actual } = drift as { expected?: Facts; actual?: Facts };
  return [attribute, side(expected), side(actual)];
}

const octal = (mode: number): string => mode.toString(8).padStart(4, '0');

function factsText(facts: Facts): string {
  const { type, mode, uid, gid, size, link, device, capability } = facts;
  return [
    type,
    ...(type === 'symlink' ? [] : [octal(mode)]),
    `${uid}:${gid}`,
    ...(size === undefined ? [] : [sizeText(size)]),
    ...(link === undefined ? [] : [`-> ${printable(link)}`]),
    ...(device === undefined ? [] : [device]),
    ...(capability === undefined ? [] : [capabilityText(capability)]),
  ].join(' ');
}

/** How many files were judged otherwise than by reading them; nothing where none was. */
export function waysText({ stats: { cached, measured, files } }: Scan): string {
  const again = cached === null || cached === 0 ? '' : `, ${cached} of ${files} files not read again`;
  return measured === 0 ? again : `${again}, ${measured} of ${files} measured by the kernel`;
}

function* summary(scan: Scan, expected: Expected | undefined, paint: Paint): Generator<string> {
  const totals = scan.truncated ?? totalsOf(scan.drift);
  const secrets = scan.secrets.filter(({ state }) => state === 'differs').length;
  const holes = TREES.reduce((sum, tree) => sum + scan.trees[tree].holes.length, 0);
  const capped = TREES.some((tree) => scan.trees[tree].holesCapped);
  const { files, bytes, seconds } = scan.stats;
  yield `${files} files, ${sizeText(bytes)}, ${seconds.toFixed(1)} s${waysText(scan)}: `;
  if (expected === undefined) yield paint('magenta', 'compared with nothing');
  else if (isDifferent(scan))
    yield paint(
      'yellow',
      `${totals.added} added, ${totals.removed} removed, ${totals.modified} modified${secrets === 0 ? '' : `, ${secrets} ${secrets === 1 ? 'secret differs' : 'secrets differ'}`}`,
    );
  else if (isComplete(scan, expected)) yield paint('green', 'as the image says');
  else yield 'no difference where it could be told';
  if (holes > 0) yield paint('magenta', `; ${holes}${capped ? ' and more' : ''} could not be judged`);
  yield '\n';
  if (scan.truncated !== null)
    yield `shown are ${scan.drift.length} of them: setuid, executables and capabilities first\n`;
  if (expected === undefined)
    for (const tree of TREES)
      yield `/${tree}  ${scan.trees[tree].main ?? 'unknown'}  extra ${scan.trees[tree].extra ?? 'unknown'}\n`;
}

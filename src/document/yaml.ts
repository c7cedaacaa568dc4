/**
 * YAML as our documents use it (docs/policy.md, section 1): string keys, no anchors, no tags, no directives, each
 * key once; everything that YAML only warns of is an error. What is left is JSON with comments, and every value knows its place.
 */
import {
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  parseAllDocuments,
  parseDocument,
  type Document,
  type Node,
} from 'yaml';
import { BootproofError } from '#src/error.ts';
import { YAML_BYTES_MAX, YAML_DEPTH_MAX } from '#src/limits.ts';

export type Place = { readonly line: number; readonly column: number };
/** One thing that is wrong, where, and what was meant. */
export type Problem = Place & { readonly message: string };

/** A document of ours that was refused: every problem with its place, and all of them in the message. */
export class DocumentError extends BootproofError<'DOCUMENT_SYNTAX' | 'DOCUMENT_INVALID' | 'DOCUMENT_LIMIT'> {
  readonly file: string;
  readonly problems: readonly Problem[];
  /** The message line by line: a problem each, which may be escaped alone. */
  readonly lines: readonly string[];

  constructor(code: DocumentError['code'], file: string, problems: readonly Problem[]) {
    const shown = problems.slice(0, 20).map((p) => `${file}:${p.line}:${p.column}: ${p.message}`);
    if (problems.length > shown.length) shown.push(`… and ${problems.length - shown.length} more`);
    super(code, shown.join('\n'));
    this.file = file;
    this.problems = problems;
    this.lines = shown;
  }
}

export type YamlDocument = {
  readonly value: unknown;
  /** Where the value at a path stands, or the nearest thing above it that is there. */
  placeOf(path: readonly PropertyKey[]): Place;
  /** Where a key of the map at a path stands. */
  placeOfKey(path: readonly PropertyKey[], key: string): Place;
};

const START: Place = { line: 1, column: 1 };

/** A text that is one document. @throws {DocumentError} DOCUMENT_SYNTAX or DOCUMENT_LIMIT. */
export function readYaml(text: string, file: string): YamlDocument {
  return read(text, file, (lineCounter) => [parseDocument(text, { ...OPTIONS, lineCounter })])[0]!;
}

/**
 * A text of any number of documents with `---` between them; those in which nothing stands, like a licence before the first `---`, are
 * left out. @throws {DocumentError} DOCUMENT_SYNTAX or DOCUMENT_LIMIT.
 */
export function readYamlDocuments(text: string, file: string): YamlDocument[] {
  const all = read(text, file, (lineCounter) => {
    const parsed = parseAllDocuments(text, { ...OPTIONS, lineCounter });
    return 'empty' in parsed ? [] : parsed;
  });
  return all.filter(({ value }) => value !== null);
}

// The parser's own check of unique keys compares each with each; ours below is linear.
const OPTIONS = { uniqueKeys: false, stringKeys: true, prettyErrors: false } as const;

function read(text: string, file: string, parse: (lines: LineCounter) => readonly Document[]): YamlDocument[] {
  if (text.length > YAML_BYTES_MAX)
    throw new DocumentError('DOCUMENT_LIMIT', file, [
      { ...START, message: `${text.length} characters; the limit is ${YAML_BYTES_MAX}` },
    ]);
  // What is opened and opened costs the parser the square of it.
  const opened = TOO_DEEP.exec(text);
  if (opened !== null)
    throw new DocumentError('DOCUMENT_SYNTAX', file, [
      { line: text.slice(0, opened.index).split('\n').length, column: 1, message: 'nested too deeply' },
    ]);
  const lines = new LineCounter();
  const place = (offset: number): Place => {
    const { line, col } = lines.linePos(offset);
    return line === 0 ? START : { line, column: col };
  };
  const problems: Problem[] = [];
  const documents = withoutOverflow(file, () => parse(lines));
  for (const document of documents) {
    const before = problems.length;
    problems.push(
      ...[...document.errors, ...document.warnings].map((error) => ({
        ...place(error.pos[0]),
        message: DEEP.test(error.message) ? 'nested too deeply' : error.message,
      })),
    );
    if (document.directives?.yaml.explicit) problems.push({ ...START, message: 'a %YAML directive has no place here' });
    if (problems.length === before) inspect(document.contents, place, problems);
  }
  if (problems.length > 0) throw new DocumentError('DOCUMENT_SYNTAX', file, problems);
  return documents.map((document) => placed(document, place));
}

function placed(document: Document, place: (offset: number) => Place): YamlDocument {
  const nodeAt = (path: readonly PropertyKey[]): Node | null => {
    let node: Node | null = document.contents;
    for (const step of path) {
      const next: unknown = isMap(node) || isSeq(node) ? node.get(step, true) : undefined;
      if (!isNode(next)) return node;
      node = next;
    }
    return node;
  };
  return {
    value: document.toJS({ maxAliasCount: 0 }) as unknown,
    placeOf: (path) => place(nodeAt(path)?.range?.[0] ?? 0),
    placeOfKey: (path, key) => {
      const map = nodeAt(path);
      const pair = isMap(map) ? map.items.find((item) => isScalar(item.key) && item.key.value === key) : undefined;
      return place((isScalar(pair?.key) ? pair.key : map)?.range?.[0] ?? 0);
    },
  };
}

const TOO_DEEP = new RegExp(`(?:[[{]\\s*){${10 * YAML_DEPTH_MAX}}`);
// The parser turns an overflow of its stack into an error of the document.
const DEEP = /call stack/;

const isNode = (value: unknown): value is Node => isMap(value) || isSeq(value) || isScalar(value);

function withoutOverflow<T>(file: string, parse: () => T): T {
  try {
    return parse();
  } catch (cause) {
    // The parser descends by recursion, and does not catch an overflow everywhere.
    if (!(cause instanceof RangeError)) throw cause;
    throw new DocumentError('DOCUMENT_LIMIT', file, [{ ...START, message: 'nested too deeply' }]);
  }
}

/** Finds what YAML allows and we do not. */
function inspect(root: Node | null, place: (offset: number) => Place, problems: Problem[]): void {
  const todo: { node: unknown; depth: number }[] = [{ node: root, depth: 0 }];
  for (let step = todo.pop(); step !== undefined; step = todo.pop()) {
    const { node, depth } = step;
    if (node === null || node === undefined) continue;
    if (isAlias(node)) {
      problems.push({ ...place(node.range?.[0] ?? 0), message: 'an alias (*name): write the value out' });
      continue;
    }
    if (!isNode(node)) continue;
    const at = (message: string) => problems.push({ ...place(node.range?.[0] ?? 0), message });
    if (depth > YAML_DEPTH_MAX) {
      at(`nested more than ${YAML_DEPTH_MAX} levels deep`);
      continue;
    }
    if (node.anchor !== undefined) at('an anchor (&name): write the value out where it is used');
    if (node.tag !== undefined) at(`a tag (${node.tag}): quote what must be text`);
    if (isSeq(node)) for (const item of node.items) todo.push({ node: item, depth: depth + 1 });
    if (isMap(node)) {
      const seen = new Map<unknown, Place>();
      for (const { key, value } of node.items) {
        if (isScalar(key)) {
          const first = seen.get(key.value);
          const here = place(key.range?.[0] ?? 0);
          if (first !== undefined)
            problems.push({ ...here, message: `${quote(key.value)} stands here twice; first in line ${first.line}` });
          else seen.set(key.value, here);
        }
        todo.push({ node: key, depth: depth + 1 }, { node: value, depth: depth + 1 });
      }
    }
  }
  problems.sort((a, b) => a.line - b.line || a.column - b.column);
}

const quote = (value: unknown): string => JSON.stringify(String(value).slice(0, 100));

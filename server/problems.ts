/** What docs/errors.md says of each code, read once: what `/problems/CODE`, the type of a problem document, leads to. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** One row about a code. A code may stand in several tables: each says it of another thing. */
export type Explained = {
  /** Heading of the section. */
  readonly section: string;
  /** The row's other cells under their column's heading, in order; empty ones are left out. Text with `code` in backticks. */
  readonly cells: readonly { readonly name: string; readonly text: string }[];
};

/** Where a clone keeps it. */
export const ERRORS_FILE = join(import.meta.dirname, '..', 'docs', 'errors.md');

/** Every code that a table explains. */
export function explanationsIn(markdown: string): ReadonlyMap<string, readonly Explained[]> {
  const found = new Map<string, Explained[]>();
  let section = '';
  let columns: string[] | undefined;
  for (const line of markdown.split('\n')) {
    if (line.startsWith('#')) section = line.replace(/^#+ */, '');
    if (!line.startsWith('|')) {
      columns = undefined;
      continue;
    }
    const cells = cellsOf(line);
    if (columns === undefined) columns = cells;
    else if (!cells.every((cell) => /^:?-+:?$/.test(cell))) {
      const about = cells.flatMap((text, at) => (at === 0 || text === '' ? [] : [{ name: columns![at] ?? '', text }]));
      for (const [code] of cells[0]!.matchAll(/[A-Z][A-Z0-9_]+/g))
        found.set(code, [...(found.get(code) ?? []), { section, cells: about }]);
    }
  }
  return found;
}

const cellsOf = (line: string): string[] =>
  line
    .replace(/^\||\|\s*$/g, '')
    .split(/(?<!\\)\|/)
    .map((cell) => cell.trim().replaceAll('\\|', '|'));

/** Read at the first question. Empty where the file is not there: a code then says what it says. */
let known: ReadonlyMap<string, readonly Explained[]> | undefined;
export function explanations(): ReadonlyMap<string, readonly Explained[]> {
  if (known === undefined) {
    let text = '';
    try {
      text = readFileSync(ERRORS_FILE, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
    known = explanationsIn(text);
  }
  return known;
}

/** Tables for people: columns as wide as they need, the last one cut to the terminal; what came from outside cannot move the cursor. */
import { shownText, type Io } from '#src/terminal.ts';
import { painter } from '#agent/present.ts';

export type Cell =
  | string
  | { readonly text: string; readonly style: 'red' | 'yellow' | 'green' | 'magenta' | 'dim' | 'bold' };

/** Prints a table; on a terminal with colours, and cut to its width. On a pipe nothing is cut. */
export async function printTable(head: readonly string[], rows: readonly (readonly Cell[])[], io: Io): Promise<void> {
  const paint = painter(io.stdout, io.env);
  const textOf = (cell: Cell): string => shownText(typeof cell === 'string' ? cell : cell.text);
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => textOf(row[column]!).length)));
  const line = (cells: readonly Cell[], style?: 'bold'): string => {
    let out = '';
    let at = 0;
    for (const [column, cell] of cells.entries()) {
      const last = column === cells.length - 1;
      const text = textOf(cell);
      const room = io.stdout.isTTY ? Math.max(8, io.stdout.columns - at) : Infinity;
      const shown = text.length > room ? `${text.slice(0, room - 1)}…` : text;
      const painted = style ?? (typeof cell === 'string' ? undefined : cell.style);
      out += painted === undefined ? shown : paint(painted, shown);
      if (!last) out += ' '.repeat(Math.max(0, widths[column]! - shown.length) + 2);
      at += widths[column]! + 2;
    }
    return `${out.trimEnd()}\n`;
  };
  await io.stdout.write(line(head, 'bold') + rows.map((row) => line(row)).join(''));
}

/** Pairs, one a line; a value of several lines is a list. */
export async function printFacts(facts: readonly (readonly [string, Cell | undefined])[], io: Io): Promise<void> {
  const paint = painter(io.stdout, io.env);
  const shown = facts.filter((fact): fact is readonly [string, Cell] => fact[1] !== undefined);
  const width = Math.max(...shown.map(([name]) => name.length));
  const lines = shown.map(([name, value]) => {
    const text = shownText(typeof value === 'string' ? value : value.text);
    return `${paint('dim', name.padEnd(width))}  ${typeof value === 'string' ? text : paint(value.style, text)}\n`;
  });
  await io.stdout.write(lines.join(''));
}

const VERDICT_STYLE: Readonly<Record<string, 'red' | 'yellow' | 'green' | 'magenta' | 'dim'>> = {
  compliant: 'green',
  intact: 'green',
  trusted: 'green',
  current: 'green',
  drifted: 'red',
  masked: 'red',
  unsigned: 'magenta',
  rejected: 'magenta',
  unverifiable: 'yellow',
  late: 'yellow',
  outdated: 'yellow',
  silent: 'yellow',
  critical: 'red',
  high: 'red',
  medium: 'yellow',
};

/** A verdict, answer or severity in its colour; the word says it without. */
export function word(text: string): Cell {
  const style = VERDICT_STYLE[text];
  return style === undefined ? text : { text, style };
}

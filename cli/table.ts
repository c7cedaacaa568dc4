/** Tables for people: columns as wide as they need, the last one cut to the terminal; what came from outside cannot move the cursor. */
import { shownText, type Io } from '#src/terminal.ts';
import { painter } from '#agent/present.ts';

export type Cell =
  | string
  | { readonly text: string; readonly style: 'red' | 'yellow' | 'green' | 'magenta' | 'dim' | 'bold' };

/** The last column tells why; with less room than this it goes to a line of its own. */
const LAST_MIN = 24;
/** Narrower than this a column says nothing: of an id the beginning, of a time the day. */
const COLUMN_MIN = 10;

/** Prints a table; on a terminal with colours, and so that no row is wider than it. On a pipe nothing is cut. */
export async function printTable(head: readonly string[], rows: readonly (readonly Cell[])[], io: Io): Promise<void> {
  const paint = painter(io.stdout, io.env);
  const textOf = (cell: Cell): string => shownText(typeof cell === 'string' ? cell : cell.text);
  const needed = head.map((title, column) => Math.max(title.length, ...rows.map((row) => textOf(row[column]!).length)));
  const { widths, below } = fitted(needed, io.stdout.isTTY ? io.stdout.columns : Infinity);
  const line = (cells: readonly Cell[], style?: 'bold'): string => {
    let out = '';
    for (const [column, cell] of cells.entries()) {
      const last = column === cells.length - 1;
      const text = textOf(cell);
      const shown = cut(text, widths[column]!);
      const painted = style ?? (typeof cell === 'string' ? undefined : cell.style);
      if (last && below) out = `${out.trimEnd()}\n  `;
      out += painted === undefined ? shown : paint(painted, shown);
      if (!last) out += ' '.repeat(widths[column]! - shown.length + 2);
    }
    return `${out.trimEnd()}\n`;
  };
  await io.stdout.write(line(head, 'bold') + rows.map((row) => line(row)).join(''));
}

const cut = (text: string, room: number): string => (text.length > room ? `${text.slice(0, room - 1)}…` : text);

/** Widths of columns for a terminal; `below`: the last one stands on a line of its own, as wide as there is room. */
function fitted(needed: readonly number[], columns: number): { readonly widths: number[]; readonly below: boolean } {
  const widths = [...needed];
  const last = widths.length - 1;
  const total = () => widths.reduce((sum, width) => sum + width + 2, -2);
  if (total() <= columns) return { widths, below: false };
  const narrow = (room: number) => {
    // The widest first: ids and times, whose beginnings say enough, then names.
    for (const least of [COLUMN_MIN, 1])
      while (total() > room) {
        const widest = widths.slice(0, last).reduce((at, width, column) => (width > widths[at]! ? column : at), 0);
        if (last === 0 || widths[widest]! <= least) break;
        widths[widest]!--;
      }
  };
  widths[last] = Math.min(needed[last]!, LAST_MIN);
  // With a whole line for the last, the others keep what they need, as far as that goes.
  const others = needed.slice(0, last).reduce((sum, width) => sum + Math.min(width, COLUMN_MIN + 2) + 2, 0);
  if (others + widths[last] > columns && last > 0) {
    widths[last] = 0;
    narrow(columns + 2);
    widths[last] = Math.max(1, columns - 2);
    return { widths, below: true };
  }
  narrow(columns);
  widths[last] = Math.max(1, columns - (total() - widths[last]));
  return { widths, below: false };
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

/** Reads tables that we or a spreadsheet wrote: RFC 4180, with or without a byte order mark, line ends of either kind. */
import { BootproofError } from '#src/error.ts';

export class CsvReadError extends BootproofError</** A quote that does not end, or stands where none may; a row of more cells than asked for. */
'CSV_SYNTAX'> {}

/**
 * Rows of cells; empty lines are left out. Searched for and never matched as a whole: a pattern over a cell of some megabytes would
 * need more stack than there is. `cellsMax`: of one row. @throws {CsvReadError} CSV_SYNTAX with the number of the line.
 */
export function* parseCsv(text: string, cellsMax = Infinity): Generator<string[]> {
  const plain = /[^",\r\n]*/y;
  let at = text.startsWith('\uFEFF') ? 1 : 0;
  let line = 1;
  let row: string[] = [];
  while (at < text.length || row.length > 0) {
    const began = at;
    if (text[at] === '"') {
      let cell = '';
      let from = at + 1;
      for (;;) {
        const quote = text.indexOf('"', from);
        if (quote < 0) throw wrong(line);
        // A doubled quote stands for one; any other ends the cell.
        const isDoubled = text[quote + 1] === '"';
        cell += text.slice(from, isDoubled ? quote + 1 : quote);
        at = quote + 1;
        if (!isDoubled) break;
        from = quote + 2;
      }
      row.push(cell);
    } else {
      plain.lastIndex = at;
      row.push(plain.exec(text)![0]);
      at = plain.lastIndex;
    }
    if (row.length > cellsMax)
      throw new CsvReadError('CSV_SYNTAX', `line ${line}: a row of more than ${cellsMax} cells`);
    if (text[at] === ',') {
      line += breaksIn(text, began, at++);
      continue;
    }
    if (at < text.length) {
      if (text[at] === '\r') at++;
      if (text[at++] !== '\n') throw wrong(line);
    }
    line += breaksIn(text, began, at);
    if (row.length > 1 || row[0] !== '') yield row;
    row = [];
  }
}

function breaksIn(text: string, from: number, to: number): number {
  let breaks = 0;
  for (let at = from; at < to; at++) if (text.charCodeAt(at) === 10) breaks++;
  return breaks;
}

const wrong = (line: number): CsvReadError =>
  new CsvReadError('CSV_SYNTAX', `line ${line}: a quote that does not end, or does not stand around the whole cell`);

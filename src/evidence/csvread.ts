/** Reads tables that we or a spreadsheet wrote: RFC 4180, with or without a byte order mark, line ends of either kind. */
import { BootproofError } from '#src/error.ts';

export class CsvReadError extends BootproofError</** A quote that does not end, or stands where none may. */
'CSV_SYNTAX'> {}

/** Rows of cells; empty lines are left out. @throws {CsvReadError} CSV_SYNTAX with the number of the line. */
export function* parseCsv(text: string): Generator<string[]> {
  // What stands before a cell's end: quoted with doubled quotes, or plain without any.
  const cell = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|$)/y;
  let line = 1;
  let row: string[] = [];
  cell.lastIndex = text.startsWith('\uFEFF') ? 1 : 0;
  while (cell.lastIndex < text.length || row.length > 0) {
    const at = cell.lastIndex;
    const match = cell.exec(text);
    if (match === null)
      throw new CsvReadError(
        'CSV_SYNTAX',
        `line ${line}: a quote that does not end, or does not stand around the whole cell`,
      );
    const [whole, quoted, plain = '', end] = match;
    row.push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    for (const char of whole) if (char === '\n') line++;
    if (end === ',') continue;
    if (row.length > 1 || row[0] !== '') yield row;
    row = [];
    if (at + whole.length >= text.length) return;
  }
}

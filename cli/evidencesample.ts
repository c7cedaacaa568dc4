/**
 * `bootproof evidence sample`: draws hosts from a bundle, or rows from any table, so that anybody can draw the same again (docs/evidence.md 3.4).
 */
import { readFile } from 'node:fs/promises';
import { HostFact } from '#src/evidence/facts.ts';
import { BundleReader } from '#src/evidence/reader.ts';
import { CSV_BOM, csvRow, unguarded } from '#src/evidence/csv.ts';
import { parseCsv } from '#src/evidence/csvread.ts';
import { Draw, SAMPLE_METHOD, type Drawn } from '#src/evidence/sample.ts';
import { openZip, type ZipSource } from '#src/evidence/zip.ts';
import { SAMPLE_TABLE_BYTES_MAX } from '#src/limits.ts';
import { EXIT, printableText, UsageError, type Exit, type Io } from '#src/terminal.ts';
import { writeJson } from './output.ts';

export type SampleOptions = {
  readonly seed: string;
  readonly size: string;
  readonly column?: string;
  readonly json?: boolean;
};

type Table = {
  readonly heads: readonly string[];
  readonly drawn: readonly Drawn<readonly string[]>[];
  readonly from: number;
};

/** `openFile` is how the room opens a bundle. @throws {UsageError | ZipError | BundleError | CsvReadError} */
export async function sample(
  file: string,
  { seed, size, column, json }: SampleOptions,
  openFile: (file: string) => Promise<ZipSource & { close(): Promise<void> }>,
  io: Io,
): Promise<Exit> {
  if (seed === '')
    throw new UsageError('--seed is empty: choose one that the other side does not, a date and a dice throw will do');
  if (!/^[1-9][0-9]{0,8}$/.test(size)) throw new UsageError(`--size ${printableText(size)}: expected a number of rows`);
  const source = await openFile(file);
  let table: Table;
  try {
    const begin = source.size < 4 ? '' : Buffer.from(await source.read(0, 4)).toString('latin1');
    if (begin.startsWith('PK')) {
      if (column !== undefined)
        throw new UsageError('--column is for tables; hosts of a bundle are drawn by their ids');
      table = await fromBundle(source, seed, Number(size));
    } else {
      if (source.size > SAMPLE_TABLE_BYTES_MAX)
        throw new UsageError(
          `${printableText(file)} has ${source.size} bytes; a table may have ${SAMPLE_TABLE_BYTES_MAX}`,
        );
      table = fromTable(await readFile(file, 'utf8'), file, column, seed, Number(size));
    }
  } finally {
    await source.close();
  }
  const { heads, drawn, from } = table;
  if (json === true)
    await writeJson({ method: SAMPLE_METHOD, seed, from, drawn: drawn.map(({ id, order }) => ({ id, order })) }, io);
  else {
    await io.stdout.write(CSV_BOM + csvRow([...heads, 'drawn', 'order_sha256', 'method', 'seed']));
    for (const [index, { item, order }] of drawn.entries())
      await io.stdout.write(csvRow([...item, index + 1, order, SAMPLE_METHOD, seed]));
    await io.stderr.write(`${drawn.length} of ${from} drawn. With the same seed and list everybody draws the same.\n`);
  }
  return EXIT.ok;
}

async function fromBundle(source: ZipSource, seed: string, size: number): Promise<Table> {
  const reader = new BundleReader(await openZip(source));
  const draw = new Draw<readonly string[]>(([id]) => id!, seed, size);
  let from = 0;
  for await (const fact of reader.list('facts/hosts', HostFact))
    if (fact.inScope) {
      from++;
      draw.offer([fact.host, fact.name, fact.group ?? '']);
    }
  return { heads: ['host', 'name', 'group'], drawn: draw.drawn, from };
}

function fromTable(text: string, file: string, column: string | undefined, seed: string, size: number): Table {
  const rows = parseCsv(text);
  const first = rows.next();
  if (first.done === true) throw new UsageError(`${printableText(file)} has no row: expected heads and rows`);
  const heads = first.value;
  const at = column === undefined ? 0 : heads.indexOf(column);
  if (at < 0)
    throw new UsageError(`--column ${printableText(column!)}: there are ${heads.map(printableText).join(', ')}`);
  const seen = new Set<string>();
  const draw = new Draw<readonly string[]>((row) => row[at]!, seed, size);
  for (const cells of rows) {
    const row = cells.map(unguarded);
    const id = row[at];
    if (row.length !== heads.length || id === undefined)
      throw new UsageError(
        `${printableText(file)}: row ${seen.size + 2} has ${row.length} cells, and there are ${heads.length} heads`,
      );
    // Twice in the list is twice the chance.
    if (seen.has(id))
      throw new UsageError(
        `${printableText(file)}: ${printableText(id)} stands there twice; name a column that tells rows apart with --column`,
      );
    seen.add(id);
    draw.offer(row);
  }
  return { heads, drawn: draw.drawn, from: seen.size };
}

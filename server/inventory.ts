/**
 * A list of hosts that somebody else keeps, held against the hosts that are enrolled (docs/inventory.md): what its file says, by what each row
 * matches a host, and both differences. The file is hostile until it was read; only the columns that are named are.
 */
import { setImmediate as rest } from 'node:timers/promises';
import { formatInstant, type Instant } from '#src/clock.ts';
import { nearest } from '#src/document/spelling.ts';
import { BootproofError } from '#src/error.ts';
import { CsvReadError, parseCsv } from '#src/evidence/csvread.ts';
import type { ReconciliationFact } from '#src/evidence/facts.ts';
import { INVENTORY_CELL_CHARS_MAX, INVENTORY_COLUMNS_MAX, INVENTORY_ROWS_MAX } from '#src/limits.ts';
import type { Differences, Inventory, Listed, Mapping, Matched } from './store/inventoryrecords.ts';
import { auditRef } from './store/logpayload.ts';
import type { Store } from './store/store.ts';

export class InventoryError extends BootproofError<
  /** The file is no table that can be read: quotes, encoding, rows longer than its head, none at all. */
  | 'INVENTORY_SYNTAX'
  /** A column that is named is not there, or stands there twice; none is named and none is called `name` or `hostname`. */
  | 'INVENTORY_COLUMN'
  /** More rows than are read, or more differences than a bundle's line holds. */
  | 'INVENTORY_TOO_LARGE'
  /** No list was imported from such a source, or not in this version. */
  | 'INVENTORY_UNKNOWN'
  /** So many sources that another one is likely a slip. */
  | 'INVENTORY_FULL'
> {}

/** A row: what it says under each column that is mapped; empty cells are null. */
export type Row = {
  readonly id: string | null;
  readonly name: string | null;
  readonly labels: readonly (string | null)[];
};

export type ReadList = {
  readonly rows: readonly Row[];
  readonly mapping: Mapping;
  readonly repeated: number;
  readonly blank: number;
};

/** Without any column named: what such lists call it. */
const NAMES = ['name', 'hostname', 'host name', 'host'];
/** Rows between which others get their turn. */
const ROWS_AT_ONCE = 2000;

/** Reads a file. Columns are called as its first line does, upper or lower case. @throws {InventoryError} */
export async function readList(text: string, wanted: Mapping): Promise<ReadList> {
  if (!text.isWellFormed()) throw new InventoryError('INVENTORY_SYNTAX', 'the file is not whole characters of UTF-8');
  const lines = parseCsv(text, INVENTORY_COLUMNS_MAX);
  const head = next(lines);
  if (head === undefined)
    throw new InventoryError('INVENTORY_SYNTAX', 'the file is empty: its first line names the columns');
  const { mapping, at } = columnsOf(head, wanted);
  const rows: Row[] = [];
  const seen = new Set<string>();
  let repeated = 0;
  let blank = 0;
  for (let n = 1, line = next(lines); line !== undefined; line = next(lines), n++) {
    if (n > INVENTORY_ROWS_MAX)
      throw new InventoryError(
        'INVENTORY_TOO_LARGE',
        `more than ${INVENTORY_ROWS_MAX} rows; import the part that is meant to be enrolled`,
      );
    if (n % ROWS_AT_ONCE === 0) await rest();
    if (line.slice(head.length).some((cell) => cell.trim() !== ''))
      throw new InventoryError(
        'INVENTORY_SYNTAX',
        `row ${n} has ${line.length} cells, the first line names ${head.length}: a comma in a cell needs quotes around the cell`,
      );
    const cell = (column: number): string | null => cellOf(line, column, n);
    const row: Row = {
      id: at.id === null ? null : cell(at.id),
      name: at.name === null ? null : cell(at.name),
      labels: at.labels.map(cell),
    };
    const key = JSON.stringify(row);
    if (row.id === null && row.name === null && row.labels.every((label) => label === null)) blank++;
    else if (seen.has(key)) repeated++;
    else {
      seen.add(key);
      rows.push(row);
    }
  }
  // An export that failed must not make the whole fleet unknown to its owners.
  if (rows.length === 0)
    throw new InventoryError('INVENTORY_SYNTAX', 'no row of the file names a host; was the list exported whole?');
  return { rows, mapping, repeated, blank };
}

function next(lines: Generator<string[]>): string[] | undefined {
  try {
    const { value, done } = lines.next();
    return done === true ? undefined : value;
  } catch (error) {
    if (!(error instanceof CsvReadError)) throw error;
    throw new InventoryError('INVENTORY_SYNTAX', error.message, { cause: error });
  }
}

function cellOf(line: readonly string[], column: number, row: number): string | null {
  const text = (line[column] ?? '').trim();
  if (text.length > INVENTORY_CELL_CHARS_MAX)
    throw new InventoryError(
      'INVENTORY_SYNTAX',
      `row ${row} has ${text.length} characters in a column that names hosts; at most ${INVENTORY_CELL_CHARS_MAX} are read`,
    );
  return text === '' ? null : text;
}

/** Where the columns that are wanted stand. */
function columnsOf(head: readonly string[], wanted: Mapping) {
  const titles = head.map((title) => title.trim().toLowerCase());
  const place = (column: string): number => {
    const title = column.trim().toLowerCase();
    const at = titles.indexOf(title);
    if (at >= 0 && titles.indexOf(title, at + 1) < 0) return at;
    if (at >= 0) throw new InventoryError('INVENTORY_COLUMN', `two columns are called ${JSON.stringify(column)}`);
    const meant = nearest(title, titles);
    const semicolons =
      head.length === 1 && head[0]!.includes(';')
        ? '; this file has semicolons between its cells: export it with commas'
        : '';
    throw new InventoryError(
      'INVENTORY_COLUMN',
      `no column is called ${JSON.stringify(column)}${meant === undefined ? '' : `, did you mean ${JSON.stringify(head[titles.indexOf(meant)]!.trim())}`}; there are ${head
        .slice(0, 20)
        .map((title) => JSON.stringify(title.trim().slice(0, 60)))
        .join(', ')}${head.length > 20 ? ' …' : ''}${semicolons}`,
    );
  };
  const isNamed = wanted.id !== null || wanted.name !== null || wanted.labels.length > 0;
  const name = isNamed ? wanted.name : (NAMES.find((title) => titles.includes(title)) ?? 'name');
  const mapping = { ...wanted, name };
  return {
    mapping,
    at: {
      id: mapping.id === null ? null : place(mapping.id),
      name: name === null ? null : place(name),
      labels: mapping.labels.map(({ column }) => place(column)),
    },
  };
}

export type Reconciled = Differences & { readonly matched: readonly Matched[] };

/**
 * Holds rows against hosts. A row is matched by the first that finds a host: its id, its labels in the order in which they are named, its name;
 * and then by all hosts that it finds, since names are not unique.
 */
export function reconcile(rows: readonly Row[], hosts: readonly Listed[], mapping: Mapping): Reconciled {
  const folded = (name: string): string => {
    const lower = name.toLowerCase();
    const dot = mapping.shortNames ? lower.indexOf('.') : -1;
    return dot > 0 ? lower.slice(0, dot) : lower;
  };
  const ids = new Map(hosts.map((host) => [host.id, [host]]));
  const names = Map.groupBy(hosts, ({ name }) => folded(name));
  const labels = mapping.labels.map(({ key }) =>
    Map.groupBy(
      hosts.filter((host) => Object.hasOwn(host.labels, key)),
      (host) => host.labels[key]!,
    ),
  );
  const ways: readonly { readonly by: string; find(row: Row): readonly Listed[] | undefined }[] = [
    { by: 'id', find: ({ id }) => (id === null ? undefined : ids.get(id)) },
    ...mapping.labels.map(({ key }, n) => ({
      by: `label:${key}`,
      find: (row: Row) => (row.labels[n] == null ? undefined : labels[n]!.get(row.labels[n])),
    })),
    { by: 'name', find: ({ name }) => (name === null ? undefined : names.get(folded(name))) },
  ];
  const counts = new Map<string, number>();
  const found = new Set<string>();
  const onlyTheirs: string[] = [];
  for (const row of rows) {
    const way = ways.find((one) => one.find(row) !== undefined);
    if (way === undefined) {
      onlyTheirs.push(row.name ?? row.id ?? row.labels.find((label) => label !== null)!);
      continue;
    }
    counts.set(way.by, (counts.get(way.by) ?? 0) + 1);
    for (const { id } of way.find(row)!) found.add(id);
  }
  return {
    matched: ways.flatMap(({ by }) => (counts.has(by) ? [{ by, rows: counts.get(by)! }] : [])),
    onlyTheirs: onlyTheirs.sort((a, b) => (a < b ? -1 : a > b ? 1 : 0)),
    onlyOurs: hosts
      .filter(({ id }) => !found.has(id))
      .map(({ id, name }) => ({ host: id, name }))
      .sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.host < b.host ? -1 : 1)),
  };
}

/** By what rows matched, in words. */
export function matchedText(matched: readonly Matched[]): string {
  return matched.length === 0
    ? 'by nothing'
    : matched.map(({ by, rows }) => `${rows} by ${by.replace(':', ' ')}`).join(', ');
}

/** How many of the list are enrolled, in words. */
export const enrolledRows = ({ theirs, onlyTheirs }: Pick<Inventory, 'theirs' | 'onlyTheirs'>): number =>
  theirs - onlyTheirs;

/**
 * Reconciliations of a period for an evidence bundle of every host (docs/evidence.md 3.2): of each source the newest import in it. `log`: the
 * number of the log that the bundle is of; an act of another one has no index in it.
 */
export async function* reconciliationFacts(
  { inventories, postures }: Pick<Store, 'inventories' | 'postures'>,
  { from, to, log }: { readonly from: Instant; readonly to: Instant; readonly log: number },
): AsyncGenerator<ReconciliationFact> {
  const imports = await inventories.within({ from, to });
  const places = await postures.places(imports.map(({ act }) => auditRef(act)));
  for (const { source, version, at, theirs, ours, act } of imports) {
    const { onlyTheirs, onlyOurs } = (await inventories.differences(source, version))!;
    const place = places.get(auditRef(act));
    yield {
      source,
      at: formatInstant(at),
      index: place?.log === log ? place.index : null,
      theirs,
      ours,
      onlyTheirs: [...onlyTheirs],
      onlyOurs: onlyOurs.map((one) => ({ ...one })),
    };
  }
}

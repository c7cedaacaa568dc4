/** `bootproof inventory …`: lists of hosts that others keep, held against the fleet (docs/inventory.md). */
import type { z } from 'zod';
import { INVENTORY_CHARS_MAX } from '#src/limits.ts';
import { EXIT, printableText, shownText, UsageError, type Exit, type Io } from '#src/terminal.ts';
import type { InventoryJson } from '#server/api/inventories.ts';
import {
  client,
  limitOf,
  limitOption,
  tellList,
  timeText,
  type Action,
  type ListOptions,
  type Options,
} from './client.ts';
import { readOperand } from './connection.ts';
import { list as repeated } from './image.ts';
import { writeJson } from './output.ts';
import { printFacts } from './table.ts';

type Inventory = z.infer<typeof InventoryJson>;
type Differences = {
  readonly inventory: Inventory;
  readonly onlyTheirs: readonly string[];
  readonly onlyOurs: readonly { readonly host: string; readonly name: string }[];
};

/** `bootproof inventory`. */
export function inventory(args: readonly string[], io: Io): Promise<Exit> {
  return client('inventory', 'Lists of hosts that others keep, and the fleet.', args, io, (command, add) => {
    add(command.command('list').description('the newest import of each list'), list);
    add<ImportOptions>(
      command
        .command('import <file>')
        .description('compare a CSV file with the fleet, and keep it; ends with 1 where they differ')
        .requiredOption('--source <name>', 'what the list is called: cmdb, aws-prod; each import is its next version')
        .option(
          '--column <what=title>',
          'which column says what: name=Hostname, id=BootproofId, label:asset=AssetTag; repeat it (default: name or hostname)',
          repeated,
          [],
        )
        .option('--short-names', 'compare names up to their first dot')
        .option('--limit <number>', 'differences of each kind that are shown'),
      importList,
    );
    add<ShowOptions>(
      command
        .command('show <source>')
        .description('an import with both differences; ends with 1 where there are any')
        .option('--version <number>', 'that one, not the newest')
        .option('--limit <number>', 'differences of each kind that are shown'),
      show,
    );
    limitOption(add<ListOptions>(command.command('versions <source>').description('all imports of a list'), versions));
  });
}

const ROW = ['LIST', 'VERSION', 'IMPORTED', 'BY', 'IN IT', 'ENROLLED', 'NOT ENROLLED', 'NOT IN IT'] as const;
const SHOWN = {
  name: 'inventories',
  empty: 'no list was imported',
  head: ROW,
  row: (one: Inventory) => [
    one.source,
    String(one.version),
    timeText(one.at),
    one.by,
    String(one.theirs),
    String(one.ours),
    String(one.onlyTheirs),
    String(one.onlyOurs),
  ],
};

const list: Action<unknown> = async (connection, options, _operands, io) => {
  const { items } = await connection.ask<{ items: Inventory[] }>('GET', '/api/v1/inventories');
  await tellList({ items, more: false }, SHOWN, options, io);
  return EXIT.ok;
};

const path = (source: string): string => `/api/v1/inventories/${encodeURIComponent(source)}`;

const versions: Action<ListOptions> = async (connection, options, [source = ''], io) => {
  const listed = await connection.list<Inventory>(`${path(source)}/versions`, {}, limitOf(options));
  await tellList(listed, SHOWN, options, io);
  return EXIT.ok;
};

type ImportOptions = {
  readonly source: string;
  readonly column: readonly string[];
  readonly shortNames?: boolean;
  readonly limit?: string;
};

const importList: Action<ImportOptions> = async (connection, options, [file = ''], io) => {
  const mapping = { ...mappingOf(options.column), shortNames: options.shortNames === true };
  // A character is four bytes at most.
  const bytes = await readOperand(file, 4 * INVENTORY_CHARS_MAX);
  const csv = textOf(bytes, file);
  if (csv.length > INVENTORY_CHARS_MAX)
    throw new UsageError(
      `${printableText(file)} has ${csv.length} characters; at most ${INVENTORY_CHARS_MAX} are read: leave out the columns that are not needed`,
    );
  return tell(await connection.ask<Differences>('POST', path(options.source), { csv, mapping }), options, io);
};

function textOf(bytes: Uint8Array, file: string): string {
  try {
    // With its mark, so that the digest is that of the file.
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new UsageError(`${printableText(file)} is not UTF-8; export it as CSV in UTF-8`);
  }
}

/** `name=Hostname`, `id=…`, `label:KEY=…`. @throws {UsageError} */
function mappingOf(columns: readonly string[]) {
  let id: string | null = null;
  let name: string | null = null;
  const labels: { readonly key: string; readonly column: string }[] = [];
  for (const word of columns) {
    const [, what, title] = /^(id|name|label:[^=]+)=(.+)$/s.exec(word) ?? [];
    if (
      what === undefined ||
      title === undefined ||
      (what === 'id' && id !== null) ||
      (what === 'name' && name !== null)
    )
      throw new UsageError(
        `--column ${printableText(word)}: expected name=TITLE and id=TITLE at most once each, or label:KEY=TITLE`,
      );
    if (what === 'id') id = title;
    else if (what === 'name') name = title;
    else labels.push({ key: what.slice('label:'.length), column: title });
  }
  return { id, name, labels };
}

type ShowOptions = { readonly version?: string; readonly limit?: string };

const show: Action<ShowOptions> = async (connection, options, [source = ''], io) => {
  const { version } = options;
  if (version !== undefined && !/^[1-9][0-9]{0,8}$/.test(version))
    throw new UsageError(`--version ${version}: expected a number`);
  const query = version === undefined ? '' : `?version=${version}`;
  return tell(await connection.ask<Differences>('GET', `${path(source)}${query}`), options, io);
};

async function tell(differences: Differences, options: Options & { readonly limit?: string }, io: Io): Promise<Exit> {
  const { inventory: of, onlyTheirs, onlyOurs } = differences;
  const exit = onlyTheirs.length + onlyOurs.length === 0 ? EXIT.ok : EXIT.different;
  if (options.json === true) {
    await writeJson(differences, io);
    return exit;
  }
  const by = of.matched.map(({ by: what, rows }) => `${rows} by ${what.replace(':', ' ')}`).join(', ');
  await printFacts(
    [
      ['list', `${of.source}, version ${of.version}, imported ${timeText(of.at)} by ${of.by}`],
      [
        'in it',
        `${of.theirs}${of.repeated + of.blank === 0 ? '' : ` (besides ${of.repeated} repeated, ${of.blank} without a word)`}`,
      ],
      ['enrolled', String(of.ours)],
      ['matched', by === '' ? 'none' : by],
      ['not enrolled', String(onlyTheirs.length)],
      ['not in it', String(onlyOurs.length)],
    ],
    io,
  );
  const limit = limitOf(options);
  await some('in the list and not enrolled', onlyTheirs, limit, io);
  await some(
    'enrolled and not in the list',
    onlyOurs.map(({ host, name }) => `${name}  ${host}`),
    limit,
    io,
  );
  return exit;
}

async function some(title: string, lines: readonly string[], limit: number, io: Io): Promise<void> {
  if (lines.length === 0) return;
  const shown = lines.slice(0, limit);
  await io.stdout.write(`\n${title}:\n${shown.map((line) => `  ${shownText(line)}\n`).join('')}`);
  if (shown.length < lines.length)
    await io.stderr.write(`these are the first ${shown.length}; --limit ${10 * shown.length} shows more, --json all\n`);
}

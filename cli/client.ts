/** What every command that speaks with a server's API has in common. */
import type { Command } from 'commander';
import { nearest } from '#src/document/spelling.ts';
import { EXIT, UsageError, type Exit, type Io } from '#src/terminal.ts';
import { program, runProgram } from './commander.ts';
import { Connection, connectionOptions, type ConnectionOptions, type Listed } from './connection.ts';
import { writeJson } from './output.ts';
import { printTable, type Cell } from './table.ts';

export type Options = ConnectionOptions & { readonly json?: boolean };
export type Action<Own> = (connection: Connection, options: Options & Own, operands: string[], io: Io) => Promise<Exit>;

/** Gives a command, or a subcommand of it, what it does once there is a connection. */
export type Add = <Own>(command: Command, action: Action<Own>) => Command;

export async function client(
  name: string,
  about: string,
  args: readonly string[],
  io: Io,
  make: (command: Command, add: Add) => void,
): Promise<Exit> {
  let exit: Exit = EXIT.ok;
  const command = connectionOptions(program(`bootproof ${name}`, about)).option(
    '--json',
    'one JSON document on standard output',
  );
  make(command, (own, action) =>
    own.action(async (...given: unknown[]) => {
      // Options stand with the command or its subcommand, wherever they were written.
      const options = (given.at(-1) as Command).optsWithGlobals<never>();
      const operands = given
        .slice(0, -2)
        .flat()
        .filter((operand) => typeof operand === 'string');
      exit = await action(await Connection.open(options, io), options, operands, io);
    }),
  );
  try {
    return await runProgram(command, args, io, () => exit);
  } catch (error) {
    throw error instanceof UsageError ? (wrongCommand(error, command) ?? error) : error;
  }
}

/** An extra word where there are subcommands is one of them misspelt. */
function wrongCommand({ message }: UsageError, command: Command): UsageError | undefined {
  const extra = /^too many arguments(?: for '([^']+)')?/.exec(message);
  if (extra === null) return undefined;
  // commander names the subcommand that got too much, and not the command itself.
  const sub = extra[1];
  const names = command.commands.map((own) => own.name()).filter((own) => own !== 'help');
  const said = command.args[0] ?? '';
  // One that takes words of its own beside its subcommands: the first was one of those, and no misspelt name.
  if (names.length === 0 || sub !== undefined || command.registeredArguments.length > 0) {
    const own = sub === undefined ? command.name() : `${command.name()} ${sub}`;
    return new UsageError(`too many words; '${own} --help' says what it takes`);
  }
  const meant = nearest(said, names);
  return new UsageError(
    `no command ${JSON.stringify(said)}${meant === undefined ? ';' : `, did you mean ${meant}?`} '${command.name()}' alone lists; with it go ${names.join(', ')}`,
  );
}

/** An option whose value is one of these words, or several of them with commas between. @throws {UsageError} */
export function wordsOption(option: string, value: string | undefined, words: readonly string[], many = true): void {
  if (value === undefined) return;
  for (const word of many ? value.split(',') : [value]) {
    if (words.includes(word)) continue;
    const meant = nearest(word, words);
    throw new UsageError(
      `${option} ${word}: ${meant === undefined ? '' : `did you mean ${meant}? `}expected ${many ? 'words of ' : 'one of '}${words.join(', ')}`,
    );
  }
}

export type ListOptions = Options & { readonly limit?: string };

export const limitOption = (command: Command): Command =>
  command.option('--limit <number>', `at most so many rows (default: ${ROWS}; all with --json)`);

/** Rows of a table where nobody says how many: some screens full. */
const ROWS = 100;

/** @throws {UsageError} */
export function limitOf({ limit, json }: ListOptions): number {
  if (limit === undefined) return json === true ? Infinity : ROWS;
  if (!/^[1-9][0-9]{0,8}$/.test(limit)) throw new UsageError(`--limit ${limit}: expected a number`);
  return Number(limit);
}

/** How a list is shown: as JSON under its name, as a table, or what is said where it is empty. */
export type Shown<Item> = {
  readonly name: string;
  readonly empty: string;
  readonly head: readonly string[];
  readonly row: (item: Item) => readonly Cell[];
};

/** Tells a list, and whether that is all of it. */
export async function tellList<Item>(
  { items, more }: Listed<Item>,
  { name, empty, head, row }: Shown<Item>,
  { json }: ListOptions,
  io: Io,
): Promise<void> {
  if (json === true) return writeJson({ [name]: items, more }, io);
  if (items.length === 0) await io.stderr.write(`${empty}\n`);
  else await printTable(head, items.map(row), io);
  if (more)
    await io.stderr.write(`these are the first ${items.length}; --limit ${10 * items.length} shows more, --json all\n`);
}

export const timeText = (time: string | null): string =>
  time === null ? '-' : `${time.slice(0, 19).replace('T', ' ')}Z`;

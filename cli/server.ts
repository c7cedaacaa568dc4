/**
 * `bootproof server`: the server in this process; and with a word behind it, what an operator does beside one that runs. A subcommand takes
 * the server's own options and variables, so that both mean the same data.
 */
import type { Command } from 'commander';
import { noCommand } from '#src/document/spelling.ts';
import { EXIT, type Exit, type Io } from '#src/terminal.ts';
import { SERVER_HELP } from '#server/flags.ts';
import { serve } from '#server/serve.ts';
import { program, runProgram } from './commander.ts';
import { checkConfigCommand } from './servercheck.ts';
import { fsckCommand } from './serverfsck.ts';
import { backupCommand, restoreCommand } from './serverkeep.ts';
import { migrateCommand } from './servermigrate.ts';

/** What a subcommand does. `settings`: what was written besides its own options, as `loadSettings` takes it. */
export type ServerAction<Own> = (options: Own, settings: readonly string[], io: Io) => Promise<Exit>;

/** Gives a subcommand of `bootproof server` its own options; what it does not know goes to `loadSettings`. */
export type AddServer = <Own>(command: Command, action: ServerAction<Own>) => Command;

/** Each adds one subcommand: `(command, add) => add<Own>(command.command('name').description('…').option(…), action)`. */
const SUBCOMMANDS: readonly ((command: Command, add: AddServer) => void)[] = [
  checkConfigCommand,
  migrateCommand,
  fsckCommand,
  backupCommand,
  restoreCommand,
];

export async function main(args: readonly string[], io: Io): Promise<Exit> {
  let exit: Exit = EXIT.ok;
  const command = program('bootproof server', 'Take reports, judge hosts, show what was found.').helpCommand(false);
  const add: AddServer = (own, action) =>
    own
      .usage('[options] [options of the server]')
      .allowUnknownOption()
      .allowExcessArguments()
      .action(async (options) => {
        exit = await action(options, own.args, io);
      });
  for (const each of SUBCOMMANDS) each(command, add);
  const [word] = args;
  if (word === '--help' || word === '-h' || word === 'help') {
    const commands = command.commands.map((own) => `  ${own.name().padEnd(24)} ${own.description()}`);
    await io.stdout.write(`${SERVER_HELP}\nBeside a server, with the same options:\n${commands.join('\n')}\n`);
    return EXIT.ok;
  }
  if (word === undefined || word.startsWith('-')) return serve(args, io);
  const names = command.commands.map((own) => own.name());
  if (!names.includes(word)) throw noCommand('bootproof server', word, names);
  return runProgram(command, args, io, () => exit);
}

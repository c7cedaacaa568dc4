/** commander, bent to this house: help is output, wrong use is a `UsageError`, nothing exits by itself. */
import { Command, CommanderError } from 'commander';
import { EXIT, UsageError, type Exit, type Io } from '#src/terminal.ts';

/** A program whose subcommands inherit its ways; give it to `runProgram`. */
export function program(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .exitOverride()
    .configureOutput({ writeOut: () => {}, writeErr: () => {} })
    .configureHelp({ helpWidth: 110, showGlobalOptions: true })
    .showHelpAfterError(false);
}

/**
 * Parses and acts; the actions have put their exit code where `exit` finds it.
 * @throws {UsageError} for a command line that commander refuses; whatever the actions throw.
 */
export async function runProgram(command: Command, args: readonly string[], io: Io, exit: () => Exit): Promise<Exit> {
  let out = '';
  let err = '';
  const captured = { writeOut: (text: string) => void (out += text), writeErr: (text: string) => void (err += text) };
  for (const each of withAll(command)) each.configureOutput(captured);
  try {
    await command.parseAsync([...args], { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) {
      await io.stdout.write(out);
      return EXIT.ok;
    }
    // Without a subcommand commander shows its help as the error.
    if (error.code === 'commander.help') {
      await io.stderr.write(err);
      return EXIT.usage;
    }
    const missing = error.code === 'commander.missingMandatoryOptionValue' ? missingIn(command, args) : [];
    if (missing.length > 1) throw new UsageError(`these options are needed: ${missing.join(', ')}`);
    throw new UsageError(error.message.replace(/^error: /, '').replaceAll('\n', ' '));
  }
  return exit();
}

/** Options that must be given and are not, of the command that was called: commander names the first alone. */
function missingIn(command: Command, args: readonly string[]): string[] {
  const called = command.commands.find((each) => args.includes(each.name())) ?? command;
  return called.options
    .filter((option) => option.mandatory && called.getOptionValue(option.attributeName()) === undefined)
    .map(({ flags }) => flags);
}

/** A command and everything below it. */
function withAll(command: Command): Command[] {
  return [command, ...command.commands.flatMap(withAll)];
}

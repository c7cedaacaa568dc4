/** What every command that speaks with a server's API has in common. */
import type { Command } from 'commander';
import { EXIT, UsageError, type Exit, type Io } from '#src/terminal.ts';
import { program, runProgram } from './commander.ts';
import { Connection, connectionOptions, type ConnectionOptions } from './connection.ts';

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
  return runProgram(command, args, io, () => exit);
}

export const limitOption = (command: Command): Command =>
  command.option('--limit <number>', 'at most so many rows', '100');

/** @throws {UsageError} */
export function limitOf({ limit }: { readonly limit: string }): number {
  if (!/^[1-9][0-9]{0,5}$/.test(limit)) throw new UsageError(`--limit ${limit}: expected a number`);
  return Number(limit);
}

export const timeText = (time: string | null): string =>
  time === null ? '-' : `${time.slice(0, 19).replace('T', ' ')}Z`;

/** A command's streams, caught; and the commands as people start them. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import type { Exit, Io, Stream } from '#src/terminal.ts';

export type Ran = { exit: number; out: string; err: string };
type Command = (args: readonly string[], io: Io) => Promise<Exit>;

/** Runs a command in this process. */
export async function run(
  command: Command,
  args: readonly string[],
  { isTTY = false, env = {} }: { isTTY?: boolean; env?: Io['env'] } = {},
): Promise<Ran> {
  const ran: Ran = { exit: -1, out: '', err: '' };
  const stream = (key: 'out' | 'err'): Stream => ({
    isTTY,
    columns: 80,
    async write(text) {
      ran[key] += typeof text === 'string' ? text : Buffer.from(text).toString();
    },
  });
  ran.exit = await command(args, { stdout: stream('out'), stderr: stream('err'), env });
  return ran;
}

export const project = join(import.meta.dirname, '../..');

/** Starts a program and waits for its end. */
export function launch(file: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(file, [...args], { maxBuffer: 2 ** 28, env }, (error, out, err) =>
      resolve({ exit: error === null ? 0 : Number(error.code), out, err }),
    );
  });
}

/** The agent's own entry on this very Node. */
export function launchAgent(
  args: readonly string[],
  { node = [], env }: { node?: string[]; env?: NodeJS.ProcessEnv } = {},
) {
  const own = ['--disable-warning=ExperimentalWarning', ...node, join(project, 'agent/main.ts')];
  return launch(process.execPath, [...own, ...args], env);
}

/** A command of ours run in this process: how it ended, and what it wrote. */
import type { Exit, Io, Stream } from '#src/terminal.ts';

export type Main = (args: readonly string[], io: Io) => Promise<Exit>;
export type Ran = { readonly exit: number; readonly out: string; readonly err: string };

/** `isTTY`: on a terminal. A refusal is thrown, as it is to `main.ts`. */
export async function ran(
  main: Main,
  args: readonly string[],
  { env = {}, isTTY = false, columns = 100 }: { env?: Io['env']; isTTY?: boolean; columns?: number } = {},
): Promise<Ran> {
  const said = { out: '', err: '' };
  const stream = (name: 'out' | 'err'): Stream => ({
    isTTY,
    columns,
    async write(text) {
      said[name] += typeof text === 'string' ? text : Buffer.from(text).toString();
    },
  });
  const exit = await main(args, { stdout: stream('out'), stderr: stream('err'), env });
  return { exit, ...said };
}

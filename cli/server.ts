/** `bootproof server`: the server in this process. */
import type { Exit, Io } from '#src/terminal.ts';
import { serve } from '#server/serve.ts';

export function main(args: readonly string[], io: Io): Promise<Exit> {
  return serve(args, io);
}

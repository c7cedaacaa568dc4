/** The process of `bootproof …`. Alone in reading process.* with agent/main and server/main. */
import { processIo, runCommand } from '#src/terminal.ts';
import { bootproof } from './commands.ts';

const io = processIo(process.stdout, process.stderr, process.env, (code) => process.exit(code));
process.exitCode = await runCommand(process.argv.slice(2), io, bootproof);

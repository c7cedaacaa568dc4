/** The server alone, as a service starts it: `node server/main.ts [options]`. */
import { processIo, runCommand } from '#src/terminal.ts';
import { serve } from './serve.ts';

const io = processIo(process.stdout, process.stderr, process.env, (code) => process.exit(code));
process.exitCode = await runCommand(process.argv.slice(2), io, serve);

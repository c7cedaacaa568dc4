/** The server alone, as a service starts it: `node server/main.ts [options]`. */
import { BootproofError } from '#src/error.ts';
import { EXIT, printableText, UsageError, type Stream } from '#src/terminal.ts';
import { serve } from './serve.ts';

function stream(out: NodeJS.WriteStream): Stream {
  return {
    isTTY: out.isTTY,
    columns: out.columns ?? 100,
    write: (text) =>
      new Promise((resolve, reject) => {
        out.write(text, (error) => (error ? reject(error) : resolve()));
      }),
  };
}

const io = { stdout: stream(process.stdout), stderr: stream(process.stderr), env: process.env };
try {
  process.exitCode = await serve(process.argv.slice(2), io);
} catch (error) {
  if (!(error instanceof BootproofError)) throw error;
  await io.stderr.write(`bootproof: ${printableText(error.message)} [${error.code}]\n`);
  process.exitCode = error instanceof UsageError ? EXIT.usage : EXIT.unknown;
}

/** What every command agrees on (PROTOCOL 7): streams, exit codes, how a refusal is told, and how a file name may appear on a terminal. */
import { toUtf8, type ByteString } from '#src/bytes.ts';
import { BootproofError } from '#src/error.ts';

/** The streams and environment of a command, handed in by the three `main.ts`. */
export type Io = {
  readonly stdout: Stream;
  readonly stderr: Stream;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Ends the process at once; not there where a command is called by another program. */
  readonly exit?: (code: number) => void;
};
export type Stream = {
  /** Resolves when the text is with the kernel; a slow pipe holds the writer back. */
  write(text: string | Uint8Array): Promise<void>;
  readonly isTTY: boolean;
  readonly columns: number;
};

/** Exit codes (PROTOCOL 7). *Different* and *could not tell* are never the same code. */
export const EXIT = { ok: 0, different: 1, unknown: 2, usage: 64, fault: 70 } as const;
export type Exit = (typeof EXIT)[keyof typeof EXIT];

/** A command line that cannot be carried out as written: exit 64. */
export class UsageError extends BootproofError {
  constructor(message: string, code = 'USAGE', options?: ErrorOptions) {
    super(code, message, options);
  }
}

/** Parses an argument. @throws {UsageError} for what `parse` refuses, under its own code. */
export function argument<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof BootproofError) || error instanceof UsageError) throw error;
    throw new UsageError(error.message, error.code, { cause: error });
  }
}

/** A refusal that was seen, under its own code: exit 1, where what could merely not be told is 2 (PROTOCOL 7). */
export class SeenRefusal extends BootproofError {}

/** What a command found could not be put out: a full disk, an I/O error. Exit 2, because nothing was told. */
export class OutputError extends BootproofError<'OUTPUT_FAILED'> {}

/** A stream of the process, as `process.stdout` is one. */
type ProcessStream = {
  readonly isTTY: boolean;
  readonly columns?: number;
  write(text: string | Uint8Array, done: (error?: Error | null) => void): unknown;
  on(event: 'error', heard: () => void): unknown;
};

/** The process's own streams and environment, as a command takes them. */
export function processIo(
  stdout: ProcessStream,
  stderr: ProcessStream,
  env: Io['env'],
  exit?: (code: number) => void,
): Io {
  return {
    stdout: streamOf(stdout, failed),
    stderr: streamOf(stderr, () => undefined),
    env,
    ...(exit === undefined ? {} : { exit }),
  };
}

function failed(error: Error): OutputError {
  const { code = error.message } = error as { readonly code?: string };
  return new OutputError('OUTPUT_FAILED', `standard output cannot be written: ${code}`, { cause: error });
}

/** `fault` says what a failed write means: nothing on standard error, where what was found is not told. */
function streamOf(out: ProcessStream, fault: (error: Error) => OutputError | undefined): Stream {
  // Each write hears of its own failure; without a listener the first would end the process.
  out.on('error', () => {});
  return {
    isTTY: out.isTTY,
    get columns() {
      return out.columns ?? 100;
    },
    write: (text) =>
      new Promise((resolve, reject) => {
        out.write(text, (error) => {
          // A reader that went away (`| head`) changes nothing of what the command found: it goes on to its exit code.
          const told = !error || (error as { readonly code?: string }).code === 'EPIPE' ? undefined : fault(error);
          if (told === undefined) resolve();
          else reject(told);
        });
      }),
  };
}

/**
 * Runs a command to its exit code. A refusal goes to standard error as a sentence with its code, and with `--json` to standard
 * output as well, `{"code","message"}`, unless the command has put out something already: one document there, never two.
 */
export async function runCommand(
  args: readonly string[],
  io: Io,
  command: (args: readonly string[], io: Io) => Promise<Exit>,
): Promise<Exit> {
  const { stdout, stderr } = io;
  let begun = false;
  const watched: Stream = {
    isTTY: stdout.isTTY,
    get columns() {
      return stdout.columns;
    },
    write: (text) => {
      begun = true;
      return stdout.write(text);
    },
  };
  try {
    return await command(args, { ...io, stdout: watched });
  } catch (error) {
    const { exit, code, message, lines } = refusalOf(error);
    const mark = code === 'USAGE' || exit === EXIT.fault ? '' : ` [${code}]`;
    await stderr.write(`bootproof: ${lines.map(shownText).join('\n')}${mark}\n`);
    if (!begun && wantsJson(args)) await stdout.write(`${jsonText({ code, message })}\n`);
    return exit;
  }
}

function wantsJson(args: readonly string[]): boolean {
  const end = args.indexOf('--');
  return (end < 0 ? args : args.slice(0, end)).includes('--json');
}

type Refusal = {
  readonly exit: Exit;
  readonly code: string;
  readonly message: string;
  readonly lines: readonly string[];
};

function refusalOf(error: unknown): Refusal {
  if (error instanceof BootproofError) {
    const { code, message } = error;
    // A document with several problems has one a line.
    const lines = 'lines' in error ? (error.lines as readonly string[]) : [message];
    const exit =
      error instanceof UsageError ? EXIT.usage : error instanceof SeenRefusal ? EXIT.different : EXIT.unknown;
    return { exit, code, message, lines };
  }
  const message = error instanceof Error ? error.message : String(error);
  const stack = error instanceof Error ? (error.stack ?? message) : message;
  const lines = `our own fault, please report it: ${stack}`.split('\n');
  return { exit: EXIT.fault, code: 'OWN_FAULT', message: `our own fault, please report it: ${message}`, lines };
}

// Control characters move the cursor or recolour the screen; the bidi and zero-width ones reorder what is read.
const UNPRINTABLE =
  // eslint-disable-next-line no-control-regex
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\\]|\p{Cs}|[\u{e0000}-\u{e007f}]/gu;

/** Text that cannot move, colour or reorder what stands around it; `\` and what is hidden appear as `\x..` or `\u{..}`. */
export function printableText(text: string): string {
  return text.replace(UNPRINTABLE, (char) => {
    const code = char.codePointAt(0)!;
    return char === '\\'
      ? '\\\\'
      : code < 0x100
        ? `\\x${code.toString(16).padStart(2, '0')}`
        : `\\u{${code.toString(16)}}`;
  });
}

/**
 * A sentence whose names were made printable where it was made, as those of refusals and of the server are: their backslashes stand,
 * and what could act on a terminal is escaped wherever it comes from.
 */
export const shownText = (text: string): string => printableText(text).replaceAll('\\\\', '\\');

/**
 * JSON for programs in which nothing can act on the terminal of a person who looks on: what `printableText` hides is written `\u....`. The
 * same document to every parser.
 */
export function jsonText(value: unknown): string {
  return JSON.stringify(value).replace(UNPRINTABLE, (text) =>
    text === '\\'
      ? text
      : Array.from({ length: text.length }, (_, i) => `\\u${text.charCodeAt(i).toString(16).padStart(4, '0')}`).join(
          '',
        ),
  );
}

/** A file name as a person may safely see it; names that are not UTF-8 show their bytes. */
export function printable(name: ByteString): string {
  const text = toUtf8(name);
  if (text !== undefined) return printableText(text);
  return name.replace(/[^ -[\]-~]/g, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

/** One word of a shell's command, whatever characters it holds. */
export function shellQuoted(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

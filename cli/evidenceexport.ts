/**
 * `bootproof evidence export`: asks a server for a bundle, says how far it is, and fetches it (docs/evidence.md 7). A download that was interrupted goes on
 * where it was; what arrives is held against the server's SHA-256 before it has its name.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { access, open, rename, stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { BootproofError } from '#src/error.ts';
import { EXIT, OutputError, printableText, UsageError, type Exit, type Io } from '#src/terminal.ts';
import { limitOf, limitOption, tellList, timeText, type ListOptions, type Shown } from './client.ts';
import { Connection, connectionOptions, ServerError, type ConnectionOptions } from './connection.ts';
import { list as repeated } from './image.ts';
import { writeJson } from './output.ts';
import { pastOption } from './posture.ts';

export class ExportError extends BootproofError<
  /** The server gave the export up; its own code and words follow. */
  | 'EXPORT_FAILED'
  /** What arrived is not what the server says that it made. */
  | 'EXPORT_DIGEST'
> {}

// As the API answers (server/api/evidence.ts).
type Stage = { readonly stage: string; readonly done: number; readonly total: number | null };
type Export = {
  readonly id: string;
  readonly state: 'queued' | 'running' | 'done' | 'failed';
  readonly createdAt: string;
  readonly createdBy: string;
  readonly from: string;
  readonly to: string;
  readonly hosts: string | null;
  readonly frameworks: readonly string[];
  readonly stages: readonly Stage[];
  readonly attempts: number;
  readonly hostCount: number | null;
  readonly logSize: number | null;
  readonly error: { readonly code: string; readonly text: string } | null;
  readonly file: { readonly name: string; readonly bytes: number; readonly sha256: string } | null;
  readonly expiresAt: string;
};

type Options = ConnectionOptions & {
  readonly from?: string;
  readonly to?: string;
  readonly hosts?: string;
  readonly framework?: readonly string[];
  readonly output: string;
  readonly seed?: string;
  readonly sampleSize?: string;
  readonly completeness?: string;
  readonly answerHours?: string;
  readonly id?: string;
  readonly json?: boolean;
};

const PATH = '/api/v1/evidence/exports';
const POLL_MS = 500;
/** A download that stands still, or breaks, is taken up again so often, each time a little later. */
const TRIES = 6;
const STALL_MS = 60_000;
/** A server that restarts is waited for. */
const AWAY_MS = 120_000;

/** Adds what asks a server to `bootproof evidence`. `done` hears the exit code. */
export function exportCommands(command: Command, io: Io, done: (exit: Exit) => void): void {
  connectionOptions(command.command('export'))
    .description('have a server make a bundle of a period, and fetch it')
    .option('--from <when>', 'begin of the period: 2026-07-01 (its beginning in UTC), RFC 3339, or 90d (ago)')
    .option('--to <when>', 'its end, not included (default: now); whole days of UTC count check-ins exactly')
    .option('--hosts <filter>', 'which hosts: group:prod/web, label:tier=front, host:NAME (default: all that you see)')
    .option('--framework <id>', 'compute the controls of this framework alone (repeatable; default: all)', repeated)
    .option('--seed <text>', 'draw a sample of hosts with this seed, which the auditor chooses')
    .option('--sample-size <number>', 'so many')
    .option('--completeness <share>', 'hosts below this share of expected check-ins are not assessed (default 0.95)')
    .option('--answer-hours <number>', 'within so many hours a finding must be answered (default 72)')
    .option('--id <export>', 'go on with an export that was begun: wait for it, fetch it, or the rest of it')
    .requiredOption('-o, --output <file>', 'where the bundle goes; a new file')
    .option('--json', 'one JSON document on standard output')
    .action(async (options: Options) => done(await run(options, io)));
  limitOption(connectionOptions(command.command('exports')))
    .description('exports that the server keeps, newest first')
    .option('--json', 'one JSON document on standard output')
    .action(async (options: ConnectionOptions & ListOptions) => {
      const connection = await Connection.open(options, io);
      await tellList(await connection.list<Export>(PATH, {}, limitOf(options)), EXPORTS, options, io);
      done(EXIT.ok);
    });
  connectionOptions(command.command('remove <export>'))
    .description('delete an export and its file from the server; stop it where it runs')
    .action(async (id: string, options: ConnectionOptions) => {
      const connection = await Connection.open(options, io);
      await connection.ask('DELETE', `${PATH}/${encodeURIComponent(id)}`);
      await io.stderr.write(`${printableText(id)} is gone\n`);
      done(EXIT.ok);
    });
}

const EXPORTS: Shown<Export> = {
  name: 'exports',
  empty: "the server keeps no export; 'bootproof evidence export --from 2026-07-01 -o FILE' makes one",
  head: ['ID', 'STATE', 'FROM', 'TO', 'HOSTS', 'BYTES', 'BY', 'UNTIL'],
  row: ({ id, state, from, to, hosts, file, createdBy, expiresAt }) => [
    id,
    state,
    timeText(from),
    timeText(to),
    hosts ?? 'all',
    file === null ? '-' : String(file.bytes),
    createdBy,
    timeText(expiresAt),
  ],
};

async function run(options: Options, io: Io): Promise<Exit> {
  const { output } = options;
  if (await exists(output)) throw new UsageError(`-o ${printableText(output)}: it is there already; name a new file`);
  if (options.id === undefined && options.from === undefined)
    throw new UsageError('--from is missing: when does the period begin? As 2026-07-01, or 90d for three months ago');
  const asked = options.id === undefined ? bodyOf(options) : undefined;
  const connection = await Connection.open(options, io);
  const begun =
    asked === undefined
      ? await connection.ask<Export>('GET', `${PATH}/${encodeURIComponent(options.id!)}`)
      : await connection.ask<Export>('POST', PATH, asked);
  const progress = new Progress(io, options.json === true);
  const goesOn = `'bootproof evidence export --id ${begun.id} -o ${printableText(output)}' goes on`;
  await progress.line(`export ${begun.id}`);
  try {
    const made = await finished(begun, connection, progress);
    const { bytes, sha256 } = made.file!;
    await fetched(made, output, connection, progress);
    await progress.end();
    if (options.json === true) await writeJson({ ...made, output }, io);
    else
      await io.stdout.write(
        `${printableText(output)}: ${made.hostCount ?? 0} hosts, ${made.from} to ${made.to}, ${bytes} bytes\nsha256 ${sha256}\n`,
      );
    await io.stderr.write(
      `check it anywhere, offline: bootproof evidence verify ${printableText(output)} --key FINGERPRINT; the fingerprint stands on /settings (Its key), told by whoever answers for the server\n`,
    );
    return EXIT.ok;
  } catch (error) {
    await progress.end();
    if (error instanceof ServerError && error.code === 'SERVER_UNREACHABLE')
      throw new ServerError(error.code, `${error.message}; ${goesOn}`, { cause: error });
    throw error;
  }
}

function bodyOf(options: Options): object {
  const now = Date.now();
  const { seed, sampleSize, completeness, answerHours } = options;
  if ((seed === undefined) !== (sampleSize === undefined))
    throw new UsageError('--seed and --sample-size go together: who chose the draw, and how many');
  const parameters = {
    ...(completeness === undefined ? {} : { completenessMin: numberOf('--completeness', completeness, 1) }),
    ...(answerHours === undefined ? {} : { answerHours: numberOf('--answer-hours', answerHours, 87_600) }),
  };
  return {
    from: pastOption('--from', options.from!, now),
    ...(options.to === undefined ? {} : { to: pastOption('--to', options.to, now) }),
    ...(options.hosts === undefined ? {} : { hosts: options.hosts }),
    ...(options.framework === undefined ? {} : { frameworks: options.framework.flatMap((ids) => ids.split(',')) }),
    ...(seed === undefined || sampleSize === undefined
      ? {}
      : { sampling: { seed, size: numberOf('--sample-size', sampleSize, 100_000) } }),
    parameters,
  };
}

function numberOf(option: string, text: string, most: number): number {
  if (/^[0-9]{1,6}(?:\.[0-9]{1,6})?$/.test(text) && Number(text) <= most) return Number(text);
  throw new UsageError(`${option} ${text}: expected a number from 0 to ${most}`);
}

/** Waits until it is done. @throws {ExportError | ServerError} */
async function finished(begun: Export, connection: Connection, progress: Progress): Promise<Export> {
  let one = begun;
  let answered = Date.now();
  for (;;) {
    await progress.state(one);
    if (one.state === 'done') return one;
    if (one.state === 'failed')
      throw new ExportError(
        'EXPORT_FAILED',
        `the server gave it up: ${one.error?.text ?? ''} [${one.error?.code ?? ''}]`,
      );
    await sleep(POLL_MS);
    try {
      one = await connection.ask<Export>('GET', `${PATH}/${encodeURIComponent(begun.id)}`);
      answered = Date.now();
    } catch (error) {
      if (!isPassing(error) || Date.now() - answered > AWAY_MS) throw error;
      await progress.line('the server does not answer; waiting for it');
    }
  }
}

const isPassing = (error: unknown): boolean =>
  error instanceof ServerError && ['SERVER_UNREACHABLE', 'SERVER_ANSWER', 'OVERLOADED'].includes(error.code);

/** Into `FILE.part`, as far as it is not there, and then under its name. @throws {ExportError | ServerError | OutputError} */
async function fetched(
  { id, file }: Export,
  output: string,
  connection: Connection,
  progress: Progress,
): Promise<void> {
  const { bytes, sha256 } = file!;
  const part = `${output}.part`;
  let tries = 0;
  for (;;) {
    const before = await sizeOf(part);
    try {
      if (before < bytes) await more({ id, part, from: before, bytes, sha256 }, connection, progress);
      break;
    } catch (error) {
      // What came counts: a slow line is no failure.
      tries = (await sizeOf(part)) > before ? 0 : tries + 1;
      const isBroken = !(error instanceof BootproofError) || isPassing(error);
      if (!isBroken || tries >= TRIES) throw error;
      await progress.line(`the download broke off at ${await sizeOf(part)} of ${bytes} bytes; going on`);
      await sleep(1000 * 2 ** tries);
    }
  }
  const hash = createHash('sha256');
  for await (const piece of createReadStream(part)) hash.update(piece as Uint8Array);
  if (hash.digest('hex') !== sha256)
    throw new ExportError(
      'EXPORT_DIGEST',
      `${printableText(part)} is not what the server made: its SHA-256 is another; delete it, and fetch it again with --id ${id}`,
    );
  await rename(part, output);
}

async function more(
  about: {
    readonly id: string;
    readonly part: string;
    readonly from: number;
    readonly bytes: number;
    readonly sha256: string;
  },
  connection: Connection,
  progress: Progress,
): Promise<void> {
  const { id, part, from, bytes, sha256 } = about;
  const stalled = new AbortController();
  let timer = setTimeout(() => stalled.abort(), STALL_MS);
  try {
    const headers = from === 0 ? {} : { range: `bytes=${from}-`, 'if-range': `"${sha256}"` };
    const response = await connection.file(`${PATH}/${encodeURIComponent(id)}/file`, headers, stalled.signal);
    const begin = response.status === 206 ? from : 0;
    await using handle = await writable(part, begin === 0 ? 'w' : 'a');
    let at = begin;
    for await (const piece of response.body ?? []) {
      clearTimeout(timer);
      timer = setTimeout(() => stalled.abort(), STALL_MS);
      try {
        await handle.writeFile(piece);
      } catch (cause) {
        throw new OutputError('OUTPUT_FAILED', `${part} cannot be written: ${(cause as NodeJS.ErrnoException).code}`, {
          cause,
        });
      }
      at += piece.length;
      await progress.download(at, bytes);
    }
    if (at < bytes) throw new ServerError('SERVER_UNREACHABLE', `the server ended after ${at} of ${bytes} bytes`);
  } finally {
    clearTimeout(timer);
  }
}

async function writable(path: string, flags: string) {
  try {
    return await open(path, flags, 0o600);
  } catch (error) {
    throw new UsageError(`${printableText(path)} cannot be written: ${(error as NodeJS.ErrnoException).code}`);
  }
}

const sizeOf = (path: string): Promise<number> =>
  stat(path).then(
    ({ size }) => size,
    () => 0,
  );
const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

const WORDS: Readonly<Record<string, string>> = {
  cut: 'taking the state of the log',
  gather: 'reading hosts',
  entries: 'log entries',
  records: 'reports, judgements and acts',
  facts: 'facts',
  manifests: 'file manifests',
  results: 'controls, tables, report',
};
const LINE_MS = 200;

/** One line that moves on a terminal; else a line for each stage. */
class Progress {
  readonly #io: Io;
  readonly #quiet: boolean;
  #last = '';
  #at = 0;
  #open = false;
  #attempts = 1;

  constructor(io: Io, quiet: boolean) {
    this.#io = io;
    this.#quiet = quiet;
  }

  async state({ state, stages, attempts, error }: Export): Promise<void> {
    if (attempts > this.#attempts) {
      this.#attempts = attempts;
      const why = error === null ? 'the server stopped in the middle' : `it failed: ${error.text.split('\n')[0] ?? ''}`;
      await this.line(`${printableText(why)}; attempt ${attempts} goes on`);
    }
    if (state === 'queued') return this.#show('waiting for its turn', 'waiting for its turn');
    const last = stages.at(-1);
    if (last === undefined) return;
    const words = WORDS[last.stage] ?? last.stage;
    const counts = last.total === null ? (last.done > 0 ? ` ${last.done}` : '') : ` ${last.done} of ${last.total}`;
    await this.#show(words, words + counts);
  }

  async download(at: number, bytes: number): Promise<void> {
    await this.#show('fetching', `fetching ${(at / 2 ** 20).toFixed(1)} of ${(bytes / 2 ** 20).toFixed(1)} MiB`);
  }

  /** A line that stays. */
  async line(text: string): Promise<void> {
    if (this.#last === text) return;
    await this.end();
    this.#last = text;
    await this.#io.stderr.write(`${text}\n`);
  }

  async #show(stage: string, text: string): Promise<void> {
    if (!this.#io.stderr.isTTY || this.#quiet) return this.line(stage);
    const now = performance.now();
    if (now - this.#at < LINE_MS) return;
    this.#at = now;
    this.#open = true;
    await this.#io.stderr.write(`\r\x1b[K${text}`);
  }

  async end(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    await this.#io.stderr.write('\r\x1b[K');
  }
}

/** `bootproof evidence …`: what an auditor does with a bundle, without a server, and how one is had (docs/evidence.md). */
import { open, readFile, type FileHandle } from 'node:fs/promises';
import { createHash, hash } from 'node:crypto';
import { parseInstant, type Instant } from '#src/clock.ts';
import type { Step } from '#src/evidence/steps.ts';
import { summaryOf } from '#src/evidence/summary.ts';
import { readFingerprint, readTrustedRoot, TrustedRootError, type TrustedRoot } from '#src/evidence/trustedroot.ts';
import { verifyBundle, type Brought, type Verification, type VerifyDeps } from '#src/evidence/verify.ts';
import type { ZipSource } from '#src/evidence/zip.ts';
import { BUNDLE_BROUGHT_BYTES_MAX } from '#src/limits.ts';
import { treeHash } from '#src/log/proof.ts';
import { verifyByKey, verifyInPool } from '#src/signing/node.ts';
import { EXIT, printableText, UsageError, type Exit, type Io } from '#src/terminal.ts';
import { program, runProgram } from './commander.ts';
import { emptyFolder, recompute, recomputeTo } from './evidencecompute.ts';
import { exportCommands } from './evidenceexport.ts';
import { sample, type SampleOptions } from './evidencesample.ts';
import { judgeImages } from './evidenceimages.ts';
import { list } from './image.ts';
import { writeJson } from './output.ts';

type Options = {
  readonly key?: readonly string[];
  readonly trustedRoot?: string;
  readonly knownCheckpoint?: readonly string[];
  readonly consistency?: readonly string[];
  readonly from?: string;
  readonly to?: string;
  /** Where what is computed again goes. */
  readonly write?: string;
  readonly json?: boolean;
};

const HELP = `
The fingerprint is the one thing that must reach you by another way than the bundle: from whoever answers for the server.
A checkpoint that somebody kept who does not run the server (bootproof agent checkpoint, on some hosts) shows that the log was not rewritten.

Exit codes: 0 all of it holds and the key is the one you gave · 1 something is wrong · 2 nothing is, but something could not be told.
`;

export async function main(args: readonly string[], io: Io): Promise<Exit> {
  let exit: Exit = EXIT.ok;
  const command = program('bootproof evidence', 'Evidence bundles: what an auditor takes away, and checks offline.');
  command
    .command('verify <file>')
    .description('check a bundle, step by step, without a network')
    .option('--key <fingerprint>', "SHA-256 of the server's public key, 64 hex digits (repeatable)", list)
    .option(
      '--trusted-root <file>',
      'keys of servers, logs and witnesses, and certificates of timestamp authorities, that you trust (docs/evidence.md 6)',
    )
    .option('--known-checkpoint <file>', 'a checkpoint of the log that somebody kept (repeatable)', list)
    .option('--consistency <file>', 'a proof between such a checkpoint and the bundle (repeatable)', list)
    .option('--write <dir>', 'compute the report, OSCAL and tables again from the facts, into this folder')
    .option('--from <time>', 'the period that was asked for: begins here, as 2026-07-01')
    .option('--to <time>', 'and ends before this')
    .option('--json', 'one JSON document on standard output')
    .addHelpText('after', HELP)
    .action(async (file: string, options: Options) => {
      exit = await verify(file, options, io);
    });
  command
    .command('sample <file>')
    .description('draw hosts from a bundle, or rows from a CSV, so that anybody can draw the same again')
    .requiredOption('--seed <text>', 'decides the draw; the auditor chooses it')
    .requiredOption('--size <number>', 'how many to draw')
    .option('--column <head>', 'of a CSV: what tells rows apart (default: the first column)')
    .option('--json', 'one JSON document on standard output')
    .action(async (file: string, options: SampleOptions) => {
      exit = await sample(file, options, openFile, io);
    });
  exportCommands(command, io, (code) => {
    exit = code;
  });
  return runProgram(command, args, io, () => exit);
}

async function verify(file: string, options: Options, io: Io): Promise<Exit> {
  const brought = await broughtBy(options);
  if (options.write !== undefined) await emptyFolder(options.write);
  const source = await openFile(file);
  const tell = (step: Step) => void (options.json === true ? undefined : lines.push(stepLine(step)));
  const lines: string[] = [];
  let result: Verification;
  try {
    const again = options.write === undefined ? recompute : recomputeTo(options.write);
    result = await verifyBundle(source, brought, { ...DEPS, recompute: again, tell });
  } finally {
    await source.close();
  }
  const { ok, steps, notChecked, level } = result;
  if (options.json === true) await writeJson({ ok, steps, notChecked, level }, io);
  else await io.stdout.write(`${lines.join('')}${summary(result)}`);
  return steps.some((step) => !step.ok) ? EXIT.different : result.incomplete ? EXIT.unknown : EXIT.ok;
}

const stepLine = ({ check, ok, detail }: Step) =>
  `${ok ? 'ok  ' : 'FAIL'}  ${check.padEnd(17)} ${printableText(detail)}\n`;

function summary(result: Verification): string {
  const not = result.notChecked.map((text) => `not checked: ${printableText(text)}\n`).join('');
  const { title, text } = summaryOf(result);
  return `${not}${title}. ${text}\n`;
}

const sha = (bytes: Uint8Array): Uint8Array => hash('sha256', bytes, 'buffer');
const DEPS: Omit<VerifyDeps, 'tell'> = {
  verify: verifyInPool,
  verifyBy: verifyByKey,
  sha256: () => createHash('sha256'),
  tree: treeHash(sha),
  recompute,
  images: judgeImages,
};

async function broughtBy(options: Options): Promise<Brought> {
  const { key = [], trustedRoot, knownCheckpoint = [], consistency = [] } = options;
  const root = trustedRoot === undefined ? undefined : await trustedRootAt(trustedRoot);
  return {
    keys: [...key, ...(root?.keys ?? [])].map(fingerprint),
    logs: root?.logs ?? [],
    witnesses: root?.witnesses ?? [],
    tsas: root?.tsas ?? [],
    known: await texts(knownCheckpoint),
    consistency: await texts(consistency),
    from: timeOf(options.from, '--from'),
    to: timeOf(options.to, '--to'),
  };
}

function fingerprint(text: string): string {
  return asUsage(() => readFingerprint(text));
}

async function trustedRootAt(file: string): Promise<TrustedRoot> {
  const text = await textAt(file);
  return asUsage(() => readTrustedRoot(text), `${printableText(file)}: `);
}

function asUsage<T>(read: () => T, where = ''): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof TrustedRootError)) throw error;
    throw new UsageError(`${where}${printableText(error.message)}`);
  }
}

async function texts(files: readonly string[]): Promise<{ readonly name: string; readonly text: string }[]> {
  const out = [];
  for (const name of files) out.push({ name, text: await textAt(name) });
  return out;
}

async function textAt(file: string): Promise<string> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(file);
  } catch (error) {
    throw unreadable(file, error);
  }
  if (bytes.length > BUNDLE_BROUGHT_BYTES_MAX)
    throw new UsageError(
      `${printableText(file)} has ${bytes.length} bytes: that is no checkpoint, proof or trusted root`,
    );
  return new TextDecoder().decode(bytes);
}

function timeOf(text: string | undefined, option: string): Instant | undefined {
  if (text === undefined) return undefined;
  const whole = /^\d{4}-\d\d-\d\d$/.test(text) ? `${text}T00:00:00.000Z` : text.replace(/(:\d\d)Z$/, '$1.000Z');
  const instant = parseInstant(whole);
  if (instant === undefined)
    throw new UsageError(`${option}: expected a day as 2026-07-01, or a time as 2026-07-01T00:00:00Z`);
  return instant;
}

async function openFile(file: string): Promise<ZipSource & { close(): Promise<void> }> {
  let handle: FileHandle;
  try {
    handle = await open(file);
  } catch (error) {
    throw unreadable(file, error);
  }
  const stat = await handle.stat();
  if (!stat.isFile()) {
    await handle.close();
    throw new UsageError(`${printableText(file)} is no file`);
  }
  const { size } = stat;
  return {
    size,
    async read(at, length) {
      const bytes = new Uint8Array(length);
      let held = 0;
      while (held < length) {
        const { bytesRead } = await handle.read(bytes, held, length - held, at + held);
        if (bytesRead === 0) throw new UsageError(`${printableText(file)} became shorter while it was read`);
        held += bytesRead;
      }
      return bytes;
    },
    close: () => handle.close(),
  };
}

const unreadable = (file: string, error: unknown) =>
  new UsageError(`${printableText(file)} cannot be read: ${(error as NodeJS.ErrnoException).code ?? String(error)}`);

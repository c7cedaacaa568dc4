/** `bootproof evidence …`: what an auditor does with a bundle, without a server (docs/evidence.md). */
import { open, readFile, type FileHandle } from 'node:fs/promises';
import { createHash, hash } from 'node:crypto';
import { z } from 'zod';
import { parseInstant, type Instant } from '#src/clock.ts';
import { assess, prepare, resultsText } from '#src/evidence/controls.ts';
import type { Facts } from '#src/evidence/facts.ts';
import type { Step } from '#src/evidence/steps.ts';
import { verifyBundle, type Brought, type Verification, type VerifyDeps } from '#src/evidence/verify.ts';
import type { ZipSource } from '#src/evidence/zip.ts';
import { BUNDLE_BROUGHT_BYTES_MAX } from '#src/limits.ts';
import { treeHash } from '#src/log/proof.ts';
import { parseFramework } from '#src/policy/controls.ts';
import { verifyInPool } from '#src/signing/node.ts';
import { NoteError, parseVkey, type NoteKey } from '#src/signing/note.ts';
import { EXIT, printableText, UsageError, type Exit, type Io } from '#src/terminal.ts';
import { program, runProgram } from './commander.ts';
import { list } from './image.ts';
import { writeJson } from './output.ts';

type Options = {
  readonly key?: readonly string[];
  readonly trustedRoot?: string;
  readonly knownCheckpoint?: readonly string[];
  readonly consistency?: readonly string[];
  readonly from?: string;
  readonly to?: string;
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
    .option('--trusted-root <file>', 'keys of servers, logs and witnesses that you trust (docs/evidence.md 6)')
    .option('--known-checkpoint <file>', 'a checkpoint of the log that somebody kept (repeatable)', list)
    .option('--consistency <file>', 'a proof between such a checkpoint and the bundle (repeatable)', list)
    .option('--from <time>', 'the period that was asked for: begins here, as 2026-07-01')
    .option('--to <time>', 'and ends before this')
    .option('--json', 'one JSON document on standard output')
    .addHelpText('after', HELP)
    .action(async (file: string, options: Options) => {
      exit = await verify(file, options, io);
    });
  return runProgram(command, args, io, () => exit);
}

async function verify(file: string, options: Options, io: Io): Promise<Exit> {
  const brought = await broughtBy(options);
  const source = await openFile(file);
  const tell = (step: Step) => void (options.json === true ? undefined : lines.push(stepLine(step)));
  const lines: string[] = [];
  let result: Verification;
  try {
    result = await verifyBundle(source, brought, { ...DEPS, tell });
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

const LEVELS = [
  "level 0: that the log was not rewritten is the server's own word",
  'level 1: the log is the one that was seen elsewhere',
  'level 2: a witness that you trust saw this log',
] as const;

function summary({ ok, steps, notChecked, level, incomplete }: Verification): string {
  const not = notChecked.map((text) => `not checked: ${printableText(text)}\n`).join('');
  const failed = steps.filter((step) => !step.ok).length;
  const said =
    failed > 0
      ? `NOT what was signed, or not true in itself: ${failed} ${failed === 1 ? 'check' : 'checks'} failed.`
      : !ok
        ? 'Nothing in it contradicts itself. WHOSE it is was not checked: no key came by another way.'
        : `As signed by the key that you gave, and true in itself; ${LEVELS[level]}.${incomplete ? ' Something you asked for could not be told: see above.' : ''}`;
  return `${not}${said}\n`;
}

const sha = (bytes: Uint8Array): Uint8Array => hash('sha256', bytes, 'buffer');
const DEPS: Omit<VerifyDeps, 'tell'> = {
  verify: verifyInPool,
  sha256: () => createHash('sha256'),
  tree: treeHash(sha),
  recompute,
};

/** Results of controls by the mappings that lie in the bundle. */
async function recompute(facts: Facts, read: (member: string) => Promise<string>): Promise<string> {
  const mappings = [];
  for (const id of facts.head.frameworks)
    mappings.push(parseFramework(await read(`controls/${id}.yaml`), `controls/${id}.yaml`));
  return resultsText(await assess(await prepare(facts, mappings)));
}

const TrustedRoot = z.strictObject({
  format: z.literal('bootproof.trusted-root/1'),
  keys: z.array(z.string()).min(1),
  logs: z.array(z.string()).default([]),
  witnesses: z.array(z.string()).default([]),
});

async function broughtBy(options: Options): Promise<Brought> {
  const { key = [], trustedRoot, knownCheckpoint = [], consistency = [] } = options;
  const root = trustedRoot === undefined ? undefined : await trustedRootAt(trustedRoot);
  return {
    keys: [...key, ...(root?.keys ?? [])].map(fingerprint),
    logs: root?.logs ?? [],
    witnesses: root?.witnesses ?? [],
    known: await texts(knownCheckpoint),
    consistency: await texts(consistency),
    from: timeOf(options.from, '--from'),
    to: timeOf(options.to, '--to'),
  };
}

function fingerprint(text: string): string {
  const match = /^(?:sha256:)?([0-9a-f]{64})$/.exec(text.trim().toLowerCase());
  if (match === null)
    throw new UsageError(
      `${printableText(text.slice(0, 100))} is no fingerprint: expected 64 hex digits, as openssl pkey -pubin -outform DER | sha256sum prints`,
    );
  return match[1]!;
}

async function trustedRootAt(
  file: string,
): Promise<{ keys: readonly string[]; logs: NoteKey[]; witnesses: NoteKey[] }> {
  const text = await textAt(file);
  try {
    const { keys, logs, witnesses } = TrustedRoot.parse(JSON.parse(text));
    return { keys, logs: logs.map(parseVkey), witnesses: witnesses.map(parseVkey) };
  } catch (error) {
    const why =
      error instanceof z.ZodError
        ? z.prettifyError(error)
        : error instanceof NoteError || error instanceof SyntaxError
          ? error.message
          : undefined;
    if (why === undefined) throw error;
    throw new UsageError(`${printableText(file)} is no trusted root (docs/evidence.md 6): ${why}`);
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
  let size: number;
  try {
    handle = await open(file);
    const stat = await handle.stat();
    if (!stat.isFile()) throw new UsageError(`${printableText(file)} is no file`);
    ({ size } = stat);
  } catch (error) {
    throw error instanceof UsageError ? error : unreadable(file, error);
  }
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

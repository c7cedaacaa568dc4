/** What every subcommand of the agent shares: settings, the state folder with its identity, files that a person names, and words. */
import {
  accessSync,
  closeSync,
  constants,
  lchownSync,
  lstatSync,
  openSync,
  readdirSync,
  readSync,
  statSync,
} from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs, type ParseArgsOptionsConfig } from 'node:util';
import { CONFIG_FILE_BYTES_MAX } from '#src/limits.ts';
import { isDigest, type Digest } from '#src/digest.ts';
import { wrongOption } from '#src/document/spelling.ts';
import { verifyInPool } from '#src/signing/node.ts';
import { argument, EXIT, printableText, UsageError, type Exit, type Io } from '#src/terminal.ts';
import { AGENT_VERSION, type AgentConfig, type Flags } from './config.ts';
import { nodeDisk, save } from './disk.ts';
import { IdentityError, KEY_FILE, readIdentity, readKey } from './identity.ts';
import { cannotWrite, placeOf, type OutboxDeps } from './outbox.ts';
import { parseServerUrl, Server } from './post.ts';

export const SETTINGS = {
  server: { type: 'string' },
  ca: { type: 'string' },
  state: { type: 'string' },
  root: { type: 'string' },
  help: { type: 'boolean', short: 'h' },
} as const satisfies ParseArgsOptionsConfig;

export const SETTINGS_HELP = `  --server URL      the server's address (https; plain http to this machine alone)
  --ca FILE         PEM file with the only authorities to trust
  --state DIR       where key, spool and state are kept (default /var/lib/bootproof)
  --root DIR        the root to look at (default /)
`;

/** For `--help`: what every subcommand ends with. */
export const EXIT_HELP = '64 wrong use, 70 our own fault.';

export function outboxDeps(io: Io, signal?: AbortSignal): OutboxDeps {
  return {
    disk: nodeDisk,
    clock: Date.now,
    random: Math.random,
    sleep: (ms) => sleep(ms, undefined, signal === undefined ? {} : { signal }),
    verify: verifyInPool,
    say: (sentence) => say(io, sentence),
  };
}

/** @throws {IdentityError} where this host is not enrolled. */
export function identityIn(config: AgentConfig) {
  const identity = readIdentity(nodeDisk, config.stateFolder);
  const signer = readKey(nodeDisk, config.stateFolder);
  if (identity !== undefined && signer === undefined)
    throw new IdentityError(
      'KEY_UNREADABLE',
      `the key of this host is gone (${config.stateFolder}/${KEY_FILE}), and ${identity.host} cannot sign without it: enrol again with a new one (--again)`,
    );
  if (identity === undefined || signer === undefined)
    throw new IdentityError(
      'NOT_ENROLLED',
      `this host is not enrolled (nothing in ${config.stateFolder}): 'bootproof agent enroll' does it`,
    );
  if (signer.publicKey !== identity.publicKey)
    throw new IdentityError(
      'KEY_UNREADABLE',
      `the key in ${config.stateFolder} is not the one that was enrolled: enrol again (--again)`,
    );
  return { identity, signer };
}

export function serverFor(config: AgentConfig, url: string, io: Io, signal?: AbortSignal): Server {
  const ca = config.ca === null ? undefined : readText(config.ca);
  argument(() => parseServerUrl(url));
  return new Server({ url, ca, env: io.env, userAgent: `bootproof-agent/${AGENT_VERSION}`, signal });
}

/** A small file that a person named. @throws {UsageError} where it cannot be read, or is larger. */
export function readSmall(file: string, limit: number, onlyBegin = false): Buffer {
  let fd: number | undefined;
  try {
    fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
    const buffer = Buffer.alloc(limit + 1);
    let length = 0;
    for (let n = -1; n !== 0 && length < buffer.length; length += n)
      n = readSync(fd, buffer, length, buffer.length - length, null);
    if (length > limit && !onlyBegin)
      throw new UsageError(`${file} has more than the ${limit} bytes that are read of such a file`);
    return buffer.subarray(0, length);
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`${file} cannot be read: ${(error as NodeJS.ErrnoException).code}`);
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** @throws {UsageError} */
export function readText(file: string): string {
  return readSmall(file, CONFIG_FILE_BYTES_MAX * 16).toString('utf8');
}

/** A file that a person named, as a whole. @throws {UsageError} where it cannot be written. */
export function writeWhole(file: string, text: string): void {
  const { folder, name } = placeOf(file);
  try {
    save(nodeDisk, folder, name, new TextEncoder().encode(text));
  } catch (error) {
    throw cannotWrite(file, error);
  }
}

/** Before a number is used up or a key is made: whether `--out` can be written. @throws {UsageError} */
export function checkOut(file: string): void {
  const { folder, name } = placeOf(file);
  try {
    if (!statSync(folder).isDirectory()) throw new UsageError(`--out ${file}: ${folder} is no folder`);
    accessSync(folder, constants.W_OK | constants.X_OK);
    if (name === '' || lstatSync(file, { throwIfNoEntry: false })?.isFile() === false)
      throw new UsageError(`--out ${file} is no regular file`);
  } catch (error) {
    throw cannotWrite(file, error);
  }
}

/** What root made in a folder of the agent's own user must be that user's: the service could not read it else. */
export function giveToOwner(folder: string): void {
  if (process.geteuid?.() !== 0) return;
  const { uid, gid } = statSync(folder);
  if (uid === 0) return;
  for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    const path = `${folder}/${name}`;
    // That user could put a link in its place between a look and this: the link itself is then given away, which is its own.
    if (lstatSync(path, { throwIfNoEntry: false })?.uid === 0) lchownSync(path, uid, gid);
  }
}

export function parseBackend(text: string | undefined): 'ostree' | 'composefs' | undefined {
  if (text === undefined || text === 'ostree' || text === 'composefs') return text;
  throw new UsageError('--backend is ostree or composefs');
}

/** A name that only looks like an image's digest would be reported as one, and no server could find it. */
export function parseImage(option: string, text: string): Digest {
  const digest = /^[0-9a-f]{64}$/.test(text) ? `sha256:${text}` : text;
  if (isDigest(digest)) return digest;
  throw new UsageError(
    `${option} is the digest of the booted image, sha256:<64 lower-case hex>, not ${JSON.stringify(text.slice(0, 80))}`,
  );
}

/** @throws {UsageError} */
export function options<T extends ParseArgsOptionsConfig>(args: readonly string[], config: T) {
  try {
    return parseArgs({ args: [...args], options: config, strict: true, allowPositionals: false }).values;
  } catch (error) {
    throw wrongOption(error, Object.keys(config));
  }
}

/** As `options`, for a subcommand that takes files too. @throws {UsageError} */
export function optionsAndFiles<T extends ParseArgsOptionsConfig>(args: readonly string[], config: T) {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      options: config,
      strict: true,
      allowPositionals: true,
    });
    return { values, files: positionals };
  } catch (error) {
    throw wrongOption(error, Object.keys(config));
  }
}

export function flagsOf(values: { server?: string; ca?: string; state?: string; root?: string }): Flags {
  return { url: values.server, ca: values.ca, state: values.state, root: values.root };
}

export async function help(io: Io, text: string): Promise<Exit> {
  await io.stdout.write(text);
  return EXIT.ok;
}

export async function say(io: Io, sentence: string): Promise<void> {
  await io.stderr.write(`bootproof agent: ${printableText(sentence)}\n`);
}

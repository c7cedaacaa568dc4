/** `agent enroll`, `agent run`, `agent status`: argv to what they do, and what they say to a person or a program. */
import { randomBytes } from 'node:crypto';
import { accessSync, chownSync, constants, lstatSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs, type ParseArgsOptionsConfig } from 'node:util';
import { formatInstant } from '#src/clock.ts';
import { isDigest, type Digest } from '#src/digest.ts';
import { BootproofError } from '#src/error.ts';
import { verifyInPool } from '#src/signing/node.ts';
import { fingerprintOf, parsePublicKey } from '#src/signing/ed25519.ts';
import type { TreeName } from '#src/manifest/entry.ts';
import { EXIT, jsonText, printableText, UsageError, type Exit, type Io } from '#src/terminal.ts';
import { AGENT_VERSION, readConfig, type AgentConfig, type Flags } from './config.ts';
import { nodeDisk, save } from './disk.ts';
import { enrol, enrolOffline, putAway } from './enrol.ts';
import { IdentityError, readIdentity, readKey } from './identity.ts';
import { lockFolder } from './lock.ts';
import type { Expected } from './manifestfile.ts';
import { ManifestError, Manifests } from './manifests.ts';
import { observe } from './observe.ts';
import { cannotWrite, Outbox, placeOf, type OutboxDeps } from './outbox.ts';
import { Server } from './post.ts';
import { cycle, type Cycle, type RunDeps } from './run.ts';
import { scan } from './scan.ts';

const SETTINGS = {
  server: { type: 'string' },
  ca: { type: 'string' },
  state: { type: 'string' },
  root: { type: 'string' },
  help: { type: 'boolean', short: 'h' },
} as const satisfies ParseArgsOptionsConfig;

const SETTINGS_HELP = `  --server URL      the server's address (https; plain http to this machine alone)
  --ca FILE         PEM file with the only authorities to trust
  --state DIR       where key, spool and state are kept (default /var/lib/bootproof)
  --root DIR        the root to look at (default /)
`;

const ENROLL_HELP = `bootproof agent enroll: makes this host's key and has the server take it

  --token T         the enrolment token; --token-file F reads it from a file, which no process list shows
  --again           begin anew with a new key; what there was is put away
  --offline         no network: write the request to --out F, for \`bootproof hosts approve F\`
${SETTINGS_HELP}`;

const RUN_HELP = `bootproof agent run: looks at the host once, compares it with its image, reports

  --every TIME      go on, at this interval or when the server asks (15m)
  --out FILE        write all waiting reports to FILE instead, for \`bootproof import FILE\`
  --interval TIME   expected time between reports, if a timer starts the agent (default 15m)
  --json            one JSON document on standard output
  --backend NAME, --image DIGEST    where the root itself cannot tell
${SETTINGS_HELP}`;

const STATUS_HELP = `bootproof agent status: who this host is to its server, and what waits

  --json            one JSON document on standard output
${SETTINGS_HELP}`;

/** Exit 0 when enrolled, 1 when refused or pending, 2 when the server could not be reached. */
export async function enrollCommand(args: readonly string[], io: Io): Promise<Exit> {
  const values = options(args, {
    ...SETTINGS,
    token: { type: 'string' },
    'token-file': { type: 'string' },
    offline: { type: 'boolean' },
    again: { type: 'boolean' },
    out: { type: 'string' },
  });
  if (values.help === true) return help(io, ENROLL_HELP);
  const config = readConfig(nodeDisk, io.env, flagsOf(values));
  const folder = config.stateFolder;
  const token = readToken(values.token, values['token-file']);
  if (values.out !== undefined) checkOut(values.out);
  if (values.offline === true && values.out === undefined) throw new UsageError('--offline needs --out FILE');
  if (values.offline !== true && token === null)
    throw new UsageError('--token or --token-file is needed, or --offline');
  nodeDisk.makeFolder(folder);
  using _lock = lockFolder(folder);
  const deps = { disk: nodeDisk, clock: Date.now, random: randomBytes, verify: verifyInPool };
  const machine = await observe({ root: config.root });
  try {
    if (values.again === true) putAway(deps, folder);
    if (values.offline === true) {
      const { host, body } = await enrolOffline(deps, { folder, machine, token });
      writeWhole(values.out!, `${JSON.stringify(body)}\n`);
      await say(io, `this host calls itself ${host}; its request is in ${values.out}: bootproof hosts approve FILE`);
      return EXIT.ok;
    }
    const url = config.url ?? undefined;
    if (url === undefined) throw new UsageError('--server URL is needed: no settings file names one');
    const server = serverFor(config, url, io);
    try {
      const enrolment = await enrol(deps, { folder, machine, token: token!, server, url });
      const waits =
        enrolment.standing === 'pending' ? '; it waits for approval, as another key speaks for this machine' : '';
      await say(io, `enrolled as ${enrolment.host} with ${server.name}${waits}`);
      return enrolment.standing === 'pending' ? EXIT.different : EXIT.ok;
    } finally {
      server.close();
    }
  } finally {
    giveToOwner(folder);
  }
}

/** Exit 0 where nothing differs, 1 where something does, 2 where something could not be told: to us, or to the server. */
export async function runCommand(args: readonly string[], io: Io): Promise<Exit> {
  const values = options(args, {
    ...SETTINGS,
    every: { type: 'string' },
    interval: { type: 'string' },
    out: { type: 'string' },
    json: { type: 'boolean' },
    backend: { type: 'string' },
    image: { type: 'string' },
  });
  if (values.help === true) return help(io, RUN_HELP);
  const backend = parseBackend(values.backend);
  const image = values.image === undefined ? undefined : parseImage('--image', values.image);
  if (values.every !== undefined && values.out !== undefined)
    throw new UsageError('--every and --out do not go together');
  if (values.out !== undefined) checkOut(values.out);
  const config = readConfig(nodeDisk, io.env, { ...flagsOf(values), interval: values.every ?? values.interval });
  const { identity, signer } = identityIn(config);
  using _lock = lockFolder(config.stateFolder);
  const stop = new AbortController();
  const url = config.url ?? identity.url;
  if (url === null && values.out === undefined)
    throw new UsageError('no server is set: --server URL, or --out FILE to carry reports by hand');
  const server = url === null || values.out !== undefined ? null : serverFor(config, url, io, stop.signal);
  const deps: RunDeps = { ...outboxDeps(io, stop.signal), observe, scan, server, signal: stop.signal };
  const about = { config, identity, signer, out: values.out, backend, image };
  const once = async (): Promise<Cycle> => {
    const first = await cycle(deps, about);
    await tell(io, first, values.json === true);
    if (!first.again) return first;
    await say(io, 'the server has not heard this host for a while: reporting once more, with a challenge of today');
    const second = await cycle(deps, about);
    await tell(io, second, values.json === true);
    return second;
  };
  const end = () => stop.abort(new Stopped());
  process.once('SIGTERM', end).once('SIGINT', end);
  try {
    if (values.every === undefined) return (await once()).exit;
    for (;;) await sleep(Math.max(0, (await next(once, io, config)) - Date.now()), undefined, { signal: stop.signal });
  } catch (error) {
    if (stop.signal.aborted) return EXIT.ok; // asked to stop: what was sealed waits for the next run
    throw error;
  } finally {
    process.off('SIGTERM', end).off('SIGINT', end);
    server?.close();
    giveToOwner(config.stateFolder);
  }
}

function parseBackend(text: string | undefined): 'ostree' | 'composefs' | undefined {
  if (text === undefined || text === 'ostree' || text === 'composefs') return text;
  throw new UsageError('--backend is ostree or composefs');
}

/** A name that only looks like an image's digest would be reported as one, and no server could find it. */
function parseImage(option: string, text: string): Digest {
  const digest = /^[0-9a-f]{64}$/.test(text) ? `sha256:${text}` : text;
  if (isDigest(digest)) return digest;
  throw new UsageError(
    `${option} is the digest of the booted image, sha256:<64 lower-case hex>, not ${JSON.stringify(text.slice(0, 80))}`,
  );
}

class Stopped extends Error {}

/** In a loop nothing that one cycle could not do ends the next ones. */
async function next(once: () => Promise<Cycle>, io: Io, config: AgentConfig): Promise<number> {
  try {
    return (await once()).next;
  } catch (error) {
    if (error instanceof Stopped || !(error instanceof BootproofError || isErrno(error))) throw error;
    await say(io, `this cycle failed: ${error.message}`);
    return Date.now() + config.intervalMs * (0.9 + 0.2 * Math.random());
  }
}

const isErrno = (error: unknown): error is NodeJS.ErrnoException => error instanceof Error && 'errno' in error;

/**
 * What this host's server says its trees must be, fetched and proved as for a report. `image` where the root cannot tell what it booted.
 * @throws {UsageError | IdentityError | ManifestError} with what to do.
 */
export async function expectedByServer(
  flags: Pick<Flags, 'url' | 'state' | 'root'> & { readonly image?: string | undefined },
  io: Io,
): Promise<Expected> {
  const image = flags.image === undefined ? undefined : parseImage('--digest', flags.image);
  const config = readConfig(nodeDisk, io.env, flags);
  const { identity, signer } = identityIn(config);
  if (identity.serverKey === null)
    throw new ManifestError(
      'MANIFEST_UNAVAILABLE',
      'this host was enrolled without a server that could sign a manifest',
    );
  const observed = await observe({ root: config.root, image });
  const digest = observed.state.booted?.image?.digest ?? image;
  if (digest === undefined)
    throw new UsageError('the root does not tell which image it booted: --digest sha256:… says it');
  using _lock = lockFolder(config.stateFolder);
  const { chain } = await Outbox.open(outboxDeps(io), { folder: config.stateFolder, host: identity.host, signer });
  const server = serverFor(config, config.url!, io);
  try {
    const manifests = new Manifests(
      {
        disk: nodeDisk,
        clock: Date.now,
        verify: verifyInPool,
        server,
        bearer: chain.answer?.manifestBearer ?? identity.manifestBearer,
        serverKey: parsePublicKey(identity.serverKey),
      },
      `${config.stateFolder}/manifests`,
    );
    const backend = observed.state.backend === 'unknown' ? 'ostree' : observed.state.backend;
    const found = await manifests.headers(digest, backend, false);
    if (found.kind === 'none') throw new ManifestError('MANIFEST_UNAVAILABLE', found.why);
    const known = chain.rules.find(({ image }) => image === found.headers[0]!.image)?.rule;
    const header = found.headers.find(({ rule }) => rule === known) ?? found.headers[0]!;
    const loaded = await manifests.manifest(header);
    if (loaded.kind === 'none') throw new ManifestError('MANIFEST_UNAVAILABLE', loaded.why);
    const digests = (tree: TreeName) => ({ main: header.trees[tree].main.comparison, extra: header.trees[tree].extra });
    return {
      image: header.image,
      rule: header.rule,
      trees: loaded.trees,
      digests: { usr: digests('usr'), etc: digests('etc') },
    };
  } finally {
    server.close();
    giveToOwner(config.stateFolder);
  }
}

/** Exit 0 when all is delivered, 1 when the server refused something that is still kept, 2 when reports wait or there is no identity. */
export async function statusCommand(args: readonly string[], io: Io): Promise<Exit> {
  const values = options(args, { ...SETTINGS, json: { type: 'boolean' } });
  if (values.help === true) return help(io, STATUS_HELP);
  const config = readConfig(nodeDisk, io.env, flagsOf(values));
  const { identity, signer } = identityIn(config);
  using _lock = lockFolder(config.stateFolder);
  const outbox = await Outbox.open(outboxDeps(io), { folder: config.stateFolder, host: identity.host, signer });
  const { chain, waiting } = outbox;
  const aside = (why: string) => nodeDisk.list(`${config.stateFolder}/spool/${why}`).length;
  const status = {
    host: identity.host,
    enrolledAt: identity.enrolledAt,
    server: config.url ?? identity.url,
    fingerprint: fingerprintOf(parsePublicKey(identity.publicKey)),
    version: AGENT_VERSION,
    lastReport: chain.seq,
    lastAnswer: chain.answer?.receivedAt ?? null,
    next: chain.answer?.next ?? null,
    waiting,
    refused: aside('refused'),
    damaged: aside('corrupt'),
    dropped: chain.dropped,
  };
  if (values.json === true) await io.stdout.write(`${jsonText(status)}\n`);
  else
    for (const [name, value] of Object.entries(status))
      await io.stdout.write(
        `${name.padEnd(12)} ${printableText(typeof value === 'string' ? value : JSON.stringify(value))}\n`,
      );
  return status.refused > 0 ? EXIT.different : waiting > 0 ? EXIT.unknown : EXIT.ok;
}

async function tell(io: Io, done: Cycle, json: boolean): Promise<void> {
  const { report, scan, delivery, comparedWith } = done;
  const count = (change: string) => scan.drift.filter((drift) => drift.change === change).length;
  const drift = scan.truncated ?? { added: count('added'), removed: count('removed'), modified: count('modified') };
  const holes = scan.trees.usr.holes.length + scan.trees.etc.holes.length;
  if (json) {
    const document = {
      seq: report.seq,
      kind: report.kind,
      comparedWith,
      drift,
      holes,
      delivered: delivery !== null && delivery.waiting === 0,
      waiting: delivery?.waiting ?? 0,
      complete: done.exit !== EXIT.unknown,
      next: formatInstant(done.next),
    };
    await io.stdout.write(`${jsonText(document)}\n`);
  }
  for (const note of scan.notes) await say(io, note);
  // Counts of what was never compared would read as "all well".
  const changes =
    'none' in comparedWith
      ? `compared with nothing: ${comparedWith.none}`
      : `${drift.added} added, ${drift.removed} removed, ${drift.modified} modified`;
  const seen = `${changes}${holes === 0 ? '' : `, ${holes} could not be looked at`}`;
  const way =
    delivery === null
      ? 'kept'
      : delivery.why === null && delivery.refused.length === 0
        ? 'delivered'
        : delivery.why === null
          ? 'refused'
          : `waits: ${delivery.why}`;
  await say(io, `report ${report.seq} (${report.kind}): ${seen}; ${way}`);
}

function outboxDeps(io: Io, signal?: AbortSignal): OutboxDeps {
  return {
    disk: nodeDisk,
    clock: Date.now,
    random: Math.random,
    sleep: (ms) => sleep(ms, undefined, signal === undefined ? {} : { signal }),
    verify: verifyInPool,
    say: (sentence) => say(io, sentence),
  };
}

function identityIn(config: AgentConfig) {
  const identity = readIdentity(nodeDisk, config.stateFolder);
  const signer = readKey(nodeDisk, config.stateFolder);
  if (identity === undefined || signer === undefined)
    throw new IdentityError(
      'NOT_ENROLLED',
      `this host is not enrolled (nothing in ${config.stateFolder}): bootproof agent enroll`,
    );
  if (signer.publicKey !== identity.publicKey)
    throw new IdentityError(
      'KEY_UNREADABLE',
      `the key in ${config.stateFolder} is not the one that was enrolled: enrol again (--again)`,
    );
  return { identity, signer };
}

function serverFor(config: AgentConfig, url: string, io: Io, signal?: AbortSignal): Server {
  const ca = config.ca === null ? undefined : readText(config.ca);
  return new Server({ url, ca, env: io.env, userAgent: `bootproof-agent/${AGENT_VERSION}`, signal });
}

function readToken(token: string | undefined, file: string | undefined): string | null {
  if (token !== undefined && file !== undefined) throw new UsageError('--token and --token-file do not go together');
  return token ?? (file === undefined ? null : readText(file).trim());
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new UsageError(`${file} cannot be read: ${(error as NodeJS.ErrnoException).code}`);
  }
}

function writeWhole(file: string, text: string): void {
  const { folder, name } = placeOf(file);
  try {
    save(nodeDisk, folder, name, new TextEncoder().encode(text));
  } catch (error) {
    throw cannotWrite(file, error);
  }
}

/** Before a number is used up or a key is made: whether `--out` can be written. @throws {UsageError} */
function checkOut(file: string): void {
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
function giveToOwner(folder: string): void {
  if (process.geteuid?.() !== 0) return;
  const { uid, gid } = statSync(folder);
  if (uid === 0) return;
  for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    const path = `${folder}/${name}`;
    const stat = lstatSync(path);
    if (stat.uid === 0 && !stat.isSymbolicLink()) chownSync(path, uid, gid);
  }
}

function options<T extends ParseArgsOptionsConfig>(args: readonly string[], config: T) {
  try {
    return parseArgs({ args: [...args], options: config, strict: true, allowPositionals: false }).values;
  } catch (error) {
    throw new UsageError((error as Error).message.split('\n')[0]!);
  }
}

function flagsOf(values: { server?: string; ca?: string; state?: string; root?: string }): Flags {
  return { url: values.server, ca: values.ca, state: values.state, root: values.root };
}

async function help(io: Io, text: string): Promise<Exit> {
  await io.stdout.write(text);
  return EXIT.ok;
}

async function say(io: Io, sentence: string): Promise<void> {
  await io.stderr.write(`bootproof agent: ${printableText(sentence)}\n`);
}

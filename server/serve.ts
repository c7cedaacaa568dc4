/** `bootproof server`: settings → a running server, until it is told to stop. For cli/server.ts and server/main.ts. */
import { accessSync, constants } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Policy } from '#src/policy/document.ts';
import { policyOfDocuments } from '#src/policy/documents.ts';
import { EXIT, printableText, UsageError, type Exit, type Io } from '#src/terminal.ts';
import { DocumentError } from '#src/document/yaml.ts';
import { BootproofError } from '#src/error.ts';
import { trustedProxies } from '#server/access/address.ts';
import { parseConfigured } from '#server/access/bindings.ts';
import { checkIssuer } from '#server/access/oidc.ts';
import { readSettings, SERVER_HELP, type Settings } from './config.ts';
import type { Log } from './deps.ts';
import { makeFolders } from './folder.ts';
import { mustBeFree } from './listen.ts';
import { logTo } from './logging.ts';
import { readAnchors } from './log/authority.ts';
import type { AnchorsSettings } from './log/anchors.ts';
import { parseMirrors, parseSignatureRepositories } from './mirrors.ts';
import { parseTargets } from './notices/target.ts';
import type { PolicySource } from './policies.ts';
import { gitCommit, readPolicyFiles, shippedPolicy } from './policyfiles.ts';
import { absence, readNamedFiles } from './sources.ts';
import { EXPORTS, LOG_CHECKPOINT, type StartOptions } from './options.ts';
import { startServer, type RunningServer } from './start.ts';
import { repositoryOf } from '#server/decisions/sources.ts';
import { SourceError } from '#src/source/source.ts';
import { readRootRefreshes, readTrustFiles, trustSetup, type TrustSetup } from './trust/setup.ts';

/** Runs until SIGINT or SIGTERM. @throws {UsageError | StoreError | StartError | DocumentError} */
export async function serve(args: readonly string[], io: Io): Promise<Exit> {
  try {
    return await run(args, io);
  } catch (error) {
    if (!(error instanceof DocumentError) || error.lines.length === 1) throw error;
    // Whoever catches it prints one line. Here each problem has its own, and what it quotes cannot begin another.
    const [first = '', ...more] = error.lines.map(printableText);
    await io.stderr.write([`bootproof: ${first} [${error.code}]`, ...more, ''].join('\n'));
    return EXIT.unknown;
  }
}

async function run(args: readonly string[], io: Io): Promise<Exit> {
  const settings = readSettings(args, io.env);
  if (settings.help) {
    await io.stdout.write(SERVER_HELP);
    return EXIT.ok;
  }
  const policy = await policySource(settings.policyFile);
  const trust = await readTrust(settings, io);
  const rootRefreshes = await readRootRefreshes({ repositories: settings.tuf, initial: settings.tufRoots });
  const isPlain = (registry: string) => settings.plainHttp.includes(registry);
  const mirrors = parseMirrors(settings.mirrors, isPlain);
  const signatureRepositories = parseSignatureRepositories(settings.signatureRepositories, isPlain);
  await checkRegistryFiles(settings, io);
  const access = await accessOf(settings);
  const anchors = await anchorsOf(settings);
  await tellAbsent(settings, io);
  await mustBeFree(settings.listen);
  if (settings.databaseUrl === undefined) makeFolder(settings.data);
  const log = logTo(io, settings.logLevel);
  const server = await startServer({
    storeUrl: settings.databaseUrl ?? `sqlite:${join(settings.data, 'bootproof.db')}`,
    policy,
    trust,
    rootRefreshes,
    refreshRootsEveryMs: settings.tufEveryMs,
    reverifyEveryMs: settings.reverifyMs,
    listen: settings.listen,
    baseUrl: settings.baseUrl,
    sources: sourcesOf(settings),
    registry: {
      env: io.env,
      caFiles: settings.caFile === undefined ? [] : [settings.caFile],
      authFile: settings.authFile,
      mirrors,
      signatureRepositories,
    },
    imageBounds: settings.imageBounds,
    newAdminToken: settings.newAdminToken,
    access,
    log,
    retention: settings.retention,
    jobsEveryMs: settings.jobsIntervalMs,
    stopWithinMs: settings.stopWithinMs,
    noticeTargets: parseTargets(settings.noticeTargets),
    metrics: settings.metrics,
    anchors,
    exports: { folder: join(settings.data, EXPORTS) },
    evidence: {
      origin: settings.logOrigin,
      checkpointFile: settings.logCheckpoint ?? join(settings.data, LOG_CHECKPOINT),
    },
  });
  if (server.adminToken !== undefined) await io.stderr.write(`admin token (shown this once): ${server.adminToken}\n`);
  if (settings.listen.movable && server.port !== settings.listen.port)
    await io.stderr.write(`port ${settings.listen.port} is taken, so this is on ${server.port}\n`);
  await io.stderr.write(`bootproof server at ${server.url}\n`);
  // The policy that counts goes on counting, whatever is wrong with the new one.
  const renew = (): void => {
    server.renewPolicy().catch((error: unknown) => log('error', 'policy not looked at', { error: String(error) }));
  };
  process.on('SIGHUP', renew);
  await untilStopped();
  process.off('SIGHUP', renew);
  await stop(server, settings, io, log);
  return EXIT.ok;
}

/** @throws {UsageError} */
function makeFolder(data: string): void {
  try {
    makeFolders(data);
    accessSync(data, constants.W_OK | constants.X_OK);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const why = code === 'EEXIST' || code === 'ENOTDIR' ? 'a file stands where a folder must be' : code;
    throw new UsageError(
      `--data ${printableText(data)} cannot be made a folder that this user writes to: ${why}; name another`,
    );
  }
}

/** What is named for registries is read once before anything is fetched, so that a slip is told now. @throws {UsageError} */
async function checkRegistryFiles({ authFile, caFile }: Settings, { env }: Io): Promise<void> {
  try {
    await readNamedFiles({ env, authFile, caFiles: caFile === undefined ? [] : [caFile] });
  } catch (cause) {
    if (!(cause instanceof SourceError)) throw cause;
    throw new UsageError(
      `${printableText(cause.message)}; correct --authfile (or REGISTRY_AUTH_FILE) or --ca-file, or leave it out`,
    );
  }
}

/** Witnesses and timestamp authorities. @throws {UsageError} */
async function anchorsOf(settings: Settings): Promise<AnchorsSettings> {
  const { witnesses, timestampAuthorities: authorities, timestampCas, caFile } = settings;
  const certificates: { name: string; pem: string }[] = [];
  for (const text of timestampCas) {
    const [, name, file] = /^([^=]+)=(.+)$/.exec(text) ?? [];
    if (name === undefined || file === undefined)
      throw new UsageError(`--timestamp-ca ${printableText(text)}: expected NAME=FILE`);
    certificates.push({ name, pem: await textIn(file, `--timestamp-ca ${name}`) });
  }
  return {
    ...readAnchors({ witnesses, authorities, certificates }),
    witnessEveryMs: settings.witnessEveryMs,
    stampEveryMs: settings.timestampEveryMs,
    ca: caFile === undefined ? [] : [await textIn(caFile, '--ca-file')],
  };
}

async function textIn(file: string, option: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new UsageError(
      `${printableText(option)}: ${printableText(file)} cannot be read: ${(cause as NodeJS.ErrnoException).code}`,
    );
  }
}

type AccessSettings = NonNullable<StartOptions['access']>;

/** How people come in. @throws {UsageError} */
async function accessOf({ oidc, oidcRoles, trustedProxies: proxies }: Settings): Promise<AccessSettings> {
  try {
    if (oidc !== null) checkIssuer(oidc.issuer);
    return {
      oidc: oidc && { ...oidc, clientSecret: await secretIn(oidc.clientSecretFile) },
      configured: oidcRoles.map(parseConfigured),
      proxies: trustedProxies(proxies),
    };
  } catch (cause) {
    if (!(cause instanceof BootproofError) || cause instanceof UsageError) throw cause;
    throw new UsageError(printableText(cause.message));
  }
}

async function secretIn(file: string | undefined): Promise<string | null> {
  if (file === undefined) return null;
  let text: string;
  try {
    text = (await readFile(file, 'utf8')).trim();
  } catch (cause) {
    throw new UsageError(
      `--oidc-client-secret-file ${printableText(file)} cannot be read: ${(cause as NodeJS.ErrnoException).code}`,
    );
  }
  if (!/^[!-~]{1,1000}$/.test(text))
    throw new UsageError(`--oidc-client-secret-file ${printableText(file)}: expected one line with the secret alone`);
  return text;
}

/** A layout or archive may come later; a reader of the log should know that it is awaited. */
async function tellAbsent({ sources }: Settings, io: Io): Promise<void> {
  for (const reference of sources) {
    const why = await absence(repositoryOf(reference));
    if (why !== undefined) await io.stderr.write(`warning: --source ${printableText(reference)}: ${why}\n`);
  }
}

function sourcesOf({ sources, plainHttp }: Settings): { reference: string; plainHttp: boolean }[] {
  return sources.map((reference) => ({
    reference,
    plainHttp: plainHttp.some((registry) => reference.startsWith(`docker://${registry}/`)),
  }));
}

/** The policy in a file or folder, or the one that ships. `extends: default` means the one that ships. @throws {UsageError | DocumentError} */
export async function readPolicy(place: string | undefined): Promise<Policy> {
  const { policy } = await shippedPolicy();
  return place === undefined ? policy : policyOfDocuments(await readPolicyFiles(place), policy).policy;
}

/** Where a server's policy comes from: a file or folder that is followed as it changes, or versions that people apply. */
export async function policySource(place: string | undefined): Promise<PolicySource> {
  const shipped = await shippedPolicy();
  if (place === undefined) return { kind: 'store', shipped };
  return {
    kind: 'files',
    place,
    shipped,
    read: async () => ({ documents: await readPolicyFiles(place), commit: await gitCommit(place) }),
  };
}

/** The image policy that the settings name, with what its author should know; null without one. @throws {UsageError | BootproofError} */
async function readTrust({ imagePolicies, trustRoots, tuf }: Settings, io: Io): Promise<TrustSetup | null> {
  if (imagePolicies.length === 0) {
    if (trustRoots.length > 0 || tuf.length > 0)
      throw new UsageError(
        '--trust-root and --tuf without --image-policy: a root vouches for nothing unless a policy names it',
      );
    return null;
  }
  const setup = trustSetup(await readTrustFiles({ policies: imagePolicies, roots: trustRoots }));
  for (const { file, line, column, message } of setup.policy.lints)
    await io.stderr.write(`${printableText(`${file}:${line}:${column}: ${message}`)}\n`);
  return setup;
}

/** Work that does not end when it is told to gets so long besides requests, ms; whoever takes it up again finds what was committed. */
const WORK_ENDS_MS = 10_000;

/** In order: balancers hear of it, requests under way end, what waits is committed. A second signal, or a bound, ends it at once. */
async function stop(server: RunningServer, settings: Settings, io: Io, log: Log): Promise<void> {
  const { stopDelayMs, stopWithinMs } = settings;
  await io.stderr.write('stopping\n');
  server.leave();
  void untilStopped().then(() => {
    log('warn', 'stopped at once', { why: 'a second signal' });
    io.exit?.(SIGNALLED);
  });
  await sleep(stopDelayMs);
  const late = setTimeout(() => {
    log('error', 'stopped at once', { why: `work went on for longer than ${stopWithinMs + WORK_ENDS_MS} ms` });
    io.exit?.(EXIT.unknown);
  }, stopWithinMs + WORK_ENDS_MS);
  await server.close();
  clearTimeout(late);
  log('info', 'stopped');
}

/** As a shell tells a process that SIGINT ended. */
const SIGNALLED = 130;

/** Resolves at SIGINT or SIGTERM; after that they end the process, as they do by themselves. */
export function untilStopped(): Promise<void> {
  return new Promise((resolve) => {
    const heard = (): void => {
      process.off('SIGINT', heard);
      process.off('SIGTERM', heard);
      resolve();
    };
    process.on('SIGINT', heard);
    process.on('SIGTERM', heard);
  });
}

/** `bootproof server`: settings → a running server, until it is told to stop. For cli/server.ts and server/main.ts. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { EXIT, printableText, type Exit, type Io } from '#src/terminal.ts';
import { VERSION } from '#src/version.ts';
import { repositoryOf } from '#server/decisions/sources.ts';
import type { Settings } from './config.ts';
import type { Log } from './deps.ts';
import { SERVER_HELP } from './flags.ts';
import { mustBeFree } from './listen.ts';
import { logTo } from './logging.ts';
import { EXPORTS, LOG_CHECKPOINT, type StartOptions } from './options.ts';
import { makeFolder, prepare, type Prepared } from './prepare.ts';
import { loadSettings, storeUrlOf } from './settings.ts';
import { absence } from './sources.ts';
import { startServer, type RunningServer } from './start.ts';

/** Runs until SIGINT or SIGTERM. @throws {UsageError | StoreError | StartError | DocumentError} */
export async function serve(args: readonly string[], io: Io): Promise<Exit> {
  if (args.includes('--help')) {
    await io.stdout.write(SERVER_HELP);
    return EXIT.ok;
  }
  const settings = await loadSettings(args, io.env);
  const prepared = await prepare(settings, io);
  for (const { file, line, column, message } of prepared.trust?.policy.lints ?? [])
    await io.stderr.write(`${printableText(`${file}:${line}:${column}: ${message}`)}\n`);
  await tellAbsent(settings, io);
  await mustBeFree(settings.listen);
  if (settings.databaseUrl === undefined) makeFolder(settings.data);
  const log = logTo(io, settings.logLevel);
  const server = await startServer({
    ...startOptionsOf(settings, prepared),
    registry: registryFrom(settings, prepared, io),
    log,
  });
  if (server.adminToken !== undefined) await io.stderr.write(`admin token (shown this once): ${server.adminToken}\n`);
  if (settings.listen.movable && server.port !== settings.listen.port)
    await io.stderr.write(`port ${settings.listen.port} is taken, so this is on ${server.port}\n`);
  await io.stderr.write(`bootproof server at ${server.url}\n`);
  log('info', 'listening', { url: server.url, version: VERSION, store: server.store.engine });
  // The policy and the certificate that count go on counting, whatever is wrong with the new one.
  const renew = (): void => {
    server.renewPolicy().catch((error: unknown) => log('error', 'policy not looked at', { error: String(error) }));
    void server.renewCertificate();
  };
  process.on('SIGHUP', renew);
  await untilStopped();
  process.off('SIGHUP', renew);
  await stop(server, settings, io, log);
  return EXIT.ok;
}

function startOptionsOf(settings: Settings, prepared: Prepared): StartOptions {
  const { policy, trust, rootRefreshes, access, anchors, noticeTargets } = prepared;
  return {
    storeUrl: storeUrlOf(settings),
    migrates: settings.migrates,
    policy,
    trust,
    rootRefreshes,
    refreshRootsEveryMs: settings.tufEveryMs,
    reverifyEveryMs: settings.reverifyMs,
    listen: settings.listen,
    tls: settings.tls,
    baseUrl: settings.baseUrl,
    sources: sourcesOf(settings),
    imageBounds: settings.imageBounds,
    newAdminToken: settings.newAdminToken,
    access,
    retention: settings.retention,
    jobsEveryMs: settings.jobsIntervalMs,
    stopWithinMs: settings.stopWithinMs,
    noticeTargets,
    metrics: settings.metrics,
    anchors,
    exports: { folder: join(settings.data, EXPORTS) },
    evidence: {
      origin: settings.logOrigin,
      checkpointFile: settings.logCheckpoint ?? join(settings.data, LOG_CHECKPOINT),
    },
  };
}

function registryFrom(
  { caFile, authFile }: Settings,
  { mirrors, signatureRepositories }: Prepared,
  { env }: Io,
): StartOptions['registry'] & {} {
  return { env, caFiles: caFile === undefined ? [] : [caFile], authFile, mirrors, signatureRepositories };
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

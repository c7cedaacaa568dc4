/** A server in this process: store, keys, intake, jobs, HTTP, wired from what is handed in; and its orderly end. */
import { randomBytes } from 'node:crypto';
import type { Hono } from 'hono';
import { verifyInPool } from '#src/signing/node.ts';
import type { Exports } from '#server/evidence/exports.ts';
import type { Anchors } from '#server/log/anchors.ts';
import type { EvidenceLog } from '#server/log/evidencelog.ts';
import { openStore } from '#server/store/open.ts';
import type { Store } from '#server/store/store.ts';
import { buildApp } from './app.ts';
import { begin } from './beginnings.ts';
import { OwnCertificate, type Pair } from './certificate.ts';
import type { Log } from './deps.ts';
import { serverKeys } from './keys.ts';
import { closeHttp, listen, urlOf, useCertificate, type Listening } from './listen.ts';
import { migrated } from './migration.ts';
import type { StartOptions } from './options.ts';
import { openParts, type Parts } from './parts.ts';
import { workOf } from './work.ts';

export type RunningServer = {
  /** Where it is reached: the base URL. */
  readonly url: string;
  /** Where it listens. */
  readonly port: number;
  /** Told once, when it was made. */
  readonly adminToken: string | undefined;
  readonly app: Hono;
  readonly store: Store;
  readonly evidence: EvidenceLog;
  readonly exports: Exports;
  readonly anchors: Anchors;
  /** Looks at once whether the policy's file or folder changed; what is wrong with it is logged and told by the API. */
  renewPolicy(): Promise<void>;
  /** Looks at once whether its certificate's files changed; one that does not fit is logged, and not used. */
  renewCertificate(): Promise<void>;
  /** Says that it ends: `/readyz` answers 503, and everything else is answered as before. */
  leave(): void;
  /** Takes no new request, ends those under way, commits what waits, then lets go. */
  close(): Promise<void>;
};

const quiet: Log = () => {};

/** Starts a server. @throws {StoreError | StartError} for a store that cannot be opened, an address that cannot be listened on. */
export async function startServer(options: StartOptions): Promise<RunningServer> {
  const { log = quiet, clock = Date.now, random = randomBytes } = options;
  const { tls = null } = options;
  const certificate = tls === null ? null : await OwnCertificate.open(tls, { log, now: Date.now });
  if (options.migrates === false) await migrated(options.storeUrl, log);
  const store = await openStore(options.storeUrl);
  let listening: Listening | undefined;
  let parts: Parts | undefined;
  try {
    const keys = await serverKeys(store, random);
    const deps = { store, keys, clock, random, log, verify: verifyInPool };
    let url = options.baseUrl ?? '';
    const baseUrl = (): string => url;
    parts = await openParts(options, { ...deps, certificate }, baseUrl);
    const { access, anchors, batch, evidence, examiner, health, policies, refusals } = parts;
    const work = workOf(options, parts, deps, baseUrl);
    const { exports, lapses, notices, retention, wake } = work;
    const app = buildApp({ ...deps, ...parts, exports, lapses, notices, retention, wake, baseUrl });
    await begin(options, parts, deps);
    const opened = await listen(app, options.listen, log, certificate);
    listening = opened;
    url ||= urlOf(options.listen.host, opened.port, certificate === null ? 'http' : 'https');
    // Made once nothing can fail any more: a token that a failed start took with it is never told.
    const adminToken = (await access.first()) ?? (options.newAdminToken === true ? await access.renew() : undefined);
    work.start();
    const renewed = (pair: Pair): void => useCertificate(opened, pair);
    certificate?.follow(renewed);
    const { server, port } = opened;
    return {
      url,
      port,
      adminToken,
      app,
      store,
      evidence,
      exports,
      anchors,
      renewPolicy: async () => {
        if (await policies.renew()) wake();
      },
      renewCertificate: async () => certificate?.look(renewed, true),
      leave: () => health.stop(),
      close: async () => {
        health.stop();
        certificate?.close();
        await closeHttp(server, options.stopWithinMs);
        anchors.close();
        await work.close();
        await batch.drain();
        await refusals.close();
        await examiner.close();
        await store.close();
      },
    };
  } catch (error) {
    if (listening !== undefined) await closeHttp(listening.server);
    await parts?.examiner.close();
    await store.close();
    throw error;
  }
}

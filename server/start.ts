/** A server in this process: store, keys, intake, jobs, HTTP, wired from what is handed in; and its orderly end. */
import { randomBytes } from 'node:crypto';
import type { BlockList } from 'node:net';
import { arch, availableParallelism, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Hono } from 'hono';
import { toHex } from '#src/bytes.ts';
import type { Clock } from '#src/clock.ts';
import { freshnessOf, type Policy } from '#src/policy/document.ts';
import { verifyInPool } from '#src/signing/node.ts';
import { IMAGE_BOUNDS, type ImageBounds } from '#src/source/bounds.ts';
import { Access } from '#server/access/admin.ts';
import type { Configured } from '#server/access/bindings.ts';
import { Oidc, type OidcSettings } from '#server/access/oidc.ts';
import { allowSource, sourcePattern } from '#server/decisions/sources.ts';
import { Answers } from '#server/ingest/answers.ts';
import { Batch } from '#server/ingest/batch.ts';
import { Enrolments } from '#server/ingest/enrol.ts';
import {
  recordOf,
  Examiner,
  LocalLooker,
  type Looker,
  type LookerDeps,
  type Lookups,
} from '#server/ingest/examiner.ts';
import { HostReads } from '#server/ingest/hostreads.ts';
import { JudgePool } from '#server/ingest/judgepool.ts';
import { KnownImages } from '#server/ingest/known.ts';
import { KnownDefaults } from '#server/ingest/lineage.ts';
import { NotedImages } from '#server/ingest/noted.ts';
import { Pipeline } from '#server/ingest/pipeline.ts';
import { Load, Shares } from '#server/ingest/quota.ts';
import { Refusals } from '#server/ingest/refusals.ts';
import { Lapses } from '#server/decisions/lapse.ts';
import { Exports } from '#server/evidence/exports.ts';
import { makeInWorker, type Make } from '#server/evidence/inworker.ts';
import { exportWork } from '#server/evidence/work.ts';
import { lapseChore, waiverWork } from '#server/jobs/lapse.ts';
import { bulkChore, bulkWork } from '#server/jobs/bulk.ts';
import { contentsChore } from '#server/jobs/contents.ts';
import { buildInWorker, type Build } from '#server/jobs/builder.ts';
import { forgetChore } from '#server/jobs/forget.ts';
import { anchorChore } from '#server/jobs/anchors.ts';
import { logChore } from '#server/jobs/log.ts';
import { manifestWork } from '#server/jobs/manifests.ts';
import { POLICY_JOB, policyChore, policyWork, rejudgeWork } from '#server/jobs/rejudge.ts';
import { Chores, Lane } from '#server/jobs/runner.ts';
import { lookUpIn, tagOf, tagWork, type LookUp } from '#server/jobs/tags.ts';
import { nightlyJob, nightlyWork } from '#server/jobs/nightly.ts';
import { retentionJob, retentionWork } from '#server/jobs/retention.ts';
import { sessionChore } from '#server/jobs/sessions.ts';
import { noticeChore, remindChore, sendWork, tellWork } from '#server/jobs/notices.ts';
import { silenceChore } from '#server/jobs/silence.ts';
import { rootWork } from '#server/jobs/roots.ts';
import { trustAllWork, trustChore, trustHostsWork, trustWork } from '#server/jobs/trust.ts';
import { Anchors, NO_ANCHORS, type AnchorsSettings } from '#server/log/anchors.ts';
import { CheckpointFile } from '#server/log/checkpointfile.ts';
import { EvidenceLog, type EvidenceDeps } from '#server/log/evidencelog.ts';
import { LogForHosts } from '#server/log/told.ts';
import type { Mirror, SignatureRepository } from '#server/mirrors.ts';
import { Targets, type NoticeTarget } from '#server/notices/target.ts';
import { KEEP_ALL, type RetentionSettings } from '#server/retention.ts';
import { openStore } from '#server/store/open.ts';
import type { Store } from '#server/store/store.ts';
import { assessInWorker, type Assessor } from '#server/trust/assessor.ts';
import { Basis } from '#server/trust/basis.ts';
import { KnownTrust, trustAllJob } from '#server/trust/known.ts';
import { rootJob, type RootRefresh } from '#server/trust/roots.ts';
import { noteRoots } from '#server/trust/rootstold.ts';
import type { TrustSetup } from '#server/trust/setup.ts';
import {
  HOST_BYTES_BURST,
  HOST_BYTES_PER_SECOND,
  HOST_REPORTS_BURST,
  HOST_REPORTS_PER_SECOND,
  JUDGE_THREADS_MAX,
  KNOWN_TEXT_BYTES_MAX,
} from '#src/limits.ts';
import { VERSION } from '#src/version.ts';
import { buildApp } from './app.ts';
import type { Deps, Log } from './deps.ts';
import { KnownWaivers } from './exempt.ts';
import { hostFactsOf } from './hostfacts.ts';
import { logSigner, serverKeys } from './keys.ts';
import { closeHttp, listen, urlOf, type Address, type Listening } from './listen.ts';
import { Metrics, type MetricsFor } from './metrics.ts';
import { KnownOrigins } from './origins.ts';
import { Policies, type PolicySource } from './policies.ts';

export type StartOptions = {
  /** `sqlite:PATH` or `postgres://…` (server/store/open.ts). */
  readonly storeUrl: string;
  /** One that never changes, or where it comes from. */
  readonly policy: Policy | PolicySource;
  readonly listen: Address;
  /** How hosts and people reach this server; by default where it listens. */
  readonly baseUrl?: string | undefined;
  /** Sources that are allowed from the start, beside those that people allowed. */
  readonly sources?: readonly { readonly reference: string; readonly plainHttp?: boolean }[];
  /** How registries are spoken to. */
  readonly registry?: {
    readonly env?: Readonly<Record<string, string | undefined>>;
    readonly caFiles?: readonly string[];
    readonly authFile?: string | undefined;
    /** Registries and repositories that are asked for elsewhere. */
    readonly mirrors?: readonly Mirror[];
    /** Where signatures lie besides an image's own repository. */
    readonly signatureRepositories?: readonly SignatureRepository[];
  };
  /** How large images may be whose manifests are built. */
  readonly imageBounds?: ImageBounds;
  readonly newAdminToken?: boolean;
  /** How people come in beside the admin token. */
  readonly access?: {
    readonly oidc?: OidcSettings | null;
    /** Roles for groups of the provider. */
    readonly configured?: readonly Configured[];
    readonly proxies?: BlockList;
  };
  readonly log?: Log;
  readonly clock?: Clock;
  readonly random?: (bytes: number) => Uint8Array;
  readonly build?: Build;
  readonly lookUp?: LookUp;
  /** What images must be signed by; without it nothing is assessed. */
  readonly trust?: TrustSetup | null;
  readonly assess?: Assessor;
  /** Trust roots that are kept up with a TUF repository, and how often; none unless the operator allowed it. */
  readonly rootRefreshes?: readonly RootRefresh[];
  readonly refreshRootsEveryMs?: number;
  /** How often each image's signatures are looked for again. */
  readonly reverifyEveryMs?: number;
  /** Receivers of notices that whoever runs this allows to lie inside. */
  readonly noticeTargets?: readonly NoticeTarget[];
  /** Who may read `/metrics`; whoever shows a token by default. */
  readonly metrics?: MetricsFor;
  /** The evidence log's name, and where its last checkpoint is kept apart from the store; by default beside an SQLite database. */
  readonly evidence?: { readonly origin?: string | undefined; readonly checkpointFile?: string | null };
  /** Where bundles that were exported lie, by default beside an SQLite database; and how they are made. */
  readonly exports?: { readonly folder?: string; readonly make?: Make };
  /** Who signs or stamps its checkpoints besides; nobody by default. */
  readonly anchors?: Partial<AnchorsSettings>;
  /** How long what lies beside the log stays; for good by default. */
  readonly retention?: RetentionSettings;
  /** How often waiting work and silent hosts are looked for, ms. */
  readonly jobsEveryMs?: number;
};

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
  /** Takes no new request, ends those under way, commits what waits, then lets go. */
  close(): Promise<void>;
};

const BUILDER = `bootproof ${VERSION}`;
const quiet: Log = () => {};
/** How soon a changed file, or what another process applied, counts here. */
const POLICY_MS = 1000;
/** A day: a registry's clean-up rules run by the night, and proofs do not change by themselves. */
const REVERIFY_MS = 24 * 3_600_000;
/** TUF timestamps of the public instance are good for days. */
const REFRESH_ROOTS_MS = 24 * 3_600_000;
/** How soon what another process found out or took in is taken in here. */
const WATCH_MS = 500;
/** Previews that nobody applied go after a quarter of an hour, and soon after is soon enough. */
const SWEEP_MS = 60_000;
/** What nobody runs may lie for some time. */
const FORGET_MS = 3_600_000;
/** Channels that are sent to beside each other: one receiver that hangs must not hold up all others. */
const SENDING_LANES = 3;
/** Notices wait half a minute before they go; looking for them more often than this only costs. */
const NOTICES_LOOK_MS = 250;
/** How often witnesses and authorities are looked at that are due: each has its own pace. */
const ANCHORS_LOOK_MS = 2_000;
/** Starts a server. @throws {StoreError | StartError} for a store that cannot be opened, an address that cannot be listened on. */
export async function startServer(options: StartOptions): Promise<RunningServer> {
  const { log = quiet, clock = Date.now, random = randomBytes, jobsEveryMs = 1000, retention = KEEP_ALL } = options;
  const store = await openStore(options.storeUrl);
  let listening: Listening | undefined;
  let examiner: Examiner | undefined;
  try {
    const keys = await serverKeys(store, random);
    let url = options.baseUrl ?? '';
    const deps = { store, keys, clock, random, log, verify: verifyInPool };
    const { oidc = null, ...letIn } = options.access ?? {};
    const access = new Access(deps, {
      ...letIn,
      oidc: oidc === null ? null : new Oidc(oidc, deps, () => `${url}/login/callback`),
    });
    const evidence = await openEvidence(options, { store, clock, log, random });
    const anchors = new Anchors({ ...deps, evidence }, { ...NO_ANCHORS, ...options.anchors });
    const batch = new Batch(store);
    const images = new KnownImages(store, KNOWN_TEXT_BYTES_MAX);
    const defaults = new KnownDefaults(images);
    const origins = new KnownOrigins({ store, images });
    const noted = new NotedImages(store);
    const hosts = new HostReads(store);
    const basis = await Basis.open(options.trust ?? null, options.rootRefreshes ?? [], store, {
      actor: 'configuration',
      at: clock(),
    });
    const trust = new KnownTrust({ store, clock }, basis);
    const waivers = new KnownWaivers({ store, clock });
    const refusals = new Refusals(store, log);
    const policies = await openPolicies(options.policy, deps);
    const answers = new Answers(
      { ...deps, evidence: new LogForHosts(evidence, keys.signer, log, (known) => anchors.kept(known)) },
      (host) => freshnessOf(policies.current, hostFactsOf(host)).reportEvery,
    );
    const shares = new Shares({ burst: HOST_REPORTS_BURST, perSecond: HOST_REPORTS_PER_SECOND });
    const bytes = new Shares({ burst: HOST_BYTES_BURST, perSecond: HOST_BYTES_PER_SECOND });
    const lookups: Lookups = {
      admit: async (id) => {
        const host = await hosts.get(id);
        const now = clock();
        return host === undefined
          ? { record: undefined, wait: 0 }
          : { record: recordOf(host), wait: Math.max(shares.wait(id, now), bytes.wait(id, now)) };
      },
      provenances: trust,
      tag: (claim) => tagOf(claim, clock(), deps),
    };
    const looking = { ...deps, lookups, images, ticketKeys: keys.tickets };
    examiner = new Examiner('kind' in options.policy ? inThreads(looking) : new LocalLooker(looking), {
      store,
      waivers,
      policies,
    });
    const pipeline = new Pipeline({
      ...deps,
      batch,
      hosts,
      examiner,
      images,
      noted,
      trust,
      answers,
      refusals,
      shares,
      bytes,
      policies,
    });
    const enrolments = new Enrolments({ ...deps, policies });

    const judging = { store, clock, batch, examiner, images, trust, waivers, policies };
    const builds = new Lane(
      deps,
      [
        manifestWork({
          ...deps,
          build: options.build ?? buildInWorker,
          registry: registryOf(options),
          bounds: options.imageBounds ?? IMAGE_BOUNDS,
        }),
      ],
      jobsEveryMs,
    );
    const judgements = new Lane(
      deps,
      [
        rejudgeWork(judging),
        policyWork(judging),
        tagWork({ ...judging, lookUp: options.lookUp ?? lookUpIn(registryOf(options)) }),
        waiverWork(judging),
        bulkWork({ ...deps, wake: () => {} }),
      ],
      jobsEveryMs,
    );
    const lapses = new Lapses({ ...judging, log });
    const trusting = {
      ...judging,
      log,
      basis,
      assess: options.assess ?? assessInWorker,
      terms: registryOf(options),
      signatureRepositories: options.registry?.signatureRepositories ?? [],
      reverifyEveryMs: options.reverifyEveryMs ?? REVERIFY_MS,
    };
    const trusts = new Lane(deps, [trustWork(trusting), trustAllWork(trusting), trustHostsWork(trusting)], jobsEveryMs);
    // By itself: a repository that hangs must not keep images from being judged. What is done by the night can wait for it.
    const roots = new Lane(
      deps,
      [
        rootWork({ ...deps, basis, everyMs: options.refreshRootsEveryMs ?? REFRESH_ROOTS_MS }),
        nightlyWork(deps),
        retentionWork({ ...deps, retention }),
      ],
      jobsEveryMs,
    );
    const metrics = new Metrics({ ...deps, access, evidence, anchors }, options.metrics ?? 'token');
    const notices = {
      ...deps,
      targets: new Targets(options.noticeTargets ?? []),
      baseUrl: () => url,
      sent: metrics.sent,
      wake: () => {
        for (const lane of sending) lane.wake();
      },
    };
    const lookMs = Math.max(jobsEveryMs, NOTICES_LOOK_MS);
    const telling = new Lane(deps, [tellWork(notices, notices.wake)], lookMs);
    const sending = Array.from({ length: SENDING_LANES }, () => new Lane(deps, [sendWork(notices)], lookMs));
    const exporting = {
      ...deps,
      evidence,
      anchors,
      storeUrl: options.storeUrl,
      folder: exportFolder(options),
      baseUrl: () => url,
      make: options.exports?.make ?? makeInWorker,
    };
    const exports = new Exports(exporting);
    const exportLane = new Lane(deps, [exportWork(exporting)], jobsEveryMs);
    const chores = new Chores(log);
    const working = [builds, judgements, trusts, roots, exportLane];
    const notifying = [telling, ...sending];
    const wake = (): void => {
      for (const lane of working) lane.wake();
    };

    const app = buildApp({
      ...deps,
      access,
      basis,
      batch,
      enrolments,
      examiner,
      images,
      defaults,
      origins,
      noted,
      trust,
      waivers,
      lapses,
      load: new Load(),
      pipeline,
      policies,
      notices,
      metrics,
      retention,
      evidence,
      anchors,
      baseUrl: () => url,
      exports,
      wake,
    });
    await allowConfigured(options, deps);
    await policies.noteControls();
    await notePolicy(policies.current, deps);
    await noteTrust(basis, deps);
    await noteRoots(basis, store, { actor: 'configuration', at: clock() });
    await store.jobs.enqueue([
      ...basis.refreshes.map(({ name }) => rootJob(name, clock())),
      nightlyJob(clock()),
      retentionJob(clock()),
    ]);
    listening = await listen(app, options.listen, log);
    url ||= urlOf(options.listen.host, listening.port);
    // Made once nothing can fail any more: a token that a failed start took with it is never told.
    const adminToken = (await access.first()) ?? (options.newAdminToken === true ? await access.renew() : undefined);

    for (const lane of [...working, ...notifying]) lane.start();
    chores.start([
      logChore(evidence, jobsEveryMs),
      anchorChore({ ...deps, anchors, evidence, baseUrl: () => url }, notices.wake, ANCHORS_LOOK_MS),
      silenceChore({ ...deps, batch, policies }, jobsEveryMs),
      lapseChore(lapses, jobsEveryMs),
      bulkChore(deps, SWEEP_MS),
      sessionChore(deps, SWEEP_MS),
      policyChore(policies, wake, Math.max(jobsEveryMs, POLICY_MS)),
      trustChore(trusting, WATCH_MS),
      forgetChore(deps, FORGET_MS),
      contentsChore(deps, SWEEP_MS),
      exports.chore(SWEEP_MS),
      noticeChore(deps, FORGET_MS),
      remindChore({ ...deps, baseUrl: () => url }, wake, SWEEP_MS),
    ]);
    const { server, port } = listening;
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
      close: async () => {
        await closeHttp(server);
        anchors.close();
        await chores.close();
        // What ends last of the work may still be told.
        for (const lanes of [working, notifying]) await Promise.all(lanes.map((lane) => lane.close()));
        await batch.drain();
        await refusals.close();
        await examiner?.close();
        await store.close();
      },
    };
  } catch (error) {
    if (listening !== undefined) await closeHttp(listening.server);
    await examiner?.close();
    await store.close();
    throw error;
  }
}

/** Beside an SQLite database, or in the data folder. */
export const LOG_CHECKPOINT = 'log.checkpoint';
/** The folder of exported bundles, likewise. */
export const EXPORTS = 'evidence';

/** A name of its own for a log whose server was given none: it must never change, and where it listens may. */
const NAME_BYTES = 8;

async function openEvidence(
  { evidence = {}, baseUrl, storeUrl }: StartOptions,
  deps: Omit<EvidenceDeps, 'signer'> & { readonly store: Store; readonly random: (bytes: number) => Uint8Array },
): Promise<EvidenceLog> {
  const beside = storeUrl.startsWith('sqlite:')
    ? join(dirname(storeUrl.slice('sqlite:'.length)), LOG_CHECKPOINT)
    : null;
  const { origin, checkpointFile: path = beside } = evidence;
  const named = baseUrl?.replace(/^https?:\/\//, '') ?? `bootproof-${toHex(deps.random(NAME_BYTES))}`;
  return EvidenceLog.open(
    { ...deps, signer: await logSigner(deps.store, deps.random) },
    { origin, defaultOrigin: `${named}/log`, file: path === null ? null : new CheckpointFile(path) },
  );
}

/** In threads beside the event loop, which read the policy that counts from the store. */
function inThreads({ store, lookups, log, ticketKeys }: LookerDeps & Pick<Deps, 'store' | 'log'>): Looker {
  const policy = async (n: number) => (await store.policies.get(n))!.documents;
  return new JudgePool(
    { store, lookups, log, policy, ticketKeys: ticketKeys.keys },
    { threads: Math.min(JUDGE_THREADS_MAX, availableParallelism()), textBytes: KNOWN_TEXT_BYTES_MAX },
  );
}

/** Beside an SQLite database; else where the options say, or below the temporary folder. */
function exportFolder({ exports, storeUrl }: StartOptions): string {
  const beside = storeUrl.startsWith('sqlite:') ? dirname(storeUrl.slice('sqlite:'.length)) : tmpdir();
  return exports?.folder ?? join(beside, EXPORTS);
}

function registryOf({ registry = {} }: StartOptions) {
  const names: Record<string, string> = {
    x64: 'amd64',
    arm64: 'arm64',
    ppc64: 'ppc64le',
    s390x: 's390x',
    riscv64: 'riscv64',
  };
  return {
    env: registry.env ?? {},
    caFiles: registry.caFiles ?? [],
    authFile: registry.authFile,
    mirrors: registry.mirrors ?? [],
    // Only where a host names an index: the platform most like ours, until hosts tell theirs.
    platform: `linux/${names[arch()] ?? 'amd64'}`,
    builder: BUILDER,
  };
}

/** Sources of the configuration are allowed once; written again only where their terms changed, as that makes images due. */
async function allowConfigured(
  { sources = [] }: StartOptions,
  { store, clock }: { store: Store; clock: Clock },
): Promise<void> {
  const known = new Map((await store.sources.list()).map(({ pattern, options }) => [pattern, JSON.stringify(options)]));
  for (const { reference, plainHttp = false } of sources) {
    const terms = { plainHttp };
    if (known.get(sourcePattern(reference)) === JSON.stringify(terms)) continue;
    await allowSource(reference, terms, { actor: 'configuration', at: clock() }, { store });
  }
}

function openPolicies(policy: Policy | PolicySource, deps: Deps): Promise<Policies> {
  return 'kind' in policy ? Policies.open(policy, deps) : Promise.resolve(Policies.fixed(policy, deps));
}

/** Under another policy than before, every host is judged anew. */
async function notePolicy(policy: Policy, { store, clock }: { store: Store; clock: Clock }): Promise<void> {
  const digest = new TextEncoder().encode(policy.digest);
  const before = (await store.settings.get('policy-digest')) ?? null;
  if (before !== null && Buffer.compare(before, digest) === 0) return;
  // Enqueued first: a crash between leaves the work, and the next start asks for it once more.
  await store.jobs.enqueue([{ kind: POLICY_JOB, dedupeKey: POLICY_JOB, runAt: clock(), payload: {} }]);
  await store.settings.swap('policy-digest', before, digest);
}

/** Under another image policy, trust root or deny list than before, every image is judged anew. */
async function noteTrust(basis: Basis, { store, clock }: { store: Store; clock: Clock }): Promise<void> {
  const text = new TextEncoder().encode(JSON.stringify(basis.current));
  const before = (await store.settings.get('trust-basis')) ?? null;
  if (before === null ? basis.current === null : Buffer.compare(before, text) === 0) return;
  await store.jobs.enqueue([trustAllJob(clock())]);
  await store.settings.swap('trust-basis', before, text);
}

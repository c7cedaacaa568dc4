/** What the application is made of, wired from what a start is given: who comes in, what is known, and the ways into the store. */
import { availableParallelism } from 'node:os';
import { toHex } from '#src/bytes.ts';
import {
  HOST_BYTES_BURST,
  HOST_BYTES_PER_SECOND,
  HOST_REPORTS_BURST,
  HOST_REPORTS_PER_SECOND,
  JUDGE_THREADS_MAX,
  KNOWN_TEXT_BYTES_MAX,
} from '#src/limits.ts';
import { freshnessOf, type Policy } from '#src/policy/document.ts';
import { Access } from '#server/access/admin.ts';
import { Oidc } from '#server/access/oidc.ts';
import { Answers } from '#server/ingest/answers.ts';
import { Batch } from '#server/ingest/batch.ts';
import { Enrolments } from '#server/ingest/enrol.ts';
import { recordOf, Examiner, LocalLooker, type LookerDeps, type Lookups } from '#server/ingest/examiner.ts';
import { HostReads } from '#server/ingest/hostreads.ts';
import { JudgePool } from '#server/ingest/judgepool.ts';
import { KnownImages } from '#server/ingest/known.ts';
import { KnownDefaults } from '#server/ingest/lineage.ts';
import { NotedImages } from '#server/ingest/noted.ts';
import { Pipeline } from '#server/ingest/pipeline.ts';
import { Load, Shares } from '#server/ingest/quota.ts';
import { Refusals } from '#server/ingest/refusals.ts';
import { tagOf } from '#server/jobs/tags.ts';
import { Anchors, NO_ANCHORS } from '#server/log/anchors.ts';
import { CheckpointFile } from '#server/log/checkpointfile.ts';
import { EvidenceLog } from '#server/log/evidencelog.ts';
import { LogForHosts } from '#server/log/told.ts';
import { Basis } from '#server/trust/basis.ts';
import { KnownTrust } from '#server/trust/known.ts';
import type { OwnCertificate } from './certificate.ts';
import type { Deps } from './deps.ts';
import { KnownWaivers } from './exempt.ts';
import { Health } from './health.ts';
import { hostFactsOf } from './hostfacts.ts';
import { logSigner } from './keys.ts';
import { Metrics } from './metrics.ts';
import { checkpointPath, type StartOptions } from './options.ts';
import { KnownOrigins } from './origins.ts';
import { Policies, type PolicySource } from './policies.ts';

export type Parts = Awaited<ReturnType<typeof openParts>>;

/** `baseUrl`: known once it listens. Whoever opens them closes `examiner` and `refusals`. */
export async function openParts(
  options: StartOptions,
  deps: Deps & { readonly certificate: OwnCertificate | null },
  baseUrl: () => string,
) {
  const { store, keys, clock, log, certificate } = deps;
  const { oidc = null, ...letIn } = options.access ?? {};
  const access = new Access(deps, {
    ...letIn,
    oidc: oidc === null ? null : new Oidc(oidc, deps, () => `${baseUrl()}/login/callback`),
  });
  const evidence = await openEvidence(options, deps);
  const anchors = new Anchors({ ...deps, evidence }, { ...NO_ANCHORS, ...options.anchors });
  const health = new Health({ store, log, evidence, anchors, certificate });
  const load = new Load();
  const metrics = new Metrics(
    {
      ...deps,
      access,
      evidence,
      anchors,
      health,
      depth: () => ({ ...load.held, judging: judgePool?.waiting ?? 0, committing: batch.waiting }),
    },
    options.metrics ?? 'token',
  );
  const batch = new Batch(store, metrics.committed);
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
    () => load.strain,
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
  const judgePool = 'kind' in options.policy ? inThreads(looking) : undefined;
  const examiner = new Examiner(judgePool ?? new LocalLooker(looking), { store, waivers, policies });
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
  return {
    access,
    anchors,
    basis,
    batch,
    defaults,
    enrolments,
    evidence,
    examiner,
    health,
    images,
    load,
    metrics,
    noted,
    origins,
    pipeline,
    policies,
    refusals,
    trust,
    waivers,
  };
}

/** A name of its own for a log whose server was given none: it must never change, and where it listens may. */
const NAME_BYTES = 8;

async function openEvidence(options: StartOptions, deps: Deps): Promise<EvidenceLog> {
  const path = checkpointPath(options);
  const { baseUrl, evidence: { origin } = {} } = options;
  const named = baseUrl?.replace(/^https?:\/\//, '') ?? `bootproof-${toHex(deps.random(NAME_BYTES))}`;
  return EvidenceLog.open(
    { ...deps, signer: await logSigner(deps.store, deps.random) },
    { origin, defaultOrigin: `${named}/log`, file: path === null ? null : new CheckpointFile(path) },
  );
}

/** In threads beside the event loop, which read the policy that counts from the store. */
function inThreads({ store, lookups, log, ticketKeys }: LookerDeps & Pick<Deps, 'store' | 'log'>): JudgePool {
  const policy = async (n: number) => (await store.policies.get(n))!.documents;
  return new JudgePool(
    { store, lookups, log, policy, ticketKeys: ticketKeys.keys },
    { threads: Math.min(JUDGE_THREADS_MAX, availableParallelism()), textBytes: KNOWN_TEXT_BYTES_MAX },
  );
}

function openPolicies(policy: Policy | PolicySource, deps: Deps): Promise<Policies> {
  return 'kind' in policy ? Policies.open(policy, deps) : Promise.resolve(Policies.fixed(policy, deps));
}

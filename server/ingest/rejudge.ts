/**
 * Judging a host again without a new report: its manifest came, policy changed, a person accepted a fork. What is judged is the last
 * full report that is kept; the host is read anew until no other write comes between.
 */
import { hash } from 'node:crypto';
import type { Instant } from '#src/clock.ts';
import { INTAKE_ATTEMPTS_MAX } from '#src/limits.ts';
import type { Cause } from '#src/finding/lifecycle.ts';
import type { Policy } from '#src/policy/document.ts';
import { openReport } from '#src/report/accept.ts';
import type { FullReport } from '#src/report/report.ts';
import type { Deps } from '#server/deps.ts';
import type { Act, Chain, Host, NewJob } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';
import type { KnownWaivers } from '#server/exempt.ts';
import { toldOf } from '#server/standing.ts';
import type { KnownTrust } from '#server/trust/known.ts';
import type { Batch } from './batch.ts';
import { doubtsOf } from './effects.ts';
import type { Examination, Examiner } from './examiner.ts';
import { examine, type Examined, type JudgingPolicies, type Occasion } from './judge.ts';
import type { KnownImages } from './known.ts';

const sha256 = (data: string | Uint8Array): string => hash('sha256', data, 'hex');

/** The host's last accepted full report, held against what is known today; undefined where it has none that still holds. */
export async function lastFull(
  host: Host,
  { store, images }: { readonly store: Pick<Store, 'reports'>; readonly images: KnownImages },
): Promise<Examined | undefined> {
  const report = await lastReport(host, store);
  const examined = report && (await examine(report, images));
  return examined?.kind === 'examined' ? examined : undefined;
}

/** The host's last accepted full report as it was taken; undefined where it has none. */
export async function lastReport(host: Host, store: Pick<Store, 'reports'>): Promise<FullReport | undefined> {
  const envelope = await lastEnvelope(host, store);
  const opened = envelope && openReport(envelope, sha256);
  // It was checked when it was taken, and versions are kept readable: schema and signature need no second look.
  return opened?.kind === 'opened' ? (opened.value as FullReport) : undefined;
}

/** The same to be judged, wherever the examiner does that. `patient`: however many wait. */
export async function lastExamination(
  host: Host,
  { store, examiner }: { readonly store: Pick<Store, 'reports'>; readonly examiner: Examiner },
  patient: boolean,
): Promise<Examination | undefined> {
  const envelope = await lastEnvelope(host, store);
  return envelope && examiner.reopen(envelope, patient);
}

async function lastEnvelope(host: Host, store: Pick<Store, 'reports'>): Promise<Uint8Array | undefined> {
  if (host.chain.full === null) return undefined;
  return (await store.reports.byDigest(host.id, host.chain.full.digest))?.envelope;
}

export type RejudgeDeps = Pick<Deps, 'store' | 'clock'> & {
  readonly batch: Batch;
  readonly examiner: Examiner;
  readonly images: KnownImages;
  readonly trust: KnownTrust;
  readonly waivers: KnownWaivers;
  readonly policies: JudgingPolicies;
};

export type Rejudged = 'done' | 'nothing-to-judge' | 'gone' | 'busy';

/**
 * Judges the host's last full report again and commits what follows. `flags` changes what stands against its identity; `audit` says
 * who asked.
 */
export async function rejudge(
  hostId: string,
  change: {
    readonly cause: Cause;
    readonly flags?: (flags: Chain['flags']) => Chain['flags'];
    readonly audit?: { readonly by: Act; readonly action: string };
    /** Hosts that need no new judgement. */
    readonly unless?: (host: Host) => boolean;
  },
  deps: RejudgeDeps,
): Promise<Rejudged> {
  for (let attempt = 0; attempt < INTAKE_ATTEMPTS_MAX; attempt++) {
    const host = await deps.store.hosts.get(hostId);
    if (host === undefined || host.state === 'retired') return 'gone';
    if (change.unless?.(host) === true) return 'done';
    const flags = change.flags?.(host.chain.flags) ?? host.chain.flags;
    const last = await lastExamination(host, deps, true);
    if (last === undefined && change.audit === undefined) return 'nothing-to-judge';
    const at = Math.max(deps.clock(), host.standing.since);
    const occasion = occasionOf(host, flags, change.cause, at);
    const judged = await last?.judge(occasion);
    const result = await deps.batch.commit({
      hostId,
      expectRevision: host.revision,
      at,
      ...judged,
      ...(change.flags === undefined ? {} : { chain: { ...host.chain, flags } }),
      ...(change.audit === undefined ? {} : { audit: change.audit }),
    });
    if (result.kind === 'committed') return last === undefined ? 'nothing-to-judge' : 'done';
    if (result.kind === 'unknown-host') return 'gone';
  }
  return 'busy';
}

/** The occasion of judging a host's last full report once more. */
export function occasionOf(host: Host, flags: Chain['flags'], cause: Cause, at: Instant): Occasion {
  return {
    host,
    doubts: doubtsOf(flags),
    skewMs: toldOf(host)?.skewMs ?? null,
    silence: host.freshness.silenceNoted ? 'noted' : 'untold',
    at,
    cause,
  };
}

/** Kind of the job that judges every host on an image again. */
export const REJUDGE_JOB = 'rejudge';

/** Asks for every host that booted `image`, by whatever name, to be judged again. */
export function rejudgeJob(image: string, runAt: Instant): NewJob {
  return { kind: REJUDGE_JOB, dedupeKey: `${REJUDGE_JOB}:${image}`, runAt, payload: { image } };
}

/** Whether the host was last judged under another policy than this one. */
export function isStale(host: Host, policy: Policy): boolean {
  return toldOf(host)?.policy !== policy.digest;
}

/** What goes on beside requests: lanes that take jobs from the queue, and chores that the clock asks for. */
import { Lapses } from '#server/decisions/lapse.ts';
import { Exports } from '#server/evidence/exports.ts';
import { bundleFiles } from '#server/evidence/files.ts';
import { makeInWorker } from '#server/evidence/inworker.ts';
import { exportWork } from '#server/evidence/work.ts';
import { anchorChore } from '#server/jobs/anchors.ts';
import { buildInWorker } from '#server/jobs/builder.ts';
import { bulkChore, bulkWork } from '#server/jobs/bulk.ts';
import { contentsChore } from '#server/jobs/contents.ts';
import { forgetChore } from '#server/jobs/forget.ts';
import { lapseChore, waiverWork } from '#server/jobs/lapse.ts';
import { logChore } from '#server/jobs/log.ts';
import { manifestWork } from '#server/jobs/manifests.ts';
import { nightlyWork } from '#server/jobs/nightly.ts';
import { noticeChore, remindChore, sendWork, tellWork } from '#server/jobs/notices.ts';
import { policyChore, policyWork, rejudgeWork } from '#server/jobs/rejudge.ts';
import { retentionWork } from '#server/jobs/retention.ts';
import { rootWork } from '#server/jobs/roots.ts';
import { Chores, Lane, type Work } from '#server/jobs/runner.ts';
import { sessionChore } from '#server/jobs/sessions.ts';
import { silenceChore } from '#server/jobs/silence.ts';
import { lookUpIn, tagWork } from '#server/jobs/tags.ts';
import { trustAllWork, trustChore, trustHostsWork, trustWork } from '#server/jobs/trust.ts';
import { Targets } from '#server/notices/target.ts';
import { assessInWorker } from '#server/trust/assessor.ts';
import { IMAGE_BOUNDS } from '#src/source/bounds.ts';
import type { Deps } from './deps.ts';
import { exportFolder, registryOf, type StartOptions } from './options.ts';
import type { Parts } from './parts.ts';
import { KEEP_ALL } from './retention.ts';

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

/** How often waiting work and silent hosts are looked for where nobody says, ms. */
const JOBS_EVERY_MS = 1000;

/** A server's work: nothing runs before `start`. */
export function workOf(options: StartOptions, parts: Parts, deps: Deps, baseUrl: () => string) {
  const { store, clock, log } = deps;
  const { anchors, basis, batch, evidence, examiner, images, metrics, policies, trust, waivers } = parts;
  const { jobsEveryMs = JOBS_EVERY_MS, retention = KEEP_ALL } = options;
  const registry = registryOf(options);
  const lane = (works: readonly Work[], everyMs = jobsEveryMs) => new Lane(deps, works, everyMs);

  const judging = { store, clock, batch, examiner, images, trust, waivers, policies };
  const builds = lane([
    manifestWork({
      ...deps,
      build: options.build ?? buildInWorker,
      registry,
      bounds: options.imageBounds ?? IMAGE_BOUNDS,
    }),
  ]);
  const judgements = lane([
    rejudgeWork(judging),
    policyWork(judging),
    tagWork({ ...judging, lookUp: options.lookUp ?? lookUpIn(registry) }),
    waiverWork(judging),
    bulkWork({ ...deps, wake: () => {} }),
  ]);
  const lapses = new Lapses({ ...judging, log });
  const trusting = {
    ...judging,
    log,
    basis,
    assess: options.assess ?? assessInWorker,
    terms: registry,
    signatureRepositories: options.registry?.signatureRepositories ?? [],
    reverifyEveryMs: options.reverifyEveryMs ?? REVERIFY_MS,
  };
  const trusts = lane([trustWork(trusting), trustAllWork(trusting), trustHostsWork(trusting)]);
  // By itself: a repository that hangs must not keep images from being judged. What is done by the night can wait for it.
  const roots = lane([
    rootWork({ ...deps, basis, everyMs: options.refreshRootsEveryMs ?? REFRESH_ROOTS_MS }),
    nightlyWork(deps),
    retentionWork({ ...deps, retention }),
  ]);
  const notices = {
    ...deps,
    targets: new Targets(options.noticeTargets ?? []),
    baseUrl,
    sent: metrics.sent,
    wake: () => {
      for (const one of sending) one.wake();
    },
  };
  const lookMs = Math.max(jobsEveryMs, NOTICES_LOOK_MS);
  const telling = lane([tellWork(notices, notices.wake)], lookMs);
  const sending = Array.from({ length: SENDING_LANES }, () => lane([sendWork(notices)], lookMs));
  const folder = exportFolder(options);
  const exporting = {
    ...deps,
    evidence,
    anchors,
    storeUrl: options.storeUrl,
    folder,
    files: bundleFiles(deps.store, folder),
    baseUrl,
    make: options.exports?.make ?? makeInWorker,
  };
  const exports = new Exports(exporting);
  const working = [builds, judgements, trusts, roots, lane([exportWork(exporting)])];
  const notifying = [telling, ...sending];
  const chores = new Chores(log);
  const wake = (): void => {
    for (const one of working) one.wake();
  };
  return {
    exports,
    lapses,
    notices,
    retention,
    /** Work may be due now: looked for at once. */
    wake,
    start: (): void => {
      for (const one of [...working, ...notifying]) one.start();
      chores.start([
        logChore(evidence, jobsEveryMs),
        anchorChore({ ...deps, anchors, evidence, baseUrl }, notices.wake, ANCHORS_LOOK_MS),
        silenceChore({ ...deps, batch, policies }, jobsEveryMs),
        lapseChore(lapses, jobsEveryMs),
        bulkChore(deps, SWEEP_MS),
        sessionChore(deps, SWEEP_MS),
        policyChore(policies, wake, POLICY_MS),
        trustChore(trusting, WATCH_MS),
        forgetChore(deps, FORGET_MS),
        contentsChore(deps, SWEEP_MS),
        exports.chore(SWEEP_MS),
        noticeChore(deps, FORGET_MS),
        remindChore({ ...deps, baseUrl }, wake, SWEEP_MS),
      ]);
    },
    /** Stops what runs, and resolves when nothing runs any more. */
    close: async (): Promise<void> => {
      await chores.close();
      // What ends last of the work may still be told.
      for (const lanes of [working, notifying]) await Promise.all(lanes.map((one) => one.close()));
    },
  };
}

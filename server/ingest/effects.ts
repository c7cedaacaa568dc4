/** What an accepted report changes on its host, before anything is judged: chain, times, doubts, images (docs/report.md 3.2). Pure. */
import { hash } from 'node:crypto';
import { parseInstant, type Instant } from '#src/clock.ts';
import type { Freshness as Terms } from '#src/policy/document.ts';
import type { Accepted, Checked } from '#src/report/accept.ts';
import type { FullReport } from '#src/report/report.ts';
import { stateDigest } from '#src/report/seal.ts';
import type { Chain, Freshness, Host, ReportFacts } from '#server/store/records.ts';
import type { HostWrite } from '#server/store/store.ts';
import type { Want } from './answers.ts';
import type { Doubts } from './judge.ts';

const sha256 = (data: string | Uint8Array): string => hash('sha256', data, 'hex');

/** What a report that advances writes, whatever its kind. `terms`: how long the host may be silent. */
export function advanced(
  { report, arrival }: Checked,
  outcome: Accepted,
  flags: Chain['flags'],
  terms: Terms,
): Partial<HostWrite> {
  return {
    chain: { ...outcome.chain, flags },
    last: {
      seq: report.seq,
      kind: report.kind,
      class: outcome.class,
      startedAt: parseInstant(report.startedAt)!,
      receivedAt: arrival.receivedAt,
    },
    ...(outcome.fresh ? { freshness: renewed(arrival.receivedAt, terms) } : {}),
  };
}

function renewed(at: Instant, freshness: Terms): Freshness {
  return {
    liveAt: at,
    interval: freshness.reportEvery,
    lateAfter: at + freshness.lateAfter,
    silentAfter: at + freshness.silentAfter,
    silenceNoted: false,
  };
}

/** When what a report says was so: never before what is known already. */
export function asOf(outcome: Accepted, host: Host): Instant {
  return Math.max(outcome.asOf, host.standing.since);
}

/** A host that had no manifest is asked for a full report while one is made or ready; where none can be had, `same` will do. */
export function wantOf(compared: boolean, ready: boolean, pending: boolean): Want {
  return !compared && (ready || pending) ? 'full' : 'same';
}

/**
 * Doubts of identity stay until a person accepts them or the host enrols anew; a gap is over with the next full report that
 * follows on the one before.
 */
export function doubtsAfter(flags: Chain['flags'], outcome: Accepted, { report, arrival }: Checked): Chain['flags'] {
  const at = arrival.receivedAt;
  const cloned = flags.cloned ?? (outcome.flags.includes('cloned') ? at : undefined);
  const unstated = outcome.gap !== null && !outcome.gap.stated;
  const mended = report.kind === 'full' && outcome.effect === 'advance' && outcome.gap === null;
  const gap = unstated ? (flags.gap ?? at) : mended ? undefined : flags.gap;
  return {
    ...(flags.forked === undefined ? {} : { forked: flags.forked }),
    ...(cloned === undefined ? {} : { cloned }),
    ...(gap === undefined ? {} : { gap }),
  };
}

/** Doubts as they are judged; `gap` is the report's own, null where none came. */
export function doubtsOf(flags: Chain['flags'], gap: Accepted['gap'] = null): Doubts {
  return {
    forked: flags.forked !== undefined,
    cloned: flags.cloned !== undefined,
    gap: flags.gap !== undefined ? 'unstated' : gap !== null ? 'stated' : 'none',
  };
}

export function imagesOf({ deployment }: FullReport): Host['images'] {
  const digest = (slot: 'booted' | 'staged' | 'rollback') => deployment[slot]?.image?.digest ?? null;
  return { booted: digest('booted'), staged: digest('staged'), rollback: digest('rollback') };
}

/** Every image that the report names: all are built ahead, so that the manifest waits before the reboot (PROTOCOL 2.7). */
export function seenIn({ deployment }: FullReport): { reported: string; claim: string | null }[] {
  const out = new Map<string, string | null>();
  for (const slot of [deployment.booted, deployment.staged, deployment.rollback]) {
    const digest = slot?.image?.digest ?? null;
    if (digest !== null && digest !== '') out.set(digest, slot!.image!.reference);
  }
  return [...out].map(([reported, claim]) => ({ reported, claim }));
}

export function factsOf(report: FullReport): ReportFacts {
  const { usr, etc } = report.trees;
  return {
    trees: { usr: { main: usr.main, extra: usr.extra }, etc: { main: etc.main, extra: etc.extra } },
    state: stateDigest(report.deployment, sha256),
    backend: report.deployment.backend,
    complete: usr.main !== null && etc.main !== null && report.truncated === null,
    agentVersion: report.agent.version,
    config: report.agent.config,
    comparedWith: report.manifest?.rule ?? null,
  };
}

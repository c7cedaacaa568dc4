/**
 * Purges what lies beside the log and is past its retention (docs/retention.md 3), by the night and after a start, in steps that each tell the
 * log what went. Ended in the middle, what went is told of, and the next run takes up the rest.
 */
import { setImmediate as others } from 'node:timers/promises';
import { formatInstant, type Instant } from '#src/clock.ts';
import { RETENTION_COUNT_PAGE, RETENTION_GRACE_MS, RETENTION_PASSES_MAX } from '#src/limits.ts';
import type { Deps } from '#server/deps.ts';
import { daysOf, KEEP_ALL, type RetentionSettings } from '#server/retention.ts';
import type { NewJob } from '#server/store/records.ts';
import { PURGED_KINDS, type PurgedKind, type PurgeRule, type Retained } from '#server/store/retentionrecords.ts';
import type { Outcome, Work } from './runner.ts';

const RETENTION_JOB = 'retention';
const LEASE_MS = 300_000;
const DAY_MS = 86_400_000;
/** Half past three in the morning, UTC: when the nightly sums are done. */
const TIME_MS = 3.5 * 3_600_000;
const ACTOR = 'job:retention';
/** What goes for want of room: acts are few, and small. */
const SIZED: readonly PurgedKind[] = ['report', 'judgement'];

export type RetentionDeps = Pick<Deps, 'store' | 'clock' | 'log'> & { readonly retention: RetentionSettings };

export function retentionJob(runAt: Instant): NewJob {
  return { kind: RETENTION_JOB, dedupeKey: RETENTION_JOB, runAt, payload: {} };
}

function nextNight(now: Instant): Instant {
  const today = now - (now % DAY_MS) + TIME_MS;
  return today > now ? today : today + DAY_MS;
}

export function retentionWork(deps: RetentionDeps): Work {
  return {
    kind: RETENTION_JOB,
    leaseMs: LEASE_MS,
    run: async (_job, signal): Promise<Outcome> => {
      // What an export is about must be there until it has written it (docs/evidence.md 7).
      if ((await deps.store.evidence.exports.oldestCut()) !== null)
        return { kind: 'again', inMs: EXPORTING_MS, why: 'evidence is being exported' };
      await retain(deps, signal);
      if (signal.aborted) return { kind: 'again', inMs: 0, why: 'stopped' };
      await deps.store.jobs.enqueue([retentionJob(nextNight(deps.clock()))]);
      return { kind: 'done' };
    },
  };
}

/** How soon it is looked at again while evidence is being exported. */
const EXPORTING_MS = 600_000;

type Gone = Record<PurgedKind, number>;

/** One night: counts what came, and purges what is past its time or too much. Answers how many payloads went. */
export async function retain(
  deps: RetentionDeps,
  signal: AbortSignal = new AbortController().signal,
): Promise<Readonly<Gone>> {
  const { store, clock, log, retention } = deps;
  const gone: Gone = { report: 0, judgement: 0, act: 0 };
  const since = await store.retention.note(retention, KEEP_ALL, { actor: 'configuration', at: clock() });
  // On SQLite a step holds the event loop: whoever waits has their turn after each.
  while (!signal.aborted && (await store.retention.count(RETENTION_COUNT_PAGE)) > 0) await others();
  if (since !== null && clock() < since + RETENTION_GRACE_MS) {
    log('info', 'retention was changed; nothing goes under it before', {
      at: formatInstant(since + RETENTION_GRACE_MS),
    });
    return gone;
  }
  const days = daysOf(retention);
  for (const of of PURGED_KINDS) {
    const kept = days[of];
    if (kept !== null)
      await purgeAll(deps, { of, rule: { kind: 'age', days: kept }, before: clock() - kept * DAY_MS }, gone, signal);
  }
  if (retention.bytes !== null && (await fit(deps, retention.bytes, gone, signal)) > 0)
    log('warn', 'more is held than the retention allows: the rest is younger, leaned on, or under a hold', {
      allowed: retention.bytes,
    });
  if (gone.report + gone.judgement + gone.act > 0) log('info', 'purged', gone);
  return gone;
}

type Wanted = { readonly of: PurgedKind; readonly rule: PurgeRule; readonly before: Instant };

/** Answers the bytes that went. */
async function purgeAll(
  { store, clock }: RetentionDeps,
  wanted: Wanted,
  gone: Gone,
  signal: AbortSignal,
  bytes: number | null = null,
): Promise<number> {
  let went = 0;
  for (let after: string | null = null; !signal.aborted;) {
    const step: Awaited<ReturnType<typeof store.retention.purge>> = await store.retention.purge(
      { ...wanted, after, bytes: bytes === null ? null : bytes - went },
      { actor: ACTOR, at: clock() },
    );
    gone[wanted.of] += step.payloads;
    went += step.bytes;
    if (step.next === null || (bytes !== null && went >= bytes)) break;
    after = step.next;
    await others();
  }
  return went;
}

/** Purges the oldest until no more is held than allowed, or nothing may go any more. Answers by how many bytes it is still too much. */
async function fit(deps: RetentionDeps, allowed: number, gone: Gone, signal: AbortSignal): Promise<number> {
  const { store, clock, retention } = deps;
  const floor = clock() - retention.atLeast * DAY_MS;
  const rule = { kind: 'size', bytes: allowed, days: retention.atLeast } as const;
  const excess = async () => {
    const sized = (await store.retention.retained()).filter(({ of }) => SIZED.includes(of));
    return { sized, over: sized.reduce((sum, { bytes }) => sum + bytes, -allowed) };
  };
  let before = -Infinity;
  for (let pass = 0; pass < RETENTION_PASSES_MAX && !signal.aborted; pass++) {
    const { sized, over } = await excess();
    if (over <= 0) return 0;
    if (before >= floor) return over;
    before = Math.min(floor, lineOf(sized, over, before));
    let left = over;
    for (const of of SIZED) if (left > 0) left -= await purgeAll(deps, { of, rule, before }, gone, signal, left);
  }
  return Math.max(0, (await excess()).over);
}

/** The end of the day until which, from the last line on, as many bytes lie as are too many. What is left before that line leans, or is held. */
function lineOf(retained: readonly Retained[], over: number, last: Instant): Instant {
  let left = over;
  for (const { day, bytes } of retained) {
    const end = (day + 1) * DAY_MS;
    if (end <= last) continue;
    left -= bytes;
    if (left <= 0) return end;
  }
  return Infinity;
}

/** Which report shows a host at a moment, as far as it was known at another, and what it says that it ran (docs/posture.md 2). */
import { hash } from 'node:crypto';
import type { Instant } from '#src/clock.ts';
import { POSTURE_LATE_MAX, POSTURE_PAGE, POSTURE_WALK_MAX } from '#src/limits.ts';
import { openReport } from '#src/report/accept.ts';
import type { FullReport, Report } from '#src/report/report.ts';
import { readChallenge } from '#src/wire/challenge.ts';
import type { TicketKeys } from '#src/wire/ticket.ts';
import type { Policies } from './policies.ts';
import { day, rest, unknown, type Stated } from './stated.ts';
import { reportRef } from './store/logpayload.ts';
import type { LogPlace, ReportEntry } from './store/posturerecords.ts';
import type { Host } from './store/records.ts';
import type { Store } from './store/store.ts';

const sha256 = (data: string | Uint8Array): string => hash('sha256', data, 'hex');

/** The report that shows the host as it was. */
export type ReportThen = {
  readonly seq: number;
  readonly class: string | null;
  /** When what it says was so: of a report that came live its receipt, of others what the host says, within what its challenge allows. */
  readonly madeAt: Instant | null;
  readonly receivedAt: Instant;
  /** It came after the moment that is asked about. */
  readonly cameLater: boolean;
};

/** As the server knows it, and what the host says that it follows. */
export type ImageThen = { readonly digest: string | null; readonly reference: string | null };

export type PostureDeps = {
  readonly store: Store;
  readonly policies: Pick<Policies, 'get'>;
  readonly keys: { readonly tickets: TicketKeys };
};

export type Reports = {
  /** The full report that shows the host at `at`, as known at `known`. */
  readonly shown: ReportEntry | undefined;
  readonly madeAt: Instant | null;
  readonly cameLater: boolean;
  /** The full report that took its place. */
  readonly next: { readonly seq: number; readonly at: Instant } | undefined;
  /** Made before `at` and come after it: when the newest of them was made. */
  readonly heardLater: Instant | null;
};

/** Taken as a full report that moved the chain on; of one that is not kept the entry alone says what it was. */
const isFull = ({ report, kept }: ReportEntry): boolean => (kept === null ? report === 'full' : kept.kind === 'full');

export async function reportsOf(host: Host, at: Instant, known: Instant, deps: PostureDeps): Promise<Reports> {
  const { postures } = deps.store;
  const onTime = await firstOf(
    (from, to, limit) => postures.reports(host.id, { from, to }, 'newest', limit),
    { from: host.createdAt, to: at },
    'newest',
    isFull,
  );
  const late = known > at ? await lateOf(host.id, at, known, onTime?.seq ?? 0, deps) : { full: undefined, heard: null };
  const shown = late.full?.entry ?? onTime;
  // Also one that came after `known`: what it opened or ended is told by its number, as it says when that was so. From the log, since reports
  // are purged, and from the reports, since what just came waits for its place.
  const after = shown?.seq ?? 0;
  const [logged, kept] = await Promise.all([
    firstOf(
      (from, to, limit) => postures.reports(host.id, { from, to }, 'oldest', limit),
      { from: shown?.at ?? host.createdAt, to: Number.MAX_SAFE_INTEGER },
      'oldest',
      (entry) => isFull(entry) && entry.seq > after,
    ),
    postures.nextFull(host.id, after),
  ]);
  const next = logged === undefined || (kept !== undefined && kept.seq < logged.seq) ? kept : logged;
  const madeAt = shown === undefined ? null : (late.full?.madeAt ?? (await madeOf(host.id, shown, deps)));
  return { shown, madeAt, cameLater: late.full !== undefined, next, heardLater: late.heard };
}

/** The first entry of a walk that fits; walks in pages, and no further than POSTURE_WALK_MAX entries. */
async function firstOf<Entry extends LogPlace & { readonly seq: number }>(
  read: (from: Instant, to: Instant, limit: number) => Promise<readonly Entry[]>,
  { from, to }: { readonly from: Instant; readonly to: Instant },
  order: 'newest' | 'oldest',
  fits: (entry: Entry) => boolean,
): Promise<Entry | undefined> {
  let [low, high] = [from, to];
  for (let walked = 0; walked < POSTURE_WALK_MAX; walked += POSTURE_PAGE) {
    const page = await read(low, high, POSTURE_PAGE);
    // Of one moment by their numbers: in the log they stand in any order.
    const sign = order === 'newest' ? -1 : 1;
    const found = page.toSorted((a, b) => sign * (a.at - b.at || a.seq - b.seq)).find(fits);
    if (found !== undefined || page.length < POSTURE_PAGE) return found;
    const last = page.at(-1)!.at;
    // A page of one moment alone is walked past: a host is not written to so often in a millisecond.
    if (order === 'newest') high = last === high ? last - 1 : last;
    else low = last === low ? last + 1 : last;
  }
  return undefined;
}

/** Reports that say they were made by `at` and came after it, up to `known`. */
async function lateOf(hostId: string, at: Instant, known: Instant, after: number, deps: PostureDeps) {
  const { postures } = deps.store;
  // `startedAt` is the host's own clock: what it may not have been is told by the challenge in the report.
  const rows = (await postures.late(hostId, at, POSTURE_LATE_MAX)).filter(
    ({ seq, receivedAt }) => receivedAt > at && receivedAt <= known && seq > after,
  );
  let heard: Instant | null = null;
  let full: { readonly entry: ReportEntry; readonly madeAt: Instant } | undefined;
  for (const { seq, kind, receivedAt, startedAt } of rows) {
    const madeAt = await observedAt(hostId, seq, { class: 'late', receivedAt }, deps);
    if (madeAt === undefined || madeAt > at) continue;
    heard = Math.max(heard ?? 0, madeAt);
    if ((kind !== 'full' && kind !== 'history') || (full !== undefined && full.entry.seq > seq)) continue;
    const ref = reportRef(hostId, seq, 0);
    const place = (await postures.places([ref])).get(ref);
    if (place === undefined) continue;
    const kept = { kind, class: 'late', startedAt } as const;
    full = { entry: { ...place, at: receivedAt, seq, report: 'full', kept }, madeAt };
  }
  return { full, heard };
}

async function madeOf(hostId: string, { seq, at, kept }: ReportEntry, deps: PostureDeps): Promise<Instant | null> {
  if (kept === null) return null;
  return (await observedAt(hostId, seq, { class: kept.class, receivedAt: at }, deps)) ?? null;
}

/** When what a report says was so (docs/report.md 3.2); undefined where its envelope is not kept. */
async function observedAt(
  hostId: string,
  seq: number,
  taken: { readonly class: string; readonly receivedAt: Instant },
  deps: PostureDeps,
): Promise<Instant | undefined> {
  if (taken.class === 'live') return taken.receivedAt;
  const report = await openedReport(hostId, seq, deps.store);
  if (report === undefined) return undefined;
  const challenge = readChallenge(
    report.challenge,
    { host: hostId, now: taken.receivedAt, intervalMs: 0, carried: false },
    deps.keys.tickets,
  );
  const issuedAt = challenge.kind === 'read' ? challenge.issuedAt : null;
  return Math.min(taken.receivedAt, Math.max(Date.parse(report.finishedAt), issuedAt ?? -Infinity));
}

async function openedReport(hostId: string, seq: number, { reports }: Pick<Store, 'reports'>) {
  const stored = await reports.get(hostId, seq);
  if (stored === undefined || stored.envelope.length === 0) return undefined;
  const opened = openReport(stored.envelope, sha256);
  return opened.kind === 'opened' ? (opened.value as Report) : undefined;
}

/** No report shows the host then: none had come, or those that had are older than the log. */
export function noneShown({ createdAt }: Host, beganAt: Instant) {
  return createdAt < beganAt
    ? unknown(
        'before-log',
        `since the evidence log began, at ${day(beganAt)}, no full report of the host had come by then`,
      )
    : unknown('no-report', 'no full report of the host had come by then');
}

export function reportOf(
  { shown, madeAt, cameLater }: Reports,
  none: ReturnType<typeof noneShown>,
): Stated<ReportThen> {
  if (shown === undefined) return none;
  const { seq, at, kept } = shown;
  return {
    value: { seq, class: kept?.class ?? null, madeAt, receivedAt: at, cameLater },
    rests: [rest('report', shown)],
  };
}

export async function imageOf(
  hostId: string,
  { shown }: Reports,
  none: ReturnType<typeof noneShown>,
  { store }: PostureDeps,
): Promise<Stated<ImageThen>> {
  if (shown === undefined) return none;
  const rests = [rest('report', shown)];
  let report = await openedReport(hostId, shown.seq, store);
  if (report?.kind === 'same') {
    const full = await store.reports.byDigest(hostId, report.full);
    report = full && (await openedReport(hostId, full.seq, store));
  }
  if (report === undefined)
    return unknown('purged', `report ${shown.seq} is not kept any more; its entry in the log stays`, rests);
  const image = (report as FullReport).deployment.booted?.image ?? null;
  const digest = image?.digest ?? null;
  // As the server knows it, where hosts name it in another way.
  const found = digest === null ? undefined : await store.images.find(digest);
  return { value: { digest: found?.image.digest ?? digest, reference: image?.reference ?? null }, rests };
}

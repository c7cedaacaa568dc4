/**
 * Holding a host's findings against what people decided, without looking at its report again: after a waiver begins or ends, and after
 * an acknowledgement is over. Everything that a verdict needs was kept when it was judged.
 */
import { INTAKE_ATTEMPTS_MAX } from '#src/limits.ts';
import type { Clock } from '#src/clock.ts';
import type { Batch } from '#server/ingest/batch.ts';
import { decideOn, standingOf, type KnownWaivers } from '#server/exempt.ts';
import { standingAgain } from '#server/standing.ts';
import type { Host, Standing } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';

export type RestandDeps = {
  readonly store: Store;
  readonly clock: Clock;
  readonly batch: Batch;
  readonly waivers: KnownWaivers;
};

export type Restood = 'changed' | 'same' | 'gone' | 'busy';

/** One host as of now; what changes is committed when this resolves. */
export async function restand(hostId: string, deps: RestandDeps): Promise<Restood> {
  for (let attempt = 0; attempt < INTAKE_ATTEMPTS_MAX; attempt++) {
    const host = await deps.store.hosts.get(hostId);
    if (host === undefined || host.state === 'retired') return 'gone';
    const reaching = await deps.waivers.reaching(host, host.images.booted);
    const present = await deps.store.findings.present(hostId);
    const decided = await decideOn(present.map(standingOf), reaching);
    const ends = host.standing.lapse?.validUntil ?? null;
    if (decided.disposals.length === 0 && ends === decided.validUntil) return 'same';
    const standing = standingWith(host, decided, reaching.now);
    const result = await deps.batch.commit({
      hostId,
      expectRevision: host.revision,
      at: reaching.now,
      disposals: decided.disposals,
      waiverStamp: reaching.stamp,
      ...(standing === undefined ? {} : { standing }),
    });
    if (result.kind === 'committed') return 'changed';
    if (result.kind === 'unknown-host') return 'gone';
  }
  return 'busy';
}

/** The standing that follows; undefined where the host was never judged, so that there is none to change. */
function standingWith(host: Host, decided: Awaited<ReturnType<typeof decideOn>>, now: number): Standing | undefined {
  const { lapse } = host.standing;
  const isLapsed = lapse !== null && lapse !== undefined && lapse.validUntil <= now;
  return standingAgain(host, {
    findings: decided.findings,
    validUntil: decided.validUntil,
    // What a waiver's end changes began at its end, whenever this runs.
    at: Math.max(isLapsed ? lapse.validUntil : now, host.standing.since),
  });
}

/** Hosts judged beside each other: enough to fill a commit. */
const AT_ONCE = 32;

/** Many hosts, some beside each other. Answers how many changed, and which could not be written now. */
export async function restandAll(
  hostIds: readonly string[],
  deps: RestandDeps,
  signal?: AbortSignal,
): Promise<{ readonly changed: number; readonly busy: readonly string[] }> {
  const waiting = [...hostIds];
  const busy: string[] = [];
  let changed = 0;
  await Promise.all(
    Array.from({ length: Math.min(AT_ONCE, waiting.length) }, async () => {
      for (let id = waiting.shift(); id !== undefined; id = waiting.shift()) {
        if (signal?.aborted === true) {
          busy.push(id);
          continue;
        }
        const outcome = await restand(id, deps);
        if (outcome === 'changed') changed++;
        if (outcome === 'busy') busy.push(id);
      }
    }),
  );
  return { changed, busy };
}

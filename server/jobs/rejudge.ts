/** Hosts whose last report can be judged better now: their image's manifest came or failed, or the policy is another one. */
import { z } from 'zod';
import { isStale, rejudge, REJUDGE_JOB, type RejudgeDeps } from '#server/ingest/rejudge.ts';
import { toldOf } from '#server/standing.ts';
import type { Host } from '#server/store/records.ts';
import type { HostCursor } from '#server/store/store.ts';
import type { Outcome, Work } from './runner.ts';

export const POLICY_JOB = 'policy';

const LEASE_MS = 120_000;
const PAGE = 200;
/** Hosts judged beside each other: enough to fill a commit. */
const AT_ONCE = 16;

const Payload = z.strictObject({ image: z.string() });

/** After an image's state changed: every host that booted it. */
export function rejudgeWork(deps: RejudgeDeps): Work {
  return {
    kind: REJUDGE_JOB,
    leaseMs: LEASE_MS,
    run: async (job, signal): Promise<Outcome> => {
      const { image: named } = Payload.parse(job.payload);
      const found = await deps.store.images.find(named);
      // What is still being made asks for this once more when it is done.
      if (found === undefined || found.image.state === 'pending' || found.image.state === 'building')
        return { kind: 'done' };
      const { digest } = found.image;
      const aliases = await deps.store.read.aliases(digest);
      const names = [digest, ...aliases.map(({ alias }) => alias)];
      let cursor: { readonly id: string } | null = null;
      do {
        const page: Awaited<ReturnType<typeof deps.store.read.hostsOnImage>> = await deps.store.read.hostsOnImage(
          names,
          'booted',
          { cursor, limit: PAGE },
        );
        await inTurns(page.items, signal, async (id) => {
          await rejudge(id, { cause: { kind: 'report', imageChanged: false }, unless: isJudgedWithManifest }, deps);
        });
        cursor = page.next;
      } while (cursor !== null && !signal.aborted);
      return { kind: 'done' };
    },
  };
}

/** Nothing that came of the image makes such a host's judgement another. */
function isJudgedWithManifest(host: Host): boolean {
  return toldOf(host)?.facts?.manifest.state === 'ready';
}

/** After the policy changed: every host that was judged under another one. */
export function policyWork(deps: RejudgeDeps): Work {
  return {
    kind: POLICY_JOB,
    leaseMs: LEASE_MS,
    run: async (_job, signal): Promise<Outcome> => {
      let cursor: HostCursor | null = null;
      do {
        const page: Awaited<ReturnType<typeof deps.store.read.hosts>> = await deps.store.read.hosts(
          { now: deps.clock() },
          'name',
          { cursor, limit: PAGE },
        );
        const stale = page.items.filter((host) => isStale(host, deps.policy)).map(({ id }) => id);
        await inTurns(stale, signal, async (id) => {
          await rejudge(id, { cause: { kind: 'policy' } }, deps);
        });
        cursor = page.next;
      } while (cursor !== null && !signal.aborted);
      return { kind: 'done' };
    },
  };
}

/** Acts on items, some beside each other. */
export async function inTurns<Item>(
  items: readonly Item[],
  signal: AbortSignal,
  act: (item: Item) => Promise<void>,
): Promise<void> {
  const waiting = [...items];
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (let item = waiting.shift(); item !== undefined && !signal.aborted; item = waiting.shift()) await act(item);
    }),
  );
}

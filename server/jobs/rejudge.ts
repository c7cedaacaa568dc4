/** Hosts whose last report can be judged better now: their image's manifest came or failed, or the policy is another one. */
import { z } from 'zod';
import { isStale, rejudge, REJUDGE_JOB, type RejudgeDeps } from '#server/ingest/rejudge.ts';
import type { Policies } from '#server/policies.ts';
import { toldOf } from '#server/standing.ts';
import type { Host } from '#server/store/records.ts';
import type { HostCursor } from '#server/store/store.ts';
import type { Chore, Outcome, Work } from './runner.ts';

export const POLICY_JOB = 'policy';

const LEASE_MS = 120_000;
const PAGE = 200;
/** Hosts judged beside each other: enough to fill a commit. */
const AT_ONCE = 16;
/** By then every process has taken over what was applied. */
const AGAIN_MS = 3_000;

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
export function policyWork(deps: RejudgeDeps & { readonly policies: Pick<Policies, 'renew'> }): Work {
  return {
    kind: POLICY_JOB,
    leaseMs: LEASE_MS,
    run: async (_job, signal): Promise<Outcome> => {
      // Another process may have applied it.
      await deps.policies.renew();
      let cursor: HostCursor | null = null;
      let judged = 0;
      do {
        const page: Awaited<ReturnType<typeof deps.store.read.hosts>> = await deps.store.read.hosts(
          { now: deps.clock() },
          'name',
          { cursor, limit: PAGE },
        );
        const stale = page.items.filter((host) => isStale(host, deps.policies.current)).map(({ id }) => id);
        await inTurns(stale, signal, async (id) => {
          if ((await rejudge(id, { cause: { kind: 'policy' } }, deps)) === 'done') judged++;
        });
        cursor = page.next;
      } while (cursor !== null && !signal.aborted);
      // Until a pass finds none: a process that did not know of it yet may have judged a report by the one before.
      return judged === 0 ? { kind: 'done' } : { kind: 'again', inMs: AGAIN_MS, why: `${judged} hosts judged anew` };
    },
  };
}

/** Takes over what changed in the policy's files, or what another process applied. */
export function policyChore(policies: Pick<Policies, 'renew'>, wake: () => void, everyMs: number): Chore {
  return {
    name: 'policy',
    everyMs,
    run: async () => {
      if (await policies.renew()) wake();
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

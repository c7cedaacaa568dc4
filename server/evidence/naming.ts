/** What hosts were called, and which group and labels they had, as a period ended: people may have changed that since (docs/evidence.md 7.2). */
import type { Instant } from '#src/clock.ts';
import { namingBefore, type Naming } from '#server/posturefacts.ts';
import type { Host } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';

export type HostsThen = { readonly host: Host; readonly naming: Naming };

/** Some hosts as they were called just before `to`, in their order. */
export async function hostsThen(hosts: readonly Host[], to: Instant, store: Store): Promise<readonly HostsThen[]> {
  const renamed = await store.evidence.renamedSince(
    hosts.map(({ id }) => id),
    to,
  );
  const out: HostsThen[] = [];
  for (const host of hosts)
    out.push({ host, naming: renamed.has(host.id) ? await namingBefore(host, to, store) : host });
  return out;
}

/** A person asks for a trust root to be refreshed now. */
import { BootproofError } from '#src/error.ts';
import type { Act } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';
import type { Basis } from '#server/trust/basis.ts';
import { rootJob } from '#server/trust/roots.ts';

export class RootDecisionError extends BootproofError<'TRUST_ROOT_NOT_KEPT_UP'> {}

/** @throws {RootDecisionError} where no repository keeps it up */
export async function refreshNow(
  name: string,
  by: Act,
  { store, basis }: { readonly store: Pick<Store, 'jobs' | 'audit'>; readonly basis: Pick<Basis, 'refreshes'> },
): Promise<void> {
  if (!basis.refreshes.some((refresh) => refresh.name === name))
    throw new RootDecisionError(
      'TRUST_ROOT_NOT_KEPT_UP',
      `no TUF repository keeps up a trust root of this name; the server's --tuf NAME=URL allows one`,
    );
  await store.audit.append(by, {
    action: 'trust-root.refresh',
    object: `trust-root:${name}`,
    before: null,
    after: null,
  });
  await store.jobs.enqueue([rootJob(name, by.at)]);
}

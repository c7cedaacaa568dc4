/** What a start says to the store: what the configuration allows and judges by, and the work that follows where that is other than before. */
import type { Clock } from '#src/clock.ts';
import type { Policy } from '#src/policy/document.ts';
import { allowSource, sourcePattern } from '#server/decisions/sources.ts';
import { nightlyJob } from '#server/jobs/nightly.ts';
import { POLICY_JOB } from '#server/jobs/rejudge.ts';
import { retentionJob } from '#server/jobs/retention.ts';
import type { Store } from '#server/store/store.ts';
import type { Basis } from '#server/trust/basis.ts';
import { trustAllJob } from '#server/trust/known.ts';
import { rootJob } from '#server/trust/roots.ts';
import { noteRoots } from '#server/trust/rootstold.ts';
import type { StartOptions } from './options.ts';
import type { Policies } from './policies.ts';

type Deps = { readonly store: Store; readonly clock: Clock };

/** Safe to repeat: what is already so is not written again. */
export async function begin(
  options: Pick<StartOptions, 'sources'>,
  { policies, basis }: { readonly policies: Policies; readonly basis: Basis },
  deps: Deps,
): Promise<void> {
  const { store, clock } = deps;
  await allowConfigured(options, deps);
  await policies.noteControls();
  await notePolicy(policies.current, deps);
  await noteTrust(basis, deps);
  await noteRoots(basis, store, { actor: 'configuration', at: clock() });
  await store.jobs.enqueue([
    ...basis.refreshes.map(({ name }) => rootJob(name, clock())),
    nightlyJob(clock()),
    retentionJob(clock()),
  ]);
}

/** Sources of the configuration are allowed once; written again only where their terms changed, as that makes images due. */
async function allowConfigured({ sources = [] }: Pick<StartOptions, 'sources'>, { store, clock }: Deps): Promise<void> {
  const known = new Map((await store.sources.list()).map(({ pattern, options }) => [pattern, JSON.stringify(options)]));
  for (const { reference, plainHttp = false } of sources) {
    const terms = { plainHttp };
    if (known.get(sourcePattern(reference)) === JSON.stringify(terms)) continue;
    await allowSource(reference, terms, { actor: 'configuration', at: clock() }, { store });
  }
}

/** Under another policy than before, every host is judged anew. */
async function notePolicy(policy: Policy, { store, clock }: Deps): Promise<void> {
  const digest = new TextEncoder().encode(policy.digest);
  const before = (await store.settings.get('policy-digest')) ?? null;
  if (before !== null && Buffer.compare(before, digest) === 0) return;
  // Enqueued first: a crash between leaves the work, and the next start asks for it once more.
  await store.jobs.enqueue([{ kind: POLICY_JOB, dedupeKey: POLICY_JOB, runAt: clock(), payload: {} }]);
  await store.settings.swap('policy-digest', before, digest);
}

/** Under another image policy, trust root or deny list than before, every image is judged anew. */
async function noteTrust(basis: Basis, { store, clock }: Deps): Promise<void> {
  const text = new TextEncoder().encode(JSON.stringify(basis.current));
  const before = (await store.settings.get('trust-basis')) ?? null;
  if (before === null ? basis.current === null : Buffer.compare(before, text) === 0) return;
  await store.jobs.enqueue([trustAllJob(clock())]);
  await store.settings.swap('trust-basis', before, text);
}

/**
 * The host policy that judges: versions in the store, of which the newest counts, for every process on it (docs/policy.md, section 12).
 * People apply them over the API; or they come from a file or folder, and are then read-only there. A broken one never takes the place of
 * one that works.
 */
import { hash } from 'node:crypto';
import type { Instant } from '#src/clock.ts';
import { DocumentError } from '#src/document/yaml.ts';
import { BootproofError } from '#src/error.ts';
import { POLICY_TEXT_KNOWN_MAX } from '#src/limits.ts';
import type { Policy } from '#src/policy/document.ts';
import { policyOfDocuments, type PolicyDocumentText } from '#src/policy/documents.ts';
import type { World } from '#server/deps.ts';
import { POLICY_JOB } from '#server/jobs/rejudge.ts';
import type { Act, NewJob } from '#server/store/records.ts';
import type { NewPolicyVersion, PolicyVersion } from '#server/store/policyrecords.ts';
import type { Store } from '#server/store/store.ts';
import { Lru } from './lru.ts';
import type { Shipped } from './policyfiles.ts';

/** Where a server's policy comes from. */
export type PolicySource =
  /** People apply versions; until then the shipped one counts, or what is handed in as the `first` (which may extend it). */
  | { readonly kind: 'store'; readonly shipped: Shipped; readonly first?: Shipped }
  /** A file or folder, read at start and again whenever it changed. */
  | {
      readonly kind: 'files';
      readonly place: string;
      readonly shipped: Shipped;
      readonly read: () => Promise<{
        readonly documents: readonly PolicyDocumentText[];
        readonly commit: string | null;
      }>;
    };

/** A policy that cannot be applied as asked. */
export class PolicyError extends BootproofError<'POLICY_MANAGED' | 'POLICY_CONFLICT' | 'POLICY_UNKNOWN'> {}

/** Why the newest text of the file or folder does not count. */
export type PolicyProblem = { readonly at: Instant; readonly lines: readonly string[] };

type Stored = { readonly version: PolicyVersion; readonly policy: Policy };

export type Applied = { readonly version: number; readonly unchanged: boolean };

const CONFIGURATION = 'configuration';

type Deps = Pick<World, 'clock' | 'log'> & { readonly store: Pick<Store, 'policies'> };

export class Policies {
  readonly #deps: Deps;
  readonly #source: PolicySource | null;
  #current: Policy;
  /** Without the documents, which may be large; null for a policy that is handed in and belongs to no version. */
  #version: PolicyVersion | null = null;
  /** The newest version that was looked at; it may be one that this build cannot read. */
  #head: number | null = null;
  /** Of the text that was last read from the source: what did not change is not looked at again. */
  #read = '';
  /** Versions as they were read: none ever changes, and reading one takes a tenth of a second of the event loop. */
  readonly #known = new Lru<number, Stored>(POLICY_TEXT_KNOWN_MAX);
  #problem: PolicyProblem | null = null;

  private constructor(source: PolicySource | null, current: Policy, deps: Deps) {
    this.#source = source;
    this.#current = current;
    this.#deps = deps;
  }

  /** One that never changes. */
  static fixed(policy: Policy, deps: Deps): Policies {
    return new Policies(null, policy, deps);
  }

  /** @throws {UsageError | DocumentError} for a file or folder that holds no policy: nothing judged by it yet, so nothing is lost. */
  static async open(source: PolicySource, deps: Deps): Promise<Policies> {
    const policies = new Policies(source, source.shipped.policy, deps);
    if (source.kind === 'files') await policies.#takeFiles(true);
    else await policies.#takeStored();
    return policies;
  }

  get current(): Policy {
    return this.#current;
  }

  /** The version that judges; null where the policy was handed in. */
  get version(): PolicyVersion | null {
    return this.#version;
  }

  get shipped(): Policy {
    return this.#source?.shipped.policy ?? this.#current;
  }

  /** Where the policy must be changed instead; null where people may apply one here. */
  get managed(): { readonly place: string; readonly problem: PolicyProblem | null } | null {
    if (this.#source?.kind === 'store') return null;
    return { place: this.#source?.place ?? 'the configuration of this server', problem: this.#problem };
  }

  /** Takes over what changed in the files, or what another process took over; whether something did. */
  async renew(): Promise<boolean> {
    if (this.#source === null) return false;
    const before = this.#version?.n;
    if (this.#source.kind === 'files') await this.#takeFiles(false);
    const head = await this.#deps.store.policies.head();
    if (head !== null && head !== this.#head) await this.#adopt(head);
    return this.#version?.n !== before;
  }

  /**
   * Makes a policy count, for every host, at once.
   * @throws {DocumentError} where it is none; {PolicyError} where policies are changed elsewhere, or another one came between.
   */
  async apply(
    documents: readonly PolicyDocumentText[],
    terms: { readonly note: string | null; readonly expect?: number | undefined },
    by: Act,
  ): Promise<Applied> {
    const { managed } = this;
    if (managed !== null)
      throw new PolicyError('POLICY_MANAGED', `this server takes its policy from ${managed.place}; change it there`);
    const taken = policyOfDocuments(documents, this.shipped);
    const draft = draftOf(taken.policy, taken.documents, { origin: 'api', place: null, commit: null, ...terms });
    return this.#append(draft, taken.policy, by, terms.expect);
  }

  /** A stored version as this build understands it. @throws {PolicyError} POLICY_UNKNOWN; {DocumentError} */
  async get(n: number): Promise<Stored> {
    const known = this.#known.get(n);
    if (known !== undefined) return known;
    const version = await this.#deps.store.policies.get(n);
    if (version === undefined) throw new PolicyError('POLICY_UNKNOWN', `there is no version ${n} of the policy`);
    const read = { version, policy: policyOfDocuments(version.documents, this.shipped).policy };
    this.#known.set(
      n,
      read,
      version.documents.reduce((sum, { text }) => sum + text.length, 0),
    );
    return read;
  }

  async #append(draft: NewPolicyVersion, policy: Policy, by: Act, expect?: number): Promise<Applied> {
    const { store } = this.#deps;
    for (;;) {
      const head = await store.policies.head();
      if (expect !== undefined && head !== expect)
        throw new PolicyError(
          'POLICY_CONFLICT',
          `version ${head ?? 0} of the policy counts now, not ${expect}; look at it before you replace it`,
        );
      const stands = head === null ? undefined : await store.policies.get(head);
      if (stands !== undefined && sameText(stands, draft)) {
        await this.#take(policy, stands);
        return { version: stands.n, unchanged: true };
      }
      const jobs: NewJob[] = [{ kind: POLICY_JOB, dedupeKey: POLICY_JOB, runAt: by.at, payload: {} }];
      const n = await store.policies.append(draft, head, by, jobs);
      // Another process was first: if it said the same, that is the version.
      if (n === undefined) continue;
      await this.#take(policy, { ...draft, n, createdAt: by.at, createdBy: by.actor });
      this.#deps.log('info', 'policy applied', { version: n, name: draft.name, by: by.actor, origin: draft.origin });
      return { version: n, unchanged: false };
    }
  }

  async #take(policy: Policy, version: PolicyVersion): Promise<void> {
    this.#current = policy;
    this.#version = version;
    this.#head = Math.max(this.#head ?? 0, version.n);
    await this.noteControls();
  }

  /** Lets lists be asked by the controls of the policy that judges. */
  async noteControls(): Promise<void> {
    const { files, state, accounts } = this.#current;
    const pairs = [...files, ...state, ...accounts].flatMap(({ id: rule, controls }) =>
      [...new Set(controls)].map((control) => ({ control, rule })),
    );
    await this.#deps.store.policies.setControls(pairs);
  }

  async #takeStored(): Promise<void> {
    const { store } = this.#deps;
    const { shipped, first = shipped } = this.#source as Extract<PolicySource, { kind: 'store' }>;
    const head = await store.policies.head();
    const stands = head === null ? undefined : await store.policies.get(head);
    // What ships is followed as it changes with each build, until people apply one of their own.
    if (stands === undefined || stands.origin === 'shipped') {
      const draft = draftOf(first.policy, [first.document], {
        origin: 'shipped',
        place: null,
        commit: null,
        note: null,
      });
      await this.#append(draft, first.policy, { actor: CONFIGURATION, at: this.#deps.clock() });
      return;
    }
    await this.#adopt(stands.n);
    if (this.#version === null) this.#deps.log('error', 'no stored policy can be read; the shipped one judges');
  }

  /** The newest version up to this one that this build can read. */
  async #adopt(head: number): Promise<void> {
    this.#head = head;
    for (let n = head; n >= 1; n--) {
      try {
        const { version, policy } = await this.get(n);
        await this.#take(policy, version);
        if (n !== head) this.#deps.log('error', 'an older policy judges', { version: n, unreadable: head });
        return;
      } catch (error) {
        if (!(error instanceof DocumentError) && !(error instanceof PolicyError)) throw error;
        this.#deps.log('error', 'a stored policy cannot be read', { version: n, error: error.message });
        if (this.#version !== null) return;
      }
    }
  }

  async #takeFiles(first: boolean): Promise<void> {
    const source = this.#source as Extract<PolicySource, { kind: 'files' }>;
    const { clock, log } = this.#deps;
    try {
      const { documents, commit } = await source.read();
      const read = hash('sha256', JSON.stringify(documents));
      if (read === this.#read) return;
      this.#read = read;
      const taken = policyOfDocuments(documents, source.shipped.policy);
      const draft = draftOf(taken.policy, taken.documents, {
        origin: 'files',
        place: source.place,
        commit,
        note: null,
      });
      await this.#append(draft, taken.policy, { actor: CONFIGURATION, at: clock() });
      this.#problem = null;
    } catch (error) {
      if (first || !(error instanceof BootproofError)) throw error;
      const lines = error instanceof DocumentError ? error.lines : [error.message];
      const known = this.#problem?.lines.join('\n') === lines.join('\n');
      if (known) return;
      this.#problem = { at: clock(), lines };
      log('error', 'policy not taken over', { place: source.place, error: lines.join('\n') });
    }
  }
}

function draftOf(
  policy: Policy,
  documents: readonly PolicyDocumentText[],
  terms: Pick<NewPolicyVersion, 'origin' | 'place' | 'commit' | 'note'>,
): NewPolicyVersion {
  const { origin, place, commit, note } = terms;
  return { digest: policy.digest, name: policy.name, documents, origin, place, commit, note };
}

/** Another name of a file is no other policy. */
function sameText(a: Pick<NewPolicyVersion, 'digest' | 'documents'>, b: typeof a): boolean {
  const texts = (version: typeof a) => JSON.stringify(version.documents.map(({ text }) => text));
  return a.digest === b.digest && texts(a) === texts(b);
}

/** What stands in the way of saying that every host was judged by it: nothing, once the job is done. */
export async function isRejudging({
  store,
  clock,
}: { store: Pick<Store, 'jobs'> } & Pick<World, 'clock'>): Promise<boolean> {
  const lag = await store.jobs.lag(clock());
  return lag.some(({ kind, waiting, running }) => kind === POLICY_JOB && waiting + running > 0);
}

/**
 * What would be, without anything being written: the fleet's last reports under another policy (docs/policy.md, section 12.4). In bounded
 * memory and time: an answer covers a part of the fleet, in the order of names, and says where the next one begins; parts add up.
 */
import { setImmediate as turn } from 'node:timers/promises';
import type { Instant } from '#src/clock.ts';
import { describe } from '#src/finding/describe.ts';
import { groupOf } from '#src/finding/group.ts';
import type { Scope } from '#src/finding/scope.ts';
import { DRY_RUN_EXAMPLES_MAX, DRY_RUN_HOSTS_MAX } from '#src/limits.ts';
import type { Policy } from '#src/policy/document.ts';
import type { Evidence } from '#src/policy/evaluate.ts';
import type { Judgement, Severity } from '#src/policy/judgement.ts';
import type { Deps } from '#server/deps.ts';
import { decideOn, type Reaching } from '#server/exempt.ts';
import { evidenceOf, findingsAfter, type JudgeDeps, type Provenances } from '#server/ingest/judge.ts';
import type { KnownImages } from '#server/ingest/known.ts';
import type { KnownDefaults } from '#server/ingest/lineage.ts';
import { lastFull, occasionOf } from '#server/ingest/rejudge.ts';
import { knownTag } from '#server/jobs/tags.ts';
import { standingFrom } from '#server/standing.ts';
import { judgeOf, type Judge, type Judged } from '#server/trial.ts';
import type { FindingWithGroup, Host } from '#server/store/records.ts';
import type { HostCursor, Store } from '#server/store/store.ts';

export type DryRunDeps = Pick<JudgeDeps, 'waivers'> &
  Pick<Deps, 'clock'> & {
    readonly store: Store;
    readonly images: KnownImages;
    readonly defaults: KnownDefaults;
    readonly trust: Provenances;
  };

/** One rule and what it would find more, or no longer. Counts are findings: one a host and thing. */
export type RuleChange = {
  readonly rule: string;
  readonly kind: string;
  /** Null on the side where no finding of the rule is. */
  readonly severity: { readonly before: Severity | null; readonly after: Severity | null };
  readonly added: number;
  readonly removed: number;
  /** Found under both, with another severity or weight. */
  readonly rerated: number;
  readonly hosts: number;
  /** A few of them, in words. */
  readonly examples: readonly {
    readonly host: string;
    readonly name: string;
    readonly text: string;
    readonly change: 'added' | 'removed' | 'rerated';
  }[];
};

export type PolicyDiff = {
  /** `unjudged`: without a report that could be judged; they change with their next one. */
  readonly hosts: { readonly judged: number; readonly changed: number; readonly unjudged: number };
  readonly findings: { readonly added: number; readonly removed: number; readonly rerated: number };
  readonly rules: readonly RuleChange[];
  /** Verdicts of hosts that would be others; the clock is left out. */
  readonly verdicts: readonly { readonly from: string; readonly to: string; readonly hosts: number }[];
  /** Null where the whole fleet is in it. */
  readonly next: HostCursor | null;
};

/** Hosts judged beside each other. */
const AT_ONCE = 8;
const PAGE = 200;

/** Holds the last report of hosts from `cursor` on against two policies; `until`: when to stop and say what is left. */
export async function diffPolicies(
  policies: { readonly before: Judged; readonly after: Judged; readonly shipped: Policy | undefined },
  range: { readonly cursor: HostCursor | null; readonly until: Instant },
  deps: DryRunDeps,
): Promise<PolicyDiff> {
  const { before, after, shipped } = policies;
  const sides = {
    before: { policy: before.policy, ...judgeOf(before, shipped) },
    after: { policy: after.policy, ...judgeOf(after, shipped) },
  };
  try {
    const sum = new Sum();
    const next = await eachHost(range, deps, async (host) => {
      const judged = await judgeTwice(host, sides, deps);
      if (judged === undefined) sum.unjudged++;
      else sum.add(host, judged.before, judged.after);
    });
    return { ...sum.result(), next };
  } finally {
    await Promise.all([sides.before.close(), sides.after.close()]);
  }
}

/** Acts on active hosts by name, some beside each other, until time or number is used up; answers where to go on. */
export async function eachHost(
  { cursor: from, until }: { readonly cursor: HostCursor | null; readonly until: Instant },
  { store, clock }: Pick<DryRunDeps, 'store' | 'clock'>,
  act: (host: Host) => Promise<void>,
  filter: { readonly booted?: readonly string[]; readonly scope?: Scope } = {},
): Promise<HostCursor | null> {
  let cursor = from;
  let done = 0;
  do {
    const page: Awaited<ReturnType<typeof store.read.hosts>> = await store.read.hosts(
      { now: clock(), states: ['active'], ...filter },
      'name',
      { cursor, limit: PAGE },
    );
    const waiting = [...page.items];
    await Promise.all(
      Array.from({ length: AT_ONCE }, async () => {
        for (let host = waiting.shift(); host !== undefined; host = waiting.shift()) {
          await act(host);
          // Judging takes the processor, and SQLite answers without letting go of it: reports and pages go in between.
          await turn();
        }
      }),
    );
    cursor = page.next;
    done += page.items.length;
    // A whole page always, so that every answer comes further.
  } while (cursor !== null && done < DRY_RUN_HOSTS_MAX && clock() < until);
  return cursor;
}

type Judging = { readonly policy: Policy } & Pick<Judge, 'evaluate'>;
type Side = { readonly judgements: ReadonlyMap<string, Judgement>; readonly verdict: string };

async function judgeTwice(
  host: Host,
  policies: { readonly before: Judging; readonly after: Judging },
  deps: DryRunDeps,
): Promise<{ readonly before: Side; readonly after: Side } | undefined> {
  const examined = await lastFull(host, deps);
  if (examined === undefined) return undefined;
  const at = Math.max(deps.clock(), host.standing.since);
  const { evidence, signed } = await evidenceOf(
    examined,
    {
      ...occasionOf(host, host.chain.flags, { kind: 'policy' }, at),
      lineage: (await deps.store.lineages.get(host.id)) ?? null,
    },
    { ...deps, tag: (claim) => knownTag(claim, deps.store) },
  );
  const present = await deps.store.findings.present(host.id);
  const reaching = await deps.waivers.reaching(host, examined.report.deployment.booted?.image?.digest ?? null);
  const side = (judging: Judging) => sideOf(host, evidence, judging, { present, reaching, signed, at });
  return { before: await side(policies.before), after: await side(policies.after) };
}

async function sideOf(
  host: Host,
  evidence: Evidence,
  { policy, evaluate }: Judging,
  about: {
    readonly present: readonly FindingWithGroup[];
    readonly reaching: Reaching;
    readonly signed: Awaited<ReturnType<typeof evidenceOf>>['signed'];
    readonly at: Instant;
  },
): Promise<Side> {
  const evaluation = await evaluate(evidence);
  const judgements = new Map(evaluation.judgements.map((judgement) => [groupOf(judgement), judgement]));
  // What stands is what is judged: as if every finding could be told.
  const gone = new Set(about.present.filter(({ groupId }) => !judgements.has(groupId)).map(({ groupId }) => groupId));
  const decided = await decideOn(findingsAfter(about.present, gone, evaluation.judgements), about.reaching);
  const { verdict } = standingFrom(host, {
    facts: evaluation.facts,
    findings: decided.findings,
    validUntil: null,
    provenance: about.signed.provenance,
    stamp: about.signed.stamp,
    policy: policy.digest,
    skewMs: evidence.skewMs,
    drift: null,
    at: about.at,
  });
  return { judgements, verdict };
}

type Draft = {
  -readonly [Key in keyof RuleChange]: RuleChange[Key];
} & { severity: { before: Severity | null; after: Severity | null }; examples: RuleChange['examples'][number][] };

class Sum {
  unjudged = 0;
  #judged = 0;
  #changed = 0;
  readonly #rules = new Map<string, Draft>();
  readonly #verdicts = new Map<string, { from: string; to: string; hosts: number }>();

  add(host: Host, before: Side, after: Side): void {
    this.#judged++;
    const touched = new Set<Draft>();
    const note = (judgement: Judgement, change: 'added' | 'removed' | 'rerated'): void => {
      const draft = this.#draft(judgement);
      draft[change]++;
      touched.add(draft);
      if (draft.examples.length < DRY_RUN_EXAMPLES_MAX)
        draft.examples.push({ host: host.id, name: host.name, text: describe(judgement), change });
    };
    for (const [group, judgement] of after.judgements) {
      const stood = before.judgements.get(group);
      if (stood === undefined) note(judgement, 'added');
      else if (stood.severity !== judgement.severity || stood.verdict !== judgement.verdict) note(judgement, 'rerated');
      if (stood === undefined || stood.severity !== judgement.severity)
        this.#draft(judgement).severity.after = judgement.severity;
    }
    for (const [group, judgement] of before.judgements) {
      const stands = after.judgements.get(group);
      if (stands === undefined) note(judgement, 'removed');
      if (stands === undefined || stands.severity !== judgement.severity)
        this.#draft(judgement).severity.before = judgement.severity;
    }
    for (const draft of touched) draft.hosts++;
    const isOther = before.verdict !== after.verdict;
    if (touched.size > 0 || isOther) this.#changed++;
    if (!isOther) return;
    const key = `${before.verdict} ${after.verdict}`;
    const known = this.#verdicts.get(key);
    if (known === undefined) this.#verdicts.set(key, { from: before.verdict, to: after.verdict, hosts: 1 });
    else known.hosts++;
  }

  #draft({ rule, kind }: Judgement): Draft {
    const key = `${rule} ${kind}`;
    let draft = this.#rules.get(key);
    if (draft === undefined) {
      draft = {
        rule,
        kind,
        severity: { before: null, after: null },
        added: 0,
        removed: 0,
        rerated: 0,
        hosts: 0,
        examples: [],
      };
      this.#rules.set(key, draft);
    }
    return draft;
  }

  result(): Omit<PolicyDiff, 'next'> {
    const rules = [...this.#rules.values()].sort((a, b) => b.hosts - a.hosts || (a.rule < b.rule ? -1 : 1));
    const total = (change: 'added' | 'removed' | 'rerated') => rules.reduce((sum, rule) => sum + rule[change], 0);
    return {
      hosts: { judged: this.#judged, changed: this.#changed, unjudged: this.unjudged },
      findings: { added: total('added'), removed: total('removed'), rerated: total('rerated') },
      rules,
      verdicts: [...this.#verdicts.values()].sort((a, b) => b.hosts - a.hosts),
    };
  }
}

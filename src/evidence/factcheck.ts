/**
 * Findings, decisions and policies against the log (docs/evidence.md 4, checks `findings`, `decisions`, `policies`): what the lists tell of the period
 * is what was logged then, and nothing that was logged is left out of them.
 */
import type { z } from 'zod';
import type { Instant } from '#src/clock.ts';
import { canonicalJson } from '#src/signing/canonical.ts';
import type { DecisionFact, FindingFact, HostInScope, PolicyFact, ReconciliationFact } from './facts.ts';
import { valueOf } from './lines.ts';
import { Act, BundleError, Judgement } from './bundle.ts';
import type { Faults } from './steps.ts';
import type { Walked } from './walk.ts';

type Period = { readonly from: Instant; readonly to: Instant };
/** What a list says of an act: it must be in the log, at this index. */
type Claim = {
  readonly list: 'decisions' | 'policies';
  readonly who: string;
  readonly object: string | null;
  readonly at: string;
  readonly actor: string;
  readonly action: string | null;
};

export class FactCheck {
  readonly #period: Period;
  readonly #faults: {
    readonly findings: Faults;
    readonly decisions: Faults;
    readonly policies: Faults;
    readonly records: Faults;
  };
  /** Transitions that findings tell of, by the index of their judgement. */
  readonly #told = new Map<number, string[]>();
  readonly #claims = new Map<number, Claim[]>();
  readonly #standing = new Map<string, string>();
  /** The newest of the period, by the host's revision: what one moment brought may be logged in another order. */
  readonly #lastTold = new Map<string, { readonly revision: number; readonly told: string }>();
  counts = { findings: 0, transitions: 0, unlogged: 0, decisions: 0, policies: 0, acts: 0, judgements: 0 };

  constructor(
    period: Period,
    faults: {
      readonly findings: Faults;
      readonly decisions: Faults;
      readonly policies: Faults;
      readonly records: Faults;
    },
  ) {
    this.#period = period;
    this.#faults = faults;
  }

  host({ host, standing }: HostInScope): void {
    this.#standing.set(host, standing.verdict);
  }

  finding(fact: FindingFact, inScope: boolean): void {
    this.counts.findings++;
    const where = `${fact.subject} on ${fact.host}`;
    if (!inScope) this.#faults.findings.add(`${where}: the host is not in scope`);
    for (const { index, transition, episode, severity, why } of fact.history) {
      this.counts.transitions++;
      if (index === null) {
        this.counts.unlogged++;
        continue;
      }
      const list = this.#told.get(index) ?? [];
      list.push(lineOf(fact.host, { group: fact.group, episode, transition, severity, why }));
      this.#told.set(index, list);
    }
    const last = fact.history
      .filter(({ transition }) => ['new', 'regressed', 'returned', 'resolved'].includes(transition))
      .at(-1);
    if (last !== undefined && fact.open !== (last.transition !== 'resolved'))
      this.#faults.findings.add(
        `${where}: it is ${fact.open ? 'open' : 'closed'}, its history ends with ${last.transition}`,
      );
  }

  decision(fact: DecisionFact): void {
    this.counts.decisions++;
    const object = fact.kind === 'waiver' ? `waiver:${fact.id}` : null;
    for (const { index, at, actor, action } of fact.history)
      this.#claim(index, { list: 'decisions', who: fact.id, object, at, actor, action });
  }

  policy(fact: PolicyFact): void {
    this.counts.policies++;
    const who = `${fact.kind} policy ${fact.version}`;
    const object = fact.kind === 'host' ? `policy:${fact.version}` : null;
    this.#claim(fact.index, { list: 'policies', who, object, at: fact.inForce.from, actor: fact.by, action: null });
  }

  reconciliation(fact: ReconciliationFact): void {
    if (fact.index !== null && !this.#claims.has(fact.index)) this.#claims.set(fact.index, []);
  }

  #claim(index: number | null, claim: Claim): void {
    if (index === null) {
      this.counts.unlogged++;
      return;
    }
    this.#claims.set(index, [...(this.#claims.get(index) ?? []), claim]);
  }

  /** A judgement whose payload fits its entry. */
  judgement({ index, entry, payload }: Walked, at: Instant): void {
    if (entry.kind !== 'judgement') return;
    this.counts.judgements++;
    const told = this.#told.get(index) ?? [];
    this.#told.delete(index);
    if (payload === undefined) {
      // What it said is gone; that the verdict turned, its entry says itself.
      const { verdict } = entry.facts;
      if (verdict !== null && at >= this.#period.from && at < this.#period.to)
        this.#lastTold.set(entry.host, {
          revision: this.#lastTold.get(entry.host)?.revision ?? 0,
          told: verdict.to,
        });
      return;
    }
    const judged = this.#read(index, payload, Judgement);
    if (judged === undefined) return;
    const { host, revision, findings, before, after } = judged;
    const turned = before.told === after.told ? null : { from: before.told, to: after.told };
    if (
      host !== entry.host ||
      findings.length !== entry.facts.findings ||
      canonicalJson(turned) !== canonicalJson(entry.facts.verdict)
    )
      this.#faults.records.add(
        `entry ${index}: the log says something else of a judgement of ${entry.host} than it says itself`,
      );
    if (at >= this.#period.to) return;
    if (at >= this.#period.from && revision >= (this.#lastTold.get(host)?.revision ?? 0))
      this.#lastTold.set(host, { revision, told: after.told });
    const logged = findings.map((finding) => lineOf(host, finding)).sort();
    // What is older than the period is told as far as it matters to a finding of it.
    const missing = at < this.#period.from ? [] : difference(logged, told);
    for (const line of missing)
      this.#faults.findings.add(`logged in entry ${index} and left out of the findings: ${line}`);
    for (const line of difference(told, logged))
      this.#faults.findings.add(`told of by the findings, and not logged in entry ${index}: ${line}`);
  }

  /** An act whose payload fits its entry; answers it, for who needs more of it. */
  act({ index, entry, payload }: Walked, at: Instant): Act | undefined {
    if (entry.kind !== 'act') return undefined;
    this.counts.acts++;
    const claims = this.#claims.get(index) ?? [];
    const claimed = this.#claims.delete(index);
    if (payload === undefined) return undefined;
    const act = this.#read(index, payload, Act);
    if (act === undefined) return undefined;
    if (act.action !== entry.facts.action || act.at !== entry.at)
      this.#faults.records.add(`entry ${index}: the log says something else of an act than it says itself`);
    for (const { list, who, object, ...claim } of claims)
      if (
        (object !== null && object !== act.object) ||
        claim.actor !== act.actor ||
        claim.at !== act.at ||
        (claim.action !== null && claim.action !== act.action)
      )
        this.#faults[list].add(
          `${who}: entry ${index} says ${act.action} of ${act.object} by ${act.actor} at ${act.at}`,
        );
    const inPeriod = at >= this.#period.from && at < this.#period.to;
    if (inPeriod && !claimed && act.action.startsWith('waiver.'))
      this.#faults.decisions.add(`entry ${index}: ${act.action} of ${act.object} is left out of the decisions`);
    if (inPeriod && !claimed && act.action === 'policy.apply')
      this.#faults.policies.add(`entry ${index}: ${act.action} of ${act.object} is left out of the policies`);
    return act;
  }

  #read<Schema extends z.ZodType>(index: number, payload: string, schema: Schema): z.infer<Schema> | undefined {
    try {
      return valueOf(payload, `entry ${index}`, schema);
    } catch (error) {
      if (!(error instanceof BundleError)) throw error;
      this.#faults.records.add(error.message);
      return undefined;
    }
  }

  /** After the walk. */
  finish(): void {
    for (const [index, lines] of this.#told)
      this.#faults.findings.add(`${lines.length} transitions are told of entry ${index}, which is not in the bundle`);
    for (const [index, claims] of this.#claims)
      for (const { list, who } of claims) this.#faults[list].add(`${who}: entry ${index} is not in the bundle`);
    for (const [host, { told }] of this.#lastTold) {
      const standing = this.#standing.get(host);
      if (standing !== undefined && standing !== told)
        this.#faults.findings.add(`${host} stands as ${standing}; what was logged last in the period is ${told}`);
    }
  }
}

function lineOf(host: string, { group, episode, transition, severity, why }: Judgement['findings'][number]): string {
  return canonicalJson({ host, group, episode, transition, severity, why });
}

/** What is in `a` more often than in `b`. */
function difference(a: readonly string[], b: readonly string[]): string[] {
  const left = new Map<string, number>();
  for (const line of b) left.set(line, (left.get(line) ?? 0) + 1);
  return a.filter((line) => {
    const count = left.get(line) ?? 0;
    left.set(line, count - 1);
    return count <= 0;
  });
}

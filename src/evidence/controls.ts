/**
 * Facts → results of controls (docs/controls.md 2). Hosts and their findings are joined as they stream by, so memory grows with images, waivers
 * and controls, never with hosts; the same facts give the same results to the byte, so that whoever has the bundle can compute them again.
 */
import { BootproofError } from '#src/error.ts';
import type { Control, Framework } from '#src/policy/controls.ts';
import { canonicalJson } from '#src/signing/canonical.ts';
import {
  belowLimit,
  concerns,
  exceptionsOf,
  outcomeOf,
  OUTCOMES,
  WEIGHTS,
  type Exception,
  type Instance,
  type Known,
  type Outcome,
  type Weight,
} from './controlrules.ts';
import type { BundleHead, DecisionFact, Facts, FindingFact, HostInScope, ImageFact } from './facts.ts';

export class ControlsError extends BootproofError<
  /** Asked for a framework that no mapping describes. */
  | 'CONTROLS_FRAMEWORK'
  /** Hosts or findings that are out of order, twice, or of no host in scope: nothing may be computed from such facts. */
  | 'CONTROLS_FACTS'
> {}

type Counts<Key extends string> = Readonly<Record<Key, number>>;

export type ControlResult = {
  readonly framework: string;
  readonly control: string;
  readonly title: string;
  /** Whether a person with the standard at hand reviewed the mapping; shown with every result. */
  readonly status: Control['status'];
  readonly outcome: Outcome;
  /** Why, where it is not satisfied. */
  readonly reasons: readonly string[];
  /** Hosts by what kept them from satisfying it. */
  readonly kept: readonly { readonly kind: Exception['kind']; readonly hosts: number }[];
  readonly hosts: Counts<Outcome>;
  /** Hosts that are satisfied only thanks to waivers: counted apart, and among the satisfied. */
  readonly hostsWaived: number;
  readonly exceptions: Counts<Weight>;
};

export type Population = {
  readonly inScope: number;
  readonly outOfScope: number;
  readonly enrolledInPeriod: number;
  readonly retiredInPeriod: number;
  readonly checkIns: { readonly expected: number; readonly received: number };
  readonly belowLimit: number;
  readonly gaps: { readonly hosts: number; readonly explained: number; readonly unexplained: number };
  readonly longest: { readonly host: string; readonly name: string; readonly seconds: number } | null;
  /** Standing at the end of the period. */
  readonly verdicts: readonly { readonly verdict: string; readonly hosts: number }[];
  /** Hosts that were compliant at the end thanks to waivers, among the compliant. */
  readonly compliantWaived: number;
};

export type Results = {
  readonly v: 1;
  readonly period: BundleHead['period'];
  readonly parameters: BundleHead['parameters'];
  readonly population: Population;
  readonly images: Counts<ImageFact['trust']['state']>;
  readonly controls: readonly ControlResult[];
  /** Of all hosts, whether a control looks at them or not. */
  readonly exceptions: Counts<Weight>;
};

/** What the facts of one host came to. */
export type HostResult = {
  readonly host: HostInScope;
  readonly findings: readonly FindingFact[];
  readonly exceptions: readonly Exception[];
};

export type Assessment = {
  readonly facts: Facts;
  readonly known: Known;
  readonly controls: readonly {
    readonly framework: Framework;
    readonly control: Control;
    readonly asks: readonly Instance[];
  }[];
};

/** Reads what is small. @throws {ControlsError} CONTROLS_FRAMEWORK. */
export async function prepare(facts: Facts, mappings: readonly Framework[]): Promise<Assessment> {
  const frameworks = facts.head.frameworks.map((id) => {
    const framework = mappings.find((each) => each.id === id);
    if (framework !== undefined) return framework;
    const known = mappings.map((each) => each.id).join(', ');
    throw new ControlsError(
      'CONTROLS_FRAMEWORK',
      `no mapping describes the framework ${JSON.stringify(id)}; there are: ${known}`,
    );
  });
  const controls = frameworks.flatMap((framework) =>
    framework.controls.map((control) => ({
      framework,
      control,
      asks: control.rules.map((rule): Instance => ({
        rule,
        interval: rule === 'R-int' ? control.interval : null,
        control: rule === 'R-find' ? `${framework.id}:${control.id}` : null,
      })),
    })),
  );
  const images = new Map<string, ImageFact>();
  for await (const image of facts.images()) images.set(image.image, image);
  const waivers = new Map<string, DecisionFact>();
  for await (const decision of facts.decisions()) if (decision.kind === 'waiver') waivers.set(decision.id, decision);
  const intervals = [...new Set(controls.flatMap(({ control }) => control.interval ?? []))].sort((a, b) => a - b);
  return { facts, known: { head: facts.head, images, waivers, intervals }, controls };
}

/**
 * Each host in scope with what it came to, in the order of the facts.
 * @throws {ControlsError} CONTROLS_FACTS where hosts are not in ascending order of their ids, each once, or findings not in that of their hosts.
 */
export async function* hostResults({ facts, known }: Assessment): AsyncGenerator<HostResult> {
  const findings = facts.findings()[Symbol.asyncIterator]();
  try {
    let next = await findings.next();
    let last = '';
    for await (const host of facts.hosts()) {
      if (host.host <= last)
        throw new ControlsError(
          'CONTROLS_FACTS',
          `host ${host.host} comes after ${last}: hosts are in the order of their ids, each once`,
        );
      last = host.host;
      const own: FindingFact[] = [];
      for (; next.done !== true && next.value.host <= host.host; next = await findings.next()) {
        if (!host.inScope || next.value.host < host.host) throw stray(next.value);
        own.push(next.value);
      }
      if (host.inScope) yield { host, findings: own, exceptions: exceptionsOf(host, own, known) };
    }
    if (next.done !== true) throw stray(next.value);
  } finally {
    await findings.return?.();
  }
}

const stray = ({ host, group }: FindingFact) =>
  new ControlsError('CONTROLS_FACTS', `finding ${group} is of host ${host}, which is not in scope, or out of order`);

/** What was seen of each host, folded; `onHost` sees each as it passes. */
export async function assess(
  assessment: Assessment,
  onHost?: (result: HostResult) => void | Promise<void>,
): Promise<Results> {
  const { facts, known, controls } = assessment;
  const { head } = facts;
  const population = new PopulationCount(head);
  const exceptions = zero(WEIGHTS);
  const tallies = controls.map((each) => new Tally(each.framework, each.control, facts.logHolds));
  for await (const result of hostResults(assessment)) {
    population.add(result.host);
    for (const { weight } of result.exceptions) exceptions[weight]++;
    // Most hosts have nothing to say: one answer for every control.
    if (result.exceptions.length === 0) for (const tally of tallies) tally.addClean();
    else
      for (const [i, tally] of tallies.entries())
        tally.add(result.exceptions.filter((one) => controls[i]!.asks.some((ask) => concerns(one, ask))));
    await onHost?.(result);
  }
  let outOfScope = 0;
  for await (const { inScope } of facts.hosts()) if (!inScope) outOfScope++;
  const images = zero(['trusted', 'unsigned', 'rejected', 'unverifiable', 'not-assessed']);
  for (const { trust } of known.images.values()) images[trust.state]++;
  return {
    v: 1,
    period: head.period,
    parameters: head.parameters,
    population: population.done(outOfScope),
    images,
    controls: tallies.map((tally) => tally.done()),
    exceptions,
  };
}

/** The one spelling of results: canonical JSON and a newline. */
export function resultsText(results: Results): string {
  return `${canonicalJson(results)}\n`;
}

const zero = <Key extends string>(keys: readonly Key[]): Record<Key, number> =>
  Object.fromEntries(keys.map((key) => [key, 0])) as Record<Key, number>;

/** One control over all hosts. */
class Tally {
  readonly #framework: Framework;
  readonly #control: Control;
  readonly #logFails: boolean;
  readonly #hosts = zero(OUTCOMES);
  readonly #exceptions = zero(WEIGHTS);
  /** Hosts by what kept them from being satisfied. */
  readonly #why = new Map<Exception['kind'], number>();
  #waived = 0;

  constructor(framework: Framework, control: Control, logHolds: boolean) {
    this.#framework = framework;
    this.#control = control;
    this.#logFails = !logHolds && control.rules.includes('R-log');
  }

  addClean(): void {
    this.#hosts[this.#control.rules.length === 0 ? 'not-assessed' : 'satisfied']++;
  }

  add(exceptions: readonly Exception[]): void {
    if (this.#control.rules.length === 0) return this.addClean();
    const outcome = outcomeOf(exceptions);
    this.#hosts[outcome]++;
    const kinds = new Set<Exception['kind']>();
    for (const { weight, kind } of exceptions) {
      this.#exceptions[weight]++;
      if (weight === 'fails' || weight === 'unknown') kinds.add(kind);
    }
    for (const kind of kinds) this.#why.set(kind, (this.#why.get(kind) ?? 0) + 1);
    if (outcome === 'satisfied' && exceptions.some(({ weight }) => weight === 'waived')) this.#waived++;
  }

  done(): ControlResult {
    const { id, title, status, rules, notComputed } = this.#control;
    const hosts = { ...this.#hosts };
    const total = OUTCOMES.reduce((sum, outcome) => sum + hosts[outcome], 0);
    const reasons: string[] = [];
    if (notComputed !== null) reasons.push(notComputed);
    else if (total === 0) reasons.push('No host was in scope.');
    if (this.#logFails)
      reasons.push('The evidence log does not hold from the first entry of the bundle to its checkpoint.');
    for (const [kind, text] of Object.entries(REASONS)) {
      const count = this.#why.get(kind as Exception['kind']) ?? 0;
      if (count > 0) reasons.push(`${count} of ${total} ${total === 1 ? 'host' : 'hosts'}: ${text}`);
    }
    const fails = this.#logFails || hosts['not-satisfied'] > 0;
    const outcome: Outcome =
      rules.length === 0
        ? 'not-assessed'
        : fails
          ? 'not-satisfied'
          : hosts['not-assessed'] > 0 || total === 0
            ? 'not-assessed'
            : 'satisfied';
    return {
      framework: this.#framework.id,
      control: id,
      title,
      status,
      outcome,
      reasons,
      kept: (Object.keys(REASONS) as Exception['kind'][]).flatMap((kind) => {
        const count = this.#why.get(kind) ?? 0;
        return count === 0 ? [] : [{ kind, hosts: count }];
      }),
      hosts,
      hostsWaived: this.#waived,
      exceptions: { ...this.#exceptions },
    };
  }
}

const REASONS: Readonly<Record<Exception['kind'], string>> = {
  log: '',
  finding: 'a difference was open at the end without a waiver.',
  image: 'an image that is not known to be signed as policy demands.',
  interval: 'longer between two reports than the framework allows.',
  gap: 'no report for longer than policy allows, and nobody said why.',
  answer: 'a finding was not answered in time.',
  standing: 'how it stood at the end does not let it be told, or is not explained.',
  incomplete: 'fewer reports than the completeness limit asks for.',
};

class PopulationCount {
  readonly #head: BundleHead;
  readonly #verdicts = new Map<string, number>();
  #inScope = 0;
  #enrolled = 0;
  #retired = 0;
  #expected = 0;
  #received = 0;
  #below = 0;
  #compliantWaived = 0;
  readonly #gaps = { hosts: 0, explained: 0, unexplained: 0 };
  #longest: Population['longest'] = null;

  constructor(head: BundleHead) {
    this.#head = head;
  }

  add(host: HostInScope): void {
    const { period } = this.#head;
    const { checkIns, gaps, standing, enrolledAt, retiredAt } = host;
    this.#inScope++;
    if (enrolledAt >= period.from && enrolledAt < period.to) this.#enrolled++;
    if (retiredAt !== null && retiredAt >= period.from && retiredAt < period.to) this.#retired++;
    this.#expected += checkIns.expected;
    this.#received += checkIns.received;
    if (belowLimit(host, this.#head)) this.#below++;
    if (gaps.length > 0) this.#gaps.hosts++;
    for (const { why } of gaps) this.#gaps[why === null ? 'unexplained' : 'explained']++;
    if (checkIns.longestSeconds > (this.#longest?.seconds ?? 0))
      this.#longest = { host: host.host, name: host.name, seconds: checkIns.longestSeconds };
    this.#verdicts.set(standing.verdict, (this.#verdicts.get(standing.verdict) ?? 0) + 1);
    if (standing.verdict === 'compliant' && standing.waived > 0) this.#compliantWaived++;
  }

  done(outOfScope: number): Population {
    return {
      inScope: this.#inScope,
      outOfScope,
      enrolledInPeriod: this.#enrolled,
      retiredInPeriod: this.#retired,
      checkIns: { expected: this.#expected, received: this.#received },
      belowLimit: this.#below,
      gaps: { ...this.#gaps },
      longest: this.#longest,
      verdicts: [...this.#verdicts]
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([verdict, hosts]) => ({ verdict, hosts })),
      compliantWaived: this.#compliantWaived,
    };
  }
}

/** The policy document (docs/policy.md): YAML text → a policy, or errors with file, line, column and what was meant. */
import type { z } from 'zod';
import { digestOf, type Digest } from '#src/digest.ts';
import { problemOf } from '#src/document/shape.ts';
import { DocumentError, readYaml, type Place, type Problem, type YamlDocument } from '#src/document/yaml.ts';
import { canonicalText } from './canonical.ts';
import { isAbout, NO_HOST, type HostFacts, type HostSelector } from './host.ts';
import type { Effect, Severity, Weight } from './judgement.ts';
import type { Glob } from './paths.ts';
import {
  POLICY_FORMAT,
  PolicyDocument,
  UNITS,
  type AccountRuleDocument,
  type FileRuleDocument,
  type ON,
  type Saying,
  type StateSubject,
} from './schema.ts';

/** What every rule has; severity and verdict count only where the effect is `forbidden`. */
export type RuleBase = {
  readonly id: string;
  /** Which hosts it is about; all where neither stands. */
  readonly hosts?: HostSelector | undefined;
  readonly except?: HostSelector | undefined;
  readonly effect: Effect;
  readonly severity: Severity;
  readonly verdict: Weight;
  readonly reason: string;
  readonly controls: readonly string[];
  /** Where it is written; null for what no document says. */
  readonly place: { readonly file: string; readonly line: number } | null;
};
export type FileRule = RuleBase & {
  readonly paths: readonly Glob[];
  readonly when: NonNullable<z.infer<typeof FileRuleDocument>['when']>;
};
export type AccountRule = RuleBase & {
  readonly when: NonNullable<z.infer<typeof AccountRuleDocument>['when']>;
};
type StateWhen = {
  [On in StateSubject]: { readonly on: On; readonly when: NonNullable<z.infer<(typeof ON)[On]>['when']> };
};
export type StateRule = RuleBase & StateWhen[StateSubject];
/** The rules on one subject. */
export type StateRuleOn<On extends StateSubject> = RuleBase & StateWhen[On];

/** Milliseconds throughout. */
export type Freshness = {
  /** How often a host is asked to report. */
  readonly reportEvery: number;
  readonly lateAfter: number;
  readonly silentAfter: number;
  /** How long a host may run an image after its tag has moved on; null: not judged. */
  readonly behindTagAfter: number | null;
  /** How old an image may be; null: not judged. */
  readonly imageAgeMax: number | null;
};

export type Policy = {
  readonly name: string;
  readonly description: string;
  /** Of the policy's canonical text: comments, layout and the place of its rules in files do not change it. */
  readonly digest: Digest;
  readonly freshness: Freshness;
  /** Other terms for some hosts, key by key; the first whose selector matches. */
  readonly freshnessFor: readonly { readonly hosts: HostSelector; readonly terms: Partial<Freshness> }[];
  /** Files whose content is never shown, whatever agents tell of it (docs/policy.md, section 14). */
  readonly contentsDenied: readonly Glob[];
  /** In order, as the others: the first that matches decides. */
  readonly files: readonly FileRule[];
  readonly state: readonly StateRule[];
  readonly accounts: readonly AccountRule[];
};

/** The three lists of rules, as the document names them. */
export const SECTIONS = ['files', 'accounts', 'state'] as const;
export type Section = (typeof SECTIONS)[number];

/** When a host must report, and how old its image may be. */
export function freshnessOf(policy: Policy, host: Pick<HostFacts, 'labels' | 'group'>): Freshness {
  const facts = { ...NO_HOST, ...host };
  const found = policy.freshnessFor.find(({ hosts }) => isAbout({ hosts }, facts));
  return found === undefined ? policy.freshness : { ...policy.freshness, ...found.terms };
}

const FRESHNESS: Freshness = {
  reportEvery: 15 * UNITS.m,
  lateAfter: 45 * UNITS.m,
  silentAfter: 24 * UNITS.h,
  behindTagAfter: null,
  imageAgeMax: null,
};

const WEIGHT_OF: { readonly [On in StateSubject]: Weight } = {
  overlay: 'drifted',
  layered: 'drifted',
  karg: 'drifted',
  contradiction: 'none',
  verity: 'drifted',
  'transient-root': 'drifted',
  enforcement: 'none',
  hole: 'unverifiable',
  manifest: 'unverifiable',
  report: 'none',
  silence: 'none',
  outdated: 'none',
  provenance: 'none',
  'stale-config': 'none',
  rollback: 'none',
};

/**
 * Reads a policy. `base` gives the policy that `extends` names: its rules follow the document's own, save those whose id the
 * document uses itself, which are replaced where they stand (docs/policy.md, section 2).
 * @throws {DocumentError} naming every problem with its place.
 */
export function parsePolicy(text: string, options: PolicyOptions): Policy {
  return policyOf(readYaml(text, options.file), options);
}

type PolicyOptions = { readonly file: string; readonly base?: (name: string) => Policy | undefined };

/** The same of a text that was read already: reading is most of the work. @throws {DocumentError} */
export function policyOf(yaml: YamlDocument, options: PolicyOptions): Policy {
  const { file } = options;
  const problems: Problem[] = [];
  const refuse = () => new DocumentError('DOCUMENT_INVALID', file, problems);

  // The version before the rest: a document of another version would only collect errors that mislead.
  const version: unknown = (yaml.value as { format?: unknown } | null)?.format;
  if (version !== POLICY_FORMAT) {
    problems.push({ ...yaml.placeOf(['format']), message: `a policy begins with  format: ${POLICY_FORMAT}` });
    throw refuse();
  }
  const parsed = PolicyDocument.safeParse(yaml.value, { reportInput: true });
  if (!parsed.success) {
    problems.push(...parsed.error.issues.map((issue) => problemOf(issue, yaml)));
    problems.sort((a, b) => a.line - b.line || a.column - b.column);
    throw refuse();
  }
  const document = parsed.data;

  let base: Policy | undefined;
  if (document.extends !== undefined) {
    base = options.base?.(document.extends);
    if (base === undefined) {
      const message = `no policy of the name ${quote(document.extends)} is known here`;
      problems.push({ ...yaml.placeOf(['extends']), message });
    }
  }
  const placed = (section: Section, index: number) => ({
    file,
    line: yaml.placeOf([section, index]).line,
  });
  const files = (document.files ?? []).map((rule, i): FileRule => ({
    ...baseOf(rule, 'drifted', placed('files', i)),
    paths: rule.paths,
    when: rule.when ?? {},
  }));
  const accounts = (document.accounts ?? []).map((rule, i): AccountRule => ({
    ...baseOf(rule, 'drifted', placed('accounts', i)),
    when: rule.when ?? {},
  }));
  const state = (document.state ?? []).map((rule, i): StateRule => {
    const said = baseOf(rule, WEIGHT_OF[rule.on], placed('state', i));
    return { ...said, on: rule.on, when: rule.when ?? {} } as StateRule;
  });
  checkIds(document, yaml, base, problems);
  const freshness = termsOf(document, base, yaml, problems);
  const freshnessFor = otherTerms(document, base, freshness, yaml, problems);
  if (problems.length > 0) throw refuse();

  const policy = {
    name: document.name,
    description: document.description ?? '',
    freshness,
    freshnessFor,
    // A policy that extends another narrows it further; nothing takes a denial back.
    contentsDenied: [...(document.contents?.deny ?? []), ...(base?.contentsDenied ?? [])],
    files: joined(files, base?.files ?? []),
    state: joined(state, base?.state ?? []),
    accounts: joined(accounts, base?.accounts ?? []),
  };
  return { ...policy, digest: digestOf(canonicalText(policy)) };
}

function baseOf(
  rule: Saying & {
    id: string;
    reason: string;
    controls?: string[] | undefined;
    hosts?: HostSelector | undefined;
    except?: HostSelector | undefined;
  },
  weight: Weight,
  place: RuleBase['place'],
): RuleBase {
  const { id, effect, reason, hosts, except } = rule;
  const severity = rule.severity ?? 'info';
  return {
    id,
    ...(hosts === undefined ? {} : { hosts }),
    ...(except === undefined ? {} : { except }),
    effect,
    severity,
    verdict: rule.verdict ?? weight,
    reason,
    controls: rule.controls ?? [],
    place,
  };
}

function joined<Rule extends RuleBase>(own: readonly Rule[], base: readonly Rule[]): Rule[] {
  const replaced = new Map(own.map((rule) => [rule.id, rule]));
  const kept = new Set(base.map((rule) => rule.id));
  return [...own.filter((rule) => !kept.has(rule.id)), ...base.map((rule) => replaced.get(rule.id) ?? rule)];
}

function checkIds(document: PolicyDocument, yaml: YamlDocument, base: Policy | undefined, problems: Problem[]): void {
  const seen = new Map<string, { section: string; line: number }>();
  const inBase = new Map(
    SECTIONS.flatMap((section) => (base?.[section] ?? []).map(({ id }) => [id, section] as const)),
  );
  for (const section of SECTIONS)
    for (const [index, { id }] of (document[section] ?? []).entries()) {
      const place = yaml.placeOf([section, index, 'id']);
      const first = seen.get(id);
      const other = inBase.get(id);
      if (first !== undefined) problems.push({ ...place, message: `the id ${id} is taken in line ${first.line}` });
      else if (other !== undefined && other !== section)
        problems.push({
          ...place,
          message: `${id} is one of the ${other} rules of ${document.extends}, not of its ${section} rules`,
        });
      else seen.set(id, { section, line: place.line });
    }
}

function termsOf(
  document: PolicyDocument,
  base: Policy | undefined,
  yaml: YamlDocument,
  problems: Problem[],
): Freshness {
  const said = Object.fromEntries(Object.entries(document.freshness ?? {}).filter(([, value]) => value !== undefined));
  const freshness: Freshness = { ...(base?.freshness ?? FRESHNESS), ...said };
  checkTerms(freshness, yaml.placeOf(['freshness']), problems);
  return freshness;
}

function otherTerms(
  document: PolicyDocument,
  base: Policy | undefined,
  freshness: Freshness,
  yaml: YamlDocument,
  problems: Problem[],
): Policy['freshnessFor'] {
  const own = (document.freshnessFor ?? []).map(({ hosts, ...said }, index) => {
    const terms = Object.fromEntries(Object.entries(said).filter(([, value]) => value !== undefined));
    checkTerms({ ...freshness, ...terms }, yaml.placeOf(['freshnessFor', index]), problems);
    return { hosts, terms };
  });
  return [...own, ...(base?.freshnessFor ?? [])];
}

function checkTerms(freshness: Freshness, place: Place, problems: Problem[]): void {
  if (freshness.lateAfter <= freshness.reportEvery)
    problems.push({ ...place, message: 'lateAfter must be longer than reportEvery, or every host is late' });
  if (freshness.silentAfter <= freshness.lateAfter)
    problems.push({ ...place, message: 'silentAfter must be longer than lateAfter' });
}

const quote = (text: string): string => JSON.stringify(text.slice(0, 100));

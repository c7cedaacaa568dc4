/** The policy document (docs/policy.md): YAML text → a policy, or errors with file, line, column and what was meant. */
import type { z } from 'zod';
import { digestOf, type Digest } from '#src/digest.ts';
import { problemOf } from '#src/document/shape.ts';
import { DocumentError, readYaml, type Problem, type YamlDocument } from '#src/document/yaml.ts';
import type { Effect, Severity, Weight } from './judgement.ts';
import type { Glob } from './paths.ts';
import {
  POLICY_FORMAT,
  PolicyDocument,
  UNITS,
  type FileRuleDocument,
  type ON,
  type Saying,
  type StateSubject,
} from './schema.ts';

/** What every rule has; severity and verdict count only where the effect is `forbidden`. */
type RuleBase = {
  readonly id: string;
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
  /** In order: the first that matches decides. */
  readonly files: readonly FileRule[];
  readonly state: readonly StateRule[];
};

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
};

/**
 * Reads a policy. `base` gives the policy that `extends` names: its rules follow the document's own, save those whose id the
 * document uses itself, which are replaced where they stand (docs/policy.md, section 2).
 * @throws {DocumentError} naming every problem with its place.
 */
export function parsePolicy(
  text: string,
  options: { readonly file: string; readonly base?: (name: string) => Policy | undefined },
): Policy {
  const { file } = options;
  const yaml = readYaml(text, file);
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
  const placed = (section: 'files' | 'state', index: number) => ({
    file,
    line: yaml.placeOf([section, index]).line,
  });
  const files = (document.files ?? []).map((rule, i): FileRule => ({
    ...baseOf(rule, 'drifted', placed('files', i)),
    paths: rule.paths,
    when: rule.when ?? {},
  }));
  const state = (document.state ?? []).map((rule, i): StateRule => {
    const said = baseOf(rule, WEIGHT_OF[rule.on], placed('state', i));
    return { ...said, on: rule.on, when: rule.when ?? {} } as StateRule;
  });
  checkIds(document, yaml, base, problems);
  const freshness = freshnessOf(document, base, yaml, problems);
  if (problems.length > 0) throw refuse();

  const policy = {
    name: document.name,
    description: document.description ?? '',
    freshness,
    files: joined(files, base?.files ?? []),
    state: joined(state, base?.state ?? []),
  };
  return { ...policy, digest: digestOf(canonicalText(policy)) };
}

/** The text whose digest names a policy: JSON in fixed key order, rules in their order (docs/policy.md, section 8). */
export function canonicalText(policy: Omit<Policy, 'digest'>): string {
  const said = ({ id, effect, severity, verdict, reason, controls }: RuleBase) => ({
    id,
    effect,
    ...(effect === 'forbidden' ? { severity, verdict } : {}),
    reason,
    controls,
  });
  const { name, description, freshness: f } = policy;
  return JSON.stringify({
    format: POLICY_FORMAT,
    name,
    description,
    freshness: [f.reportEvery, f.lateAfter, f.silentAfter, f.behindTagAfter, f.imageAgeMax],
    files: policy.files.map((rule) => ({ ...said(rule), paths: rule.paths.map(plain), when: plain(rule.when) })),
    state: policy.state.map((rule) => ({ ...said(rule), on: rule.on, when: plain(rule.when) })),
  });
}

/** Conditions in the order of their names; a glob is its source. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  if ('source' in value) return value.source;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, item]) => [key, plain(item)]),
  );
}

function baseOf(
  rule: Saying & { id: string; reason: string; controls?: string[] | undefined },
  weight: Weight,
  place: RuleBase['place'],
): RuleBase {
  const { id, effect, reason } = rule;
  const severity = rule.severity ?? 'info';
  return { id, effect, severity, verdict: rule.verdict ?? weight, reason, controls: rule.controls ?? [], place };
}

function joined<Rule extends RuleBase>(own: readonly Rule[], base: readonly Rule[]): Rule[] {
  const replaced = new Map(own.map((rule) => [rule.id, rule]));
  const kept = new Set(base.map((rule) => rule.id));
  return [...own.filter((rule) => !kept.has(rule.id)), ...base.map((rule) => replaced.get(rule.id) ?? rule)];
}

function checkIds(document: PolicyDocument, yaml: YamlDocument, base: Policy | undefined, problems: Problem[]): void {
  const seen = new Map<string, { section: string; line: number }>();
  const inBase = new Map<string, string>([
    ...(base?.files ?? []).map((rule) => [rule.id, 'files'] as const),
    ...(base?.state ?? []).map((rule) => [rule.id, 'state'] as const),
  ]);
  for (const section of ['files', 'state'] as const)
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

function freshnessOf(
  document: PolicyDocument,
  base: Policy | undefined,
  yaml: YamlDocument,
  problems: Problem[],
): Freshness {
  const said = Object.fromEntries(Object.entries(document.freshness ?? {}).filter(([, value]) => value !== undefined));
  const freshness: Freshness = { ...(base?.freshness ?? FRESHNESS), ...said };
  const place = yaml.placeOf(['freshness']);
  if (freshness.lateAfter <= freshness.reportEvery)
    problems.push({ ...place, message: 'lateAfter must be longer than reportEvery, or every host is late' });
  if (freshness.silentAfter <= freshness.lateAfter)
    problems.push({ ...place, message: 'silentAfter must be longer than lateAfter' });
  return freshness;
}

const quote = (text: string): string => JSON.stringify(text.slice(0, 100));

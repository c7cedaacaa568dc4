/** What may stand in a policy document (docs/policy.md, sections 1 to 5), as schemas that say what was meant. */
import { z } from 'zod';
import { Overlay } from '#src/deployment/state.ts';
import { record, word } from '#src/document/shape.ts';
import { nearest } from '#src/document/spelling.ts';
import { HOLE_KINDS } from '#src/drift/drift.ts';
import { CONDITION_CHARS_MAX, POLICY_LABELS_MAX, POLICY_RULES_MAX } from '#src/limits.ts';
import { ConditionError, type Expression } from '#src/document/expression.ts';
import { parsePolicyCondition, type ConditionSubject } from './condition.ts';
import type { HostSelector } from './host.ts';
import {
  ACCOUNT_CHANGES,
  EFFECTS,
  PROVENANCE_FAULTS,
  REPORT_FLAGS,
  SEVERITIES,
  WEIGHTS,
  type Effect,
  type Severity,
  type Weight,
} from './judgement.ts';
import { GlobError, parseGlob, type Glob, type GlobKind } from './paths.ts';

export const POLICY_FORMAT = 'bootproof.policy/1';

/** What may be asked about a path, before and after (docs/policy.md, section 4). */
export const TRAITS = [
  'setuid',
  'setgid',
  'capability',
  'executable',
  'world-writable',
  'device',
  'not-root-owned',
] as const;
export type Trait = (typeof TRAITS)[number];

/** Attributes as policies name them: size and digest are one thing, the content; a secret that differs differs in it. */
export const POLICY_ATTRIBUTES = ['type', 'mode', 'uid', 'gid', 'content', 'link', 'capability', 'device'] as const;
export type PolicyAttribute = (typeof POLICY_ATTRIBUTES)[number];

const CHANGES = ['added', 'removed', 'modified'] as const;
const TYPES = ['dir', 'file', 'symlink', 'char', 'block', 'fifo', 'socket'] as const;
const MANIFEST_STATES = ['pending', 'failed', 'unknown', 'not-allowed'] as const;

const list = <Item extends z.ZodType>(item: Item) => z.array(item, 'expected a list, as in [a, b]').min(1).max(1000);

function glob(kind: GlobKind) {
  return z.string('expected a glob in quotes').transform((source, context): Glob => {
    try {
      return parseGlob(source, kind);
    } catch (error) {
      if (!(error instanceof GlobError)) throw error;
      context.issues.push({ code: 'custom', input: source, message: error.message });
      return z.NEVER;
    }
  });
}

const Id = z
  .string('expected a name')
  .regex(/^[a-z][a-z0-9]*(?:-[a-z0-9]+)*$/, 'expected lower-case words joined by -, as in etc-sudoers')
  .max(64);
const RuleId = Id.refine(
  (id) => !id.startsWith('unnamed-'),
  'ids that begin with unnamed- are kept for what no rule names',
);
const Sentence = z.string('expected a sentence').trim().min(1, 'expected a sentence').max(1000);
const Control = z
  .string()
  .regex(/^[a-z0-9][a-z0-9.-]*:[A-Za-z0-9][A-Za-z0-9.()-]*$/, 'expected framework:id, as in nist-800-53:SI-7')
  .max(100);

/** Milliseconds of a duration's units. */
export const UNITS = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
/** A number with `s`, `m`, `h` or `d`, as milliseconds. */
export const Duration = z
  .string('expected a number with its unit, as in 15m, 24h, 7d')
  .regex(/^[1-9][0-9]{0,5}[smhd]$/, 'expected a number with its unit, as in 15m, 24h, 7d')
  .transform((text) => Number(text.slice(0, -1)) * UNITS[text.at(-1) as keyof typeof UNITS]);

// YAML 1.2 reads 0644 as the decimal number 644: without quotes it would mean another mode than it says.
const Mode = z
  .string('a mode must be quoted, as in "0644": without quotes YAML reads a decimal number')
  .regex(/^[0-7]{4}$/, 'expected four octal digits, as in "0644"')
  .transform((text) => Number.parseInt(text, 8));

/** CEL over what the rule is about; refusals say where in the expression. */
function cel(about: ConditionSubject) {
  return z
    .string('expected a CEL expression in quotes')
    .max(CONDITION_CHARS_MAX * 2)
    .transform((source, context): Expression => {
      try {
        return parsePolicyCondition(source, about);
      } catch (error) {
        if (!(error instanceof ConditionError)) throw error;
        context.issues.push({ code: 'custom', input: source, message: error.message });
        return z.NEVER;
      }
    });
}

/** One glob, or a list of which one must match. */
const oneOrMore = (kind: GlobKind) =>
  z.preprocess((value) => (typeof value === 'string' ? [value] : value), list(glob(kind)));

const LabelKey = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$/;
/** `{env: prod, role: [web, 'db-*']}`. Keys are looked at by hand: a schema of records would drop `__proto__`, and so widen whom it means. */
const Labels = z
  .unknown()
  .transform((value, context): NonNullable<HostSelector['labels']> => {
    const refuse = (path: PropertyKey[], message: string) =>
      void context.issues.push({ code: 'custom', input: value, path, message });
    const entries =
      typeof value === 'object' && value !== null && !Array.isArray(value) ? Object.entries(value) : undefined;
    if (entries === undefined || entries.length === 0 || entries.length > POLICY_LABELS_MAX) {
      refuse([], `expected 1 to ${POLICY_LABELS_MAX} labels with values, as in { env: prod }`);
      return z.NEVER;
    }
    return entries.map(([key, said]) => {
      if (!LabelKey.test(key)) refuse([key], 'no label has such a name');
      const values = oneOrMore('text').safeParse(said);
      if (!values.success) for (const issue of values.error.issues) refuse([key, ...issue.path], issue.message);
      return { key, values: values.data ?? [] };
    });
  })
  .optional();

/** Which hosts a rule is about; what one claims of itself is not asked (docs/policy.md, section 2.5). */
const Selector = record({
  labels: Labels,
  groups: oneOrMore('text').optional(),
  images: oneOrMore('text').optional(),
}).refine(
  ({ labels, groups, images }) => labels !== undefined || groups !== undefined || images !== undefined,
  'expected labels, groups or images',
);
const Hosts = { hosts: Selector.optional(), except: Selector.optional() };

/** What a rule says about what it matches. Severity and weight belong to what is forbidden. */
const Saying = {
  effect: word(EFFECTS),
  severity: word(SEVERITIES).optional(),
  verdict: word(WEIGHTS).optional(),
  reason: Sentence,
  controls: list(Control).optional(),
};
export type Saying = { effect: Effect; severity?: Severity | undefined; verdict?: Weight | undefined };

function checkSaying(rule: Saying, context: z.core.$RefinementCtx): void {
  const add = (key: string, message: string) =>
    context.issues.push({ code: 'custom', input: rule, path: [key], message });
  if (rule.effect === 'forbidden' && rule.severity === undefined)
    add('effect', `what is forbidden has a severity: one of ${SEVERITIES.join(', ')}`);
  if (rule.effect !== 'forbidden' && rule.severity !== undefined)
    add('severity', `what is ${rule.effect} becomes no finding, so it has no severity`);
  if (rule.effect !== 'forbidden' && rule.verdict !== undefined)
    add('verdict', `what is ${rule.effect} becomes no finding, so it has no weight`);
}

export const FileRuleDocument = record({
  id: RuleId,
  paths: list(glob('path')),
  when: record({
    change: list(word(CHANGES)).optional(),
    type: list(word(TYPES)).optional(),
    attributes: list(word(POLICY_ATTRIBUTES)).optional(),
    only: list(word(POLICY_ATTRIBUTES)).optional(),
    has: list(word(TRAITS)).optional(),
    gains: list(word(TRAITS)).optional(),
    modeWithin: Mode.optional(),
    uid: list(z.int('expected a number').min(0).max(0xffff_ffff)).optional(),
    link: list(glob('link')).optional(),
    sha256: list(z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 lower-case hex digits in quotes')).optional(),
    accounts: word(['told', 'untold']).optional(),
    cel: cel('files').optional(),
  }).optional(),
  ...Hosts,
  ...Saying,
}).superRefine(checkSaying);

/** A number, or a range of them: `1000-`, `1-999`. */
const Ids = list(
  z
    .union([z.int().min(0).max(0xffff_ffff), z.string()], 'expected a number, or a range as in "1000-" or "1-999"')
    .transform((said, context): readonly [from: number, to: number] => {
      const text = String(said);
      const [, from = '', dash, to = ''] = /^(0|[1-9][0-9]{0,9})(-?)(|0|[1-9][0-9]{0,9})$/.exec(text) ?? [];
      const low = Number(from);
      const high = to !== '' ? Number(to) : dash === '-' ? 0xffff_ffff : low;
      if (from === '' || (to !== '' && dash === '') || low > high || high > 0xffff_ffff) {
        context.issues.push({
          code: 'custom',
          input: said,
          message: 'expected a number, or a range as in "1000-" or "1-999"',
        });
        return z.NEVER;
      }
      return [low, high];
    }),
);

export const AccountRuleDocument = record({
  id: RuleId,
  when: record({
    change: list(word(ACCOUNT_CHANGES)).optional(),
    names: oneOrMore('text').optional(),
    uids: Ids.optional(),
    gids: Ids.optional(),
    shells: oneOrMore('text').optional(),
    login: z.boolean('expected true or false').optional(),
    password: z.boolean('expected true or false').optional(),
    cel: cel('accounts').optional(),
  }).optional(),
  ...Hosts,
  ...Saying,
}).superRefine(checkSaying);

const stateRule = <const On extends string, Shape extends z.core.$ZodLooseShape>(on: On, when: Shape) =>
  record({ id: RuleId, on: z.literal(on), when: record(when).optional(), ...Hosts, ...Saying });

export const ON = {
  overlay: stateRule('overlay', {
    kinds: list(word(Overlay.shape.kind.options as [Overlay['kind'], ...Overlay['kind'][]])).optional(),
    paths: list(glob('link')).optional(),
    writable: z.boolean('expected true or false').optional(),
    masks: z.boolean('expected true or false').optional(),
    detail: list(glob('text')).optional(),
    cel: cel('overlay').optional(),
  }),
  layered: stateRule('layered', { names: list(glob('text')).optional(), cel: cel('layered').optional() }),
  karg: stateRule('karg', {
    present: list(glob('text')).optional(),
    missing: list(glob('text')).optional(),
    cel: cel('karg').optional(),
  }),
  contradiction: stateRule('contradiction', {
    text: list(glob('text')).optional(),
    cel: cel('contradiction').optional(),
  }),
  verity: stateRule('verity', {}),
  'transient-root': stateRule('transient-root', {}),
  enforcement: stateRule('enforcement', {}),
  hole: stateRule('hole', {
    kinds: list(word([...HOLE_KINDS] as [HoleKind, ...HoleKind[]])).optional(),
    paths: list(glob('path')).optional(),
    cel: cel('hole').optional(),
  }),
  manifest: stateRule('manifest', { states: list(word(MANIFEST_STATES)).optional(), codes: list(Code()).optional() }),
  report: stateRule('report', { flags: list(word(REPORT_FLAGS)).optional() }),
  silence: stateRule('silence', {}),
  outdated: stateRule('outdated', { states: list(word(['behind-tag', 'too-old'])).optional() }),
  provenance: stateRule('provenance', { states: list(word(PROVENANCE_FAULTS)).optional() }),
  'stale-config': stateRule('stale-config', { paths: list(glob('path')).optional() }),
  rollback: stateRule('rollback', {}),
} as const;
type HoleKind = (typeof HOLE_KINDS)[number];
function Code() {
  return z.string().regex(/^[A-Z][A-Z0-9_]+$/, 'expected a code, as in MANIFEST_PENDING');
}

/** Subjects of host-state rules. */
export type StateSubject = keyof typeof ON;
export const STATE_SUBJECTS = Object.keys(ON) as StateSubject[];

const StateRuleDocument = z
  .discriminatedUnion(
    'on',
    [
      ON.overlay,
      ON.layered,
      ON.karg,
      ON.contradiction,
      ON.verity,
      ON['transient-root'],
      ON.enforcement,
      ON.hole,
      ON.manifest,
      ON.report,
      ON.silence,
      ON.outdated,
      ON.provenance,
      ON['stale-config'],
      ON.rollback,
    ],
    {
      error: (issue) => {
        if (issue.code !== 'invalid_union') return undefined;
        const on: unknown = (issue.input as { on?: unknown }).on;
        const meant = typeof on === 'string' ? nearest(on, STATE_SUBJECTS) : undefined;
        return meant === undefined ? `on: expected one of ${STATE_SUBJECTS.join(', ')}` : `did you mean ${meant}?`;
      },
    },
  )
  .superRefine(checkSaying)
  .superRefine((rule, context) => {
    if (rule.on === 'karg' && rule.when?.present !== undefined && rule.when.missing !== undefined)
      context.issues.push({
        code: 'custom',
        input: rule,
        path: ['when', 'missing'],
        message: 'present and missing in one rule: write two',
      });
    if (rule.on === 'karg' && rule.when?.missing !== undefined && rule.when.cel !== undefined)
      context.issues.push({
        code: 'custom',
        input: rule,
        path: ['when', 'cel'],
        message: 'what is missing cannot be asked anything: name it under missing alone',
      });
    if (FIXED_WEIGHT.has(rule.on) && rule.verdict !== undefined)
      context.issues.push({
        code: 'custom',
        input: rule,
        path: ['verdict'],
        message: `what a ${rule.on} does to the verdict is fixed: what could not be told is never compliant`,
      });
  });

// Policy may rate these, it may not make "could not tell" mean "fine" (DESIGN: not knowing is never compliant).
const FIXED_WEIGHT = new Set<StateSubject>(['hole', 'manifest', 'provenance']);

const Terms = {
  reportEvery: Duration.optional(),
  lateAfter: Duration.optional(),
  silentAfter: Duration.optional(),
  behindTagAfter: Duration.optional(),
  imageAgeMax: Duration.optional(),
};
const FreshnessDocument = record(Terms);
/** Other terms for some hosts: laptops that sleep, machines that update by the hour. */
const FreshnessForDocument = record({
  // An image may not be known yet when a host is asked to report.
  hosts: record({ labels: Labels, groups: oneOrMore('text').optional() }).refine(
    ({ labels, groups }) => labels !== undefined || groups !== undefined,
    'expected labels or groups',
  ),
  ...Terms,
});

const ContentsDocument = record({ deny: list(glob('path')) });

export const PolicyDocument = record({
  format: z.literal(POLICY_FORMAT, `expected ${POLICY_FORMAT}`),
  name: Id,
  description: Sentence.optional(),
  extends: Id.optional(),
  freshness: FreshnessDocument.optional(),
  freshnessFor: z.array(FreshnessForDocument, 'expected a list').max(POLICY_RULES_MAX).optional(),
  contents: ContentsDocument.optional(),
  accounts: z.array(AccountRuleDocument, 'expected a list of rules').max(POLICY_RULES_MAX).optional(),
  files: z.array(FileRuleDocument, 'expected a list of rules').max(POLICY_RULES_MAX).optional(),
  state: z.array(StateRuleDocument, 'expected a list of rules').max(POLICY_RULES_MAX).optional(),
});
export type PolicyDocument = z.infer<typeof PolicyDocument>;

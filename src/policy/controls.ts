/**
 * Control mappings (docs/controls.md): which requirements of a framework Bootproof has something to say about, which rule computes a
 * result, which data carry it, and what they do not prove. Ids are the framework's; the words are ours, and `draft` until a person who
 * has the standard at hand reviewed them.
 */
import { z } from 'zod';
import { problemOf, record, word } from '#src/document/shape.ts';
import { nearest } from '#src/document/spelling.ts';
import { DocumentError, readYaml, type Place, type Problem } from '#src/document/yaml.ts';
import type { Policy, RuleBase, Section } from './document.ts';
import { Duration } from './schema.ts';

export const CONTROLS_FORMAT = 'bootproof.controls/1';

/** What computes a result, in the words of a report. `R-find` looks only at findings whose policy rule names the control. */
export const CONTROL_RULES = {
  'R-int': 'every host proved often enough that it is its image, and no open difference lacks a waiver',
  'R-sig': 'every image that a host booted was signed as policy demands',
  'R-chg': 'every change of image led to a signed and allowed one, and every difference was answered in time',
  'R-inv': 'every host reported as often as it should, or its silence is explained',
  'R-log': 'the evidence log holds from the first checkpoint of the period to the last',
  'R-find': 'no finding of a policy rule that names this control is open without a waiver',
} as const;
export type ControlRule = keyof typeof CONTROL_RULES;

/** What a result rests on. */
export const CONTROL_DATA = {
  reports: 'signed reports of hosts, with digests of /usr and /etc',
  findings: 'what differed, since when and until when',
  signatures: 'who signed each booted image, and under which policy that counts',
  decisions: 'waivers and acknowledgements: who asked, who approved, until when',
  deployments: 'which image each host booted, and when',
  completeness: 'reports expected and received, with every gap',
  log: 'the evidence log, its checkpoints and proofs',
  enforcement: 'whether a host itself refuses unsigned images, as the host tells it',
  policies: 'the rules in force, by version and digest',
  audit: "the server's record of who changed what",
} as const;
export type ControlData = keyof typeof CONTROL_DATA;

export type Control = {
  /** As the framework writes it: `SI-7(1)`. */
  readonly id: string;
  readonly title: string;
  readonly summary: string;
  readonly status: 'draft' | 'reviewed';
  readonly reviewed: { readonly by: string; readonly on: string } | null;
  /** All must be satisfied; none: nothing here computes it, and `notComputed` says why. */
  readonly rules: readonly ControlRule[];
  readonly notComputed: string | null;
  /** The longest time between two checks of a host, ms; null where the policy's own frequency counts. */
  readonly interval: number | null;
  readonly data: readonly ControlData[];
  readonly doesNotProve: readonly string[];
  /** Its names in NIST's OSCAL catalog. */
  readonly oscal: { readonly control: string; readonly target: string; readonly kind: OscalTarget } | null;
  readonly place: Place;
};
export type OscalTarget = 'statement-id' | 'objective-id';

export type Framework = {
  /** As in `controls:` of policy rules, before the colon. */
  readonly id: string;
  readonly title: string;
  readonly version: string;
  readonly about: string;
  /** Where OSCAL finds the catalog that the ids are of. */
  readonly catalog: string | null;
  readonly controls: readonly Control[];
  readonly file: string;
};

const Sentence = z.string('expected a sentence').trim().min(1, 'expected a sentence').max(1000);
const Line = z.string('expected a line of text').trim().min(1).max(200);
const FrameworkId = z
  .string()
  .regex(/^[a-z0-9][a-z0-9.-]{0,39}$/, 'expected lower-case letters, digits and -, as in nist-800-53');
const ControlId = z
  .string('expected an id in quotes, as in "8.9"')
  .regex(/^[A-Za-z0-9][A-Za-z0-9.()-]{0,39}$/, 'expected an id as in SI-7(1), 11.5.2 or A.8.9');
const Day = z.string().regex(/^\d{4}-(0\d|1[0-2])-([0-2]\d|3[01])$/, 'expected a day, as in "2026-11-25"');
/** A token of OSCAL (datatypes, token). */
const Token = z.string().regex(/^[A-Za-z_][A-Za-z0-9._-]{0,99}$/, 'expected an OSCAL id, as in si-7.1');
const keys = <T extends object>(table: T) => Object.keys(table) as [keyof T & string, ...(keyof T & string)[]];
const listOf = <Item extends z.ZodType>(item: Item) => z.array(item, 'expected a list, as in [a, b]').max(100);

const ControlDocument = record({
  id: ControlId,
  title: Line,
  summary: Sentence,
  status: word(['draft', 'reviewed']),
  reviewed: record({ by: Line, on: Day }).optional(),
  rules: listOf(word(keys(CONTROL_RULES))),
  notComputed: Sentence.optional(),
  interval: Duration.optional(),
  data: listOf(word(keys(CONTROL_DATA))).optional(),
  doesNotProve: listOf(Sentence).min(1, 'nothing proves a whole control: say what it does not prove'),
  oscal: record({ control: Token, target: Token, kind: word(['statement-id', 'objective-id']) }).optional(),
}).superRefine((control, context) => {
  const add = (key: string, message: string) =>
    context.issues.push({ code: 'custom', input: control, path: [key], message });
  const { status, reviewed, rules, notComputed, interval, data = [] } = control;
  if (status === 'reviewed' && reviewed === undefined)
    add('status', 'who reviewed it, and when? add reviewed: { by, on }');
  if (status === 'draft' && reviewed !== undefined) add('reviewed', 'a draft was not reviewed: say status: reviewed');
  if (rules.length === 0 && notComputed === undefined)
    add('rules', 'without a rule nothing computes it: say why in notComputed');
  if (rules.length > 0 && notComputed !== undefined) add('notComputed', 'a rule computes it: leave one of both out');
  if (rules.length > 0 && data.length === 0) add('rules', 'say in data what the result rests on');
  if (new Set(rules).size !== rules.length) add('rules', 'a rule stands here twice');
  if (interval !== undefined && !rules.includes('R-int'))
    add('interval', 'only R-int looks at how often a host is checked');
});

const FrameworkDocument = record({
  format: z.literal(CONTROLS_FORMAT, `expected ${CONTROLS_FORMAT}`),
  framework: FrameworkId,
  title: Line,
  version: z.string('expected a version in quotes, as in "4.0.1"').trim().min(1).max(100),
  about: Sentence,
  catalog: z
    .url({ protocol: /^https$/, error: 'expected an https address' })
    .max(500)
    .optional(),
  controls: z.array(ControlDocument, 'expected a list of controls').min(1).max(2000),
});

/** A mapping document. @throws {DocumentError} with file, line and column of every problem. */
export function parseFramework(text: string, file: string): Framework {
  const yaml = readYaml(text, file);
  const read = FrameworkDocument.safeParse(yaml.value, { reportInput: true });
  const problems: Problem[] = (read.error?.issues ?? []).map((issue) => problemOf(issue, yaml));
  const first = new Map<string, number>();
  for (const [index, { id }] of (read.data?.controls ?? []).entries()) {
    const place = yaml.placeOf(['controls', index, 'id']);
    const before = first.get(id);
    if (before === undefined) first.set(id, place.line);
    else problems.push({ ...place, message: `${id} stands here twice; first in line ${before}` });
  }
  if (read.data === undefined || problems.length > 0)
    throw new DocumentError(
      'DOCUMENT_INVALID',
      file,
      problems.sort((a, b) => a.line - b.line || a.column - b.column),
    );
  const { framework, title, version, about, catalog, controls } = read.data;
  return {
    id: framework,
    title,
    version,
    about,
    catalog: catalog ?? null,
    file,
    controls: controls.map((control, index) => ({
      ...control,
      reviewed: control.reviewed ?? null,
      notComputed: control.notComputed ?? null,
      interval: control.interval ?? null,
      data: control.data ?? [],
      oscal: control.oscal ?? null,
      place: yaml.placeOf(['controls', index, 'id']),
    })),
  };
}

/** The control that was meant: ids differ by a digit, so only another spelling counts as near (`si-07`, `SI-7 (1)`). */
export function controlMeant({ controls }: Framework, id: string): string | undefined {
  const plain = (text: string) =>
    text
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, ' ')
      .replace(/\b0+(?=\d)/g, '')
      .trim();
  return controls.find((each) => plain(each.id) === plain(id))?.id;
}

/** A rule of a policy that names a control which no mapping has: it is kept with findings, but counts nowhere. */
export type ControlLint = {
  readonly section: Section;
  readonly rule: string;
  readonly place: RuleBase['place'];
  readonly code: 'UNKNOWN_CONTROL';
  readonly message: string;
  readonly by: readonly string[];
};

export function lintControls(policy: Policy, frameworks: readonly Framework[]): ControlLint[] {
  const known = new Map(frameworks.map((each) => [each.id, each]));
  const all = new Set(frameworks.flatMap((each) => each.controls.map(({ id }) => `${each.id}:${id}`)));
  const sections: readonly (readonly [Section, readonly RuleBase[]])[] = [
    ['files', policy.files],
    ['accounts', policy.accounts],
    ['state', policy.state],
  ];
  return sections.flatMap(([section, rules]) =>
    rules.flatMap(({ id, place, controls }) =>
      controls.flatMap((control): ControlLint[] => {
        if (all.has(control)) return [];
        const framework = control.slice(0, control.indexOf(':'));
        const mapped = known.get(framework);
        const meant =
          mapped === undefined
            ? nearest(framework, [...known.keys()])
            : controlMeant(mapped, control.slice(framework.length + 1));
        // A framework of one's own is no mistake.
        if (mapped === undefined && meant === undefined) return [];
        const what = mapped === undefined ? `no mapping is called ${framework}` : `${framework} maps no such control`;
        const near = meant === undefined ? '' : `, did you mean ${meant}?`;
        const message = `${id} names ${control}: ${what}${near}`;
        return [{ section, rule: id, place, code: 'UNKNOWN_CONTROL', message, by: [] }];
      }),
    ),
  );
}

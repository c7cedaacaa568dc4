/** What `bootproof apply` reads: documents of files and folders, checked whole before anything is sent (docs/apply.md 1, 2). */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { ConditionError } from '#src/document/expression.ts';
import { problemOf, record, word } from '#src/document/shape.ts';
import { nearest } from '#src/document/spelling.ts';
import { DocumentError, readYamlDocuments, type Place, type Problem, type YamlDocument } from '#src/document/yaml.ts';
import { FilterError, parseFilter } from '#src/finding/filter.ts';
import { YAML_BYTES_MAX } from '#src/limits.ts';
import type { Policy } from '#src/policy/document.ts';
import { policyOfDocuments, type PolicyDocumentText } from '#src/policy/documents.ts';
import { printableText, UsageError } from '#src/terminal.ts';
import { ApiTokenBody, RoleHeld } from '#server/api/access.ts';
import { ChannelBody } from '#server/api/notices.ts';
import { TokenBody } from '#server/api/tokens.ts';
import { DenyEntry } from '#server/api/trust.ts';
import { ViewBody } from '#server/api/views.ts';
import { WaiverBody } from '#server/api/waivers.ts';
import { SourceTerms } from '#server/decisions/sources.ts';
import { parseCondition } from '#server/noticecondition.ts';
import { isTestFile, shippedPolicy } from '#server/policyfiles.ts';
import { readOperand } from './connection.ts';

/** In the order in which they are applied: images can be fetched, then hosts judged, told of, enrolled; who may what; what is excepted. */
export const KINDS = [
  'Source',
  'Policy',
  'Denial',
  'Channel',
  'Token',
  'Access',
  'ApiToken',
  'View',
  'Setting',
  'Waiver',
] as const;
export type Kind = (typeof KINDS)[number];

const Name = z
  .string()
  .min(1)
  .max(200)
  .regex(/^[^\p{C}]+$/u, 'expected one line of text');
/** The label of hosts by which an enrolment token is known again; labels have shorter values than names have letters. */
const TokenName = Name.max(63).regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, 'expected letters, digits and . _ -');

/** A text that is secret stands in a variable of the environment: `{env: NAME}`. */
const Secret = z.strictObject({ env: z.string().regex(/^[A-Z][A-Z0-9_]{0,99}$/, 'expected the name of a variable') });

const Given = z.discriminatedUnion('kind', [
  record({ kind: z.literal('Source'), name: Name, spec: SourceTerms.prefault({}) }),
  record({ kind: z.literal('Channel'), name: Name, spec: ChannelBody.omit({ name: true }) }),
  record({ kind: z.literal('Token'), name: TokenName, spec: TokenBody.prefault({}) }),
  // What is denied is known by what it is, and not by its name: that is for people, and its reason.
  record({ kind: z.literal('Denial'), name: Name, spec: DenyEntry.omit({ reason: true }) }),
  record({
    kind: z.literal('Access'),
    name: Name.regex(/^[^\s]+$/, 'expected service:NAME, claim:NAME, or the id of an account'),
    spec: record({ roles: z.array(RoleHeld).max(100) }),
  }),
  record({ kind: z.literal('ApiToken'), name: TokenName, spec: ApiTokenBody.omit({ name: true }) }),
  record({ kind: z.literal('View'), name: Name.max(100), spec: ViewBody.omit({ name: true }) }),
  record({ kind: z.literal('Setting'), name: z.literal('waivers'), spec: record({ singlePerson: z.boolean() }) }),
  record({ kind: z.literal('Waiver'), name: Name, spec: WaiverBody.omit({ title: true }) }),
]);
type Given = z.infer<typeof Given>;

export type Where = { readonly file: string; readonly line: number };
export type Document =
  | (Given & { readonly where: Where })
  /** All policy documents together are one policy. */
  | {
      readonly where: Where;
      readonly kind: 'Policy';
      readonly name: string;
      readonly policy: Policy;
      readonly documents: readonly PolicyDocumentText[];
    };
export type DocumentOf<K extends Kind> = Extract<Document, { kind: K }>;

export type Wrong = Where & { readonly column: number; readonly message: string };
export type Read = { readonly documents: readonly Document[]; readonly wrong: readonly Wrong[] };

/** @throws {UsageError} for a place that cannot be read, or holds nothing. */
export async function readDocuments(
  places: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): Promise<Read> {
  const files = (await Promise.all(places.map(filesAt))).flat();
  const documents: Document[] = [];
  const wrong: Wrong[] = [];
  const policies: PolicyDocumentText[] = [];
  for (const file of files) {
    const text = (await readOperand(file, 4 * YAML_BYTES_MAX)).toString('utf8');
    const problems = (found: readonly Problem[]) => wrong.push(...found.map((each) => ({ file, ...each })));
    let yamls: YamlDocument[];
    try {
      yamls = readYamlDocuments(text, file);
    } catch (error) {
      if (!(error instanceof DocumentError)) throw error;
      problems(error.problems);
      continue;
    }
    if (yamls.some(isPolicy)) {
      if (yamls.length > 1)
        problems([{ ...yamls.find(isPolicy)!.placeOf([]), message: 'a policy stands in a file of its own' }]);
      else policies.push({ file, text });
      continue;
    }
    for (const yaml of yamls) {
      const taken = documentOf(yaml, env);
      if ('problems' in taken) problems(taken.problems);
      else documents.push({ ...taken.document, where: { file, line: yaml.placeOf([]).line } });
    }
  }
  wrong.push(...twins(documents));
  const [policy] = policies;
  if (policy !== undefined)
    try {
      const where = { file: policy.file, line: 1 };
      const taken = policyOfDocuments(policies, (await shippedPolicy()).policy);
      documents.push({ where, kind: 'Policy', name: taken.policy.name, ...taken });
    } catch (error) {
      if (!(error instanceof DocumentError)) throw error;
      wrong.push(...error.problems.map((each) => ({ file: error.file, ...each })));
    }
  if (documents.length + wrong.length === 0)
    throw new UsageError(`${printableText(places.join(', '))}: no document stands there`);
  documents.sort((a, b) => KINDS.indexOf(a.kind) - KINDS.indexOf(b.kind));
  return { documents, wrong };
}

const isPolicy = ({ value }: YamlDocument): boolean =>
  typeof value === 'object' &&
  value !== null &&
  'format' in value &&
  String(value.format).startsWith('bootproof.policy/');

async function filesAt(place: string): Promise<string[]> {
  try {
    if (!(await stat(place)).isDirectory()) return [place];
    const names = (await readdir(place)).filter(
      (name) => /\.ya?ml$/.test(name) && !name.startsWith('.') && !isTestFile(name),
    );
    if (names.length === 0) throw new UsageError(`${printableText(place)}: no *.yaml lies in it`);
    return names.sort().map((name) => join(place, name));
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`${printableText(place)} cannot be read: ${(error as NodeJS.ErrnoException).code}`);
  }
}

const Head = z.looseObject({ kind: word(KINDS) }, 'expected keys with values: kind, name, spec');

function documentOf(
  yaml: YamlDocument,
  env: Readonly<Record<string, string | undefined>>,
): { readonly document: Given } | { readonly problems: readonly Problem[] } {
  const at = (place: Place, message: string) => ({ problems: [{ ...place, message }] });
  const head = Head.safeParse(yaml.value, { reportInput: true });
  const said = (yaml.value as { readonly kind?: unknown } | null)?.kind;
  if (said === 'ClusterImagePolicy' || said === 'ImagePolicy')
    return at(
      yaml.placeOf(['kind']),
      'image policies are read from files on the server (--image-policy), not over the API',
    );
  if (!head.success) return { problems: head.error.issues.map((issue) => problemOf(issue, yaml)) };
  const { kind } = head.data;
  if (kind === 'Policy')
    return at(yaml.placeOf(['kind']), 'a policy needs no kind: its document begins with format: bootproof.policy/1');
  const open = opened(yaml.value, env);
  if ('missing' in open) return at(yaml.placeOf(open.path), open.missing);
  const parsed = Given.safeParse(open.value, { reportInput: true });
  if (!parsed.success)
    return {
      problems: parsed.error.issues
        .map((issue) => problemOf(issue, yaml))
        .map((each, at) => meant(each, parsed.error.issues[at]!, kind)),
    };
  const wrong = meaningOf(parsed.data);
  if (wrong !== undefined) return at(yaml.placeOf(['spec', ...wrong.path]), wrong.message);
  return { document: parsed.data };
}

/** Of a key that a body of the API does not have: which was meant. The API itself names it alone. */
function meant(problem: Problem, issue: z.core.$ZodIssue, kind: Kind): Problem {
  if (issue.code !== 'unrecognized_keys' || issue.path[0] !== 'spec') return problem;
  const known = keysAt(SPECS.get(kind), issue.path.slice(1));
  if (known.length === 0) return problem;
  const told = issue.keys.map((key) => {
    const near = nearest(key, known);
    return `unknown key ${JSON.stringify(key.slice(0, 100))}${near === undefined ? '' : `, did you mean ${near}?`}`;
  });
  return { ...problem, message: `${told.join('; ')}; here may stand ${known.join(', ')}` };
}

/** Keys that may stand at a place of a schema, through what wraps it and all that it may be. */
function keysAt(schema: unknown, path: readonly PropertyKey[]): string[] {
  const { def } = (schema ?? {}) as { readonly def?: Readonly<Record<string, unknown>> };
  if (def === undefined) return [];
  if ('innerType' in def) return keysAt(def['innerType'], path);
  if (def['type'] === 'pipe') return keysAt(def['in'], path);
  if (Array.isArray(def['options']))
    return [...new Set((def['options'] as readonly unknown[]).flatMap((option) => keysAt(option, path)))];
  const [key, ...rest] = path;
  if (typeof key === 'number') return keysAt(def['element'], rest);
  const shape = def['shape'] as Readonly<Record<string, unknown>> | undefined;
  if (shape === undefined) return [];
  return key === undefined ? Object.keys(shape) : keysAt(shape[String(key)], rest);
}

const SPECS: ReadonlyMap<string, unknown> = new Map(
  Given.options.map(({ shape }) => [shape.kind.value, shape.spec] as const),
);

/** What can be told to be wrong without the server: lines and conditions in a language of their own. */
function meaningOf(given: Given): { readonly path: readonly string[]; readonly message: string } | undefined {
  try {
    if (given.kind === 'View') parseFilter(given.spec.q);
    if (given.kind === 'Channel' && typeof given.spec.routing.condition === 'string')
      parseCondition(given.spec.routing.condition);
  } catch (error) {
    if (error instanceof FilterError) return { path: ['q'], message: error.message };
    if (error instanceof ConditionError) return { path: ['routing', 'condition'], message: error.message };
    throw error;
  }
  return undefined;
}

type Opened = { readonly value: unknown } | { readonly path: readonly PropertyKey[]; readonly missing: string };

/** The document with its secrets in their places: those of `spec.target`. */
function opened(value: unknown, env: Readonly<Record<string, string | undefined>>): Opened {
  const document = value as { readonly spec?: { readonly target?: unknown } };
  const target = document.spec?.target;
  if (typeof target !== 'object' || target === null) return { value };
  const members: [string, unknown][] = [];
  for (const [key, member] of Object.entries(target)) {
    const secret = Secret.safeParse(member);
    const text = secret.success ? env[secret.data.env] : undefined;
    if (secret.success && text === undefined)
      return { path: ['spec', 'target', key], missing: `the variable ${secret.data.env} is not set` };
    members.push([key, secret.success ? text : member]);
  }
  return { value: { ...document, spec: { ...document.spec, target: Object.fromEntries(members) } } };
}

/** Two documents of one kind and name would undo each other at each apply. */
function twins(documents: readonly Document[]): Wrong[] {
  const first = new Map<string, Where>();
  return documents.flatMap(({ kind, name, where }) => {
    const known = first.get(`${kind} ${name}`);
    first.set(`${kind} ${name}`, known ?? where);
    return known === undefined
      ? []
      : [
          {
            ...where,
            column: 1,
            message: `${kind} ${JSON.stringify(name)} stands in ${known.file}:${known.line} as well`,
          },
        ];
  });
}

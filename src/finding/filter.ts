/**
 * The filter line of findings, `sev:high path:/usr/lib/** -group:lab is:regressed`: one grammar for API, pages, command line, saved views
 * and acts on many (docs/findings.md, section 6). What it does not know is refused by name, never left out: an act on "all that match"
 * must not match more than was meant.
 */
import type { Instant } from '#src/clock.ts';
import { BootproofError } from '#src/error.ts';
import { FILTER_CHARS_MAX, FILTER_TERMS_MAX } from '#src/limits.ts';
import { TREES, type TreeName } from '#src/manifest/entry.ts';
import { JUDGEMENT_KINDS, SEVERITIES, type JudgementKind, type Severity } from '#src/policy/judgement.ts';
import { globMatcher } from './exempt.ts';
import { WaiverError } from './waiver.ts';

/** `what` is the word that is wrong. */
export class FilterError extends BootproofError<'FILTER_SYNTAX' | 'FILTER_FIELD' | 'FILTER_VALUE'> {
  readonly what: string;

  constructor(code: 'FILTER_SYNTAX' | 'FILTER_FIELD' | 'FILTER_VALUE', what: string, message: string) {
    super(code, message);
    this.what = what;
  }
}

export const FILTER_STATUSES = ['open', 'acknowledged', 'waived', 'resolved'] as const;
/** `signature`: about who signed the image. */
export const FILTER_FLAGS = ['regressed', 'flapping', 'stale', 'assigned', 'signature'] as const;
export type FilterFlag = (typeof FILTER_FLAGS)[number];
export const FILTER_CHANGES = ['added', 'removed', 'modified', 'differs'] as const;

/** One `field:value,value`; several values of a term are alternatives, several terms must all hold. */
export type FilterTerm = { readonly negated: boolean } & (
  | { readonly field: 'sev'; readonly values: readonly Severity[] }
  | { readonly field: 'status'; readonly values: readonly (typeof FILTER_STATUSES)[number][] }
  | { readonly field: 'kind'; readonly values: readonly JudgementKind[] }
  | { readonly field: 'is'; readonly values: readonly FilterFlag[] }
  | { readonly field: 'tree'; readonly values: readonly TreeName[] }
  | { readonly field: 'change'; readonly values: readonly (typeof FILTER_CHANGES)[number][] }
  /** Globs over subjects, as in policies. */
  | { readonly field: 'path'; readonly values: readonly string[] }
  | { readonly field: 'label'; readonly values: readonly { readonly key: string; readonly value: string }[] }
  /** Older, or younger, than so many ms: by when it was first seen, when it last came back, and when it last ended on some host. */
  | { readonly field: AgeField; readonly values: readonly { readonly older: boolean; readonly ms: number }[] }
  | { readonly field: TextField; readonly values: readonly string[] }
);
type AgeField = 'age' | 'reopened' | 'resolved';
/** Whole values: a rule, a control (`framework:id`, or all of a framework), a host group, a host by id or name, who it is assigned to, a waiver, a booted image, a group's id, part of the subject. */
type TextField = 'rule' | 'control' | 'group' | 'host' | 'assignee' | 'waiver' | 'image' | 'id' | 'text';
export type FilterField = FilterTerm['field'];

export type FilterLine = readonly FilterTerm[];

export const FILTER_FIELDS = [
  'sev',
  'status',
  'rule',
  'control',
  'kind',
  'path',
  'tree',
  'change',
  'group',
  'label',
  'host',
  'image',
  'is',
  'age',
  'reopened',
  'resolved',
  'assignee',
  'waiver',
  'id',
  'text',
] as const satisfies readonly FilterField[];

const OTHER_NAMES = new Map<string, FilterField>([
  ['severity', 'sev'],
  ['owner', 'assignee'],
  ['state', 'status'],
]);

/** What a filter can be made of: a name that is not so, as a hostile host may give one, is named in none. */
export function isOneLine(text: string): boolean {
  // eslint-disable-next-line no-control-regex
  return !/[\0-\x1f\x7f]/.test(text) && text.isWellFormed();
}

/** @throws {FilterError} that names the word which is not understood, and what there is. */
export function parseFilter(text: string): FilterLine {
  if (text.length > FILTER_CHARS_MAX)
    throw new FilterError('FILTER_SYNTAX', '', `a filter has at most ${FILTER_CHARS_MAX} characters`);
  if (!isOneLine(text)) throw new FilterError('FILTER_SYNTAX', '', 'a filter is one line of printable text');
  const words = split(text);
  if (words.length > FILTER_TERMS_MAX)
    throw new FilterError('FILTER_SYNTAX', '', `a filter has at most ${FILTER_TERMS_MAX} terms`);
  return words.map(termOf);
}

type Word = {
  readonly text: string;
  readonly negated: boolean;
  readonly field: string | undefined;
  readonly values: string[];
};

/** Words at spaces; quotes hold spaces and commas together, `\` keeps the next character as it is inside quotes. */
function split(text: string): Word[] {
  const words: Word[] = [];
  let at = 0;
  while (at < text.length) {
    if (text[at] === ' ') {
      at++;
      continue;
    }
    const start = at;
    const negated = text[at] === '-';
    if (negated) at++;
    const name = /^[a-z_]+(?=:)/i.exec(text.slice(at, at + 40))?.[0];
    if (name !== undefined) at += name.length + 1;
    const values: string[] = [];
    for (;;) {
      const [value, end] = valueAt(text, at);
      values.push(value);
      at = end;
      if (text[at] !== ',') break;
      at++;
    }
    words.push({ text: text.slice(start, at), negated, field: name, values });
  }
  return words;
}

function valueAt(text: string, from: number): [string, number] {
  let at = from;
  if (text[at] !== '"') {
    let depth = 0;
    // A comma between braces belongs to a glob.
    for (; at < text.length && text[at] !== ' ' && (text[at] !== ',' || depth > 0); at++) {
      if (text[at] === '"')
        throw new FilterError('FILTER_SYNTAX', text.slice(from, at + 1), 'a quote begins a value, or is left out');
      if (text[at] === '{') depth++;
      else if (text[at] === '}') depth--;
    }
    return [text.slice(from, at), at];
  }
  let value = '';
  for (at++; at < text.length; at++) {
    if (text[at] === '"') {
      const next = text[at + 1];
      if (next !== undefined && next !== ' ' && next !== ',') break;
      return [value, at + 1];
    }
    // Only quotes and itself: a path keeps its own escapes.
    if (text[at] === '\\' && (text[at + 1] === '"' || text[at + 1] === '\\')) at++;
    value += text[at];
  }
  throw new FilterError(
    'FILTER_SYNTAX',
    text.slice(from, from + 40),
    'a quote is not closed, or something stands right behind it',
  );
}

function termOf({ text, negated, field: written, values }: Word): FilterTerm {
  const name = written?.toLowerCase();
  const field = name === undefined ? 'text' : (OTHER_NAMES.get(name) ?? FILTER_FIELDS.find((known) => known === name));
  if (field === undefined)
    throw new FilterError(
      'FILTER_FIELD',
      written!,
      `no field ${JSON.stringify(written)}; there are ${FILTER_FIELDS.join(', ')}`,
    );
  if (values.includes(''))
    throw new FilterError(
      'FILTER_SYNTAX',
      text,
      `${JSON.stringify(text)} has an empty value; leave the term out, or name one`,
    );
  const words = <W extends string>(known: readonly W[]): W[] =>
    values.map((value) => {
      const found = known.find((word) => word === value.toLowerCase());
      if (found === undefined)
        throw new FilterError(
          'FILTER_VALUE',
          value,
          `${field}: no ${JSON.stringify(value)}; there are ${known.join(', ')}`,
        );
      return found;
    });
  switch (field) {
    case 'sev':
      return { field, negated, values: severities(values) };
    case 'status':
      return { field, negated, values: words(FILTER_STATUSES) };
    case 'kind':
      return { field, negated, values: words(JUDGEMENT_KINDS) };
    case 'is':
      return { field, negated, values: words(FILTER_FLAGS) };
    case 'tree':
      return { field, negated, values: words(TREES) };
    case 'change':
      return { field, negated, values: words(FILTER_CHANGES) };
    case 'path':
      return { field, negated, values: values.map(pathValue) };
    case 'control':
      return { field, negated, values: values.map(controlValue) };
    case 'label':
      return { field, negated, values: values.map(labelValue) };
    case 'age':
      return { field, negated, values: values.map((value) => ageValue(field, value)) };
    case 'reopened':
    case 'resolved':
      return { field, negated, values: values.map((value) => lately(field, value)) };
    default:
      return { field, negated, values };
  }
}

/** `high`, or `>=high` and `<medium` for what stands above or below. */
function severities(values: readonly string[]): Severity[] {
  const out = new Set<Severity>();
  for (const value of values) {
    const [, sign, word = ''] = /^(>=|<=|>|<)?(.*)$/.exec(value)!;
    const at = SEVERITIES.findIndex((known) => known === word.toLowerCase());
    if (at < 0)
      throw new FilterError(
        'FILTER_VALUE',
        value,
        `sev: no ${JSON.stringify(word)}; there are ${SEVERITIES.join(', ')}, also >=high`,
      );
    for (const [rank, severity] of SEVERITIES.entries()) {
      const holds =
        sign === undefined
          ? rank === at
          : sign === '>='
            ? rank >= at
            : sign === '<='
              ? rank <= at
              : sign === '>'
                ? rank > at
                : rank < at;
      if (holds) out.add(severity);
    }
  }
  return SEVERITIES.filter((severity) => out.has(severity));
}

function pathValue(value: string): string {
  try {
    globMatcher(value);
  } catch (error) {
    if (!(error instanceof WaiverError)) throw error;
    throw new FilterError('FILTER_VALUE', value, `path: ${error.message}`);
  }
  return value;
}

/** `nist-800-53:SI-7` as policies write it, also with a slash; or the framework alone. */
function controlValue(text: string): string {
  const value = text.replace('/', ':');
  if (!/^[a-z0-9][a-z0-9.-]*(?::[A-Za-z0-9][A-Za-z0-9.()-]*)?$/.test(value))
    throw new FilterError(
      'FILTER_VALUE',
      text,
      `control: expected framework:id, as in nist-800-53:SI-7, or the framework, got ${JSON.stringify(text)}`,
    );
  return value;
}

function labelValue(text: string): { key: string; value: string } {
  const at = text.indexOf('=');
  if (at < 1) throw new FilterError('FILTER_VALUE', text, `label: expected key=value, got ${JSON.stringify(text)}`);
  return { key: text.slice(0, at), value: text.slice(at + 1) };
}

const UNITS = { m: 60_000, h: 3_600_000, d: 86_400_000, w: 7 * 86_400_000 } as const;

function ageValue(field: AgeField, text: string): { older: boolean; ms: number } {
  const match = /^([<>])([1-9][0-9]{0,4})([mhdw])$/.exec(text);
  if (match === null)
    throw new FilterError(
      'FILTER_VALUE',
      text,
      `${field}: expected ${field === 'age' ? '>7d or ' : ''}<24h (m, h, d, w), got ${JSON.stringify(text)}`,
    );
  return { older: match[1] === '>', ms: Number(match[2]) * UNITS[match[3] as keyof typeof UNITS] };
}

/** What happens again and again has no age; that it did not happen lately is the term turned around. */
function lately(field: 'reopened' | 'resolved', text: string): { older: boolean; ms: number } {
  const age = ageValue(field, text);
  if (age.older)
    throw new FilterError('FILTER_VALUE', text, `${field}: say within which time, ${field}:<24h, or -${field}:<24h`);
  return age;
}

/** The line as it is written shortest; `parseFilter` reads it back. For chips, links and saved views. */
export function printFilter(line: FilterLine): string {
  return line
    .map((term) => {
      const values = valuesOf(term).map(printValue).join(',');
      const bare = term.field === 'text' && term.values.length === 1 && !/^[a-z_]+:/i.test(values);
      return `${term.negated ? '-' : ''}${bare ? '' : `${term.field}:`}${values}`;
    })
    .join(' ');
}

function valuesOf(term: FilterTerm): string[] {
  if (term.field === 'label') return term.values.map(({ key, value }) => `${key}=${value}`);
  if (isOfAge(term)) return term.values.map(({ older, ms }) => `${older ? '>' : '<'}${printAge(ms)}`);
  return [...term.values];
}

const isOfAge = (term: FilterTerm): term is Extract<FilterTerm, { readonly field: AgeField }> =>
  term.field === 'age' || term.field === 'reopened' || term.field === 'resolved';

function printAge(ms: number): string {
  for (const unit of ['w', 'd', 'h'] as const) if (ms % UNITS[unit] === 0) return `${ms / UNITS[unit]}${unit}`;
  return `${ms / UNITS.m}m`;
}

function printValue(value: string): string {
  const plain = !/[ "\\]/.test(value) && !value.startsWith('-') && splitsNowhere(value);
  return plain ? value : `"${value.replaceAll(/["\\]/g, (char) => `\\${char}`)}"`;
}

/** No comma outside braces. */
function splitsNowhere(value: string): boolean {
  let depth = 0;
  for (const char of value) {
    if (char === '{') depth++;
    else if (char === '}') depth--;
    else if (char === ',' && depth <= 0) return false;
  }
  return depth === 0;
}

/** A moment before which (older) or after which (younger) something was first seen. */
export function ageBound(ms: number, now: Instant): Instant {
  return now - ms;
}

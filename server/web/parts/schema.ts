/** A JSON Schema (2020-12, as OpenAPI 3.1 has it) for people: its type in words, its members as rows, and an example that fits. */
import { html, type Html, type Part } from '../html.ts';

/** As far as our own documents use it. */
export type Schema = {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly format?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly example?: unknown;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly maxLength?: number;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly items?: Schema | false;
  readonly additionalProperties?: Schema | boolean;
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly allOf?: readonly Schema[];
};

/** Deeper members are told by their type alone: whoever needs them has the document. */
const DEPTH_MAX = 4;

export const schemaName = (ref: string): string => ref.slice(ref.lastIndexOf('/') + 1);

const variants = ({ anyOf, oneOf }: Schema): readonly Schema[] => anyOf ?? oneOf ?? [];
const isNull = ({ type }: Schema): boolean => type === 'null';

/** `text, date-time`, `list of Host`, `one of open, waived`. */
export function typeHtml(schema: Schema): Html {
  const { $ref, allOf, items, additionalProperties } = schema;
  if ($ref !== undefined) return html`<a href="#schema-${schemaName($ref)}">${schemaName($ref)}</a>`;
  if (allOf?.[0] !== undefined) return typeHtml(allOf[0]);
  if (schema.const !== undefined) return html`<code>${JSON.stringify(schema.const)}</code>`;
  if (schema.enum !== undefined) {
    const words = schema.enum.filter((word) => word !== null);
    return html`${words.map((word, at) => html`${at > 0 && ', '}<code>${typeof word === 'string' ? word : JSON.stringify(word)}</code>`)}${
      words.length < schema.enum.length && ' or null'
    }`;
  }
  const either = variants(schema);
  if (either.length > 0) {
    const all = either.filter((each) => !isNull(each)).map(typeHtml);
    return html`${[...new Set(all.map(({ text }) => text))].map(
      (text, at) => html`${at > 0 && ' or '}${all.find((each) => each.text === text)}`,
    )}${either.some(isNull) && ' or null'}`;
  }
  const types = schema.type === undefined ? [] : [schema.type].flat();
  const word = types.find((type) => type !== 'null');
  const orNull = types.includes('null') && ' or null';
  if (word === 'array') return html`list of ${items ? typeHtml(items) : 'anything'}${orNull}`;
  if (word === 'object' && schema.properties === undefined && typeof additionalProperties === 'object')
    return html`names, each with ${typeHtml(additionalProperties)}${orNull}`;
  return html`${WORDS[word ?? ''] ?? 'anything'}${limits(schema)}${orNull}`;
}

const WORDS: Readonly<Record<string, string>> = {
  string: 'text',
  integer: 'whole number',
  number: 'number',
  boolean: 'true or false',
  object: 'object',
};

function limits({ format, minimum, maximum, maxLength }: Schema): string {
  const of: string[] = format === undefined ? [] : [format];
  const most = maximum === undefined || maximum >= Number.MAX_SAFE_INTEGER ? undefined : maximum;
  if (minimum !== undefined && minimum > Number.MIN_SAFE_INTEGER)
    of.push(most === undefined ? `${minimum} or more` : `${minimum} to ${most}`);
  else if (most !== undefined) of.push(`at most ${most}`);
  if (maxLength !== undefined) of.push(`at most ${maxLength} characters`);
  return of.map((each) => `, ${each}`).join('');
}

export type Row = {
  readonly name: string;
  readonly type: Html;
  readonly required: boolean;
  readonly meaning: Part;
};

/** The members of a schema, those of members by their path: `selector.hosts.ids`, `items[].id`. */
export function rowsOf(schema: Schema, prefix = '', depth = 0): Row[] {
  if (depth > DEPTH_MAX) return [];
  const parts = [...(schema.allOf ?? []), ...variants(schema)];
  if (parts.length > 0 && schema.properties === undefined) {
    const seen = new Set<string>();
    const rows = parts.filter(({ $ref }) => $ref === undefined).flatMap((part) => rowsOf(part, prefix, depth + 1));
    return rows.filter(({ name, type }) => {
      const key = `${name} ${type.text}`;
      return !seen.has(key) && seen.add(key);
    });
  }
  if (schema.items) return schema.items.$ref === undefined ? rowsOf(schema.items, `${prefix}[]`, depth + 1) : [];
  return Object.entries(schema.properties ?? {}).flatMap(([key, member]) => {
    const name = prefix === '' ? key : `${prefix}.${key}`;
    const row: Row = {
      name,
      type: typeHtml(member),
      required: schema.required?.includes(key) === true,
      meaning: meaningOf(member),
    };
    return [row, ...(member.$ref === undefined ? rowsOf(member, name, depth + 1) : [])];
  });
}

/** What is said of it, and what it is where nobody says. */
export function meaningOf({ description, default: standard }: Schema): Part {
  return html`${description !== undefined && markedHtml(description)}${
    standard !== undefined && html` <span class="soft">Else <code>${JSON.stringify(standard)}</code>.</span>`
  }`;
}

/** Text with what stands between backticks as code. */
export function markedHtml(text: string): Html {
  return html`${text.split('`').map((part, at) => (at % 2 === 0 ? html`${part}` : html`<code>${part}</code>`))}`;
}

/** A value that the schema takes, as small as it can be; `…` stands for what only the asker knows. */
export function exampleOf(schema: Schema, named: Readonly<Record<string, Schema>>, depth = 0): unknown {
  if (schema.example !== undefined) return schema.example;
  if (schema.default !== undefined) return schema.default;
  if (schema.const !== undefined) return schema.const;
  if (schema.enum !== undefined) return schema.enum[0];
  if (depth > 2 * DEPTH_MAX) return '…';
  if (schema.$ref !== undefined) return exampleOf(named[schemaName(schema.$ref)] ?? {}, named, depth + 1);
  const [part] = [...(schema.allOf ?? []), ...variants(schema)];
  if (part !== undefined && schema.properties === undefined) return exampleOf(part, named, depth + 1);
  const type = [schema.type].flat().find((each) => each !== 'null');
  if (type === 'array') return schema.items ? [exampleOf(schema.items, named, depth + 1)] : [];
  if (type === 'integer' || type === 'number') return Math.max(schema.minimum ?? 1, 1);
  if (type === 'boolean') return true;
  if (type === 'object') {
    const members = Object.entries(schema.properties ?? {}).filter(([key]) => schema.required?.includes(key));
    return Object.fromEntries(members.map(([key, member]) => [key, exampleOf(member, named, depth + 1)]));
  }
  return schema.format === 'date-time' ? '2027-01-31T00:00:00Z' : '…';
}

/** Forms as text: what was sent, read by a schema; fields that keep what was typed and say what is wrong with it (design, section 7). */
import type { Context } from 'hono';
import type { z } from 'zod';
import { html, icon, type Html, type Part } from '../html.ts';
import type { Env } from '../services.ts';
import { count } from '../words.ts';

/** What was sent, by field; a field that stands several times has several values. Files are refused by being left out. */
export type Sent = ReadonlyMap<string, readonly string[]>;

export async function sentIn(c: Context<Env>): Promise<Sent> {
  const out = new Map<string, string[]>();
  const form = await c.req.parseBody({ all: true });
  for (const [name, value] of Object.entries(form)) {
    const texts = [value].flat().filter((one) => typeof one === 'string');
    if (texts.length > 0)
      out.set(
        name,
        texts.map((text) => text.replaceAll('\r\n', '\n')),
      );
  }
  return out;
}

export const first = (sent: Sent, name: string): string => sent.get(name)?.[0] ?? '';

/** What is wrong, by the field that it is about; the empty name is the form itself. */
export type Wrongs = ReadonlyMap<string, string>;
export const NOTHING_WRONG: Wrongs = new Map();

/** The values by the schema, or what is wrong with them. Empty fields count as not given. */
export function readForm<Schema extends z.ZodObject>(
  sent: Sent,
  schema: Schema,
):
  | { readonly values: z.infer<Schema>; readonly wrong: undefined }
  | { readonly values: undefined; readonly wrong: Wrongs } {
  const given: Record<string, string> = {};
  for (const name of Object.keys(schema.shape)) {
    const text = first(sent, name).trim();
    if (text !== '') given[name] = text;
  }
  const read = schema.safeParse(given);
  if (read.success) return { values: read.data, wrong: undefined };
  const wrong = new Map<string, string>();
  for (const { path, message } of read.error.issues) {
    const name = String(path[0] ?? '');
    if (!wrong.has(name)) wrong.set(name, given[name] === undefined ? 'It is needed.' : message);
  }
  return { values: undefined, wrong };
}

/** A refusal beside its form: 403 where the asker's roles do not allow it, as the API answers; 422 where the form can be mended. */
export const refusedStatus = (error: { readonly code: string }): 403 | 422 => (error.code === 'FORBIDDEN' ? 403 : 422);

// eslint-disable-next-line no-control-regex
const CONTROLS = /[\x00-\x08\x0b-\x1f\x7f]/;

/** What is wrong with a text that somebody wrote, by the limits that the API holds it to; undefined for nothing. */
export function textWrong(text: string, most: number): string | undefined {
  if (text.length > most) return `At most ${count(most)} characters: these are ${count(text.length)}.`;
  if (CONTROLS.test(text) || !text.isWellFormed()) return 'It has characters that nobody can see: write it without.';
  return undefined;
}

export type Field = {
  readonly name: string;
  readonly label: string;
  readonly help?: Part;
  readonly wrong?: Wrongs;
  /** Fields of two forms on a page must not share an id. */
  readonly id?: string;
};

/** Label, control, help; where something is wrong, help says what. `control` gets the attributes that tie the three together. */
export function fieldHtml({ name, label, help, wrong, id = name }: Field, control: (ties: Html) => Html): Html {
  const fault = wrong?.get(name);
  const told = fault ?? help;
  return html`<div class="field">
    <label for="${id}">${label}</label>
    ${control(
      html`id="${id}"
      name="${name}"${fault !== undefined && html` aria-invalid="true"`}${
        told !== undefined && html` aria-describedby="${id}-help"`
      }`,
    )}
    ${told !== undefined && html`<small id="${id}-help">${told}</small>`}
  </div>`;
}

export function inputHtml(
  field: Field,
  {
    value = '',
    type = 'text',
    required = false,
    max = 200,
    placeholder,
    mono = false,
  }: {
    readonly value?: string;
    readonly type?: 'text' | 'date';
    readonly required?: boolean;
    readonly max?: number;
    readonly placeholder?: string;
    readonly mono?: boolean;
  } = {},
): Html {
  return fieldHtml(
    field,
    (ties) =>
      html`<input
        class="input${mono && ' mono'}"
        type="${type}"
        ${ties}
        value="${value}"
        ${type === 'text' && html` maxlength="${max}"`}
        autocomplete="off"
        ${placeholder !== undefined && html` placeholder="${placeholder}"`}${required && html` required`}
      />`,
  );
}

export function textareaHtml(
  field: Field,
  {
    value = '',
    rows = 3,
    required = false,
    max = 4096,
    placeholder,
  }: {
    readonly value?: string;
    readonly rows?: number;
    readonly required?: boolean;
    readonly max?: number;
    readonly placeholder?: string;
  } = {},
): Html {
  return fieldHtml(
    field,
    (ties) =>
      html`<textarea
        class="input"
        ${ties}
        rows="${rows}"
        maxlength="${max}"
        ${placeholder !== undefined && html` placeholder="${placeholder}"`}${required && html` required`}
      >
${value}</textarea>`,
  );
}

export function selectHtml(
  field: Field,
  options: readonly (readonly [value: string, word: string])[],
  chosen: string,
): Html {
  return fieldHtml(
    field,
    (ties) =>
      html`<select class="input" ${ties}>
        ${options.map(
          ([value, word]) => html`<option value="${value}" ${value === chosen && html` selected`}>${word}</option>`,
        )}
      </select>`,
  );
}

/** On top of a form that was refused: how many fields need a look, with links to each. What was typed stands in them still. */
export function wrongHtml(wrong: Wrongs, labels: Readonly<Record<string, string>>): Html | undefined {
  if (wrong.size === 0) return undefined;
  const fields = [...wrong.keys()].filter((name) => Object.hasOwn(labels, name));
  const whole = [...wrong].filter(([name]) => !Object.hasOwn(labels, name)).map(([, text]) => text);
  return html`<div class="note critical" role="alert">
    ${icon('stop')}<span
      >${whole.length > 0 ? whole.join(' ') : 'Nothing was sent.'}${
        fields.length > 0 &&
        html` ${fields.length === 1 ? 'One field needs' : html`<strong>${fields.length} fields</strong> need`} you:
        ${fields.map((name, at) => html`${at > 0 && ', '}<a class="link" href="#${name}">${labels[name]}</a>`)}.`
      }</span
    >
  </div>`;
}

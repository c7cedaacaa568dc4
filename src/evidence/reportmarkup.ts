/** HTML of the printed report: templates in which everything that is put in is escaped, and words for times and numbers. */
import { parseInstant } from '#src/clock.ts';
import { shownText } from '#src/terminal.ts';

/** Text that is HTML already: `html` makes it, and the style sheet. */
export class Markup {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

export type Part = string | number | Markup | false | null | undefined | readonly Part[];

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** What strangers wrote: control and reordering characters are shown escaped, and markup is text. */
export const escaped = (text: string): string => shownText(text).replace(/[&<>"']/g, (char) => ENTITIES[char]!);

function textOf(part: Part): string {
  if (part === false || part === null || part === undefined) return '';
  if (part instanceof Markup) return part.text;
  if (typeof part === 'string') return escaped(part);
  return typeof part === 'number' ? number(part) : part.map(textOf).join('');
}

/** A template: its own text is HTML, what is put in is not, unless it came of a template. Attributes must be quoted. */
export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Markup {
  return new Markup(strings.reduce((out, string, i) => out + textOf(parts[i - 1]) + string));
}

/** 12,345. */
export function number(value: number): string {
  const [whole, rest] = String(value).split('.');
  const grouped = whole!.replace(/\B(?=(?:\d{3})+$)/g, ',');
  return rest === undefined ? grouped : `${grouped}.${rest}`;
}

/** `1 host`, `2,000 hosts`. */
export const counted = (count: number, one: string, many = `${one}s`): string =>
  `${number(count)} ${count === 1 ? one : many}`;

const MONTHS = [
  'January',
  'February',
  'March',
  'April',
  'May',
  'June',
  'July',
  'August',
  'September',
  'October',
  'November',
  'December',
];

/** `1 July 2026` of an RFC 3339 time in UTC. */
export function day(time: string): string {
  return `${Number(time.slice(8, 10))} ${MONTHS[Number(time.slice(5, 7)) - 1]} ${time.slice(0, 4)}`;
}

/** `1 Jul 2026, 02:10`, in UTC as everything in the report. */
export function moment(time: string): string {
  return `${Number(time.slice(8, 10))} ${MONTHS[Number(time.slice(5, 7)) - 1]!.slice(0, 3)} ${time.slice(0, 4)}, ${time.slice(11, 16)}`;
}

/** A moment that programs can read too. */
export const timeOf = (time: string | null): Markup =>
  time === null ? html`<span class="quiet">–</span>` : html`<time datetime="${time}">${moment(time)}</time>`;

/** The period as people say it: its last day, not the first moment after it. */
export function periodText({ from, to }: { readonly from: string; readonly to: string }): string {
  const last = new Date(parseInstant(to)! - 1).toISOString();
  if (day(from) === day(last)) return day(from);
  const [year, month] = [from.slice(0, 4) === last.slice(0, 4), from.slice(0, 7) === last.slice(0, 7)];
  const begin = day(from).split(' ');
  return `${begin.slice(0, month ? 1 : year ? 2 : 3).join(' ')} to ${day(last)}`;
}

/** `sha256:0123456789ab`: enough to know it again; the whole stands in the CSV files. */
export const short = (digest: string): string => digest.replace(/^sha256:([0-9a-f]{12})[0-9a-f]{52}$/, '$1');

/** At most `max` in order, the others counted. */
export class Top<T> {
  readonly #max: number;
  readonly #compare: (a: T, b: T) => number;
  readonly #kept: T[] = [];
  #seen = 0;

  constructor(max: number, compare: (a: T, b: T) => number) {
    this.#max = max;
    this.#compare = compare;
  }

  offer(item: T): void {
    this.#seen++;
    const kept = this.#kept;
    if (kept.length >= this.#max && this.#compare(kept.at(-1)!, item) <= 0) return;
    let low = 0;
    for (let high = kept.length; low < high;) {
      const middle = (low + high) >>> 1;
      if (this.#compare(kept[middle]!, item) <= 0) low = middle + 1;
      else high = middle;
    }
    kept.splice(low, 0, item);
    if (kept.length > this.#max) kept.pop();
  }

  get items(): readonly T[] {
    return this.#kept;
  }
  get seen(): number {
    return this.#seen;
  }
  get beyond(): number {
    return this.#seen - this.#kept.length;
  }
}

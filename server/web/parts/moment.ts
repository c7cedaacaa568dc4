/** Moments and periods in addresses and forms, all in UTC: what a field shows, what it means, and the quarters one may choose. */
import type { Instant } from '#src/clock.ts';
import { html, type Html } from '../html.ts';
import { endOf } from './time.ts';
import { fieldHtml, inputHtml, type Wrongs } from './form.ts';
import { dayOf } from '../words.ts';

export const DAY_MS = 86_400_000;

const MOMENT =
  /^([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ]([0-9]{2}:[0-9]{2})(:[0-9]{2}(?:\.[0-9]{1,3})?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?$/;

/** What a field or a link names: a day, which is its beginning, or a moment; without a zone it is UTC. Undefined for what is neither. */
export function momentFrom(text: string): Instant | undefined {
  const [, day, minute = '00:00', second = ':00', zone = 'Z'] = MOMENT.exec(text.trim()) ?? [];
  if (day === undefined || endOf(day) === undefined) return undefined;
  const at = Date.parse(`${day}T${minute}${second}${zone}`);
  return Number.isNaN(at) ? undefined : at;
}

/** As a field for day and time has it, to the second: no earlier than the moment, so that what happened at it has happened. */
export function momentInput(at: Instant): string {
  return new Date(Math.ceil(at / 1000) * 1000).toISOString().slice(0, 19);
}

/** A field for day and time; browsers that know none show a line to type in. */
export function momentHtml(
  field: { readonly name: string; readonly label: string; readonly help?: string; readonly wrong: Wrongs },
  value: string,
): Html {
  return fieldHtml(
    field,
    (ties) =>
      html`<input
        class="input"
        type="datetime-local"
        step="1"
        ${ties}
        value="${value}"
        autocomplete="off"
        placeholder="2026-09-30T18:00"
      />`,
  );
}

/** From the first day's beginning to the last day's end; `first` and `last` as they were typed. */
export type Period = {
  readonly from: Instant;
  readonly to: Instant;
  readonly first: string;
  readonly last: string;
};

/** What the fields `from` and `to` say; empty ones leave that end open. What is wrong, by field. */
export function periodFrom(
  query: URLSearchParams,
  open: { readonly from: Instant; readonly to: Instant },
): { readonly period: Period; readonly wrong: Wrongs } {
  const wrong = new Map<string, string>();
  const [first, last] = [(query.get('from') ?? '').trim(), (query.get('to') ?? '').trim()];
  const day = (name: string, text: string): Instant | undefined => {
    const end = text === '' ? undefined : endOf(text);
    if (text !== '' && end === undefined) wrong.set(name, 'A day, such as 2026-09-30.');
    return end;
  };
  const [begin, end] = [day('from', first), day('to', last)];
  const period = {
    from: begin === undefined ? open.from : begin - DAY_MS,
    to: end ?? open.to,
    first,
    last,
  };
  if (wrong.size === 0 && period.from >= period.to) wrong.set('to', 'The last day comes before the first.');
  return { period, wrong };
}

export type Quarter = { readonly word: string; readonly first: string; readonly last: string };

const text = (at: Instant): string => new Date(at).toISOString().slice(0, 10);

/** The quarter of a moment and those before it, newest first. */
export function quartersTo(now: Instant, n: number): readonly Quarter[] {
  const date = new Date(now);
  const current = date.getUTCFullYear() * 4 + Math.floor(date.getUTCMonth() / 3);
  return Array.from({ length: n }, (_, back) => {
    const [year, quarter] = [Math.floor((current - back) / 4), (current - back) % 4];
    return {
      word: `Q${quarter + 1} ${year}`,
      first: text(Date.UTC(year, quarter * 3, 1)),
      last: text(Date.UTC(year, quarter * 3 + 3, 1) - DAY_MS),
    };
  });
}

/** `from 1 Jul 2026 to 30 Sep 2026`; what is open is left out. */
export function periodText({ from, to, first, last }: Period): string {
  const parts = [...(first === '' ? [] : [`from ${dayOf(from)}`]), ...(last === '' ? [] : [`to ${dayOf(to - 1)}`])];
  return parts.join(' ');
}

/** The two fields of a period. */
export function periodHtml({ first, last }: Pick<Period, 'first' | 'last'>, wrong: Wrongs): Html {
  return html`${inputHtml({ name: 'from', label: 'First day', wrong }, { value: first, type: 'date' })}
  ${inputHtml({ name: 'to', label: 'Last day', wrong }, { value: last, type: 'date' })}`;
}

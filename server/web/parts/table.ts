/** What every table shares: its foot, which says what is shown of what, and pages by key. */
import type { Count } from '#server/store/records.ts';
import { html, type Html, type Part } from '../html.ts';
import { bounded, count } from '../words.ts';

/** An address with these parameters set; null takes one away. Cursors never survive a change. */
export function addressWith(
  path: string,
  query: URLSearchParams,
  change: Readonly<Record<string, string | null>>,
): string {
  const next = new URLSearchParams(query);
  next.delete('after');
  for (const [name, value] of Object.entries(change)) {
    if (value === null || value === '') next.delete(name);
    else next.set(name, value);
  }
  const text = next.toString();
  return text === '' ? path : `${path}?${text}`;
}

export type Foot = {
  readonly shown: number;
  readonly of: Count;
  readonly one: string;
  readonly many?: string;
  /** Beside it: what else is to be known of the whole. */
  readonly note?: Part;
  /** The address of the first page, where this is a later one. */
  readonly first: string | null;
  /** The address of the next page, null on the last. */
  readonly next: string | null;
};

export function footHtml({ shown, of, one, many = `${one}s`, note, first, next }: Foot): Html {
  const whole = of.exact && of.count === shown && first === null;
  return html`<footer>
    <span
      >${whole ? '' : `${count(shown)} of `}${bounded(of)}
      ${of.count === 1 ? one : many}${note !== undefined && html` · ${note}`}</span
    >
    ${
      (first !== null || next !== null) &&
      html`<span class="acts"
        >${first !== null && html`<a class="link" href="${first}">First page</a>`}${
          next !== null && html`<a class="link" href="${next}" rel="next">Next page</a>`
        }</span
      >`
    }
  </footer>`;
}

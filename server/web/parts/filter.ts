/** The filter line on pages: typed words and chips are one thing, and both are the address (design, section 1; docs/findings.md, section 6). */
import { parseFilter, printFilter, type FilterLine, type FilterTerm } from '#src/finding/filter.ts';
import { copyHtml, html, icon, type Html, type Part } from '../html.ts';
import { listed } from '../words.ts';

/** The one field that excludes each other by value, or the flag: what a facet adds. */
export function termOf(text: string): FilterTerm {
  const [term] = parseFilter(text);
  if (term === undefined) throw new TypeError('a facet has one term');
  return term;
}

const same = (a: FilterTerm, b: FilterTerm): boolean => printFilter([a]) === printFilter([b]);

export const has = (line: FilterLine, term: FilterTerm): boolean => line.some((one) => same(one, term));

/** The line with the term, or without it where it has it. Of severities and statuses one replaces another. */
export function toggled(line: FilterLine, term: FilterTerm): FilterLine {
  if (has(line, term)) return line.filter((one) => !same(one, term));
  const single = term.field === 'sev' || term.field === 'status' || term.field === 'tree' || term.field === 'group';
  return [...line.filter((one) => !(single && one.field === term.field && !one.negated)), term];
}

const NAMES: Readonly<Record<FilterTerm['field'], string>> = {
  sev: 'Severity',
  status: 'Status',
  rule: 'Rule',
  control: 'Control',
  kind: 'Kind',
  path: 'Path',
  tree: 'Below',
  change: 'Change',
  group: 'Host group',
  label: 'Label',
  host: 'Host',
  image: 'Image',
  is: '',
  age: 'First seen',
  reopened: 'Came back',
  resolved: 'Ended',
  assignee: 'Owner',
  waiver: 'Waiver',
  id: 'Change',
  text: 'Contains',
};

/** A term as a person says it: `Severity is high or critical`, `not regressed`. */
function chipText(term: FilterTerm): Html {
  const words = printFilter([{ ...term, negated: false }]).replace(/^[a-z]+:/, '');
  const values =
    term.field === 'text' ? term.values : term.field === 'sev' ? [...term.values].reverse() : words.split(',');
  const ages = term.field === 'age' || term.field === 'reopened' || term.field === 'resolved';
  const shown = ages
    ? values.map((value) => `${value.startsWith('<') ? 'within' : 'before'} ${value.slice(1)}`)
    : values.map((value) =>
        term.field === 'tree' ? `/${value}` : value.length > 24 ? `${value.slice(0, 20)}…` : value,
      );
  const all = listed(shown).replace(/ and ([^,]*)$/, ' or $1');
  if (term.field === 'is') return html`${term.negated ? 'not ' : ''}<b>${all}</b>`;
  return html`${NAMES[term.field]}
    ${ages || term.field === 'text' ? (term.negated ? 'not ' : '') : term.negated ? 'is not ' : 'is '}<b>${all}</b>`;
}

export type Query = {
  readonly action: string;
  /** What was typed, also where it cannot be read. */
  readonly typed: string;
  readonly line: FilterLine;
  /** Kept with every change: tab and sort. */
  readonly kept: Readonly<Record<string, string>>;
  readonly addressOf: (line: FilterLine) => string;
  readonly wrong: string | undefined;
  readonly label: string;
  readonly placeholder: string;
  /** The same question for other tools, to copy. */
  readonly copies: readonly (readonly [word: string, text: string])[];
  /** On narrow screens: the facets, which have no room beside. */
  readonly facets: Html;
};

export function queryHtml(query: Query): Html {
  const { action, typed, line, kept, wrong, label, placeholder, copies } = query;
  return html`<div class="toolbar">
    <form class="query" role="search" aria-label="${label}" action="${action}">
      ${icon('search')}
      ${Object.entries(kept).map(([name, value]) => html`<input type="hidden" name="${name}" value="${value}" />`)}
      <input
        name="q"
        aria-label="${label}"
        value="${typed}"
        placeholder="${placeholder}"
        maxlength="2000"
        autocomplete="off"
        spellcheck="false"
        ${wrong !== undefined && html` aria-invalid="true" aria-describedby="q-wrong"`}
      /><button class="enter" type="submit" title="Filter" aria-label="Filter"><kbd>↵</kbd></button>
    </form>
    ${wrong !== undefined && html`<p class="wrong" id="q-wrong" role="alert">${icon('stop')}${wrong}</p>`}
    <div class="chips">
      <details class="menu narrow">
        <summary class="chip">Filters ${icon('down')}</summary>
        <div class="pop">${query.facets}</div>
      </details>
      ${line.map(
        (term) =>
          html`<a class="chip" href="${query.addressOf(line.filter((one) => one !== term))}" title="Take this word away"
            ><span>${chipText(term)}</span>${icon('x')}</a
          >`,
      )}
      ${line.length > 1 && html`<a class="link" href="${query.addressOf([])}">Clear</a>`}
      <span class="push"></span>
      ${copiesHtml(copies)}
    </div>
  </div>`;
}

/** What asks for the same list elsewhere, to copy; seen where a script runs. */
export function copiesHtml(copies: readonly (readonly [word: string, text: string])[]): Html {
  return html`${copies.map(([word, text]) => html`<span class="copies" hidden data-show>${word}${copyHtml(text, `Copy ${word}`)}</span>`)}`;
}

export type Facet = {
  readonly word: Part;
  readonly term: FilterTerm;
  /** Absent where counting would cost more than it tells. */
  readonly count: string | undefined;
};

/** `more`: the name of a section that is longer than what is shown of it; `whole`: all of it is shown. */
type Section = {
  readonly title: string;
  readonly facets: readonly Facet[];
  readonly more?: string | undefined;
  readonly whole?: boolean;
};

export function facetsHtml(
  sections: readonly Section[],
  line: FilterLine,
  addressOf: (line: FilterLine, more?: Readonly<Record<string, string>>) => string,
): Html {
  return html`${sections
    .filter(({ facets, more }) => facets.length > 0 || more !== undefined)
    .map(
      ({ title, facets, more, whole = false }) =>
        html`<section>
          <h2>${title}</h2>
          <ul>
            ${facets.map(
              ({ word, term, count }) =>
                html`<li>
                  <a href="${addressOf(toggled(line, term))}" ${has(line, term) && html` aria-current="true"`}
                    ><span>${word}</span><span>${count}</span></a
                  >
                </li>`,
            )}
            ${
              more !== undefined &&
              html`<li>
                <a href="${addressOf(line, whole ? {} : { more })}"
                  ><span class="quiet"
                    >${whole ? 'Fewer' : 'Show all'}<span class="sr"> of ${title.toLowerCase()}</span></span
                  ></a
                >
              </li>`
            }
          </ul>
        </section>`,
    )}`;
}

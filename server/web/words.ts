/** The words and shapes that every page shares: verdicts, severities, answers, times (design, sections 5 and 10). */
import { formatInstant, type Instant } from '#src/clock.ts';
import { SEVERITIES, type Severity } from '#src/policy/judgement.ts';
import { html, icon, type Html } from './html.ts';

const GLYPHS: Readonly<Record<string, string>> = {
  compliant: 'v-compliant',
  intact: 'v-compliant',
  trusted: 'v-compliant',
  current: 'v-compliant',
  drifted: 'v-drifted',
  masked: 'v-drifted',
  unsigned: 'v-unsigned',
  rejected: 'v-unsigned',
  unverifiable: 'v-unverifiable',
  late: 'v-unverifiable',
  outdated: 'v-unverifiable',
  'not-assessed': 'v-unverifiable',
  silent: 'v-silent',
  new: 'v-new',
};

/** A verdict or an answer: glyph and word, colour last. `note` is what must stand with it, such as what was waived. */
export function verdictHtml(word: string, note?: string, badge = false): Html {
  const shown = word.replace('-', ' ');
  return html`<span class="verdict ${word}${badge && ' badge'}"
    >${icon(GLYPHS[word] ?? 'v-unverifiable')}${badge ? capital(shown) : shown}${note !== undefined && html` <span class="quiet">${note}</span>`}</span
  >`;
}

/** An answer as a heading has it: `Not assessed`. */
export function answerHtml(word: string): Html {
  return html`<span class="verdict ${word}"
    >${icon(GLYPHS[word] ?? 'v-unverifiable')}${capital(word.replace('-', ' '))}</span
  >`;
}

/** The first letter large, as headings and labels have it. */
export function capital(text: string): string {
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}

/** Glyph and word of a severity. */
export function severityHtml(severity: Severity): Html {
  return html`<span class="sev ${severity}">${icon(`s-${severity}`)}${capital(severity)}</span>`;
}

/** The glyph where rows are narrow; its word for those who hear the page, and on hover. */
export function severityGlyph(severity: Severity): Html {
  return html`<span class="sev ${severity}" title="${severity}"
    >${icon(`s-${severity}`)}<span class="sr">${capital(severity)}: </span></span
  >`;
}

const MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ');

/** `8 Dec 2026`, in UTC. */
export function dayOf(instant: Instant): string {
  const date = new Date(instant);
  return `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]} ${date.getUTCFullYear()}`;
}

/** In lists: relative and short, a date from 30 days on; the absolute time in the title. */
export function agoHtml(instant: Instant | null | undefined, now: Instant): Html {
  if (instant === null || instant === undefined) return html`<span class="quiet">–</span>`;
  const iso = formatInstant(instant);
  return html`<time datetime="${iso}" title="${iso.slice(0, 16).replace('T', ' ')} UTC">${ago(instant, now)}</time>`;
}

/** In a sentence: `just now`, `4 min ago`, `on 12 Mar 2026`. */
export function whenHtml(instant: Instant, now: Instant): Html {
  const seconds = (now - instant) / 1000;
  if (seconds < 60) return html`just now`;
  return seconds < 30 * 86_400 ? html`${agoHtml(instant, now)} ago` : html`on ${agoHtml(instant, now)}`;
}

function ago(instant: Instant, now: Instant): string {
  const seconds = Math.floor((now - instant) / 1000);
  if (seconds < 0) return `in ${span(-seconds)}`;
  return seconds < 30 * 86_400 ? span(seconds) : dayOf(instant);
}

/** A duration of seconds, in its largest whole unit. */
export function span(seconds: number): string {
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

/** In evidence and timelines: absolute, UTC. */
export function timeHtml(instant: Instant): Html {
  const iso = formatInstant(instant);
  return html`<time datetime="${iso}">${dayOf(instant)}, ${iso.slice(11, 19)} UTC</time>`;
}

/** Day and minute, for what happened lately: `23 Nov, 22:14`; the whole in the title. */
export function momentHtml(instant: Instant): Html {
  const iso = formatInstant(instant);
  const day = dayOf(instant).replace(/ [0-9]{4}$/, '');
  return html`<time datetime="${iso}" title="${iso.slice(0, 19).replace('T', ' ')} UTC"
    >${day}, ${iso.slice(11, 16)}</time
  >`;
}

/** A day as evidence: absolute, with its time in the title. */
export function dayHtml(instant: Instant): Html {
  const iso = formatInstant(instant);
  return html`<time datetime="${iso}" title="${iso.slice(0, 16).replace('T', ' ')} UTC">${dayOf(instant)}</time>`;
}

// Made once: `toLocaleString` makes one at each call, and a page has hundreds of numbers.
const NUMBERS = new Intl.NumberFormat('en-US');

/** Numbers with commas. */
export function count(value: number): string {
  return NUMBERS.format(value);
}

/** `1 host`, `1,204 hosts`. */
export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** A count up to a cap: `12`, or `10,000+`. */
export function bounded({ count: n, exact }: { readonly count: number; readonly exact: boolean }): string {
  return exact ? count(n) : `${count(n)}+`;
}

/** `a, b and c`. */
export function listed(words: readonly string[]): string {
  return words.length < 2 ? (words[0] ?? '') : `${words.slice(0, -1).join(', ')} and ${words.at(-1)}`;
}

/** Open findings by severity, worst first; an en dash where there are none. `open` is indexed by severity, 0 to 4. */
export function severitiesHtml(open: readonly number[]): Html {
  const some = [...SEVERITIES].reverse().filter((severity) => (open[SEVERITIES.indexOf(severity)] ?? 0) > 0);
  if (some.length === 0) return html`<span class="quiet">–</span>`;
  return html`${some.map((severity) => {
    const n = open[SEVERITIES.indexOf(severity)]!;
    return html`<span class="sev ${severity}" title="${n} ${severity}"
      >${icon(`s-${severity}`)}<span class="sr">${severity} </span>${n}</span
    > `;
  })}`;
}

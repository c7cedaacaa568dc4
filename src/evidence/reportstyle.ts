/** The look of the printed report (A4 and Letter, light always, no script, nothing fetched) and its glyphs. */
import { sha256 } from '@noble/hashes/sha2.js';
import { toBase64 } from '#src/bytes.ts';
import { html, Markup } from './reportmarkup.ts';

const CSS = `
:root { color-scheme: light; --ink: #191d1b; --ink-2: #4d5450; --ink-3: #676e69; --line: #dcdcd6; --edge: #191d1b; --well: #f4f4f1; --link: #1f4f9e; --critical: #9a0c3a; --high: #a33f08; --medium: #8a6600; --low: #50687e; --good: #17633f; --bad: #a92d0e; --unknown: #6f5400; --waived: #1f4f9e; --sans: 'Inter', system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif; --mono: ui-monospace, 'SF Mono', 'JetBrains Mono', 'Cascadia Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace; }
*, ::before, ::after { box-sizing: border-box; margin: 0; padding: 0; }
body { background: #fff; color: var(--ink); font: 400 13px/19px var(--sans); font-variant-numeric: tabular-nums; text-rendering: optimizeLegibility; }
main { max-inline-size: 820px; margin: 0 auto; padding: 40px 24px 64px; }
h1, h2, h3 { font-weight: 600; text-wrap: balance; font-variant-numeric: proportional-nums; }
h1 { font-size: 30px; line-height: 36px; letter-spacing: -0.021em; margin-block: 40px 10px; }
h2 { font-size: 18px; line-height: 24px; letter-spacing: -0.012em; margin-block: 44px 10px; break-after: avoid; }
h2 .n { display: inline-block; min-inline-size: 1.6em; padding-inline-end: .35em; color: var(--ink-3); font-weight: 400; }
h3 { font-size: 13px; line-height: 19px; margin-block: 20px 6px; break-after: avoid; }
p { text-wrap: pretty; margin-block-end: 8px; max-inline-size: 46em; }
a { color: var(--link); }
code { font-family: var(--mono); font-size: 0.92em; overflow-wrap: anywhere; }
ol, ul { padding-inline-start: 20px; margin-block-end: 8px; }
li { margin-block-end: 4px; max-inline-size: 46em; }
svg.icon { inline-size: 14px; block-size: 14px; vertical-align: -2px; margin-inline-end: 5px; fill: none; stroke: currentcolor; stroke-width: 1.5; stroke-linecap: round; stroke-linejoin: round; }
svg.solid { fill: currentcolor; stroke: none; }
.sr { position: absolute; inline-size: 1px; block-size: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.quiet { color: var(--ink-3); }
.soft { color: var(--ink-2); }
.nowrap, time { white-space: nowrap; }
.break { overflow-wrap: anywhere; }
.lead { font-size: 16px; line-height: 24px; color: var(--ink-2); max-inline-size: none; }
header { display: flex; justify-content: space-between; align-items: center; gap: 16px; padding-block-end: 12px; border-block-end: 1.5px solid var(--edge); }
header .brand { display: flex; align-items: center; gap: 9px; font-size: 16px; font-weight: 600; letter-spacing: -0.02em; }
header .brand svg { inline-size: 22px; block-size: 22px; }
dl.facts { display: grid; grid-template-columns: max-content minmax(0, 1fr) max-content minmax(0, 1fr); gap: 6px 18px; margin-block: 20px; }
dl.facts dt { color: var(--ink-3); }
dl.facts .wide { grid-column: 2 / -1; }
.figures { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); margin-block: 24px 20px; border-block: 1px solid var(--line); }
.figures > div { padding: 12px 14px; border-inline-start: 1px solid var(--line); }
.figures > div:first-child { border: 0; padding-inline-start: 0; }
.figures b { display: block; font-size: 24px; line-height: 30px; font-weight: 600; letter-spacing: -0.02em; font-variant-numeric: proportional-nums; }
.figures span { color: var(--ink-2); }
.note { background: var(--well); border-radius: 6px; padding: 11px 14px; margin-block: 12px; break-inside: avoid; }
.note p:last-child { margin: 0; }
.note p { max-inline-size: none; }
table { border-collapse: collapse; inline-size: 100%; margin-block: 6px 10px; font-size: 12px; line-height: 17px; }
caption { text-align: start; font-weight: 600; padding-block-end: 4px; }
th { font-weight: 400; color: var(--ink-3); text-align: start; vertical-align: bottom; border-block-end: 1.5px solid var(--edge); padding: 5px 10px 5px 0; }
td { vertical-align: top; border-block-end: 1px solid var(--line); padding: 6px 10px 6px 0; }
th:last-child, td:last-child { padding-inline-end: 0; }
td.num, th.num { text-align: end; white-space: nowrap; }
td small, th small { font-weight: 400; }
td.num small { white-space: normal; }
tbody th { color: inherit; border-block-end: 1px solid var(--line); vertical-align: top; padding-block: 6px; font-weight: 500; }
tfoot td { font-weight: 600; border: 0; }
td small, th small, li small { display: block; color: var(--ink-3); font-size: 11px; line-height: 15.5px; }
.w12 { inline-size: 12%; }
.w16 { inline-size: 16%; }
.w20 { inline-size: 20%; }
.w24 { inline-size: 24%; }
.w32 { inline-size: 32%; }
.mark { display: inline-block; font-size: 10.5px; line-height: 15px; padding: 0 5px; border: 1px solid var(--ink-3); border-radius: 4px; color: var(--ink-2); white-space: nowrap; }
.out { white-space: nowrap; font-weight: 500; }
.satisfied { color: var(--good); }
.not-satisfied { color: var(--bad); }
.not-assessed { color: var(--unknown); }
.critical { color: var(--critical); }
.high { color: var(--high); }
.medium { color: var(--medium); }
.low { color: var(--low); }
.info { color: var(--ink-3); }
.sev { white-space: nowrap; }
.chart { display: block; inline-size: 100%; block-size: auto; margin-block: 8px 4px; break-inside: avoid; }
.chart text { font: 10px var(--sans); fill: #676e69; }
.chart .base { stroke: #676e69; stroke-width: 1; }
.chart .tick { stroke: #dcdcd6; }
.chart .opened { fill: #a92d0e; }
.chart .ended { fill: #9fb0a6; }
.chart .gaps { fill: #8a8f8c; }
.chart .waived { fill: #1f4f9e; }
.key { display: flex; gap: 18px; color: var(--ink-2); font-size: 11.5px; }
.key svg.chart { display: inline-block; inline-size: 10px; block-size: 10px; margin: 0 6px 0 0; }
.details { columns: 2; column-gap: 28px; margin-block-end: 16px; }
.control { break-inside: avoid; padding-block: 9px; border-block-end: 1px solid var(--line); }
.control h3 { margin-block-start: 0; }
.control p { margin-block-end: 4px; max-inline-size: none; }
.control p { font-size: 12px; line-height: 17px; }
.control .soft { font-size: 11px; line-height: 15.5px; }
dl.words { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 6px 20px; }
dl.words dt { font-weight: 600; }
dl.words dd { color: var(--ink-2); max-inline-size: 46em; }
footer { margin-block-start: 40px; padding-block-start: 10px; border-block-start: 1px solid var(--line); color: var(--ink-3); font-size: 11px; display: flex; justify-content: space-between; gap: 16px; }
nav h2 { font-size: 13px; line-height: 19px; letter-spacing: 0; margin-block: 20px 6px; }
nav ol { columns: 2; list-style: none; padding: 0; }
nav li { break-inside: avoid; padding-inline-start: 1.8em; text-indent: -1.8em; }
nav .n { display: inline-block; min-inline-size: 1.8em; text-indent: 0; color: var(--ink-3); }
nav a { color: inherit; text-decoration: none; }
@media (max-width: 640px) {
  dl.facts { grid-template-columns: max-content minmax(0, 1fr); }
  .figures { grid-template-columns: 1fr 1fr; }
  .scroll { overflow-x: auto; }
  nav ol, .details { columns: 1; }
}
@media print {
  body { font-size: 9.25pt; line-height: 13.5pt; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  main { max-inline-size: none; padding: 0; }
  h1 { font-size: 22pt; line-height: 26pt; margin-block: 16mm 3mm; }
  h2 { font-size: 13pt; line-height: 17pt; margin-block: 9mm 2.5mm; }
  h3, nav h2 { font-size: 9.25pt; line-height: 13.5pt; }
  nav h2 { margin-block: 6mm 2mm; }
  .lead { font-size: 11.5pt; line-height: 17pt; }
  table { font-size: 8.25pt; line-height: 11.75pt; }
  td small, th small, li small { font-size: 7.5pt; line-height: 10.5pt; }
  .control p { font-size: 8.25pt; line-height: 11.5pt; }
  .control .soft { font-size: 7.5pt; line-height: 10.25pt; }
  .figures b { font-size: 17pt; line-height: 21pt; }
  thead { display: table-header-group; break-after: avoid; }
  tbody tr:first-child { break-before: avoid; }
  tfoot { display: table-row-group; }
  tr, .note, .figures, figure, section.keep { break-inside: avoid; }
  section.cover { min-block-size: 225mm; }
  section.page, section.cover + section { break-before: page; }
  section.page > h2:first-child, section.cover + section > h2 { margin-block-start: 0; }
  a { color: inherit; text-decoration: none; }
  footer { display: none; }
}
`;

/** A style that is ours to the last letter: nothing of what a report is about stands in it. */
const style = (css: string): Markup => new Markup(`<style>${css}</style>`);

export const STYLE: Markup = style(CSS);

/** Page size is left to the printer, A4 or Letter; the running foot says what paper this is. */
export function pageStyle(foot: string): Markup {
  // In a CSS string a quote, a backslash and a line end mean something; the foot is made of digits, letters and dots.
  const text = foot.replace(/[^A-Za-z0-9 .,:/+=–·-]/gu, '');
  const small = 'font: 7.5pt sans-serif; color: #676e69;';
  return style(
    `@page { margin: 16mm 17mm 17mm; @bottom-left { content: "${text}"; ${small} } @bottom-right { content: counter(page) " / " counter(pages); ${small} } }`,
  );
}

/** What a content security policy names a style by. */
export function styleHash({ text }: Markup): string {
  const css = text.slice(text.indexOf('>') + 1, text.lastIndexOf('</style>'));
  return `'sha256-${toBase64(sha256(new TextEncoder().encode(css)))}'`;
}

export const GLYPHS: Markup = html`<svg width="0" height="0" aria-hidden="true" class="sr">
  <symbol id="logo" viewBox="0 0 20 20">
    <rect width="20" height="20" rx="5" fill="#191d1b" />
    <path
      d="M5.5 6.25h9M5.5 11.5l2.75 2.75 6.25-5"
      fill="none"
      stroke="#fff"
      stroke-width="2"
      stroke-linecap="round"
      stroke-linejoin="round"
    />
  </symbol>
  <symbol id="critical" viewBox="0 0 16 16">
    <path
      fill-rule="evenodd"
      d="M5.3 1.5h5.4l3.8 3.8v5.4l-3.8 3.8H5.3l-3.8-3.8V5.3zM7.1 4.25h1.8l-.25 4.9h-1.3zM8 10.1a1 1 0 1 0 0 2 1 1 0 0 0 0-2z"
    />
  </symbol>
  <symbol id="high" viewBox="0 0 16 16">
    <path d="M8.9 2.7a1 1 0 0 0-1.8 0L1.9 12.3a1 1 0 0 0 .9 1.45h10.4a1 1 0 0 0 .9-1.45z" />
  </symbol>
  <symbol id="medium" viewBox="0 0 16 16"><path d="m8 2.25 5.75 5.75L8 13.75 2.25 8z" /></symbol>
  <symbol id="low" viewBox="0 0 16 16">
    <path
      fill-rule="evenodd"
      d="M8 3.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9zm0 2a2.5 2.5 0 1 0 0 5 2.5 2.5 0 0 0 0-5z"
    />
  </symbol>
  <symbol id="info" viewBox="0 0 16 16"><circle cx="8" cy="8" r="2.5" /></symbol>
  <symbol id="satisfied" viewBox="0 0 16 16">
    <circle cx="8" cy="8" r="6" />
    <path d="m5.25 8.25 2 2 3.5-4" />
  </symbol>
  <symbol id="not-satisfied" viewBox="0 0 16 16">
    <circle cx="8" cy="8" r="6" />
    <path d="m5.75 5.75 4.5 4.5m0-4.5-4.5 4.5" />
  </symbol>
  <symbol id="not-assessed" viewBox="0 0 16 16">
    <circle cx="8" cy="8" r="6" stroke-dasharray="2.1 2.61" />
    <path d="M6.25 6.5a1.8 1.8 0 1 1 2.6 1.6c-.6.3-.85.6-.85 1.15M8 11.25h.01" />
  </symbol>
</svg>`;

const glyph = (id: string, solid: boolean): Markup =>
  html`<svg class="icon${solid && ' solid'}" aria-hidden="true"><use href="#${id}" /></svg>`;

const OUTCOME_TEXT: Readonly<Record<string, string>> = {
  satisfied: 'satisfied',
  'not-satisfied': 'not satisfied',
  'not-assessed': 'not assessed',
};
export const outcomeMark = (outcome: string): Markup =>
  html`<span class="out ${outcome}">${glyph(outcome, false)}${OUTCOME_TEXT[outcome]}</span>`;

export const severityMark = (severity: string | null): Markup =>
  severity === null
    ? html`<span class="quiet">–</span>`
    : html`<span class="sev ${severity}">${glyph(severity, true)}${severity}</span>`;

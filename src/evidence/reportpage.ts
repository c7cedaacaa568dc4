/** What the sections of the printed report share: what they are about, and tables in pieces. */
import type { Framework } from '#src/policy/controls.ts';
import type { Assessment, Results } from './controls.ts';
import type { ReportFold } from './reportfold.ts';
import { counted, html, type Markup, type Part } from './reportmarkup.ts';

export type Page = {
  readonly assessment: Assessment;
  readonly results: Results;
  readonly fold: ReportFold;
  readonly frameworks: readonly Framework[];
  readonly fingerprint: string;
};

/** A table in pieces: heads repeat on every sheet of paper. */
export function* table(
  caption: string,
  heads: readonly (readonly [text: string, class_?: string])[],
  rows: Iterable<Markup>,
  after: Part = null,
): Iterable<Markup> {
  yield html`<div class="scroll">
    <table>
      <caption class="sr">
        ${caption}
      </caption>
      <thead>
        <tr>
          ${heads.map(([text, name]) => html`<th scope="col" class="${name ?? ''}">${text}</th>`)}
        </tr>
      </thead>
      <tbody>
   `;
  for (const row of rows) yield row;
  yield html`</tbody></table></div>
${after}`;
}

export const beyondText = (beyond: number, file: string): Markup | false =>
  beyond > 0 && html`<p class="quiet">${counted(beyond, 'more line')}, in <code>${file}</code>.</p> `;

export const DASH = html`<span class="quiet">–</span>`;

/** Two texts line by line: what went, what came, with a few lines around and the numbers of both. Signs say it without colour. */
import { DIFF_SIGNS, diffLines, hunkHead, hunksOf, type DiffLine, type Hunk } from '#src/drift/linediff.ts';
import { DIFF_LINES_SHOWN } from '#src/limits.ts';
import { html, type Html } from '../html.ts';
import { count, plural } from '../words.ts';

/** Undefined where nothing differs. */
export function lineDiffHtml(before: string, after: string, caption: string): Html | undefined {
  const hunks = hunksOf(diffLines(before, after));
  return hunks.length === 0 ? undefined : hunksHtml(hunks, caption);
}

/** As a table in a region that scrolls; beyond DIFF_LINES_SHOWN lines it is said how many more there are. */
export function hunksHtml(hunks: readonly Hunk[], caption: string): Html {
  const rows: Html[] = [];
  let left = 0;
  for (const hunk of hunks) {
    if (rows.length >= DIFF_LINES_SHOWN) {
      left += hunk.lines.length;
      continue;
    }
    rows.push(
      html`<tr class="hunk">
        <td colspan="2"></td>
        <td>${hunkHead(hunk)}</td>
      </tr>`,
    );
    const room = DIFF_LINES_SHOWN - rows.length;
    rows.push(...hunk.lines.slice(0, room).map(lineHtml));
    left += Math.max(0, hunk.lines.length - room);
  }
  return html`<div class="scroll" tabindex="0" role="region" aria-label="${caption}">
      <table class="diff">
        <caption class="sr">
          ${caption}
        </caption>
        <tbody>
          ${rows}
        </tbody>
      </table>
    </div>
    ${left > 0 && html`<p class="pad quiet">${plural(left, 'more line')}: the API has all.</p>`}`;
}

function lineHtml({ kind, text, was, is, open }: DiffLine): Html {
  const number = (line: number): Html | false => line > 0 && html`${line}`;
  // White space in the last cell is content: nothing but this may stand in it.
  const end = open === true && html`<span class="quiet"> (no line break at the end)</span>`;
  const told = html`${DIFF_SIGNS[kind]}${text}${end}`;
  return html`<tr class="${kind === 'same' ? '' : kind}">
    <td>${number(was)}</td>
    <td>${number(is)}</td>
    <td>${told}</td>
  </tr>`;
}

/** `+3 −1`: lines that came and went. */
export function changesText(hunks: readonly Hunk[]): string {
  const of = (kind: DiffLine['kind']): number =>
    hunks.reduce((sum, { lines }) => sum + lines.filter((line) => line.kind === kind).length, 0);
  return `+${count(of('add'))} −${count(of('del'))}`;
}

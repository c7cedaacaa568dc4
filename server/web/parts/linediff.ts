/** Two texts line by line: what went, what came, with a few lines around. For policies, which people write. */
import { html, type Html } from '../html.ts';
import { count } from '../words.ts';

export type Line = {
  readonly kind: 'same' | 'del' | 'add';
  readonly text: string;
  readonly was: number;
  readonly is: number;
};

/** Beyond this many lines that differ the middle is told as gone and come: a table of all pairs would be large. */
const PAIRS_MAX = 4_000_000;
const AROUND = 3;

export function linesOf(before: string, after: string): readonly Line[] {
  const [a, b] = [splitLines(before), splitLines(after)];
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a.at(-1 - tail) === b.at(-1 - tail)) tail++;
  const same = (text: string, was: number, is: number): Line => ({ kind: 'same', text, was, is });
  const middle = between(a.slice(head, a.length - tail), b.slice(head, b.length - tail), head);
  return [
    ...a.slice(0, head).map((text, at) => same(text, at + 1, at + 1)),
    ...middle,
    ...a.slice(a.length - tail).map((text, at) => same(text, a.length - tail + at + 1, b.length - tail + at + 1)),
  ];
}

const splitLines = (text: string): string[] => (text === '' ? [] : text.replace(/\n$/, '').split('\n'));

/** The longest common run of lines, by the table of all pairs. */
function between(a: readonly string[], b: readonly string[], head: number): Line[] {
  const del = (at: number): Line => ({ kind: 'del', text: a[at]!, was: head + at + 1, is: 0 });
  const add = (at: number): Line => ({ kind: 'add', text: b[at]!, was: 0, is: head + at + 1 });
  if (a.length * b.length > PAIRS_MAX) return [...a.map((_, at) => del(at)), ...b.map((_, at) => add(at))];
  const width = b.length + 1;
  const common = new Uint32Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      common[i * width + j] =
        a[i] === b[j]
          ? common[(i + 1) * width + j + 1]! + 1
          : Math.max(common[(i + 1) * width + j]!, common[i * width + j + 1]!);
  const out: Line[] = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      out.push({ kind: 'same', text: a[i]!, was: head + i + 1, is: head + j + 1 });
      i++;
      j++;
    } else if (j >= b.length || (i < a.length && common[(i + 1) * width + j]! >= common[i * width + j + 1]!))
      out.push(del(i++));
    else out.push(add(j++));
  }
  return out;
}

const SIGNS = { same: ' ', del: '-', add: '+' } as const;

/** Undefined where nothing differs. */
export function lineDiffHtml(before: string, after: string, caption: string): Html | undefined {
  const lines = linesOf(before, after);
  const near = new Set(
    lines.flatMap(({ kind }, at) =>
      kind === 'same' ? [] : Array.from({ length: 2 * AROUND + 1 }, (_, k) => at - AROUND + k),
    ),
  );
  if (near.size === 0) return undefined;
  const rows: Html[] = [];
  let left = 0;
  for (const [at, line] of lines.entries()) {
    if (!near.has(at)) {
      left++;
      continue;
    }
    if (left > 0)
      rows.push(
        html`<tr class="hunk">
          <td></td>
          <td>${count(left)} ${left === 1 ? 'line' : 'lines'} the same</td>
        </tr>`,
      );
    left = 0;
    rows.push(
      html`<tr class="${line.kind === 'same' ? '' : line.kind}">
        <td>${line.kind === 'del' ? line.was : line.is}</td>
        <td>${SIGNS[line.kind]}${line.text}</td>
      </tr>`,
    );
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
  </div>`;
}

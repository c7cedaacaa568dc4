/** The period day by day, as SVG without script or style attributes: what opened, what ended, who was silent. */
import { html, number, type Markup } from './reportmarkup.ts';
import type { Bins } from './reportfold.ts';

const WIDTH = 780;
const LEFT = 34;
const DAY_MS = 86_400_000;
const HALF = 62;

/** Two rows of bars over one axis of days: differences above (opened up, ended down), hosts with a gap below. */
export function timeline(bins: Bins): Markup {
  const count = bins.opened.length;
  const step = (WIDTH - LEFT) / count;
  const width = Math.max(1, Math.min(step * 0.72, 12));
  const x = (index: number) => round(LEFT + index * step + (step - width) / 2);
  const most = Math.max(1, ...bins.opened, ...bins.ended);
  const silent = Math.max(1, ...bins.gaps);
  const bar = (name: string, index: number, value: number, max: number, base: number, up: boolean, room: number) => {
    // A single one among thousands must still be seen.
    const height = value === 0 ? 0 : Math.max(1.5, (value / max) * room);
    return (
      value > 0 &&
      html`<rect
        class="${name}"
        x="${x(index).toString()}"
        y="${round(up ? base - height : base).toString()}"
        width="${round(width).toString()}"
        height="${round(height).toString()}"
      />`
    );
  };
  const middle = 14 + HALF;
  const lower = middle + HALF + 40;
  const bottom = lower + 16;
  const at = (index: number) => new Date(bins.from + index * bins.days * DAY_MS).toISOString();
  const labels = ticks(count, bins);
  const sum = (all: Float64Array) => all.reduce((a, b) => a + b, 0);
  const unit = bins.days === 1 ? 'day' : `${bins.days} days`;
  return html`<svg
      class="chart"
      viewBox="0 0 ${String(WIDTH)} ${String(bottom)}"
      role="img"
      aria-label="Findings each ${unit}: ${number(sum(bins.opened))} opened, ${number(sum(bins.ended))} ended. At most ${number(Math.max(0, ...bins.gaps))} hosts within a gap."
    >
      ${labels.map((index) => html`<line class="tick" x1="${String(x(index))}" x2="${String(x(index))}" y1="8" y2="${String(lower)}" /><text x="${String(x(index))}" y="${String(bottom - 2)}">${at(index).slice(8, 10).replace(/^0/, '')} ${MONTH[Number(at(index).slice(5, 7)) - 1]}</text>`)}
      <text x="0" y="18">${number(most)}</text>

      ${[...bins.opened].map((value, i) => bar('opened', i, value, most, middle, true, HALF))}
      ${[...bins.ended].map((value, i) => bar('ended', i, value, most, middle, false, HALF))}
      <line class="base" x1="${String(LEFT)}" x2="${String(WIDTH)}" y1="${String(middle)}" y2="${String(middle)}" />
      <text x="0" y="${String(lower - 24)}">${number(silent)}</text>
      ${[...bins.gaps].map((value, i) => bar('gaps', i, value, silent, lower, true, 30))}
      <line class="base" x1="${String(LEFT)}" x2="${String(WIDTH)}" y1="${String(lower)}" y2="${String(lower)}" />
    </svg>
    <div class="key">
      <span
        ><svg viewBox="0 0 10 10" class="chart" aria-hidden="true"><rect class="opened" width="10" height="10" /></svg
        >opened</span
      ><span
        ><svg viewBox="0 0 10 10" class="chart" aria-hidden="true"><rect class="ended" width="10" height="10" /></svg
        >ended</span
      ><span
        ><svg viewBox="0 0 10 10" class="chart" aria-hidden="true"><rect class="gaps" width="10" height="10" /></svg
        >hosts within a gap</span
      ><span class="quiet">a bar is ${unit}</span>
    </div>`;
}

const MONTH = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const round = (value: number): number => Math.round(value * 100) / 100;

/** Firsts of months, or some seven steps where the period is short or they would crowd. */
function ticks(count: number, bins: Bins): number[] {
  const firsts = Array.from({ length: count }, (_, i) => i).filter(
    (i) => new Date(bins.from + i * bins.days * DAY_MS).getUTCDate() <= bins.days,
  );
  if (firsts.length >= 3 && firsts.length <= 13) return firsts;
  const step = Math.max(1, Math.ceil(count / 7));
  return Array.from({ length: Math.ceil(count / step) }, (_, i) => i * step);
}

/** Charts as SVG from the server, lengths in per cent: no script, no inline style, one hue each (design, section 8). */
import { html, type Html } from '../html.ts';
import { count } from '../words.ts';

const percent = (part: number): string => `${Math.round(part * 10_000) / 100}%`;

export type Part = {
  readonly word: string;
  readonly count: number;
  readonly href: string;
};

/** So much of the bar at least, so that one host among thousands is seen and can be hit. */
const LEAST = 0.009;

/** One bar whose parts are links; parts with nothing in them are left out. `unsigned` is hatched and `silent` striped: colour alone tells nobody. */
export function stripHtml(parts: readonly Part[], label: string): Html {
  const some = parts.filter(({ count }) => count > 0);
  const total = some.reduce((sum, part) => sum + part.count, 0);
  const raw = some.map((part) => Math.max(part.count / total, LEAST));
  const sum = raw.reduce((all, one) => all + one, 0);
  let x = 0;
  return html`<svg class="strip" height="14" role="group" aria-label="${label}">
    <defs>
      <pattern
        id="hatch"
        class="unsigned"
        width="5"
        height="5"
        patternUnits="userSpaceOnUse"
        patternTransform="rotate(45)"
      >
        <path d="M1 0v5" />
      </pattern>
      <pattern id="dots" class="silent" width="5" height="5" patternUnits="userSpaceOnUse"><path d="M1 0v5" /></pattern>
    </defs>
    ${some.map((part, at) => {
      const width = raw[at]! / sum;
      const from = x;
      x += width;
      const look = part.word === 'unsigned' ? 'hatch' : part.word === 'silent' ? 'dots' : part.word;
      return html`<a href="${part.href}" aria-label="${count(part.count)} ${part.word}"
        ><rect class="${look}" x="${percent(from)}" width="${percent(width)}" height="14"></rect
      ></a>`;
    })}
  </svg>`;
}

/** A thin bar: how much of a whole. */
export function barHtml(part: number, whole: number): Html {
  const share = whole === 0 ? 0 : Math.min(1, part / whole);
  return html`<svg class="bar" height="6" aria-hidden="true">
    <rect class="track" width="100%" height="6" rx="3"></rect>
    <rect width="${percent(share === 0 ? 0 : Math.max(share, 0.02))}" height="6" rx="3"></rect>
  </svg>`;
}

/** Columns over a base line, one for each value, with a few words beneath. `label` says in a sentence what one sees. */
export function columnsHtml(
  values: readonly number[],
  {
    label,
    top,
    ticks,
    kind,
  }: {
    readonly label: string;
    /** What the highest column stands for: `40 hosts`. */
    readonly top: string;
    /** Words beneath, each at a column. */
    readonly ticks: readonly { readonly at: number; readonly word: string }[];
    /** A verdict: the hue. */
    readonly kind: string;
  },
): Html {
  const most = Math.max(1, ...values);
  const step = 1 / Math.max(1, values.length);
  const height = 64;
  return html`<svg class="chart" height="94" role="img" aria-label="${label}">
    <line x1="0" x2="100%" y1="72.5" y2="72.5"></line>
    <line class="faint" x1="0" x2="100%" y1="8.5" y2="8.5"></line>
    <g class="${kind}">
      ${values.map((value, at) => {
        const tall = value === 0 ? 0 : Math.max(2, (value / most) * height);
        return (
          tall > 0 &&
          html`<rect
            x="${percent(at * step + step * 0.1)}"
            y="${Math.round((72 - tall) * 10) / 10}"
            width="${percent(step * 0.8)}"
            height="${Math.round(tall * 10) / 10}"
            rx="1.5"
          ></rect>`
        );
      })}
    </g>
    ${ticks.map(({ at, word }) => html`<text x="${percent(at * step + step * 0.1)}" y="90">${word}</text>`)}
    <text x="0" y="22">${top}</text>
  </svg>`;
}

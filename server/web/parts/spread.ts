/** Over how many hosts a change spread, and when: counted back from how many show it now, along what the store noted by the minute. */
import type { Instant } from '#src/clock.ts';
import type { GroupChange } from '#server/store/records.ts';
import { html, type Html } from '../html.ts';
import { count, dayOf, plural } from '../words.ts';
import { columnsHtml } from './charts.ts';

const COLUMNS = 28;
const HOUR = 3_600_000;
/** Steps that people read times in. */
const STEPS = [
  HOUR / 4,
  HOUR / 2,
  HOUR,
  2 * HOUR,
  4 * HOUR,
  6 * HOUR,
  12 * HOUR,
  24 * HOUR,
  48 * HOUR,
  168 * HOUR,
  720 * HOUR,
] as const;

export type Spread = { readonly step: number; readonly from: Instant; readonly values: readonly number[] };

/** `changes`: newest first; `present`: hosts that show it now; `whole`: whether they reach back to its beginning. Undefined where nothing moved. */
export function spreadOf(changes: readonly GroupChange[], present: number, now: Instant): Spread | undefined {
  const oldest = changes.at(-1)?.at;
  if (oldest === undefined) return undefined;
  const step = STEPS.find((one) => now - oldest < one * (COLUMNS - 3)) ?? STEPS.at(-1)!;
  const last = Math.floor(now / step);
  const first = last - COLUMNS + 1;
  const values: number[] = [];
  let hosts = present;
  let at = 0;
  for (let column = last; column >= first; column--) {
    values.unshift(hosts);
    for (; at < changes.length && changes[at]!.at >= column * step; at++)
      hosts += changes[at]!.kind === 'resolved' ? changes[at]!.hosts : -changes[at]!.hosts;
    hosts = Math.max(0, hosts);
  }
  return { step, from: first * step, values };
}

const EACH = new Map<number, string>([
  [HOUR / 4, 'each quarter of an hour'],
  [HOUR / 2, 'each half hour'],
  [HOUR, 'each hour'],
  [24 * HOUR, 'each day'],
  [168 * HOUR, 'each week'],
  [720 * HOUR, 'each month'],
]);

export function spreadSheet(spread: Spread): Html {
  const { step, from, values } = spread;
  const most = Math.max(...values);
  const began = values.findIndex((n) => n > 0);
  const word = (column: number): string => {
    const at = from + column * step;
    return step >= 24 * HOUR ? dayOf(at).replace(/ [0-9]{4}$/, '') : new Date(at).toISOString().slice(11, 16);
  };
  // From the newest backwards: what happened last has its time.
  const ticks = values.flatMap((_, at) => ((values.length - 1 - at) % 4 === 0 ? [{ at, word: word(at) }] : []));
  const label = `From ${plural(Math.max(0, values[began - 1] ?? 0), 'host')} before ${word(Math.max(0, began))} to ${plural(values.at(-1)!, 'host')} now, ${plural(most, 'host')} at most`;
  return html`<section class="sheet">
    <header>
      <h2>Spread</h2>
      <span class="quiet">hosts that show it, ${EACH.get(step) ?? `each ${count(step / HOUR)} hours`}</span>
    </header>
    <div class="pad">${columnsHtml(values, { label, top: plural(most, 'host'), ticks, kind: 'drifted' })}</div>
  </section>`;
}

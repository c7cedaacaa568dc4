/**
 * When a host was heard in a period, out of what the log keeps of its reports (docs/evidence.md 3.2): each full report, and of each day the last
 * `same`. What lies between two of them is told by their numbers.
 */
import type { Instant } from '#src/clock.ts';
import type { HostInScope } from '#src/evidence/facts.ts';

export type Heard = { readonly at: Instant; readonly seq: number };
type Span = { readonly from: Instant; readonly to: Instant };

export type CheckInsAbout = {
  /** The part of the period in which it was enrolled. */
  readonly span: Span;
  readonly period: Span;
  readonly intervalMs: number;
  /** For so long policy allows it to be quiet. */
  readonly silentMs: number;
  /** The newest report before the period. */
  readonly before: Heard | undefined;
  /** Those of the period, by when they came. */
  readonly heard: readonly Heard[];
  /** The first after it. */
  readonly after: Heard | undefined;
  /** Numbers that never came. */
  readonly missing: readonly { readonly from: number; readonly to: number }[];
  /** When it was told silent, and until when. */
  readonly silences: readonly Span[];
};

export type CheckIns = Pick<HostInScope, 'checkIns'> & { readonly gaps: readonly Span[] };

const DAY_MS = 86_400_000;
const GAPS_MAX = 10_000;

export function checkInsOf(about: CheckInsAbout): CheckIns {
  const { span, intervalMs } = about;
  const gaps = gapsOf(about);
  const longest = Math.max(
    0,
    ...gaps.map(({ from, to }) => to - from),
    ...stretchesOf(about).map(({ longestMs }) => longestMs),
  );
  return {
    checkIns: {
      expected: Math.floor(Math.max(0, span.to - span.from) / intervalMs),
      received: receivedOf(about),
      longestSeconds: Math.floor(longest / 1000),
    },
    gaps: gaps.slice(0, GAPS_MAX),
  };
}

/** By its numbers: how far they rose, without those that never came. */
function receivedOf({ before, heard, missing }: CheckInsAbout): number {
  if (heard.length === 0) return 0;
  const highest = heard.reduce((most, { seq }) => Math.max(most, seq), 0);
  const base = before?.seq ?? 0;
  const lost = missing.reduce(
    (sum, { from, to }) => sum + Math.max(0, Math.min(to, highest) - Math.max(from, base + 1) + 1),
    0,
  );
  return Math.max(0, highest - base - lost);
}

type Stretch = Span & {
  /** Nothing came within it, by the numbers of the reports at its ends. */
  readonly empty: boolean;
  /** The longest time without a report in it, as far as that is known: where some came that are not kept, no less than this. */
  readonly longestMs: number;
};

/** From each report that is known to the next, and from the begin of the period to its end. */
function stretchesOf({ span, before, heard, after }: CheckInsAbout): Stretch[] {
  if (span.from >= span.to) return [];
  const inside = heard.filter(({ at }) => at >= span.from && at < span.to);
  const all = [before, ...inside, after].filter((one) => one !== undefined).toSorted((a, b) => a.at - b.at);
  const out: Stretch[] = [];
  const add = (left: Heard | undefined, right: Heard | undefined): void => {
    const from = Math.max(span.from, left?.at ?? span.from);
    const to = Math.min(span.to, right?.at ?? span.to);
    if (from >= to) return;
    const between = right === undefined ? 0 : Math.max(0, right.seq - (left?.seq ?? 0) - 1);
    const whole = (right?.at ?? span.to) - (left?.at ?? span.from);
    out.push({ from, to, empty: between === 0, longestMs: Math.min(to - from, whole / (between + 1)) });
  };
  for (const [i, one] of all.entries()) if (i > 0) add(all[i - 1], one);
  if (before === undefined) add(undefined, all[0]);
  if (after === undefined && all.length > 0) add(all.at(-1), undefined);
  return out;
}

function gapsOf(about: CheckInsAbout): Span[] {
  const { span, silentMs, silences } = about;
  const stretches = stretchesOf(about);
  const found: Span[] = [
    ...silences.map(({ from, to }) => clipped({ from, to }, span)),
    ...stretches.filter(({ empty, from, to }) => empty && to - from > silentMs),
  ];
  // A whole day without a report is longer than is asked for, where more than one was due.
  if (about.intervalMs <= DAY_MS / 2) found.push(...quietDays(about, stretches));
  return merged(found.filter(({ from, to }) => from < to).map(({ from, to }) => ({ from, to })));
}

/** Days of the period, from its first moment on, in which nothing came. */
function quietDays({ span, period, heard }: CheckInsAbout, stretches: readonly Stretch[]): Span[] {
  const days = new Set(heard.map(({ at }) => Math.floor((at - period.from) / DAY_MS)));
  const out: Span[] = [];
  const first = Math.ceil((span.from - period.from) / DAY_MS);
  for (let day = first; period.from + (day + 1) * DAY_MS <= span.to; day++) {
    if (days.has(day)) continue;
    const begin = period.from + day * DAY_MS;
    const around = stretches.find(({ from, to }) => from <= begin && to >= begin + DAY_MS);
    out.push(around ?? { from: begin, to: begin + DAY_MS });
  }
  return out;
}

const clipped = ({ from, to }: Span, span: Span): Span => ({
  from: Math.max(from, span.from),
  to: Math.min(to, span.to),
});

function merged(spans: readonly Span[]): Span[] {
  const out: { from: Instant; to: Instant }[] = [];
  for (const { from, to } of spans.toSorted((a, b) => a.from - b.from)) {
    const last = out.at(-1);
    if (last !== undefined && from <= last.to) last.to = Math.max(last.to, to);
    else out.push({ from, to });
  }
  return out;
}

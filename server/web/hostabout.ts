/** What the tabs of a host share: what they are made from, and how they tell since when. */
import type { Instant } from '#src/clock.ts';
import type { Examined } from '#server/ingest/judge.ts';
import type { View } from '#server/standing.ts';
import type { FindingWithGroup, Host } from '#server/store/records.ts';
import { html, type Html } from './html.ts';
import { dayOf, momentHtml } from './words.ts';

/** What every tab is made from. */
export type About = {
  readonly host: Host;
  readonly view: View;
  readonly now: Instant;
  readonly examined: Examined | undefined;
  /** Present ones, worst first; at most `FINDINGS_MAX`. */
  readonly findings: readonly FindingWithGroup[];
  readonly query: URLSearchParams;
};

/** `18 Nov`; with its year where that is not this one. */
function plausibleDay(at: Instant, now: Instant): string {
  const day = dayOf(at);
  return day.endsWith(` ${new Date(now).getUTCFullYear()}`) ? day.slice(0, -5) : day;
}

/** `18 Nov`, or with its time where that is news. */
export function sinceHtml(at: Instant, now: Instant): Html {
  if (now - at < 2 * 86_400_000) return momentHtml(at);
  return html`<time datetime="${new Date(at).toISOString()}" title="${dayOf(at)}">${plausibleDay(at, now)}</time>`;
}

/** `/waivers?tab=period`: which waivers had an effect at some time of a period, as known now or at a moment (docs/posture.md 4). */
import type { Instant } from '#src/clock.ts';
import type { Principal } from '#server/access/principal.ts';
import { waiversOfPeriod, type ShownWaiver } from '#server/decisions/waiverreads.ts';
import { effectOf } from '#server/posturefacts.ts';
import { commandHtml, html, icon, type Html } from './html.ts';
import { presetHtml } from './imagehosts.ts';
import {
  momentFrom,
  momentHtml,
  momentInput,
  periodFrom,
  periodHtml,
  periodText,
  quartersTo,
  type Period,
} from './parts/moment.ts';
import type { Wrongs } from './parts/form.ts';
import { emptyHtml } from './parts/page.ts';
import { addressWith } from './parts/table.ts';
import { subjectHtml, whereText } from './parts/waiver.ts';
import type { WebServices } from './services.ts';
import { KIND_WORDS } from './waiverform.ts';
import { dayHtml, plural, severityHtml, timeHtml } from './words.ts';

const PAGE = 50;
const QUARTERS = 5;

export type OfPeriod = { readonly title: string; readonly text: Html; readonly body: Html; readonly isWrong: boolean };

/** The tab's heading and list; this quarter where the address names no days. */
export async function waiversInPeriod(
  asked: URLSearchParams,
  who: Principal,
  services: WebServices,
): Promise<OfPeriod> {
  const now = services.clock();
  const query = new URLSearchParams(asked);
  const quarters = quartersTo(now, QUARTERS);
  if (!query.has('from') && !query.has('to')) {
    query.set('from', quarters[0]!.first);
    query.set('to', quarters[0]!.last);
  }
  const { period, wrong } = periodFrom(query, { from: 0, to: now + 1 });
  const faults = new Map(wrong);
  const knownText = (query.get('known') ?? '').trim();
  const known = knownText === '' ? now : momentFrom(knownText);
  if (known === undefined) faults.set('known', 'Day and time, such as 2026-10-05T18:00; it is taken as UTC.');
  else if (known - now >= 1000) faults.set('known', `That lies in the future; it is ${momentInput(now)} now.`);
  const after = /^[1-9][0-9]{0,14}$/.exec(query.get('after') ?? '')?.[0];
  const isWrong = faults.size > 0 || known === undefined;
  const page = isWrong
    ? { items: [], next: null }
    : await waiversOfPeriod(
        period,
        Math.min(known, now),
        { cursor: after === undefined ? null : { n: Number(after) }, limit: PAGE },
        who,
        services,
      );
  const n = page.items.length;
  const shown = after !== undefined || page.next !== null ? `More than ${plural(n, 'waiver')}` : plural(n, 'waiver');
  const quarter = quarters.find(({ first, last }) => first === period.first && last === period.last);
  const when = quarter === undefined ? periodText(period) : `in ${quarter.word}`;
  const title = isWrong
    ? 'Which days did you mean?'
    : n === 0
      ? `No waiver was in force ${when}`
      : `${shown} ${n === 1 && after === undefined ? 'was' : 'were'} in force ${when}`;
  const text = html`${knownText === '' || known === undefined ? 'As known now' : html`As known at ${timeHtml(known)}`}:
  approved, and not over, at some time of these days. What was revoked later counts up to when it was revoked.`;
  const body = html`${filterForm(query, period, knownText, faults)}
    <nav class="chips presets" aria-label="Quarters">
      ${quarters.map(({ word, first, last }) => presetHtml(addressWith('/waivers', query, { tab: 'period', from: first, to: last }), word, word === quarter?.word))}
    </nav>
    <section class="sheet">
      ${
        n === 0
          ? after === undefined
            ? emptyHtml(
                'Nothing was excepted',
                knownText === ''
                  ? 'No waiver that you may read had an effect in these days.'
                  : 'No waiver that you may read had an effect in these days, as it was known at that moment.',
                html`<a class="btn" href="/waivers?tab=all">All waivers</a>`,
              )
            : emptyHtml('No more waivers', 'The list ends here.')
          : table(page.items, period, now)
      }
      ${
        (after !== undefined || page.next !== null) &&
        html`<footer>
          <span>${plural(n, 'waiver')} on this page</span>
          <span class="acts"
            >${after !== undefined && html`<a class="link" href="${addressWith('/waivers', query, {})}">First page</a>`}${page.next !== null && html`<a class="link" rel="next" href="${addressWith('/waivers', query, {})}&after=${page.next.n}">Next page</a>`}</span
          >
        </footer>`
      }
    </section>
    ${!isWrong && commandHtml(commandOf(period, knownText === '' ? undefined : known, now))}`;
  return { title, text, body, isWrong };
}

/** The command's end is not included, and not in the future. */
function commandOf({ from, to }: Period, known: Instant | undefined, now: Instant): string {
  const zoned = (at: Instant): string => (at % 86_400_000 === 0 ? momentInput(at).slice(0, 10) : `${momentInput(at)}Z`);
  const end = to > now ? '' : ` --active-to ${zoned(to)}`;
  return `bootproof waivers --active-from ${zoned(from)}${end}${known === undefined ? '' : ` --known ${zoned(known)}`}`;
}

function filterForm(query: URLSearchParams, period: Period, known: string, wrong: Wrongs): Html {
  return html`<form class="toolbar sieve period" role="search" aria-label="Period" method="get" action="/waivers">
    <input type="hidden" name="tab" value="period" />
    ${periodHtml(period, wrong)} ${momentHtml({ name: 'known', label: 'As known at (empty: now)', wrong }, known)}
    <button class="btn" type="submit">Show this period</button>
    ${query.size > 3 && html`<a class="btn bare" href="/waivers?tab=period">${icon('x')}This quarter</a>`}
  </form>`;
}

function table(waivers: readonly ShownWaiver[], period: Period, now: Instant): Html {
  return html`<table class="list">
    <caption class="sr">
      Waivers that were in force in the period, newest first
    </caption>
    <thead>
      <tr>
        <th>Waiver</th>
        <th class="p3">Up to</th>
        <th class="p4">Asked by</th>
        <th class="p2">Approved by</th>
        <th class="p2">In force from</th>
        <th class="num">Until</th>
      </tr>
    </thead>
    <tbody>
      ${waivers.map((waiver) => {
        const { id, kind, ceiling, selector, requestedBy, decidedBy, alone, decision } = waiver;
        const effect = effectOf(waiver)!;
        const ended = decision === 'revoked' ? 'revoked' : effect.until <= now ? 'expired' : undefined;
        return html`<tr>
          <td class="main">
            <div class="two">
              <span
                ><a class="go" href="/waivers/${id}"
                  ><span class="mono quiet">${id}</span> ${subjectHtml(waiver)}</a
                ></span
              >
              <span
                >${effect.from <= period.from && effect.until >= period.to && html`<span class="tag">all of it</span> `}${KIND_WORDS[kind]}
                · ${whereText(selector)}</span
              >
            </div>
          </td>
          <td class="p3">${severityHtml(ceiling)}</td>
          <td class="p4 soft nowrap">${requestedBy}</td>
          <td class="p2 soft nowrap">
            ${decidedBy ?? html`<span class="quiet">–</span>`}${alone && html` <span class="tag loud late">alone</span>`}
          </td>
          <td class="p2 soft nowrap">${dayHtml(effect.from)}</td>
          <td class="num soft nowrap day">
            ${dayHtml(effect.until - 1)}${ended !== undefined && html` <span class="tag">${ended}</span>`}
          </td>
        </tr>`;
      })}
    </tbody>
  </table>`;
}

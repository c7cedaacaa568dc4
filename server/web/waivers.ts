/** `/waivers`: exceptions that end: those to decide first, then what holds and what ends soon (docs/findings.md, section 3). */
import type { Context, Hono } from 'hono';
import type { Instant } from '#src/clock.ts';
import { stateOf, type Waiver, type WaiverState } from '#src/finding/waiver.ts';
import type { Principal } from '#server/access/principal.ts';
import { EXPIRING_MS, hygieneOf } from '#server/decisions/waiverhygiene.ts';
import { countWaivers, listWaivers, useOf } from '#server/decisions/waiverreads.ts';
import { KIND_WORDS } from './waiverform.ts';
import { html, type Html } from './html.ts';
import { show } from './layout.ts';
import { extensions } from './parts/counts.ts';
import { emptyHtml, headHtml } from './parts/page.ts';
import { footHtml } from './parts/table.ts';
import { stateHtml, subjectHtml, whereText } from './parts/waiver.ts';
import type { Env, WebServices } from './services.ts';
import { waiverPage, waiverActs } from './waiver.ts';
import { waiversInPeriod } from './waiversperiod.ts';
import { agoHtml, count, dayHtml, plural, severityGlyph, severityHtml, span } from './words.ts';

const PAGE = 50;
/** Of today, each with its number. */
const TABS = ['decide', 'active', 'expiring', 'expired', 'all'] as const;
type Tab = (typeof TABS)[number];
const WORDS: Readonly<Record<Tab, string>> = {
  decide: 'To decide',
  active: 'Active',
  expiring: 'Expiring',
  expired: 'Expired',
  all: 'All',
};
const STATES: Readonly<Record<Tab, readonly WaiverState[] | undefined>> = {
  decide: ['requested'],
  active: ['active', 'approved'],
  expiring: ['active'],
  expired: ['expired'],
  all: undefined,
};

export function waiverPages(web: Hono<Env>, services: WebServices): void {
  web.get('/waivers', (c) => listPage(c, services));
  web.get('/waivers/:id', (c) => waiverPage(c, services));
  waiverActs(web, services);
}

async function listPage(c: Context<Env>, services: WebServices): Promise<Response> {
  const now = services.clock();
  const who = c.get('principal');
  const isOfPeriod = c.req.query('tab') === 'period';
  const tab = TABS.find((one) => one === c.req.query('tab')) ?? 'decide';
  const after = /^[1-9][0-9]{0,14}$/.test(c.req.query('after') ?? '') ? Number(c.req.query('after')) : null;
  const states = STATES[tab];
  const filter = {
    now,
    ...(states === undefined ? {} : { states }),
    ...(tab === 'expiring' ? { expiringBefore: now + EXPIRING_MS } : {}),
  };
  const [list, counts, extended] = await Promise.all([
    isOfPeriod
      ? { items: [], next: null }
      : listWaivers(filter, { cursor: after === null ? null : { n: after }, limit: PAGE }, who, services),
    countWaivers(now, now + EXPIRING_MS, who, services),
    extensions(services, who, now),
  ]);
  const { expiring, ...byState } = counts;
  const numbers: Readonly<Record<Tab, number>> = {
    decide: counts.requested + extended.length,
    active: counts.active + counts.approved,
    expiring,
    expired: counts.expired,
    all: Object.values(byState).reduce((sum, n) => sum + n, 0),
  };
  if (isOfPeriod) {
    const of = await waiversInPeriod(new URL(c.req.url).searchParams, who, services);
    const body = html`${headHtml({ title: of.title, text: of.text })} ${tabsHtml('period', numbers)}
      <div class="stack tabbed">${of.body}</div>`;
    return show(c, services, { title: 'Waivers', section: '/waivers', now, body }, of.isWrong ? 422 : 200);
  }
  // Extensions stand first: what they extend ends by itself meanwhile.
  const waivers = tab === 'decide' && after === null ? [...extended, ...list.items] : list.items;
  const ids = waivers.map(({ id }) => id);
  const use = await useOf(ids, who, services);
  const body = html`${headHtml({ title: headline(tab, numbers), text: TEXTS[tab] })} ${tabsHtml(tab, numbers)}
    <div class="stack tabbed">
      <section class="sheet">
        ${
          waivers.length === 0
            ? emptyFor(tab)
            : html`${table(waivers, use, now)}
              ${footHtml({
                shown: waivers.length,
                of: { count: numbers[tab], exact: true },
                one: 'waiver',
                first: after === null ? null : `/waivers?tab=${tab}`,
                next: list.next === null ? null : `/waivers?tab=${tab}&after=${list.next.n}`,
              })}`
        }
      </section>
      ${(tab === 'active' || tab === 'expiring') && (await hygieneSheet(services, who, now))}
    </div>`;
  return show(c, services, { title: 'Waivers', section: '/waivers', now, body });
}

function tabsHtml(current: Tab | 'period', numbers: Readonly<Record<Tab, number>>): Html {
  return html`<nav class="tabs" aria-label="State">
    ${TABS.map(
      (one) =>
        html`<a href="/waivers?tab=${one}" ${one === current && html` aria-current="page"`}
          >${WORDS[one]} <span class="count">${count(numbers[one])}</span></a
        >`,
    )}
    <a href="/waivers?tab=period" ${current === 'period' && html` aria-current="page"`}>In a period</a>
  </nav>`;
}

function headline(tab: Tab, numbers: Readonly<Record<Tab, number>>): string {
  const n = numbers[tab];
  const waivers = plural(n, 'waiver');
  switch (tab) {
    case 'decide':
      return n === 0 ? 'No waiver waits for a decision' : `${waivers} ${n === 1 ? 'waits' : 'wait'} for a decision`;
    case 'active':
      return n === 0 ? 'Nothing is waived' : `${waivers} ${n === 1 ? 'is' : 'are'} in force`;
    case 'expiring':
      return n === 0 ? 'No waiver ends within 14 days' : `${waivers} ${n === 1 ? 'ends' : 'end'} within 14 days`;
    case 'expired':
      return n === 0 ? 'No waiver has ended by itself' : `${waivers} ended by ${n === 1 ? 'itself' : 'themselves'}`;
    case 'all':
      return n === 0 ? 'Nobody has asked for a waiver yet' : `${waivers} since the beginning`;
  }
}

const TEXTS: Readonly<Record<Tab, string>> = {
  decide: 'Another person than the one who asked approves or rejects. Until then nothing is waived.',
  active: 'Each covers what it names until its day, then what it covered is open again.',
  expiring: 'What they cover is open again on that day, unless somebody asks for more time and another approves.',
  expired: 'What they covered is open again wherever it is still present.',
  all: 'Also those that were rejected, withdrawn or revoked.',
};

function emptyFor(tab: Tab): Html {
  return tab === 'decide' || tab === 'all' || tab === 'active'
    ? emptyHtml(
        'Nothing here',
        'A waiver is asked for on the page of a change: what differs, why that is fine, and until when.',
        html`<a class="btn" href="/findings">Open changes</a>`,
      )
    : emptyHtml(
        'Nothing here',
        tab === 'expiring' ? 'All that are in force hold longer than 14 days.' : 'No waiver has come to its day yet.',
      );
}

type Use = ReadonlyMap<string, { readonly findings: number; readonly hosts: number }>;

function table(waivers: readonly Waiver[], use: Use, now: Instant): Html {
  return html`<table class="list">
    <caption class="sr">
      Waivers, newest first
    </caption>
    <thead>
      <tr>
        <th>Waiver</th>
        <th class="p3">Up to</th>
        <th class="p2">State</th>
        <th class="p2 num">Covers</th>
        <th class="p4">Asked by</th>
        <th class="num">Ends</th>
      </tr>
    </thead>
    <tbody>
      ${waivers.map((waiver) => {
        const { id, kind, title, ceiling, selector, expiresAt, requestedBy, extension } = waiver;
        const state = stateOf(waiver, now);
        const covers = use.get(id) ?? { findings: 0, hosts: 0 };
        return html`<tr>
          <td class="main">
            <div class="two">
              <span
                ><span class="only-small">${severityGlyph(ceiling)}</span
                ><a class="go" href="/waivers/${id}"
                  ><span class="mono quiet">${id}</span> ${subjectHtml(waiver)}</a
                ></span
              >
              <span
                >${extension !== null && html`<span class="tag loud new">more time asked for</span> `}${title} ·
                ${KIND_WORDS[kind]} · ${whereText(selector)}</span
              >
            </div>
          </td>
          <td class="p3">${severityHtml(ceiling)}</td>
          <td class="p2">${stateHtml(state)}</td>
          <td class="p2 num nowrap">
            ${covers.findings === 0 ? html`<span class="quiet">–</span>` : html`<a class="over" href="/findings?tab=waived&q=waiver:${id}">${plural(covers.findings, 'finding')}</a>`}
          </td>
          <td class="p4 soft nowrap">${requestedBy}</td>
          <td class="num soft nowrap day">
            ${state === 'active' ? html`<span title="in ${span(Math.max(0, Math.floor((expiresAt - now) / 1000)))}">${dayHtml(expiresAt - 1)}</span>` : dayHtml(expiresAt - 1)}
          </td>
        </tr>`;
      })}
    </tbody>
  </table>`;
}

/** What nobody needs, and what two cover: to be tidied up before an auditor asks. */
async function hygieneSheet(services: WebServices, who: Principal, now: Instant): Promise<Html | undefined> {
  const { unused, overlaps } = await hygieneOf(who, services);
  if (unused.length + overlaps.length === 0) return undefined;
  return html`<section class="sheet">
    <header><h2>To tidy up</h2></header>
    <div class="pad">
      <ul class="rows">
        ${unused.map(
          ({ waiver, since }) =>
            html`<li>
              <span class="grow"
                ><a class="link" href="/waivers/${waiver.id}">${waiver.id}</a> matches nothing: ${waiver.title}</span
              ><span class="quiet nowrap">since ${agoHtml(since, now)}</span>
            </li>`,
        )}
        ${overlaps.map(
          ({ a, b, groups }) =>
            html`<li>
              <span class="grow"
                ><a class="link" href="/waivers/${a}">${a}</a> and <a class="link" href="/waivers/${b}">${b}</a> cover
                the same</span
              ><span class="quiet nowrap">${plural(groups, 'change')}</span>
            </li>`,
        )}
      </ul>
    </div>
  </section>`;
}

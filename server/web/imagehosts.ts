/** `/images/DIGEST/hosts`: every host that ran an image at some time of a period, with its stays on it (docs/posture.md 2). */
import type { Context, Hono } from 'hono';
import type { Instant } from '#src/clock.ts';
import { imageFor } from '#server/decisions/images.ts';
import type { HostOnImage } from '#server/store/posturerecords.ts';
import { namesOf } from './hostfilter.ts';
import { nameOf } from './home.ts';
import { commandHtml, html, icon, type Html, type Part } from './html.ts';
import { missingPage, show } from './layout.ts';
import { periodFrom, periodHtml, periodText, quartersTo, type Period } from './parts/moment.ts';
import type { Wrongs } from './parts/form.ts';
import { emptyHtml, headHtml } from './parts/page.ts';
import { addressWith } from './parts/table.ts';
import { postureHref } from './posture.ts';
import type { Env, WebServices } from './services.ts';
import { agoHtml, dayOf, momentHtml, plural, timeHtml } from './words.ts';

const PAGE = 50;
const QUARTERS = 3;
/** Stays of one host that its row names; the host's page has all. */
const STAYS_SHOWN = 3;

export function imageHostsPage(web: Hono<Env>, services: WebServices): void {
  web.get('/images/:digest/hosts', (c) => page(c, services));
}

async function page(c: Context<Env>, services: WebServices): Promise<Response> {
  const { store, clock } = services;
  const found = await imageFor(c.get('principal'), c.req.param('digest')!, store);
  if (found === undefined) return missingPage(c, services);
  const now = clock();
  const { image } = found;
  const query = new URL(c.req.url).searchParams;
  const { period, wrong } = periodFrom(query, { from: 0, to: now + 1 });
  const after = /^h_[a-z2-7]{26}$/.exec(query.get('after') ?? '')?.[0];
  const path = `/images/${encodeURIComponent(image.digest)}/hosts`;
  const list =
    wrong.size > 0
      ? { items: [], next: null }
      : await store.postures.hostsOn(
          await namesOf(image.digest, store),
          { from: period.from, to: period.to, scope: c.get('principal').groups },
          { cursor: after === undefined ? null : { id: after }, limit: PAGE },
        );
  const name = `${nameOf(image)} ${image.version ?? ''}`.trim();
  const isFiltered = period.first !== '' || period.last !== '';
  const when = isFiltered ? `, ${periodText(period)}` : '';
  const n = list.items.length;
  const body = html`${headHtml({
      crumbs: [
        ['Images', '/images'],
        [nameOf(image), `/images/${encodeURIComponent(image.digest)}`],
        ['Hosts over time'],
      ],
      title:
        wrong.size > 0
          ? 'Which days did you mean?'
          : n === 0
            ? `No host ran ${name}${when}`
            : `${after !== undefined || list.next !== null ? `More than ${plural(n, 'host')}` : plural(n, 'host')} ran ${name}${when}`,
      text: 'As their reports told it, those that are retired since too. A stay lasts until the host was last heard before it ran another image.',
    })}
    ${filterForm(path, query, period, wrong, now)}
    <section class="sheet">
      ${n === 0 ? nothing(path, isFiltered, after !== undefined) : table(list.items, period, now)}
      ${
        (after !== undefined || list.next !== null) &&
        html`<footer>
          <span>${plural(n, 'host')} on this page</span>
          <span class="acts"
            >${after !== undefined && html`<a class="link" href="${addressWith(path, query, {})}">First page</a>`}${list.next !== null && html`<a class="link" rel="next" href="${addressWith(path, query, {})}${isFiltered ? '&' : '?'}after=${list.next.id}">Next page</a>`}</span
          >
        </footer>`
      }
    </section>
    <div class="form under">${commandHtml(commandOf(image.digest, period))}</div>`;
  return show(
    c,
    services,
    { title: `Hosts that ran ${name}`, section: '/images', now, body },
    wrong.size > 0 ? 422 : 200,
  );
}

/** The command's end is not included. */
function commandOf(digest: string, { from, to, first, last }: Period): string {
  const day = (at: Instant): string => new Date(at).toISOString().slice(0, 10);
  return `bootproof images hosts ${digest}${first === '' ? '' : ` --from ${day(from)}`}${last === '' ? '' : ` --to ${day(to)}`}`;
}

function filterForm(path: string, query: URLSearchParams, period: Period, wrong: Wrongs, now: Instant): Html {
  return html`<form class="toolbar sieve period" role="search" aria-label="Period" method="get" action="${path}">
      ${periodHtml(period, wrong)}
      <button class="btn" type="submit">Show this period</button>
      ${(period.first !== '' || period.last !== '') && html`<a class="btn bare" href="${path}">${icon('x')}Any time</a>`}
    </form>
    <nav class="chips presets" aria-label="Periods">
      ${quartersTo(now, QUARTERS).map(({ word, first, last }) =>
        presetHtml(
          addressWith(path, query, { from: first, to: last }),
          word,
          period.first === first && period.last === last,
        ),
      )}
    </nav>`;
}

/** A period to choose; the one that is shown says so. */
export function presetHtml(href: string, word: string, isOn: boolean): Html {
  return html`<a class="chip${isOn && ' on'}" href="${href}" ${isOn && html` aria-current="true"`}>${word}</a> `;
}

function nothing(path: string, isFiltered: boolean, isLater: boolean): Html {
  if (isLater)
    return emptyHtml('No more hosts', 'The list ends here.', html`<a class="btn" href="${path}">First page</a>`);
  return isFiltered
    ? emptyHtml(
        'Nobody ran it then',
        'No report of these days shows a host of yours on this image.',
        html`<a class="btn" href="${path}">Any time</a>`,
      )
    : emptyHtml('Nobody ran it yet', 'Once a host of yours boots it, its first report of it stands here.');
}

function table(hosts: readonly HostOnImage[], period: Period, now: Instant): Html {
  return html`<table class="list">
    <caption class="sr">
      Hosts that ran the image
    </caption>
    <thead>
      <tr>
        <th>Host</th>
        <th class="p3">Group</th>
        <th>Ran it from</th>
        <th>To</th>
        <th class="p2 num">Last heard</th>
      </tr>
    </thead>
    <tbody>
      ${hosts.map((host) => row(host, period, now))}
    </tbody>
  </table>`;
}

function row({ id, name, group, state, stays, heardAt }: HostOnImage, { to }: Period, now: Instant): Html {
  const all = stays.toSorted((a, b) => a.from - b.from);
  const [first, last] = [all[0], all.at(-1)];
  // As it stood on it: at the end of the period or of the stay, whichever comes first.
  const moment = Math.max(last?.from ?? 0, Math.min(last?.to ?? now, to - 1, now));
  const until = (stay: typeof last): Part =>
    stay === undefined
      ? html`<span class="quiet">–</span>`
      : stay.to !== null
        ? momentHtml(stay.to)
        : state === 'retired'
          ? html`<span title="it was retired while it ran it"
              >${heardAt === null ? 'retired' : momentHtml(heardAt)}</span
            >`
          : html`<span class="tag">runs it</span>`;
  return html`<tr>
    <td class="main">
      <div class="two">
        <span
          ><a class="go" href="${postureHref(id, moment)}" title="How ${name} stood on it">${name}</a
          >${state !== 'active' && html` <span class="tag loud late">${state === 'pending' ? 'waits for approval' : 'retired'}</span>`}</span
        >
        <span
          >${all.length > 1 ? html`${plural(all.length, 'stay')}: ${staysText(all, now)}` : html`how it stood on it, ${timeHtml(moment)}`}</span
        >
      </div>
    </td>
    <td class="p3 soft"><span class="clip tags">${group ?? html`<span class="quiet">–</span>`}</span></td>
    <td class="nowrap soft">
      ${first === undefined ? '' : html`<span title="${first.seq === null ? 'known before stays were noted' : `report ${first.seq}`}">${momentHtml(first.from)}</span>`}
    </td>
    <td class="nowrap soft">${until(last)}</td>
    <td class="p2 num soft nowrap">${agoHtml(heardAt, now)}</td>
  </tr>`;
}

function staysText(stays: HostOnImage['stays'], now: Instant): string {
  const told = stays
    .slice(0, STAYS_SHOWN)
    .map(({ from, to }) => `${dayOf(from)} to ${to === null ? dayOf(now) : dayOf(to)}`);
  return `${told.join('; ')}${stays.length > STAYS_SHOWN ? ' …' : ''}`;
}

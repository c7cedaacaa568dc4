/** `/hosts`: every host in a line, those first that need attention; what waits for a person on top. */
import type { Context, Hono } from 'hono';
import type { Instant } from '#src/clock.ts';
import { isFleetWide } from '#server/access/principal.ts';
import { viewOf, type View } from '#server/standing.ts';
import type { Count, Host } from '#server/store/records.ts';
import type { HostCursor } from '#server/store/store.ts';
import {
  cursorFrom,
  cursorText,
  filterOf,
  imagesNamed,
  readAsked,
  type Asked,
  type Named,
  type Seen,
} from './hostfilter.ts';
import { toolbar } from './hosttoolbar.ts';
import { commandHtml, digestHtml, html, icon, type Html } from './html.ts';
import { COUNTED_MAX, show } from './layout.ts';
import { emptyHtml, firstRunHtml, headHtml, noticeHtml } from './parts/page.ts';
import { addressWith, footHtml } from './parts/table.ts';
import type { Env, WebServices } from './services.ts';
import { agoHtml, bounded, capital, count, plural, severitiesHtml, verdictHtml, whenHtml } from './words.ts';

const PAGE = 50;
/** Hosts that wait for approval and are named above the list. */
const PENDING_SHOWN = 5;
export function hostsPage(web: Hono<Env>, services: WebServices): void {
  web.get('/hosts', (c) => page(c, services));
}

async function page(c: Context<Env>, services: WebServices): Promise<Response> {
  const { store, clock, baseUrl } = services;
  const now = clock();
  const query = new URL(c.req.url).searchParams;
  const asked = readAsked(query);
  const sort = asked.words.sort ?? 'attention';
  const scope = c.get('principal').groups;
  const enrols = isFleetWide(c.get('principal'), 'admin');
  const filter = await filterOf(asked.words, { now, scope }, store);
  const [list, total, verdicts, pending, waiting] = await Promise.all([
    store.read.hosts(filter, sort, { limit: PAGE, cursor: cursorFrom(query.get('after') ?? undefined, sort) }),
    store.read.countHosts(filter, COUNTED_MAX),
    store.read.verdicts(now, scope),
    store.read.hosts({ now, scope, states: ['pending'] }, 'name', { limit: PENDING_SHOWN, cursor: null }),
    store.read.countHosts({ now, scope, states: ['pending'] }, COUNTED_MAX),
  ]);
  const counts = new Map(verdicts.map(({ verdict, count }) => [verdict, count]));
  const all = [...counts.values()].reduce((sum, n) => sum + n, 0);
  if (all === 0 && total.count === 0 && asked.words.state === undefined) {
    const make = enrols ? html`<a class="btn first" href="/settings/enrol">Make an enrolment token</a>` : html``;
    return show(c, services, { title: 'Hosts', section: '/hosts', now, body: firstRunHtml(baseUrl(), make) });
  }
  const inTime = await store.read.countHosts({ now, scope, freshness: 'current' }, COUNTED_MAX);
  const body = html`${noticeOf(query)}
  ${headHtml({
    title: plural(all, 'host'),
    text: html`${bad(counts)} <a href="/hosts?freshness=current">${bounded(inTime)}</a> reported within
      ${inTime.count === 1 ? 'its' : 'their'} own interval.`,
    acts: enrols ? html`<a class="btn first" href="/settings/enrol">Enrol hosts</a>` : undefined,
  })}
  ${waiting.count > 0 && pendingSheet(pending.items, waiting, now, baseUrl())} ${tabs(counts, all, asked, query)}
  ${await toolbar(asked, query, list.items, services, { now, scope })}
  ${
    list.items.length === 0
      ? html`<section class="sheet">${await nothing(asked, query, services, { now, scope })}</section>`
      : table(list.items, {
          now,
          sort,
          query,
          total,
          next: list.next,
          assessed: services.basis.setup !== null,
          named: await imagesNamed(
            list.items.map(({ images }) => images.booted),
            store,
          ),
        })
  }`;
  return show(c, services, { title: 'Hosts', section: '/hosts', now, body });
}

/** What was done just now, by the address that the act led to: its words are ours, only the number is in it. */
function noticeOf(query: URLSearchParams): Html | undefined {
  const n = Number(query.get('n') ?? '1');
  const hosts = Number.isSafeInteger(n) && n >= 0 ? plural(n, 'host') : 'The hosts';
  switch (query.get('did')) {
    case 'approved':
      return noticeHtml(
        `${hosts} approved. The next report is taken; whoever held the machine’s identity before is retired.`,
      );
    case 'retired':
      return noticeHtml(
        `${hosts} retired. Open findings were closed, and reports are refused from now on; what was seen stays.`,
      );
    case 'moved':
      return noticeHtml(`${hosts} moved, and judged anew under the policy of the group.`);
    case 'labelled':
      return noticeHtml(`${hosts} labelled, and judged anew.`);
    default:
      return undefined;
  }
}

function bad(counts: ReadonlyMap<string, number>): string {
  const n = ['drifted', 'unsigned', 'unverifiable', 'silent'].reduce((sum, word) => sum + (counts.get(word) ?? 0), 0);
  return n === 0 ? 'None needs a look.' : `${count(n)} ${n === 1 ? 'needs' : 'need'} a look.`;
}

/** Nobody looks for what waits: it stands above everything else, with the way to let it in. */
function pendingSheet(hosts: readonly Host[], total: Count, now: Instant, baseUrl: string): Html {
  const more = total.count - hosts.length;
  return html`<section class="sheet waits" aria-labelledby="waiting">
    <header>
      <h2 id="waiting">
        ${icon('clock')} ${total.count === 1 ? 'One host waits' : `${bounded(total)} hosts wait`} for your approval
      </h2>
      <a class="link" href="/hosts?state=pending">${more > 0 ? `All ${bounded(total)}` : 'As a list'}</a>
    </header>
    <div class="pad">
      <p>
        Another key already speaks for the machine that each of them says it is: it was installed anew, or somebody
        copied it. Reports are kept back until a person decides. Approving retires the host that holds the identity now.
      </p>
      <ul class="rows">
        ${hosts.map(
          (host) =>
            html`<li>
              <span class="grow"
                ><a class="link" href="/hosts/${host.id}"><strong>${host.name}</strong></a>
                <span class="quiet">asked ${whenHtml(host.createdAt, now)}</span></span
              >
              ${commandHtml(`bootproof hosts approve ${host.id} --server ${baseUrl}`)}
              <a class="btn named" href="/hosts/${host.id}/approve">Approve ${host.name}</a>
            </li>`,
        )}
      </ul>
    </div>
  </section>`;
}

function tabs(counts: ReadonlyMap<string, number>, all: number, { words }: Asked, query: URLSearchParams): Html {
  const order = ['drifted', 'unsigned', 'unverifiable', 'silent', 'new', 'compliant'] as const;
  const current = words.verdict;
  // Tabs are the whole fleet by verdict: their numbers stand for the list without any other word.
  const here = words.state === undefined;
  return html`<nav class="tabs" aria-label="Verdict">
    <a
      href="${addressWith('/hosts', keepSort(query), {})}"
      ${current === undefined && here && html` aria-current="page"`}
      >All <span class="count">${count(all)}</span></a
    >
    ${order.map(
      (word) =>
        html`<a
          href="${addressWith('/hosts', keepSort(query), { verdict: word })}"
          ${current === word && html` aria-current="page"`}
          ><span class="verdict ${word}">${icon(`v-${word}`)}${capital(word)}</span>
          <span class="count">${count(counts.get(word) ?? 0)}</span></a
        >`,
    )}
  </nav>`;
}

function keepSort(query: URLSearchParams): URLSearchParams {
  const sort = query.get('sort');
  return new URLSearchParams(sort === null ? {} : { sort });
}

/** Which one word is in the way, with what there would be without it. */
async function nothing(asked: Asked, query: URLSearchParams, { store }: WebServices, of: Seen): Promise<Html> {
  for (const name of [
    'name',
    'label',
    'group',
    'freshness',
    'image',
    'staged',
    'rollback',
    'verdict',
    'state',
  ] as const) {
    if (asked.words[name] === undefined) continue;
    const { [name]: _, ...rest } = asked.words;
    const without = await store.read.countHosts(await filterOf(rest, of, store), COUNTED_MAX);
    if (without.count === 0) continue;
    return emptyHtml(
      'No host matches',
      html`Without <strong>${name}:${asked.words[name]}</strong> there ${without.count === 1 ? 'is' : 'are'}
        ${bounded(without)}.`,
      html`<a class="btn" href="${addressWith('/hosts', query, { [name]: null })}"
        >Drop ${name}:${asked.words[name]}</a
      >`,
    );
  }
  return emptyHtml(
    'No host matches',
    'Nor does any match one of these words alone.',
    html`<a class="btn" href="/hosts">All hosts</a>`,
  );
}

type Shown = {
  readonly now: Instant;
  readonly sort: HostCursor['sort'];
  readonly query: URLSearchParams;
  readonly total: Count;
  readonly next: HostCursor | null;
  readonly named: ReadonlyMap<string, Named>;
  /** Somebody is asked who signed images. */
  readonly assessed: boolean;
};

function table(hosts: readonly Host[], { now, sort, query, total, next, named, assessed }: Shown): Html {
  const head = (word: string, by: HostCursor['sort'], direction: 'ascending' | 'descending', of = '') =>
    html`<th class="${of}" ${sort === by && html` aria-sort="${direction}"`}>
      <a href="${addressWith('/hosts', query, { sort: by === 'attention' ? null : by })}"
        >${word}${sort === by && icon('sortd')}</a
      >
    </th>`;
  return html`<form method="post" action="/hosts/many">
    <div class="sheet">
      <table class="list">
        <caption class="sr">
          Hosts, ${sort === 'name' ? 'by name' : 'those first that need attention'}
        </caption>
        <thead>
          <tr>
            <th class="pick">
              <input type="checkbox" hidden aria-label="Select all that are shown" /><span class="sr">Select</span>
            </th>
            ${head('Host', 'name', 'ascending')} ${head('Verdict', 'attention', 'descending')}
            <th class="p3 num">Since</th>
            <th class="p2">Booted image</th>
            <th class="p3">Digest</th>
            ${assessed && html`<th class="p4">Signed by</th>`}
            <th class="p4">Others</th>
            <th class="p4">Group and labels</th>
            <th class="num">Findings</th>
            <th class="p2 num">Report</th>
          </tr>
        </thead>
        <tbody>
          ${hosts.map((host) => row(host, viewOf(host, now), { named, now, assessed }))}
        </tbody>
      </table>
      ${footHtml({
        shown: hosts.length,
        of: total,
        one: 'host',
        first: query.get('after') === null ? null : addressWith('/hosts', query, {}),
        next:
          next === null
            ? null
            : `${addressWith('/hosts', query, { after: null })}${query.size > (query.has('after') ? 1 : 0) ? '&' : '?'}after=${encodeURIComponent(cursorText(next))}`,
      })}
    </div>
    <div class="bulk" role="region" aria-label="Act on the selected hosts">
      <span data-selected data-one="host" data-many="hosts">Hosts are selected</span>
      <span class="acts">
        <button class="btn" name="action" value="label" type="submit">Label</button>
        <button class="btn" name="action" value="group" type="submit">Move to a group</button>
        <button class="btn" name="action" value="retire" type="submit">Retire</button>
      </span>
    </div>
  </form>`;
}

/** `0 open, 2 acknowledged`: what is acknowledged weighs as before, so a drifted host tells it. Waived is told with the verdict. */
function findingsHtml({ open, acknowledged }: Host['counters']): Html {
  const none = open.every((n) => n === 0);
  if (acknowledged === 0) return none ? html`<span class="quiet">0</span>` : severitiesHtml(open);
  const also = `${count(acknowledged)} acknowledged`;
  return none
    ? html`<span class="quiet">0 open, ${also}</span>`
    : html`${severitiesHtml(open)} <span class="quiet">${also}</span>`;
}

function row(host: Host, view: View, { named, now, assessed }: Pick<Shown, 'named' | 'now' | 'assessed'>): Html {
  const { booted, staged, rollback } = host.images;
  const image = booted === null ? undefined : named.get(booted);
  const others = [...(staged === null ? [] : ['1 staged']), ...(rollback === null ? [] : ['1 back'])].join(', ');
  const labels = Object.entries(host.labels);
  const open = host.counters.open.reduce((sum, n) => sum + n, 0);
  return html`<tr>
    <td class="pick">
      <input
        type="checkbox"
        class="over"
        name="host"
        value="${host.id}"
        aria-label="Select ${host.name}"
        data-findings="${open}"
      />
    </td>
    <td class="name">
      <span class="clip" title="${host.name}"><a class="go" href="/hosts/${host.id}">${host.name}</a></span
      >${host.state !== 'active' && html` <span class="tag loud late">${host.state === 'pending' ? 'waits for approval' : 'retired'}</span>`}
    </td>
    <td title="${view.sentence}">${verdictHtml(view.verdict, waivedNote(view))}</td>
    <td class="p3 num soft nowrap">${agoHtml(view.since, now)}</td>
    <td class="main p2">
      <span class="clip"
        >${image === undefined ? html`<span class="quiet">${booted === null ? '–' : 'unknown'}</span>` : html`${image.place} <span class="soft">${image.version ?? ''}</span>`}</span
      >
    </td>
    <td class="p3">${booted === null ? html`<span class="quiet">–</span>` : digestHtml(booted)}</td>
    ${assessed && html`<td class="p4 soft"><span class="clip narrowest">${signedBy(view)}</span></td>`}
    <td class="p4 soft nowrap">${others === '' ? html`<span class="quiet">none</span>` : others}</td>
    <td class="p4">
      <span
        class="clip tags"
        title="${[host.group ?? '', ...labels.map(([key, value]) => `${key}=${value}`)].join(' ').trim()}"
        >${host.group !== null && html`<span class="soft">${host.group}</span> `}${labels.map(([key, value]) => html`<span class="tag">${key}=${value}</span> `)}${host.group === null && labels.length === 0 && html`<span class="quiet">–</span>`}</span
      >
    </td>
    <td class="num nowrap tallies">${findingsHtml(host.counters)}</td>
    <td class="p2 num soft nowrap">${agoHtml(host.last?.receivedAt, now)}</td>
  </tr>`;
}

/** In a word or two; the whole is on the image's page. */
export function signedBy({ provenance }: Pick<View, 'provenance'>): Html {
  switch (provenance.state) {
    case 'trusted':
      return html`<span title="${provenance.by}">${shortSigner(provenance.by)}</span>`;
    case 'unsigned':
      return html`nobody`;
    case 'rejected':
      return html`<span title="${provenance.why}">somebody else</span>`;
    case 'unverifiable':
      return html`<span title="${provenance.why}">not known</span>`;
    case 'not-assessed':
      return html`<span class="quiet">not assessed</span>`;
  }
}

/** Of an identity its own words: a workflow without its host, a key by the start of its fingerprint. */
function shortSigner(by: string): string {
  const key = /^key sha256:([0-9a-f]{12})/.exec(by);
  if (key !== null) return `key ${key[1]}`;
  return by.replace(/^https:\/\/[^/]+\//, '').split(/[ @,]/)[0]!;
}

/** What was waived stands with the word, always. */
export function waivedNote({ integrity, verdict }: View): string | undefined {
  return verdict === 'compliant' && integrity.waived > 0 ? `(${count(integrity.waived)} waived)` : undefined;
}

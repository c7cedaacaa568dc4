/** `/hosts`: every host with its three answers, those first that need attention. */
import type { Context } from 'hono';
import { VERDICTS } from '#src/finding/verdict.ts';
import { viewOf, type View } from '#server/standing.ts';
import type { Host } from '#server/store/records.ts';
import type { HostCursor, HostFilter } from '#server/store/store.ts';
import { digestHtml, html, type Html } from './html.ts';
import { show } from './layout.ts';
import type { Env, WebServices } from './services.ts';
import { agoHtml, besideVerdict, count, plural, severitiesHtml, verdictHtml } from './words.ts';

const PAGE = 50;
const COUNTED_MAX = 10_000;

export async function hostsPage(c: Context<Env>, services: WebServices): Promise<Response> {
  const { store, clock, baseUrl } = services;
  const now = clock();
  const asked = c.req.query('verdict');
  const verdict = VERDICTS.find((word) => word === asked);
  const name = c.req.query('name') ?? '';
  const filter: HostFilter = {
    now,
    ...(verdict === undefined ? {} : { verdicts: [verdict] }),
    ...(name === '' ? {} : { namePrefix: name }),
  };
  const [list, total, verdicts] = await Promise.all([
    store.read.hosts(filter, 'attention', { limit: PAGE, cursor: cursorOf(c.req.query('after')) }),
    store.read.countHosts(filter, COUNTED_MAX),
    store.read.verdicts(now),
  ]);
  const counts = new Map(verdicts.map(({ verdict, count }) => [verdict, count]));
  const all = [...counts.values()].reduce((sum, n) => sum + n, 0);
  const body = html`<div class="head">
      <h1>${all === 0 ? 'No host has enrolled yet' : headline(counts, all)}</h1>
      <p>
        ${all === 0 ? 'A host appears here when it is enrolled, and is judged with its first report.' : `${count(counts.get('compliant') ?? 0)} of ${count(all)} are the image that they booted, as far as policy allows.`}
      </p>
    </div>
    ${all === 0 ? firstRun(baseUrl()) : html`${tabs(counts, all, verdict)} ${search(verdict, name)} ${table(list.items, now, total, nextLink(list.next, verdict, name))}`}`;
  return show(c, services, { title: 'Hosts', section: '/hosts', now, body });
}

function headline(counts: ReadonlyMap<string, number>, all: number): string {
  const bad = (['drifted', 'unsigned', 'unverifiable', 'silent'] as const).reduce(
    (sum, word) => sum + (counts.get(word) ?? 0),
    0,
  );
  if (bad === 0) return `${plural(all, 'host')}, and none needs a look`;
  return `${plural(bad, 'host')} of ${count(all)} ${bad === 1 ? 'needs' : 'need'} a look`;
}

function tabs(counts: ReadonlyMap<string, number>, all: number, current: string | undefined): Html {
  const order = ['drifted', 'unsigned', 'unverifiable', 'silent', 'new', 'compliant'];
  return html`<nav class="tabs" aria-label="Verdict">
    <a href="/hosts" ${current === undefined && html` aria-current="page"`}
      >All <span class="count">${count(all)}</span></a
    >
    ${order.map((word) => html`<a href="/hosts?verdict=${word}" ${current === word && html` aria-current="page"`}>${verdictHtml(word)} <span class="count">${count(counts.get(word) ?? 0)}</span></a>`)}
  </nav>`;
}

function search(verdict: string | undefined, name: string): Html {
  return html`<form class="toolbar" role="search" aria-label="Hosts" method="get" action="/hosts">
    ${verdict !== undefined && html`<input type="hidden" name="verdict" value="${verdict}" />`}
    <div class="query">
      <input
        name="name"
        aria-label="Beginning of the host's name"
        placeholder="Beginning of a name"
        value="${name}"
        maxlength="255"
      />
    </div>
  </form>`;
}

function table(
  hosts: readonly Host[],
  now: number,
  total: { count: number; exact: boolean },
  next: Html | undefined,
): Html {
  return html`<div class="sheet">
    <table class="list">
      <caption class="sr">
        Hosts, those first that need attention
      </caption>
      <thead>
        <tr>
          <th>Host</th>
          <th>Verdict</th>
          <th class="p2">Is it the image?</th>
          <th class="p3">Is the image ours?</th>
          <th class="p2">Did we hear?</th>
          <th class="p4">Booted image</th>
          <th class="p3 num">Findings</th>
          <th class="num">Report</th>
        </tr>
      </thead>
      <tbody>
        ${hosts.map((host) => row(host, viewOf(host, now), now))}
      </tbody>
    </table>
    ${hosts.length === 0 && html`<div class="empty"><h2>No host matches</h2></div>`}
    <footer>
      <span
        >${count(hosts.length)} of ${total.exact ? plural(total.count, 'host') : `${count(total.count)}+ hosts`}</span
      >
      ${next}
    </footer>
  </div>`;
}

function row(host: Host, view: View, now: number): Html {
  const { booted } = host.images;
  return html`<tr>
    <td class="main">
      <div class="two">
        <span
          ><a class="go" href="/hosts/${host.id}">${host.name}</a
          >${host.state !== 'active' && html` <span class="tag">${host.state}</span>`}</span
        >
        <span title="${view.sentence}">${besideVerdict(view.sentence, view.verdict)}</span>
      </div>
    </td>
    <td>${verdictHtml(view.verdict, waivedNote(view))}</td>
    <td class="p2">${verdictHtml(view.integrity.state)}</td>
    <td class="p3">${verdictHtml(view.provenance.state)}</td>
    <td class="p2">${verdictHtml(view.freshness.state)}</td>
    <td class="p4">${booted === null ? html`<span class="quiet">–</span>` : digestHtml(booted)}</td>
    <td class="p3 num nowrap tallies">${severitiesHtml(host.counters.open)}</td>
    <td class="num soft nowrap">${agoHtml(host.last?.receivedAt, now)}</td>
  </tr>`;
}

/** What was waived stands with the word, always. */
export function waivedNote({ integrity, verdict }: View): string | undefined {
  return verdict === 'compliant' && integrity.waived > 0 ? `(${count(integrity.waived)} waived)` : undefined;
}

/** A page's end, as the address keeps it: rank and id of its last host. */
function cursorOf(text: string | undefined): HostCursor | null {
  const match = /^([0-9]{1,4})\.(h_[a-z2-7]{26})$/.exec(text ?? '');
  return match === null ? null : { sort: 'attention', rank: Number(match[1]), id: match[2]! };
}

function nextLink(next: HostCursor | null, verdict: string | undefined, name: string): Html | undefined {
  if (next === null || next.sort !== 'attention') return undefined;
  const query = new URLSearchParams({
    ...(verdict === undefined ? {} : { verdict }),
    ...(name === '' ? {} : { name }),
    after: `${next.rank}.${next.id}`,
  });
  return html`<a class="link" href="/hosts?${query.toString()}">Next ${PAGE}</a>`;
}

function firstRun(baseUrl: string): Html {
  return html`<section class="sheet">
    <div class="empty">
      <h2>Two commands</h2>
      <p>Here, for a token that enrols one host:</p>
      <div class="cmd"><code>bootproof tokens create --server ${baseUrl}</code></div>
      <p>On the host, as root, with the token that it printed:</p>
      <div class="cmd">
        <code>BOOTPROOF_ENROLL_TOKEN=bp1.… /usr/lib/bootproof/bootproof agent enroll --server ${baseUrl}</code>
      </div>
    </div>
  </section>`;
}

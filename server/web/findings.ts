/** `/findings`: what policy found, the same on many hosts as one line; and where one of them is. */
import type { Context, Hono } from 'hono';
import { describe } from '#src/finding/describe.ts';
import { SEVERITIES, type JudgementKind } from '#src/policy/judgement.ts';
import type { FindingDetail } from '#server/ingest/judge.ts';
import type { FindingGroup } from '#server/store/records.ts';
import type { GroupCursor } from '#server/store/store.ts';
import { html, type Html } from './html.ts';
import { missingPage, show } from './layout.ts';
import type { Env, WebServices } from './services.ts';
import { agoHtml, count, plural, severityHtml } from './words.ts';

const PAGE = 50;
const COUNTED_MAX = 10_000;

export function findingPages(web: Hono<Env>, services: WebServices): void {
  web.get('/findings', (c) => listPage(c, services));
  web.get('/findings/:id', (c) => groupPage(c, services));
}

async function listPage(c: Context<Env>, services: WebServices): Promise<Response> {
  const { store, clock } = services;
  const now = clock();
  const [list, total] = await Promise.all([
    store.read.groups({}, 'severity', { limit: PAGE, cursor: cursorOf(c.req.query('after')) }),
    store.read.countGroups({}, COUNTED_MAX),
  ]);
  const many = total.exact ? plural(total.count, 'finding') : `${count(total.count)}+ findings`;
  const body = html`<div class="head">
      <h1>${total.count === 0 ? 'Nothing is open' : `${many} ${total.count === 1 ? 'is' : 'are'} open`}</h1>
      <p>
        ${total.count === 0 ? 'Every host that reported is its image as far as policy allows, or says why it cannot be told.' : 'The same change on many hosts is one line.'}
      </p>
    </div>
    <div class="sheet">
      ${list.items.length > 0 && table(list.items, now)}
      <footer><span>${count(list.items.length)} of ${many}</span>${list.next !== null && nextLink(list.next)}</footer>
    </div>`;
  return show(c, services, { title: 'Findings', section: '/findings', now, body });
}

function table(groups: readonly FindingGroup[], now: number): Html {
  return html`<table class="list">
    <caption class="sr">
      Open findings, worst first
    </caption>
    <thead>
      <tr>
        <th>Severity</th>
        <th>What</th>
        <th class="num">Hosts</th>
        <th class="p3 num">First seen</th>
        <th class="p3 num">Last new</th>
      </tr>
    </thead>
    <tbody>
      ${groups.map(
        (group) =>
          html`<tr>
            <td>${severityHtml(SEVERITIES[group.severity])}</td>
            <td class="main">
              <div class="two">
                <span><a class="go" href="/findings/${group.id}">${textOf(group)}</a></span
                ><span><code>${group.rule}</code></span>
              </div>
            </td>
            <td class="num">${count(group.hosts.open)}</td>
            <td class="p3 num soft nowrap">${agoHtml(group.firstSeen, now)}</td>
            <td class="p3 num soft nowrap">${agoHtml(group.lastNewAt, now)}</td>
          </tr>`,
      )}
    </tbody>
  </table>`;
}

function textOf({ kind, subject, signature }: Pick<FindingGroup, 'kind' | 'subject' | 'signature'>): string {
  return describe({ kind: kind as JudgementKind, subject, signature: String(signature) });
}

async function groupPage(c: Context<Env>, services: WebServices): Promise<Response> {
  const { store, clock } = services;
  const group = await store.findings.group(c.req.param('id')!);
  if (group === undefined) return missingPage(c, services);
  const now = clock();
  const after = c.req.query('after');
  const list = await store.read.groupHosts(group.id, {
    limit: PAGE,
    cursor: after === undefined ? null : { hostId: after },
  });
  const detail = list.items[0]?.detail as FindingDetail | undefined;
  const body = html`<div class="head">
      <nav class="crumb" aria-label="Breadcrumb">
        <a href="/findings">Findings</a><span aria-hidden="true">/</span><span>${group.rule}</span>
      </nav>
      <h1>${textOf(group)}</h1>
      <p>${severityHtml(SEVERITIES[group.severity])} ${detail?.reason}</p>
    </div>
    <div class="cols aside">
      <section class="sheet">
        <header>
          <h2>Where</h2>
          <span class="quiet">${plural(group.hosts.open, 'host')} open, ${count(group.hosts.ever)} ever</span>
        </header>
        <table class="list flat">
          <caption class="sr">
            Hosts with this finding
          </caption>
          <thead>
            <tr>
              <th>Host</th>
              <th>Status</th>
              <th class="num">Since</th>
            </tr>
          </thead>
          <tbody>
            ${list.items.map(
              ({ hostId, hostName, status, openedAt, silentAfter }) =>
                html`<tr>
                  <td class="main"><a class="go" href="/hosts/${hostId}">${hostName}</a></td>
                  <td>${now >= silentAfter ? 'stale' : status}</td>
                  <td class="num soft nowrap">${agoHtml(openedAt, now)}</td>
                </tr>`,
            )}
          </tbody>
        </table>
        ${list.next !== null && html`<footer><a class="link" href="/findings/${group.id}?after=${encodeURIComponent(list.next.hostId)}">Next ${PAGE}</a></footer>`}
      </section>
      <aside class="stack">
        <section class="sheet">
          <header><h2>About it</h2></header>
          <div class="pad">
            <dl class="facts">
              <dt>Rule</dt>
              <dd><code>${group.rule}</code></dd>
              <dt>Kind</dt>
              <dd>${group.kind}</dd>
              <dt>Subject</dt>
              <dd><code>${group.subject}</code></dd>
              <dt>Signature</dt>
              <dd><code>${String(group.signature)}</code></dd>
              <dt>Controls</dt>
              <dd>${(detail?.controls ?? []).map((control) => html`<span class="tag">${control}</span> `)}</dd>
              <dt>First seen</dt>
              <dd>${agoHtml(group.firstSeen, now)}</dd>
            </dl>
          </div>
        </section>
        ${
          detail?.change !== undefined &&
          html`<section class="sheet">
            <header><h2>On the first of these hosts</h2></header>
            <div class="pad">
              <pre class="block" tabindex="0" role="region" aria-label="The change as JSON">
${JSON.stringify(detail.change, null, 2)}</pre>
            </div>
          </section>`
        }
      </aside>
    </div>`;
  return show(c, services, { title: textOf(group), section: '/findings', now, body });
}

function cursorOf(text: string | undefined): GroupCursor | null {
  const match = /^([0-4])\.([0-9]{1,15})\.(fg_[0-9a-f]{40})$/.exec(text ?? '');
  return match === null ? null : { sort: 'severity', severity: Number(match[1]), at: Number(match[2]), id: match[3]! };
}

function nextLink(next: GroupCursor): Html | undefined {
  if (next.sort !== 'severity') return undefined;
  return html`<a class="link" href="/findings?after=${next.severity}.${next.at}.${next.id}">Next ${PAGE}</a>`;
}

/** `/hosts/ID`: a host as a sentence with its proof beneath: three answers, then one tab an address (design, section 5). */
import type { Context, Hono } from 'hono';
import type { Instant } from '#src/clock.ts';
import { isTheirs } from '#server/decisions/may.ts';
import { hasRole } from '#server/access/principal.ts';
import { mayTake } from '#server/contents.ts';
import { lastFull } from '#server/ingest/rejudge.ts';
import type { Examined } from '#server/ingest/judge.ts';
import { viewOf, type View } from '#server/standing.ts';
import type { FindingWithGroup, Host } from '#server/store/records.ts';
import { sinceHtml, type About } from './hostabout.ts';
import { findingsTab } from './hostfindings.ts';
import { treeTab } from './hosttree.ts';
import { reportsTab } from './hostreports.ts';
import { aboutSheet, deploymentsTab, historySheet, historyTab, identityTab } from './hosttabs.ts';
import { waysOf } from './hostways.ts';
import { commandHtml, html, icon, type Html, type Part } from './html.ts';
import { messagePage, missingPage, show } from './layout.ts';
import { headHtml, noticeHtml } from './parts/page.ts';
import { waysHtml } from './parts/ways.ts';
import type { Env, WebServices } from './services.ts';
import { agoHtml, answerHtml, count, listed, plural, whenHtml } from './words.ts';

/** Findings of one host that its pages look at; more is a broken host, and its list says so. */
const FINDINGS_MAX = 1000;

const TABS = [
  ['', 'Findings'],
  ['tree', 'Tree'],
  ['deployments', 'Deployments'],
  ['reports', 'Reports'],
  ['history', 'History'],
  ['identity', 'Identity'],
] as const;
type Tab = (typeof TABS)[number][0];

export function hostPages(web: Hono<Env>, services: WebServices): void {
  for (const [tab] of TABS)
    web.get(`/hosts/:id{h_[a-z2-7]{26}}${tab === '' ? '' : `/${tab}`}`, (c) => page(c, services, tab));
  web.get('/hosts/:id{h_[a-z2-7]{26}}/reports/:seq{[1-9][0-9]{0,15}}', (c) => envelope(c, services));
}

/** A host that the reader may see. */
async function hostOf(c: Context<Env>, { store }: WebServices): Promise<Host | undefined> {
  const host = await store.hosts.get(c.req.param('id')!);
  return host !== undefined && isTheirs(c.get('principal'), host.group) ? host : undefined;
}

async function page(c: Context<Env>, services: WebServices, tab: Tab): Promise<Response> {
  const { store, clock } = services;
  const host = await hostOf(c, services);
  if (host === undefined) return missingPage(c, services);
  const now = clock();
  const [examined, findings, history] = await Promise.all([
    lastFull(host, services),
    store.read.hostFindings(host.id, 'present', { limit: FINDINGS_MAX, cursor: null }),
    store.read.history(host.id, 50),
  ]);
  const about: About = {
    host,
    view: viewOf(host, now),
    now,
    examined,
    findings: findings.items,
    query: new URL(c.req.url).searchParams,
  };
  const { acknowledged, waived, open } = host.counters;
  const present = open.reduce((sum, n) => sum + n, 0) + acknowledged + waived;
  const body = html`${noticeOf(about)}
    ${headHtml({
      crumbs: [['Hosts', '/hosts'], [host.name]],
      title: headline(about),
      text: cause(about),
      acts: html`${hasRole(c.get('principal'), 'admin') && host.state === 'pending' && html`<a class="btn first named" href="/hosts/${host.id}/approve">Approve ${host.name}</a>`}<a
          class="btn"
          href="/hosts/${host.id}/posture"
          >${icon('clock')}At a moment</a
        >`,
    })}
    <div class="stack">
      ${host.state === 'pending' && pendingNote(about, services.baseUrl())}
      ${host.state === 'retired' && html`<p class="note">${icon('stop')}<span>This host is retired: its reports are refused, and nothing of it is judged. To come back, it enrols anew.</span></p>`}
      ${answers(about)}
      <nav class="tabs" aria-label="Host">
        ${TABS.map(
          ([at, word]) =>
            html`<a href="/hosts/${host.id}${at !== '' && `/${at}`}" ${at === tab && html` aria-current="page"`}
              >${word}${at === '' && html` <span class="count">${count(present)}</span>`}</a
            >`,
        )}
      </nav>
      <div class="cols aside">
        <div class="stack">${await tabOf(tab, about, services)}</div>
        <aside class="stack" aria-label="About this host">
          ${(tab === '' || tab === 'tree') && waysHtml(waysOf(about))} ${aboutSheet(about)}
          ${historySheet(about, history)}
        </aside>
      </div>
    </div>`;
  return show(c, services, { title: host.name, section: '/hosts', now, body });
}

function tabOf(tab: Tab, about: About, services: WebServices): Promise<Part> | Part {
  switch (tab) {
    case '':
      return findingsTab(about, services);
    case 'tree':
      return treeTab(about, services);
    case 'deployments':
      return deploymentsTab(about, services);
    case 'reports':
      return reportsTab(about, services);
    case 'history':
      return historyTab(about, services);
    case 'identity':
      return identityTab(about, services);
  }
}

/** The signed envelope as the host sent it, to keep and to check elsewhere. */
async function envelope(c: Context<Env>, services: WebServices): Promise<Response> {
  const host = await hostOf(c, services);
  const seq = Number(c.req.param('seq'));
  const report = host && (await services.store.reports.get(host.id, seq));
  if (report !== undefined && report.envelope.length === 0)
    return c.html(
      messagePage(
        'This report was purged',
        'Its envelope passed its retention (docs/retention.md). Its entry in the evidence log stays, with the digest of what it was.',
        services.clock(),
      ),
      410,
    );
  if (report === undefined || !mayTake(report.envelope, c.get('principal'), services.policies.current))
    return missingPage(c, services);
  return c.body(new Uint8Array(report.envelope), 200, {
    'Content-Type': 'application/octet-stream',
    'Content-Disposition': `attachment; filename="${report.hostId}-${seq}.dsse.json"`,
  });
}

function noticeOf({ host, query }: About): Html | undefined {
  switch (query.get('did')) {
    case 'approved':
      return noticeHtml(
        `${host.name} is approved: its next report is taken and judged. Whoever held its identity before is retired.`,
      );
    case 'changed':
      return noticeHtml(`${host.name} is saved, and judged anew where its group or labels changed.`);
    case 'explained':
      return noticeHtml(`What was held against the identity of ${host.name} is explained; it is judged anew.`);
    default:
      return undefined;
  }
}

function headline({ host, view, now }: About): Html {
  const { name } = host;
  if (host.state === 'pending') return html`${name} waits for your approval`;
  if (host.state === 'retired') return html`${name} is retired`;
  const since = sinceHtml(view.since, now);
  switch (view.verdict) {
    case 'compliant':
      return html`${name} is the image that it booted`;
    case 'drifted':
      return html`${name} has drifted since ${since}`;
    case 'unsigned':
      return html`${name} runs an image that nobody trusted has signed`;
    case 'unverifiable':
      return html`${name} cannot be judged since ${since}`;
    case 'silent':
      return html`${name} is silent since ${since}`;
    case 'new':
      return html`${name} has not reported yet`;
  }
}

/** `3 open findings, one critical, and 1 waived. Its image is ours, and it reported 4 min ago.` */
function cause({ host, view, now, findings }: About): Html {
  const { open, acknowledged, waived } = host.counters;
  const n = open.reduce((sum, each) => sum + each, 0);
  const [critical, high] = [open[4], open[3]];
  const worst = critical > 0 ? `${few(critical)} critical` : high > 0 ? `${few(high)} high` : undefined;
  const oldest = Math.min(...findings.filter(({ status }) => status === 'open').map(({ openedAt }) => openedAt));
  const parts = [
    n === 0 ? 'No open finding' : `${plural(n, 'open finding')}${worst === undefined ? '' : `, ${worst}`}`,
    ...(acknowledged > 0 ? [`${count(acknowledged)} acknowledged`] : []),
    ...(waived > 0 ? [`${count(waived)} waived`] : []),
  ];
  const trust = {
    trusted: 'Its image is ours',
    unsigned: 'Its image is signed by nobody that counts',
    rejected: 'Its image is signed by somebody else',
    unverifiable: 'Who signed its image cannot be told now',
    'not-assessed': 'Nobody is asked who signed its image',
  }[view.provenance.state];
  return html`${listed(parts)}${Number.isFinite(oldest) && html`, the oldest ${agoHtml(oldest, now)} old`}. ${trust},
  ${host.last === null ? 'and no report came yet.' : html`and it reported ${whenHtml(host.last.receivedAt, now)}.`}
  ${view.verdict === 'compliant' && host.state === 'active' && html` So since ${sinceHtml(view.since, now)}.`}`;
}

const few = (n: number): string => ['none', 'one', 'two', 'three', 'four', 'five'][n] ?? count(n);

function pendingNote({ host, now }: About, baseUrl: string): Html {
  return html`<section class="sheet waits" aria-labelledby="waits">
    <header><h2 id="waits">${icon('clock')} Its reports are kept back until a person approves it</h2></header>
    <div class="pad form">
      <p>
        It enrolled ${whenHtml(host.createdAt, now)} with a new key, and another host holds the machine id that it
        names. That is a machine installed anew, or a copy of one. Approve it here, or with:
      </p>
      ${commandHtml(`bootproof hosts approve ${host.id} --server ${baseUrl}`)}
      <p class="quiet">Not yours? Retire it on the tab Identity; nothing of it was judged.</p>
    </div>
  </section>`;
}

function answers({ host, view, now, examined, findings }: About): Html {
  return html`<section class="sheet" aria-label="Three answers">
    <div class="answers">
      <div>
        <h2>Is it the image?</h2>
        ${answerHtml(view.integrity.state)}
        <p>${integrityText(view, examined)}</p>
      </div>
      <div>
        <h2>Is the image ours?</h2>
        ${answerHtml(view.provenance.state)}
        <p>${provenanceText(host, view, now)}</p>
      </div>
      <div>
        <h2>Did we hear?</h2>
        ${answerHtml(view.freshness.state)}
        <p>${freshnessText(host, view, now, findings)}</p>
      </div>
    </div>
  </section>`;
}

function integrityText({ integrity, reasons }: View, examined: Examined | undefined): string {
  const beside = [
    ...(integrity.allowed > 0 ? [plural(integrity.allowed, 'difference is allowed', 'differences are allowed')] : []),
    ...(integrity.local > 0
      ? [plural(integrity.local, 'difference is expected here', 'differences are expected here')]
      : []),
    ...(integrity.waived > 0 ? [`${count(integrity.waived)} waived`] : []),
  ];
  const told = (texts: readonly string[]): string =>
    texts.map((text) => `${text.slice(0, 1).toUpperCase()}${text.slice(1)}.`).join(' ');
  const compared = examined === undefined ? 0 : examined.report.trees.usr.entries + examined.report.trees.etc.entries;
  if (integrity.state === 'intact')
    return told([
      compared === 0 ? 'nothing differs' : `${count(compared)} paths compared, nothing that matters differs`,
      ...beside,
    ]);
  // What silence says is the third answer's.
  const why = reasons.filter(({ text }) => !text.startsWith('nothing heard for ')).map(({ text }) => text);
  return told([
    why[0] ?? 'no report says',
    ...(why.length > 1 ? [`${count(why.length - 1)} more below`] : []),
    ...beside,
  ]);
}

function provenanceText({ images }: Host, { provenance }: View, now: Instant): Html {
  const image =
    images.booted === null ? undefined : html` <a href="/images/${encodeURIComponent(images.booted)}">The proof</a>`;
  switch (provenance.state) {
    case 'not-assessed':
      return html`No <a href="/trust">image policy</a> is about it, so its signatures are not assessed.`;
    case 'trusted':
      return html`Signed by ${provenance.by}, as policy <a href="/trust">${provenance.policy}</a> asks.${image}`;
    case 'unverifiable':
      return html`Since ${sinceHtml(provenance.since, now)}: ${provenance.why}.${image}`;
    case 'unsigned':
    case 'rejected':
      return html`${provenance.why.slice(0, 1).toUpperCase()}${provenance.why.slice(1)}.${image}`;
  }
}

function freshnessText(host: Host, { freshness }: View, now: Instant, _findings: readonly FindingWithGroup[]): Html {
  const { last, chain } = host;
  if (last === null) return html`No report came yet; it was enrolled ${whenHtml(host.createdAt, now)}.`;
  const missing = chain.gaps.reduce((sum, { from, to }) => sum + to - from + 1, 0);
  return html`Report ${count(last.seq)} came ${whenHtml(last.receivedAt, now)},
  ${missing === 0 ? 'none missing' : plural(missing, 'is missing', 'are missing')}.
  ${freshness.since !== null && html` It is ${freshness.state} since ${sinceHtml(freshness.since, now)}.`}
  ${host.images.staged !== null && html` A newer image is staged.`}`;
}

/** `/hosts/:id`: a host as a sentence with its proof beneath: three answers, findings, changes, deployments, reports, identity. */
import type { Context } from 'hono';
import { attributesOf, type Drift } from '#src/drift/drift.ts';
import { describe } from '#src/finding/describe.ts';
import type { Facts } from '#src/manifest/entry.ts';
import { SEVERITIES, type JudgementKind } from '#src/policy/judgement.ts';
import { printable } from '#src/terminal.ts';
import type { DeploymentState } from '#src/deployment/state.ts';
import type { FindingDetail, Examined } from '#server/ingest/judge.ts';
import { lastFull } from '#server/ingest/rejudge.ts';
import { viewOf, type View } from '#server/standing.ts';
import type { FindingWithGroup, Host, Refusals, ReportHead } from '#server/store/records.ts';
import { digestHtml, html, pathHtml, type Html } from './html.ts';
import { waivedNote } from './hosts.ts';
import { missingPage, show } from './layout.ts';
import type { Env, WebServices } from './services.ts';
import { agoHtml, besideVerdict, count, plural, severityHtml, timeHtml, verdictHtml } from './words.ts';

/** Rows that a page shows of each list; the API has the rest. */
const ROWS_MAX = 200;

export async function hostPage(c: Context<Env>, services: WebServices): Promise<Response> {
  const { store, clock } = services;
  const host = await store.hosts.get(c.req.param('id')!);
  if (host === undefined) return missingPage(c, services);
  const now = clock();
  const [examined, findings, reports, refusals] = await Promise.all([
    lastFull(host, services),
    store.read.hostFindings(host.id, 'present', { limit: ROWS_MAX, cursor: null }),
    store.read.reports(host.id, { limit: 20, cursor: null }),
    store.read.refusals(host.id),
  ]);
  const view = viewOf(host, now);
  const body = html`<div class="head">
      <nav class="crumb" aria-label="Breadcrumb">
        <a href="/hosts">Hosts</a><span aria-hidden="true">/</span><span>${host.name}</span>
      </nav>
      <h1>${headline(host, view)}</h1>
      <p>${verdictHtml(view.verdict, waivedNote(view))} ${besideVerdict(view.sentence, view.verdict)}</p>
    </div>
    <div class="stack">
      ${answers(host, view, now)}
      <div class="cols aside">
        <div class="stack">
          ${reasonsSheet(view)} ${findingsSheet(findings.items, findings.next !== null, now)} ${driftSheet(examined)}
          ${deploymentsSheet(examined?.report.deployment)}
        </div>
        <aside class="stack">
          ${reportsSheet(host, reports.items, now)} ${refusedSheet(refusals, now)} ${identitySheet(host, now)}
        </aside>
      </div>
    </div>`;
  return show(c, services, { title: host.name, section: '/hosts', now, body });
}

function headline(host: Host, { verdict }: View): string {
  switch (verdict) {
    case 'compliant':
      return `${host.name} is the image that it booted`;
    case 'drifted':
      return `${host.name} has drifted from its image`;
    case 'unsigned':
      return `${host.name} runs an image that nobody trusted has signed`;
    case 'unverifiable':
      return `${host.name} cannot be judged`;
    case 'silent':
      return `${host.name} is silent`;
    case 'new':
      return `${host.name} has not reported yet`;
  }
}

function answers(host: Host, { integrity, provenance, freshness, reasons }: View, now: number): Html {
  const beside = [
    integrity.allowed > 0 && plural(integrity.allowed, 'difference is allowed', 'differences are allowed'),
    integrity.local > 0 && plural(integrity.local, 'difference is expected', 'differences are expected'),
    integrity.waived > 0 && `${count(integrity.waived)} waived`,
  ].filter((text) => text !== false);
  const why = integrity.state === 'intact' ? undefined : reasons[0]?.text;
  return html`<section class="sheet">
    <div class="answers">
      <div>
        <h2>Is it the image?</h2>
        ${verdictHtml(integrity.state)}
        <p>${[why, ...beside].filter((text) => text !== undefined).join('; ') || 'No path differs.'}</p>
      </div>
      <div>
        <h2>Is the image ours?</h2>
        ${verdictHtml(provenance.state)}
        <p>
          ${provenance.state === 'not-assessed' ? 'No image policy is set, so signatures are not assessed.' : 'why' in provenance ? provenance.why : `By ${provenance.by}, as policy ${provenance.policy} asks.`}
        </p>
      </div>
      <div>
        <h2>Did we hear?</h2>
        ${verdictHtml(freshness.state)}
        <p>
          ${host.last === null ? 'No report came yet.' : html`Report ${count(host.last.seq)} came ${agoHtml(host.last.receivedAt, now)} ago.`}
        </p>
      </div>
    </div>
  </section>`;
}

function reasonsSheet({ reasons }: View): Html | undefined {
  if (reasons.length === 0) return undefined;
  return html`<section class="sheet">
    <header><h2>Why</h2></header>
    <div class="pad">
      <ul class="rows">
        ${reasons.map(({ text, severity }) => html`<li><div>${severity !== undefined && severityHtml(severity)} ${text}</div></li>`)}
      </ul>
    </div>
  </section>`;
}

function findingsSheet(findings: readonly FindingWithGroup[], more: boolean, now: number): Html {
  return html`<section class="sheet">
    <header>
      <h2>Findings</h2>
      <span class="quiet">${more ? `the first ${ROWS_MAX}` : plural(findings.length, 'finding')}</span>
    </header>
    ${
      findings.length === 0
        ? html`<div class="empty"><p>Nothing is open on this host.</p></div>`
        : html`<table class="list flat">
            <caption class="sr">
              Findings, worst first
            </caption>
            <thead>
              <tr>
                <th>Severity</th>
                <th>What</th>
                <th class="p3">Status</th>
                <th class="num">Since</th>
              </tr>
            </thead>
            <tbody>
              ${findings.map(
                ({ group, groupId, severity, status, openedAt, detail }) =>
                  html`<tr>
                    <td>${severityHtml(SEVERITIES[severity])}</td>
                    <td class="main">
                      <div class="two">
                        <span
                          ><a class="go" href="/findings/${groupId}"
                            >${describe({ kind: group.kind as JudgementKind, subject: group.subject, signature: String(group.signature) })}</a
                          ></span
                        >
                        <span>${(detail as FindingDetail | null)?.reason ?? ''} <code>${group.rule}</code></span>
                      </div>
                    </td>
                    <td class="p3">${status}</td>
                    <td class="num soft nowrap">${agoHtml(openedAt, now)}</td>
                  </tr>`,
              )}
            </tbody>
          </table>`
    }
  </section>`;
}

/** Every path that differs, expected beside actual, before policy: allowed differences are here as well. */
function driftSheet(examined: Examined | undefined): Html | undefined {
  if (examined === undefined) return undefined;
  const { contents, report } = examined;
  const { drift, secrets, holes } = contents;
  const told = secrets.filter(({ state }) => state !== 'same');
  const unread = [...holes.usr, ...holes.etc];
  return html`<section class="sheet">
    <header>
      <h2>What differs</h2>
      <span class="quiet"
        >${report.truncated === null ? plural(drift.length, 'path') : `${plural(drift.length, 'path')} listed of more`}</span
      >
    </header>
    ${
      drift.length === 0
        ? html`<div class="empty">
            <p>${report.manifest === null ? 'The host had no manifest to compare with yet.' : 'No path differs.'}</p>
          </div>`
        : html`<table class="list flat">
            <caption class="sr">
              Paths that differ, expected and actual
            </caption>
            <thead>
              <tr>
                <th>Path</th>
                <th class="p2">Expected</th>
                <th>Actual</th>
              </tr>
            </thead>
            <tbody>
              ${drift.slice(0, ROWS_MAX).map(driftRow)}
            </tbody>
          </table>`
    }
    ${drift.length > ROWS_MAX && html`<footer><span>${ROWS_MAX} of ${plural(drift.length, 'path')}; the API has all</span></footer>`}
    ${
      told.length > 0 &&
      html`<div class="pad">
        <h3>Secrets, compared on the host</h3>
        <ul class="rows">
          ${told.slice(0, ROWS_MAX).map(({ path, state }) => html`<li><span class="grow">${pathHtml(path)}</span><span>${state}</span></li>`)}
        </ul>
      </div>`
    }
    ${
      unread.length > 0 &&
      html`<div class="pad">
        <h3>Could not be judged</h3>
        <ul class="rows">
          ${unread.slice(0, ROWS_MAX).map(({ path, kind, detail }) => html`<li><span class="grow">${pathHtml(path)}</span><span class="quiet">${kind}: ${detail}</span></li>`)}
        </ul>
      </div>`
    }
  </section>`;
}

const MARKS = { added: '+', removed: '−', modified: '~' } as const;

function driftRow(drift: Drift): Html {
  const changed = attributesOf(drift);
  const only = (facts: Facts) => (drift.change === 'modified' ? factTexts(facts, changed) : factTexts(facts));
  return html`<tr>
    <td class="main">
      <span class="mark2" title="${drift.change}">${MARKS[drift.change]}</span>${pathHtml(drift.path)}
    </td>
    <td class="p2 soft nowrap">${'expected' in drift ? only(drift.expected) : html`<span class="quiet">–</span>`}</td>
    <td class="nowrap">${'actual' in drift ? only(drift.actual) : html`<span class="quiet">–</span>`}</td>
  </tr>`;
}

/** What is known of a path, or of some of its attributes, in short. */
function factTexts(facts: Facts, only?: readonly string[]): Html {
  const told: (readonly [string, string | undefined])[] = [
    ['type', facts.type],
    ['mode', facts.type === 'symlink' ? undefined : facts.mode.toString(8).padStart(4, '0')],
    ['uid', only === undefined ? undefined : `uid ${facts.uid}`],
    ['gid', only === undefined ? `${facts.uid}:${facts.gid}` : `gid ${facts.gid}`],
    ['size', facts.size === undefined ? undefined : `${count(facts.size)} B`],
    ['sha256', facts.sha256?.slice(0, 12)],
    ['link', facts.link === undefined ? undefined : `→ ${printable(facts.link)}`],
    ['capability', facts.capability === undefined ? undefined : `capability ${facts.capability}`],
    ['device', facts.device === undefined ? undefined : `device ${facts.device}`],
  ];
  const shown = told.flatMap(([name, text]) => {
    if (only === undefined) return text === undefined ? [] : [text];
    return only.includes(name) ? [text ?? `no ${name === 'sha256' ? 'content' : name}`] : [];
  });
  return html`<code>${shown.join(only === undefined ? ' ' : ', ')}</code>`;
}

function deploymentsSheet(deployment: DeploymentState | undefined): Html | undefined {
  if (deployment === undefined) return undefined;
  const slots = (['staged', 'booted', 'rollback'] as const).flatMap((slot) => {
    const entry = deployment[slot];
    return entry === null ? [] : [{ slot, image: entry.image, layered: entry.layered }];
  });
  return html`<section class="sheet">
    <header>
      <h2>Deployments</h2>
      <span class="quiet">${deployment.backend} backend, told by ${deployment.via}</span>
    </header>
    <table class="list flat">
      <caption class="sr">
        Deployments
      </caption>
      <thead>
        <tr>
          <th>Slot</th>
          <th>Image</th>
          <th class="p2">Digest</th>
        </tr>
      </thead>
      <tbody>
        ${slots.map(
          ({ slot, image, layered }) =>
            html`<tr>
              <td>${slot}</td>
              <td class="main">
                <div class="two">
                  <span>${image?.reference ?? '–'}</span
                  ><span
                    >${image?.version ?? ''}${layered.length > 0 && ` ${plural(layered.length, 'layered package')}`}</span
                  >
                </div>
              </td>
              <td class="p2">
                ${image?.digest === null || image?.digest === undefined ? html`<span class="quiet">–</span>` : html`<a class="over" href="/images/${encodeURIComponent(image.digest)}">${digestHtml(image.digest)}</a>`}
              </td>
            </tr>`,
        )}
      </tbody>
    </table>
    ${
      deployment.overlays.length > 0 &&
      html`<div class="pad">
        <h3>Lies over the image</h3>
        <ul class="rows">
          ${deployment.overlays.map(
            ({ path, kind, detail, writable }) =>
              html`<li>
                <span class="grow"><code>${path}</code></span
                ><span class="quiet">${kind}${writable && ', writable'}: ${detail}</span>
              </li>`,
          )}
        </ul>
      </div>`
    }
    ${
      deployment.contradictions.length > 0 &&
      html`<div class="pad">
        <h3>What the host tells contradicts itself</h3>
        <ul class="rows">
          ${deployment.contradictions.map((text) => html`<li>${text}</li>`)}
        </ul>
      </div>`
    }
  </section>`;
}

function reportsSheet(host: Host, reports: readonly ReportHead[], now: number): Html {
  const { chain } = host;
  return html`<section class="sheet">
    <header><h2>Reports</h2></header>
    <div class="pad form">
      <dl class="facts">
        <dt>Newest</dt>
        <dd>${chain.headSeq === 0 ? '–' : count(chain.headSeq)}</dd>
        <dt>Missing</dt>
        <dd>
          ${chain.gaps.length === 0 ? 'none' : chain.gaps.map(({ from, to }) => (from === to ? `${from}` : `${from}–${to}`)).join(', ')}
        </dd>
        ${
          chain.flags.forked !== undefined &&
          html`<dt>Forked</dt>
            <dd>two hosts sign with one key, since ${agoHtml(chain.flags.forked, now)}</dd>`
        }
        ${
          chain.flags.cloned !== undefined &&
          html`<dt>Cloned</dt>
            <dd>two running systems alternate, since ${agoHtml(chain.flags.cloned, now)}</dd>`
        }
      </dl>
      <ul class="rows">
        ${reports.map(({ seq, kind, class: of, receivedAt }) => html`<li><span>${count(seq)}</span><span class="grow quiet">${kind}, ${of}</span><span>${agoHtml(receivedAt, now)}</span></li>`)}
      </ul>
    </div>
  </section>`;
}

function refusedSheet(refusals: readonly Refusals[], now: number): Html | undefined {
  if (refusals.length === 0) return undefined;
  return html`<section class="sheet">
    <header><h2>Refused reports</h2></header>
    <div class="pad">
      <dl class="facts">
        ${refusals.map(
          ({ code, count: n, lastAt, detail }) =>
            html`<dt>${count(n)} ×</dt>
              <dd><code>${code}</code>, the last ${agoHtml(lastAt, now)} ago: ${detail}</dd>`,
        )}
      </dl>
    </div>
  </section>`;
}

function identitySheet(host: Host, now: number): Html {
  return html`<section class="sheet">
    <header><h2>About this host</h2></header>
    <div class="pad">
      <dl class="facts">
        <dt>State</dt>
        <dd>${host.state}</dd>
        <dt>Id</dt>
        <dd><code>${host.id}</code></dd>
        <dt>Group</dt>
        <dd>${host.group ?? '–'}</dd>
        <dt>Labels</dt>
        <dd>
          ${Object.keys(host.labels).length === 0 ? '–' : Object.entries(host.labels).map(([key, value]) => html`<span class="tag">${key}=${value}</span> `)}
        </dd>
        <dt>Rule</dt>
        <dd>${host.rule ?? '–'}</dd>
        <dt>Agent</dt>
        <dd>${host.facts?.agentVersion ?? '–'}</dd>
        <dt>Key</dt>
        <dd><code class="digest full">${host.publicKey}</code></dd>
        <dt>Enrolled</dt>
        <dd>${timeHtml(host.createdAt)}</dd>
        <dt>Verdict since</dt>
        <dd>${agoHtml(host.standing.since, now)}</dd>
      </dl>
    </div>
  </section>`;
}

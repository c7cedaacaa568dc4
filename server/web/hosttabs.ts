/** What else there is of a host, a tab each: deployments with who signed them, the chain of reports, the history of verdicts, its identity. */
import type { Instant } from '#src/clock.ts';
import type { DeploymentEntry } from '#src/deployment/state.ts';
import type { FindingWithGroup, ReportHead, VerdictChange } from '#server/store/records.ts';
import { sinceHtml, type About } from './hostabout.ts';
import { between } from './hostfindings.ts';
import { imagesNamed } from './hostfilter.ts';
import { changeForm } from './hostacts.ts';
import { copyHtml, digestHtml, html, icon, type Html } from './html.ts';
import { emptyHtml } from './parts/page.ts';
import { auditRows } from './activity.ts';
import type { WebServices } from './services.ts';
import { agoHtml, capital, count, dayHtml, dayOf, momentHtml, plural, timeHtml, verdictHtml } from './words.ts';

const DAY_MS = 86_400_000;

// ── beside every tab ─────────────────────────────────────────────────────────────────────────────────────────────────

export function aboutSheet({ host, examined }: About): Html {
  const labels = Object.entries(host.labels);
  const deployment = examined?.report.deployment;
  const facts: readonly (readonly [string, Html | undefined])[] = [
    [
      'Group',
      host.group === null
        ? undefined
        : html`<a href="/hosts?group=${encodeURIComponent(host.group)}">${host.group}</a>`,
    ],
    [
      'Labels',
      labels.length === 0
        ? undefined
        : html`${labels.map(([key, value]) => html`<a class="tag" href="/hosts?label=${encodeURIComponent(`${key}=${value}`)}">${key}=${value}</a> `)}`,
    ],
    ['Kernel', deployment?.kernel == null ? undefined : html`<code>${deployment.kernel}</code>`],
    [
      'Pulls',
      deployment === undefined ? undefined : html`${enforcementText(deployment.booted?.image?.signature ?? null)}`,
    ],
    ['Compared by', host.rule === null ? undefined : html`rule <code>${host.rule}</code>`],
    ['Agent', host.facts === null ? undefined : html`${host.facts.agentVersion}`],
    ['Enrolled', dayHtml(host.createdAt)],
    ['Id', html`<code class="digest">${host.id}</code>`],
  ];
  return html`<section class="sheet">
    <header><h2>About this host</h2></header>
    <div class="pad">
      <dl class="facts">
        ${facts.map(
          ([word, value]) =>
            value !== undefined &&
            html`<dt>${word}</dt>
              <dd>${value}</dd>`,
        )}
      </dl>
    </div>
  </section>`;
}

function enforcementText(signature: string | null): string {
  if (signature === null) return 'no signature demanded';
  if (signature === 'containerPolicy') return 'as policy.json demands';
  return signature === 'insecure' ? 'no signature demanded' : `signed for ${signature.replace(/^ostreeRemote:/, '')}`;
}

const SPAN_DAYS = 90;

export function historySheet(about: About, history: readonly VerdictChange[]): Html | undefined {
  if (history.length === 0) return undefined;
  return html`<section class="sheet">
    <header>
      <h2>Verdicts, ${SPAN_DAYS} days</h2>
      <a class="link" href="/hosts/${about.host.id}/history">All</a>
    </header>
    <div class="pad form">${stripe(about, history)} ${timeline(about, history.slice(0, 4))}</div>
  </section>`;
}

/** Ninety days as one bar: what the host was, and from when. */
function stripe({ host, view, now }: About, history: readonly VerdictChange[]): Html {
  const from = Math.max(host.createdAt, now - SPAN_DAYS * DAY_MS);
  const changes = [...history].reverse();
  const parts: { word: string; from: Instant; to: Instant }[] = [];
  let word = changes[0]?.from ?? view.verdict;
  let at = from;
  for (const change of changes) {
    if (change.at > from) parts.push({ word, from: at, to: change.at });
    at = Math.max(from, change.at);
    word = change.to;
  }
  parts.push({ word, from: at, to: now });
  // Silence is the clock's, and written down nowhere.
  const last = parts.at(-1)!;
  if (view.verdict === 'silent' && view.since > last.from) {
    parts.push({ word: 'silent', from: view.since, to: now });
    last.to = view.since;
  }
  const whole = Math.max(1, now - from);
  const percent = (ms: number): string => `${Math.round((ms / whole) * 10_000) / 100}%`;
  const said = parts
    .map((part) => `${part.word} from ${dayOf(part.from)}`)
    .slice(-6)
    .join(', ');
  return html`<svg class="chain hist" height="12" role="img" aria-label="${capital(said)}">
    ${parts.map((part) => html`<rect class="${part.word}" x="${percent(part.from - from)}" width="${percent(Math.max(part.to - part.from, whole * 0.006))}" height="12" rx="1"></rect>`)}
  </svg>`;
}

function timeline({ host, now }: About, history: readonly VerdictChange[]): Html {
  return html`<ol class="timeline">
    ${history.map(
      ({ at, from, to, seq }) =>
        html`<li class="${to}">
          ${icon(`v-${to}`)}
          <div>
            ${capital(to)}${from !== 'new' && html` <span class="quiet">before: ${from}</span>`}<br /><small
              >${now - at < 2 * DAY_MS ? momentHtml(at) : timeHtml(at)}${seq !== null ? html` · <a href="/hosts/${host.id}/reports">${between(seq, host.chain)}</a>` : ' · judged anew, without a report'}</small
            >
          </div>
        </li>`,
    )}
  </ol>`;
}

// ── tabs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

export async function deploymentsTab(about: About, services: WebServices): Promise<Html> {
  const { examined, host, now } = about;
  if (examined === undefined)
    return html`<section class="sheet">
      ${emptyHtml('No deployment is known', 'The host tells what it booted with its first full report.')}
    </section>`;
  const { deployment } = examined.report;
  const slots = (['staged', 'booted', 'rollback'] as const).flatMap((slot) => {
    const entry = deployment[slot];
    return entry === null ? [] : [{ slot, entry }];
  });
  const [named, lineage] = await Promise.all([
    imagesNamed(
      slots.map(({ entry }) => entry.image?.digest ?? null),
      services.store,
    ),
    services.store.lineages.get(host.id),
  ]);
  const states = await Promise.all(
    slots.map(async ({ entry }) => (await services.trust.of(entry.image?.digest ?? null)).facts.provenance),
  );
  const before = await imagesNamed(
    (lineage?.images ?? []).map(({ image }) => image),
    services.store,
  );
  return html`<section class="sheet">
      <header>
        <h2>Deployments</h2>
        <span class="quiet"
          >${deployment.backend} backend, stateroot ${deployment.booted?.stateroot ?? 'unknown'}, told by
          ${deployment.via}</span
        >
      </header>
      <table class="list flat">
        <caption class="sr">
          Deployments of this host
        </caption>
        <thead>
          <tr>
            <th>Slot</th>
            <th>Image</th>
            <th class="p2">Digest</th>
            <th>Signature</th>
            <th class="p3">By</th>
          </tr>
        </thead>
        <tbody>
          ${slots.map(({ slot, entry }, at) => {
            const provenance = states[at]!;
            const digest = entry.image?.digest ?? null;
            const image = digest === null ? undefined : named.get(digest);
            return html`<tr>
              <td>${slot === 'booted' ? html`<strong>Booted</strong>` : capital(slot)}</td>
              <td class="main">
                <div class="two">
                  <span
                    >${digest === null ? (entry.image?.reference ?? '–') : html`<a class="go" href="/images/${encodeURIComponent(digest)}">${image?.place ?? entry.image?.reference ?? 'an image'}</a>`}</span
                  >
                  <span>${image?.version ?? entry.image?.version ?? ''} ${restOf(entry)}</span>
                </div>
              </td>
              <td class="p2">${digest === null ? html`<span class="quiet">–</span>` : digestHtml(digest)}</td>
              <td title="${'why' in provenance ? provenance.why : ''}">${verdictHtml(provenance.state)}</td>
              <td class="p3 soft">
                <span class="clip signer"
                  >${provenance.state === 'trusted' ? html`<span title="${provenance.by}">${provenance.by}</span>` : html`<span class="quiet">–</span>`}</span
                >
              </td>
            </tr>`;
          })}
        </tbody>
      </table>
      ${host.images.rollback === null && slots.length > 0 && html`<footer><span>No deployment to go back to is kept.</span></footer>`}
    </section>
    ${listSheet(
      'Lies over the image',
      deployment.overlays.map(
        ({ path, kind, detail, writable, beneath }) =>
          html`<span class="grow"><code>${path}</code> <span class="quiet">${detail}</span></span
            ><span class="quiet"
              >${kind}${writable && ', writable'}${beneath !== null && `, beneath: ${beneath}`}</span
            >`,
      ),
    )}
    ${listSheet(
      'Layered on top of it',
      (deployment.booted?.layered ?? []).map((text) => html`<code>${text}</code>`),
    )}
    ${listSheet(
      'What the host tells contradicts itself',
      deployment.contradictions.map((text) => html`${text}`),
    )}
    <section class="sheet">
      <header>
        <h2>Booted so far</h2>
        <span class="quiet">newest last</span>
      </header>
      ${
        (lineage?.images.length ?? 0) === 0
          ? emptyHtml('Only this one', 'Other images appear here as the host boots them.')
          : html`<div class="pad">
              <ul class="rows">
                ${lineage!.images.map(
                  ({ image, firstAt }) =>
                    html`<li>
                      <span class="grow"
                        ><a class="link" href="/images/${encodeURIComponent(image)}"
                          >${before.get(image)?.place ?? 'image'} ${before.get(image)?.version ?? ''}</a
                        >
                        ${digestHtml(image)}</span
                      ><span class="quiet">first booted ${sinceHtml(firstAt, now)}</span>
                    </li>`,
                )}
              </ul>
            </div>`
      }
    </section>
    <section class="sheet">
      <header><h2>Kernel</h2></header>
      <div class="pad">
        <dl class="facts">
          <dt>Version</dt>
          <dd>${deployment.kernel ?? 'not told'}</dd>
          <dt>Arguments</dt>
          <dd><code>${deployment.kargs.join(' ') || '–'}</code></dd>
          <dt>fs-verity</dt>
          <dd>
            ${deployment.verity === null ? 'not told' : deployment.verity ? 'required for /' : 'not required for /'}
          </dd>
        </dl>
      </div>
    </section>`;
}

function restOf({ pinned, layered }: DeploymentEntry): Html {
  return html`${pinned && html`<span class="tag">pinned</span> `}${layered.length > 0 && html`<span class="tag loud drifted">${plural(layered.length, 'layered package')}</span>`}`;
}

function listSheet(title: string, rows: readonly Html[]): Html | undefined {
  if (rows.length === 0) return undefined;
  return html`<section class="sheet">
    <header><h2>${title}</h2></header>
    <div class="pad">
      <ul class="rows">
        ${rows.map((row) => html`<li>${row}</li>`)}
      </ul>
    </div>
  </section>`;
}

const REPORTS_PAGE = 50;
/** Bars of the chart. */
const BARS_MAX = 60;
/** Findings whose episodes the chart counts. */
const COUNTED_FINDINGS = 100;

export async function reportsTab(about: About, { store }: WebServices): Promise<Html> {
  const { host, now, query } = about;
  const after = /^[1-9][0-9]{0,15}$/.exec(query.get('after') ?? '')?.[0];
  const [page, newest, refusals, resolved] = await Promise.all([
    store.read.reports(host.id, { limit: REPORTS_PAGE, cursor: after === undefined ? null : { seq: Number(after) } }),
    store.read.reports(host.id, { limit: BARS_MAX, cursor: null }),
    store.read.refusals(host.id),
    store.read.hostFindings(host.id, 'resolved', { limit: COUNTED_FINDINGS, cursor: null }),
  ]);
  const open = await openAt(about, resolved.items, store);
  const { chain } = host;
  return html`<section class="sheet">
      <header>
        <h2>Chain of reports</h2>
        <span class="quiet">${chain.headSeq === 0 ? '' : `the newest is ${count(chain.headSeq)}`}</span>
      </header>
      ${
        newest.items.length === 0
          ? emptyHtml(
              'No report came yet',
              `It was enrolled; its first report is expected within ${Math.round(host.freshness.interval / 60_000)} min of each other.`,
            )
          : html`<div class="pad form">
              ${chainHtml([...newest.items].reverse(), chain.gaps, open)}
              <dl class="facts">
                <dt>Sequence</dt>
                <dd>
                  1 – ${count(chain.headSeq)},
                  ${chain.gaps.length === 0 ? 'no gap' : html`missing: ${chain.gaps.map(({ from, to }) => (from === to ? count(from) : `${count(from)} – ${count(to)}`)).join(', ')}`}
                </dd>
                ${
                  chain.full !== null &&
                  html`<dt>Last full</dt>
                    <dd>
                      report ${count(chain.full.seq)} ${digestHtml(chain.full.digest)}
                      ${copyHtml(chain.full.digest, 'Copy digest')}, said again ${plural(chain.sameCount, 'time')} since
                    </dd>`
                }
                <dt>Expected</dt>
                <dd>
                  every ${Math.round(host.freshness.interval / 60_000)} min; late after
                  ${momentHtml(host.freshness.lateAfter)}, silent after ${momentHtml(host.freshness.silentAfter)}
                </dd>
                ${
                  chain.flags.forked !== undefined &&
                  html`<dt>Forked</dt>
                    <dd>two hosts sign with one key, since ${timeHtml(chain.flags.forked)}</dd>`
                }
                ${
                  chain.flags.cloned !== undefined &&
                  html`<dt>Cloned</dt>
                    <dd>two running systems alternate, since ${timeHtml(chain.flags.cloned)}</dd>`
                }
              </dl>
            </div>`
      }
    </section>
    ${
      refusals.length > 0 &&
      html`<section class="sheet">
        <header>
          <h2>Refused</h2>
          <span class="quiet">what did not hold, and why</span>
        </header>
        <table class="list flat">
          <caption class="sr">
            Refused reports by reason
          </caption>
          <thead>
            <tr>
              <th>Why</th>
              <th class="num">Times</th>
              <th class="num">Last</th>
            </tr>
          </thead>
          <tbody>
            ${refusals.map(
              ({ code, count: n, lastAt, detail }) =>
                html`<tr>
                  <td class="main">
                    <div class="two">
                      <span
                        ><a class="go" href="/problems/${code}"><code>${code}</code></a></span
                      ><span title="${detail}">${detail}</span>
                    </div>
                  </td>
                  <td class="num">${count(n)}</td>
                  <td class="num soft nowrap">${agoHtml(lastAt, now)}</td>
                </tr>`,
            )}
          </tbody>
        </table>
      </section>`
    }
    ${
      page.items.length > 0 &&
      html`<section class="sheet">
        <header>
          <h2>Kept reports</h2>
          <span class="quiet">every full one; of those that say the same, one a day and the newest</span>
        </header>
        <table class="list">
          <caption class="sr">
            Kept reports, newest first
          </caption>
          <thead>
            <tr>
              <th class="num">Number</th>
              <th>Kind</th>
              <th class="p2">Freshness</th>
              <th class="p3">Digest</th>
              <th>Received</th>
              <th class="num"><span class="sr">Envelope</span></th>
            </tr>
          </thead>
          <tbody>
            ${page.items.map(
              ({ seq, kind, class: of, digest, receivedAt }) =>
                html`<tr>
                  <td class="num">${count(seq)}</td>
                  <td class="main">${KIND_WORDS[kind]}</td>
                  <td class="p2 soft">${CLASS_WORDS[of]}</td>
                  <td class="p3">${digestHtml(digest)}</td>
                  <td class="soft nowrap">${timeHtml(receivedAt)}</td>
                  <td class="num">
                    ${kind !== 'fork' && html`<a class="btn icon-only over" href="/hosts/${host.id}/reports/${seq}" aria-label="Signed envelope of report ${seq}" title="Signed envelope">${icon('get')}</a>`}
                  </td>
                </tr>`,
            )}
          </tbody>
        </table>
        <footer>
          <span>${plural(page.items.length, 'report')}${page.next !== null && ' of more'}</span>
          ${(page.next !== null || after !== undefined) && html`<span class="acts">${after !== undefined && html`<a class="link" href="?">First page</a>`}${page.next !== null && html`<a class="link" rel="next" href="?after=${page.next.seq}">Next page</a>`}</span>`}
        </footer>
      </section>`
    }`;
}

const KIND_WORDS: Readonly<Record<ReportHead['kind'], string>> = {
  full: 'full',
  same: 'the same again',
  history: 'full, came late',
  fork: 'another under a known number',
};
const CLASS_WORDS: Readonly<Record<ReportHead['class'], string>> = {
  live: 'live',
  late: 'late',
  carried: 'carried by hand',
  none: 'without a challenge',
};

/** How many findings stood open with a report: from when each came and went. */
async function openAt(
  { host, findings }: About,
  resolved: readonly FindingWithGroup[],
  store: WebServices['store'],
): Promise<(seq: number) => number> {
  const known = [...findings.slice(0, COUNTED_FINDINGS), ...resolved];
  const episodes = (await Promise.all(known.map(({ groupId }) => store.findings.episodes(host.id, groupId)))).flat();
  return (seq) =>
    episodes.filter(
      ({ openedSeq, closedSeq, closedAt }) =>
        openedSeq !== null && openedSeq <= seq && (closedAt === null || (closedSeq ?? 0) > seq),
    ).length;
}

/** One bar a report, as high as findings were open; a missing number is a dashed outline. */
function chainHtml(
  reports: readonly ReportHead[],
  gaps: readonly { readonly from: number; readonly to: number }[],
  open: (seq: number) => number,
): Html {
  const first = reports[0]!.seq;
  const bars = [
    ...reports.map(({ seq }) => ({ seq, open: open(seq), missing: 0 })),
    ...gaps.filter(({ to }) => to >= first).map(({ from, to }) => ({ seq: from, open: 0, missing: to - from + 1 })),
  ].sort((a, b) => a.seq - b.seq);
  const most = Math.max(1, ...bars.map((bar) => bar.open));
  const step = 100 / Math.max(24, bars.length);
  const [was, is] = [open(first), open(reports.at(-1)!.seq)];
  const missing = bars.reduce((sum, bar) => sum + bar.missing, 0);
  return html`<svg
      class="chain"
      height="34"
      role="img"
      aria-label="${plural(reports.length, 'kept report')} from ${first} to ${reports.at(-1)!.seq}: ${plural(was, 'finding')} open with the first, ${is} with the newest${missing > 0 ? `; ${plural(missing, 'report is missing', 'reports are missing')}` : ''}"
    >
      ${bars.map((bar, at) => {
        const tall = bar.missing > 0 ? 30 : bar.open === 0 ? 6 : 8 + Math.round((bar.open / most) * 24);
        return html`<rect
          class="${bar.missing > 0 ? 'gap' : bar.open > 0 ? 'drifted' : ''}"
          x="${Math.round(at * step * 100) / 100}%"
          y="${33 - tall}"
          width="${Math.round(step * 70) / 100}%"
          height="${tall}"
          rx="1"
        ></rect>`;
      })}
    </svg>
    <p class="axis quiet">
      <span
        >Kept reports from ${count(first)} to ${count(reports.at(-1)!.seq)}, as high as findings were open; dashed:
        missing</span
      >
    </p>`;
}

export async function historyTab(about: About, { store }: WebServices): Promise<Html> {
  const history = await store.read.history(about.host.id, 200);
  return html`<section class="sheet">
    <header>
      <h2>What it was judged</h2>
      <span class="quiet">${history.length === 0 ? '' : plural(history.length, 'change')}</span>
    </header>
    ${
      history.length === 0
        ? emptyHtml('Nothing changed yet', 'Its verdict has been the same since it was enrolled.')
        : html`<div class="pad form">${stripe(about, history.slice(0, 50))} ${timeline(about, history)}</div>`
    }
    ${about.view.verdict === 'silent' && html`<footer><span>Silent since ${timeHtml(about.view.since)}: that follows from the clock, and is no entry of its own.</span></footer>`}
  </section>`;
}

const TRAIL = 20;

export async function identityTab({ host }: About, services: WebServices): Promise<Html> {
  const trail = await services.store.audit.list({ object: `host:${host.id}` }, { limit: TRAIL, cursor: null });
  const { forked, cloned } = host.chain.flags;
  const labels = Object.entries(host.labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(' ');
  return html`${
      (forked !== undefined || cloned !== undefined) &&
      html`<section class="sheet waits">
        <header><h2>${icon('stop')} Something is held against its identity</h2></header>
        <div class="pad form">
          <p>
            ${forked === undefined ? 'Reports of two running systems alternate under this identity' : 'Two different reports came under one number'},
            since ${timeHtml(forked ?? cloned!)}. A copy of the machine does that, and so does a disk that was restored.
          </p>
          <form method="post" action="/hosts/${host.id}/accept-fork">
            <button class="btn" type="submit">It is explained: accept both reports</button>
          </form>
        </div>
      </section>`
    }
    <section class="sheet">
      <header>
        <h2>Identity</h2>
        <span class="quiet">${host.state}</span>
      </header>
      <div class="pad">
        <dl class="facts">
          <dt>Key</dt>
          <dd>
            <code class="digest full">${host.publicKey}</code> ${copyHtml(host.publicKey, 'Copy key')}<br /><span
              class="quiet"
              >Ed25519, made on the host, never left it</span
            >
          </dd>
          <dt>Machine</dt>
          <dd><code class="digest full">${host.machineId}</code></dd>
          <dt>Enrolled</dt>
          <dd>
            ${timeHtml(host.createdAt)},
            ${host.tokenId === null ? 'by a person, without a token' : html`with token <a href="/settings/enrol"><code>${host.tokenId}</code></a>`}
          </dd>
          <dt>Agent</dt>
          <dd>
            ${host.facts === null ? 'not told yet' : html`${host.facts.agentVersion}, configuration ${digestHtml(host.facts.config)}`}
          </dd>
        </dl>
      </div>
    </section>
    <section class="sheet">
      <header><h2>What people did to it</h2></header>
      ${trail.items.length === 0 ? emptyHtml('Nothing yet', 'Enrolling, approving, moving and retiring stand here.') : auditRows(trail.items, { about: host.id })}
      ${trail.next !== null && html`<footer><a class="link" href="/activity?object=${encodeURIComponent(`host:${host.id}`)}">All</a></footer>`}
    </section>
    ${
      host.state !== 'retired' &&
      html`<section class="sheet cut-on-paper">
          <header><h2>Name, group, labels</h2></header>
          <div class="pad">
            ${changeForm(host, { name: host.name, group: host.group ?? '', labels: '' })}${labels !== '' && html`<p class="quiet">Now: <code>${labels}</code></p>`}
          </div>
        </section>
        <section class="sheet cut-on-paper">
          <header><h2>Retire it</h2></header>
          <div class="pad form">
            <p>For a machine that is gone. Its findings close, its reports are refused, what it sent stays.</p>
            <form method="post" action="/hosts/many">
              <input type="hidden" name="host" value="${host.id}" /><button
                class="btn"
                name="action"
                value="retire"
                type="submit"
              >
                Retire ${host.name}…
              </button>
            </form>
          </div>
        </section>`
    }`;
}

/** What else there is of a host, a tab each: deployments with who signed them, the chain of reports, the history of verdicts, its identity. */
import type { Instant } from '#src/clock.ts';
import { returnedText } from '#src/finding/returned.ts';
import type { DeploymentEntry } from '#src/deployment/state.ts';
import type { VerdictChange } from '#server/store/records.ts';
import { lineageSteps } from '#server/hostlineage.ts';
import type { About } from './hostabout.ts';
import { between } from './hostfindings.ts';
import { imagesNamed } from './hostfilter.ts';
import { lineageSheet } from './hostlineage.ts';
import { changeForm } from './hostacts.ts';
import { copyHtml, digestHtml, html, icon, type Html } from './html.ts';
import { emptyHtml } from './parts/page.ts';
import { postureHref } from './posture.ts';
import { auditRows } from './activity.ts';
import type { WebServices } from './services.ts';
import { capital, dayHtml, dayOf, momentHtml, plural, timeHtml, verdictHtml } from './words.ts';

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

/** A waiver that came to its end between this change and the one before: why it was judged anew. */
function endedWaiver({ findings }: About, { at }: VerdictChange, before: Instant): string {
  const [last] = findings
    .flatMap(({ returned }) => (returned?.how.startsWith('waiver_') === true ? [returned] : []))
    .filter((each) => each.at > before && each.at <= at)
    .sort((a, b) => b.at - a.at);
  return last === undefined ? 'judged anew, without a report' : `judged anew: ${returnedText(last)}`;
}

function timeline(about: About, history: readonly VerdictChange[]): Html {
  const { host, now } = about;
  return html`<ol class="timeline">
    ${history.map(
      ({ at, from, to, seq }, n) =>
        html`<li class="${to}">
          ${icon(`v-${to}`)}
          <div>
            ${capital(to)}${from !== 'new' && html` <span class="quiet">before: ${from}</span>`}<br /><small
              ><a href="${postureHref(host.id, at)}" title="How it stood then"
                >${now - at < 2 * DAY_MS ? momentHtml(at) : timeHtml(at)}</a
              >${seq !== null ? html` · <a href="/hosts/${host.id}/reports">${between(seq, host.chain)}</a>` : ` · ${endedWaiver(about, history[n]!, history[n + 1]?.at ?? 0)}`}</small
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
    lineageSteps(host, services),
  ]);
  const states = await Promise.all(
    slots.map(async ({ entry }) => (await services.trust.of(entry.image?.digest ?? null)).facts.provenance),
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
    ${lineageSheet(lineage, now)}
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
                class="btn named"
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

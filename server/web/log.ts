/** `/log`: how the evidence log stands, what it proves by itself, and how that becomes more (docs/log.md 1). */
import type { Hono } from 'hono';
import { toBase64 } from '#src/bytes.ts';
import type { Instant } from '#src/clock.ts';
import type { AnchorsStanding, AnchorStanding } from '#server/log/anchors.ts';
import { commandHtml, copyHtml, html, icon, type Html } from './html.ts';
import { show } from './layout.ts';
import { levelHtml } from './parts/level.ts';
import { emptyHtml, headHtml } from './parts/page.ts';
import type { Env, WebServices } from './services.ts';
import { agoHtml, count, plural, timeHtml } from './words.ts';

export function logPage(web: Hono<Env>, services: WebServices): void {
  const { store, clock, evidence, anchors } = services;
  web.get('/log', async (c) => {
    const now = clock();
    const [head, pending, past] = await Promise.all([store.log.head(), store.log.pending(), store.log.past()]);
    const { published, refusal } = evidence;
    const standing = await anchors.standing(head?.origin);
    const checkpoint = published?.checkpoint;
    const body = html`${headHtml({
        title:
          refusal !== undefined
            ? 'The evidence log is not signed'
            : standing.alarms.length > 0
              ? 'A witness knows another log'
              : `${plural(checkpoint?.size ?? 0, 'entry', 'entries')}, signed`,
        text: 'Every full report, every change of a verdict or finding and every decision is an entry, added in the transaction that made it true. Whoever has an earlier checkpoint sees whether anything before it was changed.',
      })}
      ${
        refusal !== undefined &&
        html`<section class="sheet">
          ${emptyHtml(
            'Somebody must act',
            `${refusal.message}. Reports are taken meanwhile, and what they say waits to be logged.`,
            commandHtml('bootproof log status'),
          )}
        </section>`
      }
      <div class="stack">
        ${standing.alarms.map(
          ({ trouble }) =>
            html`<div class="note critical" role="alert">
              ${icon('stop')}
              <div>${trouble!.text}. ${commandHtml('bootproof log verify')}</div>
            </div>`,
        )}
        <section class="sheet">
          <header><h2>The log</h2></header>
          <div class="pad">
            <dl class="facts">
              <dt>Name</dt>
              <dd><code>${head?.origin ?? 'none yet'}</code></dd>
              ${
                checkpoint !== undefined &&
                html`<dt>Newest checkpoint</dt>
                  <dd>
                    ${plural(checkpoint.size, 'entry', 'entries')}, ${timeHtml(checkpoint.at)},
                    ${agoHtml(checkpoint.at, now)} ago
                  </dd>
                  <dt>Root</dt>
                  <dd><code>${toBase64(checkpoint.root)}</code></dd>`
              }
              <dt>Without a place yet</dt>
              <dd>
                ${count(pending.count)}${pending.oldest !== null && html`, the oldest for ${agoHtml(pending.oldest, now)}`}
              </dd>
              ${head !== undefined && keyHtml(evidence.vkey(head.origin))}
              ${past.map(
                ({ origin, size, endedAt }) =>
                  html`<dt>Ended</dt>
                    <dd><code>${origin}</code> with ${plural(size, 'entry', 'entries')}, ${timeHtml(endedAt)}</dd>`,
              )}
            </dl>
          </div>
        </section>
        ${levelHtml('What it proves', { level: standing.level, raise: (checkpoint?.size ?? 0) > 0 ? standing.raise : [] }, keptHtml)}
        ${anchorsHtml(standing, now)}
        <section class="sheet">
          <header><h2>Verify it</h2></header>
          <div class="pad">
            <p>Computes every tile and root anew from the entries, and names each row that is not what was logged:</p>
            ${commandHtml('bootproof log verify')}
            <p>The same as files, for tools that are not ours (C2SP tlog-tiles):</p>
            ${commandHtml('bootproof log dump DIR')}
          </div>
        </section>
      </div>`;
    return show(c, services, { title: 'Evidence log', section: '/settings', now, body });
  });
}

const keptHtml = html`<p>What an auditor takes along of the hosts:</p>
  ${commandHtml('bootproof agent checkpoint --out FILE')}`;

function keyHtml(vkey: string): Html {
  return html`<dt>Key</dt>
    <dd><code>${vkey}</code> ${copyHtml(vkey, 'copy the key')}</dd>`;
}

const DOES = { witness: 'cosigned', authority: 'stamped', hosts: 'keep' } as const;
const WHO = { witness: 'Witness', authority: 'Authority', hosts: 'Hosts' } as const;

function anchorsHtml({ anchors }: AnchorsStanding, now: Instant): Html {
  return html`<section class="sheet">
    <header>
      <h2>Who else keeps it</h2>
      <span class="quiet">each sees whether what it saw before was changed</span>
    </header>
    ${
      anchors.length === 0
        ? emptyHtml('Nobody yet', 'No host told which checkpoint it keeps, and no witness or authority is named.')
        : html`<div class="pad">
            <ul class="rows">
              ${anchors.map((one) => anchorRow(one, now))}
            </ul>
          </div>`
    }
  </section>`;
}

function anchorRow({ kind, name, size, at, triedAt, trouble }: AnchorStanding, now: Instant): Html {
  const done =
    size > 0
      ? html`${DOES[kind]} ${plural(size, 'entry', 'entries')}, ${at !== null && timeHtml(at)}`
      : trouble === null && triedAt === null
        ? 'not asked yet'
        : 'nothing yet';
  return html`<li>
      <span class="grow">${WHO[kind]}${kind !== 'hosts' && html` <code>${name}</code>`}</span>
      <span class="quiet">${done}</span>
    </li>
    ${
      trouble !== null &&
      html`<li>
        <span
          ><strong>${trouble.alarm ? 'It knows another log, as said above' : trouble.text}</strong>
          <span class="quiet"
            >since ${agoHtml(trouble.since, now)}, ${plural(trouble.times, 'attempt')}; it is asked again</span
          ></span
        >
      </li>`
    }`;
}

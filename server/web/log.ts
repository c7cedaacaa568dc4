/** `/log`: how the evidence log stands, what it proves by itself, and how that becomes more (docs/log.md 1). */
import type { Hono } from 'hono';
import { toBase64 } from '#src/bytes.ts';
import { commandHtml, copyHtml, html, type Html } from './html.ts';
import { show } from './layout.ts';
import { emptyHtml, headHtml } from './parts/page.ts';
import type { Env, WebServices } from './services.ts';
import { agoHtml, count, plural, timeHtml } from './words.ts';

export function logPage(web: Hono<Env>, services: WebServices): void {
  const { store, clock, evidence } = services;
  web.get('/log', async (c) => {
    const now = clock();
    const [head, pending, past] = await Promise.all([store.log.head(), store.log.pending(), store.log.past()]);
    const { published, refusal } = evidence;
    const checkpoint = published?.checkpoint;
    const body = html`${headHtml({
        title:
          refusal !== undefined
            ? 'The evidence log is not signed'
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
        ${levelsHtml()}
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

function keyHtml(vkey: string): Html {
  return html`<dt>Key</dt>
    <dd><code>${vkey}</code> ${copyHtml(vkey, 'copy the key')}</dd>`;
}

/** What the log proves is not decided here: it depends on what others keep. */
function levelsHtml(): Html {
  return html`<section class="sheet">
    <header><h2>What it proves</h2></header>
    <div class="pad">
      <dl class="facts">
        <dt>Level 0</dt>
        <dd>This server’s word: who has its database and key can write the log anew and sign it again.</dd>
        <dt>Level 1</dt>
        <dd>
          With checkpoints that an auditor collects from hosts. Each host keeps the newest one that continues the one
          before, and says when there is none: ${commandHtml('bootproof agent checkpoint --out FILE')}
        </dd>
        <dt>Level 2</dt>
        <dd>
          With a witness’s signature or a timestamp over a checkpoint, by somebody who runs neither the server nor the
          hosts.
        </dd>
      </dl>
    </div>
  </section>`;
}

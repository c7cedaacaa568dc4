/** `/images`: what hosts boot, whether its manifest is there, why not, and where images may come from. */
import type { Context, Hono } from 'hono';
import { allowSource, claimedSource } from '#server/decisions/sources.ts';
import type { BuildNotes } from '#server/jobs/builder.ts';
import type { Image, ImageInList, Manifest, Reason } from '#server/store/records.ts';
import type { ProvenanceFacts } from '#server/trust/provenance.ts';
import { digestHtml, html, type Html } from './html.ts';
import { missingPage, show } from './layout.ts';
import type { Env, WebServices } from './services.ts';
import { trustSheet } from './trust.ts';
import { agoHtml, count, plural, timeHtml } from './words.ts';

const PAGE = 50;
/** Notes of a build that a page shows; the API has all. */
const NOTES_MAX = 100;

export function imagePages(web: Hono<Env>, services: WebServices): void {
  web.get('/images', (c) => listPage(c, services));
  web.get('/images/:digest', (c) => imagePage(c, services));
  web.post('/sources', async (c) => {
    const form = await c.req.parseBody();
    const reference = typeof form['reference'] === 'string' ? form['reference'] : '';
    await allowSource(
      reference,
      { plainHttp: false },
      { actor: c.get('principal').id, at: services.clock() },
      services,
    );
    services.wake();
    return c.redirect('/images', 303);
  });
}

async function listPage(c: Context<Env>, services: WebServices): Promise<Response> {
  const { store, clock } = services;
  const now = clock();
  const [list, sources] = await Promise.all([
    store.read.images({}, { limit: PAGE, cursor: cursorOf(c.req.query('after')) }),
    store.sources.list(),
  ]);
  const body = html`<div class="head">
      <h1>${list.items.length === 0 ? 'No host has named an image yet' : 'Images that hosts boot, stage or keep'}</h1>
      <p>Each is fetched from the allowed sources only, and its file manifest is what hosts are compared with.</p>
    </div>
    <div class="cols aside">
      <div class="sheet">
        ${list.items.length > 0 && table(list.items, now)}
        ${list.next !== null && html`<footer><a class="link" href="/images?after=${list.next.at}.${encodeURIComponent(list.next.digest)}">Next ${PAGE}</a></footer>`}
      </div>
      <aside class="stack">
        <section class="sheet">
          <header><h2>Sources</h2></header>
          <div class="pad form">
            ${
              sources.length === 0
                ? html`<p class="quiet">None is allowed, so no image can be fetched.</p>`
                : html`<ul class="rows">
                    ${sources.map(({ pattern }) => html`<li><code class="grow">${pattern}</code></li>`)}
                  </ul>`
            }
            ${allowForm()}
          </div>
        </section>
      </aside>
    </div>`;
  return show(c, services, { title: 'Images', section: '/images', now, body });
}

function allowForm(): Html {
  return html`<form class="form" method="post" action="/sources">
    <div class="field">
      <label for="reference">Repository</label>
      <input
        class="input mono"
        id="reference"
        name="reference"
        required
        maxlength="1000"
        placeholder="docker://registry.example/team/image"
        aria-describedby="reference-help"
      />
      <small id="reference-help">Images are fetched from it by digest, whatever its tags say.</small>
    </div>
    <button class="btn" type="submit">Allow this source</button>
  </form>`;
}

function table(images: readonly ImageInList[], now: number): Html {
  return html`<table class="list">
    <caption class="sr">
      Images, newest first
    </caption>
    <thead>
      <tr>
        <th>Image</th>
        <th>Manifest</th>
        <th class="num">Booted</th>
        <th class="p2 num">Staged</th>
        <th class="p2 num">Rollback</th>
        <th class="p3 num">First seen</th>
      </tr>
    </thead>
    <tbody>
      ${images.map(
        (image) =>
          html`<tr>
            <td class="main">
              <div class="two">
                <span
                  ><a class="go" href="/images/${encodeURIComponent(image.digest)}">${digestHtml(image.digest)}</a>
                  ${image.version}</span
                >
                <span>${image.repositories[0] ?? image.claims[0] ?? 'no host says where it is from'}</span>
              </div>
            </td>
            <td>${stateHtml(image)}</td>
            <td class="num">${count(image.hosts.booted)}</td>
            <td class="p2 num">${count(image.hosts.staged)}</td>
            <td class="p2 num">${count(image.hosts.rollback)}</td>
            <td class="p3 num soft nowrap">${agoHtml(image.firstSeen, now)}</td>
          </tr>`,
      )}
    </tbody>
  </table>`;
}

function stateHtml({ state, reasons }: Pick<Image, 'state' | 'reasons'>): Html {
  const [reason] = reasons;
  return state === 'failed' && reason !== undefined
    ? html`<span title="${reason.text}">failed <code>${reason.code}</code></span>`
    : html`${state}`;
}

async function imagePage(c: Context<Env>, services: WebServices): Promise<Response> {
  const { store, clock } = services;
  const found = await store.images.find(c.req.param('digest')!);
  if (found === undefined) return missingPage(c, services);
  const now = clock();
  const { image, via } = found;
  const [aliases, manifests, signed, { facts }] = await Promise.all([
    store.read.aliases(image.digest),
    store.images.manifests(image.digest),
    trustSheet(image.digest, services, now),
    services.trust.of(image.digest),
  ]);
  const body = html`<div class="head">
      <nav class="crumb" aria-label="Breadcrumb">
        <a href="/images">Images</a><span aria-hidden="true">/</span><span>${digestHtml(image.digest)}</span>
      </nav>
      <h1>${headline(image, facts.provenance)}</h1>
      <p>
        ${via !== 'digest' && `Found by its ${via === 'bare-hex' ? 'digest without algorithm' : `${via} digest`}. `}${image.version !== null && `Version ${image.version}.`}
      </p>
    </div>
    <div class="cols aside">
      <div class="stack">
        ${image.reasons.length > 0 && whySheet(image, now)} ${signed}
        ${manifests.length > 0 && manifestsSheet(manifests)} ${warningsSheet(image)}
      </div>
      <aside class="stack">
        <section class="sheet">
          <header><h2>This image</h2></header>
          <div class="pad">
            <dl class="facts">
              <dt>Digest</dt>
              <dd><code class="digest full">${image.digest}</code></dd>
              ${aliases.map(
                ({ alias, kind }) =>
                  html`<dt>${kind}</dt>
                    <dd><code class="digest full">${alias}</code></dd>`,
              )}
              <dt>Found in</dt>
              <dd>${image.repositories.join(', ') || '–'}</dd>
              <dt>Hosts say</dt>
              <dd>${image.claims.join(', ') || '–'}</dd>
              <dt>First seen</dt>
              <dd>${timeHtml(image.firstSeen)}</dd>
              ${
                image.builtAt !== null &&
                html`<dt>Built</dt>
                  <dd>${timeHtml(image.builtAt)}</dd>`
              }
            </dl>
          </div>
        </section>
      </aside>
    </div>`;
  return show(c, services, { title: 'Image', section: '/images', now, body });
}

function manifestsSheet(manifests: readonly Manifest[]): Html {
  return html`<section class="sheet">
    <header>
      <h2>File manifests</h2>
      <span class="quiet">${plural(manifests.length, 'rule')}</span>
    </header>
    <table class="list flat">
      <caption class="sr">
        File manifests by rule
      </caption>
      <thead>
        <tr>
          <th>Rule</th>
          <th>/usr</th>
          <th>/etc</th>
          <th class="p2 num">Paths</th>
        </tr>
      </thead>
      <tbody>
        ${manifests.map(
          ({ rule, trees }) =>
            html`<tr>
              <td class="main">${rule}</td>
              <td>${digestHtml(trees.usr.main.full)}</td>
              <td>${digestHtml(trees.etc.main.full)}</td>
              <td class="p2 num">${count(trees.usr.entries + trees.etc.entries)}</td>
            </tr>`,
        )}
      </tbody>
    </table>
  </section>`;
}

/** What a host loses or changes of this image without saying so, and which backends would refuse it. */
function warningsSheet({ warnings: told }: Image): Html | undefined {
  const { warnings = [], refused = [] } = (told ?? {}) as Partial<BuildNotes>;
  if (warnings.length + refused.length === 0) return undefined;
  return html`<section class="sheet">
    <header>
      <h2>For who builds this image</h2>
      <span class="quiet">${plural(warnings.length + refused.length, 'note')}</span>
    </header>
    <div class="pad">
      <dl class="facts">
        ${[...refused.map(({ code, text }) => ({ code, message: text })), ...warnings].slice(0, NOTES_MAX).map(
          ({ code, message }) =>
            html`<dt><code>${code}</code></dt>
              <dd>${message}</dd>`,
        )}
      </dl>
    </div>
  </section>`;
}

/** That there is a manifest says nothing of who built the image: a heading of the one alone would read as praise of both. */
function headline({ state }: Image, provenance: ProvenanceFacts['provenance']): string {
  const trust = TRUST_TEXT[provenance.state];
  return trust === undefined
    ? manifestText(state, 'The manifest of this image')
    : `${trust}; ${manifestText(state, 'its manifest')}`;
}

const TRUST_TEXT: Readonly<Record<ProvenanceFacts['provenance']['state'], string | undefined>> = {
  trusted: 'This image is trusted',
  rejected: 'This image is rejected: signed, but not as policy demands',
  unsigned: 'This image is not signed by anybody trusted',
  unverifiable: 'Nobody can tell who signed this image',
  'not-assessed': undefined,
};

function manifestText(state: Image['state'], manifest: string): string {
  switch (state) {
    case 'ready':
      return `${manifest} is there`;
    case 'building':
      return `${manifest} is being built`;
    case 'pending':
      return `${manifest} waits to be built`;
    case 'failed':
      return `${manifest} could not be built: hosts on this image cannot be judged`;
  }
}

function whySheet(image: Image, now: number): Html {
  const places = [...new Set(image.claims.flatMap((claim) => claimedSource(claim) ?? []))];
  const allowable = image.reasons.some(({ code }) => code === 'IMAGE_SOURCE_NOT_ALLOWED');
  return html`<section class="sheet">
    <header>
      <h2>Why</h2>
      ${image.nextTry !== null && html`<span class="quiet">tried again ${agoHtml(image.nextTry, now)}</span>`}
    </header>
    <div class="pad form">
      <dl class="facts">
        ${image.reasons.map(
          ({ code, text }: Reason) =>
            html`<dt><code>${code}</code></dt>
              <dd>${text}</dd>`,
        )}
      </dl>
      ${
        allowable &&
        places.map(
          (place) =>
            html`<form method="post" action="/sources">
              <input type="hidden" name="reference" value="${place}" />
              <button class="btn first" type="submit">Allow images from ${place}</button>
            </form>`,
        )
      }
    </div>
  </section>`;
}

function cursorOf(text: string | undefined): { at: number; digest: string } | null {
  const match = /^([0-9]{1,15})\.(.{1,200})$/.exec(text ?? '');
  return match === null ? null : { at: Number(match[1]), digest: match[2]! };
}

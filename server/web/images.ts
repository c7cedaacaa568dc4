/** `/images`: what hosts boot, stage and keep, who signed it, whether it can be compared with, and what drifted on it. */
import type { Context, Hono } from 'hono';
import { readAgain } from '#server/decisions/images.ts';
import { allowSource } from '#server/decisions/sources.ts';
import { actOf, mustBeEverywhere } from '#server/decisions/may.ts';
import type { ImageInList } from '#server/store/records.ts';
import { digestHtml, html, icon, type Html } from './html.ts';
import { nameOf } from './home.ts';
import { imagePage, STATE_WORDS, stateHtml } from './image.ts';
import { imageDiffPage } from './imagediff.ts';
import { imageHostsPage } from './imagehosts.ts';
import { missingPage, show } from './layout.ts';
import { emptyHtml, headHtml } from './parts/page.ts';
import { barHtml } from './parts/charts.ts';
import type { Env, WebServices } from './services.ts';
import { agoHtml, count, plural, verdictHtml } from './words.ts';

const PAGE = 50;
const STATES = ['pending', 'building', 'ready', 'failed'] as const;

export function imagePages(web: Hono<Env>, services: WebServices): void {
  web.get('/images', (c) => listPage(c, services));
  web.get('/images/:digest', (c) => imagePage(c, services));
  web.get('/images/:digest/diff', (c) => imageDiffPage(c, services));
  imageHostsPage(web, services);
  web.post('/images/:digest/rebuild', async (c) => {
    const who = c.get('principal');
    mustBeEverywhere(who, 'read images again', 'operator', 'admin');
    const asked = await readAgain(c.req.param('digest'), actOf(who, services.clock()), services);
    if (asked === undefined) return missingPage(c, services);
    services.wake();
    return c.redirect(`/images/${encodeURIComponent(asked.digest)}?did=rebuild`, 303);
  });
  web.post('/sources', async (c) => {
    const form = await c.req.parseBody();
    const reference = typeof form['reference'] === 'string' ? form['reference'] : '';
    const who = c.get('principal');
    mustBeEverywhere(who, 'allow sources', 'admin');
    await allowSource(reference, { plainHttp: false }, actOf(who, services.clock()), services);
    services.wake();
    return c.redirect(form['next'] === 'settings' ? '/settings' : '/images', 303);
  });
}

async function listPage(c: Context<Env>, services: WebServices): Promise<Response> {
  const { store, clock, trust } = services;
  const now = clock();
  const scope = c.get('principal').groups;
  const state = STATES.find((each) => each === c.req.query('state'));
  const list = await store.read.images(
    { scope, ...(state === undefined ? {} : { states: [state] }) },
    { limit: PAGE, cursor: cursorOf(c.req.query('after')) },
  );
  const known = await trust.ofMany(list.items);
  const most = Math.max(0, ...list.items.map(({ hosts }) => hosts.booted));
  const later = c.req.query('after') !== undefined;
  const signed = list.items.filter(({ digest }) => known.get(digest)?.provenance.state === 'trusted').length;
  const failed = list.items.filter((image) => image.state === 'failed').length;
  const body = html`${headHtml({
      title:
        list.items.length === 0
          ? state === undefined
            ? 'No host has named an image yet'
            : 'No image is in this state'
          : `${plural(list.items.length, 'image')}${list.next !== null || later ? ' and more' : ''} on the hosts`,
      text:
        list.items.length === 0
          ? 'An image appears here when a host boots, stages or keeps it.'
          : `${services.basis.setup === null ? 'Nobody is asked who signed them' : `${count(signed)} signed as policy asks`}. ${failed === 0 ? 'Each that is ready can be compared with.' : `${plural(failed, 'image')} cannot be read, so ${failed === 1 ? 'its' : 'their'} hosts cannot be judged.`}`,
      acts: html`<a class="btn" href="/settings#sources">${icon('image')}Sources</a>`,
    })}
    <nav class="tabs" aria-label="State of the manifest">
      <a href="/images" ${state === undefined && html` aria-current="page"`}>All</a>
      ${STATES.map((each) => html`<a href="/images?state=${each}" ${each === state && html` aria-current="page"`}>${STATE_WORDS[each]}</a>`)}
    </nav>
    <div class="sheet under">
      ${
        list.items.length === 0
          ? emptyHtml(
              state === undefined ? 'Nothing yet' : 'Nothing here',
              state === undefined
                ? 'Enrol a host: it names what it booted with its first report.'
                : 'Images in other states are under All.',
              html`<a class="btn" href="${state === undefined ? '/hosts' : '/images'}"
                >${state === undefined ? 'Hosts' : 'All images'}</a
              >`,
            )
          : table(list.items, most, known, now)
      }
      ${
        list.items.length > 0 &&
        html`<footer>
          <span>${plural(list.items.length, 'image')}</span>
          ${
            (later || list.next !== null) &&
            html`<span class="acts"
              >${later && html`<a class="link" href="/images${state !== undefined && `?state=${state}`}">First page</a>`}${list.next !== null && html`<a class="link" rel="next" href="/images?${state !== undefined && `state=${state}&`}after=${list.next.at}.${encodeURIComponent(list.next.digest)}">Next page</a>`}</span
            >`
          }
        </footer>`
      }
    </div>`;
  return show(c, services, { title: 'Images', section: '/images', now, body });
}

function table(
  images: readonly ImageInList[],
  most: number,
  known: Awaited<ReturnType<WebServices['trust']['ofMany']>>,
  now: number,
): Html {
  return html`<table class="list">
    <caption class="sr">
      Images, those first that were first seen last
    </caption>
    <thead>
      <tr>
        <th>Image</th>
        <th class="p3">Digest</th>
        <th>Signature</th>
        <th class="p2">Manifest</th>
        <th class="p4"><span class="sr">Share of hosts</span></th>
        <th class="num">Booted</th>
        <th class="p2 num">Staged</th>
        <th class="p3 num">Kept</th>
        <th class="p4 num">First seen</th>
      </tr>
    </thead>
    <tbody>
      ${images.map((image) => {
        const provenance = known.get(image.digest)!.provenance;
        return html`<tr>
          <td class="main">
            <span class="clip"
              ><a class="go" href="/images/${encodeURIComponent(image.digest)}"
                ><strong>${nameOf(image)}</strong> <span class="soft">${image.version ?? 'version unknown'}</span></a
              ></span
            >
          </td>
          <td class="p3">${digestHtml(image.digest)}</td>
          <td title="${'why' in provenance ? provenance.why : 'by' in provenance ? provenance.by : ''}">
            ${verdictHtml(provenance.state)}
          </td>
          <td class="p2">${stateHtml(image)}</td>
          <td class="p4 share">${barHtml(image.hosts.booted, most)}</td>
          <td class="num">
            ${image.hosts.booted === 0 ? html`<span class="quiet">0</span>` : html`<a class="over" href="/hosts?image=${encodeURIComponent(image.digest)}">${count(image.hosts.booted)}</a>`}
          </td>
          ${(
            [
              ['p2', 'staged'],
              ['p3', 'rollback'],
            ] as const
          ).map(
            ([width, slot]) =>
              html`<td class="${width} num soft">
                ${image.hosts[slot] === 0 ? html`<span class="quiet">0</span>` : html`<a class="over" href="/hosts?${slot}=${encodeURIComponent(image.digest)}">${count(image.hosts[slot])}</a>`}
              </td>`,
          )}
          <td class="p4 num soft nowrap">${agoHtml(image.firstSeen, now)}</td>
        </tr>`;
      })}
    </tbody>
  </table>`;
}

function cursorOf(text: string | undefined): { at: number; digest: string } | null {
  const match = /^([0-9]{1,15})\.(.{1,200})$/.exec(text ?? '');
  return match === null ? null : { at: Number(match[1]), digest: match[2]! };
}

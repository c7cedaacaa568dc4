/** `/search`: what somebody has in hand (a host's name, a path, a digest) led to where it is: changes, hosts, images. */
import type { Context, Hono } from 'hono';
import { printFilter, type FilterLine } from '#src/finding/filter.ts';
import type { Principal } from '#server/access/principal.ts';
import { imageFor, imagesBeginning } from '#server/decisions/images.ts';
import { readableWaivers } from '#server/decisions/waiverreads.ts';
import type { Image } from '#server/store/records.ts';
import { digestHtml, html, icon, type Html } from './html.ts';
import { show } from './layout.ts';
import { whatHtml } from './parts/finding.ts';
import { emptyHtml, headHtml } from './parts/page.ts';
import type { Env, WebServices } from './services.ts';
import { SEVERITIES } from '#src/policy/judgement.ts';
import { bounded, plural, severityGlyph, verdictHtml } from './words.ts';
import { viewOf } from '#server/standing.ts';

const SHOWN = 8;
const ASKED_MAX = 300;
const COUNTED_MAX = 1000;

export function searchPage(web: Hono<Env>, services: WebServices): void {
  web.get('/search', (c) => page(c, services));
}

async function page(c: Context<Env>, services: WebServices): Promise<Response> {
  const { store, clock } = services;
  const now = clock();
  const asked = (c.req.query('q') ?? '').trim().slice(0, ASKED_MAX);
  if (asked === '' || !asked.isWellFormed()) return c.redirect('/findings', 303);
  const who = c.get('principal');
  const place = await placeOf(asked, who, services);
  if (place !== undefined) return c.redirect(place, 303);
  const ids = await contentGroups(asked, store);
  const line: FilterLine = [
    ids.length > 0 ? { field: 'id', negated: false, values: ids } : { field: 'text', negated: false, values: [asked] },
  ];
  const groups = { line, status: 'all', scope: who.groups, now } as const;
  const hosts = { now, scope: who.groups, namePrefix: asked };
  const [found, total, named, all, images] = await Promise.all([
    store.read.groups(groups, 'severity', { cursor: null, limit: SHOWN }),
    store.read.countGroups(groups, COUNTED_MAX),
    store.read.hosts(hosts, 'name', { cursor: null, limit: SHOWN }),
    store.read.countHosts(hosts, COUNTED_MAX),
    imagesCalled(asked, who, store),
  ]);
  const nothing = found.items.length + named.items.length + images.length === 0;
  const q = printFilter(line);
  const changes =
    found.items.length > 0 &&
    section(
      'Changes',
      html`<a class="link" href="/findings?tab=all&q=${encodeURIComponent(q)}">${bounded(total)}</a>`,
      found.items.map(
        (group) =>
          html`<li>
            <span class="grow"
              >${severityGlyph(SEVERITIES[group.severity])} <a href="/findings/${group.id}">${whatHtml(group)}</a></span
            >
            <span class="quiet nowrap"
              >${group.isOpen ? plural(group.hosts.open + group.hosts.acknowledged + group.hosts.waived, 'host') : 'resolved'}</span
            >
          </li>`,
      ),
    );
  const machines =
    named.items.length > 0 &&
    section(
      'Hosts',
      html`<a class="link" href="/hosts?name=${encodeURIComponent(asked)}">${bounded(all)}</a>`,
      named.items.map(
        (host) =>
          html`<li>
            <span class="grow"
              ><a href="/hosts/${host.id}"><strong>${host.name}</strong></a></span
            >
            ${verdictHtml(viewOf(host, now).verdict)}
          </li>`,
      ),
    );
  const body = html`${headHtml({
      title: nothing ? html`Nothing is called “${asked}”` : html`What is called “${asked}”`,
      text: nothing
        ? 'Hosts are found by the beginning of their name, changes by any part of their path or rule, images and what files hold by the first eight digits of their digest or more, waivers by their number.'
        : undefined,
    })}
    ${nothing && html`<section class="sheet">${emptyHtml('No match', 'A shorter piece finds more.', html`<a class="btn" href="/findings">All findings</a><a class="btn" href="/hosts">All hosts</a>`)}</section>`}
    <div class="stack">
      ${changes} ${machines}
      ${
        images.length > 0 &&
        section(
          'Images',
          undefined,
          images.map(
            ({ digest, repositories, version }) =>
              html`<li>
                <span class="grow"
                  >${icon('image')}
                  <a href="/images/${encodeURIComponent(digest)}">${repositories[0] ?? 'An image'} ${version}</a></span
                >
                ${digestHtml(digest)}
              </li>`,
          ),
        )
      }
    </div>`;
  return show(c, services, { title: asked, now, body });
}

/** Where what has a number or an id of its own is: `W-17`, `fg_` and its first digits. */
async function placeOf(asked: string, who: Principal, { store }: WebServices): Promise<string | undefined> {
  if (/^W-[1-9][0-9]{0,14}$/i.test(asked)) {
    const [id = ''] = (await readableWaivers([asked.toUpperCase()], who, { store })) ?? [];
    return id === '' ? undefined : `/waivers/${id}`;
  }
  if (!/^fg_[0-9a-f]{6,40}$/.test(asked)) return undefined;
  const ids = await store.findings.beginning(asked, SHOWN);
  if (ids.length === 0) return undefined;
  const line: FilterLine = [{ field: 'id', negated: false, values: ids }];
  const { items } = await store.read.groups({ line, status: 'all', scope: who.groups }, 'recent', {
    cursor: null,
    limit: 2,
  });
  return items.length === 1 ? `/findings/${items[0]!.id}` : undefined;
}

/** Changes that show a content of this digest, or of one that begins so. */
async function contentGroups(asked: string, { imageOrigins }: WebServices['store']): Promise<readonly string[]> {
  const hex = /^(?:sha256:)?([0-9a-f]{8,64})$/.exec(asked)?.[1];
  return hex === undefined ? [] : imageOrigins.groups(hex, CONTENT_GROUPS);
}
const CONTENT_GROUPS = 100;

async function imagesCalled(asked: string, who: Principal, store: WebServices['store']): Promise<readonly Image[]> {
  const whole = await imageFor(who, asked, store);
  if (whole !== undefined) return [whole.image];
  const digests = (await imagesBeginning(who, asked, store)).slice(0, SHOWN);
  const found = await Promise.all(digests.map((digest) => store.images.find(digest)));
  return found.flatMap((one) => (one === undefined ? [] : [one.image]));
}

function section(title: string, more: Html | undefined, rows: readonly Html[]): Html {
  return html`<section class="sheet">
    <header>
      <h2>${title}</h2>
      ${more}
    </header>
    <div class="pad">
      <ul class="rows">
        ${rows}
      </ul>
    </div>
  </section>`;
}

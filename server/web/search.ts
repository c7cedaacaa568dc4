/** `/search`: what somebody has in hand (a host's name, a path, a digest) led to where it is: changes, hosts, images. */
import type { Context, Hono } from 'hono';
import { printFilter, type FilterLine } from '#src/finding/filter.ts';
import { imageFor } from '#server/decisions/images.ts';
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
  const line: FilterLine = [{ field: 'text', negated: false, values: [asked] }];
  const groups = { line, status: 'all', scope: c.get('principal').groups, now } as const;
  const hosts = { now, scope: c.get('principal').groups, namePrefix: asked };
  const [found, total, named, all, image] = await Promise.all([
    store.read.groups(groups, 'severity', { cursor: null, limit: SHOWN }),
    store.read.countGroups(groups, COUNTED_MAX),
    store.read.hosts(hosts, 'name', { cursor: null, limit: SHOWN }),
    store.read.countHosts(hosts, COUNTED_MAX),
    imageFor(c.get('principal'), asked, store),
  ]);
  const nothing = found.items.length + named.items.length === 0 && image === undefined;
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
        ? 'Hosts are found by the beginning of their name, changes by any part of their path or rule, images by their whole digest.'
        : undefined,
    })}
    ${nothing && html`<section class="sheet">${emptyHtml('No match', 'A shorter piece finds more.', html`<a class="btn" href="/findings">All findings</a><a class="btn" href="/hosts">All hosts</a>`)}</section>`}
    <div class="stack">
      ${changes} ${machines}
      ${
        image !== undefined &&
        section('Images', undefined, [
          html`<li>
            <span class="grow"
              >${icon('image')}
              <a href="/images/${encodeURIComponent(image.image.digest)}"
                >${image.image.repositories[0] ?? 'An image'} ${image.image.version}</a
              ></span
            >
            ${digestHtml(image.image.digest)}
          </li>`,
        ])
      }
    </div>`;
  return show(c, services, { title: asked, now, body });
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

/** `/inventory`: lists of hosts that others keep, and what they and the fleet do not agree on (docs/inventory.md). */
import type { Context, Hono } from 'hono';
import type { Instant } from '#src/clock.ts';
import { INVENTORY_SHOWN } from '#src/limits.ts';
import { isFleetWide } from '#server/access/principal.ts';
import { enrolledRows, matchedText } from '#server/inventory.ts';
import type { Differences, Inventory } from '#server/store/inventoryrecords.ts';
import { commandHtml, html, type Html } from './html.ts';
import { missingPage, show } from './layout.ts';
import { emptyHtml, headHtml, refusedHtml } from './parts/page.ts';
import type { Env, WebServices } from './services.ts';
import { count, plural, timeHtml, whenHtml } from './words.ts';

const PATH = '/inventory';
const COMMAND = 'bootproof inventory import hosts.csv --source cmdb --column name=Hostname';
/** Imports of a source that are listed. */
const VERSIONS = 20;

export function inventoryPages(web: Hono<Env>, services: WebServices): void {
  web.get(PATH, (c) => overview(c, services));
  web.get(`${PATH}/:source{[a-z0-9][a-z0-9._-]{0,63}}`, (c) => one(c, services));
}

const CRUMBS = [
  ['Settings', '/settings'],
  ['Inventories', PATH],
] as const;

/** The whole fleet is held against a list, so who sees a part of it does not see this. */
function closed(c: Context<Env>, services: WebServices): Promise<Response> | undefined {
  if (isFleetWide(c.get('principal'), 'auditor', 'operator', 'admin')) return undefined;
  const title = 'Inventories';
  const body = html`${headHtml({ crumbs: CRUMBS, title })}${refusedHtml('Lists of others are shown to whoever is auditor, operator or admin of the whole fleet.')}`;
  return show(c, services, { title, section: '/settings', now: services.clock(), body });
}

async function overview(c: Context<Env>, services: WebServices): Promise<Response> {
  const refused = closed(c, services);
  if (refused !== undefined) return refused;
  const now = services.clock();
  const newest = await services.store.inventories.newest();
  const title = 'Inventories';
  const body = html`${headHtml({
      crumbs: [CRUMBS[0], [title]],
      title: newest.length === 0 ? 'No list of others was imported' : 'What others count, and we',
      text: 'A list that somebody else keeps (a CMDB, a cloud’s inventory) is held against the hosts that are enrolled. What is in it and not enrolled is not watched; what is enrolled and not in it nobody there knows of.',
    })}
    <div class="stack">
      <section class="sheet">
        ${
          newest.length === 0
            ? emptyHtml(
                'Nothing to compare with',
                'Import a list as CSV, and name the column that says which host it is.',
                commandHtml(COMMAND),
              )
            : html`<table class="list">
                <thead>
                  <tr>
                    <th>List</th>
                    <th class="num">In it</th>
                    <th class="num">Not enrolled</th>
                    <th class="num">Not in the list</th>
                    <th>Imported</th>
                  </tr>
                </thead>
                <tbody>
                  ${newest.map(
                    (inventory) =>
                      html`<tr>
                        <td class="main"><a class="go" href="${PATH}/${inventory.source}">${inventory.source}</a></td>
                        <td class="num">${count(inventory.theirs)}</td>
                        <td class="num">${count(inventory.onlyTheirs)}</td>
                        <td class="num">${count(inventory.onlyOurs)}</td>
                        <td class="soft nowrap">${whenHtml(inventory.at, now)} by ${inventory.by}</td>
                      </tr>`,
                  )}
                </tbody>
              </table>`
        }
      </section>
      ${
        newest.length > 0 &&
        html`<section class="sheet">
          <div class="pad form">
            <p>The same again, or another one:</p>
            ${commandHtml(COMMAND)}
          </div>
        </section>`
      }
    </div>`;
  return show(c, services, { title, section: '/settings', now, body });
}

async function one(c: Context<Env>, services: WebServices): Promise<Response> {
  const refused = closed(c, services);
  if (refused !== undefined) return refused;
  const now = services.clock();
  const { inventories } = services.store;
  const source = c.req.param('source')!;
  const asked = c.req.query('version');
  const version = asked === undefined ? null : /^[1-9][0-9]{0,8}$/.test(asked) ? Number(asked) : 0;
  const inventory = await inventories.get(source, version);
  if (inventory === undefined) return missingPage(c, services);
  const [differences, versions] = await Promise.all([
    inventories.differences(source, inventory.version),
    inventories.versions(source, { cursor: null, limit: VERSIONS }),
  ]);
  const { theirs, ours, onlyTheirs, onlyOurs } = inventory;
  const body = html`${headHtml({
      crumbs: [...CRUMBS, [source]],
      title:
        onlyTheirs + onlyOurs === 0
          ? `${source} and the fleet agree on ${plural(theirs, 'host')}`
          : `${plural(onlyTheirs, 'host')} of ${source} ${onlyTheirs === 1 ? 'is' : 'are'} not enrolled, ${count(onlyOurs)} of ours ${onlyOurs === 1 ? 'is' : 'are'} not in it`,
      text: html`As it was ${timeHtml(inventory.at)}: ${count(theirs)} in the list, ${count(ours)} enrolled. Import the
      list again to compare it with the fleet of now.`,
    })}
    <div class="cols aside">
      <div class="stack">${differencesHtml(differences!)}</div>
      <aside class="stack" aria-label="About">
        ${aboutHtml(inventory)} ${versionsHtml(versions.items, inventory, now)}
      </aside>
    </div>`;
  return show(c, services, { title: source, section: '/settings', now, body });
}

function differencesHtml({ onlyTheirs, onlyOurs }: Differences): Html {
  const more = (all: number): Html | undefined =>
    all > INVENTORY_SHOWN ? html`<span class="quiet">the first ${INVENTORY_SHOWN} of ${count(all)}</span>` : undefined;
  return html`<section class="sheet" id="not-enrolled">
      <header>
        <h2>In the list, not enrolled</h2>
        ${more(onlyTheirs.length)}
      </header>
      ${
        onlyTheirs.length === 0
          ? emptyHtml('None', 'Every host of the list reports here.')
          : html`<div class="pad">
              <ul class="rows">
                ${onlyTheirs.slice(0, INVENTORY_SHOWN).map((name) => html`<li><code class="grow">${name}</code></li>`)}
              </ul>
            </div>`
      }
    </section>
    <section class="sheet" id="not-listed">
      <header>
        <h2>Enrolled, not in the list</h2>
        ${more(onlyOurs.length)}
      </header>
      ${
        onlyOurs.length === 0
          ? emptyHtml('None', 'Every host that reports here is in the list.')
          : html`<div class="pad">
              <ul class="rows">
                ${onlyOurs.slice(0, INVENTORY_SHOWN).map(
                  ({ host, name }) =>
                    html`<li>
                      <span class="grow"><a class="link" href="/hosts/${host}">${name}</a></span
                      ><span class="quiet"><code>${host}</code></span>
                    </li>`,
                )}
              </ul>
            </div>`
      }
    </section>`;
}

function aboutHtml(inventory: Inventory): Html {
  const { mapping, matched, repeated, blank, digest, by, version } = inventory;
  const columns: readonly (readonly [string, string])[] = [
    ...(mapping.id === null ? [] : [['id', mapping.id] as const]),
    ...mapping.labels.map(({ key, column }) => [`label ${key}`, column] as const),
    ...(mapping.name === null ? [] : [[mapping.shortNames ? 'name, up to the dot' : 'name', mapping.name] as const]),
  ];
  return html`<section class="sheet">
    <header><h2>How it was compared</h2></header>
    <div class="pad">
      <dl class="facts">
        <dt>Version</dt>
        <dd>${version}, by ${by}</dd>
        <dt>Matched</dt>
        <dd>${count(enrolledRows(inventory))}: ${matchedText(matched)}</dd>
        ${columns.map(
          ([what, column]) =>
            html`<dt>${what}</dt>
              <dd>column <code>${column}</code></dd>`,
        )}
        ${
          repeated + blank > 0 &&
          html`<dt>Left out</dt>
            <dd>
              ${[repeated > 0 && `${repeated} repeated`, blank > 0 && `${blank} without a word`].filter((part) => part !== false).join(', ')}
            </dd>`
        }
        <dt>File</dt>
        <dd><code class="digest full">${digest}</code></dd>
      </dl>
    </div>
  </section>`;
}

function versionsHtml(versions: readonly Inventory[], shown: Inventory, now: Instant): Html {
  return html`<section class="sheet">
    <header><h2>Imports</h2></header>
    <div class="pad">
      <ul class="rows">
        ${versions.map(
          ({ source, version, at, onlyTheirs, onlyOurs }) =>
            html`<li>
              <span class="grow"
                >${
                  version === shown.version
                    ? html`<strong>version ${version}</strong>`
                    : html`<a class="link" href="${PATH}/${source}?version=${version}">version ${version}</a>`
                },
                ${whenHtml(at, now)}</span
              ><span class="quiet">${count(onlyTheirs)} not enrolled, ${count(onlyOurs)} not in it</span>
            </li>`,
        )}
      </ul>
    </div>
  </section>`;
}

/** `/`: how the fleet stands, in a sentence, and what of it needs a person; each number leads to exactly that list (design, section 1). */
import type { Hono } from 'hono';
import type { Instant } from '#src/clock.ts';
import { printFilter, type FilterTerm } from '#src/finding/filter.ts';
import { SEVERITIES } from '#src/policy/judgement.ts';
import { hasRole, type Principal } from '#server/access/principal.ts';
import { EXPIRING_MS } from '#server/decisions/waiverhygiene.ts';
import { countWaivers, WAIVER_READERS } from '#server/decisions/waiverreads.ts';
import type { Count, FindingGroup, ImageInList, Severity } from '#server/store/records.ts';
import type { GroupFilter } from '#server/store/store.ts';
import { digestHtml, html, icon, type Html } from './html.ts';
import { COUNTED_MAX, show } from './layout.ts';
import { barHtml, stripHtml } from './parts/charts.ts';
import { decidable } from './parts/counts.ts';
import { whatHtml } from './parts/finding.ts';
import { emptyHtml, firstRunHtml, headHtml } from './parts/page.ts';
import type { Env, WebServices } from './services.ts';
import { agoHtml, bounded, capital, count, listed, plural, severityGlyph, severityHtml, verdictHtml } from './words.ts';

/** In the order of the strip; each with the one thing to know of it. */
const VERDICTS = [
  ['compliant', 'they are the image they booted'],
  ['drifted', 'something differs that policy forbids'],
  ['unsigned', 'no signature that policy accepts'],
  ['unverifiable', 'not enough is known to judge'],
  ['silent', 'not heard of within their interval'],
  ['new', 'the first report is still to come'],
] as const;

const CHANGED_SHOWN = 7;
const IMAGES_SHOWN = 6;
/** Images among which the most used are looked for: sorting them all is no list's work. */
const IMAGES_LOOKED_AT = 200;

export function homePage(web: Hono<Env>, services: WebServices): void {
  web.get('/', async (c) => {
    const now = services.clock();
    const scope = c.get('principal').groups;
    const verdicts = await services.store.read.verdicts(now, scope);
    const counts = new Map(verdicts.map(({ verdict, count }) => [verdict, count]));
    const all = verdicts.reduce((sum, { count }) => sum + count, 0);
    const body =
      all === 0 ? firstRunHtml(services.baseUrl()) : await overview(services, c.get('principal'), counts, all, now);
    return show(c, services, { title: 'Home', now, body });
  });
}

const within = (field: 'age' | 'reopened' | 'resolved'): FilterTerm => ({
  field,
  negated: false,
  values: [{ older: false, ms: 86_400_000 }],
});
const DAY = { new: within('age'), back: within('reopened'), over: within('resolved') } as const;
const listOf = (tab: string, term: FilterTerm): string =>
  `/findings?tab=${tab}&q=${encodeURIComponent(printFilter([term]))}&sort=recent`;

async function overview(
  services: WebServices,
  who: Principal,
  counts: ReadonlyMap<string, number>,
  all: number,
  now: Instant,
): Promise<Html> {
  const { read } = services.store;
  const scope = who.groups;
  const readsWaivers = hasRole(who, ...WAIVER_READERS);
  const at = (filter: GroupFilter): GroupFilter => ({ scope, now, ...filter });
  const some = (filter: GroupFilter): Promise<Count> => read.countGroups(at(filter), COUNTED_MAX);
  const since = {
    new: at({ tab: 'open', line: [DAY.new] }),
    back: at({ tab: 'open', line: [DAY.back, { ...DAY.new, negated: true }] }),
    over: at({ tab: 'resolved', line: [DAY.over] }),
  };
  const [open, bySeverity, fresh, back, over, rows, waivers, decide, images, sheets] = await Promise.all([
    some({ tab: 'open' }),
    Promise.all(SEVERITIES.map((_, rank) => some({ tab: 'open', severities: [rank as Severity] }))),
    some(since.new),
    some(since.back),
    some(since.over),
    Promise.all(
      (['new', 'back', 'over'] as const).map((kind) =>
        read.groups(since[kind], kind === 'over' ? 'recent' : 'severity', { cursor: null, limit: CHANGED_SHOWN }),
      ),
    ),
    countWaivers(now, now + EXPIRING_MS, who, services),
    decidable(services, who, now),
    read.images({ scope }, { cursor: null, limit: IMAGES_LOOKED_AT }),
    heardSheet(services, scope, now),
  ]);
  const critical = bySeverity[4]!;
  const shown = rows
    .flatMap(({ items }, at) => items.map((group) => ({ group, kind: KINDS[at]! })))
    .sort((a, b) => Number(a.kind === 'over') - Number(b.kind === 'over') || b.group.severity - a.group.severity)
    .slice(0, CHANGED_SHOWN);
  return html`${headHtml({
      title: sentence(counts, all),
      text: html`${
        open.count === 0
          ? 'Nothing waits for a person.'
          : html`<a href="/findings">${bounded(open)} ${open.count === 1 ? 'change' : 'changes'}</a>
              ${open.count === 1 ? 'needs' : 'need'} a person.`
      }
      ${critical.count > 0 && html`<a href="/findings?q=sev:critical">${capital(few(critical))} ${critical.count === 1 ? 'is' : 'are'} critical</a>${fresh.count > 0 && html`; ${few(fresh)} ${fresh.count === 1 ? 'is' : 'are'} new since yesterday`}.`}`,
      acts: open.count > 0 ? html`<a class="btn first" href="/findings">Open the queue</a>` : undefined,
    })}
    <div class="stack">
      ${strip(counts)}
      <div class="cols two">
        <section class="sheet">
          <header>
            <h2>Since yesterday, this time</h2>
            <span class="quiet tallied"
              ><a href="${listOf('open', DAY.new)}">${bounded(fresh)} new</a> ·
              <a href="/findings?tab=open&q=${encodeURIComponent(printFilter(since.back.line!))}&sort=recent"
                >${bounded(back)} regressed</a
              >
              · <a href="${listOf('resolved', DAY.over)}">${bounded(over)} resolved</a></span
            >
          </header>
          ${
            shown.length === 0
              ? emptyHtml('Nothing changed', 'No change appeared, came back or ended on any host within 24 hours.')
              : changedTable(shown, now)
          }
        </section>
        <div class="stack">
          ${severitySheet(bySeverity, open)}
          ${
            readsWaivers &&
            html`<section class="sheet">
              <header>
                <h2>Waivers</h2>
                <a class="link" href="/waivers?tab=all">All</a>
              </header>
              <div class="pad">
                <ul class="rows">
                  ${(
                    [
                      ['To decide', decide, 'decide'],
                      ['Expire within 14 days', waivers.expiring, 'expiring'],
                      ['Active', waivers.active, 'active'],
                    ] as const
                  ).map(
                    ([word, n, tab]) =>
                      html`<li>
                        <a class="grow" href="/waivers?tab=${tab}">${word}</a
                        ><a href="/waivers?tab=${tab}">${count(n)}</a>
                      </li>`,
                  )}
                </ul>
              </div>
            </section>`
          }
        </div>
      </div>
      <div class="cols two">${await imagesSheet(images.items, images.next !== null, services)} ${sheets}</div>
    </div>`;
}

/** `two`, `12`, `10,000+`: small numbers as words in sentences. */
function few(n: Count): string {
  const words = ['none', 'one', 'two', 'three', 'four', 'five'];
  return n.exact ? (words[n.count] ?? count(n.count)) : bounded(n);
}

function sentence(counts: ReadonlyMap<string, number>, all: number): string {
  const of = (verdict: string): number => counts.get(verdict) ?? 0;
  const some = (n: number): string =>
    n === all ? (n === 1 ? 'The one host' : `All ${count(n)} hosts`) : `${count(n)} of ${plural(all, 'host')}`;
  const verb = (n: number, one: string, many: string): string => (n === 1 ? one : many);
  const drifted = of('drifted');
  if (drifted > 0) return `${some(drifted)} ${verb(drifted, 'differs from its image', 'differ from their image')}`;
  const unsigned = of('unsigned');
  if (unsigned > 0) return `${some(unsigned)} ${verb(unsigned, 'runs', 'run')} an image that nobody trusted has signed`;
  const unknown = of('unverifiable');
  if (unknown > 0) return `${some(unknown)} cannot be judged`;
  const silent = of('silent');
  if (silent > 0) return `${some(silent)} ${verb(silent, 'is', 'are')} silent; the others match their image`;
  const fresh = of('new');
  if (fresh === all) return `${some(all)} ${verb(all, 'has', 'have')} not reported yet`;
  const rest = all - fresh;
  return rest === 1
    ? 'The one host that reported matches the image it booted'
    : `All ${count(rest)} hosts match the image they booted`;
}

function strip(counts: ReadonlyMap<string, number>): Html {
  const parts = VERDICTS.map(([word]) => ({ word, count: counts.get(word) ?? 0, href: `/hosts?verdict=${word}` }));
  return html`<section class="sheet" aria-labelledby="verdicts">
    <h2 id="verdicts" class="sr">Hosts by verdict</h2>
    <div class="pad">
      <div class="verdicts">
        ${stripHtml(parts, 'Hosts by verdict')}
        <ul>
          ${VERDICTS.map(
            ([word, fact]) =>
              html`<li>
                <a href="/hosts?verdict=${word}"
                  ><span class="figure">${count(counts.get(word) ?? 0)}</span>${verdictHtml(word)}<small
                    >${fact}</small
                  ></a
                >
              </li>`,
          )}
        </ul>
      </div>
    </div>
  </section>`;
}

type Kind = 'new' | 'back' | 'over';
const KINDS: readonly Kind[] = ['new', 'back', 'over'];

function changedTable(rows: readonly { readonly group: FindingGroup; readonly kind: Kind }[], now: Instant): Html {
  return html`<table class="list flat">
    <caption class="sr">
      What appeared, came back and ended since yesterday
    </caption>
    <tbody>
      ${rows.map(
        ({ group, kind }) =>
          html`<tr>
            <td class="pick">
              ${
                kind === 'over'
                  ? html`<span class="verdict intact" title="resolved"
                      >${icon('v-compliant')}<span class="sr">resolved: </span></span
                    >`
                  : severityGlyph(SEVERITIES[group.severity])
              }
            </td>
            <td class="main">
              <div class="two">
                <span><a class="go" href="/findings/${group.id}">${whatHtml(group)}</a></span>
                <span
                  >${
                    kind === 'new'
                      ? html`<span class="tag loud new">new</span>`
                      : kind === 'back'
                        ? html`<span class="tag loud regressed">regressed</span>`
                        : 'resolved everywhere ·'
                  }
                  rule <code>${group.rule}</code></span
                >
              </div>
            </td>
            <td class="num nowrap">
              ${
                kind === 'over'
                  ? html`${count(group.hosts.ever)}
                      <span class="unit">${group.hosts.ever === 1 ? 'host' : 'hosts'}</span>`
                  : html`${count(group.hosts.open)}
                      <span class="unit">${group.hosts.open === 1 ? 'host' : 'hosts'}</span>`
              }
            </td>
            <td class="num soft p2 nowrap">
              ${agoHtml(kind === 'over' ? group.lastNewAt : kind === 'new' ? group.firstSeen : group.lastNewAt, now)}
            </td>
          </tr>`,
      )}
    </tbody>
  </table>`;
}

function severitySheet(bySeverity: readonly Count[], open: Count): Html {
  return html`<section class="sheet">
    <header>
      <h2>Open changes by severity</h2>
      <a class="link" href="/findings">${bounded(open)}</a>
    </header>
    <div class="pad">
      <ul class="rows tally">
        ${SEVERITIES.map((word, rank) => ({ word, n: bySeverity[rank]! }))
          .reverse()
          .filter(({ word, n }) => word !== 'info' || n.count > 0)
          .map(
            ({ word, n }) =>
              html`<li>
                <a class="grow" href="/findings?q=sev:${word}">${severityHtml(word)}</a
                ><a href="/findings?q=sev:${word}">${bounded(n)}</a>
              </li>`,
          )}
      </ul>
    </div>
  </section>`;
}

async function imagesSheet(images: readonly ImageInList[], more: boolean, { trust }: WebServices): Promise<Html> {
  const used = images.filter(({ hosts }) => hosts.booted > 0).sort((a, b) => b.hosts.booted - a.hosts.booted);
  const most = used[0]?.hosts.booted ?? 0;
  const rows = await Promise.all(
    used
      .slice(0, IMAGES_SHOWN)
      .map(async (image) => ({ image, state: (await trust.of(image.digest)).facts.provenance.state })),
  );
  return html`<section class="sheet">
    <header>
      <h2>Images in use</h2>
      <a class="link" href="/images">All${more ? '' : ` ${count(images.length)}`}</a>
    </header>
    ${
      rows.length === 0
        ? emptyHtml('No image yet', 'Hosts name the image that they booted with their first report.')
        : html`<table class="list flat">
            <caption class="sr">
              Images by number of hosts that booted them
            </caption>
            <tbody>
              ${rows.map(
                ({ image, state }) =>
                  html`<tr>
                    <td class="main">
                      <span class="clip"
                        ><a class="go" href="/images/${encodeURIComponent(image.digest)}"
                          ><strong>${nameOf(image)}</strong>
                          <span class="soft">${image.version ?? 'version unknown'}</span></a
                        >${image.hosts.staged > 0 && html` <span class="tag">${count(image.hosts.staged)} staged</span>`}${image.state !== 'ready' && html` <span class="tag">manifest ${image.state}</span>`}</span
                      >
                    </td>
                    <td class="p2">${digestHtml(image.digest)}</td>
                    <td>${verdictHtml(state)}</td>
                    <td class="p3 share">${barHtml(image.hosts.booted, most)}</td>
                    <td class="num">
                      <a class="over" href="/hosts?image=${encodeURIComponent(image.digest)}"
                        >${count(image.hosts.booted)}</a
                      >
                    </td>
                  </tr>`,
              )}
            </tbody>
          </table>`
    }
  </section>`;
}

/** What people call it: the repository without its registry. */
export function nameOf({ repositories, claims }: Pick<ImageInList, 'repositories' | 'claims'>): string {
  const place = (repositories[0] ?? claims[0])?.replace(/^[a-z-]+:\/\//, '');
  if (place === undefined) return 'unnamed';
  const parts = place.replace(/(?<=[^/]):[^/:]*$/, '').split('/');
  return parts.length > 1 ? parts.slice(1).join('/') : place;
}

async function heardSheet({ store }: WebServices, scope: Principal['groups'], now: Instant): Promise<Html> {
  const heard = (freshness: 'current' | 'late' | 'silent'): Promise<Count> =>
    store.read.countHosts({ now, scope, freshness }, 1_000_000);
  const [current, late, silent, refused, jobs] = await Promise.all([
    heard('current'),
    heard('late'),
    heard('silent'),
    // Of no host group: for those who see the whole fleet.
    scope === null ? store.read.refusals('') : [],
    scope === null ? store.jobs.lag(now) : [],
  ]);
  const due = jobs.filter(({ waiting, oldest }) => waiting > 0 && oldest <= now);
  const waiting = due.reduce((sum, job) => sum + job.waiting, 0);
  const oldest = Math.min(now, ...due.map((job) => job.oldest));
  const rows: readonly (readonly [string, Count, string])[] = [
    ['Heard in time', current, 'current'],
    ['Late', late, 'late'],
    ['Silent', silent, 'silent'],
  ];
  const strangers = refused.reduce((sum, { count }) => sum + count, 0);
  return html`<section class="sheet">
    <header><h2>Reports</h2></header>
    <div class="pad">
      <ul class="rows">
        ${rows.map(
          ([word, n, freshness]) =>
            html`<li>
              <a class="grow" href="/hosts?freshness=${freshness}">${word}</a
              ><a href="/hosts?freshness=${freshness}">${bounded(n)}</a>
            </li>`,
        )}
        ${
          scope === null &&
          html`<li>
              <span class="grow">Refused, from hosts that nobody enrolled</span
              ><span title="${listed(refused.map(({ code, count: n }) => `${count(n)} ${code}`))}"
                >${count(strangers)}</span
              >
            </li>
            <li>
              <span class="grow">Work that waits</span
              ><span
                >${waiting === 0 ? html`<span class="quiet">none</span>` : html`${count(waiting)}${now - oldest > 60_000 && html` <span class="quiet">since ${agoHtml(oldest, now)}</span>`}`}</span
              >
            </li>`
        }
      </ul>
    </div>
  </section>`;
}

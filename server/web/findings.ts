/** `/findings`: the queue. What policy found, the same on many hosts as one line, with the words that narrow it and acts on many. */
import type { Context, Hono } from 'hono';
import { FilterError, parseFilter, printFilter, type FilterLine, type FilterTerm } from '#src/finding/filter.ts';
import { SEVERITIES } from '#src/policy/judgement.ts';
import { shellQuoted } from '#src/terminal.ts';
import { hasRole, type Principal } from '#server/access/principal.ts';
import { bulkOf } from '#server/decisions/bulk.ts';
import { readLine } from '#server/decisions/line.ts';
import { listViews } from '#server/decisions/views.ts';
import type { Bulk, Count, FindingGroup, SavedView } from '#server/store/records.ts';
import type { GroupCursor, GroupFilter } from '#server/store/store.ts';
import { bulkNotice, bulkPages } from './bulk.ts';
import { groupPages } from './group.ts';
import { html, icon, type Html } from './html.ts';
import { COUNTED_MAX, show } from './layout.ts';
import { barHtml } from './parts/charts.ts';
import { facetsOf, LONG } from './findingfacets.ts';
import { facetsHtml, queryHtml } from './parts/filter.ts';
import { textOf, whatHtml } from './parts/finding.ts';
import { emptyHtml, headHtml, leftOutHtml, noticeHtml } from './parts/page.ts';
import { footHtml } from './parts/table.ts';
import type { Env, WebServices } from './services.ts';
import { viewPages } from './views.ts';
import { agoHtml, bounded, capital, count, severityGlyph, severityHtml } from './words.ts';

const PAGE = 50;
const TABS = ['open', 'acknowledged', 'waived', 'resolved', 'all'] as const;
type Tab = (typeof TABS)[number];

export function findingPages(web: Hono<Env>, services: WebServices): void {
  web.get('/findings', (c) => listPage(c, services));
  bulkPages(web, services);
  viewPages(web, services);
  groupPages(web, services);
}

/** The list as its address says it. */
type Asked = {
  readonly typed: string;
  /** As typed, for chips and links; images by one name. */
  readonly written: FilterLine;
  readonly wrong: string | undefined;
  readonly tab: Tab;
  readonly sort: GroupCursor['sort'];
  readonly cursor: GroupCursor | null;
  /** What stands in the address and narrows nothing, as `name=value`. */
  readonly leftOut: readonly string[];
};

/** What else may stand in the address: whether any text does, or which words. */
const WORDS: ReadonlyMap<string, readonly string[] | undefined> = new Map<string, readonly string[] | undefined>([
  ['q', undefined],
  ['done', undefined],
  ['saved', undefined],
  ['tab', TABS],
  ['sort', ['severity', 'recent']],
  ['more', LONG],
]);

function askedIn(c: Context<Env>): Asked {
  const typed = (c.req.query('q') ?? '').trim();
  const [written, wrong] = readWords(typed);
  const tab =
    TABS.find((one) => one === c.req.query('tab')) ??
    (written.some(({ field }) => field === 'status') ? 'all' : 'open');
  const sort = c.req.query('sort') === 'recent' ? 'recent' : 'severity';
  const cursor = cursorOf(c.req.query('after'), sort);
  const leftOut = [...new URL(c.req.url).searchParams]
    .filter(([name, value]) =>
      name === 'after' ? cursor === null : !WORDS.has(name) || WORDS.get(name)?.includes(value) === false,
    )
    .map(([name, value]) => `${name}=${value}`.slice(0, 200));
  return { typed, written, wrong, tab, sort, cursor, leftOut };
}

function readWords(typed: string): [FilterLine, string | undefined] {
  try {
    return [parseFilter(typed), undefined];
  } catch (error) {
    if (error instanceof FilterError) return [[], `${capital(error.message)}.`];
    throw error;
  }
}

function addressOf(
  { tab, sort }: Pick<Asked, 'tab' | 'sort'>,
  line: FilterLine,
  more: Readonly<Record<string, string>> = {},
): string {
  const query = new URLSearchParams({
    ...(tab === 'open' ? {} : { tab }),
    ...(line.length === 0 ? {} : { q: printFilter(line) }),
    ...(sort === 'severity' ? {} : { sort }),
    ...more,
  });
  return query.size === 0 ? '/findings' : `/findings?${query.toString()}`;
}

const filterFor = (tab: Tab, line: FilterLine, { groups }: Principal, now: number): GroupFilter => ({
  line,
  scope: groups,
  now,
  ...(tab === 'all' ? { status: 'all' } : { tab }),
});

async function listPage(c: Context<Env>, services: WebServices): Promise<Response> {
  const { store, clock } = services;
  const now = clock();
  const who = c.get('principal');
  const asked = askedIn(c);
  const { written, tab, sort, wrong } = asked;
  const line = wrong === undefined ? await readLine(asked.typed, store) : [];
  const filter = filterFor(tab, line, who, now);
  const [list, total, tabs, facets, fleet, views, done] = await Promise.all([
    wrong === undefined
      ? store.read.groups(filter, sort, { limit: PAGE, cursor: asked.cursor })
      : { items: [], next: null },
    wrong === undefined ? store.read.countGroups(filter, COUNTED_MAX) : { count: 0, exact: true },
    Promise.all(TABS.slice(0, 4).map((one) => store.read.countGroups(filterFor(one, line, who, now), COUNTED_MAX))),
    facetsOf(
      line,
      filter,
      who,
      services,
      LONG.find((one) => one === c.req.query('more')),
    ),
    store.read.countHosts({ now, scope: who.groups }, 1_000_000),
    listViews(who, services),
    doneBefore(c, services),
  ]);
  const to = (next: FilterLine, more: Readonly<Record<string, string>> = {}): string => addressOf(asked, next, more);
  const saved = viewsHtml(views, asked);
  const aside = html`${saved}${facetsHtml(facets, written, to)}`;
  const findings =
    tab === 'open'
      ? await store.read.countFindings({ line, scope: who.groups, now, statuses: ['open'] }, COUNTED_MAX)
      : undefined;
  const body = html`${done !== undefined && bulkNotice(done, who, now)}
    ${c.req.query('saved') !== undefined && noticeHtml('The view is saved. It stands at the left, and its address can be sent to others.')}
    ${headHtml({
      title: wrong === undefined ? headline(tab, total, findings, written.length > 0) : 'This filter cannot be read',
      text: wrong === undefined ? textFor(tab) : undefined,
      acts: wrong === undefined && written.length > 0 ? saveForm(asked) : undefined,
    })}
    <div class="cols facets">
      <aside class="facets" aria-label="Filters">${aside}</aside>
      <div>
        ${leftOutHtml(asked.leftOut)} ${tabsHtml(asked, tabs)}
        ${queryHtml({
          action: '/findings',
          typed: asked.typed,
          line: written,
          kept: { ...(tab === 'open' ? {} : { tab }), ...(sort === 'severity' ? {} : { sort }) },
          addressOf: to,
          wrong,
          label: 'Filter changes',
          placeholder: 'sev:>=high path:/usr/lib/** -group:lab is:regressed',
          copies: copiesOf(asked),
          facets: aside,
        })}
        ${
          list.items.length === 0
            ? html`<section class="sheet">${await emptyFor(asked, line, who, now, services)}</section>`
            : tableForm(list.items, { asked, total, fleet: fleet.count, next: list.next, who, now })
        }
      </div>
    </div>`;
  return show(c, services, { title: 'Findings', section: '/findings', now, body }, wrong === undefined ? 200 : 422);
}

/** The act that a form before this page carried out, and that may still be taken back. */
async function doneBefore(c: Context<Env>, services: WebServices): Promise<Bulk | undefined> {
  const id = c.req.query('done');
  if (id === undefined || !/^b_[0-9a-f]{40}(?:\.undo)?$/.test(id)) return undefined;
  const bulk = await services.store.bulks.get(id);
  return bulk === undefined || bulk.actor !== c.get('principal').id
    ? undefined
    : bulkOf(id, c.get('principal'), services);
}

function headline(tab: Tab, total: Count, findings: Count | undefined, narrowed: boolean): string {
  const changes = `${bounded(total)} ${total.count === 1 ? 'change' : 'changes'}`;
  const be = total.count === 1 ? 'is' : 'are';
  switch (tab) {
    case 'open':
      if (total.count === 0) return narrowed ? 'Nothing open matches' : 'Nothing is open';
      return `${changes} ${total.count === 1 ? 'explains' : 'explain'} ${bounded(findings!)} open ${findings!.count === 1 ? 'finding' : 'findings'}`;
    case 'all':
      return total.count === 0 ? 'Nothing matches' : `${changes}, open or not`;
    default:
      return total.count === 0 ? `Nothing is ${tab}` : `${changes} ${be} ${tab}`;
  }
}

function textFor(tab: Tab): string {
  switch (tab) {
    case 'open':
      return 'The same change on many hosts is one line. Only a host’s next report resolves it; people acknowledge or waive.';
    case 'acknowledged':
      return 'Somebody looks after these until the day that stands with them; then they are open again. They weigh on the verdict meanwhile.';
    case 'waived':
      return 'Exceptions that a second person approved. Each ends by itself, and what it covered is open again.';
    case 'resolved':
      return 'No host shows these any more: it went back to its image, booted another one, or was retired.';
    case 'all':
      return 'Everything that was ever found and is still remembered.';
  }
}

function tabsHtml(asked: Asked, counts: readonly Count[]): Html {
  return html`<nav class="tabs" aria-label="Status">
    ${TABS.map((tab, at) => {
      if (tab === 'all' && asked.tab !== 'all') return undefined;
      const n = counts[at];
      return html`<a
        href="${addressOf({ tab, sort: asked.sort }, asked.written)}"
        ${tab === asked.tab && html` aria-current="page"`}
        >${capital(tab)}${n !== undefined && html` <span class="count">${bounded(n)}</span>`}</a
      >`;
    })}
  </nav>`;
}

function copiesOf({ tab, written, sort }: Asked): readonly (readonly [string, string])[] {
  const q = printFilter(written);
  const query = new URLSearchParams({
    ...(tab === 'all' ? { status: 'all' } : { tab }),
    ...(q === '' ? {} : { q }),
    ...(sort === 'severity' ? {} : { sort }),
  });
  return [
    ['as API call', `GET /api/v1/groups?${query.toString()}`],
    [
      'as command',
      `bootproof findings${tab === 'all' ? ' --all' : ` --tab ${tab}`}${q === '' ? '' : ` --filter ${shellQuoted(q)}`}`,
    ],
  ];
}

function viewsHtml(views: readonly SavedView[], asked: Asked): Html {
  const here = printFilter(asked.written);
  const plain = here === '' && asked.tab === 'open';
  return html`<section>
    <h2>Views</h2>
    <ul>
      <li>
        <a href="/findings" ${plain && html` aria-current="true"`}><span>Default queue</span></a>
      </li>
      ${views.map(
        ({ id, name, query, owner }) =>
          html`<li class="saved">
            <a
              href="/findings?q=${encodeURIComponent(query)}"
              ${query === here && html` aria-current="true"`}
              title="${owner === null ? 'Shared' : 'Yours'}: ${query}"
              ><span>${name}</span><span>${owner === null && 'shared'}</span></a
            >${query === here && html`<a class="over quiet" href="/findings/views/${id}" aria-label="Change the view ${name}">Change</a>`}
          </li>`,
      )}
    </ul>
  </section>`;
}

function saveForm({ written }: Asked): Html {
  return html`<details class="menu">
    <summary class="btn">Save view</summary>
    <form class="pop form" method="post" action="/findings/views">
      <input type="hidden" name="q" value="${printFilter(written)}" />
      <div class="field">
        <label for="view-name">Name of the view</label>
        <input class="input" id="view-name" name="name" required maxlength="100" autocomplete="off" />
      </div>
      <label class="opt"
        ><input type="checkbox" name="shared" value="yes" /><span
          >Everybody sees it<small>Only reviewers share views</small></span
        ></label
      >
      <button class="btn first wide" type="submit">Save this view</button>
    </form>
  </details>`;
}

async function emptyFor(
  asked: Asked,
  line: FilterLine,
  who: Principal,
  now: number,
  { store }: WebServices,
): Promise<Html> {
  const { tab, written, wrong } = asked;
  if (wrong !== undefined)
    return emptyHtml(
      'Nothing was looked for',
      'The words that there are stand on a page of their own, with what they mean.',
      html`<a class="btn" href="/keys">Filter words</a>`,
    );
  if (written.length === 0) {
    if (tab !== 'open')
      return emptyHtml(
        `Nothing is ${tab}`,
        'There is nothing to do here.',
        html`<a class="btn" href="/findings">Open changes</a>`,
      );
    if ((await store.read.countHosts({ now, scope: who.groups }, 1)).count === 0)
      return emptyHtml(
        'No host has reported',
        'Nothing is known of any host yet, so nothing can be said of it.',
        html`<a class="btn" href="/settings/enrol">Enrol a host</a>`,
      );
    return emptyHtml(
      'Nothing is open',
      'Every host that reported is its image as far as policy allows, or somebody answers for what differs.',
      html`<a class="btn" href="/findings?tab=resolved&sort=recent">See what was resolved</a>`,
    );
  }
  // Which one word is in the way, and how many there are without it.
  const without = await Promise.all(
    written.map(async (term, at) => ({
      term,
      n: await store.read.countGroups(
        filterFor(
          tab,
          line.filter((_, one) => one !== at),
          who,
          now,
        ),
        COUNTED_MAX,
      ),
    })),
  );
  const best = without.sort((a, b) => b.n.count - a.n.count)[0]!;
  const words = printFilter(written);
  if (best.n.count === 0)
    return emptyHtml(
      'No change matches',
      html`<code>${words}</code> matches nothing.`,
      html`<a class="btn" href="${addressOf(asked, [])}">Clear the filter</a>`,
    );
  const word = printFilter([best.term]);
  return emptyHtml(
    'No change matches',
    html`<code>${words}</code> matches nothing. Without <b>${word}</b> there ${best.n.count === 1 ? 'is' : 'are'}
      ${bounded(best.n)}.`,
    html`<a
      class="btn"
      href="${addressOf(
        asked,
        written.filter((term) => term !== best.term),
      )}"
      >Drop ${word}</a
    >`,
  );
}

type Listed = {
  readonly asked: Asked;
  readonly total: Count;
  readonly fleet: number;
  readonly next: GroupCursor | null;
  readonly who: Principal;
  readonly now: number;
};

function tableForm(groups: readonly FindingGroup[], listed: Listed): Html {
  const { asked, total, next, who } = listed;
  const acts = asked.tab !== 'resolved' && hasRole(who, 'operator', 'reviewer', 'admin');
  const head = (sort: Asked['sort'], word: string): Html =>
    html`<a href="${addressOf({ ...asked, sort }, asked.written)}"
      >${word}${sort === asked.sort && html` ${icon('sortd')}`}</a
    >`;
  const sorted = (sort: Asked['sort']): Html | false => sort === asked.sort && html` aria-sort="descending"`;
  const table = html`<div class="sheet">
    <table class="list">
      <caption class="sr">
        Changes, ${asked.sort === 'severity' ? 'worst first' : 'newest first'}
      </caption>
      <thead>
        <tr>
          ${acts && html`<th class="pick"><span class="sr">Select</span><input type="checkbox" hidden aria-label="Select all that are shown" /></th>`}
          <th class="p2" ${sorted('severity')}>${head('severity', 'Severity')}</th>
          <th>What changed</th>
          <th class="num">Hosts</th>
          <th class="p3">Spread</th>
          <th class="p4">First seen</th>
          <th class="p3" ${sorted('recent')}>${head('recent', 'Last new')}</th>
          <th class="p4">Owner</th>
        </tr>
      </thead>
      <tbody>
        ${groups.map((group) => row(group, acts, listed))}
      </tbody>
    </table>
    ${footHtml({
      shown: groups.length,
      of: total,
      one: 'change',
      note: acts ? html`<kbd>j</kbd> <kbd>k</kbd> move, <kbd>x</kbd> selects, <kbd>e</kbd> acknowledges` : undefined,
      first: asked.cursor === null ? null : addressOf(asked, asked.written),
      next: next === null ? null : addressOf(asked, asked.written, { after: printCursor(next) }),
    })}
  </div>`;
  if (!acts) return table;
  return html`<form method="post" action="/findings/bulk" class="picking">
    <input type="hidden" name="q" value="${printFilter(asked.written)}" />
    <input type="hidden" name="tab" value="${asked.tab}" />
    ${table}
    <div class="bulk" role="group" aria-label="What is selected">
      <span data-selected data-one="change" data-many="changes">Continue with the selected</span>
      <span class="acts">
        <button class="btn" name="action" value="assign" type="submit">Assign…</button>
        ${asked.tab === 'acknowledged' && html`<button class="btn" name="action" value="unacknowledge" type="submit">Take back…</button>`}
        <button class="btn first" name="action" value="acknowledge" type="submit" data-key="e">Acknowledge…</button>
      </span>
    </div>
    ${
      asked.written.length > 0 &&
      asked.tab !== 'all' &&
      html`<p class="allof">
        ${icon('right')}<button class="link" name="action" value="acknowledge-all" type="submit">
          Acknowledge all ${bounded(total)} that match, also those on other pages
        </button>
      </p>`
    }
  </form>`;
}

function row(group: FindingGroup, acts: boolean, { asked, fleet, now }: Listed): Html {
  const { hosts } = group;
  const severity = SEVERITIES[group.severity];
  const present = hosts.open + hosts.acknowledged + hosts.waived;
  const n = asked.tab === 'resolved' ? hosts.ever : asked.tab === 'open' ? hosts.open : present;
  return html`<tr>
    ${
      acts &&
      html`<td class="pick over">
        <input
          type="checkbox"
          name="g"
          value="${group.id}"
          data-findings="${hosts.open}"
          aria-label="Select ${textOf(group)}"
        />
      </td>`
    }
    <td class="p2">${severityHtml(severity)}</td>
    <td class="main">
      <div class="two">
        <span
          ><span class="only-small">${severityGlyph(severity)}</span
          ><a class="go" href="/findings/${group.id}">${whatHtml(group)}</a></span
        >
        <span>${tagsHtml(group, now)}${mixHtml(group, asked.tab)}rule <code>${group.rule}</code></span>
      </div>
    </td>
    <td class="num"><a class="over" href="${hostsOf(group, asked)}">${count(n)}</a></td>
    <td class="p3 share">${barHtml(n, fleet)}<span class="unit">of ${count(fleet)}</span></td>
    <td class="p4 soft nowrap">${agoHtml(group.firstSeen, now)}</td>
    <td class="p3 soft nowrap">${agoHtml(group.lastNewAt, now)}</td>
    <td class="p4 soft nowrap">
      ${
        group.assignee === null
          ? html`<span class="quiet">–</span>`
          : html`<a
              class="over owner"
              href="${addressOf(asked, [{ field: 'assignee', negated: false, values: [group.assignee] }])}"
              >${group.assignee}</a
            >`
      }
    </td>
  </tr>`;
}

/** Fields of a line that are about hosts, or about what was decided on one: what a row's number is narrowed by. */
const ABOUT_HOSTS: ReadonlySet<string> = new Set<FilterTerm['field']>(['group', 'label', 'host', 'image', 'waiver']);
const isAboutHosts = (term: FilterTerm): boolean =>
  ABOUT_HOSTS.has(term.field) || (term.field === 'is' && term.values.includes('stale'));

/** The hosts that a row counts: of the tab, and of what the line says about hosts. */
function hostsOf({ id }: FindingGroup, { tab, written }: Asked): string {
  const line = written.filter(isAboutHosts);
  const query = new URLSearchParams({
    ...(tab === 'open' || tab === 'resolved' ? { status: tab } : {}),
    ...(line.length === 0 ? {} : { q: printFilter(line) }),
  });
  return `/findings/${id}${query.size === 0 ? '' : `?${query.toString()}`}#hosts`;
}

/** What makes this one of many stand out. */
export function tagsHtml(
  { firstSeen, hosts, flappingUntil }: Pick<FindingGroup, 'firstSeen' | 'hosts' | 'flappingUntil'>,
  now: number,
): Html {
  return html`${now - firstSeen < 86_400_000 && html`<span class="tag loud new">new</span> `}${
    hosts.reopened > 0 && html`<span class="tag loud regressed">regressed</span> `
  }${flappingUntil > now && html`<span class="tag">flapping</span> `}`;
}

/** Where the hosts of one change stand apart: `9 acknowledged, 2 waived · `. */
function mixHtml({ hosts }: FindingGroup, tab: Tab): Html | undefined {
  const mix = (['open', 'acknowledged', 'waived'] as const).filter((one) => one !== tab && hosts[one] > 0);
  if (mix.length === 0 || (tab === 'all' && mix.length === 1)) return undefined;
  return html`${mix.map((one) => `${count(hosts[one])} ${one}`).join(', ')} · `;
}

function cursorOf(text: string | undefined, sort: Asked['sort']): GroupCursor | null {
  const match = /^([0-4])\.([0-9]{1,15})\.(fg_[0-9a-f]{40})$/.exec(text ?? '');
  if (match === null) return null;
  const at = Number(match[2]);
  const id = match[3]!;
  return sort === 'severity' ? { sort, severity: Number(match[1]), at, id } : { sort, at, id };
}

function printCursor(next: GroupCursor): string {
  return `${next.sort === 'severity' ? next.severity : 0}.${next.at}.${next.id}`;
}

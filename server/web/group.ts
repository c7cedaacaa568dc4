/** `/findings/:id`: one change as a case: the sentence, its evidence, where it is; and at the right what to do about it (design, section 6). */
import type { Context, Hono } from 'hono';
import type { Instant } from '#src/clock.ts';
import { FILTER_STATUSES, FilterError, parseFilter, printFilter, type FilterLine } from '#src/finding/filter.ts';
import { pathOfSubject } from '#src/finding/describe.ts';
import { WAIVER_TEXT_MAX } from '#src/limits.ts';
import { SEVERITIES } from '#src/policy/judgement.ts';
import { hasRole, type Principal } from '#server/access/principal.ts';
import { groupOf, timelineOf, type TimelineItem } from '#server/decisions/findings.ts';
import { DecisionError } from '#server/decisions/may.ts';
import { originOf, originsElsewhere } from '#server/findingorigin.ts';
import { differenceIn } from '#server/contents.ts';
import type { FindingDetail } from '#server/ingest/judge.ts';
import { viewOf } from '#server/standing.ts';
import type { FindingGroup, FindingStatus, FindingWithHost, Host } from '#server/store/records.ts';
import { decidePages, decidedNotice, decideSheets } from './decide.ts';
import { typed, type Decide } from './decision.ts';
import { digestHtml, html, icon, pathHtml, type Html, type Part } from './html.ts';
import { imagesNamed } from './hostfilter.ts';
import { missingPage, show } from './layout.ts';
import { changeHtml, compareHtml } from './parts/compare.ts';
import { differenceSheet } from './parts/difference.ts';
import { sentenceOf, textOf } from './parts/finding.ts';
import { wrongHtml } from './parts/form.ts';
import { originSheet } from './parts/origin.ts';
import { emptyHtml, headHtml } from './parts/page.ts';
import { spreadOf, spreadSheet } from './parts/spread.ts';
import { waysSheet } from './parts/ways.ts';
import type { Env, WebServices } from './services.ts';
import { returnedHtml } from './hostfindings.ts';
import { agoHtml, capital, count, dayOf, momentHtml, plural, severityGlyph, verdictHtml } from './words.ts';

const PAGE = 25;
const STORY = 100;
/** Minutes of its history that the chart is counted from. */
const CHANGES = 1000;

export function groupPages(web: Hono<Env>, services: WebServices): void {
  web.get('/findings/:id', (c) => groupPage(c, services));
  decidePages(web, services, groupPage);
}

/** The case page; `decide` is a form that was refused or previewed, with what was typed. */
export async function groupPage(c: Context<Env>, services: WebServices, decide: Decide = {}): Promise<Response> {
  const { store, clock } = services;
  const who = c.get('principal');
  const now = clock();
  const group = await seenGroup(c.req.param('id')!, who, now, services);
  if (group === undefined) return missingPage(c, services);
  const after = c.req.query('after');
  const isKey = after !== undefined && /^h_[a-z2-7]{26}$/.test(after);
  const narrowed = narrowedBy(c.req.query('status'), c.req.query('q'));
  const [list, changes, story] = await Promise.all([
    store.read.groupHosts(group.id, { limit: PAGE, cursor: isKey ? { hostId: after } : null }, who.groups, {
      ...narrowed,
      now,
    }),
    store.findings.changes(group.id, CHANGES, who.groups),
    timelineOf(group.id, STORY, services, who),
  ]);
  const hosts = await store.hosts.getMany(list.items.map(({ hostId }) => hostId));
  const present = group.hosts.open + group.hosts.acknowledged + group.hosts.waived;
  const detail = list.items[0]?.detail as Partial<FindingDetail> | null | undefined;
  const [first] = list.items;
  const origin =
    first && (await originOf(first, group, hosts.get(first.hostId), services, { groups: who.groups, now }));
  const others = await originsElsewhere(group, first && hosts.get(first.hostId), hosts.values(), services);
  const named = await imagesNamed(
    others.images.map(({ image }) => image),
    store,
  );
  const difference = await differenceIn(group, list.items, services);
  const spread = changes.length < CHANGES || present > 0 ? spreadOf(changes, present, now) : undefined;
  const acts = hasRole(who, 'operator', 'reviewer', 'admin');
  const body = html`${decidedNotice(c.req.query('done'), story, who, group)}
    ${headHtml({
      crumbs: [['Findings', '/findings'], [html`<span class="mono">${group.id.slice(0, 11)}</span>`]],
      lead: severityGlyph(SEVERITIES[group.severity]),
      title: sentenceOf(group, present),
      text: aboutText(group, detail, now),
    })}
    <div class="cols aside">
      <div class="stack">
        ${evidenceSheet(group, detail, first, ruleAddress(group, services))}
        ${difference !== undefined && differenceSheet(difference.difference, { ...difference.host, image: difference.host.images.booted })}
        ${origin !== undefined && originSheet(origin, { image: hosts.get(first!.hostId)?.images.booted ?? null, host: { id: first!.hostId, name: first!.hostName }, removed: detail?.change?.change === 'removed', others, named })}
        ${spread !== undefined && spreadSheet(spread)}
        ${hostsSheet(group, list.items, hosts, { next: list.next?.hostId ?? null, later: isKey, narrowed, now })}
      </div>
      <aside class="stack" aria-label="Decide">
        ${await decideSheets(group, { present, decide, who, acts, now }, services)}
        ${waysSheet(group, [...hosts.values()])} ${storySheet(group, story, acts, decide)}
      </aside>
    </div>`;
  const wrong = decide.wrong !== undefined && decide.wrong.size > 0;
  return show(
    c,
    services,
    { title: textOf(group), section: '/findings', now, body },
    wrong ? (decide.status ?? 422) : 200,
  );
}

/** The group as this person sees it: with the hosts of their groups counted, and no other. */
async function seenGroup(
  id: string,
  who: Principal,
  now: Instant,
  services: WebServices,
): Promise<FindingGroup | undefined> {
  try {
    const group = await groupOf(id, who, services);
    if (who.groups === null) return group;
    const line = [{ field: 'id', negated: false, values: [id] }] as const;
    const filter = { line, scope: who.groups, now, status: 'all' } as const;
    return (await services.store.read.groups(filter, 'severity', { cursor: null, limit: 1 })).items[0];
  } catch (error) {
    if (error instanceof DecisionError && error.code === 'FINDING_UNKNOWN') return undefined;
    throw error;
  }
}

/** Cause, harm, and what people have said of it until now. */
function aboutText(group: FindingGroup, detail: Partial<FindingDetail> | null | undefined, now: Instant): Html {
  const { open, acknowledged, waived, ever, reopened } = group.hosts;
  const states = [
    acknowledged > 0 && `acknowledged on ${plural(acknowledged, 'host')}`,
    waived > 0 && `waived on ${plural(waived, 'host')}`,
    reopened > 0 && `back on ${plural(reopened, 'host')} after it was gone`,
  ].filter((text) => text !== false);
  const present = open + acknowledged + waived;
  return html`${detail?.reason !== undefined && html`${capital(detail.reason)}${/[.!?]$/.test(detail.reason) ? '' : '.'} `}${
    present === 0
      ? html`No host shows it any more; ${plural(ever, 'host')} did. First seen ${agoHtml(group.firstSeen, now)} ago.`
      : html`First seen ${agoHtml(group.firstSeen, now)} ago, last new on a host ${agoHtml(group.lastNewAt, now)}
        ago.${states.length > 0 && ` It is ${states.join(', ')}.`}`
  }${group.flappingUntil > now && ' It comes and goes so often that nobody is told each time.'}`;
}

/** Where the rule stands in the policy that counts; undefined where that has none of this name. */
function ruleAddress({ rule }: FindingGroup, { policies }: WebServices): string | undefined {
  const { files, accounts, state } = policies.current;
  const isThere = [...files, ...accounts, ...state].some(({ id }) => id === rule);
  return isThere && policies.version !== null
    ? `/policies/${policies.version.n}#rule-${encodeURIComponent(rule)}`
    : undefined;
}

function evidenceSheet(
  group: FindingGroup,
  detail: Partial<FindingDetail> | null | undefined,
  first: FindingWithHost | undefined,
  rule: string | undefined,
): Html {
  const path = pathOfSubject(group);
  const controls = detail?.controls ?? [];
  const caption = html`Attributes of ${path === undefined ? group.subject : pathHtml(path)}`;
  const { change, stale } = detail ?? {};
  return html`<section class="sheet">
    <header>
      <h2>${change === undefined && stale === undefined ? 'Observed' : 'Expected and observed'}</h2>
      <span class="quiet"
        >rule
        <a class="link" href="/findings?q=rule:${encodeURIComponent(group.rule)}">${group.rule}</a
        >${rule !== undefined && html` · <a class="link" href="${rule}">in the policy</a>`}${controls.length > 0 && ` · ${controls.join(', ')}`}</span
      >
    </header>
    ${
      change !== undefined
        ? html`<div class="scroll" tabindex="0" role="region" aria-label="Expected and observed">
            ${changeHtml(change, caption)}
          </div>`
        : stale !== undefined
          ? html`<div class="scroll" tabindex="0" role="region" aria-label="The image then and now">
              ${compareHtml(stale.was ?? undefined, stale.now ?? undefined, { caption, left: 'The image said', right: 'The image says now' })}
            </div>`
          : html`<div class="pad">${factsHtml(group, detail)}</div>`
    }
    ${
      first !== undefined &&
      change !== undefined &&
      html`<footer>
        <span
          >As <a class="link" href="/hosts/${first.hostId}">${first.hostName}</a> showed it when it opened there,
          ${momentHtml(first.openedAt)}.${present(group) > 1 && change.expected !== undefined && ' Expected is what the image of this host says.'}</span
        >
      </footer>`
    }
  </section>`;
}

const present = ({ hosts }: FindingGroup): number => hosts.open + hosts.acknowledged + hosts.waived;

/** What is known of something that is no path, in pairs. */
function factsHtml(group: FindingGroup, detail: Partial<FindingDetail> | null | undefined): Html {
  const facts: (readonly [string, Part])[] = [];
  const path = pathOfSubject(group);
  facts.push([
    path === undefined ? 'About' : 'Path',
    path === undefined ? html`<code>${group.subject === '' ? 'the image' : group.subject}</code>` : pathHtml(path),
  ]);
  if (detail?.overlay !== undefined) {
    const { kind, detail: told, writable, masks, beneath } = detail.overlay;
    facts.push(['What lies there', `${kind}${writable ? ', writable' : ''}${masks ? ', hides the image' : ''}`]);
    if (told !== '') facts.push(['Told as', html`<code>${told}</code>`]);
    facts.push([
      'Beneath it',
      beneath === 'image'
        ? 'the image, whole'
        : beneath === 'altered'
          ? 'something that is not the image either'
          : 'not looked at',
    ]);
  }
  if (detail?.hole !== undefined) facts.push(['Why', `${detail.hole.kind}: ${detail.hole.detail}`]);
  if (detail?.secret !== undefined)
    facts.push([
      'Compared on the host',
      `the content ${detail.secret === 'differs' ? 'differs' : `was ${detail.secret}`}; no digest of a secret leaves a host`,
    ]);
  if (detail?.manifest !== undefined)
    facts.push(['Manifest', html`${detail.manifest.state} <code>${detail.manifest.code}</code>`]);
  if (detail?.account !== undefined) {
    const { name, uid, gid, shell, hasPassword, change } = detail.account;
    facts.push(
      ['Account', html`<strong>${name}</strong> ${change}`],
      ['uid and gid', html`<code>${uid}:${gid}</code>`],
      ['Shell', html`<code>${shell}</code>`],
      ['Password', hasPassword ? 'lets it in' : 'none that lets it in'],
    );
  }
  if (detail?.note !== undefined) facts.push(['Figure', detail.note]);
  facts.push(['Signature', html`<code>${String(group.signature)}</code>`]);
  return html`<dl class="facts">
    ${facts.map(
      ([word, what]) =>
        html`<dt>${word}</dt>
          <dd>${what}</dd>`,
    )}
  </dl>`;
}

/** The part of a change's hosts that a number of the queue counts. */
type Narrowed = { readonly status: FindingStatus | undefined; readonly line: FilterLine };

/** What is no status and no filter narrows nothing: the page shows all of its hosts, and says so. */
function narrowedBy(status: string | undefined, q: string | undefined): Narrowed {
  let line: FilterLine = [];
  try {
    line = parseFilter(q ?? '');
  } catch (error) {
    if (!(error instanceof FilterError)) throw error;
  }
  return { status: FILTER_STATUSES.find((one) => one === status), line };
}

const STATUS: Readonly<Record<string, string>> = { none: 'open', acknowledged: 'acknowledged', waived: 'waived' };

function hostsSheet(
  group: FindingGroup,
  items: readonly FindingWithHost[],
  hosts: ReadonlyMap<string, Host>,
  {
    next,
    later,
    narrowed,
    now,
  }: { readonly next: string | null; readonly later: boolean; readonly narrowed: Narrowed; readonly now: Instant },
): Html {
  const total = present(group);
  const { status: only, line } = narrowed;
  const isWhole = only === undefined && line.length === 0;
  const here = new URLSearchParams({
    ...(only === undefined ? {} : { status: only }),
    ...(line.length === 0 ? {} : { q: printFilter(line) }),
  });
  const at = (more: Readonly<Record<string, string>>): string =>
    `/findings/${group.id}?${new URLSearchParams([...here, ...Object.entries(more)]).toString()}#hosts`;
  const row = (finding: FindingWithHost): Html => {
    const { hostId, hostName, disposition, waiverId, until, openedAt, silentAfter, reopened, ack } = finding;
    const host = hosts.get(hostId);
    const over = until !== null && until <= now;
    const { present: shown, resolvedAt } = finding;
    const status = !shown ? 'ended' : over ? 'open' : STATUS[disposition];
    const staged = host?.images.staged;
    return html`<tr>
      <td class="main">
        <span class="clip"
          ><strong><a class="go" href="/hosts/${hostId}">${hostName}</a></strong></span
        >
      </td>
      <td>${host === undefined ? html`<span class="quiet">–</span>` : verdictHtml(viewOf(host, now).verdict)}</td>
      <td class="p2 nowrap soft">
        ${shown && now >= silentAfter ? html`<span class="quiet">not heard since</span>` : status}${
          !over &&
          disposition === 'waived' &&
          waiverId !== null &&
          html` by <a class="over link" href="/waivers/${waiverId}">${waiverId}</a>`
        }${!over && disposition === 'acknowledged' && ack !== null && html` <span class="quiet">by ${ack.by}</span>`}${shown && status === 'open' && returnedHtml(over && waiverId !== null && disposition === 'waived' ? { how: 'waiver_expired', what: waiverId, at: until } : finding.returned)}${reopened > 0 && html` <span class="tag loud regressed">regressed</span>`}
      </td>
      <td class="p3">
        ${host?.images.booted == null ? html`<span class="quiet">–</span>` : digestHtml(host.images.booted)}
      </td>
      <td class="p4">${staged == null ? html`<span class="quiet">none</span>` : digestHtml(staged)}</td>
      <td class="num soft nowrap">${agoHtml(resolvedAt ?? openedAt, now)}</td>
    </tr>`;
  };
  return html`<section class="sheet" id="hosts">
    <header>
      <h2>${isWhole ? plural(total, 'host') : `Hosts where it is ${only ?? 'present'}`}</h2>
      <span class="quiet"
        >${
          isWhole
            ? group.hosts.ever > total && `${count(group.hosts.ever)} ever`
            : html`${line.length > 0 && html`that match <code>${printFilter(line)}</code> · `}<a
                  class="link"
                  href="/findings/${group.id}#hosts"
                  >all ${plural(total, 'host')} that show it</a
                >`
        }</span
      >
    </header>
    ${
      items.length === 0
        ? isWhole
          ? emptyHtml('No host shows it', 'It ended by itself: an accepted report no longer had it.')
          : emptyHtml('No host is like that', 'None that you see matches this.')
        : html`<table class="list flat">
            <caption class="sr">
              Hosts with this change
            </caption>
            <thead>
              <tr>
                <th>Host</th>
                <th>Verdict</th>
                <th class="p2">Status</th>
                <th class="p3">Booted</th>
                <th class="p4">Staged</th>
                <th class="num">Since</th>
              </tr>
            </thead>
            <tbody>
              ${items.map(row)}
            </tbody>
          </table>`
    }
    ${
      (next !== null || later) &&
      html`<footer>
        <span>${isWhole ? `${count(items.length)} of ${plural(total, 'host')}` : plural(items.length, 'host')}</span>
        <span class="acts"
          >${later && html`<a class="link" href="${at({})}">First page</a>`}${next !== null && html`<a class="link" rel="next" href="${at({ after: next })}">Next page</a>`}</span
        >
      </footer>`
    }
  </section>`;
}

const KIND_ICONS: Readonly<Record<string, readonly [icon: string, kind: string]>> = {
  opened: ['v-drifted', 'drifted'],
  reopened: ['v-drifted', 'drifted'],
  resolved: ['v-compliant', 'compliant'],
};

function storySheet(group: FindingGroup, story: readonly TimelineItem[], acts: boolean, decide: Decide): Html {
  const mine: Decide = decide.form === 'comment' ? decide : {};
  return html`<section class="sheet" id="story">
    <header><h2>What happened</h2></header>
    <div class="pad form">
      ${
        acts &&
        html`${mine.wrong !== undefined && wrongHtml(mine.wrong, {})}
          <form class="remark" method="post" action="/findings/${group.id}/comment">
            <label class="sr" for="remark">A remark, for good</label>
            <textarea
              class="input"
              id="remark"
              name="text"
              rows="1"
              required
              maxlength="${WAIVER_TEXT_MAX}"
              placeholder="A remark, for good"
            >
${typed(mine, 'text')}</textarea>
            <button class="btn" type="submit">Add</button>
          </form>`
      }
      <ol class="timeline">
        ${runsOf(story).map(storyItem)}
      </ol>
    </div>
    ${story.length >= STORY && html`<footer><span>The last ${STORY} of its story; the API has all.</span></footer>`}
  </section>`;
}

/** What machines showed in a row, nothing decided between, is one line: forty hosts are not forty lines. */
type Run = TimelineItem & { readonly from?: Instant };

function runsOf(story: readonly TimelineItem[]): readonly Run[] {
  const out: Run[] = [];
  for (const item of story) {
    const last = out.at(-1);
    if (item.kind !== 'decision' && last?.kind === item.kind)
      out[out.length - 1] = { ...last, hosts: last.hosts + item.hosts, from: item.at };
    else out.push(item);
  }
  return out;
}

function storyItem(item: Run): Html {
  if (item.kind !== 'decision') {
    const [name, kind] = KIND_ICONS[item.kind]!;
    const hosts = plural(item.hosts, 'host');
    const what =
      item.kind === 'opened' ? `Seen on ${hosts}` : item.kind === 'reopened' ? `Back on ${hosts}` : `Gone on ${hosts}`;
    return html`<li class="${kind}">
      ${icon(name)}
      <div>
        ${what}<br /><small
          >${item.from !== undefined && html`${momentHtml(item.from)} to `}${momentHtml(item.at)}</small
        >
      </div>
    </li>`;
  }
  const { actor, action, note, at } = item;
  return html`<li>
    ${icon(action === 'group.comment' ? 'note' : 'user')}
    <div>
      <strong>${actor}</strong>
      ${didWhat(item)}${note !== null && html`<blockquote>${note}</blockquote>`}${note === null && html`<br />`}<small
        >${momentHtml(at)}</small
      >
    </div>
  </li>`;
}

type Decision = Extract<TimelineItem, { kind: 'decision' }>;
const WAIVER_ACTS: Readonly<Record<string, string>> = {
  'waiver.approve': 'approved',
  'waiver.reject': 'rejected',
  'waiver.withdraw': 'withdrew',
  'waiver.revoke': 'revoked',
  'waiver.extend': 'asked to extend',
  'waiver.approve-extension': 'extended',
  'waiver.reject-extension': 'refused to extend',
  'waiver.withdraw-extension': 'no longer asks to extend',
};

/** What somebody did, from what the trail keeps of it. */
export function didWhat({ action, after }: Pick<Decision, 'action' | 'after'>): string {
  const told = (after ?? {}) as {
    readonly until?: unknown;
    readonly hosts?: unknown;
    readonly findings?: unknown;
    readonly assignee?: unknown;
    readonly changed?: unknown;
    readonly waiver?: unknown;
  };
  const waiver = typeof told.waiver === 'string' ? told.waiver : '';
  const n = told.hosts ?? told.findings;
  const on = typeof n === 'number' ? ` on ${plural(n, 'host')}` : '';
  switch (action) {
    case 'group.comment':
      return 'said';
    case 'group.acknowledge':
      return `acknowledged it${on}${typeof told.until === 'number' ? ` until ${dayOf(told.until - 1)}` : ''}`;
    case 'finding.acknowledge':
      return 'acknowledged it, with others at once';
    case 'group.unacknowledge':
    case 'finding.unacknowledge':
      return `took the acknowledgement back${on}`;
    case 'group.acknowledge.undo':
      return `took acknowledging it back${on}`;
    case 'group.unacknowledge.undo':
      return `acknowledged it again${on}`;
    case 'group.assign.undo':
      return 'gave it back to whose it was before';
    case 'group.assign':
      return typeof told.assignee === 'string' ? `gave it to ${told.assignee}` : 'took it from its owner';
    case 'waiver.request':
      return `asked for waiver ${waiver}`;
    case 'waiver.expire':
      return `waiver ${waiver} expired`;
    case 'waiver.change':
      return `changed the words of waiver ${waiver}`;
    default:
      return waiver === ''
        ? action.replace('.', ' ')
        : `${WAIVER_ACTS[action] ?? action.replace('.', ' ')} waiver ${waiver}`;
  }
}

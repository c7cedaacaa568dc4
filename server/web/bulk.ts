/** `/findings/bulk`: one act on many, in two steps: what it covers and would do, then the act; and a quarter of an hour to take it back. */
import { isDeepStrictEqual } from 'node:util';
import type { Context, Hono } from 'hono';
import type { Instant } from '#src/clock.ts';
import { parseFilter, printFilter, type FilterLine } from '#src/finding/filter.ts';
import { ASSIGNEE_CHARS_MAX, PAGE_ITEMS_MAX, WAIVER_TEXT_MAX } from '#src/limits.ts';
import type { Principal } from '#server/access/principal.ts';
import {
  applyBulk,
  BulkTerms,
  bulkOf,
  previewBulk,
  undoBulk,
  type BulkPreview,
  type BulkWanted,
} from '#server/decisions/bulk.ts';
import { ACKNOWLEDGE_MS } from '#server/decisions/findings.ts';
import { DecisionError } from '#server/decisions/may.ts';
import type { Bulk } from '#server/store/records.ts';
import { html, type Html } from './html.ts';
import { show } from './layout.ts';
import {
  first,
  inputHtml,
  NOTHING_WRONG,
  refusedStatus,
  sentIn,
  textareaHtml,
  textWrong,
  wrongHtml,
  type Sent,
  type Wrongs,
} from './parts/form.ts';
import { headHtml, noticeHtml, refusedHtml } from './parts/page.ts';
import { dateInput, endOf } from './parts/time.ts';
import type { Env, WebServices } from './services.ts';
import { count, dayOf, plural } from './words.ts';

const ACTIONS = ['acknowledge', 'unacknowledge', 'assign'] as const;
type Action = (typeof ACTIONS)[number];
const LABELS = { until: 'Until', note: 'Note', assignee: 'Owner' };

export function bulkPages(web: Hono<Env>, services: WebServices): void {
  web.post('/findings/bulk', (c) => stepPage(c, services));
  web.post('/findings/bulk/:token/apply', (c) => apply(c, services));
  web.post('/findings/bulk/:token/undo', async (c) => {
    const undone = await undoBulk(c.req.param('token'), c.get('principal'), services);
    return c.redirect(`/findings?done=${undone.id}`, 303);
  });
  web.get('/findings/bulk/:token', (c) => progressPage(c, services));
}

/** The form's fields, as they are typed. */
type Typed = { readonly action: Action; readonly until: string; readonly note: string; readonly assignee: string };

function typedIn(sent: Sent, now: Instant): Typed {
  const asked = first(sent, 'action').replace(/-all$/, '');
  return {
    action: ACTIONS.find((one) => one === asked) ?? 'acknowledge',
    until: first(sent, 'until') || dateInput(now + ACKNOWLEDGE_MS),
    note: first(sent, 'note').trim(),
    assignee: first(sent, 'assignee').trim(),
  };
}

function termsOf(
  typed: Typed,
):
  | { readonly terms: BulkWanted['terms']; readonly wrong: undefined }
  | { readonly terms: undefined; readonly wrong: Wrongs } {
  const { action } = typed;
  const noteWrong = textWrong(typed.note, WAIVER_TEXT_MAX);
  if (noteWrong !== undefined) return { terms: undefined, wrong: new Map([['note', noteWrong]]) };
  const note = typed.note || null;
  if (action === 'unacknowledge') return { terms: { action, note }, wrong: undefined };
  if (action === 'assign') {
    const wrong = textWrong(typed.assignee, ASSIGNEE_CHARS_MAX);
    if (wrong !== undefined) return { terms: undefined, wrong: new Map([['assignee', wrong]]) };
    return { terms: { action, assignee: typed.assignee || null, note }, wrong: undefined };
  }
  const until = endOf(typed.until);
  if (until === undefined)
    return { terms: undefined, wrong: new Map([['until', 'Expected a day, such as 2026-12-08.']]) };
  return { terms: { action, until, note }, wrong: undefined };
}

/** What is covered: the selected changes, or all that match, and of both only what the list showed. */
function coveredBy(sent: Sent): { readonly q: string; readonly selected: number | null } {
  const line: FilterLine = parseFilter(first(sent, 'q'));
  const tab = first(sent, 'tab');
  const status: FilterLine =
    tab === 'open' || tab === 'acknowledged' || tab === 'waived'
      ? [{ field: 'status', negated: false, values: [tab] }]
      : [];
  if (first(sent, 'action').endsWith('-all')) return { q: printFilter([...line, ...status]), selected: null };
  const ids = [...new Set(sent.get('g') ?? [])].filter((id) => /^fg_[0-9a-f]{40}$/.test(id));
  if (ids.length === 0) return { q: '', selected: 0 };
  return { q: printFilter([...line, ...status, { field: 'id', negated: false, values: ids }]), selected: ids.length };
}

async function stepPage(c: Context<Env>, services: WebServices): Promise<Response> {
  const sent = await sentIn(c);
  const who = c.get('principal');
  const now = services.clock();
  const typed = typedIn(sent, now);
  const { q, selected } = coveredBy(sent);
  const back = backTo(sent);
  if (selected === 0)
    return refuse(
      c,
      services,
      html`Nothing was selected. <a class="link" href="${back}">Back to the list</a>: tick the changes that are meant.`,
    );
  // What it covers is written down by terms that stand; what was typed, right or wrong, is in the form that comes back.
  const read = termsOf(typed);
  const terms =
    read.terms ??
    termsOf({ action: typed.action, until: dateInput(now + ACKNOWLEDGE_MS), note: '', assignee: '' }).terms!;
  try {
    const preview = await previewBulk({ terms, cover: { kind: 'filter', q, all: false } }, who, services);
    return await step(c, services, { typed, preview, selected, back, wrong: read.wrong ?? NOTHING_WRONG });
  } catch (error) {
    if (!(error instanceof DecisionError)) throw error;
    const text = html`${error.message}. <a class="link" href="${back}">Back to the list</a>`;
    return refuse(c, services, text, refusedStatus(error));
  }
}

function backTo(sent: Sent): string {
  const query = new URLSearchParams();
  const tab = first(sent, 'tab');
  const q = first(sent, 'q');
  if (tab !== '' && tab !== 'open') query.set('tab', tab);
  if (q !== '') query.set('q', q);
  const asked = first(sent, 'back');
  if (/^\/findings(?:\?[\x21-\x7e]*)?$/.test(asked)) return asked;
  return query.size === 0 ? '/findings' : `/findings?${query.toString()}`;
}

function refuse(
  c: Context<Env>,
  services: WebServices,
  text: Html | string,
  status: 403 | 422 = 422,
): Promise<Response> {
  const body = html`${headHtml({ title: 'Nothing was changed' })} ${refusedHtml(text)}`;
  return show(c, services, { title: 'Nothing was changed', section: '/findings', now: services.clock(), body }, status);
}

type Step = {
  readonly typed: Typed;
  readonly preview: BulkPreview;
  /** Changes that were ticked; null for all that match. */
  readonly selected: number | null;
  readonly back: string;
  readonly wrong: Wrongs;
};

const VERBS: Readonly<Record<Action, string>> = {
  acknowledge: 'Acknowledge',
  unacknowledge: 'Take back the acknowledgement of',
  assign: 'Assign',
};
const WHY_NOT: Readonly<Record<string, string>> = {
  resolved: 'ended meanwhile',
  waived: 'are waived, and stay so',
  not_acknowledged: 'are not acknowledged',
  not_yours: 'are not yours any more',
  changed_meanwhile: 'were changed meanwhile',
};

function step(
  c: Context<Env>,
  services: WebServices,
  { typed, preview, selected, back, wrong }: Step,
): Promise<Response> {
  const { action } = typed;
  const what = plural(preview.changes, action === 'assign' ? 'change' : 'finding');
  const chosen = selected === null ? 'all that match' : plural(selected, 'selected change');
  const body = html`${headHtml({
      crumbs: [['Findings', back], [VERBS[action]]],
      title: `${VERBS[action]} ${what}${action === 'assign' || preview.hosts === 0 ? '' : ` on ${plural(preview.hosts, 'host')}`}`,
      text: html`${
        action === 'acknowledge'
          ? 'They leave the queue until the day below and weigh on the verdict as before; then they are open again.'
          : action === 'assign'
            ? 'The queue says who looks after them. Nothing else changes.'
            : 'They are open again at once.'
      }`,
    })}
    <div class="cols aside">
      <form class="sheet" method="post" action="/findings/bulk/${preview.token}/apply">
        <header>
          <h2>${VERBS[action]}</h2>
          <span class="quiet">${chosen}</span>
        </header>
        <div class="pad form">
          ${wrongHtml(wrong, LABELS)}
          <input type="hidden" name="action" value="${action}" />
          <input type="hidden" name="selected" value="${selected ?? ''}" />
          <input type="hidden" name="back" value="${back}" />
          ${action === 'acknowledge' && inputHtml({ name: 'until', label: LABELS.until, help: '30 days at most. What should stay longer is a waiver.', wrong }, { value: typed.until, type: 'date', required: true })}
          ${action === 'assign' && inputHtml({ name: 'assignee', label: LABELS.assignee, help: 'Who looks after it. Empty: nobody.', wrong }, { value: typed.assignee })}
          ${textareaHtml({ name: 'note', label: LABELS.note, help: 'Stands in the story of each change, for good.', wrong }, { value: typed.note })}
          <div class="acts">
            <button class="btn first" type="submit">${VERBS[action]} ${what}</button>
            <a class="btn bare" href="${back}">Back to the list</a>
          </div>
        </div>
      </form>
      <aside class="stack">
        <section class="sheet">
          <header><h2>What it covers</h2></header>
          <div class="pad">
            <ul class="rows">
              <li>
                <span class="grow">${action === 'assign' ? 'Changes' : 'Findings'} that match</span
                ><span>${count(preview.matched)}</span>
              </li>
              <li><span class="grow">Will change</span><strong>${count(preview.changes)}</strong></li>
              ${preview.skipped.map(({ reason, count: n }) => html`<li><span class="grow quiet">${WHY_NOT[reason] ?? reason}</span><span>${count(n)}</span></li>`)}
            </ul>
          </div>
          <footer><span>Written down now: what arrives later is not in it.</span></footer>
        </section>
      </aside>
    </div>`;
  return show(
    c,
    services,
    { title: `${VERBS[action]} ${what}`, section: '/findings', now: services.clock(), body },
    wrong.size > 0 ? 422 : 200,
  );
}

async function apply(c: Context<Env>, services: WebServices): Promise<Response> {
  const token = c.req.param('token')!;
  const sent = await sentIn(c);
  const who = c.get('principal');
  const typed = typedIn(sent, services.clock());
  const bulk = await bulkOf(token, who, services);
  const read = termsOf(typed);
  try {
    if (read.wrong !== undefined) return await again(c, services, bulk, typed, sent, read.wrong);
    const wanted = isAsPreviewed(bulk, read.terms) ? token : await previewAgain(bulk, read.terms, who, services);
    // The token is its own key: a form that is sent twice does it once.
    const done = await applyBulk(wanted, token, who, services);
    if (done.state === 'applying') return c.redirect(`/findings/bulk/${done.id}`, 303);
    const back = backTo(sent);
    return c.redirect(`${back}${back.includes('?') ? '&' : '?'}done=${done.id}`, 303);
  } catch (error) {
    if (!(error instanceof DecisionError)) throw error;
    if (error.code === 'UNTIL_INVALID')
      return again(
        c,
        services,
        bulk,
        typed,
        sent,
        new Map([['until', `${error.message.slice(0, 1).toUpperCase()}${error.message.slice(1)}.`]]),
      );
    const text = html`${error.message}. <a class="link" href="${backTo(sent)}">Back to the list</a>`;
    return refuse(c, services, text, refusedStatus(error));
  }
}

/** The step once more, with what was typed; what it covers stays written down. */
async function again(
  c: Context<Env>,
  services: WebServices,
  bulk: Bulk,
  typed: Typed,
  sent: Sent,
  wrong: Wrongs,
): Promise<Response> {
  const summary = typed.action === 'assign' ? [] : await services.store.bulks.summary(bulk.id);
  const changes =
    typed.action === 'assign'
      ? bulk.matched
      : summary
          .filter(({ disposition }) => disposition === 'none' || disposition === 'acknowledged')
          .reduce((sum, { count: n }) => sum + n, 0);
  const hosts = typed.action === 'assign' ? 0 : await services.store.bulks.hostsIn(bulk.id, ['none', 'acknowledged']);
  const preview: BulkPreview = {
    token: bulk.id,
    matched: bulk.matched,
    changes,
    hosts,
    skipped: [],
    asOf: bulk.asOf,
    expiresAt: bulk.expiresAt,
  };
  const selected = first(sent, 'selected');
  return step(c, services, {
    typed,
    preview,
    selected: selected === '' ? null : Number(selected),
    back: backTo(sent),
    wrong,
  });
}

function isAsPreviewed(bulk: Bulk, terms: BulkWanted['terms']): boolean {
  return isDeepStrictEqual(BulkTerms.parse(bulk.terms), terms);
}

/** The very items of a preview, under other terms: what was typed after it was shown. */
async function previewAgain(
  bulk: Bulk,
  terms: BulkWanted['terms'],
  who: Principal,
  services: WebServices,
): Promise<string> {
  const items: { hostId: string; groupId: string }[] = [];
  let cursor: { readonly hostId: string; readonly groupId: string } | null = null;
  do {
    const page: Awaited<ReturnType<typeof services.store.bulks.items>> = await services.store.bulks.items(bulk.id, {
      cursor,
      limit: PAGE_ITEMS_MAX,
    });
    items.push(...page.items.map(({ hostId, groupId }) => ({ hostId, groupId })));
    cursor = page.next;
  } while (cursor !== null);
  return (await previewBulk({ terms, cover: { kind: 'items', items } }, who, services)).token;
}

/** More than one answer waits for: how far it is, and the list once it is done. */
async function progressPage(c: Context<Env>, services: WebServices): Promise<Response> {
  const bulk = await bulkOf(c.req.param('token')!, c.get('principal'), services);
  if (bulk.state !== 'applying') return c.redirect(`/findings?done=${bulk.id}`, 303);
  const done = bulk.changed + bulk.skipped;
  const body = html`${headHtml({ title: `${count(done)} of ${plural(bulk.matched, 'finding')} are done`, text: 'It goes on by itself, also when this page is closed. The page looks again every 5 seconds.' })}
    <section class="sheet">
      <div class="pad">
        <p class="work">
          <progress max="${bulk.matched}" value="${done}" aria-label="How far it is"></progress>${count(done)} of
          ${count(bulk.matched)}
        </p>
      </div>
    </section>`;
  return show(c, services, { title: 'Working', section: '/findings', now: services.clock(), body, refresh: 5 });
}

/** What was done to whom, from what was written down of it: above the list to which it led. */
export function bulkNotice(bulk: Bulk, { id }: Principal, now: Instant): Html {
  const kept = BulkTerms.safeParse(bulk.terms).data;
  const n = plural(bulk.changed, kept?.action === 'assign' ? 'change' : 'finding');
  const verb =
    bulk.undoes !== null
      ? `took back what was done to ${n}`
      : kept?.action === 'acknowledge'
        ? `acknowledged ${n} until ${dayOf(kept.until - 1)}`
        : kept?.action === 'assign'
          ? `${kept.assignee === null ? 'freed' : 'assigned'} ${n}${kept.assignee === null ? ' of an owner' : ` to ${kept.assignee}`}`
          : `took back the acknowledgement of ${n}`;
  const rest =
    bulk.skipped > 0 &&
    `; ${count(bulk.skipped)} ${bulk.skipped === 1 ? 'was' : 'were'} left as ${bulk.skipped === 1 ? 'it was' : 'they were'}`;
  const text = html`${bulk.actor === id ? 'You' : bulk.actor}
  ${verb}${rest}${bulk.state === 'undone' && ', and took it back'}.`;
  const may = bulk.undoes === null && bulk.state === 'done' && bulk.undoUntil !== null && bulk.undoUntil > now;
  return may ? noticeHtml(text, { action: `/findings/bulk/${bulk.id}/undo` }) : noticeHtml(text);
}

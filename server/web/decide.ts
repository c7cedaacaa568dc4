/** What a person does about one change: acknowledge it, ask for a waiver, give it to somebody, remark on it. */
import type { Context, Hono } from 'hono';
import type { Instant } from '#src/clock.ts';
import { compileSelector, isWaivable } from '#src/finding/exempt.ts';
import type { Waiver } from '#src/finding/waiver.ts';
import { ASSIGNEE_CHARS_MAX, WAIVER_TEXT_MAX } from '#src/limits.ts';
import { SEVERITIES, type JudgementKind } from '#src/policy/judgement.ts';
import type { Principal } from '#server/access/principal.ts';
import {
  ACKNOWLEDGE_MS,
  acknowledge,
  assign,
  comment,
  laterAcks,
  unacknowledge,
  type TimelineItem,
} from '#server/decisions/findings.ts';
import { listWaivers } from '#server/decisions/waiverreads.ts';
import type { FindingGroup, GroupAck } from '#server/store/records.ts';
import { html, icon, type Html } from './html.ts';
import { LABELS, refusable, typed, type Decide, type GroupPage } from './decision.ts';
import { first, inputHtml, sentIn, textareaHtml, textWrong, wrongHtml } from './parts/form.ts';
import { noticeHtml } from './parts/page.ts';
import { dateInput, endOf } from './parts/time.ts';
import type { Env, WebServices } from './services.ts';
import { askForWaiver, waiverForm } from './waiverform.ts';
import { capital, count, dayOf, plural } from './words.ts';

const REQUESTED_LOOKED_AT = 100;

export function decidePages(web: Hono<Env>, services: WebServices, page: GroupPage): void {
  const back = (c: Context<Env>, done: string): Response =>
    c.redirect(`/findings/${c.req.param('id')}?done=${done}`, 303);

  web.post('/findings/:id/acknowledge', async (c) => {
    const sent = await sentIn(c);
    const until = endOf(first(sent, 'until'));
    const note = textWrong(first(sent, 'note').trim(), WAIVER_TEXT_MAX);
    if (note !== undefined) return page(c, services, { form: 'acknowledge', sent, wrong: new Map([['note', note]]) });
    if (until === undefined)
      return page(c, services, {
        form: 'acknowledge',
        sent,
        wrong: new Map([['until', 'Expected a day, such as 2026-12-08.']]),
      });
    return refusable(c, services, page, { form: 'acknowledge', sent }, 'until', async () => {
      await acknowledge(
        { groupId: c.req.param('id') },
        { until, note: first(sent, 'note').trim() || null },
        c.get('principal'),
        services,
      );
      return back(c, 'acknowledged');
    });
  });
  web.post('/findings/:id/unacknowledge', async (c) => {
    await unacknowledge({ groupId: c.req.param('id') }, null, c.get('principal'), services);
    return back(c, 'unacknowledged');
  });
  web.post('/findings/:id/assign', async (c) => {
    const sent = await sentIn(c);
    const who = c.get('principal');
    const to = first(sent, 'to') === 'me' ? who.id : first(sent, 'assignee').trim();
    const wrong = textWrong(to, ASSIGNEE_CHARS_MAX);
    if (wrong !== undefined) return page(c, services, { form: 'assign', sent, wrong: new Map([['', wrong]]) });
    const revision = Number(first(sent, 'revision'));
    return refusable(c, services, page, { form: 'assign', sent }, '', async () => {
      await assign(c.req.param('id'), { assignee: to || null, revision, note: null }, who, services);
      return back(c, 'assigned');
    });
  });
  web.post('/findings/:id/comment', async (c) => {
    const sent = await sentIn(c);
    const text = first(sent, 'text').trim();
    const wrong = text === '' ? 'A remark needs words.' : textWrong(text, WAIVER_TEXT_MAX);
    if (wrong !== undefined) return page(c, services, { form: 'comment', sent, wrong: new Map([['', wrong]]) });
    return refusable(c, services, page, { form: 'comment', sent }, '', async () => {
      await comment(c.req.param('id'), text, c.get('principal'), services);
      return c.redirect(`/findings/${c.req.param('id')}?done=commented#story`, 303);
    });
  });
  web.post('/findings/:id/waiver/preview', (c) => askForWaiver(c, services, page, false));
  web.post('/findings/:id/waiver', (c) => askForWaiver(c, services, page, true));
}

type Deciding = {
  readonly present: number;
  readonly decide: Decide;
  readonly who: Principal;
  readonly acts: boolean;
  readonly now: Instant;
};

/** The right column: the two choices, who looks after it, and what waits already. */
export async function decideSheets(group: FindingGroup, deciding: Deciding, services: WebServices): Promise<Html> {
  const { present, decide, who, acts, now } = deciding;
  const asked = await askedFor(group, who, services, now);
  const waiting =
    asked.length > 0 &&
    html`<section class="sheet">
      <div class="pad">
        ${asked.map(
          ({ id, requestedBy, expiresAt }) =>
            html`<p class="note new">
              ${icon('clock')}<span
                ><a class="link" href="/waivers/${id}">${id}</a>, asked for by ${requestedBy} until
                ${dayOf(expiresAt - 1)}, waits for a decision.</span
              >
            </p>`,
        )}
      </div>
    </section>`;
  if (!acts)
    return html`${waiting}
      <section class="sheet">
        <header><h2>Decide</h2></header>
        <div class="pad">
          <p class="soft">
            ${capital(who.roles[0] ?? 'whoever has no role')}s read. Operators acknowledge and ask for waivers,
            reviewers approve them.
          </p>
        </div>
      </section>`;
  const later = await laterAcks(group.id, who, services);
  return html`${waiting} ${later.length > 0 && laterSheet(group, later)}
  ${present > 0 && (await decidePanel(group, deciding, later.length > 0, services))} ${ownerSheet(group, who, decide)}`;
}

/** Who said that it is known, for hosts that are not there yet; and how that is taken back. */
function laterSheet(group: FindingGroup, later: readonly GroupAck[]): Html {
  return html`<section class="sheet">
    <header><h2>Acknowledged for later hosts, too</h2></header>
    <div class="pad form">
      ${later.map(
        ({ by, until, scope, apart, note }) =>
          html`<p class="note">
            ${icon('check')}<span
              >By ${by} until
              ${dayOf(until - 1)}${scope !== null && ` in ${scope.join(', ')}`}${apart.length > 0 && `, not in ${apart.join(', ')}`}:
              a host that shows it for the first time stays out of the queue until
              then.${note !== null && html` <q>${note}</q>`}</span
            >
          </p>`,
      )}
      <form method="post" action="/findings/${group.id}/unacknowledge">
        <button class="btn wide" type="submit">Take it back, on every host</button>
      </form>
    </div>
  </section>`;
}

/** Waivers that were asked for and would cover it. */
async function askedFor(
  group: FindingGroup,
  who: Principal,
  services: WebServices,
  now: Instant,
): Promise<readonly Waiver[]> {
  const page = { cursor: null, limit: REQUESTED_LOOKED_AT };
  const { items } = await listWaivers({ now, states: ['requested'] }, page, who, services);
  const target = {
    ...group,
    kind: group.kind as JudgementKind,
    signature: String(group.signature),
    severity: SEVERITIES[group.severity],
  };
  return items.filter(({ selector }) => compileSelector(selector).finding(target));
}

async function decidePanel(
  group: FindingGroup,
  { present, decide, who, now }: Deciding,
  stands: boolean,
  services: WebServices,
): Promise<Html> {
  const waivable = isWaivable({ kind: group.kind as JudgementKind, signature: String(group.signature) });
  const waives = decide.form === 'waiver' && waivable;
  return html`<section class="sheet deciding">
    <header>
      <h2>Decide</h2>
      <span class="quiet">${present === 1 ? 'for the one host' : `for all ${count(present)}`}</span>
    </header>
    <div class="pad form">
      ${
        waivable &&
        html`<fieldset class="segment">
          <legend class="sr">What to do</legend>
          <label><input type="radio" name="d" id="d-ack" ${!waives && html` checked`} /><span>Acknowledge</span></label>
          <label
            ><input type="radio" name="d" id="d-waive" ${waives && html` checked`} /><span>Request waiver</span></label
          >
        </fieldset>`
      }
      ${ackForm(group, decide, now, stands)}
      ${waivable && (await waiverForm(group, { present, decide, who, now }, services))}
    </div>
  </section>`;
}

function ackForm(group: FindingGroup, decide: Decide, now: Instant, stands: boolean): Html {
  const mine: Decide = decide.form === 'acknowledge' ? decide : {};
  const { open, acknowledged, waived } = group.hosts;
  const n = open + acknowledged;
  if (n === 0)
    return html`<p class="soft ack">
      It is waived on every host that shows it${waived > 0 && `, ${count(waived)} of them`}.
    </p>`;
  const wrong = mine.wrong ?? new Map<string, string>();
  return html`<form class="form ack" method="post" action="/findings/${group.id}/acknowledge">
      ${wrongHtml(wrong, { until: LABELS.until, note: LABELS.note })}
      ${inputHtml({ name: 'until', label: LABELS.until, help: 'Then it is open again. 30 days at most.', wrong }, { type: 'date', value: typed(mine, 'until', dateInput(now + ACKNOWLEDGE_MS)), required: true })}
      ${textareaHtml({ name: 'note', label: LABELS.note, help: 'Who looks into it, and where. It stands in the story for good.', wrong }, { value: typed(mine, 'note'), rows: 2 })}
      <div class="field">
        <button class="btn first wide" type="submit" data-key="e">Acknowledge ${plural(n, 'finding')}</button>
        <small>It leaves the queue, also on hosts that show it later, and weighs on the verdict as before.</small>
      </div>
    </form>
    ${
      acknowledged > 0 &&
      !stands &&
      html`<form class="ack" method="post" action="/findings/${group.id}/unacknowledge">
        <button class="btn wide" type="submit">
          Take back the acknowledgement of ${plural(acknowledged, 'finding')}
        </button>
      </form>`
    }`;
}

function ownerSheet({ id, assignee, revision }: FindingGroup, who: Principal, decide: Decide): Html {
  const isMine = assignee === who.id;
  const mine: Decide = decide.form === 'assign' ? decide : {};
  const refused = mine.wrong?.get('');
  return html`<section class="sheet">
    <header>
      <h2>Owner</h2>
      <span class="quiet">${assignee ?? 'nobody'}</span>
    </header>
    <div class="pad form">
      ${refused !== undefined && html`<p class="note critical" role="alert">${icon('stop')}<span>${refused}</span></p>`}
      <form class="remark" method="post" action="/findings/${id}/assign">
        <input type="hidden" name="revision" value="${revision}" />
        <label class="sr" for="assignee">Owner</label>
        <input
          class="input"
          id="assignee"
          name="assignee"
          value="${typed(mine, 'assignee', assignee ?? '')}"
          maxlength="${ASSIGNEE_CHARS_MAX}"
          placeholder="Who looks after it"
          autocomplete="off"
        />
        <button class="btn" type="submit">Assign</button>
        ${!isMine && html`<button class="btn" type="submit" name="to" value="me">Take it</button>`}
      </form>
    </div>
  </section>`;
}

const DONE = new Map([
  ['acknowledged', 'group.acknowledge'],
  ['unacknowledged', 'group.unacknowledge'],
  ['assigned', 'group.assign'],
  ['commented', 'group.comment'],
]);

/** What was just done, from the story: only what the trail holds is told. */
export function decidedNotice(
  done: string | undefined,
  story: readonly TimelineItem[],
  who: Principal,
  group: FindingGroup,
): Html | undefined {
  if (done === undefined) return undefined;
  const mine = story.flatMap((item) => (item.kind === 'decision' && item.actor === who.id ? [item] : []));
  const word = DONE.get(done);
  const last = mine.find(({ at, action }) => at === mine[0]!.at && action === word);
  if (last === undefined) return undefined;
  const { acknowledged } = group.hosts;
  switch (done) {
    case 'acknowledged': {
      const { until } = (last.after ?? {}) as { readonly until?: number };
      return noticeHtml(
        html`You acknowledged ${plural(acknowledged, 'finding')}${until !== undefined && ` until ${dayOf(until - 1)}`}.
        ${acknowledged === 1 ? 'It left' : 'They left'} the queue.`,
        { action: `/findings/${group.id}/unacknowledge` },
      );
    }
    case 'unacknowledged':
      return noticeHtml('You took the acknowledgement back. What it covered is open again.');
    case 'assigned':
      return noticeHtml(
        group.assignee === null
          ? 'Nobody looks after it now.'
          : `${group.assignee === who.id ? 'You look' : `${group.assignee} looks`} after it now.`,
      );
    case 'commented':
      return noticeHtml('Your remark stands in the story.');
    default:
      return undefined;
  }
}

/** What a person does about one change: acknowledge it, ask for a waiver with what it would do, give it to somebody, remark on it. */
import type { Context, Hono } from 'hono';
import { z } from 'zod';
import type { Instant } from '#src/clock.ts';
import { compileSelector, isWaivable } from '#src/finding/exempt.ts';
import { maxLife, WAIVER_KINDS, WaiverError, type Waiver, type WaiverKind } from '#src/finding/waiver.ts';
import { WAIVER_TITLE_MAX } from '#src/limits.ts';
import { SEVERITIES, type JudgementKind } from '#src/policy/judgement.ts';
import { hasRole, type Principal } from '#server/access/principal.ts';
import {
  ACKNOWLEDGE_MS,
  acknowledge,
  assign,
  comment,
  laterAcks,
  unacknowledge,
  type TimelineItem,
} from '#server/decisions/findings.ts';
import { DecisionError } from '#server/decisions/may.ts';
import { listWaivers } from '#server/decisions/waiverreads.ts';
import { previewWaiver, type Preview } from '#server/decisions/waiverpreview.ts';
import { isSinglePerson, requestWaiver, termsOf, type WaiverDraft } from '#server/decisions/waivers.ts';
import type { FindingGroup, GroupAck } from '#server/store/records.ts';
import { html, icon, type Html } from './html.ts';
import {
  first,
  fieldHtml,
  inputHtml,
  selectHtml,
  sentIn,
  textareaHtml,
  wrongHtml,
  type Sent,
  type Wrongs,
} from './parts/form.ts';
import { textOf } from './parts/finding.ts';
import { noticeHtml } from './parts/page.ts';
import { dateInput, endOf } from './parts/time.ts';
import type { Env, WebServices } from './services.ts';
import { capital, count, dayOf, plural } from './words.ts';

/** What a form before brought: what was typed, what is wrong with it, and what it would do. */
export type Decide = {
  readonly form?: 'acknowledge' | 'waiver';
  readonly sent?: Sent;
  readonly wrong?: Wrongs;
  readonly preview?: Preview;
};

type GroupPage = (c: Context<Env>, services: WebServices, decide?: Decide) => Promise<Response>;

/** Unless somebody says otherwise: two weeks, in which a fix is rolled out, and not more than the severity allows. */
const WAIVER_MS = 14 * 86_400_000;
/** Up to so many hosts the page says at once what a waiver would do; beyond, when it is asked. */
const PREVIEW_AT_ONCE = 100;
const REQUESTED_LOOKED_AT = 100;

const LABELS = {
  until: 'Until',
  kind: 'Kind',
  expires: 'Expires',
  reason: 'Reason',
  ticket: 'Ticket',
  where: 'Where',
  note: 'Note',
};

export const KIND_WORDS: Readonly<Record<WaiverKind, string>> = {
  mitigated: 'Mitigated',
  accepted_risk: 'Accepted risk',
  false_positive: 'False positive',
  expected_local: 'Expected here',
};

export function decidePages(web: Hono<Env>, services: WebServices, page: GroupPage): void {
  const back = (c: Context<Env>, done: string): Response =>
    c.redirect(`/findings/${c.req.param('id')}?done=${done}`, 303);

  web.post('/findings/:id/acknowledge', async (c) => {
    const sent = await sentIn(c);
    const until = endOf(first(sent, 'until'));
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
    const assignee = z.string().max(200).parse(to) || null;
    const revision = Number(first(sent, 'revision'));
    return refusable(c, services, page, { sent }, '', async () => {
      await assign(c.req.param('id'), { assignee, revision, note: null }, who, services);
      return back(c, 'assigned');
    });
  });
  web.post('/findings/:id/comment', async (c) => {
    const text = first(await sentIn(c), 'text').trim();
    if (text !== '') await comment(c.req.param('id'), z.string().max(4096).parse(text), c.get('principal'), services);
    return c.redirect(`/findings/${c.req.param('id')}?done=commented#story`, 303);
  });
  web.post('/findings/:id/waiver/preview', (c) => waiver(c, services, page, false));
  web.post('/findings/:id/waiver', (c) => waiver(c, services, page, true));
}

/** A decision that is refused leaves the page with what was typed and why. */
async function refusable(
  c: Context<Env>,
  services: WebServices,
  page: GroupPage,
  decide: Decide,
  field: string,
  act: () => Promise<Response>,
): Promise<Response> {
  try {
    return await act();
  } catch (error) {
    if (!(error instanceof DecisionError || error instanceof WaiverError) || error.code === 'FINDING_UNKNOWN')
      throw error;
    const about = error.code === 'UNTIL_INVALID' ? 'until' : error.code === 'WAIVER_LIFE' ? 'expires' : field;
    return page(c, services, { ...decide, wrong: new Map([[about, `${capital(error.message)}.`]]) });
  }
}

async function waiver(c: Context<Env>, services: WebServices, page: GroupPage, send: boolean): Promise<Response> {
  const sent = await sentIn(c);
  const who = c.get('principal');
  const group = await services.store.findings.group(c.req.param('id')!);
  if (group === undefined) return page(c, services);
  const wrong = new Map<string, string>();
  const expiresAt = endOf(first(sent, 'expires'));
  if (expiresAt === undefined) wrong.set('expires', 'Expected a day, such as 2026-12-08.');
  const reason = first(sent, 'reason').trim();
  if (send && reason.split(/\s+/).length < 4) wrong.set('reason', 'An auditor will read it. Write one full sentence.');
  if (expiresAt === undefined || wrong.size > 0) return page(c, services, { form: 'waiver', sent, wrong });
  const draft = draftOf(group, sent, expiresAt);
  return refusable(c, services, page, { form: 'waiver', sent }, '', async () => {
    if (!send) {
      const terms = await termsOf({ ...draft, justification: reason || 'not said yet' }, who, services);
      return page(c, services, { form: 'waiver', sent, preview: await previewWaiver(terms, who, services) });
    }
    const { id } = await requestWaiver(draft, who, services);
    return c.redirect(`/waivers/${id}?done=requested`, 303);
  });
}

function draftOf(group: FindingGroup, sent: Sent, expiresAt: Instant): WaiverDraft {
  const where = first(sent, 'where');
  const pinned = first(sent, 'pin') !== 'any';
  const signature = String(group.signature);
  return {
    kind: WAIVER_KINDS.find((kind) => kind === first(sent, 'kind')) ?? 'mitigated',
    title: textOf(group).slice(0, WAIVER_TITLE_MAX),
    justification: first(sent, 'reason').trim(),
    compensating: first(sent, 'compensating').trim() || null,
    ticket: first(sent, 'ticket').trim() || null,
    selector: {
      rules: [group.rule],
      subject: { exact: group.subject },
      content: pinned ? { pins: [{ subject: group.subject, signature }] } : 'any',
      ...(where.startsWith('group:') ? { hosts: { groups: [where.slice('group:'.length)] } } : {}),
    },
    ceiling: null,
    startsAt: null,
    expiresAt,
  };
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

const typed = ({ sent }: Decide, name: string, standard = ''): string =>
  sent === undefined ? standard : first(sent, name);

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
      ${textareaHtml({ name: 'note', label: LABELS.note, help: 'Who looks into it, and where. It stands in the story for good.' }, { value: typed(mine, 'note'), rows: 2 })}
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

async function waiverForm(
  group: FindingGroup,
  { present, decide, who, now }: Omit<Deciding, 'acts'>,
  services: WebServices,
): Promise<Html> {
  const mine: Decide = decide.form === 'waiver' ? decide : {};
  const severity = SEVERITIES[group.severity];
  const life = maxLife(severity);
  const wrong = mine.wrong ?? new Map<string, string>();
  const groups = await services.store.read.hostGroups(who.groups);
  const expires = typed(mine, 'expires', dateInput(now + Math.min(WAIVER_MS, life)));
  const pinned = typed(mine, 'pin') !== 'any';
  const preview =
    mine.preview ??
    (mine.wrong === undefined && present <= PREVIEW_AT_ONCE
      ? await initial(group, endOf(expires)!, who, services)
      : undefined);
  const alone = await isSinglePerson(services.store);
  const n = preview?.findings ?? present;
  const digest = /sha256=([0-9a-f]{12})/.exec(String(group.signature))?.[1];
  return html`<form
    class="form waive"
    method="post"
    action="/findings/${group.id}/waiver"
    data-live="/findings/${group.id}/waiver/preview"
  >
    ${wrongHtml(wrong, { expires: LABELS.expires, reason: LABELS.reason })}
    <div class="pair">
      ${selectHtml(
        { name: 'kind', label: LABELS.kind },
        WAIVER_KINDS.map((kind) => [kind, KIND_WORDS[kind]]),
        typed(mine, 'kind', 'mitigated'),
      )}
      ${inputHtml({ name: 'expires', label: LABELS.expires, wrong }, { type: 'date', value: expires, required: true })}
    </div>
    ${textareaHtml({ name: 'reason', label: 'Why is this fine until then?', wrong }, { value: typed(mine, 'reason'), required: true, rows: 3 })}
    ${
      groups.length > 0 &&
      selectHtml(
        { name: 'where', label: LABELS.where },
        [
          ['', 'On every host'],
          ...groups.map(({ name }): readonly [string, string] => [`group:${name}`, `In host group ${name}`]),
        ],
        typed(mine, 'where'),
      )
    }
    ${fieldHtml({ name: 'ticket', label: LABELS.ticket, help: 'Where the work stands, if it does.' }, (ties) => html`<input class="input" ${ties} value="${typed(mine, 'ticket')}" maxlength="2000" autocomplete="off" />`)}
    ${
      hasRole(who, 'reviewer', 'admin')
        ? html`<label class="opt"
              ><input type="radio" name="pin" value="pinned" ${pinned && html` checked`} /><span
                >Only ${digest === undefined ? 'this very change' : html`these bytes, <code>${digest}</code>`}<small
                  >Anything else there stays a finding</small
                ></span
              ></label
            >
            <label class="opt"
              ><input type="radio" name="pin" value="any" ${!pinned && html` checked`} /><span
                >Whatever lies there<small>Also content that nobody has seen yet</small></span
              ></label
            >`
        : html`<p class="soft">
            It covers only ${digest === undefined ? 'this very change' : html`these bytes, <code>${digest}</code>`};
            anything else there stays a finding.
          </p>`
    }
    <div data-preview role="status">
      ${
        preview === undefined
          ? html`<div class="preview">
              <h3>If approved</h3>
              <p class="soft">
                ${wrong.size > 0 ? 'Told once the fields above are right.' : `So many hosts are looked at when it is asked: ${count(present)}.`}
              </p>
            </div>`
          : previewHtml(preview, endOf(expires)!)
      }
    </div>
    <div class="field">
      <button class="btn first wide" type="submit">Request waiver for ${plural(n, 'finding')}</button>
      <button class="btn wide" type="submit" formaction="/findings/${group.id}/waiver/preview" formnovalidate>
        Preview
      </button>
      <small
        >${alone ? 'One person may decide alone, and the waiver says so.' : 'A second person approves.'}
        ${capital(severity)}: ${Math.round(life / 86_400_000)} days at most, until ${dayOf(now + life - 1)}.</small
      >
    </div>
  </form>`;
}

async function initial(
  group: FindingGroup,
  expiresAt: Instant,
  who: Principal,
  services: WebServices,
): Promise<Preview | undefined> {
  try {
    const draft = draftOf(group, new Map([['reason', ['not said yet']]]), expiresAt);
    return await previewWaiver(await termsOf(draft, who, services), who, services);
  } catch (error) {
    if (error instanceof WaiverError || error instanceof DecisionError) return undefined; // told when it is asked for
    throw error;
  }
}

/** What it would do, in three figures; the warnings after them. */
export function previewHtml(
  { findings, hosts, compliant, complete, judged, warnings }: Preview,
  expiresAt: Instant,
): Html {
  const least = (exact: boolean): string => (exact ? '' : 'at least ');
  return html`<div class="preview">
    <h3>If approved</h3>
    <ul>
      <li>
        <strong>${least(complete)}${count(findings)}</strong> ${findings === 1 ? 'finding' : 'findings'} on
        ${least(complete)}${plural(hosts, 'host')} ${findings === 1 ? 'is' : 'are'} waived until ${dayOf(expiresAt - 1)}
      </li>
      <li>
        <strong>${least(judged)}${count(compliant)}</strong> ${compliant === 1 ? 'host becomes' : 'hosts become'}
        compliant (1 waived)
      </li>
      ${judged && hosts > compliant && html`<li><strong>${count(hosts - compliant)}</strong> ${hosts - compliant === 1 ? 'stays' : 'stay'} as ${hosts - compliant === 1 ? 'it is' : 'they are'}, for other changes</li>`}
    </ul>
    ${warnings.map(({ text }) => html`<p class="warns">${icon('stop')}<span>${capital(text)}.</span></p>`)}
  </div>`;
}

function ownerSheet({ id, assignee, revision }: FindingGroup, who: Principal, { wrong }: Decide): Html {
  const isMine = assignee === who.id;
  const refused = wrong?.get('');
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
          value="${assignee ?? ''}"
          maxlength="200"
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

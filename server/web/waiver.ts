/** `/waivers/:id`: one exception: what it covers and why, what it would do or does, and the decisions that are open about it. */
import type { Context, Hono } from 'hono';
import type { Instant } from '#src/clock.ts';
import { intersection } from '#src/finding/scope.ts';
import { stateOf, WaiverError, type Pin, type Waiver, type WaiverState } from '#src/finding/waiver.ts';
import { SEVERITIES } from '#src/policy/judgement.ts';
import type { Principal } from '#server/access/principal.ts';
import { DecisionError } from '#server/decisions/may.ts';
import { previewWaiver } from '#server/decisions/waiverpreview.ts';
import { readWaiver, useOf, waiverStory, type ShownWaiver } from '#server/decisions/waiverreads.ts';
import { decideWaiver, isSinglePerson, type Act, type Acted } from '#server/decisions/waivers.ts';
import type { AuditEntry, FindingInList } from '#server/store/records.ts';
import { decideSheet, VERBS, type Refused, type Verb } from './waiverdecide.ts';
import { KIND_WORDS, previewHtml } from './waiverform.ts';
import { copyHtml, digestHtml, html, icon, type Html, type Part } from './html.ts';
import { missingPage, show } from './layout.ts';
import { first, refusedStatus, sentIn, type Sent, type Wrongs } from './parts/form.ts';
import { whatHtml } from './parts/finding.ts';
import { emptyHtml, headHtml, noticeHtml } from './parts/page.ts';
import { endOf } from './parts/time.ts';
import { stateHtml, subjectHtml, whereText } from './parts/waiver.ts';
import type { Env, WebServices } from './services.ts';
import { agoHtml, capital, count, dayHtml, dayOf, momentHtml, plural, severityGlyph, severityHtml } from './words.ts';

const SHOWN = 25;
const PINS = 20;
const STORY = 50;
export function waiverActs(web: Hono<Env>, services: WebServices): void {
  web.post('/waivers/:id/:verb', async (c) => {
    const verb = VERBS.find((one) => one === c.req.param('verb'));
    if (verb === undefined) return missingPage(c, services);
    const sent = await sentIn(c);
    const act = actIn(verb, sent);
    if ('wrong' in act) return waiverPage(c, services, { verb, sent, wrong: act.wrong });
    try {
      const acted = await decideWaiver(
        c.req.param('id'),
        Number(first(sent, 'revision')),
        act.act,
        c.get('principal'),
        services,
      );
      return c.redirect(`/waivers/${acted.waiver.id}?done=${doneOf(verb, acted)}`, 303);
    } catch (error) {
      if (!(error instanceof DecisionError || error instanceof WaiverError) || error.code === 'WAIVER_UNKNOWN')
        throw error;
      const field = error.code === 'WAIVER_LIFE' && verb === 'extend' ? 'expires' : '';
      const wrong = new Map([[field, `${capital(error.message)}.`]]);
      return waiverPage(c, services, { verb, sent, wrong, status: refusedStatus(error) });
    }
  });
}

const doneOf = (verb: Verb, { pending }: Acted): string => `${verb}${pending ? '.pending' : ''}`;

function actIn(verb: Verb, sent: Sent): { readonly act: Act } | { readonly wrong: Wrongs } {
  const note = first(sent, 'note').trim();
  if (note.length > 4096) return { wrong: new Map([['note', 'At most 4,096 characters.']]) };
  if (verb === 'approve') return { act: { kind: verb, note: note || null } };
  if (verb === 'withdraw') return { act: { kind: verb, reason: note || null } };
  if (note === '') return { wrong: new Map([['note', 'Say why: it stands beside the decision for good.']]) };
  if (verb === 'reject') return { act: { kind: verb, note } };
  if (verb === 'revoke') return { act: { kind: verb, reason: note } };
  const expiresAt = endOf(first(sent, 'expires'));
  if (expiresAt === undefined) return { wrong: new Map([['expires', 'Expected a day, such as 2026-12-08.']]) };
  return { act: { kind: verb, expiresAt, note } };
}

export async function waiverPage(c: Context<Env>, services: WebServices, refused?: Refused): Promise<Response> {
  const { store, clock } = services;
  const now = clock();
  const who = c.get('principal');
  const waiver = await readWaiver(c.req.param('id')!, who, services).catch((error: unknown) => {
    if (error instanceof DecisionError && error.code === 'WAIVER_UNKNOWN') return undefined;
    throw error;
  });
  if (waiver === undefined) return missingPage(c, services);
  const state = stateOf(waiver, now);
  const [use, story, alone] = await Promise.all([
    useOf([waiver.id], who, services),
    waiverStory(waiver.id, { cursor: null, limit: STORY }, who, services),
    isSinglePerson(store),
  ]);
  const { findings, hosts } = use.get(waiver.id)!;
  const filter = { line: [{ field: 'waiver', negated: false, values: [waiver.id] }] as const, scope: who.groups, now };
  const covered = findings === 0 ? [] : (await store.read.findings(filter, { cursor: null, limit: SHOWN })).items;
  const preview =
    state === 'requested'
      ? previewHtml(await previewWaiver(waiver, intersection(waiver.scope, who.groups), services), waiver.expiresAt)
      : undefined;
  const body = html`${decidedNotice(c.req.query('done'), story.items, who, waiver, hosts)}
    ${headHtml({
      crumbs: [['Waivers', '/waivers'], [html`<span class="mono">${waiver.id}</span>`]],
      lead: severityGlyph(waiver.ceiling),
      title: sentence(waiver, state, hosts),
      text: aboutText(waiver, state),
    })}
    <div class="cols aside">
      <div class="stack">
        ${whySheet(waiver)} ${coverSheet(waiver)}
        ${(state === 'active' || findings > 0) && coveredSheet(waiver, covered, findings, now)}
      </div>
      <aside class="stack" aria-label="Decide">
        ${decideSheet(waiver, { state, who, alone, now, preview, refused })} ${storySheet(story.items)}
      </aside>
    </div>`;
  return show(
    c,
    services,
    { title: `${waiver.id} ${waiver.title}`, section: '/waivers', now, body },
    refused === undefined ? 200 : (refused.status ?? 422),
  );
}

function sentence(waiver: Waiver, state: WaiverState, hosts: number): Html {
  const what = subjectHtml(waiver);
  const day = dayOf(waiver.expiresAt - 1);
  switch (state) {
    case 'requested':
      return html`${waiver.requestedBy} asks to waive ${what} until ${day}`;
    case 'approved':
      return html`${what} will be waived from ${dayOf(waiver.startsAt!)} until ${day}`;
    case 'active':
      return html`${what} is waived${hosts > 0 && ` on ${plural(hosts, 'host')}`} until ${day}`;
    case 'expired':
      return waiver.decision === 'requested'
        ? html`Nobody decided whether to waive ${what} until ${day}`
        : html`${what} was waived until ${day}`;
    case 'revoked':
      return html`The waiver of ${what} was revoked`;
    case 'rejected':
      return html`The waiver of ${what} was rejected`;
    case 'withdrawn':
      return html`The waiver of ${what} was withdrawn`;
  }
}

function aboutText(waiver: Waiver, state: WaiverState): Html {
  const {
    requestedBy,
    requestedAt,
    decidedBy,
    decidedAt,
    decisionNote,
    endedBy,
    endedAt,
    endReason,
    alone,
    extension,
  } = waiver;
  return html`${stateHtml(state)} Asked for by ${requestedBy},
  ${momentHtml(requestedAt)}${
    decidedBy !== null &&
    decidedAt !== null &&
    html`; ${state === 'rejected' ? 'rejected' : 'approved'} by ${decidedBy},
    ${dayHtml(decidedAt)}${decisionNote !== null && `: “${decisionNote}”`}`
  }${endedBy !== null && endedAt !== null && html`; ended by ${endedBy}, ${dayHtml(endedAt)}${endReason !== null && `: “${endReason}”`}`}.${
    alone && ' One person asked and decided: the setting allowed it then.'
  }${extension !== null && html` ${extension.requestedBy} asks for more time, until ${dayOf(extension.expiresAt - 1)}: “${extension.note}”.`}`;
}

function whySheet({ title, justification, compensating, ticket, kind }: Waiver): Html {
  return html`<section class="sheet">
    <header>
      <h2>Why it is fine until then</h2>
      <span class="quiet">${KIND_WORDS[kind]}</span>
    </header>
    <div class="pad form">
      <h3>${title}</h3>
      <p class="prose">${justification}</p>
      ${
        (compensating !== null || ticket !== null) &&
        html`<dl class="facts">
          ${
            compensating !== null &&
            html`<dt>Made up for by</dt>
              <dd>${compensating}</dd>`
          }
          ${
            ticket !== null &&
            html`<dt>Ticket</dt>
              <dd>${ticket}</dd>`
          }
        </dl>`
      }
    </div>
  </section>`;
}

function coverSheet({ selector, ceiling, startsAt, expiresAt, scope, beyond }: ShownWaiver): Html {
  const { rules, subject, content, hosts } = selector;
  const facts: (readonly [string, Part])[] = [];
  if (rules !== undefined)
    facts.push([
      'Rules',
      rules.map(
        (rule) => html`<a class="link" href="/findings?tab=all&q=rule:${encodeURIComponent(rule)}">${rule}</a> `,
      ),
    ]);
  if (subject !== undefined)
    facts.push(['Subject', html`<code>${'exact' in subject ? subject.exact : subject.glob}</code>`]);
  facts.push([
    'Content',
    content === 'any'
      ? 'any, also what nobody has seen yet'
      : html`${content.pins.slice(0, PINS).map(pinHtml)}${content.pins.length > PINS && html`<div>and ${count(content.pins.length - PINS)} more</div>`}`,
  ]);
  facts.push(['Where', whereText(selector).replace(/^[^,]*, /, '')]);
  if (hosts?.ids !== undefined)
    facts.push([
      'Hosts',
      hosts.ids.slice(0, 20).map((id) => html`<a class="link" href="/hosts/${encodeURIComponent(id)}">${id}</a> `),
    ]);
  if (beyond) facts.push(['Beyond', 'hosts of other groups than yours, too; they are not named here']);
  if (scope !== null) facts.push(['Within', `the approver’s host groups: ${scope.join(', ') || 'none'}`]);
  facts.push(['Up to', severityHtml(ceiling)]);
  facts.push([
    'Holds',
    html`${startsAt === null ? 'from its approval' : html`from ${dayHtml(startsAt)}`} until ${dayHtml(expiresAt - 1)}`,
  ]);
  return html`<section class="sheet">
    <header><h2>What it covers</h2></header>
    <div class="pad">
      <dl class="facts">
        ${facts.map(
          ([word, what]) =>
            html`<dt>${word}</dt>
              <dd>${what}</dd>`,
        )}
      </dl>
    </div>
    <footer>
      <span>Anything else at the same place stays a finding, and what policy rates higher is open again.</span>
    </footer>
  </section>`;
}

/** As a finding reads; the whole digest of what was seen is there to copy. */
function pinHtml(pin: Pin): Html {
  if ('digest' in pin)
    return html`<div>any file with the content ${digestHtml(pin.digest)} ${copyHtml(pin.digest, 'Copy')}</div>`;
  const { subject, signature } = pin;
  const changed = /^(?:added|removed|modified|differs)(?:;|$)/.test(signature);
  const digest = /(?:^|;)sha256=(?:sha256:)?([0-9a-f]{64})(?:;|$)/.exec(signature)?.[1];
  return html`<div>
    ${changed ? whatHtml({ kind: 'drift', subject, signature }) : html`${subject} <span class="soft">${signature}</span>`}
    ${digest !== undefined && html`${digestHtml(digest)} ${copyHtml(digest, 'Copy')}`}
  </div>`;
}

function coveredSheet(waiver: Waiver, items: readonly FindingInList[], total: number, now: Instant): Html {
  return html`<section class="sheet">
    <header>
      <h2>Waived now</h2>
      <a class="link" href="/findings?tab=waived&q=waiver:${waiver.id}">${plural(total, 'finding')}</a>
    </header>
    ${
      items.length === 0
        ? emptyHtml('Nothing matches', 'What it was asked for is gone by itself. Nobody needs it any more.')
        : html`<table class="list flat">
            <caption class="sr">
              Findings that it covers
            </caption>
            <thead>
              <tr>
                <th>Host</th>
                <th class="p2">What</th>
                <th class="num">Since</th>
              </tr>
            </thead>
            <tbody>
              ${items.map(
                ({ hostId, hostName, groupId, group, openedAt, severity }) =>
                  html`<tr>
                    <td class="nowrap">
                      <strong><a class="go" href="/hosts/${hostId}">${hostName}</a></strong>
                    </td>
                    <td class="main p2">
                      <span class="clip"
                        >${severityGlyph(SEVERITIES[severity])}
                        <a class="over" href="/findings/${groupId}">${whatHtml(group)}</a></span
                      >
                    </td>
                    <td class="num soft nowrap">${agoHtml(openedAt, now)}</td>
                  </tr>`,
              )}
            </tbody>
          </table>`
    }
    ${total > items.length && items.length > 0 && html`<footer><span>${count(items.length)} of ${plural(total, 'finding')}</span></footer>`}
  </section>`;
}

const DID: Readonly<Record<string, readonly [icon: string, text: string]>> = {
  'waiver.request': ['clock', 'asked for it'],
  'waiver.approve': ['check', 'approved it'],
  'waiver.reject': ['x', 'rejected it'],
  'waiver.withdraw': ['back', 'withdrew it'],
  'waiver.revoke': ['x', 'revoked it'],
  'waiver.extend': ['clock', 'asked for more time'],
  'waiver.approve-extension': ['check', 'approved more time'],
  'waiver.reject-extension': ['x', 'rejected more time'],
  'waiver.withdraw-extension': ['back', 'no longer asks for more time'],
  'waiver.change': ['note', 'changed its words'],
  'waiver.expire': ['v-silent', 'It came to its day'],
};

function storySheet(items: readonly AuditEntry[]): Html {
  return html`<section class="sheet">
    <header><h2>What happened</h2></header>
    <div class="pad">
      <ol class="timeline">
        ${items.map(({ action, actor, at, note }) => {
          const [name, text] = DID[action] ?? ['note', action];
          return html`<li>
            ${icon(name)}
            <div>
              ${action === 'waiver.expire' ? text : html`<strong>${actor}</strong> ${text}`}${note !== null && html`<blockquote>${note}</blockquote>`}${note === null && html`<br />`}<small
                >${momentHtml(at)}</small
              >
            </div>
          </li>`;
        })}
      </ol>
    </div>
  </section>`;
}

/** What was just done, if the trail says so. */
function decidedNotice(
  done: string | undefined,
  story: readonly AuditEntry[],
  who: Principal,
  waiver: Waiver,
  hosts: number,
): Html | undefined {
  if (done === undefined) return undefined;
  const [verb, pending] = done.split('.');
  // Of the newest moment that this person did something: only what the trail holds is told.
  const mine = story.filter(({ actor }) => actor === who.id);
  const word = verb === 'requested' ? 'request' : verb;
  const last = mine.find(
    ({ at, action }) => at === mine[0]!.at && action.replace(/^waiver\.|-extension$/g, '') === word,
  );
  if (last === undefined) return undefined;
  const more = pending === undefined ? '' : ' More hosts follow: a job is at them.';
  const day = dayOf(waiver.expiresAt - 1);
  const extended = last.action.endsWith('-extension');
  switch (verb) {
    case 'requested':
      return noticeHtml(`You asked for ${waiver.id}. Nothing is waived until another person approves it.`);
    case 'approve':
      return noticeHtml(
        extended
          ? `You approved more time: ${waiver.id} holds until ${day}.`
          : `You approved ${waiver.id}. ${hosts === 0 ? 'Nothing that is open matches it now.' : `It covers findings on ${plural(hosts, 'host')} until ${day}; their verdicts follow.`}${more}`,
      );
    case 'reject':
      return noticeHtml(
        extended
          ? `You rejected more time for ${waiver.id}. It ends on ${day}.`
          : `You rejected ${waiver.id}. Nothing changed for any host.`,
      );
    case 'revoke':
      return noticeHtml(`You revoked ${waiver.id}. What it covered is open again.${more}`);
    case 'withdraw':
      return noticeHtml(extended ? `You no longer ask for more time for ${waiver.id}.` : `You withdrew ${waiver.id}.`);
    case 'extend':
      return noticeHtml(
        `You asked for more time for ${waiver.id}, until ${waiver.extension === null ? day : dayOf(waiver.extension.expiresAt - 1)}. It ends on ${day} unless another person approves.`,
      );
    default:
      return undefined;
  }
}

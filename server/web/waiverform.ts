/** Asking for a waiver of one change: the form, what it would do while it is filled in, and the request itself. */
import type { Context } from 'hono';
import type { Instant } from '#src/clock.ts';
import { maxLife, WAIVER_KINDS, WaiverError, type WaiverKind } from '#src/finding/waiver.ts';
import { WAIVER_TITLE_MAX } from '#src/limits.ts';
import { SEVERITIES } from '#src/policy/judgement.ts';
import { hasRole, type Principal } from '#server/access/principal.ts';
import { groupOf } from '#server/decisions/findings.ts';
import { DecisionError } from '#server/decisions/may.ts';
import { previewWaiver, type Preview } from '#server/decisions/waiverpreview.ts';
import { isSinglePerson, requestWaiver } from '#server/decisions/waivers.ts';
import { termsOf, type WaiverDraft } from '#server/decisions/waiverterms.ts';
import type { FindingGroup } from '#server/store/records.ts';
import { LABELS, refusable, typed, type Decide, type GroupPage } from './decision.ts';
import { html, icon, type Html } from './html.ts';
import { fieldHtml, first, inputHtml, selectHtml, sentIn, textareaHtml, wrongHtml, type Sent } from './parts/form.ts';
import { textOf } from './parts/finding.ts';
import { dateInput, endOf } from './parts/time.ts';
import type { Env, WebServices } from './services.ts';
import { capital, count, dayOf, plural } from './words.ts';

/** Unless somebody says otherwise: two weeks, in which a fix is rolled out, and not more than the severity allows. */
const WAIVER_MS = 14 * 86_400_000;
/** Up to so many hosts the page says at once what a waiver would do; beyond, when it is asked. */
const PREVIEW_AT_ONCE = 100;

export const KIND_WORDS: Readonly<Record<WaiverKind, string>> = {
  mitigated: 'Mitigated',
  accepted_risk: 'Accepted risk',
  false_positive: 'False positive',
  expected_local: 'Expected here',
};

/** What was posted: shown with what it would do, or asked for. */
export async function askForWaiver(
  c: Context<Env>,
  services: WebServices,
  page: GroupPage,
  send: boolean,
): Promise<Response> {
  const sent = await sentIn(c);
  const who = c.get('principal');
  const group = await theirs(c.req.param('id')!, who, services);
  if (group === undefined) return page(c, services); // which says that there is none
  const wrong = new Map<string, string>();
  const expiresAt = endOf(first(sent, 'expires'));
  if (expiresAt === undefined) wrong.set('expires', 'Expected a day, such as 2026-12-08.');
  const reason = first(sent, 'reason').trim();
  if (send && reason.split(/\s+/).length < 4) wrong.set('reason', 'An auditor will read it. Write one full sentence.');
  if (expiresAt === undefined || wrong.size > 0) return page(c, services, { form: 'waiver', sent, wrong });
  const draft = draftOf(group, sent, expiresAt);
  return refusable(c, services, page, { form: 'waiver', sent }, '', async () => {
    if (!send) {
      const { terms, scope } = await termsOf({ ...draft, justification: reason || 'not said yet' }, who, services);
      return page(c, services, { form: 'waiver', sent, preview: await previewWaiver(terms, scope, services) });
    }
    const { id } = await requestWaiver(draft, who, services);
    return c.redirect(`/waivers/${id}?done=requested`, 303);
  });
}

async function theirs(id: string, who: Principal, services: WebServices): Promise<FindingGroup | undefined> {
  try {
    return await groupOf(id, who, services);
  } catch (error) {
    if (error instanceof DecisionError && error.code === 'FINDING_UNKNOWN') return undefined;
    throw error;
  }
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

/** For whom, and after what. */
type Asking = { readonly present: number; readonly decide: Decide; readonly who: Principal; readonly now: Instant };

export async function waiverForm(
  group: FindingGroup,
  { present, decide, who, now }: Asking,
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
    const { terms, scope } = await termsOf(draft, who, services);
    return await previewWaiver(terms, scope, services);
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

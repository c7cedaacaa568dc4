/** What may be decided about one waiver now, by whoever looks at it: a form for each act, with what was typed where it was refused. */
import type { Instant } from '#src/clock.ts';
import { maxLife, type Waiver, type WaiverState } from '#src/finding/waiver.ts';
import { hasRole, type Principal } from '#server/access/principal.ts';
import type { Act } from '#server/decisions/waivers.ts';
import { html, icon, type Html } from './html.ts';
import { first, inputHtml, textareaHtml, wrongHtml, type Sent, type Wrongs } from './parts/form.ts';
import { dateInput } from './parts/time.ts';
import { capital, dayOf } from './words.ts';

/** Half again what it was given, and never more than the severity allows. */
const MORE_MS = 14 * 86_400_000;

export type Verb = Act['kind'];
export const VERBS: readonly Verb[] = ['approve', 'reject', 'withdraw', 'revoke', 'extend'];
const LABELS = { note: 'Note', expires: 'New end' };

export type Refused = {
  readonly verb: Verb;
  readonly sent: Sent;
  readonly wrong: Wrongs;
  readonly status?: 403 | 422;
};

type Deciding = {
  readonly state: WaiverState;
  readonly who: Principal;
  readonly alone: boolean;
  readonly now: Instant;
  readonly preview: Html | undefined;
  readonly refused: Refused | undefined;
};

export function decideSheet(waiver: Waiver, { state, who, alone, now, preview, refused }: Deciding): Html | undefined {
  const { extension } = waiver;
  const decides = hasRole(who, 'reviewer', 'admin');
  const asks = hasRole(who, 'operator', 'reviewer', 'admin');
  const asker = extension?.requestedBy ?? (state === 'requested' ? waiver.requestedBy : undefined);
  const isOwn = asker === who.id;
  const open = asker !== undefined;
  const inForce = state === 'active' || state === 'approved';
  if (!open && !inForce) return undefined;
  const form = (verb: Verb, word: string, fields: Html, look = 'btn wide'): Html => {
    const wrong = refused?.verb === verb ? refused.wrong : undefined;
    return html`<form class="form" method="post" action="/waivers/${waiver.id}/${verb}">
      <input type="hidden" name="revision" value="${waiver.revision}" />
      ${wrong !== undefined && wrongHtml(wrong, LABELS)} ${fields}
      <button class="${look}" type="submit">${word}</button>
    </form>`;
  };
  const note = (verb: Verb, label: string, help: string, required: boolean): Html => {
    const mine = refused?.verb === verb ? refused : undefined;
    return textareaHtml(
      { name: 'note', id: `${verb}-note`, label, help, ...(mine === undefined ? {} : { wrong: mine.wrong }) },
      { value: mine === undefined ? '' : first(mine.sent, 'note'), rows: 2, required },
    );
  };
  const what = extension === null ? waiver.id : `more time for ${waiver.id}`;
  const until = extension === null ? waiver.expiresAt : extension.expiresAt;
  return html`<section class="sheet">
    <header>
      <h2>${open ? 'Decide' : 'Change'}</h2>
      <span class="quiet">until ${dayOf(until - 1)}</span>
    </header>
    <div class="pad form">
      ${preview}
      ${open && isOwn && !alone && html`<p class="note">${icon('user')}<span>You asked for it, so another person decides.</span></p>`}
      ${open && !decides && html`<p class="note">${icon('user')}<span>Reviewers decide.</span></p>`}
      ${open && decides && (!isOwn || alone) && form('approve', `Approve ${what}`, note('approve', 'Note', 'May stay empty.', false), 'btn first wide')}
      ${open && decides && !isOwn && more('Reject it', refused?.verb === 'reject', form('reject', `Reject ${what}`, note('reject', 'Why not?', 'Who asked reads it.', true)))}
      ${open && isOwn && asks && more('Withdraw it', refused?.verb === 'withdraw', form('withdraw', `Withdraw ${what}`, note('withdraw', 'Why?', 'May stay empty.', false)))}
      ${
        inForce &&
        !open &&
        asks &&
        more(
          'Ask for more time',
          refused?.verb === 'extend',
          form(
            'extend',
            `Ask for more time for ${waiver.id}`,
            html`${inputHtml(
              {
                name: 'expires',
                label: LABELS.expires,
                help: `Another person approves. ${capital(waiver.ceiling)}: until ${dayOf(now + maxLife(waiver.ceiling) - 1)} at most.`,
                ...(refused?.verb === 'extend' ? { wrong: refused.wrong } : {}),
              },
              {
                type: 'date',
                value:
                  refused?.verb === 'extend'
                    ? first(refused.sent, 'expires')
                    : dateInput(Math.min(waiver.expiresAt + MORE_MS, now + maxLife(waiver.ceiling))),
                required: true,
              },
            )}
            ${note('extend', 'Why longer?', 'The date is asked for as it stands here.', true)}`,
          ),
        )
      }
      ${inForce && decides && more('Revoke it', refused?.verb === 'revoke', form('revoke', `Revoke ${waiver.id}`, note('revoke', 'Why?', 'What it covers is open again at once.', true)))}
    </div>
  </section>`;
}

function more(word: string, open: boolean, content: Html): Html {
  return html`<details class="more" ${open && html` open`}>
    <summary>${icon('right')}${word}</summary>
    ${content}
  </details>`;
}

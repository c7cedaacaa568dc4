/** `/settings/channels`: where notices go, what each channel hears of, what arrived and what was given up (docs/notices.md). */
import type { Context, Hono } from 'hono';
import type { Instant } from '#src/clock.ts';
import { SEVERITIES } from '#src/policy/judgement.ts';
import { isFleetWide } from '#server/access/principal.ts';
import { changeChannel, ChannelError, resend, testChannel } from '#server/decisions/channels.ts';
import { DecisionError } from '#server/decisions/may.ts';
import { shownTarget, targetOf } from '#server/notices/channel.ts';
import { TRANSITIONS, type Channel, type Delivery } from '#server/store/noticerecords.ts';
import { commandHtml, html, icon, type Html } from './html.ts';
import { show } from './layout.ts';
import { first, sentIn } from './parts/form.ts';
import { emptyHtml, headHtml, noticeHtml, refusedHtml } from './parts/page.ts';
import type { Env, WebServices } from './services.ts';
import { agoHtml, capital, plural, whenHtml } from './words.ts';

/** Messages that are listed: the newest that were given up, and the newest of all. */
const SHOWN = 25;

export function channelPages(web: Hono<Env>, services: WebServices): void {
  web.get('/settings/channels', (c) => page(c, services));
  const act = (path: string, what: (c: Context<Env>, id: string) => Promise<string>): void => {
    web.post(`/settings/channels/${path}`, async (c) => {
      const id = first(await sentIn(c), 'id');
      try {
        return c.redirect(`/settings/channels?did=${await what(c, id)}`, 303);
      } catch (error) {
        const refused = error instanceof ChannelError || (error instanceof DecisionError && error.code !== 'FORBIDDEN');
        if (!refused) throw error;
        return page(c, services, error.message);
      }
    });
  };
  const who = (c: Context<Env>) => c.get('principal');
  act('test', async (c, id) => {
    const { came } = await testChannel(id, who(c), services.notices);
    return came.ok ? 'tested' : 'failed';
  });
  act('resend', async (c, id) => {
    await resend(id, who(c), services.notices);
    return 'resent';
  });
  for (const state of ['active', 'disabled'] as const)
    act(state === 'active' ? 'enable' : 'disable', async (c, id) => {
      const channel = await services.store.notices.channel(id);
      await changeChannel(id, channel?.revision ?? 0, { state }, who(c), services.notices);
      return state;
    });
}

async function page(c: Context<Env>, services: WebServices, refused?: string): Promise<Response> {
  const { store, clock } = services;
  const now = clock();
  const who = c.get('principal');
  const title = 'Channels';
  const crumbs = [['Settings', '/settings'], [title]] as const;
  if (!isFleetWide(who, 'auditor', 'admin')) {
    const body = html`${headHtml({ crumbs, title })}${refusedHtml('Where notices go is shown to whoever is auditor or admin of the whole fleet.')}`;
    return show(c, services, { title, section: '/settings', now, body });
  }
  const may = isFleetWide(who, 'admin');
  const [channels, dead, newest] = await Promise.all([
    store.notices.channels(),
    store.notices.deliveries({ state: 'dead' }, { cursor: null, limit: SHOWN }),
    store.notices.deliveries({}, { cursor: null, limit: SHOWN }),
  ]);
  const names = new Map(channels.map(({ id, name }) => [id, name]));
  const body = html`${refused !== undefined && refusedHtml(`${capital(refused)}.`)} ${noticeOf(c.req.query('did'))}
    ${headHtml({ crumbs, title, text: 'Each hears of what changes, grouped, once, after it is kept. Where a receiver does not answer it is tried for three days.' })}
    <div class="stack">
      ${
        channels.length === 0
          ? html`<section class="sheet">
              ${emptyHtml('Nobody is told', 'A channel is made on the command line or with a file, because its address is a secret.', commandHtml('bootproof channels create ops --url-file hook-url --min-severity high'))}
            </section>`
          : channels.map((channel) => channelSheet(channel, may, now))
      }
      ${dead.items.length > 0 && deliveriesSheet('Given up', dead.items, { names, may, now, more: dead.next !== null })}
      ${newest.items.length > 0 && deliveriesSheet('Newest messages', newest.items, { names, may: false, now, more: newest.next !== null })}
    </div>`;
  return show(c, services, { title, section: '/settings', now, body }, refused === undefined ? 200 : 422);
}

function channelSheet(channel: Channel, may: boolean, now: Instant): Html {
  const { id, name, kind, routing, state, disabledWhy, conditionError } = channel;
  const { events, minSeverity, hosts, condition = null, digestAt = null, quiet = null } = routing;
  const isAll = TRANSITIONS.every((event) => events.includes(event));
  const others = isAll ? events.filter((event) => !TRANSITIONS.includes(event)) : events;
  const where = [...(hosts.groups ?? []), ...hosts.labels.map(({ key, value }) => `${key}=${value}`)];
  const facts: readonly (readonly [string, Html | string])[] = [
    ['Leads to', html`<code>${shownTarget(targetOf(channel))}</code> <span class="quiet">${kind}</span>`],
    ['Hears of', [...(isAll ? ['every change'] : []), ...others].join(', ')],
    ['Findings', `${SEVERITIES[minSeverity]} and above`],
    ['Hosts', where.length === 0 ? 'all' : where.join(', ')],
    ...(condition === null ? [] : [['Only if', html`<code>${condition}</code>`] as const]),
    ...(digestAt === null ? [] : [['Digest', `each day at ${digestAt} UTC`] as const]),
    ...(quiet === null ? [] : [['Quiet', `${quiet.from} to ${quiet.to} UTC, but for what is critical`] as const]),
  ];
  const form = (path: string, word: string): Html =>
    html`<form method="post" action="/settings/channels/${path}">
      <input type="hidden" name="id" value="${id}" /><button class="btn" type="submit">${word}</button>
    </form>`;
  return html`<section class="sheet">
    <header>
      <h2>${name}</h2>
      ${state === 'disabled' && html`<span class="tag loud">switched off</span>`}
    </header>
    <div class="pad form">
      ${disabledWhy !== null && html`<p class="note">${icon('stop')}<span>${capital(disabledWhy)}.</span></p>`}
      ${
        conditionError !== null &&
        html`<p class="note">
          ${icon('stop')}<span
            >Its condition could not say yes or no ${agoHtml(conditionError.at, now)} ago, so it was told:
            ${conditionError.text}</span
          >
        </p>`
      }
      <dl class="facts">
        ${facts.map(
          ([word, what]) =>
            html`<dt>${word}</dt>
              <dd>${what}</dd>`,
        )}
      </dl>
      ${
        may &&
        html`<div class="acts">
          ${form('test', 'Send a test')}
          ${state === 'active' ? form('disable', 'Switch off') : form('enable', 'Switch on')}
        </div>`
      }
    </div>
  </section>`;
}

type Around = {
  readonly names: ReadonlyMap<string, string>;
  readonly may: boolean;
  readonly now: Instant;
  readonly more: boolean;
};

function deliveriesSheet(title: string, items: readonly Delivery[], { names, may, now, more }: Around): Html {
  return html`<section class="sheet">
    <header>
      <h2>${title}</h2>
      <span class="quiet">${plural(items.length, 'message')}${more && ' and more'}</span>
    </header>
    <div class="pad">
      <ul class="rows">
        ${items.map(
          ({ id, channelId, notice, state, createdAt, error, status }) =>
            html`<li>
              <span class="grow"
                >${(notice as { readonly text: string }).text}<br /><small class="quiet"
                  >${names.get(channelId) ?? channelId},
                  ${state}${state !== 'delivered' && (error ?? status) !== null && `: ${error ?? `it answered ${status}`}`}</small
                ></span
              >
              <span class="quiet nowrap">${whenHtml(createdAt, now)}</span>
              ${
                may &&
                html`<form method="post" action="/settings/channels/resend">
                  <input type="hidden" name="id" value="${id}" /><button class="btn bare" type="submit">
                    Send again
                  </button>
                </form>`
              }
            </li>`,
        )}
      </ul>
    </div>
  </section>`;
}

const DID: Readonly<Record<string, string>> = {
  tested: 'The test arrived.',
  failed: 'The test did not arrive: why stands beside it below.',
  resent: 'It is sent again.',
  active: 'The channel is on. It hears of what changes from now on.',
  disabled: 'The channel is off. What changes meanwhile is not told later.',
};

function noticeOf(did: string | undefined): Html | undefined {
  const text = did === undefined || !Object.hasOwn(DID, did) ? undefined : DID[did];
  return text === undefined ? undefined : noticeHtml(text);
}

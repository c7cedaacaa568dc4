/** `/settings/access`: who may do what, and where: people, services, roles, API tokens, sessions. */
import type { Context, Hono } from 'hono';
import { z } from 'zod';
import type { Instant } from '#src/clock.ts';
import { TokenGrants } from '#server/access/admin.ts';
import { hasRole, isFleetWide, ROLES, type Role } from '#server/access/principal.ts';
import {
  AccessError,
  bind,
  createApiToken,
  createService,
  isOverAll,
  revokeApiToken,
  setDisabled,
  TOKEN_MAKERS,
  unbind,
} from '#server/decisions/access.ts';
import { DecisionError } from '#server/decisions/may.ts';
import type { Account, ApiToken, Binding } from '#server/store/accessrecords.ts';
import { copyHtml, html, icon, type Html } from './html.ts';
import { show } from './layout.ts';
import { first, inputHtml, NOTHING_WRONG, readForm, selectHtml, sentIn, wrongHtml, type Wrongs } from './parts/form.ts';
import { emptyHtml, headHtml, noticeHtml } from './parts/page.ts';
import type { Env, WebServices } from './services.ts';
import { agoHtml, count, dayHtml, plural, whenHtml } from './words.ts';

const SHOWN = 200;
const DAY_MS = 86_400_000;

const ROLE_WORDS: Readonly<Record<Role, string>> = {
  viewer: 'sees hosts and findings',
  auditor: 'sees waivers, evidence and activity as well; changes nothing',
  operator: 'acknowledges, asks for waivers, labels, in the groups given',
  reviewer: 'decides waivers, assigns',
  policy_editor: 'changes policies',
  admin: 'people, tokens, enrolment; decides no waivers',
};

export function accessPages(web: Hono<Env>, services: WebServices): void {
  web.get('/settings/access', (c) => page(c, services, {}));
  const act = (
    path: string,
    done: string,
    what: (c: Context<Env>, sent: Awaited<ReturnType<typeof sentIn>>) => Promise<unknown>,
  ): void => {
    web.post(`/settings/access/${path}`, async (c) => {
      if (!isFleetWide(c.get('principal'), 'admin'))
        throw new DecisionError('FORBIDDEN', 'who may do what is decided by admins of the whole fleet');
      try {
        await what(c, await sentIn(c));
      } catch (error) {
        if (isOfForm(error)) return page(c, services, { refused: error.message });
        throw error;
      }
      return c.redirect(`/settings/access?did=${done}`, 303);
    });
  };
  act('bind', 'bound', async (c, sent) => {
    const role = ROLES.find((each) => each === first(sent, 'role'));
    const holder = first(sent, 'holder').trim();
    const group = first(sent, 'group').trim();
    if (role === undefined || holder === '')
      throw new AccessError('USER_UNKNOWN', 'a role needs somebody who holds it');
    const claim = /^claim:(.+)$/.exec(holder)?.[1];
    await bind(
      {
        holder: claim === undefined ? { kind: 'account', id: holder } : { kind: 'claim', id: claim },
        role,
        group: group === '' ? null : group,
      },
      c.get('principal'),
      services,
    );
  });
  act('unbind', 'unbound', (c, sent) => unbind(first(sent, 'id'), c.get('principal'), services));
  act('service', 'made', (c, sent) => {
    const name = first(sent, 'name').trim();
    if (!/^[a-z0-9][a-z0-9._-]{0,62}$/.test(name))
      throw new AccessError('USER_UNKNOWN', 'a service is named in small letters, digits, dots and dashes');
    return createService(name, c.get('principal'), services);
  });
  act('disable', 'disabled', (c, sent) => setDisabled(first(sent, 'id'), true, c.get('principal'), services));
  act('enable', 'enabled', (c, sent) => setDisabled(first(sent, 'id'), false, c.get('principal'), services));
  web.post('/settings/access/token', (c) => makeToken(c, services));
  web.post('/settings/access/token/revoke', async (c) => {
    try {
      await revokeApiToken(first(await sentIn(c), 'id'), c.get('principal'), services);
    } catch (error) {
      if (isOfForm(error)) return page(c, services, { refused: error.message });
      throw error;
    }
    return c.redirect('/settings/access?did=revoked', 303);
  });
}

const DONE: Readonly<Record<string, string>> = {
  bound: 'The role counts from now on. Sessions of whoever gained it ended: they come back with it.',
  unbound: 'The role is taken back, at once.',
  made: 'The service is there. It has no way in but an API token.',
  disabled: 'The account is disabled: its sessions ended, and its tokens count no longer.',
  enabled: 'The account is enabled again.',
  revoked: 'The API token is revoked.',
};

const TokenForm = z.object({
  tokenname: z.string().min(1).max(100),
  owner: z.string().max(300).optional(),
  role: z.enum(ROLES),
  group: z.string().max(100).optional(),
  days: z
    .string()
    .regex(/^[1-9][0-9]{0,2}$/, 'Days, from 1 to 366.')
    .transform(Number)
    .refine((days) => days <= 366, 'At most 366 days.'),
});

async function makeToken(c: Context<Env>, services: WebServices): Promise<Response> {
  const sent = await sentIn(c);
  const read = readForm(sent, TokenForm);
  if (read.values === undefined) return page(c, services, { wrong: read.wrong });
  const { tokenname, owner, role, group, days } = read.values;
  try {
    const { token } = await createApiToken(
      {
        name: tokenname,
        owner: owner ?? null,
        roles: [role],
        groups: group === undefined ? null : [group],
        lifeMs: days * DAY_MS,
      },
      c.get('principal'),
      services,
    );
    return await page(c, services, { made: token });
  } catch (error) {
    if (isOfForm(error)) return page(c, services, { refused: error.message });
    throw error;
  }
}

/** What the form's sender can mend; what is not theirs to do at all is a page of its own. */
const isOfForm = (error: unknown): error is AccessError => error instanceof AccessError && error.code !== 'FORBIDDEN';

type State = { readonly refused?: string; readonly wrong?: Wrongs; readonly made?: string };

async function page(
  c: Context<Env>,
  services: WebServices,
  { refused, wrong = NOTHING_WRONG, made }: State,
): Promise<Response> {
  const { store, clock, access } = services;
  const who = c.get('principal');
  const now = clock();
  const all = isFleetWide(who, 'auditor', 'admin');
  const may = isFleetWide(who, 'admin');
  const makes = hasRole(who, ...TOKEN_MAKERS);
  const [accounts, bindings, tokens] = await Promise.all([
    all ? store.access.accounts({ cursor: null, limit: SHOWN }) : { items: [], next: null },
    all ? store.access.bindings() : [],
    store.access.tokens(isOverAll(who) ? null : who.id, { cursor: null, limit: SHOWN }),
  ]);
  const did = c.req.query('did');
  const body = html`${did !== undefined && Object.hasOwn(DONE, did) && noticeHtml(DONE[did])}
    ${refused !== undefined && html`<div class="note critical" role="alert">${icon('stop')}<span>${refused.slice(0, 1).toUpperCase()}${refused.slice(1)}.</span></div>`}
    ${wrongHtml(wrong, { tokenname: 'Name', days: 'Days', role: 'Role' })}
    ${headHtml({
      crumbs: [['Settings', '/settings'], ['Access']],
      title:
        made !== undefined
          ? 'The API token is told this once'
          : access.oidc === null
            ? 'People come with the admin token alone'
            : 'Who may do what, and where',
      text:
        made !== undefined
          ? 'Copy it now: only its hash is kept here.'
          : access.oidc === null
            ? 'Whoever has it may do everything, so nobody can tell people apart. Connect your provider with --oidc-issuer, and give each person roles in their own groups.'
            : 'People get an account when they first sign in, and nothing more until a role is given to them, or to a group that the provider counts them to.',
    })}
    ${
      made !== undefined &&
      html`<section class="sheet waits">
        <div class="pad form">
          <div class="cmd"><code>${made}</code>${copyHtml(made, 'Copy token')}</div>
          <p>For programs: <code>Authorization: Bearer …</code>, or in <code>BOOTPROOF_TOKEN</code> for the command.</p>
        </div>
      </section>`
    }
    <div class="cols aside">
      <div class="stack">
        ${all && accountsSheet(accounts.items, bindings, accounts.next !== null, may, now)}
        ${all && claimsSheet(bindings, services, may, now)} ${tokensSheet(tokens.items, makes, now)}
      </div>
      <aside class="stack" aria-label="Add">
        ${may && roleSheet(accounts.items)} ${makes && tokenSheet(accounts.items, may, wrong)} ${may && serviceSheet()}
      </aside>
    </div>`;
  return show(
    c,
    services,
    { title: 'Access', section: '/settings', now, body },
    refused !== undefined || wrong.size > 0 ? 422 : 200,
  );
}

const roleHtml = ({ role, group }: Pick<Binding, 'role' | 'group'>): Html =>
  html`<span class="tag">${role.replace('_', ' ')}${group !== null && html` of ${group}`}</span> `;

function accountsSheet(
  accounts: readonly Account[],
  bindings: readonly Binding[],
  more: boolean,
  may: boolean,
  now: Instant,
): Html {
  return html`<section class="sheet">
    <header>
      <h2>People and services</h2>
      <span class="quiet">${plural(accounts.length, 'account')}${more && ' or more'}</span>
    </header>
    ${
      accounts.length === 0
        ? emptyHtml('Nobody has an account yet', 'People get one when they first sign in; services are made here.')
        : html`<table class="list flat">
            <caption class="sr">
              Accounts with their roles
            </caption>
            <thead>
              <tr>
                <th>Who</th>
                <th>Roles</th>
                <th class="p3 num">Signed in</th>
                <th class="num"><span class="sr">Disable</span></th>
              </tr>
            </thead>
            <tbody>
              ${accounts.map((account) => {
                const held = bindings.filter(({ holder }) =>
                  holder.kind === 'account' ? holder.id === account.id : account.claims.includes(holder.id),
                );
                return html`<tr>
                  <td class="main">
                    <div class="two">
                      <span
                        >${account.name}${account.disabledAt !== null && html` <span class="tag">disabled</span>`}</span
                      >
                      <span><code>${account.id}</code>${account.email !== null && ` ${account.email}`}</span>
                    </div>
                  </td>
                  <td>${held.length === 0 ? html`<span class="quiet">none</span>` : held.map(roleHtml)}</td>
                  <td class="p3 num soft nowrap">${agoHtml(account.signedInAt, now)}</td>
                  <td class="num">
                    ${
                      may &&
                      html`<form
                        method="post"
                        action="/settings/access/${account.disabledAt === null ? 'disable' : 'enable'}"
                      >
                        <input type="hidden" name="id" value="${account.id}" /><button
                          class="btn bare"
                          type="submit"
                          aria-label="${account.disabledAt === null ? 'Disable' : 'Enable'} ${account.name}"
                        >
                          ${account.disabledAt === null ? 'Disable' : 'Enable'}
                        </button>
                      </form>`
                    }
                  </td>
                </tr>`;
              })}
            </tbody>
          </table>`
    }
  </section>`;
}

function claimsSheet(
  bindings: readonly Binding[],
  { access }: WebServices,
  may: boolean,
  now: Instant,
): Html | undefined {
  const configured = access.configured.length;
  if (bindings.length + configured === 0) return undefined;
  return html`<section class="sheet">
    <header>
      <h2>Roles that are given</h2>
      <span class="quiet">${configured > 0 && `${plural(configured, 'more')} by the server’s settings`}</span>
    </header>
    <div class="pad">
      <ul class="rows whole">
        ${bindings.map(
          (binding) =>
            html`<li>
              <span class="grow"
                >${binding.holder.kind === 'claim' ? html`everybody in <code>${binding.holder.id}</code>` : html`<code>${binding.holder.id}</code>`}
                ${roleHtml(binding)}</span
              >
              <span class="quiet">${binding.createdBy}, ${whenHtml(binding.createdAt, now)}</span>
              ${may && html`<form method="post" action="/settings/access/unbind"><input type="hidden" name="id" value="${binding.id}" /><button class="btn bare" type="submit" aria-label="Take ${binding.role} from ${binding.holder.id}">Take back</button></form>`}
            </li>`,
        )}
      </ul>
    </div>
  </section>`;
}

function tokensSheet(tokens: readonly ApiToken[], makes: boolean, now: Instant): Html {
  return html`<section class="sheet">
    <header>
      <h2>API tokens</h2>
      <span class="quiet">kept as hashes; each ends</span>
    </header>
    ${
      tokens.length === 0
        ? emptyHtml('There is none', 'Programs and the command use one in place of a person.')
        : html`<table class="list flat">
            <caption class="sr">
              API tokens
            </caption>
            <thead>
              <tr>
                <th>Token</th>
                <th>May</th>
                <th class="p3 num">Used</th>
                <th class="p2 num">Over</th>
                <th class="num"><span class="sr">Revoke</span></th>
              </tr>
            </thead>
            <tbody>
              ${tokens.map((token) => {
                const grants = TokenGrants.safeParse(token.grants).data ?? [];
                const over = token.revokedAt !== null || token.expiresAt <= now;
                return html`<tr>
                  <td class="main">
                    <div class="two"><span>${token.name}</span><span>of ${token.owner}</span></div>
                  </td>
                  <td>
                    ${grants.map(({ role, groups }) => html`${roleHtml({ role, group: groups === null ? null : groups.join(', ') })}`)}
                  </td>
                  <td class="p3 num soft nowrap">${agoHtml(token.usedAt, now)}</td>
                  <td class="p2 num soft nowrap">${token.revokedAt !== null ? 'revoked' : dayHtml(token.expiresAt)}</td>
                  <td class="num">
                    ${makes && !over && html`<form method="post" action="/settings/access/token/revoke"><input type="hidden" name="id" value="${token.id}" /><button class="btn bare" type="submit" aria-label="Revoke ${token.name}">Revoke</button></form>`}
                  </td>
                </tr>`;
              })}
            </tbody>
          </table>`
    }
    ${tokens.length > 0 && html`<footer><span>${count(tokens.length)} ${tokens.length === 1 ? 'token' : 'tokens'}</span></footer>`}
  </section>`;
}

const roleOptions = ROLES.map((role) => [role, `${role.replace('_', ' ')}: ${ROLE_WORDS[role]}`] as const);

function roleSheet(accounts: readonly Account[]): Html {
  return html`<section class="sheet">
    <header><h2>Give a role</h2></header>
    <div class="pad">
      <form class="form" method="post" action="/settings/access/bind">
        ${inputHtml({ name: 'holder', label: 'To', help: html`An account’s id, or <code>claim:</code> and a group of the provider.` }, { mono: true, max: 300, required: true, placeholder: accounts[0]?.id ?? 'claim:platform-team' })}
        ${selectHtml({ name: 'role', label: 'Role', id: 'bind-role' }, roleOptions, 'operator')}
        ${inputHtml({ name: 'group', label: 'On the host group', id: 'bind-group', help: 'With all below it. Empty: every host.' }, { mono: true, max: 100, placeholder: 'prod/web' })}
        <button class="btn wide" type="submit">Give the role</button>
      </form>
    </div>
  </section>`;
}

function tokenSheet(accounts: readonly Account[], may: boolean, wrong: Wrongs): Html {
  const own = [
    ['', 'myself'] as const,
    ...accounts.filter(({ kind }) => kind === 'service').map(({ id, name }) => [id, `service ${name}`] as const),
  ];
  return html`<section class="sheet">
    <header><h2>Make an API token</h2></header>
    <div class="pad">
      <form class="form" method="post" action="/settings/access/token">
        ${inputHtml({ name: 'tokenname', label: 'What it is for', wrong }, { max: 100, required: true, placeholder: 'nightly export' })}
        ${may && own.length > 1 && selectHtml({ name: 'owner', label: 'Of' }, own, '')}
        ${selectHtml({ name: 'role', label: 'It may act as', wrong }, roleOptions, 'viewer')}
        <div class="pair">
          ${inputHtml({ name: 'group', label: 'On the group', help: 'Empty: wherever its owner may.' }, { mono: true, max: 100 })}
          ${inputHtml({ name: 'days', label: 'For days', wrong }, { value: '90', max: 3 })}
        </div>
        <button class="btn wide" type="submit">Make the token</button>
      </form>
    </div>
  </section>`;
}

function serviceSheet(): Html {
  return html`<section class="sheet">
    <header><h2>Add a service</h2></header>
    <div class="pad">
      <form class="form" method="post" action="/settings/access/service">
        ${inputHtml({ name: 'name', label: 'Name', help: 'A program that acts under its own name in the trail.' }, { mono: true, max: 63, required: true, placeholder: 'ci' })}
        <button class="btn wide" type="submit">Add the service</button>
      </form>
    </div>
  </section>`;
}

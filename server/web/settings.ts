/** `/settings`: how hosts come in, where images may come from, how waivers are decided, and how this server is. */
import type { Context, Hono } from 'hono';
import { z } from 'zod';
import type { Instant } from '#src/clock.ts';
import { GROUP_NAME } from '#src/finding/scope.ts';
import { VERSION } from '#src/version.ts';
import { isFleetWide } from '#server/access/principal.ts';
import { actOf, DecisionError, mustBe } from '#server/decisions/may.ts';
import { sourcePattern, SourceTerms } from '#server/decisions/sources.ts';
import { createToken } from '#server/decisions/tokens.ts';
import { isSinglePerson, setSinglePerson } from '#server/decisions/waivers.ts';
import type { Token } from '#server/store/records.ts';
import { retentionWords } from './retention.ts';
import { accessPages } from './settingsaccess.ts';
import { channelPages } from './settingschannels.ts';
import { commandHtml, copyHtml, html, icon, type Html } from './html.ts';
import { show } from './layout.ts';
import {
  first,
  inputHtml,
  NOTHING_WRONG,
  readForm,
  selectHtml,
  sentIn,
  wrongHtml,
  type Sent,
  type Wrongs,
} from './parts/form.ts';
import { emptyHtml, headHtml, noticeHtml } from './parts/page.ts';
import type { Env, WebServices } from './services.ts';
import { agoHtml, count, plural, timeHtml, whenHtml } from './words.ts';

const TOKENS_PAGE = 50;

export function settingsPages(web: Hono<Env>, services: WebServices): void {
  web.get('/settings', (c) => overview(c, services));
  web.get('/settings/enrol', (c) => enrolPage(c, services, new Map(), NOTHING_WRONG));
  web.post('/settings/enrol', (c) => makeToken(c, services));
  web.post('/settings/enrol/revoke', async (c) => {
    admin(c, 'revoke enrolment tokens');
    const id = first(await sentIn(c), 'id');
    await services.store.tokens.revoke(id, actOf(c.get('principal'), services.clock()));
    return c.redirect('/settings/enrol?did=revoked', 303);
  });
  web.post('/settings/sources/forbid', async (c) => {
    admin(c, 'forbid sources');
    const reference = first(await sentIn(c), 'reference');
    await services.store.sources.forbid(sourcePattern(reference), actOf(c.get('principal'), services.clock()));
    return c.redirect('/settings?did=forbidden#sources', 303);
  });
  web.post('/settings/waivers', async (c) => {
    const on = first(await sentIn(c), 'single') === 'on';
    await setSinglePerson(on, mustBe(c.get('principal'), 'change how waivers are decided', 'admin'), services);
    return c.redirect('/settings?did=changed', 303);
  });
  accessPages(web, services);
  channelPages(web, services);
}

/** What belongs to no host is for admins of the whole fleet. @throws {DecisionError} */
function admin(c: Context<Env>, what: string): void {
  if (!isFleetWide(c.get('principal'), 'admin'))
    throw new DecisionError('FORBIDDEN', `to ${what} is for admins of the whole fleet`);
}

/** Pages that only auditors and admins of the whole fleet open: no link leads others to a refusal. */
const CLOSED: ReadonlySet<string> = new Set([
  '/settings/enrol',
  '/settings/channels',
  '/settings/retention',
  '/activity',
]);

async function overview(c: Context<Env>, services: WebServices): Promise<Response> {
  const { store, clock, policies, basis, evidence } = services;
  const now = clock();

  const [anchored, channels, sources, jobs, single, accounts, holds, inventories, answers] = await Promise.all([
    services.anchors.standing(evidence.published?.checkpoint.origin),
    store.notices.channels(),
    store.sources.list(),
    store.jobs.lag(now),
    isSinglePerson(store),
    store.access.accounts({ cursor: null, limit: 200 }),
    store.holds.standing(),
    store.inventories.newest(),
    store.ping().then(
      () => true,
      () => false,
    ),
  ]);

  const who = c.get('principal');
  const may = isFleetWide(who, 'admin');
  const waiting = jobs.filter((job) => job.waiting + job.running > 0);
  const body = html`${noticeOf(c.req.query('did'))}
    ${headHtml({ title: 'Settings', text: 'What this server trusts, whom it lets in, and how it is. Each change stands in the activity with who made it.' })}
    <div class="cols aside">
      <div class="stack">
        <section class="sheet">
          <header><h2>What is set where</h2></header>
          <div class="pad">
            <ul class="rows">
              ${[
                ['/settings/enrol', 'Enrolment tokens', 'how hosts come in'],
                [
                  '/settings/access',
                  'People, services, API tokens',
                  `${plural(accounts.items.length, 'account')}${accounts.next !== null ? ' or more' : ''}`,
                ],
                [
                  '/settings/channels',
                  'Channels',
                  channels.length === 0 ? 'nobody is told' : plural(channels.length, 'channel'),
                ],
                [
                  '/trust',
                  'Trust',
                  basis.setup === null
                    ? 'no image policy: signatures are not assessed'
                    : plural(basis.setup.policy.policies.length, 'image policy', 'image policies'),
                ],
                [
                  '/policies',
                  'Host policy',
                  policies.version === null ? policies.current.name : `version ${policies.version.n}`,
                ],
                [
                  '/log',
                  'Evidence log',
                  evidence.refusal !== undefined
                    ? 'not signed: somebody must act'
                    : anchored.alarms.length > 0
                      ? 'a witness knows another log: somebody must act'
                      : `${plural(evidence.published?.checkpoint.size ?? 0, 'entry', 'entries')}, level ${anchored.level}`,
                ],
                ['/settings/retention', 'Retention and legal holds', retentionWords(services.retention, holds.length)],
                [
                  '/inventory',
                  'Inventories of others',
                  inventories.length === 0 ? 'none was imported' : plural(inventories.length, 'list'),
                ],
                ['/activity', 'Activity', 'who did what'],
              ]
                .filter(([href]) => isFleetWide(who, 'auditor', 'admin') || !CLOSED.has(href!))
                .map(
                  ([href, word, fact]) =>
                    html`<li>
                      <span class="grow"><a class="link" href="${href}">${word}</a></span
                      ><span class="quiet">${fact}</span>
                    </li>`,
                )}
            </ul>
          </div>
        </section>
        <section class="sheet" id="sources">
          <header>
            <h2>Sources of images</h2>
            <span class="quiet">fetched by digest, whatever their tags say</span>
          </header>
          ${
            sources.length === 0
              ? emptyHtml('None is allowed', 'So no image can be fetched, and no host can be compared with its image.')
              : html`<div class="pad">
                  <ul class="rows">
                    ${sources.map(
                      ({ pattern, createdBy, createdAt, options }) =>
                        html`<li>
                          <span class="grow"
                            ><code>${pattern}</code
                            >${SourceTerms.safeParse(options).data?.plainHttp === true && html` <span class="tag">without TLS</span>`}</span
                          >
                          <span class="quiet">${createdBy}, ${whenHtml(createdAt, now)}</span>
                          ${may && html`<form method="post" action="/settings/sources/forbid"><input type="hidden" name="reference" value="${pattern}" /><button class="btn bare" type="submit" aria-label="Forbid ${pattern}">Forbid</button></form>`}
                        </li>`,
                    )}
                  </ul>
                </div>`
          }
          ${
            may &&
            html`<div class="pad tops">
              <form class="form" method="post" action="/sources">
                <input type="hidden" name="next" value="settings" />
                ${inputHtml({ name: 'reference', label: 'Allow another repository', help: 'A registry’s repository, an OCI layout or an archive. What was built stays when it is forbidden later.' }, { max: 1000, mono: true, required: true, placeholder: 'docker://registry.example/team/image' })}
                <div class="acts"><button class="btn" type="submit">Allow this source</button></div>
              </form>
            </div>`
          }
        </section>
        <section class="sheet">
          <header><h2>Waivers</h2></header>
          <div class="pad form">
            <p>
              ${single ? html`<strong>One person may ask for and approve the same waiver.</strong> Each that was so decided says it, wherever it has an effect.` : 'Whoever asks for a waiver cannot approve it: a second person does.'}
            </p>
            ${may && html`<form method="post" action="/settings/waivers"><button class="btn" name="single" value="${single ? 'off' : 'on'}" type="submit">${single ? 'Ask for a second person' : 'Let one person do both'}</button></form>`}
          </div>
        </section>
      </div>
      <aside class="stack" aria-label="About">
        <section class="sheet">
          <header>
            <h2>How it is</h2>
            ${answers ? html`<span class="verdict compliant">${icon('v-compliant')}well</span>` : html`<span class="verdict unverifiable">${icon('v-unverifiable')}the store does not answer</span>`}
          </header>
          <div class="pad">
            <dl class="facts">
              <dt>Version</dt>
              <dd>${VERSION}</dd>
              <dt>Store</dt>
              <dd>${store.engine === 'sqlite' ? 'SQLite' : 'PostgreSQL'}</dd>
              <dt>Address</dt>
              <dd><code>${services.baseUrl()}</code></dd>
              <dt>Its key</dt>
              <dd>
                <code class="digest full">${services.keys.fingerprint}</code>
                ${copyHtml(services.keys.fingerprint, 'Copy fingerprint')}
              </dd>
            </dl>
          </div>
        </section>
        <section class="sheet">
          <header><h2>Jobs</h2></header>
          ${
            waiting.length === 0
              ? emptyHtml('None', 'What was asked for is done.')
              : html`<div class="pad">
                  <ul class="rows">
                    ${waiting.map(
                      (job) =>
                        html`<li>
                          <span class="grow"><code>${job.kind}</code></span
                          ><span
                            >${count(job.waiting + job.running)}
                            <span class="quiet"
                              >${job.oldest < now ? html`waiting since ${agoHtml(job.oldest, now)}` : html`due ${agoHtml(job.oldest, now)}`}</span
                            ></span
                          >
                        </li>`,
                    )}
                  </ul>
                </div>`
          }
        </section>
      </aside>
    </div>`;
  return show(c, services, { title: 'Settings', section: '/settings', now, body });
}

function noticeOf(did: string | undefined): Html | undefined {
  if (did === 'changed')
    return noticeHtml('How waivers are decided is changed; it counts for those approved from now on.');
  if (did === 'forbidden')
    return noticeHtml('That source is no longer allowed. Manifests that were built from it stay.');
  return undefined;
}

const LIVES = [
  ['3600', 'an hour'],
  ['86400', 'a day'],
  ['604800', 'a week'],
  ['2592000', '30 days'],
  ['31536000', 'a year'],
] as const;

const Wanted = z.object({
  uses: z
    .string()
    .regex(/^[1-9][0-9]{0,6}$/, 'A number from 1 on; empty: as often as wanted.')
    .transform(Number)
    .refine((n) => n <= 1_000_000, 'At most 1,000,000 hosts.')
    .optional(),
  life: z.enum(LIVES.map(([value]) => value)).transform(Number),
  group: z
    .string()
    .regex(GROUP_NAME, 'Letters, digits, dots and dashes, in parts with one slash between, like prod/web; at most 63.')
    .optional(),
  labels: z.string().max(1000).optional(),
});

function labelsIn(text: string): Record<string, string> | undefined {
  const parts = text.split(/[\s,]+/).filter((part) => part !== '');
  const pairs = parts.map((part) => /^([A-Za-z0-9][A-Za-z0-9._/-]{0,62})=([^\s,]{0,200})$/.exec(part));
  if (pairs.length > 20 || pairs.includes(null)) return undefined;
  return Object.fromEntries(pairs.map((pair) => [pair![1]!, pair![2]!]));
}

async function makeToken(c: Context<Env>, services: WebServices): Promise<Response> {
  admin(c, 'make enrolment tokens');
  const sent = await sentIn(c);
  const read = readForm(sent, Wanted);
  const labels = labelsIn(first(sent, 'labels'));
  const wrong = new Map(read.wrong ?? []);
  if (labels === undefined) wrong.set('labels', 'Write key=value, several with spaces between; at most 20.');
  if (read.values === undefined || labels === undefined) return enrolPage(c, services, sent, wrong);
  const now = services.clock();
  const { uses, life, group } = read.values;
  const terms = { labels, group: group ?? null, maxUses: uses ?? null, expiresAt: now + life * 1000 };
  const { token } = await createToken(terms, actOf(c.get('principal'), now), services);
  return enrolPage(c, services, new Map(), NOTHING_WRONG, token);
}

async function enrolPage(
  c: Context<Env>,
  services: WebServices,
  sent: Sent,
  wrong: Wrongs,
  made?: string,
): Promise<Response> {
  const { store, clock, baseUrl } = services;
  const who = c.get('principal');
  if (!isFleetWide(who, 'auditor', 'admin'))
    throw new DecisionError(
      'FORBIDDEN',
      'enrolment tokens are for admins of the whole fleet to make, and for auditors to see',
    );
  const now = clock();
  const after = /^[a-z2-7]{1,40}$/.exec(c.req.query('after') ?? '')?.[0];
  const list = await store.read.tokens({ limit: TOKENS_PAGE, cursor: after === undefined ? null : { id: after } });
  const may = isFleetWide(who, 'admin');
  const body = html`${c.req.query('did') === 'revoked' && noticeHtml('The token is revoked. Hosts that it enrolled stay.')}
    ${headHtml({
      crumbs: [['Settings', '/settings'], ['Enrolment tokens']],
      title: made === undefined ? 'How hosts come in' : 'The token is told this once',
      text:
        made === undefined
          ? 'A token lets hosts enrol: so many, so long, into this group. The secret never lies here; the key of each host is made on the host.'
          : 'Copy it now. Whoever has it can enrol hosts as it says, until it is over, used up or revoked.',
    })}
    ${
      made !== undefined &&
      html`<section class="sheet waits">
        <header><h2>${icon('term')} On the host, as root</h2></header>
        <div class="pad form">
          ${commandHtml(`BOOTPROOF_ENROLL_TOKEN=${made} /usr/lib/bootproof/bootproof agent enroll --server ${baseUrl()}`)}
          ${commandHtml('systemctl enable --now bootproof-agent.timer')}
          <p>
            The host appears under <a href="/hosts?verdict=new">Hosts</a> at once, and is judged with its first report.
          </p>
        </div>
      </section>`
    }
    <div class="cols aside">
      <section class="sheet">
        ${
          list.items.length === 0
            ? emptyHtml('No token was made yet', 'The form beside makes the first one.')
            : html`<table class="list">
                <caption class="sr">
                  Enrolment tokens
                </caption>
                <thead>
                  <tr>
                    <th>Token</th>
                    <th>State</th>
                    <th class="num">Used</th>
                    <th class="p3">Group and labels</th>
                    <th class="p2">By</th>
                    <th class="p2 num">Over</th>
                    <th class="num"><span class="sr">Revoke</span></th>
                  </tr>
                </thead>
                <tbody>
                  ${list.items.map((token) => tokenRow(token, may, now))}
                </tbody>
              </table>`
        }
        ${list.items.length > 0 && html`<footer><span>${plural(list.items.length, 'token')}${list.next !== null || after !== undefined ? ' and more' : ''}</span>${list.next !== null && html`<a class="link" rel="next" href="/settings/enrol?after=${list.next.id}">Next page</a>`}</footer>`}
      </section>
      ${may && html`<aside class="stack" aria-label="A new token">${newTokenSheet(sent, wrong)}</aside>`}
    </div>`;
  return show(c, services, { title: 'Enrolment tokens', section: '/settings', now, body }, wrong.size > 0 ? 422 : 200);
}

function newTokenSheet(sent: Sent, wrong: Wrongs): Html {
  return html`<section class="sheet">
    <header><h2>Make a token</h2></header>
    <div class="pad">
      <form class="form" method="post" action="/settings/enrol">
        ${wrongHtml(wrong, { uses: 'Hosts', life: 'For', group: 'Group', labels: 'Labels' })}
        <div class="pair">
          ${inputHtml({ name: 'uses', label: 'Hosts', help: 'Empty: any number.', wrong }, { value: sent.size === 0 ? '1' : first(sent, 'uses'), max: 7 })}
          ${selectHtml({ name: 'life', label: 'For', wrong }, LIVES, first(sent, 'life') || '86400')}
        </div>
        ${inputHtml({ name: 'group', label: 'Into the group', help: 'Empty: into none.', wrong }, { value: first(sent, 'group'), max: 100, mono: true, placeholder: 'prod/web' })}
        ${inputHtml({ name: 'labels', label: 'With labels', wrong }, { value: first(sent, 'labels'), max: 1000, mono: true, placeholder: 'site=fra role=bastion' })}
        <button class="btn first wide" type="submit">Make the token</button>
      </form>
    </div>
  </section>`;
}

function tokenRow(token: Token, may: boolean, now: Instant): Html {
  const { id, uses, maxUses, expiresAt, revokedAt, createdBy, group, labels } = token;
  const state =
    revokedAt !== null
      ? 'revoked'
      : now >= expiresAt
        ? 'over'
        : maxUses !== null && uses >= maxUses
          ? 'used up'
          : 'usable';
  return html`<tr>
    <td class="main"><code>${id}</code></td>
    <td>
      ${state === 'usable' ? html`<span class="verdict compliant">${icon('v-compliant')}usable</span>` : html`<span class="quiet">${state}</span>`}
    </td>
    <td class="num nowrap">${count(uses)} <span class="unit">of ${maxUses === null ? 'any' : count(maxUses)}</span></td>
    <td class="p3">
      <span class="clip tags"
        >${group !== null && html`${group} `}${Object.entries(labels).map(([key, value]) => html`<span class="tag">${key}=${value}</span> `)}${group === null && Object.keys(labels).length === 0 && html`<span class="quiet">–</span>`}</span
      >
    </td>
    <td class="p2 soft">${createdBy}</td>
    <td class="p2 num soft nowrap">${expiresAt > now ? timeHtml(expiresAt) : agoHtml(expiresAt, now)}</td>
    <td class="num">
      ${may && state === 'usable' && html`<form method="post" action="/settings/enrol/revoke"><input type="hidden" name="id" value="${id}" /><button class="btn bare over" type="submit" aria-label="Revoke ${id}">Revoke</button></form>`}
    </td>
  </tr>`;
}

/** `/activity`: who did what to what and when, newest first, with how it was before and after. */
import type { Context, Hono } from 'hono';
import { z } from 'zod';
import type { Instant } from '#src/clock.ts';
import { isFleetWide } from '#server/access/principal.ts';
import type { AuditEntry } from '#server/store/records.ts';
import { html, icon, type Html, type Part } from './html.ts';
import { show } from './layout.ts';
import { inputHtml, NOTHING_WRONG } from './parts/form.ts';
import { emptyHtml, headHtml, refusedHtml } from './parts/page.ts';
import { addressWith } from './parts/table.ts';
import type { Env, WebServices } from './services.ts';
import { capital, count, plural, timeHtml } from './words.ts';

const PAGE = 50;

/** A day, as a date field gives it: its first moment, in UTC. */
const Day = z
  .string()
  .regex(/^[0-9]{4}-[0-9]{2}-[0-9]{2}$/)
  .transform((text) => Date.parse(`${text}T00:00:00Z`))
  .refine((at) => Number.isFinite(at));
const Word = z
  .string()
  .min(1)
  .max(300)
  .refine((text) => text.isWellFormed() && !text.includes('\0'));

type Asked = { readonly actor?: string; readonly object?: string; readonly since?: Instant; readonly until?: Instant };

function askedOf(query: URLSearchParams): Asked {
  const word = (name: string): string | undefined => Word.safeParse((query.get(name) ?? '').trim()).data;
  const day = (name: string): Instant | undefined => Day.safeParse(query.get(name) ?? '').data;
  const [actor, object, since, last] = [word('actor'), word('object'), day('from'), day('to')];
  return {
    ...(actor === undefined ? {} : { actor }),
    ...(object === undefined ? {} : { object }),
    ...(since === undefined ? {} : { since }),
    // The last day belongs to it.
    ...(last === undefined ? {} : { until: last + 86_400_000 }),
  };
}

export function activityPage(web: Hono<Env>, services: WebServices): void {
  web.get('/activity', (c) => page(c, services));
}

async function page(c: Context<Env>, services: WebServices): Promise<Response> {
  const now = services.clock();
  if (!isFleetWide(c.get('principal'), 'auditor', 'admin')) {
    const body = html`${headHtml({ title: 'Activity is for auditors' })}${refusedHtml('What others did is shown to whoever is auditor or admin of the whole fleet.')}`;
    return show(c, services, { title: 'Activity', section: '/activity', now, body });
  }
  const query = new URL(c.req.url).searchParams;
  const asked = askedOf(query);
  const after = /^a_[0-9a-z]{26}$/.exec(query.get('after') ?? '')?.[0];
  const list = await services.store.audit.list(asked, {
    limit: PAGE,
    cursor: after === undefined ? null : { id: after },
  });
  const filtered = Object.keys(asked).length > 0;
  const body = html`${headHtml({
      title: 'Who did what, and when',
      text: 'Every act of a person, a job or the configuration that changed something, with how it was before and after. Nothing here is ever changed.',
    })}
    ${filterForm(query)}
    <section class="sheet">
      ${
        list.items.length === 0
          ? filtered
            ? emptyHtml(
                'Nothing matches',
                'Nobody did that to it in this time.',
                html`<a class="btn" href="/activity">All activity</a>`,
              )
            : emptyHtml(
                'Nothing happened yet',
                'Enrolling a host, approving a waiver or applying a policy stands here.',
              )
          : auditRows(list.items, { query, names: await namesIn(list.items, services) })
      }
      ${
        list.items.length > 0 &&
        html`<footer>
          <span
            >${plural(list.items.length, 'entry', 'entries')}${list.next !== null || after !== undefined ? ' and more' : ''}</span
          >
          ${
            (after !== undefined || list.next !== null) &&
            html`<span class="acts"
              >${after !== undefined && html`<a class="link" href="${addressWith('/activity', query, {})}">First page</a>`}${list.next !== null && html`<a class="link" rel="next" href="${pageAfter(query, list.next.id)}">Next page</a>`}</span
            >`
          }
        </footer>`
      }
    </section>`;
  return show(c, services, { title: 'Activity', section: '/activity', now, body });
}

function pageAfter(query: URLSearchParams, id: string): string {
  const next = new URLSearchParams(query);
  next.set('after', id);
  return `/activity?${next.toString()}`;
}

function filterForm(query: URLSearchParams): Html {
  const value = (name: string): string => query.get(name) ?? '';
  const wrong = NOTHING_WRONG;
  return html`<form class="toolbar sieve" role="search" aria-label="Activity" method="get" action="/activity">
    ${inputHtml({ name: 'actor', label: 'Who', wrong }, { value: value('actor'), max: 300, placeholder: 'mira, admin, configuration' })}
    ${inputHtml({ name: 'object', label: 'To what', wrong }, { value: value('object'), max: 300, mono: true, placeholder: 'host:h_…, waiver:W-3' })}
    ${inputHtml({ name: 'from', label: 'From', wrong }, { value: value('from'), type: 'date' })}
    ${inputHtml({ name: 'to', label: 'To', wrong }, { value: value('to'), type: 'date' })}
    <button class="btn" type="submit">Filter the list</button>
    ${query.size > 0 && html`<a class="btn bare" href="/activity">${icon('x')}All</a>`}
  </form>`;
}

const HOST = /^host:(h_[a-z2-7]{26})$/;

/** What hosts among the objects are called. */
async function namesIn(entries: readonly AuditEntry[], { store }: WebServices): Promise<ReadonlyMap<string, string>> {
  const ids = new Set(entries.flatMap(({ object }) => HOST.exec(object)?.[1] ?? []));
  const hosts = await store.hosts.getMany([...ids]);
  return new Map([...hosts].map(([id, { name }]) => [id, name]));
}

type Around = {
  /** The words of the page, so that names narrow it. */
  readonly query?: URLSearchParams;
  readonly names?: ReadonlyMap<string, string>;
  /** The host whose page it is: it needs no name. */
  readonly about?: string;
};

/** Entries as a list whose rows open to before and after. */
export function auditRows(entries: readonly AuditEntry[], around: Around): Html {
  return html`<ul class="trail">
    ${entries.map((entry) => entryHtml(entry, around))}
  </ul>`;
}

function entryHtml(
  { at, actor, action, object, note, before, after }: AuditEntry,
  { query, names, about }: Around,
): Html {
  const changes = changesOf(before, after);
  const line = html`<span class="grow"
      >${query === undefined ? html`<strong>${actor}</strong>` : html`<a class="over" href="${addressWith('/activity', query, { actor })}"><strong>${actor}</strong></a>`}
      ${actionText(action)}
      ${about !== undefined && object === `host:${about}` ? 'it' : objectHtml(object, names)}${note !== null && html` <q>${note}</q>`}</span
    ><span class="quiet nowrap">${timeHtml(at)}</span>`;
  if (changes.length === 0) return html`<li><div class="line">${line}</div></li>`;
  // Links within a summary would be controls within a control: what opens stands beneath.
  const fields = changes.map(({ name }) => name.toLowerCase());
  const shown = fields.slice(0, 4).join(', ');
  return html`<li>
    <div class="line">${line}</div>
    <details>
      <summary>
        ${icon('right')}<span class="clip">${shown}${fields.length > 4 && `, ${fields.length - 4} more`}</span>
      </summary>
      <table class="compare">
        <caption class="sr">
          Before and after
        </caption>
        <thead>
          <tr>
            <th><span class="sr">What</span></th>
            <th>Before</th>
            <th class="sign"><span class="sr">Became</span></th>
            <th>After</th>
          </tr>
        </thead>
        <tbody>
          ${changes.map(
            ({ name, was, is }) =>
              html`<tr class="${was !== is && 'differs'}">
                <th>${name}</th>
                <td>${valueHtml(was)}</td>
                <td class="sign">→</td>
                <td>${valueHtml(is)}</td>
              </tr>`,
          )}
        </tbody>
      </table>
    </details>
  </li>`;
}

const valueHtml = (value: string | undefined): Html =>
  value === undefined ? html`<span class="quiet">–</span>` : html`<span class="value">${value}</span>`;

type Change = { readonly name: string; readonly was: string | undefined; readonly is: string | undefined };
const CHANGES_MAX = 40;
const VALUE_MAX = 2000;

/** What differs, by name; of what is new or gone all of it. */
export function changesOf(before: unknown, after: unknown): readonly Change[] {
  const [was, is] = [fieldsOf(before), fieldsOf(after)];
  const names = [...new Set([...was.keys(), ...is.keys()])];
  return names
    .map((name) => ({ name: capital(wordsOf(name)), was: was.get(name), is: is.get(name) }))
    .filter((change) => change.was !== change.is)
    .slice(0, CHANGES_MAX);
}

/** `machineId` and `machine_id` as `machine id`. */
const wordsOf = (name: string): string => name.replaceAll(/(?<=[a-z])(?=[A-Z])|_/g, ' ').toLowerCase();

function fieldsOf(value: unknown): ReadonlyMap<string, string> {
  if (value === null || value === undefined) return new Map();
  if (typeof value !== 'object' || Array.isArray(value)) return new Map([['value', textOf(value)]]);
  return new Map(Object.entries(value).map(([name, field]) => [name, textOf(field)]));
}

function textOf(value: unknown): string {
  if (value === null) return 'none';
  const text =
    typeof value === 'string' ? value : JSON.stringify(value, null, typeof value === 'object' ? 1 : undefined);
  return text.length <= VALUE_MAX ? text : `${text.slice(0, VALUE_MAX)}… (${count(text.length)} characters)`;
}

const DONE: Readonly<Record<string, string>> = {
  'token.create': 'made the enrolment token',
  'token.revoke': 'revoked the enrolment token',
  'host.enrol': 'enrolled',
  'host.admit': 'took in',
  'host.approve': 'approved',
  'host.retire': 'retired',
  'host.group': 'moved',
  'host.labels': 'labelled',
  'host.rename': 'renamed',
  'host.accept-fork': 'explained the identity of',
  'source.allow': 'allowed the source',
  'source.forbid': 'no longer allows the source',
  'policy.apply': 'applied the policy',
  'finding.acknowledge': 'acknowledged',
  'finding.unacknowledge': 'took back the acknowledgement of',
  'finding.acknowledge.undo': 'took back acknowledging',
  'finding.unacknowledge.undo': 'acknowledged again',
  'group.acknowledge.undo': 'took back acknowledging',
  'group.unacknowledge.undo': 'acknowledged again',
  'group.assign.undo': 'gave back to whose it was before',
  'group.assign': 'assigned',
  'group.acknowledge': 'acknowledged',
  'group.unacknowledge': 'took back the acknowledgement of',
  'image.rebuild': 'asked to build anew',
  'user.disable': 'disabled the user',
  'user.enable': 'enabled the user',
  'channel.change': 'changed the channel',
  'channel.disable': 'disabled the channel',
  'channel.new-key': 'gave another key to the channel',
  'notice.resend': 'sent again',
  'view.create': 'saved the view',
  'view.change': 'changed the view',
  'group.recount': 'set a counter right for',
  'host.recount': 'set a counter right for',
  'waiver.request': 'asked for',
  'waiver.approve': 'approved',
  'waiver.reject': 'rejected',
  'waiver.withdraw': 'withdrew',
  'waiver.revoke': 'revoked',
  'waiver.extend': 'asked for more time for',
  'waiver.approve-extension': 'gave more time to',
  'waiver.reject-extension': 'gave no more time to',
  'waiver.withdraw-extension': 'wants no more time for',
  'setting.change': 'changed the setting',
  'session.begin': 'signed in',
  'session.end': 'signed out',
  'session.end-all': 'ended every session of',
  'session.refuse': 'was refused at the door:',
  'user.create': 'added the user',
  'role.bind': 'gave a role:',
  'role.unbind': 'took a role:',
  'api-token.create': 'made the API token',
  'api-token.revoke': 'revoked the API token',
  'admin-token.renew': 'renewed the admin token',
  'waiver.change': 'changed',
  'waiver.expire': 'ended, as it says:',
  'group.comment': 'commented on',
  acknowledge: 'acknowledged',
  'trust.change': 'found another answer for',
  'trust-root.use': 'uses the trust root',
  'trust-root.change': 'changed the trust root',
  'trust-root.refresh': 'refreshed the trust root',
  'trust-root.refresh-failed': 'could not refresh the trust root',
  'deny.put': 'denies',
  'deny.remove': 'no longer denies',
  'image-policy.configure': 'took the image policy',
  'signature-vanished': 'saw a signature vanish:',
  'signature-returned': 'saw a signature return:',
  'channel.create': 'made the channel',
  'channel.remove': 'removed the channel',
  'view.remove': 'removed the view',
  'evidence.export': 'asked for the evidence bundle',
  'evidence.delete': 'deleted the evidence bundle',
  'hold.set': 'set the legal hold',
  'hold.release': 'released the legal hold',
  'inventory.import': 'imported the host list',
  'log.restart': 'began the log anew:',
  'retention.change': 'changed what is kept how long:',
};

/** `retired`, or for what has no words here its own name. */
export const actionText = (action: string): Part => DONE[action] ?? html`<code>${action}</code>`;

/** What it was done to, as a link where it has a page. */
export function objectHtml(object: string, names?: ReadonlyMap<string, string>): Html {
  const at = object.indexOf(':');
  const [kind, id] = [object.slice(0, at), object.slice(at + 1)];
  const shown = html`<code>${object}</code>`;
  const link = (href: string): Html => html`<a class="link over" href="${href}">${shown}</a>`;
  if (kind === 'host' && /^h_[a-z2-7]{26}$/.test(id))
    return names?.has(id) === true
      ? html`<a class="link over" href="/hosts/${id}" title="${object}">${names.get(id)}</a>`
      : link(`/hosts/${id}`);
  if (kind === 'waiver') return link(`/waivers/${encodeURIComponent(id)}`);
  if (kind === 'group' && /^fg_[0-9a-f]{40}$/.test(id)) return link(`/findings/${id}`);
  if (kind === 'image') return link(`/images/${encodeURIComponent(id)}`);
  if (kind === 'policy' && /^[1-9][0-9]{0,8}$/.test(id)) return link(`/policies/${id}`);
  return shown;
}

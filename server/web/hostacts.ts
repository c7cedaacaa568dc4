/** What people do to hosts: each act first says what it will do to whom, on a page; then does it, and leads back with what was done. */
import type { Context, Hono } from 'hono';
import { GROUP_NAME } from '#src/finding/scope.ts';
import { HOST_LABELS_MAX } from '#src/limits.ts';
import { printableText } from '#src/terminal.ts';
import {
  acceptFork,
  actOnHosts,
  approveHost,
  changeHost,
  hostFor,
  hostsFor,
  type HostAct,
} from '#server/decisions/hosts.ts';
import { actOf, DecisionError } from '#server/decisions/may.ts';
import type { Host } from '#server/store/records.ts';
import { html, icon, type Html, type Part } from './html.ts';
import { show } from './layout.ts';
import {
  first,
  inputHtml,
  NOTHING_WRONG,
  refusedStatus,
  sentIn,
  wrongHtml,
  type Sent,
  type Wrongs,
} from './parts/form.ts';
import { emptyHtml, headHtml, refusedHtml } from './parts/page.ts';
import type { Env, WebServices } from './services.ts';
import { count, listed, plural, whenHtml } from './words.ts';

/** Hosts that one act is about; more is work for the command line. */
const MANY_MAX = 500;
/** Hosts that a question names. */
const NAMED_MAX = 12;
const HOST_ID = /^h_[a-z2-7]{26}$/;
const KINDS = ['label', 'group', 'retire'] as const;
type Kind = (typeof KINDS)[number];

export function hostActs(web: Hono<Env>, services: WebServices): void {
  web.post('/hosts/many', (c) => many(c, services));
  web.get('/hosts/:id{h_[a-z2-7]{26}}/approve', (c) => told(c, services, () => askApprove(c, services)));
  web.post('/hosts/:id{h_[a-z2-7]{26}}/approve', (c) =>
    told(c, services, async () => {
      const id = c.req.param('id');
      await approveHost(id, c.get('principal'), services);
      return c.redirect(`/hosts/${id}?did=approved`, 303);
    }),
  );
  web.post('/hosts/:id{h_[a-z2-7]{26}}/accept-fork', (c) =>
    told(c, services, async () => {
      const host = await hostFor('accept-fork', c.req.param('id'), c.get('principal'), services);
      await acceptFork(host.id, actOf(c.get('principal'), services.clock()), services);
      return c.redirect(`/hosts/${host.id}/identity?did=explained`, 303);
    }),
  );
  web.post('/hosts/:id{h_[a-z2-7]{26}}/change', (c) => told(c, services, () => change(c, services)));
}

/** A refusal as a page that says it, with the way back. */
async function told(c: Context<Env>, services: WebServices, act: () => Promise<Response>): Promise<Response> {
  try {
    return await act();
  } catch (error) {
    if (!(error instanceof DecisionError)) throw error;
    const body = html`${headHtml({ title: 'That is not yours to do', crumbs: [['Hosts', '/hosts'], ['Refused']] })}
    ${refusedHtml(`${error.message.slice(0, 1).toUpperCase()}${error.message.slice(1)}. Nothing was changed.`)}`;
    return show(
      c,
      services,
      { title: 'Refused', section: '/hosts', now: services.clock(), body },
      refusedStatus(error),
    );
  }
}

async function askApprove(c: Context<Env>, services: WebServices): Promise<Response> {
  const now = services.clock();
  const host = await hostFor('approve', c.req.param('id')!, c.get('principal'), services);
  if (host.state !== 'pending') return c.redirect(`/hosts/${host.id}`, 303);
  const body = html`${headHtml({
      crumbs: [['Hosts', '/hosts'], [host.name, `/hosts/${host.id}`], ['Approve']],
      title: `Is ${host.name} really this machine?`,
      text: 'Its machine id belongs to a host that has another key. That is so after a new installation, and it is so where somebody copied the machine.',
    })}
    <section class="sheet ask">
      <header><h2>What approving does</h2></header>
      <div class="pad form">
        <ul class="plain">
          <li>
            <strong>${host.name}</strong> may report from now on, with the key that it made
            ${whenHtml(host.createdAt, now)}.
          </li>
          <li>
            The host that holds this machine id now is retired: its findings close, its reports are refused. What it
            sent stays.
          </li>
          <li>Compare before you do: <code>bootproof agent status</code> on the host shows the start of this key.</li>
        </ul>
        <dl class="facts">
          <dt>Key</dt>
          <dd><code class="digest full">${host.publicKey}</code></dd>
          <dt>Machine</dt>
          <dd><code class="digest full">${host.machineId}</code></dd>
        </dl>
        <form class="acts" method="post" action="/hosts/${host.id}/approve">
          <button class="btn first named" type="submit">Approve ${host.name}</button>
          <a class="btn" href="/hosts/${host.id}">Back to the host</a>
        </form>
      </div>
    </section>`;
  return show(c, services, { title: `Approve ${host.name}`, section: '/hosts', now, body });
}

const TITLES: Readonly<Record<Kind, (hosts: string) => string>> = {
  label: (hosts) => `Label ${hosts}`,
  group: (hosts) => `Move ${hosts} to a group`,
  retire: (hosts) => `Retire ${hosts}?`,
};

async function many(c: Context<Env>, services: WebServices): Promise<Response> {
  return told(c, services, async () => {
    const sent = await sentIn(c);
    const kind = KINDS.find((each) => each === first(sent, 'action'));
    const ids = [...new Set(sent.get('host') ?? [])].filter((id) => HOST_ID.test(id)).slice(0, MANY_MAX);
    if (kind === undefined || ids.length === 0) return nobody(c, services);
    const who = c.get('principal');
    const hosts = await hostsFor(kind, ids, who, services);
    if (hosts.length === 0) return nobody(c, services);
    if (first(sent, 'step') !== 'apply') return question(c, services, kind, hosts, sent, NOTHING_WRONG);
    const read = actIn(kind, sent, hosts);
    if (read.wrong !== undefined) return question(c, services, kind, hosts, sent, read.wrong);
    const done = await actOnHosts(
      hosts.map(({ id }) => id),
      read.act,
      who,
      services,
    );
    const did = { label: 'labelled', group: 'moved', retire: 'retired' }[kind];
    return c.redirect(`/hosts?did=${did}&n=${done}`, 303);
  });
}

function nobody(c: Context<Env>, services: WebServices): Promise<Response> {
  const body = html`${headHtml({ title: 'No host is selected', crumbs: [['Hosts', '/hosts'], ['Nothing to do']] })}
    <section class="sheet">
      ${emptyHtml('Nothing was changed', 'Select hosts by the box in front of their name, then choose what to do.', html`<a class="btn" href="/hosts">Back to the list</a>`)}
    </section>`;
  return show(c, services, { title: 'Hosts', section: '/hosts', now: services.clock(), body }, 422);
}

/** What the form asks for, or what is wrong with it. */
function actIn(
  kind: Kind,
  sent: Sent,
  hosts: readonly Host[],
): { readonly act: HostAct; readonly wrong: undefined } | { readonly act: undefined; readonly wrong: Wrongs } {
  if (kind === 'retire') return { act: { kind }, wrong: undefined };
  const wrong = (name: string, text: string) => ({ act: undefined, wrong: new Map([[name, text]]) });
  if (kind === 'group') {
    const group = first(sent, 'group').trim();
    if (group !== '' && !GROUP_NAME.test(group))
      return wrong(
        'group',
        'A group is letters, digits, dots and dashes, in parts with one slash between, like prod/web; 63 at most. Empty: into no group.',
      );
    return { act: { kind, group: group === '' ? null : group }, wrong: undefined };
  }
  const labels = new Map<string, string | null>();
  for (const part of first(sent, 'labels')
    .split(/[\s,]+/)
    .filter((text) => text !== '')) {
    const match = /^(-?)([A-Za-z0-9][A-Za-z0-9._/-]{0,62})(?:=([^\s,]{0,200}))?$/.exec(part);
    if (match === null || (match[1] === '') === (match[3] === undefined) || printableText(part) !== part)
      return wrong('labels', `“${part}” is no label: write key=value to set one, -key to take one away.`);
    labels.set(match[2]!, match[1] === '-' ? null : match[3]!);
  }
  if (labels.size === 0) return wrong('labels', 'It is needed: key=value sets a label, -key takes one away.');
  const most = Math.max(...hosts.map((host) => new Set([...Object.keys(host.labels), ...labels.keys()]).size));
  if (most > HOST_LABELS_MAX)
    return wrong('labels', `A host has at most ${HOST_LABELS_MAX} labels; one would have ${most}.`);
  return { act: { kind, labels: Object.fromEntries(labels) }, wrong: undefined };
}

function question(
  c: Context<Env>,
  services: WebServices,
  kind: Kind,
  hosts: readonly Host[],
  sent: Sent,
  wrong: Wrongs,
): Promise<Response> {
  const now = services.clock();
  const some = plural(hosts.length, 'host');
  const open = hosts.reduce((sum, host) => sum + host.counters.open.reduce((all, n) => all + n, 0), 0);
  const body = html`${headHtml({
      crumbs: [['Hosts', '/hosts'], [TITLES[kind](some)]],
      title: TITLES[kind](some),
      text:
        kind === 'retire'
          ? undefined
          : 'Rules and waivers may be about groups and labels: each host is judged anew at once.',
    })}
    <section class="sheet ask">
      <div class="pad">
        <form class="form" method="post" action="/hosts/many">
          ${wrongHtml(wrong, { labels: 'Labels', group: 'Group' })}
          <p>${namesHtml(hosts)}</p>
          ${hosts.map(({ id }) => html`<input type="hidden" name="host" value="${id}" />`)}
          <input type="hidden" name="action" value="${kind}" />
          <input type="hidden" name="step" value="apply" />
          ${kind === 'retire' && consequence(hosts.length, open)}
          ${
            kind === 'group' &&
            inputHtml(
              {
                name: 'group',
                label: 'Group',
                help: 'Such as prod/web: who may act on prod may act on it. Empty: into no group.',
                wrong,
              },
              { value: first(sent, 'group'), max: 100, mono: true, placeholder: 'prod/web' },
            )
          }
          ${
            kind === 'label' &&
            inputHtml(
              {
                name: 'labels',
                label: 'Labels',
                help: 'key=value sets a label, -key takes it away; others stay.',
                wrong,
              },
              { value: first(sent, 'labels'), max: 1000, mono: true, placeholder: 'site=fra role=bastion -old' },
            )
          }
          <div class="acts">
            <button class="btn first" type="submit">
              ${{ label: 'Label', group: 'Move', retire: 'Retire' }[kind]} ${some}
            </button>
            <a class="btn" href="/hosts">Back to the list</a>
          </div>
        </form>
      </div>
    </section>`;
  return show(c, services, { title: TITLES[kind](some), section: '/hosts', now, body }, wrong.size > 0 ? 422 : 200);
}

function consequence(hosts: number, open: number): Html {
  return html`<ul class="plain">
    <li>
      ${open === 0 ? 'No finding is open on them.' : html`Their <strong>${count(open)}</strong> open ${open === 1 ? 'finding closes' : 'findings close'} as <em>host retired</em>.`}
    </li>
    <li>
      ${hosts === 1 ? 'Its' : 'Their'} reports are refused from now on. To come back, a host enrols anew with a new key.
    </li>
    <li>What ${hosts === 1 ? 'it' : 'they'} sent stays, as evidence.</li>
  </ul>`;
}

function namesHtml(hosts: readonly Host[]): Part {
  const some = hosts.slice(0, NAMED_MAX).map(({ name }) => name);
  const more = hosts.length - some.length;
  return html`${icon('term')}
    <strong>${more > 0 ? `${some.join(', ')} and ${count(more)} more` : listed(some)}</strong>`;
}

async function change(c: Context<Env>, services: WebServices): Promise<Response> {
  const sent = await sentIn(c);
  const who = c.get('principal');
  const host = await hostFor('rename', c.req.param('id')!, who, services);
  const name = first(sent, 'name').trim();
  const wrongs = new Map<string, string>();
  if (name === '' || printableText(name) !== name || name.length > 255)
    wrongs.set('name', 'A name is 1 to 255 characters that can be seen.');
  const group = actIn('group', sent, [host]);
  const labels = first(sent, 'labels').trim() === '' ? undefined : actIn('label', sent, [host]);
  for (const read of [group, labels]) for (const [field, text] of read?.wrong ?? []) wrongs.set(field, text);
  if (wrongs.size > 0) {
    const now = services.clock();
    const body = html`${headHtml({ crumbs: [['Hosts', '/hosts'], [host.name, `/hosts/${host.id}`], ['Change']], title: `Change ${host.name}` })}
      <section class="sheet ask">
        <div class="pad">
          ${changeForm(host, { name, group: first(sent, 'group'), labels: first(sent, 'labels') }, wrongs)}
        </div>
      </section>`;
    return show(c, services, { title: host.name, section: '/hosts', now, body }, 422);
  }
  const asked = [group.act, labels?.act].filter((act) => act !== undefined);
  for (const act of asked)
    if (act.kind !== 'group' || act.group !== host.group) await actOnHosts([host.id], act, who, services);
  if (name !== host.name) await changeHost(host.id, { name }, actOf(who, services.clock()), services);
  return c.redirect(`/hosts/${host.id}/identity?did=changed`, 303);
}

/** Name, group and labels of one host. */
export function changeForm(
  host: Pick<Host, 'id'>,
  values: { readonly name: string; readonly group: string; readonly labels: string },
  wrong: Wrongs = NOTHING_WRONG,
): Html {
  return html`<form class="form" method="post" action="/hosts/${host.id}/change">
    ${wrongHtml(wrong, { name: 'Name', group: 'Group', labels: 'Labels' })}
    ${inputHtml({ name: 'name', label: 'Name', wrong }, { value: values.name, max: 255, required: true })}
    ${inputHtml({ name: 'group', label: 'Group', help: 'Empty: of no group.', wrong }, { value: values.group, max: 100, mono: true })}
    ${inputHtml({ name: 'labels', label: 'Labels to set or drop', help: 'key=value sets a label, -key takes it away; others stay.', wrong }, { value: values.labels, max: 1000, mono: true })}
    <div class="acts"><button class="btn" type="submit">Save the host</button></div>
  </form>`;
}

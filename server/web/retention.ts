/** `/settings/retention`: how long what lies beside the log stays, what was purged, and what a legal hold keeps (docs/retention.md). */
import type { Context, Hono } from 'hono';
import { z } from 'zod';
import type { Instant } from '#src/clock.ts';
import { RETENTION_GRACE_MS } from '#src/limits.ts';
import { HostId } from '#src/wire/hostid.ts';
import { isFleetWide } from '#server/access/principal.ts';
import { HoldError, Reason, releaseHold, setHold } from '#server/decisions/holds.ts';
import { bytesText, daysOf, KIND_WORDS, ruleText, volumesOf, type RetentionSettings } from '#server/retention.ts';
import type { Hold, Purge } from '#server/store/retentionrecords.ts';
import { commandHtml, html, type Html } from './html.ts';
import { show } from './layout.ts';
import {
  first,
  inputHtml,
  NOTHING_WRONG,
  readForm,
  selectHtml,
  sentIn,
  textareaHtml,
  wrongHtml,
  type Sent,
  type Wrongs,
} from './parts/form.ts';
import { emptyHtml, headHtml, noticeHtml, refusedHtml } from './parts/page.ts';
import type { Env, WebServices } from './services.ts';
import { count, plural, timeHtml, whenHtml } from './words.ts';

const DAY_MS = 86_400_000;
/** Purges and holds that are listed. */
const SHOWN = 25;
const PATH = '/settings/retention';

export function retentionPages(web: Hono<Env>, services: WebServices): void {
  web.get(PATH, (c) => page(c, services, new Map(), NOTHING_WRONG));
  web.post(`${PATH}/hold`, (c) => hold(c, services));
  web.post(`${PATH}/release`, (c) => release(c, services));
}

/** For the list of settings. */
export function retentionWords({ reports, judgements, acts, bytes }: RetentionSettings, holds: number): string {
  const limits = [reports, judgements, acts].filter((days) => days !== null);
  const kept =
    limits.length === 0 && bytes === null
      ? 'everything is kept'
      : [
          ...(limits.length === 0 ? [] : [`purged from ${plural(Math.min(...limits), 'day')} on`]),
          ...(bytes === null ? [] : [`up to ${bytesText(bytes)}`]),
        ].join(', ');
  return holds === 0 ? kept : `${kept}; ${plural(holds, 'hold stands', 'holds stand')}`;
}

const HoldForm = z.object({
  on: z.enum(['all', 'part']),
  hosts: z.string().max(40_000).optional(),
  groups: z.string().max(20_000).optional(),
  from: z.iso.date('Expected a day.').optional(),
  to: z.iso.date('Expected a day.').optional(),
  reason: Reason,
});
const words = (text: string | undefined): string[] => (text ?? '').split(/[\s,]+/).filter((word) => word !== '');

async function hold(c: Context<Env>, services: WebServices): Promise<Response> {
  const sent = await sentIn(c);
  const { values, wrong } = readForm(sent, HoldForm);
  if (wrong !== undefined) return page(c, services, sent, wrong);
  const hosts = words(values.hosts);
  const odd = hosts.find((id) => !HostId.safeParse(id).success);
  if (odd !== undefined) return page(c, services, sent, new Map([['hosts', `${odd} is no id of a host.`]]));
  const on =
    values.on === 'all' ? { on: 'all' as const } : { on: 'part' as const, hosts, groups: words(values.groups) };
  const from = values.from === undefined ? null : Date.parse(values.from);
  // A day is held whole.
  const to = values.to === undefined ? null : Date.parse(values.to) + DAY_MS;
  try {
    await setHold({ on, from, to, reason: values.reason }, c.get('principal'), services);
    return c.redirect(`${PATH}?did=set`, 303);
  } catch (error) {
    if (!(error instanceof HoldError)) throw error;
    return page(c, services, sent, new Map([['', `${error.message}.`]]));
  }
}

async function release(c: Context<Env>, services: WebServices): Promise<Response> {
  const sent = await sentIn(c);
  const reason = Reason.safeParse(first(sent, 'reason'));
  if (!reason.success) return page(c, services, new Map(), new Map([['', 'Say why the hold is released.']]));
  try {
    await releaseHold(first(sent, 'id'), reason.data, c.get('principal'), services);
    return c.redirect(`${PATH}?did=released`, 303);
  } catch (error) {
    if (!(error instanceof HoldError)) throw error;
    return page(c, services, new Map(), new Map([['', `${error.message}.`]]));
  }
}

async function page(c: Context<Env>, services: WebServices, sent: Sent, wrong: Wrongs): Promise<Response> {
  const { store, clock, retention } = services;
  const now = clock();
  const who = c.get('principal');
  const title = 'Retention';
  const crumbs = [['Settings', '/settings'], [title]] as const;
  if (!isFleetWide(who, 'auditor', 'admin')) {
    const body = html`${headHtml({ crumbs, title })}${refusedHtml('What is kept and purged is shown to whoever is auditor or admin of the whole fleet.')}`;
    return show(c, services, { title, section: '/settings', now, body });
  }
  const may = isFleetWide(who, 'admin');
  const [noted, retained, holds, purges] = await Promise.all([
    store.retention.noted(),
    store.retention.retained(),
    store.holds.list({ cursor: null, limit: SHOWN }),
    store.retention.purges({ cursor: null, limit: SHOWN }),
  ]);
  const standing = holds.items.filter(({ released }) => released === null).length;
  const body = html`${noticeOf(c.req.query('did'))}
    ${headHtml({
      crumbs,
      title: titleOf(retention, standing),
      text: 'What lies beside the evidence log goes when its time is over: the envelope or text, with its salt. The entry and its digest stay, so every proof holds, and an entry tells what went and by which rule. What the verdict of today, an open finding, a policy or a waiver leans on stays.',
    })}
    <div class="cols aside">
      <div class="stack">
        ${holdsSheet(holds.items, { may, now, more: holds.next !== null })} ${may && holdForm(sent, wrong)}
        ${purgesSheet(purges.items, now, purges.next !== null)}
      </div>
      <aside class="stack" aria-label="Settings">
        ${settingsSheet(retention, volumesOf(retained), noted?.since ?? null, now)}
      </aside>
    </div>`;
  return show(c, services, { title, section: '/settings', now, body }, wrong.size > 0 ? 422 : 200);
}

function titleOf({ reports, judgements, acts, bytes }: RetentionSettings, standing: number): string {
  const purges = [reports, judgements, acts, bytes].some((limit) => limit !== null);
  const holds = standing === 0 ? '' : `; ${plural(standing, 'legal hold stands', 'legal holds stand')}`;
  return `${purges ? 'What is past its time is purged by the night' : 'Everything is kept'}${holds}`;
}

function settingsSheet(
  settings: RetentionSettings,
  volumes: ReturnType<typeof volumesOf>,
  since: Instant | null,
  now: Instant,
): Html {
  const days = daysOf(settings);
  const sized = volumes.reduce((sum, { of, bytes }) => (of === 'act' ? sum : sum + bytes), 0);
  return html`<section class="sheet">
    <header><h2>How long</h2></header>
    <div class="pad form">
      <dl class="facts">
        ${volumes.map(
          ({ of, payloads, bytes, oldest }) =>
            html`<dt>${WORDS[of]}</dt>
              <dd>
                ${days[of] === null ? 'for good' : plural(days[of], 'day')}<br /><small class="quiet"
                  >${
                    payloads === 0
                      ? 'none counted yet'
                      : html`${count(payloads)} held,
                        ${bytesText(bytes)}${oldest !== null && html`, the oldest ${whenHtml(oldest * DAY_MS, now)}`}`
                  }</small
                >
              </dd>`,
        )}
        <dt>All of them</dt>
        <dd>
          ${settings.bytes === null ? 'no bound' : html`${bytesText(settings.bytes)} of reports and judgements; nothing younger than ${plural(settings.atLeast, 'day')} goes for that`}${settings.bytes !== null && sized > settings.bytes && html`<br /><small class="quiet">more is held: what is left is younger, leaned on, or under a hold</small>`}
        </dd>
      </dl>
      ${
        since !== null &&
        now < since + RETENTION_GRACE_MS &&
        html`<p>Changed ${whenHtml(since, now)}: nothing goes before ${timeHtml(since + RETENTION_GRACE_MS)}.</p>`
      }
      <p class="quiet">Set where the server is started:</p>
      ${commandHtml('bootproof server --keep-reports 400d --keep-bytes 200G')}
    </div>
  </section>`;
}
const WORDS = { report: 'Reports', judgement: 'Judgements', act: 'Acts' } as const;

type Around = { readonly may: boolean; readonly now: Instant; readonly more: boolean };

function holdsSheet(holds: readonly Hold[], { may, now, more }: Around): Html {
  return html`<section class="sheet" id="holds">
    <header>
      <h2>Legal holds</h2>
      ${more && html`<span class="quiet">the newest ${holds.length}</span>`}
    </header>
    ${
      holds.length === 0
        ? emptyHtml(
            'None was ever set',
            'A hold keeps what it is on, whatever the settings say, until somebody releases it.',
          )
        : html`<div class="pad">
            <ul class="rows whole">
              ${holds.map((one) => holdRow(one, may, now))}
            </ul>
          </div>`
    }
  </section>`;
}

function holdRow({ id, scope, from, to, reason, setBy, setAt, released }: Hold, may: boolean, now: Instant): Html {
  const on =
    scope === null
      ? html`everything`
      : html`${scope.groups.map((group, at) => html`${at > 0 && ', '}<code>${group}</code>`)}${scope.groups.length > 0 && scope.hosts.length > 0 && ' and '}${
          scope.hosts.length > 0 &&
          (scope.hosts.length <= 3
            ? scope.hosts.map(
                (host, at) => html`${at > 0 && ', '}<a class="link" href="/hosts/${host}"><code>${host}</code></a>`,
              )
            : plural(scope.hosts.length, 'host'))
        }`;
  return html`<li>
    <span class="grow"
      ><strong>${id}</strong>
      ${released === null ? html`<span class="tag loud">stands</span>` : html`<span class="tag">released</span>`} on
      ${on}${from !== null && html`, from ${timeHtml(from)}`}${to !== null && html`, before ${timeHtml(to)}`}<br />${reason}<br /><small
        class="quiet"
        >set by ${setBy},
        ${whenHtml(setAt, now)}${
          released !== null && html`; released by ${released.by}, ${whenHtml(released.at, now)}: ${released.reason}`
        }</small
      ></span
    >
    ${
      may &&
      released === null &&
      html`<form method="post" action="${PATH}/release">
        <input type="hidden" name="id" value="${id}" />
        <input
          class="input"
          name="reason"
          maxlength="2000"
          required
          aria-label="Why ${id} is released"
          placeholder="why"
          autocomplete="off"
        /><button class="btn" type="submit" aria-label="Release ${id}">Release</button>
      </form>`
    }
  </li>`;
}

const LABELS = { on: 'On', hosts: 'Hosts', groups: 'Host groups', from: 'From', to: 'Until', reason: 'Reason' };

function holdForm(sent: Sent, wrong: Wrongs): Html {
  const value = (name: string) => first(sent, name);
  return html`<section class="sheet" id="set">
    <header><h2>Set a hold</h2></header>
    <div class="pad">
      ${wrongHtml(wrong, LABELS)}
      <form class="form" method="post" action="${PATH}/hold">
        ${selectHtml(
          { name: 'on', label: LABELS.on, wrong },
          [
            ['part', 'these hosts and groups'],
            ['all', 'everything'],
          ],
          value('on') || 'part',
        )}
        ${inputHtml({ name: 'groups', label: LABELS.groups, help: 'With all below them. A host that leaves stays under the hold.', wrong }, { value: value('groups'), max: 20_000, mono: true, placeholder: 'prod/web' })}
        ${inputHtml({ name: 'hosts', label: LABELS.hosts, help: 'Ids, with spaces between; retired ones too.', wrong }, { value: value('hosts'), max: 40_000, mono: true, placeholder: 'h_…' })}
        ${inputHtml({ name: 'from', label: LABELS.from, help: 'Of what was logged; empty: from the beginning.', wrong }, { value: value('from'), type: 'date' })}
        ${inputHtml({ name: 'to', label: LABELS.to, help: 'That day is held, too. Empty: also what is still to come.', wrong }, { value: value('to'), type: 'date' })}
        ${textareaHtml({ name: 'reason', label: LABELS.reason, wrong }, { value: value('reason'), max: 2000, required: true })}
        <div class="acts"><button class="btn first" type="submit">Set the hold</button></div>
      </form>
    </div>
  </section>`;
}

function purgesSheet(purges: readonly Purge[], now: Instant, more: boolean): Html {
  return html`<section class="sheet" id="purges">
    <header>
      <h2>What was purged</h2>
      ${more && html`<span class="quiet">the newest ${purges.length} steps; the API lists all</span>`}
    </header>
    ${
      purges.length === 0
        ? emptyHtml('Nothing', 'Every payload that was ever logged is still held.')
        : html`<div class="pad">
            <ul class="rows whole">
              ${purges.map(
                ({ index, at, of, payloads, before, rule, entries }) =>
                  html`<li>
                    <span class="grow"
                      >${count(payloads)} ${KIND_WORDS[of]} from before ${timeHtml(before)}<br /><small class="quiet"
                        >entry ${index} of the log, for ${rangesText(entries)}; rule: ${ruleText(rule)}</small
                      ></span
                    >
                    <span class="quiet nowrap">${whenHtml(at, now)}</span>
                  </li>`,
              )}
            </ul>
          </div>`
    }
  </section>`;
}

/** The first runs of indexes, and how many more. */
function rangesText(entries: Purge['entries']): string {
  const ranges = entries.flatMap((one) => one.ranges);
  const shown = ranges.slice(0, 4).map(([from, to]) => (from === to ? String(from) : `${from}–${to}`));
  const rest = ranges.length - shown.length;
  return `entries ${shown.join(', ')}${rest > 0 ? ` and ${plural(rest, 'run')} more` : ''}`;
}

const DID: Readonly<Record<string, string>> = {
  set: 'The hold stands. Nothing that it is on goes, whatever the settings say.',
  released: 'The hold is released. What is past its time goes with the next night.',
};

function noticeOf(did: string | undefined): Html | undefined {
  const text = did === undefined || !Object.hasOwn(DID, did) ? undefined : DID[did];
  return text === undefined ? undefined : noticeHtml(text);
}

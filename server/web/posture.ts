/** `/hosts/ID/posture`: how a host stood at a moment, as known then and as known later, and what the two differ in (docs/posture.md). */
import type { Context, Hono } from 'hono';
import type { Instant } from '#src/clock.ts';
import { isTheirs } from '#server/decisions/may.ts';
import { readableWaivers } from '#server/decisions/waiverreads.ts';
import { postureOf, type Posture } from '#server/posture.ts';
import { differencesOf } from '#server/posturewords.ts';
import type { JudgedEntry } from '#server/store/posturerecords.ts';
import type { Host } from '#server/store/records.ts';
import { imagesNamed, type Named } from './hostfilter.ts';
import { commandHtml, html, icon, type Html, type Part } from './html.ts';
import { missingPage, show } from './layout.ts';
import { momentFrom, momentHtml, momentInput } from './parts/moment.ts';
import { NOTHING_WRONG, type Wrongs } from './parts/form.ts';
import { emptyHtml, headHtml, refusedHtml } from './parts/page.ts';
import { answersSheet, comparedSheet, findingsSheet, restsSheet, waiversSheet } from './posturesheets.ts';
import type { Env, WebServices } from './services.ts';
import { capital, dayOf, plural, timeHtml } from './words.ts';

/** Changes of the verdict that are offered, before the moment and behind it. */
const TURNS_SHOWN = 5;
/** Judgements among which they are looked for. */
const TURNS_LOOKED_AT = 60;

export type Shown = {
  readonly host: Host;
  /** As known then, and as known later. */
  readonly told: Posture;
  readonly later: Posture;
  /** Whether `later` is as known now, or at a moment that was asked for. */
  readonly isNow: boolean;
  /** Waivers that the reader may read; undefined: none anywhere. */
  readonly readable: ReadonlySet<string> | undefined;
  readonly named: ReadonlyMap<string, Named>;
  readonly now: Instant;
};

export function posturePage(web: Hono<Env>, services: WebServices): void {
  web.get('/hosts/:id{h_[a-z2-7]{26}}/posture', (c) => page(c, services));
}

/** Where a host's page leads: how it stood at a moment, to the second. */
export function postureHref(hostId: string, at: Instant): string {
  return `/hosts/${hostId}/posture?at=${encodeURIComponent(momentInput(at))}`;
}

type Asked = { readonly at: Instant; readonly known: Instant; readonly isNow: boolean };

/** The moments that the address names; a day ago, and now, where it names none. */
function askedOf(query: URLSearchParams, host: Host, now: Instant): { readonly asked: Asked; readonly wrong: Wrongs } {
  const wrong = new Map<string, string>();
  const read = (name: string): Instant | undefined => {
    const text = (query.get(name) ?? '').trim();
    if (text === '') return undefined;
    const at = momentFrom(text);
    if (at === undefined) wrong.set(name, 'Day and time, such as 2026-09-30T18:00; it is taken as UTC.');
    // A field knows seconds: this very one is not in the future.
    else if (at > now && at - now >= 1000) wrong.set(name, `That lies in the future; it is ${momentInput(now)} now.`);
    return at === undefined ? undefined : Math.min(at, now);
  };
  const standard = Math.min(now, Math.ceil(Math.max(host.createdAt, now - 86_400_000) / 60_000) * 60_000);
  const [at = standard, known] = [read('at'), read('known')];
  if (wrong.size === 0 && known !== undefined && known < at)
    wrong.set('known', 'That is before the moment itself: nothing was known of it yet.');
  return { asked: { at, known: known ?? now, isNow: known === undefined }, wrong };
}

async function page(c: Context<Env>, services: WebServices): Promise<Response> {
  const { store, clock } = services;
  const who = c.get('principal');
  const host = await store.hosts.get(c.req.param('id')!);
  if (host === undefined || !isTheirs(who, host.group)) return missingPage(c, services);
  const now = clock();
  const query = new URL(c.req.url).searchParams;
  const { asked, wrong } = askedOf(query, host, now);
  const crumbs = [['Hosts', '/hosts'], [host.name, `/hosts/${host.id}`], ['At a moment']] as const;
  if (wrong.size > 0) {
    const typed = { at: query.get('at') ?? '', known: query.get('known') ?? '' };
    const body = html`${headHtml({ crumbs, title: `When did you mean, for ${host.name}?` })}
      <div class="stack">
        ${refusedHtml('One of the two moments is none that can be asked about.')}
        <section class="sheet ask"><div class="pad">${formHtml(host, typed, wrong)}</div></section>
      </div>`;
    return show(c, services, { title: `${host.name} at a moment`, section: '/hosts', now, body }, 422);
  }
  const { at, known, isNow } = asked;
  const [then, later, pending, before, behind] = await Promise.all([
    postureOf(host, at, at, services),
    postureOf(host, at, known, services),
    store.log.pending(),
    store.postures.judged(host.id, { from: 0, to: at }, 'newest', TURNS_LOOKED_AT),
    store.postures.judged(host.id, { from: at + 1, to: now }, 'oldest', TURNS_LOOKED_AT),
  ]);
  const waivers = [...then.waivers, ...later.waivers];
  const [readable, named] = await Promise.all([
    readableWaivers([...new Set(waivers.map(({ id }) => id))], who, services),
    imagesNamed([then.image.value?.digest ?? null, later.image.value?.digest ?? null], store),
  ]);
  const shown: Shown = { host, told: then, later, isNow, readable, named, now };
  const mine = ({ waivers: all, ...rest }: Posture) => ({
    ...rest,
    waivers: readable === undefined ? null : all.filter(({ id }) => readable.has(id)),
  });
  const differences = differencesOf(mine(then), mine(later));
  const typed = { at: momentInput(at), known: isNow ? '' : momentInput(known) };
  const body = html`${headHtml({
      crumbs,
      title: headline(later, host),
      text: causeOf(shown, differences.length),
    })}
    <div class="cols aside">
      <div class="stack">
        ${
          isReached(later)
            ? html`${answersSheet(shown)}
              ${pending.oldest !== null && pending.oldest <= known && waitingNote(pending.oldest)}
              ${differencesSheet(differences, shown)} ${findingsSheet(shown)} ${comparedSheet(shown)}
              ${waiversSheet(shown)}`
            : html`<section class="sheet">
                ${emptyHtml('Nothing is known of it then', html`${unreachedText(later)} Choose a later moment.`)}
              </section>`
        }
        ${commandHtml(`bootproof host posture ${host.name} --at ${zoned(at)}${isNow ? '' : ` --known ${zoned(known)}`}`)}
      </div>
      <aside class="stack" aria-label="Another moment">
        <section class="sheet">
          <header><h2>Another moment</h2></header>
          <div class="pad">${formHtml(host, typed, NOTHING_WRONG)}</div>
        </section>
        ${turnsSheet(host, before, behind, at)} ${restsSheet(shown)}
      </aside>
    </div>`;
  return show(c, services, { title: `${host.name} at ${momentInput(at)}`, section: '/hosts', now, body });
}

/** The moment lies before the host, or before the log: then nothing at all is known of it. */
const isReached = ({ host }: Posture): boolean => !('why' in host);
const unreachedText = ({ host }: Posture): string => ('why' in host ? `${capital(host.why.text)}.` : '');

const zoned = (at: Instant): string => `${momentInput(at)}Z`;

function formHtml(host: Host, typed: { readonly at: string; readonly known: string }, wrong: Wrongs): Html {
  return html`<form class="form" method="get" action="/hosts/${host.id}/posture">
    ${momentHtml({ name: 'at', label: 'How it stood at', help: 'UTC. A host stands as its last report showed it.', wrong }, typed.at)}
    ${momentHtml({ name: 'known', label: 'As known at', help: 'UTC; empty: now. What was learned later is left out.', wrong }, typed.known)}
    <div class="acts"><button class="btn first" type="submit">Show how it stood</button></div>
  </form>`;
}

const WAS: Readonly<Record<string, string>> = {
  compliant: 'was the image that it booted',
  drifted: 'had drifted',
  unsigned: 'ran an image that nobody trusted had signed',
  unverifiable: 'could not be judged',
  silent: 'was silent',
  new: 'had not reported yet',
};

function headline({ at, verdict, host: facts }: Posture, host: Host): Html {
  const name = facts.value?.name ?? host.name;
  const said = verdict.value === null ? undefined : (WAS[verdict.value] ?? `was ${verdict.value}`);
  const iso = momentInput(at);
  const when = html`<time datetime="${zoned(at)}"
    >${dayOf(at)} at ${iso.endsWith(':00') ? iso.slice(11, 16) : iso.slice(11)} UTC</time
  >`;
  return said === undefined ? html`Nobody can tell how ${name} stood on ${when}` : html`${name} ${said} on ${when}`;
}

/** What was told then, what is known later, and whether the two agree. */
function causeOf({ told: then, later, isNow }: Shown, differences: number): Html {
  const until: Part = isNow ? 'now' : html`at ${timeHtml(later.known)}`;
  const [was, is] = [then.verdict.value, later.verdict.value];
  if (!isReached(later)) return html`The first moment that can be asked about is later.`;
  if ('why' in later.verdict) return html`As known ${until}: ${later.verdict.why.text}.`;
  const known = html`As known ${until}. `;
  if (was !== is)
    return html`${known}${was === null ? 'At the time nobody could tell; what was learned later says it.' : html`At the time it was told as <strong>${was}</strong>; what was learned later says otherwise.`}`;
  return html`${known}${differences === 0 ? 'That is what was told at the time, and nothing that was learned later changes it.' : 'The verdict is the one that was told at the time; what lies beneath it is known better now.'}`;
}

function waitingNote(oldest: Instant): Html {
  return html`<p class="note">
    ${icon('clock')}<span
      >What was logged since ${timeHtml(oldest)} waits for its place in the evidence log, and is not counted here. That
      takes a second or so: look again.</span
    >
  </p>`;
}

/** The point of the page: what somebody could not know at the time. */
function differencesSheet(differences: readonly string[], { isNow, later }: Shown): Html {
  if (differences.length === 0)
    return html`<p class="note">
      ${icon('check')}<span
        >Known then and known ${isNow ? 'now' : 'later'} say the same: no report came late, nothing was judged or
        decided anew about this moment.</span
      >
    </p>`;
  return html`<section class="sheet waits" aria-labelledby="since">
    <header>
      <h2 id="since">${icon('clock')} Become known since</h2>
      <span class="quiet"
        >${plural(differences.length, 'difference')}${!isNow && html`, by ${timeHtml(later.known)}`}</span
      >
    </header>
    <div class="pad">
      <ul class="plain">
        ${differences.map((one) => html`<li>${one}</li>`)}
      </ul>
    </div>
  </section>`;
}

type Turn = { readonly at: Instant; readonly from: string; readonly to: string };
/** The nearest first, as they are given; of one moment by the host's revision, which tells their order. */
function turnsIn(entries: readonly JudgedEntry[], direction: 1 | -1): readonly Turn[] {
  const revision = ({ judged }: JudgedEntry): number => judged?.revision ?? 0;
  return entries
    .toSorted((a, b) => direction * (a.at - b.at || revision(a) - revision(b) || a.index - b.index))
    .flatMap(({ at, told }) => (told === null ? [] : [{ at, ...told }]))
    .slice(0, TURNS_SHOWN);
}

/** When what was told of it changed, newest first, with the moment that is looked at among them. */
function turnsSheet(
  host: Host,
  before: readonly JudgedEntry[],
  behind: readonly JudgedEntry[],
  at: Instant,
): Html | undefined {
  const [earlier, later] = [turnsIn(before, -1), turnsIn(behind, 1)];
  if (earlier.length + later.length === 0) return undefined;
  const turn = ({ at: when, from, to }: Turn): Html =>
    html`<li class="${to}">
      ${icon(`v-${to}`)}
      <div>
        <a href="${postureHref(host.id, when)}">${capital(to)}</a
        >${from !== 'new' && html` <span class="quiet">before: ${from}</span>`}<br /><small>${timeHtml(when)}</small>
      </div>
    </li>`;
  return html`<section class="sheet">
    <header><h2>What was told, and when</h2></header>
    <div class="pad">
      <ol class="timeline">
        ${later.toReversed().map(turn)}
        <li aria-current="true">
          ${icon('right')}
          <div><strong>This moment</strong><br /><small>${timeHtml(at)}</small></div>
        </li>
        ${earlier.map(turn)}
      </ol>
    </div>
  </section>`;
}

/** The frame of every page: top bar with navigation, search and account; foot with the moment that all its numbers are of. */
import type { Context } from 'hono';
import { getCookie } from 'hono/cookie';
import type { Instant } from '#src/clock.ts';
import { hasRole, type Principal } from '#server/access/principal.ts';
import { WAIVER_READERS } from '#server/decisions/waiverreads.ts';
import { html, icon, sprite, type Html } from './html.ts';
import { decidable } from './parts/counts.ts';
import { headHtml } from './parts/page.ts';
import type { Env, WebServices } from './services.ts';
import { bounded, capital, timeHtml } from './words.ts';

/** In the order of a working day: what is wrong, where, what is allowed. */
const NAVIGATION = [
  ['/findings', 'Findings'],
  ['/hosts', 'Hosts'],
  ['/images', 'Images'],
  ['/waivers', 'Waivers'],
  ['/policies', 'Policies'],
  ['/trust', 'Trust'],
  ['/activity', 'Activity'],
  ['/evidence', 'Evidence'],
  ['/settings', 'Settings'],
] as const;
export type Section = (typeof NAVIGATION)[number][0];

export type Page = {
  /** Of the window. */
  readonly title: string;
  readonly section?: Section;
  readonly now: Instant;
  readonly body: Html;
  /** The page looks again by itself after so many seconds, where work is under way. */
  readonly refresh?: number;
};

export const THEMES = ['system', 'light', 'dark'] as const;
export type Theme = (typeof THEMES)[number];
export const THEME_COOKIE = 'bootproof_theme';

/** What stands around a page, besides the page. */
type Frame = {
  readonly who: Principal;
  readonly theme: Theme;
  /** Where the account's forms lead back to. */
  readonly here: string;
  /** Beside words of the navigation; each is the length of the list that the word leads to. */
  readonly counts: Readonly<Partial<Record<Section, string>>>;
};

/** Answers with a page of the signed-in part. */
export async function show(
  c: Context<Env>,
  { store }: Pick<WebServices, 'store'>,
  content: Page,
  status: 200 | 201 | 403 | 404 | 409 | 422 = 200,
): Promise<Response> {
  const who = c.get('principal');
  const [open, decide] = await Promise.all([
    store.read.countGroups({ tab: 'open', scope: who.groups, now: content.now }, COUNTED_MAX),
    decidable({ store }, who, content.now),
  ]);
  const counts = { '/findings': bounded(open), ...(decide === 0 ? {} : { '/waivers': String(decide) }) };
  return c.html(framed(content, { who, theme: themeOf(c), here: hereOf(c), counts }), status);
}

/** Lists and tabs count so far; beyond, they say `10,000+`. */
export const COUNTED_MAX = 10_000;

export function themeOf(c: Context): Theme {
  const chosen = getCookie(c, THEME_COOKIE);
  return THEMES.find((theme) => theme === chosen) ?? 'system';
}

function hereOf(c: Context): string {
  const { pathname, search } = new URL(c.req.url);
  return pathname.startsWith('//') ? '/' : pathname + search;
}

const LOGO = html`<svg aria-hidden="true"><use href="#i-logo" /></svg>`;

function framed(content: Page, { who, theme, here, counts }: Frame): string {
  const body = html`<a class="skip" href="#main">Skip to content</a>
    <header class="top">
      <div>
        <a class="brand" href="/">${LOGO}Bootproof</a>
        <nav aria-label="Main">
          <ul>
            ${NAVIGATION.filter(([href]) => href !== '/waivers' || hasRole(who, ...WAIVER_READERS)).map(
              ([href, word]) =>
                html`<li>
                  <a href="${href}" ${href === content.section && html` aria-current="page"`}
                    >${word}${counts[href] !== undefined && html` <span class="count">${counts[href]}</span>`}</a
                  >
                </li>`,
            )}
          </ul>
        </nav>
        <form class="seek" role="search" aria-label="Everything" action="/search">
          ${icon('search')}<input
            name="q"
            aria-label="Search hosts, paths, digests"
            placeholder="Host, path or digest"
            maxlength="300"
            autocomplete="off"
          /><kbd>/</kbd>
        </form>
        ${account(who, theme, here)}
      </div>
    </header>
    <main class="page" id="main">${content.body}</main>
    <footer class="foot">
      <span>As of ${timeHtml(content.now)}</span>
      <span
        ><a href="/api">API</a> · <a href="/keys"><kbd>?</kbd> keys</a></span
      >
    </footer>`;
  return document(content, theme, '', body);
}

function account({ id, name, roles, groups }: Principal, theme: Theme, here: string): Html {
  const initials = name
    .split(/[^\p{L}\p{N}]+/u)
    .filter((word) => word !== '')
    .slice(0, 2)
    .map((word) => word.slice(0, word.codePointAt(0)! > 0xffff ? 2 : 1).toUpperCase())
    .join('');
  return html`<details class="account">
    <summary class="me" title="${name}">
      <span aria-hidden="true">${initials}</span><span class="sr">Account</span>
    </summary>
    <div class="pop">
      <p>
        <strong>${name}</strong><br /><small class="quiet"
          >${roles.includes('admin') ? 'admin' : roles.join(', ').replaceAll('_', ' ')}${
            groups === null ? ', every host' : `, ${groups.length === 0 ? 'no host group' : groups.join(', ')}`
          }${name !== id && html`<br /><code>${id}</code>`}</small
        >
      </p>
      <form method="post" action="/theme">
        <input type="hidden" name="next" value="${here}" />
        <fieldset class="segment">
          <legend class="sr">Appearance</legend>
          ${THEMES.map(
            (one) =>
              html`<button name="theme" value="${one}" type="submit" aria-pressed="${one === theme ? 'true' : 'false'}">
                ${capital(one)}
              </button>`,
          )}
        </fieldset>
      </form>
      <form method="post" action="/logout"><button class="btn wide" type="submit">Sign out</button></form>
    </div>
  </details>`;
}

/** A page for whoever comes, signed in or not: nothing has to be read for it. */
export function plainPage(title: string, content: Html, now: Instant): string {
  return bare(title, html`${headHtml({ title })} ${content}`, now);
}

/** Says one thing: a refusal, or a fault; `code` is the refusal's, whose own page says more. */
export function messagePage(title: string, text: string, now: Instant, code?: string): string {
  const more = code !== undefined && html` <a href="/problems/${code}">What ${code} means, and what to do</a>`;
  const acts = html`<a class="btn" href="/">Back to the front page</a>`;
  return bare(title, headHtml({ title, text: html`${text}${more}`, acts }), now);
}

function bare(title: string, content: Html, now: Instant): string {
  const body = html`<header class="top">
      <div><a class="brand" href="/">${LOGO}Bootproof</a></div>
    </header>
    <main class="page" id="main">${content}</main>
    <footer class="foot"><span>As of ${timeHtml(now)}</span></footer>`;
  return document({ title }, 'system', '', body);
}

/** Nothing is there, under an address that looks as if there could be. */
export function missingPage(c: Context<Env>, services: Pick<WebServices, 'store' | 'clock'>): Promise<Response> {
  const body = html`<div class="head">
    <h1>There is no such page</h1>
    <p>It may have been there before: links grow old. What still is can be found by its name in the search above.</p>
  </div>`;
  return show(c, services, { title: 'No such page', now: services.clock(), body }, 404);
}

/** A page before signing in: one thing to do, and nothing around it. */
export function gatePage(title: string, content: Html, theme: Theme): string {
  const body = html`<main>
    <a class="brand" href="/">${LOGO}Bootproof</a>
    <h1>${title}</h1>
    ${content}
  </main>`;
  return document({ title }, theme, 'gate', body);
}

function document({ title, refresh }: Pick<Page, 'title' | 'refresh'>, theme: Theme, kind: string, body: Html): string {
  return html`<!doctype html>
    <html lang="en" ${theme !== 'system' && html` data-theme="${theme}"`}>
      <meta charset="utf-8" />
      <meta name="viewport" content="width=device-width, initial-scale=1" />
      <meta name="color-scheme" content="light dark" />
      ${refresh !== undefined && html`<meta http-equiv="refresh" content="${refresh}" />`}
      <title>${title} · Bootproof</title>
      <link rel="stylesheet" href="/static/bootproof.css" />
      <link rel="icon" href="/static/mark.svg" type="image/svg+xml" />
      <script src="/static/bootproof.js" defer></script>
      <body class="${kind}">
        ${sprite(body)} ${body}
      </body>
    </html>`.text;
}

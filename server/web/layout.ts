/** The frame of every page: head, navigation, foot; and the answer headers that go with it. */
import type { Context } from 'hono';
import type { Instant } from '#src/clock.ts';
import { html, icon, sprite, type Html } from './html.ts';
import { timeHtml } from './words.ts';

const NAVIGATION = [
  ['/', 'Hosts'],
  ['/findings', 'Findings'],
  ['/images', 'Images'],
  ['/trust', 'Trust'],
] as const;
export type Section = (typeof NAVIGATION)[number][0];

export type Page = {
  readonly title: string;
  readonly section?: Section;
  readonly now: Instant;
  readonly body: Html;
};

const LOGO = html`<svg aria-hidden="true"><use href="#logo" /></svg>`;

function head(title: string): Html {
  return html`<meta charset="utf-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <meta name="color-scheme" content="light dark" />
    <title>${title} · Bootproof</title>
    <link rel="stylesheet" href="/static/bootproof.css" />`;
}

/** A page of the signed-in part. */
export function page(content: Page): string {
  const body = html`<a class="skip" href="#main">Skip to content</a>
    <header class="top">
      <div>
        <a class="brand" href="/">${LOGO}Bootproof</a>
        <nav aria-label="Main">
          <ul>
            ${NAVIGATION.map(
              ([href, word]) =>
                html`<li><a href="${href}" ${href === content.section && html` aria-current="page"`}>${word}</a></li>`,
            )}
          </ul>
        </nav>
        <form method="post" action="/logout"><button class="btn bare" type="submit">Sign out</button></form>
      </div>
    </header>
    <main class="page" id="main">${content.body}</main>
    <footer class="foot"><span>As of ${timeHtml(content.now)}</span></footer>`;
  return document(content.title, '', body);
}

/** A page for everybody, also without a session. */
export function plainPage(title: string, content: Html, now: Instant): string {
  const body = html`<header class="top">
      <div><a class="brand" href="/">${LOGO}Bootproof</a></div>
    </header>
    <main class="page" id="main">
      <div class="head"><h1>${title}</h1></div>
      ${content}
    </main>
    <footer class="foot"><span>As of ${timeHtml(now)}</span></footer>`;
  return document(title, '', body);
}

/** A page that says one thing; `code` is the refusal's, whose own page says more. */
export function messagePage(title: string, text: string, now: Instant, code?: string): string {
  return page({
    title,
    now,
    body: html`<div class="head">
      <h1>${title}</h1>
      <p>${text}</p>
      ${code !== undefined && html`<p><a href="/problems/${code}">What ${code} means, and what to do</a></p>`}
    </div>`,
  });
}

/** Nothing is there, under an address that looks as if there could be. */
export function missingPage(c: Context, now: Instant): Response | Promise<Response> {
  return c.html(messagePage('There is no such page', 'It may have been there before: links grow old.', now), 404);
}

/** The page before signing in; `wrong` says why the last try failed. */
export function gate(next: string, wrong?: string): string {
  const body = html`<main>
    <a class="brand" href="/">${LOGO}Bootproof</a>
    <h1>Sign in</h1>
    <p>Use the admin token that the server printed when it first started.</p>
    <form class="form" method="post" action="/login">
      <input type="hidden" name="next" value="${next}" />
      ${wrong !== undefined && html`<p class="note critical" role="alert">${icon('stop')}<span>${wrong}</span></p>`}
      <div class="field">
        <label for="token">Admin token</label
        ><input
          class="input mono"
          id="token"
          name="token"
          type="password"
          autocomplete="off"
          required
          placeholder="bp_admin_…"
          aria-describedby="help"
        /><small id="help"
          >Lost it? <code>npm start</code> keeps it beside its database, in <code>admin-token</code>. Another server:
          stop it, and start it with <code>--new-admin-token</code>, which ends every session.</small
        >
      </div>
      <button class="btn first wide" type="submit">Sign in with token</button>
    </form>
  </main>`;
  return document('Sign in', 'gate', body);
}

function document(title: string, kind: string, body: Html): string {
  return html`<!doctype html>
    <html lang="en">
      ${head(title)}
      <body class="${kind}">
        ${sprite(body)} ${body}
      </body>
    </html>`.text;
}

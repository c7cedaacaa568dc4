/** The pages as one application: who may see them, their headers, and what happens when something is missing or broken. */
import { readFileSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { Hono, type Context } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import { deleteCookie, getCookie, setCookie } from 'hono/cookie';
import { secureHeaders } from 'hono/secure-headers';
import { BootproofError } from '#src/error.ts';
import { API_BODY_BYTES_MAX } from '#src/limits.ts';
import { SESSION_MS } from '#server/access/token.ts';
import { findingPages } from './findings.ts';
import { hostPage } from './host.ts';
import { hostsPage } from './hosts.ts';
import { imagePages } from './images.ts';
import { gate, messagePage, missingPage } from './layout.ts';
import { problemPage } from './problem.ts';
import { explanations } from '#server/problems.ts';
import type { WebServices } from './services.ts';
import { trustPage } from './trust.ts';

const COOKIE = 'bootproof_session';
const STYLE = readFileSync(join(import.meta.dirname, 'static/bootproof.css'));
const STYLE_TAG = `"${createHash('sha256').update(STYLE).digest('base64url').slice(0, 16)}"`;

export function webApp(services: WebServices): Hono {
  const { access, clock, log } = services;
  const web = new Hono();

  web.use(
    secureHeaders({
      // No script, no inline style, nothing from elsewhere (design, section 12).
      contentSecurityPolicy: {
        defaultSrc: ["'none'"],
        styleSrc: ["'self'"],
        imgSrc: ["'self'"],
        formAction: ["'self'"],
        baseUri: ["'none'"],
        frameAncestors: ["'none'"],
      },
      xFrameOptions: 'DENY',
      referrerPolicy: 'same-origin',
      // Whether there is TLS is for whoever stands in front to say.
      strictTransportSecurity: false,
    }),
  );

  web.onError((error, c) => {
    const refused = error instanceof BootproofError;
    if (!refused) log('error', 'fault', { path: c.req.path, error: error.stack ?? error.message });
    return c.html(
      messagePage(
        refused ? 'That did not work' : 'Something broke here',
        refused ? error.message : 'It is our own fault, and the log of the server says more. Nothing was changed.',
        clock(),
        refused && explanations().has(error.code) ? error.code : undefined,
      ),
      refused ? 422 : 500,
    );
  });
  web.get('/problems/:code', (c) => problemPage(c, clock()));
  web.get('/static/bootproof.css', (c) => {
    c.header('ETag', STYLE_TAG);
    c.header('Cache-Control', 'no-cache');
    if (c.req.header('if-none-match') === STYLE_TAG) return c.body(null, 304);
    return c.body(STYLE, 200, { 'Content-Type': 'text/css; charset=utf-8' });
  });

  web.use(
    bodyLimit({
      maxSize: API_BODY_BYTES_MAX,
      onError: (c) => c.html(messagePage('That is too much', 'No form of this server is so long.', clock()), 413),
    }),
  );
  // A form of another site may be sent here with a person's cookie; its origin tells.
  web.use(async (c, next) => {
    if (c.req.method !== 'GET' && c.req.method !== 'HEAD' && !isSameOrigin(c))
      return c.html(
        messagePage('That came from elsewhere', 'Forms are taken from pages of this server only.', clock()),
        403,
      );
    await next();
  });

  web.get('/login', (c) => c.html(gate(safeNext(c.req.query('next')))));
  web.post('/login', async (c) => {
    const form = await c.req.parseBody();
    const next = safeNext(typeof form['next'] === 'string' ? form['next'] : undefined);
    const session = typeof form['token'] === 'string' ? await access.signIn(form['token'].trim()) : undefined;
    if (session === undefined) return c.html(gate(next, 'This is not the admin token of this server.'), 401);
    setCookie(c, COOKIE, session, {
      httpOnly: true,
      sameSite: 'Strict',
      path: '/',
      maxAge: SESSION_MS / 1000,
      secure: services.baseUrl().startsWith('https:'),
    });
    return c.redirect(next, 303);
  });
  web.post('/logout', (c) => {
    deleteCookie(c, COOKIE, { path: '/' });
    return c.redirect('/login', 303);
  });

  web.use(async (c, next) => {
    const session = getCookie(c, COOKIE);
    if (session === undefined || !(await access.isSession(session))) {
      const { pathname, search } = new URL(c.req.url);
      return c.redirect(`/login?next=${encodeURIComponent(pathname + search)}`, 303);
    }
    c.header('Cache-Control', 'no-store');
    await next();
  });
  web.get('/', (c) => hostsPage(c, services));
  web.get('/hosts', (c) => c.redirect('/'));
  web.get('/hosts/:id', (c) => hostPage(c, services));
  findingPages(web, services);
  imagePages(web, services);
  trustPage(web, services);
  web.all('*', (c) => missingPage(c, clock()));
  return web;
}

/** Browsers say where a form comes from (Fetch, section 3.2); one that says nothing at all is none. */
function isSameOrigin(c: Context): boolean {
  const origin = c.req.header('origin');
  if (origin === undefined) return c.req.header('sec-fetch-site') === 'same-origin';
  return URL.canParse(origin) && new URL(origin).host === (c.req.header('host') ?? new URL(c.req.url).host);
}

/** Where to go after signing in: a path of this server, or its front page. */
function safeNext(next: string | undefined): string {
  return next !== undefined && /^\/(?![/\\])[\x21-\x7e]*$/.test(next) && !next.startsWith('/log') ? next : '/';
}

/** The pages as one application: who may see them, their headers, and what happens when something is missing or broken. */
import { Hono, type Context } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import { deleteCookie, getCookie, setCookie } from 'hono/cookie';
import { secureHeaders } from 'hono/secure-headers';
import { z } from 'zod';
import { BootproofError } from '#src/error.ts';
import { API_BODY_BYTES_MAX } from '#src/limits.ts';
import { FIRST_ADMIN } from '#server/access/principal.ts';
import { SESSION_MS } from '#server/access/token.ts';
import { explanations } from '#server/problems.ts';
import { findingPages } from './findings.ts';
import { hostPage } from './host.ts';
import { hostsPage } from './hosts.ts';
import { imagePages } from './images.ts';
import { homePage } from './home.ts';
import { keysPage } from './keys.ts';
import { gate, messagePage, missingPage, THEME_COOKIE, THEMES, themeOf } from './layout.ts';
import { problemPage } from './problem.ts';
import { searchPage } from './search.ts';
import type { Env, WebServices } from './services.ts';
import { staticFiles } from './static.ts';
import { trustPage } from './trust.ts';

const COOKIE = 'bootproof_session';
/** A theme is a year's choice. */
const THEME_SECONDS = 365 * 86_400;

export function webApp(services: WebServices): Hono<Env> {
  const { access, clock, log } = services;
  const web = new Hono<Env>();

  web.use(
    secureHeaders({
      // One script, no inline style, nothing from elsewhere (design, section 12).
      contentSecurityPolicy: {
        defaultSrc: ["'none'"],
        scriptSrc: ["'self'"],
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
  staticFiles(web);

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

  web.get('/login', (c) => c.html(gate(safeNext(c.req.query('next')), undefined, themeOf(c))));
  web.post('/login', async (c) => {
    const form = await c.req.parseBody();
    const next = safeNext(typeof form['next'] === 'string' ? form['next'] : undefined);
    const session = typeof form['token'] === 'string' ? await access.signIn(form['token'].trim()) : undefined;
    if (session === undefined)
      return c.html(gate(next, 'This is not the admin token of this server.', themeOf(c)), 401);
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
    c.set('principal', FIRST_ADMIN);
    c.header('Cache-Control', 'no-store');
    await next();
  });
  web.post('/theme', async (c) => {
    const form = await c.req.parseBody();
    const { theme } = ThemeForm.parse(form);
    if (theme === 'system') deleteCookie(c, THEME_COOKIE, { path: '/' });
    else setCookie(c, THEME_COOKIE, theme, { httpOnly: true, sameSite: 'Strict', path: '/', maxAge: THEME_SECONDS });
    return c.redirect(safeNext(typeof form['next'] === 'string' ? form['next'] : undefined), 303);
  });
  homePage(web, services);
  web.get('/keys', (c) => keysPage(c, services));
  searchPage(web, services);
  web.get('/hosts', (c) => hostsPage(c, services));
  web.get('/hosts/:id', (c) => hostPage(c, services));
  findingPages(web, services);
  imagePages(web, services);
  trustPage(web, services);
  web.all('*', (c) => missingPage(c, services));
  return web;
}

const ThemeForm = z.object({ theme: z.enum(THEMES) });

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

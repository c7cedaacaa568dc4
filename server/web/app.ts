/** The pages as one application: who may see them, their headers, and what happens when something is missing or broken. */
import { Hono } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import { deleteCookie, setCookie } from 'hono/cookie';
import { secureHeaders } from 'hono/secure-headers';
import { BootproofError } from '#src/error.ts';
import { API_BODY_BYTES_MAX } from '#src/limits.ts';
import { requestId } from '#server/logging.ts';
import { explanations } from '#server/problems.ts';
import { verifierRoute } from '#server/verifier/page.ts';
import { evidencePage } from './evidence.ts';
import { findingPages } from './findings.ts';
import { activityPage } from './activity.ts';
import { hostPages } from './host.ts';
import { hostActs } from './hostacts.ts';
import { hostsPage } from './hosts.ts';
import { imagePages } from './images.ts';
import { inventoryPages } from './inventory.ts';
import { homePage } from './home.ts';
import { keysPage } from './keys.ts';
import { messagePage, missingPage, THEME_COOKIE, THEMES } from './layout.ts';
import { logPage } from './log.ts';
import { policyPages } from './policies.ts';
import { posturePage } from './posture.ts';
import { problemPage } from './problem.ts';
import { referencePage } from './reference.ts';
import { retentionPages } from './retention.ts';
import { searchPage } from './search.ts';
import type { Env, WebServices } from './services.ts';
import { isSameOrigin, safeNext, signedIn, signInPages } from './signin.ts';
import { settingsPages } from './settings.ts';
import { staticFiles } from './static.ts';
import { trustPage } from './trust.ts';
import { waiverPages } from './waivers.ts';

/** A theme is a year's choice. */
const THEME_SECONDS = 365 * 86_400;

/** The store could not, or not in time: the same page may come a moment later. */
const LATER: ReadonlySet<string> = new Set(['STORE_SLOW', 'STORE_UNAVAILABLE', 'STORE_CLOSED']);

export function webApp(services: WebServices): Hono<Env> {
  const { clock, log } = services;
  const issuer = services.access.oidc?.settings.issuer;
  const web = new Hono<Env>();
  verifierRoute(web);

  web.use(
    secureHeaders({
      // One script, no inline style, nothing from elsewhere (design, section 12).
      contentSecurityPolicy: {
        defaultSrc: ["'none'"],
        scriptSrc: ["'self'"],
        // A form shows what it would do while it is filled in.
        connectSrc: ["'self'"],
        styleSrc: ["'self'"],
        imgSrc: ["'self'"],
        // Signing out goes on at the provider, where its sign-out lies with itself.
        formAction: ["'self'", ...(issuer === undefined ? [] : [new URL(issuer).origin])],
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
    const later = refused && LATER.has(error.code);
    if (later) c.header('Retry-After', '5');
    return c.html(
      messagePage(
        refused ? 'That did not work' : 'Something broke here',
        refused
          ? error.message
          : `It is our own fault, and the log of the server says more under request ${requestId()}. Nothing was changed.`,
        clock(),
        refused && explanations().has(error.code) ? error.code : undefined,
      ),
      !refused ? 500 : later ? 503 : error.code === 'FORBIDDEN' ? 403 : 422,
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

  signInPages(web, services);
  web.use(signedIn(services));
  web.post('/theme', async (c) => {
    const form = await c.req.parseBody();
    const theme = THEMES.find((each) => each === form['theme']);
    if (theme === undefined)
      return c.html(
        messagePage('There is no such theme', `It is one of ${THEMES.join(', ')}. Nothing was changed.`, clock()),
        422,
      );
    if (theme === 'system') deleteCookie(c, THEME_COOKIE, { path: '/' });
    else setCookie(c, THEME_COOKIE, theme, { httpOnly: true, sameSite: 'Strict', path: '/', maxAge: THEME_SECONDS });
    return c.redirect(safeNext(typeof form['next'] === 'string' ? form['next'] : undefined), 303);
  });
  homePage(web, services);
  web.get('/keys', (c) => keysPage(c, services));
  web.get('/api', (c) => referencePage(c, services));
  searchPage(web, services);
  hostsPage(web, services);
  hostActs(web, services);
  hostPages(web, services);
  posturePage(web, services);
  activityPage(web, services);
  policyPages(web, services);
  settingsPages(web, services);
  findingPages(web, services);
  imagePages(web, services);
  trustPage(web, services);
  logPage(web, services);
  evidencePage(web, services);
  retentionPages(web, services);
  inventoryPages(web, services);
  waiverPages(web, services);
  web.all('*', (c) => missingPage(c, services));
  return web;
}

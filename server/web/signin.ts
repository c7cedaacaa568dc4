/** Signing in and out: the page, the way over the provider and back, the cookie; and who reads every other page. */
import type { Context, Hono, MiddlewareHandler } from 'hono';
import { deleteCookie, getCookie, setCookie } from 'hono/cookie';
import { BootproofError } from '#src/error.ts';
import { hasRole } from '#server/access/principal.ts';
import { WAIVER_READERS } from '#server/decisions/waiverreads.ts';
import { SESSION_MS, SIGN_IN_MS } from '#src/limits.ts';
import { SIGNED_OUT, type Told } from '#server/access/oidc.ts';
import type { Entered } from '#server/access/admin.ts';
import { commandHtml, html, icon, type Html } from './html.ts';
import { gatePage, messagePage, themeOf } from './layout.ts';
import type { Env, WebServices } from './services.ts';

type Site = Pick<WebServices, 'access' | 'store' | 'clock' | 'baseUrl'>;

/**
 * With TLS the name's beginning makes browsers refuse a cookie that another host of the domain set. Lax: whoever comes from the
 * provider's page, or by a link in a chat, is signed in; posts of other sites never carry it.
 */
const cookieOf = ({ baseUrl }: Pick<Site, 'baseUrl'>, name: 'session' | 'signin') => {
  const secure = baseUrl().startsWith('https:');
  const options = { httpOnly: true, sameSite: 'Lax', path: '/', secure } as const;
  return { name: secure ? `__Host-bootproof-${name}` : `bootproof_${name}`, options };
};

const HINT_CHARS_MAX = 3500;
/** Sent to the sign-out alone. */
const hintCookie = ({ baseUrl }: Pick<Site, 'baseUrl'>) => {
  const secure = baseUrl().startsWith('https:');
  const options = { httpOnly: true, sameSite: 'Lax', path: '/logout', secure } as const;
  return { name: secure ? '__Secure-bootproof-hint' : 'bootproof_hint', options };
};

/** Pages for whoever comes. They stand before `signedIn`. */
export function signInPages(web: Hono<Env>, site: Site): void {
  const { access } = site;
  web.get('/login', async (c) => {
    const next = safeNext(c.req.query('next'));
    if ((await entered(c, site)) !== undefined) return c.redirect(next, 303);
    const out = c.req.query('out');
    return c.html(signIn(site, c, { next, ...(out === undefined ? {} : { out: out === 'all' ? 'all' : 'here' }) }));
  });
  web.post('/login', async (c) => {
    const form = await c.req.parseBody();
    const next = safeNext(typeof form['next'] === 'string' ? form['next'] : undefined);
    const address = access.addressOf(c);
    const token = typeof form['token'] === 'string' ? form['token'].trim() : '';
    const secret = await access.signIn(token, address);
    if (secret !== undefined) return enter(c, site, secret, next);
    const wait = await access.refused('this is not the admin token', 'admin-token', address);
    if (wait > 0) return tooMany(c, site, wait);
    return c.html(signIn(site, c, { next, wrong: 'This is not the admin token of this server.' }), 401);
  });
  web.get('/login/oidc', async (c) => {
    const { oidc } = access;
    if (oidc === null) return c.redirect('/login', 303);
    try {
      const { url, flow } = await oidc.start(safeNext(c.req.query('next')));
      const { name, options } = cookieOf(site, 'signin');
      setCookie(c, name, flow, { ...options, maxAge: SIGN_IN_MS / 1000 });
      return c.redirect(url, 303);
    } catch (error) {
      return failed(c, site, error);
    }
  });
  web.get('/login/callback', (c) => comeBack(c, site));
  web.get(SIGNED_OUT, (c) => c.redirect('/login?out=all', 303));
  // By a link: whose sign-out page lies elsewhere than the provider itself is not led to by a form (content security policy).
  web.get('/login/elsewhere', async (c) =>
    c.redirect((await access.oidc?.signOutAt(undefined))?.href ?? '/login', 303),
  );
  web.post('/logout', async (c) => {
    const { name, options } = cookieOf(site, 'session');
    const secret = getCookie(c, name);
    const who = secret === undefined ? undefined : await access.session(secret);
    if (secret !== undefined) {
      const form = await c.req.parseBody();
      if (who !== undefined && !access.isCsrfToken(who.session, form[CSRF])) return refuseForm(c, site);
      await access.signOut(secret);
    }
    deleteCookie(c, name, options);
    const hint = hintCookie(site);
    const idToken = getCookie(c, hint.name);
    deleteCookie(c, hint.name, hint.options);
    const elsewhere = who === undefined ? undefined : await signOutAt(who, idToken, site);
    return c.redirect(elsewhere ?? '/login?out', 303);
  });
}

/** The sign-out of the provider that this person came from, where a form may lead to it. */
async function signOutAt(
  { session }: Entered,
  idToken: string | undefined,
  { access, store }: Site,
): Promise<string | undefined> {
  const { oidc } = access;
  if (oidc === null) return undefined;
  const held = await store.access.account(session.accountId);
  if (held?.account.issuer !== oidc.settings.issuer) return undefined;
  const place = await oidc.signOutAt(idToken);
  return place?.origin === new URL(oidc.settings.issuer).origin ? place.href : undefined;
}

/** From the provider: who it is, whether they may be here, and a session. */
async function comeBack(c: Context<Env>, site: Site): Promise<Response> {
  const { access, store, clock } = site;
  const { oidc } = access;
  if (oidc === null) return c.redirect('/login', 303);
  const address = access.addressOf(c);
  const { name, options } = cookieOf(site, 'signin');
  const kept = getCookie(c, name);
  // Whatever comes of it: once.
  deleteCookie(c, name, options);
  const wait = access.waitFor(address);
  if (wait > 0) return tooMany(c, site, wait);
  let told: Told;
  let next: string;
  let idToken: string | undefined;
  try {
    ({ told, next, idToken } = await oidc.finish(new URL(c.req.url).search, kept));
  } catch (error) {
    if (!(error instanceof BootproofError)) throw error;
    await access.refused(error.message, 'oidc', address, { code: error.code });
    return failed(c, site, error);
  }
  const { groups: claims, ...rest } = told;
  const held = await store.access.person({ ...rest, claims }, clock());
  if (held === undefined) throw new Error(`no id is left for ${told.ids[0]}`);
  const { account } = held;
  const about = { issuer: told.issuer, subject: told.subject, account: account.id };
  if (account.disabledAt !== null || access.grants(held).length === 0) {
    const why = account.disabledAt === null ? 'no role' : 'the account is disabled';
    await access.refused(why, 'oidc', address, about);
    return c.html(noRole(site, c, told, account.id, account.disabledAt !== null), 403);
  }
  // For the provider, when it is asked to sign them out; larger ones do not fit into a cookie, and the provider asks instead.
  if (idToken !== undefined && idToken.length <= HINT_CHARS_MAX) {
    const hint = hintCookie(site);
    setCookie(c, hint.name, idToken, { ...hint.options, maxAge: SESSION_MS / 1000 });
  }
  return enter(c, site, await access.begin(account.id, address), safeNext(next));
}

/** Sets the cookie; a session that this browser had before is over. */
async function enter(c: Context<Env>, site: Site, secret: string, next: string): Promise<Response> {
  const { name, options } = cookieOf(site, 'session');
  const before = getCookie(c, name);
  if (before !== undefined) await site.access.signOut(before);
  setCookie(c, name, secret, { ...options, maxAge: SESSION_MS / 1000 });
  c.header('Cache-Control', 'no-store');
  return c.redirect(next, 303);
}

async function entered(c: Context<Env>, site: Site): Promise<Entered | undefined> {
  const secret = getCookie(c, cookieOf(site, 'session').name);
  return secret === undefined ? undefined : site.access.session(secret);
}

/** The field of every form that changes something. */
const CSRF = 'csrf';
const FORM = /<form\b[^>]*\bmethod="post"[^>]*>/g;

/**
 * Lets in whoever has a session, and holds every form to it: what is posted carries the session's own token, which is put into each form
 * here, so that no page can leave it out. A script sends it as X-CSRF-Token.
 */
export function signedIn(site: Site): MiddlewareHandler<Env> {
  const { access, clock } = site;
  return async (c, next) => {
    const who = await entered(c, site);
    if (who === undefined) {
      const { pathname, search } = new URL(c.req.url);
      // What is posted is lost with the session; the page that it was posted from can be asked for again.
      const back =
        c.req.method === 'GET' || c.req.method === 'HEAD' ? `?next=${encodeURIComponent(pathname + search)}` : '';
      return c.redirect(`/login${back}`, 303);
    }
    if (c.req.method !== 'GET' && c.req.method !== 'HEAD') {
      const token = c.req.header('x-csrf-token') ?? (await c.req.parseBody())[CSRF];
      if (!access.isCsrfToken(who.session, token)) return refuseForm(c, site);
    }
    if (/^\/waivers(?:\/|$)/.test(c.req.path) && !hasRole(who.principal, ...WAIVER_READERS)) {
      const text = `Waivers say what is known and not mended yet: they are for ${WAIVER_READERS.join(', ').replaceAll('_', ' ')}. Ask an admin for one of these roles.`;
      return c.html(messagePage('Not for you', text, clock()), 403);
    }
    c.set('principal', who.principal);
    c.header('Cache-Control', 'no-store');
    await next();
    if (!(c.res.headers.get('content-type') ?? '').startsWith('text/html') || c.res.body === null) return;
    const page = await c.res.text();
    const field = html`<input type="hidden" name="${CSRF}" value="${access.csrfToken(who.session)}" />`.text;
    c.res = new Response(
      page.replaceAll(FORM, (form) => form + field),
      c.res,
    );
  };
}

function refuseForm(c: Context<Env>, { clock }: Pick<Site, 'clock'>): Response {
  const text = 'The form is of an older session, or not of this server. Open the page again, and send it from there.';
  return c.html(messagePage('That form is too old', text, clock()), 403);
}

/** Browsers say where a form comes from (Fetch, section 3.2); one that says nothing at all is none. */
export function isSameOrigin(c: Context): boolean {
  const site = c.req.header('sec-fetch-site');
  if (site !== undefined && site !== 'same-origin') return false;
  const origin = c.req.header('origin');
  if (origin === undefined) return site === 'same-origin';
  return URL.canParse(origin) && new URL(origin).host === (c.req.header('host') ?? new URL(c.req.url).host);
}

/** Where to go after signing in: a path of this server, or its front page. */
export function safeNext(next: string | undefined): string {
  return next !== undefined && /^\/(?![/\\])[\x21-\x7e]*$/.test(next) && !next.startsWith('/log') ? next : '/';
}

// ── what is shown ──

type Shown = { readonly next: string; readonly wrong?: string; readonly out?: 'here' | 'all' };

function signIn({ access }: Pick<Site, 'access'>, c: Context, { next, wrong, out }: Shown): string {
  const { oidc } = access;
  const note = (level: 'critical' | 'info', text: string) =>
    html`<p class="note ${level}" role="${level === 'critical' ? 'alert' : 'status'}">
      ${icon(level === 'critical' ? 'stop' : 'note')}<span>${text}</span>
    </p>`;
  const token = html`<form class="form" method="post" action="/login">
    <input type="hidden" name="next" value="${next}" />
    ${oidc !== null && html`<div class="or">or, where that does not work</div>`}
    ${wrong !== undefined && note('critical', wrong)}
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
        >Lost it? <code>npm start</code> keeps it beside its database, in <code>admin-token</code>. Another server: stop
        it, and start it with <code>--new-admin-token</code>, which ends every session of the old one.</small
      >
    </div>
    <button class="btn ${oidc === null ? 'first ' : ''}wide" type="submit">Sign in with token</button>
  </form>`;
  const gone = out !== undefined && wrong === undefined;
  if (oidc === null)
    return gatePage(
      'Sign in',
      html`<p>Use the admin token that the server printed when it first started.</p>
        ${gone && note('info', 'You are signed out.')} ${token}`,
      themeOf(c),
    );
  const still =
    out === 'all'
      ? note('info', `You are signed out, here and at ${oidc.name}.`)
      : html`${note('info', `You are signed out here. ${oidc.name} may still know you: whoever sits down at this browser next can sign in as you.`)}
          <p><a class="btn wide" href="/login/elsewhere">Sign out at ${oidc.name}, too</a></p>`;
  return gatePage(
    'Sign in',
    html`<p>Use your company account. You come back to the page you asked for.</p>
      ${gone && still}
      <p>
        <a class="btn first wide" href="/login/oidc?next=${encodeURIComponent(next)}">Continue with ${oidc.name}</a>
      </p>
      ${token}`,
    themeOf(c),
  );
}

/** Known to the provider, and nobody here yet. */
function noRole({ access }: Pick<Site, 'access'>, c: Context, told: Told, id: string, disabled: boolean): string {
  const { oidc } = access;
  const groups: Html =
    told.groups.length === 0
      ? html`${oidc?.name} tells no groups of you.`
      : html`${oidc?.name} counts you to
        ${told.groups.slice(0, 20).map((group, at) => html`${at > 0 && ', '}<code>${group}</code>`)}${
          told.groups.length > 20 && html` and ${told.groups.length - 20} more`
        }.`;
  const body = disabled
    ? html`<p>You are <strong>${told.name}</strong> (<code>${id}</code>), and this account was disabled here.</p>
        <p>An admin can enable it again: ask one, and name the account.</p>
        ${commandHtml(`bootproof access users enable ${id}`)}`
    : html`<p>You are <strong>${told.name}</strong> (<code>${id}</code>), and have no role here yet.</p>
        <p>Ask an admin of this server for one, such as viewer, and name your account. This is what they do:</p>
        ${commandHtml(`bootproof access bind ${id} viewer`)}
        <p><small class="quiet">${groups} A role may be bound to one of these as well.</small></p>`;
  return gatePage(
    disabled ? 'Your account is disabled' : 'You have no role here',
    html`${body}
      <p><a class="btn wide" href="/login/oidc">Try again</a></p>
      <p><a href="/login">Sign in another way</a></p>`,
    themeOf(c),
  );
}

function failed(c: Context<Env>, { access }: Site, error: unknown): Response {
  if (!(error instanceof BootproofError)) throw error;
  const title = error.code === 'OIDC_UNREACHABLE' ? 'The provider does not answer' : 'You were not signed in';
  const text = error.message.charAt(0).toUpperCase() + error.message.slice(1);
  const body = html`<p>${text}.</p>
    <p><a class="btn first wide" href="/login/oidc">Try again with ${access.oidc?.name}</a></p>
    <p>
      <a href="/login">Sign in with the admin token</a> · <a href="/problems/${error.code}">What ${error.code} means</a>
    </p>`;
  c.header('Cache-Control', 'no-store');
  return c.html(gatePage(title, body, themeOf(c)), error.code === 'OIDC_UNREACHABLE' ? 503 : 403);
}

function tooMany(c: Context<Env>, _site: Site, wait: number): Response {
  c.header('Retry-After', String(wait));
  const body = html`<p>
      Too many sign-ins failed from your address. Wait ${wait} ${wait === 1 ? 'second' : 'seconds'}, then try again. The
      right admin token is taken at any time.
    </p>
    <p><a class="btn wide" href="/login">Back to signing in</a></p>`;
  return c.html(gatePage('Wait a moment', body, themeOf(c)), 429);
}

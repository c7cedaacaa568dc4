/** Signing in with a real OpenID provider: the way there and back, each way in which it may fail, roles, and the end of sessions. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { Configured } from '#server/access/bindings.ts';
import { createApiToken } from '#server/decisions/access.ts';
import { HOUR, MINUTE, serverFor, type TestServer } from '#test/server/fleet.ts';
import { FORGED, TestProvider, Visitor, type Tamper } from './provider.ts';

type World = TestServer & { readonly provider: TestProvider; readonly url: string };

const CONFIGURED: readonly Configured[] = [{ claim: 'sre', role: 'operator', group: 'lab' }];

async function world(t: TestContext, offersSignOut = true): Promise<World> {
  const provider = await TestProvider.open(t);
  provider.offersSignOut = offersSignOut;
  provider.people.set('alice', { name: 'Alice Ames', email: 'alice@example.org', groups: ['sre', 'all'] });
  provider.people.set('bob', { name: 'Bob <b>Burns</b>', email: 'bob@example.org', groups: ['all'] });
  const server = await serverFor(t, { access: { oidc: provider.settings, configured: CONFIGURED } });
  provider.serve(`${server.server.url}/login/callback`);
  return { ...server, provider, url: server.server.url };
}

const text = async (response: Response) => (await response.text()).replaceAll(/\s+/g, ' ');
const trail = async (server: TestServer, action: string): Promise<any[]> =>
  (await server.api('/api/v1/audit')).body.items.filter((entry: any) => entry.action === action);
const isIn = async (visitor: Visitor, url: string) => (await visitor.ask(`${url}/keys`)).status === 200;

test('a person signs in, comes back to the page that was asked for, and is who the provider says', async (t) => {
  const server = await world(t);
  const alice = new Visitor();
  const gate = await alice.follow(await alice.ask(`${server.url}/hosts?sort=name`));
  assert.match(await text(gate), /Continue with 127\.0\.0\.1/);
  const page = await alice.signIn(server.url, 'alice', '/hosts?sort=name');
  assert.equal(page.status, 200);
  assert.equal(alice.at, `${server.url}/hosts?sort=name`);
  const shown = await text(page);
  assert.match(shown, /Alice Ames/);
  assert.match(shown, /operator/);
  const user = (await server.api('/api/v1/access/users/alice@example.org')).body;
  assert.deepEqual(
    [user.kind, user.subject, user.issuer, user.claims],
    ['person', 'alice', server.provider.issuer, ['sre', 'all']],
  );
  assert.deepEqual(user.roles, [{ role: 'operator', group: 'lab', by: 'configuration', claim: 'sre', binding: null }]);
  const [begun] = await trail(server, 'session.begin');
  assert.deepEqual([begun.actor, begun.after], ['alice@example.org', { by: 'oidc', address: '127.0.0.1' }]);

  // The same person again, under another name by now, is the same account.
  server.provider.people.set('alice', { name: 'Alice Baker', email: 'baker@example.org', groups: ['sre'] });
  const again = new Visitor();
  assert.match(await text(await again.signIn(server.url, 'alice')), /Alice Baker/);
  assert.deepEqual(
    (await server.api('/api/v1/access/users')).body.items.map(({ id, name }: any) => [id, name]),
    [['alice@example.org', 'Alice Baker']],
  );
});

test('whoever signs out is out at once, with the same cookie too', async (t) => {
  const server = await world(t, false);
  const alice = new Visitor();
  const page = await text(await alice.signIn(server.url, 'alice'));
  const kept = new Map(alice.cookies);
  const csrf = /name="csrf" value="([^"]+)"/.exec(page)![1]!;
  assert.equal((await alice.ask(`${server.url}/logout`, { csrf: 'x' })).status, 403, 'a form of elsewhere');
  assert.ok(await isIn(alice, server.url));
  const out = await alice.ask(`${server.url}/logout`, { csrf });
  assert.deepEqual([out.status, out.headers.get('location')], [303, '/login?out']);
  assert.match(await text(await alice.ask(`${server.url}/login?out`)), /may still know you/);
  const thief = new Visitor();
  for (const [name, value] of kept) thief.cookies.set(name, value);
  assert.equal(await isIn(thief, server.url), false);
  assert.equal((await trail(server, 'session.end')).length, 1);
});

test('signing out goes on at the provider that offers it, and comes back signed out there as well', async (t) => {
  const server = await world(t);
  const alice = new Visitor();
  const page = await alice.signIn(server.url, 'alice');
  assert.match(
    page.headers.get('content-security-policy')!,
    new RegExp(`form-action 'self' ${server.provider.issuer}`),
  );
  const csrf = /name="csrf" value="([^"]+)"/.exec(await page.text())![1]!;
  const out = await alice.ask(`${server.url}/logout`, { csrf });
  assert.equal(out.status, 303);
  const place = new URL(out.headers.get('location')!);
  assert.equal(`${place.origin}${place.pathname}`, `${server.provider.issuer}/session/end`);
  assert.equal(place.searchParams.get('client_id'), 'bootproof');
  assert.equal(place.searchParams.get('post_logout_redirect_uri'), `${server.url}/login/out`);
  assert.match(place.searchParams.get('id_token_hint')!, /^[\w-]+\.[\w-]+\.[\w-]+$/);
  assert.equal(await isIn(alice, server.url), false, 'out here before anything is asked there');
  // There the person says yes; it knows them no more, and the way in begins with who they are.
  const asked = await (await alice.ask(place.href)).text();
  const xsrf = /name="xsrf" value="([^"]+)"/.exec(asked)![1]!;
  const back = await alice.ask(`${server.provider.issuer}/session/end/confirm`, { xsrf, logout: 'yes' });
  assert.match(await text(await alice.follow(back)), /You are signed out, here and at 127\.0\.0\.1/);
  await alice.follow(await alice.ask(`${server.url}/login/oidc`));
  assert.match(alice.at, /\/who\//);
  // Whoever came with the admin token has nothing to do with it.
  const admin = new Visitor();
  await admin.ask(`${server.url}/login`, { token: server.admin, next: '/keys' });
  const keys = await (await admin.ask(`${server.url}/keys`)).text();
  const own = /name="csrf" value="([^"]+)"/.exec(keys)![1]!;
  assert.equal((await admin.ask(`${server.url}/logout`, { csrf: own })).headers.get('location'), '/login?out');
  const link = await admin.ask(`${server.url}/login/elsewhere`);
  assert.match(link.headers.get('location')!, /\/session\/end\?(?!.*id_token_hint)/);
});

test('a provider that is gone keeps nobody from signing out', async (t) => {
  const server = await world(t);
  const alice = new Visitor();
  const csrf = /name="csrf" value="([^"]+)"/.exec(await (await alice.signIn(server.url, 'alice')).text())![1]!;
  await server.provider.close();
  const out = await alice.ask(`${server.url}/logout`, { csrf });
  assert.equal(out.status, 303);
  assert.equal(await isIn(alice, server.url), false);
});

test('whoever has no role is told what to ask for, has no session, and is let in once it is bound', async (t) => {
  const server = await world(t);
  const bob = new Visitor();
  const page = await bob.signIn(server.url, 'bob');
  assert.equal(page.status, 403);
  const told = await text(page);
  assert.match(told, /You have no role here/);
  assert.match(told, /Bob &lt;b&gt;Burns&lt;\/b&gt;/);
  assert.match(told, /bootproof access bind bob@example\.org viewer/);
  assert.match(told, /<code>all<\/code>/);
  assert.equal(await isIn(bob, server.url), false);
  assert.equal((await trail(server, 'session.refuse'))[0].after.account, 'bob@example.org');

  const bound = await server.api('/api/v1/access/bindings', {
    method: 'POST',
    body: { holder: { kind: 'claim', id: 'all' }, role: 'viewer' },
  });
  assert.equal(bound.status, 201);
  assert.equal((await bob.signIn(server.url, 'bob')).status, 200);
  assert.ok(await isIn(bob, server.url));
  await server.api(`/api/v1/access/bindings/${bound.body.id}`, { method: 'DELETE' });
  assert.equal(await isIn(bob, server.url), false, 'a change of roles ends the session at once');
});

test('a disabled account is out at once, and stays out', async (t) => {
  const server = await world(t);
  const alice = new Visitor();
  await alice.signIn(server.url, 'alice');
  assert.ok(await isIn(alice, server.url));
  await server.api('/api/v1/access/users/alice@example.org', { method: 'PATCH', body: { disabled: true } });
  assert.equal(await isIn(alice, server.url), false);
  const page = await alice.signIn(server.url, 'alice');
  assert.equal(page.status, 403);
  assert.match(await text(page), /Your account is disabled/);
});

/** As far as the provider's answer, which is not taken yet. */
async function answered(server: World, as = 'alice'): Promise<{ visitor: Visitor; callback: string }> {
  const visitor = new Visitor();
  const isCallback = (next: string) => next.startsWith(`${server.url}/login/callback`);
  const last = await visitor.signIn(server.url, as, '/hosts', isCallback);
  const callback = new URL(last.headers.get('location')!, visitor.at).href;
  assert.ok(isCallback(callback), callback);
  return { visitor, callback };
}

async function refuses(server: World, visitor: Visitor, url: string, pattern: RegExp): Promise<void> {
  const page = await visitor.ask(url);
  assert.equal(page.status, 403);
  assert.match(await text(page), pattern);
  assert.equal(await isIn(visitor, server.url), false);
}

test('an answer with another state, in another browser, too late, or twice signs nobody in', async (t) => {
  const server = await world(t);
  {
    const { visitor, callback } = await answered(server);
    await refuses(server, visitor, callback.replace(/state=[^&]+/, 'state=another'), /not begun in this browser/);
    await refuses(server, visitor, callback, /not begun in this browser/);
  }
  {
    const { callback } = await answered(server);
    await refuses(server, new Visitor(), callback, /not begun in this browser/);
  }
  {
    const { visitor, callback } = await answered(server);
    server.time.now += 11 * MINUTE;
    await refuses(server, visitor, callback, /more than ten minutes ago/);
  }
  {
    const { visitor, callback } = await answered(server);
    const kept = new Map(visitor.cookies);
    assert.equal((await visitor.ask(callback)).status, 303);
    assert.ok(await isIn(visitor, server.url));
    const thief = new Visitor();
    for (const [name, value] of kept) thief.cookies.set(name, value);
    await refuses(server, thief, callback, /does not know this sign-in any more/);
  }
  {
    const { visitor, callback } = await answered(server);
    const name = [...visitor.cookies.keys()].find((one) => one.includes('signin'))!;
    const sealed = visitor.cookies.get(name)!;
    visitor.cookies.set(
      name,
      sealed.replace(/^\d/, (digit) => String((Number(digit) + 1) % 10)),
    );
    await refuses(server, visitor, callback, /not begun in this browser/);
  }
  const codes = (await trail(server, 'session.refuse')).map(({ after }) => String(after.code));
  assert.equal(codes.filter((code) => code === 'OIDC_ANSWER').length, 1);
  assert.equal(codes.filter((code) => code === 'OIDC_STATE').length, 5);
});

for (const [what, tamper] of [
  ['of another audience', () => ({ claims: { aud: 'another' } })],
  ['of two audiences without saying for which', () => ({ claims: { aud: ['bootproof', 'another'] } })],
  ['of another issuer', () => ({ claims: { iss: 'https://elsewhere.example' } })],
  ['of another sign-in', () => ({ claims: { nonce: 'another' } })],
  ['without a nonce', () => ({ claims: { nonce: undefined } })],
  [
    'that is over',
    () => ({ claims: { exp: Math.floor(Date.now() / 1000) - 600, iat: Math.floor(Date.now() / 1000) - 1200 } }),
  ],
  ['of another person than the access token', () => ({ claims: { sub: 'bob' } })],
  ['by another key', () => ({ key: FORGED })],
  ['that nobody signed', () => ({ alg: 'none' })],
] as readonly (readonly [string, Tamper])[])
  test(`an ID token ${what} signs nobody in`, async (t) => {
    const server = await world(t);
    server.provider.tamper = tamper;
    const { visitor, callback } = await answered(server);
    await refuses(server, visitor, callback, /does not hold, so nobody was signed in/);
    assert.deepEqual((await server.api('/api/v1/access/users')).body.items, []);
    server.provider.tamper = () => ({});
    assert.equal((await visitor.signIn(server.url, 'alice')).status, 200, 'the very same way, unharmed');
  });

test('what the provider denies is told, and where it is down the admin token lets in', async (t) => {
  const server = await world(t);
  server.provider.denies = true;
  const alice = new Visitor();
  const page = await alice.signIn(server.url, 'alice');
  assert.equal(page.status, 403);
  assert.match(await text(page), /access_denied/);
  server.provider.denies = false;
  const { visitor, callback } = await answered(server);
  await server.provider.close();
  const lost = await visitor.ask(callback);
  assert.equal(lost.status, 503);
  assert.match(await text(lost), /does not answer.*Sign in with the admin token/);
  const done = await visitor.ask(`${server.url}/login`, { token: server.admin, next: '/keys' });
  assert.deepEqual([done.status, done.headers.get('location')], [303, '/keys']);
  assert.ok(await isIn(visitor, server.url));
});

test('a provider that is down at the first sign-in is asked again at the next', async (t) => {
  const provider = await TestProvider.open(t);
  const oidc = {
    issuer: provider.issuer,
    clientId: 'bootproof',
    clientSecret: 'a secret',
    scopes: 'openid',
    groupsClaim: 'groups',
  };
  const configured: Configured[] = [];
  await provider.close();
  const server = await serverFor(t, { access: { oidc, configured } });
  const page = await new Visitor().ask(`${server.server.url}/login/oidc`);
  assert.equal(page.status, 503);
  assert.match(await text(page), /try again in a minute/);
  assert.ok(
    server.events.some(({ event, fields }) => event === 'sign-in' && /ECONNREFUSED/.test(JSON.stringify(fields))),
  );
});

test('an address that nobody verified, and a name of the house, are nobody’s id', async (t) => {
  const server = await world(t);
  server.provider.people.set('eve', { name: 'Eve', email: 'alice@example.org', verified: false, groups: ['sre'] });
  server.provider.people.set('admin', { name: 'Not the admin', groups: ['sre'] });
  for (const as of ['alice', 'eve', 'admin'])
    assert.equal((await new Visitor().signIn(server.url, as)).status, 200, as);
  const ids = (await server.api('/api/v1/access/users')).body.items.map(({ id, subject }: any) => [subject, id]);
  const of = new Map<string, string>(ids);
  assert.equal(of.get('alice'), 'alice@example.org');
  assert.equal(of.get('eve'), 'eve');
  assert.match(of.get('admin')!, /^person-/);
});

test('one person with a session and a token is one id, and no second person', async (t) => {
  const server = await world(t);
  await server.api('/api/v1/access/bindings', {
    method: 'POST',
    body: { holder: { kind: 'claim', id: 'sre' }, role: 'reviewer' },
  });
  const alice = new Visitor();
  await alice.signIn(server.url, 'alice');
  const { store } = server.server;
  const held = (await store.access.account('alice@example.org'))!;
  const grants = held.bindings.map(({ role, group }) => ({
    role: role as 'reviewer',
    groups: group === null ? null : [group],
  }));
  const who = { id: 'alice@example.org', name: 'Alice', roles: ['reviewer' as const], groups: null, grants };
  const access = { configured: CONFIGURED, grants: () => grants } as any;
  const deps = {
    store,
    clock: () => server.time.now,
    random: (n: number) => crypto.getRandomValues(new Uint8Array(n)),
    access,
  };
  const { token } = await createApiToken(
    { name: 'mine', owner: null, roles: ['reviewer'], groups: null, lifeMs: HOUR },
    who,
    deps,
  );
  const me = await fetch(`${server.url}/api/v1/access/me`, { headers: { authorization: `Bearer ${token}` } });
  const { id, name, roles } = (await me.json()) as any;
  assert.deepEqual([id, name, roles], ['alice@example.org', 'Alice Ames', ['reviewer']]);
});

/** Sessions of browsers: their cookie, when they end, what a form must carry, and how failures are slowed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SESSION_IDLE_MS, SESSION_MS, SESSIONS_MAX, SIGN_INS_FAILED } from '#src/limits.ts';
import { HOUR, MINUTE, serverFor, type TestServer } from '#test/server/fleet.ts';
import { Visitor } from './provider.ts';

const isIn = async (visitor: Visitor, url: string) => (await visitor.ask(`${url}/keys`)).status === 200;
async function signedIn(server: TestServer): Promise<Visitor> {
  const visitor = new Visitor();
  assert.equal((await visitor.ask(`${server.server.url}/login`, { token: server.admin })).status, 303);
  return visitor;
}
const csrfOf = async (visitor: Visitor, url: string) =>
  /name="csrf" value="([^"]+)"/.exec(await (await visitor.ask(`${url}/keys`)).text())![1]!;

test('a session ends without use, and at its end however much it is used', async (t) => {
  const server = await serverFor(t);
  const { url } = server.server;
  const idle = await signedIn(server);
  server.time.now += SESSION_IDLE_MS - 1;
  assert.ok(await isIn(idle, url));
  server.time.now += SESSION_IDLE_MS;
  assert.equal(await isIn(idle, url), false);
  const busy = await signedIn(server);
  const began = server.time.now;
  while (server.time.now + HOUR < began + SESSION_MS) {
    server.time.now += HOUR;
    assert.ok(await isIn(busy, url));
  }
  server.time.now = began + SESSION_MS;
  assert.equal(await isIn(busy, url), false);
});

test('under https the cookie is bound to this host alone', async (t) => {
  const server = await serverFor(t, { baseUrl: 'https://bootproof.example' });
  const response = await server.server.app.request('/login', {
    method: 'POST',
    headers: {
      host: 'bootproof.example',
      origin: 'https://bootproof.example',
      'content-type': 'application/x-www-form-urlencoded',
    },
    body: `token=${server.admin}`,
  });
  const [cookie = ''] = response.headers.getSetCookie();
  assert.match(cookie, /^__Host-bootproof-session=[A-Za-z0-9_-]{43};/);
  for (const part of ['HttpOnly', 'Secure', 'SameSite=Lax', 'Path=/']) assert.ok(cookie.includes(part), part);
  assert.doesNotMatch(cookie, /domain=/i);
});

test('what is kept of a session does not open it', async (t) => {
  const server = await serverFor(t);
  const visitor = await signedIn(server);
  const [session] = await server.server.store.access.sessions('admin', server.time.now, 10);
  const thief = new Visitor();
  thief.cookies.set([...visitor.cookies.keys()][0]!, session!.hash);
  assert.equal(await isIn(thief, server.server.url), false);
  const listed = (await server.api('/api/v1/access/sessions')).body.items;
  assert.deepEqual([listed[0].id, listed[0].address], [session!.hash, '127.0.0.1']);
  assert.equal((await server.api(`/api/v1/access/sessions/${session!.hash}`, { method: 'DELETE' })).status, 200);
  assert.equal(await isIn(visitor, server.server.url), false);
});

test('another admin token ends the sessions of the old one', async (t) => {
  const server = await serverFor(t);
  const visitor = await signedIn(server);
  const { store } = server.server;
  const old = (await store.settings.get('admin-token-sha256'))!;
  await store.settings.swap('admin-token-sha256', old, new TextEncoder().encode('0'.repeat(64)));
  assert.equal(await isIn(visitor, server.server.url), false);
});

test('of one account the newest sessions stay', async (t) => {
  const server = await serverFor(t);
  const first = await signedIn(server);
  for (let n = 0; n < SESSIONS_MAX; n++) {
    server.time.now += 1;
    await signedIn(server);
  }
  assert.equal(await isIn(first, server.server.url), false);
  assert.equal((await server.api('/api/v1/access/sessions')).body.items.length, SESSIONS_MAX);
});

test('a form counts only from this server’s pages, with the token of its session', async (t) => {
  const server = await serverFor(t);
  const { url } = server.server;
  const [one, other] = [await signedIn(server), await signedIn(server)];
  const csrf = await csrfOf(one, url);
  const theme = (visitor: Visitor, form: Record<string, string>, headers: Record<string, string> = {}) =>
    visitor.ask(`${url}/theme`, { theme: 'dark', ...form }, headers);
  assert.equal((await theme(one, { csrf })).status, 303);
  assert.equal((await theme(one, {}, { 'x-csrf-token': csrf })).status, 303);
  for (const [what, answer] of [
    ['none', await theme(one, {})],
    ['another session’s', await theme(other, { csrf })],
    ['a changed one', await theme(one, { csrf: `${csrf.slice(0, -1)}_` })],
    ['another site’s', await theme(one, { csrf }, { origin: 'https://elsewhere.example' })],
    ['of a sandbox', await theme(one, { csrf }, { origin: 'null' })],
    ['of a sister site, whatever the origin says', await theme(one, { csrf }, { 'sec-fetch-site': 'same-site' })],
  ] as const)
    assert.equal(answer.status, 403, what);
});

test('every form that posts carries the token', async (t) => {
  const server = await serverFor(t);
  const { url } = server.server;
  const visitor = await signedIn(server);
  let forms = 0;
  for (const path of ['/', '/hosts', '/findings', '/images', '/trust', '/keys', '/no/such/page']) {
    const html = await (await visitor.ask(`${url}${path}`)).text();
    for (const [form] of html.matchAll(/<form\b[^>]*method="post"[^>]*>.*?<\/form>/gs)) {
      forms++;
      assert.match(form, /name="csrf" value="[A-Za-z0-9_-]{43}"/, path);
    }
    assert.equal([...html.matchAll(/<form\b[^>]*method="get"[^>]*>[^<]*<input type="hidden" name="csrf"/g)].length, 0);
  }
  assert.ok(forms > 7, String(forms));
});

test('failed sign-ins of an address are slowed and fill no trail; the right token lets in all the while', async (t) => {
  const server = await serverFor(t);
  const { url } = server.server;
  const attempt = (token: string) => new Visitor().ask(`${url}/login`, { token });
  const { burst } = SIGN_INS_FAILED.each;
  for (let n = 0; n < burst; n++) assert.equal((await attempt(`wrong ${n}`)).status, 401);
  for (let n = 0; n < 5; n++) {
    const slowed = await attempt('wrong');
    assert.equal(slowed.status, 429);
    assert.ok(Number(slowed.headers.get('retry-after')) > 0);
    assert.match(await slowed.text(), /Wait \d+ seconds/);
  }
  assert.equal((await attempt(server.admin)).status, 303, 'nobody is locked out');
  const refused = (await server.api('/api/v1/audit')).body.items.filter(
    ({ action }: any) => action === 'session.refuse',
  );
  assert.equal(refused.length, burst);
  assert.deepEqual([refused[0].actor, refused[0].after], ['anonymous', { by: 'admin-token', address: '127.0.0.1' }]);
  assert.ok(!JSON.stringify(refused).includes('wrong 0'), 'what was typed is not kept');
  server.time.now += MINUTE;
  assert.equal((await attempt('wrong')).status, 401);
});

test('wrong bearers of an address are slowed; a right one is not', async (t) => {
  const server = await serverFor(t);
  const ask = (token: string) =>
    fetch(`${server.server.url}/api/v1/access/me`, { headers: { authorization: `Bearer ${token}` } });
  const seen: number[] = [];
  for (let n = 0; n < 310; n++) seen.push((await ask(`bp_${'x'.repeat(46)}`)).status);
  assert.deepEqual([...new Set(seen)], [401, 429]);
  assert.equal(seen.filter((status) => status === 401).length, 300);
  const slowed = await ask('bp_no');
  assert.deepEqual([slowed.status, ((await slowed.json()) as any).code], [429, 'TOO_MANY_FAILURES']);
  assert.ok(Number(slowed.headers.get('retry-after')) > 0);
  assert.equal((await ask(server.admin)).status, 200);
});

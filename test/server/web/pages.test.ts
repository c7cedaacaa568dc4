/** The pages: who may see them, what they say, and that nothing which a host sends can act on them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromUtf8 } from '#src/bytes.ts';
import { BASE, enrol, file, HOUR, image, serverFor, type TestServer } from '#test/server/fleet.ts';
import { assertTame, read, type Seen } from './page.ts';

const OS = image('41');

async function signIn(server: TestServer, token = server.admin): Promise<Response> {
  return server.server.app.request('http://server/login', {
    method: 'POST',
    headers: { host: 'server', origin: 'http://server', 'content-type': 'application/x-www-form-urlencoded' },
    body: new URLSearchParams({ token, next: '/images?x=1' }),
  });
}

async function browser(server: TestServer): Promise<(path: string, init?: RequestInit) => Promise<Response>> {
  const cookie = (await signIn(server)).headers.get('set-cookie')!.split(';')[0]!;
  const visit = async (path: string, init: RequestInit = {}) => {
    const headers = new Headers(init.headers);
    headers.set('cookie', cookie);
    headers.set('host', 'server');
    return server.server.app.request(`http://server${path}`, { ...init, headers });
  };
  // What a form of the page would carry.
  const csrf = /name="csrf" value="([^"]+)"/.exec(await (await visit('/keys')).text())?.[1];
  return async (path, init = {}) => {
    if (typeof init.body !== 'string') return visit(path, init);
    return visit(path, { ...init, body: `${init.body}&csrf=${csrf}` });
  };
}

async function seen(response: Response): Promise<Seen> {
  const page = read(await response.text());
  assertTame(page);
  return page;
}

test('whoever is not signed in is asked to, and comes back to the page that was asked for', async (t) => {
  const server = await serverFor(t);
  for (const path of ['/', '/findings?x=1', '/images', '/hosts/h_x', '/no/such/page']) {
    const answer = await server.server.app.request(path);
    assert.equal(answer.status, 303);
    assert.equal(answer.headers.get('location'), `/login?next=${encodeURIComponent(path)}`);
  }
  const login = await seen(await server.server.app.request('/login?next=/images'));
  assert.match(login.text, /admin token/);
  const done = await signIn(server);
  assert.deepEqual([done.status, done.headers.get('location')], [303, '/images?x=1']);
  const cookie = done.headers.get('set-cookie')!;
  for (const part of ['HttpOnly', 'SameSite=Lax', 'Path=/']) assert.ok(cookie.includes(part), part);
  assert.ok(!cookie.includes(server.admin.slice(9)), 'the cookie is not the token');
});

test('a wrong token, an old session and a changed one let nobody in', async (t) => {
  const server = await serverFor(t);
  const wrong = await signIn(server, `${server.admin.slice(0, -1)}_`);
  assert.equal(wrong.status, 401);
  assert.match((await seen(wrong)).text, /not the admin token/);
  const visit = await browser(server);
  assert.equal((await visit('/')).status, 200);
  server.time.now += 13 * HOUR;
  assert.equal((await visit('/')).status, 303);
});

for (const next of [
  'https://elsewhere.example/',
  '//elsewhere.example',
  '/\\elsewhere',
  'javascript:alert(1)',
  '/login',
])
  test(`signing in does not lead to ${next}`, async (t) => {
    const server = await serverFor(t);
    const answer = await server.server.app.request('http://server/login', {
      method: 'POST',
      headers: { host: 'server', origin: 'http://server', 'content-type': 'application/x-www-form-urlencoded' },
      body: new URLSearchParams({ token: server.admin, next }),
    });
    assert.equal(answer.headers.get('location'), '/');
  });

test('a form of another site is refused', async (t) => {
  const server = await serverFor(t);
  const visit = await browser(server);
  const post = (headers: Record<string, string>) =>
    visit('/sources', {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
      body: 'reference=docker://registry.example/x',
    });
  for (const headers of [
    { origin: 'http://elsewhere.example' },
    { origin: 'null' },
    {},
    { 'sec-fetch-site': 'cross-site' },
  ] as Record<string, string>[])
    assert.equal((await post(headers)).status, 403, JSON.stringify(headers));
  assert.deepEqual((await server.api('/api/v1/sources')).body.items, []);
  assert.equal((await post({ origin: 'http://server' })).status, 303);
  assert.deepEqual(
    (await server.api('/api/v1/sources')).body.items.map(({ pattern }: { pattern: string }) => pattern),
    ['docker://registry.example/x'],
  );
  const broken = await visit('/sources', {
    method: 'POST',
    headers: { origin: 'http://server', 'content-type': 'application/x-www-form-urlencoded' },
    body: 'reference=fedora',
  });
  assert.equal(broken.status, 422);
  assert.match((await seen(broken)).text, /did not work/);
});

test('pages allow one script, no frame and nothing from elsewhere', async (t) => {
  const server = await serverFor(t);
  const visit = await browser(server);
  for (const path of ['/', '/login', '/static/bootproof.css', '/static/bootproof.js']) {
    const { headers } = await visit(path);
    assert.equal(
      headers.get('content-security-policy'),
      "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    );
    assert.equal(headers.get('x-content-type-options'), 'nosniff');
    assert.equal(headers.get('x-frame-options'), 'DENY');
  }
  assert.equal((await visit('/')).headers.get('cache-control'), 'no-store');
  const style = await visit('/static/bootproof.css');
  assert.match(style.headers.get('content-type')!, /^text\/css/);
  assert.equal(
    (await visit('/static/bootproof.css', { headers: { 'if-none-match': style.headers.get('etag')! } })).status,
    304,
  );
});

test('an empty fleet shows how a host is enrolled', async (t) => {
  const server = await serverFor(t);
  const page = await seen(await (await browser(server))('/'));
  assert.match(page.text, /No host has enrolled yet/);
  assert.match(page.text, /BOOTPROOF_ENROLL_TOKEN=bp1\.… \/usr\/lib\/bootproof\/bootproof agent enroll --server http/);
});

test('the list says who needs a look, with three answers each and a link that leads there', async (t) => {
  const server = await serverFor(t, { images: [OS] });
  const good = await enrol(server, OS, { name: 'good' });
  const bad = await enrol(server, OS, { name: 'bad' });
  await enrol(server, OS, { name: 'fresh' });
  for (const host of [good, bad]) await host.sendFull();
  await server.settle();
  for (const host of [good, bad]) host.compareWith(OS);
  bad.entries = [...BASE.filter(({ path }) => path !== '/usr/bin/login'), file('/usr/bin/login', 'changed', 0o700)];
  for (const host of [good, bad]) await host.sendFull();
  const visit = await browser(server);
  const front = await seen(await visit('/'));
  assert.match(front.text, /1 of 3 hosts differs from its image/);
  const page = await seen(await visit('/hosts'));
  assert.match(page.text, /3 hosts 1 needs a look/);
  assert.ok(page.text.indexOf(' bad ') < page.text.indexOf(' good '), 'worst first');
  for (const word of ['drifted', 'new', 'compliant']) assert.ok(page.text.includes(word), word);
  // Every link of a page leads to a page.
  for (const path of new Set(page.links)) if (path.startsWith('/')) assert.equal((await visit(path)).status, 200, path);
  const only = await seen(await visit('/hosts?verdict=drifted'));
  assert.ok(only.text.includes(' bad ') && !only.text.includes(' good '));

  const host = await seen(await visit(`/hosts/${bad.id}`));
  assert.match(host.text, /bad has drifted since 24 Nov, 12:00/);
  for (const answer of ['Is it the image?', 'Is the image ours?', 'Did we hear?', 'Drifted', 'Not assessed', 'Current'])
    assert.ok(host.text.includes(answer), answer);
  for (const [tab, ...told] of [
    ['', '/usr/bin/', 'login', 'between reports 1 and 2'],
    ['/tree', '0755', '0700', 'The image', 'This host'],
    ['/deployments', 'Booted', OS.digest.slice(7, 19), 'not assessed'],
    ['/reports', 'Kept reports', 'full', 'live'],
    ['/history', 'Drifted', 'before: compliant'],
    ['/identity', 'Ed25519', 'enrolled'],
  ] as const) {
    const { text, links } = await seen(await visit(`/hosts/${bad.id}${tab}`));
    for (const each of told) assert.ok(text.includes(each), `${tab}: ${each}`);
    for (const path of new Set(links)) if (path.startsWith('/')) assert.equal((await visit(path)).status, 200, path);
  }

  const findings = await seen(await visit('/findings'));
  assert.match(findings.text, /1 change explains 1 open finding/);
  const images = await seen(await visit('/images'));
  assert.match(images.text, /ready/);
  for (const path of [...findings.links, ...images.links])
    if (path.startsWith('/')) assert.equal((await visit(path)).status, 200, path);
  assert.equal((await visit('/hosts/h_none')).status, 404);
});

test('an image that may not be fetched says why, and is allowed by one click', async (t) => {
  const server = await serverFor(t, {
    build: async () => ({ kind: 'failed', reasons: [{ code: 'SOURCE_NOT_FOUND', text: 'not there' }] }),
  });
  const host = await enrol(server, OS);
  await host.sendFull();
  await server.settle();
  const visit = await browser(server);
  const page = await seen(await visit(`/images/${OS.digest}`));
  assert.match(page.text, /IMAGE_SOURCE_NOT_ALLOWED/);
  const field = page.tags.find(({ name, attributes }) => name === 'input' && attributes.get('name') === 'reference')!;
  assert.equal(field.attributes.get('value'), 'docker://registry.example/team/os');
  await visit('/sources', {
    method: 'POST',
    headers: { origin: 'http://server', 'content-type': 'application/x-www-form-urlencoded' },
    body: `reference=${encodeURIComponent(field.attributes.get('value')!)}`,
  });
  assert.equal((await server.api('/api/v1/sources')).body.items.length, 1);
});

const HOSTILE = '<img src=x onerror=alert(1)>"\'&amp;\u001b[31m\u202eexe.\u200b';

test('what a host calls itself, its files and its images cannot act on any page', async (t) => {
  const server = await serverFor(t, { images: [OS] });
  const host = await enrol(server, OS, { name: HOSTILE });
  await host.sendFull();
  await server.settle();
  host.compareWith(OS);
  host.reference = HOSTILE;
  host.entries = [
    ...BASE,
    file(fromUtf8(`/usr/bin/${HOSTILE.replaceAll('/', '')}`), 'x', 0o755),
    file('/usr/bin/\xff\xfe<b>', 'x', 0o755),
    { path: '/usr/bin/link', type: 'symlink', mode: 0, uid: 0, gid: 0, link: fromUtf8(HOSTILE) },
  ];
  host.state = {
    contradictions: [HOSTILE],
    kernel: HOSTILE,
    overlays: [{ path: `/opt/${HOSTILE}`, kind: 'bind', detail: HOSTILE, writable: true, masks: false, beneath: null }],
  };
  assert.equal((await host.sendFull()).status, 200);
  host.booted = HOSTILE;
  assert.equal(
    (await host.post(await host.seal({ ...host.fullReport(), seq: 1 }).then(({ text }) => text))).status,
    409,
  );
  await host.sendFull({ manifest: null, drift: [], secrets: [] });
  await server.settle();
  const visit = await browser(server);
  const todo = ['/', '/findings', '/images', `/hosts/${host.id}`];
  const visited = new Set<string>();
  while (todo.length > 0) {
    const path = todo.pop()!;
    if (!path.startsWith('/')) continue;
    // Each page once for each set of parameters: filters over filters would be walked without end.
    const { pathname, searchParams } = new URL(path, 'http://server');
    const kind = `${pathname}?${[...searchParams.keys()].sort().join('&')}`;
    // The verifier is one file with a script of its own: test/server/verifier.
    if (visited.has(kind) || searchParams.size > 2 || pathname === '/verify') continue;
    visited.add(kind);
    const response = await visit(path);
    assert.equal(response.status, 200, path);
    if (response.headers.get('content-type')?.startsWith('text/html') !== true) continue;
    todo.push(...(await seen(response)).links);
  }
  assert.ok(visited.size > 8, [...visited].join(' '));
  const api = await server.api(`/api/v1/hosts/${host.id}`);
  assert.match(api.headers.get('content-type')!, /^application\/json/);
});

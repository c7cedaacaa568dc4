/** An auditor reads everything and changes nothing: every route of both faces that takes more than GET, with what is really there. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test, type TestContext } from 'node:test';
import type { Role } from '#server/access/principal.ts';
import { newApiToken } from '#server/access/apitoken.ts';
import { BASE, enrol, file, HOUR, image, serverFor, type TestServer } from '#test/server/fleet.ts';
import { Visitor } from './provider.ts';

const OS = image('41');
const ADMIN = { actor: 'admin', at: 0 };

type There = { readonly host: string; readonly group: string; readonly waiver: string; readonly view: string };

async function world(t: TestContext): Promise<TestServer & { readonly there: There }> {
  const server = await serverFor(t, { images: [OS] });
  const host = await enrol(server, OS, { name: 'web-1' });
  await host.sendFull();
  await server.settle();
  host.compareWith(OS);
  host.entries = [...BASE, file('/usr/bin/odd', 'x', 0o755)];
  await host.sendFull();
  const group = (await server.api('/api/v1/groups?subject=/usr/bin/odd')).body.items[0].id;
  const waiver = await server.api('/api/v1/waivers', {
    method: 'POST',
    body: {
      kind: 'accepted_risk',
      title: 'odd',
      justification: 'known since yesterday',
      selector: { subject: { exact: '/usr/bin/odd' } },
      expiresAt: '2026-12-01',
    },
  });
  assert.equal(waiver.status, 201, JSON.stringify(waiver.body));
  const view = await server.api('/api/v1/views', { method: 'POST', body: { name: 'all', q: '', shared: true } });
  return { ...server, there: { host: host.id, group, waiver: waiver.body.id, view: view.body.id } };
}

/** A person who signed in and holds one role everywhere: their browser, and a token of theirs. */
async function personAs(server: TestServer, role: Role): Promise<{ visitor: Visitor; csrf: string; token: string }> {
  const { store } = server.server;
  const now = server.time.now;
  const told = {
    issuer: 'https://login.example',
    subject: role,
    name: role,
    email: null,
    claims: [],
    ids: [`${role}-1`],
  };
  const { account } = (await store.access.person(told, now))!;
  await store.access.bind(
    { id: `rb_${role}`, holder: { kind: 'account', id: account.id }, role, group: null },
    { ...ADMIN, at: now },
  );
  const { token, hash } = newApiToken(randomBytes);
  const grants = [{ role, groups: null }];
  await store.access.createToken(
    { id: `tok_${role}`, hash, name: role, owner: account.id, grants, expiresAt: now + HOUR },
    { ...ADMIN, at: now },
  );
  const visitor = new Visitor();
  const secret = randomBytes(32).toString('base64url');
  const session = {
    accountId: account.id,
    mark: null,
    createdAt: now,
    seenAt: now,
    idleUntil: now + HOUR,
    endsAt: now + HOUR,
    address: '',
  };
  const { hashToken } = await import('#server/access/token.ts');
  await store.access.beginSession(
    { ...session, hash: hashToken(secret) },
    { actor: account.id, at: now },
    { after: null },
    20,
  );
  visitor.cookies.set('bootproof_session', secret);
  const page = await (await visitor.ask(`${server.server.url}/keys`)).text();
  return { visitor, csrf: /name="csrf" value="([^"]+)"/.exec(page)![1]!, token };
}

/** The address with what is really there in its places. */
function filled(path: string, { host, group, waiver, view }: There): string {
  const first =
    path.startsWith('/waivers') || path.includes('/waivers/')
      ? waiver
      : path.includes('view')
        ? view
        : path.includes('/hosts')
          ? host
          : group;
  return path
    .replaceAll(/:verb(?:\{[^/]*\})?/g, 'approve')
    .replaceAll(/:group(?:\{[^/]*\})?/g, group)
    .replaceAll(/:[a-zA-Z]+(?:\{(?:[^{}]|\{[^}]*\})*\})?/g, first);
}

/** Whatever a form or body of ours may ask for, all at once. */
const FIELDS = {
  note: 'a note of several words',
  text: 'a text of several words',
  reason: 'a reason of several words',
  until: '2026-12-01',
  expires: '2026-12-01',
  assignee: 'somebody',
  name: 'other',
  group: 'lab',
  labels: 'a=b',
  q: '',
  all: 'true',
  action: 'acknowledge',
  reference: 'docker://registry.example/other',
  single: 'on',
  singlePerson: 'on',
  role: 'admin',
  holder: 'auditor-1',
  service: 'mine',
  life: '30d',
  policy: 'version: 1',
};

const trailOf = async (server: TestServer) =>
  (await server.server.store.audit.list({}, { cursor: null, limit: 200 })).items.map(({ id }) => id);

test('no page action and no route of the API changes anything for an auditor', async (t) => {
  const server = await world(t);
  const { visitor, csrf, token } = await personAs(server, 'auditor');
  const routes = new Set(
    server.server.app.routes
      .filter(({ method, path }) => ['POST', 'PUT', 'PATCH', 'DELETE'].includes(method) && !path.includes('*'))
      .map(({ method, path }) => `${method} ${path}`),
  );
  const before = await trailOf(server);
  let tried = 0;
  for (const route of routes) {
    const [method = '', path = ''] = route.split(' ');
    // Agents' own ways in, and signing in and out.
    if (/^\/(?:login|logout|theme)\b/.test(path) || /^\/api\/v1\/(?:reports$|enrol)/.test(path)) continue;
    tried++;
    const url = `${server.server.url}${filled(path, server.there)}`;
    if (path.startsWith('/api/')) {
      const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json', 'if-match': '"1"' };
      const { status } = await fetch(url, { method, headers, body: '{}' });
      assert.equal(status, 403, route);
    } else {
      const { status } = await visitor.ask(url, { ...FIELDS, csrf });
      assert.ok(status >= 200 && status < 500, `${route}: ${status}`);
    }
    assert.deepEqual(await trailOf(server), before, `${route} changed something`);
  }
  assert.ok(tried > 40, `${tried} routes`);
});

test('a viewer reads no waivers, on no face; an auditor does', async (t) => {
  const server = await world(t);
  for (const [role, may] of [
    ['viewer', false],
    ['auditor', true],
  ] as const) {
    const { visitor, token } = await personAs(server, role);
    const headers = { authorization: `Bearer ${token}` };
    for (const path of ['', `/${server.there.waiver}`, '/counts', '/hygiene', `/${server.there.waiver}/history`])
      assert.equal(
        (await fetch(`${server.server.url}/api/v1/waivers${path}`, { headers })).status,
        may ? 200 : 403,
        path,
      );
    for (const path of ['/waivers', `/waivers/${server.there.waiver}`])
      assert.equal((await visitor.ask(`${server.server.url}${path}`)).status, may ? 200 : 403, path);
  }
});

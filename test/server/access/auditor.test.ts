/** An auditor reads everything and changes nothing: every route of both faces that takes more than GET, with what is really there. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { BASE, enrol, file, image, serverFor, type TestServer } from '#test/server/fleet.ts';
import { personAs } from './signedin.ts';

const OS = image('41');

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
  role: 'auditor',
  tokenname: 'mine',
  days: '30',
  holder: 'auditor-1',
  service: 'mine',
  life: '30d',
  policy: 'version: 1',
};

const trailOf = async (server: TestServer) =>
  (await server.server.store.audit.list({}, { cursor: null, limit: 200 })).items.map(({ id }) => id);

test('no page action and no route of the API changes anything for an auditor', async (t) => {
  const server = await world(t);
  const { visitor, csrf, token } = await personAs(server, 'auditor', [{ role: 'auditor', groups: null }]);
  const routes = new Set(
    server.server.app.routes
      .filter(({ method, path }) => ['POST', 'PUT', 'PATCH', 'DELETE'].includes(method) && !path.includes('*'))
      .map(({ method, path }) => `${method} ${path}`),
  );
  const before = await trailOf(server);
  let tried = 0;
  for (const route of routes) {
    const [method = '', path = ''] = route.split(' ');
    // Agents' own ways in, signing in and out, and what an auditor takes away, which changes nothing of the fleet.
    if (/^\/(?:login|logout|theme)\b/.test(path) || /^\/api\/v1\/(?:reports$|enrol)/.test(path)) continue;
    if (/^\/(?:api\/v1\/)?evidence\//.test(path)) continue;
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
    const { visitor, token } = await personAs(server, role, [{ role, groups: null }]);
    const headers = { authorization: `Bearer ${token}` };
    for (const path of ['', `/${server.there.waiver}`, '/counts', '/hygiene', `/${server.there.waiver}/history`])
      assert.equal(
        (await fetch(`${server.server.url}/api/v1/waivers${path}`, { headers })).status,
        may ? 200 : 403,
        path,
      );
    const home = await (await visitor.ask(`${server.server.url}/settings`)).text();
    assert.deepEqual(
      [home.includes('href="/waivers"'), home.includes('href="/settings/enrol"')],
      [may, may],
      'no link leads to a refusal',
    );
    for (const path of ['/waivers', `/waivers/${server.there.waiver}`])
      assert.equal((await visitor.ask(`${server.server.url}${path}`)).status, may ? 200 : 403, path);
  }
});

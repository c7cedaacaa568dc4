/** Whoever sees some host groups sees everything as if the fleet were those groups (docs/access.md 2.1): no host of another one shows. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BASE, enrol, file, image, serverFor, type TestImage, type TestServer } from '#test/server/fleet.ts';
import { personAs } from './signedin.ts';

const OLD = image('41');
const NEW = image('42', [...BASE.filter(({ path }) => path !== '/etc/motd'), file('/etc/motd', 'welcome to 42')]);
const THEIRS = image('43', [...BASE, file('/usr/bin/theirs', 'x', 0o755)]);

async function hostIn(server: TestServer, name: string, group: string, booted: TestImage, ...own: string[]) {
  const host = await enrol(server, booted, { name });
  await host.sendFull();
  await server.api(`/api/v1/hosts/${host.id}`, { method: 'PATCH', body: { group } });
  await server.settle();
  host.compareWith(booted);
  host.entries = [
    ...BASE.filter(({ path }) => !own.includes(path)),
    ...own.map((path) => file(path, 'our own', path.startsWith('/usr/bin') ? 0o755 : 0o644)),
  ].sort((a, b) => (a.path < b.path ? -1 : 1));
  await host.sendFull();
  await server.settle();
  return host;
}

/** Somebody of one group, on both faces. */
async function operatorOf(server: TestServer, name: string, ...groups: string[]) {
  const { visitor, token } = await personAs(server, name, [{ role: 'operator', groups }]);
  const { url } = server.server;
  return {
    api: async (path: string, init: RequestInit = {}) => {
      const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
      const answer = await fetch(`${url}${path}`, { ...init, headers });
      return { status: answer.status, body: (await answer.json()) as any };
    },
    page: async (path: string) => {
      const answer = await visitor.ask(`${url}${path}`);
      return { status: answer.status, html: await answer.text() };
    },
  };
}

test('images are those that hosts of theirs have, and what an update meets is told of those hosts alone', async (t) => {
  const server = await serverFor(t, { images: [OLD, NEW, THEIRS] });
  const own = await hostIn(server, 'lab-1', 'lab', OLD);
  await hostIn(server, 'web-1', 'prod/web', OLD, '/etc/motd');
  await hostIn(server, 'web-2', 'prod/web', THEIRS);
  const { booted } = own.deployment();
  own.state = { staged: { ...booted!, image: { ...booted!.image!, digest: NEW.digest } } };
  await own.sendFull();
  await server.settle();
  const lab = await operatorOf(server, 'lab', 'lab');

  const change = `/images/${OLD.digest}/diff?to=${NEW.digest}`;
  const shown = await lab.page(change);
  assert.match(shown.html, /On none of the 1 host of the older image/);
  assert.doesNotMatch(shown.html, /web-\d|prod/);
  const asked = await lab.api(`/api/v1/images/${OLD.digest}/preview?to=${NEW.digest}`);
  assert.deepEqual([asked.status, asked.body.hosts], [200, { looked: 1, shadowed: 0, unjudged: 0 }]);
  assert.deepEqual(asked.body.paths[0].examples, []);
  const all = await server.api(`/api/v1/images/${OLD.digest}/preview?to=${NEW.digest}`);
  assert.deepEqual(all.body.hosts, { looked: 2, shadowed: 1, unjudged: 0 });

  const hidden = THEIRS.digest;
  for (const path of [
    `/images/${hidden}`,
    `/images/${hidden}/hosts`,
    `/images/${OLD.digest}/diff?to=${hidden}`,
    `/images/${hidden}/diff?to=${OLD.digest}`,
  ])
    assert.equal((await lab.page(path)).status, 404, path);
  for (const path of ['', '/hosts', '/trust', '/origin?path=/usr/bin/theirs', `/preview?to=${OLD.digest}`]) {
    const { status, body } = await lab.api(`/api/v1/images/${hidden}${path}`);
    assert.deepEqual([status, body.code], [404, 'IMAGE_UNKNOWN'], path);
    assert.notEqual((await server.api(`/api/v1/images/${hidden}${path}`)).status, 404, path);
  }
  assert.match((await lab.page(`/search?q=${hidden}`)).html, /Nothing is called/);
  assert.match((await lab.page(`/search?q=${OLD.digest}`)).html, /What is called/);
  // With their host they move.
  const moved = await server.api(`/api/v1/hosts/${own.id}`, { method: 'PATCH', body: { group: 'prod/web' } });
  assert.equal(moved.status, 200);
  assert.equal((await lab.page(`/images/${OLD.digest}`)).status, 404);
  // What is of no host group is for those who see the whole fleet.
  await server.api(`/api/v1/hosts/${own.id}`, { method: 'PATCH', body: { group: 'lab' } });
  assert.doesNotMatch((await lab.page('/')).html, /nobody enrolled|Work that waits/);
  const wide = await personAs(server, 'wide', [{ role: 'viewer', groups: null }]);
  assert.match(await (await wide.visitor.ask(`${server.server.url}/`)).text(), /nobody enrolled[\s\S]*Work that waits/);
});

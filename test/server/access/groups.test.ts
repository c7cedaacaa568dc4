/** Whoever sees some host groups sees everything as if the fleet were those groups (docs/access.md 2.1): no host of another one shows. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { VIEWS_MAX } from '#src/limits.ts';
import {
  BASE,
  enrol,
  file,
  HOUR,
  image,
  MINUTE,
  serverFor,
  type TestImage,
  type TestServer,
} from '#test/server/fleet.ts';
import type { Role } from '#server/access/principal.ts';
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
    visitor,
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
  const web = await operatorOf(server, 'web', 'prod/web');

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
  // What pages show of a digest finds it, on each face; of another group's image it finds nothing.
  const short = (digest: string) => digest.slice('sha256:'.length, 'sha256:'.length + 12);
  assert.match(
    (await lab.page(`/search?q=${short(OLD.digest)}`)).html,
    new RegExp(`/images/${encodeURIComponent(OLD.digest)}`),
  );
  assert.match((await lab.page(`/search?q=${short(hidden)}`)).html, /Nothing is called/);
  assert.equal((await lab.api(`/api/v1/images/${short(OLD.digest)}`)).status, 200);
  assert.equal((await lab.api(`/api/v1/images/${short(hidden)}`)).status, 404);
  const counted = async (q: string) => (await server.api(`/api/v1/findings?q=image:${q}`)).body.total.count;
  assert.ok((await counted(OLD.digest)) > 0);
  assert.deepEqual(await counted(short(OLD.digest)), await counted(OLD.digest));
  const [motd] = (await server.api('/api/v1/groups?subject=/etc/motd')).body.items;
  const content = /sha256=([0-9a-f]{12})/.exec(motd.signature)![1]!;
  assert.match((await web.page(`/search?q=${content}`)).html, new RegExp(`/findings/${motd.id}`));
  assert.match((await lab.page(`/search?q=${content}`)).html, /Nothing is called/);
  const search = `${server.server.url}/search?q=`;
  const led = async (who: typeof lab, q: string) => (await who.visitor.ask(search + q)).headers.get('location');
  const start = motd.id.slice(0, 11);
  assert.deepEqual([await led(web, start), await led(lab, start)], [`/findings/${motd.id}`, null]);
  const made = await server.api('/api/v1/waivers', {
    method: 'POST',
    body: {
      kind: 'mitigated',
      title: 'motd',
      justification: 'known',
      selector: { subject: { exact: '/etc/motd' }, hosts: { groups: ['prod'] } },
      expiresAt: '2026-12-01',
    },
  });
  assert.equal(made.status, 201);
  assert.deepEqual([await led(web, 'w-1'), await led(lab, 'W-1')], ['/waivers/W-1', null]);
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

test('tabs, flags and ages are of their hosts alone, for people of a group as for a filter by it', async (t) => {
  const server = await serverFor(t, { images: [OLD] });
  const path = '/usr/bin/odd';
  const sees = async (host: Awaited<ReturnType<typeof hostIn>>, ...paths: string[]) => {
    host.entries = [...BASE, ...paths.map((each) => file(each, 'our own', 0o755))].sort((a, b) =>
      a.path < b.path ? -1 : 1,
    );
    await host.sendFull();
    await server.settle();
  };
  const theirs = await hostIn(server, 'lab-1', 'lab', OLD, path);
  server.time.now += 40 * HOUR;
  const own = await hostIn(server, 'web-1', 'prod/web', OLD, path);
  const began = server.time.now;
  const web = await operatorOf(server, 'web', 'prod');
  const all = { api: (asked: string) => server.api(asked) };
  /** As somebody of the group asks, and as an admin who filters by it. */
  const groups = async (q: string): Promise<any[]> => {
    const line = (...more: string[]) => encodeURIComponent([q, ...more].join(' ').trim());
    const mine = (await web.api(`/api/v1/groups?status=all&q=${line()}`)).body;
    const same = (await all.api(`/api/v1/groups?status=all&q=${line('group:prod')}`)).body;
    assert.deepEqual(mine.items, same.items, q);
    assert.deepEqual([mine.total.count, same.total.count], [mine.items.length, mine.items.length], q);
    return mine.items;
  };
  const TABS = ['open', 'acknowledged', 'waived', 'resolved'];
  const tabs = async (q = ''): Promise<string[]> => {
    const found = await Promise.all(
      TABS.map(async (tab) => ((await groups(`status:${tab} ${q}`)).length > 0 ? [tab] : [])),
    );
    return found.flat();
  };

  // Its age is that of their host.
  const [group] = await groups('status:open');
  assert.deepEqual([group.firstSeen, group.hosts.ever], [new Date(began).toISOString(), 1]);
  assert.deepEqual([await tabs('age:<1d'), await tabs('age:>1d')], [['open'], []]);
  assert.match((await web.page('/')).html, /1 new</);

  // Acknowledged where they are, though open elsewhere.
  const done = await web.api(`/api/v1/groups/${group.id}/acknowledge`, { method: 'POST', body: '{}' });
  assert.equal(done.body.changed, 1, JSON.stringify(done.body));
  assert.deepEqual(await tabs(), ['acknowledged']);
  const [acknowledged] = await groups('status:acknowledged');
  assert.deepEqual([acknowledged.status, acknowledged.hosts.open], ['acknowledged', 0]);
  assert.equal((await all.api('/api/v1/groups?q=path:/usr/bin/odd')).body.items.length, 1);

  // Another host reverts and drifts again: nothing that they can see.
  await sees(theirs);
  server.time.now += 5 * MINUTE;
  await sees(theirs, path);
  assert.equal((await all.api('/api/v1/groups?q=is:regressed%20path:/usr/bin/odd')).body.items.length, 1);
  for (const q of ['is:regressed', 'reopened:<1d', 'resolved:<1d']) assert.deepEqual(await groups(q), [], q);
  assert.equal(acknowledged.regressed, false);

  // Over on theirs, though not on the other.
  server.time.now += 5 * MINUTE;
  await sees(own);
  assert.deepEqual(await tabs(), ['resolved']);
  assert.deepEqual(await tabs('resolved:<1d'), ['resolved']);
  const [over] = await groups('resolved:<1d');
  assert.deepEqual([over.status, over.open, over.hosts.ever], ['resolved', false, 1]);
  assert.equal((await web.page(`/findings/${group.id}`)).status, 200);
  assert.match((await web.page('/')).html, /1 resolved</);

  // Back on theirs, and again: then it flaps.
  server.time.now += 5 * MINUTE;
  await sees(own, path);
  assert.deepEqual(
    [await tabs('is:regressed'), await tabs('reopened:<1d'), await tabs('is:flapping')],
    [['open'], ['open'], []],
  );
  assert.deepEqual(await tabs('resolved:<1d'), ['open'], 'it ended since, and came back');
  await sees(own);
  assert.deepEqual([await tabs('is:flapping'), await tabs('reopened:<1d')], [['resolved'], ['resolved']]);
  assert.deepEqual(await tabs('-is:flapping'), []);
});

test('the story of a group is what was decided where they see hosts', async (t) => {
  const server = await serverFor(t, { images: [OLD] });
  const path = '/usr/bin/odd';
  await hostIn(server, 'lab-1', 'lab', OLD, path);
  await hostIn(server, 'web-1', 'prod/web', OLD, path);
  const people = { lab: await operatorOf(server, 'lab', 'lab'), web: await operatorOf(server, 'web', 'prod') };
  const [{ id }] = (await people.lab.api('/api/v1/groups')).body.items;
  const post = (who: (typeof people)['lab'], act: string, body: object) =>
    who.api(`/api/v1/groups/${id}/${act}`, { method: 'POST', body: JSON.stringify(body) });
  await post(people.web, 'comments', { text: 'web-1 is in the cellar' });
  await post(people.web, 'acknowledge', { note: 'web-1 waits for its disk' });
  await post(people.lab, 'comments', { text: 'lab-1 is a toy' });
  await server.api(`/api/v1/groups/${id}/comments`, { method: 'POST', body: { text: 'said to all' } });
  const told = async (who: (typeof people)['lab']): Promise<string> =>
    JSON.stringify((await who.api(`/api/v1/groups/${id}/timeline`)).body) + (await who.page(`/findings/${id}`)).html;
  const [lab, web] = [await told(people.lab), await told(people.web)];
  assert.doesNotMatch(lab, /web-1|cellar|prod/);
  assert.match(lab, /is a toy/);
  assert.match(lab, /said to all/);
  assert.doesNotMatch(web, /lab-1|toy/);
  assert.match(web, /cellar/);
  assert.match(web, /waits for its disk/);
  // A host that drifted and has nothing open says what it has.
  assert.match((await people.web.page('/hosts')).html, /0 open, 1 acknowledged/);
});

test('a shared view is for whoever sees the groups of its sharer, and theirs alone to change', async (t) => {
  const server = await serverFor(t, { images: [OLD] });
  const as = async (name: string, role: Role, groups: string[] | null) => {
    const { token } = await personAs(server, name, [{ role, groups }]);
    return async (path: string, method = 'GET', body?: object) => {
      const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
      const init = { method, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) };
      const answer = await fetch(`${server.server.url}/api/v1/views${path}`, init);
      return { status: answer.status, body: (await answer.json()) as any };
    };
  };
  const all = await as('all', 'reviewer', null);
  const lab = await as('lab', 'reviewer', ['lab']);
  const bench = await as('bench', 'operator', ['lab/bench']);
  const { id } = (await all('', 'POST', { name: 'db-1', q: 'host:db-1', shared: true })).body;
  const own = (await lab('', 'POST', { name: 'lab', q: 'group:lab', shared: true })).body;
  const names = async (who: typeof all) => (await who('')).body.items.map(({ name }: { name: string }) => name);
  assert.deepEqual([await names(all), await names(lab), await names(bench)], [['db-1', 'lab'], ['lab'], []]);
  const mine = { name: 'db-1', q: '', shared: false };
  for (const who of [lab, bench])
    for (const method of ['PUT', 'DELETE'])
      assert.equal((await who(`/${id}`, method, method === 'PUT' ? mine : undefined)).body.code, 'VIEW_UNKNOWN');
  // Whoever reaches further may change it, and not take it for themselves.
  assert.equal((await all(`/${own.id}`, 'PUT', mine)).body.code, 'FORBIDDEN');
  assert.equal((await all(`/${own.id}`, 'PUT', { name: 'The lab', q: '', shared: true })).status, 200);
  // A name is one view of one person.
  const saved = await bench('', 'POST', mine);
  assert.equal(saved.status, 201);
  assert.equal((await bench('', 'POST', mine)).body.code, 'VIEW_CONFLICT');
  const { store } = server.server;
  const one = await store.views.get(saved.body.id);
  for (let n = 1; n < VIEWS_MAX; n++)
    await store.views.put({ ...one!, id: `v_${n}`, name: `v${n}` }, { actor: one!.createdBy, at: server.time.now });
  assert.equal((await bench('', 'POST', { ...mine, name: 'one more' })).body.code, 'VIEW_CONFLICT');
});

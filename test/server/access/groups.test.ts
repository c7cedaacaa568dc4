/** Whoever sees some host groups sees everything as if the fleet were those groups (docs/access.md 2.1): no host of another one shows. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
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

/** What an update changes, on the pages: both trees, and the hosts whose own files would hide it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { changesBetween } from '#server/imagechanges.ts';
import { BASE, enrol, file, image, serverFor } from '#test/server/fleet.ts';
import { visitor } from './visitor.ts';

const OLD = image('41');
const NEW = image('42', [
  ...BASE.filter(({ path }) => path !== '/usr/bin/login' && path !== '/etc/motd'),
  file('/usr/bin/login', 'login 2', 0o755),
  file('/etc/motd', 'welcome to 42'),
  file('/usr/bin/new', 'x', 0o755),
]);
const OTHER = image('for composefs', BASE, { rules: new Map([['composefs/1', BASE]]) });

async function fleet(t: Parameters<typeof serverFor>[0]) {
  const server = await serverFor(t, { images: [OLD, NEW, OTHER] });
  const hosts = [];
  for (const [name, booted] of [
    ['web-1', OLD],
    ['web-2', OLD],
    ['web-3', NEW],
    ['web-4', OTHER],
    ['lab-1', image('nobody has it')],
  ] as const)
    hosts.push(await enrol(server, booted, { name }));
  for (const host of hosts) await host.sendFull();
  await server.settle();
  const [first] = hosts;
  first!.compareWith(OLD);
  first!.entries = BASE.map((entry) => (entry.path === '/etc/motd' ? file('/etc/motd', 'our own') : entry));
  await first!.sendFull();
  hosts[1]!.compareWith(OLD);
  await hosts[1]!.sendFull();
  await server.settle();
  return server;
}

test('the diff of two images counts what comes, goes and changes in each tree, and names the hosts that would hide it', async (t) => {
  const server = await fleet(t);
  const reader = await visitor(server);
  const { text, html } = await reader.page(`/images/${OLD.digest}/diff?to=${NEW.digest}`);
  assert.match(text, /changes 3 paths/);
  assert.match(text, /On 1 host of 2 a file of their own/);
  assert.match(text, /Below \/usr 2 \+1 −0 ~1/);
  assert.match(text, /Below \/etc 1 \+0 −0 ~1/);
  assert.match(text, /all in \/etc\/motd/);
  assert.ok(
    text.indexOf('/etc/ motd') < text.indexOf('/usr/bin/ login') || html.indexOf('motd') < html.indexOf('login'),
    'what hosts hide is first',
  );
  assert.match((await reader.page(`/images/${OLD.digest}/diff?to=${NEW.digest}&tree=etc`)).text, /1 path/);
  // Back is the same, turned around.
  assert.match((await reader.page(`/images/${NEW.digest}/diff?to=${OLD.digest}`)).text, /Below \/usr 2 \+0 −1 ~1/);
  assert.match((await reader.page(`/images/${OLD.digest}/diff?to=${OLD.digest}`)).text, /changes nothing/);
});

test('images that cannot be compared say why', async (t) => {
  const server = await fleet(t);
  const reader = await visitor(server);
  const lost = image('nobody has it').digest;
  assert.match((await reader.page(`/images/${OLD.digest}/diff?to=${OTHER.digest}`)).text, /No host takes both/);
  assert.match((await reader.page(`/images/${OLD.digest}/diff?to=${lost}`)).text, /The newer one has no manifest yet/);
  assert.equal((await reader.visit(`/images/${OLD.digest}/diff?to=sha256:none`)).status, 404);
  assert.equal((await reader.visit(`/images/${OLD.digest}/diff`)).status, 404);
  const resolve = async () =>
    ({ kind: 'not-ready', state: { state: 'failed', image: '', code: 'X', detail: null }, image: undefined }) as never;
  assert.deepEqual(await changesBetween('a', 'b', { resolve } as never), {
    kind: 'untold',
    why: 'The older one has no manifest yet: X',
  });
});

test('an image tells where it runs, what is open there, and by which names it is found', async (t) => {
  const server = await fleet(t);
  const reader = await visitor(server);
  const { text } = await reader.page(`/images/${OLD.digest}`);
  assert.match(text, /2 hosts run team\/os 41\.1/);
  assert.match(text, /Booted ?2/);
  assert.match((await reader.page(`/images/${OLD.config}`)).text, /Found by its config digest/);
  const lost = await reader.page(`/images/${image('nobody has it').digest}`);
  assert.match(lost.text, /cannot be read, so its hosts cannot be judged/);
  assert.match(lost.text, /SOURCE_NOT_FOUND/);
  // It is tried again on a click; the act stands in the trail, and where it leads says so.
  const again = `/images/${encodeURIComponent(image('nobody has it').digest)}/rebuild`;
  assert.match(lost.html, new RegExp(`<form method="post" action="${again}">`));
  const { attempts } = (await server.server.store.images.find(image('nobody has it').digest))!.image;
  const sent = await reader.send(again, {});
  assert.deepEqual([sent.status, sent.location], [303, `${again.replace('/rebuild', '')}?did=rebuild`]);
  assert.match((await reader.page(sent.location!)).text, /It is tried again now/);
  await server.settle();
  assert.ok((await server.server.store.images.find(image('nobody has it').digest))!.image.attempts > attempts);
  const { items } = (
    await server.api('/api/v1/audit?object=' + encodeURIComponent(`image:${image('nobody has it').digest}`))
  ).body;
  assert.deepEqual([items[0].action, items[0].actor], ['image.rebuild', 'admin']);
  assert.equal((await reader.send('/images/sha256:none/rebuild', {})).status, 404);
  assert.equal(
    (await reader.visit(again, { method: 'POST', headers: { origin: 'http://server' } })).status,
    403,
    'without the word of the form',
  );
  assert.match(
    (await reader.page(`/images/${OLD.digest}?did=rebuild`)).text,
    /layers are read again, .* Read its layers again/,
  );
  for (const [state, n] of [
    ['ready', 3],
    ['failed', 1],
    ['building', 0],
  ] as const) {
    const { html } = await reader.page(`/images?state=${state}`);
    assert.equal([...html.matchAll(/class="go"/g)].length, n, state);
  }
});

test('how many hosts have an image staged, or could go back to it, leads to just these', async (t) => {
  const server = await serverFor(t, { images: [OLD, NEW] });
  const reader = await visitor(server);
  for (const [name, slot] of [
    ['web-1', 'staged'],
    ['web-2', 'staged'],
    ['web-3', 'rollback'],
    ['gone', 'staged'],
  ] as const) {
    const host = await enrol(server, OLD, { name });
    const booted = host.deployment().booted!;
    host.state = { [slot]: { ...booted, image: { ...booted.image!, digest: NEW.digest } } };
    await host.sendFull();
    if (name === 'gone') await server.api(`/api/v1/hosts/${host.id}/retire`, { method: 'POST' });
  }
  await server.settle();
  const digest = encodeURIComponent(NEW.digest);
  for (const [slot, names] of [
    ['staged', ['web-1', 'web-2']],
    ['rollback', ['web-3']],
  ] as const) {
    const link = new RegExp(`href="/hosts\\?${slot}=${digest}"[^>]*>${names.length}<`);
    for (const path of ['/images', `/images/${digest}`]) assert.match((await reader.page(path)).html, link, path);
    const { items } = (await server.api(`/api/v1/hosts?${slot}=${digest}`)).body;
    assert.deepEqual(items.map(({ name }: any) => name).sort(), names);
    const { text } = await reader.page(`/hosts?${slot}=${digest}`);
    for (const name of ['web-1', 'web-2', 'web-3', 'gone'])
      assert.equal(text.includes(name), (names as readonly string[]).includes(name), `${slot} ${name}`);
  }
});

/** Hosts and a host on the pages: numbers that lead to as much, what waits for a person, acts that ask first, and every tab of a host. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ROLES, type Principal } from '#server/access/principal.ts';
import { actOnHosts, hostsFor } from '#server/decisions/hosts.ts';
import { waysOf } from '#server/web/hostways.ts';
import { shellPath } from '#server/web/parts/ways.ts';
import { between } from '#server/web/hostfindings.ts';
import { viewOf } from '#server/standing.ts';
import { dir, enrol, file, HOUR, image, MINUTE, serverFor, T0, type TestServer } from '#test/server/fleet.ts';
import { deciding, groupAt, hostAs, NEXT, odd, OS, shows } from '../decisions/people.ts';
import { lengthOf, numbered, visitor } from './visitor.ts';

/** Drifted, unverifiable, silent, new, pending and retired hosts, in groups and with labels. */
async function mixed(server: TestServer) {
  const hosts = [];
  for (let n = 1; n <= 5; n++) hosts.push(await hostAs(server, `web-${n}`));
  await shows(hosts[0]!, odd(), file('/etc/cron.d/job', 'x'));
  await shows(hosts[1]!, odd());
  for (const host of hosts.slice(2)) await shows(host);
  for (const [n, host] of hosts.slice(0, 4).entries())
    await server.api(`/api/v1/hosts/${host.id}`, {
      method: 'PATCH',
      body: { group: n < 2 ? 'prod/web' : 'lab', labels: { site: n % 2 === 0 ? 'fra' : 'osl' } },
    });
  const lost = await enrol(server, image('nobody has it'), { name: 'lab-1' });
  await lost.sendFull();
  await enrol(server, OS, { name: 'new-1', machine: 'ab'.repeat(16) });
  const copy = await enrol(server, OS, { name: 'copy-1', machine: 'ab'.repeat(16) });
  const gone = await hostAs(server, 'gone-1');
  await server.api(`/api/v1/hosts/${gone.id}/retire`, { method: 'POST' });
  server.time.now += 25 * HOUR;
  // A challenge that old proves nothing; the second report has a fresh one.
  for (const host of hosts.slice(0, 4)) {
    await host.sendFull();
    await host.sendFull();
  }
  await server.settle();
  return { hosts, copy, gone };
}

test('each number on the list of hosts and on images is the length of the list that it leads to', async (t) => {
  const server = await serverFor(t, { images: [OS, NEXT] });
  await mixed(server);
  const reader = await visitor(server);
  const asked = new Map<string, number>();
  let followed = 0;
  for (const path of [
    '/hosts',
    '/hosts?verdict=drifted',
    '/hosts?group=prod/web',
    '/hosts?label=site=fra',
    '/hosts?state=retired',
    '/hosts?name=nothing',
    '/images',
    `/images/${OS.digest}`,
  ]) {
    const { html } = await reader.page(path);
    for (const { path: to, says, text } of numbered(html)) {
      if (!/^\/(?:hosts|findings)/.test(to) || /^(?:Drop|copy|web|lab|new)/.test(text)) continue;
      if (!asked.has(to)) asked.set(to, await lengthOf(to, reader));
      assert.equal(says, asked.get(to), `${path} says “${text}” and leads to ${to}`);
      followed++;
    }
  }
  assert.ok(followed > 60, `only ${followed} numbers were followed`);
  assert.ok([...asked.values()].filter((n) => n > 0).length > 12, [...asked].join(' '));
});

test('a list of several pages is as long as its number, by attention and by name', async (t) => {
  const server = await serverFor(t, { images: [OS] });
  for (let n = 0; n < 60; n++) await enrol(server, null, { name: `host ${n} é` });
  const reader = await visitor(server);
  for (const path of ['/hosts', '/hosts?sort=name', '/hosts?verdict=new&sort=name'])
    assert.equal(await lengthOf(path, reader), 60, path);
});

test('words of the address that are no filter are said and left out; where nothing matches, the word in the way is named', async (t) => {
  const server = await serverFor(t, { images: [OS] });
  await hostAs(server, 'web-1');
  const reader = await visitor(server);
  for (const query of ['verdict=bad', 'colour=red', 'label=nothing', 'sort=digest', 'verdict=new&verdict=silent']) {
    const { text } = await reader.page(`/hosts?${query}`);
    assert.match(text, /was left out/, query);
  }
  const { text, links } = await reader.page('/hosts?verdict=silent&name=web');
  assert.match(text, /Without verdict:silent there is 1/);
  assert.ok(links.includes('/hosts?name=web'), links.join(' '));
});

test('a host that waits for approval stands above the list with command and button; approving asks first and retires the other', async (t) => {
  const server = await serverFor(t, { images: [OS] });
  const first = await enrol(server, OS, { name: 'first', machine: 'cd'.repeat(16) });
  const second = await enrol(server, OS, { name: 'second', machine: 'cd'.repeat(16) });
  const reader = await visitor(server);
  const list = await reader.page('/hosts');
  assert.match(list.text, /One host waits for your approval/);
  assert.ok(list.text.includes(`bootproof hosts approve ${second.id}`));
  assert.match((await reader.page(`/hosts/${second.id}`)).text, /second waits for your approval .*kept back/);
  const ask = await reader.page(`/hosts/${second.id}/approve`);
  assert.match(ask.text, /is retired/);
  assert.equal((await server.server.store.hosts.get(second.id))?.state, 'pending', 'asking changes nothing');
  const done = await reader.send(`/hosts/${second.id}/approve`, {});
  assert.deepEqual([done.status, done.location], [303, `/hosts/${second.id}?did=approved`]);
  const states = await server.server.store.hosts.getMany([first.id, second.id]);
  assert.deepEqual([states.get(first.id)?.state, states.get(second.id)?.state], ['retired', 'active']);
  assert.doesNotMatch((await reader.page('/hosts')).text, /waits for your approval/);
});

test('acts on many say first what they will do, and do just that', async (t) => {
  const server = await serverFor(t, { images: [OS] });
  const [a, b, c] = [await hostAs(server, 'web-1'), await hostAs(server, 'web-2'), await hostAs(server, 'web-3')];
  await shows(a, odd());
  const reader = await visitor(server);
  const { store } = server.server;
  const host = [a.id, b.id];
  assert.equal((await reader.send('/hosts/many', { action: 'retire' })).status, 422);
  assert.match((await reader.send('/hosts/many', { action: 'retire', host: 'h_none' })).text, /No host is selected/);

  const ask = await reader.send('/hosts/many', { action: 'group', host });
  assert.equal(ask.status, 200);
  assert.match(ask.text, /Move 2 hosts/);
  for (const [group, says] of [
    ['no good', /letters, digits/],
    ['../x', /letters, digits/],
  ] as const) {
    const wrong = await reader.send('/hosts/many', { action: 'group', step: 'apply', host, group });
    assert.equal(wrong.status, 422);
    assert.match(wrong.text, says);
  }
  assert.equal((await store.hosts.get(a.id))?.group, null);
  await reader.send('/hosts/many', { action: 'group', step: 'apply', host, group: 'prod/web' });
  for (const labels of ['', 'site', 'a=b c', '-site=fra', '=x'])
    assert.equal(
      (await reader.send('/hosts/many', { action: 'label', step: 'apply', host, labels })).status,
      422,
      labels,
    );
  await reader.send('/hosts/many', { action: 'label', step: 'apply', host, labels: 'site=fra, role=web' });
  const done = await reader.send('/hosts/many', { action: 'label', step: 'apply', host: [a.id], labels: '-role' });
  assert.equal(done.location, '/hosts?did=labelled&n=1');
  assert.match((await reader.page(done.location)).text, /1 host labelled/);
  const known = await store.hosts.getMany([a.id, b.id, c.id]);
  assert.deepEqual(
    [a, b, c].map(({ id }) => [known.get(id)!.group, { ...known.get(id)!.labels }]),
    [
      ['prod/web', { site: 'fra' }],
      ['prod/web', { site: 'fra', role: 'web' }],
      [null, {}],
    ],
  );

  const retire = await reader.send('/hosts/many', { action: 'retire', host });
  assert.match(retire.text, /Retire 2 hosts\? .*1 open finding closes/);
  assert.equal((await store.hosts.get(a.id))?.state, 'active');
  await reader.send('/hosts/many', { action: 'retire', step: 'apply', host });
  assert.deepEqual([...(await store.hosts.getMany([a.id, b.id, c.id])).values()].map(({ state }) => state).sort(), [
    'active',
    'retired',
    'retired',
  ]);
  const trail = await store.audit.list({ object: `host:${a.id}` }, { cursor: null, limit: 10 });
  assert.deepEqual(
    [...new Set(trail.items.map(({ actor }) => actor))].filter((actor) => actor === 'admin'),
    ['admin'],
  );
});

test('an operator labels hosts of his own groups only, moves none out of his sight, and retires none', async (t) => {
  const server = await serverFor(t, { images: [OS] });
  const [mine, other] = [await hostAs(server, 'mine'), await hostAs(server, 'other')];
  for (const [host, group] of [
    [mine, 'prod/web'],
    [other, 'lab'],
  ] as const)
    await server.api(`/api/v1/hosts/${host.id}`, { method: 'PATCH', body: { group } });
  const who: Principal = { id: 'olga', name: 'Olga', roles: ['operator'], groups: ['prod'] };
  const { store } = server.server;
  // Who may not act is refused before anything of a judgement is needed.
  const deps = deciding(server) as unknown as Parameters<typeof actOnHosts>[3];
  const ids = [mine.id, other.id];
  assert.deepEqual(
    (await hostsFor('label', ids, who, { store })).map(({ name }) => name),
    ['mine'],
  );
  await assert.rejects(actOnHosts(ids, { kind: 'retire' }, who, deps), /admin/);
  for (const group of ['lab', null])
    await assert.rejects(actOnHosts([mine.id], { kind: 'group', group }, who, deps), /not yours/);
  const boss: Principal = { ...who, roles: ['admin'] };
  assert.equal(await actOnHosts(ids, { kind: 'retire' }, boss, deps), 1);
  assert.deepEqual(
    [(await store.hosts.get(mine.id))?.state, (await store.hosts.get(other.id))?.state],
    ['retired', 'active'],
  );
  for (const role of ROLES.filter((each) => each !== 'operator' && each !== 'admin'))
    await assert.rejects(hostsFor('label', ids, { ...who, roles: [role] }, { store }), /operator/, role);
});

test('a host tells since when, between which reports, what differs, and the ways back', async (t) => {
  const server = await serverFor(t, { images: [OS, NEXT] });
  const host = await hostAs(server, 'web-1');
  await shows(host);
  server.time.now += 15 * MINUTE;
  host.state = {
    overlays: [{ path: '/usr', kind: 'usr-overlay', detail: 'transient', writable: true, masks: false, beneath: null }],
  };
  await shows(
    host,
    odd(),
    file('/etc/sudoers.d/all', 'ALL', 0o440),
    dir('/etc/sudoers.d/more'),
    file('/etc/sudoers.d/more/one', 'ALL', 0o440),
    file('/etc/machine-id', 'mine'),
  );
  const reader = await visitor(server);
  const findings = await reader.page(`/hosts/${host.id}`);
  assert.match(findings.text, /web-1 has drifted since 24 Nov, 12:15/);
  assert.match(findings.text, /between reports 2 and 3/);
  for (const command of ['systemctl reboot', 'rm /etc/sudoers.d/all'])
    assert.ok(findings.html.includes(`<code>${command}</code>`), command);
  const [child, folder] = ['rm /etc/sudoers.d/more/one', 'rmdir /etc/sudoers.d/more'].map((command) =>
    findings.html.indexOf(`<code>${command}</code>`),
  );
  assert.ok(child! > 0 && folder! > child!, 'what lies in a folder goes before it');
  const tree = await reader.page(`/hosts/${host.id}/tree`);
  assert.match(tree.text, /4 matter, 1 expected here/);
  assert.match(tree.text, /usr-overlay, writable/);
  assert.match(tree.text, /1 expected here: machine-id/);
  const envelope = await reader.visit(`/hosts/${host.id}/reports/2`);
  assert.match(envelope.headers.get('content-disposition')!, /^attachment/);
  assert.deepEqual(
    Buffer.from(await envelope.arrayBuffer()),
    Buffer.from((await server.server.store.reports.get(host.id, 2))!.envelope),
  );
  assert.equal((await reader.visit(`/hosts/${host.id}/reports/9`)).status, 404);
});

test('what was waived stands in the verdict of a compliant host', async (t) => {
  const server = await serverFor(t, { images: [OS] });
  const host = await hostAs(server, 'web-1');
  await shows(host, odd());
  const { decideWaiver, requestWaiver } = await import('#server/decisions/waivers.ts');
  const { ALICE, BOB, DAY } = await import('../decisions/people.ts');
  const deps = deciding(server);
  const { id, revision } = await requestWaiver(
    {
      kind: 'mitigated',
      title: 'odd',
      justification: 'Put there by hand until the next image has it.',
      compensating: null,
      ticket: null,
      selector: { subject: { exact: '/usr/bin/odd' }, content: 'pinned' },
      ceiling: null,
      startsAt: null,
      expiresAt: server.time.now + 10 * DAY,
    },
    ALICE,
    deps,
  );
  await decideWaiver(id, revision, { kind: 'approve', note: null }, BOB, deps);
  const reader = await visitor(server);
  assert.match((await reader.page('/hosts')).text, /compliant \(1 waived\)/);
  assert.match((await reader.page(`/hosts/${host.id}`)).text, /1 waived.*waived W-1/);
});

test('a silent host tells what it could not be judged by once, beside its silence', async (t) => {
  const server = await serverFor(t, { images: [OS] });
  const host = await enrol(server, image('nobody has it'), { name: 'kiosk-1' });
  await host.sendFull();
  await server.settle();
  server.time.now += 30 * HOUR;
  const view = viewOf((await server.server.store.hosts.get(host.id))!, server.time.now);
  assert.equal(view.verdict, 'silent');
  const texts = view.reasons.map(({ text }) => text);
  assert.equal(new Set(texts).size, texts.length, texts.join(' | '));
  assert.match(texts[0]!, /^nothing heard for 30 h/);
  assert.ok(texts.length > 1, 'what it was before is told as well');
});

test('a change was never new before it was first seen', async (t) => {
  const server = await serverFor(t, { images: [OS] });
  const host = await hostAs(server, 'web-1');
  server.time.now = T0 + 40_000;
  await shows(host, odd());
  const group = (await server.server.store.findings.group((await groupAt(server)).id))!;
  assert.deepEqual([group.firstSeen, group.lastNewAt], [T0 + 40_000, T0 + 40_000]);
});

test('the trail is narrowed by who, what and when; a day belongs to it with its last moment', async (t) => {
  const server = await serverFor(t, { images: [OS] });
  const { store } = server.server;
  const act = (actor: string, object: string, at: number) =>
    store.audit.append({ actor, at }, { action: 'host.rename', object, before: { name: 'a' }, after: { name: 'b' } });
  const day = Date.UTC(2027, 0, 5);
  await act('mira', 'host:x', day - 1);
  await act('mira', 'host:y', day);
  await act('jon', 'host:y', day + 86_399_999);
  await act('jon', 'host:y', day + 86_400_000);
  const count = async (filter: Parameters<typeof store.audit.list>[0]) =>
    (await store.audit.list(filter, { cursor: null, limit: 100 })).items.filter(
      ({ action }) => action === 'host.rename',
    ).length;
  assert.equal(await count({ since: day, until: day + 86_400_000 }), 2);
  assert.equal(await count({ since: day, actor: 'jon' }), 2);
  assert.equal(await count({ until: day }), 1);
  const reader = await visitor(server);
  const page = await reader.page('/activity?from=2027-01-05&to=2027-01-05');
  assert.match(page.text, /2 entries/);
  assert.match(page.text, /Name ?a ?→ ?b/);
  assert.match((await reader.page('/activity?actor=nobody')).text, /Nothing matches/);
});

test('a change lies between two reports that follow each other, whatever is missing between', () => {
  const gaps = [
    { from: 4, to: 6 },
    { from: 7, to: 7 },
  ];
  assert.equal(between(1, { gaps }), 'in report 1, the first');
  assert.equal(between(4, { gaps: [] }), 'between reports 3 and 4');
  assert.equal(between(8, { gaps }), 'between reports 3 and 8');
  assert.equal(between(3, { gaps: [{ from: 1, to: 2 }] }), 'in report 3, the first');
});

test('paths in commands are one word to a shell, whatever bytes they are made of', async () => {
  const { execFileSync } = await import('node:child_process');
  for (const path of ['/etc/a', "/etc/it's", '/etc/a b$(id)`id`', '/etc/\xff\xfe', "/etc/\x01'\\n\n", '-rf']) {
    const said = execFileSync('bash', ['-c', `printf %s ${shellPath(path)}`]);
    assert.equal(said.toString('latin1'), path);
  }
  assert.deepEqual(waysOf({ examined: undefined, findings: [], view: { verdict: 'new' } as never }), []);
});

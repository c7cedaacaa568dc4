/** The API as people's programs meet it: who is let in, what is refused and how, lists and their cursors, the OpenAPI document. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HOST_LABELS_MAX } from '#src/limits.ts';
import { parsePolicy } from '#src/policy/document.ts';
import { Problem } from '#src/wire/problem.ts';
import { BASE, enrol, file, image, serverFor, type TestServer } from '#test/server/fleet.ts';

const OS = image('41');

async function fleet(t: Parameters<typeof serverFor>[0], count: number): Promise<TestServer> {
  const server = await serverFor(t, { images: [OS] });
  const { token } = (
    await server.api('/api/v1/tokens', { method: 'POST', body: { maxUses: null, group: 'web', labels: { site: 'a' } } })
  ).body;
  for (let n = 0; n < count; n++) {
    const host = await enrol(server, OS, { token, name: `host-${String(n).padStart(2, '0')}` });
    await host.sendFull();
    await server.settle();
    host.compareWith(OS);
    if (n % 3 === 0) host.entries = [...BASE, file('/usr/bin/extra', 'x', 0o755)];
    await host.sendFull();
  }
  return server;
}

test('without the admin token nothing is told', async (t) => {
  const server = await serverFor(t);
  const { paths } = (await server.api('/api/v1/openapi.json')).body;
  let asked = 0;
  for (const [path, methods] of Object.entries(
    paths as Record<string, Record<string, { security?: Record<string, unknown>[] }>>,
  ))
    for (const [method, { security }] of Object.entries(methods)) {
      if (security?.some((scheme) => 'admin' in scheme) !== true) continue;
      asked++;
      for (const authorization of [undefined, 'Bearer bp_admin_', `Bearer ${server.admin}x`, `Basic ${server.admin}`]) {
        const response = await server.server.app.request(path.replaceAll(/\{[a-z]+\}/gi, 'x'), {
          method: method.toUpperCase(),
          headers: authorization === undefined ? {} : { authorization },
        });
        assert.equal(response.status, 401, `${method} ${path}`);
        assert.equal(Problem.parse(await response.json()).code, 'UNAUTHENTICATED');
        assert.match(response.headers.get('www-authenticate')!, /^Bearer/);
      }
    }
  assert.ok(asked > 15, 'the routes of the document');
});

test('health needs no token, and says when the store is gone', async (t) => {
  const server = await serverFor(t);
  for (const path of ['/livez', '/readyz']) assert.equal((await server.server.app.request(path)).status, 200);
  await server.server.store.close();
  assert.equal((await server.server.app.request('/livez')).status, 200);
  const gone = await server.server.app.request('/readyz');
  assert.equal(gone.status, 503);
  assert.ok(Number(gone.headers.get('retry-after')) > 0);
});

const refused: readonly (readonly [string, string, { method?: string; body?: unknown }, number, string, string?])[] = [
  ['an unknown parameter', '/api/v1/hosts?colour=red', {}, 400, 'QUERY_INVALID', 'colour'],
  ['a verdict that is none', '/api/v1/hosts?verdict=fine', {}, 400, 'QUERY_INVALID', 'verdict'],
  ['a verdict list with one that is none', '/api/v1/hosts?verdict=drifted,fine', {}, 400, 'QUERY_INVALID', 'verdict'],
  ['a limit beyond the most', '/api/v1/hosts?limit=100000', {}, 400, 'QUERY_INVALID', 'limit'],
  ['a limit that is no number', '/api/v1/hosts?limit=1e2', {}, 400, 'QUERY_INVALID', 'limit'],
  ['a sort that no index serves', '/api/v1/hosts?sort=group', {}, 400, 'QUERY_INVALID', 'sort'],
  ['a parameter given twice', '/api/v1/hosts?name=a&name=b', {}, 400, 'QUERY_INVALID', 'name'],
  ['a cursor that is none', '/api/v1/hosts?cursor=abc', {}, 400, 'CURSOR_INVALID', 'cursor'],
  ['a host that is not there', '/api/v1/hosts/h_none', {}, 404, 'HOST_UNKNOWN'],
  ['a group that is not there', '/api/v1/groups/fg_none', {}, 404, 'FINDING_UNKNOWN'],
  ['an image that is not there', '/api/v1/images/sha256:none', {}, 404, 'IMAGE_UNKNOWN'],
  ['a route that is not there', '/api/v1/hats', {}, 404, 'NOT_FOUND'],
  ['a method that a route does not take', '/api/v1/hosts', { method: 'PUT' }, 405, 'METHOD_NOT_ALLOWED'],
  ['one of a route with a name', '/api/v1/hosts/h_x', { method: 'POST' }, 405, 'METHOD_NOT_ALLOWED'],
  ['one that another route would take for a name', '/api/v1/policies/diff', {}, 405, 'METHOD_NOT_ALLOWED'],
  [
    'an unknown member of a body',
    '/api/v1/tokens',
    { method: 'POST', body: { admin: true } },
    400,
    'BODY_INVALID',
    '/admin',
  ],
  [
    'a token that lives for ever',
    '/api/v1/tokens',
    { method: 'POST', body: { lifeSeconds: 1e12 } },
    400,
    'BODY_INVALID',
    '/lifeSeconds',
  ],
  ['a token that is not there', `/api/v1/tokens/${'a'.repeat(16)}`, { method: 'DELETE' }, 404, 'TOKEN_UNKNOWN'],
  [
    'a source without registry',
    '/api/v1/sources',
    { method: 'POST', body: { reference: 'fedora' } },
    422,
    'SOURCE_SYNTAX',
  ],
  [
    'a body that is too large',
    '/api/v1/tokens',
    { method: 'POST', body: { labels: { a: 'x'.repeat(100_000) } } },
    413,
    'BODY_TOO_LARGE',
  ],
];
test('refusals are problem documents that name the place', async (t) => {
  const server = await serverFor(t);
  for (const [name, path, init, status, code, place] of refused) {
    const answer = await server.api(path, init);
    assert.deepEqual([answer.status, answer.body.code], [status, code], name);
    assert.match(answer.headers.get('content-type')!, /^application\/problem\+json/);
    Problem.parse(answer.body);
    if (place !== undefined)
      assert.deepEqual(
        (answer.body.errors as { pointer?: string; parameter?: string }[]).map((e) => e.pointer ?? e.parameter),
        [place],
        name,
      );
  }
  const text = await server.server.app.request('/api/v1/tokens', {
    method: 'POST',
    body: '{"maxUses":',
    headers: { authorization: `Bearer ${server.admin}`, 'content-type': 'application/json' },
  });
  assert.deepEqual([text.status, ((await text.json()) as Problem).code], [400, 'BODY_SYNTAX']);
  const form = await server.server.app.request('/api/v1/tokens', {
    method: 'POST',
    body: 'maxUses=1',
    headers: { authorization: `Bearer ${server.admin}`, 'content-type': 'application/x-www-form-urlencoded' },
  });
  assert.equal(form.status, 415);
});

test('walking all cursors gives each host once, in either order, while hosts come', async (t) => {
  const server = await fleet(t, 9);
  for (const sort of ['name', 'attention']) {
    const seen: string[] = [];
    let cursor: string | null = null;
    do {
      const query: string = `sort=${sort}&limit=2${cursor === null ? '' : `&cursor=${cursor}`}`;
      const { body } = await server.api(`/api/v1/hosts?${query}`);
      seen.push(...body.items.map(({ name }: { name: string }) => name));
      cursor = body.next;
      assert.equal(body.total.type, 'exact');
    } while (cursor !== null);
    assert.equal(new Set(seen).size, seen.length);
    assert.equal(seen.length, 9);
    if (sort === 'name') assert.deepEqual(seen, [...seen].sort());
    else assert.deepEqual(seen.slice(0, 3).sort(), ['host-00', 'host-03', 'host-06'], 'those that drifted first');
  }
  const { next } = (await server.api('/api/v1/hosts?sort=name&limit=2')).body;
  const other = await server.api(`/api/v1/hosts?sort=name&limit=2&verdict=drifted&cursor=${next}`);
  assert.equal(other.body.code, 'CURSOR_INVALID', 'a cursor is bound to its filter');
});

test('every number equals the length of the list behind it', async (t) => {
  const server = await fleet(t, 7);
  const verdicts = (await server.api('/api/v1/verdicts')).body as Record<string, number>;
  assert.equal(
    Object.values(verdicts).reduce((a, b) => a + b, 0),
    7,
  );
  for (const [verdict, count] of Object.entries(verdicts)) {
    const { body } = await server.api(`/api/v1/hosts?verdict=${verdict}`);
    assert.deepEqual([body.items.length, body.total.count], [count, count], verdict);
  }
  const [group] = (await server.api('/api/v1/groups')).body.items;
  assert.equal(group.hosts.open, 3);
  assert.equal((await server.api(`/api/v1/groups/${group.id}/hosts`)).body.items.length, 3);
  assert.deepEqual((await server.api(`/api/v1/groups/${group.id}`)).body, { ...group, later: [] });
  assert.equal((await server.api('/api/v1/findings')).body.total.count, 3);
  assert.equal((await server.api('/api/v1/findings?severity=low')).body.total.count, 0);
  for (const filter of ['group=web', 'label=site%3Da', `image=${OS.digest}`, 'name=HOST-', 'freshness=current'])
    assert.equal((await server.api(`/api/v1/hosts?${filter}`)).body.total.count, 7, filter);
  assert.equal((await server.api('/api/v1/hosts?integrity=drifted')).body.total.count, 3);
  assert.equal((await server.api('/api/v1/hosts?group=db')).body.total.count, 0);
  assert.equal((await server.api('/api/v1/hosts?label=site%3Db')).body.total.count, 0);
});

test('a host tells its drift and keeps its reports as it signed them', async (t) => {
  const server = await fleet(t, 1);
  const [host] = (await server.api('/api/v1/hosts')).body.items;
  const { body } = await server.api(`/api/v1/hosts/${host.id}/drift`);
  assert.deepEqual(
    body.drift.map(({ path, change }: { path: string; change: string }) => `${change} ${path}`),
    ['added /usr/bin/extra'],
  );
  const reports = (await server.api(`/api/v1/hosts/${host.id}/reports`)).body.items;
  assert.deepEqual(
    reports.map(({ seq, kind }: { seq: number; kind: string }) => [seq, kind]),
    [
      [2, 'full'],
      [1, 'full'],
    ],
  );
  const envelope = await server.api(`/api/v1/hosts/${host.id}/reports/2`);
  assert.match(envelope.body, /^\{"payload":"/);
  assert.equal((await server.api(`/api/v1/hosts/${host.id}/reports/9`)).body.code, 'REPORT_UNKNOWN');
  const fresh = await enrol(server, OS);
  assert.equal((await server.api(`/api/v1/hosts/${fresh.id}/drift`)).body.code, 'REPORT_UNKNOWN');
});

test('a token enrols as often as it may, until it is over or revoked, and its secret is told once', async (t) => {
  const server = await serverFor(t, { images: [OS] });
  const made = await server.api('/api/v1/tokens', { method: 'POST', body: { maxUses: 2, lifeSeconds: 3600 } });
  assert.equal(made.status, 201);
  const { token, id } = made.body;
  assert.match(
    made.body.enrol,
    /^BOOTPROOF_ENROLL_TOKEN=bp1\.\S+ \/usr\/lib\/bootproof\/bootproof agent enroll --server http:\/\/127\.0\.0\.1:[0-9]+$/,
  );
  const listed = (await server.api('/api/v1/tokens')).body;
  assert.ok(!JSON.stringify(listed).includes(token.split('.')[2]));
  const code = async (text: string) =>
    enrol(server, OS, { token: text }).then(
      () => 'ok',
      (error: { problem: { code: string } }) => error.problem.code,
    );
  assert.deepEqual([await code(token), await code(token), await code(token)], ['ok', 'ok', 'ENROL_TOKEN']);
  assert.deepEqual(
    (await server.api('/api/v1/tokens')).body.items.map((item: { uses: number; usable: boolean }) => [
      item.uses,
      item.usable,
    ]),
    [[2, false]],
  );
  const second = (await server.api('/api/v1/tokens', { method: 'POST', body: { maxUses: null, lifeSeconds: 3600 } }))
    .body;
  assert.equal(await code(second.token), 'ok');
  assert.deepEqual((await server.api(`/api/v1/tokens/${second.id}`, { method: 'DELETE' })).body, { done: true });
  assert.deepEqual((await server.api(`/api/v1/tokens/${second.id}`, { method: 'DELETE' })).body, { done: false });
  assert.equal(await code(second.token), 'ENROL_TOKEN');
  const third = (await server.api('/api/v1/tokens', { method: 'POST', body: { lifeSeconds: 60 } })).body;
  server.time.now += 61_000;
  assert.equal(await code(third.token), 'ENROL_TOKEN');
  const wrong = `${token.slice(0, token.indexOf('.', 5) + 1)}${'A'.repeat(43)}.${token.split('.')[3]}`;
  assert.equal(await code(wrong), 'ENROL_TOKEN', 'its id alone is no token');
  assert.notEqual(id, second.id);
});

test('what people do is in the trail, without secrets', async (t) => {
  const server = await serverFor(t, { images: [OS] });
  server.time.now += 1000;
  const { token } = (await server.api('/api/v1/tokens', { method: 'POST', body: {} })).body;
  const { items } = await server.server.store.audit.list({}, { cursor: null, limit: 10 });
  assert.deepEqual(
    items.map(({ action, actor }) => [action, actor]),
    [
      ['token.create', 'admin'],
      ['source.allow', 'configuration'],
    ],
  );
  assert.ok(!JSON.stringify(items).includes(token.split('.')[2]));
});

test('the OpenAPI document describes every route and resolves its references', async (t) => {
  const server = await serverFor(t);
  const { body } = await server.api('/api/v1/openapi.json');
  assert.equal(body.openapi, '3.1.0');
  const text = JSON.stringify(body);
  for (const [, name = ''] of text.matchAll(/"#\/components\/schemas\/([A-Za-z]+)"/g))
    assert.ok(Object.hasOwn(body.components.schemas, name), name);
  const ids = Object.values(body.paths as Record<string, Record<string, { operationId: string }>>).flatMap((methods) =>
    Object.values(methods).map(({ operationId }) => operationId),
  );
  assert.equal(new Set(ids).size, ids.length, 'one id each');
  const described = new Set(
    Object.entries(body.paths as Record<string, object>).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method} ${path}`),
    ),
  );
  const served = server.server.app.routes
    .filter(({ path, method }) => path.startsWith('/api/') && method !== 'ALL' && !path.endsWith('openapi.json'))
    .map(({ path, method }) => `${method.toLowerCase()} ${path.replaceAll(/:([a-z]+)/gi, '{$1}')}`);
  assert.deepEqual(
    [...new Set(served)].filter((route) => !described.has(route)),
    [],
  );
  const limit = body.paths['/api/v1/hosts'].get.parameters.find(({ name }: { name: string }) => name === 'limit');
  assert.deepEqual(limit.schema, { type: 'integer', minimum: 1, maximum: 200, default: 50 });
});

test('a fault of ours tells nothing of itself, but the log does', async (t) => {
  const server = await serverFor(t);
  server.server.store.read.hosts = () => Promise.reject(new TypeError('secret innards'));
  const answer = await server.api('/api/v1/hosts');
  assert.deepEqual([answer.status, answer.body.code], [500, 'FAULT']);
  assert.ok(!JSON.stringify(answer.body).includes('innards'));
  assert.ok(server.events.some(({ level, fields }) => level === 'error' && JSON.stringify(fields).includes('innards')));
});

test('a host is renamed, grouped and labelled; each change is in the trail, and what is so already is none', async (t) => {
  const server = await serverFor(t, { images: [OS] });
  const host = await enrol(server, OS, { name: 'old' });
  const path = `/api/v1/hosts/${host.id}`;
  const patch = (body: unknown) => server.api(path, { method: 'PATCH', body });
  const changed = await patch({ name: 'web-1', group: 'web', labels: { site: 'a', tier: 'front' } });
  assert.equal(changed.status, 200);
  const { name, group, labels } = changed.body;
  assert.deepEqual([name, group, labels], ['web-1', 'web', { site: 'a', tier: 'front' }]);
  assert.deepEqual((await patch({ labels: { site: null, rack: '7' } })).body.labels, { tier: 'front', rack: '7' });
  // Two at once: neither takes away what the other put there.
  await Promise.all([patch({ labels: { a: '1' } }), patch({ labels: { b: '2' } })]);
  const [both] = (await server.api('/api/v1/hosts')).body.items;
  assert.deepEqual(both.labels, { tier: 'front', rack: '7', a: '1', b: '2' });
  await patch({ labels: { a: null, b: null } });
  assert.equal((await patch({ group: null })).body.group, null);
  await patch({ name: 'web-1', group: null, labels: { rack: '7', none: null } });
  const trail = await server.server.store.audit.list({ object: `host:${host.id}` }, { cursor: null, limit: 50 });
  assert.deepEqual(
    trail.items
      .filter(({ action }) => action !== 'host.enrol')
      .map(({ action, actor }) => `${action} ${actor}`)
      .sort(),
    [...Array<string>(2).fill('host.group admin'), ...Array<string>(5).fill('host.labels admin'), 'host.rename admin'],
  );
  assert.equal((await server.api('/api/v1/hosts?label=rack%3D7')).body.total.count, 1);
  for (const [body, pointer] of [
    [{}, '/'],
    [{ colour: 'red' }, '/colour'],
    [{ name: '' }, '/name'],
    [{ name: ' a' }, '/name'],
    [{ name: 'a\u202eb' }, '/name'],
    ...['a b', 'prod/', 'prod//x', 'prod/..', 'a/./b', '/a', 'a'.repeat(64)].map(
      (group) => [{ group }, '/group'] as const,
    ),
    [{ labels: { 'a b': 'c' } }, '/labels/a b'],
    [{ labels: { a: 5 } }, '/labels/a'],
    [{ labels: Object.fromEntries(Array.from({ length: HOST_LABELS_MAX }, (_, n) => [`k${n}`, ''])) }, '/labels'],
  ] as const) {
    const refused = await patch(body);
    assert.deepEqual(
      [refused.status, refused.body.code, refused.body.errors?.[0]?.pointer],
      [400, 'BODY_INVALID', pointer],
    );
  }
  const absent = await server.api('/api/v1/hosts/h_none', { method: 'PATCH', body: { name: 'x' } });
  assert.deepEqual([absent.status, absent.body.code], [404, 'HOST_UNKNOWN']);
});

test('a host is judged anew by the rules of its new group and labels, at once', async (t) => {
  const policy = parsePolicy(
    [
      'format: bootproof.policy/1',
      'name: groups',
      'files:',
      '  - id: web-extra',
      '    paths: [/usr/bin/extra]',
      '    hosts: { labels: { tier: [front] } }',
      '    effect: allowed',
      '    reason: the front has it',
      '  - id: all',
      '    paths: ["/usr/**", "/etc/**"]',
      '    effect: forbidden',
      '    severity: high',
      '    reason: the image is read-only',
      '',
    ].join('\n'),
    { file: 'policy.yaml' },
  );
  const server = await serverFor(t, { images: [OS], policy });
  const host = await enrol(server, OS);
  await host.sendFull();
  await server.settle();
  host.compareWith(OS);
  host.entries = [...BASE, file('/usr/bin/extra', 'x', 0o755)];
  await host.sendFull();
  assert.equal((await host.told()).verdict, 'drifted');
  const patch = (labels: unknown) => server.api(`/api/v1/hosts/${host.id}`, { method: 'PATCH', body: { labels } });
  assert.equal((await patch({ tier: 'front' })).body.verdict, 'compliant');
  assert.equal((await patch({ tier: null })).body.verdict, 'drifted');
});

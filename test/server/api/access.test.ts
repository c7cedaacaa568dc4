/** Who may do what over the API: every route by role, hosts of one's own groups, tokens, services, bindings. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { includes, ROLES, type Role } from '#server/access/principal.ts';
import { ROUTE_NEEDS } from '#server/api/roles.ts';
import { startPostgres } from '#test/postgres.ts';
import { BASE, enrol, file, HOUR, image, serverFor, type TestServer } from '#test/server/fleet.ts';

const OS = image('41');
type Asked = { readonly status: number; readonly body: any; readonly headers: Headers };
type Caller = (
  path: string,
  init?: { method?: string; body?: unknown; headers?: Record<string, string> },
) => Promise<Asked>;

function caller(server: TestServer, token: string): Caller {
  return async (path, { method = 'GET', body, headers = {} } = {}) => {
    const response = await server.server.app.request(path, {
      method,
      headers: {
        ...headers,
        authorization: `Bearer ${token}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    const isJson = /\bjson\b/.test(response.headers.get('content-type') ?? '');
    return { status: response.status, body: isJson ? JSON.parse(text) : text, headers: response.headers };
  };
}

/** A service with these roles, and a token of it: what a caller needs. */
async function serviceOf(
  server: TestServer,
  name: string,
  grants: readonly (readonly [Role, string | null])[],
): Promise<Caller> {
  const made = await server.api('/api/v1/access/users', { method: 'POST', body: { service: name } });
  assert.equal(made.status, 201, JSON.stringify(made.body));
  const id = made.body.id as string;
  for (const [role, group] of grants) {
    const bound = await server.api('/api/v1/access/bindings', {
      method: 'POST',
      body: { holder: { id }, role, group },
    });
    assert.equal(bound.status, 201, JSON.stringify(bound.body));
  }
  const roles = [...new Set(grants.map(([role]) => role))];
  const { status, body } = await server.api('/api/v1/access/tokens', {
    method: 'POST',
    body: { name, owner: id, roles },
  });
  assert.equal(status, 201, JSON.stringify(body));
  return caller(server, body.token);
}

/** Routes of people in the OpenAPI document. */
async function routes(server: TestServer): Promise<readonly { method: string; path: string; needs: any }[]> {
  const { paths } = (await server.api('/api/v1/openapi.json')).body;
  return Object.entries(paths as Record<string, Record<string, any>>).flatMap(([path, methods]) =>
    Object.entries(methods)
      .filter(([, { security }]) => security?.some((scheme: object) => 'admin' in scheme) === true)
      .map(([method, operation]) => ({ method: method.toUpperCase(), path, needs: operation['x-roles'] })),
  );
}

test('every route of the OpenAPI document names its role in the one table, and the table has no other', async (t) => {
  const server = await serverFor(t);
  const told = await routes(server);
  const named = told.map(({ method, path }) => `${method} ${path}`);
  assert.deepEqual(
    named.filter((route) => !Object.hasOwn(ROUTE_NEEDS, route)),
    [],
    'add them to server/api/roles.ts',
  );
  assert.deepEqual(
    Object.keys(ROUTE_NEEDS).filter((route) => !named.includes(route)),
    [],
  );
  for (const { method, path, needs } of told) {
    if (needs === undefined) continue; // described by hand
    const { roles, of } = ROUTE_NEEDS[`${method} ${path}`]!;
    assert.deepEqual(needs, { anyOf: [...roles], of }, path);
  }
});

test('each role is let through where the table says so, and nowhere else', async (t) => {
  const server = await serverFor(t);
  const all = await routes(server);
  let refused = 0;
  for (const role of ROLES) {
    const wide = await serviceOf(server, `wide-${role.replace('_', '-')}`, [[role, null]]);
    const lab = await serviceOf(server, `lab-${role.replace('_', '-')}`, [[role, 'lab']]);
    for (const { method, path } of all) {
      const { roles, of } = ROUTE_NEEDS[`${method} ${path}`]!;
      for (const [caller, may] of [
        [wide, roles.includes(role)],
        [lab, roles.includes(role) && of === 'hosts'],
      ] as const) {
        const { status, body } = await caller(path.replaceAll(/\{[a-z]+\}/gi, 'x'), { method });
        if (!may) {
          refused++;
          assert.deepEqual([status, body.code], [403, 'FORBIDDEN'], `${role} ${method} ${path}`);
          assert.match(body.detail, /^this is for /);
        } else
          assert.ok(
            status !== 401 && !(status === 403 && body.detail.startsWith('this is for')),
            `${role} ${method} ${path}: ${body.detail}`,
          );
      }
    }
  }
  assert.ok(refused > 200, `${refused} refusals`);
});

test('nothing that changes anything is an auditor’s or a viewer’s, but tokens and sessions of a viewer’s own', async () => {
  const own = new Set([
    'POST /api/v1/access/tokens',
    'DELETE /api/v1/access/tokens/{id}',
    'DELETE /api/v1/access/sessions/{id}',
  ]);
  for (const [route, { roles }] of Object.entries(ROUTE_NEEDS)) {
    if (route.startsWith('GET ')) continue;
    // What an auditor takes away is made for them, and changes nothing of the fleet.
    assert.ok(!roles.includes('auditor') || route.includes(' /api/v1/evidence/exports'), route);
    assert.ok(!roles.includes('viewer') || own.has(route), route);
  }
  for (const route of Object.keys(ROUTE_NEEDS).filter((one) => one.startsWith('GET /api/v1/waivers')))
    assert.ok(!ROUTE_NEEDS[route]!.roles.includes('viewer') && ROUTE_NEEDS[route]!.roles.includes('auditor'), route);
});

/** Six hosts: two of lab, one below it, one beside it by name, one of web, one of none; each with drift. */
async function fleet(t: TestContext, storeUrl?: string): Promise<TestServer> {
  const server = await serverFor(t, { images: [OS], ...(storeUrl === undefined ? {} : { storeUrl }) });
  for (const [name, group] of [
    ['lab-1', 'lab'],
    ['lab-2', 'lab'],
    ['lab-3', 'lab/bench'],
    ['lab-x', 'labor'],
    ['web-1', 'web'],
    ['no-1', null],
  ] as const) {
    const host = await enrol(server, OS, { name });
    if (group !== null)
      await server.server.store.hosts.setGroup(host.id, group, { actor: 'admin', at: server.time.now });
    await host.sendFull();
    await server.settle();
    host.compareWith(OS);
    host.entries = [
      ...BASE,
      file('/usr/bin/everywhere', 'x', 0o755),
      ...(group === 'lab' ? [file('/usr/bin/lab', 'x', 0o755)] : []),
      ...(group === 'web' ? [file('/usr/bin/web', 'x', 0o755)] : []),
    ];
    assert.equal((await host.sendFull()).status, 200);
  }
  await server.settle();
  return server;
}

async function seesTheirs(server: TestServer): Promise<void> {
  const lab = await serviceOf(server, 'lab', [['viewer', 'lab']]);
  const admin: Caller = (path) => server.api(path);
  const same = async (theirs: string, filtered: string, what: (body: any) => unknown) => {
    const [a, b] = [await lab(theirs), await admin(filtered)];
    assert.deepEqual(
      [a.status, b.status],
      [200, 200],
      `${theirs}: ${JSON.stringify(a.body)} ${filtered}: ${JSON.stringify(b.body)}`,
    );
    assert.deepEqual(what(a.body), what(b.body), theirs);
    return what(a.body);
  };
  const ids = (body: any) => [
    body.items.map((item: any) => [item.id ?? `${item.host} ${item.group}`, item.hosts]),
    body.total,
  ];
  const groups = 'q=group:lab,lab/bench';
  await same('/api/v1/groups', `/api/v1/groups?${groups}`, ids);
  await same('/api/v1/groups?sort=recent&tab=open', `/api/v1/groups?sort=recent&tab=open&${groups}`, ids);
  await same('/api/v1/findings', `/api/v1/findings?${groups}`, ids);
  await same('/api/v1/groups/facets', `/api/v1/groups/facets?${groups}`, (body) => body);

  const hosts = (await lab('/api/v1/hosts')).body;
  assert.deepEqual(hosts.items.map(({ name }: any) => name).sort(), ['lab-1', 'lab-2', 'lab-3']);
  assert.deepEqual(hosts.total, { count: 3, type: 'exact' });
  assert.equal((await lab('/api/v1/hosts?group=web')).body.total.count, 0);
  const verdicts = (await lab('/api/v1/verdicts')).body;
  assert.equal(verdicts.drifted, 3);
  assert.equal(
    Object.values(verdicts as Record<string, number>).reduce((a, b) => a + b),
    3,
  );
  assert.equal((await server.api('/api/v1/verdicts')).body.drifted, 6);
  assert.deepEqual(
    (await lab('/api/v1/images')).body.items.map(({ hosts: on }: any) => on.booted),
    [3],
  );

  const everywhere = (await server.api('/api/v1/groups?subject=/usr/bin/everywhere')).body.items[0];
  assert.equal(everywhere.hosts.open, 6);
  assert.equal((await lab(`/api/v1/groups/${everywhere.id}`)).body.hosts.open, 3);
  const where = (await lab(`/api/v1/groups/${everywhere.id}/hosts`)).body.items;
  assert.equal(where.length, 3);

  const story = (await lab(`/api/v1/groups/${everywhere.id}/timeline`)).body.items;
  const opened = (items: any[]) =>
    items.filter(({ kind }) => kind === 'opened').reduce((sum, { hosts: on }) => sum + on, 0);
  assert.equal(opened(story), 3);
  assert.equal(opened((await server.api(`/api/v1/groups/${everywhere.id}/timeline`)).body.items), 6);

  // What is not theirs is not there, whatever it is asked by.
  const web = (await server.api('/api/v1/hosts?name=web')).body.items[0];
  const own = (await server.api('/api/v1/groups?subject=/usr/bin/web')).body.items[0];
  for (const path of ['', '/drift', '/findings', '/reports', '/reports/1'])
    assert.equal((await lab(`/api/v1/hosts/${web.id}${path}`)).body.code, 'HOST_UNKNOWN', path);
  for (const path of ['', '/hosts', '/timeline'])
    assert.equal((await lab(`/api/v1/groups/${own.id}${path}`)).body.code, 'FINDING_UNKNOWN', path);
}

test('whoever sees some groups sees the numbers that a filter by them gives an admin', async (t) =>
  seesTheirs(await fleet(t)));
test('postgres: the same numbers', async (t) => {
  const postgres = await startPostgres();
  if ('skip' in postgres) return t.skip(postgres.skip);
  // After the server, which is closed first.
  t.after(() => postgres.stop());
  await seesTheirs(await fleet(t, await postgres.database()));
});

test('an operator acts on hosts of the groups where they operate, though they see more', async (t) => {
  const server = await fleet(t);
  const operator = await serviceOf(server, 'mixed', [
    ['viewer', null],
    ['operator', 'lab'],
  ]);
  assert.equal((await operator('/api/v1/hosts')).body.total.count, 6);
  const { id } = (await server.api('/api/v1/groups?subject=/usr/bin/everywhere')).body.items[0];
  const acknowledged = await operator(`/api/v1/groups/${id}/acknowledge`, { method: 'POST', body: {} });
  assert.deepEqual([acknowledged.status, acknowledged.body.changed], [200, 3]);
  assert.deepEqual((await server.api(`/api/v1/groups/${id}`)).body.hosts.acknowledged, 3);
  const [web] = (await server.api('/api/v1/hosts?name=web')).body.items;
  const [lab] = (await server.api('/api/v1/hosts?name=lab-1')).body.items;
  const patch = (host: any, body: object) => operator(`/api/v1/hosts/${host.id}`, { method: 'PATCH', body });
  assert.equal((await patch(web, { labels: { a: 'b' } })).body.code, 'HOST_UNKNOWN');
  assert.equal((await patch(lab, { labels: { a: 'b' } })).status, 200);
  assert.equal((await patch(lab, { group: 'web' })).body.code, 'FORBIDDEN');
  assert.equal((await patch(lab, { group: null })).body.code, 'FORBIDDEN');
  assert.equal((await patch(lab, { group: 'lab/bench' })).status, 200);
  const preview = await operator('/api/v1/bulk/preview', {
    method: 'POST',
    body: { action: 'acknowledge', filter: {}, all: true },
  });
  assert.equal(preview.status, 200, JSON.stringify(preview.body));
  assert.equal(preview.body.hosts, 3);
});

const WAIVER = {
  kind: 'accepted_risk',
  title: 'until the next image',
  justification: 'known',
  selector: { subject: { exact: '/usr/bin/everywhere' } },
  expiresAt: '2026-12-01',
};

test('the second person is another principal; an admin approves in single-person mode alone', async (t) => {
  const server = await fleet(t);
  const operator = await serviceOf(server, 'operator', [['operator', 'lab']]);
  const both = await serviceOf(server, 'both', [
    ['operator', null],
    ['reviewer', null],
  ]);
  const admin = await serviceOf(server, 'adm', [['admin', null]]);
  const viewer = await serviceOf(server, 'viewer', [['viewer', null]]);
  const ask = async (who: Caller) => (await who('/api/v1/waivers', { method: 'POST', body: WAIVER })).body;
  const approve = (who: Caller, { id, revision }: any) =>
    who(`/api/v1/waivers/${id}/approve`, { method: 'POST', body: {}, headers: { 'if-match': `"${revision}"` } });
  const first = await ask(operator);
  assert.equal(first.requestedBy, 'service:operator');
  for (const [who, code] of [
    [operator, 'FORBIDDEN'],
    [viewer, 'FORBIDDEN'],
    [admin, 'FORBIDDEN'],
    [caller(server, server.admin), 'FORBIDDEN'],
  ] as const)
    assert.equal((await approve(who, first)).body.code, code);
  const done = await approve(both, first);
  assert.equal(done.status, 200, JSON.stringify(done.body));
  assert.deepEqual([done.body.waiver.scope, done.body.hosts], [['lab'], 3], 'never further than who asked');
  const own = await ask(both);
  assert.equal((await approve(both, own)).body.code, 'WAIVER_OWN');
  // Whoever made a program is behind it: it is no second person for them, nor are they for it.
  const adminAsks = await ask(caller(server, server.admin));
  const refused = await approve(both, adminAsks);
  assert.deepEqual([refused.body.code, /made the other/.test(refused.body.detail)], ['WAIVER_OWN', true]);
  await server.api('/api/v1/settings/waivers', { method: 'PUT', body: { singlePerson: true } });
  assert.equal((await approve(admin, own)).status, 200);
  for (const [asked, by] of [
    [adminAsks, both],
    [await ask(operator), caller(server, server.admin)],
  ] as const) {
    const { status, body } = await approve(by, asked);
    assert.deepEqual([status, body.waiver.alone], [200, true]);
  }
});

test('while nobody else may review, the admin token may; and it is shown so', async (t) => {
  const server = await serverFor(t);
  const me = async () => (await server.api('/api/v1/access/me')).body;
  assert.deepEqual([(await me()).id, (await me()).oneAdmin, (await me()).roles], ['admin', true, [...ROLES]]);
  await serviceOf(server, 'r', [['reviewer', 'lab']]);
  assert.deepEqual([(await me()).oneAdmin, (await me()).roles.includes('reviewer')], [false, false]);
});

test('a token may be of less than its owner: whoever holds a role may all that those below it may', async (t) => {
  // That auditors make no tokens and end no sessions is theirs alone.
  for (const [route, { roles }] of Object.entries(ROUTE_NEEDS))
    for (const role of /access\/(?:tokens|sessions)/.test(route) ? [] : roles)
      assert.deepEqual(
        ROLES.filter((held) => includes(held, role) && !roles.includes(held)),
        [],
        `${role} of ${roles.join(', ')}`,
      );
  const server = await serverFor(t);
  for (const [role, less, status] of [
    ['operator', 'viewer', 201],
    ['reviewer', 'viewer', 201],
    ['admin', 'operator', 201],
    ['reviewer', 'operator', 422],
    ['operator', 'reviewer', 422],
    ['policy_editor', 'auditor', 422],
  ] as const) {
    const name = `${role}-${less}`.replace('_', '-');
    const who = await serviceOf(server, name, [[role, 'lab']]);
    const made = await who('/api/v1/access/tokens', { method: 'POST', body: { name: 'less', roles: [less] } });
    assert.equal(made.status, status, name);
    if (status !== 201) continue;
    const me = (await caller(server, made.body.token)('/api/v1/access/me')).body;
    assert.deepEqual([me.roles, me.groups], [[less], ['lab']], name);
  }
});

test('an API token is told once, names its owner, ends, and reaches no further than its owner does now', async (t) => {
  const server = await serverFor(t);
  const { id } = (await server.api('/api/v1/access/users', { method: 'POST', body: { service: 'ci' } })).body;
  const bind = (role: string, group: string | null = null) =>
    server.api('/api/v1/access/bindings', { method: 'POST', body: { holder: { id }, role, group } });
  const make = (body: object) =>
    server.api('/api/v1/access/tokens', { method: 'POST', body: { name: 'nightly', owner: id, ...body } });
  assert.equal((await make({ roles: ['viewer'] })).body.code, 'API_TOKEN_SCOPE', 'it holds nothing yet');
  const binding = (await bind('operator', 'lab')).body.id;
  await bind('viewer');
  assert.equal((await make({ roles: ['operator'], groups: ['web'] })).body.code, 'API_TOKEN_SCOPE');
  assert.equal((await make({ roles: ['admin'] })).body.code, 'API_TOKEN_SCOPE');
  assert.equal((await make({ roles: ['viewer'], owner: 'nobody' })).body.code, 'USER_UNKNOWN');
  assert.equal((await make({ roles: [] })).body.code, 'BODY_INVALID');
  assert.equal((await make({ roles: ['viewer'], lifeSeconds: 1e9 })).body.code, 'BODY_INVALID', 'none lives for ever');
  const { status, body } = await make({ roles: ['operator', 'viewer'], groups: ['lab/bench'], lifeSeconds: 3600 });
  assert.equal(status, 201);
  assert.match(body.token, /^bp_[0-9A-Za-z]{46}$/);
  const ask = caller(server, body.token);
  const me = (await ask('/api/v1/access/me')).body;
  assert.deepEqual([me.id, me.groups, me.roles], [id, ['lab/bench'], ['viewer', 'operator']]);

  const shown = (await server.api('/api/v1/access/tokens')).body;
  assert.ok(!JSON.stringify(shown).includes(body.token.slice(3)), 'its text is not told again');
  assert.deepEqual([shown.items[0].owner, shown.items[0].usable, typeof shown.items[0].usedAt], [id, true, 'string']);

  await server.api(`/api/v1/access/bindings/${binding}`, { method: 'DELETE' });
  assert.deepEqual((await ask('/api/v1/access/me')).body.roles, ['viewer'], 'at once');
  await server.api(`/api/v1/access/users/${id}`, { method: 'PATCH', body: { disabled: true } });
  assert.equal((await ask('/api/v1/access/me')).status, 401);
  await server.api(`/api/v1/access/users/${id}`, { method: 'PATCH', body: { disabled: false } });
  assert.equal((await ask('/api/v1/access/me')).status, 200);
  server.time.now += HOUR;
  assert.equal((await ask('/api/v1/access/me')).status, 401, 'over');
  const other = (await make({ roles: ['viewer'] })).body;
  assert.equal((await caller(server, other.token)('/api/v1/hosts')).status, 200);
  assert.equal((await server.api(`/api/v1/access/tokens/${other.record.id}`, { method: 'DELETE' })).body.done, true);
  assert.equal((await server.api(`/api/v1/access/tokens/${other.record.id}`, { method: 'DELETE' })).body.done, false);
  assert.equal((await caller(server, other.token)('/api/v1/hosts')).status, 401);
});

test('whoever is no admin makes tokens of themselves alone, of no more than they ask with, and sees no others', async (t) => {
  const server = await serverFor(t);
  const a = await serviceOf(server, 'a', [
    ['operator', null],
    ['viewer', null],
  ]);
  await serviceOf(server, 'b', [['viewer', null]]);
  const make = (who: Caller, body: object) =>
    who('/api/v1/access/tokens', { method: 'POST', body: { name: 'x', roles: ['viewer'], ...body } });
  const less = await make(a, {});
  assert.equal(less.status, 201, JSON.stringify(less.body));
  assert.equal(less.body.record.owner, 'service:a');
  assert.equal((await make(caller(server, less.body.token), { roles: ['operator'] })).body.code, 'API_TOKEN_SCOPE');
  assert.equal((await make(a, { owner: 'service:b' })).body.code, 'FORBIDDEN');
  const seen = (await a('/api/v1/access/tokens')).body.items.map(({ owner }: any) => owner);
  assert.deepEqual([...new Set(seen)], ['service:a']);
  assert.equal((await a('/api/v1/access/tokens?owner=service:b')).body.code, 'FORBIDDEN');
  const others = (await server.api('/api/v1/access/tokens?owner=service:b')).body.items[0].id;
  assert.equal((await a(`/api/v1/access/tokens/${others}`, { method: 'DELETE' })).body.code, 'API_TOKEN_UNKNOWN');
  assert.equal((await a('/api/v1/access/sessions?user=admin')).body.code, 'FORBIDDEN');
});

test('a token that a token made ends with it, is revoked with it, and makes no further ones', async (t) => {
  const server = await serverFor(t);
  const { id: owner } = (await server.api('/api/v1/access/users', { method: 'POST', body: { service: 'ci' } })).body;
  await server.api('/api/v1/access/bindings', { method: 'POST', body: { holder: { id: owner }, role: 'viewer' } });
  const make = async (who: Caller, lifeSeconds: number, of?: string) => {
    const body = { name: 'x', roles: ['viewer'], lifeSeconds, ...(of === undefined ? {} : { owner: of }) };
    const made = await who('/api/v1/access/tokens', { method: 'POST', body });
    return { ...made, who: caller(server, made.body.token), id: made.body.record?.id as string };
  };
  const parent = await make(caller(server, server.admin), 3600, owner);
  assert.equal(parent.body.record.madeWith, null);
  const child = await make(parent.who, 366 * 86_400);
  assert.deepEqual(
    [child.status, child.body.record.expiresAt, child.body.record.madeWith],
    [201, parent.body.record.expiresAt, parent.id],
  );
  assert.equal((await child.who('/api/v1/hosts')).status, 200);
  assert.equal((await make(child.who, 60)).body.code, 'FORBIDDEN');
  // What an admin's token makes for another one ends with it as well.
  const admin = await serviceOf(server, 'adm', [['admin', null]]);
  const others = await make(admin, 60, owner);
  assert.equal(others.status, 201, JSON.stringify(others.body));
  await server.api('/api/v1/access/users/service:adm', { method: 'PATCH', body: { disabled: true } });
  assert.equal((await others.who('/api/v1/hosts')).status, 401);
  await server.api(`/api/v1/access/tokens/${parent.id}`, { method: 'DELETE' });
  assert.equal((await child.who('/api/v1/hosts')).status, 401);
  const kept = (await server.api('/api/v1/access/tokens')).body.items.find(({ id }: any) => id === child.id);
  assert.deepEqual([kept.usable, typeof kept.revokedAt], [false, 'string']);
});

test('what is done with a token stands in the trail under the name of the service', async (t) => {
  const server = await serverFor(t);
  const gitops = await serviceOf(server, 'gitops', [['admin', null]]);
  await gitops('/api/v1/sources', { method: 'POST', body: { reference: 'docker://registry.example/x' } });
  assert.equal((await server.api('/api/v1/sources')).body.items[0].createdBy, 'service:gitops');
});

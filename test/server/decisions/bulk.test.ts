/** Acts on many: what was previewed is what is done, whatever arrives meanwhile, and once (docs/findings.md 5). */
import assert from 'node:assert/strict';
import { applyBulk, carryOn, previewBulk } from '#server/decisions/bulk.ts';
import { acknowledge, assign } from '#server/decisions/findings.ts';
import { DecisionError } from '#server/decisions/may.ts';
import { rejectsCode } from '#test/throws.ts';
import { MINUTE, T0, type TestServer } from '../fleet.ts';
import { ALICE, BOB, deciding, fleet, groupAt, hostAs, odd, onBoth, person, shows } from './people.ts';

const deps = (server: TestServer) => ({
  ...deciding(server),
  random: (n: number) => crypto.getRandomValues(new Uint8Array(n)),
});
const counts = async (server: TestServer) => (await groupAt(server)).hosts;

async function preview(server: TestServer, body: object) {
  return server.api('/api/v1/bulk/preview', { method: 'POST', body });
}
function apply(server: TestServer, token: string, key?: string) {
  return server.server.app.request(`/api/v1/bulk/${token}/apply`, {
    method: 'POST',
    headers: { authorization: `Bearer ${server.admin}`, ...(key === undefined ? {} : { 'idempotency-key': key }) },
  });
}

onBoth(
  'what arrives between preview and act is not swept in, and what went is skipped with its reason',
  async (server) => {
    const [a, b, c] = await fleet(server);
    const { body, status } = await preview(server, {
      action: 'acknowledge',
      filter: { q: 'path:/usr/bin/odd' },
      note: 'rollout',
    });
    assert.equal(status, 200);
    assert.deepEqual([body.matched, body.changes, body.skipped], [2, 2, []]);
    await shows(c, odd());
    await shows(b);
    assert.equal((await apply(server, body.token)).status, 428);
    const done = await apply(server, body.token, 'key-1');
    assert.deepEqual(await done.json().then(({ state, changed, skipped }: any) => [state, changed, skipped]), [
      'done',
      1,
      1,
    ]);
    assert.deepEqual(
      (await server.api(`/api/v1/bulk/${body.token}/items`)).body.items
        .map(({ host, result }: { host: string; result: string }) => `${host === a.id ? 'a' : 'b'} ${result}`)
        .sort(),
      ['a changed', 'b resolved'],
    );
    assert.deepEqual([(await a.findings())[0]!.status, (await c.findings())[0]!.status], ['acknowledged', 'open']);
    const again = await apply(server, body.token, 'key-1');
    assert.deepEqual([again.status, ((await again.json()) as { changed: number }).changed], [200, 1]);
    assert.equal((await apply(server, body.token, 'key-2')).status, 409);
    const trail = (await server.server.store.audit.list({ object: `bulk:${body.token}` }, { cursor: null, limit: 10 }))
      .items;
    assert.deepEqual(
      trail.map(({ action, actor }) => `${actor} ${action}`),
      ['admin finding.acknowledge'],
    );
  },
);

onBoth('a finding that ended and came back since the preview is another one', async (server) => {
  const [a] = await fleet(server);
  const { body } = await preview(server, { action: 'acknowledge', filter: { q: `host:${a.id}` } });
  await shows(a);
  await shows(a, odd());
  const done = await (await apply(server, body.token, 'k')).json();
  assert.deepEqual([(done as any).changed, (done as any).skipped], [0, 1]);
  assert.equal((await a.findings())[0]!.status, 'open');
});

onBoth('cut off in the middle, it goes on with the rest and does nothing twice', async (server) => {
  await fleet(server);
  const at = deps(server);
  const found = await previewBulk(
    {
      terms: { action: 'acknowledge', until: null, note: null },
      cover: { kind: 'filter', q: 'path:/usr/bin/odd', all: false },
    },
    ALICE,
    at,
  );
  const { store } = server.server;
  await store.bulks.begin(found.token, 'k', { actor: 'alice', at: T0 }, null, []);
  const half = await carryOn(found.token, at, 1);
  assert.deepEqual([half.state, half.changed], ['applying', 1]);
  const whole = await applyBulk(found.token, 'k', ALICE, at);
  assert.deepEqual([whole.state, whole.changed, whole.skipped], ['done', 2, 0]);
  assert.deepEqual(await counts(server), { open: 0, acknowledged: 2, waived: 0, ever: 2, reopened: 0 });
});

onBoth('taken back within a quarter of an hour, save what somebody decided since', async (server) => {
  const [a, b] = await fleet(server);
  const { id } = await groupAt(server);
  const { body } = await preview(server, { action: 'acknowledge', filter: { q: 'sev:high' } });
  await apply(server, body.token, 'k');
  server.time.now += MINUTE;
  await acknowledge({ groupId: id, hostId: b.id }, { until: null, note: 'mine' }, BOB, deciding(server));
  const undone = await server.api(`/api/v1/bulk/${body.token}/undo`, { method: 'POST' });
  assert.deepEqual([undone.status, undone.body.changed, undone.body.skipped], [200, 1, 1]);
  assert.deepEqual([(await a.findings())[0]!.status, (await b.findings())[0]!.status], ['open', 'acknowledged']);
  assert.equal((await server.api(`/api/v1/bulk/${body.token}/undo`, { method: 'POST' })).status, 409);
  const late = (await preview(server, { action: 'acknowledge', filter: { q: 'sev:high' } })).body;
  await apply(server, late.token, 'k');
  server.time.now += 16 * MINUTE;
  assert.equal((await server.api(`/api/v1/bulk/${late.token}/undo`, { method: 'POST' })).status, 409);
});

onBoth('assigning many groups, and taking that back', async (server) => {
  const [a] = await fleet(server);
  await shows(a, odd(), odd('y', '/usr/bin/other'));
  const { body } = await preview(server, { action: 'assign', assignee: 'alice', filter: { q: 'path:/usr/bin/**' } });
  assert.equal(body.matched, 2);
  await apply(server, body.token, 'k');
  assert.equal((await server.api('/api/v1/groups?q=assignee:alice')).body.total.count, 2);
  await server.api(`/api/v1/bulk/${body.token}/undo`, { method: 'POST' });
  assert.equal((await server.api('/api/v1/groups?q=assignee:alice')).body.total.count, 0);
  // By their ids; what somebody was given meanwhile stays theirs.
  const ids = (await server.api('/api/v1/groups')).body.items.map(({ id }: { id: string }) => ({ group: id }));
  const wanted = { action: 'assign', assignee: 'alice', ids: [...ids, { group: 'fg_nonsense' }] };
  const named = (await preview(server, wanted)).body;
  assert.deepEqual([named.matched, named.changes], [2, 2]);
  const before = (await server.server.store.findings.group(ids[0].group))!;
  await assign(before.id, { assignee: 'bob', revision: before.revision, note: null }, BOB, deciding(server));
  const done = (await (await apply(server, named.token, 'k2')).json()) as { changed: number; skipped: number };
  assert.deepEqual([done.changed, done.skipped], [1, 1]);
  assert.equal((await server.api('/api/v1/groups?q=assignee:bob')).body.total.count, 1);
});

onBoth(
  'refuses: everything without saying so, unknown words, two covers, old previews, another one’s act',
  async (server) => {
    await fleet(server);
    const ack = { action: 'acknowledge' };
    const refused = async (body: object) => {
      const answer = await preview(server, body);
      return [answer.status, answer.body.code];
    };
    assert.deepEqual(await refused({ ...ack, filter: {} }), [422, 'BULK_TOO_WIDE']);
    assert.deepEqual(await refused({ ...ack, filter: { q: ' ' } }), [422, 'BULK_TOO_WIDE']);
    assert.deepEqual(await refused({ ...ack, filter: { q: 'foo:1' } }), [400, 'QUERY_INVALID']);
    assert.deepEqual(await refused({ ...ack, filter: { foo: 1 } }), [400, 'BODY_INVALID']);
    assert.deepEqual(await refused(ack), [400, 'BODY_INVALID']);
    assert.deepEqual(await refused({ ...ack, filter: { q: 'sev:high' }, ids: [{ host: 'h', group: 'g' }] }), [
      400,
      'BODY_INVALID',
    ]);
    const all = await preview(server, { ...ack, filter: {}, all: true });
    assert.equal(all.body.matched, 2);
    server.time.now += 16 * MINUTE;
    assert.equal((await apply(server, all.body.token, 'k')).status, 409);
    const at = deps(server);
    const terms = { action: 'acknowledge', until: null, note: null } as const;
    const found = await previewBulk({ terms, cover: { kind: 'filter', q: 'sev:high', all: false } }, ALICE, at);
    assert.equal((await apply(server, found.token, 'k')).status, 404);
  },
);

onBoth('who sees some host groups acts on those alone', async (server) => {
  const [a] = await fleet(server);
  await server.server.store.hosts.setGroup(a.id, 'lab', { actor: 'admin', at: T0 });
  const operator = person('oscar', { roles: ['operator'], groups: ['lab'] });
  const found = await previewBulk(
    { terms: { action: 'acknowledge', until: null, note: null }, cover: { kind: 'filter', q: '', all: true } },
    operator,
    deps(server),
  );
  assert.equal(found.matched, 1);
  const give = { action: 'assign', assignee: 'oscar', note: null } as const;
  const items = [{ hostId: '', groupId: (await groupAt(server)).id as string }];
  const given = await previewBulk({ terms: give, cover: { kind: 'items', items } }, operator, deps(server));
  assert.equal(given.matched, 1);
  // What was theirs when they looked is not any more.
  await server.server.store.hosts.setGroup(a.id, 'prod', { actor: 'admin', at: T0 });
  for (const { token } of [found, given]) {
    const done = await applyBulk(token, 'k', operator, deps(server));
    assert.deepEqual([done.state, done.changed, done.skipped], ['done', 0, 1]);
  }
  const viewer = { ...operator, roles: ['viewer'] as const };
  await rejectsCode(() => applyBulk(found.token, 'k', viewer, deps(server)), DecisionError, 'FORBIDDEN');
});

onBoth('a thousand and more: the answer comes early, and a job ends it', async (server) => {
  const host = await hostAs(server, 'web-1');
  const many = Array.from({ length: 1200 }, (_, n) => odd('x', `/usr/bin/odd-${String(n).padStart(4, '0')}`));
  await shows(host, ...many);
  const { body } = await preview(server, { action: 'acknowledge', filter: { q: 'text:odd-' } });
  assert.equal(body.matched, 1200);
  await apply(server, body.token, 'k');
  await server.settle();
  const done = (await server.api(`/api/v1/bulk/${body.token}`)).body;
  assert.deepEqual([done.state, done.changed], ['done', 1200]);
  assert.deepEqual((await host.told()).findings.acknowledged, 1200);
});

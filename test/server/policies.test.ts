/** Versions of the policy: applied over the API, followed from a folder, tried before they count. */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { policySource } from '#server/prepare.ts';
import { BASE, enrol, file, folder, image, serverFor, type TestHost, type TestServer } from './fleet.ts';

const os = image('41');

/** A host whose /etc/banner is its own, judged under the shipped policy. */
async function fleet(
  t: TestContext,
  more: Parameters<typeof serverFor>[1] = {},
): Promise<{ server: TestServer; host: TestHost }> {
  const server = await serverFor(t, { images: [os], policy: await policySource(undefined), ...more });
  const host = await enrol(server, os);
  await host.sendFull();
  await server.settle();
  host.compareWith(os);
  host.entries = [...BASE, file('/etc/banner', 'hello')];
  await host.sendFull();
  await server.settle();
  return { server, host };
}

const policyText = (rules: string) => `format: bootproof.policy/1\nname: mine\nextends: default\nfiles:\n${rules}`;
const ALLOWED = policyText('  - id: banner\n    paths: [/etc/banner]\n    effect: allowed\n    reason: We greet.\n');
const WORSE = policyText(
  '  - id: banner\n    paths: [/etc/banner]\n    effect: forbidden\n    severity: critical\n    reason: Nobody greets.\n',
);
const one = (text: string) => ({ documents: [{ file: 'mine.yaml', text }] });
const post = (server: TestServer, path: string, body: unknown) => server.api(path, { method: 'POST', body });

test('a new server judges under version 1, the policy that ships, and every verdict says under which', async (t) => {
  const { server } = await fleet(t);
  const { body } = await server.api('/api/v1/policies');
  assert.deepEqual([body.active, body.managed, body.items.length], [1, null, 1]);
  const [first] = body.items;
  assert.deepEqual(
    [first.version, first.active, first.name, first.origin, first.by],
    [1, true, 'default', 'shipped', 'configuration'],
  );
  assert.equal(first.digest, body.digest);
  const shown = (await server.api('/api/v1/policies/1')).body;
  assert.ok(
    shown.rules.some(({ id, on }: { id: string; on: string }) => id === 'account-second-root' && on === 'accounts'),
  );
  assert.match(shown.documents[0].text, /^# The host policy that ships/);
});

test('what a policy would change is told before it counts, and is what happens when it does', async (t) => {
  const { server, host } = await fleet(t);
  const before = await host.findings();
  assert.deepEqual(
    before.map(({ rule }) => rule),
    ['etc-other'],
  );
  const { status, body: diff } = await post(server, '/api/v1/policies/diff', one(ALLOWED));
  assert.equal(status, 200, JSON.stringify(diff));
  assert.deepEqual(diff.findings, { added: 0, removed: 1, rerated: 0 });
  assert.deepEqual(diff.hosts, { judged: 1, changed: 1, unjudged: 0 });
  assert.deepEqual(diff.verdicts, [{ from: 'drifted', to: 'compliant', hosts: 1 }]);
  assert.deepEqual(
    diff.rules.map(({ rule, removed, hosts }: any) => [rule, removed, hosts]),
    [['etc-other', 1, 1]],
  );
  assert.match(diff.rules[0].examples[0].text, /^\/etc\/banner: added file/);
  assert.equal(diff.next, null);
  // Nothing was written.
  assert.equal((await server.api('/api/v1/policies')).body.active, 1);
  assert.equal((await host.told()).verdict, 'drifted');

  const applied = await post(server, '/api/v1/policies', { ...one(ALLOWED), note: 'greeting', expect: 1 });
  assert.deepEqual(applied.body, { version: 2, unchanged: false });
  await server.settle();
  const told = await host.told();
  assert.deepEqual([told.verdict, told.integrity.allowed], ['compliant', 1]);
  assert.deepEqual(told.policy, { digest: diff.after, version: 2 });
  assert.deepEqual(await host.findings(), []);
  const list = (await server.api('/api/v1/policies')).body;
  assert.deepEqual(
    list.items.map((item: any) => [item.version, item.active, item.origin, item.by, item.note]),
    [
      [2, true, 'api', 'admin', 'greeting'],
      [1, false, 'shipped', 'configuration', null],
    ],
  );
  // Back to what was: the same, the other way round.
  const back = (await post(server, '/api/v1/policies/diff', { version: 1 })).body;
  assert.deepEqual([back.findings.added, back.verdicts[0].to], [1, 'drifted']);
  assert.deepEqual(
    (await post(server, '/api/v1/policies/diff', { version: 1, against: { version: 1 } })).body.findings,
    {
      added: 0,
      removed: 0,
      rerated: 0,
    },
  );
});

test('a rule that takes the place of another is one finding more and one less, with its severities', async (t) => {
  const { server } = await fleet(t);
  const { body } = await post(server, '/api/v1/policies/diff', one(WORSE));
  assert.deepEqual(body.findings, { added: 1, removed: 1, rerated: 0 });
  assert.deepEqual(body.rules.map(({ rule, severity }: any) => [rule, severity.before, severity.after]).sort(), [
    ['banner', null, 'critical'],
    ['etc-other', 'medium', null],
  ]);
  assert.deepEqual(body.verdicts, []);
  assert.equal(body.hosts.changed, 1);
  const rerated = policyText(
    '  - {id: etc-other, paths: [/etc/**], effect: forbidden, severity: low, reason: Less.}\n',
  );
  assert.deepEqual((await post(server, '/api/v1/policies/diff', one(rerated))).body.findings, {
    added: 0,
    removed: 0,
    rerated: 1,
  });
});

test('applied twice it is one version; what was replaced meanwhile is not replaced unseen', async (t) => {
  const { server } = await fleet(t);
  await post(server, '/api/v1/policies', one(ALLOWED));
  assert.deepEqual((await post(server, '/api/v1/policies', one(ALLOWED))).body, { version: 2, unchanged: true });
  const late = await post(server, '/api/v1/policies', { ...one(WORSE), expect: 1 });
  assert.deepEqual([late.status, late.body.code], [409, 'POLICY_CONFLICT']);
  // Versions are only ever appended: an old text applied again is a new one.
  const first = (await server.api('/api/v1/policies/1')).body;
  const again = await post(server, '/api/v1/policies', { documents: first.documents, expect: 2 });
  assert.deepEqual(again.body, { version: 3, unchanged: false });
  assert.equal((await server.api('/api/v1/policies/9')).status, 404);
  const audit = await server.server.store.audit.list({ object: 'policy:3' }, { cursor: null, limit: 10 });
  assert.deepEqual(
    audit.items.map(({ actor, action, before }) => [actor, action, (before as { version: number }).version]),
    [['admin', 'policy.apply', 2]],
  );
});

test('a broken policy is refused with every mistake and its place, and the one that counts goes on', async (t) => {
  const { server } = await fleet(t);
  const broken = policyText('  - id: banner\n    pathes: [/etc/banner]\n    effect: allowd\n    reason: x\n');
  for (const path of ['/api/v1/policies', '/api/v1/policies/diff']) {
    const { status, body } = await post(server, path, one(broken));
    assert.deepEqual([status, body.code], [422, 'POLICY_INVALID']);
    const details = body.errors.map(({ detail }: { detail: string }) => detail);
    assert.ok(
      details.some((detail: string) => detail.startsWith('mine.yaml:6:5: unknown key "pathes", did you mean paths?')),
      details.join('\n'),
    );
    assert.ok(details.some((detail: string) => /mine\.yaml:7:\d+: did you mean allowed\?/.test(detail)));
  }
  assert.equal((await server.api('/api/v1/policies')).body.active, 1);
});

test('a policy in a folder is followed, read-only over the API, and knows its commit', async (t) => {
  const place = folder(t);
  const commit = 'ab'.repeat(20);
  mkdirSync(join(place, '.git/refs/heads'), { recursive: true });
  writeFileSync(join(place, '.git/HEAD'), 'ref: refs/heads/main\n');
  writeFileSync(join(place, '.git/refs/heads/main'), `${commit}\n`);
  mkdirSync(join(place, 'policies'));
  const write = (name: string, text: string) => writeFileSync(join(place, 'policies', name), text);
  write('base.yaml', 'format: bootproof.policy/1\nname: base\nextends: default\n');
  write('mine.yaml', WORSE.replace('extends: default', 'extends: base'));
  write('mine.test.yaml', 'no policy, and not looked at: [');
  const { server, host } = await fleet(t, { policy: await policySource(join(place, 'policies')) });
  assert.deepEqual(
    (await host.findings()).map(({ rule, severity }) => [rule, severity]),
    [['banner', 'critical']],
  );
  const list = async () => (await server.api('/api/v1/policies')).body;
  assert.deepEqual([(await list()).items[0].origin, (await list()).items[0].commit], ['files', commit]);
  const refused = await post(server, '/api/v1/policies', one(ALLOWED));
  assert.deepEqual([refused.status, refused.body.code], [409, 'POLICY_MANAGED']);
  assert.match(refused.body.detail, /policies; change it there/);

  write('mine.yaml', 'format: bootproof.policy/1\nname: mine\nextends: base\nrules: []\n');
  await server.server.renewPolicy();
  const { active, managed } = await list();
  assert.equal(active, 1);
  assert.match(managed.problem.lines.join('\n'), /mine\.yaml:4:1: unknown key "rules"/);
  assert.equal((await host.told()).verdict, 'drifted');

  write('mine.yaml', ALLOWED.replace('extends: default', 'extends: base'));
  await server.server.renewPolicy();
  await server.settle();
  assert.deepEqual([(await list()).active, (await list()).managed.problem], [2, null]);
  assert.equal((await host.told()).verdict, 'compliant');
  // Written again as it was: no version of its own.
  write('mine.yaml', ALLOWED.replace('extends: default', 'extends: base'));
  await server.server.renewPolicy();
  assert.equal((await list()).active, 2);
});

test('two that count, or one that extends itself, are refused when the server starts', async (t) => {
  const place = folder(t);
  writeFileSync(join(place, 'a.yaml'), 'format: bootproof.policy/1\nname: a\nextends: default\n');
  writeFileSync(join(place, 'b.yaml'), 'format: bootproof.policy/1\nname: b\nextends: default\n');
  await assert.rejects(
    serverFor(t, { policy: await policySource(place) }),
    /which policy counts\? None of the others extends a\.yaml, b\.yaml/,
  );
  writeFileSync(join(place, 'a.yaml'), 'format: bootproof.policy/1\nname: a\nextends: b\n');
  writeFileSync(join(place, 'b.yaml'), 'format: bootproof.policy/1\nname: b\nextends: a\n');
  await assert.rejects(serverFor(t, { policy: await policySource(place) }), /extend each other in a circle/);
});

test('what one process applies counts in the other, and survives a start', async (t) => {
  const storeUrl = `sqlite:${join(folder(t), 'store.db')}`;
  const { server, host } = await fleet(t, { storeUrl });
  const source = await policySource(undefined);
  const other = await serverFor(t, { storeUrl, images: [os], policy: source, admin: server.admin });
  await post(server, '/api/v1/policies', one(ALLOWED));
  await other.server.renewPolicy();
  assert.equal((await other.api('/api/v1/policies')).body.active, 2);
  await server.settle();
  assert.equal((await host.told()).verdict, 'compliant');
  await other.server.close();
  const third = await serverFor(t, { storeUrl, images: [os], policy: source, admin: server.admin });
  assert.equal((await third.api('/api/v1/policies')).body.active, 2);
});

/** Policies, settings and access on the pages: what is tried writes nothing, what is told once is told once, and each act leads back with its word. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { shippedPolicy } from '#server/policyfiles.ts';
import { file, serverFor, type TestServer } from '#test/server/fleet.ts';
import { groupAt, hostAs, odd, OS, shows } from '../decisions/people.ts';
import { visitor } from './visitor.ts';

const POLICY = `format: bootproof.policy/1
name: ours
description: Ours.
extends: default
files:
  - id: odd-is-fine
    paths: [/usr/bin/odd]
    effect: allowed
    reason: It is ours.
contents:
  deny: [/etc/ours/**]
`;

async function withPolicies(t: Parameters<typeof serverFor>[0]): Promise<TestServer> {
  return serverFor(t, { images: [OS], policy: { kind: 'store', shipped: await shippedPolicy() } });
}

test('a policy is tried against the last reports first, and counts only once it is applied', async (t) => {
  const server = await withPolicies(t);
  const [a, b] = [await hostAs(server, 'web-1'), await hostAs(server, 'web-2')];
  await shows(a, odd());
  await shows(b, odd(), file('/etc/cron.d/job', 'x'));
  const reader = await visitor(server);
  assert.match((await reader.page('/policies')).text, /Version 1 of the policy judges/);
  assert.match((await reader.page('/policies/try')).text, /extends: default/);
  const fields = { file: 'policy.yaml', text: POLICY };
  const trial = await reader.send('/policies/try', fields);
  assert.equal(trial.status, 200);
  assert.match(trial.text, /would find \+0 ?, −2/);
  assert.match(trial.text, /drifted → compliant ?1 host/);
  assert.equal(await server.server.store.policies.head(), 1, 'trying writes nothing');
  assert.equal((await groupAt(server)).status, 'open');

  const broken = await reader.send('/policies/try', { ...fields, text: POLICY.replace('effect', 'efect') });
  assert.equal(broken.status, 422);
  assert.match(broken.text, /policy\.yaml:\d+:\d+: .*effect/);
  assert.match(broken.text, /efect: allowed/, 'what was typed stands');
  const stale = await reader.send('/policies/try', { ...fields, step: 'apply', expect: '9', note: '' });
  assert.equal(stale.status, 422);
  assert.match(stale.text, /version 1 of the policy counts now, not 9/);

  const done = await reader.send('/policies/try', { ...fields, step: 'apply', expect: '1', note: 'odd is ours' });
  assert.equal(done.location, '/policies?did=applied');
  await server.settle();
  assert.match((await reader.page('/policies')).text, /Version 2 of the policy judges.*odd is ours/);
  assert.equal((await a.told()).verdict, 'compliant');
  const changes = await reader.page('/policies/2/changes');
  assert.match(changes.text, /-format|\+format|\+ +- id: odd-is-fine/);
  assert.match(
    (await reader.page('/policies/2')).text,
    /odd-is-fine.*Content that is never shown 1 pattern.*\/etc\/ours\/\*\*/,
  );
  assert.match((await reader.page('/policies/1')).text, /It denies nothing more/);
  assert.match((await reader.page('/policies/2/text')).text, /It is ours\./);
  // Back to the one before, by the same way.
  assert.match((await reader.page('/policies/1/dryrun')).text, /would find \+2 ?, −0/);
  assert.equal((await reader.visit('/policies/7')).status, 404);
});

test('a policy that is set elsewhere can be tried, and not applied', async (t) => {
  const server = await serverFor(t, { images: [OS] });
  const reader = await visitor(server);
  const list = await reader.page('/policies');
  assert.match(list.text, /read-only here/);
  assert.ok(!list.links.includes('/policies/try'));
  const trial = await reader.send('/policies/try', { file: 'policy.yaml', text: POLICY });
  assert.equal(trial.status, 200);
  assert.doesNotMatch(trial.text, /Apply as version/);
  assert.equal((await reader.send('/policies/try', { file: 'policy.yaml', text: POLICY, step: 'apply' })).status, 422);
});

test('an enrolment token is told once, lets a host in as it says, and is revoked', async (t) => {
  const server = await serverFor(t);
  const reader = await visitor(server);
  for (const [fields, says] of [
    [{ uses: '0', life: '86400' }, /from 1 on/],
    [{ uses: '1', life: '7' }, /One field needs/],
    [{ uses: '1', life: '86400', group: 'a b' }, /Letters, digits/],
    [{ uses: '1', life: '86400', labels: 'site' }, /key=value/],
  ] as const) {
    const wrong = await reader.send('/settings/enrol', fields);
    assert.equal(wrong.status, 422, JSON.stringify(fields));
    assert.match(wrong.text, says);
  }
  const made = await reader.send('/settings/enrol', {
    uses: '',
    life: '604800',
    group: 'prod/web',
    labels: 'site=fra a=b',
  });
  const token = /BOOTPROOF_ENROLL_TOKEN=(bp1\.\S+)/.exec(made.text)?.[1];
  assert.ok(token !== undefined);
  const list = await reader.page('/settings/enrol');
  assert.ok(!list.html.includes(token.split('.')[2]!), 'the secret is told once');
  assert.match(list.text, /usable ?0 of any ?prod\/web site=fra/);
  const [kept] = (await server.api('/api/v1/tokens')).body.items;
  assert.deepEqual([kept.group, kept.labels, kept.maxUses], ['prod/web', { site: 'fra', a: 'b' }, null]);
  const done = await reader.send('/settings/enrol/revoke', { id: kept.id });
  assert.equal(done.location, '/settings/enrol?did=revoked');
  assert.match((await reader.page('/settings/enrol')).text, /revoked/);
});

test('sources, and whether one person decides, are set on the page and stand in the trail', async (t) => {
  const server = await serverFor(t);
  const reader = await visitor(server);
  await reader.send('/sources', { reference: 'docker://registry.example/a', next: 'settings' });
  assert.match((await reader.page('/settings')).text, /docker:\/\/registry\.example\/a/);
  await reader.send('/settings/sources/forbid', { reference: 'docker://registry.example/a' });
  assert.match((await reader.page('/settings')).text, /None is allowed/);
  assert.match((await reader.page('/settings')).text, /cannot approve it/);
  await reader.send('/settings/waivers', { single: 'on' });
  assert.match((await reader.page('/settings')).text, /One person may ask for and approve/);
  const { text } = await reader.page('/activity');
  for (const word of ['allowed the source', 'no longer allows the source', 'changed the setting'])
    assert.ok(text.includes(word), word);
});

test('roles, services and API tokens are given and taken on the page', async (t) => {
  const server = await serverFor(t);
  const reader = await visitor(server);
  assert.equal((await reader.send('/settings/access/service', { name: 'No Good' })).status, 422);
  await reader.send('/settings/access/service', { name: 'ci' });
  const unknown = await reader.send('/settings/access/bind', { holder: 'nobody', role: 'operator', group: '' });
  assert.equal(unknown.status, 422);
  assert.match(unknown.text, /no account nobody/);
  await reader.send('/settings/access/bind', { holder: 'service:ci', role: 'operator', group: 'prod/web' });
  assert.match((await reader.page('/settings/access')).text, /operator of prod\/web/);
  const token = { tokenname: 'nightly', owner: 'service:ci', days: '30' };
  const far = await reader.send('/settings/access/token', { ...token, role: 'admin' });
  assert.equal(far.status, 422);
  assert.match(far.text, /reaches no further/);
  assert.equal((await reader.send('/settings/access/token', { ...token, role: 'operator', days: '9999' })).status, 422);
  const made = await reader.send('/settings/access/token', { ...token, role: 'operator' });
  assert.match(made.text, /told this once/);
  const secret = /<div class="cmd"><code>([^<]+)<\/code>/.exec(made.html)?.[1];
  assert.ok(secret !== undefined && secret.length > 20);
  assert.ok(!(await reader.page('/settings/access')).html.includes(secret));
  const asked = await server.server.app.request('/api/v1/hosts', { headers: { authorization: `Bearer ${secret}` } });
  assert.equal(asked.status, 200);
  const [kept] = (await server.server.store.access.tokens(null, { cursor: null, limit: 5 })).items;
  await reader.send('/settings/access/token/revoke', { id: kept!.id });
  const after = await server.server.app.request('/api/v1/hosts', { headers: { authorization: `Bearer ${secret}` } });
  assert.equal(after.status, 401);
  const [binding] = await server.server.store.access.bindings();
  await reader.send('/settings/access/unbind', { id: binding!.id });
  assert.deepEqual(await server.server.store.access.bindings(), []);
  await reader.send('/settings/access/disable', { id: 'service:ci' });
  assert.match((await reader.page('/settings/access')).text, /disabled/);
});

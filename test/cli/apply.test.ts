/** `bootproof apply` against a real server: what files say becomes so, once; a dry run writes nothing; each refusal names its line. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { main } from '#cli/apply.ts';
import { UsageError } from '#src/terminal.ts';
import { shippedPolicy } from '#server/policyfiles.ts';
import { hostAs, odd, OS, shows } from '#test/server/decisions/people.ts';
import { file, folder, serverFor, type TestServer } from '#test/server/fleet.ts';
import { rejectsCode } from '#test/throws.ts';
import { ran } from '#test/ran.ts';

type Ran = { readonly exit: number; readonly out: string };

async function at(t: TestContext): Promise<{
  readonly server: TestServer;
  readonly dir: string;
  readonly secrets: string;
  readonly write: (name: string, text: string) => void;
  readonly apply: (...args: string[]) => Promise<Ran>;
}> {
  const server = await serverFor(t, { images: [OS], policy: { kind: 'store', shipped: await shippedPolicy() } });
  const dir = folder(t);
  const env = {
    BOOTPROOF_SERVER: server.server.url,
    BOOTPROOF_TOKEN: server.admin,
    HOOK: 'https://hooks.example/secret',
  };
  const apply = async (...args: string[]) => {
    const { exit, out } = await ran(main, ['-f', dir, ...args], { env });
    return { exit, out: out.replaceAll(`${dir}/`, '') };
  };
  const write = (name: string, text: string) => writeFileSync(join(dir, name), text);
  return { server, dir, secrets: join(folder(t), 'secrets'), write, apply };
}

const ALL = `kind: Source
name: docker://registry.example/team/other
---
kind: Channel
name: on duty
spec:
  target: {kind: slack, url: {env: HOOK}}
  routing: {minSeverity: high}
---
kind: Token
name: web
spec: {group: web, maxUses: null, lifeSeconds: 2592000}
`;
const POLICY = `format: bootproof.policy/1
name: ours
description: Ours.
extends: default
freshness: {reportEvery: 30m}
`;
const waiver = (expires: string, why = 'It goes with the next image.') => `kind: Waiver
name: The odd tool
spec:
  kind: accepted_risk
  justification: ${why}
  selector:
    subject: {exact: /usr/bin/odd}
  expiresAt: ${expires}
`;

async function trail(server: TestServer): Promise<number> {
  return (await server.api('/api/v1/audit?limit=200')).body.items.length;
}

test('the first apply creates, a dry run before it writes nothing, and the second finds everything as it is', async (t) => {
  const { server, secrets, write, apply } = await at(t);
  const host = await hostAs(server, 'web-1');
  await shows(host, odd());
  write('all.yaml', ALL);
  write('policy.yaml', POLICY);
  write('waivers.yaml', waiver('2026-12-05T00:00:00Z'));
  const before = await trail(server);

  const dry = await apply('--dry-run', '--secrets', secrets);
  assert.equal(dry.exit, 1, dry.out);
  assert.match(dry.out, /^all\.yaml:1: would be created  Source docker:/m);
  assert.match(dry.out, /^all\.yaml:4: would be created  Channel on duty: https:\/\/hooks\.example\/…/m);
  assert.match(dry.out, /^policy\.yaml:1: would be changed  Policy ours: \+0 findings/m);
  assert.match(dry.out, /^waivers\.yaml:1: would be created  Waiver The odd tool: a request: /m);
  assert.doesNotMatch(dry.out, /secret/);
  assert.equal(await trail(server), before, 'nothing was written');

  const first = await apply('--secrets', secrets);
  assert.equal(first.exit, 0, first.out);
  assert.deepEqual(first.out.match(/: (created|changed) /g), [
    ': created ',
    ': changed ',
    ': created ',
    ': created ',
    ': created ',
  ]);
  assert.match(first.out, /Waiver The odd tool: W-1 waits for another person's approval/);
  assert.deepEqual(readdirSync(secrets), ['token-web']);
  assert.equal(statSync(join(secrets, 'token-web')).mode & 0o777, 0o600);
  const token = readFileSync(join(secrets, 'token-web'), 'utf8').trim();
  assert.ok(!first.out.includes(token) && !(await apply('--json')).out.includes(token));
  assert.equal((await server.api('/api/v1/sources')).body.items.length, 2);

  const written = await trail(server);
  const second = await apply();
  assert.deepEqual([second.exit, second.out.match(/: unchanged /g)?.length], [0, 5], second.out);
  assert.equal((await apply('--dry-run')).exit, 0);
  assert.equal(await trail(server), written, 'what is so already is left alone');
});

test('a change is told member by member and made once', async (t) => {
  const { server, secrets, write, apply } = await at(t);
  write('all.yaml', ALL);
  await apply('--secrets', secrets);
  write('all.yaml', ALL.replace('high', 'low').replace('group: web', 'group: db'));
  const dry = await apply('--dry-run', '--secrets', secrets);
  assert.match(dry.out, /^ {4}routing: .*"high".* → .*"low"/m);
  assert.match(dry.out, /^ {4}group: "web" → "db"/m);
  const done = await apply('--secrets', secrets);
  assert.equal(done.exit, 0, done.out);
  assert.match(done.out, /changed  Token web: [a-z2-7]{16}; [a-z2-7]{16} is revoked/);
  assert.equal((await server.api('/api/v1/tokens')).body.items.filter((each: any) => each.usable).length, 1);
  assert.equal((await apply()).out.match(/: unchanged /g)?.length, 3);
  // What is told once needs a place.
  write('all.yaml', ALL.replace('name: web', 'name: db'));
  const refused = await apply();
  assert.equal(refused.exit, 1);
  assert.match(refused.out, /^all\.yaml:10: refused  Token db: .*--secrets \[SECRET_PLACE\]/m);
});

test('a waiver is a request; whoever may approve it does; then only a later end is asked for', async (t) => {
  const { server, write, apply } = await at(t);
  const host = await hostAs(server, 'web-1');
  await shows(host, odd(), file('/etc/cron.d/job', 'x'));
  write('w.yaml', waiver('2026-12-05T00:00:00Z'));
  assert.match((await apply()).out, /W-1 waits for another person's approval/);
  write('w.yaml', waiver('2026-12-06T00:00:00Z', 'Other words.'));
  assert.match((await apply()).out, /changed  Waiver The odd tool: W-1 waits/);
  await server.api('/api/v1/settings/waivers', { method: 'PUT', body: { singlePerson: true } });
  assert.match((await apply('--no-approve')).out, /unchanged .* W-1 waits for approval/);
  assert.match((await apply()).out, /changed  Waiver The odd tool: W-1 is approved/);
  assert.equal((await server.api('/api/v1/waivers/W-1')).body.state, 'active');
  assert.match((await apply()).out, /unchanged  Waiver The odd tool: W-1, active/);
  write('w.yaml', waiver('2026-12-10', 'Other words.'));
  assert.match((await apply()).out, /changed  Waiver The odd tool: W-1 is approved/);
  assert.equal((await server.api('/api/v1/waivers/W-1')).body.expiresAt.slice(0, 19), '2026-12-11T00:00:00');
  write('w.yaml', waiver('2026-12-10', 'Yet other words.'));
  const refused = await apply();
  assert.equal(refused.exit, 1);
  assert.match(
    refused.out,
    /^w\.yaml:1: refused .*only a later end can be asked for.*\[WAIVER_STATE\]\n {4}justification: /m,
  );
  const { revision } = (await server.api('/api/v1/waivers/W-1')).body;
  await server.server.app.request('/api/v1/waivers/W-1/revoke', {
    method: 'POST',
    headers: {
      authorization: `Bearer ${server.admin}`,
      'content-type': 'application/json',
      'if-match': `"${revision}"`,
    },
    body: JSON.stringify({ reason: 'No longer needed.' }),
  });
  write('w.yaml', waiver('2026-12-10', 'Other words.'));
  assert.match((await apply()).out, /refused .*admin ended W-1 \(revoked\): No longer needed\. \[WAIVER_STATE\]/);
});

const WRONG: readonly (readonly [name: string, text: string, told: RegExp])[] = [
  ['an unknown kind', 'kind: Waver\nname: x\n', /a\.yaml:1: .*did you mean Waiver\?/],
  ['an unknown key', 'kind: Token\nname: x\nspecs: {}\n', /a\.yaml:3: .*did you mean spec\?/],
  ['an unknown member', 'kind: Token\nname: x\nspec:\n  uses: 3\n', /a\.yaml:4: /],
  ['a value out of bounds', 'kind: Token\nname: x\nspec:\n  lifeSeconds: 1\n', /a\.yaml:4: /],
  ['no YAML', 'kind: [\n', /a\.yaml:[12]: .*DOCUMENT_INVALID/],
  ['one thing twice', 'kind: Source\nname: oci:a\n---\nkind: Source\nname: oci:a\n', /a\.yaml:4: .*a\.yaml:1 as well/],
  [
    'a policy with an unknown key',
    'format: bootproof.policy/1\nname: x\ndescription: X.\nfile: []\n',
    /a\.yaml:4: .*did you mean files\?/,
  ],
  [
    'a policy among others',
    'format: bootproof.policy/1\n---\nkind: Token\nname: x\n',
    /a\.yaml:1: .*a file of its own/,
  ],
  [
    'an unknown member, with what was meant',
    'kind: Token\nname: x\nspec:\n  lifeSecond: 600\n',
    /a\.yaml:4: .*did you mean lifeSeconds\?/,
  ],
  ['a filter that cannot be read', 'kind: View\nname: x\nspec: {q: "sev:awful"}\n', /a\.yaml:3: .*info, low, medium/],
  [
    'a condition that cannot be read',
    'kind: Channel\nname: x\nspec:\n  target: {kind: slack, url: "https://hooks.example/a"}\n  routing: {condition: "sev =="}\n',
    /a\.yaml:5: /,
  ],
  // What only the server knows: where it tells nobody anything.
  [
    'a forbidden target',
    'kind: Channel\nname: x\nspec:\n  target: {kind: slack, url: "https://127.0.0.1/a"}\n',
    /a\.yaml:1: refused .*CHANNEL_INVALID/,
  ],
  ['an image policy', 'apiVersion: v1\nkind: ClusterImagePolicy\n', /a\.yaml:2: .*files on the server/],
  [
    'a secret that is not there',
    'kind: Channel\nname: x\nspec:\n  target: {kind: slack, url: {env: NOT_SET}}\n',
    /a\.yaml:4: .*NOT_SET is not set/,
  ],
];
test('what is wrong names its line, and nothing is sent', async (t) => {
  const { server, write, apply } = await at(t);
  write('b.yaml', 'kind: Source\nname: docker://registry.example/team/fine\n');
  const before = await trail(server);
  for (const [name, text, told] of WRONG) {
    write('a.yaml', text);
    const { exit, out } = await apply();
    assert.equal(exit, 1, name);
    assert.match(out, told, name);
    assert.match(out, /^b\.yaml:1: skipped/m, name);
  }
  assert.equal(await trail(server), before);
  write('a.yaml', '# nothing\n');
  write('b.yaml', '# nothing\n');
  await rejectsCode(() => apply(), UsageError, 'USAGE');
  write('b.yaml', 'kind: Source\nname: fedora\n---\nkind: Source\nname: docker://registry.example/team/fine\n');
  const mixed = await apply();
  assert.equal(mixed.exit, 1);
  assert.match(mixed.out, /^b\.yaml:1: refused .*\[SOURCE_SYNTAX\]\nb\.yaml:4: skipped/m);
  assert.equal(await trail(server), before);
});

const PEOPLE = `kind: Denial
name: The key that leaked
spec: {image: "sha256:${'a'.repeat(64)}"}
---
kind: Access
name: service:ci
spec: {roles: [{role: operator, group: lab}, {role: viewer}]}
---
kind: Access
name: claim:sre
spec: {roles: [{role: operator, group: prod}]}
---
kind: ApiToken
name: nightly
spec: {owner: "service:ci", roles: [operator], groups: [lab], lifeSeconds: 86400}
---
kind: View
name: Urgent
spec: {q: "sev:>=high", shared: true}
---
kind: Setting
name: waivers
spec: {singlePerson: true}
`;

test('access, API tokens, views, settings and denials come as files, and go only where --prune names their kind', async (t) => {
  const { server, secrets, write, apply } = await at(t);
  write('people.yaml', PEOPLE);
  const before = await trail(server);
  const dry = await apply('--dry-run', '--secrets', secrets);
  assert.deepEqual([dry.exit, await trail(server)], [1, before], dry.out);
  assert.equal(dry.out.match(/would be created /g)?.length, 5, dry.out);
  const first = await apply('--secrets', secrets);
  assert.equal(first.exit, 0, first.out);
  assert.match(first.out, /created {2}Access service:ci: operator@lab, viewer/);
  assert.match(first.out, /changed {2}Setting waivers: one person may ask and approve/);
  const token = readFileSync(join(secrets, 'api-token-nightly'), 'utf8').trim();
  const me = await fetch(`${server.server.url}/api/v1/access/me`, { headers: { authorization: `Bearer ${token}` } });
  assert.deepEqual(((await me.json()) as any).grants, [{ role: 'operator', groups: ['lab'] }]);
  const written = await trail(server);
  const second = await apply();
  assert.deepEqual([second.exit, second.out.match(/: unchanged /g)?.length], [0, 6], second.out);
  assert.equal(await trail(server), written);

  // A role more and one less; a token of other terms takes the place of the old one.
  write('people.yaml', PEOPLE.replace('{role: viewer}', '{role: auditor}').replace('groups: [lab]', 'groups: [lab/a]'));
  const changed = await apply('--secrets', secrets);
  assert.match(changed.out, /changed {2}Access service:ci: auditor, operator@lab/);
  assert.match(changed.out, /changed {2}ApiToken nightly: \S+; \S+ is revoked/);
  const { items } = (await server.api('/api/v1/access/bindings')).body;
  assert.deepEqual(items.map(({ holder, role, group }: any) => `${holder.kind} ${holder.id} ${role} ${group}`).sort(), [
    'account service:ci auditor null',
    'account service:ci operator lab',
    'claim sre operator prod',
  ]);

  // Without --prune what no document names stays; with it only that of the kinds that it names.
  await server.api('/api/v1/views', { method: 'POST', body: { name: 'Mine', q: '', shared: false } });
  write('people.yaml', 'kind: Source\nname: docker://registry.example/team/other\n');
  assert.equal((await apply()).exit, 0);
  const would = await apply('--prune', 'View,Access,ApiToken,Denial', '--dry-run');
  assert.equal(would.exit, 1);
  assert.match(would.out, /^--prune: would be removed {2}View Urgent: /m);
  assert.equal((await server.api('/api/v1/views')).body.items.length, 2);
  const done = await apply('--prune', 'View,Access,ApiToken,Denial');
  assert.equal(done.exit, 0, done.out);
  assert.equal(done.out.match(/^--prune: removed /gm)?.length, 6, done.out);
  assert.deepEqual(
    (await server.api('/api/v1/views')).body.items.map(({ name }: any) => name),
    ['Mine'],
  );
  assert.deepEqual((await server.api('/api/v1/access/bindings')).body.items, []);
  assert.deepEqual((await server.api('/api/v1/deny')).body.items, []);
  assert.equal((await server.api('/api/v1/access/users/service:ci')).status, 200, 'accounts are never removed');
  assert.equal((await server.api('/api/v1/settings/waivers')).body.singlePerson, true);
  const last = await fetch(`${server.server.url}/api/v1/access/me`, { headers: { authorization: `Bearer ${token}` } });
  assert.equal(last.status, 401);

  // Nothing goes while a document is refused; and a kind that there is not is named.
  write('people.yaml', `${PEOPLE}---\nkind: Access\nname: nobody\nspec: {roles: []}\n`);
  const refused = await apply('--secrets', secrets, '--prune', 'View');
  assert.equal(refused.exit, 1);
  assert.match(refused.out, /refused {2}Access nobody: .* \[USER_UNKNOWN\]/);
  await rejectsCode(() => apply('--prune', 'Views'), UsageError, 'USAGE');
});

test('pruning channels, sources and waivers: what people made goes with a reason, the policy never', async (t) => {
  const { server, write, apply } = await at(t);
  const host = await hostAs(server, 'web-1');
  await shows(host, odd());
  write('all.yaml', waiver('2026-12-05T00:00:00Z'));
  await server.api('/api/v1/settings/waivers', { method: 'PUT', body: { singlePerson: true } });
  await apply();
  write('all.yaml', 'kind: Source\nname: docker://registry.example/team/os\n');
  const done = await apply('--prune', 'Waiver,Source,Channel', '--note', 'no longer in the repository');
  assert.equal(done.exit, 0, done.out);
  assert.match(done.out, /^--prune: removed {2}Waiver The odd tool: W-1, active$/m);
  const { state, endReason } = (await server.api('/api/v1/waivers/W-1')).body;
  assert.deepEqual([state, endReason], ['revoked', 'no longer in the repository']);
  assert.equal((await server.api('/api/v1/sources')).body.items.length, 1);
});

/** `bootproof policy`: on files alone, and against a real server. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { main as policy } from '#cli/policy.ts';
import { DocumentError } from '#src/document/yaml.ts';
import { UsageError } from '#src/terminal.ts';
import { policySource } from '#server/prepare.ts';
import { BASE, enrol, file, image, serverFor, type TestServer } from '#test/server/fleet.ts';
import { rejectsCode } from '#test/throws.ts';
import { ran, type Ran } from '#test/ran.ts';

const OS = image('41');

const run = (args: readonly string[], server?: TestServer): Promise<Ran> =>
  ran(policy, args, {
    env: server === undefined ? {} : { BOOTPROOF_SERVER: server.server.url, BOOTPROOF_TOKEN: server.admin },
  });

function folder(t: TestContext, files: Readonly<Record<string, string>>): string {
  const made = mkdtempSync(join(tmpdir(), 'bootproof-policy-'));
  t.after(() => rmSync(made, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(made, name), text);
  return made;
}

const MINE = `format: bootproof.policy/1
name: mine
extends: default
files:
  - id: banner
    paths: [/etc/banner]
    effect: allowed
    reason: We greet.
`;
const TESTS = `format: bootproof.policy-test/1
policy: mine.yaml
cases:
  - name: the banner is ours
    drift: [{ path: /etc/banner, change: added }]
    expect: { findings: [], allowed: 1 }
`;

test('the tests of the policy that ships all hold', async () => {
  const { exit, out } = await run(['test', 'policies']);
  assert.equal(exit, 0);
  assert.match(out, /^\d+ cases, all hold\n$/);
});

test('a test that does not hold says where, what was expected and what came', async (t) => {
  const place = folder(t, {
    'mine.yaml': MINE,
    'mine.test.yaml': `${TESTS}  - name: the banner is not
    drift: [{ path: /etc/banner, change: added }, { path: /usr/x, change: added }]
    expect: { findings: [banner /etc/banner], verdict: compliant }
`,
  });
  const { exit, out } = await run(['test', place]);
  assert.equal(exit, 1);
  assert.match(
    out,
    /mine\.test\.yaml:7: the banner is not\n {2}expected the finding banner \/etc\/banner\n {2}unexpected: high usr-other \/usr\/x\n {2}verdict: expected compliant, got drifted\n2 cases, 1 do not hold\n$/,
  );
  const json = JSON.parse((await run(['test', place, '--json'])).out);
  assert.deepEqual([json.passed, json.failed, json.cases[1].line], [1, 1, 7]);
});

const refused: [name: string, text: string, message: RegExp][] = [
  [
    'a key that is none',
    TESTS.replace('drift:', 'drfit:'),
    /t\.test\.yaml:5:5: unknown key "drfit", did you mean drift\?/,
  ],
  [
    'a case that expects nothing',
    TESTS.replace('{ findings: [], allowed: 1 }', '{}'),
    /6:13: expected findings, verdict/,
  ],
  ['a verdict that is none', TESTS.replace('findings: []', 'verdict: complaint'), /did you mean compliant\?/],
  ['a path elsewhere', TESTS.replace('/etc/banner', '/var/banner'), /expected a path at or below \/usr or \/etc/],
  [
    'a mode without quotes',
    TESTS.replace('change: added', 'change: added, after: { mode: 0644 }'),
    /a mode must be quoted/,
  ],
];
for (const [name, text, message] of refused)
  test(`refuses a test document with ${name}`, async (t) => {
    const place = folder(t, { 'mine.yaml': MINE, 't.test.yaml': text });
    await rejectsCode(() => run(['test', place]), DocumentError, 'DOCUMENT_INVALID');
    await assert.rejects(run(['test', place]), message);
  });

test('wrong use says what is meant', async (t) => {
  await rejectsCode(() => run(['test', folder(t, {})]), UsageError, 'USAGE');
  await rejectsCode(() => run(['explain', '/var/x']), UsageError, 'USAGE');
  await rejectsCode(() => run(['explain', '/etc/x', '--change', 'gone']), UsageError, 'USAGE');
  await rejectsCode(() => run(['diff', 'default', '3']), UsageError, 'USAGE');
  await rejectsCode(() => run(['check', '/nowhere']), UsageError, 'USAGE');
  assert.equal((await run([])).exit, 64);
  assert.match((await run(['--help'])).out, /bootproof policy explain PATH/);
});

test('check finds what is no policy, and rules that decide nothing', async (t) => {
  assert.deepEqual((await run(['check'])).exit, 0);
  const place = folder(t, {
    'bad.yaml': MINE.replace('paths:', 'pathes:'),
    'dead.yaml': `${MINE}  - { id: again, paths: [/etc/banner], effect: allowed, reason: x }\n`,
  });
  const bad = await run(['check', join(place, 'bad.yaml')]);
  assert.equal(bad.exit, 1);
  assert.match(bad.out, /bad\.yaml:6:5: unknown key "pathes", did you mean paths\?/);
  const dead = await run(['check', join(place, 'dead.yaml'), '--json']);
  assert.equal(dead.exit, 1);
  assert.deepEqual(
    JSON.parse(dead.out).lints.map(({ rule, code, by, place: at }: any) => [rule, code, by, at.line]),
    [['again', 'SHADOWED', ['banner'], 9]],
  );
});

test('explain says which rule decides for a path and host, and which it keeps from deciding', async (t) => {
  const place = folder(t, {
    'mine.yaml': MINE.replace('    effect', '    hosts: { labels: { env: prod } }\n    effect'),
  });
  const mine = join(place, 'mine.yaml');
  const asked = (...more: string[]) => run(['explain', '/etc/banner', '--policy', mine, '--change', 'added', ...more]);
  const other = await asked();
  assert.equal(other.exit, 1);
  assert.match(other.out, /decides {2}etc-other: a medium finding, drifted {2}policies\/default\.yaml:\d+\n/);
  assert.match(other.out, /not {6}banner: hosts does not hold/);
  const prod = await asked('--labels', 'env=prod');
  assert.equal(prod.exit, 0);
  assert.match(prod.out, /decides {2}banner: allowed .*mine\.yaml:5\n {11}We greet\.\n {2}behind {3}etc-other/);
  const json = JSON.parse((await asked('--json', '--labels', 'env=prod')).out);
  assert.deepEqual([json[0].rule, json[0].effect, json[0].shadowed[0].rule], ['banner', 'allowed', 'etc-other']);
  const secret = JSON.parse((await run(['explain', '/etc/shadow', '--json'])).out);
  assert.deepEqual(
    secret.map(({ change, rule, secret: isSecret }: any) => [change, rule, isSecret]),
    [
      ['added', 'etc-password-hashes-exposed', true],
      ['modified', 'etc-password-hashes', true],
      ['removed', 'etc-password-hashes-exposed', true],
    ],
  );
  assert.match(
    (await run(['explain', '/usr/bin/x', '--change', 'added', '--mode', '4755'])).out,
    /privileged-program-gained: a critical finding/,
  );
});

test('diff tells rules without a server, and with one what becomes of its hosts; apply, versions and show follow', async (t) => {
  const place = folder(t, { 'mine.yaml': MINE });
  const mine = join(place, 'mine.yaml');
  const local = await run(['diff', 'default', mine]);
  assert.deepEqual([local.exit, local.out], [1, 'added    files banner\n']);
  assert.deepEqual((await run(['diff', mine, mine])).exit, 0);

  const server = await serverFor(t, { images: [OS], policy: await policySource(undefined) });
  for (const name of ['a', 'b']) {
    const host = await enrol(server, OS, { name });
    await host.sendFull();
    await server.settle();
    host.compareWith(OS);
    if (name === 'b') host.entries = [...BASE, file('/etc/banner', 'hello')];
    await host.sendFull();
  }
  await server.settle();
  const fleet = await run(['diff', '1', mine, '--server'], server);
  assert.equal(fleet.exit, 1);
  assert.match(
    fleet.out,
    /^added {4}files banner\n\+0 findings, −1; 1 of 2 hosts change\ndrifted → compliant: 1 hosts\nRULE/,
  );
  assert.match(fleet.out, /etc-other +medium +\+0 +−1 +0 +1 +b: \/etc\/banner: added file/);
  const none = await run(['diff', 'default', 'default', '--server', '--json'], server);
  assert.deepEqual([none.exit, JSON.parse(none.out).fleet.hosts], [0, { judged: 2, changed: 0, unjudged: 0 }]);
  assert.match((await run(['apply', mine, '--dry-run'], server)).out, /^\+0 findings, −1/);
  assert.match((await run(['versions'], server)).out, /^ +VERSION .*\ncounts +1 +default .*configuration +shipped/);

  const applied = await run(['apply', mine, '--note', 'greeting', '--expect', '1'], server);
  assert.deepEqual([applied.exit, applied.out], [0, 'version 2 counts now; every host is judged anew\n']);
  assert.match((await run(['apply', mine], server)).out, /^version 2 says the same and counts already/);
  await server.settle();
  assert.match((await run(['versions'], server)).out, /counts +2 +mine .*admin +api .*greeting\n +1 +default/);
  assert.match(
    (await run(['show', '2'], server)).out,
    /version +2, which counts[^]*banner +files +allowed +- +\/etc\/banner/,
  );
  assert.equal((await run(['show', '2', '--text'], server)).out, MINE);
  await assert.rejects(run(['apply', mine, '--expect', '1'], server), { code: 'POLICY_CONFLICT' });
  await assert.rejects(run(['show', '9'], server), { code: 'POLICY_UNKNOWN' });
});

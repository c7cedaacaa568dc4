/** Settings from a file beside variables and options, and `check-config`: every fault at once, each told of the place where it was given. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { main } from '#cli/server.ts';
import { readSettings } from '#server/config.ts';
import { settingsIn } from '#server/configfile.ts';
import { SettingsError } from '#server/given.ts';
import { loadSettings, storeUrlOf } from '#server/settings.ts';
import { runCommand } from '#src/terminal.ts';
import { rejectsCode } from '#test/throws.ts';
import { folder } from './fleet.ts';

const TLS = join(import.meta.dirname, '../vectors/source/tls');

async function run(args: readonly string[], env: Record<string, string> = {}) {
  const said = { out: '', err: '' };
  const stream = (name: 'out' | 'err') => ({
    isTTY: false,
    columns: 100,
    write: async (text: string | Uint8Array) => void (said[name] += String(text)),
  });
  const exit = await runCommand(args, { stdout: stream('out'), stderr: stream('err'), env }, main);
  return { exit, ...said };
}

function file(t: TestContext, text: string): string {
  const path = join(folder(t), 'server.yaml');
  writeFileSync(path, text);
  return path;
}

const faultsOf = (text: string): readonly string[] => {
  try {
    readSettings([], {}, settingsIn(text, 's.yaml'));
    return [];
  } catch (error) {
    assert.ok(error instanceof SettingsError);
    return error.lines;
  }
};

test('the command line wins over variables, those over the file, that over what holds by default', async (t) => {
  const config = file(
    t,
    'format: bootproof.server/1\nlisten: 0.0.0.0:1\nreverify: 1h\nmetrics: open\nno-migrate: true\nsource: [oci:/a, oci:/b]\n',
  );
  const settings = await loadSettings(['--config', config, '--reverify', '3h'], {
    BOOTPROOF_REVERIFY: '2h',
    BOOTPROOF_METRICS: 'off',
  });
  assert.deepEqual(
    [
      settings.reverifyMs,
      settings.metrics,
      settings.listen.port,
      settings.migrates,
      settings.sources,
      settings.tufEveryMs,
    ],
    [3 * 3_600_000, 'off', 1, false, ['oci:/a', 'oci:/b'], 24 * 3_600_000],
  );
  const named = await loadSettings([], { BOOTPROOF_CONFIG: config, BOOTPROOF_NO_MIGRATE: 'false' });
  assert.deepEqual([named.metrics, named.migrates], ['open', true]);
  await assert.rejects(loadSettings(['--config', `${config}.none`], {}), /--config .*ENOENT/);
});

const REFUSED = [
  ['a name that is none', 'listne: 1', ['s.yaml:1:1: listne: is no setting, did you mean listen?']],
  ['a name as a variable has it', 'BOOTPROOF_BASE_URL: x', [/did you mean base-url\?/]],
  ['a value that cannot be read', '\nlisten: a:b:c', [/^s\.yaml:2:1: listen a:b:c: expected HOST:PORT/]],
  ['a map where a text is', 'listen: { host: x }', [/^s\.yaml:1:1: listen: expected one text/]],
  ['a list where one is', 'base-url: [a, b]', [/expected one text/]],
  ['an act of one start', 'new-admin-token: true', [/is an act of one start/]],
  ['a word where true or false is', 'no-migrate: maybe', [/expected true or false/]],
  ['another file', 'config: x', [/names no other file/]],
  ['a database with its password', 'database-url: postgres://a:b@c/d', [/^s\.yaml:1:1: database-url: a password/]],
  ['a document of another kind', 'format: bootproof.policy/1', [/expected bootproof\.server\/1/]],
  ['a list', '- a', [/expected settings/]],
  ['no YAML', 'a: [', [/^s\.yaml:/]],
  [
    'several faults',
    'a: 1\nmetrics: x\nreverify: 1\ntls-key: k',
    [/:1:1: a/, /:4:1: tls-key/, /:3:1: reverify/, /:2:1: metrics/],
  ],
] as const;
for (const [name, text, expected] of REFUSED)
  test(`a file with ${name} is refused with its place`, () => {
    const lines = faultsOf(text);
    assert.equal(lines.length, expected.length, lines.join('\n'));
    for (const [at, one] of expected.entries())
      if (typeof one === 'string') assert.equal(lines[at], one);
      else assert.match(lines[at]!, one);
    assert.ok(!lines.join().includes('postgres://'));
  });

test('a file of nothing but comments sets nothing', () => assert.deepEqual(faultsOf('# listen: 1\n'), []));

test('a database may be named in a file of its own, whose text is never repeated', async (t) => {
  const path = file(t, 'postgres://bp:hunter2@db.example/bp\n');
  const env = { BOOTPROOF_DATABASE_URL_FILE: path };
  assert.equal(storeUrlOf(await loadSettings([], env)), 'postgres://bp:hunter2@db.example/bp');
  await rejectsCode(() => loadSettings([], { ...env, DATABASE_URL: 'postgres://x/y' }), SettingsError, 'USAGE');
  writeFileSync(path, 'hunter2 and more\n');
  await assert.rejects(loadSettings([], env), (error: Error) => {
    assert.match(error.message, /^BOOTPROOF_DATABASE_URL_FILE .*expected one line/);
    return !error.message.includes('hunter2');
  });
});

test('check-config tells every fault with its place, and what would be used where there is none', async (t) => {
  const broken = file(
    t,
    [
      'source: [docker://registry.example/os, nonsense]',
      `tls-cert: ${join(TLS, 'cert.pem')}`,
      `tls-key: ${join(TLS, 'ca.pem')}`,
      'mirror:',
      '  - quay.io=mirror.example/quay',
      '  - x',
      'policy: /nowhere/policy.yaml',
      `data: ${join(TLS, 'cert.pem')}`,
      '',
    ].join('\n'),
  );
  const { exit, err } = await run(['check-config', '--config', broken, '--trusted-proxy', '10.0.0.0/99']);
  assert.equal(exit, 64);
  for (const place of [
    /:1:40: source: "nonsense"/,
    /:3:1: tls-key .* holds no private key/,
    /:6:5: mirror x: expected FROM=TO/,
    /:7:1: policy: .*ENOENT/,
    /:8:1: data .*a file stands/,
    /--trusted-proxy.*10\.0\.0\.0\/99/,
  ])
    assert.match(err, place);
  assert.match(err, /6 faults: a server does not start/);
  const whole = file(t, `tls-cert: ${join(TLS, 'cert.pem')}\ntls-key: ${join(TLS, 'key.pem')}\nlog-level: warn\n`);
  const data = join(folder(t), 'data');
  const good = await run(['check-config', '--connect', '--config', whole, '--data', data], {
    BOOTPROOF_METRICS: 'open',
  });
  assert.equal(good.exit, 0, good.err);
  assert.match(good.out, /log-level +warn {2}\(.*server\.yaml:3:1\)/);
  assert.match(good.out, /metrics +open {2}\(BOOTPROOF_METRICS\)/);
  const json = JSON.parse((await run(['check-config', '--json', '--metrics', 'x'])).out) as { faults: string[] };
  assert.deepEqual(json.faults, ['--metrics x: expected off, token or open']);
});

test('a database that is not there is told without its password', async () => {
  const env = { DATABASE_URL: 'postgres://bp:hunter2@127.0.0.1:1/bp' };
  const { exit, err } = await run(['check-config', '--connect'], env);
  assert.equal(exit, 64);
  assert.match(err, /the database: PostgreSQL does not answer/);
  assert.ok(!err.includes('hunter2'));
});

test('a subcommand that is misspelt is told what is near, and help lists them', async () => {
  assert.match((await run(['migrat'])).err, /did you mean migrate\?/);
  const { exit, out } = await run(['--help']);
  assert.equal(exit, 0);
  assert.match(out, /--tls-cert FILE.*\n[^]*check-config[^]*migrate/);
});

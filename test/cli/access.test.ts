/** `bootproof access` against a real server: accounts, roles and tokens from a terminal. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { access } from '#cli/access.ts';
import { hosts } from '#cli/fleet.ts';
import { ServerError } from '#cli/connection.ts';
import { UsageError } from '#src/terminal.ts';
import { serverFor, type TestServer } from '#test/server/fleet.ts';
import { rejectsCode } from '#test/throws.ts';
import { ran, type Main } from '#test/ran.ts';

const run = (server: TestServer, args: readonly string[], token = server.admin, main: Main = access) =>
  ran(main, args, { env: { BOOTPROOF_SERVER: server.server.url, BOOTPROOF_TOKEN: token } });

test('a service gets a role and a token from a terminal, and loses them', async (t) => {
  const server = await serverFor(t);
  const me = await run(server, []);
  assert.match(me.out, /you are +admin/);
  assert.match(me.out, /one-admin mode/);
  assert.match((await run(server, ['users'])).err, /nobody has signed in yet/);
  assert.equal((await run(server, ['users', 'create', 'ci'])).out, 'service:ci\n');
  await rejectsCode(() => run(server, ['users', 'create', 'ci']), ServerError, 'USER_EXISTS');
  const binding = (await run(server, ['bind', 'service:ci', 'operator', '--group', 'lab'])).out.trim();
  assert.match(binding, /^rb_/);
  await run(server, ['bind', 'all', 'viewer', '--claim']);
  const bindings = (await run(server, ['bindings'])).out;
  assert.match(bindings, /operator +lab +service:ci +admin/);
  assert.match(bindings, /viewer +every host +everybody in all +admin/);

  const made = await run(server, [
    'tokens',
    'create',
    'nightly run',
    '--owner',
    'service:ci',
    '--role',
    'operator',
    '--life',
    '30d',
  ]);
  const token = made.out.trim();
  assert.match(token, /^bp_[0-9A-Za-z]{46}$/);
  assert.match(made.err, /of service:ci, operator@lab, until 2026-12-24/);
  const own = await run(server, ['--json'], token);
  assert.deepEqual(JSON.parse(own.out).groups, ['lab']);
  assert.equal((await run(server, ['--json'], token, hosts)).exit, 0);
  await rejectsCode(() => run(server, ['users'], token), ServerError, 'FORBIDDEN');
  const listed = (await run(server, ['tokens'])).out;
  assert.match(listed, /service:ci +yes .*operator@lab +nightly run/);
  assert.ok(!listed.includes(token.slice(3)));

  assert.equal((await run(server, ['users', 'disable', 'service:ci'])).out, 'disabled\n');
  await rejectsCode(() => run(server, [], token), ServerError, 'UNAUTHENTICATED');
  assert.match((await run(server, ['users', 'show', 'service:ci'])).out, /disabled +2026/);
  assert.equal((await run(server, ['users', 'enable', 'service:ci'])).out, 'enabled\n');
  assert.equal((await run(server, ['unbind', binding])).out, 'unbound\n');
  const id = JSON.parse((await run(server, ['tokens', '--json'])).out).tokens[0].id;
  assert.equal((await run(server, ['tokens', 'revoke', id])).out, 'revoked\n');
  assert.equal((await run(server, ['tokens', 'revoke', id])).out, 'it was revoked before\n');
  assert.match((await run(server, ['sessions'])).err, /no browser is signed in/);
});

for (const [args, pattern] of [
  [['tokens', 'create', 'x'], /--role/],
  [['tokens', 'create', 'x', '--role', 'viewer', '--life', 'ever'], /--life ever/],
  [['tokens', 'create', 'x', '--role', 'viewer', '--life', '400d'], /at most 366d/],
  [['tokens', 'create', 'x', '--role', 'root'], /roles/],
  [['bind', 'x'], /role/],
  [['users', 'crate', 'x'], /./],
] as const)
  test(`access ${args.join(' ')} is wrong use`, async (t) => {
    const server = await serverFor(t);
    await assert.rejects(
      () => run(server, args),
      (error: unknown) => error instanceof UsageError && pattern.test(error.message),
    );
  });

test('each of its commands has help', async (t) => {
  const server = await serverFor(t);
  assert.match((await run(server, ['--help'])).out, /bind .*unbind .*tokens/s);
  assert.match((await run(server, ['tokens', 'create', '--help'])).out, /--life/);
});

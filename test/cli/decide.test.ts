/** Triage from a terminal: a waiver from request to revocation, acknowledgements of one and of many, and what is refused. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findings } from '#cli/fleet.ts';
import { waivers } from '#cli/waivers.ts';
import { ServerError } from '#cli/connection.ts';
import { UsageError } from '#src/terminal.ts';
import { rejectsCode } from '#test/throws.ts';
import { serverFor, type TestServer } from '#test/server/fleet.ts';
import { fleet, groupAt, OS } from '#test/server/decisions/people.ts';
import { ran, type Main } from '#test/ran.ts';

const run = (server: TestServer, main: Main, ...args: string[]) =>
  ran(main, args, { env: { BOOTPROOF_SERVER: server.server.url, BOOTPROOF_TOKEN: server.admin } });

test('a waiver from a terminal: previewed, asked for, approved, extended, revoked', async (t) => {
  // As it is outside: ends are reckoned from now.
  const server = await serverFor(t, { images: [OS] });
  server.time.now = Date.now();
  await fleet(server);
  const { id } = await groupAt(server);
  const asked = ['request', '--group', id, '--until', '14d', '--title', 'odd', '--why', 'known'];
  const preview = await run(server, waivers, ...asked, '--preview');
  assert.match(preview.out, /^matches 2 open findings on 2 hosts, 1 group; would change 2 hosts to compliant\n$/);
  assert.match(preview.err, /note: it covers 67 % of all hosts/);
  const made = await run(server, waivers, ...asked);
  assert.match(
    made.out,
    /^W-1 matches .*\nit has no effect until another person approves it: bootproof waivers approve W-1\n$/,
  );
  await rejectsCode(() => run(server, waivers, 'approve', 'W-1'), ServerError, 'WAIVER_OWN');
  await server.api('/api/v1/settings/waivers', { method: 'PUT', body: { singlePerson: true } });
  const approved = await run(server, waivers, 'approve', 'W-1', '--note', 'fine');
  assert.equal(approved.out, 'W-1 is active; 2 hosts follow\n');
  assert.match((await run(server, waivers)).out, /W-1 +active .* admin +admin \(alone\) +odd/);
  assert.match((await run(server, waivers, 'show', 'W-1')).out, /covers +2 findings on 2 hosts/);
  assert.equal((await run(server, findings, '--tab', 'open')).exit, 0);
  const extended = await run(server, waivers, 'extend', 'W-1', '--until', '30d', '--note', 'late');
  assert.equal(extended.out, 'W-1 is active, its extension waits for another person\n');
  const revoked = await run(server, waivers, 'revoke', 'W-1', '--reason', 'mended');
  assert.equal(revoked.out, 'W-1 is revoked; 2 hosts follow\n');
  assert.equal((await run(server, findings, '--tab', 'open')).exit, 1);
});

test('acknowledged from a terminal: one group, one host, all that match, and taken back', async (t) => {
  const server = await serverFor(t, { images: [OS] });
  server.time.now = Date.now();
  const [a] = await fleet(server);
  const { id } = await groupAt(server);
  const one = await run(server, findings, 'ack', id, '--host', a.id, '--until', '3d', '--note', 'mine');
  assert.equal(one.out, '1 finding changed\n');
  assert.match((await run(server, findings, 'show', id)).out, /web-1 +acknowledged/);
  assert.equal((await run(server, findings, 'unack', id)).out, '1 finding changed; 1 not acknowledged\n');
  const seen = await run(server, findings, 'ack', '--filter', 'sev:>=high path:/usr/bin/*');
  assert.equal(seen.out, 'would change 2 of 2 findings\nnothing was done: --yes does it\n');
  const done = await run(server, findings, 'ack', '--filter', 'sev:>=high path:/usr/bin/*', '--yes');
  assert.match(done.out, /^2 changed, 0 left as they were\nbootproof findings undo b_[0-9a-f]+ takes it back/);
  const act = /undo (b_[0-9a-f]+)/.exec(done.out)![1]!;
  assert.match((await run(server, findings, 'undo', act)).out, /^2 as before/);
  assert.equal((await run(server, findings, 'assign', id, 'me')).out, 'admin looks after it\n');
  assert.equal((await run(server, findings, 'assign', id, 'alice')).out, 'alice looks after it\n');
  await run(server, findings, 'comment', id, 'asked the vendor');
  // The beginning of an id is enough, as a narrow terminal shows it.
  assert.match((await run(server, findings, 'show', id.slice(0, 11))).out, /said +asked the vendor/);
  await rejectsCode(() => run(server, findings, 'show', 'fg_00000'), UsageError, 'USAGE');
});

test('wrong use is told in words, and does nothing', async (t) => {
  const server = await serverFor(t, { images: [OS] });
  for (const [main, ...args] of [
    [findings, 'ack'],
    [findings, 'ack', 'fg_1', '--filter', 'sev:high'],
    [findings, 'ack', 'fg_1', '--until', 'tomorrow'],
    [findings, '--filter', 'colour:red'],
    [findings, '--tab', 'closed'],
    [waivers, 'request', '--until', '7d', '--title', 'x', '--why', 'y'],
    [waivers, '--state', 'done'],
    [waivers, 'reject', 'W-1'],
  ] as const)
    await assert.rejects(() => run(server, main, ...args), UsageError, args.join(' '));
  await assert.rejects(() => run(server, waivers, 'request', '--path', '/x'), /--until.*--title.*--why/, 'all at once');
  await rejectsCode(() => run(server, waivers, 'approve', 'W-1'), ServerError, 'WAIVER_UNKNOWN');
});

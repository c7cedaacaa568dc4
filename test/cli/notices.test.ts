/** `bootproof channels` as a person uses it, against a server. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { EXIT, UsageError, type Io } from '#src/terminal.ts';
import { channels } from '#cli/notices.ts';
import { parseTargets } from '#server/notices/target.ts';
import { receiver } from '#test/server/notices/receiver.ts';
import { serverFor } from '#test/server/fleet.ts';

test('a channel from its making to its end', async (t) => {
  const to = await receiver(t);
  const server = await serverFor(t, { noticeTargets: parseTargets(['127.0.0.1']) });
  const folder = mkdtempSync(join(tmpdir(), 'bootproof-channels-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'url');
  writeFileSync(file, `${to.url}\n`);
  const run = async (...args: string[]) => {
    let [out, err] = ['', ''];
    const io: Io = {
      env: { BOOTPROOF_SERVER: server.server.url, BOOTPROOF_TOKEN: server.admin },
      stdout: { write: async (text: string) => void (out += text) },
      stderr: { write: async (text: string) => void (err += text) },
    } as unknown as Io;
    const exit = await channels(args, io);
    return { exit, out, err };
  };
  assert.match((await run()).err, /nobody is told of anything/);
  const made = await run(
    'create',
    'ops',
    '--url-file',
    file,
    '--min-severity',
    'high',
    '--grace',
    '30m',
    '--open',
    'nothing',
  );
  assert.match(made.out, /^whsec_\S+\n$/);
  assert.match(made.err, /told this once/);
  const listed = await run();
  assert.match(listed.out, /ops +webhook +active +high +every change +http:\/\/127\.0\.0\.1:\d+\/…/);
  assert.doesNotMatch(listed.out, /s3cret/);
  assert.match((await run('show', 'ops')).out, /grace +1800 s/);
  assert.match((await run('route', 'ops', '--events', 'finding.new', '--host-group', 'prod')).out, /host groups +prod/);
  assert.match((await run('show', 'ops')).out, /grace +1800 s/, 'what was not named stays');
  assert.deepEqual(await run('test', 'ops'), { exit: EXIT.ok, out: 'delivered: HTTP 204\n', err: '' });
  to.answer = { status: 500 };
  const failed = await run('test', 'ops');
  assert.deepEqual([failed.exit, failed.out], [EXIT.unknown, 'not delivered: HTTP 500\n']);
  const dead = await run('deliveries', '--state', 'dead');
  assert.match(dead.out, /^MESSAGE.*\nmsg_\S+ .*dead +1 .*HTTP 500/);
  const id = /msg_\S+/.exec(dead.out)![0];
  assert.match((await run('resend', id)).out, /sent again/);
  assert.match((await run('disable', 'ops')).out, /ops is disabled/);
  assert.match((await run()).out, /disabled: switched off by admin/);
  await run('enable', 'ops');
  assert.match((await run('new-key', 'ops')).out, /^whsec_/);
  await assert.rejects(
    run('show', 'opps'),
    (error: Error) => error instanceof UsageError && /did you mean ops/.test(error.message),
  );
  await assert.rejects(run('create', 'x', '--kind', 'webhok'), UsageError);
  await assert.rejects(run('create', 'x', '--kind', 'syslog'), UsageError);
  assert.equal((await run('remove', 'ops')).out, 'removed: ops\n');
});

/** Backups of a server that runs, and their restore: what was acknowledged until then is there, and the log is not signed on from it. */
import assert from 'node:assert/strict';
import { copyFileSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import Database from 'better-sqlite3';
import { EXIT, type Io } from '#src/terminal.ts';
import { runCommand } from '#src/terminal.ts';
import { main as serverCommand } from '#cli/server.ts';
import { main as logCommand } from '#cli/log.ts';
import { backUp, nameAt, newestUntil, seriesIn, thin } from '#server/keep/backup.ts';
import { KeepError } from '#server/keep/fault.ts';
import { fsck } from '#server/keep/fsck.ts';
import { restore } from '#server/keep/restore.ts';
import { enrol, folder, HOUR, image, serverFor, T0, type TestHost } from '#test/server/fleet.ts';
import { rejectsCode, throwsCode } from '#test/throws.ts';

const OS = image('41');

async function run(args: readonly string[], command = serverCommand) {
  const said = { out: '', err: '' };
  const stream = (name: 'out' | 'err') => ({
    isTTY: false,
    columns: 100,
    write: (text: string | Uint8Array) => Promise.resolve(void (said[name] += String(text))),
  });
  const io: Io = { stdout: stream('out'), stderr: stream('err'), env: {} };
  return { exit: await runCommand(args, io, command), ...said };
}

/** A server in a data folder, with hosts that reported. */
async function site(t: TestContext) {
  const data = folder(t);
  const server = await serverFor(t, { images: [OS], storeUrl: `sqlite:${join(data, 'bootproof.db')}` });
  const hosts: TestHost[] = [];
  const ledger: string[] = [];
  const send = async (host: TestHost, kind: 'full' | 'same') => {
    const sent = await (kind === 'full' ? host.sendFull() : host.sendSame());
    assert.equal(sent.status, 200);
    ledger.push(`${host.id} ${host.seq} ${sent.digest} ${kind}`);
  };
  for (const name of ['a', 'b']) hosts.push(await enrol(server, OS, { name }));
  for (const host of hosts) {
    await send(host, 'full');
    await send(host, 'same');
  }
  await server.settle();
  await server.server.evidence.turn();
  return { data, server, hosts, ledger, send, at: join(data, 'bootproof.db') };
}

test('a backup of a running server has what was acknowledged before it, and is restored to a server that goes on', async (t) => {
  const { data, server, hosts, ledger, send } = await site(t);
  const file = join(folder(t), 'backups', 'one.db');
  // More comes in while it is written.
  const over = new AbortController();
  const working = (async () => {
    while (!over.signal.aborted) await send(hosts[0]!, 'same');
  })();
  const record = join(folder(t), 'ledger');
  writeFileSync(record, `# acknowledged before the backup began\n${ledger.join('\n')}\n`);
  const made = await run(['backup', '--data', data, '-o', file, '--check', '--json']);
  over.abort();
  await working;
  assert.equal(made.exit, EXIT.ok, made.err);
  assert.equal(statSync(file).mode & 0o777, 0o600, 'it holds the keys');
  const looked = await run(['fsck', '--file', file, '--ledger', record]);
  assert.equal(looked.exit, EXIT.ok, looked.out + looked.err);
  assert.match(looked.out, /^sound: 2 hosts, .*\nacknowledged: 4, of which [34] are kept/);
  // What came after it is not in it, and that is told.
  await send(hosts[1]!, 'full');
  writeFileSync(record, `${ledger.join('\n')}\n`);
  const behind = await run(['fsck', '--file', file, '--ledger', record]);
  assert.equal(behind.exit, EXIT.different);
  assert.match(behind.out, /report: a report that was acknowledged is not here \[ACKNOWLEDGED_LOST\]/);
  assert.equal((await run(['fsck', '--data', data, '--ledger', record])).exit, EXIT.ok, 'the server itself has it');
  await server.server.close();

  const next = join(folder(t), 'next');
  const done = await run(['restore', file, '--data', next]);
  assert.equal(done.exit, EXIT.ok, done.err);
  assert.match(done.err, /is not signed from here on.*\n.*is not sent again, and stands as a gap/);
  const again = await serverFor(t, {
    images: [OS],
    storeUrl: `sqlite:${join(next, 'bootproof.db')}`,
    admin: server.admin,
    now: server.time.now + HOUR,
  });
  assert.equal(again.server.evidence.refusal?.code, 'LOG_REWOUND');
  assert.match(again.server.evidence.refusal?.message ?? '', /restored from a backup/);
  const restarted = await again.api('/api/v1/log/restart', { method: 'POST', body: { origin: 'site.example/log-2' } });
  assert.equal(restarted.status, 200, JSON.stringify(restarted.body));
  assert.equal(again.server.evidence.refusal, undefined, 'it signs under its new name');
  await again.server.evidence.turn();
  // A host that knows more than the server goes on: what is missing is a gap.
  const host = hosts[1]!;
  const response = await again.server.app.request('/api/v1/reports', {
    method: 'POST',
    body: (await host.seal(host.fullReport())).text,
  });
  assert.equal(response.status, 200);
  const { chain } = (await again.api(`/api/v1/hosts/${host.id}`)).body;
  assert.deepEqual(chain.gaps, [{ from: host.seq - 1, to: host.seq - 1 }]);
  const own = { url: `sqlite:${join(next, 'bootproof.db')}`, checkpointFile: join(next, 'log.checkpoint') };
  assert.deepEqual((await fsck(own)).faults, []);
});

test('nothing is overwritten, and what is no sound backup is not restored', async (t) => {
  const { data, at, server } = await site(t);
  const home = folder(t);
  const file = join(home, 'one.db');
  const now = T0;
  await backUp(at, file, join(data, 'evidence'));
  const bytes = readFileSync(file);
  await rejectsCode(() => backUp(at, file, null), KeepError, 'KEEP_EXISTS');
  assert.deepEqual(readFileSync(file), bytes);
  await rejectsCode(() => backUp(join(home, 'none.db'), join(home, 'x.db'), null), KeepError, 'KEEP_FILE');
  await rejectsCode(() => restore({ file, data, now }), KeepError, 'KEEP_EXISTS');
  await rejectsCode(() => restore({ file: join(home, 'none'), data: join(home, 'r'), now }), KeepError, 'KEEP_FILE');
  await rejectsCode(() => restore({ file: at, data: join(home, 'r'), now }), KeepError, 'KEEP_FILE');
  const damaged = join(home, 'damaged.db');
  copyFileSync(file, damaged);
  const raw = new Database(damaged);
  raw.exec('delete from report where seq = 1');
  raw.close();
  await rejectsCode(() => restore({ file: damaged, data: join(home, 'r'), now }), KeepError, 'KEEP_FAULTS');
  assert.equal(existsSync(join(home, 'r', 'bootproof.db')), false);
  assert.equal((await restore({ file: damaged, data: join(home, 'r'), now, damaged: true })).checked.sound, false);
  await server.server.close();
  // Beside the checkpoint of before: nothing was published since, so the log goes on.
  const kept = join(data, 'log.checkpoint');
  const goesOn = await restore({ file, data: join(home, 'on'), checkpoint: kept, now });
  assert.equal(goesOn.log?.signs, true);
  assert.deepEqual(readFileSync(join(home, 'on', 'log.checkpoint')), readFileSync(kept));
  const anew = await run(['restore', file, '--data', join(home, 'anew'), '--new-origin', 'site.example/2', '--json']);
  assert.equal(JSON.parse(anew.out).restarted.origin, 'site.example/2');
  const status = await run(['status', '--data', join(home, 'anew'), '--json'], logCommand);
  assert.deepEqual([status.exit, JSON.parse(status.out).origin], [EXIT.ok, 'site.example/2']);
});

test('of a series the oldest go, and one is restored by its time', async (t) => {
  const { data } = await site(t);
  const home = folder(t);
  const series = join(home, 'series');
  assert.equal((await run(['backup', '--data', data, '--into', series, '--keep', '2'])).exit, EXIT.ok);
  const [own] = seriesIn(series);
  for (const hours of [1, 2, 3]) copyFileSync(own!.file, join(series, nameAt(T0 + hours * HOUR)));
  mkdirSync(join(series, `${nameAt(T0 + HOUR)}.evidence`));
  writeFileSync(join(series, 'notes.txt'), 'not ours');
  assert.equal(newestUntil(series, T0 + 2.5 * HOUR), join(series, nameAt(T0 + 2 * HOUR)));
  throwsCode(() => newestUntil(series, T0), KeepError, 'KEEP_FILE');
  throwsCode(() => newestUntil(home, T0), KeepError, 'KEEP_FILE');
  const restored = await run(['restore', '--data', join(home, 'r'), series, '--at', '2026-11-24T14:30:00Z', '--json']);
  assert.equal(restored.exit, EXIT.ok, restored.err);
  assert.equal(JSON.parse(restored.out).file, join(series, nameAt(T0 + 2 * HOUR)));
  assert.equal(thin(series, 2).length, 2);
  assert.equal(existsSync(join(series, `${nameAt(T0 + HOUR)}.evidence`)), false);
  assert.ok(existsSync(join(series, 'notes.txt')));
});

const WRONG: readonly (readonly [title: string, args: readonly string[], exit: number, told: RegExp])[] = [
  ['a backup to nowhere', ['backup'], EXIT.usage, /-o FILE or the folder of a series/],
  ['a backup to both', ['backup', '-o', 'x', '--into', 'y'], EXIT.usage, /-o FILE or the folder/],
  ['--keep without a series', ['backup', '-o', 'x', '--keep', '2'], EXIT.usage, /--into DIR/],
  ['--keep nothing', ['backup', '--into', 'x', '--keep', '0'], EXIT.usage, /a number from 1/],
  ['a restore of nothing', ['restore', '--data', 'x'], EXIT.usage, /name the backup first/],
  ['a restore of two', ['restore', 'a', 'b'], EXIT.usage, /name the backup first/],
  ['--at of a file', ['restore', 'a', '--at', '2026-01-01T00:00:00Z'], EXIT.usage, /chooses from a series/],
  ['fsck where nothing is', ['fsck', '--data', '/nonexistent'], EXIT.unknown, /STORE_FOLDER/],
  ['a ledger that is not there', ['fsck', '--data', '/nonexistent', '--ledger', '/none'], EXIT.unknown, /./],
];
for (const [title, args, exit, told] of WRONG)
  test(`${title} is refused`, async () => {
    const done = await run(args);
    assert.equal(done.exit, exit, done.err);
    assert.match(done.err, told);
  });

test('a record that holds something else is named with its line', async (t) => {
  const { data } = await site(t);
  const record = join(folder(t), 'ledger');
  writeFileSync(record, '# one\n\nh_x 1 sha256:0\n');
  const done = await run(['fsck', '--data', data, '--ledger', record]);
  assert.equal(done.exit, EXIT.unknown);
  assert.match(done.err, /ledger:3: expected .*KEEP_LEDGER/);
});

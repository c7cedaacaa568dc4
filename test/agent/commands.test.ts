/** `agent enroll`, `run` and `status` as a person or a unit calls them: real files, a real scan, a server on loopback. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { main } from '#agent/main.ts';
import { DiskError } from '#agent/disk.ts';
import { IdentityError } from '#agent/identity.ts';
import { lockFolder, LockError } from '#agent/lock.ts';
import { checkReport, openReport } from '#src/report/accept.ts';
import { parsePublicKey } from '#src/signing/ed25519.ts';
import { verifyInPool } from '#src/signing/node.ts';
import { EXIT, SeenRefusal, UsageError, type Io } from '#src/terminal.ts';
import { EnrolBody, openEnrolRequest } from '#src/wire/enrol.ts';
import { problem } from '#src/wire/problem.ts';
import { rejectsCode } from '#test/throws.ts';
import { enrol as vector, INTERVAL, someDigest, ticketKeys } from '../src/report/vectors.ts';
import { EnrolServer } from './enrolserver.ts';
import { ModelServer } from './fixture.ts';
import { json, serve, type Handler, type TestServer } from './httpserver.ts';
import { ran } from '#test/ran.ts';

const top = mkdtempSync(join(tmpdir(), 'bootproof-agent-'));
after(() => rmSync(top, { recursive: true, force: true }));

let count = 0;
/** A root with a file in each tree, and a folder for the agent's state. */
function host() {
  const home = join(top, `host-${++count}`);
  for (const folder of ['root/usr/bin', 'root/etc']) mkdirSync(join(home, folder), { recursive: true });
  writeFileSync(join(home, 'root/usr/bin/tool'), 'tool');
  writeFileSync(join(home, 'root/etc/motd'), 'hello\n');
  return { home, where: ['--root', join(home, 'root'), '--state', join(home, 'state')] };
}

const agent = (...args: string[]) => agentWith({}, ...args);
const agentWith = (env: Io['env'], ...args: string[]) => ran(main, args, { env, columns: 80 });

const booted = ['--backend', 'ostree', '--image', someDigest(3)];

/** Enrols hosts, takes what they sign, and has no manifest for anybody. */
function server(): { handler: Handler; enrolment: EnrolServer; reports: unknown[] } {
  const enrolment = new EnrolServer();
  const reports: unknown[] = [];
  const model = new ModelServer();
  const handler: Handler = async (seen) => {
    if (seen.path.startsWith('/api/v1/enrol')) return enrolment.handle(seen);
    if (seen.path !== '/api/v1/reports') return json(problem('MANIFEST_UNKNOWN', 'no such image'), 404);
    const opened = openReport(seen.body);
    assert.ok(opened.kind === 'opened');
    const key = [...enrolment.hosts].find(([, id]) => id === opened.host)?.[0];
    const record = { publicKey: parsePublicKey(key!), state: 'active', intervalMs: INTERVAL } as const;
    const arrival = { receivedAt: Date.now(), carried: false };
    const checked = await checkReport(opened, record, arrival, { verify: verifyInPool, ticketKeys });
    // The challenge of the vectors is for another host; whatever else a check may find is a fault.
    assert.ok(checked.kind === 'checked' || checked.code === 'CHALLENGE_FOREIGN', JSON.stringify(checked));
    reports.push(opened.value);
    model.now = Date.now();
    return json(model.answer((opened.value as { seq: number }).seq, 'advance'));
  };
  return { handler, enrolment, reports };
}

async function enrolled(http: TestServer) {
  const one = host();
  const token = join(one.home, 'token');
  writeFileSync(token, `${vector.token}\n`);
  const { exit, err } = await agent('enroll', '--server', http.url, '--token-file', token, ...one.where);
  assert.deepEqual([exit, /enrolled as h_/.test(err)], [EXIT.ok, true], err);
  return one;
}

test('enroll, run, run, status: a host becomes known, reports, and says how it stands', async () => {
  const { handler, reports } = server();
  await using http = await serve(handler);
  const { where } = await enrolled(http);
  const first = await agent('run', '--json', ...booted, ...where);
  assert.equal(first.exit, EXIT.unknown, 'nothing to compare with');
  const document = JSON.parse(first.out.split('\n')[0]!) as Record<string, unknown>;
  assert.deepEqual(
    [document['seq'], document['kind'], document['delivered'], document['complete']],
    [1, 'full', true, false],
  );
  assert.match(first.err, /nothing to compare with: no such image \[MANIFEST_UNKNOWN\]/);
  const before = reports.length;
  const second = await agent('run', ...booted, ...where);
  assert.equal(second.out, '');
  assert.match(second.err, /report \d+ \(same\): compared with nothing: no such image \[MANIFEST_UNKNOWN\]; delivered/);
  assert.doesNotMatch(second.err, /0 added/);
  assert.ok(reports.length > before);
  const status = await agent('status', '--json', ...where);
  assert.equal(status.exit, EXIT.ok);
  const told = JSON.parse(status.out) as Record<string, unknown>;
  assert.deepEqual([told['server'], told['waiting'], told['refused'], told['dropped']], [http.url, 0, 0, []]);
  assert.match((await agent('status', ...where)).out, /^host +h_/);
});

test('the server is away: the report waits, status says so, and the next run delivers it', async () => {
  const { handler, reports } = server();
  await using http = await serve(handler);
  const { where } = await enrolled(http);
  http.handler = () => ({ status: 503, headers: { 'retry-after': '3600' } });
  const away = await agent('run', ...booted, ...where);
  assert.equal(away.exit, EXIT.unknown);
  assert.match(away.err, /waits: .* answers 503/);
  assert.equal((await agent('status', ...where)).exit, EXIT.unknown);
  assert.match((await agent('run', ...booted, ...where)).err, /asked for quiet/);
  http.handler = handler;
  // An hour later: the record of the pause is what would have run out.
  const chain = join(where[3]!, 'chain.json');
  writeFileSync(chain, readFileSync(chain, 'utf8').replace(/"notBefore":"[^"]*"/, '"notBefore":null'));
  await agent('run', ...booted, ...where);
  assert.deepEqual(
    reports.slice(0, 2).map((report) => (report as { seq: number }).seq),
    [1, 2],
  );
});

test('by file from end to end: a request to approve, and reports to import', async () => {
  const { home, where } = host();
  const [request, out] = [join(home, 'request.json'), join(home, 'reports.jsonl')];
  assert.equal((await agent('enroll', '--offline', '--out', request, ...where)).exit, EXIT.ok);
  const body = EnrolBody.parse(JSON.parse(readFileSync(request, 'utf8')));
  const opened = await openEnrolRequest(body, verifyInPool);
  for (let i = 0; i < 2; i++)
    assert.equal((await agent('report', '--out', out, ...booted, ...where)).exit, EXIT.unknown);
  const lines = readFileSync(out, 'utf8').split('\n').slice(0, -1);
  assert.equal(lines.length, 2);
  for (const line of lines) {
    const report = openReport(new TextEncoder().encode(line));
    assert.ok(report.kind === 'opened');
    assert.equal(report.host, opened.request.host);
    const record = { publicKey: opened.publicKey, state: 'active', intervalMs: INTERVAL } as const;
    const checked = await checkReport(
      report,
      record,
      { receivedAt: Date.now(), carried: true },
      { verify: verifyInPool, ticketKeys },
    );
    assert.ok(checked.kind === 'checked', JSON.stringify(checked));
    assert.equal(checked.class, 'carried');
  }
});

test('a single run that is told to stop has told nothing', { timeout: 60_000 }, async () => {
  const { handler } = server();
  await using http = await serve(handler);
  const { where } = await enrolled(http);
  http.handler = async (seen, response) => {
    if (seen.path !== '/api/v1/reports') return handler(seen, response);
    process.emit('SIGTERM');
    return { status: 503 };
  };
  assert.equal((await agent('run', ...booted, ...where)).exit, EXIT.unknown);
  assert.ok(!existsSync(join(where[3]!, 'lock')), 'the lock is given back');
  assert.equal(JSON.parse((await agent('status', '--json', ...where)).out).waiting, 1, 'what was sealed waits');
});

test('a disk that is full or read-only is a refusal in words, not our own fault', async (t) => {
  const { where, home } = host();
  writeFileSync(join(home, 'plain'), '');
  const no = ['--root', where[1]!, '--state', join(home, 'plain/state')];
  await rejectsCode(() => agent('enroll', '--offline', '--out', join(home, 'x'), ...no), DiskError, 'STATE_UNWRITABLE');
  if (process.getuid!() !== 0) return t.skip('mounting needs root');
  const small = join(home, 'small');
  mkdirSync(small);
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'none', small], { stdio: 'ignore' });
  } catch {
    return t.skip('nothing can be mounted here');
  }
  try {
    const on = ['--root', where[1]!, '--state', join(small, 'state')];
    await agent('enroll', '--offline', '--out', join(home, 'request'), ...on);
    assert.throws(() => writeFileSync(join(small, 'filler'), Buffer.alloc(128 * 1024)));
    await rejectsCode(
      () => agent('report', '--out', join(home, 'out'), ...booted, ...on),
      DiskError,
      'STATE_UNWRITABLE',
    );
    rmSync(join(small, 'filler'));
    assert.equal((await agent('report', '--out', join(home, 'out'), ...booted, ...on)).exit, EXIT.unknown);
    execFileSync('mount', ['-o', 'remount,ro', small]);
    await rejectsCode(
      () => agent('report', '--out', join(home, 'out'), ...booted, ...on),
      DiskError,
      'STATE_UNWRITABLE',
    );
  } finally {
    execFileSync('umount', [small]);
  }
});

test('the agent tells its version', async () => {
  assert.match((await agent('--version')).out, /^bootproof agent [0-9]+\.[0-9]+\.[0-9]+\n$/);
});

test('--every goes on until it is told to stop', { timeout: 60_000 }, async () => {
  const { handler, reports } = server();
  await using http = await serve(async (seen, response) => {
    const reply = (await handler(seen, response))!;
    if (reports.length === 4) process.emit('SIGTERM');
    // A time that has passed leaves the agent its own interval.
    return { ...reply, body: String(reply.body).replace(/"next":"[^"]*"/, '"next":"2026-01-01T00:00:00.000Z"') };
  });
  const { where } = await enrolled(http);
  const { exit } = await agent('run', '--every', '1s', ...booted, ...where);
  assert.equal(exit, EXIT.ok);
  assert.ok(reports.length >= 4);
  assert.ok(!existsSync(join(where[3]!, 'lock')), 'the lock is given back');
});

test('one agent at a time; a lock whose holder is gone is taken over', async () => {
  const { handler } = server();
  await using http = await serve(handler);
  const { where } = await enrolled(http);
  const state = where[3]!;
  {
    using _lock = lockFolder(state);
    await rejectsCode(() => agent('run', ...booted, ...where), LockError, 'LOCKED');
  }
  for (const left of ['', '999999999 1', `${process.pid} 1`, 'nonsense', '../../self 5']) {
    writeFileSync(join(state, 'lock'), left);
    using _lock = lockFolder(state);
    assert.match(readFileSync(join(state, 'lock'), 'utf8'), new RegExp(`^${process.pid} \\d+$`));
  }
});

test('a host that is not enrolled, or whose key is gone or another, does not run', async () => {
  const { where } = host();
  await rejectsCode(() => agent('run', '--server', 'http://127.0.0.1:1', ...where), IdentityError, 'NOT_ENROLLED');
  const { handler } = server();
  await using http = await serve(handler);
  const one = await enrolled(http);
  const other = await enrolled(http);
  rmSync(join(one.where[3]!, 'host.key'));
  // To be told that it never enrolled would be wrong, and of no help.
  await rejectsCode(() => agent('run', ...booted, ...one.where), IdentityError, 'KEY_UNREADABLE');
  writeFileSync(join(one.where[3]!, 'host.key'), readFileSync(join(other.where[3]!, 'host.key')), { mode: 0o600 });
  await rejectsCode(() => agent('run', ...booted, ...one.where), IdentityError, 'KEY_UNREADABLE');
});

test('to begin anew is one option, and a new host', async () => {
  const { handler, enrolment } = server();
  await using http = await serve(handler);
  const one = await enrolled(http);
  const token = ['--token', vector.token];
  await rejectsCode(
    () => agent('enroll', '--server', http.url, ...token, ...one.where),
    IdentityError,
    'ALREADY_ENROLLED',
  );
  assert.equal((await agent('enroll', '--again', '--server', http.url, ...token, ...one.where)).exit, EXIT.ok);
  assert.equal(enrolment.hosts.size, 2);
});

test('reports that cannot be handed over are refused before one is sealed, and the digest may stand bare', async () => {
  const { home, where } = host();
  assert.equal((await agent('enroll', '--offline', '--out', join(home, 'request'), ...where)).exit, EXIT.ok);
  await rejectsCode(() => agent('report', '--out', join(home, 'no/x'), ...booted, ...where), UsageError, 'USAGE');
  const { out } = await agent('status', '--json', ...where);
  const { lastReport, waiting } = JSON.parse(out) as Record<string, unknown>;
  assert.deepEqual([lastReport, waiting], [0, 0]);
  const bare = ['--backend', 'ostree', '--image', someDigest(3).slice('sha256:'.length)];
  const file = join(home, 'reports');
  await agent('report', '--out', file, ...bare, ...where);
  const report = openReport(readFileSync(file).subarray(0, -1));
  assert.ok(report.kind === 'opened');
  assert.ok(JSON.stringify(report.value).includes(someDigest(3)));
});

test('the token may stand in a variable of its own; that of the admin token is no enrolment token', async () => {
  const { handler } = server();
  await using http = await serve(handler);
  const one = host();
  const env = { BOOTPROOF_TOKEN: 'bpa1.admin', BOOTPROOF_ENROLL_TOKEN: vector.token };
  assert.equal((await agentWith(env, 'enroll', '--server', http.url, ...one.where)).exit, EXIT.ok);
  const two = host();
  const request = ['enroll', '--offline', '--out', join(two.home, 'request')];
  assert.equal((await agentWith({ BOOTPROOF_TOKEN: 'bpa1.admin' }, ...request, ...two.where)).exit, EXIT.ok);
});

test('a host that must be approved first says so', async () => {
  const { handler, enrolment } = server();
  enrolment.change = { standing: 'pending' };
  await using http = await serve(handler);
  const { where } = host();
  const { exit, err } = await agent('enroll', '--server', http.url, '--token', vector.token, ...where);
  assert.deepEqual([exit, /waits for approval/.test(err)], [EXIT.different, true]);
});

test('an enrolment that the server refuses is a refusal that was seen', async () => {
  await using http = await serve(() => json(problem('ENROL_TOKEN', 'no such token'), 403));
  const { where } = host();
  const enrol = () => agent('enroll', '--server', http.url, '--token', vector.token, ...where);
  await rejectsCode(enrol, SeenRefusal, 'ENROL_TOKEN');
});

const wrong: string[][] = [
  ['enroll'],
  ['enroll', '--token', 'x', '--token-file', 'y'],
  ['enroll', '--token-file', '/nowhere/token'],
  ['enroll', '--offline'],
  ['enroll', '--token', vector.token],
  ['run', '--exclude', '/usr/bin'],
  ['run', '--out', 'x'],
  ['report'],
  ['report', '--every', '1s', '--out', 'x'],
  ['import'],
  ['import', '/nowhere/x'],
  ['run', '--backend', 'zfs'],
  ['run', '--image', 'foo'],
  ['run', '--image', 'oci:/srv/image'],
  ['run', '--image', `sha256:${'A'.repeat(64)}`],
  ['run', '--image', `sha512:${'a'.repeat(128)}`],
  ['report', '--out', '/nowhere/x'],
  ['report', '--out', '/dev/full'],
  ['enroll', '--offline', '--out', '/nowhere/x'],
  ['run', 'extra'],
  ['status', '--every', '1s'],
  ['nothing'],
];
for (const args of wrong)
  test(`wrong use: agent ${args.join(' ').slice(0, 60)}`, async () => {
    const { where } = host();
    const settings = args[0] === 'nothing' ? [] : where;
    await rejectsCode(() => agent(...args, ...settings), UsageError, 'USAGE');
  });

for (const [code, ...args] of [
  ['TOKEN_SYNTAX', '--token', 'bp1.aaaa.bbb.ccc', '--server', 'https://192.0.2.1'],
  ['URL_INSECURE', '--token', vector.token, '--server', 'http://192.0.2.1'],
  ['URL_SYNTAX', '--token', vector.token, '--server', 'nowhere'],
] as const)
  test(`wrong use, under its own code: ${code}`, async () => {
    await rejectsCode(() => agent('enroll', ...args, ...host().where), UsageError, code);
  });

test('each has a help that names its options', async () => {
  for (const name of ['enroll', 'run', 'report', 'import', 'status']) {
    const { exit, out } = await agent(name, '--help');
    assert.equal(exit, EXIT.ok);
    assert.match(out, /--state DIR/);
    assert.match(out, /\nExit codes: 0 .*64 wrong use, 70 our own fault/s);
  }
});

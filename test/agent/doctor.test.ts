/** `agent doctor`: each thing that can be wrong with an agent, made wrong, is said with what to do; and a host that works has none. */
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import {
  deploymentCheck,
  identityCheck,
  libraryCheck,
  logCheck,
  reportsCheck,
  rightsCheck,
  serverCheck,
  settingsCheck,
  span,
  stateCheck,
  unitsCheck,
  type Check,
} from '#agent/doctor.ts';
import { NEW_CHAIN, type AgentChain } from '#agent/chain.ts';
import type { AgentConfig } from '#agent/config.ts';
import { nodeDisk } from '#agent/disk.ts';
import { makeKey, saveIdentity, type Identity } from '#agent/identity.ts';
import { main } from '#agent/main.ts';
import { CommandError, type Exec, type Observed } from '#agent/observe.ts';
import { Server } from '#agent/post.ts';
import { formatInstant } from '#src/clock.ts';
import { EXIT } from '#src/terminal.ts';
import { VERSION } from '#src/version.ts';
import { full, HOST, INTERVAL, keys, MINUTE, T0 } from './fixture.ts';
import { serve } from './httpserver.ts';
import { ran } from '#test/ran.ts';

const top = mkdtempSync(join(tmpdir(), 'bootproof-doctor-'));
after(() => rmSync(top, { recursive: true, force: true }));
let count = 0;
const folder = (): string => {
  const path = join(top, `state-${++count}`);
  mkdirSync(path, { mode: 0o700 });
  return path;
};

type Said = Omit<Check, 'name'>;
/** What is wrong comes with what to do; what is well, with nothing. */
function holds(said: Said, state: Check['state'], says: RegExp): void {
  assert.equal(said.state, state, said.says);
  assert.match(said.says, says);
  if (state === 'ok') assert.equal(said.todo, null);
  if (state === 'wrong') assert.ok(said.todo !== null && said.todo.length > 5);
}

test('rights: a user without CAP_DAC_READ_SEARCH is told that less is seen', () => {
  const status = (bits: string) => `Name:\tnode\nCapPrm:\t0000000000000000\nCapEff:\t${bits}\n`;
  holds(rightsCheck(status('0000000000000004')), 'ok', /every file can be read/);
  holds(rightsCheck(status('000001ffffffffff')), 'ok', /every file/);
  holds(rightsCheck(status('0000000000000000')), 'unknown', /may not read every file/);
  holds(rightsCheck(''), 'unknown', /does not tell/);
});

test('library: where the C library is, capabilities can be read', async () => {
  holds(await libraryCheck(), 'ok', /capabilities of files/);
});

test('settings: no server, a wrong address, and a good one', () => {
  const config = { url: null, intervalMs: INTERVAL } as AgentConfig;
  holds(settingsCheck(config, undefined), 'wrong', /no server is set/);
  holds(settingsCheck({ ...config, url: 'http://bootproof.example' }, undefined), 'wrong', /needs https/);
  holds(settingsCheck({ ...config, url: 'https://bootproof.example' }, undefined), 'ok', /every 15 minutes/);
  holds(settingsCheck(config, { url: 'https://named.example' } as Identity), 'ok', /named\.example/);
});

test('state: absent, a file, open to others, too small a disk, and well', () => {
  const path = folder();
  holds(stateCheck(join(path, 'none')), 'wrong', /is not there/);
  writeFileSync(join(path, 'file'), '');
  holds(stateCheck(join(path, 'file')), 'wrong', /is no folder/);
  holds(
    stateCheck(path, () => 2 ** 20),
    'wrong',
    /has 1\.0 MiB left/,
  );
  holds(
    stateCheck(path, () => 2 ** 40),
    'ok',
    /can be written; 1\.0 TiB/,
  );
  chmodSync(path, 0o755);
  holds(stateCheck(path), 'wrong', /open to others/);
});

/** A key and what enrolment told of it. */
function enrolled(path: string, more: Partial<Identity> = {}): void {
  const { publicKey } = makeKey(nodeDisk, path, new Uint8Array(32).fill(7));
  saveIdentity(nodeDisk, path, {
    version: 1,
    host: HOST,
    url: null,
    serverKey: keys.server.publicKey,
    publicKey,
    enrolledAt: formatInstant(T0),
    challenge: null,
    manifestBearer: null,
    ...more,
  });
}

test('enrolment: none, half of one, another key, a key that others read, no answer yet, and well', () => {
  const path = folder();
  holds(identityCheck(path).said, 'wrong', /is not enrolled/);
  makeKey(nodeDisk, path, new Uint8Array(32).fill(1));
  holds(identityCheck(path).said, 'wrong', /was not finished/);
  enrolled(path);
  const { said, identity } = identityCheck(path);
  holds(said, 'ok', new RegExp(`^${HOST}, enrolled at`));
  assert.equal(identity?.host, HOST);
  enrolled(path, { serverKey: null });
  holds(identityCheck(path).said, 'wrong', /waits for its server's answer/);
  enrolled(path, { publicKey: keys.host.publicKey });
  holds(identityCheck(path).said, 'wrong', /not the one that was enrolled/);
  chmodSync(join(path, 'host.key'), 0o644);
  holds(identityCheck(path).said, 'wrong', /read by others/);
  rmSync(join(path, 'host.key'));
  holds(identityCheck(path).said, 'wrong', /is gone/);
  writeFileSync(join(path, 'identity.json'), '{');
  holds(identityCheck(path).said, 'wrong', /damaged/);
});

test('image: not known, hidden beneath a mount, no machine id, contradictions, and well', () => {
  const { deployment } = full.document;
  const observed: Observed = {
    state: { ...deployment, contradictions: [], overlays: [] },
    mounts: [],
    bootId: null,
    machineId: 'f'.repeat(32),
    hostname: 'h',
  };
  const digest = deployment.booted!.image!.digest!;
  holds(deploymentCheck(observed), 'ok', new RegExp(`^booted ${digest} \\(ostree, says bootc\\)`));
  const state = { ...observed.state, booted: null, contradictions: ['bootc: failed with 1'] };
  holds(deploymentCheck({ ...observed, state }), 'wrong', /nothing tells which image .*; bootc: failed with 1/);
  const overlay = {
    path: '/usr',
    kind: 'sysext',
    detail: 'debug',
    writable: false,
    masks: true,
    beneath: null,
  } as const;
  holds(
    deploymentCheck({ ...observed, mounts: ['/usr'], state: { ...observed.state, overlays: [overlay] } }),
    'wrong',
    /cannot be seen beneath \/usr \(sysext: debug\)/,
  );
  holds(deploymentCheck({ ...observed, machineId: null }), 'wrong', /machine id/);
  const doubts = { ...observed.state, contradictions: ['origin and commit differ'] };
  holds(deploymentCheck({ ...observed, state: doubts }), 'unknown', /but origin and commit differ/);
});

test('reports: none, refused, never answered, late, an answer of the future, damaged, and well', () => {
  const path = folder();
  mkdirSync(join(path, 'spool/refused'), { recursive: true });
  const at = (chain: Partial<AgentChain>, now = T0) => {
    writeFileSync(join(path, 'chain.json'), JSON.stringify({ ...NEW_CHAIN, ...chain }));
    return reportsCheck(path, INTERVAL, now);
  };
  const answer = {
    seq: 3,
    effect: 'advance',
    want: 'same',
    next: formatInstant(T0),
    challenge: 'c1.x',
    checkpoint: null,
    manifestBearer: 'b1.x',
    accepts: [1],
    receivedAt: formatInstant(T0),
  } as AgentChain['answer'];
  rmSync(join(path, 'chain.json'), { force: true });
  holds(reportsCheck(path, INTERVAL, T0), 'wrong', /no report was made yet/);
  holds(at({ seq: 2 }), 'wrong', /never answered/);
  holds(at({ seq: 3, answer }, T0 + 14 * MINUTE), 'ok', /^3 made, the last answer came 14 minutes ago$/);
  writeFileSync(join(path, 'spool/0000000000000004.full'), '');
  holds(at({ seq: 4, answer }, T0 + 49 * 60 * MINUTE), 'wrong', /last answered 2 days ago, .*; 1 report waits/);
  holds(at({ seq: 4, answer }, T0 - 60 * MINUTE), 'wrong', /in the future/);
  writeFileSync(join(path, 'spool/refused/0000000000000002.full'), '');
  holds(at({ seq: 4, answer }), 'wrong', /refused 1 of this host's reports/);
  writeFileSync(join(path, 'chain.json'), '{"version":2}');
  holds(reportsCheck(path, INTERVAL, T0), 'wrong', /chain\.json is damaged/);
});

test('log: another past is wrong until somebody has seen to it', () => {
  const path = folder();
  holds(logCheck(path), 'ok', /no checkpoint/);
  const refused = { code: 'LOG_FORKED', why: 'the log went back', at: formatInstant(T0), checkpoint: 'x' };
  writeFileSync(join(path, 'log.json'), JSON.stringify({ version: 1, current: null, past: [], refused }));
  holds(logCheck(path), 'wrong', /another log than it knew: the log went back/);
});

test('server: well, a clock that is wrong, something else that answers, nothing that does', async () => {
  const answers = { status: 200, date: '' };
  await using http = await serve(() => ({
    status: answers.status,
    headers: answers.date === '' ? {} : { date: answers.date },
    body: 'ok',
  }));
  const ask = async (now = Date.now()) => {
    const server = new Server({ url: http.url });
    try {
      return await serverCheck(server, () => now);
    } finally {
      server.close();
    }
  };
  holds(await ask(), 'ok', /answers, and the clocks agree/);
  assert.equal(http.seen[0]!.path, '/livez');
  holds(await ask(Date.now() + 3 * 60 * MINUTE), 'wrong', /clock is 3 hours ahead of it/);
  holds(await ask(Date.now() - 3 * 60 * MINUTE), 'wrong', /clock is 3 hours behind it/);
  answers.date = 'no date';
  holds(await ask(), 'ok', /answers$/);
  answers.status = 404;
  holds(await ask(), 'unknown', /answers 404/);
  await http[Symbol.asyncDispose]();
  const said = await ask();
  holds(said, 'wrong', /does not answer/);
  assert.match(said.todo!, /nothing listens there/);
});

test('units: running, failed, masked, absent, stopped; and no systemd', async () => {
  const show =
    (timer: string, service: string): Exec =>
    async (file, args) => {
      assert.equal(file, '/usr/bin/systemctl');
      assert.deepEqual(args.slice(-2), ['bootproof-agent.timer', 'bootproof-agent.service']);
      return Buffer.from(`Id=bootproof-agent.timer\n${timer}\n\nId=bootproof-agent.service\n${service}\n`);
    };
  const loaded = 'LoadState=loaded\nResult=success\nActiveState';
  holds(await unitsCheck(show(`${loaded}=active`, `${loaded}=inactive`)), 'ok', /timer runs/);
  holds(await unitsCheck(show(`${loaded}=inactive`, `${loaded}=inactive`)), 'wrong', /timer does not run/);
  holds(await unitsCheck(show('LoadState=masked', `${loaded}=inactive`)), 'wrong', /masked/);
  holds(await unitsCheck(show('LoadState=not-found', `${loaded}=inactive`)), 'wrong', /not in this image/);
  const failed = 'LoadState=loaded\nActiveState=failed\nResult=exit-code';
  holds(await unitsCheck(show(`${loaded}=active`, failed)), 'wrong', /ended badly \(exit-code\)/);
  holds(await unitsCheck(async () => Buffer.from('')), 'unknown', /tells nothing/);
  const absent: Exec = async () => {
    throw new CommandError('is not installed', true);
  };
  holds(await unitsCheck(absent), 'unknown', /systemctl is not installed/);
});

test('a span is told in the largest unit of which there are two', () => {
  assert.deepEqual([90_000, 119_999, 120_000, 2 * 3_600_000, 50 * 3_600_000].map(span), [
    '90 seconds',
    '120 seconds',
    '2 minutes',
    '2 hours',
    '2 days',
  ]);
});

test('the command tells all of it, in words and as JSON, and its exit code says how it stands', async () => {
  const home = folder();
  for (const path of ['root/usr', 'root/etc']) mkdirSync(join(home, path), { recursive: true });
  writeFileSync(join(home, 'root/etc/machine-id'), `${'a'.repeat(32)}\n`);
  await using http = await serve(() => ({ body: 'ok' }));
  const where = ['--root', join(home, 'root'), '--state', join(home, 'state'), '--server', http.url];
  const bad = await ran(main, ['doctor', ...where]);
  assert.equal(bad.exit, EXIT.different);
  assert.match(bad.out, /^WRONG enrolment +this host is not enrolled\n +→ make a token/m);
  assert.match(bad.out, /\n3 things are wrong[^\n]*\.\n$/);

  mkdirSync(join(home, 'state'), { mode: 0o700 });
  enrolled(join(home, 'state'));
  const image = ['--backend', 'ostree', '--image', `sha256:${'1'.repeat(64)}`];
  const { out } = await ran(main, ['doctor', '--json', ...where, ...image]);
  const { checks } = JSON.parse(out) as { checks: Check[] };
  const states = Object.fromEntries(checks.map(({ name, state }) => [name, state]));
  assert.deepEqual(
    { ...states, rights: 'any' },
    {
      program: 'ok',
      rights: 'any',
      library: 'ok',
      settings: 'ok',
      state: 'ok',
      enrolment: 'ok',
      image: 'ok',
      reports: 'wrong',
      log: 'ok',
      server: 'ok',
    },
  );
  const asked = http.seen.length;
  await ran(main, ['doctor', '--no-network', ...where, ...image]);
  assert.equal(http.seen.length, asked);
  writeFileSync(join(home, 'root/etc/bootproof'), '');
  mkdirSync(join(home, 'root/usr/lib/bootproof'), { recursive: true });
  writeFileSync(join(home, 'root/usr/lib/bootproof/agent.json'), '{"urll":1}');
  rmSync(join(home, 'root/etc/bootproof'));
  const unreadable = await ran(main, ['doctor', ...where]);
  assert.equal(unreadable.exit, EXIT.different);
  assert.match(unreadable.out, /WRONG settings .*urll: no such setting/);
});

test('status tells its figures in words: what waits, what was refused, what was given up', async () => {
  const state = folder();
  enrolled(state, { url: 'https://bootproof.example' });
  writeFileSync(join(state, 'chain.json'), JSON.stringify(NEW_CHAIN));
  const status = async () => (await ran(main, ['status', '--state', state])).out;
  assert.equal(
    (await status()).replace(/sha256:[0-9a-f]{64}$/m, 'sha256:…').replace(/^key .*\n/m, ''),
    `host          ${HOST}, enrolled at ${formatInstant(T0)}
agent         ${VERSION}, sha256:…
server        https://bootproof.example
last report   none yet
last answer   none yet
waiting       nothing: all is delivered
evidence log  no checkpoint was told yet
`,
  );
  mkdirSync(join(state, 'spool/refused'), { recursive: true });
  writeFileSync(join(state, 'spool/refused/0000000000000002.full'), '');
  const dropped = [
    { from: 3, to: 5 },
    { from: 7, to: 7 },
  ];
  writeFileSync(join(state, 'chain.json'), JSON.stringify({ ...NEW_CHAIN, seq: 9, dropped }));
  const told = await status();
  assert.match(told, /^last report   number 9$/m);
  assert.match(told, /^refused       1 report: the host's page/m);
  assert.match(told, /^given up      .*: numbers 3 to 5, 7;/m);
});

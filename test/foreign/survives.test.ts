/**
 * The agent's process is killed at, or told of a failing or full disk by, each call of the kernel with which it keeps anything: strace does it. Afterwards
 * the next run works, nothing that was sealed is lost, and no number is used twice. A part of it from one seed (SEED), all in depth (test/depth.ts).
 */
import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { readKey, readIdentity } from '../../agent/identity.ts';
import { nodeDisk } from '../../agent/disk.ts';
import { fsck } from '../../server/keep/fsck.ts';
import { seeded } from '../agent/fixture.ts';
import { isFull } from '../depth.ts';
import { BASE, folder, image, MINUTE, serverFor, type TestServer } from '../server/fleet.ts';
import { AgentHost, start, tokenOf, write } from './agenthost.ts';
import { run, type Ran } from './tools.ts';

const SEED = Number(process.env['SEED'] ?? 20261125);
/** Of all the faults that could be; each costs a second. */
const SAMPLE = { cycle: 24, enrol: 10 };
const TEXTS = {
  '/etc/hostname': 'localhost',
  '/etc/motd': 'welcome',
  '/etc/shadow': 'root:!:',
  '/usr/bin/login': 'login',
  '/usr/bin/sudo': 'sudo',
  '/usr/lib/libc.so.6': 'libc',
  '/usr/lib/os-release': 'ID=test',
};
const OS = image('survives', BASE);

const fill = (root: string) => write(root, BASE, TEXTS);

const CALLS = ['openat', 'write', 'pwrite64', 'fsync', 'rename', 'link', 'unlink', 'mkdir'] as const;
type Fault = { readonly call: string; readonly when: number; readonly what: string };
const FAULTS = ['error=EIO', 'error=ENOSPC', 'signal=KILL'];

/** What the agent keeps, and under which names it writes it first. */
function kept({ state }: AgentHost, seq: number): string[] {
  const whole = ['host.key', 'identity.json', 'chain.json', 'log.json', 'digests'];
  const reports = [1, 2, 3].flatMap((n) =>
    ['full', 'same'].map((kind) => `spool/${String(seq + n).padStart(16, '0')}.${kind}`),
  );
  return ['', 'lock', 'scanning.json', 'spool', 'spool/.new-report', ...whole, ...whole.map((name) => `.new-${name}`)]
    .concat(reports)
    .map((name) => (name === '' ? state : join(state, name)));
}

const strace = (out: string, paths: readonly string[], more: readonly string[]): string[] => [
  'strace',
  '-f',
  '-qq',
  '-o',
  out,
  '-e',
  `trace=${CALLS.join(',')}`,
  ...more,
  ...paths.flatMap((path) => ['-P', path]),
];

/** Every fault of every call on those files that a run makes: of its first thread, which alone writes. */
function faultsIn(out: string): Fault[] {
  const lines = readFileSync(out, 'utf8').split('\n');
  const [first] = lines[0]!.split(' ');
  const counts = new Map<string, number>();
  for (const line of lines) {
    const call = /^([0-9]+) +([a-z0-9]+)\(/.exec(line);
    if (call?.[1] === first && call !== null) counts.set(call[2]!, (counts.get(call[2]!) ?? 0) + 1);
  }
  return [...counts].flatMap(([call, count]) =>
    Array.from({ length: count }, (_, i) => FAULTS.map((what) => ({ call, when: i + 1, what }))).flat(),
  );
}

function some(faults: readonly Fault[], count: number, random: () => number): readonly Fault[] {
  if (isFull) return faults;
  const drawn = faults.map((fault) => ({ fault, at: random() })).sort((a, b) => a.at - b.at);
  return drawn.slice(0, count).map(({ fault }) => fault);
}

const named = ({ call, when, what }: Fault) => `${call} ${when} ${what}`;
const injected = ({ call, when, what }: Fault) => ['-e', `inject=${call}:${what}:when=${when}`];

/** A failing disk is said in words, and is nobody's mistake in the program. */
function checkWords(ran: Ran, where: string): void {
  assert.ok([-1, 0, 1, 2, 137].includes(ran.status), `${where}: exit ${ran.status}\n${ran.stderr}`);
  assert.doesNotMatch(ran.stderr, /^ +at .*:[0-9]+:[0-9]+/m, where);
}

const noStrace = run('sh', ['-c', 'command -v strace']).status === 0 ? false : 'strace is not here';

async function world(t: TestContext): Promise<{ server: TestServer; url: string; tick: () => void }> {
  const url = `sqlite:${join(folder(t), 'store.db')}`;
  const server = await serverFor(t, { images: [OS], storeUrl: url, now: Date.now() });
  // A host may report so often in an hour: here each run is another quarter of one.
  return { server, url, tick: () => (server.time.now += 15 * MINUTE) };
}

test('a run is broken off at any call', { skip: noStrace, timeout: 3_600_000 }, async (t) => {
  t.diagnostic(`SEED=${SEED}`);
  const { server, url, tick } = await world(t);
  const host = new AgentHost(t, OS.digest, fill);
  assert.equal((await host.enrol(server)).status, 0);
  await host.cycle();
  await server.settle();
  const out = join(host.folder, 'calls');
  const sealed = new Map<number, string>();
  const look = () => {
    for (const name of host.spool()) {
      const digest = `sha256:${hash('sha256', readFileSync(join(host.state, 'spool', name)))}`;
      const seq = Number.parseInt(name, 10);
      assert.equal(sealed.get(seq) ?? digest, digest, `number ${seq} means two reports`);
      sealed.set(seq, digest);
    }
  };
  /** Each time something else is there to tell, and everything is written anew. */
  const change = (n: number) => {
    tick();
    writeFileSync(join(host.root, 'usr/bin/login'), `login ${n}`);
    rmSync(join(host.state, 'digests'), { force: true });
  };
  change(-1);
  assert.equal((await host.cycle(...strace(out, kept(host, host.seq), []))).status, 1);
  const all = faultsIn(out);
  assert.ok(all.length > 100, `${all.length} faults`);
  const faults = some(all, SAMPLE.cycle, seeded(SEED));
  let told = 0;
  for (const [n, fault] of faults.entries()) {
    const where = `${named(fault)} (SEED=${SEED})`;
    change(n);
    const before = host.seq;
    const broken = await host.cycle(...strace(out, kept(host, before), injected(fault)));
    checkWords(broken, where);
    if (broken.status !== 1) told++;
    look();
    tick();
    const next = await host.cycle();
    assert.equal(next.status, 1, `${where}: ${next.stderr}`);
    assert.match(next.stderr, /delivered/, where);
    const record = (await server.server.store.hosts.get(host.host))!;
    assert.deepEqual(
      [record.chain.headSeq, record.chain.gaps, record.chain.flags.forked],
      [host.seq, [], undefined],
      `${where}\n${broken.stderr}\n${next.stderr}`,
    );
    assert.ok(host.seq > before, where);
    assert.deepEqual([host.spool(), host.spool('refused'), host.spool('corrupt')], [[], [], []], where);
    assert.ok(!existsSync(join(host.state, 'chain.json.corrupt')), where);
  }
  assert.ok(told > faults.length / 3, `${told} of ${faults.length} broke a run off`);
  t.diagnostic(`${faults.length} of ${all.length} faults`);
  await server.settle();
  for (const [seq, digest] of sealed)
    assert.equal((await server.server.store.reports.get(host.host, seq))?.digest, digest, `report ${seq}`);
  const ledger = [...sealed].map(([seq, digest]) => ({ host: host.host, seq, digest: digest as never }));
  assert.deepEqual((await fsck({ url, ledger })).faults, []);
});

test('an enrolment is broken off at any call', { skip: noStrace, timeout: 3_600_000 }, async (t) => {
  const { server, tick } = await world(t);
  const token = async () => ({ url: server.server.url, token: await tokenOf(server) });
  const first = new AgentHost(t, OS.digest, fill);
  const out = join(first.folder, 'calls');
  assert.equal((await first.enrol(await token(), ...strace(out, kept(first, 0), []))).status, 0);
  const all = faultsIn(out);
  const faults = some(all, SAMPLE.enrol, seeded(SEED + 1));
  for (const fault of faults) {
    const where = `${named(fault)} (SEED=${SEED})`;
    const host = new AgentHost(t, OS.digest, fill);
    const given = await token();
    const broken = await host.enrol(given, ...strace(out, kept(host, 0), injected(fault)));
    checkWords(broken, where);
    // Whole, or not there: a key that does not read would be thrown here.
    const key = readKey(nodeDisk, host.state);
    const identity = readIdentity(nodeDisk, host.state);
    if (identity !== undefined) assert.equal(identity.publicKey, key?.publicKey, where);
    tick();
    const again = await host.enrol(given);
    if (identity === undefined) assert.equal(again.status, 0, `${where}: ${again.stderr}`);
    else assert.match(again.stderr, /ALREADY_ENROLLED|enrolled already/, where);
    if (key !== undefined)
      assert.equal(readKey(nodeDisk, host.state)?.publicKey, key.publicKey, `${where}: the same key`);
    assert.match((await host.cycle()).stderr, /report 1 \(full\): .*delivered/, where);
  }
  t.diagnostic(`${faults.length} of ${all.length} faults`);
});

test(
  'a scan that is told to stop, and one whose process is killed, are reported as failed, and why',
  { timeout: 600_000 },
  async (t) => {
    const { server, tick } = await world(t);
    const host = new AgentHost(t, OS.digest, (root) => {
      fill(root);
      writeFileSync(join(root, 'usr/bin/large'), Buffer.alloc(60 * 2 ** 20, 'x'));
    });
    assert.equal((await host.enrol(server)).status, 0);
    const look = async () => {
      await server.settle();
      tick();
      return (await host.cycle()).stderr;
    };
    const verdict = async () => {
      await server.settle();
      return (await server.api(`/api/v1/hosts/${host.host}`)).body.verdict as string;
    };
    await look();
    assert.match(await look(), /1 added, 0 removed, 0 modified; delivered/);
    assert.equal(await verdict(), 'drifted');
    const words = ['run', '--backend', 'ostree', '--image', host.image, '--throttle', '1'];
    const broken = async (signal: string): Promise<Ran> => {
      tick();
      const scans = join(host.state, 'scanning.json');
      return start('sh', [
        '-c',
        'scans=$1; signal=$2; shift 2; "$@" & while [ ! -e "$scans" ]; do sleep 0.05; done; sleep 1; kill -s "$signal" $!; wait $!',
        'sh',
        scans,
        signal,
        ...host.command(...words),
      ]);
    };
    const holes = async (): Promise<string[]> => {
      const { body } = await server.api(`/api/v1/hosts/${host.host}/drift`);
      const { usr, etc } = body.trees as Record<'usr' | 'etc', { holes: { detail: string }[] }>;
      return [...usr.holes, ...etc.holes].map(({ detail }) => detail);
    };
    const told = await broken('TERM');
    assert.equal(told.status, 2, told.stderr);
    assert.match(told.stderr, /scan failed: it was told to stop after [0-9]+ s .*SIGTERM[^]*; delivered/);
    await server.settle();
    for (const hole of await holes()) assert.match(hole, /^scan failed: it was told to stop/);
    assert.equal(await verdict(), 'drifted', 'what was found before is not mended');

    assert.equal((await broken('KILL')).status, 137);
    // The next one as well: what is told before each scan is all that is ever heard of this host.
    const before = host.seq;
    const next = await broken('KILL');
    assert.match(next.stderr, /scan failed: the scan that began at .* never ended/);
    await server.settle();
    assert.equal(host.seq, before + 1);
    assert.equal((await holes()).length, 2);
    for (const hole of await holes()) assert.match(hole, /^scan failed: the scan that began at .* never ended/);
    assert.match(await look(), /1 added, 0 removed, 0 modified; delivered/);
    await server.settle();
    assert.deepEqual(await holes(), []);
    assert.deepEqual((await server.server.store.hosts.get(host.host))!.chain.gaps, []);
  },
);

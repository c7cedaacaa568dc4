/**
 * A fortnight of one host: the single executable, chrooted into a deployment that Debian's ostree made of an OCI image, in mount and process namespaces of
 * its own, with a clock that libfaketime tells, against a real server with the same clock. From one seed (SEED) its agent is killed, its disk full, its network
 * gone, its clock wrong; it is upgraded and tampered with. Each tampering must be found by the first report after it, and silence noticed.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { hash } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { nodeOf } from '../../packaging/nodes.ts';
import { singleExecutable } from '../../packaging/single.ts';
import { fsck } from '../../server/keep/fsck.ts';
import type { Acknowledged } from '../../server/keep/ledger.ts';
import { buildInWorker } from '../../server/jobs/builder.ts';
import { readPolicy } from '../../server/prepare.ts';
import { viewOf } from '../../server/standing.ts';
import { parsePolicy } from '../../src/policy/document.ts';
import { openReport } from '../../src/report/accept.ts';
import { seeded } from '../agent/fixture.ts';
import { serve } from '../agent/httpserver.ts';
import { folder as scratchFor, HOUR, MINUTE, serverFor, T0, type TestServer } from '../server/fleet.ts';
import { tokenOf } from './agenthost.ts';
import { ok, run, vectors, type Ran } from './tools.ts';

const SEED = Number(process.env['SEED'] ?? 20261125);
const STEP = 6 * HOUR;
const STEPS = (14 * 24 * HOUR) / STEP;
const SILENT_AFTER = 20 * HOUR;
/** By steps: two images that follow the first, and a network that is gone for longer than a host may be silent. */
const UPGRADES = [19, 38];
const AWAY = { from: 27, to: 32 };

const FAKETIME = `/usr/lib/${process.arch === 'x64' ? 'x86_64' : 'aarch64'}-linux-gnu/faketime/libfaketime.so.1`;
const missing = ['ostree', 'umoci', 'unshare'].filter((name) => run('sh', ['-c', `command -v ${name}`]).status !== 0);
const skip =
  process.geteuid?.() !== 0
    ? 'namespaces and ostree need root'
    : missing.length > 0 || !existsSync(FAKETIME)
      ? `not here: ${[...missing, ...(existsSync(FAKETIME) ? [] : ['faketime'])].join(' ')}`
      : false;

/** The image in its versions, and the machine that deploys them. */
class Site {
  readonly folder = mkdtempSync(join(tmpdir(), 'bootproof-fortnight-'));
  readonly layout = join(this.folder, 'layout');
  readonly sysroot = join(this.folder, 'sysroot');
  readonly #bundle = join(this.folder, 'bundle');
  #deployed = '';

  constructor(t: TestContext) {
    t.after(() => {
      run('umount', ['-l', this.disk]);
      run('chattr', ['-R', '-f', '-i', this.sysroot]); // ostree makes the folders of deployments immutable
      rmSync(this.folder, { recursive: true, force: true });
    });
    cpSync(join(vectors, '01-base/image'), this.layout, { recursive: true });
    ok('umoci', ['unpack', '--image', `${this.layout}:latest`, this.#bundle]);
    this.#addAgent(join(this.#bundle, 'rootfs'));
    for (const made of [this.sysroot, this.disk, this.root]) mkdirSync(made);
    ok('mount', ['-t', 'tmpfs', '-o', 'size=8m,mode=0755', 'bootproof-test', this.disk]);
    ok('ostree', ['admin', 'init-fs', '--modern', this.sysroot]);
    ok('ostree', ['admin', 'os-init', `--sysroot=${this.sysroot}`, 'edge']);
    ok('ostree', [`--repo=${this.sysroot}/ostree/repo`, 'config', 'set', 'sysroot.bootloader', 'none']);
  }

  /** What is /var there. */
  get disk(): string {
    return join(this.folder, 'var');
  }
  get root(): string {
    return join(this.folder, 'root');
  }
  at(path: string): string {
    return join(this.#deployed, path);
  }

  #addAgent(rootfs: string): void {
    const machine = process.arch as 'x64' | 'arm64';
    const program = join(rootfs, 'usr/libexec/bootproof/agent');
    mkdirSync(join(rootfs, 'usr/libexec/bootproof'), { recursive: true });
    writeFileSync(program, singleExecutable(machine, nodeOf(machine)), { mode: 0o755 });
    chmodSync(program, 0o755);
    mkdirSync(join(rootfs, 'usr/lib/bootproof'), { recursive: true });
    writeFileSync(join(rootfs, 'usr/lib/bootproof/agent.json'), '{ "interval": "6h" }\n');
    // The loader and what it loads, where Debian's loader looks for it.
    for (const [, file] of ok('ldd', [program]).matchAll(/(\/\S+) \(0x/g)) {
      const isLoader = basename(file!).startsWith('ld-linux');
      const below =
        isLoader && file!.startsWith('/lib64/')
          ? 'usr/lib64'
          : `usr${file!.replace(/\/[^/]*$/, '').replace(/^\/usr/, '')}`;
      mkdirSync(join(rootfs, below), { recursive: true });
      copyFileSync(realpathSync(file!), join(rootfs, below, basename(file!)));
    }
    if (!existsSync(join(rootfs, 'lib64'))) symlinkSync('usr/lib64', join(rootfs, 'lib64'));
  }

  /** A new version: built, committed, deployed, booted. Its digest. */
  upgrade(version: string): string {
    const rootfs = join(this.#bundle, 'rootfs');
    writeFileSync(join(rootfs, 'usr/lib/version'), `${version}\n`);
    ok('umoci', ['repack', '--refresh-bundle', '--image', `${this.layout}:${version}`, this.#bundle]);
    type Index = { manifests: { digest: string; annotations?: Record<string, string> }[] };
    const index = JSON.parse(readFileSync(join(this.layout, 'index.json'), 'utf8')) as Index;
    const digest = index.manifests.find(
      ({ annotations = {} }) => annotations['org.opencontainers.image.ref.name'] === version,
    )!.digest;
    const tree = join(this.folder, `tree-${version}`);
    ok('cp', ['-al', rootfs, tree]);
    rmSync(join(tree, 'sysroot/ostree'), { recursive: true, force: true });
    renameSync(join(tree, 'etc'), join(tree, 'usr/etc'));
    const commit = ok('ostree', [
      `--repo=${this.sysroot}/ostree/repo`,
      'commit',
      '-b',
      'os/edge',
      `--tree=dir=${tree}`,
      `--add-metadata-string=ostree.manifest-digest=${digest}`,
    ]).trim();
    rmSync(tree, { recursive: true });
    ok('ostree', ['admin', 'deploy', `--sysroot=${this.sysroot}`, '--os=edge', 'os/edge']);
    const deployments = join(this.sysroot, 'ostree/deploy/edge/deploy');
    const name = readdirSync(deployments).find((entry) => entry.startsWith(commit) && !entry.endsWith('.origin'))!;
    writeFileSync(
      join(deployments, `${name}.origin`),
      '[origin]\ncontainer-image-reference=ostree-unverified-registry:registry.example.test/os/edge:prod\n',
    );
    this.#deployed = join(deployments, name);
    return digest;
  }

  /** Runs the agent with this root and nothing else, and kills it after so many milliseconds. */
  agent(
    args: readonly string[],
    given: {
      now: number;
      bootId: string;
      env?: Record<string, string>;
      offline?: boolean;
      killAfterMs?: number | undefined;
    },
  ): Promise<Ran> {
    const script = `
      set -e
      mount --bind "$DEPLOYED" "$ROOT"
      mount --bind "$DEPLOYED/usr" "$ROOT/usr"
      mount -o remount,bind,ro "$ROOT/usr"
      mount --bind "$DISK" "$ROOT/var"
      mount --bind "$SYSROOT" "$ROOT/sysroot"
      mount -t tmpfs bootproof-run "$ROOT/run"
      mount -t proc proc "$ROOT/proc"
      cp "$FAKETIME" "$ROOT/run/libfaketime.so.1"
      printf '%s\\n' "$BOOT" >"$ROOT/run/boot_id"
      printf 'root=UUID=1 ostree=/ostree/boot.1/edge/0/0\\n' >"$ROOT/run/cmdline"
      mount --bind "$ROOT/run/cmdline" "$ROOT/proc/cmdline"
      mount --bind "$ROOT/run/boot_id" "$ROOT/proc/sys/kernel/random/boot_id"
      cd "$ROOT"
      chroot=$(command -v chroot)
      exec env -i TZ=UTC0 LD_PRELOAD=/run/libfaketime.so.1 FAKETIME="$NOW" FAKETIME_DONT_FAKE_MONOTONIC=1 $MORE \\
        "$chroot" . /usr/libexec/bootproof/agent agent "$@"`;
    const net = given.offline === true ? ['-n'] : [];
    const child = spawn('unshare', ['-m', '-p', ...net, '--fork', '--kill-child', 'sh', '-c', script, 'sh', ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        PATH: process.env['PATH']!,
        DEPLOYED: this.#deployed,
        ROOT: this.root,
        DISK: this.disk,
        SYSROOT: this.sysroot,
        FAKETIME,
        BOOT: given.bootId,
        NOW: `@${new Date(given.now).toISOString().slice(0, 19).replace('T', ' ')}`,
        MORE: Object.entries(given.env ?? {})
          .map(([name, value]) => `${name}=${value}`)
          .join(' '),
      },
    });
    const timer =
      given.killAfterMs === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), given.killAfterMs);
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (bytes: Buffer) => (stdout += bytes.toString('latin1')));
    child.stderr.on('data', (bytes: Buffer) => (stderr += bytes.toString('latin1')));
    return new Promise((resolve, reject) => {
      child.on('error', reject).on('close', (status) => {
        clearTimeout(timer);
        resolve({ status: status ?? -1, stdout, stderr });
      });
    });
  }
}

/** Something that is done to the running system, and undone. The file beneath is another then: ostree's objects are left alone. */
type Tampering = { readonly path: string; do(at: string): void };
const TAMPERINGS: readonly Tampering[] = [
  { path: '/usr/bin/backdoor', do: (at) => (writeFileSync(at, '#!/bin/sh\n'), chmodSync(at, 0o4755)) },
  {
    path: '/usr/bin/tool',
    do(at) {
      cpSync(at, `${at}.new`);
      appendFileSync(`${at}.new`, 'x');
      renameSync(`${at}.new`, at);
    },
  },
  { path: '/usr/lib/liba.so.1', do: (at) => rmSync(at) },
  {
    path: '/usr/bin/suidtool',
    do: (at) => (cpSync(at, `${at}.new`), chmodSync(`${at}.new`, 0o777), renameSync(`${at}.new`, at)),
  },
  { path: '/usr/lib/implant', do: (at) => writeFileSync(at, 'implant') },
];

async function policy() {
  const text = `format: bootproof.policy/1
name: fortnight
extends: default
freshness: { reportEvery: 6h, lateAfter: 12h, silentAfter: 20h }
`;
  const shipped = await readPolicy(undefined);
  return parsePolicy(text, { file: 'fortnight.yaml', base: () => shipped });
}

test('a fortnight', { skip, timeout: 1_800_000 }, async (t) => {
  t.diagnostic(`SEED=${SEED}`);
  const random = seeded(SEED);
  const below = (count: number) => Math.floor(random() * count);
  const site = new Site(t);
  const data = scratchFor(t);
  const storeUrl = `sqlite:${join(data, 'bootproof.db')}`;
  const server = await serverFor(t, {
    storeUrl,
    policy: await policy(),
    sources: [{ reference: `oci:${site.layout}` }],
    build: buildInWorker,
  });
  const acknowledged: Acknowledged[] = [];
  // Before the server, what it acknowledges is written down apart from it.
  await using way = await serve(async ({ method, path, headers, body }) => {
    const bare = Object.fromEntries(
      ['authorization', 'content-type'].flatMap((name) => (headers[name] ? [[name, String(headers[name])]] : [])),
    );
    const response = await server.server.app.request(path, {
      method,
      headers: bare,
      ...(body.length === 0 ? {} : { body: new Uint8Array(body) }),
    });
    const opened = path === '/api/v1/reports' && response.status === 200 ? openReport(body) : undefined;
    if (opened?.kind === 'opened') {
      const { host, seq, kind } = opened.value as { host: string; seq: number; kind: 'full' | 'same' };
      acknowledged.push({ host, seq, kind, digest: opened.digest });
    }
    const plain = Object.fromEntries(
      [...response.headers].filter(([name]) => name !== 'content-encoding' && name !== 'content-length'),
    );
    return { status: response.status, headers: plain, body: new Uint8Array(await response.arrayBuffer()) };
  });

  let bootId = '';
  const boot = () => {
    const hex = hash('sha256', `${SEED} ${random()}`);
    bootId = hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12}).*$/, '$1-$2-$3-$4-$5');
  };
  boot();
  let version = 1;
  let digest = site.upgrade(`v${version}`);
  writeFileSync(join(site.disk, 'token'), await tokenOf(server));
  const env = { BOOTPROOF_AGENT_URL: way.url };
  const enrolled = await site.agent(['enroll', '--token-file', '/var/token'], { now: server.time.now, bootId, env });
  assert.equal(enrolled.status, 0, enrolled.stderr);
  const { host } = JSON.parse(readFileSync(join(site.disk, 'lib/bootproof/identity.json'), 'utf8')) as { host: string };

  const done = new Map<string, { readonly at: number; undo: number }>();
  const found = new Map<string, number>();
  const counts = new Map<string, number>();
  const count = (what: string) => counts.set(what, (counts.get(what) ?? 0) + 1);
  const ballast = join(site.disk, 'ballast');
  const untouched = join(site.folder, 'untouched');
  /** Undefined after a run that was broken off with something told: what waited may have come alone, which is no sign of life. */
  let heardAt: number | undefined = server.time.now;
  let silences = 0;
  for (let step = 0; step < STEPS; step++) {
    server.time.now = T0 + step * STEP + below(30) * MINUTE;
    const { now } = server.time;
    const where = `step ${step} (SEED=${SEED})`;
    await settled(server);
    const isSilent = (await verdict(server, host)) === 'silent';
    if (heardAt !== undefined) assert.equal(isSilent, now >= heardAt + SILENT_AFTER, `${where}: silent`);
    if (isSilent) silences++;

    if (UPGRADES.includes(step)) {
      digest = site.upgrade(`v${++version}`);
      boot();
      // What was done to the old deployment is not done to this one.
      for (const path of done.keys()) done.delete(path);
      count('upgraded');
    }
    for (const [path, { undo }] of done)
      if (undo === step) {
        rmSync(site.at(path), { force: true });
        ok('sh', ['-c', 'if [ -e "$1" ]; then cp -a "$1" "$2"; fi', 'sh', untouched + path, site.at(path)]);
        done.delete(path);
      }
    const tampering = TAMPERINGS[below(TAMPERINGS.length)]!;
    if (random() < 0.25 && !done.has(tampering.path)) {
      const at = site.at(tampering.path);
      ok('sh', [
        '-c',
        'mkdir -p "$(dirname "$2")"; rm -f "$2"; if [ -e "$1" ]; then cp -a "$1" "$2"; fi',
        'sh',
        at,
        untouched + tampering.path,
      ]);
      tampering.do(at);
      done.set(tampering.path, { at: step, undo: step + 2 + below(6) });
      count('tampered');
    }

    const offline = (step >= AWAY.from && step < AWAY.to) || random() < 0.08;
    const full = random() < 0.08;
    const offset = random() < 0.1 ? Math.round((random() - 0.5) * 80 * HOUR) : 0;
    const killAfterMs = random() < 0.12 ? 100 + below(900) : undefined;
    if (offline) count('no network');
    if (offset !== 0) count('clock jump');
    if (full) {
      count('disk full');
      run('sh', ['-c', 'cat /dev/zero >"$1" 2>/dev/null', 'sh', ballast]);
    }
    const before = acknowledged.length;
    const ran = await site.agent(['run'], { now: now + offset, bootId, env, offline, killAfterMs });
    rmSync(ballast, { force: true });
    if (ran.status === -1) count('killed');
    assert.ok([-1, 0, 1, 2].includes(ran.status), `${where}: exit ${ran.status}\n${ran.stderr}`);
    assert.doesNotMatch(ran.stderr, /our own fault/, where);
    if (full && ran.status !== -1) assert.match(ran.stderr, /disk is full/, where);
    if (acknowledged.length > before) heardAt = undefined;
    if (offline || full || ran.status === -1) continue;

    // Nobody was in its way: it was heard, and what is so was found. The first report of an image asks for its manifest: the next one compares.
    await settled(server);
    let last = ran;
    if (/nothing to compare with/.test(ran.stderr)) {
      await built(server, digest);
      server.time.now += MINUTE;
      last = await site.agent(['run'], { now: server.time.now + offset, bootId, env });
      await settled(server);
    }
    heardAt = now;
    assert.match(last.stderr, /; delivered$/m, `${where}: ${last.stderr}`);
    const present = await server.server.store.findings.present(host);
    const paths = present.filter(({ group }) => group.kind === 'drift').map(({ group }) => group.subject);
    assert.deepEqual(paths.sort(), [...done.keys()].sort(), `${where}: what is found\n${last.stderr}`);
    const seen = await verdict(server, host);
    const story = present.map(({ group }) => `${group.kind} ${group.subject}`).join('; ');
    assert.equal(seen, done.size > 0 ? 'drifted' : 'compliant', `${where}: ${story}\n${last.stderr}`);
    for (const path of done.keys()) found.set(`${path} ${done.get(path)!.at}`, step);
  }
  assert.ok(silences > 0, 'it was silent, and that was noticed');
  t.diagnostic(
    JSON.stringify({ ...Object.fromEntries(counts), found: found.size, silences, reports: acknowledged.length }),
  );
  for (const what of ['killed', 'disk full', 'no network', 'clock jump', 'upgraded', 'tampered'])
    assert.ok((counts.get(what) ?? 0) > 0, `this run never met: ${what}`);
  const { chain } = (await server.server.store.hosts.get(host))!;
  assert.deepEqual([chain.gaps, chain.flags.forked, chain.flags.cloned], [[], undefined, undefined]);
  await server.server.evidence.turn();
  const whole = await fsck({ url: storeUrl, ledger: acknowledged, checkpointFile: join(data, 'log.checkpoint') });
  assert.deepEqual([whole.faults, whole.ledger?.acknowledged], [[], acknowledged.length]);
});

const settled = (server: TestServer) => server.settle();

async function verdict(server: TestServer, host: string): Promise<string> {
  return viewOf((await server.server.store.hosts.get(host))!, server.time.now).verdict;
}

async function built(server: TestServer, digest: string): Promise<void> {
  for (let tries = 0; (await server.server.store.images.find(digest))?.image.state !== 'ready'; tries++) {
    assert.ok(tries < 1200, `no manifest of ${digest}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await server.settle();
}

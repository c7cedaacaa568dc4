/**
 * Agent and server are upgraded in either order, one version apart: the one before is a commit of this repository. Skipped where the clone has no history.
 */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { AgentHost } from './agenthost.ts';
import { ok, root as here, run, scratch, vectors } from './tools.ts';

/** What hosts and servers run that were not upgraded yet. */
const BEFORE = '54b4194';
const LAYOUT = join(vectors, '01-base/image');
const IMAGE = (JSON.parse(readFileSync(join(LAYOUT, 'index.json'), 'utf8')) as { manifests: { digest: string }[] })
  .manifests[0]!.digest;

const noHistory =
  run('git', ['-C', here, 'cat-file', '-e', `${BEFORE}^{commit}`]).status === 0
    ? false
    : `this clone does not have ${BEFORE}`;

function checkoutBefore(t: TestContext): string {
  const folder = join(scratch(t), 'before');
  mkdirSync(folder);
  ok('sh', ['-c', `git -C "$1" archive ${BEFORE} | tar -x -C "$2"`, 'sh', here, folder]);
  symlinkSync(join(here, 'node_modules'), join(folder, 'node_modules'));
  return folder;
}

/** A server as its operator runs it: stopped and started as another version on the same data. */
class Service {
  readonly #data: string;
  #child: ChildProcess | undefined;
  #admin = '';
  url = '';

  constructor(t: TestContext) {
    this.#data = scratch(t);
    t.after(() => this.#child?.kill('SIGKILL'));
  }

  async start(checkout: string): Promise<void> {
    const args = [
      '--data',
      this.#data,
      '--listen',
      '127.0.0.1:0',
      '--jobs-interval',
      '100ms',
      '--source',
      `oci:${LAYOUT}`,
    ];
    const child = spawn(
      process.execPath,
      ['--disable-warning=ExperimentalWarning', join(checkout, 'server/main.ts'), ...args],
      { cwd: checkout, env: { PATH: process.env['PATH']! }, stdio: ['ignore', 'pipe', 'pipe'] },
    );
    this.#child = child;
    let text = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (bytes: Buffer) => (text += bytes.toString()));
    const told = async (pattern: RegExp) => {
      for (let found; ; await sleep(10)) {
        if ((found = pattern.exec(text)) !== null) return found[1]!;
        assert.equal(child.exitCode, null, text);
      }
    };
    this.#admin ||= await told(/admin token .*: (\S+)/);
    this.url = await told(/bootproof server at (\S+)/);
  }

  async stop(): Promise<void> {
    const gone = once(this.#child!, 'close');
    this.#child!.kill('SIGTERM');
    assert.equal((await gone)[0], 0, 'an orderly end');
  }

  async ask(path: string, body?: object): Promise<any> {
    const response = await fetch(this.url + path, {
      method: body === undefined ? 'GET' : 'POST',
      headers: { authorization: `Bearer ${this.#admin}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    assert.ok(response.ok, `${path}: ${response.status} ${await response.clone().text()}`);
    return response.json();
  }
}

type KeptLog = { readonly current: { readonly checkpoint: string } | null; readonly refused: unknown };

/** A host as each version must find it: it reports the same, a change, and the same again; each answer is taken, its checkpoint continues the one before. */
async function works(service: Service, host: AgentHost, n: number): Promise<void> {
  const version = host.checkout === here ? 'new' : 'old';
  const where = `step ${n}, ${version} agent`;
  writeFileSync(join(host.root, 'usr/bin/tool'), `step ${n}`);
  const kinds: string[] = [];
  for (let i = 0; i < 3; i++) {
    // The port is another with each start of the server.
    const ran = await host.cycle('env', `BOOTPROOF_AGENT_URL=${service.url}`);
    assert.equal(ran.status, 1, `${where}: ${ran.stderr}`);
    const kind = /report [0-9]+ \((full|same)\): [0-9]+ added, .*; delivered/.exec(ran.stderr)?.[1];
    assert.ok(kind, `${where}: ${ran.stderr}`);
    kinds.push(kind);
    await sleep(300);
  }
  assert.equal(kinds[0], 'full', where);
  assert.ok(kinds.includes('same'), `${where}: ${kinds.join()}`);
  const { chain, last, integrity } = await service.ask(`/api/v1/hosts/${host.host}`);
  assert.deepEqual([chain.head, chain.gaps, chain.forkedAt, chain.gapAt], [host.seq, [], null, null], where);
  assert.equal(last.kind, 'same', where);
  assert.notEqual(integrity.code, 'MANIFEST_PENDING', where);
  const log = host.json('log.json') as KeptLog;
  assert.equal(log.refused, null, where);
  assert.match(log.current!.checkpoint, /\n/, where);
  const { answer } = host.json('chain.json') as { answer: { challenge: string | null; manifestBearer: string | null } };
  assert.ok(answer.challenge && answer.manifestBearer, where);
}

const sizeOf = (host: AgentHost) => Number((host.json('log.json') as KeptLog).current!.checkpoint.split('\n')[1]);

test('agent and server, one version apart, in either order', { skip: noHistory, timeout: 600_000 }, async (t) => {
  const before = checkoutBefore(t);
  const tree = join(scratch(t), 'bundle');
  ok('umoci', ['unpack', '--image', `${LAYOUT}:latest`, tree]);
  const service = new Service(t);
  await service.start(before);
  const host = async (checkout: string): Promise<AgentHost> => {
    const made = new AgentHost(t, IMAGE, (root) => ok('cp', ['-a', `${tree}/rootfs/.`, root]), checkout);
    const { token } = await service.ask('/api/v1/tokens', {});
    const enrolled = await made.enrol({ url: service.url, token });
    assert.equal(enrolled.status, 0, enrolled.stderr);
    // It tells which image it booted, whose manifest is then built.
    const first = await made.cycle();
    assert.match(first.stderr, /delivered/, first.stderr);
    for (
      let tries = 0;
      (await service.ask('/api/v1/images')).items.every((image: { state: string }) => image.state !== 'ready');
      tries++
    ) {
      assert.ok(tries < 200, `no manifest: ${JSON.stringify(await service.ask('/api/v1/images'))}`);
      await sleep(50);
    }
    return made;
  };
  const serverFirst = await host(before);
  const agentFirst = await host(before);
  const hosts = [serverFirst, agentFirst];
  let n = 0;
  for (const one of hosts) await works(service, one, ++n);
  const size = sizeOf(agentFirst);

  // One host's image already brings the new agent; and a new host comes with it.
  agentFirst.checkout = here;
  hosts.push(await host(here));
  for (const one of hosts) await works(service, one, ++n);

  await service.stop();
  // Nobody is there: what is sealed meanwhile waits, whoever sealed it.
  for (const one of hosts) assert.match((await one.cycle()).stderr, /waits/);
  await service.start(here);
  hosts.push(await host(before));
  for (const one of hosts) await works(service, one, ++n);

  for (const one of hosts) one.checkout = here;
  for (const one of hosts) await works(service, one, ++n);
  for (const one of hosts) assert.ok(sizeOf(one) > size, 'the log went on');
  await service.stop();
});

/** The demo fleet as its user meets it: real files, a real registry, real agents, the real server; in depth (test/depth.ts) with all of its hosts, then taken up again where it was left, also where its registry must move. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { Fleet } from '#demo/fleet.ts';
import { DEMO_HOSTS } from '#demo/host.ts';
import { fleetJson, fleetTable, unexpected } from '#demo/show.ts';
import { deep, isFull } from '#test/depth.ts';

/** One of each kind that needs an agent, a build and a signature of its own; in depth all of them. */
const SOME = ['web-1', 'db-1', 'edge-1', 'build-1', 'copy-1', 'ci-1'];
const HOSTS = deep(
  DEMO_HOSTS,
  DEMO_HOSTS.filter(({ name }) => SOME.includes(name)),
);

const launcher = join(import.meta.dirname, '../../bootproof');

function run(args: readonly string[]): Promise<{ status: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(launcher, [...args], (error, stdout, stderr) => {
      resolve({ status: error === null ? 0 : Number(error.code), stdout, stderr });
    });
  });
}

test('each host of the demo gets the verdict that it must get, and in depth the next start finds it so', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'bootproof-fleet-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const { uid, gid } = userInfo();
  const up = () =>
    Fleet.up({
      folder,
      fresh: false,
      hosts: HOSTS,
      port: { port: 0, movable: false },
      user: { uid, gid },
      env: process.env,
      signal: AbortSignal.timeout(600_000),
      say: async () => {},
    });

  const fleet = await up();
  try {
    const hosts = await fleet.settle();
    assert.deepEqual(unexpected(hosts, HOSTS), [], fleetTable(hosts));
    const told = fleetJson(hosts) as { hosts: { name: string }[]; expected: Record<string, string> };
    assert.deepEqual(told.hosts.map(({ name }) => name).sort(), HOSTS.map(({ name }) => name).sort());

    // A person looks at one host by hand, against what the server says that it must be.
    const home = join(folder, 'hosts', 'db-1');
    const digest = hosts.find(({ name }) => name === 'db-1')!.images.booted!;
    const state = ['--root', join(home, 'root'), '--state', join(home, 'state')];
    const scan = await run(['agent', 'scan', ...state, '--server', fleet.url, '--digest', digest, '--json']);
    assert.equal(scan.status, 1, scan.stderr);
    const paths = (JSON.parse(scan.stdout).drift as { path: string }[]).map(({ path }) => path);
    for (const path of ['/usr/bin/.backdoor', '/usr/bin/bash', '/usr/lib/libdemo.so.1'])
      assert.ok(paths.includes(path), path);

    // The demo's images let out what is in some files of /etc.
    const edge = hosts.find(({ name }) => name === 'edge-1')!;
    const address = `${fleet.url}/api/v1/hosts/${edge.id}/difference?path=/etc/ssh/sshd_config`;
    const authorization = `Bearer ${readFileSync(join(folder, 'admin-token'), 'utf8').trim()}`;
    const { hunks } = (await (await fetch(address, { headers: { authorization } })).json()) as {
      hunks: { lines: { kind: string; text: string }[] }[];
    };
    const changed = hunks.flatMap(({ lines }) => lines).filter(({ kind }) => kind !== 'same');
    assert.deepEqual(
      changed.map(({ kind, text }) => `${kind} ${text}`),
      ['del PermitRootLogin no', 'add PermitRootLogin yes'],
    );

    // Its policy is a version like any server's, and what extends the default can be tried over it.
    const ask = async (path: string, init: RequestInit = {}) => {
      const headers = { authorization, 'content-type': 'application/json' };
      return (await (await fetch(`${fleet.url}${path}`, { ...init, headers })).json()) as any;
    };
    const { items } = await ask('/api/v1/policies');
    // One for each pace that this machine needed (demo/pace.ts).
    assert.deepEqual([items.length, items.at(-1).version, items[0].name], [items[0].version, 1, 'demo']);
    const text = 'format: bootproof.policy/1\nname: mine\nextends: default\n';
    const body = JSON.stringify({ documents: [{ file: 'mine.yaml', text }] });
    assert.equal((await ask('/api/v1/policies/diff', { method: 'POST', body })).code, undefined);
    assert.ok(!JSON.stringify(await ask(`/api/v1/hosts/${edge.id}/posture`)).includes('no-policy'));
  } finally {
    await fleet.close();
  }

  if (!isFull)
    return t.diagnostic('that it is taken up again, and that its registry moves, is tried with TEST_DEPTH=full');
  const again = await up();
  try {
    assert.equal(again.isNewToken, false);
    const hosts = await again.settle();
    assert.deepEqual(unexpected(hosts, HOSTS), [], fleetTable(hosts));
    assert.equal(hosts.length, HOSTS.length, 'nobody enrolled twice');
  } finally {
    await again.close();
  }

  // Signatures were made for the registry's name, and another program has its port now.
  const { registryPort } = JSON.parse(readFileSync(join(folder, 'fleet.json'), 'utf8')) as { registryPort: number };
  const taken = createServer().listen(registryPort, '127.0.0.1');
  await once(taken, 'listening');
  t.after(() => taken.close());
  const moved = await up();
  try {
    const hosts = await moved.settle();
    assert.deepEqual(unexpected(hosts, HOSTS), [], fleetTable(hosts));
  } finally {
    await moved.close();
  }
});

/** A start that fails, or is told to stop, leaves nothing open behind it: what is open keeps the process. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { Fleet, type FleetOptions } from '#demo/fleet.ts';
import { DEMO_IMAGES } from '#demo/host.ts';

/** A folder in which nothing is to be packed or signed any more, and a port that nobody has. */
async function left(t: TestContext): Promise<{ options: FleetOptions; port: number }> {
  const folder = mkdtempSync(join(tmpdir(), 'bootproof-up-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const free = createServer().listen(0, '127.0.0.1');
  await once(free, 'listening');
  const { port } = free.address() as AddressInfo;
  await new Promise((resolve) => free.close(resolve));
  const images = Object.fromEntries(Object.keys(DEMO_IMAGES).map((name) => [name, `sha256:${'a'.repeat(64)}`]));
  const saved = { images, registryPort: port, left: [['db-1', 'a right']], enrolled: [] };
  writeFileSync(join(folder, 'fleet.json'), JSON.stringify(saved));
  const { uid, gid } = userInfo();
  const options = {
    folder,
    fresh: false,
    port: { port: 0, movable: false },
    user: { uid, gid },
    env: {},
    signal: new AbortController().signal,
    say: async () => {},
  };
  return { options, port };
}

const isFree = async (port: number): Promise<boolean> => {
  const server = createServer();
  const free = await new Promise<boolean>((resolve) =>
    server.once('error', () => resolve(false)).listen(port, '127.0.0.1', () => resolve(true)),
  );
  if (free) await new Promise((resolve) => server.close(resolve));
  return free;
};

test('a start that fails after its registry is up closes it', async (t) => {
  const { options, port } = await left(t);
  const broken = new Error('no such terminal');
  const say = async (line: string) => {
    assert.match(line, /db-1: a right needs root/);
    assert.equal(await isFree(port), false, 'the registry is up');
    throw broken;
  };
  await assert.rejects(Fleet.up({ ...options, say }), broken);
  assert.equal(await isFree(port), true);
});

test('a start that is told to stop ends with the reason, and closes its registry', async (t) => {
  const { options, port } = await left(t);
  const stop = new AbortController();
  const say = async () => stop.abort();
  const reason = await Fleet.up({ ...options, signal: stop.signal, say }).catch((error: unknown) => error);
  assert.equal(reason, stop.signal.reason);
  assert.equal(await isFree(port), true);
});

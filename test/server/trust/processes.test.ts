/** Several real server processes on one PostgreSQL: what one is told, all judge by, and no host is left with what the others knew before. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { keyPolicy } from '#demo/sign.ts';
import { isFull } from '#test/depth.ts';
import { startPostgres } from '#test/postgres.ts';
import { folder, type TestServer } from '../fleet.ts';
import { hostOn, KEY, OTHER, REPOSITORY, site } from './site.ts';

const launcher = join(import.meta.dirname, '../../../bootproof');

/** `bootproof server` as a process of its own, as the helpers of this folder see one. */
async function start(t: TestContext, args: readonly string[], admin?: string): Promise<TestServer> {
  const child = spawn(launcher, ['server', '--listen', '127.0.0.1:0', '--jobs-interval', '200ms', ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  t.after(() => child.kill('SIGKILL'));
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
  const url = await until(() => {
    assert.equal(child.exitCode, null, said);
    return /server at (http:\S+)/.exec(said)?.[1];
  });
  const token = admin ?? /bp_admin_\S+/.exec(said)![0];
  const request = (path: string, init?: RequestInit) => fetch(url + path, init);
  const server: Partial<TestServer> = {
    server: { app: { request } } as never,
    admin: token,
    time: {
      get now() {
        return Date.now();
      },
      set now(_) {},
    },
    async api(path, { method = 'GET', body } = {}) {
      const response = await request(path, {
        method,
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      return { status: response.status, body: await response.json(), headers: response.headers };
    },
  };
  return server as TestServer;
}

async function until<T>(look: () => Promise<T | undefined> | T | undefined, everyMs = 25): Promise<T> {
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
}

test(
  'what is denied at one process, and a policy that another brings, holds at all of them',
  { timeout: 180_000 },
  async (t) => {
    if (!isFull) return t.skip('it starts three servers: TEST_DEPTH=full');
    const postgres = await startPostgres();
    if ('skip' in postgres) return t.skip(postgres.skip);
    t.after(() => postgres.stop());
    const at = await site(t);
    const os = at.image('os');
    await at.sign(os);
    const data = folder(t);
    const policy = (name: string, keys: Parameters<typeof keyPolicy>[2]) => {
      const file = join(data, `${name}.yaml`);
      writeFileSync(file, keyPolicy('os', `${at.registry}/${REPOSITORY}@*`, keys));
      return file;
    };
    const database = await postgres.migrated();
    process.env['BOOTPROOF_DATABASE_URL'] = database;
    t.after(() => delete process.env['BOOTPROOF_DATABASE_URL']);
    const args = (file: string) => ['--source', at.source, '--plain-http', at.registry, '--image-policy', file];
    const before = policy('before', [KEY]);
    const a = await start(t, args(before));
    const b = await start(t, args(before), a.admin);
    const hosts = [await hostOn(a, at, os, 'a-1'), await hostOn(b, at, os, 'b-1')] as const;

    /** Both hosts as both processes tell them, while each goes on reporting to its own. */
    const state = async (servers: readonly TestServer[]) => {
      for (const host of hosts) await host.sendFull();
      const told = await Promise.all(
        servers.flatMap((server) => hosts.map(({ id }) => server.api(`/api/v1/hosts/${id}`))),
      );
      return told.map(({ body }) => body.provenance as { readonly state: string; readonly why?: string });
    };
    const all = (servers: readonly TestServer[], wanted: string) =>
      // Each look is two full reports and some questions: without a pause they were most of what the servers did.
      until(async () => ((await state(servers)).every((one) => one.state === wanted) ? true : undefined), 600);
    await all([a, b], 'trusted');

    const { id } = (await a.api('/api/v1/deny', { method: 'PUT', body: { image: os.digest, reason: 'Recalled.' } }))
      .body;
    await all([a, b], 'rejected');
    // Longer than any process remembers what it knew: none comes back.
    for (let round = 0; round < 3; round++) {
      for (const one of await state([a, b])) assert.equal(one.state, 'rejected', JSON.stringify(one));
      await new Promise((resolve) => setTimeout(resolve, 600));
    }
    await b.api(`/api/v1/deny/${id}`, { method: 'DELETE' });
    await all([a, b], 'trusted');

    const c = await start(t, args(policy('after', [OTHER])), a.admin);
    await all([a, b, c], 'rejected');
    for (const server of [a, b, c]) {
      const { provenance } = (await server.api(`/api/v1/hosts/${hosts[0].id}`)).body;
      assert.match(provenance.why, /not signed by the key/);
    }
    const bases = await Promise.all([a, b, c].map(async (server) => (await server.api('/api/v1/trust')).body.basis));
    assert.deepEqual(bases[0], bases[1]);
    assert.deepEqual(bases[0], bases[2]);
  },
);

/** Several server processes on one store, and one that is killed: nothing that was acknowledged is lost, no number means two things. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { after, before, test, type TestContext } from 'node:test';
import { formatInstant } from '#src/clock.ts';
import {
  BASE,
  enrol,
  file,
  folder,
  image,
  serverFor,
  T0,
  TestHost,
  type Posted,
  type TestServer,
} from '#test/server/fleet.ts';
import { startPostgres, type Postgres } from '#test/postgres.ts';

const OS = image('41');
const launcher = join(import.meta.dirname, '../../../bootproof');

let postgres: Postgres | { skip: string };
before(async () => {
  postgres = await startPostgres();
});
after(async () => {
  if (!('skip' in postgres)) await postgres.stop();
});

/** Two servers on one store, as two processes behind a balancer: they share nothing but it. */
async function twins(t: TestContext, storeUrl: string): Promise<[TestServer, TestServer]> {
  const first = await serverFor(t, { storeUrl, images: [OS] });
  const second = await serverFor(t, { storeUrl, images: [OS], admin: first.admin });
  return [first, second];
}

const post = async (server: TestServer, text: string): Promise<Posted> => {
  const response = await server.server.app.request('/api/v1/reports', { method: 'POST', body: text });
  return { status: response.status, body: (await response.json()) as Posted['body'], headers: response.headers };
};

async function race(t: TestContext, storeUrl: string): Promise<void> {
  const [first, second] = await twins(t, storeUrl);
  const host = await enrol(first, OS);
  await host.sendFull();
  await first.settle();
  host.compareWith(OS);
  await host.sendFull();
  for (let round = 0; round < 10; round++) {
    const one = host.sameReport();
    const [a, b] = [
      await host.seal(one),
      await host.seal({ ...one, startedAt: formatInstant(T0 - 1000 * (round + 1)) }),
    ];
    // The same number at both at once, with other bytes: one wins.
    const rivals = await Promise.all([post(first, a.text), post(second, b.text)]);
    assert.deepEqual(
      rivals.map(({ status }) => status).sort((x, y) => x - y),
      [200, 409],
    );
    const winner = rivals[0].status === 200 ? a : b;
    // The winner's bytes again, at both: the first answer, whoever gives it.
    const again = await Promise.all([post(first, winner.text), post(second, winner.text)]);
    for (const { status, body } of again)
      assert.deepEqual([status, body], [200, rivals.find((rival) => rival.status === 200)!.body]);
    await first.api(`/api/v1/hosts/${host.id}/accept-fork`, { method: 'POST' });
  }
  const one = await host.seal(host.sameReport());
  const both = await Promise.all([post(first, one.text), post(second, one.text)]);
  assert.deepEqual(
    both.map(({ status }) => status),
    [200, 200],
  );
  assert.deepEqual(both[0].body, both[1].body, 'one report, one answer');
}

/** The whole way of a host, so that it is known to hold on this engine as well. */
async function life(t: TestContext, storeUrl: string): Promise<void> {
  const [first, second] = await twins(t, storeUrl);
  const host = await enrol(first, OS, { name: 'Ünïcode \u0000 host' });
  await host.sendFull();
  await first.settle();
  host.compareWith(OS);
  host.entries = [...BASE, file('/usr/bin/\xff', 'x', 0o755), file('/etc/new', 'y')];
  host.state = { contradictions: ['a \u0000 b'], kargs: ['x=\u0000'] };
  assert.equal((await host.sendFull()).status, 200, 'a NUL in what a host tells does not stop it');
  const told = (await second.api(`/api/v1/hosts/${host.id}`)).body;
  assert.equal(told.verdict, 'drifted');
  host.entries = BASE;
  host.state = {};
  await host.sendFull();
  assert.equal((await second.api(`/api/v1/hosts/${host.id}`)).body.verdict, 'compliant');
  assert.deepEqual((await second.api('/api/v1/groups')).body.items, []);
  assert.equal((await second.api('/api/v1/groups?status=all')).body.items.length >= 3, true);
}

for (const [name, url] of [
  ['SQLite', async (t: TestContext) => `sqlite:${join(folder(t), 'store.db')}`],
  [
    'PostgreSQL',
    async (t: TestContext) => {
      if (!('skip' in postgres)) return postgres.database();
      t.skip(postgres.skip);
      return undefined;
    },
  ],
] as const) {
  test(`two processes on one ${name} take the same number at once`, async (t) => {
    const at = await url(t);
    if (at !== undefined) await race(t, at);
  });
  test(`a host's whole way on ${name}, seen from another process`, async (t) => {
    const at = await url(t);
    if (at !== undefined) await life(t, at);
  });
}

// ── kill -9 ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** `bootproof server` as a process of its own. */
async function start(
  data: string,
  t: TestContext,
): Promise<{ child: ChildProcess; url: string; token: string | undefined }> {
  const child = spawn(launcher, ['server', '--data', data, '--listen', '127.0.0.1:0'], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  t.after(() => child.kill('SIGKILL'));
  let told = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (told += text));
  for (;;) {
    const url = /server at (http:\S+)/.exec(told)?.[1];
    if (url !== undefined) return { child, url, token: /bp_admin_\S+/.exec(told)?.[0] };
    if (child.exitCode !== null) throw new Error(told);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A server in another process, as the helpers of this folder see one. */
function remote(url: () => string, admin: string): TestServer {
  const request = (path: string, init?: RequestInit) => fetch(url() + path, init);
  const server: Partial<TestServer> = {
    server: { app: { request } } as never,
    admin,
    time: {
      get now() {
        return Date.now();
      },
      set now(_) {},
    },
    async api(path, { method = 'GET', body } = {}) {
      const response = await request(path, {
        method,
        headers: { authorization: `Bearer ${admin}`, 'content-type': 'application/json' },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      return { status: response.status, body: await response.json(), headers: response.headers };
    },
  };
  return server as TestServer;
}

test('kill -9 in the middle of intake loses nothing that was acknowledged', async (t) => {
  const data = folder(t);
  let running = await start(data, t);
  const server = remote(() => running.url, running.token!);
  const { token } = (await server.api('/api/v1/tokens', { method: 'POST', body: { maxUses: null } })).body;
  const hosts: TestHost[] = [];
  for (let n = 0; n < 12; n++) hosts.push(await enrol(server, OS, { token, name: `host-${n}` }));
  const acknowledged = new Map<TestHost, { seq: number; digest: string }[]>(hosts.map((host) => [host, []]));

  const total = () => [...acknowledged.values()].reduce((sum, { length }) => sum + length, 0);

  for (let round = 0; round < 3; round++) {
    const stop = new AbortController();
    // Each host posts one report after the other; what was not answered is posted again, as the agent does.
    const work = hosts.map(async (host) => {
      for (let kind = 0; !stop.signal.aborted; kind++) {
        const report = host.full === null || kind % 4 === 0 ? host.fullReport() : host.sameReport();
        const sealed = await host.seal(report);
        for (;;) {
          const posted = await host.post(sealed.text).catch(() => undefined);
          if (posted?.status === 200) {
            acknowledged.get(host)!.push({ seq: report.seq, digest: sealed.digest });
            if (report.kind === 'full') {
              host.full = { digest: sealed.digest, report };
              host.count = 0;
            }
            host.challenge = posted.body.challenge;
            break;
          }
          if (posted !== undefined) assert.equal(posted.status, 503, JSON.stringify(posted.body));
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
      }
    });
    // In the middle: some were taken in this round, and more are under way.
    const enough = total() + 40 + 10 * round;
    while (total() < enough) await new Promise((resolve) => setTimeout(resolve, 5));
    running.child.kill('SIGKILL');
    await once(running.child, 'exit');
    running = await start(data, t);
    stop.abort();
    await Promise.all(work);

    for (const [host, taken] of acknowledged) {
      const told = (await server.api(`/api/v1/hosts/${host.id}`)).body;
      assert.equal(told.chain.head, taken.at(-1)!.seq);
      assert.deepEqual([told.chain.gaps, told.chain.forkedAt, told.chain.gapAt], [[], null, null]);
      const kept = new Map<number, string>();
      let next: string | null = '';
      while (next !== null) {
        const page: { items: { seq: number; digest: string; kind: string }[]; next: string | null } = (
          await server.api(`/api/v1/hosts/${host.id}/reports?limit=200${next === '' ? '' : `&cursor=${next}`}`)
        ).body;
        for (const { seq, digest } of page.items) kept.set(seq, digest);
        next = page.next;
      }
      // Every full and the newest `same` are kept, each under its own number.
      for (const { seq, digest } of taken) if (kept.has(seq)) assert.equal(kept.get(seq), digest);
      assert.ok(kept.has(told.chain.full.seq));
    }
  }
  running.child.kill('SIGTERM');
  const [code] = (await once(running.child, 'exit')) as [number];
  assert.equal(code, 0, 'an orderly end');
});

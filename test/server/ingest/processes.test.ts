/** Several server processes on one store: no number means two things. One that is killed is in test/system/kill.test.ts. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test, type TestContext } from 'node:test';
import { formatInstant } from '#src/clock.ts';
import { BASE, enrol, file, folder, image, serverFor, T0, type Posted, type TestServer } from '#test/server/fleet.ts';
import { startPostgres, type Postgres } from '#test/postgres.ts';

const OS = image('41');

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
      if (!('skip' in postgres)) return postgres.migrated();
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

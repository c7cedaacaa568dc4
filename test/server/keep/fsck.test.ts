/** `bootproof server fsck`: a store that was lived in is sound, and each thing that is changed, removed or doubled is named. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { fsck } from '#server/keep/fsck.ts';
import { folder, serverFor, type TestServer } from '#test/server/fleet.ts';
import { DAY, fleet, groupAt, NEXT, odd, OS, shows } from '../decisions/people.ts';

/** Three days of three hosts: drift that came, was acknowledged and went, `same` reports, and one that came late. */
async function lived(t: TestContext, storeUrl: string): Promise<TestServer> {
  const server = await serverFor(t, { images: [OS, NEXT], storeUrl });
  const [a, b, c] = await fleet(server);
  const post = async (path: string, body: object): Promise<void> => {
    const { status, body: answer } = await server.api(path, { method: 'POST', body });
    assert.ok(status < 300, JSON.stringify(answer));
  };
  const { id } = await groupAt(server);
  const done = await server.api('/api/v1/bulk/preview', {
    method: 'POST',
    body: { action: 'acknowledge', filter: { q: 'path:/usr/bin/odd' }, note: 'rollout' },
  });
  await server.server.app.request(`/api/v1/bulk/${done.body.token}/apply`, {
    method: 'POST',
    headers: { authorization: `Bearer ${server.admin}`, 'idempotency-key': 'k' },
  });
  await post(`/api/v1/groups/${id}/comments`, { text: 'seen' });
  for (let day = 0; day < 3; day++) {
    for (const host of [a, b, c]) await host.sendSame();
    server.time.now += DAY;
  }
  await shows(b);
  await shows(c, odd('y'));
  // One that was lost on its way, and comes later.
  const late = await a.seal(a.sameReport());
  await a.sendSame();
  assert.equal((await a.post(late.text)).status, 200);
  await server.settle();
  await server.server.evidence.turn();
  return server;
}

test('a store that was lived in is sound, while its server runs', async (t) => {
  const home = folder(t);
  const url = `sqlite:${join(home, 'store.db')}`;
  await lived(t, url);
  const done = await fsck({ url, checkpointFile: join(home, 'log.checkpoint'), exports: join(home, 'evidence') });
  assert.deepEqual(done.faults, []);
});

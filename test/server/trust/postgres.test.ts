/** The same on PostgreSQL: a job writes the result, hosts follow, and what is denied takes it back. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startPostgres } from '#test/postgres.ts';
import { serverFor } from '../fleet.ts';
import { hostOn, KEY, site } from './site.ts';

test('PostgreSQL: trusted, denied, and trusted again', async (t) => {
  const postgres = await startPostgres();
  if ('skip' in postgres) return t.skip(postgres.skip);
  t.after(() => postgres.stop());
  const at = await site(t);
  const [signed, unsigned] = [at.image('signed'), at.image('unsigned')];
  await at.sign(signed);
  const storeUrl = await postgres.database();
  const server = await serverFor(t, { storeUrl, images: [signed, unsigned], ...at.options(at.policy([KEY])) });
  const hosts = [await hostOn(server, at, signed, 'good-1'), await hostOn(server, at, unsigned, 'bad-1')] as const;
  await server.settle();
  const states = async () => Promise.all(hosts.map(async (host) => (await host.told()).provenance.state));
  assert.deepEqual(await states(), ['trusted', 'unsigned']);
  const body = { image: signed.digest, reason: 'Recalled.' };
  const { id } = (await server.api('/api/v1/deny', { method: 'PUT', body })).body;
  await server.settle();
  assert.deepEqual(await states(), ['rejected', 'unsigned']);
  await server.api(`/api/v1/deny/${id}`, { method: 'DELETE' });
  await server.settle();
  assert.deepEqual(await states(), ['trusted', 'unsigned']);
});

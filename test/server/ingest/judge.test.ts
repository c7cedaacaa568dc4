/** What a report may leave open, and what the server makes of it: never `intact` (docs/report.md 3.4). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Digest } from '#src/digest.ts';
import type { FullReport } from '#src/report/report.ts';
import { BASE, enrol, file, image, serverFor } from '#test/server/fleet.ts';

const OS = image('41');
const zeros = (digit: string): Digest => `sha256:${digit.repeat(64)}` as Digest;

test('a list of secrets that is not known leaves /etc unverifiable, and /usr is held against the manifest', async (t) => {
  const server = await serverFor(t, { images: [OS] });
  const host = await enrol(server, OS);
  await host.sendFull();
  await server.settle();
  host.compareWith(OS);
  host.entries = [...BASE, file('/etc/extra', 'x')];
  await host.sendFull();
  const held = await host.findings();
  assert.deepEqual(
    held.map(({ subject }) => subject),
    ['/etc/extra'],
  );
  host.entries = BASE;
  host.more = { secretPaths: { id: 'secret-paths/999', added: [] } };
  const { trees } = host.fullReport();
  const etc = { ...trees.etc, main: zeros('8') };
  const refused = await host.post(
    (await host.seal(host.fullReport({ trees: { usr: { ...trees.usr, main: zeros('9') }, etc } }))).text,
  );
  assert.deepEqual([refused.status, refused.body.code], [422, 'TREE_CONTRADICTS']);
  assert.equal((await host.sendFull({ trees: { usr: trees.usr, etc } })).status, 200);
  const findings = await host.findings();
  assert.ok(
    findings.some(({ subject }) => subject === '/etc/extra'),
    'not resolved',
  );
});

test('a first report under a list of secrets that is not known is unverifiable, never intact', async (t) => {
  const server = await serverFor(t, { images: [OS] });
  const first = await enrol(server, OS);
  await first.sendFull();
  await server.settle();
  const host = await enrol(server, OS, { name: 'host-2' });
  host.compareWith(OS);
  host.more = { secretPaths: { id: 'secret-paths/999', added: [] } };
  const { trees } = host.fullReport();
  const lying = { usr: { ...trees.usr, main: zeros('9') }, etc: { ...trees.etc, main: zeros('8') } };
  const refused = await host.send(host.fullReport({ trees: lying }));
  assert.deepEqual([refused.status, refused.body.code], [422, 'TREE_CONTRADICTS']);
  assert.equal((await host.sendFull({ trees: { ...lying, usr: trees.usr } })).status, 200);
  const told = await host.told();
  assert.deepEqual([told.verdict, told.integrity.state], ['unverifiable', 'unverifiable']);
  assert.equal(told.integrity.code, 'SECRET_PATHS_UNKNOWN');
  host.entries = [...BASE, file('/usr/bin/a', 'a', 0o4755)];
  await host.sendFull();
  assert.equal((await host.told()).verdict, 'drifted', 'what differs outweighs what could not be told');
});

test('a report without capabilities is unverifiable, drift outweighs it, and no capability is called gone', async (t) => {
  const ping = { ...file('/usr/bin/ping', 'ping', 0o755), capability: 'AQAAAgAgAAAAAAAAAAAAAAAAAAA=' };
  const capable = image('capable', [...BASE, ping]);
  const server = await serverFor(t, { images: [capable] });
  const host = await enrol(server, capable);
  const blind = (): Partial<FullReport> => {
    const { usr, etc } = host.fullReport().trees;
    return { trees: { usr: { ...usr, extra: null }, etc: { ...etc, extra: null } } };
  };
  const isUnread = async () => {
    const { verdict, integrity } = await host.told();
    assert.deepEqual(
      [verdict, integrity.state, integrity.code],
      ['unverifiable', 'unverifiable', 'CAPABILITIES_UNREAD'],
    );
  };
  await host.sendFull(blind());
  await server.settle();
  await isUnread();
  host.compareWith(capable);
  await host.sendFull(blind());
  await isUnread();
  host.entries = [...BASE, { ...ping, capability: 'AQAAAgAAIAAAAAAAAAAAAAAAAAA=' }];
  await host.sendFull();
  assert.equal((await host.told()).verdict, 'drifted');
  host.entries = [...BASE, ping];
  await host.sendFull(blind());
  assert.equal((await host.told()).verdict, 'drifted');
  await host.sendFull();
  assert.equal((await host.told()).verdict, 'compliant');
  host.entries = [...BASE, ping, file('/usr/bin/root-me', 'x', 0o4755)];
  await host.sendFull(blind());
  assert.equal((await host.told()).verdict, 'drifted');
});

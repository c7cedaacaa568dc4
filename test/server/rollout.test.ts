/** What a newer image would meet on the hosts of an older one: over the API and from the command line. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { preview } from '#cli/preview.ts';
import type { Entry } from '#src/manifest/entry.ts';
import { BASE, enrol, file, image, serverFor, type TestHost, type TestServer } from './fleet.ts';
import { ran } from '#test/ran.ts';

const line = (...more: Entry[]): Entry[] => [
  ...BASE.filter(({ path }) => !more.some((one) => one.path === path)),
  ...more,
];
const OLD = image('old', line(file('/etc/motd', 'old'), file('/etc/gone', 'x')));
const NEW = image('new', line(file('/etc/motd', 'new'), file('/etc/banner', 'new'), file('/etc/shadow', 'root:*:', 0)));

async function host(server: TestServer, name: string, own: readonly Entry[]): Promise<TestHost> {
  const made = await enrol(server, OLD, { name });
  await made.sendFull();
  await server.settle();
  made.compareWith(OLD);
  const entries = OLD.rules.get('ostree/1')!;
  made.entries = [...entries.filter(({ path }) => !own.some((one) => one.path === path)), ...own];
  await made.sendFull();
  await server.settle();
  return made;
}

async function fleet(t: TestContext): Promise<TestServer> {
  const server = await serverFor(t, { images: [OLD, NEW] });
  await host(server, 'plain', []);
  await host(server, 'hides', [file('/etc/motd', 'ours'), file('/etc/hostname', 'ours')]);
  await host(server, 'ahead', [file('/etc/motd', 'new'), file('/etc/banner', 'new')]);
  await host(server, 'secret', [file('/etc/shadow', 'root:x:', 0)]);
  // A host that has staged it makes the server look at the newer one.
  const last = await host(server, 'staged', []);
  const { booted } = last.deployment();
  last.state = { staged: { ...booted!, image: { ...booted!.image!, digest: NEW.digest } } };
  await last.sendFull();
  await server.settle();
  return server;
}

test('a preview says which hosts hide what the newer image changes, and which have it already', async (t) => {
  const server = await fleet(t);
  const { status, body } = await server.api(`/api/v1/images/${OLD.digest}/preview?to=${NEW.digest}`);
  assert.equal(status, 200, JSON.stringify(body));
  assert.deepEqual(body.hosts, { looked: 5, shadowed: 1, unjudged: 0 });
  assert.equal(body.changed, 4);
  assert.deepEqual(
    body.paths.map(({ path, change, shadowed, same, untold }: any) => [path, change, shadowed, same, untold]),
    [
      ['/etc/motd', 'modified', 1, 1, 0],
      ['/etc/shadow', 'modified', 0, 0, 1],
      ['/etc/banner', 'added', 0, 1, 0],
      ['/etc/gone', 'removed', 0, 0, 0],
    ],
  );
  const shadow = body.paths[1];
  assert.ok(!('sha256' in shadow.after) && !('size' in shadow.after), 'a digest over a secret is an oracle');
  assert.deepEqual(body.paths[0].examples.map(({ name, meets }: any) => [name, meets]).sort(), [
    ['ahead', 'same'],
    ['hides', 'shadowed'],
  ]);
  assert.equal(body.next, null);
});

test('what cannot be compared says why', async (t) => {
  const server = await fleet(t);
  const ask = async (path: string) => {
    const { status, body } = await server.api(`/api/v1/images/${path}`);
    return [status, body.code];
  };
  assert.deepEqual(await ask(`${OLD.digest}/preview?to=sha256:${'9'.repeat(64)}`), [404, 'IMAGE_UNKNOWN']);
  assert.deepEqual(await ask(`${OLD.digest}/preview`), [400, 'QUERY_INVALID']);
  const away = image('away');
  const other = await enrol(server, away, { name: 'away' });
  await other.sendFull();
  await server.settle();
  assert.deepEqual(await ask(`${OLD.digest}/preview?to=${away.digest}`), [409, 'IMAGE_NOT_READY']);
});

test('bootproof image preview tells it in a table', async (t) => {
  const server = await fleet(t);
  const run = (...args: string[]) =>
    ran(preview, args, { env: { BOOTPROOF_SERVER: server.server.url, BOOTPROOF_TOKEN: server.admin } });
  const updated = await run(OLD.digest, NEW.digest);
  assert.equal(updated.exit, 1);
  assert.match(
    updated.out,
    /^the newer image changes 4 paths of \/etc; on 1 of 5 hosts a file of their own hides some of it\n/,
  );
  assert.match(updated.out, /\/etc\/motd +modified +1 +1 +0 /);
  const { exit, out } = await run(NEW.digest, OLD.digest, '--json');
  assert.equal(exit, 0, 'nobody runs the newer one');
  assert.deepEqual(JSON.parse(out).hosts, { looked: 0, shadowed: 0, unjudged: 0 });
});

/** For tests of decisions: a fleet with drift on either engine, and people with names beside the admin. */
import { test, type TestContext } from 'node:test';
import { FIRST_ADMIN, type Principal } from '#server/access/principal.ts';
import type { WaiverDeps } from '#server/decisions/waivers.ts';
import { KnownWaivers } from '#server/exempt.ts';
import { Batch } from '#server/ingest/batch.ts';
import { onPostgres } from '#test/postgres.ts';
import { BASE, enrol, file, image, serverFor, type TestHost, type TestServer } from '../fleet.ts';

export const OS = image('41');
export const DAY = 86_400_000;

export const person = (id: string, more: Partial<Principal> = {}): Principal => ({
  id,
  name: id,
  roles: ['reviewer'],
  groups: null,
  ...more,
});
export const ALICE = person('alice');
export const BOB = person('bob');
export { FIRST_ADMIN };

/** The same test on a server over SQLite, and over PostgreSQL where that can be started. */
export function onBoth(title: string, body: (server: TestServer, t: TestContext) => Promise<void>): void {
  test(`sqlite: ${title}`, async (t) => body(await serverFor(t, { images: [OS, NEXT] }), t));
  onPostgres(title, async (t, url) => body(await serverFor(t, { images: [OS, NEXT], storeUrl: url }), t));
}

/** The next image, in which /usr/bin/login is another one. */
export const NEXT = image('42', [
  ...BASE.filter(({ path }) => path !== '/usr/bin/login'),
  file('/usr/bin/login', 'login 2', 0o755),
]);

/** Another process on the same store, as far as decisions go. */
export function deciding(server: TestServer): WaiverDeps {
  const { store } = server.server;
  const clock = () => server.time.now;
  return { store, clock, batch: new Batch(store), waivers: new KnownWaivers({ store, clock }), wake: () => {} };
}

/** A host that compares with its image, with nothing to say yet. */
export async function hostAs(server: TestServer, name: string): Promise<TestHost> {
  const host = await enrol(server, OS, { name });
  await host.sendFull();
  await server.settle();
  host.compareWith(OS);
  return host;
}

/** `content` at a path that the image has not: a high finding below /usr/bin. */
export const ODD = '/usr/bin/odd';
export const odd = (content = 'x', path = ODD) => file(path, content, 0o755);
/** What the host shows beside its image. */
export async function shows(host: TestHost, ...entries: ReturnType<typeof file>[]): Promise<void> {
  host.entries = [...BASE, ...entries].sort((a, b) => (a.path < b.path ? -1 : 1));
  const { status, body } = await host.sendFull();
  if (status !== 200) throw new Error(`${status}: ${JSON.stringify(body)}`);
}

/** Three hosts, the first two with the same drift. */
export async function fleet(server: TestServer): Promise<[TestHost, TestHost, TestHost]> {
  const hosts: TestHost[] = [];
  for (const name of ['web-1', 'web-2', 'web-3']) hosts.push(await hostAs(server, name));
  const [a, b, c] = hosts as [TestHost, TestHost, TestHost];
  await shows(a, odd());
  await shows(b, odd());
  await shows(c);
  return [a, b, c];
}

/** The group of the drift at a path. */
export async function groupAt(server: TestServer, path = ODD): Promise<any> {
  const { body } = await server.api(`/api/v1/groups?status=all&subject=${encodeURIComponent(path)}`);
  return body.items[0];
}

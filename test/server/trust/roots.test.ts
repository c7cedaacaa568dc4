/** Trust roots that a real TUF repository keeps up: off unless allowed, checked before use, kept where it fails, never back to an older one. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { assessHere } from '#server/trust/assesshere.ts';
import type { RootRefresh } from '#server/trust/roots.ts';
import { readRootRefreshes, TrustSetupError } from '#server/trust/setup.ts';
import { caseOf, NOW, vectors } from '#test/src/trust/cases.ts';
import { rejectsCode } from '#test/throws.ts';
import { enrol, folder, HOUR, image, serverFor, type TestHost, type TestServer } from '../fleet.ts';
import { keylessSetup, pageText } from './site.ts';
import { tufRepository, type TufRepository } from './tufrepository.ts';

const CASE = caseOf('v-bundle-keyless-rekor2');
const { identity, digest, layout, reference } = { ...CASE, ...CASE.check };
const GOOD = readFileSync(join(vectors, 'trust/trusted_root.json'));

/** The same root without its certificate authorities: nobody's certificate counts. */
const NOBODY = Buffer.from(JSON.stringify({ ...(JSON.parse(GOOD.toString()) as object), certificateAuthorities: [] }));

const setup = (roots: readonly Uint8Array[] = []) => keylessSetup(identity!, roots);

const source = `oci:${join(vectors, layout)}`;
const OS = { ...image('keyless', undefined, { source }), digest };

async function start(
  t: TestContext,
  { refreshes, roots = [], ...more }: { refreshes: RootRefresh[]; roots?: Uint8Array[]; storeUrl?: string },
): Promise<{ server: TestServer; host: TestHost }> {
  const server = await serverFor(t, {
    images: [OS],
    trust: setup(roots),
    rootRefreshes: refreshes,
    refreshRootsEveryMs: HOUR,
    assess: assessHere,
    sources: [{ reference: source }],
    ...more,
  });
  server.time.now = NOW;
  return { server, host: await hostOn(server) };
}

async function hostOn(server: TestServer): Promise<TestHost> {
  const host = await enrol(server, OS);
  host.reference = reference!;
  host.compareWith(OS);
  await host.sendFull();
  await server.settle();
  return host;
}

const refreshOf = ({ url, root }: TufRepository): RootRefresh => ({ name: 'test', mirror: url, initial: root });
const rootOf = async (server: TestServer) => (await server.api('/api/v1/trust')).body.roots[0];
const stateOf = async (host: TestHost) => (await host.told()).provenance.state;
const later = async (server: TestServer, ms = HOUR) => {
  server.time.now += ms;
  await server.settle();
};

test('a root comes by TUF, another one judges every image again, and one that is refused or unreachable changes nothing', async (t) => {
  const repository = await tufRepository(t);
  repository.publish(GOOD);
  const { server, host } = await start(t, { refreshes: [refreshOf(repository)] });
  assert.equal(await stateOf(host), 'trusted');
  let told = await rootOf(server);
  assert.deepEqual(
    [told.name, told.from, told.refresh.mirror, told.refresh.failure, told.neededBy],
    ['test', 'tuf', repository.url, null, ['ours']],
  );
  assert.match(told.sha256, /^sha256:[0-9a-f]{64}$/);
  assert.equal(told.refresh.expires, '2999-01-01T00:00:00.000Z');
  const { sha256, since } = told;

  repository.publish(NOBODY);
  await later(server);
  assert.equal(await stateOf(host), 'rejected');
  told = await rootOf(server);
  assert.notEqual(told.sha256, sha256);
  assert.ok(told.since > since);

  repository.publish(GOOD);
  await later(server);
  assert.equal(await stateOf(host), 'trusted');

  // Signed, and no trust root.
  repository.publish(Buffer.from('{"mediaType": "text/plain"}'));
  await later(server);
  told = await rootOf(server);
  assert.deepEqual([told.sha256, told.refresh.failure.code], [sha256, 'TUF_ROOT']);
  assert.equal(await stateOf(host), 'trusted');
  const failing = told.refresh.failure.since;
  repository.down = true;
  await later(server);
  told = await rootOf(server);
  assert.deepEqual([told.refresh.failure.code, told.refresh.failure.since], ['TUF_REFRESH', failing]);
  assert.ok(told.refresh.refreshedAt < told.refresh.triedAt);
  assert.equal(await stateOf(host), 'trusted', 'the last good root stays');
  repository.down = false;
  repository.publish(GOOD);
  await later(server);
  assert.equal((await rootOf(server)).refresh.failure, null);
  const trail = await server.server.store.audit.list({ object: 'trust-root:test' }, { cursor: null, limit: 50 });
  assert.equal(trail.items.filter(({ action }) => action === 'trust-root.refresh-failed').length, 1, 'told once');
  assert.equal(trail.items.filter(({ action }) => action === 'trust-root.change').length, 3);
});

test("an older version, a stranger's signature and metadata that are over are refused, also after a restart", async (t) => {
  const repository = await tufRepository(t);
  const storeUrl = `sqlite:${join(folder(t), 'store.db')}`;
  repository.publish(NOBODY);
  repository.publish(GOOD);
  const first = await start(t, { refreshes: [refreshOf(repository)], storeUrl });
  assert.equal(await stateOf(first.host), 'trusted');
  const failing = async (server: TestServer, what: RegExp) => {
    const { refresh, sha256 } = await rootOf(server);
    assert.equal(refresh.failure?.code, 'TUF_REFRESH');
    assert.match(refresh.failure.reason, what);
    assert.ok(sha256 !== null);
  };
  repository.publish(NOBODY, { version: 1 });
  await later(first.server);
  await failing(first.server, /version/i);
  await first.server.server.close();
  const server = await serverFor(t, {
    images: [OS],
    trust: setup(),
    rootRefreshes: [refreshOf(repository)],
    refreshRootsEveryMs: HOUR,
    assess: assessHere,
    storeUrl,
    admin: first.server.admin,
  });
  server.time.now = first.server.time.now;
  await server.settle();
  await failing(server, /version/i);
  repository.publish(NOBODY, { version: 3, key: repository.makeKey() });
  await later(server);
  await failing(server, /sign|threshold|verif/i);
  repository.publish(NOBODY, { version: 4, expires: '2020-01-01T00:00:00Z' });
  await later(server);
  await failing(server, /expire/i);
  const { provenance } = (await server.api(`/api/v1/hosts/${first.host.id}`)).body;
  assert.equal(provenance.state, 'trusted');
});

test('without being allowed nothing is asked; a file is what counts until the repository gave one', async (t) => {
  const repository = await tufRepository(t);
  repository.publish(NOBODY);
  const file = await start(t, { refreshes: [], roots: [GOOD] });
  assert.equal(await stateOf(file.host), 'trusted');
  const told = await rootOf(file.server);
  assert.deepEqual([told.from, told.refresh], ['file', null]);
  assert.match(told.since, /^20/);
  assert.match(told.endsNext.at, /^20/);
  assert.deepEqual(repository.asked, []);
  repository.down = true;
  const down = await start(t, { refreshes: [refreshOf(repository)], roots: [GOOD] });
  assert.equal(await stateOf(down.host), 'trusted');
  assert.deepEqual([(await rootOf(down.server)).from, (await rootOf(down.server)).refresh.refreshedAt], ['file', null]);
  repository.down = false;
  await later(down.server);
  assert.equal(await stateOf(down.host), 'rejected');
});

test('the page tells policies and roots, with age, failure and what is missing', async (t) => {
  const repository = await tufRepository(t);
  const { server } = await start(t, { refreshes: [refreshOf(repository)], roots: [GOOD] });
  const page = () => pageText(server, '/trust');
  const failing = await page();
  assert.match(
    failing,
    /1 image policy says who may sign An image that none is about is unsigned\. Nothing is denied\./,
  );
  assert.match(failing, /test From a file that the server was given SHA-256 sha256:[0-9a-f]{64} This one since/);
  assert.match(failing, /not refreshed yet Not refreshed since .* TUF_REFRESH .*\. The last one stays\. Ends next/);
  repository.publish(GOOD, { expires: '2026-11-26T00:00:00Z' });
  await later(server);
  assert.match(await page(), /From its TUF repository .* it vouches until 26 Nov 2026/);
  await later(server, 30 * HOUR);
  assert.match(await page(), /it vouches no longer, its word ended 26 Nov 2026/);
  const none = await serverFor(t);
  assert.match(await pageText(none, '/trust'), /No image policy is configured/);
});

test('a root that policies ask for and nobody brought is listed as missing', async (t) => {
  const { server, host } = await start(t, { refreshes: [] });
  assert.equal(await stateOf(host), 'unverifiable');
  const told = await rootOf(server);
  assert.deepEqual([told.name, told.sha256, told.from, told.neededBy], ['test', null, null, ['ours']]);
});

test('what a command line names as repositories is refused with what is wrong', async (t) => {
  const at = folder(t);
  const repository = await tufRepository(t);
  const root = join(at, 'root.json');
  writeFileSync(root, repository.root);
  writeFileSync(join(at, 'other.json'), '{}');
  const read = (repositories: string[], initial: string[] = []) => readRootRefreshes({ repositories, initial });
  assert.deepEqual(await read(['public-good=https://tuf-repo-cdn.sigstore.dev/']), [
    { name: 'public-good', mirror: 'https://tuf-repo-cdn.sigstore.dev', initial: null },
  ]);
  assert.equal((await read([`test=${repository.url}`], [`test=${root}`]))[0]!.mirror, repository.url);
  for (const [repositories, initial] of [
    [['test']],
    [['test=ftp://x']],
    [['test=https://u:p@x'], [`test=${root}`]],
    [['test=https://x']],
    [['test=https://x', 'test=https://y'], [`test=${root}`]],
    [[], [`test=${root}`]],
    [['test=https://x'], [`test=${join(at, 'other.json')}`]],
    [['test=https://x'], [root]],
  ] as const)
    await rejectsCode(() => read([...repositories], [...(initial ?? [])]), TrustSetupError, 'TUF_REPOSITORY');
});

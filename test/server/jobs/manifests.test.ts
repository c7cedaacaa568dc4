/** Manifests: fetched from where it is allowed and from nowhere else, built aside, served to hosts, judged by when they come. */
import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import type { Digest } from '#src/digest.ts';
import { MANIFEST_HEADER_TYPE, ManifestHeader } from '#src/manifest/header.ts';
import { envelopeFromJson, verifyEnvelope } from '#src/signing/dsse.ts';
import { verifyInPool } from '#src/signing/node.ts';
import { imageBounds } from '#src/source/bounds.ts';
import { readVerity } from '#src/manifest/verity.ts';
import { ManifestsAnswer, VERITY_TYPE, VerityHeader } from '#src/wire/manifests.ts';
import { manifestsPath, manifestTextPath, manifestVerityPath } from '#src/wire/paths.ts';
import { serverKeys } from '#server/keys.ts';
import type { Build } from '#server/jobs/builder.ts';
import { parsePolicy } from '#src/policy/document.ts';
import { readPolicy } from '#server/prepare.ts';
import {
  BASE,
  builderOf,
  enrol,
  file,
  folder,
  image,
  MINUTE,
  serverFor,
  SOURCE,
  type TestHost,
  type TestServer,
} from '#test/server/fleet.ts';

const vectors = join(import.meta.dirname, '../../vectors');

async function imageOf(server: TestServer, digest: string): Promise<any> {
  return (await server.api(`/api/v1/images/${digest}`)).body;
}

test("the site's bounds hold in the build thread", async (t) => {
  const layout = join(vectors, 'merge/01-base');
  const { manifest: digest } = JSON.parse(readFileSync(join(layout, 'meta.json'), 'utf8')) as { manifest: Digest };
  const server = await serverFor(t, {
    build: undefined as never,
    sources: [{ reference: `oci:${layout}/image` }],
    imageBounds: imageBounds(['layerEntries=2'], '--image-limit'),
  });
  const host = await enrol(server, null);
  host.booted = digest;
  await host.sendFull();
  await server.settle();
  const told = await imageOf(server, digest);
  assert.deepEqual([told.state, told.reasons[0].code], ['failed', 'LIMIT_ENTRIES']);
});

test('a host on a backend that refuses its image is told for what: the reason stands in its verdict and in what the agent is answered', async (t) => {
  const layout = join(vectors, 'merge/62-fifo');
  const { manifest: digest } = JSON.parse(readFileSync(join(layout, 'meta.json'), 'utf8')) as { manifest: Digest };
  const server = await serverFor(t, { build: undefined as never, sources: [{ reference: `oci:${layout}/image` }] });
  const host = await enrol(server, null);
  host.booted = digest;
  await host.sendFull();
  await server.settle();
  assert.equal((await imageOf(server, digest)).state, 'ready', 'composefs deploys it');
  const { integrity, sentence } = await host.told();
  assert.equal(integrity.code, 'RULE_MISSING');
  assert.match(sentence, /no manifest .* ostree: layer 1: usr.*FIFO.*\[FIFO_IN_TREE\]/);
  const { status, body } = await server.api(manifestsPath(digest, 'ostree'));
  assert.deepEqual([status, body.code], [404, 'MANIFEST_UNKNOWN']);
  assert.match(body.detail, /\[FIFO_IN_TREE\]/);
});

test('an image is fetched, built in a thread, signed, and served to its hosts', async (t) => {
  const layout = join(vectors, 'merge/01-base');
  const { manifest: digest } = JSON.parse(readFileSync(join(layout, 'meta.json'), 'utf8')) as { manifest: Digest };
  const server = await serverFor(t, { build: undefined as never, sources: [{ reference: `oci:${layout}/image` }] });
  const host = await enrol(server, null);
  host.booted = digest;
  await host.sendFull();
  await server.settle();
  const told = await imageOf(server, digest);
  assert.deepEqual([told.state, told.reasons, told.via], ['ready', [], 'digest']);
  assert.deepEqual(told.manifests.map(({ rule }: { rule: string }) => rule).sort(), [
    'composefs/1',
    'ostree/1',
    'ostree/1-debris',
    'ostree/1-debris-noxattr',
  ]);

  const get = (path: string, headers: Record<string, string> = {}) =>
    server.server.app.request(path, { headers: { authorization: `Bearer ${host.bearer}`, ...headers } });
  const response = await get(manifestsPath(digest, 'ostree'));
  assert.equal(response.status, 200);
  const { headers, verity } = ManifestsAnswer.parse(await response.json());
  const { publicKey } = await serverKeys(server.server.store, () => new Uint8Array(32));
  const opened: ManifestHeader[] = [];
  for (const json of headers) {
    const envelope = envelopeFromJson(json, MANIFEST_HEADER_TYPE, 2 ** 20);
    assert.ok(await verifyEnvelope(envelope, publicKey, verifyInPool), 'signed by the key that hosts pin');
    opened.push(ManifestHeader.parse(JSON.parse(Buffer.from(envelope.payload).toString())));
  }
  assert.equal(opened[0]!.rule, 'ostree/1', 'newest rule first');

  const signed = envelopeFromJson(verity!, VERITY_TYPE, 2 ** 20);
  assert.ok(await verifyEnvelope(signed, publicKey, verifyInPool));
  const measured = VerityHeader.parse(JSON.parse(Buffer.from(signed.payload).toString()));
  const digests = Buffer.from(await (await get(manifestVerityPath(digest))).arrayBuffer());
  assert.deepEqual(
    [measured.image, measured.text, measured.bytes],
    [digest, `sha256:${hash('sha256', digests)}`, digests.length],
  );
  const contents = new Set<string>();
  readVerity([digests.toString('latin1')], (_verity, content) => contents.add(content));

  const whole = readFileSync(join(vectors, 'texts/01-base.ostree.mtree'), 'latin1');
  const files = [...whole.matchAll(/ size=[1-9][0-9]* sha256digest=([0-9a-f]{64})/g)].map((found) => found[1]!);
  assert.ok(files.length > 5 && files.every((content) => contents.has(content)));
  const [header] = opened;
  for (const tree of ['usr', 'etc'] as const) {
    const path = manifestTextPath(digest, 'ostree/1', tree, 'main');
    for (const [accepts, coding, decode] of [
      ['zstd, gzip', 'zstd', zstdDecompressSync],
      ['gzip, br', 'gzip', gunzipSync],
      ['zstd;q=0', null, (bytes: Buffer) => bytes],
    ] as const) {
      const answer = await get(path, { 'accept-encoding': accepts });
      assert.equal(answer.headers.get('content-encoding'), coding);
      const text = decode(Buffer.from(await answer.arrayBuffer()));
      assert.equal(`sha256:${hash('sha256', text)}`, header!.trees[tree].main.full);
      assert.ok(whole.includes(text.toString('latin1')), 'the pinned text');
      const etag = answer.headers.get('etag')!;
      assert.ok(etag.includes(header!.trees[tree].main.full));
      assert.match(answer.headers.get('cache-control')!, /immutable/);
      assert.equal((await get(path, { 'if-none-match': etag })).status, 304);
    }
  }
});

test('manifests are for hosts with a bearer, and for the admin', async (t) => {
  const os = image('41');
  const server = await serverFor(t, { images: [os] });
  const host = await enrol(server, os);
  const status = async (bearer: string | undefined, path: string) =>
    (
      await server.server.app.request(path, {
        headers: bearer === undefined ? {} : { authorization: `Bearer ${bearer}` },
      })
    ).status;
  const path = manifestsPath(os.digest, 'ostree');
  const text = manifestTextPath(os.digest, 'ostree/1', 'usr', 'main');
  // Asked for before its first report, as an agent does: it is built, as the host booted it.
  assert.equal(await status(host.bearer, path), 202);
  await server.settle();
  assert.equal(await status(host.bearer, path), 200);
  assert.equal(await status(host.bearer, text), 200);
  assert.equal(await status(server.admin, path), 200);
  for (const stranger of [undefined, 'm1.x', host.challenge!])
    for (const asked of [path, text]) assert.equal(await status(stranger, asked), 401);
  assert.equal(await status(host.bearer, manifestTextPath(os.digest, 'ostree/9', 'usr', 'main')), 404);
  assert.equal(await status(host.bearer, text.replace('/usr/', '/var/')), 404);
  assert.equal(await status(host.bearer, manifestsPath('latest', 'ostree')), 404, 'no name is looked up, only digests');
  assert.equal(await status(host.bearer, manifestsPath(os.digest, 'composefs')), 404, 'no rule of that backend');
  server.time.now += 26 * 60 * MINUTE;
  assert.equal(await status(host.bearer, path), 401, 'over');
});

// ── where from ───────────────────────────────────────────────────────────────────────────────────────────────────────

/** Something that listens where a host says that its image is, and counts who comes. */
async function trap(t: TestContext): Promise<{ port: number; connections: () => number }> {
  let connections = 0;
  const listener = createServer((socket) => {
    connections++;
    socket.end();
  });
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  t.after(() => listener.close());
  return { port: (listener.address() as AddressInfo).port, connections: () => connections };
}

test('a host that names a location brings no connection about, until a person allows it', async (t) => {
  const { port, connections } = await trap(t);
  const layout = `oci:${join(vectors, 'merge/01-base/image')}`;
  const server = await serverFor(t, { build: undefined as never, sources: [{ reference: layout }] });
  const host = await enrol(server, image('evil'));
  for (const reference of [
    `127.0.0.1:${port}/evil/os:latest`,
    `docker://127.0.0.1:${port}/evil/os`,
    `http://127.0.0.1:${port}/`,
    `oci:/tmp/x`,
  ]) {
    host.reference = reference;
    await host.sendFull({ manifest: null });
    await server.settle();
  }
  const failed = await imageOf(server, host.booted!);
  assert.equal(failed.state, 'failed');
  assert.equal(failed.reasons[0].code, 'IMAGE_SOURCE_NOT_ALLOWED');
  assert.match(failed.reasons[0].text, new RegExp(`docker://127.0.0.1:${port}/evil/os`), 'says where hosts say it is');
  assert.deepEqual((await host.told()).integrity.code, 'IMAGE_SOURCE_NOT_ALLOWED');
  assert.equal((await host.told()).verdict, 'unverifiable');
  assert.equal(connections(), 0);
  // The trap does catch who comes: allowed by a person, it is asked.
  const allowed = await server.api('/api/v1/sources', {
    method: 'POST',
    body: { reference: `docker://127.0.0.1:${port}/evil/os:latest`, plainHttp: true },
  });
  assert.deepEqual(allowed.body, { pattern: `docker://127.0.0.1:${port}/evil/os` });
  await server.settle();
  assert.ok(connections() > 0);
  assert.notEqual((await imageOf(server, host.booted!)).reasons[0].code, 'IMAGE_SOURCE_NOT_ALLOWED');
});

test('without any source nothing is built, and allowing one makes it due at once', async (t) => {
  const os = image('41');
  const build = builderOf([os]);
  const server = await serverFor(t, { build });
  const host = await enrol(server, os);
  await host.sendFull();
  await server.settle();
  assert.equal((await imageOf(server, os.digest)).reasons[0].code, 'IMAGE_SOURCE_NOT_ALLOWED');
  assert.deepEqual(build.asked, []);
  await server.api('/api/v1/sources', { method: 'POST', body: { reference: SOURCE } });
  await server.settle();
  assert.equal((await imageOf(server, os.digest)).state, 'ready');
  assert.equal((await host.told()).verdict, 'compliant');
});

test('an image that no allowed source has is failed, says so, and is tried again with growing delays', async (t) => {
  const os = image('41');
  const found: (typeof os)[] = [];
  const build = builderOf(found);
  const server = await serverFor(t, { build, sources: [{ reference: SOURCE }] });
  const host = await enrol(server, os);
  await host.sendFull();
  await server.settle();
  const failed = await imageOf(server, os.digest);
  assert.deepEqual(
    [failed.state, failed.attempts, failed.reasons.map(({ code }: { code: string }) => code)],
    ['failed', 1, ['SOURCE_NOT_FOUND']],
  );
  assert.equal((await host.told()).integrity.code, 'SOURCE_NOT_FOUND');
  const first = Date.parse(failed.nextTry) - server.time.now;
  server.time.now += first;
  await server.settle();
  const again = await imageOf(server, os.digest);
  assert.equal(again.attempts, 2);
  assert.ok(Date.parse(again.nextTry) - server.time.now > first, 'later and later');
  found.push(os);
  server.time.now = Date.parse(again.nextTry);
  await server.settle();
  assert.equal((await imageOf(server, os.digest)).state, 'ready');
  assert.equal((await host.told()).verdict, 'compliant');
});

test('booted, staged and rollback are all built ahead', async (t) => {
  const [booted, staged, rollback] = [image('booted'), image('staged'), image('rollback')];
  const server = await serverFor(t, { images: [booted, staged, rollback] });
  const host = await enrol(server, booted);
  const entry = host.deployment().booted!;
  const of = (digest: string) => ({ ...entry, image: { ...entry.image!, digest } });
  host.state = { staged: of(staged.digest), rollback: of(rollback.digest) };
  await host.sendFull();
  await server.settle();
  const { items } = (await server.api('/api/v1/images')).body;
  assert.deepEqual(
    items.map(({ state }: { state: string }) => state),
    ['ready', 'ready', 'ready'],
  );
  const counted = items.find(({ digest }: { digest: string }) => digest === staged.digest);
  assert.deepEqual(counted.hosts, { booted: 0, staged: 1, rollback: 0 });
});

test('a fleet that reboots at once into an unbuilt image: built once, everyone judged', async (t) => {
  const os = image('42');
  const build = builderOf([os]);
  const server = await serverFor(t, { build, sources: [{ reference: SOURCE }] });
  const { token } = (await server.api('/api/v1/tokens', { method: 'POST', body: { maxUses: null } })).body;
  const hosts = await Promise.all(Array.from({ length: 40 }, () => enrol(server, os, { token })));
  const sent = await Promise.all(hosts.map((host) => host.sendFull()));
  assert.ok(sent.every(({ status }) => status === 200));
  await server.settle();
  assert.equal(build.asked.length, 1);
  assert.equal((await server.api('/api/v1/verdicts')).body.compliant, 40);
});

test('an image is known by its config digest and by bare hex as well', async (t) => {
  const os = image('41');
  const server = await serverFor(t, { images: [os] });
  const modern = await enrol(server, os);
  await modern.sendFull();
  await server.settle();
  for (const [booted, via] of [
    [os.config, 'config'],
    [os.digest.slice(7), 'bare-hex'],
  ] as const) {
    const old = await enrol(server, os);
    old.booted = booted;
    old.compareWith(os);
    await old.sendFull();
    assert.equal((await old.told()).verdict, 'compliant');
    assert.equal((await imageOf(server, booted)).via, via);
    assert.equal((await imageOf(server, booted)).digest, os.digest);
  }
  assert.equal((await server.api(`/api/v1/hosts?image=${os.config}`)).body.total.count, 3, 'by whatever name');
});

test('what a host gives for its image may be no digest at all', async (t) => {
  const server = await serverFor(t, { images: [image('41')] });
  const host = await enrol(server, null);
  host.booted = 'sha512:abc\u001b[31m';
  assert.equal((await host.sendFull()).status, 200);
  await server.settle();
  assert.equal((await host.told()).integrity.code, 'IMAGE_DIGEST');
  host.booted = null;
  assert.equal((await host.sendFull()).status, 200);
  assert.equal((await host.told()).integrity.code, 'IMAGE_NOT_TOLD');
});

test('one host cannot fill the list of images', async (t) => {
  const server = await serverFor(t, { images: [image('41')] });
  const host = await enrol(server, null);
  for (let n = 0; n < 60; n++) {
    host.booted = image(`made up ${n}`).digest;
    assert.equal((await host.sendFull()).status, 200, 'reports are still taken');
  }
  const { items } = (await server.api('/api/v1/images?limit=200')).body;
  assert.equal(items.length, 30);
});

// ── which rule ───────────────────────────────────────────────────────────────────────────────────────────────────────

const DEBRIS = [...BASE, file('/etc/resolv.conf', ''), file('/usr/lib/debris', '')];
const two = () =>
  image('two', BASE, {
    rules: new Map([
      ['ostree/1', BASE],
      ['ostree/1-debris', DEBRIS],
    ]),
  });

test('the rule whose /usr is the host’s to the byte decides, whatever the host compared with', async (t) => {
  const os = two();
  const server = await serverFor(t, { images: [os] });
  const host = await enrol(server, os);
  host.entries = DEBRIS;
  await host.sendFull();
  await server.settle();
  assert.deepEqual([(await host.told()).verdict, (await host.told()).rule], ['compliant', 'ostree/1-debris']);
  host.compareWith(os, 'ostree/1');
  assert.equal((await host.sendFull()).status, 200);
  assert.equal(host.full!.report.drift.length, 2, 'under the newest rule it differs');
  const told = await host.told();
  assert.deepEqual(
    [told.verdict, told.rule, told.drift],
    ['compliant', 'ostree/1-debris', { added: 0, removed: 0, modified: 0 }],
  );
});

test('where no rule fits, a difference that another rule explains is a label and no drift', async (t) => {
  const os = two();
  const server = await serverFor(t, { images: [os] });
  const host = await enrol(server, os);
  host.entries = [...DEBRIS, file('/usr/bin/extra', 'x', 0o755)];
  await host.sendFull();
  await server.settle();
  host.compareWith(os, 'ostree/1');
  await host.sendFull();
  const told = await host.told();
  assert.deepEqual([told.verdict, told.rule], ['drifted', 'ostree/1']);
  assert.deepEqual(
    (await host.findings()).map(({ subject }) => subject),
    ['/usr/bin/extra'],
  );
});

// ── processes that come and go ───────────────────────────────────────────────────────────────────────────────────────

test('a build that its process did not end is taken up by the next one', async (t) => {
  const os = image('41');
  const storeUrl = `sqlite:${join(folder(t), 'store.db')}`;
  const begun = Promise.withResolvers<void>();
  const never: Build = (_request, signal) =>
    new Promise((_resolve, reject) => {
      begun.resolve();
      signal.addEventListener('abort', () => reject(new Error('stopped')));
    });
  const first = await serverFor(t, { storeUrl, build: never, sources: [{ reference: SOURCE }] });
  const host = await enrol(first, os);
  await host.sendFull();
  await begun.promise;
  await first.server.close();
  const second = await serverFor(t, { storeUrl, images: [os], admin: first.admin });
  await second.settle();
  assert.equal((await imageOf(second, os.digest)).state, 'ready');
  assert.equal((await second.api(`/api/v1/hosts/${host.id}`)).body.verdict, 'compliant');
});

test('under another policy every host is judged anew when the server starts', async (t) => {
  const os = image('41');
  const storeUrl = `sqlite:${join(folder(t), 'store.db')}`;
  const first = await serverFor(t, { storeUrl, images: [os] });
  const host: TestHost = await enrol(first, os);
  await host.sendFull();
  await first.settle();
  host.compareWith(os);
  host.entries = [...BASE, file('/etc/banner', 'hello')];
  await host.sendFull();
  assert.equal((await host.findings()).length, 1);
  await first.server.close();
  const shipped = await readPolicy(undefined);
  const policy = parsePolicy(
    `format: bootproof.policy/1\nname: mine\nextends: default\nfiles:\n  - id: banner\n    paths: [/etc/banner]\n    effect: allowed\n    reason: We greet.\n`,
    { file: 'mine.yaml', base: () => shipped },
  );
  const second = await serverFor(t, { storeUrl, images: [os], policy, admin: first.admin });
  await second.settle();
  const told = (await second.api(`/api/v1/hosts/${host.id}`)).body;
  assert.deepEqual([told.verdict, told.integrity.state, told.integrity.allowed], ['compliant', 'intact', 1]);
  assert.deepEqual((await second.api(`/api/v1/hosts/${host.id}/findings`)).body.items, []);
});

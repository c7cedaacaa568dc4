/** Who built what runs, through the real server: signatures in a registry on loopback, hosts that report, what changes and what then is so. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { nodeSha256, push } from '#demo/pack.ts';
import { keyPolicy, makeKey, signatureImage, signatureOf, signInto } from '#demo/sign.ts';
import { digestOf } from '#src/digest.ts';
import { SIGNATURES_KEPT_BYTES_MAX } from '#src/limits.ts';
import { trustSetup, type TrustSetup } from '#server/trust/setup.ts';
import { folder, HOUR, serverFor, type TestHost, type TestImage, type TestServer } from '../fleet.ts';
import { hostOn, KEY, OTHER, pageText, REPOSITORY, site, type Site } from './site.ts';

const kinds = async (host: TestHost) =>
  (await host.findings()).filter(({ kind }) => kind === 'provenance').map(({ rule }) => rule);

test('pushing signatures day by day does not make what is kept grow without end', async (t) => {
  const at = await site(t);
  const os = at.image('a');
  const server = await serverFor(t, { images: [os], ...at.options(at.policy([KEY])), reverifyEveryMs: HOUR });
  const host = await hostOn(server, at, os, 'a-1');
  const sizes: number[] = [];
  for (let day = 0; day < 4; day++) {
    // As much as a signature's payload may hold, in a manifest as large as one may be: a fifth of what is kept beside proofs.
    const payload = signatureOf(os.digest, `${at.registry}/${REPOSITORY}`, makeKey());
    const annotations = { filler: `${day}`.repeat(400_000) };
    const { image: packed, tag } = signatureImage(os.digest, [{ ...payload, annotations }]);
    await push(packed, at.registry, REPOSITORY, tag);
    server.time.now += HOUR;
    await server.settle();
    const trust = (await server.server.store.trust.get(os.digest))!;
    const keys = new Set(trust.kept.flatMap(({ blob, manifest }) => [blob, manifest ?? blob]));
    let size = 0;
    for (const key of keys) size += (await server.server.store.blobs.get(key))!.bytes.length;
    sizes.push(size);
  }
  assert.ok(sizes[1]! > sizes[0]!);
  assert.deepEqual(sizes.slice(2), [sizes[2], sizes[2]]);
  assert.ok(sizes[2]! <= SIGNATURES_KEPT_BYTES_MAX);
  await at.sign(os);
  server.time.now += HOUR;
  await server.settle();
  assert.equal((await host.told()).provenance.state, 'trusted', 'a proof is kept however full it is');
});

test('without an image policy nothing is assessed, and the sentence says so', async (t) => {
  const at = await site(t);
  const os = at.image('a');
  const server = await serverFor(t, { images: [os], ...at.options(null) });
  const host = await hostOn(server, at, os, 'a-1');
  await server.settle();
  await host.sendFull();
  const told = await host.told();
  assert.equal(told.provenance.state, 'not-assessed');
  assert.match(told.sentence, /signatures not assessed/);
});

test('a signed image is trusted, an unsigned one flagged within one check-in, each with its findings', async (t) => {
  const at = await site(t);
  const [signed, unsigned, foreign] = [at.image('signed'), at.image('unsigned'), at.image('foreign')];
  await at.sign(signed);
  await at.sign(foreign, OTHER);
  const server = await serverFor(t, { images: [signed, unsigned, foreign], ...at.options(at.policy([KEY])) });
  const hosts = [
    await hostOn(server, at, signed, 'good-1'),
    await hostOn(server, at, unsigned, 'bad-1'),
    await hostOn(server, at, foreign, 'ugly-1'),
  ] as const;
  await server.settle();
  for (const host of hosts) await host.sendFull();
  const [good, bad, ugly] = await Promise.all(hosts.map((host) => host.told()));
  assert.equal(good.verdict, 'compliant');
  assert.match(good.sentence, /signatures trusted/);
  assert.equal(good.provenance.state, 'trusted');
  assert.match(good.provenance.by, /^key sha256:[0-9a-f]{64}$/);
  assert.equal(good.provenance.policy, 'os');
  assert.equal(bad.verdict, 'unsigned');
  assert.equal(bad.provenance.state, 'unsigned');
  assert.match(bad.provenance.why, /no signature/);
  assert.equal(ugly.verdict, 'unsigned');
  assert.equal(ugly.provenance.state, 'rejected');
  assert.match(ugly.provenance.why, /not signed by the key sha256:/);
  assert.deepEqual(await kinds(hosts[0]), []);
  assert.deepEqual(await kinds(hosts[1]), ['image-unsigned']);
  assert.deepEqual(await kinds(hosts[2]), ['image-rejected']);
  const finding = (await hosts[1].findings()).find(({ kind }) => kind === 'provenance')!;
  assert.equal(finding.subject, unsigned.digest);
});

test('before anybody looked an image is unverifiable and no finding, and a later signature is found on schedule', async (t) => {
  const at = await site(t);
  const os = at.image('late');
  const server = await serverFor(t, { images: [os], ...at.options(at.policy([KEY])), reverifyEveryMs: HOUR });
  const host = await hostOn(server, at, os, 'a-1');
  const first = await host.told();
  assert.equal(first.provenance.state, 'unverifiable');
  await server.settle();
  assert.equal((await host.told()).provenance.state, 'unsigned');
  await at.sign(os);
  server.time.now += HOUR;
  await server.settle();
  assert.equal((await host.told()).provenance.state, 'trusted');
  assert.deepEqual(await kinds(host), [], 'and its finding is resolved');
});

/** A server on a store that is taken up again under another policy: the admin token is that of the first start. */
async function again(
  t: TestContext,
  before: TestServer,
  at: Site,
  storeUrl: string,
  trust: TrustSetup | null,
): Promise<TestServer> {
  await before.server.close();
  const server = await serverFor(t, { storeUrl, admin: before.admin, ...at.options(trust) });
  server.time.now = before.time.now + 60_000;
  await server.settle();
  return server;
}

const told = async (server: TestServer, host: TestHost) => (await server.api(`/api/v1/hosts/${host.id}`)).body;
const trustOf = async (server: TestServer, { digest }: TestImage) =>
  (await server.api(`/api/v1/images/${digest}/trust`)).body;
const trail = async (server: TestServer, { digest }: TestImage) =>
  (await server.server.store.audit.list({ object: `image:${digest}` }, { cursor: null, limit: 50 })).items;

const pageOf = (server: TestServer, { digest }: TestImage) => pageText(server, `/images/${digest}`);

test('a key that leaves the policy flips every affected host at once, also while the registry is down; and none without a policy', async (t) => {
  const at = await site(t);
  const os = at.image('a');
  await at.sign(os);
  const storeUrl = `sqlite:${join(folder(t), 'store.db')}`;
  let server = await serverFor(t, { storeUrl, images: [os], ...at.options(at.policy([KEY, OTHER])) });
  const hosts = [await hostOn(server, at, os, 'a-1'), await hostOn(server, at, os, 'a-2')];
  await server.settle();
  for (const host of hosts) assert.equal((await told(server, host)).provenance.state, 'trusted');

  server = await again(t, server, at, storeUrl, at.policy([OTHER]));
  for (const host of hosts) {
    const { provenance, verdict } = await told(server, host);
    assert.equal(provenance.state, 'rejected');
    assert.match(provenance.why, /not signed by the key/);
    assert.equal(verdict, 'unsigned');
  }
  server = await again(t, server, at, storeUrl, at.policy([KEY]));
  for (const host of hosts) assert.equal((await told(server, host)).verdict, 'compliant');
  await at.stop();
  // Kept bytes prove what a new policy asks for; what they do not prove, nobody can tell.
  server = await again(t, server, at, storeUrl, at.policy([KEY, OTHER]));
  for (const host of hosts) assert.equal((await told(server, host)).provenance.state, 'trusted');
  server = await again(t, server, at, storeUrl, at.policy([OTHER]));
  for (const host of hosts) {
    const { provenance, verdict } = await told(server, host);
    assert.equal(provenance.state, 'unverifiable');
    assert.match(provenance.why, /did not answer.*last known trusted, on 2026-11-24T/);
    assert.equal(verdict, 'unverifiable');
  }
  const { lastGood, unreachableSince } = await trustOf(server, os);
  assert.equal(lastGood.state, 'trusted');
  assert.match(lastGood.by, /^key sha256:/);
  assert.ok(unreachableSince !== null);
  server = await again(t, server, at, storeUrl, null);
  for (const host of hosts) assert.match((await told(server, host)).sentence, /signatures not assessed/);
  assert.equal((await trustOf(server, os)).assessed, false);
});

test('what is denied is judged again at once on the bytes that are kept, with the registry down', async (t) => {
  const at = await site(t);
  const [a, b] = [at.image('a'), at.image('b')];
  await at.sign(a);
  await at.sign(b);
  const server = await serverFor(t, { images: [a, b], ...at.options(at.policy([KEY])) });
  const [one, two] = [await hostOn(server, at, a, 'a-1'), await hostOn(server, at, b, 'b-1')];
  await server.settle();
  assert.equal((await one.told()).verdict, 'compliant');
  await at.stop();
  const put = async (body: object) => server.api('/api/v1/deny', { method: 'PUT', body });
  const { id } = (await put({ image: a.digest, reason: 'built on a stolen laptop' })).body;
  await server.settle();
  const denied = await one.told();
  assert.equal(denied.verdict, 'unsigned');
  assert.equal(denied.provenance.state, 'rejected');
  assert.match(denied.provenance.why, /built on a stolen laptop/);
  assert.equal((await two.told()).verdict, 'compliant');
  assert.deepEqual(
    (await server.api('/api/v1/deny')).body.items.map(({ entry }: any) => entry),
    [{ image: a.digest, reason: 'built on a stolen laptop' }],
  );
  assert.deepEqual((await server.api(`/api/v1/deny/${id}`, { method: 'DELETE' })).body, { done: true });
  await server.settle();
  assert.equal((await one.told()).verdict, 'compliant');

  const { policies } = await trustOf(server, b);
  const { fingerprint } = policies[0].authorities[0].proofs[0];
  // A signature by a key alone has no trusted time: it counts as made after.
  await put({ key: fingerprint, from: '2026-01-01T00:00:00Z', reason: 'the key was published' });
  await server.settle();
  for (const host of [one, two]) assert.match((await host.told()).provenance.why, /the key was published/);
  assert.equal((await server.api(`/api/v1/deny/d_none`, { method: 'DELETE' })).body.done, false);
  for (const body of [
    { reason: 'nothing' },
    { image: 'sha256:1', reason: 'short' },
    { image: a.digest, key: fingerprint, reason: 'two' },
    { identity: {}, reason: 'anybody' },
    { image: a.digest, from: 'yesterday', reason: 'no time' },
  ])
    assert.equal((await put(body)).body.code, 'DENY_INVALID', JSON.stringify(body));
});

test('a registry that is down keeps the last result with its age, then nobody knows any more, until it is back', async (t) => {
  const at = await site(t);
  const [os, fresh] = [at.image('a'), at.image('b')];
  await at.sign(os);
  const server = await serverFor(t, {
    images: [os, fresh],
    ...at.options(at.policy([KEY])),
    reverifyEveryMs: HOUR,
  });
  const host = await hostOn(server, at, os, 'a-1');
  await server.settle();
  const looked = (await trustOf(server, os)).lookedAt;
  await at.stop();
  server.time.now += HOUR;
  await server.settle();
  let trust = await trustOf(server, os);
  assert.equal(trust.provenance.state, 'trusted', 'its proof holds');
  assert.equal(trust.lookedAt, looked);
  assert.ok(trust.unreachableSince > looked);
  assert.deepEqual(
    trust.looked.map(({ outcome }: any) => outcome),
    ['unreadable', 'unreadable', 'unreadable', 'unreadable', 'unreadable', 'unreadable'],
  );
  const other = await hostOn(server, at, fresh, 'b-1');
  await server.settle();
  const unknown = await other.told();
  assert.equal(unknown.provenance.state, 'unverifiable');
  assert.match(unknown.provenance.why, /did not answer/);
  assert.deepEqual(await kinds(other), ['image-untold']);

  server.time.now += 2 * HOUR;
  await server.settle();
  trust = await trustOf(server, os);
  assert.equal(trust.provenance.state, 'unverifiable');
  assert.equal(trust.provenance.since, trust.unreachableSince);
  assert.match(trust.provenance.why, /its kept proof still holds; last known trusted, on /);
  assert.equal((await host.told()).verdict, 'unverifiable');
  assert.match(await pageOf(server, os), /Last known trusted.*Silent A place does not answer, since/);
});

test('a signature that verified and is gone is an event and a finding, and the proof still holds', async (t) => {
  const at = await site(t);
  const os = at.image('a');
  await at.sign(os);
  const server = await serverFor(t, { images: [os], ...at.options(at.policy([KEY])), reverifyEveryMs: HOUR });
  const host = await hostOn(server, at, os, 'a-1');
  await server.settle();
  at.remove(os);
  for (let round = 0; round < 2; round++) {
    server.time.now += HOUR;
    await server.settle();
  }
  assert.equal((await host.told()).provenance.state, 'trusted');
  assert.deepEqual(await kinds(host), ['image-signature-gone']);
  const events = await trail(server, os);
  assert.deepEqual(
    events.map(({ action }) => action),
    ['signature-vanished', 'trust.change'],
    'told once',
  );
  assert.match(JSON.stringify(events[0]!.before), /tag sha256-[0-9a-f]{64}\.sig/);
  assert.match(await pageOf(server, os), /Gone The proof is kept, and no longer lies where it lay, since/);
  assert.match(await pageOf(server, os), /signature-vanished a signature that verified is gone from docker:\/\//);
  await at.sign(os);
  server.time.now += HOUR;
  await server.settle();
  assert.deepEqual(await kinds(host), []);
  const returned = await trustOf(server, os);
  assert.equal(returned.vanishedAt, null);
  assert.deepEqual(
    returned.events.map(({ event }: any) => event),
    ['signature-returned', 'signature-vanished', 'trust.change'],
  );
  assert.match(returned.events[1].text, /is gone from docker:\/\/\S+: tag sha256-/);
  const { proofs } = events.at(-1)!.after as { proofs: { blob: string }[] };
  assert.ok(await server.server.store.blobs.has(proofs[0]!.blob), 'the bytes that proved it are named in the trail');
});

test('a signature on the index alone proves the member, by bytes that are kept when the tag has moved on', async (t) => {
  const at = await site(t);
  const os = at.image('a');
  const index = (digests: readonly string[]) =>
    Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: 'application/vnd.oci.image.index.v1+json',
        manifests: digests.map((digest) => ({
          mediaType: 'application/vnd.oci.image.manifest.v1+json',
          digest,
          size: 7,
          platform: { architecture: 'amd64', os: 'linux' },
        })),
      }),
    );
  const push = async (bytes: Buffer) => {
    const url = `http://${at.registry}/v2/${REPOSITORY}/manifests/latest`;
    const headers = { 'content-type': 'application/vnd.oci.image.index.v1+json' };
    assert.equal((await fetch(url, { method: 'PUT', body: new Uint8Array(bytes), headers })).status, 201);
    return digestOf(bytes, nodeSha256);
  };
  const signed = await push(index([os.digest]));
  await signInto(at.registry, { name: REPOSITORY, digest: signed, key: KEY });
  const server = await serverFor(t, { images: [os], ...at.options(at.policy([KEY])), reverifyEveryMs: HOUR });
  const host = await hostOn(server, at, os, 'a-1');
  await server.settle();
  const trust = await trustOf(server, os);
  assert.equal(trust.provenance.state, 'trusted');
  assert.equal(trust.policies[0].authorities[0].proofs[0].signs, signed);
  assert.equal(trust.hostPolicy.code, 'INDEX_ONLY');
  assert.deepEqual(await kinds(host), ['image-signature-unreadable']);
  // A host that demands no signature of what it pulls is not hindered by this one.
  const deployment = host.deployment();
  const booted = { ...deployment.booted!, image: { ...deployment.booted!.image!, signature: null } };
  await host.sendFull({ deployment: { ...deployment, booted } });
  assert.deepEqual(await kinds(host), []);
  await host.sendFull();
  assert.deepEqual(await kinds(host), ['image-signature-unreadable']);
  assert.equal((await host.told()).verdict, 'compliant');
  await push(index([at.image('newer').digest]));
  server.time.now += HOUR;
  await server.settle();
  assert.equal((await host.told()).provenance.state, 'trusted');
});

test('a policy that cannot be evaluated here is unverifiable with its path, whoever signed', async (t) => {
  const at = await site(t);
  const os = at.image('a');
  await at.sign(os);
  const cue = JSON.parse(keyPolicy('asks-cue', `${at.registry}/${REPOSITORY}@*`, [KEY]));
  cue.spec.policy = { type: 'cue', data: 'authorityMatches: {}' };
  const server = await serverFor(t, { images: [os], ...at.options(at.policy([KEY], JSON.stringify(cue))) });
  const host = await hostOn(server, at, os, 'a-1');
  await server.settle();
  const { provenance, verdict } = await host.told();
  assert.equal(provenance.state, 'unverifiable');
  assert.match(provenance.why, /asks-cue: spec\.policy\.data/);
  assert.equal(verdict, 'unverifiable');
});

test('an image that no policy is about is unsigned unless the policy says otherwise; lists tell it of each image', async (t) => {
  const at = await site(t);
  const os = at.image('a');
  const elsewhere = (more?: string) =>
    trustSetup({
      policies: [
        { file: 'a.yaml', text: keyPolicy('other', 'registry.example/other@*', [KEY]) },
        ...(more === undefined ? [] : [{ file: 'b.yaml', text: more }]),
      ],
      roots: [],
    });
  const storeUrl = `sqlite:${join(folder(t), 'store.db')}`;
  let server = await serverFor(t, { storeUrl, images: [os], ...at.options(elsewhere()) });
  const host = await hostOn(server, at, os, 'a-1');
  await server.settle();
  const { provenance } = await told(server, host);
  assert.equal(provenance.state, 'unsigned');
  assert.match(provenance.why, /no image policy is about/);
  const { items } = (await server.api('/api/v1/images')).body;
  assert.equal(items[0].provenance.state, 'unsigned');
  assert.equal((await server.api(`/api/v1/images/${os.digest}`)).body.provenance.state, 'unsigned');
  server = await again(t, server, at, storeUrl, elsewhere('format: bootproof.images/1\nnoMatch: not-assessed\n'));
  assert.equal((await told(server, host)).provenance.state, 'not-assessed');
  assert.equal((await server.api('/api/v1/images/sha256:none/trust')).body.code, 'IMAGE_UNKNOWN');
});

test('the thread says the same as this one', async (t) => {
  const at = await site(t);
  const os = at.image('a');
  await at.sign(os);
  const { assess: _, ...inThread } = at.options(at.policy([KEY]));
  const server = await serverFor(t, { images: [os], ...inThread });
  const host = await hostOn(server, at, os, 'a-1');
  await server.settle();
  assert.equal((await host.told()).provenance.state, 'trusted');
});

test('the image page says who signed it and with what, or the first reason why that does not count', async (t) => {
  const at = await site(t);
  const [signed, foreign] = [at.image('signed'), at.image('foreign')];
  await at.sign(signed);
  await at.sign(foreign, OTHER);
  const server = await serverFor(t, { images: [signed, foreign], ...at.options(at.policy([KEY])) });
  await hostOn(server, at, signed, 'good-1');
  await hostOn(server, at, foreign, 'ugly-1');
  await server.settle();
  const page = (of: TestImage) => pageOf(server, of);
  assert.match(
    await page(signed),
    /Who signed it trusted Signed by key sha256:[0-9a-f]{64}, as the policy os demands\./,
  );
  assert.match(
    await page(signed),
    /ecdsa-p256-sha256, at no trusted time; docker:\/\/\S+: tag sha256-[0-9a-f]{64}\.sig, layer 0/,
  );
  assert.match(await page(signed), /team\/os 41\.1 is ours, and 1 host runs it/);
  const refused = await page(foreign);
  assert.match(refused, /team\/os 41\.1 is signed, but not as policy demands, and 1 host runs it/);
  assert.match(refused, /rejected Signed, but not as it must be: os: not signed by the key/);
  assert.match(refused, /failed WRONG_KEY/);
});

test('where nobody may look, nothing is called unsigned; allowing the source brings the answer', async (t) => {
  const at = await site(t);
  const os = at.image('a');
  await at.sign(os);
  const server = await serverFor(t, { images: [os], ...at.options(at.policy([KEY])), sources: [] });
  const host = await hostOn(server, at, os, 'a-1');
  await server.settle();
  const before = await host.told();
  assert.equal(before.provenance.state, 'unverifiable');
  assert.match(before.provenance.why, /IMAGE_SOURCE_NOT_ALLOWED/);
  await server.api('/api/v1/sources', { method: 'POST', body: { reference: at.source, plainHttp: true } });
  await server.settle();
  assert.equal((await host.told()).provenance.state, 'trusted');
});

test('what was found under another policy is no answer for a host that boots the image later', async (t) => {
  const at = await site(t);
  const [a, b] = [at.image('a'), at.image('b')];
  for (const each of [a, b]) await at.sign(each);
  const server = await serverFor(t, { images: [a, b], ...at.options(at.policy([KEY])) });
  const host = await hostOn(server, at, a, 'a-1');
  await server.settle();
  assert.equal((await host.told()).provenance.state, 'trusted');
  host.booted = b.digest;
  await host.sendFull();
  await server.settle();
  // No host runs it now, so nobody judges it again.
  await server.api('/api/v1/deny', { method: 'PUT', body: { image: a.digest, reason: 'Recalled.' } });
  await server.settle();
  await at.stop();
  host.booted = a.digest;
  await host.sendFull();
  const pending = (await host.told()).provenance;
  assert.equal(pending.state, 'unverifiable');
  assert.match(pending.why, /TRUST_PENDING/);
  await server.settle();
  assert.equal((await host.told()).provenance.state, 'rejected');
});

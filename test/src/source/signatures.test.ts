/** Where signatures are looked for, what a search says of each place, and that nothing it meets makes it go on without end. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestOf, type Digest } from '#src/digest.ts';
import { OCI_INDEX, OCI_MANIFEST } from '#src/image/ocimanifest.ts';
import { REFERRERS_MAX, SIGNATURES_BYTES_MAX, SIGNATURES_MAX } from '#src/limits.ts';
import { nextPage, parseReferrers } from '#src/source/referrers.ts';
import { findSignatures, mirroredRepository, type FoundSignatures } from '#src/source/signatures.ts';
import { SourceError } from '#src/source/source.ts';
import { rejectsCode, throwsCode } from '#test/throws.ts';
import { blobsOf, caseOf, judge, verifiedOf } from '#test/src/trust/cases.ts';
import { IMAGE, simple } from '#test/src/trust/instance.ts';
import {
  closeHttp,
  memoryLayout,
  registryOf,
  registryWithApi,
  registryWithTags,
  type Held,
} from '#test/src/trust/places.ts';

test.after(() => closeHttp());

const SIMPLE = 'application/vnd.dev.cosign.simplesigning.v1+json';
const BUNDLE = 'application/vnd.dev.sigstore.bundle.v0.3+json';
const OCI11 = 'application/vnd.dev.cosign.artifact.sig.v1+json';

const bytesOf = (value: unknown) => new TextEncoder().encode(typeof value === 'string' ? value : JSON.stringify(value));
const tagOf = (suffix = '', prefix = '') => `${prefix}${IMAGE.replace(':', '-')}${suffix}`;

/** A store that grows: each put returns the digest. */
class Store implements Held {
  readonly blobs = new Map<string, Uint8Array>();
  readonly tags: Record<string, string> = {};

  put(value: unknown): Digest {
    const bytes = bytesOf(value);
    const digest = digestOf(bytes);
    this.blobs.set(digest, bytes);
    return digest;
  }
  layer(
    content: string,
    mediaType = SIMPLE,
    annotations: Record<string, string> = { 'dev.cosignproject.cosign/signature': 'AAAA' },
  ) {
    return { mediaType, digest: this.put(content), size: bytesOf(content).length, annotations };
  }
  manifest(layers: readonly object[], more: object = {}): Digest {
    const config = { mediaType: 'application/vnd.oci.empty.v1+json', digest: this.put('{}'), size: 2 };
    return this.put({ schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers, ...more });
  }
}
const subject = (digest: string) => ({ subject: { mediaType: OCI_MANIFEST, digest, size: 1 } });
const outcomes = ({ looked }: FoundSignatures) => looked.map(({ outcome }) => outcome);
const find = (store: Held) => findSignatures({ image: IMAGE, repositories: [memoryLayout(store)] });
const codes = ({ found }: FoundSignatures) => found.map(({ content }) => ('kind' in content ? content.code : 'read'));

test('an empty place is told apart from one that was not there to ask', async () => {
  await using registry = await registryWithApi({ blobs: new Map(), tags: {} });
  const nothing = await findSignatures({ image: IMAGE, repositories: [registryOf(registry)] });
  assert.deepEqual(outcomes(nothing), ['nothing', 'nothing', 'nothing', 'nothing']);
  assert.equal(nothing.complete, true);
  assert.equal(nothing.hostReadable.code, 'NO_SIGNATURE');

  registry.hooks.unshift((_, answer) => {
    answer.writeHead(503).end();
    return true;
  });
  const down = await findSignatures({ image: IMAGE, repositories: [registryOf(registry)] });
  assert.deepEqual(outcomes(down), ['unreadable', 'unreadable', 'unreadable', 'unreadable']);
  assert.deepEqual(new Set(down.looked.map(({ code }) => code)), new Set(['SOURCE_UNAVAILABLE']));
  assert.equal(down.complete, false);
});

test('a registry that stops answering in between leaves what was found, and says that it is not all', async () => {
  const vector = caseOf('v-both-formats');
  await using registry = await registryWithApi(blobsOf(vector));
  registry.hooks.unshift(({ path }, answer) => {
    if (!path.includes('/referrers/')) return false;
    answer.writeHead(429).end();
    return true;
  });
  const judged = await judge(vector, registryOf(registry));
  assert.equal(verifiedOf(judged).length, 1);
  assert.equal(judged.found.complete, false);
});

test('all forms are evaluated: a bad bundle does not hide a good signature under the tag', async () => {
  const vector = caseOf('v-legacy3-key-p256');
  const good = blobsOf(vector);
  const bad = blobsOf(caseOf('n-wrong-key'));
  const [manifest] = [...bad.blobs.values()].filter((bytes) => new TextDecoder().decode(bytes).includes('"subject"'));
  const text = new TextDecoder().decode(manifest).replaceAll(caseOf('n-wrong-key').digest, vector.digest);
  const blobs = new Map([...good.blobs, ...bad.blobs, [digestOf(text), bytesOf(text)]]);
  const judged = await judge(vector, memoryLayout({ blobs, tags: good.tags }));
  assert.equal(judged.found.found.length, 2);
  assert.equal(verifiedOf(judged).length, 1);
});

test('cosign’s OCI 1.1 mode is read as the layers that it has, through the API and through the fallback tag', async () => {
  const store = new Store();
  store.manifest([store.layer(simple())], { artifactType: OCI11, ...subject(IMAGE) });
  for (const open of [registryWithApi, (held: Held) => registryWithTags(held, [IMAGE])]) {
    await using registry = await open(store);
    const { found, hostReadable } = await findSignatures({ image: IMAGE, repositories: [registryOf(registry)] });
    assert.deepEqual(
      found.map(({ format, place }) => [format, place.by]),
      [['cosign-oci11', open === registryWithApi ? 'referrer' : 'referrers-tag']],
    );
    assert.equal(hostReadable.code, 'BUNDLE_ONLY');
  }
});

test('referrers that are no signatures are not taken for some', async () => {
  const store = new Store();
  store.manifest([store.layer('{}', 'application/spdx+json')], subject(IMAGE));
  store.manifest([store.layer('{}', BUNDLE), store.layer('{ }', BUNDLE)], subject(IMAGE));
  store.manifest([store.layer(simple(), SIMPLE, {})], subject(IMAGE));
  assert.deepEqual((await find(store)).found, []);
});

test('a listed referrer of another image is a refusal, not a signature', async () => {
  const store = new Store();
  const foreign = store.manifest([store.layer(simple())], subject(digestOf('another')));
  store.tags[tagOf()] = store.put({
    schemaVersion: 2,
    mediaType: OCI_INDEX,
    manifests: [{ mediaType: OCI_MANIFEST, digest: foreign, size: store.blobs.get(foreign)!.length }],
  });
  assert.deepEqual(codes(await find(store)), ['WRONG_DIGEST']);
});

test('a referrer that is not there, or not as long as its list says, is a refusal', async () => {
  const store = new Store();
  const real = store.manifest([store.layer(simple())], subject(IMAGE));
  for (const [digest, size] of [
    [digestOf('nowhere'), 10],
    [real, 7],
  ] as const) {
    const tags = { [tagOf()]: store.put({ schemaVersion: 2, manifests: [{ mediaType: OCI_MANIFEST, digest, size }] }) };
    await using registry = await registryWithTags({ blobs: store.blobs, tags }, []);
    const found = await findSignatures({ image: IMAGE, repositories: [registryOf(registry)] });
    assert.deepEqual(codes(found), ['MALFORMED']);
  }
});

test('CVE-2024-3727: a digest that is none goes into no URL', () => {
  const list = (digest: string) => bytesOf({ schemaVersion: 2, manifests: [{ digest, size: 1 }] });
  for (const digest of ['sha256:../../x', `sha256:${'A'.repeat(64)}`, 'sha256:ab', '../../../x', 'a b', ''])
    throwsCode(() => parseReferrers(list(digest), 'x'), SourceError, 'SOURCE_ANSWER');
  assert.deepEqual(parseReferrers(list(`sha512:${'0'.repeat(128)}`), 'x').listed, []);
  for (const text of ['[]', '{}', '{"schemaVersion":2,"manifests":[null]}', '{"schemaVersion":2,"manifests":{}}'])
    assert.throws(() => parseReferrers(bytesOf(text), 'x'), text);
});

test('of a next page only the query is taken', () => {
  assert.equal(nextPage('</v2/a/b/referrers/x?n=2>; rel="next"'), '?n=2');
  assert.equal(nextPage('<https://elsewhere.test/v2/?n=2>; rel=next'), '?n=2');
  assert.equal(nextPage('</v2/x?n=2>; rel="prev"'), undefined);
  assert.equal(nextPage('</v2/x>; rel="next"'), undefined);
  assert.equal(nextPage(undefined), undefined);
});

test('a list of referrers without an end is left, and what was found before counts', async () => {
  const store = new Store();
  const referrer = store.manifest([store.layer(simple())], subject(IMAGE));
  for (const link of ['?again', undefined]) {
    await using registry = await registryWithApi(store);
    let page = 0;
    registry.hooks.unshift(({ path }, answer) => {
      if (!path.includes('/referrers/')) return false;
      page++;
      answer.writeHead(200, { 'content-type': OCI_INDEX, link: `<${link ?? `?page=${page}`}>; rel="next"` });
      const size = store.blobs.get(referrer)!.length;
      answer.end(JSON.stringify({ schemaVersion: 2, manifests: [{ digest: referrer, size }] }));
      return true;
    });
    const found = await findSignatures({ image: IMAGE, repositories: [registryOf(registry)] });
    assert.equal(found.looked[2]?.outcome, 'too-many');
    assert.equal(found.found.length, 1);
    assert.ok(page <= 32, String(page));
  }
});

test('ten thousand referrers: so many are opened, and those first that call themselves signatures', async () => {
  const store = new Store();
  const real = store.manifest([store.layer(simple())], { artifactType: OCI11, ...subject(IMAGE) });
  await using registry = await registryWithApi(store);
  const chaff = Array.from({ length: 10_000 }, (_, i) => ({ digest: digestOf(`chaff ${i}`), size: 10 }));
  registry.hooks.unshift(({ path }, answer) => {
    if (!path.includes('/referrers/')) return false;
    const mine = { digest: real, size: store.blobs.get(real)!.length, artifactType: OCI11 };
    answer.writeHead(200, { 'content-type': OCI_INDEX });
    answer.end(JSON.stringify({ schemaVersion: 2, manifests: [...chaff.slice(0, 200), mine, ...chaff.slice(200)] }));
    return true;
  });
  const found = await findSignatures({ image: IMAGE, repositories: [registryOf(registry)] });
  assert.equal(found.looked[2]?.outcome, 'too-many');
  assert.equal(codes(found)[0], 'read');
  assert.ok(registry.asked.length < REFERRERS_MAX + 20);
});

test('a thousand signatures in one manifest: the newest are looked at, and the rest is told', async () => {
  const store = new Store();
  const layers = Array.from({ length: 1001 }, (_, i) => store.layer(`${simple()}${' '.repeat(i)}`));
  store.tags[tagOf('.sig')] = store.manifest(layers);
  const found = await find(store);
  assert.equal(found.found.length, SIGNATURES_MAX);
  assert.equal(found.found.at(-1)?.place.layer, 1000);
  assert.deepEqual(outcomes(found)[0], 'too-many');
});

test('signatures that are too large together are a search cut short', async () => {
  const store = new Store();
  const large = store.layer(' '.repeat(SIGNATURES_BYTES_MAX / 32), 'application/vnd.dsse.envelope.v1+json');
  store.tags[tagOf('.att')] = store.manifest(Array.from({ length: 40 }, () => large));
  const found = await find(store);
  assert.equal(found.found.length, 32);
  assert.deepEqual(outcomes(found)[1], 'too-many');
});

test('a list of its own that a place cannot show is no empty list', async () => {
  await using registry = await registryWithApi(new Store());
  registry.hooks.unshift(({ path }, answer) => {
    if (!path.includes('/referrers/')) return false;
    answer.writeHead(200, { 'content-type': OCI_INDEX }).end('<html>please log in</html>');
    return true;
  });
  const found = await findSignatures({ image: IMAGE, repositories: [registryOf(registry)] });
  assert.equal(found.complete, false);
  assert.equal(outcomes(found)[2], 'unreadable');
});

test('what is too large is refused before it is read', async () => {
  const store = new Store();
  store.tags[tagOf('.sig')] = store.manifest([
    store.layer(simple(), SIMPLE, { 'dev.cosignproject.cosign/signature': 'A'.repeat(2_000_000) }),
  ]);
  assert.deepEqual(codes(await find(store)), ['TOO_MANY']);
  const other = new Store();
  other.tags[tagOf('.sig')] = other.manifest([{ ...other.layer(simple()), size: 10 ** 9 }]);
  other.blobs.delete(digestOf(simple()));
  assert.deepEqual(codes(await find(other)), ['TOO_MANY']);
});

test('what lies under a tag of signatures and is none is a refusal', async () => {
  for (const text of ['{', 'null', '[]', '{"schemaVersion":2,"manifests":[]}', '{"schemaVersion":2,"layers":[null]}']) {
    const store = new Store();
    store.tags[tagOf('.sig')] = store.put(text);
    assert.deepEqual(codes(await find(store)), ['MALFORMED'], text);
  }
});

test('another repository and a tag prefix are looked at, and hosts do not read them', async () => {
  const store = new Store();
  store.tags[tagOf('.sig', 'signed-')] = store.manifest([store.layer(simple())]);
  const prefixed = await findSignatures({
    image: IMAGE,
    repositories: [{ ...memoryLayout(store), tagPrefix: 'signed-' }],
  });
  assert.deepEqual(codes(prefixed), ['read']);
  assert.equal(prefixed.hostReadable.code, 'OTHER_PLACE');

  const elsewhere = new Store();
  elsewhere.tags[tagOf('.sig')] = elsewhere.manifest([elsewhere.layer(simple())]);
  const aside = await findSignatures({ image: IMAGE, repositories: [{ ...memoryLayout(elsewhere), own: false }] });
  assert.deepEqual(codes(aside), ['read']);
  assert.equal(aside.hostReadable.code, 'OTHER_PLACE');
  assert.equal((await find(elsewhere)).hostReadable.code, 'READABLE_BY_REPOSITORY');
});

test('signatures of the index that lists an image are found too; hosts do not look there', async () => {
  const store = new Store();
  const index = digestOf('an index');
  store.tags[`${index.replace(':', '-')}.sig`] = store.manifest([store.layer(simple(index))]);
  const found = await findSignatures({ image: IMAGE, indexes: [index], repositories: [memoryLayout(store)] });
  assert.deepEqual(
    found.found.map(({ place }) => place.of),
    [index],
  );
  assert.equal(found.hostReadable.code, 'INDEX_ONLY');
});

test('a mirrors map rewrites whole parts of a path, the longest first', () => {
  const mirrors = new Map([
    ['quay.test', 'mirror.test/quay'],
    ['quay.test/acme', 'mirror.test/acme'],
  ]);
  const table = [
    ['quay.test/acme/os', 'mirror.test/acme/os'],
    ['quay.test/acme', 'mirror.test/acme'],
    ['quay.test/acme-evil/os', 'mirror.test/quay/acme-evil/os'],
    ['quay.test.evil/acme', 'quay.test.evil/acme'],
    ['ghcr.test/acme', 'ghcr.test/acme'],
  ] as const;
  for (const [from, to] of table) assert.equal(mirroredRepository(from, mirrors), to);
});

test('a search that is given up says so', async () => {
  await using registry = await registryWithApi({ blobs: new Map(), tags: {} });
  const { source } = registryOf(registry);
  const aborted = { ...source, manifest: () => Promise.reject(new SourceError('SOURCE_ABORTED', 'given up')) };
  await rejectsCode(
    () => findSignatures({ image: IMAGE, repositories: [{ source: aborted, own: true }] }),
    SourceError,
    'SOURCE_ABORTED',
  );
});

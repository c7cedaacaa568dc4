/**
 * Registries whose signatures, layers, referrers and subjects have no end, through the client that asks real ones: requests and bytes stay
 * bounded, what is too much is said, and nothing of it verifies. Bytes and requests are counted; seconds would tell of the machine.
 */
import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import { test } from 'node:test';
import { digestOf, type Digest } from '#src/digest.ts';
import { OCI_INDEX, OCI_MANIFEST } from '#src/image/ocimanifest.ts';
import {
  MANIFEST_BYTES_MAX,
  REFERRER_PAGES_MAX,
  REFERRERS_MAX,
  SIGNATURES_ALL_MAX,
  SIGNATURES_MAX,
  STATEMENT_BYTES_MAX,
  SUBJECTS_MAX,
} from '#src/limits.ts';
import { findSignatures, type FoundSignatures } from '#src/source/signatures.ts';
import { nodeSha256 } from '#src/source/verified.ts';
import { bundleFile } from '#src/trust/bundle.ts';
import { verifySignature } from '#src/trust/verify.ts';
import { exponent } from '#test/exponent.ts';
import { circumstances } from './cases.ts';
import { IMAGE, newKey, pemOf, simple, statement, subjectOf } from './instance.ts';
import { closeHttp, registryOf, registryWithApi, type Held } from './places.ts';

test.after(() => closeHttp());

const SIMPLE = 'application/vnd.dev.cosign.simplesigning.v1+json';
const BUNDLE = 'application/vnd.dev.sigstore.bundle.v0.3+json';
const SIGN = 'https://sigstore.dev/cosign/sign/v1';
/** What lies in socket buffers when a client hangs up. */
const IN_FLIGHT = 16 * 2 ** 20;

class Store implements Held {
  readonly blobs = new Map<string, Uint8Array>();
  readonly tags: Record<string, string> = {};

  put(value: unknown): Digest {
    const bytes = new TextEncoder().encode(typeof value === 'string' ? value : JSON.stringify(value));
    const digest = digestOf(bytes, nodeSha256);
    this.blobs.set(digest, bytes);
    return digest;
  }
  layer(text: string, mediaType = SIMPLE): object {
    const digest = this.put(text);
    const annotations = { 'dev.cosignproject.cosign/signature': 'AAAA' };
    return { mediaType, digest, size: this.blobs.get(digest)!.length, annotations };
  }
  manifest(layers: readonly object[], more: object = {}): Digest {
    const config = { mediaType: 'application/vnd.oci.empty.v1+json', digest: this.put('{}'), size: 2 };
    return this.put({ schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers, ...more });
  }
  referrer(layers: readonly object[], n = 0): Digest {
    return this.manifest(layers, {
      subject: { mediaType: OCI_MANIFEST, digest: IMAGE, size: 1 },
      annotations: { n: `${n}` },
    });
  }
}

const SIG = `${IMAGE.replace(':', '-')}.sig`;
const key = newKey();
const requirement = {
  what: { kind: 'signature' },
  authority: { kind: 'key', keys: [pemOf(key)], hashAlgorithm: 'sha256', tlog: undefined, tsa: undefined },
} as const;
/** What each that was found came to, counted. */
function verdicts({ found }: FoundSignatures): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const entity of found) {
    const outcome = verifySignature(entity, requirement, circumstances({ digest: IMAGE }));
    const name = outcome.kind === 'verified' ? 'verified' : outcome.code;
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}
const outcomes = ({ looked }: FoundSignatures) => looked.map(({ outcome }) => outcome);

/** Answers without an end until the client has gone, and counts what it wrote. */
function pour(answer: ServerResponse, type: string, begin: string, more: string): { sent: number } {
  const count = { sent: 0 };
  answer.writeHead(200, { 'content-type': type });
  answer.write(begin);
  const chunk = more.repeat(Math.ceil(65_536 / more.length));
  const go = () => {
    while (!answer.destroyed) {
      count.sent += chunk.length;
      if (count.sent > 2 ** 30) throw new Error('the client reads on and on');
      if (!answer.write(chunk)) return void answer.once('drain', go);
    }
  };
  go();
  return count;
}

test('signatures: a thousand under one tag are a few dozen requests, and the rest is told', async () => {
  const store = new Store();
  store.tags[SIG] = store.manifest(Array.from({ length: 1001 }, (_, i) => store.layer(`${simple()}${' '.repeat(i)}`)));
  await using registry = await registryWithApi(store);
  const found = await findSignatures({ image: IMAGE, repositories: [registryOf(registry)] });
  assert.equal(outcomes(found)[0], 'too-many');
  assert.deepEqual(verdicts(found), { WRONG_KEY: SIGNATURES_MAX });
  assert.ok(registry.asked.length < SIGNATURES_MAX + 10, String(registry.asked.length));
});

test('signatures: many in each of many referrers are so many in all', async () => {
  const store = new Store();
  const layers = Array.from({ length: SIGNATURES_MAX }, (_, i) => store.layer(`${simple()}${' '.repeat(i)}`));
  for (let i = 0; i < 40; i++) store.referrer(layers, i);
  await using registry = await registryWithApi(store);
  const found = await findSignatures({ image: IMAGE, repositories: [registryOf(registry)] });
  assert.equal(found.found.length, SIGNATURES_ALL_MAX);
  assert.equal(outcomes(found)[2], 'too-many');
  assert.ok(registry.asked.length < SIGNATURES_ALL_MAX + 100, String(registry.asked.length));
});

test('layers: one that says it is short and has no end is left after what it said', async () => {
  const store = new Store();
  const digest = digestOf('endless');
  const annotations = { 'dev.cosignproject.cosign/signature': 'AAAA' };
  store.tags[SIG] = store.manifest([{ mediaType: SIMPLE, digest, size: 200, annotations }]);
  await using registry = await registryWithApi(store);
  let poured = { sent: 0 };
  registry.hooks.unshift(({ path }, answer) => {
    if (!path.endsWith(`/blobs/${digest}`)) return false;
    poured = pour(answer, 'application/octet-stream', '', 'x');
    return true;
  });
  const found = await findSignatures({ image: IMAGE, repositories: [registryOf(registry)] });
  assert.deepEqual(verdicts(found), { MALFORMED: 1 });
  assert.ok(poured.sent > 0 && poured.sent < IN_FLIGHT, String(poured.sent));
});

test('layers: one that says it is huge is not asked for', async () => {
  const store = new Store();
  const [small, large] = [digestOf('a'), digestOf('b')];
  const annotations = { 'dev.cosignproject.cosign/signature': 'AAAA' };
  store.tags[SIG] = store.manifest([
    { mediaType: SIMPLE, digest: small, size: 10 ** 6, annotations },
    { mediaType: BUNDLE, digest: large, size: 10 ** 12, annotations },
  ]);
  store.referrer([{ mediaType: BUNDLE, digest: large, size: 3 * STATEMENT_BYTES_MAX }]);
  await using registry = await registryWithApi(store);
  const found = await findSignatures({ image: IMAGE, repositories: [registryOf(registry)] });
  assert.deepEqual(verdicts(found), { TOO_MANY: found.found.length });
  assert.ok(found.found.length >= 2);
  assert.ok(registry.asked.every(({ path }) => !path.includes('/blobs/')));
});

test('layers: manifests and lists that have no end are left at their bound', async () => {
  for (const part of [`/manifests/${SIG}`, `/referrers/`, `/manifests/${IMAGE.replace(':', '-')}`]) {
    await using registry = await registryWithApi(new Store());
    if (part.endsWith(IMAGE.slice(7)))
      registry.hooks.unshift(({ path }, answer) => path.includes('/referrers/') && (answer.writeHead(404).end(), true));
    const poured: { sent: number }[] = [];
    registry.hooks.unshift(({ path }, answer) => {
      if (!(part === '/referrers/' ? path.includes(part) : path.endsWith(part))) return false;
      const begin = '{"schemaVersion":2,"manifests":[';
      poured.push(pour(answer, part.endsWith('.sig') ? OCI_MANIFEST : OCI_INDEX, begin, '{"digest":"x","size":1},'));
      return true;
    });
    const found = await findSignatures({ image: IMAGE, repositories: [registryOf(registry)] });
    assert.deepEqual(found.found, [], part);
    assert.ok(
      outcomes(found).some((outcome) => outcome === 'malformed' || outcome === 'unreadable'),
      part,
    );
    const sent = poured.reduce((sum, one) => sum + one.sent, 0);
    assert.ok(poured.length > 0 && sent < poured.length * (MANIFEST_BYTES_MAX + IN_FLIGHT), `${part}: ${sent}`);
  }
});

test('referrers: pages that always have another, each with new names, are left at their bound', async () => {
  await using registry = await registryWithApi(new Store());
  let page = 0;
  registry.hooks.unshift(({ path }, answer) => {
    if (!path.includes('/referrers/')) return false;
    page++;
    answer.writeHead(200, { 'content-type': OCI_INDEX, link: `<?page=${page}>; rel="next"` });
    const manifests = [1, 2, 3].map((i) => ({ digest: digestOf(`${page} ${i}`), size: 10 }));
    answer.end(JSON.stringify({ schemaVersion: 2, manifests }));
    return true;
  });
  const found = await findSignatures({ image: IMAGE, repositories: [registryOf(registry)] });
  assert.equal(page, REFERRER_PAGES_MAX);
  assert.equal(outcomes(found)[2], 'too-many');
  assert.deepEqual(Object.keys(verdicts(found)), ['MALFORMED']); // they were listed, and are not there
  assert.ok(registry.asked.length < REFERRER_PAGES_MAX * 4 + 10, String(registry.asked.length));
});

test('referrers: more than are opened, each a bundle, are so many requests, and nothing of it verifies', async () => {
  const store = new Store();
  const bundle = store.layer('{}', BUNDLE);
  for (let i = 0; i < REFERRERS_MAX + 50; i++) store.referrer([bundle], i);
  await using registry = await registryWithApi(store);
  registry.hooks.unshift(({ path }, answer) => {
    if (!path.includes('/referrers/')) return false;
    const manifests = [...store.blobs]
      .filter(([, bytes]) => Buffer.from(bytes).includes('"subject"'))
      .map(([digest, bytes]) => ({ mediaType: OCI_MANIFEST, digest, size: bytes.length }));
    answer.writeHead(200, { 'content-type': OCI_INDEX }).end(JSON.stringify({ schemaVersion: 2, manifests }));
    return true;
  });
  const found = await findSignatures({ image: IMAGE, repositories: [registryOf(registry)] });
  assert.deepEqual(verdicts(found), { MALFORMED: REFERRERS_MAX });
  assert.equal(outcomes(found)[2], 'too-many');
  assert.ok(registry.asked.length < 2 * REFERRERS_MAX + 10, String(registry.asked.length));
});

/** A bundle whose statement names the image among `count` subjects, first of all. */
function bundleOf(count: number): string {
  const others = Array.from({ length: count - 1 }, (_, i) => ({
    digest: { sha256: i.toString(16).padStart(64, '0') },
  }));
  const payload = Buffer.from(statement(SIGN, [...(subjectOf() as object[]), ...others]));
  return JSON.stringify({
    mediaType: BUNDLE,
    verificationMaterial: { publicKey: { hint: '' } },
    dsseEnvelope: {
      payload: payload.toString('base64'),
      payloadType: 'application/vnd.in-toto+json',
      signatures: [{ sig: 'AAAA' }],
    },
  });
}

test('subjects: as many as are taken are read; one more, or all that fit, are refused', async () => {
  for (const [count, code] of [
    [SUBJECTS_MAX, 'WRONG_KEY'],
    [SUBJECTS_MAX + 1, 'TOO_MANY'],
    [STATEMENT_BYTES_MAX / 60, 'TOO_MANY'],
  ] as const) {
    const store = new Store();
    store.referrer([store.layer(bundleOf(Math.floor(count)), BUNDLE)]);
    await using registry = await registryWithApi(store);
    const found = await findSignatures({ image: IMAGE, repositories: [registryOf(registry)] });
    assert.deepEqual(verdicts(found), { [code]: 1 }, String(count));
  }
});

test('subjects: the time that reading takes grows as they do', () => {
  const sizes = [2_000, 4_000, 8_000, 16_000];
  const texts = new Map(sizes.map((n) => [n, Buffer.from(bundleOf(n))]));
  const k = exponent((n) => void bundleFile(texts.get(n)!, 'test'), sizes);
  assert.ok(k < 1.4, String(k));
});

/** What the demo signs without a key has the shape that cosign gave its own signatures, and counts for the identity that made it alone. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { keylessBundle, keylessSignature } from '#demo/keyless.ts';
import type { PackedImage } from '#demo/pack.ts';
import { startSigstore, type Who } from '#demo/sigstore.ts';
import { digestOf } from '#src/digest.ts';
import { findSignatures } from '#src/source/signatures.ts';
import { imageTarget } from '#src/trust/target.ts';
import { readTrustRoot } from '#src/trust/trustroot.ts';
import { verifySignature, type Verified } from '#src/trust/verify.ts';
import { caseOf, vectors } from '#test/src/trust/cases.ts';
import { memoryLayout } from '#test/src/trust/places.ts';
import { shape } from './shape.ts';

const WHO: Who = { issuer: 'https://issuer.test', subject: 'https://git.test/acme/os/build.yml@refs/heads/main' };
const OTHER: Who = { ...WHO, subject: `${WHO.subject}-not` };
const NAME = '127.0.0.1:5000/demo/os';
const sigstore = await startSigstore();
const roots = new Map([['demo', readTrustRoot('demo', Buffer.from(sigstore.trustedRoot))]]);

const manifest = Buffer.from('{"schemaVersion":2,"layers":[]}');
const image = digestOf(manifest);

/** What a search finds of it, held against an identity under every demand that there is. */
async function judged({ digest, manifest: carrier, blobs }: PackedImage, tag: string | undefined, who: Who) {
  const held = new Map<string, Uint8Array>([...blobs, [digest, carrier], [image, manifest]]);
  const layout = memoryLayout({
    blobs: held,
    tags: { latest: image, ...(tag === undefined ? {} : { [tag]: digest }) },
  });
  const { found } = await findSignatures({ image, repositories: [layout] });
  assert.equal(found.length, 1);
  return verifySignature(
    found[0]!,
    {
      what: { kind: 'signature' },
      authority: {
        kind: 'keyless',
        identities: [{ issuer: { exact: who.issuer }, subject: { exact: who.subject } }],
        trustRoot: 'demo',
        tlog: true,
        tsa: tag === undefined,
        sct: true,
      },
    },
    { target: imageTarget({ digest: image, references: [NAME] }), roots, deny: [], now: Date.now() },
  );
}

test('both forms verify, with SCT, log entry and times; for another identity neither does, and both are shown', async () => {
  const old = await keylessSignature(sigstore, WHO, image, NAME);
  const bundle = await keylessBundle(sigstore, WHO, { digest: image, size: manifest.length });
  for (const [packed, tag, times] of [
    [old.image, old.tag, ['log']],
    [bundle, undefined, ['log', 'timestamp-authority']],
  ] as const) {
    const verified = (await judged(packed, tag, WHO)) as Verified;
    assert.equal(verified.kind, 'verified', JSON.stringify(verified));
    assert.ok(verified.by.kind === 'keyless');
    assert.equal(verified.by.subject, WHO.subject);
    assert.equal(verified.entries.length, 1);
    assert.deepEqual(
      verified.times.map(({ by }) => by),
      times,
    );
    const refused = await judged(packed, tag, OTHER);
    assert.ok(refused.kind === 'failed');
    assert.equal(refused.code, 'WRONG_IDENTITY');
    for (const { subject, issuer } of [WHO, OTHER])
      assert.ok(refused.message.includes(`"${subject}" (issuer "${issuer}")`), refused.message);
  }
});

type Json = Record<string, any>;
const parse = (bytes: Uint8Array): Json => JSON.parse(Buffer.from(bytes).toString());

/** The manifest of a real signature and its only layer. */
function cosigns(name: string, layerType: string): { manifest: Json; layer: Uint8Array } {
  const folder = join(vectors, caseOf(name).layout, 'blobs/sha256');
  for (const hex of readdirSync(folder)) {
    const bytes = readFileSync(join(folder, hex));
    const found = bytes[0] === 0x7b ? parse(bytes) : {};
    if (found['layers']?.[0]?.mediaType === layerType)
      return { manifest: found, layer: readFileSync(join(folder, found['layers'][0].digest.slice(7))) };
  }
  throw new Error(`${name} has no layer of ${layerType}`);
}

test('the bundle and its manifest are as cosign 3 writes them', async () => {
  const type = 'application/vnd.dev.sigstore.bundle.v0.3+json';
  const real = cosigns('v-bundle-keyless-tsa', type);
  const packed = await keylessBundle(sigstore, WHO, { digest: image, size: manifest.length });
  const ours = parse(packed.manifest);
  assert.deepEqual(shape(ours), shape(real.manifest));
  for (const key of ['mediaType', 'artifactType', 'schemaVersion']) assert.equal(ours[key], real.manifest[key]);
  const [bundle, theirs] = [parse(packed.blobs.get(ours['layers'][0].digest)!), parse(real.layer)];
  // The mock proves an entry in a tree of one leaf, which needs no hashes.
  const proof = (of: Json): Json => of['verificationMaterial'].tlogEntries[0].inclusionProof;
  assert.deepEqual(proof(bundle)['hashes'], []);
  proof(theirs)['hashes'] = [];
  assert.deepEqual(shape(bundle), shape(theirs));
  const body = (of: Json): Json =>
    parse(Buffer.from(of['verificationMaterial'].tlogEntries[0].canonicalizedBody, 'base64'));
  assert.deepEqual(shape(body(bundle)), shape(body(theirs)));
  const statement = (of: Json): Json => parse(Buffer.from(of['dsseEnvelope'].payload, 'base64'));
  assert.deepEqual(shape(statement(bundle)), shape(statement(theirs)));
  assert.equal(statement(bundle)['predicateType'], statement(theirs)['predicateType']);
});

test('the annotations of the older form are as cosign writes them', async () => {
  const real = cosigns('v-legacy3-keyless', 'application/vnd.dev.cosign.simplesigning.v1+json').manifest;
  const { image: packed } = await keylessSignature(sigstore, WHO, image, NAME);
  const notes = (of: Json): Json => of['layers'][0].annotations;
  const ours = notes(parse(packed.manifest));
  const theirs = notes(real);
  assert.deepEqual(Object.keys(ours).sort(), Object.keys(theirs).sort());
  const [entry, theirEntry] = [ours, theirs].map((of) => JSON.parse(of['dev.sigstore.cosign/bundle']) as Json);
  assert.deepEqual(shape(entry), shape(theirEntry));
  const body = (of: Json | undefined): Json => parse(Buffer.from(of!['Payload'].body, 'base64'));
  assert.deepEqual(shape(body(entry)), shape(body(theirEntry)));
});

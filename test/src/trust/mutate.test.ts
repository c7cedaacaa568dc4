/**
 * Whatever is changed in signed bytes, nothing verifies and nothing is thrown: inside the base64 of real signatures, and by cutting them.
 * Each byte of their texts: flip.test.ts.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromBase64, toBase64 } from '#src/bytes.ts';
import { digestOf } from '#src/digest.ts';
import { findSignatures } from '#src/source/signatures.ts';
import { bundleFile } from '#src/trust/bundle.ts';
import { readAttestationLayer, readSignatureLayer } from '#src/trust/cosign.ts';
import { orFailed, type SignedEntity } from '#src/trust/material.ts';
import { verifySignature, type Verified } from '#src/trust/verify.ts';
import { deep } from '#test/depth.ts';
import { blobsOf, caseOf, circumstances, layoutOf, requirementOf, type Case } from './cases.ts';
import { memoryLayout } from './places.ts';

/** A judgement with certificates takes milliseconds: of those every fifth byte, of the others each; fewer unless in depth (test/depth.ts). */
const stepOf = ({ check }: Case): number => (check.key === undefined ? deep(5, 43) : deep(1, 11));

const BUNDLES = ['v-bundle-keyless-tsa', 'v-bundle-keyless-rekor2', 'v-bundle-key-rekor', 'v-bundle-ed25519-pure'];
const LAYERS = ['v-legacy3-keyless', 'v-legacy2-key-rekor', 'v-legacy2-attest-rekor', 'v-legacy2-key-rsa2048'];

async function entityOf(vector: Case): Promise<SignedEntity> {
  const { found } = await findSignatures({ image: vector.digest, repositories: [layoutOf(vector)] });
  assert.equal(found.length, 1);
  return found[0]!;
}

const judgeWith = (vector: Case, entity: SignedEntity) =>
  verifySignature(entity, requirementOf(vector.check), circumstances({ digest: vector.digest }));

/** The same content with one bit of one byte changed; another bit at each place. */
const flipped = (bytes: Uint8Array, at: number): Uint8Array =>
  bytes.map((byte, index) => (index === at ? byte ^ (1 << (at % 8)) : byte));

type Path = readonly (string | number)[];
type Json = { [key: string]: Json } & Json[] & string;
const at = (json: Json, path: Path): Json => path.reduce<Json>((value, key) => value[key as number]!, json);

/** Everything in a bundle that a signature, a proof or a promise covers. */
const COVERED: readonly Path[] = [
  ['dsseEnvelope', 'payload'],
  ['dsseEnvelope', 'signatures', 0, 'sig'],
  ['verificationMaterial', 'certificate', 'rawBytes'],
  ['verificationMaterial', 'tlogEntries', 0, 'canonicalizedBody'],
  ['verificationMaterial', 'tlogEntries', 0, 'logId', 'keyId'],
  ['verificationMaterial', 'tlogEntries', 0, 'inclusionPromise', 'signedEntryTimestamp'],
  ['verificationMaterial', 'tlogEntries', 0, 'inclusionProof', 'rootHash'],
  ['verificationMaterial', 'tlogEntries', 0, 'inclusionProof', 'hashes', 0],
];

for (const name of BUNDLES)
  test(`${name}: no bit of what is signed, proven or promised can change`, async () => {
    const vector = caseOf(name);
    const { raw } = await entityOf(vector);
    const text = new TextDecoder().decode(raw.blob);
    assert.equal(judgeWith(vector, bundleFile(raw.blob, name)).kind, 'verified');
    let changed = 0;
    for (const path of COVERED) {
      const json = JSON.parse(text) as Json;
      let value: Json | undefined;
      try {
        value = at(json, path);
      } catch {
        continue; // this bundle has no such part
      }
      if (value === undefined) continue;
      const bytes = fromBase64(value);
      for (let i = 0; i < bytes.length; i += stepOf(vector)) {
        (at(json, path.slice(0, -1)) as Record<string | number, unknown>)[path.at(-1)!] = toBase64(flipped(bytes, i));
        const outcome = judgeWith(vector, bundleFile(new TextEncoder().encode(JSON.stringify(json)), name));
        assert.equal(outcome.kind, 'failed', `${path.join('.')} byte ${i}`);
        changed++;
      }
    }
    assert.ok(changed > deep(100, 12), String(changed));
  });

/** Nothing is claimed that was not before. A promise or stamp can be taken away by whoever holds the bundle; then less is proven. */
function claimsNoMore(after: Verified, before: Verified): void {
  const rest = ({ place: _p, entries: _e, times: _t, ...more }: Verified) => more;
  assert.deepEqual(rest(after), rest(before));
  assert.ok(after.times.every(({ at, by }) => before.times.some((time) => time.at === at && time.by === by)));
  assert.ok(after.entries.length <= before.entries.length);
  assert.ok(after.entries.every(({ logId, log }) => before.entries.some((e) => e.logId === logId && e.log === log)));
}

for (const name of BUNDLES)
  test(`${name}: a bundle that is cut anywhere is refused`, async () => {
    const vector = caseOf(name);
    const { raw } = await entityOf(vector);
    for (let i = 0; i < raw.blob.length; i += deep(3, 17))
      assert.equal(judgeWith(vector, bundleFile(raw.blob.subarray(0, i), name)).kind, 'failed');
  });

for (const name of LAYERS)
  test(`${name}: no bit of payload or annotations can change what is proven`, async () => {
    const vector = caseOf(name);
    const entity = await entityOf(vector);
    const manifest = JSON.parse(new TextDecoder().decode(entity.raw.manifest)) as {
      layers: { annotations: Record<string, string> }[];
    };
    const annotations = new Map(Object.entries(manifest.layers[0]!.annotations));
    const read = entity.format === 'cosign-attestation' ? readAttestationLayer : readSignatureLayer;
    const outcomeOf = (blob: Uint8Array, notes: ReadonlyMap<string, string>) =>
      judgeWith(vector, { ...entity, content: orFailed('test', () => read(blob, notes)) });
    const before = outcomeOf(entity.raw.blob, annotations);
    assert.ok(before.kind === 'verified');
    for (let i = 0; i < entity.raw.blob.length; i += deep(1, 3)) {
      const outcome = outcomeOf(flipped(entity.raw.blob, i), annotations);
      if (outcome.kind === 'verified') {
        assert.equal(entity.format, 'cosign-attestation', `byte ${i}`); // an envelope's keyid is nobody's
        claimsNoMore(outcome, before);
      }
      assert.equal(outcomeOf(entity.raw.blob.subarray(0, i), annotations).kind, 'failed');
    }
    for (const [key, value] of annotations) {
      const bytes = new TextEncoder().encode(value);
      for (let i = 0; i < bytes.length; i += 2 * stepOf(vector)) {
        const text = new TextDecoder('latin1').decode(flipped(bytes, i));
        const outcome = outcomeOf(entity.raw.blob, new Map([...annotations, [key, text]]));
        if (outcome.kind === 'verified') claimsNoMore(outcome, before);
      }
    }
  });

test('a blob that was cut or changed on its way is never read as a signature', async () => {
  for (const name of ['v-bundle-key-p256', 'v-legacy3-key-p256', 'v-index-legacy']) {
    const vector = caseOf(name);
    const { blobs, tags } = blobsOf(vector);
    for (const [digest, bytes] of blobs) {
      if (digest === vector.digest || bytes.length > 4096) continue;
      for (const changed of [
        bytes.subarray(0, bytes.length >> 1),
        new Uint8Array(),
        flipped(bytes, bytes.length >> 1),
      ]) {
        const repository = memoryLayout({ blobs: new Map([...blobs, [digest, changed]]), tags });
        const { found } = await findSignatures({ image: vector.digest, repositories: [repository] });
        for (const entity of found) {
          const verified = judgeWith(vector, entity).kind === 'verified';
          // The configuration is no part of a signature; everything else is.
          if (verified) assert.ok(![entity.raw.blob, entity.raw.manifest!].some((b) => digestOf(b) === digest));
        }
      }
    }
  }
});

/** What the demo signs has the shape that cosign gave its own signatures, and counts as one of them. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { makeKey, signatureImage, signatureOf } from '#demo/sign.ts';
import { caseOf, vectors } from '#test/src/trust/cases.ts';
import { shape } from './shape.ts';

type Json = Record<string, any>;

test('the manifest, its configuration and the payload are as cosign 2 writes them', () => {
  const { layout, digest } = caseOf('v-legacy2-key-p256');
  const folder = join(vectors, layout, 'blobs/sha256');
  const blobs = new Map(readdirSync(folder).map((hex) => [`sha256:${hex}`, readFileSync(join(folder, hex))]));
  const parse = (bytes: Uint8Array): Json => JSON.parse(Buffer.from(bytes).toString());
  const cosigns = [...blobs.values()]
    .filter((bytes) => bytes[0] === 0x7b)
    .map(parse)
    .find((json) => json['layers']?.[0]?.mediaType === 'application/vnd.dev.cosign.simplesigning.v1+json')!;
  const { image, tag } = signatureImage(digest, [
    signatureOf(digest, 'localhost:5001/acme/v-legacy2-key-p256', makeKey()),
  ]);
  const ours = parse(image.manifest);
  assert.equal(tag, `sha256-${digest.slice('sha256:'.length)}.sig`);
  assert.deepEqual(shape(ours), shape(cosigns));
  for (const key of ['mediaType', 'schemaVersion']) assert.equal(ours[key], cosigns[key]);
  assert.equal(ours['config'].mediaType, cosigns['config'].mediaType);
  const config = (of: Json, all: ReadonlyMap<string, Uint8Array>) => shape(parse(all.get(of['config'].digest)!));
  assert.deepEqual(config(ours, image.blobs), config(cosigns, blobs));
  const payload = (of: Json, all: ReadonlyMap<string, Uint8Array>) => parse(all.get(of['layers'][0].digest)!);
  assert.deepEqual(payload(ours, image.blobs), payload(cosigns, blobs));
});

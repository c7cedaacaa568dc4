/** Bundles that are refused as such: each field that decides something, misspelled, doubled or without end. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { readBundle } from '#src/trust/bundle.ts';
import { TrustError } from '#src/trust/material.ts';
import { strictObject } from '#src/trust/strictjson.ts';
import { bundleFile } from '#src/trust/bundle.ts';
import { verifySignature } from '#src/trust/verify.ts';
import { blobsOf, caseOf, circumstances, requirementOf } from './cases.ts';
import { throwsCode } from '#test/throws.ts';

const good = readFileSync(
  join(import.meta.dirname, '../../vectors/conformance/sigstore/bundle-verify/happy-path-v0.3/bundle.sigstore.json'),
  'utf8',
);
type Json = Record<string, Record<string, unknown>>;
const changed = (change: (json: Json) => void): Uint8Array => {
  const json = JSON.parse(good) as Json;
  change(json);
  return new TextEncoder().encode(JSON.stringify(json));
};
const entry = (json: Json): Record<string, unknown> =>
  (json['verificationMaterial']!['tlogEntries'] as Record<string, unknown>[])[0]!;

test('the bundle that the others are made of is read', () => {
  assert.equal(readBundle(new TextEncoder().encode(good)).entries.length, 1);
});

const refused: readonly (readonly [string, Uint8Array, 'MALFORMED' | 'TOO_MANY' | 'UNSUPPORTED_ALGORITHM'])[] = [
  [
    'a version to come',
    changed((b) => (b['mediaType'] = 'application/vnd.dev.sigstore.bundle.v0.4+json' as never)),
    'MALFORMED',
  ],
  [
    'a version with a tail',
    changed((b) => (b['mediaType'] = 'application/vnd.dev.sigstore.bundle.v0.3+json2' as never)),
    'MALFORMED',
  ],
  ['no material', changed((b) => delete b['verificationMaterial']), 'MALFORMED'],
  ['two signers', changed((b) => (b['verificationMaterial']!['publicKey'] = { hint: '' })), 'MALFORMED'],
  ['no content', changed((b) => delete b['messageSignature']), 'MALFORMED'],
  [
    'two contents',
    changed((b) => (b['dsseEnvelope'] = { payload: 'AA==', payloadType: 'x', signatures: [{ sig: 'AA==' }] })),
    'MALFORMED',
  ],
  [
    'a digest that is not taken',
    changed((b) => (b['messageSignature']!['messageDigest'] = { algorithm: 'SHA3_256', digest: 'AAAA' })),
    'UNSUPPORTED_ALGORITHM',
  ],
  ['a signature in base64url', changed((b) => (b['messageSignature']!['signature'] = '_-8=')), 'MALFORMED'],
  ['a signature with a new line', changed((b) => (b['messageSignature']!['signature'] += '\n')), 'MALFORMED'],
  [
    'a proof without checkpoint',
    changed((b) => delete (entry(b)['inclusionProof'] as Json)['checkpoint']),
    'MALFORMED',
  ],
  ['an index of text', changed((b) => (entry(b)['logIndex'] = '0x1')), 'MALFORMED'],
  ['a fraction of an index', changed((b) => (entry(b)['logIndex'] = 1.5)), 'MALFORMED'],
  [
    'entries without end',
    changed((b) => (b['verificationMaterial']!['tlogEntries'] = Array.from({ length: 33 }, () => entry(b)))),
    'TOO_MANY',
  ],
  [
    'stamps without end',
    changed(
      (b) =>
        (b['verificationMaterial']!['timestampVerificationData'] = {
          rfc3161Timestamps: Array.from({ length: 33 }, () => ({ signedTimestamp: 'AAAA' })),
        }),
    ),
    'TOO_MANY',
  ],
  [
    'a certificate without end',
    changed((b) => (b['verificationMaterial']!['certificate'] = { rawBytes: 'A'.repeat(200_000) })),
    'TOO_MANY',
  ],
  ['a key that stands twice', new TextEncoder().encode(good.replace('{', '{"mediaType":"x",')), 'MALFORMED'],
];
for (const [name, bytes, code] of refused)
  test(`refuses ${name}`, () => throwsCode(() => readBundle(bytes), TrustError, code));

test('sigstore-js #1702: one log entry twice is not two', () => {
  const vector = caseOf('v-bundle-key-rekor');
  const text = [...blobsOf(vector).blobs.values()]
    .map((bytes) => new TextDecoder().decode(bytes))
    .find((blob) => blob.includes('dsseEnvelope'))!;
  const json = JSON.parse(text) as { verificationMaterial: { tlogEntries: unknown[] } };
  const judge = () =>
    verifySignature(
      bundleFile(new TextEncoder().encode(JSON.stringify(json)), 'test'),
      requirementOf(vector.check),
      circumstances({ digest: vector.digest }),
    );
  assert.equal(judge().kind, 'verified');
  json.verificationMaterial.tlogEntries.push(json.verificationMaterial.tlogEntries[0]);
  const twice = judge();
  assert.ok(twice.kind === 'failed');
  assert.match(twice.message, /duplicate/);
});

test('signed JSON has one reading', () => {
  const table = [
    ['{"a":1,"b":{"a":1},"c":[{"a":1},{"a":2}]}', true],
    ['{"a":"{\\"a\\":1,\\"a\\":2}"}', true],
    ['{"a":1,"\\u0061":2}', false],
    ['{"a":[{"b":1},{"c":1,"c":2}]}', false],
    ['{"a":{},"a":{}}', false],
    ['{"x":{"a":[],"a":[]}}', false],
    ['{"a"   \n\n\n\n\n                                                                       :1,"a":2}', false],
    ['{"a":1}{"a":2}', false],
    ['[{"a":1}]', false],
    ['\ufeff{}', false],
    ['', false],
  ] as const;
  for (const [text, fine] of table)
    if (fine) assert.deepEqual(strictObject(text, 'x'), JSON.parse(text));
    else throwsCode(() => strictObject(text, 'x'), TrustError, 'MALFORMED');
  throwsCode(
    () => strictObject(new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), 'x'),
    TrustError,
    'MALFORMED',
  );
  throwsCode(() => strictObject(`{"a":${'['.repeat(200)}${']'.repeat(200)}}`, 'x'), TrustError, 'MALFORMED');
});

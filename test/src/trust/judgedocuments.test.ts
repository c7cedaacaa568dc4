import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseImagePolicy } from '#src/trust/imagepolicy.ts';
import { judgeImage } from '#src/trust/judge.ts';
import type { ImageJudgement } from '#src/trust/judgement.ts';
import { readTrustRoot } from '#src/trust/trustroot.ts';
import { caseOf, pem, ROOTS, vectors } from './cases.ts';
import { indent, policy, keyless, read, evidenceOf, terms, judge, IDENTITY } from './policies.ts';

// Roots.
test('a root that a document brings counts under its name, and never in the place of an imported one', async () => {
  const trustRoot =
    'apiVersion: policy.sigstore.dev/v1alpha1\nkind: TrustRoot\nmetadata: {name: test}\nspec:\n  remote: {mirror: "https://tuf.example", root: e30=}\n';
  const documents = read(
    trustRoot,
    policy('a', keyless(IDENTITY.subject, IDENTITY.issuer, '      ctlog: {trustRootRef: test}\n')),
  );
  assert.equal((await judge('v-bundle-keyless', documents)).state, 'trusted');
  const without = await judge('v-bundle-keyless', documents, { roots: new Map() });
  assert.deepEqual([without.state, without.code], ['unverifiable', 'NO_TRUST_ROOT']);
  assert.match(without.reason ?? '', /spec\.remote: nothing is fetched because a document says so/);
  const other = readTrustRoot('test', readFileSync(join(vectors, 'trust/other-instance.trusted_root.json')));
  const brought = { ...documents, trustRoots: [other] };
  assert.equal((await judge('v-bundle-keyless', brought)).state, 'trusted');
  assert.equal((await judge('v-bundle-keyless', brought, { roots: new Map() })).state, 'rejected');
});

test('certificates, log and stamps may be of different roots, each for what it is named for', async () => {
  const both = '      ctlog: {trustRootRef: LOG}\n      rfc3161timestamp: {trustRootRef: STAMP}\n';
  const other = readTrustRoot('other', readFileSync(join(vectors, 'trust/other-instance.trusted_root.json')));
  const again = readTrustRoot('again', readFileSync(join(vectors, 'trust/trusted_root.json')));
  const roots = new Map([...ROOTS, ['other', other], ['again', again]]);
  const judged = async (log: string, stamp: string, certificates = 'test') => {
    const text = policy(
      'a',
      keyless(IDENTITY.subject, IDENTITY.issuer, both.replace('LOG', log).replace('STAMP', stamp)),
    );
    return judge('v-bundle-keyless-tsa', read(text.replace('trustRootRef: test', `trustRootRef: ${certificates}`)), {
      roots,
    });
  };
  const good = await judged('again', 'again');
  assert.equal(good.state, 'trusted', good.reason ?? '');
  assert.deepEqual(
    good.proofs[0]?.verified.roots.map(({ name }) => name),
    ['test', 'again'],
  );
  assert.equal((await judged('other', 'again')).code, 'UNKNOWN_LOG');
  assert.equal((await judged('again', 'other')).code, 'BROKEN_TIMESTAMP');
  assert.equal((await judged('again', 'again', 'other')).state, 'rejected');
  assert.equal((await judged('again', 'nowhere')).code, 'NO_TRUST_ROOT');
});

// Real documents of policy-controller over real images.
const e2e = (file: string) =>
  readFileSync(join(import.meta.dirname, '../../vectors/conformance/clusterimagepolicy/e2e', file), 'utf8');
const DEMO = 'registry.local:5000/policy-controller/demo';
const real: readonly (readonly [
  file: string,
  image: string,
  reference: string,
  state: ImageJudgement['state'],
  code: ImageJudgement['code'],
])[] = [
  ['cip-static-pass.yaml', 'n-unsigned', DEMO, 'trusted', undefined],
  ['cip-static-fail.yaml', 'n-unsigned', DEMO, 'rejected', 'STATIC_FAIL'],
  ['cip-static-fail.yaml', 'n-unsigned', 'registry.local:5000/policy-controller/other', 'unsigned', 'NO_POLICY'],
  ['cip-key-no-rekor.yaml', 'n-unsigned', DEMO, 'unsigned', 'NO_SIGNATURE'],
  ['cip-key-no-rekor.yaml', 'v-bundle-key-p256', DEMO, 'rejected', 'WRONG_KEY'],
  ['cip-key-secret.yaml', 'v-bundle-key-p256', DEMO, 'unverifiable', 'UNSUPPORTED_POLICY'],
  ['cip-keyless.yaml', 'v-bundle-keyless', DEMO, 'unverifiable', 'NO_TRUST_ROOT'],
  ['cip-keyless-warn.yaml', 'n-unsigned', DEMO, 'not-assessed', 'NO_SIGNATURE'],
  ['cip-keyless-with-attestations-rego.yaml', 'n-unsigned', DEMO, 'unsigned', 'NO_SIGNATURE'],
  [
    'cip-config-file-policy.yaml',
    'n-unsigned',
    'ghcr.io/sigstore/timestamp-server',
    'unverifiable',
    'UNSUPPORTED_POLICY',
  ],
  ['cip-policy-from-url.yaml', 'n-unsigned', 'ghcr.io/sigstore/timestamp-server', 'unverifiable', 'UNSUPPORTED_POLICY'],
  ['cip-key-hash-algorithm.yaml', 'n-unsigned', 'quay.io/jetstack/cert-manager-acmesolver', 'unsigned', 'NO_POLICY'],
  ['cip-match-resource-label.yaml', 'n-unsigned', DEMO, 'unsigned', 'NO_SIGNATURE'],
];
for (const [file, image, reference, state, code] of real)
  test(`${file} over ${image} as ${reference}: ${state}`, async () => {
    const evidence = await evidenceOf(caseOf(image));
    const named = { ...evidence, image: { digest: evidence.image.digest, references: [reference] } };
    const judged = judgeImage(named, terms(parseImagePolicy([{ file, text: e2e(file) }])));
    assert.deepEqual([judged.state, judged.code], [state, code], judged.reason ?? '');
  });

/** The documents as they are, with the keys, roots and identities of our instance. */
const adapted = (file: string, key: string) =>
  e2e(file)
    .replaceAll(/^ *-----BEGIN PUBLIC KEY-----[^]*?-----END PUBLIC KEY-----/gm, (block) =>
      indent(pem(key), /^ */.exec(block)![0].length),
    )
    .replaceAll(/url: http:\/\/rekor\S*/g, 'trustRootRef: test')
    .replaceAll(/url: http:\/\/fulcio\S*/g, 'trustRootRef: test')
    .replaceAll('my-sigstore-keys', 'test')
    .replaceAll(/issuerRegExp: .*/g, `issuer: "${IDENTITY.issuer}"`)
    .replaceAll(/subjectRegExp: .*/g, `subject: "${IDENTITY.subject}"`);
const shapes: readonly (readonly [
  file: string,
  image: string,
  key: string,
  state: ImageJudgement['state'],
  code: ImageJudgement['code'],
])[] = [
  ['cip-key-no-rekor.yaml', 'v-bundle-key-p256', 'keys/p256.pub', 'trusted', undefined],
  ['cip-key.yaml', 'v-bundle-key-rekor', 'keys/p256.pub', 'trusted', undefined],
  ['cip-key.yaml', 'v-legacy2-key-rekor', 'keys/p256.pub', 'trusted', undefined],
  ['cip-key.yaml', 'v-bundle-key-p256', 'keys/p256.pub', 'rejected', 'NO_LOG_ENTRY'],
  ['cip-key-tsa.yaml', 'v-bundle-key-rekor-tsa', 'keys/p256.pub', 'trusted', undefined],
  ['cip-keyless.yaml', 'v-bundle-keyless', 'keys/p256.pub', 'trusted', undefined],
  ['cip-keyless.yaml', 'v-legacy3-keyless', 'keys/p256.pub', 'trusted', undefined],
  ['cip-keyless-with-identities.yaml', 'n-keyless-wrong-identity', 'keys/p256.pub', 'rejected', 'WRONG_IDENTITY'],
  ['cip-keyless-with-source.yaml', 'v-bundle-keyless', 'keys/p256.pub', 'trusted', undefined],
  ['cip-key-and-keyless.yaml', 'v-bundle-key-rekor', 'keys/p256.pub', 'trusted', undefined],
  ['cip-key-and-keyless.yaml', 'v-bundle-keyless-tsa', 'keys/other.pub', 'trusted', undefined],
  ['cip-keyless-warn.yaml', 'n-keyless-wrong-identity', 'keys/p256.pub', 'not-assessed', 'WRONG_IDENTITY'],
  ['cip-keyless-with-attestations.yaml', 'v-attest-keyless', 'keys/p256.pub', 'unsigned', 'NO_SIGNATURE'],
  [
    'cip-key-with-attestations-no-rekor.yaml',
    'n-attest-only-custom',
    'keys/p256.pub',
    'unverifiable',
    'UNSUPPORTED_POLICY',
  ],
  [
    'cip-requires-two-signatures-and-two-attestations.yaml',
    'v-bundle-keyless',
    'keys/p256.pub',
    'unverifiable',
    'UNSUPPORTED_POLICY',
  ],
];
for (const [file, image, key, state, code] of shapes)
  test(`the shape of ${file} over ${image}: ${state}`, async () => {
    const evidence = await evidenceOf(caseOf(image));
    const judged = judgeImage(
      { ...evidence, image: { ...evidence.image, references: [...(evidence.image.references ?? []), DEMO] } },
      terms(parseImagePolicy([{ file, text: adapted(file, key) }])),
    );
    assert.deepEqual([judged.state, judged.code], [state, code], judged.reason ?? '');
  });

/** Signatures that the real cosign 2, cosign 3 and containers/image made (test/vectors/sigstore), each found in three kinds of places. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { hostPolicy } from '#src/trust/hostpolicy.ts';
import { blobsOf, cases, codesOf, judge, layoutOf, vectors, verifiedOf, type Case, type Judged } from './cases.ts';
import { closeHttp, registryOf, registryWithApi, registryWithTags, type Held } from './places.ts';

test.after(() => closeHttp());

/** Why each case that must be refused is: by this code, so that none is refused for another reason than its own. */
const REASONS: Record<string, readonly string[]> = {
  'u-bundle-key-p384-as-sha256': ['WRONG_HASH'],
  'n-unsigned': [],
  'n-wrong-key': ['WRONG_KEY'],
  'n-sig-of-other-digest': ['WRONG_DIGEST'],
  'n-bundle-of-other-digest': ['WRONG_DIGEST'],
  'n-payload-tampered': ['WRONG_KEY'],
  'n-bundle-sig-flipped': ['BAD_SIGNATURE'],
  'n-bundle-ed25519-sig-flipped': ['BAD_SIGNATURE'],
  'n-bundle-payload-swapped': ['BAD_SIGNATURE'],
  'n-bundle-payloadtype-relabelled': ['BAD_SIGNATURE'],
  'n-bundle-two-signatures': ['MALFORMED'],
  'n-statement-empty-subject': ['MALFORMED'],
  'n-statement-null-subject': ['MALFORMED'],
  'n-statement-not-json': ['MALFORMED'],
  'n-bundle-malformed': ['MALFORMED'],
  'n-bundle-rekor-entry-other': ['LOG_ENTRY_MISMATCH'],
  'n-rekor-entry-swapped': ['LOG_ENTRY_MISMATCH'],
  'n-rekor-set-garbage': ['BROKEN_INCLUSION'],
  'n-rekor-unknown-log': ['UNKNOWN_LOG'],
  'n-tlog-missing': ['NO_LOG_ENTRY'],
  'n-keyless-wrong-identity': ['WRONG_IDENTITY'],
  'n-keyless-wrong-issuer': ['WRONG_ISSUER'],
  'n-keyless-time-outside-cert': ['OUTSIDE_VALIDITY'],
  'n-keyless-no-sct': ['NO_SCT'],
  'n-keyless-eku-serverauth': ['CERTIFICATE_USAGE'],
  'n-bundle-rekor2-no-timestamp': ['NO_TIMESTAMP'],
  'n-attest-only-custom': ['WRONG_PREDICATE'],
  'n-index-platform-manifest': [],
  's-attestation-as-signature': ['WRONG_KIND'],
  's-statement-wrong-type': ['MALFORMED'],
  's-payload-wrong-type': ['MALFORMED'],
  's-identity-other-repo': ['WRONG_REFERENCE'],
};

function holds(vector: Case, judged: Judged): void {
  // What says "verify or unsupported" verifies here: the algorithms are in our table.
  if (vector.expect === 'reject') {
    assert.deepEqual(verifiedOf(judged), []);
    assert.deepEqual(codesOf(judged), REASONS[vector.name]);
  } else assert.ok(verifiedOf(judged).length > 0, JSON.stringify(judged.outcomes));
  assert.ok(judged.found.complete, JSON.stringify(judged.found.looked));
}

/** `cosign save` names the image's signatures by a mark in index.json; `cosign load` gives them their tag back. */
function held(vector: Case): Held {
  const { blobs, tags } = blobsOf(vector);
  const index = JSON.parse(readFileSync(join(vectors, vector.layout, 'index.json'), 'utf8')) as {
    manifests: { digest: string; annotations?: Record<string, string> }[];
  };
  const saved = index.manifests.find(({ annotations }) => annotations?.['kind'] === 'dev.cosignproject.cosign/sigs');
  if (saved !== undefined) tags[`${vector.digest.replace(':', '-')}.sig`] = saved.digest;
  return { blobs, tags };
}

test('every case is here', () => assert.ok(cases.length >= 68 && Object.keys(REASONS).length >= 32));

for (const vector of cases) {
  test(`${vector.name}, in its layout: ${vector.expect}`, async () => {
    holds(vector, await judge(vector, layoutOf(vector)));
  });
  test(`${vector.name}, in a registry with the referrers API: ${vector.expect}`, async () => {
    await using registry = await registryWithApi(held(vector));
    holds(vector, await judge(vector, registryOf(registry)));
  });
  test(`${vector.name}, in a registry without it: ${vector.expect}`, async () => {
    await using registry = await registryWithTags(held(vector), [vector.digest]);
    holds(vector, await judge(vector, registryOf(registry)));
  });
}

test('the proof of a keyless signature names identity, certificate, log entry and times', async () => {
  const vector = cases.find(({ name }) => name === 'v-bundle-keyless-tsa')!;
  const [verified] = verifiedOf(await judge(vector, layoutOf(vector)));
  assert.ok(verified?.by.kind === 'keyless');
  assert.equal(verified.by.issuer, 'https://token.actions.githubusercontent.com');
  assert.equal(verified.by.subject, 'https://github.com/acme/os/.github/workflows/build.yml@refs/heads/main');
  assert.equal(verified.signs, vector.digest);
  assert.equal(verified.predicateType, 'https://sigstore.dev/cosign/sign/v1');
  assert.deepEqual(
    verified.entries.map(({ log, at }) => [log, at !== undefined]),
    [['https://rekor.test.invalid', true]],
  );
  assert.deepEqual(
    verified.times.map(({ by }) => by),
    ['log', 'timestamp-authority'],
  );
  assert.deepEqual(
    verified.roots.map(({ name }) => name),
    ['test'],
  );
});

// What containers/image 5.42 said of the same images under policy.json with the key (the vectors' own proof) is what `hostPolicy` must say.
for (const vector of cases) {
  const proof = vector.proof?.['containers/image 5.42.0'] as Record<string, string> | undefined;
  if (proof === undefined) continue;
  const verdict = async () => {
    const { found, outcomes } = await judge(vector, layoutOf(vector));
    const isIndex = vector.name.startsWith('v-index');
    return hostPolicy(found.found, { digest: vector.digest, isIndex }, () => true, outcomes);
  };
  const { matchRepository, 'default-identity': byDefault } = proof;
  if (matchRepository !== undefined)
    test(`${vector.name}: what a host says with matchRepository is foretold`, async () => {
      const policy = await verdict();
      assert.equal(policy.readable, matchRepository === 'OK', policy.code);
    });
  if (byDefault !== undefined)
    test(`${vector.name}: what a host says by default is foretold`, async () => {
      const policy = await verdict();
      assert.equal(policy.code === 'READABLE', byDefault === 'OK', policy.code);
    });
}

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findSignatures } from '#src/source/signatures.ts';
import { parseImagePolicy } from '#src/trust/imagepolicy.ts';
import { judgeImage, policiesFor, type ImageEvidence, type ImageTerms } from '#src/trust/judge.ts';
import { blobsOf, caseOf, layoutOf } from './cases.ts';
import {
  KEY,
  OTHER,
  P384,
  IMAGE,
  SLSA1,
  policy,
  byKey,
  attested,
  keyless,
  STATIC_PASS,
  STATIC_FAIL,
  KMS,
  read,
  evidenceOf,
  terms,
  judge,
  IDENTITY,
  SIGNED,
} from './policies.ts';

test('without image policies nothing is assessed', async () => {
  const judged = await judge(SIGNED, parseImagePolicy([]));
  assert.deepEqual([judged.state, judged.code], ['not-assessed', 'NO_POLICY']);
});

for (const [noMatch, state, by] of [
  ['unsigned', 'unsigned', undefined],
  ['allow', 'trusted', 'nobody (noMatch: allow)'],
  ['not-assessed', 'not-assessed', undefined],
] as const)
  test(`an image that no policy is about is ${state} where noMatch is ${noMatch}`, async () => {
    const images = `format: bootproof.images/1\nnoMatch: ${noMatch}\n`;
    const judged = await judge(SIGNED, read(policy('a', byKey(KEY), '', 'quay.io/**'), images));
    assert.deepEqual([judged.state, judged.by, judged.proofs], [state, by, []]);
  });

test('a policy document without authorities, were it read, would let nothing through', async () => {
  const [only] = read(policy('a', byKey(KEY))).policies;
  const empty = { ...read(policy('a', byKey(KEY))), policies: [{ ...only!, authorities: [] }] };
  assert.equal((await judge(SIGNED, empty)).state, 'unsigned');
});

test('what is trusted says by whom, under which policies, and keeps the bytes that prove it', async () => {
  const judged = await judge(
    'v-bundle-keyless',
    read(
      policy('b', keyless(IDENTITY.subject, IDENTITY.issuer, '      ctlog: {trustRootRef: test}\n')),
      policy('a', STATIC_PASS),
    ),
  );
  assert.equal(judged.by, `${IDENTITY.subject} (${IDENTITY.issuer})`);
  assert.equal(judged.policy, 'a, b');
  const [proof, ...others] = judged.proofs;
  assert.equal(others.length, 0);
  assert.ok(proof!.entity.raw.blob.length > 0);
  assert.equal(proof!.verified.entries.length, 1);
});

test('each authority says what was found and the first reason why it is not satisfied', async () => {
  const judged = await judge('v-legacy-good-among-bad', read(policy('a', byKey(P384) + byKey(KEY))));
  const [first, second] = judged.policies[0]!.authorities;
  assert.deepEqual([first!.state, first!.code, first!.checked.length], ['failed', 'WRONG_KEY', 3]);
  assert.deepEqual([second!.state, second!.code, second!.proofs.length], ['passed', undefined, 1]);
  assert.deepEqual(
    judged.checked.map(({ outcome, code }) => [outcome, code]),
    [
      ['failed', 'WRONG_KEY'],
      ['failed', 'MALFORMED'],
      ['verified', undefined],
    ],
  );
});

test('warnings tell what a policy that only warns would have refused', async () => {
  const judged = await judge(
    SIGNED,
    read(policy('a', byKey(OTHER), '  mode: warn\n'), policy('b', KMS, '  mode: warn\n'), policy('c', byKey(KEY))),
  );
  assert.equal(judged.state, 'trusted');
  assert.equal(judged.policy, 'c');
  assert.deepEqual(
    judged.warnings.map(({ policy: name, code }) => [name, code]),
    [
      ['a', 'WRONG_KEY'],
      ['b', 'UNSUPPORTED_POLICY'],
    ],
  );
});

const UNREAD = [{ where: 'docker://ghcr.io/acme/os: referrers', reason: 'status 503' }];
for (const [name, image, key, state, code] of [
  ['nothing found elsewhere', 'n-unsigned', KEY, 'unverifiable', 'NOT_READ'],
  ['a signature by another elsewhere', SIGNED, OTHER, 'unverifiable', 'NOT_READ'],
  ['the signature found elsewhere', SIGNED, KEY, 'trusted', undefined],
] as const)
  test(`a place that does not answer, ${name}: ${state}`, async () => {
    const evidence = await evidenceOf(caseOf(image), { unread: UNREAD });
    const judged = judgeImage(evidence, terms(read(policy('a', byKey(key)))));
    assert.deepEqual([judged.state, judged.code], [state, code]);
  });

const CUT = [{ where: 'docker://ghcr.io/acme/os: referrers', reason: 'TOO_MANY: more than are looked at', cut: true }];
for (const [name, image, key, unread, state, code] of [
  ['none among those looked at', 'n-unsigned', KEY, CUT, 'unverifiable', 'TOO_MANY'],
  ['by another among those looked at', SIGNED, OTHER, CUT, 'unverifiable', 'TOO_MANY'],
  ['and the signature among those looked at', SIGNED, KEY, CUT, 'trusted', undefined],
  ['and another place that does not answer', 'n-unsigned', KEY, [...CUT, ...UNREAD], 'unverifiable', 'NOT_READ'],
] as const)
  test(`a place with more than is looked at, ${name}: ${state}`, async () => {
    const evidence = await evidenceOf(caseOf(image), { unread });
    const judged = judgeImage(evidence, terms(read(policy('a', byKey(key)))));
    assert.deepEqual([judged.state, judged.code], [state, code]);
  });

test('signatures nobody here can read do not turn a refusal into "could not tell"', async () => {
  const evidence = await evidenceOf(caseOf('v-legacy-good-among-bad'));
  const outcome = (code: 'TOO_MANY' | 'WRONG_KEY') => ({ kind: 'failed', code, message: code }) as const;
  const [first] = evidence.entities;
  const judgedBy = (verify: NonNullable<ImageTerms['verify']>) =>
    judgeImage(evidence, terms(read(policy('a', byKey(KEY))), { verify })).state;
  assert.equal(
    judgedBy((entity) => outcome(entity === first ? 'WRONG_KEY' : 'TOO_MANY')),
    'rejected',
  );
  assert.equal(
    judgedBy(() => outcome('TOO_MANY')),
    'unverifiable',
  );
});

test('the same requirement is verified once, however many policies have it', async () => {
  let calls = 0;
  const evidence = await evidenceOf(caseOf(SIGNED));
  const documents = Array.from({ length: 20 }, (_, i) => policy(`p${i}`, byKey(KEY)));
  const count: NonNullable<ImageTerms['verify']> = () => {
    calls++;
    return { kind: 'failed', code: 'WRONG_KEY', message: '' };
  };
  judgeImage(evidence, terms(read(...documents), { verify: count }));
  assert.equal(calls, evidence.entities.length);
});

// Indexes: what is signed is the list, and its bytes are kept.
test('a member of a signed index is trusted with the bytes of the index, and not without', async () => {
  const index = caseOf('v-index-bundle');
  const { blobs } = blobsOf(index);
  const bytes = blobs.get(index.digest)!;
  const member = caseOf('n-index-platform-manifest').digest;
  const { found: entities } = await findSignatures({
    image: member,
    indexes: [index.digest],
    repositories: [layoutOf(index)],
  });
  const trust = terms(read(policy('a', byKey(KEY))));
  const evidence = (indexes: readonly Uint8Array[]): ImageEvidence => ({
    image: { digest: member, indexes, references: [] },
    entities,
    unread: [],
  });
  const judged = judgeImage(evidence([bytes]), trust);
  assert.deepEqual([judged.state, judged.proofs[0]?.verified.signs], ['trusted', index.digest]);
  assert.equal(judgeImage(evidence([]), trust).state, 'rejected');
  const other = bytes.slice();
  other[other.length - 2]! ^= 1;
  assert.equal(judgeImage(evidence([other]), trust).state, 'rejected');
});

// Names.
test('every name under which an image is known counts: their policies all apply', async () => {
  const documents = read(
    policy('a', byKey(KEY), '', 'ghcr.io/acme/os@*'),
    policy('b', STATIC_FAIL, '', 'mirror.example/**'),
  );
  const image = { digest: caseOf(SIGNED).digest };
  const namesOf = (references: readonly string[]) =>
    policiesFor(documents.policies, { ...image, references }).map(({ name }) => name);
  assert.deepEqual(namesOf([IMAGE]), ['a']);
  assert.deepEqual(namesOf([IMAGE, 'mirror.example/os:1']), ['a', 'b']);
  assert.deepEqual(namesOf([]), []);
});
test('a signature of another repository does not count where names are known', async () => {
  const evidence = await evidenceOf(caseOf('s-identity-other-repo'));
  assert.equal(judgeImage(evidence, terms(read(policy('a', byKey(KEY))))).code, 'WRONG_REFERENCE');
});

test('a digest alone, without anything found, is never trusted by a policy that asks for a signature', () => {
  const { digest } = caseOf(SIGNED);
  for (const authorities of [byKey(KEY), keyless('a', 'b'), KMS, byKey(KEY, attested([SLSA1])), STATIC_FAIL]) {
    const judged = judgeImage({ image: { digest }, entities: [], unread: [] }, terms(read(policy('a', authorities))));
    assert.notEqual(judged.state, 'trusted');
    assert.deepEqual(judged.proofs, []);
  }
});

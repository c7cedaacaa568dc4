import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Digest } from '#src/digest.ts';
import { findSignatures } from '#src/source/signatures.ts';
import type { DenyEntry } from '#src/trust/deny.ts';
import { parseImagePolicy, policyOfAuthority, type ImagePolicy } from '#src/trust/imagepolicy.ts';
import { judgeImage, policiesFor, type ImageEvidence, type ImageTerms } from '#src/trust/judge.ts';
import type { ImageJudgement } from '#src/trust/judgement.ts';
import { readKey } from '#src/trust/keys.ts';
import { readTrustRoot } from '#src/trust/trustroot.ts';
import { blobsOf, caseOf, cases, layoutOf, NOW, pem, requirementOf, ROOTS, vectors, type Case } from './cases.ts';

const KEY = indent(pem('keys/p256.pub'), 12);
const OTHER = indent(pem('keys/other.pub'), 12);
const P384 = indent(pem('keys/p384.pub'), 12);
function indent(text: string, by: number): string {
  return text.trim().replaceAll(/^/gm, ' '.repeat(by));
}

const IMAGE = 'ghcr.io/acme/os';
const SLSA1 = 'https://slsa.dev/provenance/v1';

/** A policy about `glob` with these authorities, in YAML of six spaces. */
const policy = (name: string, authorities: string, more = '', glob = '**') =>
  `apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata:\n  name: ${name}\nspec:\n  images:\n    - glob: "${glob}"\n${more}  authorities:\n${authorities}`;
const byKey = (key: string, more = '') => `    - key:\n          data: |\n${key}\n${more}`;
const attested = (types: readonly string[], more = '') =>
  `      attestations:\n${types.map((type, i) => `        - name: a${i}\n          predicateType: ${type}\n${more}`).join('')}`;
const keyless = (subject: string, issuer: string, more = '') =>
  `    - keyless:\n        trustRootRef: test\n        identities:\n          - {issuer: "${issuer}", subject: "${subject}"}\n${more}`;
const STATIC_PASS = '    - static: {action: pass}\n';
const STATIC_FAIL = '    - static: {action: fail, message: not here}\n';
const KMS = '    - key: {kms: "hashivault://release"}\n';
const CUE = '          policy: {type: cue, data: "predicate: builder: id: string"}\n';

const read = (...documents: string[]): ImagePolicy =>
  parseImagePolicy([{ file: 'p.yaml', text: documents.join('---\n') }]);

async function evidenceOf(found: Case, more: Partial<ImageEvidence> = {}): Promise<ImageEvidence> {
  const { found: entities } = await findSignatures({ image: found.digest, repositories: [layoutOf(found)] });
  const references = found.reference === undefined ? [] : [found.reference];
  return { image: { digest: found.digest, references }, entities, unread: [], ...more };
}
const terms = (policy: ImagePolicy, more: Partial<ImageTerms> = {}): ImageTerms => ({
  policy,
  roots: ROOTS,
  deny: [],
  now: NOW,
  ...more,
});
async function judge(name: string, policy: ImagePolicy, more: Partial<ImageTerms> = {}): Promise<ImageJudgement> {
  return judgeImage(await evidenceOf(caseOf(name)), terms(policy, more));
}

for (const found of cases)
  test(`${found.name} under a policy of its own check is what the real programs say`, async () => {
    const { what, authority } = requirementOf(found.check);
    const explicit = policyOfAuthority(authority, what.kind === 'attestation' ? [what.predicateType] : []);
    const { state, code, reason, proofs, by } = judgeImage(await evidenceOf(found), terms(explicit));
    if (found.expect === 'verify') assert.equal(state, 'trusted', `${code} ${reason}`);
    if (found.expect === 'reject')
      assert.ok(state === 'unsigned' || state === 'rejected', `${state} ${code} ${reason}`);
    if (found.expect === 'verify-or-unsupported')
      assert.ok(state === 'trusted' || state === 'unverifiable', `${state} ${code}`);
    assert.equal(proofs.length > 0, state === 'trusted');
    assert.equal(by !== undefined, state === 'trusted');
    assert.equal(code === undefined, state === 'trusted');
  });

const IDENTITY = caseOf('v-bundle-keyless').check.identity!;
const SIGNED = 'v-bundle-key-p256';
const ATTESTED = 'v-bundle-attest-slsa1';

type Row = readonly [
  name: string,
  image: string,
  documents: readonly string[],
  state: ImageJudgement['state'],
  code: ImageJudgement['code'],
  reason?: RegExp,
];
const table: readonly Row[] = [
  ['the one key', SIGNED, [policy('a', byKey(KEY))], 'trusted', undefined],
  ['another key', SIGNED, [policy('a', byKey(OTHER))], 'rejected', 'WRONG_KEY', /^a: not signed by the key sha256:/],
  ['one of several authorities', SIGNED, [policy('a', byKey(OTHER) + byKey(KEY))], 'trusted', undefined],
  ['one of several keys of an authority', SIGNED, [policy('a', byKey(`${OTHER}\n${KEY}`))], 'trusted', undefined],
  ['all policies', SIGNED, [policy('a', byKey(KEY)), policy('b', byKey(KEY))], 'trusted', undefined],
  ['one policy of two', SIGNED, [policy('a', byKey(KEY)), policy('b', byKey(OTHER))], 'rejected', 'WRONG_KEY', /^b: /],
  [
    'a policy about others beside',
    SIGNED,
    [policy('a', byKey(KEY)), policy('b', STATIC_FAIL, '', 'quay.io/**')],
    'trusted',
    undefined,
  ],
  ['policies about others alone', SIGNED, [policy('b', STATIC_PASS, '', 'quay.io/**')], 'unsigned', 'NO_POLICY'],
  ['no signature', 'n-unsigned', [policy('a', byKey(KEY))], 'unsigned', 'NO_SIGNATURE', /^a: no signature$/],
  [
    'no signature, two policies',
    'n-unsigned',
    [policy('a', byKey(KEY)), policy('b', keyless('x', 'y'))],
    'unsigned',
    'NO_SIGNATURE',
  ],
  [
    'no signature beside a static refusal',
    'n-unsigned',
    [policy('a', byKey(KEY)), policy('b', STATIC_FAIL)],
    'rejected',
    'STATIC_FAIL',
    /^b: refused by static policy: not here$/,
  ],
  [
    'an attestation alone where a signature is asked for',
    's-attestation-as-signature',
    [policy('a', byKey(KEY))],
    'unsigned',
    'NO_SIGNATURE',
    /no signature; found an attestation of/,
  ],
  ['static pass', 'n-unsigned', [policy('a', STATIC_PASS)], 'trusted', undefined],
  ['static fail', SIGNED, [policy('a', STATIC_FAIL)], 'rejected', 'STATIC_FAIL'],
  ['static fail beside a key that signed', SIGNED, [policy('a', STATIC_FAIL + byKey(KEY))], 'trusted', undefined],
  [
    'static fail as a policy of its own',
    SIGNED,
    [policy('a', byKey(KEY)), policy('deny', STATIC_FAIL)],
    'rejected',
    'STATIC_FAIL',
  ],
  // Modes.
  ['a policy that only warns', SIGNED, [policy('a', byKey(OTHER), '  mode: warn\n')], 'not-assessed', 'WRONG_KEY'],
  [
    'one that warns and one that enforces',
    SIGNED,
    [policy('a', byKey(OTHER), '  mode: warn\n'), policy('b', byKey(KEY))],
    'trusted',
    undefined,
  ],
  ['one that warns and passes', SIGNED, [policy('a', byKey(KEY), '  mode: warn\n')], 'trusted', undefined],
  [
    'one that would warn and one that refuses',
    SIGNED,
    [policy('a', byKey(KEY), '  mode: warn\n'), policy('b', byKey(OTHER))],
    'rejected',
    'WRONG_KEY',
  ],
  // What is not evaluated here.
  [
    'a key in a key service',
    SIGNED,
    [policy('a', KMS)],
    'unverifiable',
    'UNSUPPORTED_POLICY',
    /^a: spec\.authorities\[0\]\.key\.kms: /,
  ],
  [
    'a key in a key service, and nothing signed',
    'n-unsigned',
    [policy('a', KMS)],
    'unverifiable',
    'UNSUPPORTED_POLICY',
  ],
  ['a key service or a key that signed', SIGNED, [policy('a', KMS + byKey(KEY))], 'trusted', undefined],
  [
    'a key service or a key that did not',
    SIGNED,
    [policy('a', KMS + byKey(OTHER))],
    'unverifiable',
    'UNSUPPORTED_POLICY',
  ],
  [
    'a key service, and another policy that refuses',
    SIGNED,
    [policy('a', KMS), policy('b', byKey(OTHER))],
    'rejected',
    'WRONG_KEY',
  ],
  [
    'a policy in cue over the authorities',
    SIGNED,
    [policy('a', byKey(KEY), '  policy: {type: cue, data: x}\n')],
    'unverifiable',
    'UNSUPPORTED_POLICY',
    /spec\.policy\.data/,
  ],
  [
    'the same where no authority is satisfied',
    SIGNED,
    [policy('a', byKey(OTHER), '  policy: {type: cue, data: x}\n')],
    'rejected',
    'WRONG_KEY',
  ],
  [
    'the same over a static pass',
    SIGNED,
    [policy('a', STATIC_PASS, '  policy: {type: rego, remote: {url: "https://x/y", sha256sum: ab}}\n')],
    'unverifiable',
    'UNSUPPORTED_POLICY',
    /spec\.policy\.remote/,
  ],
  [
    'an attestation with a policy in cue',
    ATTESTED,
    [policy('a', byKey(KEY, attested([SLSA1], CUE)))],
    'unverifiable',
    'UNSUPPORTED_POLICY',
    /spec\.authorities\[0\]\.attestations\[0\]\.policy\.data/,
  ],
  [
    'the same where there is none',
    SIGNED,
    [policy('a', byKey(KEY, attested([SLSA1], CUE)))],
    'unsigned',
    'NO_SIGNATURE',
  ],
  [
    'a trust root that is not here',
    'v-bundle-keyless',
    [policy('a', keyless(IDENTITY.subject, IDENTITY.issuer).replace('trustRootRef: test', 'trustRootRef: elsewhere'))],
    'unverifiable',
    'NO_TRUST_ROOT',
  ],
  [
    'a trust root that is not here, and nothing signed',
    'n-unsigned',
    [policy('a', keyless(IDENTITY.subject, IDENTITY.issuer).replace('trustRootRef: test', 'trustRootRef: elsewhere'))],
    'unsigned',
    'NO_SIGNATURE',
  ],
  // Attestations.
  ['an attestation', ATTESTED, [policy('a', byKey(KEY, attested([SLSA1])))], 'trusted', undefined],
  [
    'an attestation needs no signature beside it, and gives none',
    ATTESTED,
    [policy('a', byKey(KEY))],
    'unsigned',
    'NO_SIGNATURE',
  ],
  [
    'an attestation by its short name',
    ATTESTED,
    [policy('a', byKey(KEY, attested(['slsaprovenance1'])))],
    'trusted',
    undefined,
  ],
  [
    'two attestations of which one is there',
    ATTESTED,
    [policy('a', byKey(KEY, attested([SLSA1, 'custom'])))],
    'unsigned',
    'NO_SIGNATURE',
    /no attestation of "https:\/\/cosign\.sigstore\.dev\/attestation\/v1"; found/,
  ],
  [
    'another type (CVE-2022-35930)',
    'n-attest-only-custom',
    [policy('a', byKey(KEY, attested([SLSA1])))],
    'unsigned',
    'NO_SIGNATURE',
  ],
  ['an attestation by another key', ATTESTED, [policy('a', byKey(OTHER, attested([SLSA1])))], 'rejected', 'WRONG_KEY'],
  [
    'each of several keys must have attested',
    ATTESTED,
    [policy('a', byKey(`${KEY}\n${OTHER}`, attested([SLSA1])))],
    'rejected',
    'WRONG_KEY',
    /key 2 of 2/,
  ],
  // Forms.
  ['the form asked for', SIGNED, [policy('a', byKey(KEY, '      signatureFormat: bundle\n'))], 'trusted', undefined],
  [
    'another form than asked for',
    SIGNED,
    [policy('a', byKey(KEY, '      signatureFormat: legacy\n'))],
    'unsigned',
    'NO_SIGNATURE',
    /signatureFormat legacy/,
  ],
  [
    'the older form asked for',
    'v-legacy2-key-p256',
    [policy('a', byKey(KEY, '      signatureFormat: legacy\n'))],
    'trusted',
    undefined,
  ],
  // Logs and stamps.
  [
    'a log asked for and there',
    'v-bundle-key-rekor',
    [policy('a', byKey(KEY, '      ctlog: {trustRootRef: test}\n'))],
    'trusted',
    undefined,
  ],
  [
    'a log asked for and not there',
    SIGNED,
    [policy('a', byKey(KEY, '      ctlog: {trustRootRef: test}\n'))],
    'rejected',
    'NO_LOG_ENTRY',
  ],
  [
    'a log of a root that is not here',
    'v-bundle-key-rekor',
    [policy('a', byKey(KEY, '      ctlog: {url: "https://rekor.sigstore.dev"}\n'))],
    'unverifiable',
    'NO_TRUST_ROOT',
  ],
  [
    'a stamp asked for and there',
    'v-bundle-key-rekor-tsa',
    [policy('a', byKey(KEY, '      rfc3161timestamp: {trustRootRef: test}\n'))],
    'trusted',
    undefined,
  ],
  [
    'a stamp asked for and not there',
    'v-bundle-key-rekor',
    [policy('a', byKey(KEY, '      rfc3161timestamp: {trustRootRef: test}\n'))],
    'rejected',
    'NO_TIMESTAMP',
  ],
  [
    'stamp and log asked for',
    'v-bundle-key-rekor-tsa',
    [policy('a', byKey(KEY, '      ctlog: {trustRootRef: test}\n      rfc3161timestamp: {trustRootRef: test}\n'))],
    'trusted',
    undefined,
  ],
  ['another digest algorithm', 'v-bundle-key-p384', [policy('a', byKey(P384))], 'rejected', 'WRONG_HASH'],
  [
    'the digest algorithm of the policy',
    'v-bundle-key-p384',
    [policy('a', byKey(P384).replace('data: |', 'hashAlgorithm: sha384\n          data: |'))],
    'trusted',
    undefined,
  ],
  // Identities.
  [
    'an identity, with a log',
    'v-bundle-keyless',
    [policy('a', keyless(IDENTITY.subject, IDENTITY.issuer, '      ctlog: {trustRootRef: test}\n'))],
    'trusted',
    undefined,
  ],
  [
    'an identity of a private root without log or stamp asked for, and a log alone',
    'v-bundle-keyless',
    [policy('a', keyless(IDENTITY.subject, IDENTITY.issuer))],
    'rejected',
    'NO_TIMESTAMP',
  ],
  [
    'the same with a stamp',
    'v-bundle-keyless-tsa',
    [policy('a', keyless(IDENTITY.subject, IDENTITY.issuer))],
    'trusted',
    undefined,
  ],
  [
    'the same in the form of bundles, where the log is asked for',
    'v-bundle-keyless',
    [policy('a', keyless(IDENTITY.subject, IDENTITY.issuer, '      signatureFormat: bundle\n'))],
    'trusted',
    undefined,
  ],
  [
    'another identity',
    'n-keyless-wrong-identity',
    [policy('a', keyless(IDENTITY.subject, IDENTITY.issuer, '      ctlog: {trustRootRef: test}\n'))],
    'rejected',
    'WRONG_IDENTITY',
    /main-evil.*asked for/,
  ],
  [
    'another issuer',
    'n-keyless-wrong-issuer',
    [policy('a', keyless(IDENTITY.subject, IDENTITY.issuer, '      ctlog: {trustRootRef: test}\n'))],
    'rejected',
    'WRONG_ISSUER',
  ],
  [
    'several identities of which one fits',
    'v-bundle-keyless',
    [
      policy(
        'a',
        keyless(IDENTITY.subject, IDENTITY.issuer, '      ctlog: {trustRootRef: test}\n').replace(
          'identities:\n',
          'identities:\n          - {issuer: a, subject: b}\n',
        ),
      ),
    ],
    'trusted',
    undefined,
  ],
  [
    'a certificate without SCT',
    'n-keyless-no-sct',
    [policy('a', keyless(IDENTITY.subject, IDENTITY.issuer, '      ctlog: {trustRootRef: test}\n'))],
    'rejected',
    'NO_SCT',
  ],
  [
    'the same, where none is asked for',
    'n-keyless-no-sct',
    [
      policy(
        'a',
        keyless(IDENTITY.subject, IDENTITY.issuer, '      ctlog: {trustRootRef: test}\n').replace(
          'trustRootRef: test\n        identities',
          'trustRootRef: test\n        insecureIgnoreSCT: true\n        identities',
        ),
      ),
    ],
    'trusted',
    undefined,
  ],
  [
    'the first reason of several signatures is the furthest',
    'v-legacy-good-among-bad',
    [policy('a', byKey(P384))],
    'rejected',
    'WRONG_KEY',
  ],
];
for (const [name, image, documents, state, code, reason] of table)
  test(`${name}: ${state}`, async () => {
    const judged = await judge(image, read(...documents));
    assert.equal(judged.state, state, `${judged.code} ${judged.reason}`);
    assert.equal(judged.code, code, judged.reason ?? '');
    if (reason !== undefined) assert.match(judged.reason ?? '', reason);
  });

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

test('signatures nobody here can read do not turn a refusal into "could not tell"', async () => {
  const evidence = await evidenceOf(caseOf('v-legacy-good-among-bad'));
  const outcome = (code: 'TOO_MANY' | 'WRONG_KEY') => ({ kind: 'failed', code, message: code }) as const;
  const [first] = evidence.entities;
  const judgedBy = (verify: ImageTerms['verify']) =>
    judgeImage(evidence, terms(read(policy('a', byKey(KEY))), { verify: verify! })).state;
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
  const count: ImageTerms['verify'] = () => {
    calls++;
    return { kind: 'failed', code: 'WRONG_KEY', message: '' };
  };
  judgeImage(evidence, terms(read(...documents), { verify: count! }));
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

// Deny list.
const DENIED: readonly (readonly [name: string, image: string, deny: DenyEntry, state: ImageJudgement['state']])[] = [
  [
    'the image',
    SIGNED,
    { what: 'image', digest: caseOf(SIGNED).digest, from: undefined, reason: 'recalled' },
    'rejected',
  ],
  [
    'the image, from now on',
    SIGNED,
    { what: 'image', digest: caseOf(SIGNED).digest, from: NOW, reason: 'recalled' },
    'rejected',
  ],
  [
    'the image, later',
    SIGNED,
    { what: 'image', digest: caseOf(SIGNED).digest, from: NOW + 1, reason: 'recalled' },
    'trusted',
  ],
  [
    'another image',
    SIGNED,
    { what: 'image', digest: caseOf(ATTESTED).digest, from: undefined, reason: 'recalled' },
    'trusted',
  ],
  [
    'the key',
    SIGNED,
    { what: 'key', fingerprint: readKey(pem('keys/p256.pub')).fingerprint, from: undefined, reason: 'stolen' },
    'rejected',
  ],
  [
    'the key, from later on, of a signature without a time',
    SIGNED,
    { what: 'key', fingerprint: readKey(pem('keys/p256.pub')).fingerprint, from: NOW, reason: 'stolen' },
    'rejected',
  ],
  [
    'another key',
    SIGNED,
    { what: 'key', fingerprint: readKey(pem('keys/other.pub')).fingerprint, from: undefined, reason: 'stolen' },
    'trusted',
  ],
];
for (const [name, image, deny, state] of DENIED)
  test(`denied is ${name}: ${state}`, async () => {
    const judged = await judge(image, read(policy('a', byKey(KEY))), { deny: [deny] });
    assert.deepEqual([judged.state, judged.code], [state, state === 'rejected' ? 'DENIED' : undefined]);
    if (state === 'rejected') assert.match(judged.reason ?? '', new RegExp(deny.reason));
  });
test('an image is denied whatever else would let it pass, and so is what lies in a denied index', async () => {
  const entry: DenyEntry = { what: 'image', digest: caseOf('n-unsigned').digest, from: undefined, reason: 'recalled' };
  for (const documents of [[policy('a', STATIC_PASS)], [], ['format: bootproof.images/1\nnoMatch: allow\n']])
    assert.equal((await judge('n-unsigned', read(...documents), { deny: [entry] })).state, 'rejected');
  const index = caseOf('v-index-bundle');
  const { blobs } = blobsOf(index);
  const denied: DenyEntry = { what: 'image', digest: index.digest, from: undefined, reason: 'recalled' };
  const evidence: ImageEvidence = {
    image: { digest: caseOf('n-index-platform-manifest').digest, indexes: [blobs.get(index.digest)!] },
    entities: [],
    unread: [],
  };
  assert.equal(judgeImage(evidence, terms(read(policy('a', STATIC_PASS)), { deny: [denied] })).state, 'rejected');
});
test('the policy denies as well', async () => {
  const images = `format: bootproof.images/1\ndeny:\n  - image: ${caseOf(SIGNED).digest}\n    reason: it does not boot\n`;
  const judged = await judge(SIGNED, read(policy('a', byKey(KEY)), images));
  assert.deepEqual([judged.state, judged.reason], ['rejected', 'denied by image: it does not boot']);
});

// Conditions of ours.
const images = (conditions: string) => `format: bootproof.images/1\nconditions:\n${conditions}`;
const condition = (more: string) => `  - id: built-here\n    policy: a\n    reason: only our own builders\n${more}`;
const conditions: readonly Row[] = [
  [
    'one that holds',
    ATTESTED,
    [
      policy('a', byKey(KEY, attested([SLSA1]))),
      images(condition(`    predicateType: ${SLSA1}\n    condition: 'has(predicate.buildDefinition)'\n`)),
    ],
    'trusted',
    undefined,
  ],
  [
    'one that does not',
    ATTESTED,
    [
      policy('a', byKey(KEY, attested([SLSA1]))),
      images(condition(`    predicateType: ${SLSA1}\n    condition: 'predicateType == "x"'\n`)),
    ],
    'rejected',
    'CONDITION_FALSE',
    /built-here \(only our own builders\).*predicateType == "x"/,
  ],
  [
    'one that cannot be answered',
    ATTESTED,
    [
      policy('a', byKey(KEY, attested([SLSA1]))),
      images(condition(`    predicateType: ${SLSA1}\n    condition: 'predicate.nowhere == 1'\n`)),
    ],
    'rejected',
    'CONDITION_ERROR',
  ],
  [
    'a statement that is not there',
    SIGNED,
    [policy('a', byKey(KEY)), images(condition(`    predicateType: ${SLSA1}\n`))],
    'unsigned',
    'NO_SIGNATURE',
  ],
  [
    'it takes nothing away: the signature is still asked for',
    ATTESTED,
    [policy('a', byKey(KEY)), images(condition(`    predicateType: ${SLSA1}\n`))],
    'unsigned',
    'NO_SIGNATURE',
    /^a: no signature/,
  ],
  [
    'one that stands for a policy in cue',
    ATTESTED,
    [
      policy('a', byKey(KEY, attested([SLSA1], CUE))),
      images(condition(`    insteadOf: a0\n    condition: 'signer.kind == "key"'\n`)),
    ],
    'trusted',
    undefined,
  ],
  [
    'one that stands for a policy in cue, and does not hold',
    ATTESTED,
    [
      policy('a', byKey(KEY, attested([SLSA1], CUE))),
      images(condition(`    insteadOf: a0\n    condition: 'signer.kind == "keyless"'\n`)),
    ],
    'rejected',
    'CONDITION_FALSE',
  ],
  [
    'one for another authority',
    ATTESTED,
    [
      policy('a', byKey(KEY, `      name: first\n${attested([SLSA1])}`) + byKey(OTHER, '      name: second\n')),
      images(condition(`    authority: second\n    predicateType: ${SLSA1}\n    condition: 'false'\n`)),
    ],
    'trusted',
    undefined,
  ],
];
for (const [name, image, documents, state, code, reason] of conditions)
  test(`a condition, ${name}: ${state}`, async () => {
    const judged = await judge(image, read(...documents));
    assert.deepEqual([judged.state, judged.code], [state, code], judged.reason ?? '');
    if (reason !== undefined) assert.match(judged.reason ?? '', reason);
  });

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
  assert.match(without.reason ?? '', /spec\.remote: nothing is fetched by TUF here/);
  const other = readTrustRoot('test', readFileSync(join(vectors, 'trust/other-instance.trusted_root.json')));
  const brought = { ...documents, trustRoots: [other] };
  assert.equal((await judge('v-bundle-keyless', brought)).state, 'trusted');
  assert.equal((await judge('v-bundle-keyless', brought, { roots: new Map() })).state, 'rejected');
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

test('a digest alone, without anything found, is never trusted by a policy that asks for a signature', () => {
  const digest = caseOf(SIGNED).digest as Digest;
  for (const authorities of [byKey(KEY), keyless('a', 'b'), KMS, byKey(KEY, attested([SLSA1])), STATIC_FAIL]) {
    const judged = judgeImage({ image: { digest }, entities: [], unread: [] }, terms(read(policy('a', authorities))));
    assert.notEqual(judged.state, 'trusted');
    assert.deepEqual(judged.proofs, []);
  }
});

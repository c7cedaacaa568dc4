import assert from 'node:assert/strict';
import { test } from 'node:test';
import { policyOfAuthority } from '#src/trust/imagepolicy.ts';
import { judgeImage } from '#src/trust/judge.ts';
import { cases, requirementOf } from './cases.ts';
import {
  KEY,
  OTHER,
  P384,
  SLSA1,
  policy,
  byKey,
  attested,
  keyless,
  STATIC_PASS,
  STATIC_FAIL,
  KMS,
  CUE,
  read,
  evidenceOf,
  terms,
  judge,
  IDENTITY,
  SIGNED,
  ATTESTED,
  type Row,
} from './policies.ts';

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

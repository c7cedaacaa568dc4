import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DenyEntry } from '#src/trust/deny.ts';
import { judgeImage, type ImageEvidence } from '#src/trust/judge.ts';
import type { ImageJudgement } from '#src/trust/judgement.ts';
import { readKey } from '#src/trust/keys.ts';
import { blobsOf, caseOf, pem, NOW } from './cases.ts';
import {
  KEY,
  OTHER,
  SLSA1,
  policy,
  byKey,
  attested,
  STATIC_PASS,
  CUE,
  read,
  terms,
  judge,
  SIGNED,
  ATTESTED,
  type Row,
} from './policies.ts';

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

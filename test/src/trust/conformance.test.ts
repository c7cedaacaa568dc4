/** sigstore's own conformance suite (test/vectors/conformance): the name of a case says whether it must be refused. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { bundleFile } from '#src/trust/bundle.ts';
import { isMaterial, type Failed } from '#src/trust/material.ts';
import type { Authority, What } from '#src/trust/requirement.ts';
import { fileTarget } from '#src/trust/target.ts';
import { readTrustRoot, TrustRootError, type TrustRoot } from '#src/trust/trustroot.ts';
import { verifySignature, type Verified } from '#src/trust/verify.ts';

const vectors = join(import.meta.dirname, '../../vectors/conformance');
const suite = join(vectors, 'sigstore/bundle-verify');
const names = readdirSync(suite, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name);

const BEACON =
  'https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main';
const ACTIONS = 'https://token.actions.githubusercontent.com';

/** Why each case that must be refused is: with this code, so that none is refused for another reason than its own. */
const REASONS: Record<string, string> = {
  'bundle-empty-certificate-chain_fail': 'MALFORMED',
  'bundle-from-wrong-instance_fail': 'UNKNOWN_LOG',
  'bundle-invalid-base64-signature_fail': 'MALFORMED',
  'bundle-malformed-json_fail': 'MALFORMED',
  'bundle-negative-log-index_fail': 'MALFORMED',
  'bundle-unknown-version_fail': 'MALFORMED',
  'bundle-with-root-cert_fail': 'MALFORMED',
  'checkpoint-bad-keyhint_fail': 'BROKEN_INCLUSION',
  'checkpoint-wrong-roothash_fail': 'BROKEN_INCLUSION',
  'dsse-invalid-sig_fail': 'BAD_SIGNATURE',
  'dsse-mismatch-envelope_fail': 'LOG_ENTRY_MISMATCH',
  'dsse-mismatch-sig_fail': 'LOG_ENTRY_MISMATCH',
  'inclusion-proof-corrupted-hash_fail': 'BROKEN_INCLUSION',
  'incorrect-public-key_fail': 'BROKEN_INCLUSION',
  'integrated-time-in-future_fail': 'OUTSIDE_VALIDITY',
  'intoto-expired-certificate_fail': 'OUTSIDE_VALIDITY',
  'intoto-log-entry-mismatch_fail': 'LOG_ENTRY_MISMATCH',
  'intoto-missing-inclusion-proof_fail': 'MALFORMED',
  'intoto-set-outside-signing-cert-validity_fail': 'OUTSIDE_VALIDITY',
  'intoto-tsa-timestamp-outside-cert-validity_fail': 'OUTSIDE_VALIDITY',
  'invalid-checkpoint-signature_fail': 'BROKEN_INCLUSION',
  'invalid-ct-key_fail': 'NO_SCT',
  'invalid-inclusion-proof_fail': 'MALFORMED',
  'managed-key-no-key_fail': 'NO_CERTIFICATE',
  'managed-key-wrong-key_fail': 'UNUSABLE_KEY',
  'message-digest-mismatch_fail': 'WRONG_DIGEST',
  'rekor2-checkpoint-missing-log-signature_fail': 'BROKEN_INCLUSION',
  'rekor2-checkpoint-missing-origin_fail': 'BROKEN_INCLUSION',
  'rekor2-checkpoint-missing-root-hash_fail': 'BROKEN_INCLUSION',
  'rekor2-checkpoint-missing-size_fail': 'BROKEN_INCLUSION',
  'rekor2-checkpoint-no-matching-signature_fail': 'BROKEN_INCLUSION',
  'rekor2-dsse-invalid-sig_fail': 'BAD_SIGNATURE',
  'rekor2-dsse-mismatch-envelope_fail': 'LOG_ENTRY_MISMATCH',
  'rekor2-dsse-mismatch-sig_fail': 'LOG_ENTRY_MISMATCH',
  'rekor2-no-inclusion-proof_fail': 'MALFORMED',
  'rekor2-no-timestamp_fail': 'NO_TIMESTAMP',
  'rekor2-timestamp-outside-trust-root-tsa-validity_fail': 'BROKEN_TIMESTAMP',
  'rekor2-timestamp-outside-tsa-cert-validity_fail': 'BROKEN_TIMESTAMP',
  'rekor2-timestamp-payload-mismatch_fail': 'BROKEN_TIMESTAMP',
  'rekor2-timestamp-untrusted-tsa-with-embedded-cert_fail': 'NO_TIMESTAMP',
  'rekor2-timestamp-untrusted-tsa-without-embedded-cert_fail': 'NO_TIMESTAMP',
  'rekor2-timestamp-with-incorrect-time_fail': 'MALFORMED',
  'set-invalid-signature_fail': 'BROKEN_INCLUSION',
  'signature-mismatch_fail': 'BAD_SIGNATURE',
  'trust-root-tlog-missing-validity-start_fail': 'TRUST_ROOT_SYNTAX',
  'wrong-hashedrekord-artifact_fail': 'LOG_ENTRY_MISMATCH',
  'wrong-hashedrekord-cert-and-sig_fail': 'LOG_ENTRY_MISMATCH',
  'wrong-hashedrekord-entry_fail': 'LOG_ENTRY_MISMATCH',
  'wrong-material_fail': 'WRONG_DIGEST',
};

function verify(name: string): Verified | Failed | TrustRootError {
  const read = (file: string) => new Uint8Array(readFileSync(join(suite, name, file)));
  const has = (file: string) => existsSync(join(suite, name, file));
  const text = (file: string) => readFileSync(join(suite, name, file), 'utf8').trim();
  const entity = bundleFile(read('bundle.sigstore.json'), name);
  const target = fileTarget(has('artifact') ? read('artifact') : new Uint8Array(readFileSync(join(suite, 'a.txt'))));
  let root: TrustRoot;
  try {
    root = readTrustRoot(
      'root',
      has('trusted_root.json')
        ? read('trusted_root.json')
        : new Uint8Array(readFileSync(join(vectors, 'trusted_root.public-good.json'))),
    );
  } catch (error) {
    assert.ok(error instanceof TrustRootError);
    return error;
  }
  const identity = {
    issuer: { exact: has('issuer') ? text('issuer') : ACTIONS },
    subject: { exact: has('identity') ? text('identity') : BEACON },
  };
  const authority: Authority = has('key.pub')
    ? { kind: 'key', keys: [text('key.pub')], hashAlgorithm: 'sha256', tlog: 'root', tsa: undefined }
    : { kind: 'keyless', identities: [identity], trustRoot: 'root', tlog: true, tsa: false, sct: true };
  // The suite asks for no predicate: whatever the statement says of itself.
  const { content } = entity;
  const what: What =
    isMaterial(content) && content.signed.kind === 'statement'
      ? { kind: 'attestation', predicateType: content.signed.statement.predicateType }
      : { kind: 'signature' };
  return verifySignature(
    entity,
    { what, authority },
    { target, roots: new Map([['root', root]]), deny: [], now: Date.parse('2026-11-25T00:00:00Z') },
  );
}

test('the suite is here whole', () => {
  assert.equal(names.length, 70);
  assert.equal(names.filter((name) => name.endsWith('_fail')).length, 49);
});

for (const name of names)
  test(name, () => {
    const outcome = verify(name);
    if (!name.endsWith('_fail')) assert.deepEqual('code' in outcome ? outcome.message : outcome.kind, 'verified');
    else assert.equal('code' in outcome ? outcome.code : outcome.kind, REASONS[name]);
  });

/** Bugs that verifiers of sigstore signatures had, each with the signature that got past them. Named by the advisory where there is one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DenyEntry } from '#src/trust/deny.ts';
import type { SignedEntity } from '#src/trust/material.ts';
import type { KeyAuthority, KeylessAuthority, What } from '#src/trust/requirement.ts';
import { imageTarget, type ImageTarget } from '#src/trust/target.ts';
import { TrustRootError, type TrustRoot } from '#src/trust/trustroot.ts';
import { verifySignature } from '#src/trust/verify.ts';
import { throwsCode } from '#test/throws.ts';
import {
  AT,
  attestationLayer,
  certificatePem,
  CODE,
  EXT,
  hashedRekord,
  IMAGE,
  ISSUER,
  leaf,
  logged,
  newKey,
  pemOf,
  root,
  signatureLayer,
  simple,
  stamped,
  STAMPS,
  statement,
  SUBJECT,
  subjectOf,
  token,
  type LeafOptions,
  type Pair,
  type TokenOptions,
} from './instance.ts';

const key = newKey();
const other = newKey();
const ROOT = root();

type Around = {
  readonly what?: What;
  readonly root?: TrustRoot;
  readonly image?: Partial<ImageTarget>;
  readonly deny?: readonly DenyEntry[];
  readonly now?: number;
};
function outcome(entity: SignedEntity, authority: KeyAuthority | KeylessAuthority, around: Around = {}): string {
  const result = verifySignature(
    entity,
    { what: around.what ?? { kind: 'signature' }, authority },
    {
      target: imageTarget({ digest: IMAGE, ...around.image }),
      roots: new Map([['test', around.root ?? ROOT]]),
      deny: around.deny ?? [],
      now: around.now ?? AT + 86_400_000,
    },
  );
  return result.kind === 'verified' ? 'verified' : result.code;
}
const byKey = (more: Partial<KeyAuthority> = {}): KeyAuthority => ({
  kind: 'key',
  keys: [pemOf(key)],
  hashAlgorithm: 'sha256',
  tlog: undefined,
  tsa: undefined,
  ...more,
});
const byIdentity = (more: Partial<KeylessAuthority> = {}): KeylessAuthority => ({
  kind: 'keyless',
  identities: [{ issuer: { exact: ISSUER }, subject: { exact: SUBJECT } }],
  trustRoot: 'test',
  tlog: true,
  tsa: false,
  sct: false,
  ...more,
});
const BUNDLE = 'dev.sigstore.cosign/bundle';
const CERTIFICATE = 'dev.sigstore.cosign/certificate';
const TIMESTAMP = 'dev.sigstore.cosign/rfc3161timestamp';
const payload = new TextEncoder().encode(simple());

const withEntry = (signer: Pair, named: Pair, at = AT) =>
  signatureLayer(signer, payload, (signature) => ({
    [BUNDLE]: logged(hashedRekord(payload, signature, pemOf(named)), at),
  }));

type KeylessOptions = LeafOptions & { readonly at?: number; readonly stamp?: TokenOptions; readonly noEntry?: boolean };
function keyless(options: KeylessOptions = {}): SignedEntity {
  const pem = certificatePem(leaf(key, options));
  return signatureLayer(key, payload, (signature) => ({
    [CERTIFICATE]: pem,
    ...(options.noEntry === true ? {} : { [BUNDLE]: logged(hashedRekord(payload, signature, pem), options.at) }),
    ...(options.stamp === undefined ? {} : { [TIMESTAMP]: stamped(token(signature, options.stamp)) }),
  }));
}

test('what is crafted here verifies where nothing is wrong with it', () => {
  assert.equal(outcome(signatureLayer(key, payload), byKey()), 'verified');
  assert.equal(outcome(withEntry(key, key), byKey({ tlog: 'test' })), 'verified');
  assert.equal(outcome(keyless(), byIdentity()), 'verified');
  assert.equal(outcome(keyless({ stamp: {} }), byIdentity({ tsa: true })), 'verified');
  assert.equal(outcome(keyless({ stamp: {}, noEntry: true }), byIdentity({ tlog: false })), 'verified');
});

test('CVE-2022-23649, CVE-2026-22703: the log entry of another signature, or of another key, proves nothing', () => {
  const foreign = signatureLayer(key, payload, () => ({
    [BUNDLE]: logged(hashedRekord(payload, new Uint8Array(70), pemOf(key))),
  }));
  assert.equal(outcome(foreign, byKey({ tlog: 'test' })), 'LOG_ENTRY_MISMATCH');
  assert.equal(outcome(withEntry(key, other), byKey({ tlog: 'test' })), 'LOG_ENTRY_MISMATCH');
});

test('CVE-2022-35929, CVE-2025-25204: an attestation of another type, or none, is not the one asked for', () => {
  const what: What = { kind: 'attestation', predicateType: 'https://slsa.dev/provenance/v1' };
  const of = (type: string) => attestationLayer(key, statement(type, subjectOf()));
  assert.equal(outcome(of('https://slsa.dev/provenance/v1'), byKey(), { what }), 'verified');
  assert.equal(outcome(of('https://slsa.dev/provenance/v1.1'), byKey(), { what }), 'WRONG_PREDICATE');
  assert.equal(outcome(signatureLayer(key, payload), byKey(), { what }), 'WRONG_KIND');
  assert.equal(outcome(of('https://slsa.dev/provenance/v1'), byKey()), 'WRONG_KIND');
});

test('CVE-2022-36056: a broken log entry is not an absent one', () => {
  for (const text of ['{', '{}', '[]', 'null', '{"SignedEntryTimestamp":"AA==","Payload":null}'])
    assert.equal(
      outcome(
        signatureLayer(key, payload, () => ({ [BUNDLE]: text })),
        byKey(),
      ),
      'MALFORMED',
      text,
    );
  const later = keyless();
  assert.equal(outcome(later, byIdentity({ identities: [] })), 'WRONG_IDENTITY');
});

test('CVE-2023-33959: a signature of another digest is none of this image', () => {
  const elsewhere = signatureLayer(key, simple(`sha256:${'0'.repeat(64)}`));
  assert.equal(outcome(elsewhere, byKey()), 'WRONG_DIGEST');
});

test('CVE-2024-3727: a digest that is none is refused', () => {
  for (const digest of ['sha256:../../x', `sha256:${'A'.repeat(64)}`, 'sha256:ab', `sha512:${'0'.repeat(64)}`])
    assert.equal(outcome(signatureLayer(key, simple(digest)), byKey()), 'MALFORMED', digest);
});

test('CVE-2024-53267: the envelope is what is verified, its type included', () => {
  const signed = attestationLayer(key, statement('https://sigstore.dev/cosign/sign/v1', subjectOf()), 'text/plain');
  assert.equal(outcome(signed, byKey()), 'MALFORMED');
});

test('CVE-2026-24122: an issuing authority that had expired at the time of signing vouches for nobody', () => {
  assert.equal(outcome(keyless(), byIdentity(), { root: root({ middle: [300, -1] }) }), 'UNTRUSTED_CHAIN');
  assert.equal(outcome(keyless(), byIdentity(), { root: root({ middle: [-1, 300] }) }), 'UNTRUSTED_CHAIN');
});

test('CVE-2026-39395, cosign #5016: what is no statement is refused and nothing crashes', () => {
  const SIGN = 'https://sigstore.dev/cosign/sign/v1';
  const subjects = [[null, { digest: {} }], {}, [], [{}], [{ digest: null }], [{ digest: { sha256: 7 } }], 'x', null];
  for (const subject of subjects)
    assert.equal(
      outcome(attestationLayer(key, statement(SIGN, subject)), byKey()),
      'MALFORMED',
      JSON.stringify(subject),
    );
  for (const text of ['"a text"', '[]', 'null', '7', '', '{"_type":"x"}', `{"a":`.repeat(200) + '1' + '}'.repeat(200)])
    assert.equal(outcome(attestationLayer(key, text === '' ? ' ' : text), byKey()), 'MALFORMED', text);
  assert.equal(
    outcome(attestationLayer(key, statement(SIGN, [{ digest: { sha512: 'ab' } }])), byKey()),
    'WRONG_DIGEST',
  );
});

test('GHSA-cq38-jh5f-37mq: subjects and digests without end are refused', () => {
  const SIGN = 'https://sigstore.dev/cosign/sign/v1';
  const many = Array.from({ length: 1025 }, () => ({ digest: { sha256: IMAGE.slice(7) } }));
  assert.equal(outcome(attestationLayer(key, statement(SIGN, many)), byKey()), 'TOO_MANY');
  const digest = Object.fromEntries(Array.from({ length: 33 }, (_, i) => [`a${i}`, 'x']));
  assert.equal(outcome(attestationLayer(key, statement(SIGN, [{ digest }])), byKey()), 'TOO_MANY');
  assert.equal(outcome(signatureLayer(key, simple() + ' '.repeat(65_536)), byKey()), 'TOO_MANY');
});

test('a key that stands twice in signed JSON is refused, however it is spelled', () => {
  const twice = simple().replace('"optional"', '"critical":{},"optional"');
  const escaped = simple().replace('"optional"', '"\\u006fptional":null,"optional"');
  const digest = simple().replace(
    '"docker-manifest-digest"',
    '"docker-manifest-digest"   :"x" , "docker-manifest-digest"',
  );
  for (const text of [twice, escaped, digest])
    assert.equal(outcome(signatureLayer(key, text), byKey()), 'MALFORMED', text);
  const folded = statement('https://sigstore.dev/cosign/sign/v1', subjectOf()).replace(
    '"predicate"',
    '"Subject":[],"predicate"',
  );
  assert.equal(outcome(attestationLayer(key, folded), byKey()), 'MALFORMED');
  assert.equal(
    outcome(signatureLayer(key, simple().replace('"optional"', '"more":1,"optional"')), byKey()),
    'MALFORMED',
  );
});

test('CVE-2026-39984: the timestamp is the listed signer’s, whatever certificates lie beside it', () => {
  const foreign = leaf(other);
  assert.equal(outcome(keyless({ stamp: { certificates: [foreign] } }), byIdentity({ tsa: true })), 'verified');
  // Another key under the listed signer's name.
  assert.equal(
    outcome(keyless({ stamp: { key: other, certificates: [foreign] } }), byIdentity({ tsa: true })),
    'BROKEN_TIMESTAMP',
  );
  // A signer of another name is nobody here.
  assert.equal(outcome(keyless({ stamp: { serial: 8 } }), byIdentity({ tsa: true })), 'NO_TIMESTAMP');
});

test('a timestamp authority whose certificate is not for stamping is set aside', () => {
  for (const tsaExtensions of [[EXT.usage(CODE)], [], [EXT.ca, EXT.usage(STAMPS)]]) {
    const trusted = root({ tsaExtensions });
    assert.deepEqual(trusted.setAside, ['timestamp authority 0']);
    assert.equal(outcome(keyless({ stamp: {} }), byIdentity({ tsa: true }), { root: trusted }), 'NO_TIMESTAMP');
  }
});

test('an authority that issues for other usages signs no code', () => {
  const trusted = root({ middleUsages: ['1.3.6.1.5.5.7.3.1'] });
  assert.deepEqual(trusted.setAside, ['certificate authority 0']);
  assert.equal(outcome(keyless(), byIdentity(), { root: trusted }), 'UNTRUSTED_CHAIN');
});

test('sigstore-rust #160, #166: each time counts for itself, and a retired authority stamps no more', () => {
  // One of two times is outside the certificate.
  assert.equal(outcome(keyless({ stamp: { at: '20260601131500Z' } }), byIdentity()), 'OUTSIDE_VALIDITY');
  const retired = root({ tsaValidFor: { start: '2025-01-01T00:00:00Z', end: '2026-05-31T00:00:00Z' } });
  assert.equal(outcome(keyless({ stamp: {} }), byIdentity({ tsa: true }), { root: retired }), 'BROKEN_TIMESTAMP');
});

test('genTime may have any fraction of a second (RFC 3161 2.4.2), and must be a time', () => {
  for (const at of ['20260601120000.5Z', '20260601120000.25Z', '20260601120000.123456Z'])
    assert.equal(outcome(keyless({ stamp: { at } }), byIdentity({ tsa: true })), 'verified', at);
  for (const at of ['20261301120000Z', '20260601120000', 'never', '20260601120000.Z'])
    assert.equal(outcome(keyless({ stamp: { at } }), byIdentity({ tsa: true })), 'BROKEN_TIMESTAMP', at);
  assert.equal(outcome(keyless({ stamp: { status: 2 } }), byIdentity({ tsa: true })), 'BROKEN_TIMESTAMP');
  // Good as OpenSSL would take it: the library reads no algorithm, and none is SHA-256.
  assert.equal(
    outcome(keyless({ stamp: { algorithm: '1.2.840.10045.4.3.9' } }), byIdentity({ tsa: true })),
    'BROKEN_TIMESTAMP',
  );
});

test('an attestation may be stamped over its signature or, as cosign 2 does, over its envelope; over nothing else', () => {
  const text = statement('https://slsa.dev/provenance/v1', subjectOf());
  const what: What = { kind: 'attestation', predicateType: 'https://slsa.dev/provenance/v1' };
  const over = (choose: (signature: Uint8Array, envelope: Uint8Array) => Uint8Array) =>
    attestationLayer(key, text, undefined, (signature, envelope) => ({
      [TIMESTAMP]: stamped(token(choose(signature, envelope))),
    }));
  assert.equal(
    outcome(
      over((signature) => signature),
      byKey({ tsa: 'test' }),
      { what },
    ),
    'verified',
  );
  assert.equal(
    outcome(
      over((_, envelope) => envelope),
      byKey({ tsa: 'test' }),
      { what },
    ),
    'verified',
  );
  assert.equal(
    outcome(
      over(() => payload),
      byKey({ tsa: 'test' }),
      { what },
    ),
    'BROKEN_TIMESTAMP',
  );
});

test('a signature from the future is refused', () => {
  assert.equal(outcome(keyless(), byIdentity(), { now: AT - 3_600_000 }), 'FUTURE_TIMESTAMP');
  assert.equal(outcome(keyless(), byIdentity(), { now: AT - 60_000 }), 'verified');
});

test('a certificate is never held against now', () => {
  assert.equal(outcome(keyless(), byIdentity(), { now: AT + 20 * 365 * 86_400_000 }), 'verified');
});

test('without a trusted time a certificate proves nothing, and nothing throws', () => {
  assert.equal(outcome(keyless({ noEntry: true }), byIdentity({ tlog: false })), 'NO_TIMESTAMP');
  assert.equal(outcome(keyless({ noEntry: true }), byIdentity()), 'NO_LOG_ENTRY');
});

test('sigstore-js #1656: names are compared as a whole, and patterns as Go compares them', () => {
  const subject = (uri: string) => keyless({ extensions: [EXT.usage(CODE), EXT.uri(uri), EXT.issuer2(ISSUER)] });
  for (const uri of [`${SUBJECT}-evil`, `x${SUBJECT}`, SUBJECT.replace('github.test', 'githubxtest')])
    assert.equal(outcome(subject(uri), byIdentity()), 'WRONG_IDENTITY', uri);
  const like = (regExp: string) => byIdentity({ identities: [{ issuer: { exact: ISSUER }, subject: { regExp } }] });
  // Unanchored, as Go's MatchString: whoever writes a policy must anchor.
  assert.equal(outcome(subject(`${SUBJECT}-evil`), like('acme/os/')), 'verified');
  assert.equal(outcome(subject(SUBJECT), like('(?i)^HTTPS://github\\.test/\\pL+/os/.*main\\z')), 'verified');
  assert.equal(
    outcome(subject(`${SUBJECT}-evil`), like('^https://github\\.test/acme/os/.*@refs/heads/main$')),
    'WRONG_IDENTITY',
  );
  // What doubles the time of a backtracking engine with each letter.
  assert.equal(outcome(subject(`https://${'a'.repeat(1500)}!`), like('^https://(a+)+$')), 'WRONG_IDENTITY');
});

test('names in a certificate are bytes: no eighth bit, no NUL, no second issuer', () => {
  const high = Buffer.from(SUBJECT, 'latin1').map((byte, index) => (index > 20 && index < 24 ? byte | 0x80 : byte));
  const of = (...extensions: Uint8Array[]) =>
    outcome(keyless({ extensions: [EXT.usage(CODE), ...extensions] }), byIdentity());
  assert.equal(of(EXT.uri(high), EXT.issuer2(ISSUER)), 'MALFORMED');
  assert.equal(of(EXT.uri(`${SUBJECT}\0`), EXT.issuer2(ISSUER)), 'MALFORMED');
  assert.equal(of(EXT.uri(SUBJECT), EXT.issuer1(ISSUER)), 'verified');
  assert.equal(of(EXT.uri(SUBJECT), EXT.issuer1(ISSUER), EXT.issuer2(ISSUER)), 'verified');
  assert.equal(of(EXT.uri(SUBJECT), EXT.issuer1(ISSUER), EXT.issuer2(`${ISSUER}.evil`)), 'WRONG_ISSUER');
  assert.equal(of(EXT.uri(SUBJECT), EXT.issuer1('https://x.test'), EXT.issuer2(ISSUER)), 'WRONG_ISSUER');
  assert.equal(of(EXT.uri(SUBJECT)), 'WRONG_ISSUER');
  assert.equal(of(EXT.uri(SUBJECT), EXT.uri('https://other.test'), EXT.issuer2(ISSUER)), 'MALFORMED');
  assert.equal(of(EXT.otherName(SUBJECT), EXT.issuer2(ISSUER)), 'verified');
});

test('a certificate that is not for signing code, or an authority’s, signs no image', () => {
  const names = [EXT.uri(SUBJECT), EXT.issuer2(ISSUER)];
  assert.equal(
    outcome(keyless({ extensions: [EXT.usage('1.3.6.1.5.5.7.3.1'), ...names] }), byIdentity()),
    'CERTIFICATE_USAGE',
  );
  assert.equal(outcome(keyless({ extensions: names }), byIdentity()), 'CERTIFICATE_USAGE');
  assert.equal(
    outcome(keyless({ extensions: [EXT.ca, EXT.usage(CODE), ...names] }), byIdentity()),
    'CERTIFICATE_USAGE',
  );
});

test('a certificate of an authority that the root does not have is nobody’s', () => {
  assert.equal(outcome(keyless({ by: other }), byIdentity()), 'UNTRUSTED_CHAIN');
  assert.equal(outcome(keyless({ by: key, issuer: '' }), byIdentity()), 'UNTRUSTED_CHAIN');
});

test('without the trust root that a policy names nothing verifies, and it says so', () => {
  assert.equal(outcome(keyless(), byIdentity({ trustRoot: 'elsewhere' })), 'NO_TRUST_ROOT');
  assert.equal(outcome(withEntry(key, key), byKey({ tlog: 'elsewhere' })), 'NO_TRUST_ROOT');
});

test('any of several keys suffices; one that cannot be read is told', () => {
  const signed = signatureLayer(key, payload);
  assert.equal(outcome(signed, byKey({ keys: [pemOf(other), pemOf(key)] })), 'verified');
  assert.equal(outcome(signed, byKey({ keys: ['no key', pemOf(key)] })), 'verified');
  assert.equal(outcome(signed, byKey({ keys: ['no key'] })), 'UNUSABLE_KEY');
  assert.equal(outcome(signed, byKey({ keys: [] })), 'WRONG_KEY');
  assert.equal(outcome(signed, byKey({ hashAlgorithm: 'sha384' })), 'WRONG_HASH');
});

test('an image is signed through an index only if the index’s bytes list it', () => {
  const listing = (digest: string) =>
    new TextEncoder().encode(
      JSON.stringify({
        schemaVersion: 2,
        manifests: [{ mediaType: 'application/vnd.oci.image.manifest.v1+json', digest, size: 1 }],
      }),
    );
  const index = listing(IMAGE);
  const foreign = listing(`sha256:${'1'.repeat(64)}`);
  const digestOfIndex = imageTarget({ digest: IMAGE, indexes: [index] }).digests[1]!.hex;
  const signed = signatureLayer(key, simple(`sha256:${digestOfIndex}`));
  assert.equal(outcome(signed, byKey()), 'WRONG_DIGEST');
  assert.equal(outcome(signed, byKey(), { image: { indexes: [foreign, index] } }), 'verified');
  assert.equal(outcome(signed, byKey(), { image: { indexes: [foreign, new Uint8Array([123])] } }), 'WRONG_DIGEST');
});

test('a signature made for another repository is none of this image; tags are not compared', () => {
  const signed = signatureLayer(key, payload);
  const known = (...references: string[]) => outcome(signed, byKey(), { image: { references } });
  assert.equal(known(), 'verified');
  assert.equal(known('quay.test/acme/os'), 'verified');
  assert.equal(known('docker://quay.test/acme/os:stable'), 'verified');
  assert.equal(known('mirror.test/acme/os', 'quay.test/acme/os:1'), 'verified');
  assert.equal(known('quay.test/acme/os-evil'), 'WRONG_REFERENCE');
});

test('the deny list spares what was provably signed before, and only that', () => {
  const fingerprint = verifySignature(
    signatureLayer(key, payload),
    { what: { kind: 'signature' }, authority: byKey() },
    { target: imageTarget({ digest: IMAGE }), roots: new Map(), deny: [], now: AT },
  );
  assert.ok(fingerprint.kind === 'verified');
  const of = fingerprint.by.fingerprint;
  const deny = (entry: Omit<Extract<DenyEntry, { what: 'key' }>, 'reason' | 'fingerprint' | 'what'>) => ({
    deny: [{ what: 'key' as const, fingerprint: of, reason: 'stolen', ...entry }],
  });
  const timed = withEntry(key, key);
  assert.equal(outcome(timed, byKey({ tlog: 'test' }), deny({ from: AT + 1 })), 'verified');
  assert.equal(outcome(timed, byKey({ tlog: 'test' }), deny({ from: AT })), 'DENIED');
  assert.equal(outcome(timed, byKey({ tlog: 'test' }), deny({ from: undefined })), 'DENIED');
  // Without a trusted time it may have been made after.
  assert.equal(outcome(signatureLayer(key, payload), byKey(), deny({ from: AT + 1 })), 'DENIED');
  const rest: readonly (readonly [string, DenyEntry, string])[] = [
    ['image', { what: 'image', digest: IMAGE, from: undefined, reason: '' }, 'DENIED'],
    ['image, from later on', { what: 'image', digest: IMAGE, from: AT + 10 * 86_400_000, reason: '' }, 'verified'],
    [
      'identity',
      { what: 'identity', issuer: { exact: ISSUER }, subject: { regExp: '^https://github' }, from: AT, reason: '' },
      'DENIED',
    ],
    [
      'another issuer',
      { what: 'identity', issuer: { exact: 'x' }, subject: { regExp: '' }, from: AT, reason: '' },
      'verified',
    ],
    ['certificate', { what: 'certificate', serial: '07', from: AT, reason: '' }, 'DENIED'],
    ['another certificate', { what: 'certificate', serial: '08', from: AT, reason: '' }, 'verified'],
  ];
  for (const [name, entry, expected] of rest)
    assert.equal(outcome(keyless(), byIdentity(), { deny: [entry] }), expected, name);
});

test('a trust root whose keys have no beginning is refused', () => {
  throwsCode(() => root({ tsaValidFor: {} as { start: string } }), TrustRootError, 'TRUST_ROOT_SYNTAX');
});

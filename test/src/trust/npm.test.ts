/** What npm published with its packages (test/vectors/trust/npm): signatures of a real public log, made by strangers, years ago. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fromBase64, toBase64 } from '#src/bytes.ts';
import { bundleFile } from '#src/trust/bundle.ts';
import type { TrustCode } from '#src/trust/material.ts';
import type { Authority, KeyAuthority, KeylessAuthority } from '#src/trust/requirement.ts';
import type { Target } from '#src/trust/target.ts';
import { readTrustRoot, type TrustRoots } from '#src/trust/trustroot.ts';
import { verifySignature } from '#src/trust/verify.ts';
import { ROOTS } from './cases.ts';

const vectors = join(import.meta.dirname, '../../vectors');
const file = (name: string): Uint8Array => readFileSync(join(vectors, 'trust/npm', name));
const PUBLIC: TrustRoots = new Map([
  [
    'public-good',
    readTrustRoot('public-good', readFileSync(join(vectors, 'conformance/trusted_root.public-good.json'))),
  ],
]);
const NOW = Date.parse('2026-11-25T00:00:00Z');

/** `dist.integrity` of the registry's metadata, in hex. */
const PACKAGES = {
  'sigstore@1.3.0':
    '76176ffa33808b54602c7c35de5c6e9a4deb96066dba6533f50ac234f4f1f4c6b3527515dc17c06fbe2860030f410eee69ea20079bd3a2c6f3dcf3b329b10751',
  'sigstore@2.0.0':
    '46d4e2f74c4877316640000a6fdf8a8b59f1e0847667973e9859f774dd31b8f1e0937813b777fb66a2ac67d50540fe34640966eee9fc2ccca387082b4c85cd3c',
} as const;
const packageOf = (hex: string): Target => ({
  digests: [{ algorithm: 'sha512', hex, bytes: undefined }],
  repositories: [],
});

const ISSUER = 'https://token.actions.githubusercontent.com';
const SUBJECT = 'https://github.com/sigstore/sigstore-js/.github/workflows/release.yml@refs/heads/main';
const SLSA02 = 'https://slsa.dev/provenance/v0.2';
const SLSA1 = 'https://slsa.dev/provenance/v1';
const PUBLISH = 'https://github.com/npm/attestation/tree/main/specs/publish/v0.1';

const builder = (more: Partial<KeylessAuthority> = {}): KeylessAuthority => ({
  kind: 'keyless',
  identities: [{ issuer: { exact: ISSUER }, subject: { exact: SUBJECT } }],
  trustRoot: 'public-good',
  tlog: true,
  tsa: false,
  sct: true,
  ...more,
});
const named = (subject: string, issuer = ISSUER) =>
  builder({ identities: [{ issuer: { exact: issuer }, subject: { exact: subject } }] });

const { keys } = JSON.parse(Buffer.from(file('keys.json')).toString()) as {
  keys: { keyUsage: string; publicKey: { rawBytes: string } }[];
};
const [npmKey = '', npmKeySince2025 = ''] = keys
  .filter(({ keyUsage }) => keyUsage === 'npm:attestations')
  .map(({ publicKey }) => `-----BEGIN PUBLIC KEY-----\n${publicKey.rawBytes}\n-----END PUBLIC KEY-----\n`);
const byNpm = (...pems: string[]): KeyAuthority => ({
  kind: 'key',
  keys: pems,
  hashAlgorithm: 'sha256',
  tlog: 'public-good',
  tsa: undefined,
});

type Asked = {
  readonly bytes: Uint8Array;
  readonly hex: string;
  readonly authority: Authority;
  readonly type: string | undefined;
  readonly roots?: TrustRoots;
};
const judge = ({ bytes, hex, authority, type, roots = PUBLIC }: Asked) =>
  verifySignature(
    bundleFile(bytes, 'npm'),
    { what: type === undefined ? { kind: 'signature' } : { kind: 'attestation', predicateType: type }, authority },
    { target: packageOf(hex), roots, deny: [], now: NOW },
  );
const outcome = (asked: Asked): string => {
  const result = judge(asked);
  return result.kind === 'verified' ? 'verified' : result.code;
};

const VERSIONS = [
  { name: 'sigstore@1.3.0', type: SLSA02, logIndex: '18300934', at: '2023-04-18T17:45:12.000Z' },
  { name: 'sigstore@2.0.0', type: SLSA1, logIndex: '31821305', at: '2023-08-18T16:05:35.000Z' },
] as const;

for (const { name, type, logIndex, at } of VERSIONS) {
  const bytes = file(`${name}.provenance.json`);
  const right: Asked = { bytes, hex: PACKAGES[name], authority: builder(), type };
  const other = Object.values(PACKAGES).find((hex) => hex !== right.hex)!;

  test(`${name}: its provenance verifies, with who, when and where it was logged`, () => {
    const verified = judge(right);
    assert.ok(verified.kind === 'verified', JSON.stringify(verified));
    assert.ok(verified.by.kind === 'keyless');
    assert.equal(verified.by.issuer, ISSUER);
    assert.equal(verified.by.subject, SUBJECT);
    assert.equal(verified.predicateType, type);
    assert.equal(verified.signs, `sha512:${right.hex}`);
    assert.deepEqual(
      verified.times.map((time) => [time.by, new Date(time.at).toISOString()]),
      [['log', at]],
    );
    assert.deepEqual(
      verified.entries.map((entry) => [entry.log, entry.logIndex]),
      [['https://rekor.sigstore.dev', logIndex]],
    );
  });

  const refused: readonly (readonly [string, Partial<Asked>, TrustCode])[] = [
    ['another branch', { authority: named(SUBJECT.replace(/main$/, 'next')) }, 'WRONG_IDENTITY'],
    ['the beginning of the name', { authority: named(SUBJECT.slice(0, -1)) }, 'WRONG_IDENTITY'],
    ['the name with another letter in front', { authority: named(`x${SUBJECT}`) }, 'WRONG_IDENTITY'],
    ['a name in capitals', { authority: named(SUBJECT.toUpperCase()) }, 'WRONG_IDENTITY'],
    ['the name as a pattern would match it', { authority: named(SUBJECT.replace('.com', '?com')) }, 'WRONG_IDENTITY'],
    ['another issuer', { authority: named(SUBJECT, 'https://accounts.google.com') }, 'WRONG_ISSUER'],
    ['an issuer with a slash more', { authority: named(SUBJECT, `${ISSUER}/`) }, 'WRONG_ISSUER'],
    ['nobody', { authority: builder({ identities: [] }) }, 'WRONG_IDENTITY'],
    ['the digest of the other package', { hex: other }, 'WRONG_DIGEST'],
    ['the digest without its last letter', { hex: right.hex.slice(0, -1) }, 'WRONG_DIGEST'],
    ['another predicate', { type: type === SLSA1 ? SLSA02 : SLSA1 }, 'WRONG_PREDICATE'],
    ['a signature of the package itself', { type: undefined }, 'WRONG_KIND'],
    ['a timestamp authority', { authority: builder({ tsa: true }) }, 'NO_TIMESTAMP'],
    ['npm’s key', { authority: byNpm(npmKey) }, 'WRONG_KEY'],
    ['a root that is not here', { roots: new Map() }, 'NO_TRUST_ROOT'],
    ['another instance under the same name', { roots: new Map([['public-good', ROOTS.get('test')!]]) }, 'UNKNOWN_LOG'],
  ];
  for (const [what, change, code] of refused)
    test(`${name}: whoever asks for ${what} is refused with ${code}`, () =>
      assert.equal(outcome({ ...right, ...change }), code));

  type Bundle = {
    verificationMaterial: {
      x509CertificateChain: { certificates: { rawBytes: string }[] };
      tlogEntries: {
        canonicalizedBody: string;
        integratedTime: string;
        logIndex: string;
        inclusionPromise: { signedEntryTimestamp: string };
      }[];
    };
    dsseEnvelope: { payload: string; payloadType: string; signatures: { sig: string }[] };
  };
  const changed = (change: (bundle: Bundle) => void): string => {
    const bundle = JSON.parse(Buffer.from(bytes).toString()) as Bundle;
    change(bundle);
    return outcome({ ...right, bytes: Buffer.from(JSON.stringify(bundle)) });
  };
  const flip = (base64: string): string => swap(base64, ({ length }) => length >> 1);

  const flips: readonly (readonly [string, (bundle: Bundle) => void, TrustCode])[] = [
    [
      'the signature',
      ({ dsseEnvelope: { signatures } }) => (signatures[0]!.sig = flip(signatures[0]!.sig)),
      'BAD_SIGNATURE',
    ],
    [
      'the predicate',
      ({ dsseEnvelope }) =>
        (dsseEnvelope.payload = swap(
          dsseEnvelope.payload,
          (json) => Buffer.from(json).indexOf('refs/heads/main') + 12,
        )),
      'BAD_SIGNATURE',
    ],
    [
      'the signing key (which is then no point of its curve)',
      ({ verificationMaterial: { x509CertificateChain: chain } }) =>
        (chain.certificates[0]!.rawBytes = swap(chain.certificates[0]!.rawBytes, (der) => keyIn(der) + 40)),
      'MALFORMED',
    ],
    [
      'the authority’s signature',
      ({ verificationMaterial: { x509CertificateChain: chain } }) =>
        (chain.certificates[0]!.rawBytes = swap(chain.certificates[0]!.rawBytes, (der) => der.length - 3)),
      'UNTRUSTED_CHAIN',
    ],
    [
      'the log’s promise',
      ({ verificationMaterial: { tlogEntries } }) =>
        (tlogEntries[0]!.inclusionPromise.signedEntryTimestamp = flip(
          tlogEntries[0]!.inclusionPromise.signedEntryTimestamp,
        )),
      'BROKEN_INCLUSION',
    ],
    [
      'the time that was promised',
      ({ verificationMaterial: { tlogEntries } }) =>
        (tlogEntries[0]!.integratedTime = String(Number(tlogEntries[0]!.integratedTime) + 1)),
      'BROKEN_INCLUSION',
    ],
    [
      'the place in the log',
      ({ verificationMaterial: { tlogEntries } }) =>
        (tlogEntries[0]!.logIndex = String(Number(tlogEntries[0]!.logIndex) + 1)),
      'BROKEN_INCLUSION',
    ],
  ];
  for (const [what, change, code] of flips)
    test(`${name}: with ${what} changed it is refused with ${code}`, () => assert.equal(changed(change), code));
}

/** One bit of the byte that `at` chooses. */
function swap(base64: string, at: (der: Uint8Array) => number): string {
  const der = fromBase64(base64);
  const index = at(der);
  return toBase64(der.map((byte, i) => (i === index ? byte ^ 1 : byte)));
}

/** Where the point of a P-256 key begins: the bit string after the curve's name. */
const keyIn = (der: Uint8Array): number => Buffer.from(der).indexOf(Buffer.from('06082a8648ce3d030107034200', 'hex'));

test('npm’s own attestation verifies with npm’s key of then, from the same log; with its key of now it does not', () => {
  const asked: Asked = {
    bytes: file('sigstore@1.3.0.publish.json'),
    hex: PACKAGES['sigstore@1.3.0'],
    authority: byNpm(npmKey),
    type: PUBLISH,
  };
  const verified = judge(asked);
  assert.ok(verified.kind === 'verified', JSON.stringify(verified));
  assert.deepEqual(
    verified.entries.map(({ logIndex }) => logIndex),
    ['18300940'],
  );
  assert.equal(outcome({ ...asked, authority: byNpm(npmKeySince2025) }), 'WRONG_KEY');
  assert.equal(outcome({ ...asked, authority: byNpm(npmKeySince2025, npmKey) }), 'verified');
  assert.equal(outcome({ ...asked, authority: builder() }), 'NO_CERTIFICATE');
  assert.equal(outcome({ ...asked, hex: PACKAGES['sigstore@2.0.0'] }), 'WRONG_DIGEST');
  assert.equal(outcome({ ...asked, type: SLSA02 }), 'WRONG_PREDICATE');
});

test('the certificate had ten minutes, three years ago: it is held against the time of the log, never against now', () => {
  const bytes = file('sigstore@2.0.0.provenance.json');
  const asked = { bytes, hex: PACKAGES['sigstore@2.0.0'], authority: builder(), type: SLSA1 };
  assert.equal(outcome(asked), 'verified');
  // Without the promise there is a proof that it was logged, and no time (docs/trust.md 3.3).
  const bundle = JSON.parse(Buffer.from(bytes).toString()) as {
    mediaType: string;
    verificationMaterial: { tlogEntries: Record<string, unknown>[] };
  };
  delete bundle.verificationMaterial.tlogEntries[0]!['inclusionPromise'];
  bundle.mediaType = 'application/vnd.dev.sigstore.bundle+json;version=0.2';
  assert.equal(outcome({ ...asked, bytes: Buffer.from(JSON.stringify(bundle)) }), 'NO_TIMESTAMP');
});

/** The table of signature algorithms: what is taken, what is refused, and that each refusal says which of the two it is. */
import assert from 'node:assert/strict';
import { constants, generateKeyPairSync, hash, sign, type KeyObject } from 'node:crypto';
import { test } from 'node:test';
import { ed25519ph } from '@noble/curves/ed25519.js';
import { checkDigestSignature, checkSignature, KeyError, readKey, usualHashes } from '#src/trust/keys.ts';
import type { HashAlgorithm } from '#src/trust/requirement.ts';
import { throwsCode } from '#test/throws.ts';

const data = new TextEncoder().encode('signed bytes');
const ec = (namedCurve: string) => generateKeyPairSync('ec', { namedCurve });
const p256 = ec('P-256');
const p384 = ec('P-384');
const p521 = ec('P-521');
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const edwards = generateKeyPairSync('ed25519');

const check = (key: KeyObject, signature: Uint8Array, ...hashes: HashAlgorithm[]): string => {
  const result = checkSignature(key, data, signature, hashes);
  return 'algorithm' in result ? `${result.kind} ${result.algorithm.name}` : result.kind;
};

test('ECDSA and RSA count with the digest asked for; another is named', () => {
  for (const [name, { publicKey, privateKey }] of [
    ['ecdsa-p256', p256],
    ['ecdsa-p384', p384],
    ['ecdsa-p521', p521],
    ['rsa-pkcs1', rsa],
  ] as const)
    for (const made of ['sha224', 'sha256', 'sha384', 'sha512'] as const)
      for (const asked of ['sha256', 'sha384'] as const)
        assert.equal(
          check(publicKey, sign(made, data, privateKey), asked),
          `${made === asked ? 'good' : 'other-hash'} ${name}-${made}`,
        );
});

test('Ed25519 counts pure and prehashed, whatever digest is asked for', () => {
  const { publicKey, privateKey } = edwards;
  assert.equal(check(publicKey, sign(null, data, privateKey), 'sha256'), 'good ed25519');
  const seed = Buffer.from((privateKey.export({ format: 'jwk' }) as { d: string }).d, 'base64url');
  assert.equal(check(publicKey, ed25519ph.sign(data, seed), 'sha256'), 'good ed25519ph');
  // A context makes it another algorithm.
  const withContext = ed25519ph.sign(data, seed, { context: new Uint8Array([1]) });
  assert.equal(check(publicKey, withContext, 'sha256'), 'bad');
});

test('what nobody uses by default is unsupported, not wrong', () => {
  const pss = sign('sha256', data, { key: rsa.privateKey, padding: constants.RSA_PKCS1_PSS_PADDING });
  assert.equal(check(rsa.publicKey, pss, 'sha256'), 'unsupported');
  const p1363 = sign('sha256', data, { key: p256.privateKey, dsaEncoding: 'ieee-p1363' });
  assert.equal(check(p256.publicKey, p1363, 'sha256'), 'unsupported');
  for (const { publicKey, privateKey } of [ec('secp256k1'), generateKeyPairSync('rsa', { modulusLength: 1024 })])
    assert.equal(check(publicKey, sign('sha256', data, privateKey), 'sha256'), 'unsupported');
});

test('signatures that are none are bad and throw nothing', () => {
  const empty = new Uint8Array();
  const junk = new Uint8Array(300).fill(0x30);
  for (const { publicKey } of [p256, p384, p521, rsa, edwards])
    for (const signature of [empty, junk, junk.subarray(0, 64)])
      assert.equal(check(publicKey, signature, 'sha256'), 'bad');
});

test('ECDSA is verified over a digest alone, as over the bytes; others say that they are not', () => {
  const over = (key: KeyObject, algorithm: string, signature: Uint8Array) =>
    checkDigestSignature(key, { algorithm, hex: hash(algorithm, data, 'hex') }, signature).kind;
  assert.equal(over(p256.publicKey, 'sha256', sign('sha256', data, p256.privateKey)), 'good');
  assert.equal(over(p384.publicKey, 'sha384', sign('sha384', data, p384.privateKey)), 'good');
  assert.equal(over(p384.publicKey, 'sha256', sign('sha256', data, p384.privateKey)), 'good');
  assert.equal(over(p521.publicKey, 'sha512', sign('sha512', data, p521.privateKey)), 'good');
  assert.equal(over(p256.publicKey, 'sha256', sign('sha256', Buffer.from('other'), p256.privateKey)), 'bad');
  assert.equal(over(p256.publicKey, 'sha256', new Uint8Array(3)), 'bad');
  assert.equal(over(rsa.publicKey, 'sha256', sign('sha256', data, rsa.privateKey)), 'unsupported');
  assert.equal(over(p256.publicKey, 'sha384', sign('sha384', data, p256.privateKey)), 'unsupported');
});

test('a certificate’s key is tried with the digests that signers use', () => {
  assert.deepEqual(
    [p256, p384, p521, rsa].map(({ publicKey }) => usualHashes(publicKey)),
    [['sha256'], ['sha384', 'sha256'], ['sha512', 'sha256'], ['sha256']],
  );
});

const pem = (key: KeyObject, type: 'spki' | 'pkcs1' = 'spki'): string => key.export({ format: 'pem', type });
const refused = [
  ['nothing', '', 'KEY_SYNTAX'],
  ['text', 'no key', 'KEY_SYNTAX'],
  ['two keys', pem(p256.publicKey) + pem(p384.publicKey), 'KEY_SYNTAX'],
  ['a private key', p256.privateKey.export({ format: 'pem', type: 'pkcs8' }), 'KEY_SYNTAX'],
  ['a block without a key', '-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n', 'KEY_SYNTAX'],
  ['a short RSA key', pem(generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey), 'KEY_ALGORITHM'],
  ['another curve', pem(ec('secp256k1').publicKey), 'KEY_ALGORITHM'],
  ['a key that signs nothing', pem(generateKeyPairSync('x25519').publicKey), 'KEY_ALGORITHM'],
  ['RSA for PSS alone', pem(generateKeyPairSync('rsa-pss', { modulusLength: 2048 }).publicKey), 'KEY_ALGORITHM'],
] as const;
for (const [name, text, code] of refused)
  test(`refuses ${name}`, () => throwsCode(() => readKey(text), KeyError, code));

test('a key is the same in PKCS #1 and in SPKI', () => {
  assert.equal(readKey(pem(rsa.publicKey, 'pkcs1')).fingerprint, readKey(pem(rsa.publicKey)).fingerprint);
});

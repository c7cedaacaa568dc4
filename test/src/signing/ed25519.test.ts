import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { toHex } from '#src/bytes.ts';
import { fingerprintOf, KeyError, parsePublicKey, publicKeyFromSpki, spkiOf } from '#src/signing/ed25519.ts';
import { nodeSigner, pkcs8OfSeed, publicKeyOfSeed, verifyInPool } from '#src/signing/node.ts';
import { throwsCode } from '#test/throws.ts';
import { keys } from '../report/vectors.ts';

for (const [name, key] of Object.entries(keys))
  test(`the ${name} key: seed, public key, SubjectPublicKeyInfo and fingerprint are as openssl says`, () => {
    assert.equal(publicKeyOfSeed(Uint8Array.fromHex(key.seed)), key.publicKey);
    assert.equal(toHex(spkiOf(key.publicKey)), key.spki);
    assert.equal(publicKeyFromSpki(Uint8Array.fromHex(key.spki)), key.publicKey);
    assert.equal(fingerprintOf(key.publicKey), key.fingerprint);
    assert.equal(nodeSigner(key.pkcs8).publicKey, key.publicKey);
    assert.equal(nodeSigner(pkcs8OfSeed(Uint8Array.fromHex(key.seed))).publicKey, key.publicKey);
  });

const refused = [
  ['nothing', '', 'KEY_SYNTAX'],
  ['upper case', keys.host.publicKey.toUpperCase(), 'KEY_SYNTAX'],
  ['a byte too many', `${keys.host.publicKey}00`, 'KEY_SYNTAX'],
  ['the point of order 1', `01${'00'.repeat(31)}`, 'KEY_WEAK'],
  ['the point of order 1 with a sign', `01${'00'.repeat(30)}80`, 'KEY_WEAK'],
  ['the point of order 2', `ec${'ff'.repeat(30)}7f`, 'KEY_WEAK'],
  ['a point of order 4', '00'.repeat(32), 'KEY_WEAK'],
  ['the other point of order 4', `${'00'.repeat(31)}80`, 'KEY_WEAK'],
  ['a point of order 8', '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05', 'KEY_WEAK'],
  ['its negative', '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85', 'KEY_WEAK'],
  ['another point of order 8', 'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a', 'KEY_WEAK'],
  ['its negative', 'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa', 'KEY_WEAK'],
  ['p, another spelling of 0', `ed${'ff'.repeat(30)}7f`, 'KEY_WEAK'],
  ['p + 1, another spelling of 1', `ee${'ff'.repeat(30)}ff`, 'KEY_WEAK'],
  ['the largest number', 'ff'.repeat(32), 'KEY_WEAK'],
] as const;
for (const [name, text, code] of refused)
  test(`refuses as public key ${name}: ${text.slice(0, 4)}…${text.slice(-4)}`, () =>
    throwsCode(() => parsePublicKey(text), KeyError, code));

test('refuses the SubjectPublicKeyInfo of another algorithm', () => {
  const x25519 = keys.host.spki.replace('2b6570', '2b656e');
  throwsCode(() => publicKeyFromSpki(Uint8Array.fromHex(x25519)), KeyError, 'KEY_SYNTAX');
  throwsCode(() => publicKeyFromSpki(new Uint8Array()), KeyError, 'KEY_SYNTAX');
});

test('a signature holds for its message and key alone', async () => {
  const signer = nodeSigner(keys.host.pkcs8);
  const message = new TextEncoder().encode('of this host');
  const signature = await signer.sign(message);
  assert.equal(signature.length, 64);
  assert.equal(await verifyInPool(signer.publicKey, message, signature), true);
  assert.equal(await verifyInPool(keys.server.publicKey, message, signature), false);
  assert.equal(await verifyInPool(signer.publicKey, message.slice(1), signature), false);
  for (const at of [0, 31, 32, 63]) {
    const other = Uint8Array.from(signature);
    other[at]! ^= 1;
    assert.equal(await verifyInPool(signer.publicKey, message, other), false);
  }
  assert.equal(await verifyInPool(signer.publicKey, message, signature.slice(0, 63)), false);
  assert.equal(await verifyInPool(signer.publicKey, message, new Uint8Array()), false);
});

test('32 bytes that are no point of the curve verify nothing', async () => {
  const none = parsePublicKey(`02${'00'.repeat(31)}`);
  assert.equal(await verifyInPool(none, new Uint8Array(3), new Uint8Array(64)), false);
});

test('a signature with s raised by the group order is refused: one signature, one spelling', async () => {
  const order = 2n ** 252n + 27742317777372353535851937790883648493n;
  const signer = nodeSigner(keys.host.pkcs8);
  const message = new Uint8Array(10);
  const signature = await signer.sign(message);
  let s = order + BigInt(`0x${toHex(Uint8Array.from(signature.slice(32)).reverse())}`);
  const raised = Uint8Array.from(signature);
  for (let i = 32; i < 64; i++, s >>= 8n) raised[i] = Number(s & 0xffn);
  assert.equal(await verifyInPool(signer.publicKey, message, raised), false);
});

test('openssl reads our private key and finds the same public one', (t) => {
  try {
    execFileSync('openssl', ['version'], { stdio: 'ignore' });
  } catch {
    t.skip('no openssl on this machine');
    return;
  }
  const der = pkcs8OfSeed(Uint8Array.fromHex(keys.token.seed));
  const spki = execFileSync('openssl', ['pkey', '-inform', 'DER', '-pubout', '-outform', 'DER'], {
    input: der,
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  assert.equal(spki.toString('hex'), keys.token.spki);
});

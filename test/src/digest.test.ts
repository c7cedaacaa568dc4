/** Digests and byte strings: one spelling each. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BytesError, fromBase64, fromBytes, fromHex, fromUtf8, toBase64, toBytes, toHex, toUtf8 } from '#src/bytes.ts';
import { formatInstant, parseInstant } from '#src/clock.ts';
import { DigestError, digestOf, parseDigest } from '#src/digest.ts';
import { printable } from '#src/terminal.ts';
import { throwsCode } from '#test/throws.ts';

const hex = 'ab'.repeat(32);
const refused = [
  ['empty', '', 'DIGEST_SYNTAX'],
  ['bare hex, as old composefs hosts report it', hex, 'DIGEST_SYNTAX'],
  ['upper case', `sha256:${hex.toUpperCase()}`, 'DIGEST_SYNTAX'],
  ['a trailing newline', `sha256:${hex}\n`, 'DIGEST_SYNTAX'],
  ['another algorithm', `sha512:${hex}${hex}`, 'DIGEST_ALGORITHM'],
] as const;
for (const [name, text, code] of refused)
  test(`refuses a digest: ${name}`, () => throwsCode(() => parseDigest(text), DigestError, code));

test('the digest of nothing and of "abc" are those of FIPS 180-4', () => {
  assert.equal(digestOf(''), 'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
  assert.equal(parseDigest(digestOf('abc')), 'sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
});

test('bytes survive hex, base64 and byte strings', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 20_000 }), (bytes) => {
      assert.deepEqual(fromHex(toHex(bytes)), bytes);
      assert.deepEqual(fromBase64(toBase64(bytes)), bytes);
      assert.deepEqual(toBytes(fromBytes(bytes)), bytes);
      const text = toUtf8(fromBytes(bytes));
      if (text !== undefined) assert.equal(fromUtf8(text), fromBytes(bytes));
    }),
  );
});

test('hex and base64 have one spelling', () => {
  for (const text of ['AB', 'a', 'zz', ' ab']) throwsCode(() => fromHex(text), BytesError, 'HEX_SYNTAX');
  for (const text of ['YQ', 'YQ==\n', 'YR==', ' YQ==', 'Y Q==', '===='])
    throwsCode(() => fromBase64(text), BytesError, 'BASE64_SYNTAX');
});

test('instants have one spelling', () => {
  assert.equal(parseInstant(formatInstant(1_764_000_000_123)), 1_764_000_000_123);
  for (const text of ['2026-11-24', '2026-11-24T00:00:00Z', '2026-11-24T00:00:00.000+00:00', 'now'])
    assert.equal(parseInstant(text), undefined, text);
});

test('a file name cannot move, colour or reorder a terminal', () => {
  assert.equal(printable('/usr/bin/\x1b[31mred\x07'), '/usr/bin/\\x1b[31mred\\x07');
  assert.equal(printable(fromUtf8('/etc/a\u202egpj.exe\u200b')), '/etc/a\\u{202e}gpj.exe\\u{200b}');
  assert.equal(printable('/etc/\xff\n'), '/etc/\\xff\\x0a');
  assert.equal(printable(fromUtf8('/etc/ä\\')), '/etc/ä\\\\');
});

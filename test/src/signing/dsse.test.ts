import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { toBase64 } from '#src/bytes.ts';
import {
  DsseError,
  EnvelopeJson,
  envelopeBytesMax,
  envelopeDigest,
  envelopeFromJson,
  envelopeJson,
  pae,
  parseEnvelope,
  printEnvelope,
  signEnvelope,
  verifyEnvelope,
} from '#src/signing/dsse.ts';
import { verifyInPool } from '#src/signing/node.ts';
import { throwsCode } from '#test/throws.ts';
import { full, hostSigner, keys, same } from '../report/vectors.ts';

const TYPE = 'application/vnd.bootproof.report+json';
const bytes = (text: string) => new TextEncoder().encode(text);

test('what is signed is as the DSSE specification shows it', () => {
  const signed = pae('http://example.com/HelloWorld', bytes('hello world'));
  assert.equal(new TextDecoder().decode(signed), 'DSSEv1 29 http://example.com/HelloWorld 11 hello world');
});

for (const [name, vector] of Object.entries({ full, same }))
  test(`the ${name} vector reads, prints back, verifies and has its digest`, async () => {
    const envelope = parseEnvelope(bytes(vector.envelope), TYPE, 100_000);
    assert.equal(printEnvelope(envelope), vector.envelope);
    assert.deepEqual(JSON.parse(new TextDecoder().decode(envelope.payload)), vector.document);
    assert.equal(await verifyEnvelope(envelope, keys.host.publicKey, verifyInPool), true);
    assert.equal(await verifyEnvelope(envelope, keys.server.publicKey, verifyInPool), false);
    assert.equal(envelopeDigest(bytes(vector.envelope)), vector.digest);
  });

test('Ed25519 is deterministic, so signing the vector again gives its bytes', async () => {
  const { payload } = parseEnvelope(same.envelope, TYPE, 100_000);
  assert.equal(printEnvelope(await signEnvelope(TYPE, payload, hostSigner)), same.envelope);
});

test('a signature over one payload type is none over another', async () => {
  const envelope = await signEnvelope(TYPE, 'x', hostSigner);
  const other = { ...envelope, payloadType: 'application/vnd.bootproof.enrolment+json' };
  assert.equal(await verifyEnvelope(other, keys.host.publicKey, verifyInPool), false);
});

const sig = toBase64(new Uint8Array(64));
const good = `{"payload":"YQ==","payloadType":"${TYPE}","signatures":[{"keyid":"","sig":"${sig}"}]}`;
const refused: [string, string | Uint8Array, string][] = [
  ['nothing', '', 'ENVELOPE_SYNTAX'],
  ['white space at the end', `${good}\n`, 'ENVELOPE_SYNTAX'],
  ['white space inside', good.replace(',"payloadType"', ', "payloadType"'), 'ENVELOPE_SYNTAX'],
  ['a byte order mark', `\ufeff${good}`, 'ENVELOPE_SYNTAX'],
  [
    'another order of keys',
    `{"payloadType":"${TYPE}","payload":"YQ==","signatures":[{"keyid":"","sig":"${sig}"}]}`,
    'ENVELOPE_SYNTAX',
  ],
  ['a keyid', good.replace('"keyid":""', '"keyid":"a"'), 'ENVELOPE_SYNTAX'],
  ['no keyid', good.replace('"keyid":"",', ''), 'ENVELOPE_SYNTAX'],
  ['two signatures', good.replace('}]}', `},{"keyid":"","sig":"${sig}"}]}`), 'ENVELOPE_SYNTAX'],
  ['no signature', good.replace(/\[.*\]/, '[]'), 'ENVELOPE_SYNTAX'],
  ['a signature of 63 bytes', good.replace(sig, toBase64(new Uint8Array(63))), 'ENVELOPE_SYNTAX'],
  ['a key more', good.replace(/}$/, ',"x":1}'), 'ENVELOPE_SYNTAX'],
  ['a key twice', good.replace('{', '{"payload":"Yg==",'), 'ENVELOPE_SYNTAX'],
  ['base64 without padding', good.replace('YQ==', 'YQ'), 'ENVELOPE_SYNTAX'],
  ['base64 with stray bits', good.replace('YQ==', 'YR=='), 'ENVELOPE_SYNTAX'],
  ['stray bits in the signature', good.replace('AA==', 'AB=='), 'ENVELOPE_SYNTAX'],
  ['base64url', good.replace('YQ==', '_-8='), 'ENVELOPE_SYNTAX'],
  ['an escape in a text', good.replace('YQ==', '\\u0059Q=='), 'ENVELOPE_SYNTAX'],
  ['bytes that are not UTF-8', Uint8Array.from([0x7b, 0xff, 0x7d]), 'ENVELOPE_SYNTAX'],
  ['another payload type', good.replace(TYPE, 'application/vnd.in-toto+json'), 'PAYLOAD_TYPE'],
  ['a payload over the limit', good.replace('YQ==', toBase64(new Uint8Array(101))), 'ENVELOPE_TOO_LARGE'],
  ['an envelope over the limit', ' '.repeat(envelopeBytesMax(100) + 1), 'ENVELOPE_TOO_LARGE'],
];
for (const [name, source, code] of refused)
  test(`refuses ${name}`, () => throwsCode(() => parseEnvelope(source, TYPE, 100), DsseError, code));

test('takes the smallest and the largest payload', () => {
  assert.equal(parseEnvelope(good.replace('YQ==', ''), TYPE, 100).payload.length, 0);
  assert.equal(parseEnvelope(good.replace('YQ==', toBase64(new Uint8Array(100))), TYPE, 100).payload.length, 100);
});

test('whatever is signed, prints and reads to the same, in bytes and as part of a document', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 300 }),
      fc.uint8Array({ minLength: 64, maxLength: 64 }),
      (payload, signature) => {
        const envelope = { payloadType: TYPE, payload, signature };
        const text = printEnvelope(envelope);
        assert.deepEqual(parseEnvelope(text, TYPE, 300), envelope);
        assert.deepEqual(envelopeFromJson(EnvelopeJson.parse(JSON.parse(text)), TYPE, 300), envelope);
        assert.deepEqual(envelopeJson(envelope), JSON.parse(text));
      },
    ),
  );
});

test('no other text of the same envelope is read: one changed character is refused or is another content', () => {
  const [first] = [parseEnvelope(good, TYPE, 100)];
  fc.assert(
    fc.property(fc.nat(good.length - 1), fc.integer({ min: 32, max: 126 }), (at, code) => {
      const changed = good.slice(0, at) + String.fromCharCode(code) + good.slice(at + 1);
      fc.pre(changed !== good);
      let read;
      try {
        read = parseEnvelope(changed, TYPE, 100);
      } catch (error) {
        assert.ok(error instanceof DsseError);
        return;
      }
      assert.notDeepEqual(read, first);
    }),
  );
});

test('a part of a document cannot smuggle quotes into the text', () => {
  const json = {
    payload: 'YQ=="',
    payloadType: TYPE,
    signatures: [{ keyid: '' as const, sig }] as [{ keyid: ''; sig: string }],
  };
  throwsCode(() => envelopeFromJson(json, TYPE, 100), DsseError, 'ENVELOPE_SYNTAX');
});

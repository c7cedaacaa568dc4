/** Timestamps (RFC 3161): what OpenSSL's authorities made is read, and everything that is bent is refused by the code that is there for it. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { DerError, oidOf, partsOf, readDer, sequenceOf, writeDer, writeInteger, writeOid } from '#src/signing/der.ts';
import { verifyByKey } from '#src/signing/node.ts';
import { TimestampError, timestampQuery, verifyTimestamp } from '#src/signing/timestamp.ts';
import { CertificateError, readPem } from '#src/signing/x509.ts';
import { BootproofError } from '#src/error.ts';
import { deep } from '../../depth.ts';
import { rejectsCode, throwsCode } from '../../throws.ts';
import { answerTo, AUTHORITY, issue, pemOf, STAMPING, stampOf, type Bent } from './tsa.ts';

const vectors = join(import.meta.dirname, '../../vectors/timestamps');
const bytes = (name: string) => new Uint8Array(readFileSync(join(vectors, name)));
const roots = (...names: string[]) => names.flatMap((name) => readPem(readFileSync(join(vectors, name), 'utf8')));
const TEXT = bytes('text.txt');
const verify = verifyByKey;

for (const [name, root, authority] of [
  ['rsa.tsr', 'rsa-root.pem', 'rsa-tsa'],
  ['rsa-sha1-name.tsr', 'rsa-root.pem', 'rsa-tsa'],
  ['ec.tsr', 'ec-root.pem', 'ec-tsa'],
] as const)
  test(`what OpenSSL stamped is verified: ${name}`, async () => {
    const found = await verifyTimestamp(bytes(name), TEXT, { trusted: roots(root), verify });
    assert.equal(found.authority, authority);
    assert.match(new Date(found.time).toISOString(), /^2026-11-/);
    const other = root === 'ec-root.pem' ? 'rsa-root.pem' : 'ec-root.pem';
    for (const [text, trusted, code] of [
      [TEXT.subarray(1), roots(root), 'TIMESTAMP_IMPRINT'],
      [TEXT, roots(other), 'TIMESTAMP_UNTRUSTED'],
      [TEXT, [], 'TIMESTAMP_UNTRUSTED'],
    ] as const)
      await rejectsCode(() => verifyTimestamp(bytes(name), text, { trusted, verify }), TimestampError, code);
    await rejectsCode(
      () => verifyTimestamp(bytes(name), TEXT, { trusted: roots(root), verify, nonce: Uint8Array.of(1, 2) }),
      TimestampError,
      'TIMESTAMP_NONCE',
    );
  });

test('an authority that does not stamp says why', async () => {
  await assert.rejects(
    () => verifyTimestamp(bytes('refused.tsr'), TEXT, { trusted: roots('rsa-root.pem'), verify }),
    /status 2 \(Message digest algorithm is not supported\.\)/,
  );
});

test('each byte of an answer, changed, is refused or changes nothing that is told', async () => {
  const good = bytes('ec.tsr');
  const trusted = roots('ec-root.pem');
  const told = await verifyTimestamp(good, TEXT, { trusted, verify });
  let refused = 0;
  const step = deep(1, 7);
  for (let at = 0; at < good.length; at += step) {
    const bent = Uint8Array.from(good);
    bent[at] = bent[at]! ^ 0x01;
    try {
      assert.deepEqual(await verifyTimestamp(bent, TEXT, { trusted, verify }), told, `byte ${at}`);
    } catch (error) {
      if (!(error instanceof BootproofError)) throw error;
      refused++;
    }
  }
  // Of the status, versions and lists that nobody signs some may be something else.
  assert.ok(refused > (0.95 * good.length) / step, `${refused} refused`);
  await rejectsCode(
    () => verifyTimestamp(good.subarray(0, -1), TEXT, { trusted, verify }),
    TimestampError,
    'TIMESTAMP_SYNTAX',
  );
});

const { root, tsa } = AUTHORITY;
const AT = Date.UTC(2026, 6, 1);
const HASH = createHash('sha256').update(TEXT).digest();
const middle = issue({ name: 'Middle', issuer: root, path: 0 });
const below = issue({ name: 'Below', issuer: middle, path: null });
const under = (issuer: typeof root, more: Partial<Parameters<typeof issue>[0]> = {}) =>
  issue({ name: 'TSA 2', issuer, usage: STAMPING, ...more });
const single = issue({ name: 'Alone', issuer: null, usage: STAMPING });

const cases: readonly (readonly [string, typeof tsa, Partial<Bent>, string | null])[] = [
  ['as it should be', tsa, {}, null],
  ['with a status that is granted with changes', tsa, { status: 1 }, null],
  ['refused', tsa, { status: 2 }, 'TIMESTAMP_REFUSED'],
  ['without its certificate', tsa, { sent: [root] }, 'TIMESTAMP_SIGNATURE'],
  ['bound to another certificate', tsa, { bound: root }, 'TIMESTAMP_SIGNATURE'],
  ['signed over something else', tsa, { digestOf: TEXT }, 'TIMESTAMP_SIGNATURE'],
  ['signed as another kind', tsa, { contentType: '1.2.840.113549.1.7.1' }, 'TIMESTAMP_SIGNATURE'],
  ['of another kind', tsa, { tstType: '1.2.840.113549.1.7.1' }, 'TIMESTAMP_SYNTAX'],
  ['with two signers', tsa, { signers: 2 }, 'TIMESTAMP_SYNTAX'],
  ['with none', tsa, { signers: 0 }, 'TIMESTAMP_SYNTAX'],
  ['before its certificate began', tsa, { time: Date.UTC(2019) }, 'TIMESTAMP_UNTRUSTED'],
  ['by a certificate without a purpose', issue({ name: 'TSA 3', issuer: root }), {}, 'TIMESTAMP_SIGNATURE'],
  [
    'by one whose purpose is not critical',
    under(root, { usage: { ...STAMPING, critical: false } }),
    {},
    'TIMESTAMP_SIGNATURE',
  ],
  [
    'by one with a second purpose',
    under(root, { usage: { critical: true, oids: [...STAMPING.oids, '1.3.6.1.5.5.7.3.3'] } }),
    {},
    'TIMESTAMP_SIGNATURE',
  ],
  [
    'by one with a critical extension that is not known',
    under(root, { strange: '1.2.3.4.5' }),
    {},
    'TIMESTAMP_UNTRUSTED',
  ],
  ['by one that was certified by no authority', under(tsa), {}, 'TIMESTAMP_UNTRUSTED'],
  ['by one that nobody certified', single, {}, 'TIMESTAMP_UNTRUSTED'],
  [
    'by one of the same name as one who is trusted',
    under(issue({ name: 'Root', issuer: null, path: null })),
    {},
    'TIMESTAMP_UNTRUSTED',
  ],
];
for (const [what, signer, bent, code] of cases)
  test(`an answer ${what} is ${code === null ? 'taken' : 'refused'}`, async () => {
    const answer = stampOf(HASH, signer, { time: AT, ...bent });
    const act = () => verifyTimestamp(answer, TEXT, { trusted: [root.read], verify });
    if (code === null) assert.equal((await act()).time, AT);
    else await rejectsCode(act, TimestampError, code);
  });

test('what lies between an authority and a root is as long as the root allows, and valid then', async () => {
  const through = async (signer: typeof tsa, sent: readonly (typeof tsa)[], trusted = [root.read]) =>
    verifyTimestamp(stampOf(HASH, signer, { time: AT, sent: [signer, ...sent] }), TEXT, { trusted, verify });
  const [one, two] = [under(middle), under(below)];
  assert.equal((await through(one, [middle])).authority, 'TSA 2');
  await rejectsCode(() => through(two, [middle, below]), TimestampError, 'TIMESTAMP_UNTRUSTED');
  await rejectsCode(() => through(one, []), TimestampError, 'TIMESTAMP_UNTRUSTED');
  const over = issue({ name: 'Over', issuer: root, path: 0, to: AT - 1 });
  const late = under(over);
  await rejectsCode(() => through(late, [over]), TimestampError, 'TIMESTAMP_UNTRUSTED');
  // A certificate that is trusted itself needs nobody above it.
  assert.equal((await through(one, [], [one.read])).time, AT);
});

test('a question asks for SHA-256, with its nonce and the certificate, and its answer is held to that', async () => {
  const nonce = Uint8Array.of(0xff, 1, 2, 3, 4, 5, 6, 7);
  const query = timestampQuery(TEXT, nonce);
  const parts = sequenceOf(readDer(query), 'query');
  assert.equal(oidOf(sequenceOf(sequenceOf(parts[1], '')[0], '')[0], ''), '2.16.840.1.101.3.4.2.1');
  const checks = { trusted: [root.read], verify, nonce };
  assert.equal((await verifyTimestamp(answerTo(query, tsa, { time: AT }), TEXT, checks)).time, AT);
  for (const other of [Uint8Array.of(1), undefined])
    await rejectsCode(
      () => verifyTimestamp(stampOf(HASH, tsa, { time: AT, ...(other && { nonce: other }) }), TEXT, checks),
      TimestampError,
      'TIMESTAMP_NONCE',
    );
});

test('DER has one spelling, and certificates come in PEM', () => {
  for (const bad of [
    [],
    [0x30],
    [0x30, 0x80],
    [0x30, 0x81, 0x01, 0],
    [0x30, 0x82, 0, 0x80],
    [0x30, 1, 5],
    [0x1f, 1, 0],
    [5, 0, 0],
  ])
    throwsCode(() => readDer(Uint8Array.from(bad)), DerError, 'DER_SYNTAX');
  throwsCode(() => partsOf(readDer(Uint8Array.of(4, 1, 0))), DerError, 'DER_SYNTAX');
  for (const oid of ['1.2.840.113549.1.9.16.1.4', '2.5.29.37', '0.9.2342'])
    assert.equal(oidOf(readDer(writeOid(oid)), ''), oid);
  assert.equal(readDer(writeDer(4, new Uint8Array(300))).value.length, 300);
  assert.deepEqual([...writeInteger(Uint8Array.of(0, 0, 0x80))], [2, 2, 0, 0x80]);
  assert.equal(readPem(pemOf(root) + pemOf(tsa)).length, 2);
  for (const text of ['', pemOf(root).replace('MI', 'XX'), '-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----'])
    throwsCode(() => readPem(text), CertificateError, 'CERTIFICATE_SYNTAX');
});

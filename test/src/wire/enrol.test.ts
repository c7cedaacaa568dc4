/** Enrolment (docs/report.md 6): every party's check, with the vectors and with what a liar would send. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { canonicalJson } from '#src/signing/canonical.ts';
import { envelopeJson, signEnvelope } from '#src/signing/dsse.ts';
import { parsePublicKey } from '#src/signing/ed25519.ts';
import { verifyInPool } from '#src/signing/node.ts';
import {
  checkEnrolToken,
  ENROL_REQUEST_TYPE,
  EnrolBody,
  EnrolError,
  ENROLMENT_TYPE,
  EnrolRequest,
  Enrolment,
  makeNonce,
  NONCE_LIFE_MS,
  openEnrolment,
  openEnrolRequest,
  sealEnrolment,
  sealEnrolRequest,
} from '#src/wire/enrol.ts';
import { rejectsCode } from '#test/throws.ts';
import {
  enrol,
  hostSigner,
  keys,
  otherTicketKeys,
  serverSigner,
  T0,
  ticketKeys,
  tokenSigner,
} from '../report/vectors.ts';

const tokenKey = keys.token.publicKey;
const about = { tokenKey, now: T0, keys: ticketKeys };
const asked = {
  serverFingerprint: keys.server.fingerprint,
  publicKey: keys.host.publicKey,
  nonce: enrol.request.nonce,
};

test('the request of the vectors is made, opened and found to be by host and token', async () => {
  assert.deepEqual(await sealEnrolRequest(EnrolRequest.parse(enrol.request), hostSigner, tokenSigner), enrol.body);
  const opened = await openEnrolRequest(EnrolBody.parse(enrol.body), verifyInPool);
  assert.deepEqual(opened.request, enrol.request);
  assert.equal(opened.publicKey, keys.host.publicKey);
  await checkEnrolToken(opened, enrol.body.tokenSignature, about, verifyInPool);
});

test('the answer of the vectors is made and opened', async () => {
  assert.deepEqual(await sealEnrolment(Enrolment.parse(enrol.enrolment), serverSigner), enrol.answer);
  const opened = await openEnrolment(enrol.answer, asked, verifyInPool);
  assert.deepEqual(opened.enrolment, enrol.enrolment);
  assert.equal(opened.serverKey, keys.server.publicKey);
});

test('the nonce of the vectors is made again', () =>
  assert.equal(makeNonce(enrol.tokenId, T0 + 300_000 - NONCE_LIFE_MS, ticketKeys), enrol.request.nonce));

async function requestWith(
  change: Partial<EnrolRequest>,
  host = hostSigner,
  token: typeof tokenSigner | null = tokenSigner,
) {
  return sealEnrolRequest({ ...enrol.request, ...change }, host, token);
}

test('a request under a key that it does not name is refused', async () => {
  const body = await requestWith({}, serverSigner);
  await rejectsCode(() => openEnrolRequest(body, verifyInPool), EnrolError, 'ENROL_PROOF');
});

test('a request for a key of small order is refused, though any signature would fit', async () => {
  const body = await requestWith({ publicKey: `01${'00'.repeat(31)}` });
  await rejectsCode(() => openEnrolRequest(body, verifyInPool), EnrolError, 'ENROL_KEY');
});

const shapes: [string, unknown, string][] = [
  ['an unknown member', { ...enrol.request, labels: {} }, ENROL_REQUEST_TYPE],
  ['another version', { ...enrol.request, version: 2 }, ENROL_REQUEST_TYPE],
  ['a list', [], ENROL_REQUEST_TYPE],
  ['the type of an answer', enrol.request, ENROLMENT_TYPE],
];
for (const [name, value, type] of shapes)
  test(`a request with ${name} is refused`, async () => {
    const request = envelopeJson(await signEnvelope(type, canonicalJson(value), hostSigner));
    await rejectsCode(
      () => openEnrolRequest({ request, tokenSignature: null }, verifyInPool),
      EnrolError,
      'ENROL_SYNTAX',
    );
  });

const nonces: [string, Partial<EnrolRequest>, Partial<typeof about>][] = [
  ['none', { nonce: null }, {}],
  ['for another token', { nonce: makeNonce('a'.repeat(16), T0, ticketKeys) }, {}],
  ['of another server', { nonce: makeNonce(enrol.tokenId, T0, otherTicketKeys) }, {}],
  ['that is over', { nonce: makeNonce(enrol.tokenId, T0, ticketKeys) }, { now: T0 + NONCE_LIFE_MS }],
  ['that is no ticket', { nonce: 'x' }, {}],
];
for (const [name, change, when] of nonces)
  test(`a nonce ${name} is refused`, async () => {
    const body = await requestWith(change);
    const opened = await openEnrolRequest(body, verifyInPool);
    await rejectsCode(
      () => checkEnrolToken(opened, body.tokenSignature, { ...about, ...when }, verifyInPool),
      EnrolError,
      'ENROL_NONCE',
    );
  });

test('without the token, with another one, or with its signature of another request nothing is enrolled', async () => {
  const stolen = enrol.body.tokenSignature;
  const cases = [
    [await requestWith({}, hostSigner, null), null],
    [await requestWith({}, hostSigner, serverSigner), undefined],
    [await requestWith({ hostname: 'mallory' }, hostSigner, null), stolen],
    [await requestWith({ publicKey: keys.server.publicKey }, serverSigner, null), stolen],
    [await requestWith({}, hostSigner, null), '!'.repeat(88)],
  ] as const;
  for (const [body, signature] of cases) {
    const opened = await openEnrolRequest(body, verifyInPool);
    await rejectsCode(
      () => checkEnrolToken(opened, signature === undefined ? body.tokenSignature : signature, about, verifyInPool),
      EnrolError,
      'ENROL_TOKEN',
    );
  }
});

test('what travels to enrol holds nothing of the secret', () => {
  const sent = JSON.stringify(enrol.body);
  const [, , secret] = enrol.token.split('.');
  assert.ok(!sent.includes(secret!));
  assert.ok(!sent.includes(keys.token.seed));
  assert.ok(!atob(enrol.body.request.payload).includes(secret!));
});

test('the answer of a server with another key is refused, even where it claims the right one', async () => {
  const claims = { ...enrol.enrolment, serverKey: keys.token.publicKey };
  const other = await sealEnrolment(claims, tokenSigner);
  await rejectsCode(() => openEnrolment(other, asked, verifyInPool), EnrolError, 'ENROL_SERVER_KEY');
  const liar = await sealEnrolment(enrol.enrolment, tokenSigner);
  await rejectsCode(() => openEnrolment(liar, asked, verifyInPool), EnrolError, 'ENROL_SERVER_KEY');
  const weak = await sealEnrolment({ ...enrol.enrolment, serverKey: `01${'00'.repeat(31)}` }, tokenSigner);
  await rejectsCode(() => openEnrolment(weak, asked, verifyInPool), EnrolError, 'ENROL_SERVER_KEY');
});

test('the answer to another request is refused: another nonce, another key', async () => {
  await rejectsCode(
    () => openEnrolment(enrol.answer, { ...asked, nonce: null }, verifyInPool),
    EnrolError,
    'ENROL_ANSWER',
  );
  const publicKey = parsePublicKey(keys.token.publicKey);
  await rejectsCode(
    () => openEnrolment(enrol.answer, { ...asked, publicKey }, verifyInPool),
    EnrolError,
    'ENROL_ANSWER',
  );
});

test('a newer server may say more', async () => {
  const more = await signEnvelope(ENROLMENT_TYPE, canonicalJson({ ...enrol.enrolment, motto: 'x' }), serverSigner);
  const { enrolment } = await openEnrolment({ enrolment: envelopeJson(more) }, asked, verifyInPool);
  assert.deepEqual(enrolment, enrol.enrolment);
});

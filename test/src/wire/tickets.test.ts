/** Tokens, tickets, challenges and bearers (docs/report.md 5, 6.1). */
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { makeChallenge, readChallenge } from '#src/wire/challenge.ts';
import { base32, HostId, hostIdFrom } from '#src/wire/hostid.ts';
import { BEARER_LIFE_MS, makeBearer, readBearer } from '#src/wire/manifests.ts';
import { manifestTextPath, ruleFromPath, ruleInPath } from '#src/wire/paths.ts';
import { isProblemCode, Problem, problem, PROBLEMS } from '#src/wire/problem.ts';
import { parseTicket, printTicket, type TicketKeys } from '#src/wire/ticket.ts';
import { parseToken, printToken, TokenError, tokenFrom } from '#src/wire/token.ts';
import { throwsCode } from '#test/throws.ts';
import { enrol, INTERVAL, keys, otherTicketKeys, T0, ticketKeys, tickets } from '../report/vectors.ts';

const HOST = tickets.tickets[0]!.subject;
const OTHER_HOST = hostIdFrom(new Uint8Array(16));

for (const { text, ...ticket } of tickets.tickets)
  test(`the ${ticket.kind} ticket for time ${ticket.time} is as the vector says`, () => {
    assert.equal(printTicket(ticket, ticketKeys), text);
    assert.deepEqual(parseTicket(ticket.kind, text, ticketKeys), { ...ticket, ours: true });
  });

test('a ticket may be made with the HMAC of Node', () => {
  const node: TicketKeys = { ...ticketKeys, hmac: (key, text) => createHmac('sha256', key).update(text).digest() };
  for (const { text, ...ticket } of tickets.tickets) assert.equal(printTicket(ticket, node), text);
});

test('a key that was replaced still explains what it made', () => {
  const both = { ...ticketKeys, keys: [otherTicketKeys.keys[0], ticketKeys.keys[0]] as const };
  assert.equal(parseTicket('challenge', tickets.tickets[0]!.text, both)?.ours, true);
  assert.equal(printTicket({ kind: 'challenge', subject: HOST, time: T0 }, both), tickets.byOtherKey);
});

const challenge = tickets.tickets[0]!.text;
const noTickets: [string, string][] = [
  ['nothing', ''],
  ['another kind', challenge.replace('c1', 'm1')],
  ['a kind that does not exist', challenge.replace('c1', 'c2')],
  ['a leading zero', challenge.replace(`.${T0}`, `.0${T0}`)],
  ['a sign', challenge.replace(`.${T0}`, `.-${T0}`)],
  ['a fraction', challenge.replace(`.${T0}`, `.${T0}.5`)],
  ['an upper-case subject', challenge.toUpperCase()],
  ['a MAC too short', challenge.slice(0, -1)],
  ['a MAC too long', `${challenge}A`],
  ['a line end', `${challenge}\n`],
  ['a megabyte', 'c1.'.repeat(350_000)],
];
for (const [name, text] of noTickets)
  test(`is no challenge: ${name}`, () => assert.equal(parseTicket('challenge', text, ticketKeys), undefined));

test('a changed ticket is never ours', () => {
  fc.assert(
    fc.property(
      fc.nat(challenge.length - 1),
      fc.constantFrom('a', 'b', 'z', '0', '9', 'A', 'Z', '_', '-'),
      (at, char) => {
        const changed = challenge.slice(0, at) + char + challenge.slice(at + 1);
        fc.pre(changed !== challenge);
        assert.notEqual(parseTicket('challenge', changed, ticketKeys)?.ours, true);
      },
    ),
  );
});

const about = { host: HOST, now: T0, intervalMs: INTERVAL, carried: false };
const classes: [string, string | null, Partial<typeof about>, object][] = [
  ['a fresh one', challenge, {}, { class: 'live', issuedAt: T0 }],
  ['one of exactly two intervals', challenge, { now: T0 + 2 * INTERVAL }, { class: 'live', issuedAt: T0 }],
  ['one a millisecond older', challenge, { now: T0 + 2 * INTERVAL + 1 }, { class: 'late', issuedAt: T0 }],
  ['one from our own future', challenge, { now: T0 - INTERVAL }, { class: 'live', issuedAt: T0 }],
  ['a fresh one by file', challenge, { carried: true }, { class: 'carried', issuedAt: T0 }],
  ['none', null, {}, { class: 'none', issuedAt: null }],
  ['none by file', null, { carried: true }, { class: 'carried', issuedAt: null }],
  ['one of a key that was lost', tickets.byOtherKey, {}, { class: 'late', issuedAt: null }],
];
for (const [name, text, change, expected] of classes)
  test(`challenge, ${name}: ${JSON.stringify(expected)}`, () =>
    assert.deepEqual(readChallenge(text, { ...about, ...change }, ticketKeys), { kind: 'read', ...expected }));

test("a challenge is refused only if it has no form or is another host's", () => {
  assert.deepEqual(readChallenge('x', about, ticketKeys), { kind: 'malformed' });
  assert.deepEqual(readChallenge(makeChallenge(OTHER_HOST, T0, ticketKeys), about, ticketKeys), { kind: 'foreign' });
});

test('a bearer names its host until its time is over, and a challenge is no bearer', () => {
  const bearer = makeBearer(HOST, T0, ticketKeys);
  assert.equal(readBearer(bearer, T0, ticketKeys), HOST);
  assert.equal(readBearer(bearer, T0 + BEARER_LIFE_MS - 1, ticketKeys), HOST);
  assert.equal(readBearer(bearer, T0 + BEARER_LIFE_MS, ticketKeys), undefined);
  assert.equal(readBearer(bearer, T0, otherTicketKeys), undefined);
  assert.equal(readBearer(challenge, T0, ticketKeys), undefined);
});

test('the token of the vectors is read, and printed to the same', () => {
  const token = parseToken(enrol.token);
  assert.deepEqual(token, {
    id: enrol.tokenId,
    seed: Uint8Array.fromHex(keys.token.seed),
    serverFingerprint: keys.server.fingerprint,
  });
  assert.equal(printToken(token), enrol.token);
});

const noTokens: [string, string][] = [
  ['nothing', ''],
  ['its line end', `${enrol.token}\n`],
  ['a part less', enrol.token.split('.').slice(0, 3).join('.')],
  ['another version', enrol.token.replace('bp1', 'bp2')],
  ['an upper-case fingerprint', enrol.token.toUpperCase()],
  // 43 characters hold 258 bits: the last two must be zero.
  ['stray bits in the secret', enrol.token.replace(/[A-Za-z0-9_-](?=\.[0-9a-f]{64}$)/, 'B')],
];
for (const [name, text] of noTokens)
  test(`refuses a token with ${name}, and does not show it`, () => {
    throwsCode(() => parseToken(text), TokenError, 'TOKEN_SYNTAX');
    assert.throws(
      () => parseToken(text),
      (error: Error) => text.length < 20 || !error.message.includes(text.slice(4, 30)),
    );
  });

test('tokens and host ids of any random bytes have one spelling', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 42, maxLength: 42 }), (random) => {
      const token = tokenFrom(random, keys.server.fingerprint);
      assert.deepEqual(parseToken(printToken(token)), token);
      assert.ok(HostId.safeParse(hostIdFrom(random)).success);
    }),
  );
});

test('base32 is that of RFC 4648 section 10, in lower case without padding', () => {
  const vectors = {
    '': '',
    f: 'my',
    fo: 'mzxq',
    foo: 'mzxw6',
    foob: 'mzxw6yq',
    fooba: 'mzxw6ytb',
    foobar: 'mzxw6ytboi',
  };
  for (const [text, expected] of Object.entries(vectors))
    assert.equal(base32(new TextEncoder().encode(text)), expected);
});

test('a rule keeps its name through a path', () => {
  for (const rule of ['ostree/1', 'ostree/1-debris-noxattr', 'composefs/1', 'oci'])
    assert.equal(ruleFromPath(ruleInPath(rule)), rule);
  const path = manifestTextPath('sha256:ab', 'ostree/1-debris', 'usr', 'main');
  assert.equal(path, '/api/v1/manifests/sha256%3Aab/ostree.1-debris/usr/main');
});

test('every problem has a document of its own status, and reads back', () => {
  for (const code of Object.keys(PROBLEMS)) {
    assert.ok(isProblemCode(code));
    const document = problem(code, 'why', { check: 4 });
    assert.deepEqual(Problem.parse(JSON.parse(JSON.stringify(document))), document);
    assert.equal(document.status, PROBLEMS[code]);
  }
  assert.equal(isProblemCode('constructor'), false);
});

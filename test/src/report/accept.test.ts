/** The numbered checks of docs/report.md 3, their refusals, and what an accepted report does. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatInstant } from '#src/clock.ts';
import { sha256Hex } from '#src/digest.ts';
import { REPORT_BYTES_MAX } from '#src/limits.ts';
import { accept, checkReport, openReport, type Checked, type HostRecord, type HostState } from '#src/report/accept.ts';
import { checkConsistency, readContents, type Consistency } from '#src/report/contradict.ts';
import type { Refused } from '#src/report/refusal.ts';
import { REPORT_PAYLOAD_TYPE, type Report, type SameReport } from '#src/report/report.ts';
import { sealReport } from '#src/report/seal.ts';
import { EMPTY_CHAIN } from '#src/report/sequence.ts';
import { canonicalJson } from '#src/signing/canonical.ts';
import { envelopeBytesMax, printEnvelope, signEnvelope } from '#src/signing/dsse.ts';
import { verifyInPool } from '#src/signing/node.ts';
import { makeChallenge } from '#src/wire/challenge.ts';
import {
  full,
  hostSigner,
  INTERVAL,
  keys,
  manifest,
  MINUTE,
  same,
  serverSigner,
  someDigest,
  T0,
  ticketKeys,
} from './vectors.ts';

const bytes = (text: string) => new TextEncoder().encode(text);
const deps = { verify: verifyInPool, ticketKeys };
const host: HostRecord = { publicKey: keys.host.publicKey, state: 'active', intervalMs: INTERVAL };
const arrival = { receivedAt: T0 + 2 * MINUTE, carried: false };

async function check(text: string, change: { host?: HostRecord | undefined; arrival?: typeof arrival } = {}) {
  const opened = openReport(bytes(text));
  if (opened.kind === 'refused') return opened;
  return checkReport(opened, 'host' in change ? change.host : host, change.arrival ?? arrival, deps);
}
const envelope = async (payload: string, signer = hostSigner, type: string = REPORT_PAYLOAD_TYPE) =>
  printEnvelope(await signEnvelope(type, payload, signer));
const sealed = async (report: object, signer = hostSigner) => (await sealReport(report as Report, signer)).text;

async function checked(report: object, change: Partial<typeof arrival> = {}): Promise<Checked> {
  const found = await check(await sealed(report), { arrival: { ...arrival, ...change } });
  assert.ok(found.kind === 'checked', JSON.stringify(found));
  return found;
}

const known = { header: manifest.header, texts: (tree: 'usr' | 'etc') => Promise.resolve(manifest.trees[tree]) };
async function consistencyOf(report: Report): Promise<Consistency | Refused | null> {
  if (report.kind === 'same') return null;
  const contents = readContents(report);
  if (contents.kind === 'refused') return contents;
  return checkConsistency(report, contents, { manifest: known, booted: undefined }, sha256Hex);
}

const refusals: [string, () => Promise<string> | string, number, string, number][] = [
  ['a body over the limit', () => ' '.repeat(envelopeBytesMax(REPORT_BYTES_MAX) + 1), 1, 'REPORT_TOO_LARGE', 413],
  ['an empty body', () => '', 2, 'ENVELOPE_SYNTAX', 400],
  ['a bare document', () => canonicalJson(full.document), 2, 'ENVELOPE_SYNTAX', 400],
  ['another payload type', () => envelope('{}', hostSigner, 'application/json'), 2, 'PAYLOAD_TYPE', 400],
  ['a payload that is no JSON', () => envelope('{'), 2, 'PAYLOAD_SYNTAX', 400],
  ['a payload that is no object', () => envelope('null'), 2, 'PAYLOAD_SYNTAX', 400],
  ['a payload without a host', () => envelope('{"version":1}'), 2, 'PAYLOAD_SYNTAX', 400],
  ['a host id of another form', () => envelope('{"host":"h_1"}'), 2, 'PAYLOAD_SYNTAX', 400],
  ['the signature of another key', () => sealed(full.document, serverSigner), 4, 'SIGNATURE_INVALID', 401],
  [
    'a changed payload',
    async () =>
      full.envelope.replace(/"payload":"[^"]*"/, `"payload":"${btoa(canonicalJson({ ...full.document, seq: 2 }))}"`),
    4,
    'SIGNATURE_INVALID',
    401,
  ],
  ['a newer version', () => sealed({ ...full.document, version: 2 }), 5, 'VERSION_UNSUPPORTED', 422],
  ['no version', () => envelope(canonicalJson({ host: full.document.host })), 5, 'VERSION_UNSUPPORTED', 422],
  ['an unknown member', () => sealed({ ...full.document, extra: 1 }), 5, 'SCHEMA_INVALID', 422],
  [
    'a member called __proto__',
    () => envelope(canonicalJson(JSON.parse(`{"__proto__":{},${JSON.stringify(full.document).slice(1)}`))),
    5,
    'SCHEMA_INVALID',
    422,
  ],
  ['a member less', () => sealed(withoutState()), 5, 'SCHEMA_INVALID', 422],
  ['sequence number 0', () => sealed({ ...full.document, seq: 0 }), 5, 'SCHEMA_INVALID', 422],
  [
    'a time without milliseconds',
    () => sealed({ ...full.document, startedAt: '2026-11-24T08:00:00Z' }),
    5,
    'SCHEMA_INVALID',
    422,
  ],
  ['white space', () => envelope(JSON.stringify(full.document, null, 1)), 5, 'PAYLOAD_NOT_CANONICAL', 422],
  ['another order of members', () => envelope(JSON.stringify(full.document)), 5, 'PAYLOAD_NOT_CANONICAL', 422],
  [
    'a member twice',
    () => envelope(canonicalJson(full.document).replace('"seq":1', '"seq":9,"seq":1')),
    5,
    'PAYLOAD_NOT_CANONICAL',
    422,
  ],
  [
    'a lone surrogate',
    () => envelope(canonicalJson(full.document).replace('quiet', '\\ud800')),
    5,
    'PAYLOAD_NOT_CANONICAL',
    422,
  ],
  ['a challenge without form', () => sealed({ ...full.document, challenge: 'x' }), 5, 'CHALLENGE_MALFORMED', 422],
  [
    'the challenge of another host',
    () => sealed({ ...full.document, challenge: makeChallenge(`h_${'a'.repeat(26)}`, T0, ticketKeys) }),
    5,
    'CHALLENGE_FOREIGN',
    422,
  ],
];
function withoutState(): object {
  const { state: _, ...rest } = same.document;
  return rest;
}
for (const [name, make, number, code, status] of refusals)
  test(`check ${number} refuses ${name}`, async () => {
    const found = await check(await make());
    assert.ok(found.kind === 'refused');
    assert.deepEqual([found.check, found.code, found.status], [number, code, status]);
  });

const hosts: [string, HostRecord | undefined, string, number][] = [
  ['an unknown host', undefined, 'HOST_UNKNOWN', 404],
  ['a host that waits for approval', { ...host, state: 'pending' }, 'HOST_PENDING', 403],
  ['a retired host', { ...host, state: 'retired' }, 'HOST_RETIRED', 403],
];
for (const [name, record, code, status] of hosts)
  test(`check 3 refuses ${name}, before any signature is looked at`, async () => {
    const found = await check(await sealed(full.document, serverSigner), { host: record });
    assert.ok(found.kind === 'refused');
    assert.deepEqual([found.check, found.code, found.status], [3, code, status]);
  });

test('a refusal shows control characters of what was sent as text', async () => {
  const found = await check(await sealed({ ...full.document, '\u001b[31mred': 1 }));
  assert.ok(found.kind === 'refused');
  assert.ok(!found.message.includes('\u001b'));
});

test('both vectors pass checks 1 to 5', async () => {
  for (const vector of [full, same]) {
    const found = await check(vector.envelope, { arrival: { receivedAt: T0 + 20 * MINUTE, carried: false } });
    assert.ok(found.kind === 'checked');
    assert.deepEqual(found.report, vector.document);
    assert.equal(found.digest, vector.digest);
    assert.equal(found.class, 'live');
  }
});

// ── check 6 and what follows ─────────────────────────────────────────────────────────────────────────────────────────

const nothing: HostState = { chain: EMPTY_CHAIN, full: null, kept: null, last: null };
const facts = { trees: same.document.trees, state: same.document.state };

/** Takes the vectors' full report, and returns what the store then knows. */
async function afterFull(): Promise<HostState> {
  const first = accept(await checked(full.document), { kind: 'consistent', why: null, flags: [] }, nothing);
  assert.ok(first.kind === 'accepted');
  const last = { startedAt: Date.parse(full.document.startedAt), receivedAt: arrival.receivedAt };
  return { chain: first.chain, full: facts, kept: null, last };
}

test('the first full report advances, renews freshness, and wants nothing more', async () => {
  const report = await checked(full.document);
  const found = accept(report, await consistencyOf(report.report), nothing);
  assert.ok(found.kind === 'accepted');
  const { chain, ...rest } = found;
  assert.equal(chain.headSeq, 1);
  assert.deepEqual(rest, {
    kind: 'accepted',
    effect: 'advance',
    flags: [],
    gap: null,
    class: 'live',
    skewMs: 0,
    fresh: true,
    want: 'same',
    asOf: arrival.receivedAt,
    consistency: 'consistent',
  });
});

test('then its `same` advances and renews freshness', async () => {
  const report = await checked(same.document, { receivedAt: T0 + 17 * MINUTE });
  const found = accept(report, null, await afterFull());
  assert.ok(found.kind === 'accepted');
  assert.deepEqual(
    [found.effect, found.fresh, found.want, found.flags, found.consistency],
    ['advance', true, 'same', [], 'same'],
  );
});

const later = { receivedAt: T0 + 17 * MINUTE };
type Case = {
  name: string;
  report: object;
  when?: Partial<typeof arrival>;
  expect: { effect?: string; fresh?: boolean; want?: string; flags?: string[]; refused?: [number, string] };
};
const cases: Case[] = [
  {
    name: 'a late report advances, but renews nothing',
    report: same.document,
    when: { receivedAt: T0 + 60 * MINUTE },
    expect: { effect: 'advance', fresh: false },
  },
  {
    name: 'a report by file advances, but renews nothing',
    report: same.document,
    when: { ...later, carried: true },
    expect: { effect: 'advance', fresh: false },
  },
  {
    name: 'a report without a challenge advances, but renews nothing',
    report: { ...same.document, challenge: null },
    when: later,
    expect: { effect: 'advance', fresh: false },
  },
  {
    name: 'a `same` on an unknown full report wants a full one, and renews nothing',
    report: { ...same.document, full: someDigest(9) },
    when: later,
    expect: { effect: 'advance', fresh: false, want: 'full', flags: [] },
  },
  {
    name: 'a gap is a flag',
    report: { ...same.document, seq: 4 },
    when: later,
    expect: { effect: 'advance', fresh: true, flags: ['chain-gap'] },
  },
  {
    name: 'the known report is a replay',
    report: full.document,
    when: later,
    expect: { effect: 'replay', fresh: false, flags: [] },
  },
  {
    name: 'another report under its number is a fork',
    report: { ...full.document, bootId: same.document.bootId.replace('1', '2') },
    when: later,
    expect: { refused: [6, 'SEQUENCE_FORKED'] },
  },
  {
    name: 'a `same` with another tree digest contradicts itself',
    report: {
      ...same.document,
      trees: { ...same.document.trees, etc: { ...same.document.trees.etc, main: someDigest(1) } },
    },
    when: later,
    expect: { refused: [7, 'SAME_CONTRADICTS'] },
  },
  {
    name: 'a `same` with another state contradicts itself',
    report: { ...same.document, state: someDigest(1) },
    when: later,
    expect: { refused: [7, 'SAME_CONTRADICTS'] },
  },
  {
    name: 'a clock that is an hour ahead is a flag, never a refusal',
    report: { ...same.document, finishedAt: formatInstant(T0 + 77 * MINUTE) },
    when: later,
    expect: { effect: 'advance', fresh: true, flags: ['clock-skew'] },
  },
  {
    name: 'a clock in another century is a flag, never a refusal',
    report: { ...same.document, startedAt: '1970-01-01T00:00:00.000Z', finishedAt: '1970-01-01T00:00:01.000Z' },
    when: later,
    expect: { effect: 'advance', fresh: true, flags: ['clock-skew'] },
  },
];
for (const { name, report, when, expect } of cases)
  test(name, async () => {
    const found = accept(await checked(report, when), null, await afterFull());
    if (expect.refused !== undefined) {
      assert.ok(found.kind === 'refused');
      assert.deepEqual([found.check, found.code], expect.refused);
      assert.equal(found.flag, found.code === 'SEQUENCE_FORKED' ? 'identity-forked' : undefined);
      return;
    }
    assert.ok(found.kind === 'accepted', JSON.stringify(found));
    for (const [key, value] of Object.entries(expect)) assert.deepEqual(found[key as keyof typeof found], value, key);
  });

test('a contradiction is told only of a report that is new: the sequence is looked at first', async () => {
  const refused: Refused = { kind: 'refused', check: 7, code: 'TREE_CONTRADICTS', message: '', status: 422 };
  const replayed = accept(await checked(full.document), refused, await afterFull());
  assert.equal(replayed.kind === 'accepted' && replayed.effect, 'replay');
  const forked = accept(await checked({ ...full.document, previous: someDigest(1) }), refused, await afterFull());
  assert.equal(forked.kind === 'refused' && forked.code, 'SEQUENCE_FORKED');
  const refusedNow = accept(await checked({ ...full.document, seq: 2 }), refused, await afterFull());
  assert.equal(refusedNow, refused);
});

test('an older report that never came is history: it renews nothing and raises nothing of the chain', async () => {
  const state = await afterFull();
  const gapped = accept(await checked({ ...same.document, seq: 4 }, later), null, state);
  assert.ok(gapped.kind === 'accepted');
  const found = accept(await checked({ ...same.document, seq: 3 }, later), null, { ...state, chain: gapped.chain });
  assert.ok(found.kind === 'accepted');
  assert.deepEqual([found.effect, found.fresh, found.flags], ['history', false, []]);
  assert.deepEqual(found.chain.gaps, [{ from: 2, to: 2 }]);
});

const clocks: [string, number, number | null, number, number][] = [
  // name, finished by the host, challenge issued, received, skew: all relative to T0
  ['in time', 3, 0, 5, 0],
  ['ended at receipt', 5, 0, 5, 0],
  ['ended when the challenge was issued', 0, 0, 5, 0],
  ['ahead of receipt', 9, 0, 5, 4],
  ['behind its challenge', -7, 0, 5, -7],
  ['behind, without a challenge that says so', -7, null, 5, 0],
  ['ahead, without a challenge', 9, null, 5, 4],
  ['our own clock went back in between', 3, 10, 5, -7],
];
for (const [name, finished, issued, received, skew] of clocks)
  test(`clock: ${name}`, async () => {
    const challenge = issued === null ? null : makeChallenge(full.document.host, T0 + issued * MINUTE, ticketKeys);
    const report = { ...full.document, challenge, finishedAt: formatInstant(T0 + finished * MINUTE) };
    const found = accept(await checked(report, { receivedAt: T0 + received * MINUTE }), null, nothing);
    assert.ok(found.kind === 'accepted');
    assert.equal(found.skewMs, skew * MINUTE);
  });

test('what a report says was so: at receipt if live, else when its scan ended, within challenge and receipt', async () => {
  const asOf = async (finished: number, received: number, carried = false, challenge = full.document.challenge) => {
    const report = { ...full.document, challenge, finishedAt: formatInstant(T0 + finished * MINUTE) };
    const found = accept(await checked(report, { receivedAt: T0 + received * MINUTE, carried }), null, nothing);
    assert.ok(found.kind === 'accepted');
    return (found.asOf - T0) / MINUTE;
  };
  assert.equal(await asOf(3, 5), 5);
  assert.equal(await asOf(3, 500), 3);
  assert.equal(await asOf(3, 500, true), 3);
  assert.equal(await asOf(900, 500), 500);
  assert.equal(await asOf(-50, 500), 0);
  assert.equal(await asOf(-50, 500, true, null), -50);
});

test('the vectors hold check 7 too: the report of an altered host follows from manifest and drift', async () => {
  assert.deepEqual(await consistencyOf(full.document), { kind: 'consistent', why: null, flags: [] });
  const asSame: SameReport = same.document;
  assert.equal(await consistencyOf(asSame), null);
});

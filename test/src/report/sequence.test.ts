/** Check 6: every row of docs/report.md 3.1 and of PROTOCOL 3.5, and a model of two machines with one key. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatInstant } from '#src/clock.ts';
import type { Digest } from '#src/digest.ts';
import { CHAIN_BOOTS_MAX, CHAIN_GAPS_MAX, CHAIN_RECENT_MAX } from '#src/limits.ts';
import type { Report } from '#src/report/report.ts';
import { EMPTY_CHAIN, placeReport, type Chain, type Placed } from '#src/report/sequence.ts';
import { full, MINUTE, same, someDigest, T0 } from './vectors.ts';

const A = '0b5e1c9e-0000-4000-8000-00000000000a';
const B = '0b5e1c9e-0000-4000-8000-00000000000b';
const F = someDigest(100);

const fullReport = (change: object = {}): Report => ({ ...full.document, bootId: A, previous: F, ...change });
const sameReport = (change: object = {}): Report => ({ ...same.document, bootId: A, full: F, ...change });
const placed = (report: Report, digest = someDigest(1), more: Partial<Placed> = {}): Placed => ({
  report,
  digest,
  issuedAt: T0,
  carried: false,
  ...more,
});

/** Head 10, its full report at 8, numbers 3 to 5 missing, boot A. */
const chain: Chain = {
  headSeq: 10,
  full: { seq: 8, digest: F },
  sameCount: 2,
  boots: [A],
  gaps: [{ from: 3, to: 5 }],
  recent: [8, 9, 10].map((seq) => ({ seq, digest: seq === 8 ? F : someDigest(seq) })),
};
const last = { startedAt: T0 + 30 * MINUTE, receivedAt: T0 + 31 * MINUTE };
const place = (p: Placed, change: Partial<Chain> = {}, kept: Digest | null = null) =>
  placeReport(p, { chain: { ...chain, ...change }, kept, last });

test('the first report of a host begins its chain', () => {
  const report = fullReport({ seq: 1, previous: null });
  const found = placeReport(placed(report), { chain: EMPTY_CHAIN, kept: null, last: null });
  assert.deepEqual(found, {
    kind: 'advance',
    gap: null,
    cloned: false,
    fullKnown: true,
    chain: {
      headSeq: 1,
      full: { seq: 1, digest: someDigest(1) },
      sameCount: 0,
      boots: [A],
      gaps: [],
      recent: [{ seq: 1, digest: someDigest(1) }],
    },
  });
});

test('the next in line moves the head: a `same` counts on, a full report takes its place', () => {
  const counted = place(placed(sameReport({ seq: 11, count: 3 })));
  assert.equal(counted.kind, 'advance');
  assert.deepEqual(
    counted.kind === 'advance' && { ...counted, chain: [counted.chain.headSeq, counted.chain.sameCount] },
    {
      kind: 'advance',
      gap: null,
      cloned: false,
      fullKnown: true,
      chain: [11, 3],
    },
  );
  const replaced = place(placed(fullReport({ seq: 11 })));
  assert.ok(replaced.kind === 'advance');
  assert.equal(replaced.gap, null);
  assert.deepEqual(replaced.chain.full, { seq: 11, digest: someDigest(1) });
  assert.equal(replaced.chain.sameCount, 0);
});

const breaks: [string, Report, object][] = [
  ['a gap', sameReport({ seq: 13, count: 5 }), { missing: { from: 11, to: 12 }, stated: false }],
  [
    'a gap that the report states',
    sameReport({
      seq: 14,
      count: 6,
      dropped: [
        { from: 12, to: 13 },
        { from: 11, to: 11 },
      ],
    }),
    { missing: { from: 11, to: 13 }, stated: true },
  ],
  [
    'a gap of which the report states a part',
    sameReport({ seq: 14, count: 6, dropped: [{ from: 11, to: 12 }] }),
    { missing: { from: 11, to: 13 }, stated: false },
  ],
  [
    'a full report with unknown previous',
    fullReport({ seq: 11, previous: someDigest(7) }),
    { missing: null, stated: false },
  ],
  [
    'a full report that says it is the first',
    fullReport({ seq: 11, previous: null }),
    { missing: null, stated: false },
  ],
  ['a count that stands still', sameReport({ seq: 11, count: 2 }), { missing: null, stated: false }],
  ['a count that jumps', sameReport({ seq: 11, count: 4 }), { missing: null, stated: false }],
];
for (const [name, report, gap] of breaks)
  test(`${name} is accepted, as a chain gap`, () => {
    const found = place(placed(report));
    assert.ok(found.kind === 'advance');
    assert.deepEqual(found.gap, gap);
    assert.equal(found.chain.headSeq, report.seq);
  });

test('same bytes under a known number are a replay, from the recent ones and from the store', () => {
  assert.equal(place(placed(sameReport({ seq: 10 }), someDigest(10))).kind, 'replay');
  assert.equal(place(placed(fullReport({ seq: 8 }), F)).kind, 'replay');
  assert.equal(place(placed(sameReport({ seq: 2 }), someDigest(2)), {}, someDigest(2)).kind, 'replay');
});

test('other bytes under a known number are a fork', () => {
  assert.equal(place(placed(sameReport({ seq: 10 }), someDigest(99))).kind, 'forked');
  assert.equal(place(placed(fullReport({ seq: 8 }), someDigest(99))).kind, 'forked');
  assert.equal(place(placed(sameReport({ seq: 2 }), someDigest(99)), {}, someDigest(2)).kind, 'forked');
});

test('two servers, one number: the first wins, the second finds it and answers the same, or a fork', () => {
  const mine = placed(sameReport({ seq: 11, count: 3 }), someDigest(20));
  const first = place(mine);
  assert.ok(first.kind === 'advance');
  assert.equal(placeReport(mine, { chain: first.chain, kept: someDigest(20), last }).kind, 'replay');
  const other = placed(sameReport({ seq: 11, count: 3 }), someDigest(21));
  assert.equal(placeReport(other, { chain: first.chain, kept: someDigest(20), last }).kind, 'forked');
});

test('an older number that never came is history, and its gap closes: at its ends, in its middle, whole', () => {
  const gapsAfter = (seq: number, gaps = chain.gaps) => {
    const found = place(placed(fullReport({ seq })), { gaps });
    assert.ok(found.kind === 'history');
    assert.deepEqual({ ...found.chain, gaps }, { ...chain, gaps });
    return found.chain.gaps;
  };
  assert.deepEqual(gapsAfter(3), [{ from: 4, to: 5 }]);
  assert.deepEqual(gapsAfter(5), [{ from: 3, to: 4 }]);
  assert.deepEqual(gapsAfter(4), [
    { from: 3, to: 3 },
    { from: 5, to: 5 },
  ]);
  assert.deepEqual(
    gapsAfter(4, [
      { from: 4, to: 4 },
      { from: 7, to: 7 },
    ]),
    [{ from: 7, to: 7 }],
  );
});

const old = { startedAt: formatInstant(last.startedAt - MINUTE) };
const young = { startedAt: formatInstant(last.startedAt + MINUTE) };
const pruned: [string, object, Partial<Placed>, string][] = [
  ['its scan and challenge are older than the head', old, { issuedAt: T0 }, 'forgotten'],
  ['its scan is older and it has no challenge', old, { issuedAt: null }, 'forgotten'],
  ['its challenge was issued after the head came', old, { issuedAt: last.receivedAt + 1 }, 'forked'],
  ['its scan began later, by a clock that was set back since', young, { issuedAt: T0 }, 'forgotten'],
  ['no report of this host had its boot id', { ...old, bootId: B }, { issuedAt: T0 }, 'forked'],
  ['it comes by file with a younger challenge', old, { issuedAt: last.receivedAt + 1, carried: true }, 'forked'],
];
for (const [name, change, more, kind] of pruned)
  test(`a known number whose bytes are gone is ${kind} if ${name}`, () =>
    assert.equal(place(placed(sameReport({ seq: 7, ...change }), someDigest(50), more)).kind, kind));

test('a boot id that may have been forgotten proves no fork', () => {
  const boots = Array.from({ length: CHAIN_BOOTS_MAX }, (_, i) => `${i}`.repeat(36));
  const late = placed(sameReport({ seq: 7, ...old, bootId: B }), someDigest(50), { issuedAt: T0 });
  assert.equal(place(late, { boots }).kind, 'forgotten');
  // Nor that of a report that came late into its gap: its repeat is known by it.
  const history = place(placed(sameReport({ seq: 4, bootId: B })));
  assert.deepEqual(history.kind === 'history' && history.chain.boots, [B, A]);
});

test('boot ids A, B, A are clones; a new boot id alone is a reboot', () => {
  const reboot = place(placed(sameReport({ seq: 11, count: 3, bootId: B })));
  assert.ok(reboot.kind === 'advance');
  assert.equal(reboot.cloned, false);
  const back = placeReport(placed(sameReport({ seq: 12, count: 4, bootId: A })), {
    chain: reboot.chain,
    kept: null,
    last,
  });
  assert.ok(back.kind === 'advance');
  assert.equal(back.cloned, true);
  const again = placeReport(placed(sameReport({ seq: 13, count: 5, bootId: A })), {
    chain: back.chain,
    kept: null,
    last,
  });
  assert.equal(again.kind === 'advance' && again.cloned, false);
  const other = placeReport(placed(sameReport({ seq: 13, count: 5, bootId: B })), {
    chain: back.chain,
    kept: null,
    last,
  });
  assert.equal(other.kind === 'advance' && other.cloned, true);
});

test('history of an older boot does not look like a clone', () => {
  const found = place(placed(fullReport({ seq: 4, bootId: B })), { boots: [B, A] });
  assert.ok(found.kind === 'history');
  assert.deepEqual(found.chain.boots, [B, A]);
});

test('a `same` on another full report moves the head and nothing else', () => {
  const found = place(placed(sameReport({ seq: 11, full: someDigest(77), count: 40 })));
  assert.ok(found.kind === 'advance');
  assert.equal(found.fullKnown, false);
  assert.equal(found.gap, null);
  assert.deepEqual([found.chain.headSeq, found.chain.full, found.chain.sameCount], [11, chain.full, 2]);
});

test('a `same` before any full report is on an unknown one', () => {
  const found = placeReport(placed(sameReport({ seq: 1 })), { chain: EMPTY_CHAIN, kept: null, last: null });
  assert.ok(found.kind === 'advance');
  assert.equal(found.fullKnown, false);
});

test('the record stays small whatever a host sends', () => {
  let state: Chain = EMPTY_CHAIN;
  for (let i = 1; i <= 500; i++) {
    const bootId = `0b5e1c9e-0000-4000-8000-${String(i).padStart(12, '0')}`;
    const found = placeReport(placed(fullReport({ seq: 3 * i, bootId })), { chain: state, kept: null, last: null });
    assert.ok(found.kind === 'advance');
    state = found.chain;
  }
  assert.equal(state.gaps.length, CHAIN_GAPS_MAX);
  assert.equal(state.recent.length, CHAIN_RECENT_MAX);
  assert.ok(JSON.stringify(state).length < 8192);
});

test('in whatever order reports arrive and repeat: each is taken once, and the gaps are what never came', () => {
  const deliveries = fc.array(fc.integer({ min: 1, max: 12 }), { maxLength: 40 });
  fc.assert(
    fc.property(deliveries, (order) => {
      let state: Chain = EMPTY_CHAIN;
      const store = new Map<number, Digest>();
      for (const seq of order) {
        const digest = someDigest(seq);
        const found = placeReport(placed(fullReport({ seq }), digest), {
          chain: state,
          kept: store.get(seq) ?? null,
          last: null,
        });
        assert.equal(found.kind === 'replay', store.has(seq), `seq ${seq}: ${found.kind}`);
        assert.notEqual(found.kind, 'forked');
        if (found.kind === 'advance' || found.kind === 'history') {
          store.set(seq, digest);
          state = found.chain;
        }
      }
      const missing = state.gaps.flatMap(({ from, to }) => Array.from({ length: to - from + 1 }, (_, i) => from + i));
      const head = Math.max(0, ...order);
      assert.equal(state.headSeq, head);
      assert.deepEqual(
        missing,
        Array.from({ length: head }, (_, i) => i + 1).filter((seq) => !store.has(seq)),
      );
    }),
  );
});

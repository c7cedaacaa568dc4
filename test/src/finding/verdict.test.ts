import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  freshnessOf,
  judgeHost,
  silentAt,
  VERDICTS,
  type FindingFacts,
  type HostFacts,
  type Provenance,
} from '#src/finding/verdict.ts';
import type { IntegrityFacts } from '#src/policy/evaluate.ts';

const MIN = 60_000;
const HOUR = 60 * MIN;
const NOW = 1_000 * HOUR;
const none = { usr: 0, etc: 0 };
const INTACT: IntegrityFacts = {
  manifest: { state: 'ready', image: `sha256:${'1'.repeat(64)}` as never, rule: 'ostree/1' },
  allowed: none,
  local: none,
  variants: none,
  masks: [],
  truncated: null,
  holesCapped: false,
  implausible: false,
};
const HOST: HostFacts = {
  enrolledAt: 0,
  integrity: INTACT,
  findings: [],
  provenance: { state: 'not-assessed' },
  lastLiveAt: NOW,
  freshness: {
    reportEvery: 15 * MIN,
    lateAfter: 45 * MIN,
    silentAfter: 24 * HOUR,
    behindTagAfter: null,
    imageAgeMax: null,
  },
  image: { behindTagSince: null, builtAt: null },
};
const finding = (more: Partial<FindingFacts> = {}): FindingFacts => ({
  rule: 'r',
  kind: 'drift',
  subject: '/usr/x',
  signature: 'removed',
  severity: 'high',
  verdict: 'drifted',
  waived: false,
  ...more,
});
const hole = finding({
  kind: 'hole',
  subject: '/etc/h',
  signature: 'unreadable',
  verdict: 'unverifiable',
  severity: 'medium',
});
const mask = { path: '/usr', kind: 'sysext', effect: 'forbidden' } as const;
const masked = finding({ kind: 'overlay', subject: '/usr', signature: 'sysext;ro;a' });
const pending = { state: 'pending', image: 'sha256:x', code: 'MANIFEST_PENDING', detail: null } as const;
const host = (integrity: Partial<IntegrityFacts>, findings: FindingFacts[] = [], more: Partial<HostFacts> = {}) =>
  judgeHost({ ...HOST, integrity: { ...INTACT, ...integrity }, findings, ...more }, NOW);

// Each answer in each of its states, and the verdict that the fixed order makes of every combination.
const integrities: [
  name: string,
  facts: Partial<IntegrityFacts> | null,
  findings: FindingFacts[],
  state: string,
  weighs: string,
][] = [
  ['no report', null, [], 'unverifiable', 'new'],
  ['intact', {}, [], 'intact', ''],
  ['intact with allowed differences', { allowed: { usr: 1, etc: 2 } }, [], 'intact', ''],
  ['intact, all waived', {}, [finding({ waived: true })], 'intact', ''],
  ['intact, something noted', {}, [finding({ verdict: 'none' })], 'intact', ''],
  ['drifted', {}, [finding()], 'drifted', 'drifted'],
  ['drifted by layered packages', {}, [finding({ kind: 'layered', subject: 'vim' })], 'drifted', 'drifted'],
  ['drifted and partly unread', {}, [finding(), hole], 'drifted', 'drifted'],
  ['drifted and the scan implausible', { implausible: true }, [finding()], 'drifted', 'drifted'],
  ['truncated', { truncated: { added: 1, removed: 1, modified: 1 } }, [], 'drifted', 'drifted'],
  ['masked', { masks: [mask] }, [masked], 'masked', 'drifted'],
  ['masked and drifted', { masks: [mask] }, [masked, finding()], 'masked', 'drifted'],
  ['masked as policy allows', { masks: [{ ...mask, effect: 'allowed' }] }, [], 'masked', ''],
  ['masked, waived', { masks: [mask] }, [{ ...masked, waived: true }], 'masked', ''],
  [
    'masked as policy allows, and drifted beside it',
    { masks: [{ ...mask, effect: 'allowed' }] },
    [finding()],
    'masked',
    'drifted',
  ],
  [
    'masked as policy allows, and partly unread',
    { masks: [{ ...mask, effect: 'allowed' }] },
    [hole],
    'masked',
    'unverifiable',
  ],
  ['partly unread', {}, [hole], 'unverifiable', 'unverifiable'],
  ['partly unread, waived', {}, [{ ...hole, waived: true }], 'intact', ''],
  ['too many holes', { holesCapped: true }, [], 'unverifiable', 'unverifiable'],
  ['implausible', { implausible: true }, [], 'unverifiable', 'unverifiable'],
  ['manifest pending', { manifest: pending }, [], 'unverifiable', 'unverifiable'],
  [
    'manifest pending, drift known from the image before',
    { manifest: pending },
    [finding()],
    'unverifiable',
    'unverifiable',
  ],
];
const provenances: [Provenance, weighs: string][] = [
  [{ state: 'not-assessed' }, ''],
  [{ state: 'trusted', by: 'us', policy: 'p' }, ''],
  [{ state: 'unsigned', why: 'no signature' }, 'unsigned'],
  [{ state: 'rejected', why: 'another signer' }, 'unsigned'],
  [{ state: 'unverifiable', since: 0, why: 'the log was not reached' }, 'unverifiable'],
];
const freshnesses: [state: string, lastLiveAt: number, weighs: string][] = [
  ['current', NOW, ''],
  ['late', NOW - HOUR, ''],
  ['silent', NOW - 25 * HOUR, 'silent'],
];
for (const [name, facts, findings, state, weighs] of integrities)
  test(`${name}: integrity ${state}, and the first verdict in order with every other answer`, () => {
    for (const [provenance, byProvenance] of provenances)
      for (const [fresh, lastLiveAt, byFreshness] of freshnesses) {
        const integrity = facts === null ? null : { ...INTACT, ...facts };
        const standing = judgeHost({ ...HOST, integrity, findings, provenance, lastLiveAt }, NOW);
        const expected =
          VERDICTS.find((verdict) => [weighs, byProvenance, byFreshness].includes(verdict)) ?? 'compliant';
        const what = `${provenance.state}, ${fresh}`;
        assert.equal(standing.verdict, expected, what);
        assert.deepEqual(
          [standing.integrity.state, standing.provenance, standing.freshness.state],
          [state, provenance, fresh],
          'the answers stand apart, whatever the verdict',
        );
        assert.ok(standing.sentence.startsWith(`${expected} (`), standing.sentence);
        if (expected !== 'compliant') assert.ok(standing.reasons.length > 0, `${what}: no reason`);
      }
  });

test('the order is the protocol’s', () => {
  assert.deepEqual([...VERDICTS], ['new', 'silent', 'unverifiable', 'unsigned', 'drifted', 'compliant']);
});

const sentences: [
  sentence: string,
  facts: Partial<IntegrityFacts>,
  findings?: FindingFacts[],
  more?: Partial<HostFacts>,
][] = [
  ['compliant (signatures not assessed)', {}],
  ['compliant (signatures trusted)', {}, [], { provenance: { state: 'trusted', by: 'x', policy: 'p' } }],
  ['compliant (3 allowed differences, signatures not assessed)', { allowed: { usr: 1, etc: 2 } }],
  [
    'compliant (1 allowed difference, 28 local differences, 1 waived, 1 noted, signatures not assessed)',
    { allowed: { usr: 0, etc: 1 }, local: { usr: 0, etc: 28 } },
    [finding({ waived: true }), finding({ verdict: 'none' })],
  ],
  ['compliant (2 importer differences, signatures not assessed)', { variants: { usr: 2, etc: 0 } }],
  ['compliant (image partly masked, signatures not assessed)', { masks: [{ ...mask, effect: 'allowed' }] }],
  [
    'drifted (1 critical, 2 high)',
    {},
    [finding(), finding({ severity: 'critical' }), finding(), finding({ severity: 'low', verdict: 'none' })],
  ],
  [
    'drifted (1 high; 1 allowed difference; 1 waived)',
    { allowed: { usr: 1, etc: 0 } },
    [finding(), finding({ waived: true })],
  ],
  ['drifted (1 high; the image lies under something else)', { masks: [mask] }, [masked]],
  [
    'drifted (more drift than a report lists: 1 added, 2 removed, 3 modified)',
    { truncated: { added: 1, removed: 2, modified: 3 } },
  ],
  ['unverifiable (MANIFEST_PENDING: the manifest of this image is being built)', { manifest: pending }],
  [
    'unverifiable (MANIFEST_FAILED: registry x says 404)',
    { manifest: { ...pending, state: 'failed', code: 'MANIFEST_FAILED', detail: 'registry x says 404' } },
  ],
  ['unverifiable (/etc/h could not be judged: unreadable)', {}, [hole]],
  ['unverifiable (the log was not reached)', {}, [finding()], { provenance: provenances[4]![0] }],
  ['unsigned (rejected: another signer)', {}, [finding()], { provenance: provenances[3]![0] }],
  ['silent (nothing heard for 25 h; it is silent after 24 h)', {}, [finding()], { lastLiveAt: NOW - 25 * HOUR }],
  ['silent (nothing heard for 41 days; it is silent after 24 h)', {}, [], { lastLiveAt: null }],
];
for (const [sentence, facts, findings, more] of sentences)
  test(sentence, () => assert.equal(host(facts, findings, more).sentence, sentence));

test('a host that never reported is new, also when it has been silent since', () => {
  const facts = { ...HOST, integrity: null, lastLiveAt: null, enrolledAt: NOW - HOUR };
  assert.equal(judgeHost(facts, NOW).sentence, 'new (no report yet)');
  assert.equal(judgeHost(facts, NOW + 48 * HOUR).sentence, 'new (never reported since it was enrolled)');
  assert.equal(judgeHost(facts, NOW + 48 * HOUR).freshness.state, 'silent');
});

test('what weighs beside integrity: odd reports, contradictions, age; where policy says so, and only then', () => {
  for (const kind of ['report', 'contradiction', 'enforcement', 'silence', 'outdated'] as const) {
    const one = (verdict: FindingFacts['verdict'], waived = false) =>
      host({}, [finding({ kind, subject: 'host', signature: 'x', verdict, waived })]);
    assert.deepEqual([one('none').verdict, one('none').integrity.state], ['compliant', 'intact'], kind);
    assert.deepEqual([one('drifted').verdict, one('drifted').integrity.state], ['drifted', 'intact'], kind);
    assert.deepEqual(
      [one('unverifiable').verdict, one('unverifiable').integrity.state],
      ['unverifiable', 'intact'],
      kind,
    );
    assert.equal(one('drifted', true).verdict, 'compliant', kind);
    assert.ok(one('none').reasons.length === 1, `${kind}: what is noted is told`);
  }
});

test('an unsigned or rejected image that is waived: the answer stays, the verdict says that it is waived', () => {
  for (const state of ['unsigned', 'rejected'] as const) {
    const provenance = { state, why: 'no' } as const;
    const judged = (waived: boolean, signature: string = state) =>
      host({}, [finding({ kind: 'provenance', subject: 'sha256:1', signature, verdict: 'drifted', waived })], {
        provenance,
      });
    assert.deepEqual([judged(true).verdict, judged(true).provenance.state], ['compliant', state]);
    assert.match(judged(true).sentence, new RegExp(`^compliant \\(1 waived, image ${state}, which is waived\\)$`));
    assert.equal(judged(false).verdict, 'unsigned');
    assert.equal(judged(true, 'host-unreadable').verdict, 'unsigned', 'another fault is waived, not this one');
  }
});

test('reasons: heaviest first, the same for the same facts, bounded, with what programs need', () => {
  const many = Array.from({ length: 100 }, (_, i) =>
    finding({ subject: `/usr/${i}`, severity: i % 2 === 0 ? 'low' : 'high' }),
  );
  const { reasons } = host({}, many);
  assert.equal(reasons.length, 20);
  assert.ok(reasons.every(({ severity }) => severity === 'high'));
  assert.deepEqual(host({}, [...many].reverse()).reasons, reasons);
  assert.deepEqual(host({}, [finding()]).reasons, [
    { text: '/usr/x: removed', weight: 'drifted', severity: 'high', rule: 'r', kind: 'drift', subject: '/usr/x' },
  ]);
});

test('codes say why integrity is unverifiable', () => {
  assert.equal(host({ manifest: pending }).integrity.code, 'MANIFEST_PENDING');
  assert.equal(host({}, [hole]).integrity.code, 'HOLES');
  assert.equal(host({ implausible: true }).integrity.code, 'SCAN_IMPLAUSIBLE');
  assert.equal(host({}).integrity.code, null);
});

const freshness = (more: Partial<HostFacts['freshness']>, image: Partial<HostFacts['image']>, age = 0) =>
  freshnessOf(
    { ...HOST, lastLiveAt: NOW - age, freshness: { ...HOST.freshness, ...more }, image: { ...HOST.image, ...image } },
    NOW,
  );
test('freshness changes at the very moment, from the server’s clock alone', () => {
  assert.deepEqual(freshness({}, {}, 45 * MIN - 1), { state: 'current', since: null });
  assert.deepEqual(freshness({}, {}, 45 * MIN), { state: 'late', since: NOW });
  assert.equal(freshness({}, {}, 24 * HOUR - 1).state, 'late');
  assert.deepEqual(freshness({}, {}, 24 * HOUR), { state: 'silent', since: NOW });
  assert.equal(silentAt({ ...HOST, lastLiveAt: NOW }), NOW + 24 * HOUR);
  assert.equal(silentAt({ ...HOST, lastLiveAt: null, enrolledAt: 5 }), 5 + 24 * HOUR);
  assert.equal(freshness({}, {}, -HOUR).state, 'current', 'a clock that was set back makes no one silent');
});
test('an image is outdated where policy sets a bound and the server knows its age; being late goes before', () => {
  const old = { behindTagSince: NOW - 8 * 24 * HOUR, builtAt: NOW - 100 * 24 * HOUR };
  assert.equal(freshness({}, old).state, 'current');
  assert.deepEqual(freshness({ behindTagAfter: 7 * 24 * HOUR }, old), { state: 'outdated', since: NOW - 24 * HOUR });
  assert.equal(freshness({ behindTagAfter: 9 * 24 * HOUR }, old).state, 'current');
  assert.deepEqual(freshness({ imageAgeMax: 90 * 24 * HOUR }, old), { state: 'outdated', since: NOW - 10 * 24 * HOUR });
  assert.equal(freshness({ imageAgeMax: 90 * 24 * HOUR }, {}).state, 'current');
  assert.equal(freshness({ behindTagAfter: 1 }, old, HOUR).state, 'late');
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { groupOf } from '#src/finding/group.ts';
import { advance, statusOf, type Cause, type Held } from '#src/finding/lifecycle.ts';
import type { Seen } from '#src/policy/evaluate.ts';
import { JUDGEMENT_KINDS, type Judgement, type JudgementKind, type Severity } from '#src/policy/judgement.ts';

const REPORT: Cause = { kind: 'report', imageChanged: false };
const ALL: Seen = {
  trees: { usr: { told: true, holes: [] }, etc: { told: true, holes: [] } },
  kinds: JUDGEMENT_KINDS,
};
const judged = (subject: string, more: Partial<Judgement> = {}): Judgement => ({
  rule: 'r',
  kind: 'drift',
  subject,
  signature: 'removed',
  severity: 'high',
  verdict: 'drifted',
  controls: [],
  reason: 'x',
  detail: {},
  ...more,
});
const held = (judgement: Judgement, observation: Held['observation'] = 'present', severity?: Severity): Held => ({
  group: groupOf(judgement),
  kind: judgement.kind,
  subject: judgement.subject,
  severity: severity ?? judgement.severity,
  observation,
});
const X = judged('/usr/x');
const told = (more: Partial<Seen['trees']['usr']>, tree: 'usr' | 'etc' = 'usr'): Seen => ({
  ...ALL,
  trees: { ...ALL.trees, [tree]: { told: true, holes: [], ...more } },
});

const table: [what: string, before: Held[], now: Judgement[], seen: Seen, cause: Cause, result: string][] = [
  ['nothing was, nothing is', [], [], ALL, REPORT, ''],
  ['it is new', [], [X], ALL, REPORT, 'opened'],
  ['it is still there', [held(X)], [X], ALL, REPORT, 'unchanged'],
  ['it came back', [held(X, 'absent')], [X], ALL, REPORT, 'reopened'],
  ['it stays away', [held(X, 'absent')], [], ALL, REPORT, ''],
  ['a complete report lacks it', [held(X)], [], ALL, REPORT, 'resolved reverted'],
  [
    'the host runs another image, which has it so',
    [held(X)],
    [],
    ALL,
    { kind: 'report', imageChanged: true },
    'resolved host_updated',
  ],
  ['the policy allows it now', [held(X)], [], ALL, { kind: 'policy' }, 'resolved policy_changed'],
  ['the policy rates it otherwise', [held(X, 'present', 'low')], [X], ALL, { kind: 'policy' }, 'rerated high'],
  [
    'the same path differs otherwise now',
    [held(X)],
    [judged('/usr/x', { signature: 'added' })],
    ALL,
    REPORT,
    'resolved superseded, opened',
  ],
  ['another path differs', [held(X)], [judged('/usr/y')], ALL, REPORT, 'resolved reverted, opened'],
  ['two judgements are one group', [], [X, judged('/usr/x', { severity: 'low' })], ALL, REPORT, 'opened'],
  ['an older report came late: new things', [], [X], ALL, { kind: 'history' }, ''],
  ['an older report came late: missing things', [held(X)], [], ALL, { kind: 'history' }, ''],
  [
    'the tree was not told (truncated, capped, implausible, no manifest)',
    [held(X)],
    [],
    told({ told: false }),
    REPORT,
    'kept',
  ],
  ['the other tree was not told', [held(X)], [], told({ told: false }, 'etc'), REPORT, 'resolved reverted'],
  ['the path is a hole', [held(X)], [], told({ holes: ['/usr/x'] }), REPORT, 'kept'],
  ['the path lies below a hole', [held(judged('/usr/x/y/z'))], [], told({ holes: ['/usr/x'] }), REPORT, 'kept'],
  ['the whole tree lies under a mount', [held(X)], [], told({ holes: ['/usr'] }), REPORT, 'kept'],
  [
    'the path only begins like a hole',
    [held(judged('/usr/xy'))],
    [],
    told({ holes: ['/usr/x'] }),
    REPORT,
    'resolved reverted',
  ],
  ['the path lies above a hole', [held(X)], [], told({ holes: ['/usr/x/y'] }), REPORT, 'resolved reverted'],
  [
    'an escaped path below an escaped hole',
    [held(judged('/usr/a\\040b/c'))],
    [],
    told({ holes: ['/usr/a\\040b'] }),
    REPORT,
    'kept',
  ],
  [
    'a secret below a hole',
    [held(judged('/etc/s/k', { kind: 'secret' }))],
    [],
    told({ holes: ['/etc/s'] }, 'etc'),
    REPORT,
    'kept',
  ],
  ['it is still listed though its folder is a hole', [held(X)], [X], told({ holes: ['/usr'] }), REPORT, 'unchanged'],
  ['it is listed for the first time below a hole', [], [X], told({ holes: ['/usr'] }), REPORT, 'opened'],
];
for (const [what, before, now, seen, cause, result] of table)
  test(`${what}: ${result || 'nothing happens'}`, () => {
    const changes = advance(before, now, seen, cause);
    const said = [
      ...changes.resolved.map(({ reason }) => `resolved ${reason}`),
      ...changes.opened.map(() => 'opened'),
      ...changes.reopened.map(() => 'reopened'),
      ...changes.rerated.map(({ severity }) => `rerated ${severity}`),
      ...(changes.unchanged > 0 ? ['unchanged'] : []),
      ...(changes.kept > 0 ? ['kept'] : []),
    ];
    assert.equal(said.join(', '), result);
  });

test('what is no path resolves only where its kind was told', () => {
  for (const kind of JUDGEMENT_KINDS.filter((kind) => kind !== 'drift' && kind !== 'secret')) {
    const subject = kind === 'stale-config' ? '/etc/x' : 'host';
    const one = held(judged(subject, { kind, signature: kind }));
    const without = { ...ALL, kinds: JUDGEMENT_KINDS.filter((other) => other !== kind) };
    assert.equal(advance([one], [], ALL, REPORT).resolved.length, 1, kind);
    assert.equal(advance([one], [], without, REPORT).kept, 1, kind);
  }
});

test('a finding keeps what its owner gave with it', () => {
  const mine = { ...held(X), row: 7 };
  assert.equal(advance([mine], [], ALL, REPORT).resolved[0]!.held.row, 7);
});

test('the word that is shown follows from two axes', () => {
  const observations = ['present', 'absent', 'unknown'] as const;
  const dispositions = ['none', 'acknowledged', 'waived'] as const;
  assert.deepEqual(
    observations.map((o) => dispositions.map((d) => statusOf(o, d))),
    [
      ['open', 'acknowledged', 'waived'],
      ['resolved', 'resolved', 'resolved'],
      ['stale', 'stale', 'stale'],
    ],
  );
});

// A plain model: a set of groups, and whether each could be seen.
test('for any sequence of reports: nothing opens without a judgement, nothing resolves unseen, nothing is lost', () => {
  const path = fc
    .tuple(fc.constantFrom('/usr', '/etc'), fc.array(fc.constantFrom('a', 'b'), { maxLength: 3 }))
    .map(([tree, names]) => [tree, ...names].join('/'));
  const tree = fc.record({ told: fc.boolean(), holes: fc.array(path, { maxLength: 2 }) });
  const kinds = fc.subarray<JudgementKind>(['karg', 'report']);
  const report = fc.record({
    judgements: fc.uniqueArray(
      fc.oneof(
        path.map((subject) => judged(subject)),
        path.map((subject) => judged(subject, { signature: 'added' })),
        fc.constantFrom<JudgementKind>('karg', 'report').map((kind) => judged('host', { kind })),
      ),
      { selector: groupOf, maxLength: 6 },
    ),
    seen: fc.record({ trees: fc.record({ usr: tree, etc: tree }), kinds }),
    cause: fc.constantFrom<Cause>(REPORT, { kind: 'policy' }, { kind: 'history' }),
  });
  fc.assert(
    fc.property(fc.array(report, { maxLength: 8 }), (reports) => {
      const rows = new Map<string, Held>();
      for (const { judgements, seen, cause } of reports) {
        const before = new Map(rows);
        const changes = advance(rows.values(), judgements, seen, cause);
        for (const { group, judgement } of changes.opened) {
          assert.ok(!rows.has(group));
          rows.set(group, held(judgement));
        }
        for (const { held: row } of changes.reopened) rows.set(row.group, { ...row, observation: 'present' });
        for (const { held: row } of changes.resolved) rows.set(row.group, { ...row, observation: 'absent' });
        if (cause.kind === 'history') {
          assert.deepEqual(rows, before);
          continue;
        }
        const now = new Set(judgements.map(groupOf));
        const present = [...rows.values()].filter(({ observation }) => observation === 'present');
        for (const group of now) assert.equal(rows.get(group)!.observation, 'present');
        for (const row of present) {
          const covered =
            row.kind === 'drift'
              ? !seen.trees[row.subject.slice(1, 4) as 'usr'].told ||
                seen.trees[row.subject.slice(1, 4) as 'usr'].holes.some(
                  (hole) => row.subject === hole || row.subject.startsWith(`${hole}/`),
                )
              : !seen.kinds.includes(row.kind);
          assert.ok(now.has(row.group) || (covered && before.get(row.group)?.observation === 'present'));
        }
        const wasPresent = [...before.values()].filter(({ observation }) => observation === 'present').length;
        assert.equal(changes.unchanged + changes.kept + changes.resolved.length + changes.rerated.length, wasPresent);
      }
    }),
  );
});

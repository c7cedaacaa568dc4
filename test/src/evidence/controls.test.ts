/** Results of controls out of facts: each rule, completeness before all, waivers apart, and the same results however the facts come. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assess, ControlsError, hostResults, prepare, resultsText, type Results } from '#src/evidence/controls.ts';
import {
  factsOf,
  type DecisionFact,
  type FindingFact,
  type HostFact,
  type HostInScope,
  type ImageFact,
} from '#src/evidence/facts.ts';
import { parseFramework } from '#src/policy/controls.ts';
import { shippedFrameworks } from '#server/controlfiles.ts';
import { rejectsCode } from '#test/throws.ts';
import { DAYS, finding, fleet, head, history, host, hostId, image, IMAGES, on, waiver } from './fleet.ts';

/** A control for each rule. */
const RULES = ['R-int', 'R-sig', 'R-chg', 'R-inv', 'R-log', 'R-find'] as const;
const mapping = parseFramework(
  `format: bootproof.controls/1
framework: t
title: T
version: '1'
about: One control a rule.
controls:
${RULES.map(
  (
    rule,
  ) => `  - { id: ${rule}, title: T, summary: S., status: draft, rules: [${rule}], data: [reports], doesNotProve: [All.] }
`,
).join(
  '',
)}  - { id: weekly, title: T, summary: S., status: draft, rules: [R-int], interval: 7d, data: [reports], doesNotProve: [All.] }
  - { id: none, title: T, summary: S., status: draft, rules: [], notComputed: Nobody can., doesNotProve: [All.] }
`,
  't.yaml',
);

type Case = {
  readonly hosts?: readonly HostFact[];
  readonly findings?: readonly FindingFact[];
  readonly images?: readonly ImageFact[];
  readonly decisions?: readonly DecisionFact[];
  readonly logHolds?: boolean;
};
const signed = [image(IMAGES[0]), image(IMAGES[1])];

async function resultsOf(facts: Case): Promise<Results> {
  const { hosts = [host(1)], images = signed, ...rest } = facts;
  return assess(await prepare(factsOf({ head: head({ frameworks: ['t'] }), hosts, images, ...rest }), [mapping]));
}

/** Outcomes by one letter each, in the order of the controls: satisfied, not (x), not assessed (?). */
const letters = ({ controls }: Results): string =>
  controls.map(({ outcome }) => ({ satisfied: 's', 'not-satisfied': 'x', 'not-assessed': '?' })[outcome]).join('');

const drifted = { ...host(1).standing, verdict: 'drifted', integrity: 'drifted' } as const;
const bad = (over: Partial<FindingFact> = {}) => finding(1, { controls: ['t:R-find'], ...over });
const well = (over: Partial<HostInScope>) => [host(1, over)];
const late = history(['new', on(10)], ['resolved', on(14), 'reverted']);

//                                               int sig chg inv log find weekly none
const cases: readonly (readonly [what: string, letters: string, facts: Case])[] = [
  ['a host of which nothing is to be said', 'sssssss?', {}],
  ['no host in scope', '????????', { hosts: [{ host: hostId(1), inScope: false }] }],
  ['a difference that is open', 'xsxssxx?', { hosts: well({ standing: drifted }), findings: [bad()] }],
  [
    'one that is acknowledged: it excepts nothing',
    'xssssxx?',
    {
      findings: [bad({ disposition: 'acknowledged', history: history(['new', on(10)], ['acknowledged', on(10, 1)]) })],
    },
  ],
  [
    'one that is waived',
    'sssssss?',
    {
      findings: [
        bad({ disposition: 'waived', waiver: 'W-1', history: history(['new', on(10)], ['waived', on(10, 1)]) }),
      ],
      decisions: [waiver('W-1')],
    },
  ],
  [
    'one whose waiver the bundle does not show',
    '?ssss???',
    {
      findings: [
        bad({ disposition: 'waived', waiver: 'W-1', history: history(['new', on(10)], ['waived', on(10, 1)]) }),
      ],
    },
  ],
  [
    'one whose waiver nobody approved',
    '?ssss???',
    {
      findings: [
        bad({ disposition: 'waived', waiver: 'W-1', history: history(['new', on(10)], ['waived', on(10, 1)]) }),
      ],
      decisions: [waiver('W-1', { decidedBy: null })],
    },
  ],
  [
    'one whose waiver ended before the period',
    'xssssxx?',
    {
      findings: [
        bad({ disposition: 'waived', waiver: 'W-1', history: history(['new', on(10)], ['waived', on(10, 1)]) }),
      ],
      decisions: [waiver('W-1', { endsAt: on(20) })],
    },
  ],
  [
    'one that ended in time',
    'sssssss?',
    { findings: [bad({ open: false, history: history(['new', on(10)], ['resolved', on(12), 'reverted']) })] },
  ],
  ['one that ended, answered too late', 'ssxssss?', { findings: [bad({ open: false, history: late })] }],
  [
    'one that waits for an answer, still in time',
    'xssssxx?',
    { findings: [bad({ history: history(['new', on(DAYS - 1)]) })] },
  ],
  [
    'one that came back when its waiver ended',
    'xsxssxx?',
    { findings: [bad({ history: history(['new', on(10)], ['waived', on(11)], ['returned', on(40)]) })] },
  ],
  [
    'one that was over, and answered late, before the period',
    'sssssss?',
    { findings: [bad({ open: false, history: history(['new', on(-20)], ['resolved', on(-10), 'reverted']) })] },
  ],
  [
    'a place that could not be read',
    '?ssss???',
    { findings: [bad({ kind: 'hole', history: history(['new', on(10)], ['acknowledged', on(11)]) })] },
  ],
  ['a standing that no finding explains', 'xsssssx?', { hosts: well({ standing: drifted }) }],
  [
    'too few reports',
    '????????',
    { hosts: well({ checkIns: { expected: 1000, received: 949, longestSeconds: 900 } }) },
  ],
  [
    'just enough reports',
    'sssssss?',
    { hosts: well({ checkIns: { expected: 1000, received: 950, longestSeconds: 900 } }) },
  ],
  [
    'no report at all, and none due',
    '????????',
    { hosts: well({ checkIns: { expected: 0, received: 0, longestSeconds: 0 } }) },
  ],
  [
    'silent at the end',
    '????????',
    { hosts: well({ standing: { ...drifted, verdict: 'silent', integrity: 'intact' } }) },
  ],
  [
    'silent because it was retired',
    'sssssss?',
    { hosts: well({ retiredAt: on(80), standing: { ...drifted, verdict: 'silent', integrity: 'intact' } }) },
  ],
  ['a gap that nobody explained', 'xssxsss?', { hosts: well({ gaps: [{ from: on(3), to: on(5), why: null }] }) }],
  ['a gap with a reason', 'sssssss?', { hosts: well({ gaps: [{ from: on(3), to: on(5), why: 'moved' }] }) }],
  [
    'longer without a report than the framework allows, with a reason',
    'ssssssx?',
    {
      hosts: well({
        gaps: [{ from: on(3), to: on(11), why: 'moved' }],
        checkIns: { expected: 100, received: 99, longestSeconds: 8 * 86_400 },
      }),
    },
  ],
  [
    'an image that nobody signed, booted in the period',
    'sxxssss?',
    { images: [image(IMAGES[0]), image(IMAGES[1], { state: 'unsigned' })] },
  ],
  [
    'the same, waived',
    'sssssss?',
    {
      images: [image(IMAGES[0]), image(IMAGES[1], { state: 'unsigned' })],
      findings: [
        bad({
          kind: 'provenance',
          subject: IMAGES[1],
          disposition: 'waived',
          waiver: 'W-1',
          history: history(['new', on(45)], ['waived', on(46)]),
        }),
      ],
      decisions: [waiver('W-1')],
    },
  ],
  [
    'an unsigned image that was left in the period',
    'sxsssss?',
    { images: [image(IMAGES[0], { state: 'rejected' }), image(IMAGES[1])] },
  ],
  ['an image of which nothing is known', 's??ssss?', { images: [image(IMAGES[0])] }],
  ['a host that told no deployment', 's?sssss?', { hosts: well({ deployments: [] }) }],
  ['a log that does not hold', 'ssssxss?', { logHolds: false }],
];
for (const [what, expected, facts] of cases)
  test(`${what}: ${expected}`, async () => assert.equal(letters(await resultsOf(facts)), expected));

test('one bad host of many is enough, and counts say how many', async () => {
  const results = await resultsOf({
    hosts: [
      host(1, { standing: drifted }),
      host(2),
      host(3, { standing: { ...drifted, verdict: 'silent', integrity: 'intact' } }),
    ],
    findings: [bad()],
  });
  const control = results.controls[0]!;
  assert.equal(control.outcome, 'not-satisfied');
  assert.deepEqual(control.hosts, { satisfied: 1, 'not-satisfied': 1, 'not-assessed': 1 });
  assert.deepEqual(control.reasons, [
    '1 of 3 hosts: a difference was open at the end without a waiver.',
    '1 of 3 hosts: how it stood at the end does not let it be told, or is not explained.',
  ]);
});

test('waived is counted apart', async () => {
  const waived = bad({
    disposition: 'waived',
    waiver: 'W-1',
    history: history(['new', on(10)], ['waived', on(10, 1)]),
  });
  const { controls, exceptions } = await resultsOf({ findings: [waived], decisions: [waiver('W-1')] });
  assert.deepEqual(
    [controls[0]!.outcome, controls[0]!.hostsWaived, controls[0]!.exceptions.waived],
    ['satisfied', 1, 1],
  );
  assert.deepEqual(exceptions, { fails: 0, unknown: 0, waived: 1, explained: 0, ended: 0 });
});

const strange: readonly (readonly [what: string, facts: Case])[] = [
  ['hosts out of order', { hosts: [host(2), host(1)] }],
  ['a host twice', { hosts: [host(1), host(1)] }],
  ['a finding of a host that is not there', { findings: [finding(2)] }],
  [
    'a finding of a host out of scope',
    { hosts: [{ host: hostId(1), inScope: false }, host(2)], findings: [finding(1)] },
  ],
  ['findings out of order', { hosts: [host(1), host(2)], findings: [finding(2), finding(1)] }],
];
for (const [what, facts] of strange)
  test(`computes nothing from ${what}`, () => rejectsCode(() => resultsOf(facts), ControlsError, 'CONTROLS_FACTS'));

test('a framework that no mapping describes is refused', () =>
  rejectsCode(
    () => prepare(factsOf({ head: head({ frameworks: ['nist-800-54'] }) }), [mapping]),
    ControlsError,
    'CONTROLS_FRAMEWORK',
  ));

test('the same facts give the same results to the byte', async () => {
  const mappings = (await shippedFrameworks()).map(({ framework }) => framework);
  const once = async () => resultsText(await assess(await prepare(fleet(80), mappings)));
  assert.equal(await once(), await once());
});

test('a fleet is read one host at a time', async () => {
  let ahead = 0;
  const facts = {
    ...factsOf({ head: head({ frameworks: [] }) }),
    async *hosts() {
      for (let n = 0; n < 50; n++) {
        ahead = n;
        yield host(n);
      }
    },
  };
  let seen = 0;
  for await (const { host: own } of hostResults(await prepare(facts, []))) {
    assert.equal(own.host, hostId(seen));
    assert.ok(ahead <= seen, 'nothing is read before it is needed');
    seen++;
  }
  assert.equal(seen, 50);
});

/** What a waiver covers, and which of several counts (docs/findings.md 3). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  compileSelector,
  exemptionOf,
  isWaivable,
  reachesHost,
  ready,
  type Ack,
  type Target,
  type TargetHost,
} from '#src/finding/exempt.ts';
import {
  actOn,
  maxLife,
  stateOf,
  WaiverError,
  type Selector,
  type Waiver,
  type WaiverAct,
  UNDECIDED,
} from '#src/finding/waiver.ts';
import { throwsCode } from '#test/throws.ts';

const NOW = Date.UTC(2026, 10, 24, 12);
const DAY = 86_400_000;
const HEX = 'ab'.repeat(32);

const target = (more: Partial<Target> = {}): Target => ({
  rule: 'usr-file',
  kind: 'drift',
  subject: '/usr/bin/sudo',
  signature: `modified;sha256=${HEX}`,
  severity: 'high',
  ...more,
});
const HOST: TargetHost = {
  id: 'h_1',
  group: 'lab',
  labels: { site: 'a' },
  digests: ['sha256:image', 'sha256:config'],
  repositories: ['docker://registry.example/os'],
};
const waiver = (more: Partial<Waiver> = {}): Waiver => ({
  id: 'W-1',
  revision: 3,
  kind: 'accepted_risk',
  title: 't',
  justification: 'j',
  compensating: null,
  ticket: null,
  selector: { rules: ['usr-file'], content: 'any' },
  ceiling: 'high',
  startsAt: NOW - DAY,
  expiresAt: NOW + DAY,
  decision: 'approved',
  requestedBy: 'alice',
  requestedAt: NOW - 2 * DAY,
  ...UNDECIDED,
  decidedBy: 'bob',
  decidedAt: NOW - DAY,
  scope: null,
  ...more,
});

const pins = (...all: Exclude<Selector['content'], 'any'>['pins']): Selector['content'] => ({ pins: all });
const change = { subject: '/usr/bin/sudo', signature: `modified;sha256=${HEX}` };
const covered: readonly [string, Selector, boolean, Partial<Target>?][] = [
  ['its rule', { rules: ['a', 'usr-file'], content: 'any' }, true],
  ['another rule', { rules: ['a'], content: 'any' }, false],
  ['its subject', { subject: { exact: '/usr/bin/sudo' }, content: 'any' }, true],
  ['what begins like its subject', { subject: { exact: '/usr/bin/su' }, content: 'any' }, false],
  ['a glob over it', { subject: { glob: '/usr/bin/*' }, content: 'any' }, true],
  ['a glob beside it', { subject: { glob: '/usr/lib/**' }, content: 'any' }, false],
  ['a glob over an escaped name', { subject: { glob: '/usr/a b' }, content: 'any' }, true, { subject: '/usr/a\\040b' }],
  [
    'a glob over a word',
    { subject: { glob: 'mitig*' }, content: 'any' },
    true,
    { subject: 'mitigations=off', kind: 'karg' },
  ],
  ['a path glob over a word', { subject: { glob: '/**' }, content: 'any' }, false, { subject: 'quiet', kind: 'karg' }],
  ['its change, pinned', { content: pins(change) }, true],
  ['other content under a pin', { content: pins(change) }, false, { signature: `modified;sha256=${'cd'.repeat(32)}` }],
  ['more than the pinned change', { content: pins(change) }, false, { signature: `modified;mode=4777;sha256=${HEX}` }],
  ['the same change elsewhere', { content: pins(change) }, false, { subject: '/usr/bin/su' }],
  ['its digest, pinned', { content: pins({ digest: `sha256:${HEX}` }) }, true],
  ['its digest elsewhere', { content: pins({ digest: `sha256:${HEX}` }) }, true, { subject: '/usr/bin/su' }],
  ['a removal under a pinned digest', { content: pins({ digest: `sha256:${HEX}` }) }, false, { signature: 'removed' }],
];
for (const [name, selector, expected, more] of covered)
  test(`${expected ? 'covers' : 'does not cover'} ${name}`, () => {
    assert.equal(compileSelector(selector).finding(target(more)), expected);
  });

const reached: readonly [string, Partial<Selector>, boolean][] = [
  ['its id', { hosts: { ids: ['h_0', 'h_1'] } }, true],
  ['another id', { hosts: { ids: ['h_0'] } }, false],
  ['its group', { hosts: { groups: ['lab'] } }, true],
  ['its group and another label', { hosts: { groups: ['lab'], labels: [{ key: 'site', value: 'b' }] } }, false],
  [
    'one of two labels',
    {
      hosts: {
        labels: [
          { key: 'x', value: 'y' },
          { key: 'site', value: 'a' },
        ],
      },
    },
    true,
  ],
  ['a name of every object', { hosts: { labels: [{ key: 'constructor', value: '' }] } }, false],
  ['its image by another name', { image: { digest: 'sha256:config' } }, true],
  ['its repository', { image: { repository: 'docker://registry.example/os' } }, true],
  ['another repository', { image: { repository: 'docker://registry.example/other' } }, false],
];
for (const [name, where, expected] of reached)
  test(`${expected ? 'reaches' : 'does not reach'} a host by ${name}`, () => {
    const one = ready(waiver({ selector: { rules: ['usr-file'], content: 'any', ...where } }));
    assert.equal(reachesHost(one, HOST, NOW), expected);
  });

test('a scope holds it in the approver’s groups', () => {
  assert.equal(reachesHost(ready(waiver({ scope: ['lab'] })), HOST, NOW), true);
  assert.equal(reachesHost(ready(waiver({ scope: ['prod'] })), HOST, NOW), false);
  assert.equal(reachesHost(ready(waiver({ scope: ['lab'] })), { ...HOST, group: null }, NOW), false);
});

test('to the millisecond: before its day and from its end on it reaches nothing', () => {
  const one = ready(waiver());
  const at = (now: number) => [stateOf(one.waiver, now), reachesHost(one, HOST, now)];
  assert.deepEqual(at(NOW - DAY - 1), ['approved', false]);
  assert.deepEqual(at(NOW - DAY), ['active', true]);
  assert.deepEqual(at(NOW + DAY - 1), ['active', true]);
  assert.deepEqual(at(NOW + DAY), ['expired', false]);
  for (const decision of ['requested', 'rejected', 'withdrawn', 'revoked'] as const)
    assert.equal(reachesHost(ready(waiver({ decision })), HOST, NOW), false, decision);
});

test('the one that ends last counts; a ceiling below the finding covers nothing; a waiver goes before an acknowledgement', () => {
  const ack: Ack = { by: 'alice', at: NOW - 1, until: NOW + 1, note: null };
  const short = ready(waiver());
  const long = ready(waiver({ id: 'W-2', expiresAt: NOW + 5 * DAY }));
  const low = ready(waiver({ id: 'W-3', ceiling: 'medium', expiresAt: NOW + 9 * DAY }));
  assert.deepEqual(exemptionOf(target(), ack, [short, low, long], NOW), {
    kind: 'waived',
    waiver: 'W-2',
    until: NOW + 5 * DAY,
  });
  assert.equal(exemptionOf(target({ severity: 'critical' }), null, [short, long], NOW).kind, 'none');
  assert.deepEqual(exemptionOf(target(), ack, [low], NOW), { kind: 'acknowledged', ack });
  assert.equal(exemptionOf(target(), ack, [], NOW + 1).kind, 'none');
});

test('what is not known is not waived', () => {
  const no = [
    ['manifest', 'MANIFEST_PENDING'],
    ['silence', 'silent'],
    ['provenance', 'unverifiable'],
    ['report', 'identity-forked'],
    ['report', 'cloned'],
    ['report', 'drift-truncated'],
    ['report', 'scan-implausible'],
  ] as const;
  for (const [kind, signature] of no) assert.equal(isWaivable({ kind, signature }), false, `${kind} ${signature}`);
  assert.equal(isWaivable({ kind: 'report', signature: 'clock-skew' }), true);
  assert.equal(isWaivable({ kind: 'provenance', signature: 'unsigned' }), true);
  const any = compileSelector({ rules: ['usr-file'], content: 'any' });
  assert.equal(any.finding(target({ kind: 'report', signature: 'cloned' })), false);
});

// Every act in every state: what is not named here is refused.
const STATES: Readonly<Record<string, Partial<Waiver>>> = {
  requested: { decision: 'requested', decidedBy: null, decidedAt: null, startsAt: null },
  approved: { startsAt: NOW + 1 },
  active: {},
  expired: { expiresAt: NOW },
  revoked: { decision: 'revoked' },
  rejected: { decision: 'rejected' },
  withdrawn: { decision: 'withdrawn' },
};
const ACTS: Readonly<Record<string, readonly [WaiverAct, string, Readonly<Record<string, string>>]>> = {
  approve: [{ kind: 'approve', note: null, singlePerson: false }, 'bob', { requested: 'active' }],
  reject: [{ kind: 'reject', note: 'no' }, 'bob', { requested: 'rejected' }],
  withdraw: [{ kind: 'withdraw', reason: null }, 'alice', { requested: 'withdrawn' }],
  revoke: [{ kind: 'revoke', reason: 'over' }, 'bob', { approved: 'revoked', active: 'revoked' }],
  extend: [
    { kind: 'extend', expiresAt: NOW + 20 * DAY, note: 'late' },
    'alice',
    { approved: 'approved', active: 'active' },
  ],
};
for (const [verb, [act, actor, leads]] of Object.entries(ACTS))
  for (const [state, more] of Object.entries(STATES))
    test(`${verb}: ${state} → ${leads[state] ?? 'refused'}`, () => {
      const before = waiver(more);
      assert.equal(stateOf(before, NOW), state);
      const who = { id: actor, decides: actor === 'bob', groups: null };
      const to = leads[state];
      if (to === undefined) return throwsCode(() => actOn(before, act, who, NOW), WaiverError, 'WAIVER_STATE');
      const after = actOn(before, act, who, NOW);
      assert.deepEqual([stateOf(after, NOW), after.revision], [to, before.revision + 1]);
    });

test('who does not decide, who asked, and who did not ask', () => {
  const requested = waiver(STATES['requested']);
  const approve = { kind: 'approve', note: null, singlePerson: false } as const;
  const as = (id: string, decides: boolean) => ({ id, decides, groups: null });
  throwsCode(() => actOn(requested, approve, as('bob', false), NOW), WaiverError, 'WAIVER_ROLE');
  throwsCode(() => actOn(requested, approve, as('alice', true), NOW), WaiverError, 'WAIVER_OWN');
  throwsCode(
    () => actOn(requested, { kind: 'withdraw', reason: null }, as('bob', true), NOW),
    WaiverError,
    'WAIVER_ROLE',
  );
  assert.equal(actOn(requested, { ...approve, singlePerson: true }, as('alice', true), NOW).alone, true);
  assert.equal(actOn(requested, { ...approve, singlePerson: true }, as('bob', true), NOW).alone, false);
});

test('how long it may live, by its ceiling', () => {
  assert.deepEqual(
    (['info', 'low', 'medium', 'high', 'critical'] as const).map((severity) => maxLife(severity) / DAY),
    [365, 365, 365, 90, 30],
  );
});

/** What is said of a policy before it judges anything: rules that decide nothing, and which rule decides about a path. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { comparePolicies } from '#src/policy/compare.ts';
import { explainPath } from '#src/policy/explain.ts';
import { NO_HOST } from '#src/policy/host.ts';
import { lintPolicy } from '#src/policy/lint.ts';
import { matchesGlob, parseGlob, witnessOf } from '#src/policy/paths.ts';
import { added, DEFAULT, policyOf, removed, replaced } from './evidence.ts';

const REST = '  - {id: rest, paths: [/etc/**], effect: forbidden, severity: low, reason: x}\n';
const lints = (text: string) => lintPolicy(policyOf(text)).map(({ code, rule, by }) => [code, rule, ...by]);
const rule = (id: string, paths: string, more = '') =>
  `  - {id: ${id}, paths: ${paths}, effect: allowed, reason: x${more === '' ? '' : `, ${more}`}}\n`;

const cases: [name: string, text: string, expected: string[][]][] = [
  ['a rule behind one for everything', `files:\n${REST}${rule('motd', '[/etc/motd]')}`, [['SHADOWED', 'motd', 'rest']]],
  ['a rule before it', `files:\n${rule('motd', '[/etc/motd]')}${REST}`, []],
  [
    'a rule behind one of the same folder',
    `files:\n${rule('a', '["/etc/x/**"]')}${rule('b', '["/etc/x/*.conf"]')}`,
    [['SHADOWED', 'b', 'a']],
  ],
  ['a rule that reaches further', `files:\n${rule('a', '["/etc/x/*.conf"]')}${rule('b', '["/etc/x/**"]')}`, []],
  ['one glob of two that is free', `files:\n${rule('a', '[/etc/a]')}${rule('b', '["/etc/{a,b}"]')}`, []],
  [
    'two rules that stand before one together',
    `files:\n${rule('a', '[/etc/a]')}${rule('b', '[/etc/b]')}${rule('c', '["/etc/{a,b}"]')}`,
    [['SHADOWED', 'c', 'a', 'b']],
  ],
  [
    'a narrower condition behind a wider one',
    `files:\n${rule('a', '[/etc/a]', 'when: {change: [added, modified]}')}${rule('b', '[/etc/a]', 'when: {change: [added]}')}`,
    [['SHADOWED', 'b', 'a']],
  ],
  ['another condition', `files:\n${rule('a', '[/etc/a]', 'when: {change: [added]}')}${rule('b', '[/etc/a]')}`, []],
  [
    'the mode of what is gone',
    `files:\n${rule('a', '[/etc/a]', 'when: {change: [removed], modeWithin: "0644"}')}`,
    [['NEVER_MATCHES', 'a']],
  ],
  [
    'the target of a file',
    `files:\n${rule('a', '[/etc/a]', 'when: {type: [file], link: [/x]}')}`,
    [['NEVER_MATCHES', 'a']],
  ],
  ['a target that is there', `files:\n${rule('a', '[/etc/a]', 'when: {type: [symlink], link: ["../run/**"]}')}`, []],
  [
    'attributes that only leaves out',
    `files:\n${rule('a', '[/etc/a]', 'when: {attributes: [mode], only: [content]}')}`,
    [['NEVER_MATCHES', 'a']],
  ],
  ['a digest that is named', `files:\n${rule('a', '[/etc/a]', `when: {sha256: ["${'9'.repeat(64)}"]}`)}`, []],
  ['a condition that nobody can foresee', `files:\n${rule('a', '[/etc/a]', 'when: {cel: "after.size == 77"}')}`, []],
  [
    'what comes behind a condition that holds for what is tried',
    `files:\n${rule('a', '[/etc/**]', `when: {cel: '!path.endsWith(".so")'}`)}${rule('b', '[/etc/**]', `when: {cel: 'path.endsWith(".so")'}`)}${rule('c', '["/etc/x/**"]')}`,
    [],
  ],
  [
    'what comes behind a condition',
    `files:\n${rule('a', '[/etc/a]', 'when: {cel: "after.size == 77"}')}${rule('b', '[/etc/a]')}`,
    [],
  ],
  [
    'a rule for some hosts before one for all',
    `files:\n${rule('a', '[/etc/a]', 'hosts: {groups: x}')}${rule('b', '[/etc/a]')}`,
    [],
  ],
  [
    'a rule for some hosts behind one for all',
    `files:\n${rule('a', '[/etc/a]')}${rule('b', '[/etc/a]', 'hosts: {groups: x}')}`,
    [['SHADOWED', 'b', 'a']],
  ],
  [
    'accounts',
    'accounts:\n  - {id: a, when: {uids: [0]}, effect: allowed, reason: x}\n  - {id: b, when: {uids: [0], names: x}, effect: allowed, reason: x}\n  - {id: c, when: {login: true, shells: "*/nologin"}, effect: allowed, reason: x}\n',
    [
      ['SHADOWED', 'b', 'a'],
      ['NEVER_MATCHES', 'c'],
    ],
  ],
  [
    'state rules',
    'state:\n  - {id: a, on: overlay, when: {kinds: [sysext, bind]}, effect: allowed, reason: x}\n  - {id: b, on: overlay, when: {kinds: [bind], masks: true}, effect: allowed, reason: x}\n  - {id: c, on: overlay, effect: allowed, reason: x}\n  - {id: d, on: layered, effect: allowed, reason: x}\n',
    [['SHADOWED', 'b', 'a']],
  ],
];
for (const [name, text, expected] of cases)
  test(`lint, ${name}: ${expected.length === 0 ? 'nothing' : expected.map((one) => one.join(' ')).join('; ')}`, () => {
    assert.deepEqual(lints(text), expected);
  });

test('the policy that ships has no rule that decides nothing', () => {
  assert.deepEqual(lintPolicy(DEFAULT), []);
});

test('a witness of a glob is a path that it names', () => {
  const part = fc.constantFrom('a', '*', '*.conf', '[a-z]x', '[!a]', '?', '**', '{b,c}', 'x\\*');
  fc.assert(
    fc.property(fc.array(part, { minLength: 1, maxLength: 5 }), (parts) => {
      const glob = parseGlob(`/etc/${parts.join('/')}`, 'path');
      const witnesses = witnessOf(glob);
      assert.equal(witnesses.length, glob.alternatives.length);
      for (const path of witnesses) assert.ok(matchesGlob(glob, path), `${glob.source}: ${path}`);
    }),
  );
});

test('what decides about a path is told with what it keeps from deciding, and what does not hold of the rest', () => {
  const line = replaced('/etc/ssh/sshd_config');
  const told = explainPath(
    DEFAULT,
    { path: line.path, drift: line, secret: undefined },
    { host: NO_HOST, accountsTold: false },
  );
  assert.equal(told.decides!.id, 'etc-ssh');
  assert.deepEqual(
    told.shadowed.map(({ id }) => id),
    ['etc-other'],
  );
  assert.ok(
    told.passed.some(({ rule: { id }, condition }) => id === 'privileged-program-gained' && condition === 'gains'),
  );
  const gone = removed('/etc/hostname');
  const passed = explainPath(
    DEFAULT,
    { path: gone.path, drift: gone, secret: undefined },
    { host: NO_HOST, accountsTold: false },
  ).passed;
  assert.deepEqual(passed.find(({ rule: { id } }) => id === 'etc-machine-identity')!.condition, 'change');
  const other = added('/etc/x');
  const unnamed = explainPath(
    policyOf('files: []\n'),
    { path: '/etc/x', drift: other, secret: undefined },
    { host: NO_HOST, accountsTold: false },
  );
  assert.deepEqual([unnamed.decides, unnamed.unnamed!.id], [null, 'unnamed-etc']);
});

test('two policies differ in the rules that were added, removed, changed or moved', () => {
  const before = policyOf(
    `files:\n${rule('a', '[/etc/a]')}${rule('b', '[/etc/b]')}${rule('c', '[/etc/c]')}${rule('d', '[/etc/d]')}`,
  );
  const after = policyOf(
    `freshness: {silentAfter: 2d}\nfiles:\n${rule('c', '[/etc/c]')}${rule('a', '[/etc/a]')}${rule('b', '[/etc/b, /etc/bb]')}${rule('e', '[/etc/e]')}`,
  );
  const { rules, freshness } = comparePolicies(before, after);
  assert.deepEqual(
    rules.map(({ id, change, keys }) => [id, change, ...keys]),
    [
      ['d', 'removed'],
      ['c', 'moved'],
      ['b', 'changed', 'paths'],
      ['e', 'added'],
    ],
  );
  assert.deepEqual(freshness, ['silentAfter']);
  assert.deepEqual(comparePolicies(DEFAULT, DEFAULT), { rules: [], freshness: [] });
});

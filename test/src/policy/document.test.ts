import assert from 'node:assert/strict';
import { test } from 'node:test';
import { canonicalText } from '#src/policy/canonical.ts';
import { parsePolicy } from '#src/policy/document.ts';
import { POLICY_FORMAT } from '#src/policy/schema.ts';
import { nearest } from '#src/document/spelling.ts';
import { DocumentError } from '#src/document/yaml.ts';
import { throwsCode } from '#test/throws.ts';
import { DEFAULT, DEFAULT_TEXT, policyOf } from './evidence.ts';

const HEAD = `format: ${POLICY_FORMAT}\nname: x\n`;
const read = (text: string) =>
  parsePolicy(text, { file: 'p.yaml', base: (name) => (name === 'default' ? DEFAULT : undefined) });

function problemsOf(text: string): string[] {
  try {
    read(text);
  } catch (error) {
    assert.ok(error instanceof DocumentError, String(error));
    return error.problems.map(({ line, column, message }) => `${line}:${column} ${message}`);
  }
  return [];
}

const DENY = 'contents:\n  deny: ["/etc/x"]\n';
const RULE = '{id: a, paths: [/etc/x], effect: allowed, reason: x}';
const refused: [name: string, body: string, problems: RegExp[]][] = [
  ['an unknown section', 'fils: []', [/^3:1 unknown key "fils", did you mean files\?$/]],
  [
    'an unknown key that resembles none',
    'flavour: x',
    [
      /^3:1 unknown key "flavour"; here may stand format, name, description, extends, freshness, freshnessFor, contents, accounts, files, state$/,
    ],
  ],
  [
    'two unknown keys in one rule, and what is missing for it',
    'files:\n  - id: a\n    paths: [/etc/x]\n    efect: allowed\n    reasn: x',
    [
      /^4:5 effect is missing/,
      /^4:5 reason is missing/,
      /^6:5 unknown key "efect", did you mean effect\?; unknown key "reasn", did you mean reason\?$/,
    ],
  ],
  [
    'contents that a policy would let out: it can only deny',
    'contents:\n  allow: ["/etc/x"]',
    [/^4:3 deny is missing/, /^4:3 unknown key "allow"; here may stand deny$/],
  ],
  ['a denial that is no glob', 'contents: {deny: ["etc/x"]}', [/^3:19 "etc\/x": a path glob begins with/]],
  [
    'a misspelt effect',
    'files:\n  - {id: a, paths: [/etc/x], effect: alowed, reason: x}',
    [/^4:38 did you mean allowed\?$/],
  ],
  [
    'a word that is none',
    'files:\n  - {id: a, paths: [/etc/x], effect: maybe, reason: x}',
    [/^4:38 expected one of expected-local, allowed, forbidden$/],
  ],
  [
    'a forbidden thing without severity',
    'files:\n  - {id: a, paths: [/etc/x], effect: forbidden, reason: x}',
    [/^4:38 what is forbidden has a severity/],
  ],
  [
    'a severity of what is allowed',
    'files:\n  - {id: a, paths: [/etc/x], effect: allowed, severity: low, reason: x}',
    [/^4:57 what is allowed becomes no finding/],
  ],
  [
    'a weight of what is allowed',
    'files:\n  - {id: a, paths: [/etc/x], effect: allowed, verdict: none, reason: x}',
    [/^4:56 what is allowed/],
  ],
  [
    'a glob elsewhere',
    'files:\n  - {id: a, paths: [/etc/x, /var/x], effect: allowed, reason: x}',
    [/^4:29 "\/var\/x": a path glob names something/],
  ],
  [
    'a mode without quotes',
    'files:\n  - {id: a, paths: [/etc/x], when: {modeWithin: 0644}, effect: allowed, reason: x}',
    [/^4:49 a mode must be quoted/],
  ],
  [
    'a decimal mode',
    'files:\n  - {id: a, paths: [/etc/x], when: {modeWithin: "420"}, effect: allowed, reason: x}',
    [/^4:49 expected four octal digits/],
  ],
  [
    'a misspelt condition',
    'files:\n  - {id: a, paths: [/etc/x], when: {chnge: [added]}, effect: allowed, reason: x}',
    [/^4:37 unknown key "chnge", did you mean change\?/],
  ],
  [
    'a word where a list belongs',
    'files:\n  - {id: a, paths: /etc/x, effect: allowed, reason: x}',
    [/^4:20 expected a list/],
  ],
  ['an empty list', 'files:\n  - {id: a, paths: [], effect: allowed, reason: x}', [/^4:20 /]],
  ['a map where a list belongs', 'files: {a: 1}', [/^3:8 expected a list of rules$/]],
  ['a rule that is a number', 'files: [1]', [/^3:9 expected keys with values: id, paths/]],
  [
    'an id with capitals',
    'files:\n  - {id: A, paths: [/etc/x], effect: allowed, reason: x}',
    [/^4:10 expected lower-case words/],
  ],
  [
    'an id that is kept',
    'files:\n  - {id: unnamed-etc, paths: [/etc/x], effect: allowed, reason: x}',
    [/^4:10 ids that begin with unnamed-/],
  ],
  ['an id twice', `files:\n  - ${RULE}\n  - ${RULE}`, [/^5:10 the id a is taken in line 4$/]],
  [
    'an id in both sections',
    `files:\n  - ${RULE}\nstate:\n  - {id: a, on: hole, effect: allowed, reason: x}`,
    [/^6:10 the id a is taken in line 4$/],
  ],
  [
    'a control without framework',
    'files:\n  - {id: a, paths: [/etc/x], effect: allowed, reason: x, controls: [SI-7]}',
    [/^4:69 expected framework:id/],
  ],
  [
    'a misspelt subject',
    'state:\n  - {id: a, on: overlays, effect: allowed, reason: x}',
    [/^4:17 did you mean overlay\?$/],
  ],
  ['no subject', 'state:\n  - {id: a, effect: allowed, reason: x}', [/^4:5 on(: expected| is missing)/]],
  [
    'a condition of another subject',
    'state:\n  - {id: a, on: karg, when: {kinds: [x]}, effect: allowed, reason: x}',
    [/^4:30 unknown key "kinds"/],
  ],
  [
    'present and missing together',
    'state:\n  - {id: a, on: karg, when: {present: [x], missing: [y]}, effect: allowed, reason: x}',
    [/^4:53 present and missing in one rule/],
  ],
  [
    'a hole that weighs nothing',
    'state:\n  - {id: a, on: hole, effect: forbidden, severity: low, verdict: none, reason: x}',
    [/^4:66 what a hole does to the verdict is fixed/],
  ],
  [
    'a missing manifest that counts as drift',
    'state:\n  - {id: a, on: manifest, effect: forbidden, severity: low, verdict: drifted, reason: x}',
    [/^4:70 what a manifest does/],
  ],
  ['a duration without unit', 'freshness: {reportEvery: 15}', [/^3:26 expected a number with its unit/]],
  [
    'durations out of order',
    'freshness: {reportEvery: 15m, lateAfter: 10m, silentAfter: 5m}',
    [/^3:12 lateAfter must be longer/, /^3:12 silentAfter must be longer/],
  ],
  ['an unknown base', 'extends: other', [/^3:10 no policy of the name "other"/]],
  [
    'an id of the base in another section',
    'extends: default\nstate:\n  - {id: usr-other, on: hole, effect: allowed, reason: x}',
    [/^5:10 usr-other is one of the files rules of default/],
  ],
  ['a key that names a prototype', '__proto__: {a: 1}', [/^3:1 unknown key "__proto__"/]],
  ['no reason', 'files:\n  - {id: a, paths: [/etc/x], effect: allowed, reason: "  "}', [/^4:55 expected a sentence$/]],
];
for (const [name, body, problems] of refused)
  test(`refuses ${name}, and says where and what was meant`, () => {
    const found = problemsOf(HEAD + body);
    assert.equal(found.length, problems.length, found.join('\n'));
    for (const [i, pattern] of problems.entries()) assert.match(found[i]!, pattern);
  });

test('every problem is named at once, and the message says the file', () => {
  const text = `${HEAD}files:\n  - {id: a, paths: [/x], effect: no}\n  - {id: b, paths: [/y], effect: no}\n`;
  assert.equal(problemsOf(text).length, 6);
  assert.throws(() => read(text), /^DocumentError: p\.yaml:4:5: /);
  const many = `${HEAD}files:\n${'  - {id: A}\n'.repeat(50)}`;
  assert.throws(() => read(many), /\n… and \d+ more$/);
});

test('another version, or none, is refused before anything else is looked at', () => {
  for (const text of ['', '[]', 'a', 'name: x', 'format: bootproof.policy/2\nfoo: 1'])
    assert.match(problemsOf(text).join(), /^\d+:\d+ a policy begins with {2}format: bootproof.policy\/1$/);
});

test('the digest follows the meaning, not the writing', () => {
  const text = `files:\n  - {id: a, paths: [/etc/x], when: {uid: [0], change: [added]}, effect: forbidden, severity: low, reason: x}\n`;
  const same = `\n# a comment\nfiles:\n- id: a\n  reason: "x"\n  severity: low\n  paths:\n  - /etc/x\n  effect: forbidden\n  verdict: drifted\n  when:\n    change: [added]\n    uid: [0]\n`;
  assert.equal(policyOf(text).digest, policyOf(same).digest);
  for (const [from, to] of [
    ['/etc/x', '/etc/y'],
    ['low', 'high'],
    ['reason: x', 'reason: y'],
    ['uid: [0]', 'uid: [1]'],
    ['id: a', 'id: b'],
  ] as const)
    assert.notEqual(policyOf(text).digest, policyOf(text.replace(from, to)).digest, to);
  assert.notEqual(policyOf(text).digest, policyOf(`${text}freshness: {silentAfter: 2d}\n`).digest);
  assert.notEqual(policyOf(text).digest, policyOf(`${text}${DENY}`).digest);
});

test('the canonical text is what docs/policy.md says', () => {
  const policy = policyOf(
    `description: d\nfreshness: {behindTagAfter: 7d}\nfiles:\n  - {id: a, paths: ['/etc/{x,y}'], when: {uid: [0], change: [added]}, effect: allowed, reason: r, controls: ['f:1']}\nstate:\n  - {id: b, on: karg, when: {missing: [fips=1]}, effect: forbidden, severity: low, reason: s}\n`,
  );
  assert.equal(
    canonicalText(policy),
    '{"format":"bootproof.policy/1","name":"test","description":"d","freshness":[900000,2700000,86400000,604800000,null],' +
      '"files":[{"id":"a","effect":"allowed","reason":"r","controls":["f:1"],"paths":["/etc/{x,y}"],"when":{"change":["added"],"uid":[0]}}],' +
      '"state":[{"id":"b","effect":"forbidden","severity":"low","verdict":"drifted","reason":"s","controls":[],"on":"karg","when":{"missing":["fips=1"]}}]}',
  );
});

test("a policy that extends another puts its rules first, and takes the place of a rule by that rule's id", () => {
  const own = read(
    `${HEAD}extends: default\nfreshness: {silentAfter: 7d}\nfiles:\n  - {id: mine, paths: [/etc/motd], effect: allowed, reason: ours}\n  - {id: etc-other, paths: ['/etc/**'], effect: forbidden, severity: low, reason: lower}\nstate:\n  - {id: host-silent, on: silence, effect: allowed, reason: ours}\n`,
  );
  assert.equal(own.files.length, DEFAULT.files.length + 1);
  assert.equal(own.files[0]!.id, 'mine');
  assert.deepEqual(
    own.files.slice(1).map(({ id }) => id),
    DEFAULT.files.map(({ id }) => id),
  );
  assert.equal(own.files.at(-1)!.severity, 'low');
  assert.equal(own.state.find(({ id }) => id === 'host-silent')!.effect, 'allowed');
  assert.equal(own.freshness.silentAfter, 7 * 86_400_000);
  assert.equal(own.freshness.lateAfter, DEFAULT.freshness.lateAfter);
  assert.notEqual(own.digest, DEFAULT.digest);
  assert.deepEqual(own.files[0]!.place, { file: 'p.yaml', line: 6 });
  assert.equal(own.files[1]!.place!.file, 'policies/default.yaml');
});

test('what a policy denies to show, one that extends it denies, too', () => {
  const base = policyOf(DENY);
  const text = `format: ${POLICY_FORMAT}\nname: y\nextends: test\n`;
  const denied = (own: string) =>
    parsePolicy(text + own, { file: 'y.yaml', base: () => base }).contentsDenied.map(({ source }) => source);
  assert.deepEqual(denied(''), ['/etc/x']);
  assert.deepEqual(denied('contents: {deny: ["/etc/y/**"]}\n'), ['/etc/y/**', '/etc/x']);
});

const yaml: [name: string, text: string, problem: RegExp][] = [
  ['a key twice', `${HEAD}name: y`, /^3:1 "name" stands here twice; first in line 2$/],
  ['a key twice in a rule', `${HEAD}files:\n  - {id: a, id: b}`, /^4:13 "id" stands here twice/],
  ['an anchor', `${HEAD}files: &f []`, /^3:11 an anchor/],
  ['an alias', `${HEAD}description: *f`, /^3:14 an alias/],
  ['a tag', `${HEAD}description: !!str 1`, /^3:20 a tag/],
  ['a tag of its own', `${HEAD}description: !x 1`, /^3:14 Unresolved tag/],
  ['a directive', `%YAML 1.1\n---\n${HEAD}`, /^1:1 a %YAML directive/],
  ['a second document', `${HEAD}---\na: 1`, /^3:1 Source contains multiple documents/],
  ['a key that is no text', `${HEAD}? [a]\n: b`, /keys must be strings/],
  ['a tab', `${HEAD}files:\n\t- a`, /^4:1 Tabs are not allowed/],
  ['an open quote', `${HEAD}description: "x`, /^3:16 Missing closing "quote/],
];
for (const [name, text, problem] of yaml)
  test(`YAML: refuses ${name}`, () => {
    assert.match(problemsOf(text).join('\n'), problem);
    throwsCode(() => read(text), DocumentError, 'DOCUMENT_SYNTAX');
  });

test('YAML: an alias bomb, a deep nest and a huge text are refused', () => {
  const levels = Array.from({ length: 9 }, (_, i) => `a${i + 1}: &a${i + 1} [${Array(9).fill(`*a${i}`).join()}]`);
  throwsCode(() => read(`a0: &a0 x\n${levels.join('\n')}`), DocumentError, 'DOCUMENT_SYNTAX');
  for (const nest of ['[', '{a: ', '- ', '? '])
    assert.throws(
      () => read(nest.repeat(100_000)),
      /DocumentError.*nested too deeply|DocumentError.*nested more than/s,
    );
  assert.match(
    problemsOf(`${HEAD}description: ${'['.repeat(30)}${']'.repeat(30)}`).join(),
    /nested more than 20 levels/,
  );
  throwsCode(() => read(' '.repeat(600_000)), DocumentError, 'DOCUMENT_LIMIT');
});

test('windows line ends and a byte order mark change nothing', () => {
  const windows = `\ufeff${DEFAULT_TEXT.replaceAll('\n', '\r\n')}`;
  assert.equal(parsePolicy(windows, { file: 'w.yaml' }).digest, DEFAULT.digest);
});

test('what was meant: one letter more, less, other or swapped, and nothing far off', () => {
  const words = ['paths', 'severity', 'on', 'effect'];
  for (const [word, meant] of [
    ['path', 'paths'],
    ['seveirty', 'severity'],
    ['Effect', 'effect'],
    ['onn', 'on'],
    ['sevrty', 'severity'],
  ])
    assert.equal(nearest(word!, words), meant);
  for (const word of ['', 'colour', 'x'.repeat(10_000)]) assert.equal(nearest(word, words), undefined);
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConditionError } from '#src/document/expression.ts';
import { CONDITION_CHARS_MAX, CONDITION_STEPS_MAX } from '#src/limits.ts';
import { parseCondition, type ConditionFacts } from '#src/trust/conditions.ts';
import { exponent } from '#test/exponent.ts';
import { throwsCode } from '#test/throws.ts';

const facts = (predicate: unknown): ConditionFacts => ({
  statement: {
    _type: 'https://in-toto.io/Statement/v1',
    predicateType: 'https://slsa.dev/provenance/v1',
    subject: [{ name: 'ghcr.io/acme/os', digest: { sha256: 'ab' } }],
    predicate,
  },
  image: { digest: 'sha256:ab', repositories: ['ghcr.io/acme/os'] },
  signer: { kind: 'keyless', fingerprint: 'sha256:cd', issuer: 'https://ci', subject: 'https://ci/acme/os' },
});
const PROVENANCE = {
  buildDefinition: {
    buildType: 'https://actions.github.io/buildtypes/workflow/v1',
    externalParameters: { workflow: { ref: 'refs/heads/main', repository: 'https://github.com/acme/os' } },
    resolvedDependencies: [{ uri: 'git+https://github.com/acme/os', digest: { gitCommit: '0a' } }, { uri: 'pkg:x' }],
  },
  runDetails: { builder: { id: 'https://github.com/actions/runner' }, metadata: { startedOn: '2026-01-02T03:04:05Z' } },
  count: 3,
  text: null,
  __proto__x: 1,
};
const result = (source: string, predicate: unknown = PROVENANCE) => parseCondition(source).evaluate(facts(predicate));

const table: [source: string, kind: 'true' | 'false' | 'error'][] = [
  ['true', 'true'],
  ['false', 'false'],
  ["predicate.runDetails.builder.id == 'https://github.com/actions/runner'", 'true'],
  ["predicate.runDetails.builder.id == 'https://evil'", 'false'],
  ["predicate.runDetails.builder.id.startsWith('https://github.com/')", 'true'],
  [
    "predicate.buildDefinition.externalParameters.workflow.ref == 'refs/heads/main' && signer.issuer == 'https://ci'",
    'true',
  ],
  [
    "predicate.buildDefinition.resolvedDependencies.exists(d, d.uri.startsWith('git+https://github.com/acme/'))",
    'true',
  ],
  ["predicate.buildDefinition.resolvedDependencies.all(d, d.uri.startsWith('git+'))", 'false'],
  ["predicate.buildDefinition.resolvedDependencies.exists_one(d, has(d.digest) && d.digest.gitCommit == '0a')", 'true'],
  ['has(predicate.missing)', 'false'],
  ['predicate.missing == 1', 'error'],
  ['predicate.count == 3 && predicate.count > 2', 'true'],
  ["predicate.count == '3'", 'false'],
  ["predicate.count > '2'", 'error'],
  ['predicate.text == null', 'true'],
  ['predicate.count', 'error'],
  ["'yes'", 'error'],
  ['size(subject) == 1', 'true'],
  ["subject[0].digest.sha256 == 'ab'", 'true'],
  ["subject[1].digest.sha256 == 'ab'", 'error'],
  ["image.digest == 'sha256:' + subject[0].digest.sha256", 'true'],
  ["'ghcr.io/acme/os' in image.repositories", 'true'],
  ["'ghcr.io/acme/other' in image.repositories", 'false'],
  ["'count' in predicate", 'true'],
  ["predicateType == statement.predicateType && statement._type.endsWith('/v1')", 'true'],
  ["signer.subject.matches('^https://ci/[a-z]+/os$')", 'true'],
  ["signer.subject.matches('^https://ci/$')", 'false'],
  ["timestamp(predicate.runDetails.metadata.startedOn) > timestamp('2026-01-01T00:00:00Z')", 'true'],
  ["predicate.missing == 1 || signer.kind == 'keyless'", 'true'],
  ["predicate.missing == 1 && signer.kind == 'key'", 'false'],
  ["signer.kind == 'key' ? predicate.missing == 1 : true", 'true'],
  ['predicate == predicate', 'true'],
  ['predicate != predicate', 'false'],
  ['predicate.toString == 1', 'error'],
  ['predicate.constructor == 1', 'error'],
  ['has(predicate.__proto__)', 'false'],
  ['[1, 2].all(i, [3, 4].all(j, i < j))', 'true'],
];
for (const [source, kind] of table)
  test(`${source} is ${kind}`, () => {
    const actual = result(source);
    assert.equal(actual.kind, kind, JSON.stringify(actual));
  });

const refused: [name: string, source: string, code: 'CONDITION_SYNTAX' | 'CONDITION_LIMIT', message: RegExp][] = [
  ['an unfinished one', 'predicate.a ==', 'CONDITION_SYNTAX', /^at 1:13/],
  ['nothing', '', 'CONDITION_SYNTAX', /./],
  [
    'a misspelt variable',
    'predicat.a == 1',
    'CONDITION_SYNTAX',
    /^at 1:1: "predicat" means nothing here, did you mean predicate\?/,
  ],
  ['a variable of elsewhere', 'now > 1', 'CONDITION_SYNTAX', /"now" means nothing here/],
  ['a misspelt field of ours', 'signer.isuer == "x"', 'CONDITION_SYNTAX', /did you mean issuer\?/],
  ['a misspelt field of statements', 'statement.predicat == 1', 'CONDITION_SYNTAX', /did you mean predicate\?/],
  [
    'a name that only a loop around another place binds',
    'subject.all(s, true) && s == 1',
    'CONDITION_SYNTAX',
    /"s" means nothing/,
  ],
  ['an unknown function', 'startWith(predicate, "a")', 'CONDITION_SYNTAX', /did you mean startsWith\?/],
  ['an unknown method', '\n  predicate.a.frob()', 'CONDITION_SYNTAX', /^at 2:\d+: there is no function "frob"/],
  ['a function of an extension', 'math.greatest(1, 2) == 2', 'CONDITION_SYNTAX', /./],
  ['a list that is made', 'predicate.a.map(x, x.b) == []', 'CONDITION_SYNTAX', /exists/],
  ['a list that is filtered', 'size(predicate.a.filter(x, x.b)) == 1', 'CONDITION_SYNTAX', /exists/],
  ['a message type', 'google.protobuf.Duration{seconds: 1} == 1', 'CONDITION_SYNTAX', /no types like/],
  ['a broken pattern', 'signer.subject.matches("****")', 'CONDITION_SYNTAX', /./],
  ['a pattern that RE2 does not have', 'signer.subject.matches("(a)\\\\1")', 'CONDITION_SYNTAX', /./],
  ['loops too deep', '[1].all(a, [1].all(b, [1].all(c, [1].all(d, true))))', 'CONDITION_SYNTAX', /at most 3 deep/],
  ['one that is too long', `true ${'|| true'.repeat(400)}`, 'CONDITION_LIMIT', /characters/],
];
for (const [name, source, code, message] of refused)
  test(`refuses ${name}`, () => {
    throwsCode(() => parseCondition(source), ConditionError, code);
    assert.throws(
      () => parseCondition(source),
      (error: Error) => message.test(error.message) || assert.fail(error.message),
    );
  });

test('nothing that fits into the length overflows the stack', () => {
  for (const open of ['(', '[', '!', '-', 'has(', 'a.b(', '{1:']) {
    const source = open.repeat(Math.floor(CONDITION_CHARS_MAX / open.length));
    throwsCode(() => parseCondition(source), ConditionError, 'CONDITION_SYNTAX');
  }
  const deep = `${'('.repeat(1000)}true${')'.repeat(1000)}`;
  try {
    assert.equal(parseCondition(deep).evaluate(facts({})).kind, 'true');
  } catch (error) {
    assert.ok(error instanceof ConditionError);
  }
});

test('a statement without a predicate is asked like one whose predicate is empty', () => {
  const { statement, ...rest } = facts({});
  const { predicate: _, ...without } = statement;
  assert.equal(parseCondition('has(predicate.a)').evaluate({ statement: without, ...rest }).kind, 'false');
});

const numbers = (n: number) => Array.from({ length: n }, (_, i) => i);
const heavy: [source: string, predicate: unknown][] = [
  ['predicate.a.all(x, predicate.a.all(y, x >= 0.0))', { a: numbers(5000) }],
  ['predicate.a.all(x, predicate.a.exists(y, true))', { a: numbers(5000) }],
  ['predicate.a.all(x, x in predicate.a)', { a: numbers(5000) }],
  ['predicate.a.all(x, predicate.a == predicate.a)', { a: numbers(5000) }],
  ['predicate.a.all(x, predicate.t.contains("x")) || true', { a: numbers(5000), t: 'x'.repeat(1_000_000) }],
  ['predicate.a.exists(x, predicate.t.matches("(a+)+$"))', { a: numbers(5000), t: `${'a'.repeat(1000)}!` }],
  ['[predicate.a].all(l, l.all(x, l.all(y, true)))', { a: numbers(5000) }],
];
for (const [source, predicate] of heavy)
  test(`${source} is given up, and never taken for an answer`, () =>
    assert.equal(result(source, predicate).kind, 'limit'));

test('a condition that was given up once is asked anew the next time', () => {
  const condition = parseCondition('predicate.a.all(x, x in predicate.a)');
  assert.equal(condition.evaluate(facts({ a: numbers(CONDITION_STEPS_MAX) })).kind, 'limit');
  assert.equal(condition.evaluate(facts({ a: [1, 2] })).kind, 'true');
});

test('time grows linearly with the statement', () => {
  const condition = parseCondition("predicate.a.all(x, x.n >= 0.0 && x.t.matches('(b*)*c'))");
  const sizes = [500, 1_000, 2_000, 4_000];
  const statements = new Map(sizes.map((n) => [n, facts({ a: numbers(n).map((i) => ({ n: i, t: 'bbbc' })) })]));
  const k = exponent((n) => void condition.evaluate(statements.get(n)!), sizes);
  assert.ok(k < 1.5, `time grows with the ${k.toFixed(2)}th power`);
});

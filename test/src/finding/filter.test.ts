/** The filter line (docs/findings.md 6): what it reads, what it refuses by name, and that it prints what it reads. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FILTER_FIELDS, FilterError, parseFilter, printFilter, type FilterTerm } from '#src/finding/filter.ts';
import { FILTER_CHARS_MAX, FILTER_TERMS_MAX } from '#src/limits.ts';
import { throwsCode } from '#test/throws.ts';

const read: readonly [string, readonly FilterTerm[]][] = [
  ['', []],
  ['   ', []],
  ['sev:high', [{ field: 'sev', negated: false, values: ['high'] }]],
  ['severity:HIGH,critical', [{ field: 'sev', negated: false, values: ['high', 'critical'] }]],
  ['sev:>=high', [{ field: 'sev', negated: false, values: ['high', 'critical'] }]],
  ['sev:<medium', [{ field: 'sev', negated: false, values: ['info', 'low'] }]],
  [
    'path:/usr/lib/** -group:lab',
    [
      { field: 'path', negated: false, values: ['/usr/lib/**'] },
      { field: 'group', negated: true, values: ['lab'] },
    ],
  ],
  ['path:/usr/{a,b}/*', [{ field: 'path', negated: false, values: ['/usr/{a,b}/*'] }]],
  ['path:"/usr/a b",/etc/x', [{ field: 'path', negated: false, values: ['/usr/a b', '/etc/x'] }]],
  ['sshd', [{ field: 'text', negated: false, values: ['sshd'] }]],
  ['-sshd', [{ field: 'text', negated: true, values: ['sshd'] }]],
  ['text:"a:b"', [{ field: 'text', negated: false, values: ['a:b'] }]],
  ['label:site=a=b', [{ field: 'label', negated: false, values: [{ key: 'site', value: 'a=b' }] }]],
  ['age:>7d', [{ field: 'age', negated: false, values: [{ older: true, ms: 7 * 86_400_000 }] }]],
  ['owner:alice', [{ field: 'assignee', negated: false, values: ['alice'] }]],
  [
    'control:nist-800-53:SI-7,pci-dss-4',
    [{ field: 'control', negated: false, values: ['nist-800-53:SI-7', 'pci-dss-4'] }],
  ],
  ['control:nist-800-53/SI-7', [{ field: 'control', negated: false, values: ['nist-800-53:SI-7'] }]],
  ['state:waived', [{ field: 'status', negated: false, values: ['waived'] }]],
  ['is:stale,regressed', [{ field: 'is', negated: false, values: ['stale', 'regressed'] }]],
];
for (const [text, terms] of read)
  test(`reads ${JSON.stringify(text)}`, () => assert.deepEqual(parseFilter(text), terms));

const refused: readonly [string, string, string][] = [
  ['an unknown field', 'colour:red', 'FILTER_FIELD'],
  ['a field of an object', '__proto__:x', 'FILTER_FIELD'],
  ['an unknown severity', 'sev:huge', 'FILTER_VALUE'],
  ['an unknown status', 'status:closed', 'FILTER_VALUE'],
  ['an empty value', 'sev:', 'FILTER_SYNTAX'],
  ['an empty value among others', 'sev:high,,low', 'FILTER_SYNTAX'],
  ['a bare minus', '-', 'FILTER_SYNTAX'],
  ['an open quote', 'path:"/usr', 'FILTER_SYNTAX'],
  ['a quote in the middle', 'path:/u"sr"', 'FILTER_SYNTAX'],
  ['something right behind a quote', 'path:"/usr"x', 'FILTER_SYNTAX'],
  ['a path that no policy could name', 'path:/opt/x', 'FILTER_VALUE'],
  ['a label without value', 'label:site', 'FILTER_VALUE'],
  ['an age without direction', 'age:7d', 'FILTER_VALUE'],
  ['a control without a framework', 'control:SI-7', 'FILTER_VALUE'],
  ['a control character', 'a\u0007b', 'FILTER_SYNTAX'],
  ['half a character', 'a\ud800', 'FILTER_SYNTAX'],
  ['too many terms', 'a '.repeat(FILTER_TERMS_MAX + 1), 'FILTER_SYNTAX'],
  ['too long a line', 'a'.repeat(FILTER_CHARS_MAX + 1), 'FILTER_SYNTAX'],
];
for (const [name, text, code] of refused)
  test(`refuses ${name}`, () => throwsCode(() => parseFilter(text), FilterError, code));

test('the refusal names the word', () => {
  assert.throws(
    () => parseFilter('sev:high foo:1'),
    (error) => error instanceof FilterError && error.what === 'foo' && /there are sev, status/.test(error.message),
  );
});

/** What a line gives a meaning to. */
const SIGNS = ['a', 'b', ',', ':', '"', '\\', ' ', '-', '{', '}', '=', '/', '*', '?', '.'];

test('what is printed is read as it was', () => {
  const value = fc.string({ minLength: 1, maxLength: 20, unit: fc.constantFrom(...SIGNS) });
  const fields = FILTER_FIELDS.filter((field) =>
    ['rule', 'group', 'host', 'assignee', 'waiver', 'text'].includes(field),
  );
  const term = fc.record(
    {
      field: fc.constantFrom(...fields),
      negated: fc.boolean(),
      values: fc.array(value, { minLength: 1, maxLength: 3 }),
    },
    { noNullPrototype: true },
  ) as fc.Arbitrary<FilterTerm>;
  fc.assert(
    fc.property(fc.array(term, { maxLength: 5 }), (line) => assert.deepEqual(parseFilter(printFilter(line)), line)),
  );
});

test('any text is read or refused, and what was read is printed alike', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 60 }), (text) => {
      try {
        const line = parseFilter(text);
        assert.deepEqual(parseFilter(printFilter(line)), line);
      } catch (error) {
        assert.ok(error instanceof FilterError, String(error));
      }
    }),
  );
});

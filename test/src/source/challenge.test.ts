import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseChallenges } from '#src/source/challenge.ts';

const plain = (header: string) => parseChallenges(header).map((c) => [c.scheme, Object.fromEntries(c.parameters)]);

const cases: [string, string, unknown][] = [
  [
    'what registries send',
    'Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push"',
    [
      [
        'bearer',
        { realm: 'https://auth.example/token', service: 'registry.example', scope: 'repository:a/b:pull,push' },
      ],
    ],
  ],
  ['basic', 'Basic realm="a \\"b\\", c"', [['basic', { realm: 'a "b", c' }]]],
  [
    'two challenges in one field',
    'Basic realm=x, Bearer realm="y", service=z',
    [
      ['basic', { realm: 'x' }],
      ['bearer', { realm: 'y', service: 'z' }],
    ],
  ],
  ['blanks around the equals sign', 'bearer realm = "x" , service= y', [['bearer', { realm: 'x', service: 'y' }]]],
  ['a scheme alone', 'Negotiate', [['negotiate', {}]]],
  ['the first of two equal parameters', 'Bearer realm="x",realm="y"', [['bearer', { realm: 'x' }]]],
  ['nothing', '', []],
  ['an open quote, whose rest is a scheme that nobody knows', 'Bearer realm="x', [['bearer', {}]]],
  ['a parameter without a scheme', '="x"', []],
];
for (const [name, header, expected] of cases)
  test(`a challenge: ${name}`, () => {
    assert.deepEqual(plain(header), expected);
  });

test('no header makes it fail', () => {
  fc.assert(fc.property(fc.string({ maxLength: 300 }), (header) => void parseChallenges(header)));
});

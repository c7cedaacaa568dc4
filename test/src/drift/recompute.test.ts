import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { compare } from '#src/drift/compare.ts';
import type { Drift, Secret } from '#src/drift/drift.ts';
import { applyDrift, DriftError, recompute, type Claim } from '#src/drift/recompute.ts';
import { comparisonEntry, comparisonText } from '#src/drift/redact.ts';
import type { Entry, Facts, TreeName } from '#src/manifest/entry.ts';
import { extraText, mainText } from '#src/manifest/mtree.ts';
import { throwsCode } from '#test/throws.ts';
import { deep } from '#test/depth.ts';
import { pair, sha256 } from './trees.ts';

const texts = (entries: Entry[], added: readonly string[] = []) => ({
  main: comparisonText(mainText(entries), added),
  extra: extraText(entries),
});

for (const tree of ['usr', 'etc'] as const satisfies TreeName[])
  test(`manifest and complete drift give the scanned tree's digests: /${tree}`, () => {
    fc.assert(
      fc.property(pair(tree), fc.constantFrom([], ['/etc/a/**'], ['/etc/*']), ([a, b], added) => {
        const { drift, secrets } = compare(a, b, added);
        const expected = texts(b, added);
        assert.deepEqual(applyDrift(texts(a, added), { tree, drift, secrets, secretPaths: added }), expected);
        assert.deepEqual(recompute(texts(a, added), { tree, drift, secrets, secretPaths: added }, sha256), {
          main: `sha256:${sha256(expected.main)}`,
          extra: `sha256:${sha256(expected.extra)}`,
        });
      }),
      { numRuns: deep(400, 100) },
    );
  });

test('a report that leaves a line out has another digest', () => {
  fc.assert(
    fc.property(pair('usr'), fc.nat(), ([a, b], n) => {
      const { drift } = compare(a, b);
      fc.pre(drift.length > 0);
      const less = drift.toSpliced(n % drift.length, 1);
      const claim = { tree: 'usr' as const, secrets: [], secretPaths: [] };
      assert.notDeepEqual(applyDrift(texts(a), { ...claim, drift: less }), applyDrift(texts(a), { ...claim, drift }));
    }),
  );
});

test('lines are found in a large tree, wherever they are', () => {
  const entries = Array.from({ length: 20_000 }, (_, i): Entry => ({
    ...file,
    path: `/usr/${String(i).padStart(6, '0')}`,
  }));
  const { main, extra } = texts(entries);
  for (const step of [1, 3, 997, 19_999]) {
    const b = entries.filter((_, i) => i % step !== 0);
    const { drift } = compare(entries, b);
    assert.equal(applyDrift({ main, extra }, { tree: 'usr', drift, secrets: [], secretPaths: [] }).main, mainText(b));
  }
});

const file: Facts = { type: 'file', mode: 0o755, uid: 0, gid: 0, size: 1, sha256: sha256('x') };
const other: Facts = { ...file, sha256: sha256('y') };
const bare: Facts = comparisonEntry({ ...file, path: '/etc/shadow' });
const { path: _path, ...hidden } = bare as Entry;
const link: Facts = { type: 'symlink', mode: 0, uid: 0, gid: 0, link: 'x' };
const tree: Entry[] = [
  { path: '/etc', type: 'dir', mode: 0o755, uid: 0, gid: 0 },
  { ...file, path: '/etc/a' },
  { ...file, path: '/etc/b', capability: 'AQ==' },
  { ...file, path: '/etc/gshadow' },
  { ...file, path: '/etc/shadow' },
];
const added = (path: string, actual: Facts): Drift => ({ path, change: 'added', actual });
const removed = (path: string, expected: Facts): Drift => ({ path, change: 'removed', expected });
const modified = (path: string, expected: Facts, actual: Facts): Drift => ({
  path,
  change: 'modified',
  expected,
  actual,
});

const refused: readonly (readonly [string, string, Drift[], Secret[]?])[] = [
  ['a path of the other tree', 'DRIFT_PATH', [added('/usr/x', file)]],
  ['a path of no tree', 'DRIFT_PATH', [added('/var/x', file)]],
  ['a path that begins like the tree', 'DRIFT_PATH', [added('/etcx', file)]],
  ['a path that climbs', 'DRIFT_PATH', [added('/etc/../usr/x', file)]],
  ['a path with an empty name', 'DRIFT_PATH', [added('/etc//x', file)]],
  ['a path with a slash at its end', 'DRIFT_PATH', [added('/etc/x/', file)]],
  ['a path with a NUL', 'DRIFT_PATH', [added('/etc/x\0', file)]],
  ['a path beyond 4,095 bytes', 'DRIFT_PATH', [added(`/etc/${'x/'.repeat(2048)}x`, file)]],
  ['a name beyond 255 bytes', 'DRIFT_PATH', [added(`/etc/${'x'.repeat(256)}`, file)]],
  ['a folder beyond 255 bytes', 'DRIFT_PATH', [added(`/etc/${'~'.repeat(256)}/x`, file)]],
  ['a path twice', 'DRIFT_ORDER', [removed('/etc/a', file), added('/etc/a', file)]],
  ['unsorted paths', 'DRIFT_ORDER', [added('/etc/d', file), added('/etc/c', file)]],
  ['bytewise instead of canonical order', 'DRIFT_ORDER', [added('/etc/c-x', file), added('/etc/c/x', file)]],
  ['an addition that the manifest has', 'DRIFT_EXPECTED', [added('/etc/a', other)]],
  ['a removal of what the manifest lacks', 'DRIFT_EXPECTED', [removed('/etc/c', file)]],
  ['another expected content', 'DRIFT_EXPECTED', [modified('/etc/a', other, file)]],
  ['an expected file without its capability', 'DRIFT_EXPECTED', [modified('/etc/b', file, other)]],
  [
    'an expected capability that is none',
    'DRIFT_EXPECTED',
    [modified('/etc/a', { ...file, capability: 'AQ==' }, file)],
  ],
  ['a modification that changes nothing', 'DRIFT_FACTS', [modified('/etc/a', file, file)]],
  ['a link without target', 'DRIFT_FACTS', [added('/etc/c', { ...link, link: undefined } as unknown as Facts)]],
  ['a file with a target', 'DRIFT_FACTS', [added('/etc/c', { ...file, link: 'x' })]],
  ['a folder with a size', 'DRIFT_FACTS', [added('/etc/c', { ...file, type: 'dir' })]],
  ['a file with half its content told', 'DRIFT_FACTS', [added('/etc/c', { ...hidden, size: 1 })]],
  ['a device without numbers', 'DRIFT_FACTS', [added('/etc/c', { ...hidden, type: 'char' })]],
  ['a file with device numbers', 'DRIFT_FACTS', [added('/etc/c', { ...file, device: '1:3' })]],
  ['a secret with its digest', 'DRIFT_SECRET', [added('/etc/shadow-', file)]],
  ['a secret with its digest on the expected side', 'DRIFT_SECRET', [removed('/etc/shadow', file)]],
  ['a file without digest that is no secret', 'DRIFT_SECRET', [added('/etc/c', hidden)]],
  ['a secret that is none', 'SECRET_STATE', [], [{ path: '/etc/a', state: 'differs' }]],
  ['a secret that nobody has', 'SECRET_STATE', [], [{ path: '/etc/shadow-', state: 'differs' }]],
  ['a secret added without a line of drift', 'SECRET_STATE', [], [{ path: '/etc/shadow', state: 'added' }]],
  ['a secret removed without a line of drift', 'SECRET_STATE', [], [{ path: '/etc/shadow', state: 'removed' }]],
  [
    'a secret the same although it was removed',
    'SECRET_STATE',
    [removed('/etc/shadow', hidden)],
    [{ path: '/etc/shadow', state: 'same' }],
  ],
  [
    'a secret added that differs',
    'SECRET_STATE',
    [added('/etc/shadow-', hidden)],
    [{ path: '/etc/shadow-', state: 'differs' }],
  ],
  [
    'a secret twice',
    'DRIFT_ORDER',
    [],
    [
      { path: '/etc/shadow', state: 'same' },
      { path: '/etc/shadow', state: 'differs' },
    ],
  ],
];
for (const [what, code, drift, secrets = []] of refused)
  test(`refuses ${what}`, () => {
    const claim: Claim = { tree: 'etc', drift, secrets, secretPaths: [] };
    throwsCode(() => recompute(texts(tree), claim, sha256), DriftError, code);
  });

test('takes secrets that are added, removed and changed in mode alone', () => {
  const drift = [
    modified('/etc/gshadow', hidden, { ...hidden, mode: 0o644 }),
    removed('/etc/shadow', hidden),
    added('/etc/shadow-', hidden),
  ];
  const secrets: Secret[] = [
    { path: '/etc/gshadow', state: 'differs' },
    { path: '/etc/shadow', state: 'removed' },
    { path: '/etc/shadow-', state: 'added' },
  ];
  const { main } = applyDrift(texts(tree), { tree: 'etc', drift, secrets, secretPaths: [] });
  assert.match(
    main,
    /^\.\/etc\/gshadow type=file mode=0644 uid=0 gid=0\n\.\/etc\/shadow- type=file mode=0755 uid=0 gid=0\n/m,
  );
  assert.doesNotMatch(main, /shadow type=file mode=0755/);
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { compare, DriftList, isWithin, TreeComparison } from '#src/drift/compare.ts';
import { attributesOf, type Drift, type Secret } from '#src/drift/drift.ts';
import { comparisonEntry, comparisonText, isSecret } from '#src/drift/redact.ts';
import { comparePaths, type Entry, type Facts, type TreeName } from '#src/manifest/entry.ts';
import { extraText, mainText, MtreeError } from '#src/manifest/mtree.ts';
import { throwsCode } from '#test/throws.ts';
import { deep } from '#test/depth.ts';
import { pair, sha256 } from './trees.ts';

const TREES: TreeName[] = ['usr', 'etc'];
const hidden = (entry: Entry) => (isSecret(entry.path) && entry.type === 'file' ? comparisonEntry(entry) : entry);
const texts = (entries: Entry[]) => ({ main: mainText(entries), extra: extraText(entries) });

/** The plainest way to say what drift means. */
function apply(expected: Entry[], drift: readonly Drift[]): Entry[] {
  const out = new Map(expected.map((entry) => [entry.path, entry]));
  for (const d of drift) {
    if (d.change === 'removed') out.delete(d.path);
    else out.set(d.path, { ...d.actual, path: d.path });
  }
  return [...out.values()].sort((a, b) => comparePaths(a.path, b.path));
}

for (const tree of TREES)
  test(`what compare finds, applied to the manifest, is the scanned tree: /${tree}`, () => {
    fc.assert(
      fc.property(pair(tree), ([a, b]) => {
        const { drift } = compare(a, b);
        assert.deepEqual(apply(a.map(hidden), drift), b.map(hidden));
        for (let i = 1; i < drift.length; i++) assert.ok(comparePaths(drift[i - 1]!.path, drift[i]!.path) < 0);
        for (const d of drift) if (d.change === 'modified') assert.notEqual(attributesOf(d).length, 0);
      }),
      { numRuns: deep(400, 100) },
    );
  });

test('a tree compared with itself has no drift, and all its secrets are the same', () => {
  fc.assert(
    fc.property(pair('etc'), ([a]) => {
      const { drift, secrets } = compare(a, a);
      assert.deepEqual(drift, []);
      assert.deepEqual(
        secrets,
        a.filter((e) => e.type === 'file' && isSecret(e.path)).map(({ path }) => ({ path, state: 'same' })),
      );
    }),
  );
});

test('in pieces of any size the scan gives the same drift and the comparison text', () => {
  fc.assert(
    fc.property(pair('etc'), pair('usr'), fc.integer({ min: 1, max: 7 }), (etc, usr, size) => {
      for (const [a, b] of [etc, usr]) {
        const drift: Drift[] = [];
        const secrets: Secret[] = [];
        const comparison = new TreeComparison(texts(a), [], {
          drift: (d) => drift.push(d),
          secret: (s) => secrets.push(s),
        });
        let out = '';
        for (let i = 0; i < b.length; i += size) {
          const part = b.slice(i, i + size);
          out += comparison.lines(mainText(part), extraText(part));
        }
        comparison.end();
        assert.deepEqual({ drift, secrets }, compare(a, b));
        assert.equal(out, comparisonText(mainText(b)));
      }
    }),
  );
});

test('a manifest in pieces, cut anywhere, is the same manifest', () => {
  fc.assert(
    fc.property(pair('etc'), pair('usr'), fc.integer({ min: 1, max: 300 }), (etc, usr, size) => {
      for (const [a, b] of [etc, usr]) {
        const { main, extra } = texts(a);
        function* pieces() {
          for (let i = 0; i < main.length; i += size) yield main.slice(i, i + size);
        }
        const drift: Drift[] = [];
        const comparison = new TreeComparison({ main: pieces(), extra }, [], {
          drift: (d) => drift.push(d),
          secret: () => {},
        });
        for (const entry of b) comparison.lines(mainText([entry]), extraText([entry]));
        comparison.end();
        assert.deepEqual(drift, compare(a, b).drift);
      }
    }),
  );
});

test('paths in holes are not drift, whatever the manifest has there', () => {
  fc.assert(
    fc.property(pair('usr'), fc.array(fc.nat(100), { maxLength: 4 }), ([a, b], picks) => {
      const holes = picks.flatMap((n) => (a.length > 1 ? [a[1 + (n % (a.length - 1))]!.path] : []));
      const covered = (path: string) => holes.some((hole) => isWithin(path, hole));
      const found: Drift[] = [];
      const comparison = new TreeComparison(texts(a), [], { drift: (d) => found.push(d), secret: () => assert.fail() });
      const events = [
        ...b.filter((e) => !covered(e.path)).map((entry) => ({ path: entry.path, entry })),
        ...[...new Set(holes)].map((path) => ({ path, entry: undefined })),
      ].sort((x, y) => comparePaths(x.path, y.path));
      for (const { path, entry } of events)
        if (entry === undefined) comparison.hole(path);
        else comparison.lines(mainText([entry]), extraText([entry]));
      comparison.end();
      assert.deepEqual(
        found,
        compare(a, b).drift.filter((d) => !covered(d.path)),
      );
    }),
  );
});

test('of a path that could not be read a glimpse is compared, and of its content nothing is said', () => {
  for (const tree of TREES)
    fc.assert(
      fc.property(pair(tree), fc.array(fc.nat(100), { maxLength: 4 }), fc.boolean(), ([a, b], picks, capability) => {
        const tops = new Set(picks.map((n) => b[n % b.length]!.path));
        const covered = (path: string) => [...tops].some((top) => path !== top && isWithin(path, top));
        const found: Drift[] = [];
        const comparison = new TreeComparison(texts(a), [], { drift: (d) => found.push(d), secret: () => {} });
        for (const entry of b) {
          const { path, sha256: _unread, capability: value, ...facts } = entry;
          if (covered(path)) continue;
          const seen = { ...facts, ...(capability && value !== undefined ? { capability: value } : {}) };
          if (tops.has(path)) comparison.hole(path, { facts: seen, capability });
          else comparison.lines(mainText([entry]), extraText([entry]));
        }
        comparison.end();
        const whole = compare(a, b).drift.filter(
          (d) => !covered(d.path) && !(d.change === 'removed' && tops.has(d.path)),
        );
        const cut = (facts: Facts, unread: boolean): Facts => {
          const { sha256: digest, capability: value, ...rest } = facts;
          return {
            ...rest,
            ...(unread || digest === undefined ? {} : { sha256: digest }),
            ...(capability && value !== undefined ? { capability: value } : {}),
          };
        };
        const expected = whole.flatMap((d): Drift[] => {
          if (!tops.has(d.path) || d.change === 'removed') return [d];
          if (d.change === 'added') return [{ ...d, actual: cut(d.actual, true) }];
          const line = { ...d, expected: cut(d.expected, false), actual: cut(d.actual, true) };
          return attributesOf(line).length === 0 ? [] : [line];
        });
        assert.deepEqual(found, expected);
      }),
      { numRuns: deep(300, 100) },
    );
});

test('without a manifest nothing is found, and secrets are hidden all the same', () => {
  const fail = () => assert.fail();
  const comparison = new TreeComparison(undefined, [], { drift: fail, secret: fail });
  const shadow: Entry = { path: '/etc/shadow', type: 'file', mode: 0, uid: 0, gid: 0, size: 1, sha256: sha256('x') };
  assert.equal(comparison.lines(mainText([shadow]), ''), './etc/shadow type=file mode=0000 uid=0 gid=0\n');
  comparison.hole('/etc/x');
  comparison.end();
});

const base: Facts = { type: 'file', mode: 0o755, uid: 0, gid: 0, size: 1, sha256: sha256('x') };
const one = (facts: Facts, path = '/usr/x'): Entry[] => [{ ...facts, path }];
const attribute = [
  ['mode', { ...base, mode: 0o4755 }, 'mode'],
  ['owner', { ...base, uid: 1 }, 'uid'],
  ['group', { ...base, gid: 1 }, 'gid'],
  ['content of the same size', { ...base, sha256: sha256('y') }, 'sha256'],
  ['size', { ...base, size: 2, sha256: sha256('yy') }, 'size,sha256'],
  ['a capability', { ...base, capability: 'AQ==' }, 'capability'],
  ['type', { type: 'symlink', mode: 0, uid: 0, gid: 0, link: 'y' }, 'type,mode,size,sha256,link'],
  ['a device', { type: 'char', mode: 0o755, uid: 0, gid: 0, device: '1:3' }, 'type,size,sha256,device'],
] as const satisfies readonly (readonly [string, Facts, string])[];
for (const [what, facts, names] of attribute)
  test(`${what} alone is seen, both ways`, () => {
    for (const [a, b] of [
      [base, facts],
      [facts, base],
    ] as const) {
      const { drift } = compare(one(a), one(b));
      assert.equal(drift.map((d) => `${d.change} ${attributesOf(d).join()}`).join(), `modified ${names}`);
    }
  });

test('an attribute of the extra text is seen in a run of lines that are otherwise the same', () => {
  const many = Array.from({ length: 50 }, (_, i): Entry => ({ ...base, path: `/usr/${String(i).padStart(2, '0')}` }));
  const caps = (at: number[]) => many.map((entry, i) => (at.includes(i) ? { ...entry, capability: 'AQ==' } : entry));
  for (const [a, b, path] of [
    [[], [10], '/usr/10'],
    [[10], [], '/usr/10'],
    [[10, 49], [10], '/usr/49'],
    [[10], [10, 49], '/usr/49'],
  ] as const) {
    const { drift } = compare(caps([...a]), caps([...b]));
    assert.deepEqual(
      drift.map((d) => `${d.path} ${attributesOf(d).join()}`),
      [`${path} capability`],
    );
  }
});

const secretCases = [
  ['the same', base, base, 'same', undefined],
  ['other content', base, { ...base, sha256: sha256('y') }, 'differs', undefined],
  ['other size', base, { ...base, size: 9, sha256: sha256('y') }, 'differs', undefined],
  ['another mode', base, { ...base, mode: 0o644 }, 'same', 'modified mode'],
  ['mode and content', base, { ...base, mode: 0o644, sha256: sha256('y') }, 'differs', 'modified mode'],
  [
    'a link instead',
    base,
    { type: 'symlink', mode: 0, uid: 0, gid: 0, link: 'y' },
    'differs',
    'modified type,mode,link',
  ],
  [
    'a file instead of a link',
    { type: 'symlink', mode: 0, uid: 0, gid: 0, link: 'y' },
    base,
    'differs',
    'modified type,mode,link',
  ],
  ['new', undefined, base, 'added', 'added '],
  ['gone', base, undefined, 'removed', 'removed '],
] as const satisfies readonly (readonly [string, Facts | undefined, Facts | undefined, string, string | undefined])[];
for (const [what, a, b, state, line] of secretCases)
  test(`a secret, ${what}: its state is told, its size and digest are not`, () => {
    const side = (facts?: Facts) => (facts === undefined ? [] : one(facts, '/etc/shadow'));
    const found = compare(side(a), side(b));
    assert.deepEqual(found.secrets, [{ path: '/etc/shadow', state }]);
    assert.deepEqual(
      found.drift.map((d) => `${d.change} ${attributesOf(d).join()}`),
      line === undefined ? [] : [line],
    );
    assert.ok(!/sha256|size/.test(JSON.stringify(found)));
  });

test("a site's own secret paths are hidden too", () => {
  const { drift, secrets } = compare([], one(base, '/etc/app/token'), ['/etc/app/*']);
  assert.deepEqual(secrets, [{ path: '/etc/app/token', state: 'added' }]);
  assert.ok(!/sha256|size/.test(JSON.stringify(drift)));
});

const line = (path: string) => `.${path} type=file mode=0755 uid=0 gid=0 size=1 sha256digest=${sha256('x')}\n`;
const broken = [
  ['nonsense', './usr/x nonsense\n', '', 'MTREE_SYNTAX'],
  ['a cut line', './usr/x type=file', '', 'MTREE_SYNTAX'],
  ['a line that is not canonical', './usr/x type=dir mode=0755 uid=00 gid=0\n', '', 'MTREE_SYNTAX'],
  ['lines out of order', line('/usr/b') + line('/usr/a'), '', 'MTREE_ORDER'],
  ['a line twice', line('/usr/b') + line('/usr/b'), '', 'MTREE_ORDER'],
  ['a line out of order after those that are the same', line('/usr/x') + line('/usr/a'), '', 'MTREE_ORDER'],
  ['nonsense in the extra text', '', 'nonsense\n', 'EXTRA_SYNTAX'],
  ['an extra line without its path', line('/usr/x'), './usr/y\tsecurity.capability=0sAQ==\n', 'EXTRA_SYNTAX'],
] as const;
for (const [what, main, extra, code] of broken)
  test(`refuses a manifest with ${what}`, () => {
    const act = () => {
      const comparison = new TreeComparison({ main, extra }, [], { drift: () => {}, secret: () => {} });
      comparison.lines(line('/usr/x'), '');
      comparison.end();
    };
    throwsCode(act, MtreeError, code);
  });

const plain: Facts = { ...base, mode: 0o644 };
const added = (path: string, actual: Facts): Drift => ({ path, change: 'added', actual });

test('too much drift is cut by class, then by path, and counted in full', () => {
  const paths = Array.from({ length: 40 }, (_, i) => `/usr/${String(i).padStart(2, '0')}`);
  const kinds: Facts[] = [plain, { ...plain, capability: 'AQ==' }, base, { ...plain, mode: 0o4644 }];
  const all = paths.map((path, i) => added(path, kinds[i % 4]!));
  for (let limit = 0; limit <= 41; limit++) {
    const list = new DriftList(limit);
    for (const d of all) list.add(d);
    const rank = (d: Drift) => 3 - kinds.indexOf((d as { actual: Facts }).actual);
    const expected = all
      .toSorted((a, b) => rank(a) - rank(b) || comparePaths(a.path, b.path))
      .slice(0, limit)
      .sort((a, b) => comparePaths(a.path, b.path));
    assert.deepEqual(list.list(), expected);
    assert.deepEqual(list.truncated(), limit < 40 ? { added: 40, removed: 0, modified: 0 } : null);
  }
});

test('drift is cut by its size too, and what was lost leaves no gap before what was kept', () => {
  const list = new DriftList(1000, 3000);
  const long = `/usr/m${'x'.repeat(2500)}`;
  list.add(added('/usr/a', plain));
  list.add(added(long, plain));
  list.add(added('/usr/n', plain));
  list.add(added('/usr/z', plain));
  assert.deepEqual(
    list.list().map((d) => d.path),
    ['/usr/a', long],
  );
  list.add({ path: '/usr/zz', change: 'removed', expected: base });
  assert.deepEqual(
    list.list().map((d) => d.path),
    ['/usr/a', '/usr/zz'],
  );
  assert.deepEqual(list.truncated(), { added: 4, removed: 1, modified: 0 });
});

test('a modified path is classed by either side', () => {
  const list = new DriftList(1);
  list.add({ path: '/usr/a', change: 'modified', expected: base, actual: plain });
  list.add({ path: '/usr/b', change: 'modified', expected: { ...plain, mode: 0o2644 }, actual: plain });
  assert.deepEqual(
    list.list().map((d) => d.path),
    ['/usr/b'],
  );
});

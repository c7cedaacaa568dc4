/** The canonical texts, held to texts that another program made and NetBSD mtree read (test/vectors/texts/README.md). */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { digestOf } from '#src/digest.ts';
import { comparePathBytes, comparePaths, treeOf, type Entry } from '#src/manifest/entry.ts';
import { entryLine, factsFromJson, FactsJson, nameFromJson } from '#src/manifest/json.ts';
import { extraText, mainText, MTREE_HEAD, MtreeError, parseTexts } from '#src/manifest/mtree.ts';
import { vis, unvis, VisError } from '#src/manifest/vis.ts';
import { throwsCode } from '#test/throws.ts';
import { deep } from '#test/depth.ts';

const vectors = join(import.meta.dirname, '../../vectors');
const texts = globSync('*.mtree', { cwd: join(vectors, 'texts') }).map((file) => basename(file, '.mtree'));

function golden(name: string): Entry[] {
  const [image, backend] = name.split(/\.(?=[a-z]+$)/) as [string, string];
  const lines = readFileSync(join(vectors, 'merge', image, `${backend}.jsonl`), 'utf8')
    .trimEnd()
    .split('\n');
  return lines
    .map((line) => {
      const { path, path_b64, xattrs, ...rest } = JSON.parse(line);
      const capability = xattrs?.['security.capability'];
      const facts = FactsJson.parse({ ...rest, ...(capability && { xattrs: { 'security.capability': capability } }) });
      return { path: nameFromJson(path, path_b64)!, ...factsFromJson(facts)! };
    })
    .filter((entry) => treeOf(entry.path) !== undefined)
    .sort((a, b) => comparePaths(a.path, b.path));
}

for (const name of texts) {
  test(`${name}: both texts and all digests are as pinned`, () => {
    const read = (ending: string) => readFileSync(join(vectors, 'texts', `${name}.${ending}`), 'latin1');
    const pinned = JSON.parse(read('json'));
    const entries = golden(name);
    const part = (tree: string) => entries.filter((entry) => treeOf(entry.path) === tree);
    assert.equal(MTREE_HEAD + mainText(entries), read('mtree'));
    assert.equal(extraText(entries), read('extra'));
    assert.equal(digestOf(read('mtree')), pinned.mtree);
    assert.equal(digestOf(read('extra')), pinned.extra);
    for (const tree of ['usr', 'etc']) {
      assert.equal(digestOf(mainText(part(tree))), pinned.trees[tree].main, tree);
      assert.equal(digestOf(extraText(part(tree))), pinned.trees[tree].extra, tree);
    }
    assert.deepEqual(parseTexts(mainText(entries), extraText(entries)), entries);
  });
}

test('there are pinned texts of both backends', () => assert.ok(texts.length >= 12));

const name = fc
  .uint8Array({ minLength: 1, maxLength: 12 })
  .map((bytes) => String.fromCharCode(...bytes).replace(/[\0/]/g, '_'))
  .filter((text) => text !== '.' && text !== '..');
const path = fc
  .array(name, { maxLength: 4 })
  .chain((names) => fc.constantFrom('/usr', '/etc').map((tree) => [tree, ...names].join('/')));
const id = fc.nat({ max: 0xffff_ffff });
const mode = fc.nat({ max: 0o7777 });
const hex = fc.stringMatching(/^[0-9a-f]{64}$/);
const capability = fc.uint8Array({ minLength: 1, maxLength: 24 }).map((bytes) => Buffer.from(bytes).toString('base64'));
const facts = fc.oneof(
  fc.record({ type: fc.constant('dir' as const), mode, uid: id, gid: id }),
  fc.record({ type: fc.constant('file' as const), mode, uid: id, gid: id, size: fc.nat(), sha256: hex }),
  fc.record({ type: fc.constant('file' as const), mode, uid: id, gid: id, size: fc.nat(), sha256: hex, capability }),
  fc.record({ type: fc.constant('file' as const), mode, uid: id, gid: id }),
  fc.record({ type: fc.constant('symlink' as const), mode: fc.constant(0), uid: id, gid: id, link: name }),
  fc.record({
    type: fc.constantFrom('char' as const, 'block' as const),
    mode,
    uid: id,
    gid: id,
    device: fc.constant('8:16'),
  }),
  fc.record({ type: fc.constantFrom('fifo' as const, 'socket' as const), mode, uid: id, gid: id }),
);
const entries = fc
  .uniqueArray(fc.tuple(path, facts), { selector: ([at]) => at, maxLength: 20 })
  .map((list): Entry[] =>
    list.map(([at, what]) => ({ path: at, ...what })).sort((a, b) => comparePaths(a.path, b.path)),
  );

test('what is written is read back as it was, through texts and through JSON', () => {
  fc.assert(
    fc.property(entries, (list) => {
      assert.deepEqual(parseTexts(mainText(list), extraText(list)), list);
      for (const entry of list) {
        const { path: text, path_b64, ...rest } = JSON.parse(entryLine(entry));
        assert.deepEqual({ path: nameFromJson(text, path_b64), ...factsFromJson(FactsJson.parse(rest)) }, entry);
      }
    }),
  );
});

test('a text is read in its one spelling or refused', () => {
  fc.assert(
    fc.property(entries, fc.nat(), fc.nat({ max: 255 }), (list, at, byte) => {
      const text = mainText(list);
      if (text === '') return;
      const changed = text.slice(0, at % text.length) + String.fromCharCode(byte) + text.slice((at % text.length) + 1);
      let again: string;
      try {
        again = mainText(parseTexts(changed, ''));
      } catch (error) {
        assert.ok(error instanceof MtreeError || error instanceof VisError, String(error));
        return;
      }
      assert.equal(again, changed);
    }),
    { numRuns: deep(500, 150) },
  );
});

test('the order of the text keeps a folder together; the order of jsonl does not', () => {
  const paths = ['/usr', '/usr-x', '/usr/a', '/usr/a-b', '/usr/a/c', '/usr/b'];
  assert.deepEqual([...paths].sort(comparePaths), ['/usr', '/usr/a', '/usr/a/c', '/usr/a-b', '/usr/b', '/usr-x']);
  const asEntries = paths.map((at): Entry => ({ path: at, type: 'dir', mode: 0, uid: 0, gid: 0 }));
  assert.deepEqual(
    asEntries
      .toReversed()
      .sort(comparePathBytes)
      .map((entry) => entry.path),
    paths,
  );
});

const bad: readonly (readonly [string, string, string])[] = [
  ['a missing last line end', './usr type=dir mode=0755 uid=0 gid=0', 'MTREE_SYNTAX'],
  ['a mode of three digits', './usr type=dir mode=755 uid=0 gid=0\n', 'MTREE_SYNTAX'],
  ['a number with a leading zero', './usr type=dir mode=0755 uid=00 gid=0\n', 'MTREE_SYNTAX'],
  ['keys in another order', './usr mode=0755 type=dir uid=0 gid=0\n', 'MTREE_SYNTAX'],
  ['a symlink with a mode', './usr/l type=link mode=0777 uid=0 gid=0 link=a\n', 'MTREE_SYNTAX'],
  [
    'a folder with a size',
    `./usr type=dir mode=0755 uid=0 gid=0 size=1 sha256digest=${'0'.repeat(64)}\n`,
    'MTREE_SYNTAX',
  ],
  ['a path out of both trees', './var type=dir mode=0755 uid=0 gid=0\n', 'MTREE_SYNTAX'],
  ['a comment', '# hello\n', 'MTREE_SYNTAX'],
  ['a carriage return', './usr type=dir mode=0755 uid=0 gid=0\r\n', 'MTREE_SYNTAX'],
  ['the same path twice', './usr type=dir mode=0755 uid=0 gid=0\n'.repeat(2), 'MTREE_ORDER'],
];
for (const [what, text, code] of bad)
  test(`refuses ${what}`, () => throwsCode(() => parseTexts(text, ''), MtreeError, code));

test('refuses extra lines without a place in the tree, or in another spelling', () => {
  const main = './usr type=dir mode=0755 uid=0 gid=0\n';
  for (const extra of [
    './usr/x\tdevice=1:2\n',
    './usr\tdevice=01:2\n',
    './usr\tdevice=1:2',
    './usr\tdevice=1:2\n./usr\tdevice=1:3\n',
  ])
    throwsCode(() => parseTexts(main, extra), MtreeError, 'EXTRA_SYNTAX');
});

test('escapes are octal, three digits, and nothing else is read', () => {
  assert.equal(vis('/a b\\c#d*e?f[g=h\x01\xff'), '/a\\040b\\134c\\043d\\052e\\077f\\133g\\075h\\001\\377');
  for (const text of ['a b', '\\40', '\\400', '\\s', 'a\\141', '\\', 'é', '\\8', '*'])
    throwsCode(() => unvis(text), VisError, 'VIS_SYNTAX');
});

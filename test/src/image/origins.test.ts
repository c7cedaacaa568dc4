/** What an image says of its layers, and how paths' origins are kept: runs that say the same as the numbers they are made of. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { deploy, type Rule } from '#src/image/backend.ts';
import { componentsOf, historyOf } from '#src/image/history.ts';
import { layerText, printRuns, Runs } from '#src/image/origins.ts';
import { ContentGatherer, hasMark, pathsWith, shardOf } from '#src/manifest/contents.ts';
import { readImage } from '#src/source/build.ts';
import { layoutSource } from '#src/source/layout.ts';
import { folder } from '#server/sources.ts';
import { sha256 } from './archive.ts';

test('runs say the same as the numbers they are made of, and nothing behind them', () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.nat(3), fc.nat(2 ** 31))), (values) => {
      const runs = new Runs(printRuns(values));
      assert.deepEqual(
        values.map((_, at) => runs.at(at)),
        values,
      );
      assert.equal(runs.at(values.length), undefined);
    }),
    { numRuns: 50 },
  );
});

const histories = [
  ['none', undefined, 1, []],
  ['no list', { created_by: 'x' }, 1, []],
  ['one too few', [{ created_by: 'a' }], 2, []],
  [
    'empty ones between',
    [
      { created_by: 'ENV x', empty_layer: true },
      { created_by: ' a ', comment: 'c' },
    ],
    1,
    [['a', 'c']],
  ],
  ['numbers and nulls', [null, { created_by: 7, comment: '' }], 2, [[null, null], [null, null]]], // prettier-ignore
  ['long', [{ created_by: 'x'.repeat(9000) }], 1, [['x'.repeat(4096), null]]],
] as const;
for (const [name, history, layers, expected] of histories)
  test(`history of layers: ${name}`, () => {
    assert.deepEqual(
      historyOf(history, layers).map(({ createdBy, comment }) => [createdBy, comment]),
      expected,
    );
  });

test("a layer's components are read as ostree-ext and chunkah write them, and from nothing else", () => {
  assert.deepEqual(componentsOf({ 'ostree.components': 'bash, glibc,' }), ['bash', 'glibc']);
  assert.deepEqual(componentsOf({ 'org.chunkah.component': 'rpm/kernel rpm/curl' }), ['rpm/kernel', 'rpm/curl']);
  for (const annotations of [undefined, null, 'ostree.components', [], { 'ostree.components': 7 }, { other: 'x' }])
    assert.deepEqual(componentsOf(annotations), []);
  assert.equal(componentsOf({ 'ostree.components': 'x,'.repeat(1000) }).length, 100);
});

const made = [
  ['buildah', '/bin/sh -c dnf install -y htop', 'RUN dnf install -y htop'],
  ['BuildKit', 'RUN /bin/sh -c dnf install -y  htop # buildkit', 'RUN dnf install -y htop'],
  ['BuildKit with arguments', 'RUN |2 A=b C=d /bin/sh -c make # buildkit', 'RUN make'],
  ['bash with options', '/bin/bash -euxo pipefail -c make', '/bin/bash -euxo pipefail -c make'],
  ['the old builder', '/bin/sh -c #(nop) COPY file:ab in /etc', 'COPY file:ab in /etc'],
  ['BuildKit, a copy', 'COPY etc /etc # buildkit', 'COPY etc /etc'],
  ['an export of ostree', 'ostree export of commit ab', 'ostree export of commit ab'],
] as const;
for (const [name, createdBy, expected] of made)
  test(`a layer in a few words: ${name}`, () =>
    assert.equal(layerText({ createdBy, comment: null, components: [] }), expected));
test('components say more of a layer than how it was made; without either nothing is said', () => {
  assert.equal(layerText({ createdBy: 'x', comment: null, components: ['bash', 'glibc'] }), 'bash, glibc');
  assert.equal(layerText({ createdBy: null, comment: 'imported', components: [] }), 'imported');
  assert.equal(layerText({ createdBy: null, comment: null, components: [] }), undefined);
});

test('a content is found in the marks of the trees that have it, and an empty file in none', () => {
  const names = Array.from({ length: 500 }, (_, i) => sha256(`${i}`));
  const text = (list: readonly string[]): string =>
    list.map((digest, i) => `./usr/f${i} type=file mode=0644 uid=0 gid=0 size=1 sha256digest=${digest}\n`).join('');
  const all = text([...names.slice(0, 400), sha256('')]);
  const gatherer = new ContentGatherer();
  for (const each of [all, text(names.slice(0, 100))]) gatherer.add(each);
  const { shards, contents } = gatherer.marks();
  assert.equal(contents, 400);
  for (const [i, digest] of names.entries()) assert.equal(hasMark(shards[shardOf(digest)]!, digest), i < 400, `${i}`);
  assert.equal(hasMark(shards[shardOf(sha256(''))]!, sha256('')), false);
  assert.deepEqual(pathsWith(names[7]!, all, 5), ['/usr/f7']);
  assert.deepEqual(pathsWith(names[450]!, all, 5), []);
});

test('of images that real builders made, each path is of the layer that says so of itself', async () => {
  const made = async (name: string, rule: Rule) => {
    const layout = join(import.meta.dirname, '../../vectors/merge', name, 'image');
    const { layers, facts, config } = await readImage(layoutSource(folder(layout), name), undefined);
    const { entries, layers: from } = deploy(layers, facts, rule);
    return new Map(entries.map(({ path }, at) => [path, config.history[from[at]!]?.createdBy]));
  };
  for (const rule of ['ostree/1', 'composefs/1'] as const) {
    // ostree-ext names a chunk for its component; files are links to objects.
    const chunked = await made('02-base-chunked', rule);
    for (const [path, component] of [
      ['/usr/bin/tool', 'bin'],
      ['/usr/lib/liba.so', 'lib'],
      ['/etc/passwd', 'conf'],
      ['/usr/share/d/one', 'unpackaged'],
    ] as const)
      assert.equal(chunked.get(path), component, `${rule} ${path}`);
    const mixed = await made('48-mix-encapsulated', rule);
    for (const [path, layer] of [
      ['/usr/bin/sgid', 'bin'],
      ['/usr/bin/tool', 'layer 1'],
      ['/usr/bin/eq', 'layer 2'],
      ['/etc/conf.d/10-a.conf', 'layer 3'],
    ] as const)
      assert.ok(mixed.get(path)?.startsWith(layer), `${rule} ${path}: ${mixed.get(path)}`);
  }
});

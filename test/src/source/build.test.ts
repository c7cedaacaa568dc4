import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { digestOf, type Digest } from '#src/digest.ts';
import { SECRET_PATHS_ID } from '#src/drift/redact.ts';
import { BackendError, type Rule } from '#src/image/backend.ts';
import { ImageError } from '#src/image/layer.ts';
import { OCI_INDEX, OciManifestError } from '#src/image/ocimanifest.ts';
import { IMAGE_LIMITS } from '#src/limits.ts';
import { parseTexts } from '#src/manifest/mtree.ts';
import { MTREE_HEAD } from '#src/manifest/mtree.ts';
import { ManifestHeader } from '#src/manifest/header.ts';
import { buildManifest, findImage, readImage, type Progress, type ReadOptions } from '#src/source/build.ts';
import { layoutSource } from '#src/source/layout.ts';
import { SourceError, type Source } from '#src/source/source.ts';
import { nodeSha256 } from '#src/source/verified.ts';
import { folder } from '#server/sources.ts';
import { rejectsCode, throwsCode } from '#test/throws.ts';
import { image, indexOf, members, type Member, type TestImage } from './images.ts';

const vectors = join(import.meta.dirname, '../../vectors');
const vector = (name: string): Source => layoutSource(folder(join(vectors, 'source', name, 'image')), `oci:${name}`);
const amd64 = { os: 'linux', architecture: 'amd64' };
const arm64 = { os: 'linux', architecture: 'arm64', variant: 'v8' };

/** A source that answers from memory, in chunks of `step` bytes. */
function memory(blobs: ReadonlyMap<string, Uint8Array>, step = 1000, kind: Source['kind'] = 'registry'): Source {
  return {
    name: 'docker://test/a',
    kind,
    async manifest(which = 'latest') {
      const bytes = blobs.get(which);
      if (bytes === undefined) throw new SourceError('SOURCE_NOT_FOUND', which);
      return { bytes, mediaType: undefined, claimed: undefined };
    },
    async *blob({ digest }) {
      const bytes = blobs.get(digest) ?? new Uint8Array();
      for (let at = 0; at < bytes.length; at += step) yield bytes.slice(at, at + step);
    },
  };
}
const read = (of: TestImage, options?: ReadOptions) => readImage(memory(of.blobs), of.digest, options);

for (const name of ['17-hardlinks', '28-xattrs', '38-odd-names'])
  for (const [backend, rule] of [
    ['ostree', 'ostree/1'],
    ['composefs', 'composefs/1'],
  ] as const)
    test(`${name}: texts and digests of ${backend} are the pinned ones`, async () => {
      const pinned = (kind: string) => readFileSync(join(vectors, 'texts', `${name}.${backend}.${kind}`), 'latin1');
      const { header, trees } = buildManifest(await readImage(vector(name), undefined), rule, { builder: 'test' });
      assert.equal(MTREE_HEAD + trees.etc.main + trees.usr.main, pinned('mtree'));
      assert.equal(trees.etc.extra + trees.usr.extra, pinned('extra'));
      const expected = JSON.parse(pinned('json')) as { trees: Record<'usr' | 'etc', { main: string; extra: string }> };
      for (const tree of ['usr', 'etc'] as const)
        assert.deepEqual({ main: header.trees[tree].main.full, extra: header.trees[tree].extra }, expected.trees[tree]);
    });

test('the header binds texts to image, configuration, layers and rule', async () => {
  const of = image([members('x'), [{ name: 'etc/shadow', content: 'root:secret', mode: 0 }]]);
  const built = await read(of);
  const { header, trees } = buildManifest(built, 'composefs/1', { builder: 'test 1' });
  assert.deepEqual(ManifestHeader.parse(header), header);
  assert.equal(header.image, of.digest);
  assert.equal(header.index, null);
  assert.equal(header.config, of.manifest.config.digest);
  assert.equal(header.platform, 'linux/amd64');
  assert.deepEqual(
    header.layers.map(({ digest, size, mediaType }) => ({ digest, size, mediaType })),
    of.manifest.layers,
  );
  assert.deepEqual([header.rule, header.builder, header.secretPaths], ['composefs/1', 'test 1', SECRET_PATHS_ID]);
  for (const tree of ['usr', 'etc'] as const) {
    const entries = parseTexts(trees[tree].main, trees[tree].extra);
    assert.equal(header.trees[tree].entries, entries.length);
    assert.equal(header.trees[tree].main.full, digestOf(trees[tree].main, nodeSha256));
  }
});

test('the comparison digest does not change with a secret, the full digest does', async () => {
  const shadow = (content: string): Member => ({ name: 'etc/shadow', content, mode: 0 });
  const [a, b, c] = await Promise.all(
    [[shadow('root:aaaa')], [shadow('root:bbbb')], [{ ...shadow('root:aaaa'), mode: 0o600 }]].map(async (more) =>
      buildManifest(await read(image([[...members('x'), ...more]])), 'ostree/1', { builder: 't' }),
    ),
  );
  assert.notEqual(a!.header.trees.etc.main.full, b!.header.trees.etc.main.full);
  assert.equal(a!.header.trees.etc.main.comparison, b!.header.trees.etc.main.comparison);
  assert.notEqual(a!.header.trees.etc.main.comparison, c!.header.trees.etc.main.comparison);
  assert.equal(a!.header.trees.usr.main.full, a!.header.trees.usr.main.comparison);
});

test('warnings of the backend stand in the header', async () => {
  const { header } = buildManifest(await readImage(vector('56-gzip-members'), undefined), 'ostree/1', { builder: 't' });
  assert.ok(header.warnings.some(({ code }) => code === 'GZIP_MEMBERS_LOST'));
});

test('one reading serves every rule; what one backend refuses another may deploy', async () => {
  const built = await readImage(vector('60-chardev'), undefined);
  throwsCode(() => buildManifest(built, 'ostree/1', { builder: 't' }), BackendError, 'DEVICE_IN_TREE');
  const { trees } = buildManifest(built, 'composefs/1', { builder: 't' });
  assert.match(trees.usr.extra, /device=/);
});

test('docker media types count where they lie: in a layout, not in a registry', async () => {
  const build = (source: Source, rule: Rule) =>
    readImage(source, undefined).then((built) => buildManifest(built, rule, { builder: 't' }));
  const layout = vector('98-docker-types');
  await build(layout, 'ostree/1');
  await rejectsCode(() => build(layout, 'composefs/1'), BackendError, 'DOCKER_MEDIA_TYPES');
  await build({ ...layout, kind: 'registry' }, 'composefs/1');
});

test('an index gives the image of the platform, and is remembered', async () => {
  const [one, two] = [image([members('1')]), image([members('2')], { architecture: 'arm64' })];
  const index = indexOf([
    { of: one, platform: amd64 },
    { of: two, platform: arm64 },
  ]);
  const find = (platform?: typeof amd64) => findImage(memory(index.blobs), index.digest, platform ? { platform } : {});
  assert.deepEqual([(await find(amd64)).digest, (await find(amd64)).index], [one.digest, index.digest]);
  assert.equal((await find({ os: 'linux', architecture: 'arm64' })).digest, two.digest);
  await rejectsCode(() => find(), OciManifestError, 'PLATFORM_MISSING');
  await assert.rejects(
    find({ os: 'linux', architecture: 's390x' }),
    (error) => error instanceof OciManifestError && /linux\/amd64, linux\/arm64\/v8/.test(error.message),
  );
});

test('an entry without a platform must turn out to be of the one asked for', async () => {
  const two = image([members('2')], { architecture: 'arm64' });
  const index = indexOf([{ of: two }]);
  const find = (architecture: string) =>
    findImage(memory(index.blobs), index.digest, { platform: { os: 'linux', architecture } });
  assert.equal((await find('arm64')).digest, two.digest);
  await rejectsCode(() => find('amd64'), OciManifestError, 'PLATFORM_MISSING');
});

test('an image that was named directly is taken as it is, unless a platform is insisted on', async () => {
  const of = image([members('1')]);
  const platform = { os: 'linux', architecture: 'arm64' };
  assert.equal((await findImage(memory(of.blobs), of.digest, { platform })).digest, of.digest);
  await rejectsCode(
    () => findImage(memory(of.blobs), of.digest, { platform, platformOnly: true }),
    OciManifestError,
    'PLATFORM_MISSING',
  );
});

test('indexes inside indexes are followed, three deep; the outermost is remembered', async () => {
  const of = image([members('1')]);
  let nested: { blobs: Map<string, Uint8Array>; digest: Digest } = of;
  const outer: Digest[] = [];
  for (let depth = 0; depth < 4; depth++) {
    nested = indexOf([{ of: nested, platform: amd64, ...(depth > 0 ? { mediaType: OCI_INDEX } : {}) }]);
    outer.push(nested.digest);
  }
  const find = (digest: Digest) => findImage(memory(nested.blobs), digest, { platform: amd64 });
  const found = await find(outer[2]!);
  assert.deepEqual([found.digest, found.index], [of.digest, outer[2]]);
  await rejectsCode(() => find(outer[3]!), OciManifestError, 'MANIFEST_LIMIT');
});

test('an index entry that lies about what it names is refused', async () => {
  const of = image([members('1')]);
  const index = indexOf([{ of, platform: amd64, mediaType: OCI_INDEX }]);
  await rejectsCode(
    () => findImage(memory(index.blobs), index.digest, { platform: amd64 }),
    OciManifestError,
    'MANIFEST_AMBIGUOUS',
  );
});

test('the bytes of all layers are added up before one is fetched', async () => {
  const of = image([members('1')], {
    patch: (manifest) => ({ ...manifest, layers: manifest.layers.map((layer) => ({ ...layer, size: 2 ** 45 })) }),
  });
  let fetched = 0;
  const source = memory(of.blobs);
  const counting: Source = {
    ...source,
    blob: (d) => (d.digest === of.manifest.config.digest ? source.blob(d) : (fetched++, source.blob(d))),
  };
  await rejectsCode(() => readImage(counting, of.digest), SourceError, 'IMAGE_LIMIT');
  await rejectsCode(() => readImage(memory(of.blobs), of.digest, { imageBytes: 1 }), SourceError, 'IMAGE_LIMIT');
  assert.equal(fetched, 0);
});

test('a configuration that is told too large is not fetched', async () => {
  const of = image([members('1')], {
    patch: (manifest) => ({ ...manifest, config: { ...manifest.config, size: 2 ** 33 } }),
  });
  await rejectsCode(() => findImage(memory(of.blobs), of.digest), OciManifestError, 'MANIFEST_LIMIT');
});

/** Content that does not compress, the same each time. */
const random = (seed: number, length: number) =>
  createHash('shake256', { outputLength: length }).update(String(seed)).digest('latin1');
const large = image([[...members('x'), { name: 'usr/random', content: random(1, 200_000) }]]);
const [layer] = large.manifest.layers;
const damaged: [string, (bytes: Uint8Array) => Uint8Array, string][] = [
  [
    'a byte flipped in the middle',
    (bytes) => bytes.map((byte, i) => (i === 100_000 ? byte ^ 0x55 : byte)),
    'BLOB_DIGEST',
  ],
  ['a byte flipped in the header', (bytes) => bytes.map((byte, i) => (i === 0 ? byte ^ 1 : byte)), 'BLOB_DIGEST'],
  ['its end missing', (bytes) => bytes.slice(0, 150_000), 'BLOB_SIZE'],
  ['bytes behind its end', (bytes) => new Uint8Array([...bytes, ...new Uint8Array(600)]), 'BLOB_SIZE'],
  ['nothing in it', () => new Uint8Array(), 'BLOB_SIZE'],
];
for (const [name, damage, code] of damaged)
  test(`a layer's blob with ${name} is the blob's fault, not the layer's`, async () => {
    const blobs = new Map([...large.blobs, [layer!.digest, damage(large.blobs.get(layer!.digest)!)]]);
    await rejectsCode(() => readImage(memory(blobs), large.digest), SourceError, code);
  });

test('a malformed layer whose blob is what it should be is the layer’s fault, and is named', async () => {
  await assert.rejects(
    readImage(vector('69-truncated'), undefined),
    (error) => error instanceof ImageError && error.code === 'TAR_TRUNCATED' && /layer 1/.test(error.message),
  );
});

test('many layers are read, a few at a time, in whatever order they end', async () => {
  const layers = Array.from({ length: 9 }, (_, i): Member[] => [
    ...(i === 0 ? members('x') : []),
    { name: `usr/f${i}`, content: random(i, 20_000 * (9 - i)) },
  ]);
  const of = image(layers);
  const source = memory(of.blobs, 500);
  let open = 0;
  let most = 0;
  const counting: Source = {
    ...source,
    async *blob(d) {
      most = Math.max(most, ++open);
      try {
        yield* source.blob(d);
      } finally {
        open--;
      }
    },
  };
  const progress: Progress[] = [];
  const built = await readImage(counting, of.digest, { layersAtOnce: 3, onProgress: (p) => progress.push(p) });
  assert.equal(most, 3);
  assert.equal(open, 0);
  assert.deepEqual(
    built.layers.map(({ digest, index }) => [digest, index]),
    of.manifest.layers.map(({ digest }, i) => [digest, i]),
  );
  const total = of.manifest.layers.reduce((sum, { size }) => sum + size, 0);
  assert.deepEqual(progress.at(-1), { bytes: total, bytesTotal: total, layers: 9 });
  assert.deepEqual(
    built.layers.map((l) => l.diffId),
    built.config.diffIds,
  );
});

test('the first refusal ends the reading of the other layers too', async () => {
  const of = image([members('x'), [{ name: 'usr/big', content: random(3, 3_000_000) }]]);
  const [first, second] = of.manifest.layers;
  const blobs = new Map([...of.blobs, [first!.digest, of.blobs.get(second!.digest)!.slice(0, first!.size)]]);
  const source = memory(blobs, 1000);
  let sent = 0;
  const counting: Source = {
    ...source,
    async *blob(d) {
      for await (const chunk of source.blob(d)) {
        if (d.digest === second!.digest) {
          sent += chunk.length;
          await new Promise((resolve) => setImmediate(resolve));
        }
        yield chunk;
      }
    },
  };
  await rejectsCode(() => readImage(counting, of.digest), SourceError, 'BLOB_DIGEST');
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.ok(sent < 1_000_000, `${sent} bytes were still read`);
});

test('layers that each keep to their bounds are bounded together', async () => {
  const layers = Array.from({ length: 5 }, (_, i): Member[] => [
    ...(i === 0 ? members('x') : []),
    ...Array.from({ length: 50 }, (_, k) => ({ name: `usr/f${i}-${k}` })),
  ]);
  const of = image(layers);
  await read(of, { limits: { ...IMAGE_LIMITS, layerEntries: 70 } });
  await rejectsCode(
    () => read(of, { limits: { ...IMAGE_LIMITS, layerEntries: 70, treeNodes: 150 } }),
    ImageError,
    'LIMIT_ENTRIES',
  );
  const bytes = read(of, { limits: { ...IMAGE_LIMITS, layerBytes: 50_000 } });
  await rejectsCode(() => bytes, ImageError, 'LIMIT_BYTES');
});

test('a gzip bomb ends at its bound', async () => {
  const bomb = image([[...members('x'), { name: 'usr/zeros', content: '\0'.repeat(100_000_000) }]]);
  assert.equal((await read(bomb)).layers.length, 1, 'zeros alone are no bomb');
  const sooner = { ...IMAGE_LIMITS, layerRatioFrom: 64 * 2 ** 20 };
  await rejectsCode(() => read(bomb, { limits: sooner }), ImageError, 'LIMIT_RATIO');
  await rejectsCode(
    () => read(bomb, { limits: { ...IMAGE_LIMITS, layerBytes: 50_000_000 } }),
    ImageError,
    'LIMIT_BYTES',
  );
});

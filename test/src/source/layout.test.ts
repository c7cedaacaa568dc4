import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestOf, type Digest } from '#src/digest.ts';
import { OciManifestError, OCI_INDEX, OCI_MANIFEST } from '#src/image/ocimanifest.ts';
import { archiveDirectory, type RandomAccess } from '#src/source/archive.ts';
import { layoutSource, type Directory } from '#src/source/layout.ts';
import { SourceError } from '#src/source/source.ts';
import { readVerified } from '#src/source/verified.ts';
import { rejectsCode } from '#test/throws.ts';
import { tar, type Member } from './images.ts';

type Files = Record<string, string>;

const folder = (files: Files): Directory => ({
  stat: async (name) => (Object.hasOwn(files, name) ? { size: files[name]!.length } : undefined),
  async *read(name) {
    yield new TextEncoder().encode(files[name]);
  },
});

function randomAccess(bytes: Uint8Array): RandomAccess & { reads: number } {
  return {
    size: bytes.length,
    reads: 0,
    async read(at, length) {
      this.reads++;
      return bytes.slice(at, at + length);
    },
  };
}

const MARKER = '{"imageLayoutVersion":"1.0.0"}';
const blob = (content: string): [string, string] => [`blobs/sha256/${digestOf(content).slice(7)}`, content];
const entry = (content: string, more: object = {}) => ({
  mediaType: OCI_MANIFEST,
  digest: digestOf(content),
  size: content.length,
  ...more,
});
const named = (name: string) => ({ annotations: { 'org.opencontainers.image.ref.name': name } });
const on = (architecture: string) => ({ platform: { os: 'linux', architecture } });
const layout = (manifests: object[], ...blobs: string[]): Files => ({
  'oci-layout': MARKER,
  'index.json': JSON.stringify({ schemaVersion: 2, manifests }),
  ...Object.fromEntries(blobs.map(blob)),
});

const kinds: [string, (files: Files) => Promise<Directory>][] = [
  ['folder', async (files) => folder(files)],
  [
    'archive',
    (files) =>
      archiveDirectory(
        randomAccess(tar(Object.entries(files).map(([name, content]) => ({ name: `./${name}`, content })))),
        'oci-archive:x',
      ),
  ],
];
for (const [kind, directory] of kinds) {
  const open = async (files: Files) => layoutSource(await directory(files), `oci:${kind}`);
  const text = async (files: Files, which?: string) => {
    const found = await (await open(files)).manifest(which);
    return new TextDecoder().decode(found.bytes);
  };

  test(`${kind}: the only image needs no tag`, async () => {
    assert.equal(await text(layout([entry('one')], 'one')), 'one');
    assert.equal(await text(layout([entry('one', named('v1')), entry('one', named('v2'))], 'one')), 'one');
  });

  test(`${kind}: a tag is a name in index.json, a digest is a blob`, async () => {
    const files = layout([entry('one', named('v1')), entry('two', named('v2'))], 'one', 'two', 'three');
    assert.equal(await text(files, 'v2'), 'two');
    assert.equal(await text(files, digestOf('three')), 'three');
    await rejectsCode(() => text(files, 'v3'), SourceError, 'SOURCE_NOT_FOUND');
    await rejectsCode(() => text(files, digestOf('four')), SourceError, 'SOURCE_NOT_FOUND');
  });

  test(`${kind}: what index.json says of a manifest is handed on to be checked`, async () => {
    const { claimed, mediaType } = await (await open(layout([entry('one')], 'one'))).manifest();
    assert.deepEqual([claimed, mediaType], [{ digest: digestOf('one'), size: 3 }, OCI_MANIFEST]);
  });

  test(`${kind}: several images need a tag`, async () => {
    const files = layout([entry('one', named('v1')), entry('two', named('v2'))], 'one', 'two');
    await rejectsCode(() => text(files), SourceError, 'LAYOUT_AMBIGUOUS');
    const twice = layout([entry('one', named('v1')), entry('two', named('v1'))], 'one', 'two');
    await rejectsCode(() => text(twice, 'v1'), SourceError, 'LAYOUT_AMBIGUOUS');
  });

  test(`${kind}: manifests of several platforms side by side are one image`, async () => {
    const files = layout([entry('one', on('amd64')), entry('two', on('arm64'))], 'one', 'two');
    const { bytes, mediaType } = await (await open(files)).manifest();
    assert.equal(new TextDecoder().decode(bytes), files['index.json']);
    assert.equal(mediaType, OCI_INDEX);
  });

  test(`${kind}: blobs are read as they lie, and their size is looked at first`, async () => {
    const big = 'x'.repeat(700_000);
    const source = await open(layout([], big));
    const descriptor = { digest: digestOf(big), size: big.length };
    assert.equal((await readVerified(source.blob(descriptor), descriptor, 'x')).length, big.length);
    const read = async (digest: Digest, size: number) => void (await Array.fromAsync(source.blob({ digest, size })));
    await rejectsCode(() => read(descriptor.digest, 5), SourceError, 'BLOB_SIZE');
    await rejectsCode(() => read(digestOf('none'), 5), SourceError, 'SOURCE_NOT_FOUND');
  });

  test(`${kind}: what is no layout is refused`, async () => {
    await rejectsCode(() => text({ x: 'y' }), SourceError, 'SOURCE_NOT_FOUND');
    await assert.rejects(text({ 'manifest.json': '[]' }), /a docker-archive, which skopeo/);
    await assert.rejects(text({ 'manifest.json': '{}', version: 'x' }), /what skopeo calls dir:, which skopeo/);
    await rejectsCode(() => text(layout([])), SourceError, 'SOURCE_NOT_FOUND');
    await rejectsCode(() => text(layout([entry('one')])), SourceError, 'SOURCE_NOT_FOUND');
    const two = { ...layout([entry('one')], 'one'), 'oci-layout': '{"imageLayoutVersion":"2.0.0"}' };
    await rejectsCode(() => text(two), SourceError, 'LAYOUT_SYNTAX');
    const image = { ...layout([], 'one'), 'index.json': '{"schemaVersion":2}' };
    await rejectsCode(() => text(image), OciManifestError, 'MANIFEST_SYNTAX');
    const broken = { ...layout([], 'one'), 'index.json': '<' };
    await rejectsCode(() => text(broken), OciManifestError, 'MANIFEST_SYNTAX');
    const endless = { ...layout([], 'one'), 'index.json': ' '.repeat(5 * 2 ** 20) };
    await rejectsCode(() => text(endless), SourceError, 'SOURCE_ANSWER');
  });

  test(`${kind}: a folder without oci-layout is read, as skopeo does`, async () => {
    const { 'oci-layout': _, ...files } = layout([entry('one')], 'one');
    assert.equal(await text(files), 'one');
  });
}

const archive = (bytes: Uint8Array) => archiveDirectory(randomAccess(bytes), 'oci-archive:x');
const index: Member = { name: 'index.json', content: 'abc' };

test('an archive is walked by its headers alone', async () => {
  const file = randomAccess(tar([{ name: 'big', content: 'x'.repeat(5_000_000) }, index]));
  const directory = await archiveDirectory(file, 'x');
  assert.ok(file.reads < 8, `${file.reads} reads`);
  assert.deepEqual(await directory.stat('index.json'), { size: 3 });
});

test('archive members are found whatever way their names are written', async () => {
  const long = `blobs/${'a'.repeat(150)}`;
  const pax = { name: 'x', type: 'x', content: `${long.length + 10} path=${long}\n` };
  for (const members of [
    [pax, { ...index, name: 'cut' }],
    [{ name: '././@LongLink', type: 'L', content: `${long}\0` }, index],
  ]) {
    const directory = await archive(tar([...members, { name: '/other', content: 'y' }]));
    assert.deepEqual(await directory.stat(long), { size: 3 });
    assert.deepEqual(await directory.stat('other'), { size: 1 }, 'the header counts for one entry only');
  }
  for (const type of ['0', '\0', '7'])
    assert.deepEqual(await (await archive(tar([{ ...index, type }]))).stat('index.json'), { size: 3 });
  for (const type of ['1', '2', '5'])
    assert.equal(await (await archive(tar([{ name: 'index.json', type, content: '' }]))).stat('index.json'), undefined);
});

const whole = tar([index]);
const changed = (at: number, byte: number) => whole.map((old, i) => (i === at ? byte : old));
const refusedArchives: [string, Uint8Array, string][] = [
  ['gzip', new Uint8Array([0x1f, 0x8b, 8, 0, 0, 0, 0, 0]), 'ARCHIVE_COMPRESSED'],
  ['zstd', new Uint8Array([0x28, 0xb5, 0x2f, 0xfd, 0]), 'ARCHIVE_COMPRESSED'],
  ['a text', new TextEncoder().encode('no tar '.repeat(100)), 'ARCHIVE_SYNTAX'],
  ['half a header', whole.slice(0, 300), 'ARCHIVE_SYNTAX'],
  ['a header without its body', whole.slice(0, 513), 'ARCHIVE_SYNTAX'],
  ['a wrong checksum', changed(0, 0x49), 'ARCHIVE_SYNTAX'],
  ['two index.json', tar([index, index]), 'ARCHIVE_SYNTAX'],
  [
    'an endless extended header',
    tar([{ name: 'x', type: 'x', content: ' '.repeat(300_000) }, index]),
    'ARCHIVE_SYNTAX',
  ],
  ['a malformed extended header', tar([{ name: 'x', type: 'x', content: '99 path=a\n' }, index]), 'ARCHIVE_SYNTAX'],
  ['20,001 members', tar(Array.from({ length: 20_001 }, () => ({ name: 'a' }))), 'ARCHIVE_SYNTAX'],
];
for (const [name, bytes, code] of refusedArchives)
  test(`refuses an archive that is ${name}`, () => rejectsCode(() => archive(bytes), SourceError, code));

test('an archive that shrinks while it is read is refused', async () => {
  let bytes = tar([index]);
  const file: RandomAccess = { size: bytes.length, read: async (at, length) => bytes.slice(at, at + length) };
  const directory = await archiveDirectory(file, 'x');
  bytes = bytes.slice(0, 512);
  await rejectsCode(() => Array.fromAsync(directory.read('index.json')), SourceError, 'ARCHIVE_SYNTAX');
});

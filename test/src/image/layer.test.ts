/** Layers: every compression to its last byte, the diffID over all of it, and what hostile ones end in. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32, deflateRawSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { BackendError, deploy } from '#src/image/backend.ts';
import { ImageError, readLayer, type Layer } from '#src/image/layer.ts';
import { IMAGE_LIMITS } from '#src/limits.ts';
import { rejectsCode, throwsCode } from '#test/throws.ts';
import { digestOf, dir, END, file, image, member, PLAIN, read, sha256, tar, type Blob } from './archive.ts';

const archive = tar([dir('usr'), file('usr/a', 'a'.repeat(5000)), file('usr/b', 'b'.repeat(700)), file('usr/c', 'c')]);
const names = ['usr', 'usr/a', 'usr/b', 'usr/c'];
const CUT = 512 + 512 + 5120; // behind usr/a
const blob = (bytes: Buffer, compression: '' | '+gzip' | '+zstd', of = archive): Blob => ({
  bytes,
  mediaType: PLAIN + compression,
  diffId: digestOf(of),
});
const skippable = (length: number): Buffer => {
  const head = Buffer.alloc(8 + length, 0xee);
  head.writeUInt32LE(0x184d2a5e, 0);
  head.writeUInt32LE(length, 4);
  return head;
};

/** A gzip file with every optional field of its header (RFC 1952). */
function gzipWithFields(data: Buffer): Buffer {
  const head = Buffer.from([0x1f, 0x8b, 8, 4 + 8 + 16 + 2, 0, 0, 0, 0, 0, 3, 3, 0, 1, 2, 3]);
  const tail = Buffer.alloc(8);
  tail.writeUInt32LE(crc32(data), 0);
  tail.writeUInt32LE(data.length, 4);
  return Buffer.concat([head, Buffer.from('name\0a comment\0'), Buffer.from([0, 0]), deflateRawSync(data), tail]);
}

const whole: readonly (readonly [string, Blob])[] = [
  ['plain', blob(archive, '')],
  ['gzip', blob(gzipSync(archive), '+gzip')],
  ['gzip with every optional field', blob(gzipWithFields(archive), '+gzip')],
  ['stored gzip', blob(gzipSync(archive, { level: 0 }), '+gzip')],
  ['zstd', blob(zstdCompressSync(archive), '+zstd')],
  [
    'zstd with a table behind it, as zstd:chunked',
    blob(Buffer.concat([zstdCompressSync(archive), skippable(100)]), '+zstd'),
  ],
  ['Docker gzip', { ...blob(gzipSync(archive), ''), mediaType: 'application/vnd.docker.image.rootfs.diff.tar.gzip' }],
  ['Docker plain', { ...blob(archive, ''), mediaType: 'application/vnd.docker.image.rootfs.diff.tar' }],
];
for (const [name, of] of whole)
  test(`${name}: all entries, one stream`, async () => {
    for (const size of [1, 3, 100, 65536]) {
      const layer = await read(of, { size });
      assert.deepEqual(
        layer.entries.map((entry) => entry.name),
        names,
      );
      assert.deepEqual([layer.diffId, layer.bytes, layer.first], [digestOf(archive), archive.length, undefined]);
    }
  });

const members: readonly (readonly [string, Blob, Layer['first']])[] = [
  [
    'gzip between entries',
    blob(Buffer.concat([gzipSync(archive.subarray(0, CUT)), gzipSync(archive.subarray(CUT))]), '+gzip'),
    { entries: 2, between: true },
  ],
  [
    'gzip inside an entry',
    blob(Buffer.concat([gzipSync(archive.subarray(0, 700)), gzipSync(archive.subarray(700))]), '+gzip'),
    { entries: 1, between: false },
  ],
  [
    'gzip before the first entry',
    blob(Buffer.concat([gzipSync(Buffer.alloc(0)), gzipSync(archive)]), '+gzip'),
    { entries: 0, between: true },
  ],
  [
    'gzip at each block, as eStargz',
    blob(
      Buffer.concat(
        Array.from({ length: archive.length / 512 }, (_, i) => gzipSync(archive.subarray(512 * i, 512 * i + 512))),
      ),
      '+gzip',
    ),
    { entries: 1, between: true },
  ],
  [
    'zstd between entries',
    blob(
      Buffer.concat([
        zstdCompressSync(archive.subarray(0, CUT)),
        skippable(9),
        zstdCompressSync(archive.subarray(CUT)),
      ]),
      '+zstd',
    ),
    { entries: 2, between: true },
  ],
  [
    'zstd behind a skippable frame',
    blob(Buffer.concat([skippable(9), zstdCompressSync(archive)]), '+zstd'),
    { entries: 0, between: true },
  ],
  [
    'zstd behind an empty one',
    blob(Buffer.concat([skippable(0), zstdCompressSync(archive)]), '+zstd'),
    { entries: 0, between: true },
  ],
  [
    'zstd inside an entry',
    blob(Buffer.concat([zstdCompressSync(archive.subarray(0, 700)), zstdCompressSync(archive.subarray(700))]), '+zstd'),
    { entries: 1, between: false },
  ],
];
for (const [name, of, first] of members)
  test(`several members, ${name}: all are read, the first one's end is told`, async () => {
    for (const size of [1, 100, 65536]) {
      const layer = await read(of, { size });
      assert.deepEqual(
        layer.entries.map((entry) => entry.name),
        names,
      );
      assert.deepEqual([layer.diffId, layer.first], [digestOf(archive), first]);
    }
  });

test('what comes after the first member is missing on ostree and composefs, there in a plain unpacker, and warned of', async () => {
  const layer = await read(members[0]![1]);
  const facts = { labels: new Map(), diffIds: [layer.diffId], dockerInLayout: false };
  const paths = (rule: 'ostree/1' | 'composefs/1' | 'oci') =>
    deploy([layer], facts, rule).entries.map((entry) => entry.path);
  assert.deepEqual(paths('ostree/1'), ['/usr', '/usr/a']);
  assert.deepEqual(paths('composefs/1'), ['/usr', '/usr/a']);
  assert.deepEqual(paths('oci'), ['/usr', '/usr/a', '/usr/b', '/usr/c']);
  const [warning] = deploy([layer], facts, 'ostree/1').warnings;
  assert.deepEqual([warning?.code, warning?.layer], ['GZIP_MEMBERS_LOST', 0]);
});

test('of several zstd frames ostree reads all, composefs the first', async () => {
  const layer = await read(members[4]![1]);
  const facts = { labels: new Map(), diffIds: [layer.diffId], dockerInLayout: false };
  assert.equal(deploy([layer], facts, 'ostree/1').entries.length, 4);
  const composefs = deploy([layer], facts, 'composefs/1');
  assert.equal(composefs.entries.length, 2);
  assert.ok(composefs.warnings.some(({ code }) => code === 'ZSTD_FRAMES_LOST'));
});

test('composefs takes a skippable frame for the first one, and so sees nothing behind it', async () => {
  // Run with composefs-rs 0.7.0: "Directory entry "usr" does not exist".
  const layer = await read(blob(Buffer.concat([skippable(9), zstdCompressSync(archive)]), '+zstd'));
  const facts = { labels: new Map(), diffIds: [layer.diffId], dockerInLayout: false };
  throwsCode(() => deploy([layer], facts, 'composefs/1'), BackendError, 'USR_MISSING');
  for (const rule of ['ostree/1', 'oci'] as const) assert.equal(deploy([layer], facts, rule).entries.length, 4);
});

test('the diffID counts every byte behind the end of the archive', async () => {
  const long = Buffer.concat([archive, Buffer.alloc(20_000)]);
  assert.equal((await read(blob(gzipSync(long), '+gzip', long))).diffId, digestOf(long));
});

test('a wrong diffID is a warning on hosts, which do not check it', async () => {
  const layer = await read({ ...blob(archive, ''), diffId: digestOf(Buffer.from('other')) });
  const facts = { labels: new Map(), diffIds: [layer.declaredDiffId!], dockerInLayout: false };
  for (const rule of ['ostree/1', 'composefs/1'] as const)
    assert.ok(
      deploy([layer], facts, rule).warnings.some(({ code, layer }) => code === 'DIFFID_MISMATCH' && layer === 0),
    );
});

const gz = gzipSync(archive);
const zst = zstdCompressSync(archive);
const flip = (data: Buffer, at: number): Buffer => {
  const copy = Buffer.from(data);
  copy[at < 0 ? data.length + at : at]! ^= 0x55;
  return copy;
};
/** One zstd frame with a header of its own making, around one raw block (RFC 8878, 3.1.1). */
function rawFrame(...header: number[]): Buffer {
  const block = Buffer.alloc(3);
  block.writeUIntLE(1 | (archive.length << 3), 0, 3);
  return Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd, ...header]), block, archive]);
}
test('zstd with a window of 128 MiB is read, as the importers read it', async () => {
  assert.equal((await read(blob(rawFrame(0, 17 << 3), '+zstd'))).diffId, digestOf(archive));
});
test('the table behind zstd:chunked loses nothing', async () => {
  const chunked = Buffer.concat([zst, skippable(9), skippable(70_000)]);
  const layer = await read(blob(chunked, '+zstd'));
  assert.deepEqual([layer.first, layer.diffId], [undefined, digestOf(archive)]);
});

const refused: readonly (readonly [string, Blob, ImageError['code']])[] = [
  ['zstd with a window of 2 GiB', blob(rawFrame(0, 21 << 3), '+zstd'), 'COMPRESSION_DAMAGED'],
  ['zstd with a dictionary that nobody has', blob(rawFrame(1, 10 << 3, 7), '+zstd'), 'COMPRESSION_DAMAGED'],
  [
    'zstd cut inside a skippable frame',
    blob(Buffer.concat([zst, skippable(900).subarray(0, 500)]), '+zstd'),
    'COMPRESSION_DAMAGED',
  ],
  ['gzip declared as plain', blob(gz, ''), 'COMPRESSION_MISMATCH'],
  ['zstd declared as plain', blob(zst, ''), 'COMPRESSION_MISMATCH'],
  ['zstd declared as gzip', blob(zst, '+gzip'), 'COMPRESSION_MISMATCH'],
  ['gzip declared as zstd', blob(gz, '+zstd'), 'COMPRESSION_MISMATCH'],
  ['plain declared as gzip', blob(archive, '+gzip'), 'COMPRESSION_MISMATCH'],
  ['nothing declared as gzip', blob(Buffer.alloc(0), '+gzip'), 'COMPRESSION_MISMATCH'],
  [
    'an unknown media type',
    { ...blob(archive, ''), mediaType: 'application/vnd.oci.image.layer.v1.tar+xz' },
    'LAYER_MEDIA_TYPE',
  ],
  ['a gzip header cut', blob(gz.subarray(0, 8), '+gzip'), 'COMPRESSION_DAMAGED'],
  [
    'a gzip name without end',
    blob(Buffer.concat([Buffer.from([0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3]), Buffer.alloc(300_000, 0x61)]), '+gzip'),
    'COMPRESSION_DAMAGED',
  ],
  ['a gzip method of its own', blob(flip(gz, 2), '+gzip'), 'COMPRESSION_DAMAGED'],
  ['deflate data damaged', blob(flip(gz, 30), '+gzip'), 'COMPRESSION_DAMAGED'],
  ['gzip cut in the data', blob(gz.subarray(0, gz.length - 20), '+gzip'), 'COMPRESSION_DAMAGED'],
  ['gzip cut in the trailer', blob(gz.subarray(0, gz.length - 3), '+gzip'), 'COMPRESSION_DAMAGED'],
  ['a wrong gzip checksum', blob(flip(gz, -5), '+gzip'), 'COMPRESSION_DAMAGED'],
  ['a wrong gzip length', blob(flip(gz, -1), '+gzip'), 'COMPRESSION_DAMAGED'],
  [
    'a second member damaged',
    blob(Buffer.concat([gzipSync(archive.subarray(0, CUT)), flip(gzipSync(archive.subarray(CUT)), -5)]), '+gzip'),
    'COMPRESSION_DAMAGED',
  ],
  ['bytes behind gzip', blob(Buffer.concat([gz, Buffer.from('x')]), '+gzip'), 'COMPRESSION_TRAILING'],
  ['zeros behind gzip', blob(Buffer.concat([gz, Buffer.alloc(512)]), '+gzip'), 'COMPRESSION_TRAILING'],
  [
    'zeros behind a second member',
    blob(
      Buffer.concat([gzipSync(archive.subarray(0, CUT)), gzipSync(archive.subarray(CUT)), Buffer.alloc(9)]),
      '+gzip',
    ),
    'COMPRESSION_TRAILING',
  ],
  ['zstd damaged', blob(flip(zst, 12), '+zstd'), 'COMPRESSION_DAMAGED'],
  ['zstd cut', blob(zst.subarray(0, zst.length - 3), '+zstd'), 'COMPRESSION_DAMAGED'],
  ['bytes behind zstd', blob(Buffer.concat([zst, Buffer.from('junk')]), '+zstd'), 'COMPRESSION_DAMAGED'],
  ['an archive cut', blob(gzipSync(archive.subarray(0, 2000)), '+gzip'), 'TAR_TRUNCATED'],
];
for (const [name, of, code] of refused)
  test(`refuses ${name}, naming the layer`, async () => {
    for (const size of [of.bytes.length > 100_000 ? 5000 : 1, 65536])
      await assert.rejects(read(of, { index: 3, size }), (error) => {
        assert.ok(error instanceof ImageError, String(error));
        assert.equal(error.code, code, error.message);
        assert.match(error.message, /^layer 3 /);
        return true;
      });
  });

test('a layer that is mostly zeros is read: 80 MiB of them are no bomb', async () => {
  const zeros = Buffer.concat([member(file('usr/zero', '', { size: 80 * 2 ** 20 })), Buffer.alloc(80 * 2 ** 20), END]);
  for (const bytes of [blob(gzipSync(zeros), '+gzip', zeros), blob(zstdCompressSync(zeros), '+zstd', zeros)])
    assert.equal((await read(bytes)).entries[0]?.sha256, sha256(Buffer.alloc(80 * 2 ** 20)));
});

test('a gzip bomb ends where its ratio counts, a zstd bomb too, and sooner where fewer bytes are allowed', async () => {
  const zeros = Buffer.concat([member(file('usr/zero', '', { size: 20 * 2 ** 20 })), Buffer.alloc(20 * 2 ** 20), END]);
  for (const bomb of [blob(gzipSync(zeros), '+gzip'), blob(zstdCompressSync(zeros), '+zstd')]) {
    const limits = { ...IMAGE_LIMITS, layerRatioFrom: 16 * 2 ** 20 };
    await rejectsCode(() => read(bomb, { limits }), ImageError, 'LIMIT_RATIO');
    const fewer = { ...limits, layerBytes: 8 * 2 ** 20 };
    await rejectsCode(() => read(bomb, { limits: fewer }), ImageError, 'LIMIT_BYTES');
  }
});

test('a layer of more bytes than allowed ends there', async () => {
  await rejectsCode(
    () => read(blob(gz, '+gzip'), { limits: { ...IMAGE_LIMITS, layerBytes: 5000 } }),
    ImageError,
    'LIMIT_BYTES',
  );
});

test('an error of the blob passes through, and its iterator is returned when reading stops', async () => {
  const cause = new Error('digest mismatch');
  async function* failing() {
    yield gz.subarray(0, 50);
    throw cause;
  }
  const source = { index: 0, digest: digestOf(gz), mediaType: `${PLAIN}+gzip`, diffId: undefined };
  await assert.rejects(readLayer(source, failing()), (error) => error === cause);
  let returned = false;
  async function* endless() {
    try {
      yield Buffer.from('not gzip at all');
      for (;;) yield Buffer.alloc(1000);
    } finally {
      returned = true;
    }
  }
  await rejectsCode(() => readLayer(source, endless()), ImageError, 'COMPRESSION_MISMATCH');
  assert.ok(returned);
});

test('Docker media types in a layout deploy on ostree only, foreign layers not there', async () => {
  const { layers, facts } = await image([[dir('usr'), file('usr/a')]]);
  assert.equal(deploy(layers, { ...facts, dockerInLayout: true }, 'ostree/1').entries.length, 2);
  for (const rule of ['composefs/1', 'oci'] as const)
    assert.throws(() => deploy(layers, { ...facts, dockerInLayout: true }, rule), /DOCKER|Docker/);
  const foreign = [{ ...layers[0]!, mediaType: 'application/vnd.oci.image.layer.nondistributable.v1.tar' }];
  assert.throws(() => deploy(foreign, facts, 'ostree/1'), /nondistributable/);
  assert.equal(deploy(foreign, facts, 'composefs/1').entries.length, 2);
});

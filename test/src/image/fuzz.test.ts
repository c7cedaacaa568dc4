/** Damaged layers: whatever bytes change, a layer is read or refused with a code; nothing else is thrown, and nothing goes on for ever. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { BackendError, deploy, RULES } from '#src/image/backend.ts';
import { ImageError, type Layer } from '#src/image/layer.ts';
import { IMAGE_LIMITS, type ImageLimits } from '#src/limits.ts';
import { deep } from '#test/depth.ts';
import { dir, END, file, hardlink, member, PLAIN, digestOf, read, record, symlink, tar } from './archive.ts';

const pax = (...records: Buffer[]): Buffer => member({ name: 'pax', type: 'x', data: Buffer.concat(records) });
const S = { type: 'S', magic: 'gnu' } as const;
const sparse = (header: Buffer) => {
  header.write('00000000000\0'.repeat(2), 386, 'latin1');
  header.write('00000001000\0', 483, 'latin1');
};
/** Something of everything that the reader knows. */
const ARCHIVE = tar(
  [
    dir('./'),
    dir('usr/'),
    dir('usr/share', { mode: 0o2755, gid: 3 }),
    dir('etc'),
    file('usr/share/f', 'content'.repeat(100)),
    symlink('usr/share/l', '../f'),
    hardlink('usr/share/h', 'usr/share/f'),
    pax(record('path', `usr/${'n'.repeat(120)}`), record('uid', '70000'), record('SCHILY.xattr.user.x', 'y')),
    file('cut', 'x'),
    member({ name: '././@LongLink', type: 'L', magic: 'gnu', data: `usr/${'m'.repeat(120)}\0` }),
    file('cut', 'x', { magic: 'gnu' }),
    file('usr/sparse', '', { ...S, patch: sparse }),
    pax(record('GNU.sparse.major', '1'), record('GNU.sparse.minor', '0'), record('GNU.sparse.realsize', '600')),
    file('usr/s1', `1\n100\n3\n${'\0'.repeat(504)}abc`),
    pax(record('GNU.sparse.size', '9'), record('GNU.sparse.map', '0,1,5,1')),
    file('usr/s0', 'ab'),
    file('usr/dev', '', { type: '3', device: [1, 3] }),
    file('pax_global_header', record('comment', 'x').toString(), { type: 'g' }),
    file('usr/share/.wh.gone'),
    file('usr/share/.wh..wh..opq'),
  ],
  END,
);
const LIMITS: ImageLimits = { ...IMAGE_LIMITS, layerBytes: 2 ** 20, layerHoleBytes: 2 ** 20, treeNodes: 10_000 };

const change = (length: number) =>
  fc.oneof(
    fc.record({ kind: fc.constant('set'), at: fc.nat(length - 1), value: fc.nat(255) }),
    // Bytes that mean something in a header, more often than chance would have them there.
    fc.record({
      kind: fc.constant('set'),
      at: fc
        .nat(length / 512 - 1)
        .chain((block) =>
          fc
            .constantFrom(0, 100, 108, 124, 125, 135, 136, 156, 157, 257, 263, 329, 345, 386, 482, 504)
            .map((at) => block * 512 + at),
        ),
      value: fc.constantFrom(0, 0x20, 0x2f, 0x30, 0x37, 0x39, 0x78, 0x67, 0x4c, 0x53, 0x80, 0xff),
    }),
    fc.record({ kind: fc.constantFrom('double', 'drop', 'cut'), at: fc.nat(length / 512 - 1), value: fc.constant(0) }),
  );

function changed(
  archive: Buffer,
  changes: readonly { kind: string; at: number; value: number }[],
  repair: boolean,
): Buffer {
  let out = Buffer.from(archive);
  for (const { kind, at, value } of changes) {
    const [before, block, after] = [
      out.subarray(0, at * 512),
      out.subarray(at * 512, at * 512 + 512),
      out.subarray(at * 512 + 512),
    ];
    if (kind === 'set') out[at % out.length] = value;
    else if (kind === 'double') out = Buffer.concat([before, block, block, after]);
    else if (kind === 'drop') out = Buffer.concat([before, after]);
    else out = Buffer.from(out.subarray(0, at * 512 + 100));
    if (out.length === 0) return out;
  }
  // With its checksum right, a changed header gets as far as its fields.
  if (repair)
    for (let at = 0; at + 512 <= out.length; at += 512) {
      if (out.toString('latin1', at + 257, at + 262) !== 'ustar') continue;
      out.fill(0x20, at + 148, at + 156);
      const sum = out.subarray(at, at + 512).reduce((a, b) => a + b, 0);
      out.write(`${sum.toString(8).padStart(6, '0')}\0 `, at + 148, 'latin1');
    }
  return out;
}

/** What is made of the bytes, with the code of every refusal. */
async function outcome(bytes: Buffer, mediaType: string, size: number): Promise<string> {
  let layer: Layer;
  try {
    layer = await read({ bytes, mediaType, diffId: digestOf(bytes) }, { limits: LIMITS, size });
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    assert.match(error.message, /^layer 0 \(sha256:[0-9a-f]{64}\): entry [0-9]+/);
    return error.code;
  }
  const facts = { labels: new Map<string, string>(), diffIds: [layer.diffId], dockerInLayout: false };
  return RULES.map((rule) => {
    try {
      return deploy([{ ...layer, declaredDiffId: layer.diffId }], facts, rule, LIMITS).entries.length;
    } catch (error) {
      if (!(error instanceof BackendError)) throw error;
      return error.code;
    }
  }).join(' ');
}

test('any change of an archive ends in a tree or a code, however the bytes come', { timeout: 300_000 }, async () => {
  const told = new Set<string>();
  await fc.assert(
    fc.asyncProperty(
      fc.array(change(ARCHIVE.length), { minLength: 1, maxLength: 4 }),
      fc.boolean(),
      async (changes, repair) => {
        const bytes = changed(ARCHIVE, changes, repair);
        const found = await outcome(bytes, PLAIN, 65_536);
        assert.equal(await outcome(bytes, PLAIN, 77), found);
        told.add(found.split(' ')[0]!);
      },
    ),
    { numRuns: deep(600, 200) },
  );
  assert.ok(told.size > deep(8, 4), [...told].join());
});

for (const [name, compress] of [
  ['gzip', gzipSync],
  ['zstd', zstdCompressSync],
] as const)
  test(`any change of a ${name} blob does, too`, { timeout: 300_000 }, async () => {
    const blob = compress(ARCHIVE);
    const set = fc.record({ kind: fc.constant('set'), at: fc.nat(blob.length - 1), value: fc.nat(255) });
    await fc.assert(
      fc.asyncProperty(fc.array(set, { minLength: 1, maxLength: 3 }), fc.nat(blob.length), async (changes, cut) => {
        const bytes = changed(blob, changes, false);
        await outcome(bytes, `${PLAIN}+${name}`, 65_536);
        await outcome(bytes.subarray(0, cut), `${PLAIN}+${name}`, 100);
      }),
      { numRuns: deep(120, 40) },
    );
  });

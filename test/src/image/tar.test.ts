/** The tar reader: every spelling of the same fact, and what no two programs read alike. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { fromUtf8 } from '#src/bytes.ts';
import { ImageError } from '#src/image/layer.ts';
import { FLAG, type TarEntry } from '#src/image/tarentry.ts';
import { IMAGE_LIMITS, type ImageLimits } from '#src/limits.ts';
import { rejectsCode } from '#test/throws.ts';
import { deep } from '#test/depth.ts';
import { dir, END, file, hardlink, member, read, record, sha256, symlink, tar, type Member } from './archive.ts';

type Shown = Partial<TarEntry>;
async function entries(archive: Buffer, size?: number): Promise<readonly TarEntry[]> {
  return (await read(archive, size === undefined ? {} : { size })).entries;
}
async function one(...members: (Member | Buffer)[]): Promise<TarEntry> {
  const found = await entries(tar(members));
  assert.equal(found.length, 1);
  return found[0]!;
}

const gnuLong = (type: 'L' | 'K', text: string): Buffer =>
  member({ name: '././@LongLink', type, magic: 'gnu', data: `${text}\0` });
const pax = (...records: Buffer[]): Buffer => member({ name: 'pax', type: 'x', data: Buffer.concat(records) });
const base256 = (at: number, length: number, value: number) => (header: Buffer) => {
  header.fill(0, at, at + length);
  header[at] = 0x80;
  header.writeUIntBE(value, at + length - 6, 6);
};
const put = (at: number, text: string) => (header: Buffer) => void header.write(text, at, 'latin1');

const LONG = `usr/${'d'.repeat(120)}/f`;
const same: readonly (readonly [string, readonly (Member | Buffer)[], Shown])[] = [
  [
    'a plain file',
    [file('a', 'hi', { mode: 0o640, uid: 1, gid: 2 })],
    { name: 'a', mode: 0o640, uid: 1, gid: 2, size: 2, sha256: sha256('hi') },
  ],
  ['an empty file', [file('a')], { size: 0, sha256: sha256('') }],
  ['type NUL of v7', [file('a', 'x', { type: '\0', magic: 'v7' })], { type: 'file', size: 1, typeflag: 0 }],
  ['type 7', [file('a', 'x', { type: '7' })], { type: 'file', size: 1, typeflag: 0x37 }],
  ['a directory', [dir('d/')], { type: 'dir', name: 'd/', mode: 0o755, sha256: '' }],
  ['a symlink', [symlink('l', '../x')], { type: 'symlink', link: '../x' }],
  ['a hard link', [hardlink('l', './x')], { type: 'hardlink', link: './x' }],
  ['a character device', [file('n', '', { type: '3', device: [5, 260] })], { type: 'char', device: '5:260' }],
  ['a block device', [file('n', '', { type: '4', device: [8, 1] })], { type: 'block', device: '8:1' }],
  ['a FIFO', [file('p', '', { type: '6' })], { type: 'fifo' }],
  [
    'a PAX global header',
    [file('pax_global_header', record('comment', 'x').toString(), { type: 'g' })],
    { type: 'global' },
  ],
  ['the ustar prefix', [file('f', '', { prefix: 'usr/p' })], { name: 'usr/p/f' }],
  ['no prefix in a GNU header', [file('f', '', { prefix: 'usr/p', magic: 'gnu' })], { name: 'f' }],
  ['a GNU long name', [gnuLong('L', LONG), file('cut', 'x')], { name: LONG, size: 1 }],
  ['a GNU long link', [gnuLong('K', LONG), symlink('l', 'cut')], { link: LONG }],
  [
    'both, and a PAX header that says the same',
    [gnuLong('L', LONG), gnuLong('K', LONG), pax(record('path', LONG)), symlink('l', 'cut')],
    { name: LONG, link: LONG },
  ],
  ['a PAX path', [pax(record('path', LONG)), file('cut')], { name: LONG }],
  ['a PAX link path', [pax(record('linkpath', LONG)), hardlink('l', 'cut')], { link: LONG }],
  ['a name that is no UTF-8, bytes kept', [file('', '', { name: 'a\xff\xfe' })], { name: 'a\xff\xfe' }],
  ['a PAX path in UTF-8', [pax(record('path', fromUtf8('ü/日'))), file('x')], { name: fromUtf8('ü/日') }],
  ['a name of exactly 100 bytes', [file('n'.repeat(100))], { name: 'n'.repeat(100) }],
  [
    'PAX ids and size',
    [pax(record('uid', '3000000'), record('gid', '4000000000'), record('size', '3')), file('f', 'abc', { size: 0 })],
    { uid: 3_000_000, gid: 4_000_000_000, size: 3, sha256: sha256('abc') },
  ],
  [
    'base-256 ids',
    [file('f', '', { patch: (h) => (base256(108, 8, 3_000_000)(h), base256(116, 8, 0xffff_fffe)(h)) })],
    { uid: 3_000_000, gid: 0xffff_fffe },
  ],
  ['a base-256 size', [file('f', 'abcd', { patch: base256(124, 12, 4) })], { size: 4, sha256: sha256('abcd') }],
  ['numbers between blanks', [file('f', 'abcd', { patch: put(124, '         4 \0') })], { size: 4 }],
  ['empty numbers are 0', [file('f', '', { patch: (h) => void h.fill(0, 108, 124) })], { uid: 0, gid: 0 }],
  ['file type bits in the mode', [file('f', '', { mode: 0o104755 & 0o777777 })], { mode: 0o4755 }],
  [
    'a capability, as raw bytes',
    [pax(record('SCHILY.xattr.security.capability', Uint8Array.of(1, 0, 0, 2, 0xff))), file('f')],
    { capability: Buffer.from([1, 0, 0, 2, 0xff]).toString('base64'), flags: 0 },
  ],
  [
    'other xattrs, as a flag',
    [pax(record('SCHILY.xattr.user.x', '')), file('f')],
    { flags: FLAG.otherXattrs | FLAG.userXattr | FLAG.emptyXattr },
  ],
  [
    'an xattr of a namespace that there is not',
    [pax(record('SCHILY.xattr.a.b', 'x')), file('f')],
    { flags: FLAG.otherXattrs | FLAG.foreignXattr },
  ],
  [
    'an xattr that cannot be',
    [pax(record('SCHILY.xattr.trusted.', 'x')), file('f')],
    { flags: FLAG.otherXattrs | FLAG.badXattr },
  ],
  ['an SELinux label, not even that', [pax(record('SCHILY.xattr.security.selinux', 'x')), file('f')], { flags: 0 }],
  ['a newline in a PAX value', [pax(record('comment', 'a\nb')), file('f')], { flags: FLAG.paxNewline }],
  ['a time after 1970', [file('f', '', { mtime: 1 })], { flags: FLAG.modified }],
  ['a PAX time before 1970', [pax(record('mtime', '-1.5')), file('f')], { flags: FLAG.oddTime }],
  ['a PAX time that is none', [pax(record('mtime', 'x')), file('f')], { flags: FLAG.oddTime | FLAG.oddForGo }],
  ['another PAX time that is none', [pax(record('ctime', '1.5x')), file('f')], { flags: FLAG.oddForGo }],
  ['an owner’s name with a NUL byte', [pax(record('uname', 'a\0b')), file('f')], { flags: FLAG.oddForGo }],
  ['a time in the header that is none', [file('f', '', { patch: put(136, 'zzz') })], { flags: FLAG.oddNumber }],
  ['a device number that is none', [file('f', '', { patch: put(337, '9') })], { flags: FLAG.oddNumber }],
  ['no device number where there is none', [file('f', '', { patch: put(337, '9'), magic: 'v7' })], { flags: 0 }],
  [
    'a negative time in base 256',
    [file('f', '', { patch: (h) => void h.fill(0xff, 136, 148) })],
    { flags: FLAG.modified },
  ],
  ['a PAX header without records', [pax(), file('f')], { name: 'f' }],
  ['a fractional PAX time', [pax(record('mtime', '1.5')), file('f')], { flags: 0 }],
  [
    'PAX records of no meaning here',
    [pax(record('atime', '1'), record('uname', 'x'), record('x', '')), file('f')],
    { flags: 0 },
  ],
];
for (const [name, members, expected] of same)
  test(`reads ${name}`, async () => {
    const entry = await one(...members);
    assert.deepEqual(
      Object.fromEntries(Object.keys(expected).map((key) => [key, entry[key as keyof TarEntry]])),
      expected,
    );
  });

const CONTENT = Buffer.concat([
  Buffer.alloc(1000),
  Buffer.from('first'),
  Buffer.alloc(7000),
  Buffer.from('second'),
  Buffer.alloc(50),
]);
const STORED = 'firstsecond';
const octal = (value: number) => value.toString(8).padStart(11, '0');
const gnuSparse =
  (map: readonly (readonly [number, number])[], realSize: number, more = false) =>
  (header: Buffer) => {
    map.forEach(([offset, length], i) => header.write(`${octal(offset)}\0${octal(length)}\0`, 386 + 24 * i, 'latin1'));
    header[482] = more ? 1 : 0;
    header.write(`${octal(realSize)}\0`, 483, 'latin1');
  };
function extension(map: readonly (readonly [number, number])[], more = false): Buffer {
  const block = Buffer.alloc(512);
  map.forEach(([offset, length], i) => block.write(`${octal(offset)}\0${octal(length)}\0`, 24 * i, 'latin1'));
  block[504] = more ? 1 : 0;
  return block;
}
const MAP = [
  [1000, 5],
  [8005, 6],
  [8061, 0],
] as const;
const version = (major: string, minor: string) => [
  record('GNU.sparse.major', major),
  record('GNU.sparse.minor', minor),
];
const mapText = (...numbers: number[]) => numbers.map((n) => `${n}\n`).join('');
const filled = (text: string) => text + '\0'.repeat((512 - (text.length % 512)) % 512);
const S: Partial<Member> = { type: 'S', magic: 'gnu' };

const sparse: readonly (readonly [string, readonly (Member | Buffer)[]])[] = [
  ['old GNU', [file('f', STORED, { ...S, patch: gnuSparse(MAP, 8061) })]],
  [
    'old GNU with extension blocks',
    [
      Buffer.concat([
        member(file('f', '', { ...S, size: STORED.length, patch: gnuSparse([], 8061, true) })),
        extension(MAP.slice(0, 1), true),
        extension(MAP.slice(1)),
        member(file('body', STORED)).subarray(512),
      ]),
    ],
  ],
  [
    'PAX 0.0',
    [
      pax(
        record('GNU.sparse.size', '8061'),
        record('GNU.sparse.numblocks', '3'),
        ...MAP.flatMap(([o, l]) => [record('GNU.sparse.offset', `${o}`), record('GNU.sparse.numbytes', `${l}`)]),
      ),
      file('f', STORED),
    ],
  ],
  [
    'PAX 0.1',
    [
      pax(
        record('GNU.sparse.size', '8061'),
        record('GNU.sparse.map', MAP.flat().join()),
        record('GNU.sparse.name', 'f'),
      ),
      file('GNUSparseFile.1/f', STORED),
    ],
  ],
  [
    'PAX 1.0',
    [
      pax(...version('1', '0'), record('GNU.sparse.realsize', '8061'), record('GNU.sparse.name', 'f')),
      file('GNUSparseFile.1/f', filled(mapText(3, ...MAP.flat())) + STORED),
    ],
  ],
];
for (const [name, members] of sparse)
  test(`a sparse file (${name}) has the content that it stands for`, async () => {
    for (const size of [1, 7, 512, 65536]) {
      const [entry, after] = await entries(tar([...members, file('after', 'x')]), size);
      assert.deepEqual([entry?.name, entry?.size, entry?.sha256], ['f', 8061, sha256(CONTENT)]);
      assert.deepEqual([after?.name, after?.size], ['after', 1]);
    }
  });

test('a sparse file may be all hole', async () => {
  const entry = await one(file('f', '', { ...S, patch: gnuSparse([], 1_000_000) }));
  assert.deepEqual([entry.size, entry.sha256], [1_000_000, sha256(Buffer.alloc(1_000_000))]);
});

test('the end may be two zero blocks, none, or many; one is told', async () => {
  for (const [end, half] of [
    [END, false],
    [Buffer.alloc(0), false],
    [Buffer.alloc(10240), false],
    [Buffer.alloc(512), true],
  ] as const) {
    const layer = await read(tar([file('a', 'x')], end));
    assert.equal(layer.entries.length, 1);
    assert.equal(layer.halfEnd, half);
  }
  assert.equal((await read(Buffer.alloc(0))).entries.length, 0);
});

test('bytes in any pieces give the same entries', async () => {
  const archive = tar([
    dir('d'),
    ...same.flatMap(([, members]) => members),
    ...sparse.flatMap(([, members]) => members),
  ]);
  const whole = await entries(archive);
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 5000 }), async (size) =>
      assert.deepEqual(await entries(archive, size), whole),
    ),
    { numRuns: 30 },
  );
});

test('what is written is what is read', async () => {
  const name = fc
    .string({
      unit: fc.integer({ min: 1, max: 255 }).map((byte) => String.fromCharCode(byte)),
      minLength: 1,
      maxLength: 250,
    })
    .filter((n) => !n.split('/').some((part) => part.length > 255));
  const made = fc.record({
    name,
    data: fc.uint8Array({ maxLength: 3000 }),
    mode: fc.integer({ min: 0, max: 0o7777 }),
    uid: fc.nat(0o7777777),
    gid: fc.nat(0o7777777),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(made, { maxLength: 20 }), fc.integer({ min: 1, max: 3000 }), async (members, size) => {
      const found = await entries(tar(members), size);
      assert.deepEqual(
        found.map(({ name, sha256, size, mode, uid, gid }) => ({ name, sha256, size, mode, uid, gid })),
        members.map(({ name, data, mode, uid, gid }) => ({
          name,
          sha256: sha256(data),
          size: data.length,
          mode,
          uid,
          gid,
        })),
      );
    }),
    { numRuns: deep(60, 30) },
  );
});

test('random bytes are refused or read, never more', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.uint8Array({ maxLength: 3000 }),
      fc.nat(),
      fc.integer({ min: 0, max: 255 }),
      async (noise, at, byte) => {
        const archive = tar(same.slice(0, 24).flatMap(([, members]) => members));
        archive[at % archive.length] = byte;
        for (const bytes of [Buffer.from(noise), archive, archive.subarray(0, at % archive.length)])
          await entries(bytes).catch((error: unknown) => assert.ok(error instanceof ImageError, String(error)));
      },
    ),
    { numRuns: deep(200, 60) },
  );
});

const small: ImageLimits = {
  ...IMAGE_LIMITS,
  layerEntries: 3,
  paxBytes: 2000,
  heldBytes: 500,
  layerHoleBytes: 10_000,
  sparsePieces: 5,
};
const refused: readonly (readonly [string, Buffer, ImageError['code'], RegExp?])[] = [
  ['random bytes', Buffer.alloc(1024, 0x61), 'TAR_CHECKSUM'],
  ['a wrong checksum', tar([file('ok'), file('a', '', { checksum: 5 })]), 'TAR_CHECKSUM', /entry 1/],
  ['a mode that is no number', tar([file('a', '', { patch: put(100, '00x0644\0') })]), 'TAR_NUMBER'],
  ['a decimal size', tar([file('a', '', { patch: put(124, '00000000009\0') })]), 'TAR_NUMBER'],
  ['a negative size', tar([file('a', '', { patch: (h) => void h.fill(0xff, 124, 136) })]), 'TAR_NUMBER'],
  ['a size beyond 2^53', tar([file('a', '', { patch: (h) => void h.fill(0x80, 124, 136) })]), 'TAR_NUMBER'],
  ['a uid beyond 32 bits', tar([file('a', '', { patch: base256(108, 8, 2 ** 33) })]), 'TAR_NUMBER'],
  ['a PAX uid beyond 32 bits', tar([pax(record('uid', '4294967296')), file('a')]), 'TAR_NUMBER'],
  ['a PAX size that is no number', tar([pax(record('size', '0x10')), file('a')]), 'TAR_PAX'],
  ['a PAX record with a wrong length', tar([pax(Buffer.from('20 path=a\n')), file('a')]), 'TAR_PAX'],
  ['a PAX record of length 0', tar([pax(Buffer.from('0 path=a\n')), file('a')]), 'TAR_PAX'],
  ['a PAX record without =', tar([pax(Buffer.from('9 abcdef\n')), file('a')]), 'TAR_PAX'],
  ['a PAX record without newline', tar([pax(Buffer.from('9 path=ab')), file('a')]), 'TAR_PAX'],
  ['bytes behind the PAX records', tar([pax(record('x', 'y'), Buffer.from('\0')), file('a')]), 'TAR_PAX'],
  ['an empty PAX path', tar([pax(record('path', '')), file('a')]), 'TAR_PAX'],
  ['an empty GNU long name', tar([member({ name: 'p', type: 'L', magic: 'gnu' }), file('a')]), 'TAR_PAX'],
  ['two PAX headers, the first empty', tar([pax(), pax(record('uid', '7')), file('a')]), 'TAR_AMBIGUOUS'],
  ['the uid that is none', tar([pax(record('uid', '4294967295')), file('a')]), 'TAR_NUMBER'],
  ['a PAX key with a NUL byte', tar([pax(record('SCHILY.xattr.user.a\0b', 'x')), file('a')]), 'TAR_PAX'],
  ['two PAX paths', tar([pax(record('path', 'a'), record('path', 'b')), file('a')]), 'TAR_AMBIGUOUS'],
  ['two PAX sizes', tar([pax(record('size', '0'), record('size', '512')), file('a')]), 'TAR_AMBIGUOUS'],
  [
    'two capabilities',
    tar([
      pax(record('SCHILY.xattr.security.capability', 'a'), record('SCHILY.xattr.security.capability', 'b')),
      file('a'),
    ]),
    'TAR_AMBIGUOUS',
  ],
  ['two PAX headers', tar([pax(record('path', 'a')), pax(record('path', 'b')), file('a')]), 'TAR_AMBIGUOUS'],
  ['two long names', tar([gnuLong('L', 'a'), gnuLong('L', 'b'), file('a')]), 'TAR_AMBIGUOUS'],
  ['a GNU and a PAX name that differ', tar([gnuLong('L', 'a'), pax(record('path', 'b')), file('a')]), 'TAR_AMBIGUOUS'],
  [
    'a GNU and a PAX target that differ',
    tar([gnuLong('K', 'a'), pax(record('linkpath', 'b')), symlink('l', 'x')]),
    'TAR_AMBIGUOUS',
  ],
  [
    'a global header inside an entry',
    tar([pax(record('path', 'a')), file('g', 'x', { type: 'g' }), file('a')]),
    'TAR_AMBIGUOUS',
  ],
  [
    'an extended header of v7',
    tar([member({ name: 'p', type: 'x', magic: 'v7', data: record('path', 'a') }), file('a')]),
    'TAR_TYPE',
  ],
  ...['D', 'M', 'N', 'V', 'X', 'A'].map(
    (type) => [`type ${type}`, tar([file('a', '', { type, magic: 'gnu' })]), 'TAR_TYPE'] as const,
  ),
  ['an S that is not GNU', tar([file('a', '', { type: 'S' })]), 'TAR_TYPE'],
  ...['1', '2', '3', '4', '5', '6'].map(
    (type) => [`type ${type} with a body`, tar([file('a', 'x', { type, link: 'b' })]), 'TAR_SIZE'] as const,
  ),
  ['a directory with a PAX size', tar([pax(record('size', '512')), dir('d')]), 'TAR_SIZE'],
  ['no name', tar([file('')]), 'TAR_NAME'],
  ['a name with a NUL', tar([pax(record('path', 'a\0b')), file('a')]), 'TAR_NAME'],
  ['a long name with a NUL', tar([gnuLong('L', 'a\0b'), file('a')]), 'TAR_NAME'],
  ['a name of 4,096 bytes', tar([file('a/'.repeat(2048))]), 'TAR_NAME'],
  ['a file name of 256 bytes', tar([file(`usr/${'n'.repeat(256)}/f`)]), 'TAR_NAME'],
  ['a symlink to nothing', tar([symlink('l', '')]), 'TAR_LINK'],
  ['a hard link to nothing', tar([hardlink('l', '')]), 'TAR_LINK'],
  ['a target of 4,096 bytes', tar([symlink('l', 'a'.repeat(4096))]), 'TAR_LINK'],
  ['a target with a NUL', tar([pax(record('linkpath', 'a\0b')), symlink('l', 'a')]), 'TAR_LINK'],
  ['a lying size', tar([file('a', 'x', { size: 1e9 })]), 'TAR_TRUNCATED', /entry 0 \(a\)/],
  ['a size that swallows the next header', tar([file('a', 'x', { size: 0 })]), 'TAR_CHECKSUM'],
  ['a cut header', tar([file('a')]).subarray(0, 100), 'TAR_TRUNCATED'],
  ['a cut body', tar([file('a', 'hello')]).subarray(0, 515), 'TAR_TRUNCATED'],
  ['cut padding', tar([file('a', 'hello')]).subarray(0, 600), 'TAR_TRUNCATED'],
  ['a cut PAX header', tar([pax(record('path', 'a'))]).subarray(0, 600), 'TAR_TRUNCATED'],
  ['a PAX header without an entry', tar([pax(record('path', 'a'))]), 'TAR_TRUNCATED'],
  ['a PAX header without an entry or end', tar([pax(record('path', 'a'))], Buffer.alloc(0)), 'TAR_TRUNCATED'],
  ['a half block at the end', tar([file('a')], Buffer.alloc(700)), 'TAR_TRUNCATED'],
  ['an entry behind one zero block', tar([file('a'), Buffer.alloc(512), file('b')]), 'TAR_TRAILING'],
  ['an entry behind the end', tar([file('a'), END, file('b')]), 'TAR_TRAILING', /entry 1/],
  ['a byte in the last block, cut', Buffer.concat([tar([file('a')]), Buffer.alloc(10, 1)]), 'TAR_TRAILING'],
  ['bytes behind the end', Buffer.concat([tar([file('a')]), Buffer.alloc(512, 1)]), 'TAR_TRAILING'],
  [
    'a sparse map out of order',
    tar([
      file('f', STORED, {
        ...S,
        patch: gnuSparse(
          [
            [8005, 6],
            [1000, 5],
          ],
          9000,
        ),
      }),
    ]),
    'TAR_SPARSE',
  ],
  [
    'a sparse map that overlaps',
    tar([
      file('f', STORED, {
        ...S,
        patch: gnuSparse(
          [
            [0, 6],
            [5, 5],
          ],
          9000,
        ),
      }),
    ]),
    'TAR_SPARSE',
  ],
  ['a sparse map beyond the file', tar([file('f', STORED, { ...S, patch: gnuSparse([[0, 11]], 10) })]), 'TAR_SPARSE'],
  ['a sparse map for other data', tar([file('f', STORED, { ...S, patch: gnuSparse([[0, 10]], 10) })]), 'TAR_SPARSE'],
  ['an endless sparse file', tar([file('f', '', { ...S, patch: gnuSparse([], 2 ** 36 - 1 - 512) })]), 'LIMIT_SPARSE'],
  [
    'an endless sparse file in PAX',
    tar([pax(...version('1', '0'), record('GNU.sparse.realsize', '9007199254740991')), file('f', filled('0\n'))]),
    'LIMIT_SPARSE',
  ],
  [
    'sparse 1.0 without a map',
    tar([pax(...version('1', '0'), record('GNU.sparse.realsize', '5')), file('f')]),
    'TAR_SPARSE',
  ],
  [
    'sparse 1.0 with a map of letters',
    tar([pax(...version('1', '0'), record('GNU.sparse.realsize', '5')), file('f', filled('x\n'))]),
    'TAR_SPARSE',
  ],
  [
    'sparse 1.0 with a map longer than the body',
    tar([pax(...version('1', '0'), record('GNU.sparse.realsize', '5')), file('f', filled('9\n'))]),
    'TAR_SPARSE',
  ],
  [
    'sparse 1.0 with more pieces than allowed',
    tar([pax(...version('1', '0'), record('GNU.sparse.realsize', '5')), file('f', filled('10001\n'))]),
    'LIMIT_SPARSE',
  ],
  ['sparse without a size', tar([pax(...version('1', '0')), file('f', filled('0\n'))]), 'TAR_SPARSE'],
  ['the name of a sparse file that is none', tar([pax(record('GNU.sparse.name', 'b')), file('a', 'x')]), 'TAR_SPARSE'],
  [
    'the size of a sparse file that is none',
    tar([pax(record('GNU.sparse.realsize', '9')), file('a', 'x')]),
    'TAR_SPARSE',
  ],
  [
    'sparse of a version to come',
    tar([pax(...version('2', '0'), record('GNU.sparse.realsize', '5')), file('f', 'x')]),
    'TAR_SPARSE',
  ],
  [
    'sparse 0.1 with an odd map',
    tar([pax(record('GNU.sparse.size', '5'), record('GNU.sparse.map', '0,1,2')), file('f', 'x')]),
    'TAR_SPARSE',
  ],
  [
    'sparse 0.0 that does not alternate',
    tar([pax(record('GNU.sparse.offset', '0'), record('GNU.sparse.offset', '0')), file('f', 'x')]),
    'TAR_SPARSE',
  ],
  ['a PAX header of 10 MB', tar([pax(record('comment', 'x'.repeat(10_000_000))), file('a')]), 'LIMIT_PAX'],
  ['a long name of 10 MB', tar([gnuLong('L', 'x'.repeat(10_000_000)), file('a')]), 'LIMIT_PAX'],
];
for (const [name, archive, code, where] of refused)
  test(`refuses ${name}`, async () => {
    for (const size of [archive.length > 10_000 ? 9999 : 17, 65536])
      await assert.rejects(read(archive, { index: 7, size }), (error) => {
        assert.ok(error instanceof ImageError, String(error));
        assert.equal(error.code, code, error.message);
        assert.match(error.message, /^layer 7 \(sha256:[0-9a-f]{64}\): entry [0-9]+/);
        if (where) assert.match(error.message, where);
        return true;
      });
  });

const limited: readonly (readonly [string, Buffer, ImageError['code']])[] = [
  ['entries', tar([file('a'), file('b'), file('c'), file('d')]), 'LIMIT_ENTRIES'],
  [
    'global headers, which count as entries',
    tar(Array.from({ length: 4 }, () => file('g', 'x', { type: 'g' }))),
    'LIMIT_ENTRIES',
  ],
  ['a PAX header', tar([pax(record('comment', 'x'.repeat(2000))), file('a')]), 'LIMIT_PAX'],
  ['names', tar([file('n'.repeat(250)), file('n'.repeat(251))]), 'LIMIT_NAMES'],
  ['targets', tar([symlink('l', 't'.repeat(501))]), 'LIMIT_NAMES'],
  ['holes of one file', tar([file('f', '', { ...S, patch: gnuSparse([], 10_001) })]), 'LIMIT_SPARSE'],
  [
    'holes of several files',
    tar([file('f', '', { ...S, patch: gnuSparse([], 6000) }), file('g', '', { ...S, patch: gnuSparse([], 6000) })]),
    'LIMIT_SPARSE',
  ],
  [
    'pieces of a sparse file',
    tar([
      pax(record('GNU.sparse.size', '9'), record('GNU.sparse.map', '0,1,1,1,2,1,3,1,4,1,5,1')),
      file('f', 'abcdef'),
    ]),
    'LIMIT_SPARSE',
  ],
];
for (const [name, archive, code] of limited)
  test(`holds the limit of ${name}, as it is handed in`, async () => {
    await read(archive);
    await rejectsCode(() => read(archive, { limits: small }), ImageError, code);
    await assert.rejects(
      read(archive, { limits: small }),
      /^ImageError: layer 0 \(sha256:[0-9a-f]{64}\): entry [0-9]+/,
    );
  });

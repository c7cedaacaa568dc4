/** The zip that bundles are (docs/evidence.md 1): what we write, what others write, and every place where something could hide. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32 as zlibCrc, deflateRawSync } from 'node:zlib';
import { fromUtf8, toBytes } from '#src/bytes.ts';
import { crc32 } from '#src/evidence/crc32.ts';
import { openZip, ZipError, type ZipSource } from '#src/evidence/zip.ts';
import { writeZip } from '#src/evidence/zipwriter.ts';
import { rejectsCode } from '#test/throws.ts';

const bytesOf = (text: string) => toBytes(fromUtf8(text));
const sourceOf = (bytes: Uint8Array): ZipSource => ({
  size: bytes.length,
  read: (at, length) => Promise.resolve(bytes.subarray(at, at + length)),
});
async function collect(pieces: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const piece of pieces) parts.push(piece);
  return new Uint8Array(Buffer.concat(parts));
}
async function* pieces(...parts: string[]) {
  for (const part of parts) yield bytesOf(part);
}
const members = [
  { name: 'a/one.txt', content: bytesOf('one'.repeat(1000)) },
  { name: 'two', content: new Uint8Array() },
  { name: 'b/three.ndjson', content: undefined },
];
const zipped = await collect(
  writeZip(members.map(({ name, content }) => ({ name, content: content ?? pieces('thr', 'ee\n') }))),
);
async function readAll(bytes: Uint8Array): Promise<[string, string][]> {
  const zip = await openZip(sourceOf(bytes));
  const out: [string, string][] = [];
  for (const { name } of zip.members) out.push([name, Buffer.from(await collect(zip.open(name))).toString()]);
  return out;
}
const expected = [
  ['a/one.txt', 'one'.repeat(1000)],
  ['two', ''],
  ['b/three.ndjson', 'three\n'],
];

test('what is written is read again, the same each time', async () => {
  assert.deepEqual(await readAll(zipped), expected);
  const again = await collect(
    writeZip(members.map(({ name, content }) => ({ name, content: content ?? pieces('three\n') }))),
  );
  assert.deepEqual(again, zipped);
});

test('the checksum is that of zlib, wherever it is cut', () => {
  const bytes = Uint8Array.from({ length: 1001 }, (_, i) => (i * 131) & 0xff);
  for (const cut of [0, 1, 7, 8, 9, 500, 1001])
    assert.equal(crc32(bytes.subarray(cut), crc32(bytes.subarray(0, cut))), zlibCrc(bytes));
});

/** A zip as another program writes it: sizes in the local header; each part can be bent. */
function foreign(
  bend: {
    extra?: string;
    comment?: string;
    tail?: string;
    between?: string;
    flags?: number;
    method?: number;
    names?: [string, string];
    local?: string;
  } = {},
): Uint8Array {
  const { extra = '', comment = '', tail = '', between = '', flags = 0, method = 8, names = ['x', 'y'] } = bend;
  const locals: Buffer[] = [];
  const centrals: Buffer[] = [];
  let at = 0;
  for (const [i, name] of names.entries()) {
    const content = Buffer.from(`content ${i}`);
    const packed = method === 8 ? deflateRawSync(content) : content;
    const sizes = Buffer.alloc(12);
    sizes.writeUInt32LE(zlibCrc(content), 0);
    sizes.writeUInt32LE(packed.length, 4);
    sizes.writeUInt32LE(content.length, 8);
    const u16 = (...values: number[]) => Buffer.concat(values.map((value) => Buffer.from([value & 0xff, value >> 8])));
    const own = bend.local ?? name;
    const local = Buffer.concat([
      Buffer.from('PK\x03\x04'),
      u16(20, flags, method, 0x1234, 0x5678),
      sizes,
      u16(own.length, extra.length),
      Buffer.from(own + extra),
      packed,
      Buffer.from(i === 0 ? between : ''),
    ]);
    const offset = Buffer.alloc(8);
    offset.writeUInt32LE(at, 4);
    centrals.push(
      Buffer.concat([
        Buffer.from('PK\x01\x02'),
        u16(0x314, 20, flags, method, 0x1234, 0x5678),
        sizes,
        u16(name.length, extra.length, comment.length, 0, 0),
        offset,
        Buffer.from(name + extra + comment),
      ]),
    );
    locals.push(local);
    at += local.length;
  }
  const directory = Buffer.concat(centrals);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06');
  end.writeUInt16LE(2, 8);
  end.writeUInt16LE(2, 10);
  end.writeUInt32LE(directory.length, 12);
  end.writeUInt32LE(at, 16);
  return new Uint8Array(Buffer.concat([...locals, directory, end, Buffer.from(tail)]));
}

test('what another program packed again is read: members count, not how they are packed', async () => {
  for (const method of [0, 8])
    assert.deepEqual(await readAll(foreign({ method })), [
      ['x', 'content 0'],
      ['y', 'content 1'],
    ]);
});

const hidden: readonly (readonly [string, Uint8Array, string])[] = [
  ['something behind its end', foreign({ tail: 'hidden' }), 'ZIP_SYNTAX'],
  ['something before its beginning', Uint8Array.of(1, ...foreign()), 'ZIP_SLACK'],
  ['something between its members', foreign({ between: 'hidden' }), 'ZIP_SLACK'],
  ['extra fields', foreign({ extra: 'ux\x04\x00abcd' }), 'ZIP_SLACK'],
  ['comments', foreign({ comment: 'hidden' }), 'ZIP_SLACK'],
  ['encryption', foreign({ flags: 1 }), 'ZIP_SLACK'],
  ['another compression', foreign({ method: 12 }), 'ZIP_SLACK'],
  ['a name twice', foreign({ names: ['x', 'x'] }), 'ZIP_DUPLICATE'],
  ['a name that the member does not have', foreign({ local: 'z' }), 'ZIP_SLACK'],
  ['an absolute name', foreign({ names: ['/x', 'y'] }), 'ZIP_NAME'],
  ['a way out', foreign({ names: ['a/../../x', 'y'] }), 'ZIP_NAME'],
  ['a line break in a name', foreign({ names: ['x\n', 'y'] }), 'ZIP_NAME'],
  ['a folder', foreign({ names: ['x/', 'y'] }), 'ZIP_NAME'],
  ['nothing', new Uint8Array(), 'ZIP_SYNTAX'],
  ['its first half', zipped.subarray(0, zipped.length / 2), 'ZIP_SYNTAX'],
];
for (const [name, bytes, code] of hidden)
  test(`a zip with ${name} is refused`, () => rejectsCode(() => readAll(bytes), ZipError, code));

test('a flipped bit anywhere is refused, or changes no member', async () => {
  for (let at = 0; at < zipped.length; at++) {
    const altered = zipped.map((byte, i) => (i === at ? byte ^ 1 : byte));
    try {
      assert.deepEqual(await readAll(altered), expected);
    } catch (error) {
      assert.ok(error instanceof ZipError, String(error));
    }
  }
});

test('a member that unpacks to more than it states stops there', async () => {
  const bomb = foreign();
  // The stated size of the first member, in both places.
  const { buffer } = bomb;
  new DataView(buffer).setUint32(22, 3, true);
  const directoryAt = new DataView(buffer).getUint32(bomb.length - 6, true);
  new DataView(buffer).setUint32(directoryAt + 24, 3, true);
  await rejectsCode(() => readAll(bomb), ZipError, 'ZIP_MEMBER');
});

test('names that no unpacker should meet are not written', async () => {
  for (const name of ['', '/a', 'a//b', '../a', 'a b', 'ä', 'a/', '.', 'a\n'])
    await rejectsCode(() => collect(writeZip([{ name, content: new Uint8Array() }])), ZipError, 'ZIP_NAME');
  const twice = { name: 'a', content: new Uint8Array() };
  await rejectsCode(() => collect(writeZip([twice, twice])), ZipError, 'ZIP_DUPLICATE');
});

/** Writes zips as zip.ts reads them: forward only, deflated, each member's sizes behind its data; and goes on with one that broke off. */
import { crc32 } from './crc32.ts';
import {
  CENTRAL,
  CENTRAL_BYTES,
  DEFLATED,
  DESCRIPTOR,
  END,
  END64,
  END64_BYTES,
  END_BYTES,
  FLAG_DESCRIPTOR,
  FULL16,
  FULL32,
  LOCAL,
  LOCAL_BYTES,
  LOCATOR64,
  LOCATOR64_BYTES,
  member,
  NAME,
  through,
  view,
  ZipError,
  type Entry,
  type NewMember,
} from './zip.ts';

export type ZipProgress = {
  /** Members that stand in the file already: what is yielded comes behind the last of them. */
  readonly before?: readonly Entry[];
  /** Called when every byte of a member was taken. */
  readonly done?: (entry: Entry) => Promise<void>;
};

/** Where a member ends in the file: the next begins there. */
export const endOf = ({ name, offset, packed }: Pick<Entry, 'name' | 'offset' | 'packed'>): number =>
  offset + LOCAL_BYTES + name.length + packed + DESCRIPTOR_BYTES;

/**
 * A zip of the members in their order, deflated. Times and attributes are fixed, so that the same members make the same directory.
 * @throws {ZipError} ZIP_NAME, ZIP_DUPLICATE; ZIP_MEMBER for one of 4 GiB or more: those are written in parts.
 */
export async function* writeZip(
  members: AsyncIterable<NewMember> | Iterable<NewMember>,
  { before = [], done }: ZipProgress = {},
): AsyncIterable<Uint8Array> {
  const written: Entry[] = [...before];
  const names = new Set<string>(before.map(({ name }) => name));
  const last = before.at(-1);
  let at = last === undefined ? 0 : endOf(last);
  for await (const { name, content } of members) {
    if (!NAME.test(name))
      throw new ZipError('ZIP_NAME', `no member can be called ${JSON.stringify(name.slice(0, 200))}`);
    if (names.has(name)) throw new ZipError('ZIP_DUPLICATE', `two members are called ${name}`);
    names.add(name);
    const offset = at;
    const head = localHead(name);
    yield head;
    at += head.length;
    let crc = 0;
    let bytes = 0;
    let packed = 0;
    const counted = async function* () {
      for await (const piece of content instanceof Uint8Array ? [content] : content) {
        crc = crc32(piece, crc);
        bytes += piece.length;
        yield piece;
      }
    };
    for await (const piece of through(counted(), new CompressionStream('deflate-raw'))) {
      packed += piece.length;
      yield piece;
    }
    if (bytes >= FULL32 || packed >= FULL32) throw member(`${name} has 4 GiB or more: write it in parts`);
    at += packed;
    const entry = { name, bytes, packed, crc, offset, method: DEFLATED, flags: FLAG_DESCRIPTOR };
    const tail = descriptorOf(entry);
    yield tail;
    at += tail.length;
    written.push(entry);
    await done?.(entry);
  }
  const start = at;
  for (const entry of written) {
    const line = centralHead(entry);
    yield line;
    at += line.length;
  }
  yield endRecords(written.length, start, at - start);
}

/** DOS has no time before this. */
const DOS_DATE = 0x0021;
const DESCRIPTOR_BYTES = 16;
const VERSION = 20;
const VERSION64 = 45;

function localHead(name: string): Uint8Array {
  const out = new Uint8Array(LOCAL_BYTES + name.length);
  const head = view(out);
  head.setUint32(0, LOCAL, true);
  head.setUint16(4, VERSION, true);
  head.setUint16(6, FLAG_DESCRIPTOR, true);
  head.setUint16(8, DEFLATED, true);
  head.setUint16(12, DOS_DATE, true);
  head.setUint16(26, name.length, true);
  putName(out, LOCAL_BYTES, name);
  return out;
}

function descriptorOf({ crc, packed, bytes }: Entry): Uint8Array {
  const out = new Uint8Array(DESCRIPTOR_BYTES);
  for (const [i, value] of [DESCRIPTOR, crc, packed, bytes].entries()) view(out).setUint32(4 * i, value, true);
  return out;
}

function centralHead({ name, crc, packed, bytes, offset }: Entry): Uint8Array {
  const far = offset >= FULL32;
  const out = new Uint8Array(CENTRAL_BYTES + name.length + (far ? 12 : 0));
  const head = view(out);
  head.setUint32(0, CENTRAL, true);
  head.setUint16(4, far ? VERSION64 : VERSION, true);
  head.setUint16(6, far ? VERSION64 : VERSION, true);
  head.setUint16(8, FLAG_DESCRIPTOR, true);
  head.setUint16(10, DEFLATED, true);
  head.setUint16(14, DOS_DATE, true);
  for (const [i, value] of [crc, packed, bytes].entries()) head.setUint32(16 + 4 * i, value, true);
  head.setUint16(28, name.length, true);
  head.setUint16(30, far ? 12 : 0, true);
  head.setUint32(42, far ? FULL32 : offset, true);
  putName(out, CENTRAL_BYTES, name);
  if (far) {
    const extra = CENTRAL_BYTES + name.length;
    head.setUint16(extra, 1, true);
    head.setUint16(extra + 2, 8, true);
    head.setBigUint64(extra + 4, BigInt(offset), true);
  }
  return out;
}

function endRecords(count: number, start: number, length: number): Uint8Array {
  const far = count >= FULL16 || start >= FULL32 || length >= FULL32;
  const out = new Uint8Array((far ? END64_BYTES + LOCATOR64_BYTES : 0) + END_BYTES);
  const end = view(out);
  let at = 0;
  if (far) {
    end.setUint32(0, END64, true);
    end.setBigUint64(4, BigInt(END64_BYTES - 12), true);
    end.setUint16(12, VERSION64, true);
    end.setUint16(14, VERSION64, true);
    for (const [i, value] of [count, count, length, start].entries()) end.setBigUint64(24 + 8 * i, BigInt(value), true);
    end.setUint32(END64_BYTES, LOCATOR64, true);
    end.setBigUint64(END64_BYTES + 8, BigInt(start + length), true);
    end.setUint32(END64_BYTES + 16, 1, true);
    at = END64_BYTES + LOCATOR64_BYTES;
  }
  end.setUint32(at, END, true);
  end.setUint16(at + 8, Math.min(count, FULL16), true);
  end.setUint16(at + 10, Math.min(count, FULL16), true);
  end.setUint32(at + 12, Math.min(length, FULL32), true);
  end.setUint32(at + 16, Math.min(start, FULL32), true);
  return out;
}

function putName(out: Uint8Array, at: number, name: string): void {
  for (let i = 0; i < name.length; i++) out[at + i] = name.charCodeAt(i);
}

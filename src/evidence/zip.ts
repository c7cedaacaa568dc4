/**
 * Zip archives (APPNOTE 6.3) as evidence bundles are (docs/evidence.md 1): stored or deflated members one after the other and the directory of
 * them, and nothing between, before or after. What could hide there would not be signed. Read from any place, in pieces; written by zipwriter.ts.
 */
import { BootproofError } from '#src/error.ts';
import { BUNDLE_DIRECTORY_BYTES_MAX, BUNDLE_MEMBERS_MAX } from '#src/limits.ts';
import { crc32 } from './crc32.ts';

export class ZipError extends BootproofError<
  /** Not a zip, cut off, or more members than are taken. */
  | 'ZIP_SYNTAX'
  /** Bytes that belong to no member, a comment, an extra field, an overlap, encryption: places where something could hide. */
  | 'ZIP_SLACK'
  /** A name that no member has. */
  | 'ZIP_NAME'
  /** Two members of one name. */
  | 'ZIP_DUPLICATE'
  /** A member that does not unpack to the size and checksum it states. */
  | 'ZIP_MEMBER'
> {}

/** A file, or what stands for one. Answers exactly the bytes asked for. */
export type ZipSource = {
  readonly size: number;
  read(at: number, length: number): Promise<Uint8Array>;
};

export type ZipMember = { readonly name: string; /** Unpacked. */ readonly bytes: number };

/** A member to be written. */
export type NewMember = { readonly name: string; readonly content: Uint8Array | AsyncIterable<Uint8Array> };

export type ZipArchive = {
  /** In the order in which they lie. */
  readonly members: readonly ZipMember[];
  /** A member's bytes. @throws {ZipError} ZIP_MEMBER where they are not those that the directory states; on the way, or at the end. */
  open(name: string): AsyncIterable<Uint8Array>;
};

export const LOCAL = 0x04034b50;
export const DESCRIPTOR = 0x08074b50;
export const CENTRAL = 0x02014b50;
export const END = 0x06054b50;
export const END64 = 0x06064b50;
export const LOCATOR64 = 0x07064b50;
export const LOCAL_BYTES = 30;
export const CENTRAL_BYTES = 46;
export const END_BYTES = 22;
export const END64_BYTES = 56;
export const LOCATOR64_BYTES = 20;
export const FULL32 = 0xffffffff;
export const FULL16 = 0xffff;
/** Sizes come after the data, in a descriptor. */
export const FLAG_DESCRIPTOR = 0x0008;
/** Besides: names in UTF-8, and how hard deflate tried. Anything else (encryption, patches) is refused. */
const FLAGS_TAKEN = FLAG_DESCRIPTOR | 0x0800 | 0x0006;
const STORED = 0;
export const DEFLATED = 8;
const CHUNK = 256 * 1024;

/** Names that survive every unpacker, and the list of sums that sha256sum reads. */
export const NAME = /^(?!.*(?:^|\/)\.{0,2}(?:\/|$))[A-Za-z0-9._/-]{1,200}$/;

export type Entry = ZipMember & {
  readonly method: number;
  readonly flags: number;
  readonly crc: number;
  readonly packed: number;
  readonly offset: number;
};

/** @throws {ZipError} */
export async function openZip(source: ZipSource): Promise<ZipArchive> {
  const { start, length, count } = await endOf(source);
  const entries = directory(await source.read(start, length), count);
  const byName = new Map<string, Entry & { readonly data: number }>();
  // Members follow each other from the first byte to the directory, in the directory's order.
  let at = 0;
  for (const entry of entries) {
    if (entry.offset !== at) throw slack(`bytes between members, before ${entry.name}`);
    if (byName.has(entry.name)) throw new ZipError('ZIP_DUPLICATE', `two members are called ${entry.name}`);
    const { data, end } = await localOf(source, entry, start);
    byName.set(entry.name, { ...entry, data });
    at = end;
  }
  if (at !== start) throw slack('bytes between the last member and the directory');
  return {
    members: entries.map(({ name, bytes }) => ({ name, bytes })),
    open: (name) => {
      const entry = byName.get(name);
      if (entry === undefined)
        throw new ZipError('ZIP_NAME', `no member is called ${JSON.stringify(name.slice(0, 200))}`);
      return unpack(source, entry);
    },
  };
}

async function endOf(source: ZipSource): Promise<{ start: number; length: number; count: number }> {
  if (source.size < END_BYTES) throw no(`it has ${source.size} bytes`);
  let endAt = source.size - END_BYTES;
  const end = view(await source.read(endAt, END_BYTES));
  if (end.getUint32(0, true) !== END)
    throw no('it does not end in a directory: it was cut off, or something follows it, a comment perhaps');
  if (end.getUint16(20, true) !== 0) throw slack('a comment at the end');
  let count = end.getUint16(10, true);
  let length = end.getUint32(12, true);
  let start = end.getUint32(16, true);
  const disks = [end.getUint16(4, true), end.getUint16(6, true)];
  if (disks.some((disk) => disk !== 0) || end.getUint16(8, true) !== count) throw no('it is one part of several');
  if (count === FULL16 || length === FULL32 || start === FULL32) {
    const locatorAt = endAt - LOCATOR64_BYTES;
    const end64At = locatorAt - END64_BYTES;
    if (end64At < 0) throw no('its directory cannot be where it says');
    const locator = view(await source.read(locatorAt, LOCATOR64_BYTES));
    const end64 = view(await source.read(end64At, END64_BYTES));
    if (
      locator.getUint32(0, true) !== LOCATOR64 ||
      big(locator, 8) !== end64At ||
      locator.getUint32(4, true) !== 0 ||
      locator.getUint32(16, true) !== 1 ||
      end64.getUint32(0, true) !== END64 ||
      big(end64, 4) !== END64_BYTES - 12 ||
      end64.getUint32(16, true) !== 0 ||
      end64.getUint32(20, true) !== 0 ||
      big(end64, 24) !== big(end64, 32)
    )
      throw no('its large directory is not where it says, or is one part of several');
    count = big(end64, 32);
    length = big(end64, 40);
    start = big(end64, 48);
    endAt = end64At;
  }
  if (count > BUNDLE_MEMBERS_MAX || length > BUNDLE_DIRECTORY_BYTES_MAX)
    throw no(`${count} members; ${BUNDLE_MEMBERS_MAX} are taken`);
  if (start + length !== endAt) throw slack('bytes between the directory and the end');
  return { start, length, count };
}

function directory(bytes: Uint8Array, count: number): Entry[] {
  const out: Entry[] = [];
  const data = view(bytes);
  let at = 0;
  while (at < bytes.length) {
    if (at + CENTRAL_BYTES > bytes.length || data.getUint32(at, true) !== CENTRAL) throw no('its directory is damaged');
    const nameLength = data.getUint16(at + 28, true);
    const extraLength = data.getUint16(at + 30, true);
    const next = at + CENTRAL_BYTES + nameLength + extraLength;
    if (next > bytes.length) throw no('its directory is cut off');
    const name = nameIn(bytes.subarray(at + CENTRAL_BYTES, at + CENTRAL_BYTES + nameLength));
    if (data.getUint16(at + 32, true) !== 0) throw slack(`a comment on ${name}`);
    const entry = {
      name,
      flags: data.getUint16(at + 8, true),
      method: data.getUint16(at + 10, true),
      crc: data.getUint32(at + 16, true),
      packed: data.getUint32(at + 20, true),
      bytes: data.getUint32(at + 24, true),
      offset: data.getUint32(at + 42, true),
    };
    if (entry.offset === FULL32) {
      // The one extra field that is taken: where a member beyond 4 GiB lies.
      if (extraLength !== 12 || data.getUint16(next - 12, true) !== 1 || data.getUint16(next - 10, true) !== 8)
        throw slack(`an extra field on ${name}`);
      entry.offset = big(data, next - 8);
    } else if (extraLength !== 0) throw slack(`an extra field on ${name}`);
    if ((entry.flags & ~FLAGS_TAKEN) !== 0 || (entry.method !== STORED && entry.method !== DEFLATED))
      throw slack(`${name} is encrypted, or packed in another way than stored or deflated`);
    if (entry.packed === FULL32 || entry.bytes === FULL32) throw no(`${name} has 4 GiB or more`);
    if (entry.method === STORED && entry.packed !== entry.bytes)
      throw no(`${name} is stored, in another size than its own`);
    out.push(entry);
    at = next;
  }
  if (out.length !== count) throw no(`its directory has ${out.length} members and says ${count}`);
  return out;
}

async function localOf(source: ZipSource, entry: Entry, directoryAt: number): Promise<{ data: number; end: number }> {
  const { name, offset, packed } = entry;
  const data = offset + LOCAL_BYTES + name.length;
  if (data + packed > directoryAt) throw slack(`${name} reaches into the directory`);
  const bytes = await source.read(offset, LOCAL_BYTES + name.length);
  const head = view(bytes);
  const streamed = (entry.flags & FLAG_DESCRIPTOR) !== 0;
  const said = [head.getUint32(14, true), head.getUint32(18, true), head.getUint32(22, true)];
  const known = [entry.crc, packed, entry.bytes];
  if (head.getUint32(0, true) !== LOCAL || head.getUint16(26, true) !== name.length)
    throw no(`${name} does not lie where the directory says`);
  if (
    nameIn(bytes.subarray(LOCAL_BYTES)) !== name ||
    head.getUint16(6, true) !== entry.flags ||
    head.getUint16(8, true) !== entry.method ||
    said.some((value, i) => value !== known[i] && !(streamed && value === 0))
  )
    throw slack(`the directory says something else of ${name} than the member itself`);
  if (head.getUint16(28, true) !== 0) throw slack(`an extra field on ${name}`);
  if (!streamed) return { data, end: data + packed };
  const descriptorAt = data + packed;
  if (descriptorAt + 16 > directoryAt) throw no(`${name} is cut off`);
  const descriptor = view(await source.read(descriptorAt, 16));
  const states = (from: number) => known.every((value, i) => descriptor.getUint32(from + 4 * i, true) === value);
  if (descriptor.getUint32(0, true) === DESCRIPTOR && states(4)) return { data, end: descriptorAt + 16 };
  if (states(0)) return { data, end: descriptorAt + 12 };
  throw slack(`what follows ${name} is not what the directory says of it`);
}

async function* unpack(source: ZipSource, entry: Entry & { readonly data: number }): AsyncIterable<Uint8Array> {
  const { name, bytes } = entry;
  const raw = packedBytes(source, entry);
  const content = entry.method === STORED ? raw : inflate(raw, name);
  let crc = 0;
  let length = 0;
  for await (const piece of content) {
    length += piece.length;
    if (length > bytes) throw member(`${name} unpacks to more than the ${bytes} bytes that it states`);
    crc = crc32(piece, crc);
    yield piece;
  }
  if (length !== bytes) throw member(`${name} unpacks to ${length} bytes and states ${bytes}`);
  if (crc !== entry.crc) throw member(`${name} is damaged: its checksum is another`);
}

async function* packedBytes(
  source: ZipSource,
  { data, packed }: Entry & { readonly data: number },
): AsyncIterable<Uint8Array> {
  for (let at = 0; at < packed; at += CHUNK) yield source.read(data + at, Math.min(CHUNK, packed - at));
}

async function* inflate(raw: AsyncIterable<Uint8Array>, name: string): AsyncIterable<Uint8Array> {
  try {
    yield* through(raw, new DecompressionStream('deflate-raw'));
  } catch (cause) {
    if (cause instanceof ZipError) throw cause;
    // The stream's errors say nothing that helps: not deflate, cut off, or bytes behind its end.
    throw member(`${name} does not unpack`, cause);
  }
}

/** What comes out of a transforming stream, and whatever its input throws. */
export async function* through(
  input: AsyncIterable<Uint8Array>,
  { readable, writable }: { readonly readable: ReadableStream; readonly writable: WritableStream },
): AsyncIterable<Uint8Array> {
  const writer = writable.getWriter();
  const fed = (async () => {
    try {
      for await (const piece of input) await writer.write(piece);
      await writer.close();
    } catch (error) {
      await writer.abort(error).catch(() => undefined); // the reading side tells of it
      throw error;
    }
  })();
  // Awaited below; until then a failure must not count as unhandled.
  fed.catch(() => undefined);
  const reader = (readable as ReadableStream<Uint8Array>).getReader();
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
    await fed;
  } finally {
    await reader.cancel().catch(() => undefined); // a reader that stopped early; after the end it is nothing
  }
}

export const view = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const no = (why: string) => new ZipError('ZIP_SYNTAX', `this is no evidence bundle: ${why}`);
const slack = (what: string) => new ZipError('ZIP_SLACK', `${what}: nothing that is not signed may lie in a bundle`);
export const member = (why: string, cause?: unknown) => new ZipError('ZIP_MEMBER', why, { cause });

function big(data: DataView, at: number): number {
  const value = data.getBigUint64(at, true);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw no('a size in it is larger than any file');
  return Number(value);
}

function nameIn(bytes: Uint8Array): string {
  const name = String.fromCharCode(...bytes.subarray(0, 1000));
  if (!NAME.test(name))
    throw new ZipError(
      'ZIP_NAME',
      `a member is called ${JSON.stringify(name.slice(0, 200))}: only A-Z a-z 0-9 . _ - and / are in names`,
    );
  return name;
}

/**
 * GVariant, the binary format of /run/ostree-booted, of staged deployments and of ostree's commit objects
 * (GLib, "GVariant Specification 1.0", sections 2.3 to 2.5). Numbers are read little-endian: on s390x they would be the
 * other way, but there is no agent for it. Offsets are little-endian everywhere.
 */
import { fromBytes, toUtf8 } from '#src/bytes.ts';
import { GVARIANT_BYTES_MAX, GVARIANT_DEPTH_MAX } from '#src/limits.ts';
import { checkLength, DeploymentError } from './error.ts';

/** `y n q i u h d` are numbers, `x t` bigints, `ay` bytes, a variant is its value, `a{s*}` a Dict, other containers arrays. */
export type Variant = boolean | number | bigint | string | Uint8Array | readonly Variant[] | Dict;
export type Dict = ReadonlyMap<string, Variant>;

type Type = { readonly align: number; readonly size: number | undefined } & (
  | { readonly kind: 'basic'; readonly code: string }
  | { readonly kind: 'array'; readonly item: Type }
  | { readonly kind: 'tuple'; readonly items: readonly Type[]; readonly entry: boolean }
);

const BASIC: Readonly<Record<string, readonly [align: number, size: number | undefined]>> = {
  b: [1, 1],
  y: [1, 1],
  n: [2, 2],
  q: [2, 2],
  i: [4, 4],
  u: [4, 4],
  h: [4, 4],
  x: [8, 8],
  t: [8, 8],
  d: [8, 8],
  s: [1, undefined],
  o: [1, undefined],
  g: [1, undefined],
  v: [8, undefined],
};
/** D-Bus bounds a type string at this; GVariant does not, but nobody writes a longer one. */
const TYPE_CHARS_MAX = 255;

function refuse(why: string): never {
  throw new DeploymentError('GVARIANT_SYNTAX', `not a GVariant: ${why}`);
}

/**
 * The value that `bytes` hold as `type`. Only normal form is read: what GLib would silently replace by a default is refused.
 * @throws {DeploymentError} GVARIANT_SYNTAX, HOST_TEXT_TOO_LARGE
 */
export function readVariant(type: string, bytes: Uint8Array): Variant {
  checkLength('a GVariant', bytes.length, GVARIANT_BYTES_MAX);
  return read(parseType(type), bytes, 0, bytes.length, 0);
}

/**
 * The entries of an `a{sv}`.
 * @throws {DeploymentError} GVARIANT_SYNTAX, HOST_TEXT_TOO_LARGE
 */
export function readDict(bytes: Uint8Array): Dict {
  const value = readVariant('a{sv}', bytes);
  return value instanceof Map ? value : refuse('expected a dictionary');
}

function parseType(text: string): Type {
  if (text.length > TYPE_CHARS_MAX) refuse('a type of more than 255 characters');
  let at = 0;
  const one = (depth: number): Type => {
    if (depth > GVARIANT_DEPTH_MAX) refuse(`more than ${GVARIANT_DEPTH_MAX} levels`);
    const code = text[at++] ?? '';
    if (Object.hasOwn(BASIC, code)) {
      const [align, size] = BASIC[code]!;
      return { kind: 'basic', code, align, size };
    }
    if (code === 'a') {
      const item = one(depth + 1);
      return { kind: 'array', item, align: item.align, size: undefined };
    }
    if (code !== '(' && code !== '{') refuse(`no type that is read here: ${JSON.stringify(text)}`);
    const close = code === '(' ? ')' : '}';
    const items: Type[] = [];
    while (text[at] !== close) items.push(one(depth + 1));
    at++;
    if (items.length === 0 || (code === '{' && items.length !== 2)) refuse(`no type: ${JSON.stringify(text)}`);
    const align = Math.max(...items.map((item) => item.align));
    return { kind: 'tuple', items, entry: code === '{', align, size: fixedSize(items, align) };
  };
  const type = one(0);
  if (at !== text.length) refuse(`not one type: ${JSON.stringify(text)}`);
  return type;
}

const aligned = (at: number, align: number): number => Math.ceil(at / align) * align;

function fixedSize(items: readonly Type[], align: number): number | undefined {
  let size = 0;
  for (const item of items) {
    if (item.size === undefined) return undefined;
    size = aligned(size, item.align) + item.size;
  }
  return aligned(size, align);
}

/** Section 2.3.6: offsets are as wide as the container's size needs. */
const offsetWidth = (size: number): number => (size <= 0xff ? 1 : size <= 0xffff ? 2 : 4);

function readOffset(bytes: Uint8Array, at: number, width: number): number {
  let value = 0;
  for (let i = width - 1; i >= 0; i--) value = value * 256 + bytes[at + i]!;
  return value;
}

function read(type: Type, bytes: Uint8Array, start: number, end: number, depth: number): Variant {
  if (depth > GVARIANT_DEPTH_MAX) refuse(`more than ${GVARIANT_DEPTH_MAX} levels`);
  if (type.size !== undefined && end - start !== type.size) refuse('a value of the wrong size');
  if (type.kind === 'basic') return readBasic(type.code, bytes, start, end, depth);
  return type.kind === 'array'
    ? readArray(type.item, bytes, start, end, depth)
    : readTuple(type.items, bytes, start, end, depth);
}

function readBasic(code: string, bytes: Uint8Array, start: number, end: number, depth: number): Variant {
  if (code === 'v') return readInner(bytes, start, end, depth);
  if (code === 's' || code === 'o' || code === 'g') {
    if (end <= start || bytes[end - 1] !== 0) refuse('a string without its end');
    const raw = bytes.subarray(start, end - 1);
    const text = raw.includes(0) ? undefined : toUtf8(fromBytes(raw));
    return text ?? refuse('a string that is not UTF-8');
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset + start, end - start);
  switch (code) {
    case 'b':
      return bytes[start]! <= 1 ? bytes[start] === 1 : refuse('a boolean that is neither');
    case 'y':
      return bytes[start]!;
    case 'n':
      return view.getInt16(0, true);
    case 'q':
      return view.getUint16(0, true);
    case 'u':
      return view.getUint32(0, true);
    case 'x':
      return view.getBigInt64(0, true);
    case 't':
      return view.getBigUint64(0, true);
    case 'd':
      return view.getFloat64(0, true);
    default: // i and h
      return view.getInt32(0, true);
  }
}

/** Section 2.5.4: the value, a zero byte, its type. */
function readInner(bytes: Uint8Array, start: number, end: number, depth: number): Variant {
  const from = Math.max(start, end - TYPE_CHARS_MAX - 1);
  const zero = bytes.subarray(from, end).lastIndexOf(0);
  if (zero < 0) refuse('a variant without a type');
  return read(parseType(fromBytes(bytes.subarray(from + zero + 1, end))), bytes, start, from + zero, depth + 1);
}

function readArray(item: Type, bytes: Uint8Array, start: number, end: number, depth: number): Variant {
  const size = end - start;
  if (item.kind === 'basic' && item.code === 'y') return bytes.slice(start, end);
  const out: Variant[] = [];
  if (item.size !== undefined) {
    if (size % item.size !== 0) refuse('an array with a part of an item');
    for (let at = start; at < end; at += item.size) out.push(read(item, bytes, at, at + item.size, depth + 1));
  } else if (size > 0) {
    const width = offsetWidth(size);
    if (size < width) refuse('an array without its offsets');
    const table = readOffset(bytes, end - width, width);
    if (table > size - width || (size - table) % width !== 0) refuse('an array whose last offset is wrong');
    let previous = 0;
    for (let at = start + table; at < end; at += width) {
      const from = aligned(previous, item.align);
      const to = readOffset(bytes, at, width);
      if (from > to || to > table) refuse('an array whose offsets do not rise');
      out.push(read(item, bytes, start + from, start + to, depth + 1));
      previous = to;
    }
  }
  return item.kind === 'tuple' && item.entry ? toDict(out) : out;
}

function toDict(entries: readonly Variant[]): Variant {
  const dict = new Map<string, Variant>();
  for (const entry of entries) {
    const [key, value] = entry as readonly [Variant, Variant];
    if (typeof key !== 'string') return entries;
    // GLib takes the first of two equal keys; so does whoever reads these files on the host.
    if (!dict.has(key)) dict.set(key, value);
  }
  return dict;
}

/** Section 2.5.3: the ends of all items of no fixed size, save the last item, stand backwards at the end. */
function readTuple(items: readonly Type[], bytes: Uint8Array, start: number, end: number, depth: number): Variant {
  const size = end - start;
  const width = offsetWidth(size);
  const offsets = items.slice(0, -1).filter((item) => item.size === undefined).length;
  const body = size - offsets * width;
  if (body < 0) refuse('a tuple without its offsets');
  let [at, used] = [0, 0];
  const out = items.map((item, index) => {
    const from = aligned(at, item.align);
    at =
      item.size !== undefined
        ? from + item.size
        : index === items.length - 1
          ? body
          : readOffset(bytes, end - width * ++used, width);
    if (from > at || at > body) refuse('a tuple whose offsets are wrong');
    return read(item, bytes, start + from, start + at, depth + 1);
  });
  return out;
}

/** DER (X.690 10) as certificates and timestamps have it: read strictly, so that two readers never read one text differently, and written. */
import { BootproofError } from '#src/error.ts';
import { fromBytes, toHex } from '#src/bytes.ts';

export class DerError extends BootproofError</** Not DER, or not what is expected in its place. */ 'DER_SYNTAX'> {}

export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  utf8: 0x0c,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;
/** `[n]`, constructed. */
export const context = (n: number): number => 0xa0 + n;

export type Der = {
  readonly tag: number;
  /** Tag, length and value. */
  readonly whole: Uint8Array;
  readonly value: Uint8Array;
};

/** Parts inside each other: certificates have some ten. */
const DEPTH_MAX = 32;
/** Where a length has more bytes there is more than anything here may have. */
const LENGTH_BYTES_MAX = 4;

const no = (why: string): DerError => new DerError('DER_SYNTAX', `not DER: ${why}`);

function readAt(bytes: Uint8Array, at: number): { readonly der: Der; readonly end: number } {
  const tag = bytes[at];
  const first = bytes[at + 1];
  if (tag === undefined || first === undefined) throw no('it ends inside an element');
  if ((tag & 0x1f) === 0x1f) throw no('a tag of several bytes');
  let length = first;
  let from = at + 2;
  if (first >= 0x80) {
    const count = first & 0x7f;
    if (count === 0 || count > LENGTH_BYTES_MAX)
      throw no(count === 0 ? 'a length that is not told' : 'a length beyond all');
    length = 0;
    for (let i = 0; i < count; i++) length = length * 256 + (bytes[from + i] ?? 0);
    from += count;
    if (length < 0x80 || length < 256 ** (count - 1)) throw no('a length that is not the shortest');
  }
  const end = from + length;
  if (end > bytes.length) throw no('it ends inside an element');
  return { der: { tag, whole: bytes.subarray(at, end), value: bytes.subarray(from, end) }, end };
}

/** The one element that the bytes are, to the last one. @throws {DerError} */
export function readDer(bytes: Uint8Array): Der {
  const { der, end } = readAt(bytes, 0);
  if (end !== bytes.length) throw no(`${bytes.length - end} bytes after its end`);
  check(der, 0);
  return der;
}

/** All of it is DER, as deep as it goes: what is looked into later needs no look at that again. */
function check(der: Der, depth: number): void {
  if (depth > DEPTH_MAX) throw no('too deep');
  if ((der.tag & 0x20) === 0) return;
  for (const part of partsOf(der)) check(part, depth + 1);
}

/** What a constructed element is made of. @throws {DerError} */
export function partsOf({ tag, value }: Der): Der[] {
  if ((tag & 0x20) === 0) throw no('a value where parts were expected');
  const out: Der[] = [];
  for (let at = 0; at < value.length;) {
    const { der, end } = readAt(value, at);
    out.push(der);
    at = end;
  }
  return out;
}

/** @throws {DerError} where it is missing, or has another tag. */
export function expect(der: Der | undefined, tag: number, what: string): Der {
  if (der?.tag !== tag) throw no(`${what} is missing, or is something else`);
  return der;
}

export const sameDer = (a: Uint8Array, b: Uint8Array): boolean => fromBytes(a) === fromBytes(b);

/** Parts of a sequence. @throws {DerError} */
export const sequenceOf = (der: Der | undefined, what: string): Der[] => partsOf(expect(der, TAG.sequence, what));

/** Dotted. @throws {DerError} */
export function oidOf(der: Der | undefined, what: string): string {
  const { value } = expect(der, TAG.oid, what);
  const numbers: number[] = [];
  let number = 0;
  for (const [i, byte] of value.entries()) {
    if (number === 0 && byte === 0x80) throw no(`${what} is not in its shortest form`);
    number = number * 128 + (byte & 0x7f);
    if (!Number.isSafeInteger(number)) throw no(`${what} has a number beyond all`);
    if ((byte & 0x80) === 0) {
      numbers.push(number);
      number = 0;
    } else if (i === value.length - 1) throw no(`${what} is cut off`);
  }
  const [first] = numbers;
  if (first === undefined) throw no(`${what} is empty`);
  const head = first < 40 ? [0, first] : first < 80 ? [1, first - 40] : [2, first - 80];
  return [...head, ...numbers.slice(1)].join('.');
}

/** A whole number from 0 on, in lower-case hex without leading zeros; negative ones keep their sign bit and are never equal to one of ours. */
export function integerOf(der: Der | undefined, what: string): string {
  const { value } = expect(der, TAG.integer, what);
  if (value.length === 0 || (value[0] === 0 && value.length > 1 && value[1]! < 0x80))
    throw no(`${what} is not in its shortest form`);
  const hex = toHex(value).replace(/^0+(?=.)/, '');
  return value[0]! >= 0x80 ? `-${hex}` : hex;
}

/** Whole bytes of a bit string. @throws {DerError} */
export function bitsOf(der: Der | undefined, what: string): Uint8Array {
  const { value } = expect(der, TAG.bitString, what);
  if (value.length === 0 || value[0]! > 7) throw no(`${what} is no bit string`);
  return value.subarray(1);
}

/** Milliseconds since 1970, of either kind of time. @throws {DerError} */
export function timeOf(der: Der | undefined, what: string): number {
  const text = String.fromCharCode(...(der?.value ?? []).slice(0, 40));
  const match =
    der?.tag === TAG.generalizedTime
      ? /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(?:\.(\d{1,9}))?Z$/.exec(text)
      : der?.tag === TAG.utcTime
        ? /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(text)
        : null;
  if (match === null) throw no(`${what} is no time`);
  const [, year = '', month, day, hour, minute, second, fraction = ''] = match;
  // RFC 5280 4.1.2.5.1.
  const whole = year.length === 4 ? year : `${Number(year) < 50 ? 20 : 19}${year}`;
  const iso = `${whole}-${month}-${day}T${hour}:${minute}:${second}.${fraction.padEnd(3, '0').slice(0, 3)}Z`;
  const time = Date.parse(iso);
  if (Number.isNaN(time) || new Date(time).toISOString() !== iso) throw no(`${what} is a time that does not exist`);
  return time;
}

/** One element. */
export function writeDer(tag: number, ...values: readonly Uint8Array[]): Uint8Array {
  const length = values.reduce((sum, value) => sum + value.length, 0);
  const coded: number[] = [];
  if (length < 0x80) coded.push(length);
  else {
    for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) coded.unshift(rest % 256);
    coded.unshift(0x80 + coded.length);
  }
  const out = new Uint8Array(1 + coded.length + length);
  out.set([tag, ...coded]);
  let at = 1 + coded.length;
  for (const value of values) {
    out.set(value, at);
    at += value.length;
  }
  return out;
}

/** An integer from its bytes, big-endian, never negative. */
export function writeInteger(bytes: Uint8Array): Uint8Array {
  let from = 0;
  while (from < bytes.length - 1 && bytes[from] === 0) from++;
  const short = bytes.subarray(from);
  return short[0] === undefined || short[0] >= 0x80
    ? writeDer(TAG.integer, Uint8Array.of(0), short)
    : writeDer(TAG.integer, short);
}

export function writeOid(dotted: string): Uint8Array {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  const bytes = [first * 40 + second, ...rest].flatMap((number) => {
    const out = [number % 128];
    for (let left = Math.floor(number / 128); left > 0; left = Math.floor(left / 128)) out.unshift(0x80 + (left % 128));
    return out;
  });
  return writeDer(TAG.oid, Uint8Array.from(bytes));
}

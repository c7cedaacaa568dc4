/**
 * The 512-byte tar header: POSIX.1-1988 ustar, v7, and GNU (tar(5) of libarchive, "Basic Format" of the GNU manual). Where the
 * programs that import images read a field differently, the field is refused rather than interpreted.
 */
import type { ByteString } from '#src/bytes.ts';
import { BootproofError } from '#src/error.ts';

/** Refusals of a tar stream that no importing program reads, or that two of them would read differently. */
export type TarCode =
  | 'TAR_CHECKSUM'
  | 'TAR_NUMBER'
  | 'TAR_TYPE'
  | 'TAR_SIZE'
  | 'TAR_NAME'
  | 'TAR_LINK'
  | 'TAR_PAX'
  | 'TAR_AMBIGUOUS'
  | 'TAR_SPARSE'
  | 'TAR_TRUNCATED'
  | 'TAR_TRAILING'
  | 'LIMIT_ENTRIES'
  | 'LIMIT_PAX'
  | 'LIMIT_NAMES'
  | 'LIMIT_SPARSE';
export class TarError extends BootproofError<TarCode> {}

export const BLOCK = 512;

export type Header = {
  readonly name: ByteString;
  readonly link: ByteString;
  /** The type byte; 0 for v7 and some regular files. */
  readonly typeflag: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  /** Whether the modification time is after 1970-01-01T00:00:00Z; tar-rs, which ostree-ext reads with, takes negative as huge. */
  readonly mtime: boolean;
  /** Whether the time, or a device number, is no number; nothing here needs them, but some importers refuse the archive. */
  readonly oddNumber: boolean;
  /** `ustar` and `gnu` may carry extension headers; v7 may not. */
  readonly format: 'v7' | 'ustar' | 'gnu';
};

/** The bytes up to the first NUL of a field, one character each. */
export function field(block: Buffer, at: number, length: number): ByteString {
  let end = at;
  while (end < at + length && block[end] !== 0) end++;
  return block.toString('latin1', at, end);
}

/**
 * A numeric field: octal digits between blanks and NULs, or base-256 where the first bit is set (GNU). Empty is 0.
 * @throws {TarError} TAR_NUMBER for anything else, for negative numbers, and beyond 2^53.
 */
export function number(block: Buffer, at: number, length: number, what: string, code: TarCode = 'TAR_NUMBER'): number {
  const first = block[at]!;
  let value = 0;
  if (first >= 0x80) {
    if (first !== 0x80) throw new TarError(code, `${what} is negative or beyond 2^53`);
    for (let i = at + 1; i < at + length; i++) {
      value = value * 256 + block[i]!;
      if (value > Number.MAX_SAFE_INTEGER) throw new TarError(code, `${what} is beyond 2^53`);
    }
    return value;
  }
  let i = at;
  const end = at + length;
  while (i < end && block[i] === 0x20) i++;
  for (; i < end; i++) {
    const digit = block[i]! - 0x30;
    if (digit < 0 || digit > 7) break;
    value = value * 8 + digit;
  }
  for (; i < end; i++)
    if (block[i] !== 0 && block[i] !== 0x20) throw new TarError(code, `${what} is not an octal number`);
  return value;
}

/** Whether all bytes of the block are zero. */
export function isZero(block: Buffer, at: number): boolean {
  for (let i = at; i < at + BLOCK; i++) if (block[i] !== 0) return false;
  return true;
}

/**
 * Reads the header at `at`.
 * @throws {TarError} TAR_CHECKSUM, TAR_NUMBER.
 */
export function parseHeader(block: Buffer, at: number): Header {
  let sum = 8 * 0x20; // the checksum field counts as blanks
  for (let i = at; i < at + 148; i++) sum += block[i]!;
  for (let i = at + 156; i < at + BLOCK; i++) sum += block[i]!;
  if (number(block, at + 148, 8, 'the checksum', 'TAR_CHECKSUM') !== sum)
    throw new TarError('TAR_CHECKSUM', 'the header checksum does not match: not a tar header, or a damaged one');
  const magic = block.toString('latin1', at + 257, at + 265);
  const format = magic === 'ustar\x0000' ? 'ustar' : magic === 'ustar  \0' ? 'gnu' : 'v7';
  let name = field(block, at, 100);
  if (format === 'ustar' && block[at + 345] !== 0) name = `${field(block, at + 345, 155)}/${name}`;
  return {
    name,
    link: field(block, at + 157, 100),
    typeflag: block[at + 156]!,
    mode: number(block, at + 100, 8, 'the mode') & 0o7777,
    uid: id(number(block, at + 108, 8, 'the uid'), 'uid'),
    gid: id(number(block, at + 116, 8, 'the gid'), 'gid'),
    size: number(block, at + 124, 12, 'the size'),
    mtime: isPositive(block, at + 136, 12),
    oddNumber:
      !isNumber(block, at + 136, 12) ||
      (format !== 'v7' && !(isNumber(block, at + 329, 8) && isNumber(block, at + 337, 8))),
    format,
  };
}

function isNumber(block: Buffer, at: number, length: number): boolean {
  if (block[at]! >= 0x80) return true;
  let i = at;
  const end = at + length;
  while (i < end && block[i] === 0x20) i++;
  while (i < end && block[i]! >= 0x30 && block[i]! <= 0x37) i++;
  while (i < end && (block[i] === 0 || block[i] === 0x20)) i++;
  return i === end;
}

/** Device numbers of a `3` or `4` entry. */
export function parseDevice(block: Buffer, at: number): string {
  return `${number(block, at + 329, 8, 'the device major')}:${number(block, at + 337, 8, 'the device minor')}`;
}

/** @throws {TarError} TAR_NUMBER where the kernel could not hold the id: the importers would cut it, each in its way. */
export function id(value: number, what: string): number {
  // The last one is no id to the kernel, but "leave it as it is".
  if (value >= 0xffff_ffff) throw new TarError('TAR_NUMBER', `the ${what} ${value} is beyond what the kernel holds`);
  return value;
}

// No importer stores the time; but whether it is positive decides how ostree-ext treats
// hard links into the base's objects (write.rs: is_modified).
function isPositive(block: Buffer, at: number, length: number): boolean {
  if (block[at]! >= 0x80) return true;
  for (let i = at; i < at + length; i++) if (block[i]! > 0x30 && block[i]! <= 0x37) return true;
  return false;
}

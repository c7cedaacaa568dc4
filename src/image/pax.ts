/**
 * PAX extended header records (POSIX.1-2001, pax "Extended Header"): `length key=value\n`. Values are bytes. Only what changes
 * the tree is kept.
 */
import { toUtf8, type ByteString } from '#src/bytes.ts';
import { NAME_BYTES_MAX, XATTR_BYTES_MAX } from '#src/limits.ts';
import { printable } from '#src/terminal.ts';
import { id, TarError } from './tarheader.ts';

/** What the records of one extended header say of the entry that follows. */
export type Pax = {
  path?: ByteString;
  linkpath?: ByteString;
  size?: number;
  uid?: number;
  gid?: number;
  /** `security.capability`, base64 of the raw value. */
  capability?: string;
  /** Any extended attribute but `security.capability`, and `security.selinux`, which no host takes from an image. */
  otherXattrs: boolean;
  /** An attribute `user.*`: the kernel takes those on files and directories only. */
  userXattr: boolean;
  /** An attribute outside the namespaces that file systems know. */
  foreignXattr: boolean;
  /** An attribute whose name or value the kernel takes on no file (xattr(7), limits.h). */
  badXattr: boolean;
  /** An extended attribute with an empty value: `ostree fsck` calls the import corrupt (merge errata 12). */
  emptyXattr: boolean;
  /** Some value holds a newline byte: ostree-ext cannot read the header (merge errata 11). */
  newline: boolean;
  /** A modification time that composefs-rs cannot read: negative, or no number. */
  oddTime: boolean;
  /** A record that Go's archive/tar refuses: a time that is no number, a user or group name with a NUL byte. */
  oddForGo: boolean;
  /** A key that is not UTF-8: ostree-ext refuses it. */
  oddKey: boolean;
  sparse?: PaxSparse;
};

/** `GNU.sparse.*` (GNU manual, "Storing Sparse Files"): versions 0.0, 0.1 and 1.0. */
export type PaxSparse = {
  major?: number;
  minor?: number;
  name?: ByteString;
  /** Apparent size, bytes. */
  realSize?: number;
  /** Offset, length, offset, length … of the data, where the header has the map (0.0, 0.1). */
  map?: number[];
};

const XATTR = 'SCHILY.xattr.';
const CAPABILITY = 'SCHILY.xattr.security.capability';
const SELINUX = 'SCHILY.xattr.security.selinux';
const NAMESPACES = new Set(['user', 'trusted', 'security', 'system']);

/** @throws {TarError} TAR_PAX for what is not a list of records, TAR_AMBIGUOUS for a key that is there twice with two values. */
export function parsePax(data: Buffer, sparsePieces: number): Pax {
  const pax: Pax = {
    otherXattrs: false,
    userXattr: false,
    foreignXattr: false,
    badXattr: false,
    emptyXattr: false,
    newline: false,
    oddTime: false,
    oddForGo: false,
    oddKey: false,
  };
  const seen = new Map<ByteString, ByteString>();
  let at = 0;
  while (at < data.length) {
    const start = at;
    let length = 0;
    while (at < data.length && data[at]! >= 0x30 && data[at]! <= 0x39 && length <= data.length)
      length = length * 10 + data[at++]! - 0x30;
    const end = start + length;
    if (at === start || data[at] !== 0x20 || end > data.length || end <= at + 1 || data[end - 1] !== 0x0a)
      throw new TarError('TAR_PAX', 'a PAX record has a wrong length');
    const equals = data.indexOf(0x3d, at);
    if (equals <= at + 1 || equals >= end) throw new TarError('TAR_PAX', 'a PAX record is not of the form key=value');
    const key = data.toString('latin1', at + 1, equals);
    if (key.includes('\0')) throw new TarError('TAR_PAX', 'the key of a PAX record has a NUL byte');
    pax.oddKey ||= toUtf8(key) === undefined;
    const value = data.subarray(equals + 1, end - 1);
    if (value.includes(0x0a)) pax.newline = true;
    take(pax, key, value, seen, sparsePieces);
    at = end;
  }
  return pax;
}

function take(pax: Pax, key: ByteString, value: Buffer, seen: Map<ByteString, ByteString>, sparsePieces: number): void {
  // 0.0 repeats this pair for each piece of data; every other key that matters may stand once.
  if (key === 'GNU.sparse.offset' || key === 'GNU.sparse.numbytes') return sparsePair(pax, key, value, sparsePieces);
  const kind = KINDS.get(key);
  if (kind === undefined && !key.startsWith(XATTR)) return;
  const text = value.toString('latin1');
  const before = seen.get(key);
  // Of two records tar-rs takes the first, Go and tar-core the last.
  if (before !== undefined && before !== text)
    throw new TarError('TAR_AMBIGUOUS', `two PAX records for ${printable(key.slice(0, 200))} differ`);
  if (before !== undefined) return;
  seen.set(key, text);
  if (kind === undefined) return xattr(pax, key, value);
  if (text === '' && kind !== 'time' && kind !== 'name')
    throw new TarError('TAR_PAX', `the PAX record ${key} is empty`);
  switch (kind) {
    case 'path':
      pax[key as 'path' | 'linkpath'] = text;
      break;
    case 'size':
      pax.size = decimal(text, key);
      break;
    case 'id':
      pax[key as 'uid' | 'gid'] = id(decimal(text, key), key);
      break;
    case 'time':
      pax.oddTime ||= key === 'mtime' && !/^[0-9]+(?:\.|$)/.test(text);
      pax.oddForGo ||= text !== '' && !/^[+-]?[0-9]{1,18}(?:\.[0-9]*)?$/.test(text);
      break;
    case 'name':
      pax.oddForGo ||= text.includes('\0');
      break;
    case 'sparse':
      sparse(pax, key, text, sparsePieces);
      break;
  }
}

const KINDS = new Map<ByteString, 'path' | 'size' | 'id' | 'time' | 'name' | 'sparse'>([
  ['path', 'path'],
  ['linkpath', 'path'],
  ['size', 'size'],
  ['uid', 'id'],
  ['gid', 'id'],
  ['mtime', 'time'],
  ['atime', 'time'],
  ['ctime', 'time'],
  ['uname', 'name'],
  ['gname', 'name'],
  ['GNU.sparse.major', 'sparse'],
  ['GNU.sparse.minor', 'sparse'],
  ['GNU.sparse.name', 'sparse'],
  ['GNU.sparse.realsize', 'sparse'],
  ['GNU.sparse.size', 'sparse'],
  ['GNU.sparse.map', 'sparse'],
]);

function xattr(pax: Pax, key: ByteString, value: Buffer): void {
  if (key === CAPABILITY) pax.capability = value.toString('base64');
  else if (key !== SELINUX) pax.otherXattrs = true;
  const name = key.slice(XATTR.length);
  const [namespace] = name.split('.', 1);
  pax.userXattr ||= namespace === 'user';
  pax.foreignXattr ||= name !== '' && !NAMESPACES.has(namespace!);
  pax.badXattr ||= name === `${namespace}.` || name.length > NAME_BYTES_MAX || value.length > XATTR_BYTES_MAX;
  if (value.length === 0) pax.emptyXattr = true;
}

function decimal(text: ByteString, key: string): number {
  const value = /^[0-9]{1,16}$/.test(text) ? Number(text) : Infinity;
  if (value > Number.MAX_SAFE_INTEGER)
    throw new TarError('TAR_PAX', `the PAX record ${key} is not a number below 2^53`);
  return value;
}

function sparse(pax: Pax, key: ByteString, text: ByteString, sparsePieces: number): void {
  pax.sparse ??= {};
  switch (key) {
    case 'GNU.sparse.major':
      pax.sparse.major = decimal(text, key);
      break;
    case 'GNU.sparse.minor':
      pax.sparse.minor = decimal(text, key);
      break;
    case 'GNU.sparse.name':
      pax.sparse.name = text;
      break;
    case 'GNU.sparse.map': {
      const numbers = text.split(',', 2 * sparsePieces + 1).map((part) => decimal(part, key));
      if (numbers.length > 2 * sparsePieces) throw tooManyPieces(sparsePieces);
      if (numbers.length % 2 !== 0) throw new TarError('TAR_SPARSE', 'the sparse map has an odd number of values');
      pax.sparse.map = numbers;
      break;
    }
    default:
      pax.sparse.realSize = decimal(text, key);
  }
}

function sparsePair(pax: Pax, key: ByteString, value: Buffer, sparsePieces: number): void {
  pax.sparse ??= {};
  const map = (pax.sparse.map ??= []);
  if ((map.length % 2 === 0) !== (key === 'GNU.sparse.offset'))
    throw new TarError('TAR_SPARSE', 'sparse offsets and lengths do not alternate');
  if (map.length >= 2 * sparsePieces) throw tooManyPieces(sparsePieces);
  map.push(decimal(value.toString('latin1'), key));
}

export function tooManyPieces(limit: number): TarError {
  return new TarError('LIMIT_SPARSE', `the sparse file has more than ${limit} pieces of data`);
}

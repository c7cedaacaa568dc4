/**
 * What Node does not offer and the C library does, for the workers of a scan. It stands alone, with nothing but `node:`, because its source is handed
 * to the worker threads as text (pool.ts, `workerSource`).
 */
import { getSystemErrorName } from 'node:util';

/** Questions about an open file, or a path. */
export type C = {
  /** The raw capability in base64; undefined for none. */
  file(fd: number): string | undefined;
  path(path: string): string | undefined;
  /** Offset of the next data at or behind `from`; `end` where none follows, and where the file system cannot tell it begins at once. */
  data(fd: number, from: number, end: number): number;
  hole(fd: number, from: number, end: number): number;
  /** The fs-verity digest that the kernel holds all reading of it to (SHA-256 in hex); undefined where there is none, or one with another hash. */
  verity(fd: number): string | undefined;
  /** Whether a page of it may be in the page cache already: where that is not told, yes. */
  isResident(fd: number, size: number): boolean;
  /** Gives back the page cache that so many bytes of it take, as far as nobody else uses it. */
  forget(fd: number, from: number, length: number): void;
  /** Whether the data of both lie in the same blocks of a disk; false where the kernel does not tell. The disk must be the same one. */
  isSamePlace(a: number, b: number): boolean;
};

// linux/fsverity.h, linux/fiemap.h, unistd.h; the numbers are the same on x86-64 and arm64.
const FS_IOC_MEASURE_VERITY = 0xc0046686n;
const FS_IOC_FIEMAP = 0xc020660bn;
const VERITY_SHA256 = 1;
const SYS_CACHESTAT = 451n;
const POSIX_FADV_DONTNEED = 4;
const RWF_NOWAIT = 8;
const FIEMAP_SYNC = 1;
const [MAP_BYTES, EXTENT_BYTES, EXTENT_FLAGS] = [32, 56, 40];
/** Files in more pieces are read. */
const EXTENTS_MAX = 256;
/** Last, merged, shared; all others say that the place is not (yet) known or holds more than this file. */
const [EXTENT_LAST, EXTENT_HARMLESS] = [0x1, 0x3001];

export class XattrError extends Error {
  readonly code: string;

  constructor(code: string) {
    super(`security.capability cannot be read: ${code}`);
    this.code = code;
  }
}

/** `cachestat`: whether the kernel may be asked by that call. @throws whatever the loader says where there is no node:ffi or no such C library. */
export async function openC({ cachestat = true } = {}): Promise<C> {
  const { dlopen, getInt32, getRawPointer } = await import('node:ffi');
  const { functions: c } = dlopen('libc.so.6', {
    fgetxattr: { arguments: ['int32', 'buffer', 'buffer', 'uint64'], return: 'int64' },
    lgetxattr: { arguments: ['buffer', 'buffer', 'buffer', 'uint64'], return: 'int64' },
    ioctl: { arguments: ['int32', 'uint64', 'buffer'], return: 'int32' },
    posix_fadvise: { arguments: ['int32', 'int64', 'int64', 'int32'], return: 'int32' },
    preadv2: { arguments: ['int32', 'buffer', 'int32', 'int64', 'int32'], return: 'int64' },
    syscall: { arguments: ['int64', 'int32', 'buffer', 'buffer', 'uint32'], return: 'int64' },
    lseek: { arguments: ['int32', 'int64', 'int32'], return: 'int64' },
    __errno_location: { arguments: [], return: 'pointer' },
  });
  const name = Buffer.from('security.capability\0');
  // The longest form (revision 3) has 24 bytes; whatever else stands there is told as far as this.
  const value = Buffer.alloc(256);
  const room = BigInt(value.length);
  const errno = c.__errno_location();
  const ENODATA = 61;
  const EOPNOTSUPP = 95;
  const value64 = (length: bigint): string | undefined => {
    if (length >= 0n) return value.toString('base64', 0, Number(length));
    const code = getInt32(errno);
    if (code === ENODATA || code === EOPNOTSUPP) return undefined;
    throw new XattrError(getSystemErrorName(-code));
  };
  const [SEEK_DATA, SEEK_HOLE, ENXIO] = [3, 4, 6];
  const seek = (fd: number, from: number, whence: number, none: number): number => {
    const at = c.lseek(fd, BigInt(from), whence);
    if (at >= 0n) return Number(at);
    return getInt32(errno) === ENXIO ? none : -1;
  };
  const digest = Buffer.alloc(4 + 64);
  const maps = [
    Buffer.alloc(MAP_BYTES + EXTENTS_MAX * EXTENT_BYTES),
    Buffer.alloc(MAP_BYTES + EXTENTS_MAX * EXTENT_BYTES),
  ];
  /** The extents of a file, each whole and known; undefined where they are not. */
  const extents = (fd: number, map: Buffer): Buffer | undefined => {
    map.fill(0, 0, MAP_BYTES);
    map.writeBigUInt64LE(2n ** 64n - 1n, 8);
    // What is written and not yet on the disk may lie elsewhere soon: it is put there first.
    map.writeUInt32LE(FIEMAP_SYNC, 16);
    map.writeUInt32LE(EXTENTS_MAX, 24);
    if (c.ioctl(fd, FS_IOC_FIEMAP, map) !== 0) return undefined;
    const count = map.readUInt32LE(20);
    let flags = 0;
    for (let i = 0; i < count; i++) {
      flags = map.readUInt32LE(MAP_BYTES + i * EXTENT_BYTES + EXTENT_FLAGS);
      if ((flags & ~EXTENT_HARMLESS) !== 0) return undefined;
    }
    return (flags & EXTENT_LAST) === 0 ? undefined : map.subarray(MAP_BYTES, MAP_BYTES + count * EXTENT_BYTES);
  };
  const range = Buffer.alloc(16); // from 0, to the end
  const pages = Buffer.alloc(40);
  // One iovec, and behind it the byte that it points to: in an ArrayBuffer, which V8 does not move as it does small arrays of their own.
  const memory = new ArrayBuffer(64);
  const vector = Buffer.from(memory);
  vector.writeBigUInt64LE(getRawPointer(memory) + 32n, 0);
  vector.writeBigUInt64LE(1n, 8);
  let asks = cachestat;
  /** Whether a byte can be read without asking the disk. */
  const isAtHand = (fd: number, at: number): boolean => c.preadv2(fd, vector, 1, BigInt(at), RWF_NOWAIT) === 1n;
  return {
    isResident: (fd, size) => {
      if (asks && c.syscall(SYS_CACHESTAT, fd, range, pages, 0) === 0n) return pages.readBigUInt64LE(0) > 0n;
      // Before Linux 6.5 there is no such call, and since 6.14 it answers owners and root alone: then the ends tell. The last byte first,
      // as asking for one brings those behind it.
      asks = false;
      return isAtHand(fd, size - 1) || isAtHand(fd, 0);
    },
    forget: (fd, from, length) => void c.posix_fadvise(fd, BigInt(from), BigInt(length), POSIX_FADV_DONTNEED),
    verity: (fd) => {
      digest.writeUInt16LE(64, 2);
      if (c.ioctl(fd, FS_IOC_MEASURE_VERITY, digest) !== 0) return undefined;
      const isOurs = digest.readUInt16LE(0) === VERITY_SHA256 && digest.readUInt16LE(2) === 32;
      return isOurs ? digest.toString('hex', 4, 36) : undefined;
    },
    isSamePlace: (a, b) => {
      const place = extents(a, maps[0]!);
      return place !== undefined && extents(b, maps[1]!)?.equals(place) === true;
    },
    data: (fd, from, end) => {
      const at = seek(fd, from, SEEK_DATA, end);
      return at < 0 ? from : Math.min(at, end);
    },
    hole: (fd, from, end) => {
      const at = seek(fd, from, SEEK_HOLE, end);
      return at < 0 ? end : Math.min(at, end);
    },
    file: (fd) => value64(c.fgetxattr(fd, name, value, room)),
    path: (path) => value64(c.lgetxattr(Buffer.from(`${path}\0`, 'latin1'), name, value, room)),
  };
}

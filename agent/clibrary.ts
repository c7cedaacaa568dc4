/**
 * What Node does not offer and the C library does, for the workers of a scan. It stands alone, with nothing but `node:`, because its source is handed
 * to the worker threads as text (pool.ts, `workerSource`).
 */
import { getSystemErrorName } from 'node:util';

/** A file's raw capability (base64, undefined for none), and where its data and its holes begin. */
export type C = {
  file(fd: number): string | undefined;
  path(path: string): string | undefined;
  /** Offset of the next data at or behind `from`; `end` where none follows, and where the file system cannot tell it begins at once. */
  data(fd: number, from: number, end: number): number;
  hole(fd: number, from: number, end: number): number;
};
export class XattrError extends Error {
  readonly code: string;

  constructor(code: string) {
    super(`security.capability cannot be read: ${code}`);
    this.code = code;
  }
}

/** @throws whatever the loader says where there is no node:ffi or no such C library. */
export async function openC(): Promise<C> {
  const { dlopen, getInt32 } = await import('node:ffi');
  const { functions: c } = dlopen('libc.so.6', {
    fgetxattr: { arguments: ['int32', 'buffer', 'buffer', 'uint64'], return: 'int64' },
    lgetxattr: { arguments: ['buffer', 'buffer', 'buffer', 'uint64'], return: 'int64' },
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
  return {
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

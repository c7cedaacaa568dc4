/**
 * Which files' contents are wanted while layers are read: the databases in which package managers write what they installed. Whoever reads an
 * image hands in a `Keep`; without one nothing is kept.
 */
import type { ByteString } from '#src/bytes.ts';
import { PACKAGE_DB_BYTES_MAX, PACKAGE_LIST_BYTES_MAX } from '#src/limits.ts';
import { OBJECTS } from './tarentry.ts';

/** Takes the content of one file as it comes by; `end` tells its SHA-256, hex. Neither throws: what cannot be kept is not. */
export interface Sink {
  write(data: Uint8Array): void;
  end(sha256: string): void;
}

export interface Keep {
  /** A sink for a file of a layer, as the archive names it; undefined where its content is not wanted. */
  open(layer: number, name: ByteString, size: number): Sink | undefined;
}

const RPM = /(?:^|\/)(?:usr\/lib\/sysimage|usr\/share|var\/lib)\/rpm\/rpmdb\.sqlite(?:-wal)?$/;
// Debian's own place, and where images move it so that it comes with /usr (docs/origin.md).
const DPKG = /(?:^|\/)(?:usr\/lib\/sysimage|usr\/lib|usr\/share|var\/lib)\/dpkg\/(?:status|info\/[^/]+\.list)$/;

/**
 * Whether a file may be, or be of, a package database: by its name, or `look`, by how it begins (`beginsAsWanted`): in an encapsulated ostree
 * commit the content comes before any name, as an object.
 */
export function isWanted(name: ByteString, size: number): 'yes' | 'look' | 'no' {
  if (size === 0 || size > PACKAGE_DB_BYTES_MAX) return 'no';
  if (name.includes(OBJECTS)) return name.endsWith('.file') ? 'look' : 'no';
  if (RPM.test(name)) return 'yes';
  return size <= PACKAGE_LIST_BYTES_MAX && DPKG.test(name) ? 'yes' : 'no';
}

/** Bytes that `beginsAsWanted` wants to see, unless the file is shorter. */
export const HEAD_BYTES = 16;

/** SQLite files and write-ahead logs (sqlite.org/fileformat.html, 1.3.1 and 4.1), dpkg's `status`, and its lists, whose first line is `/.`. */
export function beginsAsWanted(head: Uint8Array): boolean {
  const text = String.fromCharCode(...head.subarray(0, HEAD_BYTES));
  return ['SQLite format 3\0', '\x37\x7f\x06\x82', '\x37\x7f\x06\x83', 'Package: ', '/.\n'].some((begin) =>
    text.startsWith(begin),
  );
}

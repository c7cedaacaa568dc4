/** One path of a tree: what must be there, or what a scan saw. */
import type { ByteString } from '#src/bytes.ts';
import { compareBytes } from '#src/bytes.ts';

export type EntryType = 'dir' | 'file' | 'symlink' | 'char' | 'block' | 'fifo' | 'socket';

/**
 * What is known of one path. Times, link counts, inodes, directory sizes and SELinux labels are left out
 * on purpose: they differ on a faithful host (docs/manifest.md).
 */
export type Facts = {
  readonly type: EntryType;
  /** Permission bits with setuid, setgid and sticky (07777). 0 for symlinks, whose mode means nothing. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /**
   * Files only: bytes. Absent together with `sha256` where the comparison text hides a secret; there alone where a scan could not read the
   * content (`isUnread`).
   */
  readonly size?: number;
  /** Files only: SHA-256 of the content, 64 lower-case hex digits. */
  readonly sha256?: string;
  /** Symlinks only: the target, bytes as they stand. */
  readonly link?: ByteString;
  /** `security.capability`, the attribute's raw value in base64. */
  readonly capability?: string;
  /** Character and block devices: `major:minor`, decimal. */
  readonly device?: string;
};

/** Facts at an absolute path: `/usr`, `/usr/bin/sh`; never a trailing slash, `.` or `..`. */
export type Entry = Facts & { readonly path: ByteString };

/** The two trees that Bootproof proves. */
export type TreeName = 'usr' | 'etc';
export const TREES = ['usr', 'etc'] as const satisfies readonly TreeName[];

/**
 * The order of the canonical text: depth-first, siblings as bytes, as if `/` were 0x00, so that a folder's
 * content follows it at once (docs/manifest.md, rule 1).
 */
export function comparePaths(a: ByteString, b: ByteString): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x !== y) return (x === 0x2f ? 0 : x) - (y === 0x2f ? 0 : y);
  }
  return a.length - b.length;
}

/** Plain byte order of the whole path: the order of jsonl output. */
export function comparePathBytes(a: Entry, b: Entry): number {
  return compareBytes(a.path, b.path);
}

/** The tree that a path belongs to. */
export function treeOf(path: ByteString): TreeName | undefined {
  if (path === '/usr' || path.startsWith('/usr/')) return 'usr';
  if (path === '/etc' || path.startsWith('/etc/')) return 'etc';
  return undefined;
}

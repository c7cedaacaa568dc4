/**
 * The few acts on disk from which everything durable of the agent is made. Handed in, so that tests can stop the machine
 * between any two of them. Synchronous: the agent has nothing else to do meanwhile.
 */
import {
  closeSync,
  constants,
  fsyncSync,
  fstatSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { BootproofError } from '#src/error.ts';

/** STATE_UNREADABLE: a file of ours is not what it must be. STATE_UNWRITABLE: the disk is full, read-only or fails, or this user may not write. */
export class DiskError extends BootproofError<'STATE_UNREADABLE' | 'STATE_UNWRITABLE'> {}

/** Errors are those of node:fs, with a `code`. */
export type Disk = {
  /** Names in a folder, in no order; none where the folder is absent. */
  list(folder: string): string[];
  /** A file's bytes, at most `limit`; undefined where it is absent. @throws {DiskError} where there are more, or it is a link or no file. */
  read(file: string, limit: number): Uint8Array | undefined;
  /** A file's bytes in pieces, each valid until the next is asked for; nothing where it is absent. Read anew with each iteration. */
  pieces(file: string): Iterable<Uint8Array>;
  /** Makes a file that was not there, piece by piece; after `end` its content is on the disk, as after `create`. */
  writer(file: string, mode: number): { write(bytes: Uint8Array): void; end(): void };
  /** Size and permission bits of a file; undefined where it is absent. */
  stat(file: string): { readonly bytes: number; readonly mode: number } | undefined;
  /** Makes a file that was not there and waits until its content is on the disk. Its name is not, before `syncFolder`. */
  create(file: string, bytes: Uint8Array, mode: number): void;
  /** A second name for a file; fails with EEXIST where that is taken. */
  link(from: string, to: string): void;
  rename(from: string, to: string): void;
  /** Absent is well. */
  unlink(file: string): void;
  /** Waits until the names in a folder are on the disk. */
  syncFolder(folder: string): void;
  /** With all above it, 0700; there already is well. */
  makeFolder(folder: string): void;
};

const isAbsent = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENOENT';

export const nodeDisk: Disk = {
  list(folder) {
    try {
      return readdirSync(folder);
    } catch (error) {
      if (isAbsent(error)) return [];
      throw error;
    }
  },
  read(file, limit) {
    const fd = openExisting(file);
    if (fd === undefined) return undefined;
    try {
      const stat = fstatSync(fd);
      if (!stat.isFile() || stat.size > limit)
        throw new DiskError('STATE_UNREADABLE', `${file} is no regular file of at most ${limit} bytes`);
      const bytes = new Uint8Array(stat.size);
      let length = 0;
      for (let n = -1; n !== 0 && length < bytes.length; length += n)
        n = readSync(fd, bytes, length, bytes.length - length, null);
      return bytes.subarray(0, length);
    } finally {
      closeSync(fd);
    }
  },
  stat(file) {
    const fd = openExisting(file);
    if (fd === undefined) return undefined;
    try {
      const { size, mode } = fstatSync(fd);
      return { bytes: size, mode: mode & 0o7777 };
    } finally {
      closeSync(fd);
    }
  },
  pieces: (file) => ({ [Symbol.iterator]: () => piecesOf(file) }),
  writer(file, mode) {
    const fd = openSync(file, 'wx', mode);
    return {
      write(bytes) {
        for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at);
      },
      end() {
        try {
          fsyncSync(fd);
        } finally {
          closeSync(fd);
        }
      },
    };
  },
  create(file, bytes, mode) {
    const writer = this.writer(file, mode);
    try {
      writer.write(bytes);
    } finally {
      writer.end();
    }
  },
  link: linkSync,
  rename: renameSync,
  unlink,
  syncFolder(folder) {
    const fd = openSync(folder, 'r');
    try {
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  },
  makeFolder(folder) {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  },
};

/** Absent is well. Not `rmSync`: its errors tell neither `code` nor `syscall`, so that a disk that fails looks like a mistake of ours. */
export function unlink(file: string): void {
  try {
    unlinkSync(file);
  } catch (error) {
    if (!isAbsent(error)) throw error;
  }
}

const PIECE_BYTES = 256 * 1024;

function* piecesOf(file: string): Generator<Uint8Array> {
  const fd = openExisting(file);
  if (fd === undefined) return;
  try {
    const buffer = new Uint8Array(PIECE_BYTES);
    for (let n = readSync(fd, buffer); n > 0; n = readSync(fd, buffer)) yield buffer.subarray(0, n);
  } finally {
    closeSync(fd);
  }
}

/** Never follows a link at the end, and never waits for a fifo's writer. */
function openExisting(file: string): number | undefined {
  try {
    return openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (isAbsent(error)) return undefined;
    if ((error as NodeJS.ErrnoException).code === 'ELOOP')
      throw new DiskError('STATE_UNREADABLE', `${file} is a link, and is not followed`, { cause: error });
    throw error;
  }
}

/**
 * Replaces a file as a whole: after a power cut there is the old content or the new one. Durable when it returns. What stands
 * before the name of the new file while it is written is `.new-`; such a file left over is overwritten by the next save.
 */
export function save(disk: Disk, folder: string, name: string, bytes: Uint8Array, mode = 0o600): void {
  const fresh = `${folder}/.new-${name}`;
  disk.unlink(fresh);
  disk.create(fresh, bytes, mode);
  disk.rename(fresh, `${folder}/${name}`);
  disk.syncFolder(folder);
}

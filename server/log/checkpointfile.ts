/**
 * The last checkpoint that this process published, in a file apart from the database: a database that was restored from a backup is
 * smaller than what was published, and to sign on from there would be a fork (docs/log.md).
 */
import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, unlinkSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { CHECKPOINT_BYTES_MAX } from '#src/limits.ts';
import { BootproofError } from '#src/error.ts';
import { makeFolders } from '#server/folder.ts';

export class CheckpointFileError extends BootproofError</** It cannot be read or written. */
'CHECKPOINT_FILE'> {}

export class CheckpointFile {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /** The note that it holds; undefined where there is no file. @throws {CheckpointFileError} */
  read(): string | undefined {
    try {
      const bytes = readFileSync(this.path);
      if (bytes.length > CHECKPOINT_BYTES_MAX) throw new Error(`${bytes.length} bytes are no checkpoint`);
      return bytes.toString('utf8');
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw this.#failed('read', cause);
    }
  }

  /** Durable when it returns; whole or as it was. @throws {CheckpointFileError} */
  write(note: string): void {
    const folder = dirname(this.path);
    const fresh = join(folder, `.checkpoint-${randomBytes(6).toString('hex')}`);
    try {
      makeFolders(folder);
      const file = openSync(fresh, 'wx', 0o644);
      try {
        writeSync(file, note);
        fsyncSync(file);
      } finally {
        closeSync(file);
      }
      renameSync(fresh, this.path);
      const held = openSync(folder, 'r');
      try {
        fsyncSync(held);
      } finally {
        closeSync(held);
      }
    } catch (cause) {
      try {
        unlinkSync(fresh);
      } catch {
        // it was not made, or took its place already: what failed is told below
      }
      throw this.#failed('written', cause);
    }
  }

  /** Durable when it returns. @throws {CheckpointFileError} */
  remove(): void {
    try {
      unlinkSync(this.path);
      const held = openSync(dirname(this.path), 'r');
      try {
        fsyncSync(held);
      } finally {
        closeSync(held);
      }
    } catch (cause) {
      throw this.#failed('written', cause);
    }
  }

  #failed(how: 'read' | 'written', cause: unknown): CheckpointFileError {
    const why = (cause as NodeJS.ErrnoException).code ?? (cause instanceof Error ? cause.message : String(cause));
    return new CheckpointFileError(
      'CHECKPOINT_FILE',
      `the file of the log's last checkpoint cannot be ${how}: ${this.path}: ${why}; mend it, or name another place with --log-checkpoint`,
      { cause },
    );
  }
}

/** Files of backups: whole or not there, durable, and never in the place of another one. */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  copyFileSync,
  constants,
  existsSync,
  fsyncSync,
  linkSync,
  openSync,
  readdirSync,
  rmSync,
  unlinkSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { KeepError } from './fault.ts';

/** `part` beside a file, as it is named until it is whole. */
export const partOf = (file: string): string =>
  join(dirname(file), `.${basename(file)}.${randomBytes(4).toString('hex')}.part`);

/** @throws {KeepError} KEEP_EXISTS */
export function mustBeFree(file: string): void {
  if (existsSync(file))
    throw new KeepError(
      'KEEP_EXISTS',
      `${file} is there already, and nothing is overwritten: name another file, or move it away`,
    );
}

export function syncFolder(folder: string): void {
  const held = openSync(folder, 'r');
  try {
    fsyncSync(held);
  } finally {
    closeSync(held);
  }
}

/** Gives a finished part its name. @throws {KeepError} KEEP_EXISTS where somebody else made the file meanwhile. */
export function putInPlace(part: string, file: string): void {
  try {
    linkSync(part, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') mustBeFree(file);
    throw failed('written', file, error);
  }
  unlinkSync(part);
  syncFolder(dirname(file));
}

/** Durable when it returns. */
export function copyFile(from: string, to: string): void {
  try {
    copyFileSync(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
    const file = openSync(to, 'r+');
    try {
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
  } catch (error) {
    throw failed('written', to, error);
  }
}

export function removeQuietly(path: string): void {
  rmSync(path, { recursive: true, force: true });
}

export const failed = (how: 'read' | 'written', path: string, cause: unknown): KeepError =>
  new KeepError(
    'KEEP_FILE',
    `${path} cannot be ${how}: ${(cause as NodeJS.ErrnoException).code ?? String(cause)}; look at the folder, its owner and the room on its disk`,
    { cause },
  );

/** Names in a folder; none where there is no folder. */
export function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw failed('read', folder, error);
  }
}

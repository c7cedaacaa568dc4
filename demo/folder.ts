/** The folder that a server started by hand keeps its things in: here, or where this user may write. */
import { accessSync, constants, lstatSync, mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { UsageError, type Io } from '#src/terminal.ts';

/**
 * `wanted`, or ./bootproof-data where nothing was asked for, or with a warning a folder below `fallback` that this user alone can read.
 * @throws {UsageError} where `wanted` was asked for and cannot be used, or somebody else was first at the place to fall back to.
 */
export async function usableFolder(wanted: string | undefined, fallback: string, uid: number, io: Io): Promise<string> {
  const folder = resolve(wanted ?? 'bootproof-data');
  if (isUsable(folder)) return folder;
  if (wanted !== undefined) throw new UsageError(`--data ${wanted}: no folder that this user may write`);
  const other = join(fallback, `bootproof-${uid}`);
  mkdirSync(other, { recursive: true, mode: 0o700 });
  // The name can be guessed, and in /tmp anybody may have made it: keys and the admin token come to lie in it.
  const found = lstatSync(other);
  if (!found.isDirectory() || found.uid !== uid || (found.mode & 0o077) !== 0)
    throw new UsageError(
      `${folder} cannot be written, and ${other} is not this user's alone: name a folder with --data, or remove that one`,
    );
  await io.stderr.write(`warning: ${folder} cannot be written, so everything is kept in ${other}\n`);
  return other;
}

function isUsable(folder: string): boolean {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    accessSync(folder, constants.W_OK | constants.X_OK);
    return true;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? '';
    if (['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'EEXIST'].includes(code)) return false;
    throw error;
  }
}

/** Making a folder with those above it. */
import { closeSync, fsyncSync, mkdirSync, openSync, statSync } from 'node:fs';
import { dirname } from 'node:path';

/**
 * As `mkdir -p`, for its owner alone. Node's own never comes back from places where nothing can be made, such as /proc.
 * @throws {NodeJS.ErrnoException} ENOTDIR where something else stands in the way
 */
export function makeFolders(path: string): void {
  try {
    make(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST' || code === 'EISDIR') {
      if (statSync(path).isDirectory()) return;
      throw Object.assign(new Error(`${path} is no folder`), { code: 'ENOTDIR' });
    }
    const above = dirname(path);
    if (code !== 'ENOENT' || above === path) throw error;
    makeFolders(above);
    make(path);
  }
}

/** With its name on the disk: what is fsynced inside it later is worth nothing if the folder itself is gone after a loss of power. */
function make(path: string): void {
  mkdirSync(path, { mode: 0o700 });
  let above: number;
  try {
    above = openSync(dirname(path), 'r');
  } catch (error) {
    // One that may be written and not read cannot be synced; the folder is there all the same.
    if ((error as NodeJS.ErrnoException).code === 'EACCES') return;
    throw error;
  }
  try {
    fsyncSync(above);
  } finally {
    closeSync(above);
  }
}

/** Making a folder with those above it. */
import { mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';

/**
 * As `mkdir -p`, for its owner alone. Node's own never comes back from places where nothing can be made, such as /proc.
 * @throws {NodeJS.ErrnoException} ENOTDIR where something else stands in the way
 */
export function makeFolders(path: string): void {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST' || code === 'EISDIR') {
      if (statSync(path).isDirectory()) return;
      throw Object.assign(new Error(`${path} is no folder`), { code: 'ENOTDIR' });
    }
    const above = dirname(path);
    if (code !== 'ENOENT' || above === path) throw error;
    makeFolders(above);
    mkdirSync(path, { mode: 0o700 });
  }
}

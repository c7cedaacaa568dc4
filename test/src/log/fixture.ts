/** Logs of test/vectors/tlog as a reader of files, and the judgement of a whole log that tests and commands share the parts of. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const vectors = join(import.meta.dirname, '../../vectors/tlog');
export const VARIANTS = readdirSync(join(vectors, 'broken')).map((name) => name.replace(/\.deleted$/, ''));

/** A file of the good log, or of a variant laid over it; undefined where it is not there. */
export function fileOf(path: string, variant?: string): Uint8Array | undefined {
  if (variant !== undefined) {
    const deleted = join(vectors, 'broken', `${variant}.deleted`);
    if (existsSync(deleted) && readFileSync(deleted, 'utf8').trim() === path) return undefined;
    const over = join(vectors, 'broken', variant, path);
    if (existsSync(over)) return readFileSync(over);
  }
  const file = join(vectors, 'good', path);
  return existsSync(file) ? readFileSync(file) : undefined;
}

export const textOf = (path: string): string => readFileSync(join(vectors, path), 'utf8');

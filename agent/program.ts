/** Which program this agent is: one digest over its own files, as every full report tells it (PROTOCOL 4, docs/report.md 1.11). */
import { hash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { compareBytes } from '#src/bytes.ts';
import type { Digest } from '#src/digest.ts';

/** Where the agent's folders lie, in a checkout as in an image. */
const HERE = join(import.meta.dirname, '..');
const FOLDERS = ['agent', 'src'];

/**
 * SHA-256 of what `sha256sum` prints of the program's files in byte order of their paths. Node and the two packages are left out: they lie
 * beside it in /usr, where the manifest holds them. Read anew each time: what runs may have been replaced since. Errors are those of node:fs.
 */
export function programDigest(root: string = HERE): Digest {
  const files = FOLDERS.flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && /\.[jt]s$/.test(entry.name))
      .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1)),
  );
  files.sort(compareBytes);
  const lines = files.map((file) => `${hash('sha256', readFileSync(join(root, file)), 'hex')}  ${file}\n`);
  return `sha256:${hash('sha256', lines.join(''), 'hex')}` as Digest;
}

/** Which program this agent is: one digest over its own bytes, as every full report tells it (PROTOCOL 4, docs/report.md 1.11). */
import { createHash, hash } from 'node:crypto';
import { closeSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { isSea } from 'node:sea';
import { compareBytes } from '#src/bytes.ts';
import type { Digest } from '#src/digest.ts';

/** Where the agent's folders lie, in a checkout. */
const HERE = () => join(import.meta.dirname, '..');
const FOLDERS = ['agent', 'src'];
/** What runs, whatever became of its name since. */
const SELF = '/proc/self/exe';

/**
 * Of the single executable its SHA-256, as `sha256sum` prints it and the image's manifest has it. Elsewhere SHA-256 of what `sha256sum` prints
 * of the program's files in byte order of their paths: Node and the two packages lie beside them. Read anew each time. Errors are those of
 * node:fs.
 */
export function programDigest(root?: string): Digest {
  if (root === undefined) return isSea() ? fileDigest(SELF) : programDigest(HERE());
  const files = FOLDERS.flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && /\.[jt]s$/.test(entry.name))
      .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1)),
  );
  files.sort(compareBytes);
  const lines = files.map((file) => `${hash('sha256', readFileSync(join(root, file)), 'hex')}  ${file}\n`);
  return `sha256:${hash('sha256', lines.join(''), 'hex')}` as Digest;
}

// In pieces: as a whole it would take 120 MB of memory.
function fileDigest(file: string): Digest {
  const sum = createHash('sha256');
  const buffer = Buffer.allocUnsafeSlow(128 * 1024);
  const fd = openSync(file, 'r');
  try {
    for (let length = -1; (length = readSync(fd, buffer)) > 0;) sum.update(buffer.subarray(0, length));
  } finally {
    closeSync(fd);
  }
  return `sha256:${sum.digest('hex')}` as Digest;
}

/** What commands put out: results to a file or standard output, JSON, warnings. */
import { accessSync, constants, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { writeParts } from '#agent/output.ts';
import { nameFromJson } from '#src/manifest/json.ts';
import type { ManifestWarning } from '#src/manifest/header.ts';
import { jsonText, OutputError, printable, shownText, UsageError, type Io } from '#src/terminal.ts';

/** Says before the work what `writeOut` would say after it, and makes nothing yet. @throws {UsageError} */
export function checkFile(file: string | undefined): void {
  if (file === undefined || file === '-') return;
  try {
    const there = statSync(file, { throwIfNoEntry: false });
    if (there?.isDirectory() === true) throw Object.assign(new Error('a folder'), { code: 'EISDIR' });
    accessSync(there === undefined ? dirname(file) : file, constants.W_OK);
  } catch (error) {
    throw new UsageError(`${file} cannot be written: ${(error as NodeJS.ErrnoException).code}`);
  }
}

/**
 * Writes parts of a long text to a file, or to standard output where there is none or it is `-`.
 * @throws {UsageError} where there can be no such file; {OutputError} where it takes no more.
 */
export async function writeOut(parts: Iterable<string>, file: string | undefined, io: Io): Promise<void> {
  if (file === undefined || file === '-') return writeParts(parts, io.stdout);
  let handle;
  try {
    handle = await open(file, 'w');
  } catch (error) {
    throw new UsageError(`${file} cannot be written: ${(error as NodeJS.ErrnoException).code}`);
  }
  const out = {
    async write(text: string | Uint8Array) {
      try {
        await handle.writeFile(text);
      } catch (cause) {
        const { code } = cause as NodeJS.ErrnoException;
        throw new OutputError('OUTPUT_FAILED', `${file} cannot be written: ${code}`, { cause });
      }
    },
  };
  try {
    await writeParts(parts, out);
  } finally {
    await handle.close();
  }
}

/** One JSON document on standard output. */
export async function writeJson(value: unknown, io: Io): Promise<void> {
  await io.stdout.write(`${jsonText(value)}\n`);
}

/** `warning: layer 2: … [CODE]`, fit for a terminal. */
export function warningLine({ code, layer, message, path, path_b64 }: ManifestWarning): string {
  const name = path === undefined && path_b64 === undefined ? undefined : nameFromJson(path, path_b64);
  // Most messages name their path already.
  const shown = name === undefined || message.includes(printable(name)) ? '' : `${printable(name)}: `;
  const where = layer === null || /^layer [0-9]/.test(message) ? '' : `layer ${layer}: `;
  return `warning: ${where}${shown}${shownText(message)} [${code}]\n`;
}

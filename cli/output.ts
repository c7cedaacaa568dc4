/** What commands print: results in pieces that respect a slow reader, warnings, and a progress line where a person looks on. */
import { open } from 'node:fs/promises';
import { nameFromJson } from '#src/manifest/json.ts';
import type { ManifestWarning } from '#src/manifest/header.ts';
import { jsonText, printable, printableText, UsageError, type Io, type Stream } from '#src/terminal.ts';

const PIECE = 64 * 1024;

/** Writes parts of a long text to a file, or to standard output where there is none or it is `-`. */
export async function writeParts(parts: Iterable<string>, file: string | undefined, io: Io): Promise<void> {
  if (file === undefined || file === '-') return pieces(parts, (text) => io.stdout.write(text));
  let handle;
  try {
    handle = await open(file, 'w');
  } catch (error) {
    throw new UsageError(`${file} cannot be written: ${(error as NodeJS.ErrnoException).code}`);
  }
  try {
    await pieces(parts, async (text) => {
      try {
        await handle.write(text);
      } catch (error) {
        throw new UsageError(`${file} cannot be written: ${(error as NodeJS.ErrnoException).code}`);
      }
    });
  } finally {
    await handle.close();
  }
}

async function pieces(parts: Iterable<string>, write: (text: string) => Promise<void>): Promise<void> {
  let piece = '';
  for (const part of parts) {
    piece += part;
    if (piece.length < PIECE) continue;
    await write(piece);
    piece = '';
  }
  if (piece !== '') await write(piece);
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
  return `warning: ${where}${shown}${printableText(message)} [${code}]\n`;
}

const REDRAW_MS = 100;

/** A line on standard error that is redrawn; nothing where standard error is no terminal. */
export class ProgressLine {
  readonly #stream: Stream;
  #drawn = 0;
  #shown = false;
  #writing = Promise.resolve();

  constructor(io: Io) {
    this.#stream = io.stderr;
  }

  show(text: () => string): void {
    const now = performance.now();
    if (!this.#stream.isTTY || now - this.#drawn < REDRAW_MS) return;
    this.#drawn = now;
    this.#shown = true;
    this.#write(`\r\u001b[K${text().slice(0, this.#stream.columns - 1)}`);
  }

  /** Takes the line away, so that what follows stands alone. */
  async clear(): Promise<void> {
    if (this.#shown) this.#write('\r\u001b[K');
    this.#shown = false;
    await this.#writing;
  }

  #write(text: string): void {
    this.#writing = this.#writing.then(() => this.#stream.write(text));
    // Whoever clears the line learns of it; until then it must not end the process.
    this.#writing.catch(() => {});
  }
}

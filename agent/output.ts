/** What commands print: a long text in pieces that respect a slow reader, and a progress line where a person looks on. */
import type { Io, Stream } from '#src/terminal.ts';

const PIECE = 64 * 1024;

/** Writes the parts of a long text; not one system call a line. */
export async function writeParts(parts: Iterable<string>, out: Pick<Stream, 'write'>): Promise<void> {
  let piece = '';
  for (const part of parts) {
    piece += part;
    if (piece.length < PIECE) continue;
    await out.write(piece);
    piece = '';
  }
  if (piece !== '') await out.write(piece);
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

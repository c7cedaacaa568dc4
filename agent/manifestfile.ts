/**
 * A file manifest in files: the main text as `bootproof manifest build --format mtree` writes it, and the extra text of
 * `--extra`. The text of /usr is read as the scan needs it and never held as a whole.
 */
import { createHash, hash, type Hash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { digestOf, type Digest } from '#src/digest.ts';
import { comparisonText } from '#src/drift/redact.ts';
import { MANIFEST_TEXT_BYTES_MAX } from '#src/limits.ts';
import type { TreeName } from '#src/manifest/entry.ts';
import { MTREE_HEAD, MtreeError } from '#src/manifest/mtree.ts';
import { UsageError } from '#src/terminal.ts';
import type { ExpectedTree } from '#src/drift/compare.ts';

/** What a root is held against, and the digests (of the comparison text, and of the extra text) that it must have. */
export type Expected = {
  readonly image: Digest | null;
  readonly rule: string | null;
  readonly trees: Readonly<Record<TreeName, ExpectedTree>>;
  readonly digests: Readonly<Record<TreeName, { readonly main: Digest; readonly extra: Digest | null }>>;
};

// Small enough for the young heap: larger strings are garbage that waits for a full collection.
const PIECE = 32 * 1024;
const USR = '\n./usr ';

/**
 * Opens a manifest in files. Without the extra file it is not known what capabilities and device numbers must be.
 * @throws {UsageError} where a file cannot be read; {MtreeError} where the main text does not begin as one.
 */
export function openManifest(mainFile: string, extraFile: string | undefined): Expected {
  const file = new TextFile(mainFile);
  const extra = extraFile === undefined ? null : new TextFile(extraFile).whole();
  if (file.slice(0, MTREE_HEAD.length) !== MTREE_HEAD)
    throw new MtreeError('MTREE_SYNTAX', `${mainFile} does not begin with ${JSON.stringify(MTREE_HEAD)}`);
  const usr = file.find(USR) + 1 || file.size;
  const etc = file.slice(MTREE_HEAD.length, usr);
  // In canonical order /etc comes first, in both texts.
  const extraUsr = extra === null ? 0 : (/^\.\/usr[/\t]/m.exec(extra)?.index ?? extra.length);
  const extras = { etc: extra && extra.slice(0, extraUsr), usr: extra && extra.slice(extraUsr) };
  const main = { etc: digestOf(comparisonText(etc), sha256), usr: file.digest(usr) };
  const extraDigest = (text: string | null) => (text === null ? null : digestOf(text, sha256));
  return {
    image: null,
    rule: null,
    trees: {
      etc: { main: etc, extra: extras.etc },
      usr: { main: file.pieces(usr), extra: extras.usr },
    },
    digests: {
      etc: { main: main.etc, extra: extraDigest(extras.etc) },
      usr: { main: main.usr, extra: extraDigest(extras.usr) },
    },
  };
}

const sha256 = (data: string | Uint8Array): string => hash('sha256', data, 'hex');

class TextFile {
  readonly #fd: number;
  readonly size: number;

  constructor(name: string) {
    try {
      this.#fd = openSync(name, 'r');
    } catch (error) {
      throw new UsageError(`${name} cannot be read: ${(error as NodeJS.ErrnoException).code}`);
    }
    const stat = fstatSync(this.#fd);
    this.size = stat.size;
    if (!stat.isFile() || stat.size > MANIFEST_TEXT_BYTES_MAX) {
      closeSync(this.#fd);
      throw new UsageError(`${name} is no manifest: a regular file of at most ${MANIFEST_TEXT_BYTES_MAX} bytes is one`);
    }
  }

  /** A byte a character. */
  slice(start: number, end: number): string {
    let text = '';
    for (const piece of this.#pieces(start, end)) text += piece.toString('latin1');
    return text;
  }

  whole(): string {
    const text = this.slice(0, this.size);
    closeSync(this.#fd);
    return text;
  }

  /** Offset of `text`, or -1. */
  find(text: string): number {
    let offset = 0;
    let before = '';
    for (const piece of this.#pieces(0, this.size)) {
      const both = before + piece.toString('latin1');
      const found = both.indexOf(text);
      if (found >= 0) return offset - before.length + found;
      offset += piece.length;
      before = both.slice(-text.length);
    }
    return -1;
  }

  digest(start: number): Digest {
    const sum: Hash = createHash('sha256');
    for (const piece of this.#pieces(start, this.size)) sum.update(piece);
    return `sha256:${sum.digest('hex')}` as Digest;
  }

  /** The text from `start` to its end; once, and then the file is closed. */
  *pieces(start: number): Generator<string> {
    try {
      for (const piece of this.#pieces(start, this.size)) yield piece.toString('latin1');
    } finally {
      closeSync(this.#fd);
    }
  }

  /** Each valid until the next is asked for. */
  *#pieces(start: number, end: number): Generator<Buffer> {
    const buffer = Buffer.allocUnsafe(PIECE);
    for (let at = start; at < end;) {
      const length = readSync(this.#fd, buffer, 0, Math.min(PIECE, end - at), at);
      if (length === 0) return;
      at += length;
      yield buffer.subarray(0, length);
    }
  }
}

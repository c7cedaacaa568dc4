/**
 * The fs-verity digests of an image's contents as a text beside its manifests (docs/manifest.md, rule 8). It says nothing of paths: which content a
 * path must have stands in the main text; this says by which digest the kernel names that content.
 */
import { BootproofError } from '#src/error.ts';
import { VERITY_LINES_MAX } from '#src/limits.ts';

export class VerityTextError extends BootproofError<'VERITY_SYNTAX'> {}

/** SHA-256 of a content (hex) to its fs-verity digest (hex). */
export type VerityDigests = ReadonlyMap<string, string>;

/** Version, hash and block size: a text with others begins otherwise. */
export const VERITY_HEAD = '#bootproof-verity/1 sha256 4096\n';

/** A line: the fs-verity digest, a space, the SHA-256, LF. */
export const VERITY_LINE_BYTES = 64 + 1 + 64 + 1;

/** The text, in pieces: lines sorted by the fs-verity digest. */
export function* printVerity(digests: VerityDigests): Generator<string> {
  yield VERITY_HEAD;
  const lines = [...digests].map(([content, verity]) => `${verity} ${content}\n`).sort();
  for (let i = 0; i < lines.length; i += 1000) yield lines.slice(i, i + 1000).join('');
}

/**
 * Reads such a text and hands on each line, in order.
 * @throws {VerityTextError} with the number of the first line that `printVerity` would not have written.
 */
export function readVerity(pieces: Iterable<string>, take: (verity: string, content: string) => void): void {
  let rest = '';
  let line = 0;
  let last = '';
  for (const piece of pieces) {
    const text = rest + piece;
    let at = 0;
    if (line === 0) {
      if (text.length < VERITY_HEAD.length) {
        rest = text;
        continue;
      }
      if (!text.startsWith(VERITY_HEAD)) throw wrong(1, `it does not begin with ${JSON.stringify(VERITY_HEAD)}`);
      line = 1;
      at = VERITY_HEAD.length;
    }
    for (; text.length - at >= VERITY_LINE_BYTES; at += VERITY_LINE_BYTES) {
      line++;
      const parts = /^([0-9a-f]{64}) ([0-9a-f]{64})\n$/.exec(text.slice(at, at + VERITY_LINE_BYTES));
      if (parts === null) throw wrong(line, 'it is no line of two digests');
      const [, verity = '', content = ''] = parts;
      if (verity <= last) throw wrong(line, 'it is not behind the line before');
      if (line > VERITY_LINES_MAX) throw wrong(line, `there are more than ${VERITY_LINES_MAX}`);
      last = verity;
      take(verity, content);
    }
    rest = text.slice(at);
  }
  if (line === 0 || rest !== '') throw wrong(line + 1, 'the text ends within it');
}

const wrong = (line: number, why: string) =>
  new VerityTextError('VERITY_SYNTAX', `line ${line} of the fs-verity text: ${why}`);

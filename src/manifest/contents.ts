/**
 * Which contents a tree has, by their digests' beginnings: what another image's file is recognised by. A content's shard is the first byte of its
 * SHA-256, its mark the six that follow; whether it is really there, the main text says.
 */

export const CONTENT_SHARDS = 256;
const MARK_BYTES = 6;
/** Of no bytes at all: that two files are empty says nothing. */
const EMPTY = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

/** By shard, the marks of contents, sorted and each once; and how many contents that is. */
export type ContentMarks = { readonly shards: readonly Uint8Array[]; readonly contents: number };

export const shardOf = (sha256: string): number => Number.parseInt(sha256.slice(0, 2), 16);
// As a number, which holds them exactly: a part of a text would keep the whole text.
const markOf = (sha256: string): number => Number.parseInt(sha256.slice(2, 2 + 2 * MARK_BYTES), 16);

/** Gathers the contents of main texts, and holds none of them. */
export class ContentGatherer {
  readonly #found = Array.from({ length: CONTENT_SHARDS }, () => new Set<number>());

  add(mainText: string): void {
    for (const [, sha256 = ''] of mainText.matchAll(/ sha256digest=([0-9a-f]{64})$/gm))
      if (sha256 !== EMPTY) this.#found[shardOf(sha256)]!.add(markOf(sha256));
  }

  marks(): ContentMarks {
    const shards = this.#found.map((found) => {
      const marks = Float64Array.from(found).sort();
      const bytes = new Uint8Array(MARK_BYTES * marks.length);
      const view = new DataView(bytes.buffer);
      for (const [i, mark] of marks.entries()) {
        view.setUint16(MARK_BYTES * i, Math.floor(mark / 2 ** 32));
        view.setUint32(MARK_BYTES * i + 2, mark % 2 ** 32);
      }
      return bytes;
    });
    return { shards, contents: this.#found.reduce((sum, { size }) => sum + size, 0) };
  }
}

/** Whether the marks of its shard hold a content's. */
export function hasMark(marks: Uint8Array, sha256: string): boolean {
  if (sha256 === EMPTY) return false;
  const view = new DataView(marks.buffer, marks.byteOffset, marks.length);
  const wanted = markOf(sha256);
  let low = 0;
  let high = Math.floor(marks.length / MARK_BYTES);
  while (low < high) {
    const middle = (low + high) >> 1;
    const mark = view.getUint16(MARK_BYTES * middle) * 2 ** 32 + view.getUint32(MARK_BYTES * middle + 2);
    if (mark === wanted) return true;
    if (mark < wanted) low = middle + 1;
    else high = middle;
  }
  return false;
}

/** Paths of a main text that have a content, as the text spells them (docs/manifest.md, rule 2), at most `limit`. */
export function pathsWith(sha256: string, mainText: string, limit: number): string[] {
  const out: string[] = [];
  const wanted = ` sha256digest=${sha256}\n`;
  for (let at = mainText.indexOf(wanted); at >= 0 && out.length < limit; at = mainText.indexOf(wanted, at + 1)) {
    const begin = mainText.lastIndexOf('\n', at) + 2;
    out.push(mainText.slice(begin, mainText.indexOf(' ', begin)));
  }
  return out;
}

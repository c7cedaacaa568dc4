/**
 * Which contents a tree has, by their digests' beginnings: what another image's file is recognised by. A content's shard is the first byte of its
 * SHA-256, its mark the eight that follow; whether it is really there, the main text says.
 */
import { toHex } from '#src/bytes.ts';

export const CONTENT_SHARDS = 256;
const MARK_BYTES = 8;
/** Of no bytes at all: that two files are empty says nothing. */
const EMPTY = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

export const shardOf = (sha256: string): number => Number.parseInt(sha256.slice(0, 2), 16);
const markOf = (sha256: string): string => sha256.slice(2, 2 + 2 * MARK_BYTES);

/** By shard, the marks of every content in these main texts, sorted and each once; and how many contents that is. */
export function contentMarks(mainTexts: readonly string[]): {
  readonly shards: readonly Uint8Array[];
  readonly contents: number;
} {
  const found = Array.from({ length: CONTENT_SHARDS }, () => new Set<string>());
  for (const text of mainTexts)
    for (const [, sha256] of text.matchAll(/ sha256digest=([0-9a-f]{64})$/gm))
      if (sha256 !== EMPTY) found[shardOf(sha256!)]!.add(markOf(sha256!));
  const shards = found.map((marks) => Uint8Array.fromHex([...marks].sort().join('')));
  return { shards, contents: found.reduce((sum, { size }) => sum + size, 0) };
}

/** Whether the marks of its shard hold a content's. */
export function hasMark(marks: Uint8Array, sha256: string): boolean {
  if (sha256 === EMPTY) return false;
  const wanted = markOf(sha256);
  let low = 0;
  let high = Math.floor(marks.length / MARK_BYTES);
  while (low < high) {
    const middle = (low + high) >> 1;
    const mark = toHex(marks.subarray(middle * MARK_BYTES, (middle + 1) * MARK_BYTES));
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

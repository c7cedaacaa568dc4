/** Schema version 8: text files of /etc as images have them, to be shown beside what hosts made of them. */
import type { Dialect } from './0001.ts';

export function schema0008({ text, bytes }: Dialect): readonly string[] {
  return [
    // A text once, in zstd, however many images have it.
    `create table etc_text (sha256 ${text} primary key, bytes ${bytes} not null)`,

    // An image whose texts were looked for. omitted: contents of its /etc files that are not in etc_text, and why: JSON, [[sha256, why], …].
    `create table image_text (image ${text} primary key, kept bigint not null, omitted ${text} not null, at bigint not null)`,
  ];
}

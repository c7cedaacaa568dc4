/** Schema version 9: where a file of an image comes from, and which contents each image has. */
import type { Dialect } from './0001.ts';

export function schema0009({ text, bytes, clustered, position }: Dialect): readonly string[] {
  return [
    // origins: what src/image/origins.ts keeps of an image, JSON in zstd; null for an image that was built before that was kept. contents: how
    // many are in image_content; null while they are not looked through. failure: why it could not be built again.
    `create table image_origin (
      image ${text} primary key, origins ${bytes}, contents bigint, failure ${text}, at bigint not null)`,

    // The beginnings of all contents of an image by the first byte of their digest: one content is looked for in all images by one range.
    `create table image_content (
      shard bigint not null, image ${text} not null, marks ${bytes} not null, primary key (shard, image))${clustered}`,

    // The same bytes under another path or mode are another group: by what a signature says of the content (src/finding/group.ts).
    `create index finding_group_content on finding_group
      (substr(signature, ${position}(signature, 'sha256=') + 7, 64), is_open, id)`,
  ];
}

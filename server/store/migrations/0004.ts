/** Schema version 4: policies as they were applied, what hosts booted before, how old images are, and where tags point. */
import type { Dialect } from './0001.ts';

export function schema0004({ text }: Dialect): readonly string[] {
  return [
    // Only ever appended to: the highest number is the policy that judges.
    `create table policy_version (
      n bigint primary key, digest ${text} not null, name ${text} not null, documents ${text} not null,
      origin ${text} not null, place ${text}, commit_id ${text}, note ${text}, created_at bigint not null,
      created_by ${text} not null)`,

    // One row a host: the images that it booted, and under which of them each of its own files of /etc was made.
    `create table host_lineage (host_id ${text} primary key, lineage ${text} not null)`,

    // When an image says that it was made; null where it does not say.
    `create table image_made (digest ${text} primary key, made_at bigint)`,

    // What a tag that hosts follow points at, as last looked up.
    `create table image_tag (
      reference ${text} primary key, digests ${text} not null, moved_at bigint not null, checked_at bigint,
      due_at bigint not null, failure ${text})`,
    `create index image_tag_due on image_tag (due_at, reference)`,
  ];
}

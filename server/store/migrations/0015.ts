/** Schema version 15: lists of hosts that others keep, each import a version, with what it and we do not agree on (docs/inventory.md). */
import type { Dialect } from './0001.ts';

export function schema0015({ text, bytes }: Dialect): readonly string[] {
  return [
    // mapping, matched: JSON. differences: compressed JSON, as compared at the import. list: what was read of the file, compressed JSON;
    // null of versions that are old. act: the line of the trail.
    `create table inventory (
      source ${text} not null, version bigint not null, at bigint not null, by_actor ${text} not null,
      digest ${text} not null, bytes bigint not null, mapping ${text} not null, theirs bigint not null,
      ours bigint not null, matched ${text} not null, repeated bigint not null, blank bigint not null,
      only_theirs bigint not null, only_ours bigint not null, differences ${bytes} not null, list ${bytes},
      act ${text} not null, primary key (source, version))`,
    `create index inventory_at on inventory (at, source, version)`,
    // The newest version of each source; its row is the lock of those who import.
    `create table inventory_source (source ${text} primary key, version bigint not null)`,
  ];
}

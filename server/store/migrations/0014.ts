/**
 * Schema version 14: retention and legal hold (docs/retention.md). Which entry `purge` tells of a payload that went, what is held that was
 * not purged, how much that is by day, and what must stay whatever the settings say.
 */
import type { Dialect } from './0001.ts';

export function schema0014({ text, clustered }: Dialect): readonly string[] {
  return [
    // The reference of the entry `purge` that tells of it: who empties a payload by hand has none.
    `alter table log_payload add column purged_by ${text}`,
    // What is held, by kind (how references begin) and time: ids sort by it.
    `create index log_payload_held on log_payload ((substr(ref, 1, 3)), id) where purged_at is null`,
    // Whether a report brought something that is open still.
    `create index episode_brought on episode (host_id, opened_seq) where closed_at is null`,

    // Payloads that are held, counted apart from intake: sums by kind of entry and day of their entries.
    `create table retained (
      kind ${text} not null, day bigint not null, payloads bigint not null, bytes bigint not null,
      primary key (kind, day))${clustered}`,
    // Entries of each log that are in those sums.
    `create table retained_to (log bigint primary key, next bigint not null)`,

    // scope: JSON. from_at and to_at: of the entries that it keeps; null without a bound. Never deleted.
    `create table hold (
      n bigint primary key, scope ${text} not null, from_at bigint, to_at bigint, reason ${text} not null,
      set_by ${text} not null, set_at bigint not null, release_reason ${text}, released_by ${text}, released_at bigint)`,
    `create index hold_standing on hold (n) where released_at is null`,
    // Its row is the lock between holds and purges: no hold is set while a purge that did not see it is on its way.
    `create table hold_counter (id bigint primary key, next bigint not null)`,
    `insert into hold_counter (id, next) values (1, 1)`,
  ];
}

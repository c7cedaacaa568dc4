/**
 * Schema version 11: lists that stay fast. The indexes that lists walk hold every column that a filter asks for, so that a walk past rows
 * that do not match reads no row: those are wide, and on SQLite a column behind a long one costs reading the long one.
 */
import type { Dialect } from './0001.ts';

export function schema0011({ text, clustered }: Dialect): readonly string[] {
  return [
    // A list of findings in its order, whatever people decided.
    `create index finding_listed on finding (sev, opened_at, host_id, group_id, disposition) where is_open = 1`,
    `drop index finding_open_sev`,
    // What people decided about, by which waiver.
    `create index finding_disposed on finding (disposition, sev, opened_at, host_id, group_id, waiver_id)
      where is_open = 1 and disposition > 0`,
    `drop index finding_decided`,
    // Where a group is, and what was decided there.
    `create index finding_placed on finding (group_id, host_id, disposition, episode) where is_open = 1`,
    `drop index finding_open_group`,
    // No list ever asked for it.
    `drop index finding_open_new`,

    // What ended long ago, moved aside; a finding is in one of both tables.
    `create index finding_ended on finding (resolved_at, host_id, group_id) where is_open = 0`,
    `create table finding_archive (
      host_id ${text} not null, group_id ${text} not null, is_open bigint not null, disposition bigint not null,
      sev bigint not null, first_seen bigint not null, opened_at bigint not null, resolved_at bigint,
      episode bigint not null, waiver_id ${text}, detail ${text} not null, until bigint, ack ${text}, returned ${text},
      turns ${text}, primary key (host_id, group_id))${clustered}`,
    `create index finding_archive_group on finding_archive (group_id, host_id)`,

    // Hosts by name, by attention, by id (the silent ones, which all weigh the same), of a group, on an image.
    `create index host_by_name on host (name_fold, id, rank, state, verdict, valid_until, host_group, image_booted,
      integrity, provenance)`,
    `drop index host_name`,
    `create index host_by_rank on host (rank, id, name_fold, state, verdict, valid_until, host_group, image_booted,
      integrity, provenance)`,
    `drop index host_rank`,
    `create index host_by_id on host (id, name_fold, rank, state, verdict, valid_until, host_group, image_booted,
      integrity, provenance)`,
    `create index host_grouped on host (host_group, name_fold, id, rank, state, verdict, valid_until, image_booted,
      image_staged, image_rollback, integrity, provenance)`,
    `drop index host_in_group`,
    `create index host_on_image on host (image_booted, name_fold, id, rank, state, verdict, valid_until, host_group,
      integrity, provenance)`,
    `drop index host_booted`,
    `drop index host_verdict`,
    `create index host_next_image on host (image_staged, id, state, host_group)`,
    `drop index host_staged`,
    `create index host_last_image on host (image_rollback, id, state, host_group)`,
    `drop index host_rollback`,

    // Who is silent and who is late at a moment, and hosts by verdict, without the rows: each holds an envelope.
    `create index pulse_fresh on pulse (state, silence_noted, silent_after, late_after, verdict, host_id)`,
    `drop index pulse_silent`,
  ];
}

/**
 * Schema version 3: what people decide about findings. Waivers and acknowledgements end by themselves, so whatever they change carries
 * the time until which it holds: a read after that time tells what is so then, whether or not a job has run.
 */
import type { Dialect } from './0001.ts';

export function schema0003({ text, clustered }: Dialect): readonly string[] {
  return [
    // The verdict holds until then; afterwards, and until it is judged again, the one that no exemption softens does.
    `alter table host add column valid_until bigint`,
    `alter table host add column bare_verdict ${text}`,
    `alter table host add column bare_rank bigint`,
    `alter table host add column bare_integrity ${text}`,
    `create index host_lapse on host (valid_until, id) where valid_until is not null`,
    `create index host_bare on host (bare_verdict, name_fold, id) where valid_until is not null`,
    `create index host_bare_rank on host (bare_rank, id) where valid_until is not null`,

    // When its disposition ends by itself; who acknowledged; why it is open again; its last four openings and endings.
    `alter table finding add column until bigint`,
    `alter table finding add column ack ${text}`,
    `alter table finding add column returned ${text}`,
    `alter table finding add column turns ${text}`,
    `create index finding_lapse on finding (until, host_id, group_id) where is_open = 1 and disposition > 0`,
    `create index finding_decided on finding (disposition, sev, opened_at, host_id, group_id)
      where is_open = 1 and disposition > 0`,
    `create index finding_open_new on finding (opened_at, host_id, group_id) where is_open = 1`,
    `create index finding_closed_group on finding (group_id, host_id) where is_open = 0`,
    `create index finding_waiver on finding (waiver_id, disposition, host_id, group_id) where waiver_id is not null`,

    // 0 open, 1 acknowledged, 2 waived, 3 resolved: the first of them that is so on some host.
    `alter table finding_group add column status bigint not null default 3`,
    `alter table finding_group add column assignee ${text}`,
    // Of what people decide about the group as such: the precondition of assigning it.
    `alter table finding_group add column revision bigint not null default 0`,
    `alter table finding_group add column flapping_until bigint not null default 0`,
    `alter table group_count add column reopened bigint not null default 0`,
    `update group_count set reopened = (
      select count(*) from finding where finding.group_id = group_count.group_id and is_open = 1 and episode > 1)`,
    `update finding_group set status = coalesce((
      select case when open > 0 then 0 when acknowledged > 0 then 1 when waived > 0 then 2 else 3 end
      from group_count where group_count.group_id = finding_group.id), 3)`,
    `create index finding_group_status_sev on finding_group (status, sev, last_new_at, id)`,
    `create index finding_group_status_new on finding_group (status, last_new_at, id)`,

    // How many hosts a group opened, came back and ended on, by the minute.
    `create table group_change (
      group_id ${text} not null, at bigint not null, kind ${text} not null, hosts bigint not null,
      primary key (group_id, at, kind))${clustered}`,
    `create index group_change_at on group_change (at, group_id, kind)`,

    `create table waiver (
      n bigint primary key, revision bigint not null, kind ${text} not null, title ${text} not null,
      justification ${text} not null, compensating ${text}, ticket ${text}, selector ${text} not null,
      ceiling bigint not null, starts_at bigint, expires_at bigint not null, state ${text} not null,
      requested_by ${text} not null, requested_at bigint not null, decided_by ${text}, decided_at bigint,
      decision_note ${text}, alone bigint not null, ended_by ${text}, ended_at bigint, end_reason ${text},
      extension ${text}, scope ${text}, expiry_noted bigint not null)`,
    `create index waiver_state on waiver (state, expires_at, n)`,
    // One row: the next number, and what moves whenever a waiver begins or ceases to have an effect. Intake locks it, shared.
    `create table waiver_counter (id bigint primary key, next bigint not null, stamp bigint not null)`,
    `insert into waiver_counter (id, next, stamp) values (1, 1, 0)`,

    `create table saved_view (
      id ${text} primary key, owner ${text}, name ${text} not null, list ${text} not null, query ${text} not null,
      created_at bigint not null, created_by ${text} not null)`,
    `create index saved_view_owner on saved_view (owner, name, id)`,

    // An act on many: what it covers is written down when it is previewed, so that nothing later is swept in.
    `create table bulk (
      id ${text} primary key, actor ${text} not null, action ${text} not null, terms ${text} not null,
      filter ${text} not null, as_of bigint not null, matched bigint not null, state ${text} not null,
      expires_at bigint not null, apply_key ${text}, applied_at bigint, done_at bigint, changed bigint not null,
      skipped bigint not null, undo_until bigint, undoes ${text})`,
    `create index bulk_expiry on bulk (state, expires_at)`,
    `create table bulk_item (
      bulk_id ${text} not null, host_id ${text} not null, group_id ${text} not null, episode bigint not null,
      result ${text}, before ${text}, primary key (bulk_id, host_id, group_id))${clustered}`,
    `create index bulk_item_todo on bulk_item (bulk_id, host_id, group_id) where result is null`,
  ];
}

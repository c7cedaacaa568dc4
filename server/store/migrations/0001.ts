/** Schema version 1. Plain DDL that PostgreSQL's distributed kin take too: no sequences, no triggers, no foreign keys. */

/** Words in which the engines differ. */
export type Dialect = {
  readonly text: string;
  readonly bytes: string;
  /** Follows the column list of a narrow table that should be stored in its key's order. */
  readonly clustered: string;
  /** The function that says where one text stands in another, from 1. */
  readonly position: string;
  /** A table of what stands in the list under a key of a JSON text: column `value`, JSON again. */
  readonly eachOf: (json: string, key: string) => string;
};

export function schema0001({ text, bytes, clustered }: Dialect): readonly string[] {
  return [
    `create table setting (key ${text} primary key, value ${bytes} not null)`,

    `create table audit (
      id ${text} primary key, at bigint not null, actor ${text} not null, action ${text} not null,
      object ${text} not null, note ${text}, before ${text} not null, after ${text} not null)`,
    `create index audit_object on audit (object, id)`,
    `create index audit_actor on audit (actor, id)`,

    `create table token (
      id ${text} primary key, hash ${text} not null, labels ${text} not null, host_group ${text}, max_uses bigint,
      uses bigint not null, created_at bigint not null, created_by ${text} not null, expires_at bigint not null,
      revoked_at bigint)`,

    `create table host (
      id ${text} primary key, name ${text} not null, name_fold ${text} not null, machine_id ${text} not null,
      public_key ${text} not null, state ${text} not null, host_group ${text}, labels ${text} not null,
      token_id ${text}, created_at bigint not null, facts ${text}, image_booted ${text}, image_staged ${text},
      image_rollback ${text}, rule ${text}, verdict ${text} not null, rank bigint not null, since bigint not null,
      integrity ${text} not null, provenance ${text} not null, allowed bigint not null, waived bigint not null,
      reasons ${text} not null, drift ${text}, open0 bigint not null, open1 bigint not null, open2 bigint not null,
      open3 bigint not null, open4 bigint not null, acknowledged bigint not null, waived_findings bigint not null)`,
    `create unique index host_key on host (public_key)`,
    // Two enrolments of one machine at the same moment: the second one meets this and is tried again, as pending.
    `create unique index host_machine_active on host (machine_id) where state = 'active'`,
    `create index host_machine on host (machine_id)`,
    `create index host_name on host (name_fold, id)`,
    `create index host_rank on host (rank, id)`,
    `create index host_verdict on host (verdict, name_fold, id)`,
    `create index host_in_group on host (host_group, name_fold, id, state)`,
    `create index host_booted on host (image_booted, name_fold, id)`,
    `create index host_booted_id on host (image_booted, id)`,
    `create index host_staged on host (image_staged, id)`,
    `create index host_rollback on host (image_rollback, id)`,

    `create table pulse (
      host_id ${text} primary key, revision bigint not null, state ${text} not null, verdict ${text} not null,
      head_seq bigint not null, full_seq bigint, full_digest ${text}, same_count bigint not null,
      recent ${bytes} not null, doubts ${text} not null, last_seq bigint, last_kind ${text}, last_class ${text},
      last_started bigint, last_received bigint, live_at bigint, report_interval bigint not null,
      late_after bigint not null, silent_after bigint not null, silence_noted bigint not null, same_seq bigint,
      same_digest ${text}, same_class ${text}, same_started bigint, same_received bigint, same_answer ${text},
      same_envelope ${bytes})`,
    `create index pulse_silent on pulse (state, silence_noted, silent_after, verdict)`,

    `create table host_label (
      host_id ${text} not null, key ${text} not null, value ${text} not null, primary key (host_id, key))${clustered}`,
    `create index host_label_value on host_label (key, value, host_id)`,

    `create table verdict_change (
      host_id ${text} not null, revision bigint not null, at bigint not null, from_verdict ${text} not null,
      to_verdict ${text} not null, seq bigint, primary key (host_id, revision))${clustered}`,

    `create table refusal (
      host_id ${text} not null, code ${text} not null, count bigint not null, first_at bigint not null,
      last_at bigint not null, detail ${text} not null, primary key (host_id, code))${clustered}`,

    // Never clustered by host: measured three to four times slower, envelopes scatter over the leaves.
    `create table report (
      host_id ${text} not null, seq bigint not null, copy bigint not null, kind ${text} not null,
      digest ${text} not null, class ${text} not null, started_at bigint not null, received_at bigint not null,
      answer ${text} not null, envelope ${bytes} not null, primary key (host_id, seq, copy))`,

    `create table finding_group (
      id ${text} primary key, rule ${text} not null, kind ${text} not null, subject ${text} not null,
      signature ${text} not null, sev bigint not null, is_open bigint not null, first_seen bigint not null,
      last_new_at bigint not null)`,
    `create index finding_group_open_sev on finding_group (sev, last_new_at, id) where is_open = 1`,
    `create index finding_group_open_new on finding_group (last_new_at, id) where is_open = 1`,
    `create index finding_group_sev on finding_group (sev, last_new_at, id)`,
    `create index finding_group_new on finding_group (last_new_at, id)`,

    `create table group_count (
      group_id ${text} primary key, open bigint not null, acknowledged bigint not null, waived bigint not null,
      ever bigint not null)${clustered}`,

    `create table finding (
      host_id ${text} not null, group_id ${text} not null, is_open bigint not null, disposition bigint not null,
      sev bigint not null, first_seen bigint not null, opened_at bigint not null, resolved_at bigint,
      episode bigint not null, waiver_id ${text}, detail ${text} not null,
      primary key (host_id, group_id))${clustered}`,
    `create index finding_open_group on finding (group_id, host_id) where is_open = 1`,
    `create index finding_open_host on finding (host_id, sev, group_id) where is_open = 1`,
    `create index finding_open_sev on finding (sev, opened_at, host_id, group_id) where is_open = 1`,

    `create table episode (
      host_id ${text} not null, group_id ${text} not null, n bigint not null, opened_at bigint not null,
      opened_seq bigint, closed_at bigint, closed_seq bigint, reason ${text},
      primary key (host_id, group_id, n))${clustered}`,

    `create table image (
      digest ${text} primary key, state ${text} not null, reasons ${text} not null, attempts bigint not null,
      next_try bigint, first_seen bigint not null, built_at bigint, config ${text}, repositories ${text} not null,
      claims ${text} not null, version ${text}, warnings ${text} not null)`,
    `create index image_seen on image (first_seen, digest)`,
    `create table image_alias (alias ${text} primary key, digest ${text} not null, kind ${text} not null)${clustered}`,
    `create index image_alias_digest on image_alias (digest, alias)`,

    `create table manifest (
      image ${text} not null, rule ${text} not null, header ${bytes} not null, trees ${text} not null,
      built_at bigint not null, primary key (image, rule))`,

    `create table source (
      pattern ${text} primary key, options ${text} not null, created_at bigint not null, created_by ${text} not null)`,

    `create table blob (key ${text} primary key, encoding ${text} not null, bytes ${bytes} not null)`,

    `create table job (
      id ${text} primary key, kind ${text} not null, dedupe_key ${text} not null, due_at bigint not null,
      run_at bigint not null, attempts bigint not null, lease ${text}, again_at bigint, payload ${text} not null,
      error ${text})`,
    `create unique index job_dedupe on job (dedupe_key)`,
    `create index job_due on job (due_at, id)`,
  ];
}

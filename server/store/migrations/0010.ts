/** Schema version 10: acknowledgements that later hosts come under, controls of rules, what was reminded of, channels with conditions. */
import type { Dialect } from './0001.ts';

export function schema0010({ text, clustered }: Dialect): readonly string[] {
  return [
    // As long as the group is open on some host: gone with the last one. scope '' is every host, else a JSON list of host groups;
    // apart: host groups within it for whose hosts it was taken back.
    `create table group_ack (
      group_id ${text} not null, scope ${text} not null, apart ${text} not null, by_actor ${text} not null,
      at bigint not null, until bigint not null, note ${text}, primary key (group_id, scope))${clustered}`,

    // Which rules of the policy that judges belong to which control: what `control:` asks for.
    `create table rule_control (
      control ${text} not null, rule ${text} not null, primary key (control, rule))${clustered}`,

    // What was reminded of, so that it is once: of a group that is overdue until it is not, of a waiver and its end, of a day's digest.
    `create table reminded (
      kind ${text} not null, object ${text} not null, at bigint not null, primary key (kind, object))${clustered}`,
    `create index reminded_at on reminded (at)`,

    // The newest failure of a channel's condition; what it could not judge was told.
    `alter table channel add column condition_error ${text}`,
    `alter table channel add column condition_error_at bigint`,
  ];
}

/**
 * Schema version 12: evidence exports: what was asked for, how far it is, and which file came of it. And what questions about a moment in the
 * past walk: entries of a host by kind and time, reports that came late, which host ran an image when.
 */
import type { Dialect } from './0001.ts';

export function schema0012({ text, clustered, eachOf }: Dialect): readonly string[] {
  return [
    // scope: JSON list of the host groups that the asker may take away, null for every host. frameworks, sampling, parameters, progress, cut: JSON.
    // The file lies in the server's evidence folder under the export's id; sha256 and bytes are of the whole of it.
    `create table evidence_export (
      id ${text} primary key, created_at bigint not null, created_by ${text} not null, period_from bigint not null,
      period_to bigint not null, filter ${text}, scope ${text}, frameworks ${text} not null, sampling ${text},
      parameters ${text} not null, state ${text} not null, progress ${text} not null, cut ${text}, attempts bigint not null,
      hosts bigint, error ${text}, sha256 ${text}, bytes bigint, finished_at bigint, expires_at bigint not null)`,
    `create index evidence_export_end on evidence_export (expires_at)`,

    `create index log_entry_told on log_entry (host_id, kind, at, log, idx) where host_id is not null`,
    `create index report_late on report (host_id, started_at, seq) where class <> 'live'`,
    // Stays of the lineages, a row each, so that an image leads to its hosts. seq 0: the first report of it is not known.
    `create table host_stay (
      host_id ${text} not null, from_at bigint not null, seq bigint not null, image ${text} not null, to_at bigint,
      primary key (host_id, from_at, seq))${clustered}`,
    `create index host_stay_image on host_stay (image, host_id, from_at, seq, to_at)`,
    `insert into host_stay (host_id, from_at, seq, image, to_at)
      select host_id, cast(stay.value ->> 'from' as bigint), coalesce(cast(stay.value ->> 'seq' as bigint), 0),
        stay.value ->> 'image', cast(stay.value ->> 'to' as bigint)
      from host_lineage, ${eachOf('host_lineage.lineage', 'stays')} as stay`,
  ];
}

/** Schema version 12: what questions about a moment in the past walk: entries of a host by kind and time, late reports, who ran an image when. */
import type { Dialect } from './0001.ts';

export function schema0012({ text, clustered, eachOf }: Dialect): readonly string[] {
  return [
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

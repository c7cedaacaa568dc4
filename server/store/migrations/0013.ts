/** Schema version 13: evidence exports: what was asked for, how far it is, and which file came of it (docs/evidence.md 7). */
import type { Dialect } from './0001.ts';

export function schema0013({ text }: Dialect): readonly string[] {
  return [
    // scope: JSON list of the host groups that the asker may take away, null for every host. frameworks, sampling, parameters, progress, cut,
    // error: JSON. act: the line of the trail by which it is logged. The file lies in the evidence folder of the server's data under the
    // export's id; sha256 and bytes are of the whole of it.
    `create table evidence_export (
      id ${text} primary key, created_at bigint not null, created_by ${text} not null, period_from bigint not null,
      period_to bigint not null, filter ${text}, scope ${text}, frameworks ${text} not null, sampling ${text},
      parameters ${text} not null, state ${text} not null, progress ${text} not null, act ${text}, cut ${text},
      attempts bigint not null, hosts bigint, error ${text}, sha256 ${text}, bytes bigint, finished_at bigint,
      expires_at bigint not null)`,
    `create index evidence_export_end on evidence_export (expires_at)`,
  ];
}

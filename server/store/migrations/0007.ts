/**
 * Schema version 7: the evidence log (docs/log.md). What is to be logged waits in `log_pending`, written in the transaction that makes it
 * true; a second transaction gives it its place. `log` counts origins: after a restart the old log's rows stay, under their number.
 */
import type { Dialect } from './0001.ts';

export function schema0007({ text, bytes, clustered }: Dialect): readonly string[] {
  return [
    // Rows go when they are sequenced: what is here has no place yet. ref: where the payload lies; body: the payload, where nowhere else.
    `create table log_pending (
      id ${text} primary key, at bigint not null, kind ${text} not null, host_id ${text}, entry ${bytes} not null,
      salt ${bytes} not null, ref ${text} not null, body ${bytes})`,
    `create index log_pending_ref on log_pending (ref)`,

    // entry: the bytes that were hashed, never made again from columns. leaf: their hash, so that verification can name what changed.
    `create table log_entry (
      log bigint not null, idx bigint not null, id ${text} not null, at bigint not null, kind ${text} not null,
      host_id ${text}, entry ${bytes} not null, leaf ${bytes} not null, primary key (log, idx))`,
    `create unique index log_entry_id on log_entry (id)`,
    `create index log_entry_host on log_entry (host_id, log, idx) where host_id is not null`,

    // What an entry's digest is over, and its salt. A purge empties salt and body: the entry stays, and with it every proof.
    `create table log_payload (
      id ${text} primary key, ref ${text} not null, salt ${bytes}, body ${bytes}, purged_at bigint)`,
    `create index log_payload_ref on log_payload (ref)`,

    // Hashes of a tile, 32 bytes each. The rightmost of a level grows; each of its beginnings is the partial tile of that width.
    `create table log_tile (
      log bigint not null, level bigint not null, n bigint not null, hashes ${bytes} not null,
      primary key (log, level, n))`,

    // One row: the tree as it stands. Its row is the sequencer's lock. compact: hashes of the full subtrees of the right edge, left to right.
    `create table log_head (
      id bigint primary key, log bigint not null, origin ${text} not null, public_key ${text} not null,
      size bigint not null, root ${bytes} not null, compact ${bytes} not null, began_at bigint not null,
      previous ${text})`,
    `create table log_past (
      log bigint primary key, origin ${text} not null, public_key ${text} not null, size bigint not null,
      root ${bytes} not null, began_at bigint not null, ended_at bigint not null, previous ${text})`,
    `create unique index log_past_origin on log_past (origin)`,

    // The key forbids a second root of a size: a fork cannot be written.
    `create table log_checkpoint (
      origin ${text} not null, size bigint not null, root ${bytes} not null, note ${text} not null, at bigint not null,
      primary key (origin, size))`,

    // Anchors outside: what witnesses signed, the last size that each accepted, timestamps.
    `create table log_cosignature (
      origin ${text} not null, size bigint not null, witness ${text} not null, line ${text} not null,
      at bigint not null, primary key (origin, size, witness))`,
    `create table log_witness (
      witness ${text} not null, origin ${text} not null, size bigint not null, at bigint not null, tried_at bigint,
      error ${text}, primary key (witness, origin))${clustered}`,
    `create table log_timestamp (
      origin ${text} not null, size bigint not null, authority ${text} not null, token ${bytes} not null,
      at bigint not null, primary key (origin, size, authority))`,
  ];
}

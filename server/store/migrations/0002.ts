/** Schema version 2: who signed which image, as last found out, and what is denied whoever signed it. */
import type { Dialect } from './0001.ts';

export function schema0002({ text }: Dialect): readonly string[] {
  return [
    // One row an image: the newest result and what it was reached under. Bytes lie in `blob`, under their digests.
    `create table image_trust (
      image ${text} primary key, revision bigint not null, policy ${text} not null, roots ${text} not null,
      deny ${text} not null, state ${text} not null, since bigint not null, verified_at bigint not null,
      looked_at bigint, unreachable_since bigint, vanished_at bigint, told ${text} not null, kept ${text} not null,
      indexes ${text} not null, last_good ${text})`,

    `create table denied (
      id ${text} primary key, entry ${text} not null, created_at bigint not null, created_by ${text} not null)`,
  ];
}

/** Schema version 6: what goes out: channels, the outbox that state changes write, and deliveries. */
import type { Dialect } from './0001.ts';

export function schema0006({ text }: Dialect): readonly string[] {
  return [
    // settings: JSON of what is shown again; secret: what is never shown again (URLs hold tokens, so they are in it, too).
    `create table channel (
      id ${text} primary key, name ${text} not null, kind ${text} not null, settings ${text} not null,
      secret ${text} not null, state ${text} not null, revision bigint not null, created_at bigint not null,
      created_by ${text} not null, disabled_at bigint, disabled_why ${text})`,

    // One row for a channel, a topic and a transition in one transaction; hosts: JSON. Kept for a while after it was told,
    // because a storm is known by what happened lately.
    `create table outbox (
      id ${text} primary key, at bigint not null, channel_id ${text} not null, topic ${text} not null,
      transition ${text} not null, sev bigint not null, ready_at bigint not null, facts ${text} not null,
      hosts ${text} not null, delivery_id ${text})`,
    `create index outbox_waiting on outbox (channel_id, ready_at, id) where delivery_id is null`,
    `create index outbox_lately on outbox (channel_id, at, id)`,
    `create index outbox_told on outbox (at) where delivery_id is not null`,

    // (channel, topic, transition, episode, n) is what a receiver may drop repeats by; next_at is null once nothing is tried any more.
    `create table delivery (
      id ${text} primary key, channel_id ${text} not null, topic ${text} not null, transition ${text} not null,
      episode bigint not null, n bigint not null, sev bigint not null, created_at bigint not null,
      notice ${text} not null, hosts bigint not null, ended bigint not null, state ${text} not null,
      attempts bigint not null, next_at bigint, done_at bigint, status bigint, error ${text})`,
    `create unique index delivery_once on delivery (channel_id, topic, transition, episode, n)`,
    `create index delivery_topic on delivery (channel_id, topic, id)`,
    `create index delivery_due on delivery (channel_id, next_at, id) where state = 'waiting'`,
    `create index delivery_state on delivery (state, id)`,
    `create index delivery_channel on delivery (channel_id, id)`,
  ];
}

/** Schema version 5: who may do what: accounts of people and services, roles bound to host groups, sessions, API tokens. */
import type { Dialect } from './0001.ts';

export function schema0005({ text }: Dialect): readonly string[] {
  return [
    // A person is who an issuer says they are; a service has neither issuer nor subject. Ids are never given to another one.
    `create table account (
      id ${text} primary key, kind ${text} not null, name ${text} not null, issuer ${text}, subject ${text},
      email ${text}, claims ${text} not null, created_at bigint not null, created_by ${text} not null,
      signed_in_at bigint, disabled_at bigint)`,
    `create unique index account_subject on account (issuer, subject) where subject is not null`,

    // host_group '' is every host: of all columns of a unique index none may be null.
    `create table role_binding (
      id ${text} primary key, holder_kind ${text} not null, holder ${text} not null, role ${text} not null,
      host_group ${text} not null, created_at bigint not null, created_by ${text} not null)`,
    `create unique index role_binding_holder on role_binding (holder_kind, holder, role, host_group)`,

    // Under the hash of what the browser has. mark: of what else it holds only as long as that is so (the admin token).
    `create table session (
      hash ${text} primary key, account_id ${text} not null, mark ${text}, created_at bigint not null,
      seen_at bigint not null, idle_until bigint not null, ends_at bigint not null, address ${text} not null)`,
    `create index session_account on session (account_id, created_at)`,
    `create index session_end on session (ends_at)`,
    `create index session_idle on session (idle_until)`,

    `create table api_token (
      id ${text} primary key, hash ${text} not null, name ${text} not null, owner ${text} not null,
      grants ${text} not null, created_at bigint not null, created_by ${text} not null, expires_at bigint not null,
      revoked_at bigint, used_at bigint)`,
    `create unique index api_token_hash on api_token (hash)`,
    `create index api_token_owner on api_token (owner, id)`,
  ];
}

/** Who asks, once it is known: a person, a service or the first day's token, with the roles that they hold and where. */
import type { Instant } from '#src/clock.ts';
import { intersection, union, type Scope } from '#src/finding/scope.ts';

export const ROLES = ['viewer', 'auditor', 'operator', 'reviewer', 'policy_editor', 'admin'] as const;
export type Role = (typeof ROLES)[number];

/** A role, and the host groups in which it is held, with all below them; null for every host and all that belongs to no host. */
export type Grant = { readonly role: Role; readonly groups: Scope };

export type Principal = {
  /** What the trail and "second person" compare: one person is one id, whichever way they came in. `admin` for the first-day token. */
  readonly id: string;
  /** For people to read. */
  readonly name: string;
  /** Held somewhere. Where an act is about hosts, ask `acting`: a role counts only where it is held. */
  readonly roles: readonly Role[];
  /** The host groups that they see, with all below them; null for every host. */
  readonly groups: Scope;
  /** Which role is held where; absent: each of `roles` in all of `groups`. */
  readonly grants?: readonly Grant[];
  /** The API token that this one asks with, if it is one: what is made with it ends with it (docs/access.md 3.5). */
  readonly token?: AskedWith;
};

export type AskedWith = {
  readonly id: string;
  readonly expiresAt: Instant;
  /** The token that it was made with. */
  readonly madeWith: string | null;
};

/** Whoever holds the admin token: all roles over all hosts. */
export const FIRST_ADMIN: Principal = { id: 'admin', name: 'admin', roles: ROLES, groups: null };

/** A principal from what was granted. */
export function principalOf(about: Pick<Principal, 'id' | 'name' | 'token'>, grants: readonly Grant[]): Principal {
  const { id, name, token } = about;
  const roles = ROLES.filter((role) => grants.some((grant) => grant.role === role));
  const groups = union(grants.map((grant) => grant.groups));
  return { id, name, roles, groups, grants, ...(token === undefined ? {} : { token }) };
}

export function hasRole({ roles }: Pick<Principal, 'roles'>, ...wanted: readonly Role[]): boolean {
  return wanted.some((role) => roles.includes(role));
}

export function grantsOf({ roles, groups, grants }: Pick<Principal, 'roles' | 'groups' | 'grants'>): readonly Grant[] {
  return grants ?? roles.map((role) => ({ role, groups }));
}

/** The asker as far as one of these roles reaches: what they see elsewhere does not count. Undefined where none of them is held. */
export function acting(who: Principal, ...wanted: readonly Role[]): Principal | undefined {
  const held = grantsOf(who).filter(({ role }) => wanted.includes(role));
  return held.length === 0 ? undefined : principalOf(who, held);
}

/** Whether one of these roles is held everywhere: what belongs to no host (users, policies, sources) is decided by those alone. */
export function isFleetWide(who: Pick<Principal, 'roles' | 'groups' | 'grants'>, ...wanted: readonly Role[]): boolean {
  return grantsOf(who).some(({ role, groups }) => groups === null && wanted.includes(role));
}

/** Whoever holds a role may do all that these may, as the table of routes has it: a token may be of less than its owner (docs/access.md 3.2). */
const LESS: Readonly<Record<Role, readonly Role[]>> = {
  viewer: [],
  auditor: ['viewer'],
  operator: ['viewer'],
  reviewer: ['viewer'],
  policy_editor: ['viewer'],
  admin: ['viewer', 'auditor', 'operator'],
};

/** Whether whoever holds `held` may do all that `role` may. */
export const includes = (held: Role, role: Role): boolean => held === role || LESS[held].includes(role);

/** What is granted by both: a token of a person never reaches further than the person does now. */
export function both(token: readonly Grant[], owner: readonly Grant[]): Grant[] {
  return token.flatMap(({ role, groups }) =>
    owner
      .filter((grant) => includes(grant.role, role))
      .map((grant) => ({ role, groups: intersection(groups, grant.groups) }))
      .filter((grant) => grant.groups === null || grant.groups.length > 0),
  );
}

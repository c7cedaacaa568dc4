/** Who asks, once it is known: a person or a token, with the roles and host groups that they act in. */

export const ROLES = ['viewer', 'auditor', 'operator', 'reviewer', 'policy_editor', 'admin'] as const;
export type Role = (typeof ROLES)[number];

export type Principal = {
  /** What the trail and "second person" compare: one person is one id, whichever way they came in. `admin` for the first-day token. */
  readonly id: string;
  /** For people to read. */
  readonly name: string;
  readonly roles: readonly Role[];
  /** The host groups that they see and act on; null for every host. */
  readonly groups: readonly string[] | null;
};

/** Whoever holds the admin token: all roles over all hosts. */
export const FIRST_ADMIN: Principal = { id: 'admin', name: 'admin', roles: ROLES, groups: null };

export function hasRole({ roles }: Pick<Principal, 'roles'>, ...wanted: readonly Role[]): boolean {
  return wanted.some((role) => roles.includes(role));
}

/**
 * Host groups as a tree: `prod/web` lies below `prod`, and whoever may act on `prod` may act on it. A scope is a list of such groups;
 * null is every host, those without a group too.
 */
export type Scope = readonly string[] | null;

/** Whether a host of this group lies within the scope. */
export function covers(scope: Scope, group: string | null): boolean {
  if (scope === null) return true;
  return group !== null && scope.some((root) => group === root || group.startsWith(`${root}/`));
}

/** What lies within one of them; without what lies below another one of it. */
export function union(scopes: readonly Scope[]): Scope {
  if (scopes.includes(null)) return null;
  const all = [...new Set(scopes.flatMap((scope) => scope ?? []))].sort();
  return all.filter((group) => !all.some((other) => other !== group && group.startsWith(`${other}/`)));
}

/** Whether all that the one covers is covered by the other. */
export function lies(inner: Scope, outer: Scope): boolean {
  if (inner === null) return outer === null;
  return inner.every((group) => covers(outer, group));
}

/** What lies within both. */
export function intersection(a: Scope, b: Scope): Scope {
  if (a === null) return b;
  if (b === null) return a;
  return union([a.filter((group) => covers(b, group)), b.filter((group) => covers(a, group))]);
}

/**
 * How host groups are called, wherever one is named anew: segments of letters, digits and `. _ -` with one `/` between, 63 characters at
 * most. Without empty segments and `..`, what lies below a group is told by its name alone.
 */
export const GROUP_NAME = /^(?=.{1,63}$)[A-Za-z0-9][A-Za-z0-9._-]*(?:\/[A-Za-z0-9][A-Za-z0-9._-]*)*$/;
/** Keys of labels. */
export const LABEL_KEY = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$/;

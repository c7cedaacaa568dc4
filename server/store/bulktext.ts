/** The parts of bulk statements that both engines spell alike. Names come from this room's own column lists, never from outside. */

export const quoted = (names: readonly string[]) => names.map((name) => `"${name}"`).join(', ');

type Conflict = {
  readonly key: readonly string[];
  readonly nothing?: true;
  readonly set?: readonly string[];
  readonly add?: readonly string[];
};

/** ` on conflict (…) do …`, or nothing. */
export function conflictClause(table: string, conflict: Conflict | undefined): string {
  if (conflict === undefined) return '';
  const target = ` on conflict (${quoted(conflict.key)}) do `;
  if (conflict.nothing === true) return `${target}nothing`;
  const taken = conflict.set?.map((c) => `"${c}" = excluded."${c}"`) ?? [];
  const added = conflict.add?.map((c) => `"${c}" = "${table}"."${c}" + excluded."${c}"`) ?? [];
  return `${target}update set ${[...taken, ...added].join(', ')}`;
}

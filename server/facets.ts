/**
 * Facets of the list of groups (docs/findings.md 6): for each word that narrows it, how long the list is then. Each number is asked as
 * the list itself is, so that it is the length of the list behind it.
 */
import { FILTER_CHANGES, FILTER_FLAGS, parseFilter, type FilterTerm } from '#src/finding/filter.ts';
import { TREES } from '#src/manifest/entry.ts';
import { SEVERITIES } from '#src/policy/judgement.ts';
import type { Count } from '#server/store/records.ts';
import type { GroupFilter, Store } from '#server/store/store.ts';

/** By word of the line, in the order in which they are shown. */
export type Facet = { readonly value: string; readonly term: FilterTerm; readonly count: Count };
export const FACETS = ['severity', 'rule', 'control', 'tree', 'change', 'age', 'is', 'group', 'image'] as const;
export type FacetName = (typeof FACETS)[number];

const AGES = ['<24h', '<7d', '>7d', '>30d'] as const;
/** Host groups and images that are told where nothing else is asked: those with the most hosts. Each is a count of its own. */
export const PLACES_SHOWN = 12;
/** The most that may be asked for; and the images among which the most used are looked for. */
export const PLACES_MAX = 200;

type Deps = { readonly store: Pick<Store, 'read' | 'policies'> };

/** One facet of the list that `filter` makes; values that would leave nothing are left out of open-ended ones. */
export async function facetOf(
  name: FacetName,
  filter: GroupFilter,
  cap: number,
  deps: Deps,
  places = PLACES_SHOWN,
): Promise<Facet[]> {
  const { read } = deps.store;
  const line = filter.line ?? [];
  const counted = async (value: string, term: FilterTerm): Promise<Facet> => ({
    value,
    term,
    count: await read.countGroups({ ...filter, line: [...line, term] }, cap),
  });
  const each = (field: string, values: readonly string[]): Promise<Facet[]> =>
    Promise.all(values.map((value) => counted(value, parseFilter(`${field}:${value}`)[0]!)));
  switch (name) {
    case 'severity':
      return each('sev', SEVERITIES);
    case 'tree':
      return each('tree', TREES);
    case 'change':
      return each('change', FILTER_CHANGES);
    case 'age':
      return each('age', AGES);
    case 'is':
      return each('is', FILTER_FLAGS);
    case 'rule':
    case 'control':
      return byRule(name, filter, cap, deps);
    case 'group': {
      const groups = (await read.hostGroups(filter.scope)).toSorted((a, b) => b.hosts - a.hosts);
      return some(groups.slice(0, places).map(({ name: group }) => counted(group, one('group', [group]))));
    }
    case 'image': {
      const { items } = await read.images({ scope: filter.scope ?? null }, { cursor: null, limit: PLACES_MAX });
      const used = items.filter(({ hosts }) => hosts.booted > 0).sort((a, b) => b.hosts.booted - a.hosts.booted);
      return some(
        used.slice(0, places).map(async ({ digest }) => {
          const names = (await read.aliases(digest)).map(({ alias }) => alias);
          return counted(digest, one('image', [digest, ...names]));
        }),
      );
    }
  }
}

const one = (field: 'group' | 'image' | 'rule' | 'control', values: readonly string[]): FilterTerm => ({
  field,
  negated: false,
  values,
});

async function some(facets: readonly Promise<Facet>[]): Promise<Facet[]> {
  return (await Promise.all(facets)).filter(({ count }) => count.count > 0);
}

/** A group has one rule, so one count by rule tells both: what a control has is what its rules have. */
async function byRule(name: 'rule' | 'control', filter: GroupFilter, cap: number, { store }: Deps): Promise<Facet[]> {
  const { rules, exact } = await store.read.rules(filter, cap);
  const counts = new Map<string, number>();
  if (name === 'rule') for (const { rule, groups } of rules) counts.set(rule, groups);
  else {
    const of = new Map(rules.map(({ rule, groups }) => [rule, groups]));
    for (const { control, rule } of await store.policies.controls())
      if (of.has(rule)) counts.set(control, (counts.get(control) ?? 0) + of.get(rule)!);
  }
  return [...counts]
    .sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1))
    .map(([value, count]) => ({ value, term: one(name, [value]), count: { count: Math.min(count, cap), exact } }));
}

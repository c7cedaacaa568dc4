/** How many groups of a list each rule has: one walk of the list, told by a column of it. Other facets are counts of lists. */
import type { Kysely } from 'kysely';
import { sql } from 'kysely';
import type { Engine } from '../engine.ts';
import type { Reads } from '../store.ts';
import type { Tables } from '../tables.ts';
import { groupParts, groupSelection, walksOf } from './findings.ts';

export function facetReads(engine: Engine): Pick<Reads, 'rules'> {
  return {
    rules: (filter, cap) =>
      engine.listing(async (db) => {
        const parts = groupParts(filter, engine.kind);
        const counts = new Map<string, number>();
        let left = cap + 1;
        for (const walk of walksOf(parts)) {
          if (left <= 0) break;
          const some = groupSelection(db, filter, parts, walk).select('finding_group.rule').limit(left);
          const rows = await (db as unknown as Kysely<Tables>)
            .selectFrom(some.as('some'))
            .select(['some.rule', sql<number>`count(*)`.as('groups')])
            .groupBy('some.rule')
            .execute();
          for (const { rule, groups } of rows) {
            counts.set(rule, (counts.get(rule) ?? 0) + groups);
            left -= groups;
          }
        }
        return { rules: [...counts].map(([rule, groups]) => ({ rule, groups })), exact: left > 0 };
      }),
  };
}

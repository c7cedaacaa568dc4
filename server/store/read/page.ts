/** Pages by key: each query asks for one row more than the page holds, and that row says whether there is a next one. */
import assert from 'node:assert/strict';
import { sql, type RawBuilder } from 'kysely';
import { PAGE_ITEMS_MAX } from '#src/limits.ts';
import type * as r from '../records.ts';

export function pageOf<Row, Item, Cursor>(
  rows: readonly Row[],
  limit: number,
  item: (row: Row) => Item,
  cursor: (row: Row) => Cursor,
): r.Page<Item, Cursor> {
  assert(Number.isSafeInteger(limit) && limit >= 1 && limit <= PAGE_ITEMS_MAX, `a page of ${limit} items`);
  const shown = rows.slice(0, limit);
  const last = rows.length > limit ? shown.at(-1) : undefined;
  return { items: shown.map(item), next: last === undefined ? null : cursor(last) };
}

/** One ordered list out of several that are ordered alike and share no row: how a filter of several values stays a walk of an index. */
export function merged<Row>(
  lists: readonly (readonly Row[])[],
  before: (a: Row, b: Row) => boolean,
  limit: number,
): Row[] {
  const at = lists.map(() => 0);
  const out: Row[] = [];
  while (out.length < limit) {
    let best = -1;
    for (let i = 0; i < lists.length; i++) {
      const row = lists[i]![at[i]!];
      if (row !== undefined && (best < 0 || before(row, lists[best]![at[best]!]!))) best = i;
    }
    if (best < 0) break;
    out.push(lists[best]![at[best]!]!);
    at[best] = at[best]! + 1;
  }
  return out;
}

/** A count up to a cap, from the rows of `limit cap + 1`. */
export function boundedCount(found: number, cap: number): r.Count {
  return found > cap ? { count: cap, exact: false } : { count: found, exact: true };
}

/**
 * The rows beyond a key, compared as one row value: both engines walk an index from there. Spelled out with `or` they would
 * walk it from its start.
 */
export function beyond(
  columns: readonly string[],
  direction: 'up' | 'down',
  key: readonly (string | number)[],
): RawBuilder<boolean> {
  const names = sql.join(columns.map((column) => sql.ref(column)));
  return sql<boolean>`(${names}) ${direction === 'up' ? sql`>` : sql`<`} (${sql.join([...key])})`;
}

/** The trail: one function writes it, always in the transaction of the act. */
import type { Engine, Tx } from './engine.ts';
import { sortableId, sortableTime } from './ids.ts';
import { auditLogged } from './logpayload.ts';
import { appendLog } from './logpending.ts';
import { pageOf } from './read/page.ts';
import type * as r from './records.ts';
import type { Audit } from './store.ts';
import type { AuditRow } from './tables.ts';

export type Entry = Pick<r.AuditEntry, 'action' | 'object' | 'before' | 'after'>;

/** The one way into the trail; answers the line's id. */
export async function writeAudit(tx: Tx, by: r.Act, entry: Entry): Promise<string> {
  const row: AuditRow = {
    id: `a_${sortableId(by.at)}`,
    at: by.at,
    actor: by.actor,
    action: entry.action,
    object: entry.object,
    note: by.note ?? null,
    before: JSON.stringify(entry.before ?? null),
    after: JSON.stringify(entry.after ?? null),
  };
  await tx.db.insertInto('audit').values(row).execute();
  await appendLog(tx, [auditLogged(row)]);
  return row.id;
}

export const entryOf = (row: AuditRow): r.AuditEntry => ({
  ...row,
  before: JSON.parse(row.before) as unknown,
  after: JSON.parse(row.after) as unknown,
});

export function auditOn(engine: Engine): Audit {
  return {
    append: (by, entry) =>
      engine.write(async (tx) => {
        await writeAudit(tx, by, entry);
      }),
    list: (filter, page) =>
      engine.listing(async (db) => {
        let query = db.selectFrom('audit').selectAll().orderBy('id', 'desc');
        if (filter.object !== undefined) query = query.where('object', '=', filter.object);
        if (filter.actor !== undefined) query = query.where('actor', '=', filter.actor);
        // Ids sort by time, so a time is a bound of the same index.
        if (filter.since !== undefined) query = query.where('id', '>=', `a_${sortableTime(filter.since)}`);
        if (filter.until !== undefined) query = query.where('id', '<', `a_${sortableTime(filter.until)}`);
        if (page.cursor !== null) query = query.where('id', '<', page.cursor.id);
        const rows = await query.limit(page.limit + 1).execute();
        return pageOf(rows, page.limit, entryOf, ({ id }) => ({ id }));
      }),
  };
}

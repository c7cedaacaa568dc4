/** Saved views: a list and its filter line under a name, of one person or shared. */
import { writeAudit } from './audit.ts';
import type { Views } from './decided.ts';
import type { Engine } from './engine.ts';
import type * as r from './records.ts';
import type { SavedViewRow } from './tables.ts';

const viewOf = (row: SavedViewRow): r.SavedView => ({
  id: row.id,
  owner: row.owner,
  name: row.name,
  list: row.list,
  query: row.query,
  createdAt: row.created_at,
  createdBy: row.created_by,
});

export function viewsOn(engine: Engine): Views {
  return {
    list: (owner) =>
      engine.reading(async (db) => {
        const rows = await db
          .selectFrom('saved_view')
          .selectAll()
          .where((eb) => eb.or([eb('owner', 'is', null), eb('owner', '=', owner)]))
          .orderBy('name')
          .orderBy('id')
          .execute();
        return rows.map(viewOf);
      }),
    put: (view, by) =>
      engine.write(async (tx) => {
        const before = await tx.db.selectFrom('saved_view').selectAll().where('id', '=', view.id).executeTakeFirst();
        const row: SavedViewRow = {
          id: view.id,
          owner: view.owner,
          name: view.name,
          list: view.list,
          query: view.query,
          created_at: view.createdAt,
          created_by: view.createdBy,
        };
        await tx.db
          .insertInto('saved_view')
          .values(row)
          .onConflict((conflict) =>
            conflict.column('id').doUpdateSet({ owner: row.owner, name: row.name, list: row.list, query: row.query }),
          )
          .execute();
        await writeAudit(tx, by, {
          action: before === undefined ? 'view.create' : 'view.change',
          object: `view:${view.id}`,
          before: before === undefined ? null : viewOf(before),
          after: view,
        });
      }),
    get: (id) =>
      engine.reading(async (db) => {
        const row = await db.selectFrom('saved_view').selectAll().where('id', '=', id).executeTakeFirst();
        return row === undefined ? undefined : viewOf(row);
      }),
    remove: (id, by) =>
      engine.write(async (tx) => {
        const before = await tx.db.selectFrom('saved_view').selectAll().where('id', '=', id).executeTakeFirst();
        if (before === undefined) return false;
        await tx.db.deleteFrom('saved_view').where('id', '=', id).execute();
        await writeAudit(tx, by, { action: 'view.remove', object: `view:${id}`, before: viewOf(before), after: null });
        return true;
      }),
  };
}

/** Single values, made once and swapped only by compare-and-set. */
import type { Engine } from './engine.ts';
import type { Settings } from './store.ts';

export function settingsOn(engine: Engine): Settings {
  return {
    get: (key) =>
      engine.reading(async (db) => {
        const row = await db.selectFrom('setting').select('value').where('key', '=', key).executeTakeFirst();
        return row?.value;
      }),
    create: (key, value) =>
      engine.write(async ({ db }) => {
        await db
          .insertInto('setting')
          .values({ key, value })
          .onConflict((conflict) => conflict.column('key').doNothing())
          .execute();
        // Under READ COMMITTED this sees what another first writer has committed meanwhile.
        const row = await db.selectFrom('setting').select('value').where('key', '=', key).executeTakeFirstOrThrow();
        return row.value;
      }),
    swap: (key, expected, value) =>
      engine.write(async ({ db }) => {
        if (expected === null) {
          const made = await db
            .insertInto('setting')
            .values({ key, value })
            .onConflict((conflict) => conflict.column('key').doNothing())
            .executeTakeFirst();
          return (made.numInsertedOrUpdatedRows ?? 0n) > 0n;
        }
        const changed = await db
          .updateTable('setting')
          .set({ value })
          .where('key', '=', key)
          .where('value', '=', expected)
          .executeTakeFirst();
        return changed.numUpdatedRows > 0n;
      }),
  };
}

/** Immutable bytes by key: texts of manifests, later bundles and tiles. */
import type { Engine } from './engine.ts';
import type * as r from './records.ts';
import type { Blobs } from './store.ts';

export function blobsOn(engine: Engine): Blobs {
  return {
    put: (blob) =>
      engine.write(async ({ db }) => {
        await db
          .insertInto('blob')
          .values({ ...blob })
          .onConflict((conflict) => conflict.column('key').doNothing())
          .execute();
      }),
    get: (key) =>
      engine.reading(async (db) => {
        const row = await db.selectFrom('blob').selectAll().where('key', '=', key).executeTakeFirst();
        return row as r.Blob | undefined;
      }),
    has: (key) =>
      engine.reading(async (db) => {
        const row = await db.selectFrom('blob').select('key').where('key', '=', key).executeTakeFirst();
        return row !== undefined;
      }),
  };
}

/** Where files of images come from, and which images have a content. */
import { sql } from 'kysely';
import type { Engine } from './engine.ts';
import type { ImageOrigins } from './originrecords.ts';

export function imageOriginsOn(engine: Engine): ImageOrigins {
  return {
    get: (image) =>
      engine.reading(async (db) => {
        const row = await db.selectFrom('image_origin').selectAll().where('image', '=', image).executeTakeFirst();
        return row && { origins: row.origins, contents: row.contents, failure: row.failure };
      }),
    put: (image, { origins, shards, contents }, at) =>
      engine.write(async ({ db, bulk }) => {
        await db
          .insertInto('image_origin')
          .values({ image, origins, contents, failure: null, at })
          .onConflict((conflict) =>
            conflict
              .column('image')
              .doUpdateSet({ contents, at, ...(origins === null ? {} : { origins, failure: null }) }),
          )
          .execute();
        const rows = shards.map((marks, shard) => ({ shard, image, marks }));
        await bulk.insert('image_content', ['shard', 'image', 'marks'], rows, {
          key: ['shard', 'image'],
          set: ['marks'],
        });
      }),
    failed: (image, failure, at) =>
      engine.write(async ({ db }) => {
        await db
          .insertInto('image_origin')
          .values({ image, origins: null, contents: null, failure, at })
          .onConflict((conflict) => conflict.column('image').doUpdateSet({ failure, at }))
          .execute();
      }),
    // Some KB an image, of thousands of images: beside the event loop.
    shard: (shard, limit) =>
      engine.listing((db) =>
        db
          .selectFrom('image_content')
          .select(['image', 'marks'])
          .where('shard', '=', shard)
          .orderBy('image')
          .limit(limit)
          .execute(),
      ),
    groups: (sha256, limit) =>
      engine.reading(async (db) => {
        const at = sql.raw(engine.kind === 'postgres' ? 'strpos' : 'instr');
        // Letter for letter as the index has it (schema 9).
        const content = sql<string>`substr(signature, ${at}(signature, 'sha256=') + 7, 64)`;
        const rows = await db
          .selectFrom('finding_group')
          .select('id')
          .where((eb) =>
            sha256.length === 64
              ? eb(content, '=', sha256)
              : eb.and([eb(content, '>=', sha256), eb(content, '<', `${sha256}~`)]),
          )
          .where('is_open', '=', 1)
          .$if(sha256.length === 64, (query) => query.orderBy('id'))
          .limit(limit)
          .execute();
        return rows.map(({ id }) => id);
      }),
    unseen: (limit) =>
      engine.reading(async (db) => {
        const rows = await db
          .selectFrom('image')
          .leftJoin('image_origin', 'image_origin.image', 'image.digest')
          .select('image.digest')
          .where('image.state', '=', 'ready')
          .where('image_origin.contents', 'is', null)
          .orderBy('image.digest')
          .limit(limit)
          .execute();
        return rows.map(({ digest }) => digest);
      }),
  };
}

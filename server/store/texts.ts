/** Text files of /etc as images have them. */
import type { Omission } from '#src/drift/contents.ts';
import type { Engine } from './engine.ts';
import type { ImageTexts } from './textrecords.ts';

export function imageTextsOn(engine: Engine): ImageTexts {
  return {
    put: (image, { texts, omitted }, at) =>
      engine.write(async ({ db, bulk }) => {
        const rows = [...texts].sort((a, b) => (a.sha256 < b.sha256 ? -1 : 1));
        await bulk.insert('etc_text', ['sha256', 'bytes'], rows, { key: ['sha256'], nothing: true });
        const row = { kept: texts.length, omitted: JSON.stringify(omitted), at };
        await db
          .insertInto('image_text')
          .values({ image, ...row })
          .onConflict((conflict) => conflict.column('image').doUpdateSet(row))
          .execute();
      }),
    text: (sha256) =>
      engine.reading(async (db) => {
        const row = await db.selectFrom('etc_text').select('bytes').where('sha256', '=', sha256).executeTakeFirst();
        return row?.bytes;
      }),
    why: (image, sha256) =>
      engine.reading(async (db) => {
        const row = await db.selectFrom('image_text').select('omitted').where('image', '=', image).executeTakeFirst();
        if (row === undefined) return 'unread';
        const omitted = JSON.parse(row.omitted) as readonly (readonly [string, Omission])[];
        return omitted.find(([content]) => content === sha256)?.[1];
      }),
  };
}

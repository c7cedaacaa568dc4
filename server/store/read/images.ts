/** Lists of images with the hosts that run them, and of tokens. */
import { sql, type Kysely, type RawBuilder } from 'kysely';
import type { ReadonlyKysely } from 'kysely/readonly';
import type { Engine } from '../engine.ts';
import { tokenOf } from '../enrol.ts';
import { imageOf } from '../images.ts';
import { IMAGE_SLOTS, type AliasKind, type ImageInList, type ImageSlot } from '../records.ts';
import type { Reads } from '../store.ts';
import type { ImageRow, Tables } from '../tables.ts';
import { walked, within, type EngineKind } from './line.ts';
import { beyond, pageOf } from './page.ts';

type Db = ReadonlyKysely<Tables>;

/** Hosts in a slot by what they report. */
async function hostsBySlot(
  db: Db,
  slot: ImageSlot,
  digests: readonly string[],
  scope: readonly string[] | null,
): Promise<Map<string, number>> {
  const column = `image_${slot}` as const;
  const rows = await db
    .selectFrom('host')
    .select((eb) => [column, eb.fn.countAll<number>().as('count')])
    .where(column, 'in', [...digests])
    // As lists of hosts: retired ones appear only where asked for.
    .where('state', 'in', ['active', 'pending'])
    .$if(scope !== null, (query) => query.where(within(sql.ref('host_group'), scope ?? [])))
    .groupBy(column)
    .execute();
  return new Map(rows.map((row) => [(row as Record<typeof column, string>)[column], row.count]));
}

async function withHosts(db: Db, rows: readonly ImageRow[], scope: readonly string[] | null): Promise<ImageInList[]> {
  if (rows.length === 0) return [];
  const own = rows.map(({ digest }) => digest);
  const aliases = await db.selectFrom('image_alias').selectAll().where('digest', 'in', own).execute();
  const names = [...own, ...aliases.map(({ alias }) => alias)];
  const counts = new Map<ImageSlot, Map<string, number>>();
  for (const slot of IMAGE_SLOTS) counts.set(slot, await hostsBySlot(db, slot, names, scope));
  return rows.map((row) => {
    const all = [row.digest, ...aliases.filter(({ digest }) => digest === row.digest).map(({ alias }) => alias)];
    const hosts = (slot: ImageSlot) => all.reduce((sum, name) => sum + (counts.get(slot)!.get(name) ?? 0), 0);
    return {
      ...imageOf(row),
      hosts: { booted: hosts('booted'), staged: hosts('staged'), rollback: hosts('rollback') },
    };
  });
}

/** Images that a host of these groups names in a slot, under any of their names. */
function namedWithin(scope: readonly string[], engine: EngineKind): RawBuilder<boolean> {
  const theirs = within(walked('host.host_group', engine), scope);
  const slots = IMAGE_SLOTS.map((slot) => sql.ref(`host.image_${slot}`));
  const named = sql.join(
    slots.map((slot) => sql`select ${slot} from host where ${theirs}`),
    sql` union `,
  );
  const digest = walked('image.digest', engine);
  return sql<boolean>`(${digest} in (${named})
    or ${digest} in (select image_alias.digest from image_alias where image_alias.alias in (${named})))`;
}

export function imageReads(engine: Engine): Pick<Reads, 'images' | 'isImageWithin' | 'aliases' | 'tokens'> {
  return {
    images: ({ states, scope = null }, page) =>
      engine.listing(async (db) => {
        const { cursor } = page;
        let query = db
          .selectFrom('image')
          .selectAll()
          .orderBy('first_seen', 'desc')
          .orderBy('digest', 'desc')
          .limit(page.limit + 1);
        if (states !== undefined) query = query.where('state', 'in', [...states]);
        if (scope !== null) query = query.where(namedWithin(scope, engine.kind));
        if (cursor !== null) query = query.where(beyond(['first_seen', 'digest'], 'down', [cursor.at, cursor.digest]));
        const rows = pageOf(
          await query.execute(),
          page.limit,
          (row) => row,
          (row) => ({ at: row.first_seen, digest: row.digest }),
        );
        return { items: await withHosts(db, rows.items, scope), next: rows.next };
      }),
    isImageWithin: (digest, scope) =>
      engine.listing(async (db) => {
        const aliases = await db.selectFrom('image_alias').select('alias').where('digest', '=', digest).execute();
        const names = sql.join([digest, ...aliases.map(({ alias }) => alias)]);
        const theirs = within(walked('host.host_group', engine.kind), scope);
        const ways = [
          ...IMAGE_SLOTS.map((slot) => sql`select 1 from host where ${sql.ref(`host.image_${slot}`)} in (${names})`),
          sql`select 1 from host_stay join host on host.id = host_stay.host_id where host_stay.image in (${names})`,
        ];
        for (const way of ways) {
          const { rows } = await sql`${way} and ${theirs} limit 1`.execute(db as unknown as Kysely<Tables>);
          if (rows.length > 0) return true;
        }
        return false;
      }),
    aliases: (digest) =>
      engine.reading(async (db) => {
        const rows = await db
          .selectFrom('image_alias')
          .selectAll()
          .where('digest', '=', digest)
          .orderBy('alias')
          .execute();
        return rows.map(({ alias, kind }) => ({ alias, kind: kind as AliasKind }));
      }),
    tokens: (page) =>
      engine.reading(async (db) => {
        let query = db
          .selectFrom('token')
          .selectAll()
          .orderBy('id')
          .limit(page.limit + 1);
        if (page.cursor !== null) query = query.where('id', '>', page.cursor.id);
        return pageOf(await query.execute(), page.limit, tokenOf, ({ id }) => ({ id }));
      }),
  };
}

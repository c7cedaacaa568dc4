/** Lists of hosts that others keep: a row for each import, what is large of it compressed. */
import { promisify } from 'node:util';
import { zstdCompress, zstdDecompress } from 'node:zlib';
import type { Digest } from '#src/digest.ts';
import { INVENTORY_DIFFERENCES_BYTES_MAX } from '#src/limits.ts';
import { writeAudit } from './audit.ts';
import type { Engine } from './engine.ts';
import type { Differences, Inventories, Inventory, Mapping, Matched } from './inventoryrecords.ts';
import { pageOf } from './read/page.ts';
import type { Labels } from './records.ts';
import type { InventoryRow } from './tables.ts';

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);
const packed = (value: unknown): Promise<Uint8Array> => compress(JSON.stringify(value));

/** All but what is large. */
const TOLD = [
  'source',
  'version',
  'at',
  'by_actor',
  'digest',
  'bytes',
  'mapping',
  'theirs',
  'ours',
  'matched',
  'repeated',
  'blank',
  'only_theirs',
  'only_ours',
] as const;

function inventoryOf(row: Pick<InventoryRow, (typeof TOLD)[number]>): Inventory {
  return {
    source: row.source,
    version: row.version,
    at: row.at,
    by: row.by_actor,
    digest: row.digest as Digest,
    bytes: row.bytes,
    mapping: JSON.parse(row.mapping) as Mapping,
    theirs: row.theirs,
    ours: row.ours,
    matched: JSON.parse(row.matched) as readonly Matched[],
    repeated: row.repeated,
    blank: row.blank,
    onlyTheirs: row.only_theirs,
    onlyOurs: row.only_ours,
  };
}

export function inventoriesOn(engine: Engine): Inventories {
  return {
    add: async (inventory, { differences, list, lists }, by) => {
      const [large, read] = await Promise.all([packed(differences), packed(list)]);
      const { source, mapping, matched, theirs, ours, repeated, blank, onlyTheirs, onlyOurs, digest, bytes } =
        inventory;
      return engine.write(async (tx) => {
        const { version } = await tx.db
          .insertInto('inventory_source')
          .values({ source, version: 1 })
          .onConflict((conflict) =>
            conflict.column('source').doUpdateSet((eb) => ({ version: eb('inventory_source.version', '+', 1) })),
          )
          .returning('version')
          .executeTakeFirstOrThrow();
        const act = await writeAudit(tx, by, {
          action: 'inventory.import',
          object: `inventory:${source}`,
          before: null,
          after: { version, digest, bytes, mapping, theirs, ours, matched, repeated, blank, onlyTheirs, onlyOurs },
        });
        const row: InventoryRow = {
          source,
          version,
          at: by.at,
          by_actor: by.actor,
          digest,
          bytes,
          mapping: JSON.stringify(mapping),
          theirs,
          ours,
          matched: JSON.stringify(matched),
          repeated,
          blank,
          only_theirs: onlyTheirs,
          only_ours: onlyOurs,
          differences: large,
          list: read,
          act,
        };
        await tx.db.insertInto('inventory').values(row).execute();
        await tx.db
          .updateTable('inventory')
          .set({ list: null })
          .where('source', '=', source)
          .where('version', '=', version - lists)
          .execute();
        return inventoryOf(row);
      });
    },
    newest: () =>
      engine.listing(async (db) => {
        const rows = await db
          .selectFrom('inventory_source')
          .innerJoin('inventory', (join) =>
            join
              .onRef('inventory.source', '=', 'inventory_source.source')
              .onRef('inventory.version', '=', 'inventory_source.version'),
          )
          .select(TOLD.map((column) => `inventory.${column}` as const))
          .orderBy('inventory.source')
          .execute();
        return rows.map(inventoryOf);
      }),
    get: (source, version) =>
      engine.listing(async (db) => {
        let query = db
          .selectFrom('inventory')
          .select([...TOLD])
          .where('source', '=', source);
        if (version !== null) query = query.where('version', '=', version);
        const row = await query.orderBy('version', 'desc').limit(1).executeTakeFirst();
        return row && inventoryOf(row);
      }),
    differences: async (source, version) => {
      const row = await engine.listing((db) =>
        db
          .selectFrom('inventory')
          .select('differences')
          .where('source', '=', source)
          .where('version', '=', version)
          .executeTakeFirst(),
      );
      if (row === undefined) return undefined;
      const bytes = await decompress(row.differences, { maxOutputLength: INVENTORY_DIFFERENCES_BYTES_MAX });
      return JSON.parse(bytes.toString('utf8')) as Differences;
    },
    versions: (source, { cursor, limit }) =>
      engine.listing(async (db) => {
        let query = db
          .selectFrom('inventory')
          .select([...TOLD])
          .where('source', '=', source)
          .orderBy('version', 'desc')
          .limit(limit + 1);
        if (cursor !== null) query = query.where('version', '<', cursor.version);
        return pageOf(await query.execute(), limit, inventoryOf, ({ version }) => ({ version }));
      }),
    within: ({ from, to }) =>
      engine.listing(async (db) => {
        const newest = db
          .selectFrom('inventory')
          .select(['source as named', (eb) => eb.fn.max('version').as('last')])
          .where('at', '>=', from)
          .where('at', '<', to)
          .groupBy('source')
          .as('newest');
        const rows = await db
          .selectFrom('inventory')
          .innerJoin(newest, (join) =>
            join.onRef('newest.named', '=', 'inventory.source').onRef('newest.last', '=', 'inventory.version'),
          )
          .select([...TOLD, 'act'])
          .orderBy('source')
          .execute();
        return rows.map(({ act, ...row }) => ({ ...inventoryOf(row), act }));
      }),
    hosts: (after, limit) =>
      engine.listing(async (db) => {
        const rows = await db
          .selectFrom('host')
          .select(['id', 'name', 'labels'])
          .where('id', '>', after)
          .where('state', '<>', 'retired')
          .orderBy('id')
          .limit(limit)
          .execute();
        return rows.map(({ id, name, labels }) => ({ id, name, labels: JSON.parse(labels) as Labels }));
      }),
  };
}

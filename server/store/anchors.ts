/** What witnesses and timestamp authorities said of the log's checkpoints, as rows (anchorrecords.ts). */
import type { Instant } from '#src/clock.ts';
import { anchorOf, type AnchorState, type AnchorTrouble, type LogAnchors } from './anchorrecords.ts';
import type { Engine, Tx } from './engine.ts';
import type { LogWitnessRow } from './tables.ts';

const stateOf = ({ witness, origin, size, at, tried_at, error }: LogWitnessRow): AnchorState => ({
  anchor: witness,
  origin,
  size,
  at: size === 0 ? null : at,
  triedAt: tried_at,
  trouble: error === null ? null : (JSON.parse(error) as AnchorTrouble),
});

/** Its row, made where there is none. */
async function present({ db }: Tx, witness: string, origin: string): Promise<void> {
  await db
    .insertInto('log_witness')
    .values({ witness, origin, size: 0, at: 0, tried_at: null, error: null })
    .onConflict((conflict) => conflict.columns(['witness', 'origin']).doNothing())
    .execute();
}

/** Never back: an older answer that comes late says nothing of what was signed since. */
async function noted(tx: Tx, witness: string, origin: string, size: number, at: Instant): Promise<void> {
  await present(tx, witness, origin);
  const row = tx.db.updateTable('log_witness').where('witness', '=', witness).where('origin', '=', origin);
  await row.set({ error: null }).execute();
  await row.set({ size, at }).where('size', '<', size).execute();
}

export function anchorsOn(engine: Engine): LogAnchors {
  return {
    states: (origin) =>
      engine.reading(async (db) => {
        const rows = await db
          .selectFrom('log_witness')
          .selectAll()
          .where('origin', '=', origin)
          .orderBy('witness')
          .execute();
        return rows.map(stateOf);
      }),
    claim: (anchor, origin, at, unlessSince) =>
      engine.write(async (tx) => {
        await present(tx, anchor, origin);
        const done = await tx.db
          .updateTable('log_witness')
          .set({ tried_at: at })
          .where('witness', '=', anchor)
          .where('origin', '=', origin)
          .where((eb) => eb.or([eb('tried_at', 'is', null), eb('tried_at', '<=', unlessSince)]))
          .executeTakeFirst();
        return done.numUpdatedRows > 0n;
      }),
    cosigned: (origin, { size, witness, line, at }) =>
      engine.write(async (tx) => {
        await tx.db
          .insertInto('log_cosignature')
          .values({ origin, size, witness, line, at })
          .onConflict((conflict) => conflict.columns(['origin', 'size', 'witness']).doNothing())
          .execute();
        await noted(tx, witness, origin, size, at);
      }),
    stamped: (origin, { size, authority, token, at }) =>
      engine.write(async (tx) => {
        await tx.db
          .insertInto('log_timestamp')
          .values({ origin, size, authority, token, at })
          .onConflict((conflict) => conflict.columns(['origin', 'size', 'authority']).doNothing())
          .execute();
        await noted(tx, anchorOf(authority), origin, size, at);
      }),
    noted: (anchor, origin, size, at) => engine.write((tx) => noted(tx, anchor, origin, size, at)),
    failed: (anchor, origin, trouble, at) =>
      engine.write(async (tx) => {
        await present(tx, anchor, origin);
        const row = await tx.db
          .selectFrom('log_witness')
          .selectAll()
          .where('witness', '=', anchor)
          .where('origin', '=', origin)
          .executeTakeFirstOrThrow();
        const before = stateOf(row).trouble;
        const same = before?.code === trouble.code ? before : { since: at, times: 0 };
        const error: AnchorTrouble = { ...trouble, since: same.since, times: same.times + 1 };
        await tx.db
          .updateTable('log_witness')
          .set({ error: JSON.stringify(error) })
          .where('witness', '=', anchor)
          .where('origin', '=', origin)
          .execute();
      }),
    cosignatures: (origin, size) =>
      engine.reading((db) =>
        db
          .selectFrom('log_cosignature')
          .select(['size', 'witness', 'line', 'at'])
          .where('origin', '=', origin)
          .where('size', '=', size)
          .orderBy('witness')
          .execute(),
      ),
    cosignaturesIn: (origin, from, below) =>
      engine.reading((db) => {
        let query = db
          .selectFrom('log_cosignature')
          .select(['size', 'witness', 'line', 'at'])
          .where('origin', '=', origin)
          .where('size', '>=', from)
          .orderBy('size')
          .orderBy('witness');
        if (below !== null) query = query.where('size', '<', below);
        return query.execute();
      }),
    newestCosigned: (origin) =>
      engine.reading(async (db) => {
        const row = await db
          .selectFrom('log_cosignature')
          .select('size')
          .where('origin', '=', origin)
          .orderBy('size', 'desc')
          .limit(1)
          .executeTakeFirst();
        return row?.size;
      }),
    stamps: (origin, from, below = null) =>
      engine.reading((db) => {
        let query = db
          .selectFrom('log_timestamp')
          .select(['size', 'authority', 'token', 'at'])
          .where('origin', '=', origin)
          .where('size', '>=', from)
          .orderBy('size')
          .orderBy('authority');
        if (below !== null) query = query.where('size', '<', below);
        return query.execute();
      }),
  };
}

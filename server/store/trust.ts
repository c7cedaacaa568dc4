/** Who signed an image, as last found out; what that was found out under; and the deny list. */
import { randomUUID } from 'node:crypto';
import type { Digest } from '#src/digest.ts';
import { writeAudit } from './audit.ts';
import type { Engine, Tx } from './engine.ts';
import { enqueue } from './jobs.ts';
import { writeOutbox, type Happening } from './outbox.ts';
import type * as r from './records.ts';
import type { Denials, Trust } from './store.ts';
import type { DeniedRow, ImageTrustRow } from './tables.ts';
import type * as t from './trustrecords.ts';

const trustOf = (row: ImageTrustRow): t.ImageTrust => ({
  image: row.image,
  revision: row.revision,
  basis: { policy: row.policy as Digest, roots: row.roots as Digest, deny: row.deny as Digest },
  state: row.state as t.TrustState,
  since: row.since,
  verifiedAt: row.verified_at,
  lookedAt: row.looked_at,
  unreachableSince: row.unreachable_since,
  vanishedAt: row.vanished_at,
  told: JSON.parse(row.told) as unknown,
  kept: JSON.parse(row.kept) as t.KeptSignature[],
  indexes: JSON.parse(row.indexes) as Digest[],
  lastGood: row.last_good === null ? null : (JSON.parse(row.last_good) as t.LastGood),
});

const rowOf = (trust: t.ImageTrust): ImageTrustRow => ({
  image: trust.image,
  revision: trust.revision,
  policy: trust.basis.policy,
  roots: trust.basis.roots,
  deny: trust.basis.deny,
  state: trust.state,
  since: trust.since,
  verified_at: trust.verifiedAt,
  looked_at: trust.lookedAt,
  unreachable_since: trust.unreachableSince,
  vanished_at: trust.vanishedAt,
  told: JSON.stringify(trust.told ?? null),
  kept: JSON.stringify(trust.kept),
  indexes: JSON.stringify(trust.indexes),
  last_good: trust.lastGood === null ? null : JSON.stringify(trust.lastGood),
});

const textOf = (value: string): Uint8Array => new TextEncoder().encode(value);
const VERSION = 'trust/version';

/**
 * Tells every process that something here is new. Last in its transaction: all who write meet at this row, and hold it for no longer
 * than their commit takes.
 */
async function renewVersion({ db }: Tx): Promise<void> {
  await db
    .insertInto('setting')
    .values({ key: VERSION, value: textOf(randomUUID()) })
    .onConflict((conflict) => conflict.column('key').doUpdateSet({ value: (eb) => eb.ref('excluded.value') }))
    .execute();
}

/** An image that is trusted when it is first looked at is what everybody expects, and no news. */
function happeningOf(
  { image, state }: t.ImageTrust,
  { at }: Pick<r.Act, 'at'>,
  { action, before, after }: Pick<r.AuditEntry, 'action' | 'before' | 'after'>,
): Happening[] {
  if (action === 'trust.change' && before === null && state === 'trusted') return [];
  const severity = action === 'signature-returned' || (action === 'trust.change' && state === 'trusted') ? 0 : 3;
  return [{ kind: 'image', image, transition: action, severity, at, facts: { state, before, after } }];
}

export function trustOn(engine: Engine): Trust {
  return {
    version: () =>
      engine.reading(async (db) => {
        const row = await db.selectFrom('setting').select('value').where('key', '=', VERSION).executeTakeFirst();
        return row === undefined ? '' : Buffer.from(row.value).toString('utf8');
      }),
    note: (name) =>
      engine.reading(async (db) => {
        const key = `trust/${name}`;
        const row = await db.selectFrom('setting').select('value').where('key', '=', key).executeTakeFirst();
        return row === undefined ? undefined : (JSON.parse(Buffer.from(row.value).toString('utf8')) as unknown);
      }),
    setNote: (name, value, by, { event, jobs }) =>
      engine.write(async (tx) => {
        await tx.db
          .insertInto('setting')
          .values({ key: `trust/${name}`, value: textOf(JSON.stringify(value)) })
          .onConflict((conflict) => conflict.column('key').doUpdateSet({ value: (eb) => eb.ref('excluded.value') }))
          .execute();
        if (event !== null) await writeAudit(tx, by, event);
        await enqueue(tx, jobs);
        await renewVersion(tx);
      }),
    get: (image) =>
      engine.reading(async (db) => {
        const row = await db.selectFrom('image_trust').selectAll().where('image', '=', image).executeTakeFirst();
        return row && trustOf(row);
      }),
    getMany: (images) =>
      engine.reading(async (db) => {
        if (images.length === 0) return new Map();
        const rows = await db
          .selectFrom('image_trust')
          .selectAll()
          .where('image', 'in', [...images])
          .execute();
        return new Map(rows.map((row) => [row.image, trustOf(row)]));
      }),
    put: (next, by, events) =>
      engine.write(async (tx) => {
        const { db } = tx;
        const revision = next.revision + 1;
        const row = rowOf({ ...next, revision });
        if (next.revision === 0) {
          const made = await db
            .insertInto('image_trust')
            .values(row)
            .onConflict((conflict) => conflict.column('image').doNothing())
            .executeTakeFirst();
          if ((made.numInsertedOrUpdatedRows ?? 0n) === 0n) return undefined;
        } else {
          const done = await db
            .updateTable('image_trust')
            .set(row)
            .where('image', '=', next.image)
            .where('revision', '=', next.revision)
            .executeTakeFirst();
          if (done.numUpdatedRows === 0n) return undefined;
        }
        for (const event of events) await writeAudit(tx, by, event);
        const happened = events.flatMap((event) => happeningOf(next, by, event));
        await enqueue(tx, await writeOutbox(tx, happened));
        await renewVersion(tx);
        return revision;
      }),
  };
}

const denialOf = (row: DeniedRow): t.Denial => ({
  id: row.id,
  entry: JSON.parse(row.entry) as unknown,
  createdAt: row.created_at,
  createdBy: row.created_by,
});

export function denialsOn(engine: Engine): Denials {
  return {
    list: () =>
      engine.reading(async (db) => {
        const rows = await db.selectFrom('denied').selectAll().orderBy('id').execute();
        return rows.map(denialOf);
      }),
    put: (id, entry, by, jobs) =>
      engine.write(async (tx) => {
        const before = await tx.db.selectFrom('denied').selectAll().where('id', '=', id).executeTakeFirst();
        const row = { id, entry: JSON.stringify(entry), created_at: by.at, created_by: by.actor };
        await tx.db
          .insertInto('denied')
          .values(row)
          .onConflict((conflict) => conflict.column('id').doUpdateSet({ entry: row.entry }))
          .execute();
        await writeAudit(tx, by, {
          action: 'deny.put',
          object: `deny:${id}`,
          before: before === undefined ? null : denialOf(before).entry,
          after: entry,
        });
        await enqueue(tx, jobs);
        await renewVersion(tx);
      }),
    remove: (id, by, jobs) =>
      engine.write(async (tx) => {
        const row = await tx.db.deleteFrom('denied').where('id', '=', id).returningAll().executeTakeFirst();
        if (row === undefined) return false;
        await writeAudit(tx, by, {
          action: 'deny.remove',
          object: `deny:${id}`,
          before: denialOf(row).entry,
          after: null,
        });
        await enqueue(tx, jobs);
        await renewVersion(tx);
        return true;
      }),
  };
}

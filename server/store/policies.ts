/** Policies as they were applied, the lineage of hosts, and when images were made. */
import type { ReadonlyKysely } from 'kysely/readonly';
import type { Digest } from '#src/digest.ts';
import { writeAudit } from './audit.ts';
import type { Engine, Tx } from './engine.ts';
import { enqueue } from './jobs.ts';
import type {
  ImageAges,
  ImageTags,
  Lineage,
  Lineages,
  PolicyOrigin,
  PolicyVersion,
  PolicyVersions,
} from './policyrecords.ts';
import { pageOf } from './read/page.ts';
import type { HostStayRow, PolicyVersionRow, Tables } from './tables.ts';

const versionOf = (row: PolicyVersionRow): PolicyVersion => ({
  n: row.n,
  digest: row.digest as Digest,
  name: row.name,
  documents: JSON.parse(row.documents) as PolicyVersion['documents'],
  origin: row.origin as PolicyOrigin,
  place: row.place,
  commit: row.commit_id,
  note: row.note,
  createdAt: row.created_at,
  createdBy: row.created_by,
});

export function policyVersionsOn(engine: Engine): PolicyVersions {
  return {
    head: () =>
      engine.reading(async (db) => {
        const row = await db.selectFrom('policy_version').select('n').orderBy('n', 'desc').limit(1).executeTakeFirst();
        return row?.n ?? null;
      }),
    get: (n) =>
      engine.reading(async (db) => {
        const row = await db.selectFrom('policy_version').selectAll().where('n', '=', n).executeTakeFirst();
        return row && versionOf(row);
      }),
    list: ({ cursor, limit }) =>
      engine.reading(async (db) => {
        let query = db.selectFrom('policy_version').selectAll().orderBy('n', 'desc');
        if (cursor !== null) query = query.where('n', '<', cursor.n);
        return pageOf(await query.limit(limit + 1).execute(), limit, versionOf, ({ n }) => ({ n }));
      }),
    byDigest: (digest, limit) =>
      engine.reading(async (db) => {
        const rows = await db
          .selectFrom('policy_version')
          .selectAll()
          .where('digest', '=', digest)
          .orderBy('n', 'desc')
          .limit(limit)
          .execute();
        return rows.map(versionOf);
      }),
    append: (version, after, by, jobs) =>
      engine.write(async (tx) => {
        const before = await tx.db
          .selectFrom('policy_version')
          .selectAll()
          .orderBy('n', 'desc')
          .limit(1)
          .executeTakeFirst();
        if ((before?.n ?? null) !== after) return undefined;
        const n = (after ?? 0) + 1;
        const made = await tx.db
          .insertInto('policy_version')
          .values({
            n,
            digest: version.digest,
            name: version.name,
            documents: JSON.stringify(version.documents),
            origin: version.origin,
            place: version.place,
            commit_id: version.commit,
            note: version.note,
            created_at: by.at,
            created_by: by.actor,
          })
          .onConflict((conflict) => conflict.column('n').doNothing())
          .executeTakeFirst();
        // Two that read the same head: one of them is first.
        if ((made.numInsertedOrUpdatedRows ?? 0n) === 0n) return undefined;
        const told = ({ n: number, digest, name, origin, place, commit_id }: Omit<PolicyVersionRow, 'documents'>) => ({
          version: number,
          digest,
          name,
          origin,
          place,
          commit: commit_id,
        });
        await writeAudit(tx, by, {
          action: 'policy.apply',
          object: `policy:${n}`,
          before: before === undefined ? null : told(before),
          after: {
            version: n,
            digest: version.digest,
            name: version.name,
            origin: version.origin,
            place: version.place,
            commit: version.commit,
          },
        });
        await enqueue(tx, jobs);
        return n;
      }),
    controls: () => engine.reading(controlsIn),
    async setControls(controls) {
      const wanted = controls.toSorted((a, b) => order(a.control, b.control) || order(a.rule, b.rule));
      const stands = await engine.reading(controlsIn);
      if (JSON.stringify(stands) === JSON.stringify(wanted.map(({ control, rule }) => ({ control, rule })))) return;
      await engine.write(async ({ db, bulk }) => {
        await db.deleteFrom('rule_control').execute();
        await bulk.insert('rule_control', ['control', 'rule'], wanted, { key: ['control', 'rule'], nothing: true });
      });
    },
  };
}

const order = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));

async function controlsIn(db: ReadonlyKysely<Tables>): Promise<{ control: string; rule: string }[]> {
  const rows = await db.selectFrom('rule_control').selectAll().execute();
  return rows
    .map(({ control, rule }) => ({ control, rule }))
    .sort((a, b) => order(a.control, b.control) || order(a.rule, b.rule));
}

export function lineagesOn(engine: Engine): Lineages {
  return {
    get: (hostId) =>
      engine.reading(async (db) => {
        const row = await db
          .selectFrom('host_lineage')
          .select('lineage')
          .where('host_id', '=', hostId)
          .executeTakeFirst();
        return row && (JSON.parse(row.lineage) as Lineage);
      }),
  };
}

/** In the transaction of the report that changed it. */
export async function writeLineages(
  { bulk }: Tx,
  changed: readonly { readonly hostId: string; readonly lineage: Lineage }[],
): Promise<void> {
  const last = new Map(changed.map(({ hostId, lineage }) => [hostId, lineage]));
  const rows = [...last]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([host_id, lineage]) => ({ host_id, lineage: JSON.stringify(lineage) }));
  if (rows.length === 0) return;
  await bulk.insert('host_lineage', ['host_id', 'lineage'], rows, { key: ['host_id'], set: ['lineage'] });
  await bulk.insert('host_stay', ['host_id', 'from_at', 'seq', 'image', 'to_at'], staysOf(changed), {
    key: ['host_id', 'from_at', 'seq'],
    set: ['image', 'to_at'],
  });
}

/** Of each change the stay that it may have begun, and the one that it may have ended: what lies before them is written already. */
function staysOf(changed: Parameters<typeof writeLineages>[1]): HostStayRow[] {
  const rows = new Map<string, HostStayRow>();
  for (const { hostId, lineage } of changed)
    for (const { from, seq, image, to } of lineage.stays?.slice(-2) ?? [])
      rows.set(`${hostId} ${from} ${seq}`, { host_id: hostId, from_at: from, seq: seq ?? 0, image, to_at: to });
  return [...rows.values()].sort(
    (a, b) => (a.host_id < b.host_id ? -1 : a.host_id > b.host_id ? 1 : 0) || a.from_at - b.from_at || a.seq - b.seq,
  );
}

export function imageAgesOn(engine: Engine): ImageAges {
  return {
    note: (digest, madeAt) =>
      engine.write(async ({ db }) => {
        await db
          .insertInto('image_made')
          .values({ digest, made_at: madeAt })
          .onConflict((conflict) => conflict.column('digest').doUpdateSet({ made_at: madeAt }))
          .execute();
      }),
  };
}

export function imageTagsOn(engine: Engine): ImageTags {
  return {
    get: (reference) =>
      engine.reading(async (db) => {
        const row = await db.selectFrom('image_tag').selectAll().where('reference', '=', reference).executeTakeFirst();
        return (
          row && {
            reference,
            digests: JSON.parse(row.digests) as string[],
            movedAt: row.moved_at,
            checkedAt: row.checked_at,
            failure: row.failure,
          }
        );
      }),
    want: (reference, at, most) =>
      engine.write(async ({ db }) => {
        const { count } = await db
          .selectFrom('image_tag')
          .select(({ fn }) => fn.countAll<number | string>().as('count'))
          .executeTakeFirstOrThrow();
        if (Number(count) >= most) return false;
        await db
          .insertInto('image_tag')
          .values({ reference, digests: '[]', moved_at: at, checked_at: null, due_at: at, failure: null })
          .onConflict((conflict) => conflict.column('reference').doNothing())
          .execute();
        return true;
      }),
    looked: (reference, digests, at) =>
      engine.write(async ({ db }) => {
        const text = JSON.stringify(digests);
        const row = await db.selectFrom('image_tag').selectAll().where('reference', '=', reference).executeTakeFirst();
        if (row === undefined) return false;
        const moved = row.checked_at === null || row.digests !== text;
        await db
          .updateTable('image_tag')
          .set({ digests: text, checked_at: at, failure: null, ...(moved ? { moved_at: at } : {}) })
          .where('reference', '=', reference)
          .execute();
        return moved;
      }),
    failed: (reference, failure) =>
      engine.write(async ({ db }) => {
        await db.updateTable('image_tag').set({ failure }).where('reference', '=', reference).execute();
      }),
    forget: (reference) =>
      engine.write(async ({ db }) => {
        await db.deleteFrom('image_tag').where('reference', '=', reference).execute();
      }),
  };
}

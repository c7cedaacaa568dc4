/** Images: what hosts report, what was found, and the manifests made of it. Sources: where it may be fetched from. */
import { IMAGE_CLAIMS_MAX } from '#src/limits.ts';
import type { Digest } from '#src/digest.ts';
import type { ReadonlyKysely } from 'kysely/readonly';
import { writeAudit } from './audit.ts';
import type { Engine, Tx } from './engine.ts';
import { enqueue } from './jobs.ts';
import { IMAGE_SLOTS } from './records.ts';
import type * as r from './records.ts';
import type { ImageBuilt, Images, Sources } from './store.ts';
import type { ImageRow, ManifestRow, SourceRow, Tables } from './tables.ts';

/** The job that builds an image's manifests; its payload is `{digest}`. */
export const BUILD_JOB = 'build';

const buildJob = (digest: string, runAt: number): r.NewJob => ({
  kind: BUILD_JOB,
  dedupeKey: `${BUILD_JOB}:${digest}`,
  runAt,
  payload: { digest },
});

const list = (json: string) => JSON.parse(json) as readonly string[];

export const imageOf = (row: ImageRow): r.Image => ({
  digest: row.digest,
  state: row.state as r.ImageState,
  reasons: JSON.parse(row.reasons) as readonly r.Reason[],
  attempts: row.attempts,
  nextTry: row.next_try,
  firstSeen: row.first_seen,
  builtAt: row.built_at,
  config: row.config as Digest | null,
  repositories: list(row.repositories),
  claims: list(row.claims),
  version: row.version,
  warnings: JSON.parse(row.warnings) as unknown,
});

const manifestOf = (row: ManifestRow): r.Manifest => ({
  image: row.image,
  rule: row.rule,
  header: row.header,
  trees: JSON.parse(row.trees) as r.ManifestTrees,
  builtAt: row.built_at,
});

async function madeOf(db: ReadonlyKysely<Tables>, digest: string): Promise<Pick<r.Image, 'madeAt'>> {
  const row = await db.selectFrom('image_made').select('made_at').where('digest', '=', digest).executeTakeFirst();
  return { madeAt: row?.made_at ?? null };
}

function pendingImage(digest: string, claim: string | null, at: number): ImageRow {
  return {
    digest,
    state: 'pending',
    reasons: '[]',
    attempts: 0,
    next_try: at,
    first_seen: at,
    built_at: null,
    config: null,
    repositories: '[]',
    claims: JSON.stringify(claim === null ? [] : [claim]),
    version: null,
    warnings: 'null',
  };
}

const union = (a: readonly string[], b: readonly string[], max: number) => [...new Set([...a, ...b])].slice(0, max);

/** The image's row under a digest or alias, locked where the engine has locks. */
async function imageIn({ db, locks }: Tx, reported: string): Promise<ImageRow | undefined> {
  const alias = await db.selectFrom('image_alias').select('digest').where('alias', '=', reported).executeTakeFirst();
  let query = db
    .selectFrom('image')
    .selectAll()
    .where('digest', '=', alias?.digest ?? reported);
  if (locks) query = query.forUpdate();
  return query.executeTakeFirst();
}

async function noteIn(tx: Tx, reported: string, claim: string | null, at: number): Promise<boolean> {
  let known = await imageIn(tx, reported);
  if (known === undefined) {
    const made = await tx.db
      .insertInto('image')
      .values(pendingImage(reported, claim, at))
      .onConflict((conflict) => conflict.column('digest').doNothing())
      .executeTakeFirst();
    if ((made.numInsertedOrUpdatedRows ?? 0n) > 0n) return true;
    // Someone else noted it at this moment: it stands now, and only gains the claim.
    known = await imageIn(tx, reported);
    if (known === undefined) return false;
  }
  const claims = list(known.claims);
  if (claim !== null && !claims.includes(claim) && claims.length < IMAGE_CLAIMS_MAX)
    await tx.db
      .updateTable('image')
      .set({ claims: JSON.stringify([...claims, claim]) })
      .where('digest', '=', known.digest)
      .execute();
  return false;
}

async function readyIn(tx: Tx, built: ImageBuilt): Promise<void> {
  const { db } = tx;
  const aliases = built.aliases.filter(({ alias }) => alias !== built.digest);
  const names = [...new Set([built.asked, built.digest, ...aliases.map(({ alias }) => alias)])].sort();
  // Rows that were made under other names of the same image give way to the one row.
  let query = db.selectFrom('image').selectAll().where('digest', 'in', names).orderBy('digest');
  if (tx.locks) query = query.forUpdate();
  const rows = await query.execute();
  const own = rows.find(({ digest }) => digest === built.digest);
  const repositories = rows.flatMap((row) => list(row.repositories));
  const row: ImageRow = {
    digest: built.digest,
    state: 'ready',
    reasons: '[]',
    attempts: own?.attempts ?? rows[0]?.attempts ?? 1,
    next_try: null,
    first_seen: Math.min(built.at, ...rows.map(({ first_seen }) => first_seen)),
    built_at: own?.built_at ?? built.at,
    config: built.config,
    repositories: JSON.stringify(
      union(repositories, built.repository === null ? [] : [built.repository], IMAGE_CLAIMS_MAX),
    ),
    claims: JSON.stringify(
      union(
        rows.flatMap(({ claims }) => list(claims)),
        [],
        IMAGE_CLAIMS_MAX,
      ),
    ),
    version: built.version ?? own?.version ?? null,
    warnings: JSON.stringify(built.warnings ?? null),
  };
  await db.deleteFrom('image').where('digest', 'in', names).execute();
  await db.insertInto('image').values(row).execute();
  await tx.bulk.insert(
    'image_alias',
    ['alias', 'digest', 'kind'],
    aliases
      .map(({ alias, kind }) => ({ alias, digest: built.digest, kind }))
      .sort((a, b) => (a.alias < b.alias ? -1 : 1)),
    { key: ['alias'], set: ['digest', 'kind'] },
  );
  await tx.bulk.insert(
    'manifest',
    ['image', 'rule', 'header', 'trees', 'built_at'],
    built.manifests.map((m) => ({
      image: m.image,
      rule: m.rule,
      header: m.header,
      trees: JSON.stringify(m.trees),
      built_at: m.builtAt,
    })),
    { key: ['image', 'rule'], nothing: true },
  );
}

export function imagesOn(engine: Engine): Images {
  return {
    beginning: (hex, limit) =>
      engine.reading(async (db) => {
        const found = new Set<string>();
        for (const start of [`sha256:${hex}`, hex]) {
          const end = `${start}~`;
          const own = await db
            .selectFrom('image')
            .select('digest')
            .where('digest', '>=', start)
            .where('digest', '<', end)
            .orderBy('digest')
            .limit(limit)
            .execute();
          const named = await db
            .selectFrom('image_alias')
            .select('digest')
            .where('alias', '>=', start)
            .where('alias', '<', end)
            .orderBy('alias')
            .limit(limit)
            .execute();
          for (const { digest } of [...own, ...named]) found.add(digest);
        }
        return [...found].slice(0, limit);
      }),
    find: (reported) =>
      engine.reading(async (db) => {
        const exact = await db.selectFrom('image').selectAll().where('digest', '=', reported).executeTakeFirst();
        if (exact !== undefined)
          return { image: { ...imageOf(exact), ...(await madeOf(db, exact.digest)) }, via: 'digest' };
        const row = await db
          .selectFrom('image_alias')
          .innerJoin('image', 'image.digest', 'image_alias.digest')
          .selectAll('image')
          .select('image_alias.kind')
          .where('image_alias.alias', '=', reported)
          .executeTakeFirst();
        return row === undefined
          ? undefined
          : { image: { ...imageOf(row), ...(await madeOf(db, row.digest)) }, via: row.kind as r.AliasKind };
      }),
    note: (seen, at) =>
      engine.write(async (tx) => {
        const fresh: string[] = [];
        for (const { reported, claim } of [...seen].sort((a, b) => (a.reported < b.reported ? -1 : 1)))
          if (await noteIn(tx, reported, claim, at)) fresh.push(reported);
        await enqueue(
          tx,
          fresh.map((digest) => buildJob(digest, at)),
        );
        return fresh;
      }),
    building: (digest, at) =>
      engine.write(async ({ db }) => {
        const done = await db
          .updateTable('image')
          .set((eb) => ({ state: 'building', attempts: eb('attempts', '+', 1), next_try: at }))
          .where('digest', '=', digest)
          .where('state', '!=', 'ready')
          .executeTakeFirst();
        return done.numUpdatedRows > 0n;
      }),
    failed: (digest, { reasons, nextTry }) =>
      engine.write(async ({ db }) => {
        await db
          .updateTable('image')
          .set({ state: 'failed', reasons: JSON.stringify(reasons), next_try: nextTry })
          .where('digest', '=', digest)
          // What was built once stays: texts are immutable, and hosts are judged by them.
          .where('state', '!=', 'ready')
          .execute();
      }),
    drop: (digest) =>
      engine.write(async ({ db }) => {
        const gone = await db
          .deleteFrom('image')
          .where('digest', '=', digest)
          .where('state', '!=', 'ready')
          .where((eb) =>
            eb.not(
              eb.exists(
                eb
                  .selectFrom('host')
                  .select('host.id')
                  .where((on) => on.or(IMAGE_SLOTS.map((slot) => on(`host.image_${slot}`, '=', digest)))),
              ),
            ),
          )
          .executeTakeFirst();
        if (gone.numDeletedRows === 0n) return false;
        // Work under way ends by itself: it finds no image.
        await db
          .deleteFrom('job')
          .where('dedupe_key', '=', `${BUILD_JOB}:${digest}`)
          .where('lease', 'is', null)
          .execute();
        return true;
      }),
    ready: (built) => engine.write((tx) => readyIn(tx, built)),
    manifests: (image) =>
      engine.reading(async (db) => {
        const rows = await db.selectFrom('manifest').selectAll().where('image', '=', image).orderBy('rule').execute();
        return rows.map(manifestOf);
      }),
    manifest: (image, rule) =>
      engine.reading(async (db) => {
        const row = await db
          .selectFrom('manifest')
          .selectAll()
          .where('image', '=', image)
          .where('rule', '=', rule)
          .executeTakeFirst();
        return row === undefined ? undefined : manifestOf(row);
      }),
  };
}

const sourceOf = (row: SourceRow): r.Source => ({
  pattern: row.pattern,
  options: JSON.parse(row.options) as unknown,
  createdAt: row.created_at,
  createdBy: row.created_by,
});

export function sourcesOn(engine: Engine): Sources {
  return {
    list: () =>
      engine.reading(async (db) => {
        const rows = await db.selectFrom('source').selectAll().orderBy('pattern').execute();
        return rows.map(sourceOf);
      }),
    allow: (pattern, options, by) =>
      engine.write(async (tx) => {
        const { db } = tx;
        const before = await db.selectFrom('source').selectAll().where('pattern', '=', pattern).executeTakeFirst();
        const row = { pattern, options: JSON.stringify(options ?? null), created_at: by.at, created_by: by.actor };
        await db
          .insertInto('source')
          .values(row)
          .onConflict((conflict) => conflict.column('pattern').doUpdateSet({ options: row.options }))
          .execute();
        const due = await db
          .updateTable('image')
          .set({ state: 'pending', next_try: by.at })
          .where('state', '=', 'failed')
          .returning('digest')
          .execute();
        await enqueue(
          tx,
          due.map(({ digest }) => buildJob(digest, by.at)),
        );
        await writeAudit(tx, by, {
          action: 'source.allow',
          object: `source:${pattern}`,
          before: before === undefined ? null : sourceOf(before),
          after: { pattern, options },
        });
      }),
    forbid: (pattern, by) =>
      engine.write(async (tx) => {
        const row = await tx.db.deleteFrom('source').where('pattern', '=', pattern).returningAll().executeTakeFirst();
        if (row === undefined) return false;
        const before = sourceOf(row);
        await writeAudit(tx, by, { action: 'source.forbid', object: `source:${pattern}`, before, after: null });
        return true;
      }),
  };
}

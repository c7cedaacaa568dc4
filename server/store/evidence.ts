/** Evidence exports as rows, and the last `same` of each host, kept before its day is over (docs/evidence.md 7). */
import { lies } from '#src/finding/scope.ts';
import { writeAudit } from './audit.ts';
import type { Engine } from './engine.ts';
import type {
  BundlePieces,
  EvidenceExport,
  EvidenceExports,
  EvidenceStore,
  ExportCut,
  ExportState,
} from './evidencerecords.ts';
import { sortableId } from './ids.ts';
import { keepSamesIn } from './intake.ts';
import { enqueue } from './jobs.ts';
import { evidenceReads } from './read/evidence.ts';
import { pageOf } from './read/page.ts';
import type { EvidenceExportRow } from './tables.ts';

const parsed = (text: string | null): unknown => (text === null ? null : (JSON.parse(text) as unknown));

export const exportOf = (row: EvidenceExportRow): EvidenceExport => ({
  id: row.id,
  createdAt: row.created_at,
  createdBy: row.created_by,
  from: row.period_from,
  to: row.period_to,
  filter: row.filter,
  scope: parsed(row.scope) as readonly string[] | null,
  frameworks: JSON.parse(row.frameworks) as readonly string[],
  sampling: parsed(row.sampling) as EvidenceExport['sampling'],
  parameters: JSON.parse(row.parameters) as EvidenceExport['parameters'],
  state: row.state as ExportState,
  progress: JSON.parse(row.progress) as EvidenceExport['progress'],
  cut: parsed(row.cut) as ExportCut | null,
  attempts: row.attempts,
  hosts: row.hosts,
  error: parsed(row.error) as EvidenceExport['error'],
  file: row.sha256 === null ? null : { sha256: row.sha256, bytes: row.bytes! },
  finishedAt: row.finished_at,
  expiresAt: row.expires_at,
});

/** What the trail says of it: what was asked for, never who is in it. */
const asked = ({ from, to, filter, scope, frameworks, sampling }: EvidenceExport) => ({
  from: new Date(from).toISOString(),
  to: new Date(to).toISOString(),
  filter,
  scope,
  frameworks,
  sampling,
});

export function evidenceOn(engine: Engine): EvidenceStore {
  return {
    ...evidenceReads(engine),
    exports: exportsOn(engine),
    pieces: piecesOn(engine),
    keepSames: (hostIds, before) => engine.write((tx) => keepSamesIn(tx, hostIds, before)),
  };
}

/** Keys of a file's pieces, among those of other blobs: they sort by number. */
const PIECES = 'evidence/';
const keyOf = ({ id, attempts }: Pick<EvidenceExport, 'id' | 'attempts'>, n: number): string =>
  `${PIECES}${id}/${attempts}/${String(n).padStart(8, '0')}`;
/** The first key behind all that begin so: `0` follows `/`. */
const behind = (prefix: string): string => `${prefix.slice(0, -1)}0`;

function piecesOn(engine: Engine): BundlePieces {
  return {
    put: (of, n, bytes) =>
      engine.write(async ({ db }) => {
        await db
          .insertInto('blob')
          .values({ key: keyOf(of, n), encoding: 'identity', bytes })
          .onConflict((conflict) => conflict.column('key').doUpdateSet({ bytes }))
          .execute();
      }),
    get: (of, n) =>
      engine.reading(async (db) => {
        const row = await db.selectFrom('blob').select('bytes').where('key', '=', keyOf(of, n)).executeTakeFirst();
        return row?.bytes;
      }),
    remove: (id, but, limit) =>
      engine.write(async ({ db }) => {
        const all = `${PIECES}${id}/`;
        const kept = `${all}${but ?? ''}/`;
        let query = db.selectFrom('blob').select('key').where('key', '>=', all).where('key', '<', behind(all));
        if (but !== null) query = query.where((eb) => eb.or([eb('key', '<', kept), eb('key', '>=', behind(kept))]));
        const keys = (await query.orderBy('key').limit(limit).execute()).map(({ key }) => key);
        if (keys.length > 0) await db.deleteFrom('blob').where('key', 'in', keys).execute();
        return keys.length;
      }),
    ids: () =>
      engine.reading(async (db) => {
        const found: string[] = [];
        // From one export to the next: a file is thousands of rows.
        for (let from = PIECES; ;) {
          const row = await db
            .selectFrom('blob')
            .select('key')
            .where('key', '>=', from)
            .where('key', '<', behind(PIECES))
            .orderBy('key')
            .limit(1)
            .executeTakeFirst();
          if (row === undefined) return found;
          const id = row.key.slice(PIECES.length).split('/')[0]!;
          found.push(id);
          from = behind(`${PIECES}${id}/`);
        }
      }),
  };
}

function exportsOn(engine: Engine): EvidenceExports {
  return {
    create: (wanted, by, max, job) =>
      engine.write(async (tx) => {
        const { count } = await tx.db
          .selectFrom('evidence_export')
          .select((eb) => eb.fn.countAll<number>().as('count'))
          .executeTakeFirstOrThrow();
        if (count >= max) return undefined;
        const row: EvidenceExportRow = {
          id: `ev_${sortableId(by.at)}`,
          created_at: by.at,
          created_by: by.actor,
          period_from: wanted.from,
          period_to: wanted.to,
          filter: wanted.filter,
          scope: wanted.scope === null ? null : JSON.stringify(wanted.scope),
          frameworks: JSON.stringify(wanted.frameworks),
          sampling: wanted.sampling === null ? null : JSON.stringify(wanted.sampling),
          parameters: JSON.stringify(wanted.parameters),
          state: 'queued',
          progress: '[]',
          act: null,
          cut: null,
          attempts: 0,
          hosts: null,
          error: null,
          sha256: null,
          bytes: null,
          finished_at: null,
          expires_at: wanted.expiresAt,
        };
        await tx.db.insertInto('evidence_export').values(row).execute();
        await enqueue(tx, [job(row.id)]);
        return exportOf(row);
      }),
    get: (id) =>
      engine.reading(async (db) => {
        const row = await db.selectFrom('evidence_export').selectAll().where('id', '=', id).executeTakeFirst();
        return row && exportOf(row);
      }),
    // Some hundred rows at most: whose they are is told here, not by the database.
    list: (scope, page) =>
      engine.listing(async (db) => {
        let query = db.selectFrom('evidence_export').selectAll().orderBy('id', 'desc');
        if (page.cursor !== null) query = query.where('id', '<', page.cursor.id);
        const rows = await query.execute();
        const theirs = rows.filter((row) => lies(parsed(row.scope) as readonly string[] | null, scope));
        return pageOf(theirs.slice(0, page.limit + 1), page.limit, exportOf, ({ id }) => ({ id }));
      }),
    begin: (id) =>
      engine.write(async ({ db }) => {
        const row = await db
          .updateTable('evidence_export')
          .set((eb) => ({ state: 'running', attempts: eb('attempts', '+', 1), progress: '[]' }))
          .where('id', '=', id)
          .where('state', 'in', ['queued', 'running'])
          .returningAll()
          .executeTakeFirst();
        return row && exportOf(row);
      }),
    log: (id, by) =>
      engine.write(async (tx) => {
        let query = tx.db.selectFrom('evidence_export').selectAll().where('id', '=', id);
        if (tx.locks) query = query.forUpdate();
        const row = await query.executeTakeFirst();
        if (row === undefined) return undefined;
        if (row.act !== null) {
          const { at } = await tx.db
            .selectFrom('audit')
            .select('at')
            .where('id', '=', row.act)
            .executeTakeFirstOrThrow();
          return { act: row.act, at };
        }
        const act = await writeAudit(tx, by, {
          action: 'evidence.export',
          object: `evidence:${id}`,
          before: null,
          after: asked(exportOf(row)),
        });
        await tx.db.updateTable('evidence_export').set({ act }).where('id', '=', id).execute();
        return { act, at: by.at };
      }),
    cut: (id, cut) =>
      engine.write(async ({ db, locks }) => {
        let query = db.selectFrom('evidence_export').select('cut').where('id', '=', id);
        if (locks) query = query.forUpdate();
        const row = await query.executeTakeFirst();
        if (row === undefined) return undefined;
        const standing = parsed(row.cut) as ExportCut | null;
        if (standing !== null) return standing;
        await db
          .updateTable('evidence_export')
          .set({ cut: JSON.stringify(cut) })
          .where('id', '=', id)
          .execute();
        return cut;
      }),
    progress: (id, progress, hosts) =>
      engine.write(async ({ db }) => {
        const done = await db
          .updateTable('evidence_export')
          .set({ progress: JSON.stringify(progress), ...(hosts === null ? {} : { hosts }) })
          .where('id', '=', id)
          .where('state', '=', 'running')
          .executeTakeFirst();
        return done.numUpdatedRows > 0n;
      }),
    done: ({ id, attempts }, { sha256, bytes }, at) =>
      engine.write(async ({ db }) => {
        const done = await db
          .updateTable('evidence_export')
          .set({ state: 'done', sha256, bytes, finished_at: at, error: null })
          .where('id', '=', id)
          .where('attempts', '=', attempts)
          .where('state', '=', 'running')
          .executeTakeFirst();
        return done.numUpdatedRows > 0n;
      }),
    failed: ({ id, attempts }, error, at, again) =>
      engine.write(async ({ db }) => {
        const done = await db
          .updateTable('evidence_export')
          .set({ error: JSON.stringify(error), ...(again ? {} : { state: 'failed', finished_at: at }) })
          .where('id', '=', id)
          .where('attempts', '=', attempts)
          .where('state', '=', 'running')
          .executeTakeFirst();
        return done.numUpdatedRows > 0n;
      }),
    remove: (id, by) =>
      engine.write(async (tx) => {
        const row = await tx.db.deleteFrom('evidence_export').where('id', '=', id).returningAll().executeTakeFirst();
        if (row === undefined) return false;
        const gone = exportOf(row);
        await writeAudit(tx, by, {
          action: 'evidence.delete',
          object: `evidence:${id}`,
          before: { ...asked(gone), state: gone.state, sha256: row.sha256, bytes: row.bytes },
          after: null,
        });
        return true;
      }),
    expired: (now, limit) =>
      engine.reading(async (db) => {
        const rows = await db
          .selectFrom('evidence_export')
          .select('id')
          .where('expires_at', '<=', now)
          .orderBy('expires_at')
          .limit(limit)
          .execute();
        return rows.map(({ id }) => id);
      }),
    known: (ids) =>
      engine.reading(async (db) => {
        if (ids.length === 0) return new Set();
        const rows = await db
          .selectFrom('evidence_export')
          .select('id')
          .where('id', 'in', [...ids])
          .execute();
        return new Set(rows.map(({ id }) => id));
      }),
    oldestCut: () =>
      engine.reading(async (db) => {
        const rows = await db
          .selectFrom('evidence_export')
          .select(['cut', 'created_at'])
          .where('state', 'in', ['queued', 'running'])
          .execute();
        const times = rows.map((row) => (parsed(row.cut) as ExportCut | null)?.at ?? row.created_at);
        return times.length === 0 ? null : Math.min(...times);
      }),
  };
}

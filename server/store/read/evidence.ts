/** What a bundle is made from (docs/evidence.md 7): each read is a page of an index, so that an export holds one page at a time. */
import { sql } from 'kysely';
import type { ReadonlyKysely } from 'kysely/readonly';
import type { Engine } from '../engine.ts';
import type { EntryKey, EvidenceReads, LogCut } from '../evidencerecords.ts';
import { hostOf, hostQuery } from '../hostrow.ts';
import { sortableTime } from '../ids.ts';
import { payloadsOf } from '../logpayload.ts';
import type { Tables } from '../tables.ts';

type Db = ReadonlyKysely<Tables>;

/** Entries of a host and kind, as far as the cut goes. */
const entriesIn = (db: Db, hostId: string, kind: string, { log, size }: LogCut) =>
  db
    .selectFrom('log_entry')
    .where('log_entry.host_id', '=', hostId)
    .where('log_entry.kind', '=', kind)
    .where(sql<boolean>`(log_entry.log < ${log} or (log_entry.log = ${log} and log_entry.idx < ${size}))`);

const key = ({ at, log, index }: EntryKey) => sql`(${at}, ${log}, ${index})`;
const place = sql`(log_entry.at, log_entry.log, log_entry.idx)`;

export function evidenceReads(engine: Engine): EvidenceReads {
  return {
    hosts: (after, limit) =>
      engine.reading(async (db) => {
        const rows = await hostQuery(db).where('host.id', '>', after).orderBy('host.id').limit(limit).execute();
        return rows.map((row) => hostOf(row, row));
      }),
    countHosts: () =>
      engine.reading(async (db) => {
        const { count } = await db
          .selectFrom('host')
          .select((eb) => eb.fn.countAll<number>().as('count'))
          .executeTakeFirstOrThrow();
        return count;
      }),
    renamedSince: (ids, at) =>
      engine.reading(async (db) => {
        if (ids.length === 0) return new Set();
        // Ids sort by time: a time is a bound of the index.
        const rows = await db
          .selectFrom('audit')
          .select('object')
          .distinct()
          .where(
            'object',
            'in',
            ids.map((id) => `host:${id}`),
          )
          .where('id', '>=', `a_${sortableTime(at)}`)
          .where('action', 'in', ['host.rename', 'host.group', 'host.labels'])
          .execute();
        return new Set(rows.map(({ object }) => object.slice('host:'.length)));
      }),
    entries: (hostId, kind, cut, { from, to }, { after, limit }) =>
      engine.reading(async (db) => {
        let query = entriesIn(db, hostId, kind, cut)
          .select(['log_entry.log', 'log_entry.idx', 'log_entry.at', 'log_entry.entry'])
          .where('log_entry.at', '>=', from)
          .where('log_entry.at', '<', to)
          .orderBy('log_entry.at')
          .orderBy('log_entry.log')
          .orderBy('log_entry.idx')
          .limit(limit);
        if (after !== null) query = query.where(sql<boolean>`${place} > ${key(after)}`);
        if (kind !== 'judgement')
          return (await query.execute()).map(({ log, idx, at, entry }) => ({ log, index: idx, at, entry, body: null }));
        const rows = await query
          .leftJoin('log_payload', 'log_payload.id', 'log_entry.id')
          .select('log_payload.body')
          .execute();
        return rows.map(({ log, idx, at, entry, body }) => ({ log, index: idx, at, entry, body }));
      }),
    reportsBefore: (hostId, cut, before, { after, limit }) =>
      engine.reading(async (db) => {
        let query = entriesIn(db, hostId, 'report', cut)
          .select(['log_entry.log', 'log_entry.idx', 'log_entry.at', 'log_entry.entry'])
          .where('log_entry.at', '<', before)
          .orderBy('log_entry.at', 'desc')
          .orderBy('log_entry.log', 'desc')
          .orderBy('log_entry.idx', 'desc')
          .limit(limit);
        if (after !== null) query = query.where(sql<boolean>`${place} < ${key(after)}`);
        return (await query.execute()).map(({ log, idx, at, entry }) => ({ log, index: idx, at, entry, body: null }));
      }),
    entriesOf: (log, kinds, { from, to }, limit) =>
      engine.reading(async (db) => {
        const rows = await db
          .selectFrom('log_entry')
          .select(['log', 'idx', 'at', 'kind', 'host_id', 'entry'])
          .where('log', '=', log)
          .where('idx', '>=', from)
          .where('idx', '<', to)
          .where('kind', 'in', [...kinds])
          .orderBy('idx')
          .limit(limit)
          .execute();
        return rows.map(({ idx, host_id, ...row }) => ({ ...row, index: idx, hostId: host_id }));
      }),
    entryBytes: (log, from, limit) =>
      engine.reading(async (db) => {
        const rows = await db
          .selectFrom('log_entry')
          .select('entry')
          .where('log', '=', log)
          .where('idx', '>=', from)
          .orderBy('idx')
          .limit(limit)
          .execute();
        return rows.map(({ entry }) => entry);
      }),
    records: (log, indexes) =>
      engine.reading(async (db) => {
        if (indexes.length === 0) return [];
        const rows = await db
          .selectFrom('log_entry')
          .select(['idx', 'id', 'entry'])
          .where('log', '=', log)
          .where('idx', 'in', [...indexes])
          .orderBy('idx')
          .execute();
        const payloads = await payloadsOf(
          db,
          rows.map(({ id }) => id),
        );
        return rows.map(({ idx, id, entry }) => {
          const found = payloads.get(id);
          const isThere = found?.salt != null && found.bytes !== null;
          return {
            index: idx,
            entry,
            salt: isThere ? found.salt : null,
            payload: isThere ? found.bytes : null,
          };
        });
      }),
    stays: (hostId, { from, to }) =>
      engine.reading(async (db) => {
        const rows = await db
          .selectFrom('host_stay')
          .select(['image', 'from_at', 'to_at', 'seq'])
          .where('host_id', '=', hostId)
          .where('from_at', '<', to)
          .where((eb) => eb.or([eb('to_at', 'is', null), eb('to_at', '>=', from)]))
          .orderBy('from_at')
          .orderBy('seq')
          .execute();
        return rows.map(({ image, from_at, to_at }) => ({ image, from: from_at, to: to_at }));
      }),
    oddReports: (hostId, { from, to }, limit) =>
      engine.reading(async (db) => {
        const rows = await db
          .selectFrom('report')
          .select(['seq', 'copy', 'envelope'])
          .where('host_id', '=', hostId)
          .where('kind', 'in', ['history', 'fork'])
          .where('received_at', '>=', from)
          .where('received_at', '<', to)
          .orderBy('seq')
          .orderBy('copy')
          .limit(limit)
          .execute();
        return rows;
      }),
    checkpointAtMost: (origin, size) =>
      engine.reading(async (db) =>
        db
          .selectFrom('log_checkpoint')
          .select(['size', 'at'])
          .where('origin', '=', origin)
          .where('size', '<=', size)
          .orderBy('size', 'desc')
          .limit(1)
          .executeTakeFirst(),
      ),
  };
}

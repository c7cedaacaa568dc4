/** Lists of hosts. A filter of several verdicts or digests is several walks of one index, merged. */
import { sql, type Kysely, type RawBuilder } from 'kysely';
import type { ReadonlyKysely } from 'kysely/readonly';
import type { Instant } from '#src/clock.ts';
import type { Engine } from '../engine.ts';
import { hostOf, hostQuery } from '../hostrow.ts';
import type * as r from '../records.ts';
import { headOf, newestSame } from '../reports.ts';
import { SILENT_RANK, type HostCursor, type HostFilter, type PageRequest, type Reads } from '../store.ts';
import type { HostRow, ReportRow, Tables } from '../tables.ts';
import { hostsWith, labelled, overdue, walked, within, type EngineKind } from './line.ts';
import { beyond, boundedCount, merged, pageOf } from './page.ts';

type Db = ReadonlyKysely<Tables>;
/** One walk: at most one verdict and one booted image. */
type Walk = {
  readonly filter: HostFilter;
  readonly verdict: string | undefined;
  readonly booted: string | undefined;
  /** Hosts with a waiver that ended and that nobody judged again yet: what is so without any waiver counts for them. */
  readonly lapsed?: boolean;
  /** By attention: hosts whose silence weighs more than their verdict, or the others. */
  readonly raised?: boolean;
};

/** Whether there are such hosts: mostly there are none, because a job comes at the very time. */
async function isAnyLapsed(db: Db, now: Instant): Promise<boolean> {
  const row = await db.selectFrom('host').select('id').where('valid_until', '<=', now).limit(1).executeTakeFirst();
  return row !== undefined;
}

async function allWalks(db: Db, filter: HostFilter, sort?: HostCursor['sort']): Promise<Walk[]> {
  let all = walks(filter);
  if (await isAnyLapsed(db, filter.now)) all = [...all, ...all.map((walk) => ({ ...walk, lapsed: true }))];
  // Silence is the clock's, so no row has it: two walks keep each in the order of an index.
  return sort === 'attention' ? all.flatMap((walk) => [false, true].map((raised) => ({ ...walk, raised }))) : all;
}

function walks(filter: HostFilter): Walk[] {
  const verdicts = filter.verdicts === undefined ? [undefined] : [...new Set(filter.verdicts)];
  const booted = filter.booted === undefined ? [undefined] : [...new Set(filter.booted)];
  return verdicts.flatMap((verdict) => booted.map((image) => ({ filter, verdict, booted: image })));
}

/** Greater than every text that begins with `prefix`. */
const after = (prefix: string) => `${prefix}\u{10ffff}`;

/** Hosts of one walk. With `sort`, SQLite is kept on the index that gives the order; counts may take any. */
function selection(
  db: Db,
  engine: EngineKind,
  { filter, verdict, booted, lapsed = false }: Walk,
  sort: HostCursor['sort'] | undefined,
) {
  const { now } = filter;
  const states = filter.states ?? ['active', 'pending'];
  const aside = (column: string) => (sort === undefined ? sql.ref(column) : walked(column, engine));
  // By name, hosts of a group and on an image have indexes in that order.
  const byName = (column: string) => (sort === 'attention' ? walked(column, engine) : sql.ref(column));
  const past = (column: 'silent_after' | 'late_after') => overdue(column, aside('host.id'), now, engine);
  const not = (condition: RawBuilder<boolean>) => sql<boolean>`not ${condition}`;
  let query = (db as unknown as Kysely<Tables>)
    .selectFrom('host')
    .where(sql<boolean>`${aside('host.state')} in (${sql.join([...states])})`);
  const answer = lapsed ? 'host.bare_verdict' : 'host.verdict';
  query = lapsed
    ? query.where('host.valid_until', '<=', now)
    : query.where(sql<boolean>`(${aside('host.valid_until')} is null or ${aside('host.valid_until')} > ${now})`);
  if (verdict === 'silent') query = query.where(answer, '!=', 'new').where(past('silent_after'));
  else if (verdict === 'new') query = query.where(answer, '=', 'new');
  else if (verdict !== undefined) query = query.where(answer, '=', verdict).where(not(past('silent_after')));
  if (filter.freshness === 'silent') query = query.where(past('silent_after'));
  if (filter.freshness === 'late') query = query.where(past('late_after')).where(not(past('silent_after')));
  if (filter.freshness === 'current') query = query.where(not(past('late_after'))).where(not(past('silent_after')));
  if (booted !== undefined) query = query.where(sql<boolean>`${byName('host.image_booted')} = ${booted}`);
  if (filter.integrity !== undefined)
    query = query.where(lapsed ? 'host.bare_integrity' : 'host.integrity', '=', filter.integrity);
  if (filter.provenance !== undefined) query = query.where('host.provenance', '=', filter.provenance);
  if (filter.scope !== undefined && filter.scope !== null)
    query = query.where(within(aside('host.host_group'), filter.scope));
  if (filter.group !== undefined) query = query.where(within(aside('host.host_group'), [filter.group]));
  if (filter.namePrefix !== undefined) {
    const prefix = filter.namePrefix.toLowerCase();
    const name = byName('host.name_fold');
    query = query.where(sql<boolean>`${name} >= ${prefix}`).where(sql<boolean>`${name} < ${after(prefix)}`);
  }
  for (const slot of ['staged', 'rollback'] as const) {
    const names = filter[slot];
    if (names === undefined) continue;
    // A set by the index of the slot: the list keeps its own order.
    const column = sql.ref(`other.image_${slot}`);
    query = query.where(
      names.length === 0
        ? sql<boolean>`(1 = 0)`
        : sql<boolean>`${walked('host.id', engine)} in (select other.id from host as other where ${column} in (${sql.join([...names])}))`,
    );
  }
  const { label } = filter;
  if (label !== undefined) query = query.where(labelled(aside('host.id'), label.key, label.value, engine));
  return query;
}

type Key = Pick<HostRow, 'id' | 'name_fold' | 'rank'>;
const BEFORE: Readonly<Record<HostCursor['sort'], (a: Key, b: Key) => boolean>> = {
  name: (a, b) => (a.name_fold === b.name_fold ? a.id < b.id : bytesBefore(a.name_fold, b.name_fold)),
  attention: (a, b) => (a.rank === b.rank ? a.id > b.id : a.rank > b.rank),
};
/** As the databases compare: by the bytes of UTF-8, which is not the order of JavaScript's strings beyond the BMP. */
const bytesBefore = (a: string, b: string) => Buffer.compare(Buffer.from(a), Buffer.from(b)) < 0;

/** A page's keys from one walk: the index and what filters ask for, no wide rows. */
export function hostKeys(
  db: Db,
  engine: EngineKind,
  walk: Walk,
  sort: HostCursor['sort'],
  page: PageRequest<HostCursor>,
) {
  const { cursor } = page;
  const rank = walk.lapsed === true ? 'host.bare_rank' : 'host.rank';
  const query = selection(db, engine, walk, sort)
    .select(['host.id', 'host.name_fold', (eb) => eb.ref(rank).$castTo<number>().as('rank')])
    .limit(page.limit + 1);
  if (sort === 'name') {
    const ordered = query.orderBy('host.name_fold').orderBy('host.id');
    if (cursor?.sort !== 'name') return ordered;
    return ordered.where(beyond(['host.name_fold', 'host.id'], 'up', [cursor.name, cursor.id]));
  }
  const answer = walk.lapsed === true ? 'host.bare_verdict' : 'host.verdict';
  const silent = overdue('silent_after', walked('host.id', engine), walk.filter.now, engine);
  if (walk.raised === true) {
    const raised = selection(db, engine, walk, sort)
      .select(['host.id', 'host.name_fold', sql.lit<number>(SILENT_RANK).as('rank')])
      .where(silent)
      .where(sql<boolean>`${walked(rank, engine)} < ${sql.lit(SILENT_RANK)}`)
      .where(answer, '!=', 'new')
      .orderBy('host.id', 'desc')
      .limit(page.limit + 1);
    if (cursor?.sort !== 'attention' || cursor.rank > SILENT_RANK) return raised;
    return cursor.rank < SILENT_RANK ? raised.where(sql.lit(false)) : raised.where('host.id', '<', cursor.id);
  }
  const ordered = query
    .where(
      sql<boolean>`(${walked(rank, engine)} >= ${sql.lit(SILENT_RANK)} or ${sql.ref(answer)} = 'new' or not ${silent})`,
    )
    .orderBy(rank, 'desc')
    .orderBy('host.id', 'desc');
  if (cursor?.sort !== 'attention') return ordered;
  return ordered.where(beyond([rank, 'host.id'], 'down', [cursor.rank, cursor.id]));
}

const reportHead = [
  'host_id',
  'seq',
  'copy',
  'kind',
  'digest',
  'class',
  'started_at',
  'received_at',
  'answer',
] as const satisfies readonly (keyof ReportRow)[];

export function hostReads(
  engine: Engine,
): Pick<
  Reads,
  | 'hosts'
  | 'countHosts'
  | 'verdicts'
  | 'reports'
  | 'history'
  | 'refusals'
  | 'hostsOnImage'
  | 'unnotedSilence'
  | 'hostGroups'
> {
  return {
    hosts: (filter, sort, page) =>
      engine.listing(async (db) => {
        const lists: Key[][] = [];
        for (const walk of await allWalks(db, filter, sort))
          lists.push(await hostKeys(db, engine.kind, walk, sort, page).execute());
        const keys = merged(lists, BEFORE[sort], page.limit + 1);
        if (keys.length === 0) return { items: [], next: null };
        const shown = await hostQuery(db)
          .where(
            'host.id',
            'in',
            keys.map(({ id }) => id),
          )
          .execute();
        const rows = new Map(shown.map((row) => [row.id, row]));
        return pageOf<Key, r.Host, HostCursor>(
          keys.filter(({ id }) => rows.has(id)),
          page.limit,
          ({ id }) => hostOf(rows.get(id)!, rows.get(id)!),
          ({ id, name_fold, rank }) => (sort === 'name' ? { sort, name: name_fold, id } : { sort, rank, id }),
        );
      }),
    countHosts: (filter, cap) =>
      engine.listing(async (db) => {
        let found = 0;
        for (const walk of await allWalks(db, filter)) {
          const some = selection(db, engine.kind, walk, undefined)
            .select('host.id')
            .limit(cap + 1 - found);
          const { count } = await (db as unknown as Kysely<Tables>)
            .selectFrom(some.as('some'))
            .select((eb) => eb.fn.countAll<number>().as('count'))
            .executeTakeFirstOrThrow();
          found += count;
          if (found > cap) break;
        }
        return boundedCount(found, cap);
      }),
    verdicts: (now, scope = null) =>
      engine.listing(async (db) => {
        const theirs = scope === null ? undefined : within(walked('host.host_group', engine.kind), scope);
        const pulses = (db as unknown as Kysely<Tables>).selectFrom('pulse');
        const rows = await (
          theirs === undefined
            ? pulses
            : pulses.where(sql<boolean>`${walked('pulse.host_id', engine.kind)} in ${hostsWith([theirs])}`)
        )
          .select((eb) => [
            sql<string>`case when verdict = 'new' or silent_after > ${now} then verdict else 'silent' end`.as('shown'),
            eb.fn.countAll<number>().as('count'),
          ])
          .where('state', 'in', ['active', 'pending'])
          .groupBy('shown')
          .orderBy('shown')
          .execute();
        const counts = new Map(rows.map(({ shown, count }) => [shown, count]));
        // Moved to what is so without waivers: a silent host is silent either way.
        const lapsed = await db
          .selectFrom('host')
          .innerJoin('pulse', 'pulse.host_id', 'host.id')
          .select((eb) => ['host.verdict', 'host.bare_verdict', eb.fn.countAll<number>().as('count')])
          .where('host.valid_until', '<=', now)
          .where('host.state', 'in', ['active', 'pending'])
          .where('pulse.silent_after', '>', now)
          .$if(theirs !== undefined, (query) => query.where(theirs!))
          .groupBy(['host.verdict', 'host.bare_verdict'])
          .execute();
        for (const { verdict, bare_verdict, count } of lapsed) {
          counts.set(verdict, (counts.get(verdict) ?? 0) - count);
          counts.set(bare_verdict!, (counts.get(bare_verdict!) ?? 0) + count);
        }
        return [...counts].filter(([, count]) => count > 0).map(([verdict, count]) => ({ verdict, count }));
      }),
    reports: (hostId, page) =>
      engine.reading(async (db) => {
        const before = page.cursor?.seq ?? Number.MAX_SAFE_INTEGER;
        const same = await newestSame(db, hostId);
        const rows = await db
          .selectFrom('report')
          .select([...reportHead])
          .where('host_id', '=', hostId)
          .where('copy', '=', 0)
          .where('seq', '<', before)
          .orderBy('seq', 'desc')
          .limit(page.limit + 1)
          .execute();
        const all: Omit<ReportRow, 'envelope'>[] = [...rows];
        if (same !== undefined && same.seq < before && !rows.some(({ seq }) => seq === same.seq)) all.push(same);
        all.sort((a, b) => b.seq - a.seq);
        return pageOf(all, page.limit, headOf, ({ seq }) => ({ seq }));
      }),
    history: (hostId, limit) =>
      engine.reading(async (db) => {
        const rows = await db
          .selectFrom('verdict_change')
          .selectAll()
          .where('host_id', '=', hostId)
          .orderBy('revision', 'desc')
          .limit(limit)
          .execute();
        return rows.map(({ at, from_verdict, to_verdict, seq }) => ({ at, from: from_verdict, to: to_verdict, seq }));
      }),
    refusals: (hostId) =>
      engine.reading(async (db) => {
        const rows = await db.selectFrom('refusal').selectAll().where('host_id', '=', hostId).orderBy('code').execute();
        return rows.map((row) => ({
          hostId: row.host_id,
          code: row.code,
          count: row.count,
          firstAt: row.first_at,
          lastAt: row.last_at,
          detail: row.detail,
        }));
      }),
    hostsOnImage: (reported, slot, page) =>
      engine.listing(async (db) => {
        const lists: { id: string }[][] = [];
        for (const digest of new Set(reported)) {
          let query = db
            .selectFrom('host')
            .select('id')
            .where(`image_${slot}`, '=', digest)
            .where('state', '=', 'active')
            .orderBy('id')
            .limit(page.limit + 1);
          if (page.cursor !== null) query = query.where('id', '>', page.cursor.id);
          lists.push(await query.execute());
        }
        const rows = merged(lists, (a, b) => a.id < b.id, page.limit + 1);
        return pageOf(
          rows,
          page.limit,
          ({ id }) => id,
          ({ id }) => ({ id }),
        );
      }),
    unnotedSilence: (now, limit) =>
      engine.listing(async (db) => {
        const rows = await db
          .selectFrom('pulse')
          .select('host_id')
          .where('state', '=', 'active')
          .where('silence_noted', '=', 0)
          .where('silent_after', '<=', now)
          .orderBy('silent_after')
          .limit(limit)
          .execute();
        return rows.map(({ host_id }) => host_id);
      }),
    hostGroups: (scope = null) =>
      engine.listing(async (db) => {
        const rows = await db
          .selectFrom('host')
          .select((eb) => ['host_group', eb.fn.countAll<number>().as('hosts')])
          .where('host_group', 'is not', null)
          .where('state', '=', 'active')
          .$if(scope !== null, (query) => query.where(within(walked('host.host_group', engine.kind), scope ?? [])))
          .groupBy('host_group')
          .orderBy('host_group')
          .execute();
        return rows.map(({ host_group, hosts }) => ({ name: host_group!, hosts }));
      }),
  };
}

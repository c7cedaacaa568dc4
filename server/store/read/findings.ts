/**
 * Lists of groups and findings. Every list walks one index in its order: constants stand in the SQL so that PostgreSQL may
 * take partial indexes, keys are compared as rows, and several severities are several walks, merged.
 */
import { sql, type Kysely } from 'kysely';
import type { ReadonlyKysely } from 'kysely/readonly';
import type { Engine } from '../engine.ts';
import { DISPOSITIONS } from '../findingdraft.ts';
import { factsOf, findingOf, GROUP_FACTS, groupOf } from '../findings.ts';
import type * as r from '../records.ts';
import type { FindingCursor, FindingFilter, GroupCursor, GroupFilter, PageRequest, Reads } from '../store.ts';
import type { Tables } from '../tables.ts';
import { beyond, boundedCount, merged, pageOf } from './page.ts';

type Db = ReadonlyKysely<Tables>;
const plain = (db: Db) => db as unknown as Kysely<Tables>;

/** One walk of an index: at most one severity, from a key on or from the start. */
export type Walk<Cursor> = { readonly severity: r.Severity | undefined; readonly from: Cursor | null };

/**
 * The walks that a page needs. In lists by severity (`reached`) a cursor has walked higher severities to their end, and not
 * begun with lower ones; a cursor by age is a point in every walk.
 */
function walks<Cursor>(
  severities: readonly r.Severity[] | undefined,
  cursor: Cursor | null,
  reached: number | null,
): Walk<Cursor>[] {
  if (severities === undefined) return [{ severity: undefined, from: cursor }];
  const left = [...new Set(severities)].filter((severity) => reached === null || severity <= reached);
  return left.map((severity) => ({ severity, from: reached === null || severity === reached ? cursor : null }));
}
const unbroken = <Cursor>(severities: readonly r.Severity[] | undefined) => walks<Cursor>(severities, null, null);

function groupSelection(db: Db, filter: GroupFilter, severity: r.Severity | undefined) {
  let query = plain(db).selectFrom('finding_group');
  if (filter.status !== 'all') query = query.where('finding_group.is_open', '=', (eb) => eb.lit(1));
  if (severity !== undefined) query = query.where('finding_group.sev', '=', severity);
  if (filter.rule !== undefined) query = query.where('finding_group.rule', '=', filter.rule);
  if (filter.kind !== undefined) query = query.where('finding_group.kind', '=', filter.kind);
  if (filter.subjectPrefix !== undefined)
    query = query
      .where('finding_group.subject', '>=', filter.subjectPrefix)
      .where('finding_group.subject', '<', `${filter.subjectPrefix}\u{10ffff}`);
  return query;
}

export function groupPage(
  db: Db,
  filter: GroupFilter,
  { severity, from }: Walk<GroupCursor>,
  sort: GroupCursor['sort'],
  limit: number,
) {
  const query = groupSelection(db, filter, severity)
    .innerJoin('group_count', 'group_count.group_id', 'finding_group.id')
    .selectAll('finding_group')
    .select(['group_count.open', 'group_count.acknowledged', 'group_count.waived', 'group_count.ever'])
    .limit(limit + 1);
  const newest = ['finding_group.last_new_at', 'finding_group.id'] as const;
  // With the severity fixed both sorts are the same order, and one index serves them.
  if (sort === 'severity' || severity !== undefined) {
    const order = ['finding_group.sev', ...newest] as const;
    const ordered = query.orderBy(order[0], 'desc').orderBy(order[1], 'desc').orderBy(order[2], 'desc');
    if (from === null) return ordered;
    const start = from.sort === 'severity' ? from.severity : severity!;
    return ordered.where(beyond(order, 'down', [start, from.at, from.id]));
  }
  const ordered = query.orderBy(newest[0], 'desc').orderBy(newest[1], 'desc');
  return from === null ? ordered : ordered.where(beyond(newest, 'down', [from.at, from.id]));
}

type GroupKey = { readonly sev: number; readonly last_new_at: number; readonly id: string };
const GROUP_BEFORE: Readonly<Record<GroupCursor['sort'], (a: GroupKey, b: GroupKey) => boolean>> = {
  severity: (a, b) => (a.sev === b.sev ? GROUP_BEFORE.recent(a, b) : a.sev > b.sev),
  recent: (a, b) => (a.last_new_at === b.last_new_at ? a.id > b.id : a.last_new_at > b.last_new_at),
};

function findingSelection(db: Db, filter: FindingFilter, severity: r.Severity | undefined) {
  let query = plain(db)
    .selectFrom('finding')
    .where('finding.is_open', '=', (eb) => eb.lit(1));
  if (severity !== undefined) query = query.where('finding.sev', '=', severity);
  if (filter.statuses !== undefined) {
    const wanted = filter.statuses.map((status) => DISPOSITIONS.indexOf(status === 'open' ? 'none' : status));
    query = query.where('finding.disposition', 'in', wanted);
  }
  return query;
}

export function findingPage(db: Db, filter: FindingFilter, { severity, from }: Walk<FindingCursor>, limit: number) {
  const order = ['finding.sev', 'finding.opened_at', 'finding.host_id', 'finding.group_id'] as const;
  const query = findingSelection(db, filter, severity)
    .innerJoin('finding_group', 'finding_group.id', 'finding.group_id')
    .innerJoin('host', 'host.id', 'finding.host_id')
    .innerJoin('pulse', 'pulse.host_id', 'finding.host_id')
    .selectAll('finding')
    .select(GROUP_FACTS)
    .select(['host.name', 'pulse.silent_after'])
    .orderBy(order[0], 'desc')
    .orderBy(order[1], 'desc')
    .orderBy(order[2], 'desc')
    .orderBy(order[3], 'desc')
    .limit(limit + 1);
  if (from === null) return query;
  return query.where(beyond(order, 'down', [from.severity, from.at, from.hostId, from.groupId]));
}

type FindingKey = {
  readonly sev: number;
  readonly opened_at: number;
  readonly host_id: string;
  readonly group_id: string;
};
function findingBefore(a: FindingKey, b: FindingKey): boolean {
  if (a.sev !== b.sev) return a.sev > b.sev;
  if (a.opened_at !== b.opened_at) return a.opened_at > b.opened_at;
  return a.host_id === b.host_id ? a.group_id > b.group_id : a.host_id > b.host_id;
}

export function groupHostsPage(db: Db, groupId: string, page: PageRequest<{ readonly hostId: string }>) {
  let query = plain(db)
    .selectFrom('finding')
    .innerJoin('host', 'host.id', 'finding.host_id')
    .innerJoin('pulse', 'pulse.host_id', 'finding.host_id')
    .selectAll('finding')
    .select(['host.name', 'pulse.silent_after'])
    .where('finding.group_id', '=', groupId)
    .where('finding.is_open', '=', (eb) => eb.lit(1))
    .orderBy('finding.host_id')
    .limit(page.limit + 1);
  if (page.cursor !== null) query = query.where('finding.host_id', '>', page.cursor.hostId);
  return query;
}

type HostFindingCursor = { readonly severity: number; readonly groupId: string };

export function hostFindingsPage(
  db: Db,
  hostId: string,
  which: 'present' | 'resolved',
  page: PageRequest<HostFindingCursor>,
) {
  const { cursor } = page;
  const query = plain(db)
    .selectFrom('finding')
    .innerJoin('finding_group', 'finding_group.id', 'finding.group_id')
    .selectAll('finding')
    .select(GROUP_FACTS)
    .where('finding.host_id', '=', hostId)
    .limit(page.limit + 1);
  if (which === 'resolved') {
    const ordered = query.where('finding.is_open', '=', (eb) => eb.lit(0)).orderBy('finding.group_id', 'desc');
    return cursor === null ? ordered : ordered.where('finding.group_id', '<', cursor.groupId);
  }
  const ordered = query
    .where('finding.is_open', '=', (eb) => eb.lit(1))
    .orderBy('finding.sev', 'desc')
    .orderBy('finding.group_id', 'desc');
  if (cursor === null) return ordered;
  return ordered.where(beyond(['finding.sev', 'finding.group_id'], 'down', [cursor.severity, cursor.groupId]));
}

async function counted(db: Db, queries: (limit: number) => Iterable<Counted>, cap: number): Promise<r.Count> {
  let found = 0;
  for (const query of queries(cap + 1)) {
    const { count } = await plain(db)
      .selectFrom(query.as('some'))
      .select((eb) => eb.fn.countAll<number>().as('count'))
      .executeTakeFirstOrThrow();
    found += count;
    if (found > cap) break;
  }
  return boundedCount(found, cap);
}
type Counted = { as(alias: 'some'): ReturnType<ReturnType<typeof someRows>['as']> };
const someRows = (db: Db) =>
  plain(db)
    .selectFrom('finding')
    .select(sql<number>`1`.as('one'));

export function findingReads(
  engine: Engine,
): Pick<Reads, 'groups' | 'countGroups' | 'findings' | 'countFindings' | 'groupHosts' | 'hostFindings'> {
  return {
    groups: (filter, sort, page) =>
      engine.reading(async (db) => {
        const lists = [];
        const reached = page.cursor?.sort === 'severity' ? page.cursor.severity : null;
        for (const walk of walks(filter.severities, page.cursor, reached))
          lists.push(await groupPage(db, filter, walk, sort, page.limit).execute());
        return pageOf(
          merged(lists, GROUP_BEFORE[sort], page.limit + 1),
          page.limit,
          groupOf,
          ({ sev, last_new_at, id }): GroupCursor =>
            sort === 'severity' ? { sort, severity: sev, at: last_new_at, id } : { sort, at: last_new_at, id },
        );
      }),
    countGroups: (filter, cap) =>
      engine.reading((db) =>
        counted(
          db,
          (limit) =>
            unbroken(filter.severities).map(({ severity }) =>
              groupSelection(db, filter, severity)
                .select(sql<number>`1`.as('one'))
                .limit(limit),
            ),
          cap,
        ),
      ),
    findings: (filter, page) =>
      engine.reading(async (db) => {
        const lists = [];
        for (const walk of walks(filter.severities, page.cursor, page.cursor?.severity ?? null))
          lists.push(await findingPage(db, filter, walk, page.limit).execute());
        return pageOf(
          merged(lists, findingBefore, page.limit + 1),
          page.limit,
          (row): r.FindingInList => ({
            ...findingOf(row),
            group: factsOf(row.group_id, row),
            hostName: row.name,
            silentAfter: row.silent_after,
          }),
          (row): FindingCursor => ({
            severity: row.sev,
            at: row.opened_at,
            hostId: row.host_id,
            groupId: row.group_id,
          }),
        );
      }),
    countFindings: (filter, cap) =>
      engine.reading((db) =>
        counted(
          db,
          (limit) =>
            unbroken(filter.severities).map(({ severity }) =>
              findingSelection(db, filter, severity)
                .select(sql<number>`1`.as('one'))
                .limit(limit),
            ),
          cap,
        ),
      ),
    groupHosts: (groupId, page) =>
      engine.reading(async (db) => {
        const rows = await groupHostsPage(db, groupId, page).execute();
        return pageOf(
          rows,
          page.limit,
          (row): r.FindingWithHost => ({ ...findingOf(row), hostName: row.name, silentAfter: row.silent_after }),
          (row) => ({ hostId: row.host_id }),
        );
      }),
    hostFindings: (hostId, which, page) =>
      engine.reading(async (db) => {
        const rows = await hostFindingsPage(db, hostId, which, page).execute();
        return pageOf(
          rows,
          page.limit,
          (row): r.FindingWithGroup => ({ ...findingOf(row), group: factsOf(row.group_id, row) }),
          (row) => ({ severity: row.sev, groupId: row.group_id }),
        );
      }),
  };
}

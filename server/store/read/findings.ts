/**
 * Lists of groups and findings. Every list walks one index in its order: constants stand in the SQL so that PostgreSQL may
 * take partial indexes, keys are compared as rows, and several severities are several walks, merged.
 */
import { sql, type Kysely, type RawBuilder } from 'kysely';
import type { ReadonlyKysely } from 'kysely/readonly';
import type { Engine } from '../engine.ts';
import { DISPOSITIONS, GROUP_STATUSES } from '../findingdraft.ts';
import { factsOf, findingOf, GROUP_COUNTS, GROUP_FACTS, groupOf } from '../findings.ts';
import type * as r from '../records.ts';
import type { FindingCursor, FindingFilter, GroupCursor, GroupFilter, PageRequest, Reads } from '../store.ts';
import type { Tables } from '../tables.ts';
import {
  ENDED,
  every,
  groupsWith,
  onHosts,
  partsOf,
  PRESENT,
  walked,
  type EngineKind,
  type LineParts,
} from './line.ts';
import { beyond, boundedCount, merged, pageOf } from './page.ts';
import { NOWHERE, standingWithin } from './within.ts';

type Db = ReadonlyKysely<Tables>;
const plain = (db: Db) => db as unknown as Kysely<Tables>;

/** One walk of an index: at most one severity and one status, from a key on or from the start. */
export type Walk<Cursor> = {
  readonly severity: r.Severity | undefined;
  readonly status: r.FindingStatus | undefined;
  readonly from: Cursor | null;
};

/**
 * The walks that a page needs. In lists by severity (`reached`) a cursor has walked higher severities to their end, and not
 * begun with lower ones; a cursor by age is a point in every walk, as is any cursor among statuses.
 */
function walks<Cursor>(
  { severities, statuses }: Pick<LineParts, 'severities' | 'statuses'>,
  cursor: Cursor | null,
  reached: number | null,
): Walk<Cursor>[] {
  const states = statuses === undefined ? [undefined] : [...new Set(statuses)];
  const each = (severity: r.Severity | undefined, from: Cursor | null) =>
    states.map((status) => ({ severity, status, from }));
  if (severities === undefined) return each(undefined, cursor);
  const left = [...new Set(severities)].filter((severity) => reached === null || severity <= reached);
  return left.flatMap((severity) => each(severity, reached === null || severity === reached ? cursor : null));
}

/** All walks, each from its start. */
export const walksOf = (parts: Pick<LineParts, 'severities' | 'statuses'>): Walk<never>[] =>
  walks<never>(parts, null, null);

/** What both kinds of list are narrowed by. */
function partsFor(
  filter: Pick<FindingFilter, 'line' | 'scope' | 'now' | 'severities'>,
  engine: EngineKind,
  statuses: readonly r.FindingStatus[] | undefined,
): LineParts {
  const { line = [], scope, now } = filter;
  const parts = partsOf(line, { now, engine, scope });
  const both = <T>(a: readonly T[] | undefined, b: readonly T[] | undefined): readonly T[] | undefined =>
    a === undefined ? b : b === undefined ? a : a.filter((one) => b.includes(one));
  return {
    ...parts,
    severities: both(filter.severities, parts.severities),
    statuses: both(statuses, parts.statuses),
  };
}

/** What narrows a list, as conditions; of none, nothing does. */
export type Narrowing = Pick<LineParts, 'group' | 'host' | 'own' | 'namesHosts' | 'namesWaiver'> & {
  readonly engine: EngineKind;
};

const narrowing = (parts: LineParts, engine: EngineKind): LineParts & Narrowing => ({ ...parts, engine });

export const groupParts = (filter: GroupFilter, engine: EngineKind): LineParts & Narrowing =>
  narrowing(partsFor(filter, engine, filter.tab === undefined ? undefined : [filter.tab]), engine);
export function findingParts(filter: FindingFilter, engine: EngineKind): LineParts & Narrowing {
  const parts = partsFor(filter, engine, filter.statuses);
  // Said of the walk, so that it is a walk of what is waived.
  const statuses = parts.namesWaiver
    ? (parts.statuses ?? ['waived']).filter((one) => one === 'waived')
    : parts.statuses;
  return narrowing({ ...parts, statuses }, engine);
}

/** Conditions on `finding` that a line asks of it: its own ones, and its host among those that match. */
function ofFinding({ own, host, namesHosts, engine }: Narrowing) {
  return host.length === 0 ? own : [...own, onHosts({ hosts: host, namesHosts, engine })];
}

/** Groups with such a finding: their set, or asked group by group as a list walks past them. */
function having(from: readonly RawBuilder<unknown>[], asked: readonly RawBuilder<boolean>[], set: EngineKind | null) {
  if (set === null)
    return sql<boolean>`(${sql.join(
      from.map(
        (place) => sql`exists (select 1 from ${place} and ${every(asked)} and finding.group_id = finding_group.id)`,
      ),
      sql` or `,
    )})`;
  const groups = from.map((place) => sql`select finding.group_id from ${place} and ${every(asked)}`);
  return sql<boolean>`(${walked('finding_group.id', set)} in (${sql.join(groups, sql` union all `)}))`;
}

export function groupSelection(
  db: Db,
  filter: GroupFilter,
  parts: Narrowing,
  { severity, status }: Pick<Walk<unknown>, 'severity' | 'status'>,
) {
  const asked = ofFinding(parts);
  const onAll = asked.length === 0;
  let query = plain(db).selectFrom('finding_group');
  // What is open on some host that is asked for is open. Any other status may be another one on the rest of the fleet.
  if (status !== undefined && (onAll || status === 'open'))
    query = query.where('finding_group.status', '=', GROUP_STATUSES.indexOf(status));
  else if (status === undefined ? filter.status !== 'all' : status !== 'resolved')
    query = query.where('finding_group.is_open', '=', (eb) => eb.lit(1));
  if (severity !== undefined) query = query.where('finding_group.sev', '=', severity);
  if (filter.rule !== undefined) query = query.where('finding_group.rule', '=', filter.rule);
  if (filter.kind !== undefined) query = query.where('finding_group.kind', '=', filter.kind);
  if (filter.subjectPrefix !== undefined)
    query = query
      .where('finding_group.subject', '>=', filter.subjectPrefix)
      .where('finding_group.subject', '<', `${filter.subjectPrefix}\u{10ffff}`);
  if (!onAll) query = query.where(standing(parts, asked, status, filter.status === 'all'));
  for (const condition of parts.group) query = query.where(condition);
  return query;
}

/** What the findings that are asked for make of a group: the first of open, acknowledged, waived that one is; else resolved. */
function standing(
  { namesHosts, namesWaiver, engine }: Narrowing,
  asked: readonly RawBuilder<boolean>[],
  status: r.FindingStatus | undefined,
  evenEnded: boolean,
) {
  const set = namesHosts || namesWaiver ? engine : null;
  // What is over is waived by nobody.
  if (status === undefined) return having(evenEnded && !namesWaiver ? [PRESENT, ...ENDED] : [PRESENT], asked, set);
  if (status === 'resolved') {
    if (namesWaiver) return sql<boolean>`(1 = 0)`;
    return sql<boolean>`(${having(ENDED, asked, set)} and not ${having([PRESENT], asked, set)})`;
  }
  const at = DISPOSITIONS.indexOf(status === 'open' ? 'none' : status);
  const is = sql<boolean>`finding.disposition = ${sql.lit(at)}`;
  if (at === 0) return having([PRESENT], [is, ...asked], set);
  // What people decided about is little, and has an index: its groups are one set. Said twice for that index.
  const decided = having([PRESENT], [is, sql<boolean>`finding.disposition > 0`, ...asked], engine);
  return sql<boolean>`(${decided} and not ${having([PRESENT], [sql<boolean>`finding.disposition < ${sql.lit(at)}`, ...asked], set)})`;
}

export function groupPage(
  db: Db,
  filter: GroupFilter,
  walk: Walk<GroupCursor>,
  sort: GroupCursor['sort'],
  limit: number,
  parts: Narrowing,
) {
  const { severity, from } = walk;
  const query = groupSelection(db, filter, parts, walk)
    .innerJoin('group_count', 'group_count.group_id', 'finding_group.id')
    .selectAll('finding_group')
    .select(GROUP_COUNTS)
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

export function findingSelection(
  db: Db,
  parts: Narrowing,
  { severity, status }: Pick<Walk<unknown>, 'severity' | 'status'>,
) {
  let query = plain(db)
    .selectFrom('finding')
    .where('finding.is_open', '=', (eb) => eb.lit(1));
  if (severity !== undefined) query = query.where('finding.sev', '=', severity);
  if (status !== undefined) {
    const disposition = DISPOSITIONS.indexOf(status === 'open' ? 'none' : (status as r.Disposition));
    query = query.where('finding.disposition', '=', (eb) => eb.lit(disposition));
    // Said once more, for the index of those that people decided about.
    if (disposition > 0) query = query.where('finding.disposition', '>', (eb) => eb.lit(0));
  }
  for (const condition of ofFinding(parts)) query = query.where(condition);
  if (parts.group.length > 0)
    query = query.where(sql<boolean>`${walked('finding.group_id', parts.engine)} in ${groupsWith(parts.group)}`);
  return query;
}

/** A page's keys from one walk: nothing but the index, however many rows do not match. */
export function findingKeys(db: Db, walk: Walk<FindingCursor>, limit: number, parts: Narrowing) {
  const order = ['finding.sev', 'finding.opened_at', 'finding.host_id', 'finding.group_id'] as const;
  const { from } = walk;
  const query = findingSelection(db, parts, walk)
    .select([...order])
    .orderBy(order[0], 'desc')
    .orderBy(order[1], 'desc')
    .orderBy(order[2], 'desc')
    .orderBy(order[3], 'desc')
    .limit(limit + 1);
  if (from === null) return query;
  return query.where(beyond(order, 'down', [from.severity, from.at, from.hostId, from.groupId]));
}

/** The rows of a page, with what they are shown with. */
export function findingRows(db: Db, keys: readonly FindingKey[]) {
  const wanted = sql.join(keys.map(({ host_id, group_id }) => sql`(${host_id}, ${group_id})`));
  return plain(db)
    .selectFrom('finding')
    .innerJoin('finding_group', 'finding_group.id', 'finding.group_id')
    .innerJoin('host', 'host.id', 'finding.host_id')
    .innerJoin('pulse', 'pulse.host_id', 'finding.host_id')
    .selectAll('finding')
    .select(GROUP_FACTS)
    .select(['host.name', 'pulse.silent_after'])
    .where('finding.is_open', '=', (eb) => eb.lit(1))
    .where(sql<boolean>`(finding.host_id, finding.group_id) in (values ${wanted})`);
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

export function groupHostsPage(
  db: Db,
  groupId: string,
  page: PageRequest<{ readonly hostId: string }>,
  parts: Narrowing,
  status: r.FindingStatus | undefined,
  table: 'finding' | 'finding_archive' = 'finding',
) {
  let query = plain(db)
    .selectFrom(`${table} as finding`)
    .innerJoin('host', 'host.id', 'finding.host_id')
    .innerJoin('pulse', 'pulse.host_id', 'finding.host_id')
    .selectAll('finding')
    .select(['host.name', 'pulse.silent_after'])
    .where('finding.group_id', '=', groupId)
    .where('finding.is_open', '=', (eb) => eb.lit(status === 'resolved' ? 0 : 1))
    .orderBy('finding.host_id')
    .limit(page.limit + 1);
  if (page.cursor !== null) query = query.where('finding.host_id', '>', page.cursor.hostId);
  if (status !== undefined && status !== 'resolved')
    query = query.where('finding.disposition', '=', DISPOSITIONS.indexOf(status === 'open' ? 'none' : status));
  for (const condition of ofFinding(parts)) query = query.where(condition);
  return query;
}

type HostFindingCursor = { readonly severity: number; readonly groupId: string };

export function hostFindingsPage(
  db: Db,
  hostId: string,
  which: 'present' | 'resolved',
  page: PageRequest<HostFindingCursor>,
  table: 'finding' | 'finding_archive' = 'finding',
) {
  const { cursor } = page;
  const query = plain(db)
    .selectFrom(`${table} as finding`)
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
      engine.listing(async (db) => {
        const lists = [];
        const parts = groupParts(filter, engine.kind);
        const reached = page.cursor?.sort === 'severity' ? page.cursor.severity : null;
        for (const walk of walks(parts, page.cursor, reached))
          lists.push(await groupPage(db, filter, walk, sort, page.limit, parts).execute());
        const rows = merged(lists, GROUP_BEFORE[sort], page.limit + 1);
        const ids = rows.slice(0, page.limit).map(({ id }) => id);
        const within =
          ofFinding(parts).length === 0 || ids.length === 0
            ? undefined
            : await standingWithin(db, ids, ofFinding(parts), engine.kind);
        return pageOf(
          rows,
          page.limit,
          (row) => ({ ...groupOf(row), ...(within && (within.get(row.id) ?? NOWHERE)) }),
          ({ sev, last_new_at, id }): GroupCursor =>
            sort === 'severity' ? { sort, severity: sev, at: last_new_at, id } : { sort, at: last_new_at, id },
        );
      }),
    countGroups: (filter, cap) =>
      engine.listing((db) => {
        const parts = groupParts(filter, engine.kind);
        return counted(
          db,
          (limit) =>
            walksOf(parts).map((walk) =>
              groupSelection(db, filter, parts, walk)
                .select(sql<number>`1`.as('one'))
                .limit(limit),
            ),
          cap,
        );
      }),
    findings: (filter, page) =>
      engine.listing(async (db) => {
        const lists = [];
        const parts = findingParts(filter, engine.kind);
        for (const walk of walks(parts, page.cursor, page.cursor?.severity ?? null))
          lists.push(await findingKeys(db, walk, page.limit, parts).execute());
        const keys = merged(lists, findingBefore, page.limit + 1);
        const found = keys.length === 0 ? [] : await findingRows(db, keys.slice(0, page.limit)).execute();
        const rows = new Map(found.map((row) => [`${row.host_id} ${row.group_id}`, row]));
        const { items, next } = pageOf<FindingKey, FindingKey, FindingCursor>(
          keys,
          page.limit,
          (key) => key,
          (row) => ({
            severity: row.sev,
            at: row.opened_at,
            hostId: row.host_id,
            groupId: row.group_id,
          }),
        );
        // What ended since the keys were read is no finding of this list any more.
        const shown = items.flatMap(({ host_id, group_id }): r.FindingInList[] => {
          const row = rows.get(`${host_id} ${group_id}`);
          if (row === undefined) return [];
          const { name: hostName, silent_after: silentAfter } = row;
          return [{ ...findingOf(row), group: factsOf(group_id, row), hostName, silentAfter }];
        });
        return { items: shown, next };
      }),
    countFindings: (filter, cap) =>
      engine.listing((db) => {
        const parts = findingParts(filter, engine.kind);
        return counted(
          db,
          (limit) =>
            walksOf(parts).map((walk) =>
              findingSelection(db, parts, walk)
                .select(sql<number>`1`.as('one'))
                .limit(limit),
            ),
          cap,
        );
      }),
    groupHosts: (groupId, page, scope, { status, line = [], now } = {}) =>
      engine.listing(async (db) => {
        const asked = now === undefined ? { line, scope } : { line, scope, now };
        const parts = { ...findingParts(asked as FindingFilter, engine.kind), namesHosts: false };
        const lists = [await groupHostsPage(db, groupId, page, parts, status).execute()];
        if (status === 'resolved')
          lists.push(await groupHostsPage(db, groupId, page, parts, status, 'finding_archive').execute());
        const rows = merged(lists, (a, b) => a.host_id < b.host_id, page.limit + 1);
        return pageOf(
          rows,
          page.limit,
          (row): r.FindingWithHost => ({ ...findingOf(row), hostName: row.name, silentAfter: row.silent_after }),
          (row) => ({ hostId: row.host_id }),
        );
      }),
    hostFindings: (hostId, which, page) =>
      engine.listing(async (db) => {
        const lists = [await hostFindingsPage(db, hostId, which, page).execute()];
        // What ended long ago lies aside, in the same order.
        if (which === 'resolved')
          lists.push(await hostFindingsPage(db, hostId, which, page, 'finding_archive').execute());
        const rows =
          which === 'resolved' ? merged(lists, (a, b) => a.group_id > b.group_id, page.limit + 1) : lists[0]!;
        return pageOf(
          rows,
          page.limit,
          (row): r.FindingWithGroup => ({ ...findingOf(row), group: factsOf(row.group_id, row) }),
          (row) => ({ severity: row.sev, groupId: row.group_id }),
        );
      }),
  };
}

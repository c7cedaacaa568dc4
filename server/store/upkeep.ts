/**
 * What keeps the store true and small by the night: counters held against the rows that they count, and findings that ended long ago moved
 * aside. One statement sees one moment, so a counter that differs from its rows in it is wrong; it is set right under its lock.
 */
import { sql, type Kysely, type RawBuilder } from 'kysely';
import { writeAudit } from './audit.ts';
import type { Engine, Tx } from './engine.ts';
import { ARCHIVED, COUNTS, RESOLVED, statusOf } from './findingdraft.ts';
import { lockPulses } from './pulses.ts';
import type * as r from './records.ts';
import type { Upkeep } from './store.ts';
import type { Tables } from './tables.ts';

type Kind = {
  readonly table: 'group_count' | 'host';
  readonly key: string;
  /** The word for it in the trail. */
  readonly object: 'group' | 'host';
  /** Each counter with the number of rows that it stands for. */
  readonly counters: readonly { readonly name: string; readonly rows: RawBuilder<number> }[];
};

/** Each by an index of the group's findings, present and resolved. */
const ofGroup = (more: RawBuilder<unknown>) => sql<number>`(select count(*) from finding
  where finding.group_id = group_count.group_id and ${more})`;
const GROUPS: Kind = {
  table: 'group_count',
  key: 'group_id',
  object: 'group',
  counters: [
    { name: 'open', rows: ofGroup(sql`finding.is_open = 1 and finding.disposition = 0`) },
    { name: 'acknowledged', rows: ofGroup(sql`finding.is_open = 1 and finding.disposition = 1`) },
    { name: 'waived', rows: ofGroup(sql`finding.is_open = 1 and finding.disposition = 2`) },
    {
      name: 'ever',
      rows: sql<number>`(${ofGroup(sql`finding.is_open = 1`)} + ${ofGroup(sql`finding.is_open = 0`)}
        + (select count(*) from finding_archive where finding_archive.group_id = group_count.group_id))`,
    },
    { name: 'reopened', rows: ofGroup(sql`finding.is_open = 1 and finding.episode > 1`) },
  ],
};

const ofHost = (more: RawBuilder<unknown>) => sql<number>`(select count(*) from finding
  where finding.host_id = host.id and finding.is_open = 1 and ${more})`;
const HOSTS: Kind = {
  table: 'host',
  key: 'id',
  object: 'host',
  counters: [
    ...([0, 1, 2, 3, 4] as const).map((severity) => ({
      name: `open${severity}`,
      rows: ofHost(sql`finding.disposition = 0 and finding.sev = ${sql.lit(severity)}`),
    })),
    { name: 'acknowledged', rows: ofHost(sql`finding.disposition = 1`) },
    { name: 'waived_findings', rows: ofHost(sql`finding.disposition = 2`) },
  ],
};

type Counted = { readonly id: string } & Readonly<Record<string, number>>;

/** Counters as they stand (`c0` …) and as rows say (`n0` …). */
async function countersOf(db: Kysely<Tables>, { table, key, counters }: Kind, where: RawBuilder<boolean>) {
  const columns = counters.map(
    ({ name, rows }, at) =>
      sql`${sql.ref(`${table}.${name}`)} as ${sql.ref(`c${at}`)}, ${rows} as ${sql.ref(`n${at}`)}`,
  );
  const { rows } = await sql<Counted>`select ${sql.ref(`${table}.${key}`)} as id, ${sql.join(columns)}
    from ${sql.table(table)} where ${where} order by ${sql.ref(`${table}.${key}`)}`.execute(db);
  return rows;
}

const differs = (row: Counted, { counters }: Kind): boolean =>
  counters.some((_, at) => row[`c${at}`] !== row[`n${at}`]);
const told = (row: Counted, { counters }: Kind, which: 'c' | 'n'): Record<string, number> =>
  Object.fromEntries(counters.map(({ name }, at) => [name, row[`${which}${at}`]!]));

/** Sets one right, if it is still wrong once nobody else writes it. */
async function repair(tx: Tx, kind: Kind, id: string, by: r.Act): Promise<boolean> {
  if (kind.table === 'host') await lockPulses(tx, [id]);
  else await tx.bulk.select('group_count', ['group_id', ...COUNTS], ['group_id'], [{ group_id: id }], true);
  const [row] = await countersOf(tx.db, kind, sql<boolean>`${sql.ref(`${kind.table}.${kind.key}`)} = ${id}`);
  if (row === undefined || !differs(row, kind)) return false;
  const after = told(row, kind, 'n');
  await sql`update ${sql.table(kind.table)} set ${sql.join(
    Object.entries(after).map(([name, n]) => sql`${sql.ref(name)} = ${n}`),
  )} where ${sql.ref(kind.key)} = ${id}`.execute(tx.db);
  if (kind.table === 'group_count') {
    const status = statusOf({ open: after['open']!, acknowledged: after['acknowledged']!, waived: after['waived']! });
    await tx.db
      .updateTable('finding_group')
      .set({ status, is_open: status === RESOLVED ? 0 : 1 })
      .where('id', '=', id)
      .execute();
  }
  await writeAudit(tx, by, {
    action: `${kind.object}.recount`,
    object: `${kind.object}:${id}`,
    before: told(row, kind, 'c'),
    after,
  });
  return true;
}

export function upkeepOn(engine: Engine): Upkeep {
  return {
    recount: async (what, after, limit, by) => {
      const kind = what === 'groups' ? GROUPS : HOSTS;
      const key = sql.ref(`${kind.table}.${kind.key}`);
      const { ids, wrong } = await engine.listing(async (listed) => {
        const db = listed as unknown as Kysely<Tables>;
        const { rows } = await sql<{ id: string }>`select ${key} as id from ${sql.table(kind.table)}
          where ${key} > ${after ?? ''} order by ${key} limit ${limit}`.execute(db);
        const last = rows.at(-1);
        if (last === undefined) return { ids: rows, wrong: [] };
        const counted = await countersOf(db, kind, sql<boolean>`${key} > ${after ?? ''} and ${key} <= ${last.id}`);
        return { ids: rows, wrong: counted.filter((row) => differs(row, kind)) };
      });
      const repaired: string[] = [];
      for (const { id } of wrong) if (await engine.write((tx) => repair(tx, kind, id, by))) repaired.push(id);
      return { checked: ids.length, repaired, next: ids.length < limit ? null : ids.at(-1)!.id };
    },
    archive: (endedBefore, limit) =>
      engine.write(async (tx) => {
        const keys = await tx.db
          .selectFrom('finding')
          .select(['host_id', 'group_id'])
          .where('is_open', '=', (eb) => eb.lit(0))
          .where('resolved_at', '<', endedBefore)
          .orderBy('resolved_at')
          .limit(limit)
          .execute();
        const sorted = keys.sort((a, b) => (`${a.host_id} ${a.group_id}` < `${b.host_id} ${b.group_id}` ? -1 : 1));
        // Their hosts, so that no report brings one of them back meanwhile; then what is still over.
        await lockPulses(tx, [...new Set(sorted.map(({ host_id }) => host_id))]);
        const rows = await tx.bulk.select('finding', [...ARCHIVED], ['host_id', 'group_id'], sorted);
        const over = rows.filter(({ is_open }) => is_open === 0);
        await tx.bulk.insert('finding_archive', [...ARCHIVED], over, { key: ['host_id', 'group_id'], nothing: true });
        for (const { host_id, group_id } of over)
          await tx.db
            .deleteFrom('finding')
            .where('host_id', '=', host_id)
            .where('group_id', '=', group_id)
            .where('is_open', '=', (eb) => eb.lit(0))
            .execute();
        return over.length;
      }),
  };
}

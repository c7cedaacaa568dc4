/** Where waivers reach, counted by the database: hosts that a selector names within host groups, and the findings that it would cover. */
import assert from 'node:assert/strict';
import { sql, type Kysely, type RawBuilder } from 'kysely';
import type { Selector } from '#src/finding/waiver.ts';
import type { Instant } from '#src/clock.ts';
import { FORECAST_GROUPS, type Foreseen, type Waivers } from './decided.ts';
import type { Engine } from './engine.ts';
import { within } from './read/line.ts';
import type { Tables } from './tables.ts';

/** Hosts of the selector's that lie within each of these scopes, as conditions on rows of `host`. */
function named(
  hosts: Selector['hosts'],
  booted: readonly string[] | null,
  scopes: readonly (readonly string[] | null)[],
): RawBuilder<boolean> {
  const one = (column: string, values: readonly string[]): RawBuilder<boolean> =>
    values.length === 0 ? sql<boolean>`(1 = 0)` : sql<boolean>`${sql.ref(column)} in (${sql.join([...values])})`;
  const all: RawBuilder<boolean>[] = [sql<boolean>`host.state <> 'retired'`];
  if (hosts?.ids !== undefined) all.push(one('host.id', hosts.ids));
  if (hosts?.groups !== undefined) all.push(within(sql.ref('host.host_group'), hosts.groups));
  if (hosts?.labels !== undefined)
    all.push(
      sql<boolean>`(${sql.join(
        hosts.labels.map(
          ({ key, value }) => sql<boolean>`exists (select 1 from host_label as l
            where l.host_id = host.id and l.key = ${key} and l.value = ${value})`,
        ),
        sql` or `,
      )})`,
    );
  if (booted !== null) all.push(one('host.image_booted', booted));
  for (const scope of scopes) if (scope !== null) all.push(within(sql.ref('host.host_group'), scope));
  return sql<boolean>`(${sql.join(all, sql` and `)})`;
}

const plain = (db: unknown) => db as Kysely<Tables>;

export function reachOn(engine: Engine): Pick<Waivers, 'reaches' | 'use' | 'forecast' | 'forecastHosts'> {
  return {
    reaches: (hosts, scopes) =>
      engine.listing(async (db) => {
        const row = await plain(db)
          .selectFrom('host')
          .select('host.id')
          .where(named(hosts, null, scopes))
          .limit(1)
          .executeTakeFirst();
        return row !== undefined;
      }),
    use: (ids, scope) =>
      engine.listing(async (db) => {
        const out = new Map<string, { findings: number; hosts: number; lastEnded: Instant | null }>();
        for (const id of new Set(ids)) {
          let covered = plain(db).selectFrom('finding').where('finding.waiver_id', '=', id);
          if (scope !== null)
            covered = covered.where((eb) =>
              eb.exists(
                eb
                  .selectFrom('host')
                  .select('host.id')
                  .whereRef('host.id', '=', 'finding.host_id')
                  .where(within(sql.ref('host.host_group'), scope)),
              ),
            );
          const now = await covered
            .select((eb) => [
              eb.fn.countAll<number>().as('findings'),
              eb.fn.count<number>('finding.host_id').distinct().as('hosts'),
            ])
            .where('finding.disposition', '=', 2)
            .executeTakeFirstOrThrow();
          const ended = await covered
            .select((eb) => eb.fn.max('finding.resolved_at').as('at'))
            .where('finding.disposition', '=', 0)
            .executeTakeFirst();
          out.set(id, { ...now, lastEnded: ended?.at ?? null });
        }
        return out;
      }),
    forecast: (about) =>
      engine.listing(async (db) => {
        const counts = await foreseen(plain(db), about)
          .select((eb) => [
            eb.fn.countAll<number>().as('findings'),
            eb.fn.count<number>('finding.host_id').distinct().as('hosts'),
          ])
          .executeTakeFirstOrThrow();
        if (counts.findings === 0) return { ...counts, groups: [] };
        // One finding says of a group that it is touched: the rest of it is not looked at again.
        const groups = await plain(db)
          .selectFrom('finding_group')
          .select('finding_group.id')
          .where('finding_group.id', 'in', [...about.groups])
          .where((eb) =>
            eb.exists(
              foreseen(plain(db), { ...about, groups: null })
                .select(sql<number>`1`.as('one'))
                .where(sql<boolean>`finding.group_id = finding_group.id`),
            ),
          )
          .execute();
        return { ...counts, groups: groups.map(({ id }) => id) };
      }),
    forecastHosts: (about, limit) =>
      engine.listing(async (db) => {
        const rows = await foreseen(plain(db), about)
          .select('finding.host_id')
          .distinct()
          .orderBy('finding.host_id')
          .limit(limit)
          .execute();
        return rows.map(({ host_id }) => host_id);
      }),
  };
}

function foreseen(db: Kysely<Tables>, about: Omit<Foreseen, 'groups'> & { readonly groups: readonly string[] | null }) {
  const { groups, ceiling, hosts, booted, scopes, now } = about;
  let query = db
    .selectFrom('finding')
    .where('finding.is_open', '=', (eb) => eb.lit(1))
    .where('finding.sev', '<=', ceiling);
  // What another waiver covers is not its doing, unless that one has ended by now.
  if (now !== null) query = query.where(sql<boolean>`(finding.disposition <> 2 or finding.until <= ${now})`);
  if (groups !== null) {
    assert(groups.length <= FORECAST_GROUPS, `${groups.length} groups in one forecast`);
    query = query.where('finding.group_id', 'in', [...groups]);
  }
  // A host that is retired has none open: where every host will do, none is looked up.
  const isAll = hosts === undefined && booted === null && scopes.every((scope) => scope === null);
  if (isAll) return query;
  return query.where((eb) =>
    eb.exists(
      eb
        .selectFrom('host')
        .select('host.id')
        .whereRef('host.id', '=', 'finding.host_id')
        .where(named(hosts, booted, scopes)),
    ),
  );
}

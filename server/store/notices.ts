/** Channels and their outbox as rows. What is told, and to whom, is decided by server/notices. */
import { type Kysely, sql } from 'kysely';
import type { ReadonlyKysely } from 'kysely/readonly';
import { writeAudit } from './audit.ts';
import { channelOf, channelRow, locked, oneChannel, told, write } from './channelrow.ts';
import { deliveriesOn, deliveryOf, deliveryRow } from './deliveries.ts';
import type { Engine } from './engine.ts';
import { GROUP_COUNTS } from './findings.ts';
import { enqueue } from './jobs.ts';
import type * as n from './noticerecords.ts';
import { tally } from './noticetally.ts';
import { remindersOn } from './reminders.ts';
import type * as r from './records.ts';
import type { OutboxRow, Tables } from './tables.ts';

type Db = ReadonlyKysely<Tables>;

const pendingOf = (row: OutboxRow): n.Pending => ({
  id: row.id,
  at: row.at,
  topic: row.topic,
  transition: row.transition,
  severity: row.sev as r.Severity,
  readyAt: row.ready_at,
  facts: JSON.parse(row.facts) as unknown,
  hosts: JSON.parse(row.hosts) as n.ToldHost[],
});

/** Hosts that a channel hears of, as conditions on the rows of `host`; undefined where it hears of all. */
function heard({ groups, labels }: n.Routing['hosts']) {
  if (groups === null && labels.length === 0) return undefined;
  const within = (groups ?? []).map(
    (group) =>
      sql<boolean>`(host.host_group = ${group} or (host.host_group >= ${`${group}/`} and host.host_group < ${`${group}0`}))`,
  );
  const labelled = labels.map(
    ({ key, value }) =>
      sql<boolean>`exists (select 1 from host_label where host_label.host_id = host.id and host_label.key = ${key} and host_label.value = ${value})`,
  );
  const all = [
    ...(groups === null
      ? []
      : [within.length === 0 ? sql<boolean>`1 = 0` : sql<boolean>`(${sql.join(within, sql` or `)})`]),
    ...labelled,
  ];
  return sql<boolean>`(${sql.join(all, sql` and `)})`;
}

export function noticesOn(engine: Engine): n.Notices {
  return {
    ...deliveriesOn(engine),
    ...remindersOn(engine),
    channels: () =>
      engine.reading(async (db) => {
        const rows = await db.selectFrom('channel').selectAll().orderBy('name').orderBy('id').execute();
        return rows.map(channelOf);
      }),
    channel: (id) => engine.reading((db) => oneChannel(db, id)),
    create: (channel, by, first, jobs) =>
      engine.write(async (tx) => {
        await tx.db.insertInto('channel').values(channelRow(channel)).execute();
        for (const delivery of first) await tx.db.insertInto('delivery').values(deliveryRow(delivery)).execute();
        await writeAudit(tx, by, {
          action: 'channel.create',
          object: `channel:${channel.id}`,
          before: null,
          after: told(channel),
        });
        await enqueue(tx, jobs);
      }),
    put: (next, by, action) =>
      engine.write(async (tx) => {
        const before = await locked(tx, next.id);
        if (before === undefined || before.revision !== next.revision - 1) return false;
        await write(tx, next, before, by, action);
        return true;
      }),
    remove: (id, by) =>
      engine.write(async (tx) => {
        const before = await locked(tx, id);
        if (before === undefined) return false;
        await tally(tx, sql<boolean>`channel_id = ${id}`);
        await tx.db.deleteFrom('channel').where('id', '=', id).execute();
        await tx.db.deleteFrom('outbox').where('channel_id', '=', id).execute();
        await tx.db.deleteFrom('delivery').where('channel_id', '=', id).execute();
        await writeAudit(tx, by, {
          action: 'channel.remove',
          object: `channel:${id}`,
          before: told(before),
          after: null,
        });
        return true;
      }),

    pending: (channelId, now, limit, atLeast = 0) =>
      engine.reading(async (db) => {
        let query = db
          .selectFrom('outbox')
          .selectAll()
          .where('channel_id', '=', channelId)
          .where('delivery_id', 'is', null)
          .where('ready_at', '<=', now)
          .orderBy('ready_at')
          .orderBy('id')
          .limit(limit);
        if (atLeast > 0) query = query.where('sev', '>=', atLeast);
        return (await query.execute()).map(pendingOf);
      }),
    nextReady: (channelId, now) =>
      engine.reading(async (db) => {
        const row = await db
          .selectFrom('outbox')
          .select('ready_at')
          .where('channel_id', '=', channelId)
          .where('delivery_id', 'is', null)
          .where('ready_at', '>', now)
          .orderBy('ready_at')
          .limit(1)
          .executeTakeFirst();
        return row?.ready_at ?? null;
      }),
    lately: (channelId, since, before, limit) =>
      engine.reading(async (db) => {
        let query = db
          .selectFrom('outbox')
          .selectAll()
          .where('channel_id', '=', channelId)
          .where('at', '>=', since)
          .orderBy('at', 'desc')
          .orderBy('id', 'desc')
          .limit(limit);
        if (before !== null) query = query.where(sql<boolean>`(at, id) < (${before.at}, ${before.id})`);
        return (await query.execute()).map(pendingOf);
      }),
    last: (channelId, topics) =>
      engine.reading(async (db) => {
        const found = new Map<string, n.LastTold>();
        for (const topic of new Set(topics)) {
          const row = await db
            .selectFrom('delivery')
            .selectAll()
            .where('channel_id', '=', channelId)
            .where('topic', '=', topic)
            .orderBy('id', 'desc')
            .limit(1)
            .executeTakeFirst();
          if (row !== undefined) found.set(topic, deliveryOf(row));
        }
        return found;
      }),
    groupNow: (groupId, hosts) => engine.reading((db) => groupNow(db, groupId, hosts)),
    hostsNow: (groupId, hostIds, now) =>
      engine.reading(async (_db, select) => {
        const ids = [...new Set(hostIds)].sort();
        const pulses = await select(
          'pulse',
          ['host_id', 'state', 'verdict', 'silent_after'],
          ['host_id'],
          ids.map((host_id) => ({ host_id })),
        );
        const findings =
          groupId === null
            ? []
            : await select(
                'finding',
                ['host_id', 'is_open', 'disposition', 'episode'],
                ['host_id', 'group_id'],
                ids.map((host_id) => ({ host_id, group_id: groupId })),
              );
        const byHost = new Map(findings.map((row) => [row.host_id, row]));
        return new Map(
          pulses
            .filter(({ state }) => state !== 'retired')
            .map(({ host_id, verdict, silent_after }) => {
              const finding = byHost.get(host_id);
              return [
                host_id,
                {
                  verdict: verdict !== 'new' && silent_after <= now ? 'silent' : verdict,
                  finding: finding?.is_open !== 1 ? 'absent' : finding.disposition === 2 ? 'waived' : 'present',
                  episode: finding?.episode ?? 0,
                },
              ];
            }),
        );
      }),
    openGroups: () =>
      engine.reading(async (db) => {
        const rows = await db
          .selectFrom('finding_group')
          .select((eb) => ['sev', eb.fn.countAll<number>().as('groups')])
          .where('is_open', '=', (eb) => eb.lit(1))
          .groupBy('sev')
          .execute();
        const counts = [0, 0, 0, 0, 0];
        for (const { sev, groups } of rows) counts[sev] = groups;
        return counts;
      }),

    tell: (channelId, claim, delivery, jobs) =>
      engine.write(async (tx) => {
        const { db, locks } = tx;
        let rows = db
          .selectFrom('outbox')
          .select('id')
          .where('channel_id', '=', channelId)
          .where('delivery_id', 'is', null);
        rows = 'ids' in claim ? rows.where('id', 'in', [...claim.ids]) : rows.where('ready_at', '<=', claim.readyBy);
        if (locks) rows = rows.orderBy('id').forUpdate();
        const found = await rows.execute();
        if (found.length === 0 || ('ids' in claim && found.length !== claim.ids.length)) return false;
        const told = delivery?.id ?? '';
        let update = db
          .updateTable('outbox')
          .set({ delivery_id: told })
          .where('channel_id', '=', channelId)
          .where('delivery_id', 'is', null);
        // By the condition, not by a list that may be longer than a statement takes; on PostgreSQL what came since is not locked, and stays.
        update =
          'ids' in claim || locks
            ? update.where(
                'id',
                'in',
                found.map(({ id }) => id),
              )
            : update.where('ready_at', '<=', claim.readyBy);
        await update.execute();
        if (delivery !== null) await db.insertInto('delivery').values(deliveryRow(delivery)).execute();
        await enqueue(tx, jobs);
        return true;
      }),
    add: (delivery, by, jobs) =>
      engine.write(async (tx) => {
        await tx.db.insertInto('delivery').values(deliveryRow(delivery)).execute();
        if (by !== null)
          await writeAudit(tx, by, {
            action: `notice.${delivery.transition}`,
            object: `channel:${delivery.channelId}`,
            before: null,
            after: { delivery: delivery.id },
          });
        await enqueue(tx, jobs);
      }),
  };
}

async function groupNow(db: Db, groupId: string, hosts: n.Routing['hosts']): Promise<n.GroupNow | undefined> {
  const group = await db
    .selectFrom('finding_group')
    .innerJoin('group_count', 'group_count.group_id', 'finding_group.id')
    .selectAll('finding_group')
    .select(GROUP_COUNTS)
    .where('finding_group.id', '=', groupId)
    .executeTakeFirst();
  if (group === undefined) return undefined;
  const { id, rule, kind, subject, sev, first_seen } = group;
  const about = { id, rule, kind, subject, signature: JSON.parse(group.signature) as unknown };
  const facts = { ...about, severity: sev as r.Severity, firstSeen: first_seen };
  const condition = heard(hosts);
  if (condition === undefined) {
    const { open, acknowledged, waived } = group;
    return { ...facts, hosts: { open, acknowledged, waived } };
  }
  const rows = await (db as unknown as Kysely<Tables>)
    .selectFrom('finding')
    .innerJoin('host', 'host.id', 'finding.host_id')
    .select((eb) => ['finding.disposition', eb.fn.countAll<number>().as('count')])
    .where('finding.group_id', '=', groupId)
    .where('finding.is_open', '=', (eb) => eb.lit(1))
    .where(condition)
    .groupBy('finding.disposition')
    .execute();
  const of = (disposition: number) => rows.find((row) => row.disposition === disposition)?.count ?? 0;
  return { ...facts, hosts: { open: of(0), acknowledged: of(1), waived: of(2) } };
}

/** Channels, their outbox and their deliveries as rows. What is told, and to whom, is decided by server/notices. */
import { type Kysely, sql } from 'kysely';
import type { ReadonlyKysely } from 'kysely/readonly';
import { writeAudit } from './audit.ts';
import type { Engine, Tx } from './engine.ts';
import { GROUP_COUNTS } from './findings.ts';
import { enqueue } from './jobs.ts';
import type * as n from './noticerecords.ts';
import { pageOf } from './read/page.ts';
import type * as r from './records.ts';
import type { ChannelRow, DeliveryRow, OutboxRow, Tables } from './tables.ts';

type Db = ReadonlyKysely<Tables>;

function channelOf(row: ChannelRow): n.Channel {
  const { routing, options } = JSON.parse(row.settings) as Pick<n.Channel, 'routing' | 'options'>;
  return {
    id: row.id,
    name: row.name,
    kind: row.kind,
    routing,
    options,
    secret: JSON.parse(row.secret) as unknown,
    state: row.state as n.ChannelState,
    revision: row.revision,
    createdAt: row.created_at,
    createdBy: row.created_by,
    disabledAt: row.disabled_at,
    disabledWhy: row.disabled_why,
    conditionError:
      row.condition_error === null || row.condition_error_at === null
        ? null
        : { at: row.condition_error_at, text: row.condition_error },
  };
}

const channelRow = (channel: n.Channel): ChannelRow => ({
  id: channel.id,
  name: channel.name,
  kind: channel.kind,
  settings: JSON.stringify({ routing: channel.routing, options: channel.options }),
  secret: JSON.stringify(channel.secret),
  state: channel.state,
  revision: channel.revision,
  created_at: channel.createdAt,
  created_by: channel.createdBy,
  disabled_at: channel.disabledAt,
  disabled_why: channel.disabledWhy,
  condition_error: channel.conditionError?.text ?? null,
  condition_error_at: channel.conditionError?.at ?? null,
});

/** What the trail has of a channel: all but where its secret lies. */
const told = ({ name, kind, routing, options, state, disabledWhy }: n.Channel) => ({
  name,
  kind,
  routing,
  options,
  state,
  disabledWhy,
});

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

const deliveryOf = (row: DeliveryRow): n.Delivery => ({
  id: row.id,
  channelId: row.channel_id,
  topic: row.topic,
  transition: row.transition,
  episode: row.episode,
  n: row.n,
  severity: row.sev as r.Severity,
  createdAt: row.created_at,
  notice: JSON.parse(row.notice) as unknown,
  hosts: row.hosts,
  ended: row.ended === 1,
  state: row.state as n.DeliveryState,
  attempts: row.attempts,
  nextAt: row.next_at,
  doneAt: row.done_at,
  status: row.status,
  error: row.error,
});

const deliveryRow = (delivery: n.NewDelivery): DeliveryRow => ({
  id: delivery.id,
  channel_id: delivery.channelId,
  topic: delivery.topic,
  transition: delivery.transition,
  episode: delivery.episode,
  n: delivery.n,
  sev: delivery.severity,
  created_at: delivery.createdAt,
  notice: JSON.stringify(delivery.notice ?? null),
  hosts: delivery.hosts,
  ended: delivery.ended ? 1 : 0,
  state: 'waiting',
  attempts: 0,
  // A test is sent by whoever asked for it, who waits for what comes of it.
  next_at: delivery.topic === 'test' ? null : delivery.createdAt,
  done_at: null,
  status: null,
  error: null,
});

async function oneChannel(db: Kysely<Tables> | Db, id: string): Promise<n.Channel | undefined> {
  const row = await (db as Db).selectFrom('channel').selectAll().where('id', '=', id).executeTakeFirst();
  return row === undefined ? undefined : channelOf(row);
}

/** The row of a channel, locked against whoever changes or removes it meanwhile. */
async function locked({ db, locks }: Tx, id: string): Promise<n.Channel | undefined> {
  let query = db.selectFrom('channel').selectAll().where('id', '=', id);
  if (locks) query = query.forUpdate();
  const row = await query.executeTakeFirst();
  return row === undefined ? undefined : channelOf(row);
}

async function write(tx: Tx, next: n.Channel, before: n.Channel, by: r.Act, action: string): Promise<void> {
  await tx.db.updateTable('channel').set(channelRow(next)).where('id', '=', next.id).execute();
  await writeAudit(tx, by, { action, object: `channel:${next.id}`, before: told(before), after: told(next) });
}

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

    pending: (channelId, now, limit) =>
      engine.reading(async (db) => {
        const rows = await db
          .selectFrom('outbox')
          .selectAll()
          .where('channel_id', '=', channelId)
          .where('delivery_id', 'is', null)
          .where('ready_at', '<=', now)
          .orderBy('ready_at')
          .orderBy('id')
          .limit(limit)
          .execute();
        return rows.map(pendingOf);
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

    due: (channelId, now, limit) =>
      engine.reading(async (db) => {
        const rows = await db
          .selectFrom('delivery')
          .selectAll()
          .where('channel_id', '=', channelId)
          .where(sql<boolean>`state = 'waiting'`)
          .where('next_at', '<=', now)
          .orderBy('next_at')
          .orderBy('id')
          .limit(limit)
          .execute();
        return rows.map(deliveryOf);
      }),
    nextDue: (channelId) =>
      engine.reading(async (db) => {
        const row = await db
          .selectFrom('delivery')
          .select('next_at')
          .where('channel_id', '=', channelId)
          .where(sql<boolean>`state = 'waiting'`)
          .where('next_at', 'is not', null)
          .orderBy('next_at')
          .limit(1)
          .executeTakeFirst();
        return row?.next_at ?? null;
      }),
    attempted: (delivery, came, at, disable) =>
      engine.write(async (tx) => {
        // The channel first, as whoever removes it takes it.
        const channel = disable === null ? undefined : await locked(tx, delivery.channelId);
        const done = await tx.db
          .updateTable('delivery')
          .set({
            state: came.state,
            attempts: delivery.attempts + 1,
            next_at: came.nextAt,
            done_at: came.state === 'waiting' ? null : at,
            status: came.status,
            error: came.error,
          })
          .where('id', '=', delivery.id)
          .where('state', '=', 'waiting')
          .where('attempts', '=', delivery.attempts)
          .executeTakeFirst();
        if (done.numUpdatedRows === 0n) return false;
        if (disable !== null && channel?.state === 'active') {
          const { by, why } = disable;
          const next: n.Channel = {
            ...channel,
            state: 'disabled',
            revision: channel.revision + 1,
            disabledAt: by.at,
            disabledWhy: why,
          };
          await write(tx, next, channel, by, 'channel.disable');
        }
        return true;
      }),
    get: (id) =>
      engine.reading(async (db) => {
        const row = await db.selectFrom('delivery').selectAll().where('id', '=', id).executeTakeFirst();
        return row === undefined ? undefined : deliveryOf(row);
      }),
    deliveries: ({ channelId, state }, page) =>
      engine.reading(async (db) => {
        let query = db.selectFrom('delivery').selectAll().orderBy('id', 'desc');
        if (channelId !== undefined) query = query.where('channel_id', '=', channelId);
        if (state !== undefined) query = query.where('state', '=', state);
        if (page.cursor !== null) query = query.where('id', '<', page.cursor.id);
        const rows = await query.limit(page.limit + 1).execute();
        return pageOf(rows, page.limit, deliveryOf, ({ id }) => ({ id }));
      }),
    resend: (id, by, jobs) =>
      engine.write(async (tx) => {
        let query = tx.db.selectFrom('delivery').selectAll().where('id', '=', id);
        if (tx.locks) query = query.forUpdate();
        const row = await query.executeTakeFirst();
        if (row === undefined || row.state === 'waiting') return false;
        await tx.db
          .updateTable('delivery')
          .set({ state: 'waiting', attempts: 0, next_at: by.at, done_at: null })
          .where('id', '=', id)
          .execute();
        await writeAudit(tx, by, {
          action: 'notice.resend',
          object: `channel:${row.channel_id}`,
          before: { delivery: id, state: row.state },
          after: { delivery: id, state: 'waiting' },
        });
        await enqueue(tx, jobs);
        return true;
      }),
    count: () =>
      engine.reading(async (db) => {
        const rows = await db
          .selectFrom('delivery')
          .select((eb) => ['state', eb.fn.countAll<number>().as('count')])
          .groupBy('state')
          .execute();
        const counts = { waiting: 0, delivered: 0, dead: 0 };
        for (const { state, count } of rows) counts[state as n.DeliveryState] = count;
        return counts;
      }),
    sweep: ({ told: toldBefore, delivered, dead }) =>
      engine.write(async ({ db }) => {
        await db.deleteFrom('outbox').where('delivery_id', 'is not', null).where('at', '<', toldBefore).execute();
        // A change that committed while its channel was removed: on PostgreSQL it did not see that.
        for (const table of ['outbox', 'delivery'] as const)
          await db
            .deleteFrom(table)
            .where('channel_id', 'not in', (eb) => eb.selectFrom('channel').select('id'))
            .execute();
        await db.deleteFrom('delivery').where('state', '=', 'delivered').where('created_at', '<', delivered).execute();
        await db
          .deleteFrom('delivery')
          .where('state', '=', 'waiting')
          .where('next_at', 'is', null)
          .where('created_at', '<', delivered)
          .execute();
        await db.deleteFrom('delivery').where('state', '=', 'dead').where('created_at', '<', dead).execute();
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

/** Findings and groups, one at a time and by host: what machines see is written by intake, what people decide here. */
import { sql, type Kysely } from 'kysely';
import type { Engine, Tx } from './engine.ts';
import { ackOf, DISPOSITIONS, flappingUntil, GROUP_STATUSES, turnsOf } from './findingdraft.ts';
import { writeAudit } from './audit.ts';
import { groupAcksOn } from './groupacks.ts';
import { intakeIn } from './intake.ts';
import { lockPulses } from './pulses.ts';
import { hostsWith, walked, within } from './read/line.ts';
import { pageOf } from './read/page.ts';
import type * as r from './records.ts';
import type { Disposed, Findings, HostWrite } from './store.ts';
import type { EpisodeRow, FindingGroupRow, FindingRow, GroupCountRow, Tables } from './tables.ts';

export function findingOf(row: FindingRow): r.Finding {
  const disposition = DISPOSITIONS[row.disposition]!;
  return {
    hostId: row.host_id,
    groupId: row.group_id,
    present: row.is_open === 1,
    disposition,
    status: row.is_open === 0 ? 'resolved' : disposition === 'none' ? 'open' : disposition,
    severity: row.sev as r.Severity,
    firstSeen: row.first_seen,
    openedAt: row.opened_at,
    resolvedAt: row.resolved_at,
    reopened: row.episode - 1,
    waiverId: row.waiver_id,
    until: row.until,
    ack: ackOf(row.ack),
    returned: row.returned === null ? null : (JSON.parse(row.returned) as r.Returned),
    flappingUntil: flappingUntil(turnsOf(row.turns)),
    detail: JSON.parse(row.detail) as unknown,
  };
}

type FactsRow = Pick<FindingGroupRow, 'rule' | 'kind' | 'subject' | 'signature'>;
export const factsOf = (id: string, row: FactsRow): r.GroupFacts => ({
  id,
  rule: row.rule,
  kind: row.kind,
  subject: row.subject,
  signature: JSON.parse(row.signature) as unknown,
});

export function groupOf(row: FindingGroupRow & Omit<GroupCountRow, 'group_id'>): r.FindingGroup {
  return {
    ...factsOf(row.id, row),
    severity: row.sev as r.Severity,
    isOpen: row.is_open === 1,
    firstSeen: row.first_seen,
    // Kept by the minute, so that a thousand hosts write it once: yet never before it was first seen.
    lastNewAt: Math.max(row.last_new_at, row.first_seen),
    status: GROUP_STATUSES[row.status]!,
    assignee: row.assignee,
    revision: row.revision,
    flappingUntil: row.flapping_until,
    hosts: {
      open: row.open,
      acknowledged: row.acknowledged,
      waived: row.waived,
      ever: row.ever,
      reopened: row.reopened,
    },
  };
}

const episodeOf = (row: EpisodeRow): r.Episode => ({
  n: row.n,
  openedAt: row.opened_at,
  openedSeq: row.opened_seq,
  closedAt: row.closed_at,
  closedSeq: row.closed_seq,
  reason: row.reason as r.CloseReason | null,
});

export const GROUP_COUNTS = [
  'group_count.open',
  'group_count.acknowledged',
  'group_count.waived',
  'group_count.ever',
  'group_count.reopened',
] as const;
export const GROUP_FACTS = [
  'finding_group.rule',
  'finding_group.kind',
  'finding_group.subject',
  'finding_group.signature',
] as const;

export function findingsOn(engine: Engine): Findings {
  return {
    ...groupAcksOn(engine),
    present: (hostId) =>
      engine.reading(async (db) => {
        const rows = await db
          .selectFrom('finding')
          .innerJoin('finding_group', 'finding_group.id', 'finding.group_id')
          .selectAll('finding')
          .select(GROUP_FACTS)
          .where('finding.host_id', '=', hostId)
          .where('finding.is_open', '=', (eb) => eb.lit(1))
          .execute();
        return rows.map((row) => ({ ...findingOf(row), group: factsOf(row.group_id, row) }));
      }),
    presentOf: (hostIds) =>
      engine.listing(async (db) => {
        const rows = await db
          .selectFrom('finding')
          .innerJoin('finding_group', 'finding_group.id', 'finding.group_id')
          .selectAll('finding')
          .select(GROUP_FACTS)
          .where('finding.host_id', 'in', [...hostIds])
          .where('finding.is_open', '=', (eb) => eb.lit(1))
          .execute();
        const all = rows.map((row) => ({ ...findingOf(row), group: factsOf(row.group_id, row) }));
        return Map.groupBy(all, ({ hostId }) => hostId);
      }),
    get: (hostId, groupId) =>
      engine.reading(async (db) => {
        const row = await db
          .selectFrom('finding')
          .innerJoin('finding_group', 'finding_group.id', 'finding.group_id')
          .selectAll('finding')
          .select(GROUP_FACTS)
          .where('finding.host_id', '=', hostId)
          .where('finding.group_id', '=', groupId)
          .executeTakeFirst();
        const found =
          row ??
          (await db
            .selectFrom('finding_archive as finding')
            .innerJoin('finding_group', 'finding_group.id', 'finding.group_id')
            .selectAll('finding')
            .select(GROUP_FACTS)
            .where('finding.host_id', '=', hostId)
            .where('finding.group_id', '=', groupId)
            .executeTakeFirst());
        return found === undefined ? undefined : { ...findingOf(found), group: factsOf(found.group_id, found) };
      }),
    episodes: (hostId, groupId) =>
      engine.reading(async (db) => {
        const rows = await db
          .selectFrom('episode')
          .selectAll()
          .where('host_id', '=', hostId)
          .where('group_id', '=', groupId)
          .orderBy('n')
          .execute();
        return rows.map(episodeOf);
      }),
    group: (id) =>
      engine.reading(async (db) => {
        const row = await db
          .selectFrom('finding_group')
          .innerJoin('group_count', 'group_count.group_id', 'finding_group.id')
          .selectAll('finding_group')
          .select(GROUP_COUNTS)
          .where('finding_group.id', '=', id)
          .executeTakeFirst();
        return row === undefined ? undefined : groupOf(row);
      }),
    dispose: (wanted, by, note) => engine.write((tx) => disposeIn(tx, wanted, by, note)),
    lapsed: (now, limit) =>
      engine.reading(async (db) => {
        const rows = await db
          .selectFrom('finding')
          .select(['host_id', 'group_id'])
          .where('is_open', '=', (eb) => eb.lit(1))
          .where('disposition', '>', (eb) => eb.lit(0))
          .where('until', '<=', now)
          .orderBy('until')
          .limit(limit)
          .execute();
        return rows.map(({ host_id, group_id }) => ({ hostId: host_id, groupId: group_id }));
      }),
    nextLapse: () =>
      engine.reading(async (db) => {
        const row = await db
          .selectFrom('finding')
          .select('until')
          .where('is_open', '=', (eb) => eb.lit(1))
          .where('disposition', '>', (eb) => eb.lit(0))
          .where('until', 'is not', null)
          .orderBy('until')
          .limit(1)
          .executeTakeFirst();
        return row?.until ?? null;
      }),
    assign: (groupId, expectRevision, assignee, by) =>
      engine.write(async (tx) => {
        let query = tx.db.selectFrom('finding_group').select(['assignee', 'revision']).where('id', '=', groupId);
        if (tx.locks) query = query.forUpdate();
        const before = await query.executeTakeFirst();
        if (before === undefined || before.revision !== expectRevision) return false;
        const next = { assignee, revision: before.revision + 1 };
        await tx.db.updateTable('finding_group').set(next).where('id', '=', groupId).execute();
        await writeAudit(tx, by, {
          action: 'group.assign',
          object: `group:${groupId}`,
          before: { assignee: before.assignee },
          after: { assignee },
        });
        return true;
      }),
    waiversOf: (groupId, scope) =>
      engine.listing(async (db) => {
        const found = new Set<string>();
        for (const isOpen of [1, 0]) {
          let query = (db as unknown as Kysely<Tables>)
            .selectFrom('finding')
            .select('waiver_id')
            .distinct()
            .where('finding.group_id', '=', groupId)
            .where('finding.is_open', '=', (eb) => eb.lit(isOpen))
            .where('finding.waiver_id', 'is not', null)
            .limit(WAIVERS_TOLD);
          if (scope !== null) {
            const theirs = hostsWith([within(walked('host.host_group', engine.kind), scope)]);
            query = query.where(sql<boolean>`${walked('finding.host_id', engine.kind)} in ${theirs}`);
          }
          for (const { waiver_id } of await query.execute()) found.add(waiver_id!);
        }
        return [...found].sort().slice(0, WAIVERS_TOLD);
      }),
    hostsOf: (groupIds, { cursor, limit }) =>
      engine.listing(async (db) => {
        const hosts = new Set<string>();
        for (const groupId of new Set(groupIds)) {
          let query = db
            .selectFrom('finding')
            .select('host_id')
            .where('group_id', '=', groupId)
            .where('is_open', '=', (eb) => eb.lit(1))
            .orderBy('host_id')
            .limit(limit + 1);
          if (cursor !== null) query = query.where('host_id', '>', cursor.id);
          for (const row of await query.execute()) hosts.add(row.host_id);
        }
        const rows = [...hosts].sort().slice(0, limit + 1);
        return pageOf(
          rows,
          limit,
          (id) => id,
          (id) => ({ id }),
        );
      }),
    beginning: (start, limit) =>
      engine.reading(async (db) => {
        const rows = await db
          .selectFrom('finding_group')
          .select('id')
          .where('id', '>=', start)
          .where('id', '<', `${start}~`)
          .orderBy('id')
          .limit(limit)
          .execute();
        return rows.map(({ id }) => id);
      }),
    presentGroups: ({ cursor, limit }) =>
      engine.listing(async (db) => {
        let query = db
          .selectFrom('finding_group')
          .innerJoin('group_count', 'group_count.group_id', 'finding_group.id')
          .selectAll('finding_group')
          .select(GROUP_COUNTS)
          .where('finding_group.is_open', '=', (eb) => eb.lit(1))
          .orderBy('finding_group.id')
          .limit(limit + 1);
        if (cursor !== null) query = query.where('finding_group.id', '>', cursor.id);
        return pageOf(await query.execute(), limit, groupOf, ({ id }) => ({ id }));
      }),
    changes: (groupId, limit, scope = null) =>
      engine.listing(async (db) => {
        if (scope !== null) return changesWithin(db as unknown as Kysely<Tables>, groupId, limit, scope);
        const rows = await db
          .selectFrom('group_change')
          .selectAll()
          .where('group_id', '=', groupId)
          .orderBy('at', 'desc')
          .limit(limit)
          .execute();
        return rows.map(({ at, kind, hosts }) => ({ groupId, at, kind: kind as r.GroupChange['kind'], hosts }));
      }),
  };
}

/** Waivers that the story of one group names. */
const WAIVERS_TOLD = 50;

/** Of a part of the fleet: from the episodes of its hosts, as what is kept by the minute is of all. */
async function changesWithin(
  db: Kysely<Tables>,
  groupId: string,
  limit: number,
  scope: readonly string[],
): Promise<r.GroupChange[]> {
  const episodes = await db
    .selectFrom('host')
    .innerJoin('episode', 'episode.host_id', 'host.id')
    .select(['episode.n', 'episode.opened_at', 'episode.closed_at'])
    .where('episode.group_id', '=', groupId)
    .where(within(sql.ref('host.host_group'), scope))
    .orderBy('episode.opened_at', 'desc')
    .limit(CHANGES_LOOKED_AT)
    .execute();
  const found = new Map<string, { readonly at: number; readonly kind: r.GroupChange['kind']; hosts: number }>();
  const count = (kind: r.GroupChange['kind'], time: number): void => {
    const at = time - (time % 60_000);
    const one = found.get(`${kind} ${at}`) ?? { at, kind, hosts: 0 };
    one.hosts++;
    found.set(`${kind} ${at}`, one);
  };
  for (const { n, opened_at, closed_at } of episodes) {
    count(n === 1 ? 'opened' : 'reopened', opened_at);
    if (closed_at !== null) count('resolved', closed_at);
  }
  const all = [...found.values()].map((one) => ({ groupId, ...one }));
  return all.sort((a, b) => b.at - a.at).slice(0, limit);
}
/** Newest episodes of one group that a story of a part of the fleet is told from. */
const CHANGES_LOOKED_AT = 10_000;

/** The hosts' pulses are taken first, so no revision has to be known: what is done depends on each finding alone. */
export async function disposeIn(
  tx: Tx,
  wanted: Parameters<Findings['dispose']>[0],
  by: r.Act,
  note: Parameters<Findings['dispose']>[2],
): Promise<readonly Disposed[]> {
  const byHost = Map.groupBy(wanted.entries(), ([, { hostId }]) => hostId);
  const pulses = await lockPulses(tx, [...byHost.keys()]);
  const known = [...byHost].filter(([hostId]) => pulses.has(hostId));
  const writes = known.map(([hostId, items]): HostWrite => ({
    hostId,
    expectRevision: pulses.get(hostId)!.revision,
    at: by.at,
    disposals: items.map(([, { disposal }]) => disposal),
  }));
  const results = await intakeIn(tx, writes);
  const out: Disposed[] = wanted.map(() => ({ result: 'resolved', before: null }));
  for (const [index, [, items]] of known.entries()) {
    const result = results[index]!;
    if (result.kind !== 'committed') continue;
    for (const [place, [at]] of items.entries()) out[at] = result.disposed[place]!;
  }
  const done = out.some(({ result }) => result === 'changed');
  if (note !== null && done) await writeAudit(tx, by, note);
  return out;
}

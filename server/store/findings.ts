/** Findings and groups, one at a time and by host. They are written by intake alone. */
import type { Engine } from './engine.ts';
import { DISPOSITIONS } from './findingdraft.ts';
import type * as r from './records.ts';
import type { Findings } from './store.ts';
import type { EpisodeRow, FindingGroupRow, FindingRow, GroupCountRow } from './tables.ts';

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
    lastNewAt: row.last_new_at,
    hosts: { open: row.open, acknowledged: row.acknowledged, waived: row.waived, ever: row.ever },
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

export const GROUP_FACTS = [
  'finding_group.rule',
  'finding_group.kind',
  'finding_group.subject',
  'finding_group.signature',
] as const;

export function findingsOn(engine: Engine): Findings {
  return {
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
        return row === undefined ? undefined : { ...findingOf(row), group: factsOf(row.group_id, row) };
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
          .select(['group_count.open', 'group_count.acknowledged', 'group_count.waived', 'group_count.ever'])
          .where('finding_group.id', '=', id)
          .executeTakeFirst();
        return row === undefined ? undefined : groupOf(row);
      }),
  };
}

/**
 * What a group of findings is on some hosts: its status, ages and numbers as if the fleet were those (docs/access.md 2.1). Told from their
 * findings, a page of groups at a time; of the whole fleet all that is kept with the group.
 */
import { sql, type Kysely, type RawBuilder } from 'kysely';
import type { ReadonlyKysely } from 'kysely/readonly';
import { GROUP_STATUSES, statusOf } from '../findingdraft.ts';
import type * as r from '../records.ts';
import type { Tables } from '../tables.ts';
import { ENDED, every, flappingEnd, PRESENT, type EngineKind } from './line.ts';

type Within = Pick<r.FindingGroup, 'isOpen' | 'status' | 'firstSeen' | 'lastNewAt' | 'flappingUntil' | 'hosts'>;

/** What stands of a group nowhere: it ended on those hosts, and was moved aside, while its page was read. */
export const NOWHERE = {
  isOpen: false,
  status: 'resolved',
  hosts: { open: 0, acknowledged: 0, waived: 0, ever: 0, reopened: 0 },
} as const;

/** By group; `asked`: conditions on `finding`, its host among them. */
export async function standingWithin(
  db: ReadonlyKysely<Tables>,
  ids: readonly string[],
  asked: readonly RawBuilder<boolean>[],
  engine: EngineKind,
): Promise<ReadonlyMap<string, Within>> {
  const found = await Promise.all(
    [PRESENT, ...ENDED].map(async (from) => {
      const { rows } = await sql<Tally>`select finding.group_id as id, finding.is_open as is_open,
          finding.disposition as disposition, count(*) as hosts,
          sum(case when finding.is_open = 1 and finding.episode > 1 then 1 else 0 end) as reopened,
          min(finding.first_seen) as first_seen, max(finding.opened_at) as opened_at,
          max(${flappingEnd(engine)}) as flapping
        from ${from} and finding.group_id in (${sql.join([...ids])}) and ${every(asked)}
        group by finding.group_id, finding.is_open, finding.disposition`.execute(db as unknown as Kysely<Tables>);
      return rows;
    }),
  );
  const byGroup = Map.groupBy(found.flat(), ({ id }) => id);
  return new Map([...byGroup].map(([id, rows]) => [id, withinOf(rows)]));
}
type Tally = {
  readonly id: string;
  readonly is_open: number;
  readonly disposition: number;
  readonly hosts: number;
  readonly reopened: number;
  readonly first_seen: number;
  readonly opened_at: number;
  readonly flapping: number | null;
};

function withinOf(rows: readonly Tally[]): Within {
  const hosts = { open: 0, acknowledged: 0, waived: 0, ever: 0, reopened: 0 };
  for (const row of rows) {
    hosts.ever += row.hosts;
    hosts.reopened += row.reopened;
    if (row.is_open === 1) hosts[GROUP_STATUSES[row.disposition as 0 | 1 | 2]] += row.hosts;
  }
  const firstSeen = Math.min(...rows.map((row) => row.first_seen));
  const opened = Math.max(...rows.map((row) => row.opened_at));
  const status = GROUP_STATUSES[statusOf(hosts)]!;
  return {
    isOpen: status !== 'resolved',
    status,
    firstSeen,
    // By the minute, as that of the whole fleet.
    lastNewAt: Math.max(opened - (opened % 60_000), firstSeen),
    flappingUntil: Math.max(0, ...rows.map((row) => row.flapping ?? 0)),
    hosts,
  };
}

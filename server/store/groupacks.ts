/**
 * Acknowledgements of groups, for hosts that show the same later (docs/findings.md 2). One stands as long as its group is open on some
 * host: with the last one it is gone, like that of a finding. Giving one moves the stamp of the waivers, so that no judgement that
 * began before it commits after it.
 */
import { covers, lies, union, type Scope } from '#src/finding/scope.ts';
import type { Instant } from '#src/clock.ts';
import { writeAudit } from './audit.ts';
import type { Bulk, Engine } from './engine.ts';
import type * as r from './records.ts';
import type { Findings } from './store.ts';
import type { GroupAckRow } from './tables.ts';
import { moveStamp } from './waivers.ts';

const COLUMNS = ['group_id', 'scope', 'apart', 'by_actor', 'at', 'until', 'note'] as const;

const scopeText = (scope: Scope): string => (scope === null ? '' : JSON.stringify(scope));

const ackOf = ({ scope, apart, by_actor, at, until, note }: GroupAckRow): r.GroupAck => ({
  by: by_actor,
  at,
  until,
  note,
  scope: scope === '' ? null : (JSON.parse(scope) as string[]),
  apart: JSON.parse(apart) as string[],
});

/** Those that stand at `now`, by group. */
export async function acksOf(
  select: Bulk['select'],
  groupIds: readonly string[],
  now: Instant,
): Promise<ReadonlyMap<string, readonly r.GroupAck[]>> {
  const keys = [...new Set(groupIds)].sort().map((group_id) => ({ group_id }));
  const rows = (await select('group_ack', [...COLUMNS], ['group_id'], keys)).filter(({ until }) => until > now);
  return new Map([...Map.groupBy(rows, ({ group_id }) => group_id)].map(([id, own]) => [id, own.map(ackOf)]));
}

/** The one that a host of this group comes under; of several the one that ends last. */
export function ackFor(acks: readonly r.GroupAck[] | undefined, hostGroup: string | null): r.Ack | null {
  let best: r.GroupAck | undefined;
  for (const ack of acks ?? []) {
    if (!covers(ack.scope, hostGroup) || covers(ack.apart, hostGroup)) continue;
    if (best === undefined || ack.until > best.until) best = ack;
  }
  if (best === undefined) return null;
  const { by, at, until, note } = best;
  return { by, at, until, note };
}

export function groupAcksOn(
  engine: Engine,
): Pick<Findings, 'acknowledgeGroup' | 'unacknowledgeGroup' | 'acknowledgements'> {
  return {
    acknowledgeGroup: (groupId, { scope, by, at, until, note }, act, entry) =>
      engine.write(async (tx) => {
        await moveStamp(tx);
        const group = await tx.db
          .selectFrom('finding_group')
          .select('is_open')
          .where('id', '=', groupId)
          .executeTakeFirst();
        if (group?.is_open !== 1) return false;
        const row = { group_id: groupId, scope: scopeText(scope), apart: '[]', by_actor: by, at, until, note };
        await tx.bulk.insert('group_ack', [...COLUMNS], [row], {
          key: ['group_id', 'scope'],
          set: ['apart', 'by_actor', 'at', 'until', 'note'],
        });
        await writeAudit(tx, act, entry);
        return true;
      }),
    unacknowledgeGroup: (groupId, scope, act, entry) =>
      engine.write(async (tx) => {
        await moveStamp(tx);
        let query = tx.db.selectFrom('group_ack').selectAll().where('group_id', '=', groupId);
        if (tx.locks) query = query.forUpdate();
        const rows = await query.execute();
        for (const row of rows) {
          const own = ackOf(row);
          const at = tx.db.deleteFrom('group_ack').where('group_id', '=', groupId).where('scope', '=', row.scope);
          if (lies(own.scope, scope)) await at.execute();
          // It stands for hosts of others: these come under it no more.
          else
            await tx.db
              .updateTable('group_ack')
              .set({ apart: JSON.stringify(union([own.apart, scope])) })
              .where('group_id', '=', groupId)
              .where('scope', '=', row.scope)
              .execute();
        }
        if (rows.length > 0) await writeAudit(tx, act, entry);
        return rows.length > 0;
      }),
    acknowledgements: (groupIds, now) => engine.reading((_, select) => acksOf(select, groupIds, now)),
  };
}

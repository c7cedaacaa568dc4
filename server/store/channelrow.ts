/** Channels as rows, and the one way to change one: locked, and told to the trail with all but its secret. */
import type { Kysely } from 'kysely';
import type { ReadonlyKysely } from 'kysely/readonly';
import { writeAudit } from './audit.ts';
import type { Tx } from './engine.ts';
import type * as n from './noticerecords.ts';
import type * as r from './records.ts';
import type { ChannelRow, Tables } from './tables.ts';

type Db = ReadonlyKysely<Tables>;

export function channelOf(row: ChannelRow): n.Channel {
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

export const channelRow = (channel: n.Channel): ChannelRow => ({
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
export const told = ({ name, kind, routing, options, state, disabledWhy }: n.Channel) => ({
  name,
  kind,
  routing,
  options,
  state,
  disabledWhy,
});

export async function oneChannel(db: Kysely<Tables> | Db, id: string): Promise<n.Channel | undefined> {
  const row = await (db as Db).selectFrom('channel').selectAll().where('id', '=', id).executeTakeFirst();
  return row === undefined ? undefined : channelOf(row);
}

/** The row of a channel, locked against whoever changes or removes it meanwhile. */
export async function locked({ db, locks }: Tx, id: string): Promise<n.Channel | undefined> {
  let query = db.selectFrom('channel').selectAll().where('id', '=', id);
  if (locks) query = query.forUpdate();
  const row = await query.executeTakeFirst();
  return row === undefined ? undefined : channelOf(row);
}

export async function write(tx: Tx, next: n.Channel, before: n.Channel, by: r.Act, action: string): Promise<void> {
  await tx.db.updateTable('channel').set(channelRow(next)).where('id', '=', next.id).execute();
  await writeAudit(tx, by, { action, object: `channel:${next.id}`, before: told(before), after: told(next) });
}

/**
 * How many notices about integrity came in or were given up, by day: kept when the deliveries themselves are forgotten or their channel is
 * removed, so that what evidence says of a past period stays true (docs/notices.md 5).
 */
import { sql, type RawBuilder } from 'kysely';
import type { ReadonlyKysely } from 'kysely/readonly';
import type { Instant } from '#src/clock.ts';
import { NOTICE_KEPT_MS } from '#src/limits.ts';
import type { Tx } from './engine.ts';
import type { NoticeOutcomes } from './noticerecords.ts';
import type { Tables } from './tables.ts';

type Db = ReadonlyKysely<Tables>;
const KEY = 'notice-tally';
const DAY_MS = 86_400_000;

/** A day as its number since 1970, in UTC, and what became of the notices that were made on it. */
type Line = readonly [day: number, delivered: number, failed: number];

/** Notices that a check found a difference: of findings, of verdicts, and of many at once. */
const ABOUT_INTEGRITY = sql<boolean>`(topic like 'finding:%' or topic like 'verdict:%' or topic like 'overdue:%' or topic = 'storm')`;
const DONE = sql<boolean>`state in ('delivered', 'dead')`;
const DAY = sql<number>`created_at / ${sql.lit(DAY_MS)}`;

const parse = (value: Uint8Array): readonly Line[] => JSON.parse(new TextDecoder().decode(value)) as readonly Line[];

async function counted(db: Db | Tx['db'], which: RawBuilder<boolean>): Promise<readonly Line[]> {
  const rows = await (db as Db)
    .selectFrom('delivery')
    .select((eb) => [DAY.as('day'), 'state', eb.fn.countAll<number>().as('count')])
    .where(which)
    .where(ABOUT_INTEGRITY)
    .where(DONE)
    .groupBy([DAY, 'state'])
    .execute();
  return rows.map(({ day, state, count }) => (state === 'delivered' ? [day, count, 0] : [day, 0, count]));
}

function added(lines: readonly Line[]): readonly Line[] {
  const days = new Map<number, Line>();
  for (const [day, delivered, failed] of lines) {
    const [, d, f] = days.get(day) ?? [day, 0, 0];
    days.set(day, [day, d + delivered, f + failed]);
  }
  return [...days.values()].sort(([a], [b]) => a - b);
}

/** Notes these deliveries, in the transaction that deletes them. */
export async function tally(tx: Tx, which: RawBuilder<boolean>): Promise<void> {
  const { db, locks } = tx;
  const lines = await counted(db, which);
  if (lines.length === 0) return;
  const empty = new TextEncoder().encode('[]');
  // Of two processes at once the second waits for the first one's row.
  await db
    .insertInto('setting')
    .values({ key: KEY, value: empty })
    .onConflict((conflict) => conflict.column('key').doNothing())
    .execute();
  let query = db.selectFrom('setting').select('value').where('key', '=', KEY);
  if (locks) query = query.forUpdate();
  const { value } = await query.executeTakeFirstOrThrow();
  const all = added([...parse(value), ...lines]);
  const oldest = (all.at(-1)?.[0] ?? 0) - NOTICE_KEPT_MS.tally / DAY_MS;
  const kept = new TextEncoder().encode(JSON.stringify(all.filter(([day]) => day >= oldest)));
  await db.updateTable('setting').set({ value: kept }).where('key', '=', KEY).execute();
}

/** Those made in a period: of days that are noted whole ones, by when they began. */
export async function outcomesIn(
  db: Db,
  { from, to }: { readonly from: Instant; readonly to: Instant },
): Promise<NoticeOutcomes> {
  const there = await counted(db, sql<boolean>`created_at >= ${from} and created_at < ${to}`);
  const row = await db.selectFrom('setting').select('value').where('key', '=', KEY).executeTakeFirst();
  const noted = (row === undefined ? [] : parse(row.value)).filter(
    ([day]) => day * DAY_MS >= from && day * DAY_MS < to,
  );
  let [delivered, failed] = [0, 0];
  for (const [, d, f] of [...there, ...noted]) {
    delivered += d;
    failed += f;
  }
  return { delivered, failed };
}

/**
 * Purging payloads (docs/retention.md): which may go is decided before, in reads; what goes, and the log's entry that tells it, is one short
 * transaction under the lock of the holds. What an entry's digest is over is gone then, and the digest stays.
 */
import { sql, type Kysely } from 'kysely';
import type { ReadonlyKysely } from 'kysely/readonly';
import { formatInstant, parseInstant, type Instant } from '#src/clock.ts';
import { RETENTION_BYTES, RETENTION_PAGE } from '#src/limits.ts';
import { parseEntry } from '#src/log/entry.ts';
import { writeAudit } from './audit.ts';
import type { Engine, Tx } from './engine.ts';
import { heldOf, lockHolds, standingIn } from './holds.ts';
import { sortableId } from './ids.ts';
import { candidatesIn, type Candidate } from './retentionleans.ts';
import { appendLog } from './logpending.ts';
import { pageOf } from './read/page.ts';
import type { Act } from './records.ts';
import {
  PURGED_KINDS,
  type Purge,
  type PurgedKind,
  type PurgeDone,
  type PurgeRule,
  type PurgeStep,
  type Retained,
  type Retention,
} from './retentionrecords.ts';
import { sizesOf } from './retentionsizes.ts';
import type { Tables } from './tables.ts';

const DAY_MS = 86_400_000;
const dayOf = (at: Instant): number => Math.floor(at / DAY_MS);
const NOTE = 'retention';

/** The payload of an entry `purge` (docs/log.md 5.3). */
type Told = {
  readonly of: PurgedKind;
  readonly count: number;
  readonly before: string;
  readonly rule: PurgeRule;
  readonly by: string;
  readonly entries: Purge['entries'];
};

export function retentionOn(engine: Engine): Retention {
  return {
    count: (limit) => count(engine, limit),
    retained: () =>
      engine.listing(async (db) => {
        const rows = await db.selectFrom('retained').selectAll().where('payloads', '>', 0).orderBy('day').execute();
        return rows.map(({ kind, day, payloads, bytes }): Retained => ({
          of: kind as PurgedKind,
          day,
          payloads,
          bytes,
        }));
      }),
    purge: (step, by) => purge(engine, step, by),
    purges: ({ cursor, limit }) =>
      engine.listing(async (db) => {
        let query = (db as unknown as Kysely<Tables>)
          .selectFrom('log_payload')
          .innerJoin('log_entry', 'log_entry.id', 'log_payload.id')
          .select(['log_payload.id', 'log_payload.body', 'log_entry.log', 'log_entry.idx', 'log_entry.entry'])
          .where(sql<boolean>`substr(log_payload.ref, 1, 3) = 'pur'`)
          .where('log_payload.purged_at', 'is', null)
          .orderBy('log_payload.id', 'desc')
          .limit(limit + 1);
        if (cursor !== null) query = query.where('log_payload.id', '<', cursor.id);
        return pageOf(await query.execute(), limit, purgeOf, ({ id }) => ({ id }));
      }),
    note: (settings, standard, by) =>
      engine.write(async (tx) => {
        const before = await notedIn(tx.db);
        const was = before?.settings ?? standard;
        if (JSON.stringify(was) === JSON.stringify(settings)) return before?.since ?? null;
        const value = new TextEncoder().encode(JSON.stringify({ settings, since: by.at }));
        await tx.db
          .insertInto('setting')
          .values({ key: NOTE, value })
          .onConflict((conflict) => conflict.column('key').doUpdateSet({ value }))
          .execute();
        const entry = { action: 'retention.change', object: `setting:${NOTE}`, before: was, after: settings };
        await writeAudit(tx, by, entry);
        return by.at;
      }),
    noted: () => engine.reading((db) => notedIn(db as unknown as Kysely<Tables>)),
  };
}

async function notedIn(db: Kysely<Tables>) {
  const row = await db.selectFrom('setting').select('value').where('key', '=', NOTE).executeTakeFirst();
  return row && (JSON.parse(new TextDecoder().decode(row.value)) as { settings: unknown; since: Instant });
}

function purgeOf({
  body,
  log,
  idx,
  entry,
}: {
  readonly body: Uint8Array | null;
  readonly log: number;
  readonly idx: number;
  readonly entry: Uint8Array;
}): Purge {
  const { of, count, before, rule, entries } = JSON.parse(new TextDecoder().decode(body!)) as Told;
  const at = parseInstant(parseEntry(entry).at)!;
  return { log, index: idx, at, of, payloads: count, before: parseInstant(before)!, rule, entries };
}

// ── sums ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The next entries that are in no sum: their log, and from where. */
async function uncounted(db: ReadonlyKysely<Tables>, limit: number) {
  const heads = await db
    .selectFrom('log_head')
    .select(['log', 'size'])
    .unionAll(db.selectFrom('log_past').select(['log', 'size']))
    .execute();
  for (const { log, size } of heads.sort((a, b) => a.log - b.log)) {
    const row = await db.selectFrom('retained_to').select('next').where('log', '=', log).executeTakeFirst();
    const from = row?.next ?? 0;
    if (from >= size) continue;
    // No further than the head that was read: the log may have grown since, and those entries are counted with the next.
    const to = Math.min(size, from + limit);
    const rows = await db
      .selectFrom('log_entry')
      .innerJoin('log_payload', 'log_payload.id', 'log_entry.id')
      .select(['log_entry.idx', 'log_entry.at', 'log_entry.kind', 'log_payload.ref', 'log_payload.purged_at'])
      .select(sql<number | null>`length(log_payload.body)`.as('bytes'))
      .where('log_entry.log', '=', log)
      .where('log_entry.idx', '>=', from)
      .where('log_entry.idx', '<', to)
      .orderBy('log_entry.idx')
      .execute();
    return { log, from, to, rows };
  }
  return undefined;
}

async function count(engine: Engine, limit: number): Promise<number> {
  const read = await engine.reading(async (db) => {
    const found = await uncounted(db, limit);
    if (found === undefined) return undefined;
    const rows = found.rows.filter(
      ({ kind, purged_at }) => purged_at === null && (PURGED_KINDS as readonly string[]).includes(kind),
    );
    const sizes = await sizesOf(db as unknown as Kysely<Tables>, rows);
    return { ...found, rows: rows.map((row, i) => ({ ...row, size: sizes[i]! })) };
  });
  if (read === undefined) return 0;
  const { log, from, to, rows } = read;
  const added = await engine.write(async (tx) => {
    const moved =
      from === 0
        ? await tx.db
            .insertInto('retained_to')
            .values({ log, next: to })
            .onConflict((conflict) => conflict.column('log').doNothing())
            .executeTakeFirst()
            .then(({ numInsertedOrUpdatedRows }) => numInsertedOrUpdatedRows)
        : await tx.db
            .updateTable('retained_to')
            .set({ next: to })
            .where('log', '=', log)
            .where('next', '=', from)
            .executeTakeFirst()
            .then(({ numUpdatedRows }) => numUpdatedRows);
    // Somebody else counted them meanwhile.
    if (moved !== 1n) return false;
    await addTo(
      tx,
      rows.map(({ kind, at, size }) => ({ kind, at, payloads: 1, bytes: size })),
    );
    return true;
  });
  return added ? to - from : count(engine, limit);
}

async function addTo(
  tx: Tx,
  rows: readonly {
    readonly kind: string;
    readonly at: Instant;
    readonly payloads: number;
    readonly bytes: number;
  }[],
): Promise<void> {
  const sums = new Map<string, Tables['retained']>();
  for (const { kind, at, payloads, bytes } of rows) {
    const day = dayOf(at);
    const key = `${kind} ${String(day).padStart(9, '0')}`;
    const sum = sums.get(key) ?? { kind, day, payloads: 0, bytes: 0 };
    sum.payloads += payloads;
    sum.bytes += bytes;
    sums.set(key, sum);
  }
  const sorted = [...sums].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, sum]) => sum);
  await tx.bulk.insert('retained', ['kind', 'day', 'payloads', 'bytes'], sorted, {
    key: ['kind', 'day'],
    add: ['payloads', 'bytes'],
  });
}

// ── purges ───────────────────────────────────────────────────────────────────────────────────────────────────────────

async function purge(engine: Engine, step: PurgeStep, by: Act): Promise<PurgeDone> {
  const page = await engine.reading((db) =>
    candidatesIn(db as unknown as Kysely<Tables>, step, { rows: RETENTION_PAGE, bytes: RETENTION_BYTES }),
  );
  const none = { payloads: 0, bytes: 0, leaned: page.leaned, held: 0, next: page.next };
  if (page.candidates.length === 0) return none;
  return engine.write(async (tx) => {
    await lockHolds(tx);
    const held = await heldOf(tx.db, await standingIn(tx.db), page.candidates);
    const free = page.candidates.filter((candidate) => !held.has(candidate));
    const taken = upTo(free, step.bytes);
    // Another process took them meanwhile: each payload is told of once.
    const still = await tx.bulk.select(
      'log_payload',
      ['id', 'purged_at'],
      ['id'],
      taken.map(({ id }) => ({ id })),
      true,
    );
    const standing = new Set(still.filter(({ purged_at }) => purged_at === null).map(({ id }) => id));
    const going = taken.filter(({ id }) => standing.has(id));
    // Enough went: what is left of the page is for another day.
    const next = taken.length < free.length ? null : page.next;
    const done = { ...none, held: held.size, next };
    if (going.length === 0) return done;
    await empty(tx, step, going, by);
    return { ...done, payloads: going.length, bytes: sum(going) };
  });
}

const sum = (all: readonly Candidate[]): number => all.reduce((bytes, { size }) => bytes + size, 0);

/** The first ones, until they come to so many bytes. */
function upTo(candidates: readonly Candidate[], bytes: number | null): readonly Candidate[] {
  if (bytes === null) return candidates;
  let left = bytes;
  const end = candidates.findIndex(({ size }) => (left -= size) <= 0);
  return end < 0 ? candidates : candidates.slice(0, end + 1);
}

async function empty(tx: Tx, { of, rule, before }: PurgeStep, going: readonly Candidate[], by: Act): Promise<void> {
  const ref = `purge:${sortableId(by.at)}`;
  await tx.bulk.update(
    'log_payload',
    ['id'],
    ['salt', 'body', 'purged_at', 'purged_by'],
    going.map(({ id }) => ({ id, salt: null, body: null, purged_at: by.at, purged_by: ref })),
  );
  // The row stays: its digest and first answer tell a repeated report.
  const reports = going.flatMap(({ report }) => (report === undefined ? [] : [{ ...report, envelope: NOTHING }]));
  await tx.bulk.update('report', ['host_id', 'seq', 'copy'], ['envelope'], reports);
  const acts = going.flatMap(({ act }) => act ?? []);
  if (acts.length > 0) await tx.db.deleteFrom('audit').where('id', 'in', acts).execute();
  await addTo(
    tx,
    going.map(({ at, size }) => ({ kind: of, at, payloads: -1, bytes: -size })),
  );
  const told: Told = {
    of,
    count: going.length,
    before: formatInstant(before),
    rule,
    by: by.actor,
    entries: rangesOf(going),
  };
  const payload = new TextEncoder().encode(JSON.stringify(told));
  await appendLog(tx, [
    {
      at: by.at,
      said: { kind: 'purge', host: null, facts: { of, count: told.count, before: told.before } },
      ref,
      payload,
      body: payload,
    },
  ]);
}
const NOTHING = new Uint8Array();

/** By log, runs of indexes. */
function rangesOf(going: readonly Pick<Candidate, 'log' | 'index'>[]): Purge['entries'] {
  const byLog = Map.groupBy(going, ({ log }) => log);
  return [...byLog]
    .sort(([a], [b]) => a - b)
    .map(([log, entries]) => {
      const ranges: [number, number][] = [];
      for (const index of entries.map((entry) => entry.index).sort((a, b) => a - b)) {
        const last = ranges.at(-1);
        if (last !== undefined && last[1] === index - 1) last[1] = index;
        else ranges.push([index, index]);
      }
      return { log, ranges };
    });
}

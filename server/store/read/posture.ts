/** How things stood at a moment (docs/posture.md): each read is a walk of an index, from that moment on, and bounded by its caller. */
import { sql, type Kysely } from 'kysely';
import type { ReadonlyKysely } from 'kysely/readonly';
import { parseInstant, type Instant } from '#src/clock.ts';
import type { Digest } from '#src/digest.ts';
import { parseEntry } from '#src/log/entry.ts';
import { entryOf } from '../audit.ts';
import type { Engine } from '../engine.ts';
import { sortableTime } from '../ids.ts';
import type { Judged } from '../logpayload.ts';
import type { HostOnImage, JudgedEntry, LogPlace, Postures, ReportEntry } from '../posturerecords.ts';
import type { ChallengeClass } from '../records.ts';
import type { Tables } from '../tables.ts';
import { waiverOf } from '../waivers.ts';
import { within } from './line.ts';
import { merged, pageOf } from './page.ts';

type Db = ReadonlyKysely<Tables>;
type Range = { readonly from: Instant; readonly to: Instant };
type Order = 'newest' | 'oldest';
/** Keys in one statement. */
const AT_ONCE = 200;

const entriesOf = (db: Db, hostId: string, kind: 'judgement' | 'report') =>
  db.selectFrom('log_entry').where('log_entry.host_id', '=', hostId).where('log_entry.kind', '=', kind);

async function judgedIn(
  db: Db,
  hostId: string,
  when: Range | readonly Instant[],
  order: Order,
  limit: number,
): Promise<readonly JudgedEntry[]> {
  const direction = order === 'newest' ? 'desc' : 'asc';
  let query = entriesOf(db, hostId, 'judgement')
    .leftJoin('log_payload', 'log_payload.id', 'log_entry.id')
    .select(['log_entry.log', 'log_entry.idx', 'log_entry.at', 'log_entry.entry', 'log_payload.body'])
    .orderBy('log_entry.at', direction)
    .orderBy('log_entry.log', direction)
    .orderBy('log_entry.idx', direction)
    .limit(limit);
  query =
    'from' in when
      ? query.where('log_entry.at', '>=', when.from).where('log_entry.at', '<=', when.to)
      : query.where('log_entry.at', 'in', [...when]);
  return (await query.execute()).map(({ log, idx, at, entry, body }) => {
    const said = parseEntry(entry);
    return {
      log,
      index: idx,
      at,
      told: said.kind === 'judgement' ? said.facts.verdict : null,
      judged: body === null ? null : judgedOf(body),
    };
  });
}

function judgedOf(body: Uint8Array): Judged {
  const read = JSON.parse(new TextDecoder().decode(body)) as Omit<Judged, 'at'> & { readonly at: string };
  return { ...read, at: parseInstant(read.at)! };
}

/** A host's next full report behind `after`, and when it came. */
export async function nextFullIn(
  db: Pick<Db, 'selectFrom'>,
  hostId: string,
  after: number,
): Promise<{ readonly seq: number; readonly at: Instant } | undefined> {
  const row = await db
    .selectFrom('report')
    .select(['seq', 'received_at'])
    .where('host_id', '=', hostId)
    .where('seq', '>', after)
    .where('copy', '=', 0)
    .where('kind', '=', 'full')
    .orderBy('seq')
    .limit(1)
    .executeTakeFirst();
  return row && { seq: row.seq, at: row.received_at };
}

/** What the report's entry says, with how it was taken. */
async function reportsIn(db: Db, hostId: string, range: Range, order: Order, limit: number): Promise<ReportEntry[]> {
  const direction = order === 'newest' ? 'desc' : 'asc';
  const rows = await entriesOf(db, hostId, 'report')
    .select(['log_entry.log', 'log_entry.idx', 'log_entry.at', 'log_entry.entry'])
    .where('log_entry.at', '>=', range.from)
    .where('log_entry.at', '<=', range.to)
    .orderBy('log_entry.at', direction)
    .orderBy('log_entry.log', direction)
    .orderBy('log_entry.idx', direction)
    .limit(limit)
    .execute();
  const told = rows.flatMap(({ log, idx, at, entry }) => {
    const said = parseEntry(entry);
    return said.kind === 'report' && said.facts.copy === 0
      ? [{ log, index: idx, at, seq: said.facts.seq, report: said.facts.report }]
      : [];
  });
  if (told.length === 0) return [];
  const kept = await db
    .selectFrom('report')
    .select(['seq', 'kind', 'class', 'started_at'])
    .where('host_id', '=', hostId)
    .where(
      'seq',
      'in',
      told.map(({ seq }) => seq),
    )
    .where('copy', '=', 0)
    .execute();
  const bySeq = new Map(kept.map((row) => [row.seq, row]));
  return told.map((one) => {
    const row = bySeq.get(one.seq);
    return {
      ...one,
      kept:
        row === undefined ? null : { kind: row.kind, class: row.class as ChallengeClass, startedAt: row.started_at },
    };
  });
}

async function placesOf(db: Db, refs: readonly string[]): Promise<Map<string, LogPlace>> {
  const found = new Map<string, LogPlace>();
  for (let from = 0; from < refs.length; from += AT_ONCE) {
    const rows = await db
      .selectFrom('log_payload')
      .innerJoin('log_entry', 'log_entry.id', 'log_payload.id')
      .select(['log_payload.ref', 'log_entry.log', 'log_entry.idx', 'log_entry.at'])
      .where('log_payload.ref', 'in', refs.slice(from, from + AT_ONCE))
      .execute();
    for (const { ref, log, idx, at } of rows) found.set(ref, { log, index: idx, at });
  }
  return found;
}

/** Hosts by id that have a stay under this name which reaches into the period. */
function hostsUnder(
  db: Db,
  image: string,
  { from, to, scope }: Parameters<Postures['hostsOn']>[1],
  after: string,
  limit: number,
): Promise<{ readonly host_id: string }[]> {
  let query = db
    .selectFrom('host_stay')
    .innerJoin('host', 'host.id', 'host_stay.host_id')
    .innerJoin('pulse', 'pulse.host_id', 'host_stay.host_id')
    .select('host_stay.host_id')
    .distinct()
    .where('host_stay.image', '=', image)
    .where('host_stay.host_id', '>', after)
    .where('host_stay.from_at', '<', to)
    // Whoever was retired while it ran ran it until it was last heard.
    .where(
      sql<boolean>`(host_stay.to_at >= ${from} or (host_stay.to_at is null
        and (host.state <> 'retired' or pulse.last_received >= ${from})))`,
    )
    .orderBy('host_stay.host_id')
    .limit(limit);
  if (scope !== null) query = query.where(within(sql.ref('host.host_group'), scope));
  return query.execute();
}

async function staysOn(db: Db, images: readonly string[], ids: readonly string[], { from, to }: Range) {
  const stays = new Map<string, HostOnImage['stays'][number][]>(ids.map((id) => [id, []]));
  if (ids.length === 0) return stays;
  const rows = await db
    .selectFrom('host_stay')
    .select(['host_id', 'from_at', 'seq', 'to_at'])
    .where('host_id', 'in', [...ids])
    .where('image', 'in', [...images])
    .where('from_at', '<', to)
    .execute();
  for (const { host_id, from_at, seq, to_at } of rows)
    if (to_at === null || to_at >= from)
      stays.get(host_id)!.push({ from: from_at, seq: seq === 0 ? null : seq, to: to_at });
  return stays;
}

export function posturesOn(engine: Engine): Postures {
  return {
    judged: (hostId, range, order, limit) => engine.listing((db) => judgedIn(db, hostId, range, order, limit)),
    judgedAt: (hostId, times) =>
      engine.listing(async (db) => {
        const found: JudgedEntry[] = [];
        for (let from = 0; from < times.length; from += AT_ONCE)
          found.push(...(await judgedIn(db, hostId, times.slice(from, from + AT_ONCE), 'oldest', 10 * AT_ONCE)));
        return found;
      }),
    reports: (hostId, range, order, limit) => engine.listing((db) => reportsIn(db, hostId, range, order, limit)),
    nextFull: (hostId, after) => engine.listing((db) => nextFullIn(db, hostId, after)),
    late: (hostId, madeBy, limit) =>
      engine.listing(async (db) => {
        const rows = await db
          .selectFrom('report')
          .select(['seq', 'kind', 'started_at', 'received_at'])
          .where('host_id', '=', hostId)
          .where('class', '<>', sql.lit('live'))
          .where('started_at', '<=', madeBy)
          .where('copy', '=', 0)
          .orderBy('started_at', 'desc')
          .orderBy('seq', 'desc')
          .limit(limit)
          .execute();
        return rows.map(({ seq, kind, started_at, received_at }) => ({
          seq,
          kind,
          startedAt: started_at,
          receivedAt: received_at,
        }));
      }),
    episodes: (hostId, { openedBy, endedFrom }, limit) =>
      engine.listing(async (db) => {
        const rows = await db
          .selectFrom('episode')
          .selectAll()
          .where('host_id', '=', hostId)
          .where('opened_at', '<=', openedBy)
          .where((eb) => eb.or([eb('closed_at', 'is', null), eb('closed_at', '>=', endedFrom)]))
          .limit(limit)
          .execute();
        return rows.map((row) => ({
          groupId: row.group_id,
          n: row.n,
          openedAt: row.opened_at,
          openedSeq: row.opened_seq,
          closedAt: row.closed_at,
          closedSeq: row.closed_seq,
          reason: row.reason,
        }));
      }),
    groups: (ids) =>
      engine.listing(async (db) => {
        const found = new Map<string, { id: string; rule: string; kind: string; subject: string; signature: string }>();
        for (let from = 0; from < ids.length; from += AT_ONCE) {
          const rows = await db
            .selectFrom('finding_group')
            .select(['id', 'rule', 'kind', 'subject', 'signature'])
            .where('id', 'in', ids.slice(from, from + AT_ONCE))
            .execute();
          for (const { signature, ...row } of rows)
            found.set(row.id, { ...row, signature: String(JSON.parse(signature)) });
        }
        return found;
      }),
    acts: (object, until, limit) =>
      engine.listing(async (db) => {
        // Ids sort by time: a time is a bound of the index.
        const rows = await db
          .selectFrom('audit')
          .selectAll()
          .where('object', '=', object)
          .where('id', '<', `a_${sortableTime(until + 1)}`)
          .orderBy('id', 'desc')
          .limit(limit)
          .execute();
        return rows.map(entryOf);
      }),
    nextActs: (object, after, actions, limit) =>
      engine.listing(async (db) => {
        const rows = await db
          .selectFrom('audit')
          .selectAll()
          .where('object', '=', object)
          .where('id', '>=', `a_${sortableTime(after + 1)}`)
          .where('action', 'in', [...actions])
          .orderBy('id')
          .limit(limit)
          .execute();
        return rows.map(entryOf);
      }),
    places: (refs) => engine.listing((db) => placesOf(db, refs)),
    policyAt: (at) =>
      engine.listing(async (db) => {
        const row = await db
          .selectFrom('policy_version')
          .select(['n', 'digest', 'name', 'created_at'])
          .where('created_at', '<=', at)
          .orderBy('n', 'desc')
          .limit(1)
          .executeTakeFirst();
        return row && { n: row.n, digest: row.digest as Digest, name: row.name, createdAt: row.created_at };
      }),
    waiversIn: ({ from, to }, { cursor, limit }) =>
      engine.listing(async (listed) => {
        let query = (listed as unknown as Kysely<Tables>)
          .selectFrom('waiver')
          .selectAll()
          .where('state', 'in', ['approved', 'revoked'])
          // Only ever moved to later: who was revoked keeps the end that was approved.
          .where('expires_at', '>', from)
          .where(sql<boolean>`coalesce(starts_at, decided_at, 0) < ${to}`)
          .orderBy('n', 'desc')
          .limit(limit + 1);
        if (cursor !== null) query = query.where('n', '<', cursor.n);
        return pageOf(await query.execute(), limit, waiverOf, ({ n }) => ({ n }));
      }),
    hostsOn: (images, about, { cursor, limit }) =>
      engine.listing(async (db) => {
        const lists = await Promise.all(
          images.map((image) => hostsUnder(db, image, about, cursor?.id ?? '', limit + 1)),
        );
        // A host may have named the image twice, in two ways.
        const rows = merged(lists, (a, b) => a.host_id < b.host_id, images.length * (limit + 1));
        const ids = [...new Set(rows.map(({ host_id }) => host_id))].slice(0, limit + 1);
        const { items, next } = pageOf(
          ids,
          limit,
          (id) => id,
          (id) => ({ id }),
        );
        if (items.length === 0) return { items: [], next };
        const stays = await staysOn(db, images, items, about);
        const hosts = await db
          .selectFrom('host')
          .innerJoin('pulse', 'pulse.host_id', 'host.id')
          .select(['host.id', 'host.name', 'host.state', 'host.host_group', 'pulse.last_received'])
          .where('host.id', 'in', items)
          .execute();
        const byId = new Map(hosts.map((host) => [host.id, host]));
        return {
          items: items.map((id) => {
            const { name, state, host_group, last_received } = byId.get(id)!;
            return { id, name, state, group: host_group, stays: stays.get(id)!, heardAt: last_received };
          }),
          next,
        };
      }),
  };
}

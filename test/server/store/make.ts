/** Small makers for store tests: hosts, reports and findings, the same each time. */
import { sql } from 'kysely';
import { createHash } from 'node:crypto';
import type { Digest } from '#src/digest.ts';
import type { Chain, Enrolment, FindingChange, Freshness, Host, Severity } from '#server/store/records.ts';
import type { Engine } from '#server/store/engine.ts';
import { NOTICE_EVENTS, type Channel, type Routing } from '#server/store/noticerecords.ts';
import { DIALECTS, MIGRATIONS } from '#server/store/migrate.ts';
import type { HostWrite, Store } from '#server/store/store.ts';

export const T0 = Date.UTC(2026, 0, 5, 12);
export const MINUTE = 60_000;
export const DAY = 86_400_000;
export const ADMIN = { actor: 'admin', at: T0 } as const;

export const sha = (text: string) => createHash('sha256').update(text).digest('hex');
export const digest = (text: string) => `sha256:${sha(text)}` as Digest;
export const hostId = (n: number | string) =>
  `h_${sha(`host ${n}`).slice(0, 26).replaceAll('0', 'g').replaceAll('1', 'h').replaceAll('8', 'i').replaceAll('9', 'j')}`;
export const groupId = (n: number | string) => `fg_${sha(`group ${n}`).slice(0, 26)}`;

export function enrolment(n: number | string, more: Partial<Enrolment> = {}): Enrolment {
  return {
    hostId: hostId(n),
    publicKey: sha(`key ${n}`),
    machineId: sha(`machine ${n}`).slice(0, 32),
    name: `host-${n}`,
    interval: 15 * MINUTE,
    lateAfter: T0 + 30 * MINUTE,
    silentAfter: T0 + 60 * MINUTE,
    ...more,
  };
}

/** An active host, admitted without a token. */
export async function admit(store: Store, n: number | string, more: Partial<Enrolment> = {}): Promise<Host> {
  const outcome = await store.hosts.admit({ ...enrolment(n, more), group: null, labels: {} }, ADMIN);
  if (outcome.kind !== 'enrolled') throw new Error(`host ${n}: ${outcome.kind}`);
  return outcome.host;
}

export function freshness(at: number): Freshness {
  return {
    liveAt: at,
    interval: 15 * MINUTE,
    lateAfter: at + 30 * MINUTE,
    silentAfter: at + 60 * MINUTE,
    silenceNoted: false,
  };
}

function chainAfter(chain: Chain, kind: 'full' | 'same', seq: number, digest: Digest): Chain {
  return {
    ...chain,
    headSeq: seq,
    full: kind === 'full' ? { seq, digest } : chain.full,
    sameCount: kind === 'full' ? 0 : chain.sameCount + 1,
    recent: [...chain.recent, { seq, digest }].slice(-16),
  };
}

/** The host's next report as a write. `tag` makes its bytes, and so its digest, its own. */
export function report(host: Host, kind: 'full' | 'same', at = T0, tag = ''): HostWrite {
  const seq = host.chain.headSeq + 1;
  const envelope = Buffer.from(`${host.id} ${seq} ${kind} ${tag}`);
  const own = digest(envelope.toString());
  return {
    hostId: host.id,
    expectRevision: host.revision,
    at,
    report: {
      seq,
      kind,
      digest: own,
      class: 'live',
      startedAt: at - 1000,
      receivedAt: at,
      answer: JSON.stringify({ accepted: seq }),
      envelope,
    },
    chain: chainAfter(host.chain, kind, seq, own),
    last: { seq, kind, class: 'live', startedAt: at - 1000, receivedAt: at },
    freshness: freshness(at),
  };
}

export function present(n: number | string, severity: Severity = 3, more: { subject?: string } = {}): FindingChange {
  return {
    kind: 'present',
    group: {
      id: groupId(n),
      rule: 'usr-modified',
      kind: 'drift',
      subject: more.subject ?? `/usr/lib/file-${n}`,
      signature: { change: 'modified', attributes: ['sha256'] },
    },
    severity,
    detail: { expected: { sha256: 'a' }, actual: { sha256: String(n) } },
  };
}
export const absent = (n: number | string): FindingChange => ({
  kind: 'absent',
  groupId: groupId(n),
  reason: 'reverted',
});

/** Reads the host, makes a write of it, commits it, and answers the result; throws unless it was committed. */
export async function commit(store: Store, id: string, make: (host: Host) => HostWrite) {
  const host = await store.hosts.get(id);
  if (host === undefined) throw new Error(`no host ${id}`);
  const [result] = await store.intake([make(host)]);
  if (result?.kind !== 'committed') throw new Error(`${id}: ${result?.kind}`);
  return result;
}

/** All items of a list, page by page. */
export async function walk<Item, Cursor>(
  list: (cursor: Cursor | null) => Promise<{ readonly items: readonly Item[]; readonly next: Cursor | null }>,
): Promise<Item[]> {
  const items: Item[] = [];
  for (let cursor: Cursor | null = null; ;) {
    const page = await list(cursor);
    items.push(...page.items);
    if (page.next === null) return items;
    cursor = page.next;
  }
}

/** Rebuilds the tables as an older build made them, with the rows that it would have: what an upgrade begins from. */
export async function backTo(engine: Engine, version: number): Promise<void> {
  const isSqlite = engine.kind === 'sqlite';
  const dialect = DIALECTS[engine.kind];
  const listed = isSqlite
    ? sql<{ name: string }>`select name from sqlite_master where type = 'table' and name not like 'sqlite_%'`
    : sql<{ name: string }>`select tablename as name from pg_tables where schemaname = current_schema()`;
  await engine.write(async ({ db }) => {
    const { rows } = await listed.execute(db);
    const kept = new Map<string, readonly Record<string, unknown>[]>();
    for (const { name } of rows.filter((row) => row.name !== 'store_schema')) {
      kept.set(name, (await sql<Record<string, unknown>>`select * from ${sql.table(name)}`.execute(db)).rows);
      await sql`drop table ${sql.table(name)}`.execute(db);
    }
    for (const schema of MIGRATIONS.slice(0, version))
      for (const statement of schema(dialect)) await sql.raw(statement).execute(db);
    await sql`delete from store_schema where version > ${version}`.execute(db);
    for (const [table, old] of kept) {
      const columns = isSqlite
        ? (await sql<{ name: string }>`select name from pragma_table_info(${table})`.execute(db)).rows
        : (
            await sql<{ name: string }>`select column_name as name from information_schema.columns
              where table_schema = current_schema() and table_name = ${table}`.execute(db)
          ).rows;
      const names = columns.map(({ name }) => name);
      for (const row of old)
        if (names.length > 0)
          await sql`insert into ${sql.table(table)} (${sql.join(names.map((name) => sql.ref(name)))})
            values (${sql.join(names.map((name) => row[name] ?? null))}) on conflict do nothing`.execute(db);
    }
  });
}

/** A webhook that hears of everything from the first moment on. */
export function channel(name: string, routing: Partial<Routing> = {}): Channel {
  return {
    id: `c_${name}`,
    name,
    kind: 'webhook',
    routing: { events: NOTICE_EVENTS, minSeverity: 0, hosts: { groups: null, labels: [] }, graceMs: 0, ...routing },
    options: {},
    secret: { url: 'https://receiver.example/s3cret' },
    state: 'active',
    revision: 1,
    createdAt: T0,
    createdBy: 'admin',
    disabledAt: null,
    disabledWhy: null,
    conditionError: null,
  };
}

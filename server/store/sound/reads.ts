/** What `bootproof server fsck` reads: rows that break a rule, and page by page what only their bytes can tell. */
import { sql, type Kysely } from 'kysely';
import type { Digest } from '#src/digest.ts';
import type { Instant } from '#src/clock.ts';
import { FSCK_PAGE, FSCK_PAGE_BYTES } from '#src/limits.ts';
import type { Engine } from '../engine.ts';
import { hostOf, hostQuery } from '../hostrow.ts';
import type { Host, Manifest } from '../records.ts';
import type { Tables } from '../tables.ts';
import type { Rule } from './rule.ts';

export type Broken = { readonly key: string; readonly found: string };

/** A host with the newest `same` as it was received. */
export type SoundHost = {
  readonly host: Host;
  readonly same: { readonly seq: number; readonly digest: Digest; readonly envelope: Uint8Array } | null;
};

export type SoundReport = {
  readonly hostId: string;
  readonly seq: number;
  readonly copy: number;
  readonly kind: string;
  readonly digest: Digest;
  /** Empty where it was purged. */
  readonly envelope: Uint8Array;
};

export type SoundBlob = { readonly key: string; readonly encoding: string; readonly bytes: Uint8Array };

export interface Soundness {
  /** What the database itself finds wrong with its file; none on PostgreSQL (docs/durability.md 3.4). */
  damage(limit: number): Promise<readonly string[]>;
  /** The first rows that break a rule, by key, and how many there are. */
  broken(rule: Rule, limit: number): Promise<{ readonly rows: readonly Broken[]; readonly count: number }>;
  /** When the database last took something in; null where it never did. */
  lastSeen(): Promise<Instant | null>;
  hosts(): AsyncGenerator<readonly SoundHost[]>;
  /** Kept reports of hosts between two ids, both included, by host, number and copy. */
  reports(first: string, last: string): AsyncGenerator<SoundReport>;
  /** What is kept under these numbers: first envelopes, forks, and the newest `same`. */
  kept(
    keys: readonly { readonly hostId: string; readonly seq: number }[],
  ): Promise<readonly Pick<SoundReport, 'hostId' | 'seq' | 'digest'>[]>;
  /** Whether a break in a host's chain was ever told. */
  hadGap(hostId: string): Promise<boolean>;
  /** Blobs one after the other. */
  blobs(): AsyncGenerator<SoundBlob>;
  /** Texts of /etc, likewise: under their digest in hex. */
  texts(): AsyncGenerator<{ readonly sha256: string; readonly bytes: Uint8Array }>;
  /** Keys of blobs that rows name, with who names them. */
  named(): AsyncGenerator<readonly { readonly by: string; readonly table: string; readonly key: string }[]>;
  /** Those of these blobs that are there. */
  standing(keys: readonly string[]): Promise<ReadonlySet<string>>;
  /** Exported bundles that are finished. */
  exports(): Promise<
    readonly { readonly id: string; readonly attempts: number; readonly sha256: string; readonly bytes: number }[]
  >;
}

type Db = Kysely<Tables>;

export function soundnessOn(engine: Engine): Soundness {
  const read = <T>(work: (db: Db) => Promise<T>): Promise<T> => engine.reading((db) => work(db as unknown as Db));
  return {
    damage: (limit) =>
      read(async (db) => {
        if (engine.kind !== 'sqlite') return [];
        const { rows } = await sql<{ integrity_check: string }>`${sql.raw(`pragma integrity_check(${limit})`)}`.execute(
          db,
        );
        return rows
          .flatMap(({ integrity_check: text }) => text.split('\n'))
          .filter((line) => line !== 'ok' && !line.startsWith('***'));
      }),
    broken: (rule, limit) => read((db) => brokenIn(db, rule, limit)),
    lastSeen: () =>
      read(async (db) => {
        const { rows } = await sql<{ at: number | null }>`select max(at) as at from (
          select max(last_received) as at from pulse union all select max(at) from log_pending
          union all select max(at) from audit) as seen`.execute(db);
        return rows[0]?.at ?? null;
      }),
    hosts: () =>
      pages((after) =>
        read(async (db) => {
          const rows = await hostQuery(db)
            .select(['pulse.same_digest', 'pulse.same_envelope'])
            .where('host.id', '>', after)
            .orderBy('host.id')
            .limit(FSCK_PAGE)
            .execute();
          const items = rows.map((row): SoundHost => ({
            host: hostOf(row, row),
            same:
              row.same_seq === null
                ? null
                : { seq: row.same_seq, digest: row.same_digest as Digest, envelope: row.same_envelope! },
          }));
          return { items, last: rows.at(-1)?.id };
        }),
      ),
    reports: (first, last) => reportsIn(read, first, last),
    kept: (keys) =>
      engine.reading(async (_, select) => {
        const rows = await select(
          'report',
          ['host_id', 'seq', 'digest'],
          ['host_id', 'seq'],
          keys.map(({ hostId, seq }) => ({ host_id: hostId, seq })),
        );
        const newest = await select(
          'pulse',
          ['host_id', 'same_seq', 'same_digest'],
          ['host_id'],
          [...new Set(keys.map(({ hostId }) => hostId))].map((host_id) => ({ host_id })),
        );
        const sames = newest.map(({ host_id, same_seq, same_digest }) => ({
          host_id,
          seq: same_seq,
          digest: same_digest,
        }));
        return [...rows, ...sames].flatMap(({ host_id, seq, digest }) =>
          seq === null || digest === null ? [] : [{ hostId: host_id, seq, digest: digest as Digest }],
        );
      }),
    hadGap: (hostId) =>
      read(async (db) => {
        const { rows } = await sql<{ id: string }>`select g.id from finding_group as g
          where g.kind = 'report' and g.signature like '%chain-gap%' and (
            exists (select 1 from finding as f where f.host_id = ${hostId} and f.group_id = g.id)
            or exists (select 1 from finding_archive as a where a.host_id = ${hostId} and a.group_id = g.id))`.execute(
          db,
        );
        return rows.length > 0;
      }),
    blobs: async function* () {
      for await (const keys of pages((after) =>
        read(async (db) => {
          const rows = await db
            .selectFrom('blob')
            .select('key')
            .where('key', '>', after)
            .orderBy('key')
            .limit(FSCK_PAGE)
            .execute();
          return { items: rows.map(({ key }) => key), last: rows.at(-1)?.key };
        }),
      ))
        for (const key of keys)
          yield await read((db) => db.selectFrom('blob').selectAll().where('key', '=', key).executeTakeFirstOrThrow());
    },
    texts: async function* () {
      for await (const rows of pages((after) =>
        read(async (db) => {
          const items = await db
            .selectFrom('etc_text')
            .selectAll()
            .where('sha256', '>', after)
            .orderBy('sha256')
            .limit(FSCK_PAGE)
            .execute();
          return { items, last: items.at(-1)?.sha256 };
        }),
      ))
        yield* rows;
    },
    named: () => namedIn(read),
    standing: (keys) =>
      engine.reading(async (_, select) => {
        const rows = await select(
          'blob',
          ['key'],
          ['key'],
          keys.map((key) => ({ key })),
        );
        return new Set(rows.map(({ key }) => key));
      }),
    exports: () =>
      read(async (db) => {
        const rows = await db
          .selectFrom('evidence_export')
          .select(['id', 'attempts', 'sha256', 'bytes'])
          .where('state', '=', 'done')
          .orderBy('id')
          .execute();
        return rows.flatMap(({ sha256, bytes, ...row }) =>
          sha256 === null || bytes === null ? [] : [{ ...row, sha256, bytes }],
        );
      }),
  };
}

type Read = <T>(work: (db: Db) => Promise<T>) => Promise<T>;

async function* pages<Item>(
  page: (after: string) => Promise<{ readonly items: readonly Item[]; readonly last: string | undefined }>,
): AsyncGenerator<readonly Item[]> {
  for (let after = ''; ;) {
    const { items, last } = await page(after);
    if (last === undefined) return;
    yield items;
    after = last;
  }
}

async function brokenIn(db: Db, { key, from, where, found }: Rule, limit: number) {
  const { rows } = await sql<{ key: string | number; found: string | null }>`
    select ${sql.raw(key)} as key, ${sql.raw(found ?? "''")} as found from ${sql.raw(from)}
    where ${sql.raw(where)} order by 1 limit ${limit}`.execute(db);
  const told = rows.map((row) => ({ key: String(row.key), found: row.found ?? '' }));
  if (told.length < limit) return { rows: told, count: told.length };
  const all = await sql<{ count: number }>`select count(*) as count from ${sql.raw(from)}
    where ${sql.raw(where)}`.execute(db);
  return { rows: told, count: all.rows[0]!.count };
}

/** By key first, then as many envelopes at a time as memory is meant for. */
async function* reportsIn(read: Read, first: string, last: string): AsyncGenerator<SoundReport> {
  let after: readonly [string, number, number] = [first, -1, -1];
  for (;;) {
    const [hostId, seq, copy] = after;
    const heads = await read((db) =>
      db
        .selectFrom('report')
        .select(['host_id', 'seq', 'copy', sql<number>`length(envelope)`.as('bytes')])
        .where(sql<boolean>`(host_id, seq, copy) > (${hostId}, cast(${seq} as bigint), cast(${copy} as bigint))`)
        .where('host_id', '<=', last)
        .orderBy('host_id')
        .orderBy('seq')
        .orderBy('copy')
        .limit(FSCK_PAGE)
        .execute(),
    );
    if (heads.length === 0) return;
    for (let at = 0; at < heads.length;) {
      let end = at;
      for (let bytes = 0; end < heads.length && (end === at || bytes + heads[end]!.bytes <= FSCK_PAGE_BYTES); end++)
        bytes += heads[end]!.bytes;
      const [from, to] = [heads[at]!, heads[end - 1]!];
      const rows = await read((db) =>
        db
          .selectFrom('report')
          .select(['host_id', 'seq', 'copy', 'kind', 'digest', 'envelope'])
          .where(
            sql<boolean>`(host_id, seq, copy) >= (${from.host_id}, cast(${from.seq} as bigint), cast(${from.copy} as bigint))
              and (host_id, seq, copy) <= (${to.host_id}, cast(${to.seq} as bigint), cast(${to.copy} as bigint))`,
          )
          .orderBy('host_id')
          .orderBy('seq')
          .orderBy('copy')
          .execute(),
      );
      for (const { host_id, digest, ...row } of rows) yield { ...row, hostId: host_id, digest: digest as Digest };
      at = end;
    }
    const end = heads.at(-1)!;
    after = [end.host_id, end.seq, end.copy];
  }
}

async function* namedIn(read: Read): ReturnType<Soundness['named']> {
  for await (const rows of pages((after) =>
    read(async (db) => {
      const items = await db
        .selectFrom('manifest')
        .select(['image', 'rule', 'trees'])
        .where(sql<boolean>`image || ' ' || rule > ${after}`)
        .orderBy(sql`image || ' ' || rule`)
        .limit(FSCK_PAGE)
        .execute();
      const last = items.at(-1);
      return { items, last: last && `${last.image} ${last.rule}` };
    }),
  ))
    yield rows.flatMap(({ image, rule, trees }) => {
      const { usr, etc } = JSON.parse(trees) as Manifest['trees'];
      return [usr, etc].flatMap(({ mainBlob, extraBlob }) =>
        [mainBlob, extraBlob].map((key) => ({ by: `${image} ${rule}`, table: 'manifest', key })),
      );
    });
  for await (const rows of pages((after) =>
    read(async (db) => {
      const items = await db
        .selectFrom('image_trust')
        .select(['image', 'kept', 'indexes'])
        .where('image', '>', after)
        .orderBy('image')
        .limit(FSCK_PAGE)
        .execute();
      return { items, last: items.at(-1)?.image };
    }),
  ))
    yield rows.flatMap(({ image, kept, indexes }) => {
      const signatures = JSON.parse(kept) as readonly { readonly manifest: string | null; readonly blob: string }[];
      const keys = [
        ...signatures.flatMap(({ manifest, blob }) => (manifest === null ? [blob] : [manifest, blob])),
        ...(JSON.parse(indexes) as string[]),
      ];
      return keys.map((key) => ({ by: image, table: 'image_trust', key }));
    });
}

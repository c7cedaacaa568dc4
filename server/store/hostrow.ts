/** Host records ⇄ the rows `host` and `pulse`. */
import assert from 'node:assert/strict';
import type { Kysely } from 'kysely';
import type { ReadonlyKysely } from 'kysely/readonly';
import type { Digest } from '#src/digest.ts';
import { CHAIN_BOOTS_MAX, CHAIN_GAPS_MAX, CHAIN_RECENT_MAX } from '#src/limits.ts';
import type { Column, Row } from './engine.ts';
import type * as r from './records.ts';
import type { HostRow, PulseRow, Tables } from './tables.ts';

/** Columns of `pulse` without the newest `same` itself: that is large, and only `reports` asks for it. */
export const PULSE_COLUMNS = [
  'host_id',
  'revision',
  'state',
  'verdict',
  'head_seq',
  'full_seq',
  'full_digest',
  'same_count',
  'recent',
  'doubts',
  'last_seq',
  'last_kind',
  'last_class',
  'last_started',
  'last_received',
  'live_at',
  'report_interval',
  'late_after',
  'silent_after',
  'silence_noted',
  'same_seq',
  'same_received',
] as const satisfies readonly Column<'pulse'>[];
export type Pulse = Row<'pulse', (typeof PULSE_COLUMNS)[number]>;

const RECENT_BYTES = 38;

/** Six bytes of sequence number and the 32 of the digest, entry after entry. */
function packRecent(recent: r.Chain['recent']): Uint8Array {
  assert(recent.length <= CHAIN_RECENT_MAX, 'a chain remembers too many reports');
  const out = Buffer.alloc(RECENT_BYTES * recent.length);
  recent.forEach(({ seq, digest }, i) => {
    out.writeUIntBE(seq, RECENT_BYTES * i, 6);
    out.write(digest.slice('sha256:'.length), RECENT_BYTES * i + 6, 'hex');
  });
  return out;
}

function unpackRecent(bytes: Uint8Array): r.Chain['recent'] {
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: all.length / RECENT_BYTES }, (_, i) => ({
    seq: all.readUIntBE(RECENT_BYTES * i, 6),
    digest: `sha256:${all.toString('hex', RECENT_BYTES * i + 6, RECENT_BYTES * (i + 1))}` as Digest,
  }));
}

type Doubts = Pick<r.Chain, 'boots' | 'gaps' | 'flags'>;

export function chainRow(chain: r.Chain) {
  assert(chain.boots.length <= CHAIN_BOOTS_MAX, 'a chain remembers too many boots');
  assert(chain.gaps.length <= CHAIN_GAPS_MAX, 'a chain remembers too many gaps');
  const doubts: Doubts = { boots: chain.boots, gaps: chain.gaps, flags: chain.flags };
  return {
    head_seq: chain.headSeq,
    full_seq: chain.full?.seq ?? null,
    full_digest: chain.full?.digest ?? null,
    same_count: chain.sameCount,
    recent: packRecent(chain.recent),
    doubts: JSON.stringify(doubts),
  } satisfies Partial<PulseRow>;
}

export const EMPTY_CHAIN: r.Chain = {
  headSeq: 0,
  full: null,
  sameCount: 0,
  boots: [],
  gaps: [],
  recent: [],
  flags: {},
};

export function lastRow(last: r.LastReport) {
  return {
    last_seq: last.seq,
    last_kind: last.kind,
    last_class: last.class,
    last_started: last.startedAt,
    last_received: last.receivedAt,
  } satisfies Partial<PulseRow>;
}

export function freshnessRow(freshness: r.Freshness) {
  return {
    live_at: freshness.liveAt,
    report_interval: freshness.interval,
    late_after: freshness.lateAfter,
    silent_after: freshness.silentAfter,
    silence_noted: freshness.silenceNoted ? 1 : 0,
  } satisfies Partial<PulseRow>;
}

export function standingRow(standing: r.Standing) {
  return {
    verdict: standing.verdict,
    rank: standing.rank,
    since: standing.since,
    integrity: standing.integrity,
    provenance: standing.provenance,
    allowed: standing.allowed,
    waived: standing.waived,
    reasons: JSON.stringify(standing.reasons),
    drift: standing.drift === null ? null : JSON.stringify(standing.drift),
    valid_until: standing.lapse?.validUntil ?? null,
    bare_verdict: standing.lapse?.verdict ?? null,
    bare_rank: standing.lapse?.rank ?? null,
    bare_integrity: standing.lapse?.integrity ?? null,
  } satisfies Partial<HostRow>;
}

/** A host as its two rows tell it. */
export function hostOf(host: HostRow, pulse: Omit<Pulse, 'host_id' | 'verdict' | 'state'>): r.Host {
  const doubts = JSON.parse(pulse.doubts) as Doubts;
  return {
    id: host.id,
    name: host.name,
    machineId: host.machine_id,
    publicKey: host.public_key,
    state: host.state as r.HostState,
    group: host.host_group,
    labels: JSON.parse(host.labels) as r.Labels,
    tokenId: host.token_id,
    createdAt: host.created_at,
    revision: pulse.revision,
    chain: {
      headSeq: pulse.head_seq,
      full: pulse.full_seq === null ? null : { seq: pulse.full_seq, digest: pulse.full_digest as Digest },
      sameCount: pulse.same_count,
      ...doubts,
      recent: unpackRecent(pulse.recent),
    },
    last: lastOf(pulse),
    facts: host.facts === null ? null : (JSON.parse(host.facts) as r.ReportFacts),
    images: { booted: host.image_booted, staged: host.image_staged, rollback: host.image_rollback },
    rule: host.rule,
    freshness: {
      liveAt: pulse.live_at,
      interval: pulse.report_interval,
      lateAfter: pulse.late_after,
      silentAfter: pulse.silent_after,
      silenceNoted: pulse.silence_noted === 1,
    },
    standing: {
      verdict: host.verdict,
      rank: host.rank,
      since: host.since,
      integrity: host.integrity,
      provenance: host.provenance,
      allowed: host.allowed,
      waived: host.waived,
      reasons: JSON.parse(host.reasons) as unknown,
      drift: host.drift === null ? null : (JSON.parse(host.drift) as NonNullable<r.Standing['drift']>),
      lapse:
        host.valid_until === null
          ? null
          : {
              validUntil: host.valid_until,
              verdict: host.bare_verdict!,
              rank: host.bare_rank!,
              integrity: host.bare_integrity!,
            },
    },
    counters: {
      open: [host.open0, host.open1, host.open2, host.open3, host.open4],
      acknowledged: host.acknowledged,
      waived: host.waived_findings,
    },
  };
}

type LastColumns = Pick<PulseRow, 'last_seq' | 'last_kind' | 'last_class' | 'last_started' | 'last_received'>;

function lastOf(pulse: LastColumns): r.LastReport | null {
  if (pulse.last_seq === null) return null;
  return {
    seq: pulse.last_seq,
    kind: pulse.last_kind as r.LastReport['kind'],
    class: pulse.last_class as r.ChallengeClass,
    startedAt: pulse.last_started!,
    receivedAt: pulse.last_received!,
  };
}

type Db = ReadonlyKysely<Tables> | Kysely<Tables>;

/** Columns of `pulse` that the host's own row does not have. */
const PULSE_ONLY = PULSE_COLUMNS.filter(
  (c): c is Exclude<(typeof PULSE_COLUMNS)[number], 'host_id' | 'state' | 'verdict'> =>
    c !== 'host_id' && c !== 'state' && c !== 'verdict',
);

/** One statement, so that host and pulse are of the same moment. */
export function hostQuery(db: Db) {
  return (db as ReadonlyKysely<Tables>)
    .selectFrom('host')
    .innerJoin('pulse', 'pulse.host_id', 'host.id')
    .selectAll('host')
    .select(PULSE_ONLY.map((column) => `pulse.${column}` as const));
}

export async function hostIn(db: Db, id: string): Promise<r.Host | undefined> {
  const row = await hostQuery(db).where('host.id', '=', id).executeTakeFirst();
  return row === undefined ? undefined : hostOf(row, row);
}

export async function hostByKeyIn(db: Db, publicKey: string): Promise<r.Host | undefined> {
  const row = await hostQuery(db).where('host.public_key', '=', publicKey).executeTakeFirst();
  return row === undefined ? undefined : hostOf(row, row);
}

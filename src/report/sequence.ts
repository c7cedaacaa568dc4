/** Check 6 (docs/report.md 3.1): where a report stands in its host's chain. Pure; runs in the transaction that stores the report. */
import type { Instant } from '#src/clock.ts';
import type { Digest } from '#src/digest.ts';
import { CHAIN_BOOTS_MAX, CHAIN_GAPS_MAX, CHAIN_RECENT_MAX } from '#src/limits.ts';
import type { Report } from './report.ts';

export type Range = { readonly from: number; readonly to: number };

/** What a server remembers of a host's chain, in one bounded record. */
export type Chain = {
  /** Highest accepted sequence number; 0 before the first. */
  readonly headSeq: number;
  /** The last accepted full report that advanced the head; null before the first. */
  readonly full: { readonly seq: number; readonly digest: Digest } | null;
  /** `count` of the newest `same` on that full report. */
  readonly sameCount: number;
  /** Boot ids by when they were last seen, newest last. */
  readonly boots: readonly string[];
  /** Numbers below the head that never came, rising; of more than `CHAIN_GAPS_MAX` the oldest are forgotten. */
  readonly gaps: readonly Range[];
  /** Envelope digests of the newest accepted reports, newest last. */
  readonly recent: readonly { readonly seq: number; readonly digest: Digest }[];
};

export const EMPTY_CHAIN: Chain = { headSeq: 0, full: null, sameCount: 0, boots: [], gaps: [], recent: [] };

/** The report as check 6 sees it. */
export type Placed = {
  readonly report: Report;
  readonly digest: Digest;
  /** When the challenge that it echoes was issued, if it was ours. */
  readonly issuedAt: Instant | null;
  /** It came by file. */
  readonly carried: boolean;
};

/** What the chain is read with. */
export type ChainState = {
  readonly chain: Chain;
  /** Digest of the envelope that is stored under this report's number, if any still is. */
  readonly kept: Digest | null;
  /** The newest accepted report: begin of its scan by the host's clock, receipt by the server's. */
  readonly last: { readonly startedAt: Instant; readonly receivedAt: Instant } | null;
};

/** Numbers that are missing below a report, and whether the report itself says that they were dropped. */
export type Gap = { readonly missing: Range | null; readonly stated: boolean };

export type Place =
  | {
      readonly kind: 'advance';
      readonly chain: Chain;
      /** Null where the report follows the one before without a break. */
      readonly gap: Gap | null;
      readonly cloned: boolean;
      /** False for a `same` whose full report is not the last accepted. */
      readonly fullKnown: boolean;
    }
  | { readonly kind: 'history'; readonly chain: Chain }
  | { readonly kind: 'replay' }
  | { readonly kind: 'forked' }
  /** Taken before, and neither its bytes nor their digest are kept: nobody can say whether these are the same. */
  | { readonly kind: 'forgotten' };

export function placeReport(placed: Placed, state: ChainState): Place {
  const { chain } = state;
  const { seq } = placed.report;
  if (seq > chain.headSeq) return advance(placed, chain);
  const gap = chain.gaps.find(({ from, to }) => from <= seq && seq <= to);
  if (gap !== undefined)
    return {
      kind: 'history',
      chain: { ...chain, gaps: closeGap(chain.gaps, gap, seq), boots: withEarlier(placed, chain) },
    };
  const known = chain.recent.find((entry) => entry.seq === seq)?.digest ?? state.kept;
  if (known !== null) return { kind: known === placed.digest ? 'replay' : 'forked' };
  // Called a replay, other bytes would be acknowledged and kept nowhere (docs/report.md 3.1).
  return { kind: cannotBeOld(placed, state) ? 'forked' : 'forgotten' };
}

function advance({ report, digest }: Placed, chain: Chain): Place {
  const missing = report.seq > chain.headSeq + 1 ? { from: chain.headSeq + 1, to: report.seq - 1 } : null;
  const fullKnown = report.kind === 'full' || report.full === chain.full?.digest;
  const broken =
    report.kind === 'full'
      ? report.previous !== (chain.full?.digest ?? null)
      : fullKnown && missing === null && report.count !== chain.sameCount + 1;
  const lastBoot = chain.boots.at(-1);
  return {
    kind: 'advance',
    gap: missing === null && !broken ? null : { missing, stated: isStated(missing, report.dropped) },
    // A boot id that came back after another one: two machines take turns. A new one alone is a reboot.
    cloned: report.bootId !== lastBoot && chain.boots.includes(report.bootId),
    fullKnown,
    chain: {
      headSeq: report.seq,
      full: report.kind === 'full' ? { seq: report.seq, digest } : chain.full,
      sameCount: report.kind === 'full' ? 0 : fullKnown ? report.count : chain.sameCount,
      boots: [...chain.boots.filter((id) => id !== report.bootId), report.bootId].slice(-CHAIN_BOOTS_MAX),
      gaps: (missing === null ? chain.gaps : [...chain.gaps, missing]).slice(-CHAIN_GAPS_MAX),
      recent: [...chain.recent, { seq: report.seq, digest }].slice(-CHAIN_RECENT_MAX),
    },
  };
}

/** Whether `dropped` names every missing number. */
function isStated(missing: Range | null, dropped: readonly Range[]): boolean {
  if (missing === null) return false;
  let next = missing.from;
  for (const { from, to } of [...dropped].sort((a, b) => a.from - b.from))
    if (from <= next && next <= to) next = to + 1;
  return next > missing.to;
}

function closeGap(gaps: readonly Range[], gap: Range, seq: number): Range[] {
  return gaps.flatMap((range) =>
    range === gap
      ? [
          { from: gap.from, to: seq - 1 },
          { from: seq + 1, to: gap.to },
        ].filter(({ from, to }) => from <= to)
      : [range],
  );
}

/** The boot ids with that of a report from below the head: seen earlier than all above it, and not forgotten. */
function withEarlier({ report }: Placed, { boots }: Chain): readonly string[] {
  return boots.includes(report.bootId) || boots.length >= CHAIN_BOOTS_MAX ? boots : [report.bootId, ...boots];
}

/**
 * A known number whose digest is no longer kept: a repeat was sealed before the head was, so it cannot hold a challenge issued after the
 * head's receipt; nor a boot id that no report had, as long as none was forgotten. The host's clock decides nothing: it may have been set back
 * since, and a report that comes twice is no crime.
 */
function cannotBeOld({ report, issuedAt }: Placed, { chain, last }: ChainState): boolean {
  if (last !== null && issuedAt !== null && issuedAt > last.receivedAt) return true;
  return chain.boots.length < CHAIN_BOOTS_MAX && !chain.boots.includes(report.bootId);
}

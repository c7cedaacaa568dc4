/**
 * The evidence log as the store keeps it (docs/log.md). Two steps: what is to be logged is written with the act itself, into
 * `log_pending`; `sequence` gives it its place, in its own short transaction under the lock of the head's row.
 */
import type { Instant } from '#src/clock.ts';
import type { Checkpoint } from '#src/log/checkpoint.ts';
import type { NamedHead } from '#src/log/entry.ts';
import type { Act } from './records.ts';

export type LogHead = Checkpoint & {
  /** Counts origins, from 1. */
  readonly log: number;
  /** Of the key that signs it: lower-case hex. */
  readonly publicKey: string;
  readonly beganAt: Instant;
  /** The last head of the log before, where this one was begun after a restart. */
  readonly previous: NamedHead | null;
};

export type PastLog = LogHead & { readonly endedAt: Instant };

export type StoredCheckpoint = Checkpoint & {
  /** The signed note. */
  readonly note: string;
  readonly at: Instant;
};

export type LoggedEntry = {
  readonly log: number;
  readonly index: number;
  readonly id: string;
  readonly at: Instant;
  readonly kind: string;
  readonly hostId: string | null;
  /** The bytes that were hashed. */
  readonly entry: Uint8Array;
  readonly leaf: Uint8Array;
};

/** What an entry's digest is over, and where it lies (logpayload.ts). */
export type LogPayload = {
  readonly ref: string;
  /** Null once it was purged. */
  readonly salt: Uint8Array | null;
  /** Null where it was purged, or is not there any more. */
  readonly bytes: Uint8Array | null;
  readonly purgedAt: Instant | null;
  /** Under which reference the entry `purge` that tells of it was logged. */
  readonly purgedBy: string | null;
};

/** An entry `purge` with its payload; it may have no place yet. */
export type LoggedPurge = {
  readonly entry: Uint8Array;
  readonly salt: Uint8Array | null;
  readonly body: Uint8Array | null;
};

/** Where what was logged stands: it is in the log from the moment of its own commit, and has a place from the next sequencing on. */
export type Receipt = { readonly id: string; readonly log: number | null; readonly index: number | null };

export interface LogRows {
  /** Undefined until a server began one. */
  head(): Promise<LogHead | undefined>;
  /** Logs that were ended by a restart, oldest first. */
  past(): Promise<readonly PastLog[]>;
  /** Names under which checkpoints, cosignatures or timestamps are kept. */
  signedNames(): Promise<readonly string[]>;
  /** Begins the first log where there is none; answers the one that stands, whoever began it. */
  begin(wanted: Pick<LogHead, 'origin' | 'publicKey'>, at: Instant): Promise<LogHead>;
  /**
   * Ends the log that stands, if any, and begins one whose entry 0 names `previous`. `expect`: the number of the log that stands, null for none.
   * False where another stands, or the origin was used before.
   */
  restart(
    wanted: Pick<LogHead, 'origin' | 'publicKey'> & { readonly previous: NamedHead; readonly expect: number | null },
    by: Act,
  ): Promise<boolean>;
  /** What has no place yet: how much, and since when. */
  pending(): Promise<{ readonly count: number; readonly oldest: Instant | null }>;
  /**
   * Gives up to `limit` of what waits its place, oldest first, if `log` is the log that stands. Two callers at once never give a place twice.
   * Answers the head as it is then, and how many were added; undefined where another log stands, or none.
   */
  sequence(log: number, limit: number): Promise<{ readonly head: LogHead; readonly added: number } | undefined>;
  /**
   * Keeps what was signed. `forked`: another root of this size was kept before, and nothing is written; `ahead`: the tree is not that far,
   * or has another root there.
   */
  keepCheckpoint(checkpoint: StoredCheckpoint): Promise<'kept' | 'there' | 'forked' | 'ahead'>;
  newestCheckpoint(origin: string): Promise<StoredCheckpoint | undefined>;
  checkpoint(origin: string, size: number): Promise<StoredCheckpoint | undefined>;
  /** By size, from `from` on. */
  checkpoints(origin: string, from: number, limit: number): Promise<readonly StoredCheckpoint[]>;
  /** Hashes of a tile as far as they are there, 32 bytes each; undefined where there is none. */
  tile(log: number, level: number, n: number): Promise<Uint8Array | undefined>;
  /** Rows by index, from `from` on; where one is missing the next one follows. */
  entries(log: number, from: number, limit: number): Promise<readonly LoggedEntry[]>;
  /** By the entries' ids; payloads are read from where they lie, as they are now. */
  payloads(ids: readonly string[]): Promise<ReadonlyMap<string, LogPayload>>;
  /** Entries `purge` by their references. */
  purges(refs: readonly string[]): Promise<ReadonlyMap<string, LoggedPurge>>;
  /** Of payloads of judgements, those of which verdicts or episodes of findings say something else now: by their place in the list, and what. */
  judgedDiffers(payloads: readonly Uint8Array[]): Promise<readonly (readonly [number, string])[]>;
  /** What was logged under a reference (logpayload.ts), oldest first. */
  receipts(ref: string): Promise<readonly Receipt[]>;
}

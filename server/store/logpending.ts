/** Appending to the evidence log, in the transaction of what is logged. The place comes later (log.ts): here no row is waited for. */
import { hash, randomBytes } from 'node:crypto';
import { formatInstant, type Instant } from '#src/clock.ts';
import { encodeEntry, SALT_BYTES, saltedDigest, type LogEntry } from '#src/log/entry.ts';
import type { Tx } from './engine.ts';
import { sortableTime } from './ids.ts';
import type { LogPendingRow } from './tables.ts';

type Said<Entry> = Entry extends LogEntry ? Pick<Entry, 'kind' | 'host' | 'facts'> : never;

/** Something to be logged. */
export type Logged = {
  readonly at: Instant;
  /** Told to everybody who reads the log: no names, no paths, nothing that a person wrote. */
  readonly said: Said<LogEntry>;
  /** Where the payload lies (logpayload.ts). */
  readonly ref: string;
  /** What the entry's salted digest is over. */
  readonly payload: Uint8Array;
  /** The payload again where it lies nowhere else. */
  readonly body: Uint8Array | null;
};

export const nodeSha = (bytes: Uint8Array): Uint8Array => hash('sha256', bytes, 'buffer');
const PENDING = ['id', 'at', 'kind', 'host_id', 'entry', 'salt', 'ref', 'body'] as const;

/** `chance` is shared by what one call appends, so that it keeps its order. */
export function pendingOf({ at, said, ref, payload, body }: Logged, n: number, chance: string): LogPendingRow {
  const salt = randomBytes(SALT_BYTES);
  const digest = saltedDigest(salt, payload, nodeSha);
  return {
    id: `l_${sortableTime(at)}${chance}${n.toString(32).padStart(5, '0')}`,
    at,
    kind: said.kind,
    host_id: said.host,
    entry: encodeEntry({ v: 1, at: formatInstant(at), digest, ...said }),
    salt,
    ref,
    body,
  };
}

export async function appendLog(tx: Tx, logged: readonly Logged[]): Promise<void> {
  if (logged.length === 0) return;
  const chance = randomBytes(8).toString('hex');
  const rows = logged.map((one, n) => pendingOf(one, n, chance));
  await tx.bulk.insert('log_pending', PENDING, rows);
}

/** Appending to the evidence log, in the transaction of what is logged. The place comes later (log.ts): here no row is waited for. */
import { hash, randomBytes } from 'node:crypto';
import { formatInstant, type Instant } from '#src/clock.ts';
import { canonicalJson } from '#src/signing/canonical.ts';
import type { Tx } from './engine.ts';
import { sortableTime } from './ids.ts';
import type { LogPendingRow } from './tables.ts';

/** Something to be logged. */
export type Logged = {
  readonly kind: string;
  readonly at: Instant;
  readonly host: string | null;
  /** Small, and told to everybody who reads the log: no names, no paths, nothing that a person wrote. */
  readonly facts: Readonly<Record<string, unknown>>;
  /** Where the payload lies (logpayload.ts). */
  readonly ref: string;
  /** What the entry's salted digest is over. */
  readonly payload: Uint8Array;
  /** The payload again where it lies nowhere else. */
  readonly body: Uint8Array | null;
};

const SALT_BYTES = 32;
const PENDING = ['id', 'at', 'kind', 'host_id', 'entry', 'salt', 'ref', 'body'] as const;

/** `chance` is shared by what one call appends, so that it keeps its order. */
export function pendingOf(logged: Logged, n: number, chance: string): LogPendingRow {
  const { kind, at, host, facts, ref, payload, body } = logged;
  const salt = randomBytes(SALT_BYTES);
  const digest = `sha256:${hash('sha256', Buffer.concat([salt, payload]))}`;
  const entry = canonicalJson({ v: 1, at: formatInstant(at), kind, ...(host === null ? {} : { host }), digest, facts });
  return {
    id: `l_${sortableTime(at)}${chance}${n.toString(32).padStart(5, '0')}`,
    at,
    kind,
    host_id: host,
    entry: Buffer.from(entry),
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

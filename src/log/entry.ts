/**
 * What one entry of the evidence log says (docs/log.md 5): canonical JSON with small facts that everybody who reads the log may see, and a
 * salted digest of the payload that lies beside it. Salt and payload can be purged, and every proof holds.
 */
import { sha256 } from '@noble/hashes/sha2.js';
import { z } from 'zod';
import { fromBase64, toHex } from '#src/bytes.ts';
import { parseInstant } from '#src/clock.ts';
import { isDigest, type Digest } from '#src/digest.ts';
import { BootproofError } from '#src/error.ts';
import { LOG_ENTRY_BYTES_MAX } from '#src/limits.ts';
import { canonicalJson } from '#src/signing/canonical.ts';
import { HostId } from '#src/wire/hostid.ts';

export class EntryError extends BootproofError<
  /** Not an entry in its one spelling. */
  | 'ENTRY_SYNTAX'
  /** More bytes than the log's format holds. */
  | 'ENTRY_TOO_LARGE'
> {}

const Time = z
  .string()
  .refine((text) => parseInstant(text) !== undefined, 'expected RFC 3339 in UTC with milliseconds');
const Count = z.int().min(0);
const DigestText = z.custom<Digest>(
  (text) => typeof text === 'string' && isDigest(text),
  'expected sha256:<64 lower-case hex>',
);
const Word = z.string().regex(/^[a-z][a-z0-9-]{0,39}$/);

/** A tree by name, size and root, the root in base64 as in a checkpoint. */
export const NamedHead = z.strictObject({
  origin: z.string().min(1).max(256),
  size: Count,
  root: z.string().refine((text) => isHash(text), 'expected 32 bytes in base64'),
});
export type NamedHead = Readonly<z.infer<typeof NamedHead>>;

const Common = {
  v: z.literal(1),
  /** When the server wrote it, by the server's clock. */
  at: Time,
  /** Salted digest of the payload; null where the entry is all there is. */
  digest: DigestText.nullable(),
};
const OfHost = { ...Common, host: HostId };

/** A report as it was kept; the payload is its envelope. */
const ReportEntry = z.strictObject({
  ...OfHost,
  kind: z.literal('report'),
  facts: z.strictObject({
    report: z.enum(['full', 'same']),
    seq: Count.min(1),
    /** 0 for the first envelope under its number, 1 … for forks. */
    copy: Count,
    /** How often a `same` was said since its full report; null for a full one. */
    count: Count.min(1).nullable(),
  }),
});

/** What became of a host with one write: its verdict, and transitions of findings. The payload is evidence.md's judgement. */
const JudgementEntry = z.strictObject({
  ...OfHost,
  kind: z.literal('judgement'),
  facts: z.strictObject({
    /** Transitions in the payload. */
    findings: Count,
    /** Null where the verdict stayed. */
    verdict: z.strictObject({ from: Word, to: Word }).nullable(),
  }),
});

/**
 * What a person or a job did, as the trail has it: enrolments, keys, waivers, acknowledgements, policies, trust roots, exports, legal holds,
 * reconciliations. The payload is the line of the trail.
 */
const ActEntry = z.strictObject({
  ...Common,
  kind: z.literal('act'),
  /** The one host that it is about, if it is about one. */
  host: HostId.nullable(),
  facts: z.strictObject({
    /** `host.enrol`, `waiver.request` … */
    action: z.string().regex(/^[a-z][a-z0-9-]{0,39}(?:\.[a-z][a-z0-9-]{0,39}){0,3}$/),
  }),
});

/** Entry 0 of a log that was begun after another one ended: a store that was restored from a backup, a lost key. */
const RestartEntry = z.strictObject({
  ...Common,
  kind: z.literal('restart'),
  host: z.null(),
  facts: z.strictObject({
    /** The last head of the old log that is known to have been published. */
    previous: NamedHead,
  }),
});

/** Payloads that were deleted under retention; the payload lists the indexes. */
const PurgeEntry = z.strictObject({
  ...Common,
  kind: z.literal('purge'),
  host: z.null(),
  facts: z.strictObject({
    /** Of which kind of entries. */
    of: z.enum(['report', 'judgement', 'act']),
    count: Count,
    /** Everything that was deleted was written before. */
    before: Time,
  }),
});

export const LogEntry = z.discriminatedUnion('kind', [ReportEntry, JudgementEntry, ActEntry, RestartEntry, PurgeEntry]);
export type LogEntry = Readonly<z.infer<typeof LogEntry>>;

export const ENTRY_KINDS = [
  'report',
  'judgement',
  'act',
  'restart',
  'purge',
] as const satisfies readonly LogEntry['kind'][];

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** The bytes that are hashed. @throws {EntryError} ENTRY_SYNTAX, ENTRY_TOO_LARGE */
export function encodeEntry(entry: LogEntry): Uint8Array {
  const parsed = LogEntry.safeParse(entry);
  if (!parsed.success) throw new EntryError('ENTRY_SYNTAX', `not an entry: ${z.prettifyError(parsed.error)}`);
  const bytes = encoder.encode(canonicalJson(parsed.data));
  if (bytes.length > LOG_ENTRY_BYTES_MAX)
    throw new EntryError('ENTRY_TOO_LARGE', `an entry of ${bytes.length} bytes; ${LOG_ENTRY_BYTES_MAX} are the most`);
  return bytes;
}

/** @throws {EntryError} ENTRY_SYNTAX for every spelling that `encodeEntry` would not have written, ENTRY_TOO_LARGE */
export function parseEntry(bytes: Uint8Array): LogEntry {
  if (bytes.length > LOG_ENTRY_BYTES_MAX)
    throw new EntryError('ENTRY_TOO_LARGE', `an entry of ${bytes.length} bytes; ${LOG_ENTRY_BYTES_MAX} are the most`);
  let text: string;
  let value: unknown;
  try {
    text = decoder.decode(bytes);
    value = JSON.parse(text);
  } catch (cause) {
    throw new EntryError('ENTRY_SYNTAX', 'an entry is JSON in UTF-8', { cause });
  }
  const parsed = LogEntry.safeParse(value);
  if (!parsed.success) throw new EntryError('ENTRY_SYNTAX', `not an entry: ${z.prettifyError(parsed.error)}`);
  if (canonicalJson(parsed.data) !== text)
    throw new EntryError('ENTRY_SYNTAX', 'an entry is canonical JSON (docs/log.md 5.1)');
  return parsed.data;
}

export const SALT_BYTES = 32;

/**
 * SHA-256 over salt and payload, one after the other: what `cat salt payload | sha256sum` prints. The salt has a fixed length, so the two cannot
 * be parted elsewhere, and is random, so that a payload of few possible values cannot be guessed once both are gone.
 */
export function saltedDigest(
  salt: Uint8Array,
  payload: Uint8Array,
  hash: (bytes: Uint8Array) => Uint8Array = sha256,
): Digest {
  if (salt.length !== SALT_BYTES) throw new RangeError(`a salt has ${SALT_BYTES} bytes, not ${salt.length}`);
  const bytes = new Uint8Array(SALT_BYTES + payload.length);
  bytes.set(salt);
  bytes.set(payload, SALT_BYTES);
  return `sha256:${toHex(hash(bytes))}` as Digest;
}

function isHash(text: string): boolean {
  try {
    return fromBase64(text).length === 32;
  } catch {
    return false;
  }
}

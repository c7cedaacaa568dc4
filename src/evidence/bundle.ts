/** What an evidence bundle is made of (docs/evidence.md 1, 2): its members, the lines of its records, and the statement that signs all of it. */
import { z } from 'zod';
import { fromBase64, toBase64 } from '#src/bytes.ts';
import { BootproofError } from '#src/error.ts';
import { BUNDLE_LINE_BYTES_MAX, BUNDLE_STATEMENT_BYTES_MAX } from '#src/limits.ts';
import { canonicalJson } from '#src/signing/canonical.ts';
import { DsseError, parseEnvelope, type Envelope } from '#src/signing/dsse.ts';
import { HostId } from '#src/wire/hostid.ts';
import { BundleHead, Time, TRANSITIONS } from './facts.ts';

export class BundleError extends BootproofError<
  /** A signed document of the bundle that has not the form of one, or belongs to another kind. */
  | 'STATEMENT_SYNTAX'
  /** A member that cannot be read as what its name says. */
  | 'MEMBER_SYNTAX'
> {}

export const STATEMENT_MEMBER = 'statement.dsse.json';
export const STATEMENT_PAYLOAD_TYPE = 'application/vnd.in-toto+json';
export const STATEMENT_TYPE = 'https://in-toto.io/Statement/v1';
export const PREDICATE_TYPE = 'urn:bootproof:evidence:1';

/** Members that every bundle has, besides the statement. */
export const REQUIRED_MEMBERS = [
  'VERIFY.md',
  'server.pub.pem',
  'log/key',
  'log/checkpoint',
  'log/left',
  'log/edge.json',
] as const;

/** Lists that are written in parts of some 256 MiB: `<name>-00001.ndjson`, at least one of each. */
export const LISTS = [
  'records/reports',
  'records/judgements',
  'records/acts',
  'facts/hosts',
  'facts/images',
  'facts/findings',
  'facts/decisions',
  'facts/policies',
  'facts/reconciliations',
  'manifests/headers',
] as const;
export type ListName = (typeof LISTS)[number];

/** Entries of the log as C2SP bundles have them, in parts. */
export const ENTRIES = 'log/entries';

/** Everything that a bundle may hold. Another name in it is refused, signed or not: nobody would look at it. */
const TAKEN: readonly RegExp[] = [
  /^(?:VERIFY\.md|server\.pub\.pem)$/,
  /^log\/(?:key|checkpoint|left|edge\.json|last\.tlog-proof|last\.entry|entries-[0-9]{5})$/,
  /^log\/(?:consistency|timestamps)\/[A-Za-z0-9._-]+$/,
  /^(?:records\/(?:reports|judgements|acts)|facts\/(?:hosts|images|findings|decisions|policies|reconciliations)|manifests\/headers)-[0-9]{5}\.ndjson$/,
  /^manifests\/texts\/[0-9a-f]{64}$/,
  /^(?:signatures|trust-roots|policies|controls|oscal|csv|report)\/[A-Za-z0-9._-]+$/,
];
export const isTaken = (name: string): boolean => TAKEN.some((pattern) => pattern.test(name));

export const partName = (list: ListName | typeof ENTRIES, part: number): string =>
  `${list}-${String(part).padStart(5, '0')}${list === ENTRIES ? '' : '.ndjson'}`;

const decodes = (text: string, bytes?: number): boolean => {
  try {
    const { length } = fromBase64(text);
    return bytes === undefined || length === bytes;
  } catch {
    return false;
  }
};
const Hash = z.string().refine((text) => decodes(text, 32), 'expected 32 bytes in base64');
const Base64 = z.string().refine((text) => decodes(text), 'expected base64');

/** An entry that is not in `log/entries`, with its inclusion proof. */
export const ProvenEntry = z.strictObject({ index: z.int().min(0), entry: Base64, proof: z.array(Hash).max(63) });
export type ProvenEntry = Readonly<z.infer<typeof ProvenEntry>>;

/** What lies beside an entry. Salt and payload are null where they were purged. */
export const LogRecord = z.strictObject({
  index: z.int().min(0),
  /** Where the entry is older than `log/entries`: it and its inclusion proof. */
  proven: ProvenEntry.nullable(),
  salt: Hash.nullable(),
  /** UTF-8: an envelope, or JSON. */
  payload: z.string().max(BUNDLE_LINE_BYTES_MAX).nullable(),
});
export type LogRecord = Readonly<z.infer<typeof LogRecord>>;

/** The entries at the edges of what the bundle holds: by their times the period is held against the log. */
export const LogEdge = z.strictObject({
  /** The entry before the first of `log/entries`; null where that is the log's first. */
  before: ProvenEntry.nullable(),
  /** The log's last entry, where `log/entries` is empty. */
  last: ProvenEntry.nullable(),
});
export type LogEdge = Readonly<z.infer<typeof LogEdge>>;

/** Payload of an `act`: a line of the trail. `before` and `after` are JSON as text. */
export const Act = z.strictObject({
  id: z.string(),
  at: Time,
  actor: z.string(),
  action: z.string(),
  object: z.string(),
  note: z.string().nullable(),
  before: z.string(),
  after: z.string(),
});
export type Act = Readonly<z.infer<typeof Act>>;

const Verdict = z.strictObject({ verdict: z.string(), told: z.string() });
/** Payload of a `judgement`: what one write changed about a host. */
export const Judgement = z.strictObject({
  host: HostId,
  revision: z.int(),
  at: Time,
  /** The report that it came of; null: a decision, a policy, silence. */
  seq: z.int().nullable(),
  before: Verdict,
  after: Verdict,
  findings: z.array(
    z.strictObject({
      group: z.string(),
      episode: z.int(),
      transition: z.enum(TRANSITIONS),
      severity: z.int(),
      why: z.string().nullable(),
    }),
  ),
});
export type Judgement = Readonly<z.infer<typeof Judgement>>;

const Subject = z.strictObject({
  name: z.string().max(200),
  digest: z.strictObject({ sha256: z.string().regex(/^[0-9a-f]{64}$/) }),
});
export const Predicate = z.strictObject({
  head: BundleHead,
  /** Lines of every list, in all its parts. */
  counts: z.array(z.strictObject({ list: z.enum(LISTS), lines: z.int().min(0) })).length(LISTS.length),
});
export const Statement = z.strictObject({
  _type: z.literal(STATEMENT_TYPE),
  subject: z.array(Subject).min(1),
  predicateType: z.literal(PREDICATE_TYPE),
  predicate: Predicate,
});
export type Statement = Readonly<z.infer<typeof Statement>>;

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** The envelope of a bundle's statement; says nothing of its signature. @throws {BundleError} STATEMENT_SYNTAX */
export function openStatement(bytes: Uint8Array): Envelope {
  try {
    return parseEnvelope(bytes, STATEMENT_PAYLOAD_TYPE, BUNDLE_STATEMENT_BYTES_MAX);
  } catch (cause) {
    if (!(cause instanceof DsseError)) throw cause;
    throw new BundleError('STATEMENT_SYNTAX', cause.message, { cause });
  }
}

/** What an envelope whose signature was checked says. @throws {BundleError} STATEMENT_SYNTAX */
export function readStatement({ payload }: Envelope): Statement {
  const { text, value } = jsonOf(payload);
  const parsed = Statement.safeParse(value);
  if (!parsed.success)
    throw new BundleError('STATEMENT_SYNTAX', `not a statement of this version: ${z.prettifyError(parsed.error)}`);
  // One spelling: what two readers could read differently is signed by nobody.
  if (canonicalJson(parsed.data) !== text)
    throw new BundleError('STATEMENT_SYNTAX', 'the statement is not canonical JSON');
  return parsed.data;
}

function jsonOf(bytes: Uint8Array): { readonly text: string; readonly value: unknown } {
  try {
    const text = decoder.decode(bytes);
    return { text, value: JSON.parse(text) };
  } catch (cause) {
    throw new BundleError('STATEMENT_SYNTAX', 'the statement is not JSON in UTF-8', { cause });
  }
}

export const hashText = (hash: Uint8Array): string => toBase64(hash);

/**
 * What a report must pass to be taken: the numbered checks of docs/report.md 3, in their order. The server runs 1 and 2 on arrival, 3 to
 * 5 with the host's record, 7 with the manifest, and `accept`, which holds check 6 and decides, in the transaction that stores the report.
 */
import type { Instant } from '#src/clock.ts';
import { parseInstant } from '#src/clock.ts';
import type { Digest, Sha256 } from '#src/digest.ts';
import { CLOCK_SKEW_MS, REPORT_BYTES_MAX } from '#src/limits.ts';
import { canonicalJson } from '#src/signing/canonical.ts';
import { DsseError, envelopeDigest, parseEnvelope, verifyEnvelope, type Envelope } from '#src/signing/dsse.ts';
import type { PublicKey, Verify } from '#src/signing/ed25519.ts';
import { readChallenge, type ChallengeClass } from '#src/wire/challenge.ts';
import { HostId } from '#src/wire/hostid.ts';
import type { TicketKeys } from '#src/wire/ticket.ts';
import { z } from 'zod';
import type { Consistency } from './contradict.ts';
import { refuse, type Flag, type Refused } from './refusal.ts';
import { Report, REPORT_PAYLOAD_TYPE, REPORT_VERSIONS, type SameReport } from './report.ts';
import { placeReport, type Chain, type ChainState, type Gap } from './sequence.ts';

/** A report that passed checks 1 and 2: nothing in it is believed yet. */
export type Opened = {
  readonly kind: 'opened';
  readonly envelope: Envelope;
  /** Digest of the envelope as received. */
  readonly digest: Digest;
  readonly text: string;
  readonly value: object;
  /** The host that it claims to be from. */
  readonly host: string;
};

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Checks 1 and 2. `bytes` are the envelope after `Content-Encoding` was undone. */
export function openReport(bytes: Uint8Array, hash?: Sha256): Opened | Refused {
  let envelope: Envelope;
  try {
    envelope = parseEnvelope(bytes, REPORT_PAYLOAD_TYPE, REPORT_BYTES_MAX);
  } catch (error) {
    if (!(error instanceof DsseError)) throw error;
    // report.md check 1
    if (error.code === 'ENVELOPE_TOO_LARGE') return refuse(1, 'REPORT_TOO_LARGE', error.message);
    // report.md check 2
    return refuse(2, error.code, error.message);
  }
  let text: string;
  let value: unknown;
  try {
    text = decoder.decode(envelope.payload);
    value = JSON.parse(text);
  } catch {
    return refuse(2, 'PAYLOAD_SYNTAX', 'the payload is not JSON in UTF-8');
  }
  const host = typeof value === 'object' && value !== null && 'host' in value ? value.host : undefined;
  if (typeof host !== 'string' || !HostId.safeParse(host).success)
    return refuse(2, 'PAYLOAD_SYNTAX', 'the payload does not say which host it is from');
  return { kind: 'opened', envelope, digest: envelopeDigest(bytes, hash), text, value: value as object, host };
}

/** What checks 3 to 5 need of a host's record. */
export type HostRecord = {
  readonly publicKey: PublicKey;
  readonly state: 'active' | 'pending' | 'retired';
  /** Expected time between reports. */
  readonly intervalMs: number;
};

/** How and when the report came. */
export type Arrival = { readonly receivedAt: Instant; readonly carried: boolean };

/** A report that passed checks 1 to 5: it is by this host, and in the form of its schema. */
export type Checked = {
  readonly kind: 'checked';
  readonly report: Report;
  readonly digest: Digest;
  readonly class: ChallengeClass;
  /** When its challenge was issued, if it was ours. */
  readonly issuedAt: Instant | null;
  readonly arrival: Arrival;
};

/** Checks 3 to 5. `host` is the record of `opened.host`, undefined where there is none. */
export async function checkReport(
  opened: Opened,
  host: HostRecord | undefined,
  arrival: Arrival,
  deps: { readonly verify: Verify; readonly ticketKeys: TicketKeys },
): Promise<Checked | Refused> {
  // report.md check 3
  if (host === undefined) return refuse(3, 'HOST_UNKNOWN', `no host ${opened.host} is enrolled here`);
  if (host.state === 'pending') return refuse(3, 'HOST_PENDING', `host ${opened.host} waits for approval`);
  if (host.state === 'retired') return refuse(3, 'HOST_RETIRED', `host ${opened.host} was retired`);
  // report.md check 4
  if (!(await verifyEnvelope(opened.envelope, host.publicKey, deps.verify)))
    return refuse(4, 'SIGNATURE_INVALID', `not signed by the key of host ${opened.host}`);
  return checkSchema(opened, host, arrival, deps.ticketKeys);
}

function checkSchema(
  { value, text, digest }: Opened,
  host: HostRecord,
  arrival: Arrival,
  keys: TicketKeys,
): Checked | Refused {
  // report.md check 5: the version before the rest, so that a newer agent learns what it may write.
  const version = 'version' in value ? value.version : undefined;
  if (!REPORT_VERSIONS.some((known) => known === version))
    return refuse(
      5,
      'VERSION_UNSUPPORTED',
      `report version ${JSON.stringify(version)?.slice(0, 20)}; taken are ${REPORT_VERSIONS.join(', ')}`,
    );
  const parsed = Report.safeParse(value);
  if (!parsed.success) return refuse(5, 'SCHEMA_INVALID', z.prettifyError(parsed.error));
  const report = parsed.data;
  if (!isCanonical(report, text))
    return refuse(5, 'PAYLOAD_NOT_CANONICAL', 'the document is not in canonical JSON (docs/report.md 2.1)');
  const about = { host: report.host, now: arrival.receivedAt, intervalMs: host.intervalMs, carried: arrival.carried };
  const challenge = readChallenge(report.challenge, about, keys);
  if (challenge.kind === 'malformed') return refuse(5, 'CHALLENGE_MALFORMED', 'the challenge has not the form of one');
  if (challenge.kind === 'foreign') return refuse(5, 'CHALLENGE_FOREIGN', 'the challenge was given to another host');
  return { kind: 'checked', report, digest, class: challenge.class, issuedAt: challenge.issuedAt, arrival };
}

function isCanonical(report: Report, text: string): boolean {
  try {
    return canonicalJson(report) === text;
  } catch {
    return false; // a lone surrogate, which canonical JSON cannot hold
  }
}

export type Accepted = {
  readonly kind: 'accepted';
  /** `advance`: the host's newest word. `history`: kept, judged no more. `replay`: known; answer as at first, change nothing. */
  readonly effect: 'advance' | 'history' | 'replay';
  readonly flags: readonly Flag[];
  /** The chain afterwards; the one before where nothing changes. */
  readonly chain: Chain;
  readonly gap: Gap | null;
  readonly class: ChallengeClass;
  /** Host clock minus server clock, ms, as far as it is certain (docs/report.md 3.3). */
  readonly skewMs: number;
  /** It renews freshness (docs/report.md 3.2). */
  readonly fresh: boolean;
  /** A `same` that leans on a full report that is not the last accepted one: only a full report helps. */
  readonly want: 'same' | 'full';
  /** When what it says was so, by the server's clock (docs/report.md 3.2). */
  readonly asOf: Instant;
  /** Whether manifest and drift were held against the reported digests. */
  readonly consistency: Consistency['kind'] | 'same';
};

/** What the store knows when it takes a report. */
export type HostState = ChainState & {
  /** Digests of the last accepted full report; null before the first. */
  readonly full: { readonly trees: SameReport['trees']; readonly state: Digest } | null;
};

export type Outcome = Accepted | (Refused & { readonly flag?: 'identity-forked' });

/**
 * Check 6, then 7, and what follows. `consistency` is what `checkConsistency` said of a full report, found out beforehand as it depends
 * on report and manifest alone; null for a `same`. Of `SEQUENCE_FORKED` the envelope is kept beside the first.
 */
export function accept(checked: Checked, consistency: Consistency | Refused | null, state: HostState): Outcome {
  const { report, digest, issuedAt, arrival } = checked;
  // report.md check 6
  const place = placeReport({ report, digest, issuedAt, carried: arrival.carried }, state);
  if (place.kind === 'forked')
    return {
      ...refuse(
        6,
        'SEQUENCE_FORKED',
        `another report with number ${report.seq} was taken before: two hosts share this key, or an old state was restored`,
      ),
      head: state.chain.headSeq,
      flag: 'identity-forked',
    };
  if (place.kind === 'forgotten')
    return {
      ...refuse(
        6,
        'SEQUENCE_FORGOTTEN',
        `a report with number ${report.seq} was taken long before, and what is kept no longer tells whether it was this one`,
      ),
      head: state.chain.headSeq,
    };
  const finishedAt = parseInstant(report.finishedAt)!;
  const skewMs = clockSkew(finishedAt, arrival.receivedAt, issuedAt);
  const told = {
    kind: 'accepted',
    class: checked.class,
    skewMs,
    asOf: checked.class === 'live' ? arrival.receivedAt : clamp(finishedAt, issuedAt ?? -Infinity, arrival.receivedAt),
    want: 'same',
    fresh: false,
    gap: null,
    flags: [],
    consistency: 'same',
  } as const;
  if (place.kind === 'replay') return { ...told, effect: 'replay', chain: state.chain };
  // report.md check 7
  if (consistency?.kind === 'refused') return consistency;
  if (report.kind === 'same') {
    const contradiction = checkSame(report, state);
    if (contradiction !== undefined) return contradiction;
  }
  const seen = consistency === null ? {} : { consistency: consistency.kind };
  if (place.kind === 'history')
    return { ...told, ...seen, effect: 'history', chain: place.chain, flags: consistency?.flags ?? [] };
  const flags: Flag[] = [...(consistency?.flags ?? [])];
  if (place.gap !== null) flags.push('chain-gap');
  if (place.cloned) flags.push('cloned');
  if (Math.abs(skewMs) > CLOCK_SKEW_MS) flags.push('clock-skew');
  return {
    ...told,
    ...seen,
    effect: 'advance',
    chain: place.chain,
    gap: place.gap,
    flags,
    fresh: checked.class === 'live' && place.fullKnown,
    want: place.fullKnown ? 'same' : 'full',
  };
}

/** docs/report.md 3.5; the digests are held against the full report only where that is the one we have. */
function checkSame(report: SameReport, { chain, full }: HostState): Refused | undefined {
  if (full === null || report.full !== chain.full?.digest) return undefined;
  const said = canonicalJson({ trees: report.trees, state: report.state });
  const { usr, etc } = full.trees;
  const digests = ({ main, extra }: SameReport['trees']['usr']) => ({ main, extra });
  const known = canonicalJson({ trees: { usr: digests(usr), etc: digests(etc) }, state: full.state });
  return said === known
    ? undefined
    : refuse(7, 'SAME_CONTRADICTS', 'it says that nothing changed, but its digests are not those of its full report');
}

/** Host minus server clock: the value nearest zero that challenge and receipt leave possible (docs/report.md 3.3). */
function clockSkew(finishedAt: Instant, receivedAt: Instant, issuedAt: Instant | null): number {
  const least = finishedAt - receivedAt;
  const most = issuedAt === null ? Infinity : finishedAt - issuedAt;
  // Where both miss zero our own clock went back between challenge and receipt; the first then tells nothing.
  return least > 0 ? least : most < 0 ? most : 0;
}

function clamp(value: number, least: number, most: number): number {
  return Math.min(Math.max(value, least), most);
}

/**
 * When and where it was signed: times, chain, SCT and log entries (docs/trust.md 3.3, 3.5, 3.7). sigstore's own library judges them;
 * what it leaves open (docs/trust.md 3.8) is closed here.
 */
import type { TransparencyLogEntry } from '@sigstore/bundle';
import { VerificationError, Verifier as LibraryVerifier, type TrustMaterial } from '@sigstore/verify';
import { toHex } from '#src/bytes.ts';
import { formatInstant, type Instant } from '#src/clock.ts';
import { mustBeValidAt, mustSignCode } from './certificate.ts';
import { libraryContent } from './content.ts';
import { TrustError, type Material, type TrustCode } from './material.ts';
import { mustAgree, mustBind } from './rekor.ts';
import type { Scope } from './scope.ts';
import type { SignerOf } from './signer.ts';
import type { TargetDigest } from './target.ts';
import { mustBePast, promisedTime, tokensOf } from './time.ts';

/** A log entry that was proven. */
export type ProvenEntry = {
  /** Hex. */
  readonly logId: string;
  readonly logIndex: string;
  /** Of the log, as its trust root names it. */
  readonly log: string;
  /** The time that the log promised; an entry with a proof alone has none. */
  readonly at: Instant | undefined;
};

/** A time that somebody whom the trust root names vouches for. */
export type TrustedTime = { readonly at: Instant; readonly by: 'log' | 'timestamp-authority' };

/** Returns the trusted times. @throws {TrustError} with the first reason, in the order of docs/trust.md 3 */
export function verifyEvidence(
  material: Material,
  { bytes }: TargetDigest,
  scope: Scope,
  { key, certificate }: SignerOf,
  now: Instant,
): readonly TrustedTime[] {
  const logs = scope.logs;
  const entries = logs === undefined ? [] : [...material.entries];
  if (scope.needs.log && entries.length === 0)
    throw new TrustError('NO_LOG_ENTRY', 'no transparency log entry with it; the policy asks for one');
  for (const entry of entries)
    if (!logs!.some(({ logID }) => logID.equals(entry.logId.keyId)))
      throw new TrustError(
        'UNKNOWN_LOG',
        `logged in ${toHex(entry.logId.keyId).slice(0, 64)}, a log that the trust root does not have`,
      );
  const { tokens, foreign } =
    scope.stampers === undefined ? { tokens: [], foreign: 0 } : tokensOf(material, scope.stampers);
  if (scope.needs.stamp && tokens.length === 0)
    throw new TrustError(
      'NO_TIMESTAMP',
      foreign === 0
        ? 'no RFC 3161 timestamp with it; the policy asks for one'
        : 'stamped only by authorities that the trust root does not have',
    );
  const promised = entries.flatMap((entry) => promisedTime(entry) ?? []);
  const times: readonly TrustedTime[] = [
    ...promised.map((at) => ({ at, by: 'log' as const })),
    ...tokens.map((token) => ({ at: token.signingTime.getTime(), by: 'timestamp-authority' as const })),
  ];
  const instants = times.map(({ at }) => at);
  mustBePast(instants, now);
  if (certificate !== undefined) {
    if (times.length === 0)
      throw new TrustError(
        'NO_TIMESTAMP',
        'no trusted time of signing: neither a log that promises one nor a timestamp',
      );
    mustSignCode(certificate);
  }
  try {
    // The library throws a TypeError for certificates without times (docs/trust.md 3.8), which cannot happen from here on.
    new LibraryVerifier(
      {
        certificateAuthorities: scope.authorities,
        ctlogs: scope.ctlogs,
        tlogs: logs ?? [],
        timestampAuthorities: scope.stampers ?? [],
        publicKey: () => ({ publicKey: key.object, validFor: () => true }),
      },
      {
        tlogThreshold: scope.needs.log ? 1 : 0,
        ctlogThreshold: scope.needs.sct ? 1 : 0,
        timestampThreshold: certificate === undefined ? 0 : 1,
      },
    ).verify({
      signature: libraryContent(material, bytes, key.object),
      key:
        certificate === undefined
          ? { $case: 'public-key', hint: '' }
          : { $case: 'certificate', certificate: certificate.core },
      tlogEntries: entries,
      timestamps: [
        ...entries
          .filter((entry) => promisedTime(entry) !== undefined)
          .map((tlogEntry) => ({ $case: 'transparency-log' as const, tlogEntry })),
        ...tokens.map((timestamp) => ({ $case: 'timestamp-authority' as const, timestamp })),
      ],
    });
  } catch (error) {
    if (error instanceof VerificationError && error.code === 'CERTIFICATE_ERROR' && certificate !== undefined)
      mustBeValidAt(certificate, instants); // the more exact reason, where it is that
    throw explained(error);
  }
  if (certificate !== undefined) mustBeValidAt(certificate, instants);
  const verifier = { key, certificate: certificate?.der };
  for (const entry of entries) {
    mustAgree(entry);
    mustBind(entry, material, bytes, verifier);
    mustBeLogged(entry, logs!, instants, now);
  }
  return times;
}

/** The log's key must have been valid when it was used; the library asks so only of promises, never of proofs (docs/trust.md 3.7). */
function mustBeLogged(
  entry: TransparencyLogEntry,
  logs: TrustMaterial['tlogs'],
  times: readonly Instant[],
  now: Instant,
): void {
  // Without any trusted time there is only now: a key that was retired since may have been retired because it leaked.
  const asked = times.length === 0 ? [now] : times;
  const fits = logs.some(
    ({ logID, validFor }) =>
      logID.equals(entry.logId.keyId) &&
      asked.every((time) => time >= validFor.start.getTime() && time <= validFor.end.getTime()),
  );
  if (!fits)
    throw new TrustError(
      times.length === 0 ? 'NO_TIMESTAMP' : 'BROKEN_INCLUSION',
      `logged by a log whose key is not valid at ${asked.map(formatInstant).join(', ')}`,
    );
}

export function provenEntry(entry: TransparencyLogEntry, { logs = [] }: Scope): ProvenEntry {
  return {
    logId: toHex(entry.logId.keyId),
    // A promise signs the index of the whole log, a proof that of its shard; what neither covers is the bundle's word.
    logIndex: (entry.inclusionPromise === undefined ? entry.inclusionProof?.logIndex : undefined) ?? entry.logIndex,
    log: logs.find(({ logID }) => logID.equals(entry.logId.keyId))?.baseURL ?? '',
    at: promisedTime(entry),
  };
}

/** The library's reasons in our codes; its own words are few and quote nothing. */
function explained(error: unknown): unknown {
  if (!(error instanceof VerificationError)) return error;
  return new TrustError(codeOf(error), error.message, { cause: error });
}

function codeOf({ code, message }: VerificationError): TrustCode {
  switch (code) {
    case 'TIMESTAMP_ERROR':
      return 'BROKEN_TIMESTAMP';
    case 'CERTIFICATE_ERROR':
      return message.includes('SCT') ? 'NO_SCT' : 'UNTRUSTED_CHAIN';
    case 'TLOG_BODY_ERROR':
      return message.startsWith('unsupported') ? 'UNSUPPORTED_LOG_ENTRY' : 'LOG_ENTRY_MISMATCH';
    case 'TLOG_ERROR':
    case 'TLOG_INCLUSION_PROOF_ERROR':
    case 'TLOG_INCLUSION_PROMISE_ERROR':
    case 'TLOG_MISSING_INCLUSION_ERROR':
      return 'BROKEN_INCLUSION';
    case 'SIGNATURE_ERROR':
    case 'PUBLIC_KEY_ERROR':
      return 'BAD_SIGNATURE';
    case 'NOT_IMPLEMENTED_ERROR':
      return 'UNSUPPORTED_ALGORITHM';
  }
}

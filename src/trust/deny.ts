/**
 * What no longer counts although it verifies (docs/trust.md 5): sigstore has no revocation, so this list is ours. An entry with a time
 * spares what was provably signed before it; a signature without any trusted time counts as made after.
 */
import { formatInstant, type Instant } from '#src/clock.ts';
import type { Digest } from '#src/digest.ts';
import { matches, type CertificateIdentity } from './identity.ts';
import type { Pattern } from './requirement.ts';

export type Denied =
  /** An image itself, whoever signed it: `from` is a time of judging here, since its badness is no matter of when it was signed. */
  | { readonly what: 'image'; readonly digest: Digest }
  | { readonly what: 'key'; readonly fingerprint: Digest }
  | { readonly what: 'identity'; readonly issuer: Pattern; readonly subject: Pattern }
  /** Lower-case hex without leading zero bytes. */
  | { readonly what: 'certificate'; readonly serial: string }
  /** `logId` in hex: indexes count within a log. */
  | { readonly what: 'log-entry'; readonly logId: string; readonly logIndex: string };

export type DenyEntry = Denied & {
  /** From when on; undefined: always. */
  readonly from: Instant | undefined;
  /** Shown with the refusal. */
  readonly reason: string;
};

/** What is known of a signature that verified. */
export type DenyFacts = {
  /** Of everything signed or judged: the image's own digest, and the index through which it was signed. */
  readonly digests: readonly string[];
  /** Of the key that verified: the authority's, or the one in the certificate. */
  readonly fingerprint: Digest;
  readonly identity: CertificateIdentity | undefined;
  readonly serial: string | undefined;
  readonly entries: readonly { readonly logId: string; readonly logIndex: string }[];
  readonly times: readonly Instant[];
};

/** Why the list forbids a signature; undefined where it does not. */
export function deniedBy(list: readonly DenyEntry[], facts: DenyFacts, now: Instant): string | undefined {
  const entry = list.find((candidate) => isMeant(candidate, facts) && hasBegun(candidate, facts.times, now));
  if (entry === undefined) return undefined;
  const since = entry.from === undefined ? '' : ` from ${formatInstant(entry.from)} on`;
  return `denied by ${entry.what}${since}: ${entry.reason}`;
}

function isMeant(entry: DenyEntry, { digests, fingerprint, identity, serial, entries }: DenyFacts): boolean {
  switch (entry.what) {
    case 'image':
      return digests.includes(entry.digest);
    case 'key':
      return entry.fingerprint === fingerprint;
    case 'identity':
      return (
        identity !== undefined &&
        matches(entry.issuer, identity.issuer) &&
        identity.subjects.some((subject) => matches(entry.subject, subject))
      );
    case 'certificate':
      return entry.serial === serial;
    case 'log-entry':
      return entries.some(({ logId, logIndex }) => logId === entry.logId && logIndex === entry.logIndex);
  }
}

function hasBegun({ what, from }: DenyEntry, times: readonly Instant[], now: Instant): boolean {
  if (from === undefined) return true;
  if (what === 'image') return now >= from;
  // Any trusted time proves that the signature existed then; the earliest is what counts for it. None: Math.min() is Infinity.
  return Math.min(...times) >= from;
}

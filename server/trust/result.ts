/** What a new assessment makes of what was known: state and since when, the last good result, what vanished, and what is worth an event. */
import { formatInstant, type Instant } from '#src/clock.ts';
import type { Digest } from '#src/digest.ts';
import type { AuditEntry } from '#server/store/records.ts';
import type { ImageTrust, LastGood, TrustBasis, TrustState } from '#server/store/trustrecords.ts';
import type { Assessed } from './assess.ts';
import { blobKey } from './look.ts';
import { toldOf } from './provenance.ts';
import type { TrustTold } from './told.ts';

export type TrustEvent = Pick<AuditEntry, 'action' | 'object' | 'before' | 'after'>;

/** A proof stands although its places do not answer for so many rounds; then nobody knows any more whether it still lies there. */
const ROUNDS_WITHOUT_A_LOOK = 2;

export function nextTrust(
  assessed: Assessed,
  before: ImageTrust | undefined,
  {
    basis,
    at,
    reverifyEveryMs,
  }: { readonly basis: TrustBasis; readonly at: Instant; readonly reverifyEveryMs: number },
): { readonly next: ImageTrust; readonly events: readonly TrustEvent[] } {
  const { image, complete } = assessed;
  const looking = assessed.present !== undefined;
  const lookedAt = looking && complete ? at : (before?.lookedAt ?? null);
  const unreachableSince = looking
    ? complete
      ? null
      : (before?.unreachableSince ?? at)
    : (before?.unreachableSince ?? null);
  const { state, told } = aged(assessed, { lookedAt, unreachableSince, at, reverifyEveryMs });
  const gone = vanished(assessed, before);
  const next: ImageTrust = {
    image,
    revision: before?.revision ?? 0,
    basis,
    state,
    since: before?.state === state ? before.since : at,
    verifiedAt: at,
    lookedAt,
    unreachableSince,
    vanishedAt:
      !looking || !complete ? (before?.vanishedAt ?? null) : assessed.byKept ? (before?.vanishedAt ?? at) : null,
    told,
    kept: assessed.keep.map(({ format, place, manifest, blob }) => ({
      format,
      place,
      manifest: manifest === null ? null : blobKey(manifest),
      blob: blobKey(blob),
    })),
    indexes: assessed.indexes.map(blobKey),
    lastGood: state === 'unverifiable' ? lastGoodOf(before) : null,
  };
  const object = `image:${image}`;
  const events: TrustEvent[] = [];
  if (before?.state !== state)
    events.push({
      action: 'trust.change',
      object,
      before: before === undefined ? null : said(before.state, toldOf(before)),
      // With the keys of the bytes that prove it: they are never removed, so that what was said then can be shown.
      after: { ...said(state, told), basis, proofs: proofsOf(told) },
    });
  if (gone.length > 0)
    events.push({ action: 'signature-vanished', object, before: { proofs: gone }, after: { provenBy: state } });
  if (before !== undefined && before.vanishedAt !== null && next.vanishedAt === null)
    events.push({ action: 'signature-returned', object, before: { goneSince: before.vanishedAt }, after: null });
  return { next, events };
}

const said = (state: TrustState, { by, policy, code, why }: TrustTold) => ({ state, by, policy, code, why });

/** What was trusted and cannot be looked at for too long is no longer said to be so; what it was stands beside it. */
function aged(
  { state, told }: Assessed,
  times: {
    readonly lookedAt: Instant | null;
    readonly unreachableSince: Instant | null;
    readonly at: Instant;
    readonly reverifyEveryMs: number;
  },
): { state: TrustState; told: TrustTold } {
  const { lookedAt, unreachableSince, at, reverifyEveryMs } = times;
  if (state !== 'trusted' || unreachableSince === null) return { state, told };
  const last = lookedAt ?? unreachableSince;
  if (at - last <= ROUNDS_WITHOUT_A_LOOK * reverifyEveryMs) return { state, told };
  const silent = told.looked.find(({ outcome }) => outcome === 'unreadable');
  const why = `${silent?.code ?? 'SOURCE_UNAVAILABLE'}: ${silent?.where ?? 'its places'} did not answer since ${formatInstant(unreachableSince)}; its kept proof still holds`;
  return { state: 'unverifiable', told: { ...told, code: silent?.code ?? 'SOURCE_UNAVAILABLE', why } };
}

function lastGoodOf(before: ImageTrust | undefined): LastGood | null {
  if (before === undefined) return null;
  const { state, verifiedAt, lookedAt, basis, told } = before;
  if (state === 'unverifiable') return before.lastGood;
  return { state, at: lookedAt ?? verifiedAt, basis, told };
}

/** Proofs of before that lay where every place was asked now, and lie there no more. */
function vanished({ present, complete }: Assessed, before: ImageTrust | undefined): { blob: Digest; where: string }[] {
  if (present === undefined || !complete || before === undefined || before.vanishedAt !== null) return [];
  const there = new Set(present);
  return proofsOf(toldOf(before)).filter(({ blob }) => !there.has(blob));
}

/** Which bytes prove it, and where they lay; each once. */
function proofsOf({ policies }: TrustTold): { blob: Digest; where: string }[] {
  const proofs = policies.flatMap(({ authorities }) => authorities.flatMap((each) => each.proofs));
  return [...new Map(proofs.map(({ blob, where }) => [`${blob} ${where}`, { blob, where }])).values()];
}

/**
 * One image: what lies in its places and what is kept, held against the image policy. Whether it may count that a signature is only kept,
 * or that a place did not answer, is decided here; what a signature is worth in src/trust.
 */
import type { Instant } from '#src/clock.ts';
import type { Digest } from '#src/digest.ts';
import { SIGNATURES_KEPT_BYTES_MAX, TRUST_TOLD_MAX } from '#src/limits.ts';
import { readKept, type Looked } from '#src/source/signatures.ts';
import type { DenyEntry } from '#src/trust/deny.ts';
import { hostPolicy, type HostPolicy } from '#src/trust/hostpolicy.ts';
import { isMaterial, type Failed, type Format, type Place, type SignedEntity } from '#src/trust/material.ts';
import { verifySignature, type Verified } from '#src/trust/verify.ts';
import { judgeImage, type ImageEvidence } from '#src/trust/judge.ts';
import type { ImageJudgement } from '#src/trust/judgement.ts';
import { blobKey, look, type LookPlace, type LookResult, type RegistryTerms } from './look.ts';
import type { TrustSetup } from './setup.ts';
import { tell, type TrustTold } from './told.ts';

/** A kept signature with its bytes. */
export type KeptBytes = {
  readonly format: Format;
  readonly place: Place;
  readonly manifest: Uint8Array | null;
  readonly blob: Uint8Array;
};

/** What is to be found out, as plain data. */
export type Subject = {
  readonly image: Digest;
  /** Names under which it is known here, `host/path`. */
  readonly references: readonly string[];
  /** Where to look; null: only what is kept is judged again. */
  readonly places: readonly LookPlace[] | null;
  readonly closed: readonly string[];
  readonly pulledAs: readonly string[];
  readonly kept: readonly KeptBytes[];
  readonly indexes: readonly Uint8Array[];
  /** What the last look found, for a judgement without one. */
  readonly before: Pick<TrustTold, 'looked' | 'hostPolicy'> & { readonly complete: boolean };
};

export type Assessed = {
  readonly image: Digest;
  readonly state: ImageJudgement['state'];
  readonly told: TrustTold;
  /** Every place answered. */
  readonly complete: boolean;
  /** Proven only by bytes that are no longer where they lay. */
  readonly byKept: boolean;
  /** Of the signatures that lie there now; undefined where nobody looked. */
  readonly present: readonly Digest[] | undefined;
  readonly keep: readonly KeptBytes[];
  readonly indexes: readonly Uint8Array[];
};

/** What all images of a round have in common. */
export type Circumstances = {
  readonly setup: TrustSetup;
  readonly deny: readonly DenyEntry[];
  readonly now: Instant;
  readonly terms: RegistryTerms;
};

export type Finder = (subject: Subject, terms: RegistryTerms, signal: AbortSignal) => Promise<LookResult | undefined>;

/** All places together get so long; what did not answer by then is asked again with the next look. */
const LOOK_MS = 120_000;

/** By asking the places, where there are any to ask. */
export const byLooking: Finder = async (subject, terms, signal) => {
  const { places, image } = subject;
  if (places === null) return undefined;
  const late = AbortSignal.timeout(LOOK_MS);
  try {
    return await look({ ...subject, places }, terms, AbortSignal.any([signal, late]));
  } catch (error) {
    if (!late.aborted || signal.aborted) throw error;
    const where = places.map(({ pattern }) => pattern).join(', ');
    const reason = `no answer within ${LOOK_MS / 1000} s`;
    return {
      looked: [{ where, of: image, outcome: 'unreadable', count: 0, code: 'SOURCE_NETWORK', reason }],
      found: [],
      complete: false,
      hostReadable: { readable: false, code: 'NO_SIGNATURE', reason },
      manifest: undefined,
      indexes: subject.indexes,
      isIndex: false,
      own: [],
    };
  }
};

export async function assess(
  subject: Subject,
  { setup, deny, now, terms }: Circumstances,
  signal: AbortSignal,
  find: Finder = byLooking,
): Promise<Assessed> {
  const result = await find(subject, terms, signal);
  const kept = subject.kept.map(entityOf);
  const found = result?.found ?? kept;
  const indexes = result?.indexes ?? subject.indexes;
  const looked = (result?.looked ?? subject.before.looked).slice(0, TRUST_TOLD_MAX);
  const complete = result?.complete ?? subject.before.complete;
  const unread = unreadOf(looked, complete);
  const outcomes = new Map<SignedEntity, Verified | Failed>();
  const judge = (entities: readonly SignedEntity[]): ImageJudgement =>
    judgeImage(
      {
        image: {
          digest: subject.image,
          indexes,
          references: subject.references,
          ...(result?.manifest === undefined ? {} : { manifest: result.manifest }),
        },
        entities,
        unread,
      },
      { policy: setup.policy, roots: setup.roots, deny, now, verify: remembering(outcomes) },
    );
  let best = judge(found);
  let byKept = false;
  if (best.state !== 'trusted' && result !== undefined && kept.length > 0) {
    const others = kept.filter((entity) => !found.some((other) => isSame(other, entity)));
    const withKept = judge([...found, ...others]);
    // A proof holds wherever its bytes are; that they are gone from their place is told apart.
    if (withKept.state === 'trusted') {
      best = withKept;
      byKept = true;
    }
  }
  return {
    image: subject.image,
    state: best.state,
    told: tell(best, looked, result === undefined ? subject.before.hostPolicy : hostsSay(result, subject, outcomes)),
    complete,
    byKept,
    present: result?.found.map(({ raw }) => blobKey(raw.blob)),
    // What is kept already goes first: whoever pushes signatures day by day does not make the store grow without end.
    keep: toKeep([...kept, ...found], new Set(best.proofs.map(({ entity }) => blobKey(entity.raw.blob)))),
    indexes,
  };
}

/** Holds signatures as ever, and remembers each one's best: what it is worth to hosts depends on how it was made. */
function remembering(outcomes: Map<SignedEntity, Verified | Failed>): typeof verifySignature {
  return (entity, requirement, circumstances) => {
    const outcome = verifySignature(entity, requirement, circumstances);
    if (outcomes.get(entity)?.kind !== 'verified') outcomes.set(entity, outcome);
    return outcome;
  };
}

/** Whether hosts that enforce containers policy could read a signature of it. */
function hostsSay(
  { found, own, isIndex }: LookResult,
  { image }: Subject,
  outcomes: ReadonlyMap<SignedEntity, Verified | Failed>,
): HostPolicy {
  const unasked: Failed = { kind: 'failed', code: 'NO_SIGNATURE', message: '' };
  return hostPolicy(
    found,
    { digest: image, isIndex },
    ({ source, by }) => own.includes(source) && (by === 'tag' || by === 'layout'),
    found.map((entity) => outcomes.get(entity) ?? unasked),
  );
}

/** Places that may hold a signature nobody saw: those that are silent, and those with more than is looked at. */
export function unreadOf(looked: readonly Looked[], complete: boolean): ImageEvidence['unread'][number][] {
  const unseen = looked.filter(({ outcome }) => outcome === 'unreadable' || outcome === 'too-many');
  if (unseen.length > 0 || complete)
    return unseen.map(({ where, outcome, code, reason }) => ({
      where,
      reason: `${code}: ${reason}`,
      ...(outcome === 'too-many' ? { cut: true } : {}),
    }));
  return [{ where: 'its registry', reason: 'not asked yet since the image policy changed' }];
}

const entityOf = ({ format, place, manifest, blob }: KeptBytes): SignedEntity =>
  readKept({ format, place, raw: { manifest: manifest ?? undefined, blob } });

function isSame(a: SignedEntity, b: SignedEntity): boolean {
  return (
    a.place.layer === b.place.layer &&
    a.place.manifest === b.place.manifest &&
    a.place.source === b.place.source &&
    Buffer.compare(a.raw.blob, b.raw.blob) === 0
  );
}

/** What proves is kept; of the rest as much as has room, so that another policy can be held against it. */
function toKeep(entities: readonly SignedEntity[], proofs: ReadonlySet<Digest>): KeptBytes[] {
  const keep: KeptBytes[] = [];
  const seen = new Set<string>();
  let room = SIGNATURES_KEPT_BYTES_MAX;
  const isProof = ({ raw }: SignedEntity) => proofs.has(blobKey(raw.blob));
  for (const entity of [...entities.filter(isProof), ...entities.filter((other) => !isProof(other))]) {
    const { format, place, raw, content } = entity;
    if (!isMaterial(content)) continue;
    const key = `${blobKey(raw.blob)} ${place.source} ${place.manifest} ${place.layer}`;
    if (seen.has(key)) continue;
    const size = raw.blob.length + (raw.manifest?.length ?? 0);
    if (!isProof(entity)) {
      if (size > room) continue;
      room -= size;
    }
    seen.add(key);
    keep.push({ format, place, manifest: raw.manifest ?? null, blob: raw.blob });
  }
  return keep;
}

/** What the server knows of who built a host's image → the provenance answer, and what is held against the image (PROTOCOL 5). */
import { formatInstant, type Instant } from '#src/clock.ts';
import type { DeploymentState } from '#src/deployment/state.ts';
import type { Provenance } from '#src/finding/verdict.ts';
import { nodeSha256 } from '#src/source/verified.ts';
import type { ProvenanceState } from '#src/policy/evaluate.ts';
import type { ImageTrust } from '#server/store/trustrecords.ts';
import type { TrustTold } from './told.ts';

/** A host's provenance as it enters its judgement. */
export type ProvenanceFacts = {
  readonly provenance: Provenance;
  /** Absent where no image policy is configured. */
  readonly evidence: ProvenanceState | undefined;
  /** Names what was known: hosts that were judged under another stamp are judged again. */
  readonly stamp: string;
};

/** Without an image policy. */
export const NOT_ASSESSED: ProvenanceFacts = {
  provenance: { state: 'not-assessed' },
  evidence: undefined,
  stamp: 'not-assessed',
};

/** An image that nobody has looked at yet, or that the host does not name. */
export function untold(image: string, why: string, since: Instant): ProvenanceFacts {
  return {
    provenance: { state: 'unverifiable', since, why },
    // What is only awaited is no finding; the verdict says it.
    evidence: { image, told: false, faults: [] },
    stamp: `untold ${image}`,
  };
}

export const toldOf = (trust: Pick<ImageTrust, 'told'>): TrustTold => trust.told as TrustTold;

/** The provenance that an image gives to every host that boots it. */
export function provenanceOf(trust: ImageTrust): ProvenanceFacts {
  const told = toldOf(trust);
  const faults: ProvenanceState['faults'][number][] = [];
  const why = told.why ?? told.code ?? 'no reason is known';
  if (trust.state !== 'trusted' && trust.state !== 'not-assessed') faults.push({ fault: trust.state, why });
  if (trust.vanishedAt !== null)
    faults.push({ fault: 'signature-vanished', why: `gone since ${formatInstant(trust.vanishedAt)}` });
  else if (trust.state === 'trusted' && told.hostPolicy?.readable === false)
    faults.push({ fault: 'host-unreadable', why: told.hostPolicy.reason });
  const provenance = answerOf(trust, why);
  const evidence = { image: trust.image, told: trust.state !== 'unverifiable', faults };
  // Of what hosts are judged by, not of the result: one that says the same again asks nothing of anybody.
  const stamp = `${trust.image} ${nodeSha256(JSON.stringify([provenance, evidence])).slice(0, 32)}`;
  return { provenance, evidence, stamp };
}

/**
 * The same on one host: that a signature cannot be read by hosts that demand one of what they pull is held against those alone
 * (bootc: `ostree-image-signed`). The image's own page says it of every image.
 */
export function onHost(evidence: ProvenanceState, { booted }: Pick<DeploymentState, 'booted'>): ProvenanceState {
  if (booted?.image?.signature === 'containerPolicy') return evidence;
  return { ...evidence, faults: evidence.faults.filter(({ fault }) => fault !== 'host-unreadable') };
}

function answerOf(trust: ImageTrust, why: string): Provenance {
  const told = toldOf(trust);
  switch (trust.state) {
    case 'trusted':
      return { state: 'trusted', by: told.by ?? '', policy: told.policy ?? '' };
    case 'not-assessed':
      return { state: 'not-assessed' };
    case 'unverifiable':
      return { state: 'unverifiable', since: trust.unreachableSince ?? trust.since, why: why + lastText(trust) };
    case 'unsigned':
    case 'rejected':
      return { state: trust.state, why };
  }
}

/** The last result with its age stands beside what cannot be told now. */
function lastText({ lastGood }: ImageTrust): string {
  return lastGood === null ? '' : `; last known ${lastGood.state}, on ${formatInstant(lastGood.at)}`;
}

/**
 * What people decided, where it meets what hosts show: the waivers that have an effect, kept at hand; and what they and
 * acknowledgements make of a host's findings at a moment. Judging, deciding and ending all come through here.
 */
import type { Clock, Instant } from '#src/clock.ts';
import {
  exemptionOf,
  reachesHost,
  ready,
  type Exemption,
  type Ready,
  type Target,
  type TargetHost,
} from '#src/finding/exempt.ts';
import type { FindingFacts } from '#src/finding/verdict.ts';
import { stateOf, type Waiver } from '#src/finding/waiver.ts';
import { SEVERITIES, type Judgement, type JudgementKind, type Severity, type Weight } from '#src/policy/judgement.ts';
import type { Disposal, FindingWithGroup, Host, Returned } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';

/** The waivers that reach one host now, and the stamp under which they do. */
export type Reaching = {
  readonly stamp: string;
  /** By the server's clock: a report tells of its own time, a waiver ends in ours. */
  readonly now: Instant;
  readonly waivers: readonly Ready[];
  readonly why: (waiverId: string) => Promise<Returned['how']>;
};

export class KnownWaivers {
  readonly #store: Pick<Store, 'waivers' | 'images' | 'read'>;
  readonly #clock: Clock;
  #known: { readonly stamp: string; readonly ready: readonly Ready[] } | undefined;

  constructor({ store, clock }: { readonly store: Pick<Store, 'waivers' | 'images' | 'read'>; readonly clock: Clock }) {
    this.#store = store;
    this.#clock = clock;
  }

  /** `booted`: the image that the host runs, as it spells it. */
  async reaching(host: Pick<Host, 'id' | 'group' | 'labels'>, booted: string | null): Promise<Reaching> {
    const { stamp, ready } = await this.#load();
    const now = this.#clock();
    const isAsked = ready.some(({ waiver }) => waiver.selector.image !== undefined);
    const target = ready.length === 0 ? undefined : await targetHost(host, isAsked ? booted : null, this.#store);
    return {
      stamp,
      now,
      waivers: target === undefined ? [] : ready.filter((one) => reachesHost(one, target, now)),
      why: (id) => this.#why(id, now),
    };
  }

  /** Asked each time whether the list moved: another process may have approved or revoked. */
  async #load(): Promise<{ readonly stamp: string; readonly ready: readonly Ready[] }> {
    const stamp = await this.#store.waivers.stamp();
    if (this.#known?.stamp === stamp) return this.#known;
    const found = await this.#store.waivers.effective(this.#clock());
    this.#known = { stamp: found.stamp, ready: found.waivers.map(ready) };
    return this.#known;
  }

  async #why(id: string, now: Instant): Promise<Returned['how']> {
    const waiver = await this.#store.waivers.get(id);
    if (waiver === undefined) return 'waiver_revoked';
    return returnOf(waiver, now);
  }
}

function returnOf(waiver: Waiver, now: Instant): Returned['how'] {
  const state = stateOf(waiver, now);
  return state === 'expired' ? 'waiver_expired' : state === 'active' ? 'waiver_changed' : 'waiver_revoked';
}

/** A host as selectors ask about it; its image by every name and place that is known. */
export async function targetHost(
  host: Pick<Host, 'id' | 'group' | 'labels'>,
  booted: string | null,
  { images, read }: Pick<Store, 'images' | 'read'>,
): Promise<TargetHost> {
  const { id, group, labels } = host;
  const found = booted === null ? undefined : await images.find(booted);
  if (booted === null || found === undefined)
    return { id, group, labels, digests: booted === null ? [] : [booted], repositories: [] };
  const aliases = await read.aliases(found.image.digest);
  return {
    id,
    group,
    labels,
    digests: [booted, found.image.digest, ...aliases.map(({ alias }) => alias)],
    repositories: found.image.repositories,
  };
}

/** A finding that stands: as it was stored, or as it was just judged. */
export type Standing = {
  readonly groupId: string;
  readonly facts: Target & { readonly verdict: Weight };
  /** What was decided about it until now; undefined where it has just opened. */
  readonly held: Pick<FindingWithGroup, 'disposition' | 'waiverId' | 'until' | 'ack'> | undefined;
};

export type Decided = {
  readonly findings: readonly FindingFacts[];
  /** What changes. */
  readonly disposals: readonly Disposal[];
  /** When the first waiver ends that counts here; null where none does. */
  readonly validUntil: Instant | null;
};

/** What people decided, held against what stands. */
export async function decideOn(standing: readonly Standing[], reaching: Reaching): Promise<Decided> {
  const { waivers, now, why } = reaching;
  const findings: FindingFacts[] = [];
  const disposals: Disposal[] = [];
  const reasons = new Map<string, Returned['how']>();
  let validUntil: Instant | null = null;
  for (const { groupId, facts, held } of standing) {
    const exemption = exemptionOf(facts, held?.ack ?? null, waivers, now);
    findings.push({ ...facts, waived: exemption.kind === 'waived' });
    if (exemption.kind === 'waived') validUntil = Math.min(validUntil ?? Infinity, exemption.until);
    if (isSo(held, exemption)) continue;
    if (exemption.kind === 'waived')
      disposals.push({ groupId, to: { kind: 'waived', waiverId: exemption.waiver, until: exemption.until } });
    else if (exemption.kind === 'acknowledged') disposals.push({ groupId, to: exemption });
    else {
      const waiver = held?.disposition === 'waived' ? held.waiverId : null;
      if (waiver !== null && !reasons.has(waiver)) reasons.set(waiver, await why(waiver));
      const back: Returned | null =
        waiver !== null
          ? { how: reasons.get(waiver)!, what: waiver, at: now }
          : held?.ack
            ? { how: 'acknowledgement_over', what: held.ack.by, at: now }
            : null;
      disposals.push({ groupId, to: { kind: 'none', why: back } });
    }
  }
  return { findings, disposals, validUntil };
}

function isSo(held: Standing['held'], exemption: Exemption): boolean {
  const kind = held?.disposition ?? 'none';
  if (kind !== exemption.kind) return false;
  if (exemption.kind !== 'waived') return true; // an acknowledgement is itself, kept as it is
  return held!.waiverId === exemption.waiver && held!.until === exemption.until;
}

/** A stored finding as it stands. Its weight is in what judging left with it. */
export function standingOf(finding: FindingWithGroup): Standing {
  const { groupId, group, severity, detail } = finding;
  return {
    groupId,
    facts: {
      rule: group.rule,
      kind: group.kind as JudgementKind,
      subject: group.subject,
      signature: String(group.signature),
      severity: SEVERITIES[severity] satisfies Severity,
      verdict: (detail as { readonly verdict?: Weight } | null)?.verdict ?? 'none',
    },
    held: finding,
  };
}

/** A judgement as it stands, with what was decided about it where it stood before. */
export function standingBy(
  groupId: string,
  { rule, kind, subject, signature, severity, verdict }: Judgement,
  held: Standing['held'],
): Standing {
  return { groupId, facts: { rule, kind, subject, signature, severity, verdict }, held };
}

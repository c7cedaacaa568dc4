/** What intake asks of trust: who built the image that a host names. From memory for a moment, because each report asks. */
import type { Clock, Instant } from '#src/clock.ts';
import { KNOWN_IMAGES_MAX } from '#src/limits.ts';
import { Lru } from '#server/lru.ts';
import type { NewJob } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';
import type { ImageTrust, TrustBasis } from '#server/store/trustrecords.ts';
import type { Basis } from './basis.ts';
import { NOT_ASSESSED, provenanceOf, untold, type ProvenanceFacts } from './provenance.ts';

/** What is remembered is asked again after so long, whatever is told of it. */
const REMEMBERED_MS = 15_000;

/** Finds out who signed an image; its payload is `{image}`. */
export const TRUST_JOB = 'trust';
/** Judges every image again on the bytes that are kept, then looks at each; its payload is empty. */
export const TRUST_ALL_JOB = 'trust-all';
/** Judges those hosts on an image again that were judged by what was known before; its payload is `{image}`. */
export const TRUST_HOSTS_JOB = 'trust-hosts';

export function trustJob(image: string, runAt: Instant): NewJob {
  return { kind: TRUST_JOB, dedupeKey: `${TRUST_JOB}:${image}`, runAt, payload: { image } };
}

export function trustAllJob(runAt: Instant): NewJob {
  return { kind: TRUST_ALL_JOB, dedupeKey: TRUST_ALL_JOB, runAt, payload: {} };
}

export function trustHostsJob(image: string, runAt: Instant): NewJob {
  return { kind: TRUST_HOSTS_JOB, dedupeKey: `${TRUST_HOSTS_JOB}:${image}`, runAt, payload: { image } };
}

/** Nobody looked yet; or what was found was found under another policy, which is no answer. */
function pending(image: string, trust: ImageTrust | undefined, since: Instant): ProvenanceFacts {
  return trust === undefined
    ? untold(image, 'TRUST_PENDING: its signatures are being looked for', since)
    : untold(image, 'TRUST_PENDING: not judged yet under the image policy as it is now', trust.verifiedAt);
}

export const sameBasis = (a: TrustBasis, b: TrustBasis): boolean =>
  a.policy === b.policy && a.roots === b.roots && a.deny === b.deny;

export type Looked = {
  readonly facts: ProvenanceFacts;
  /** The image by its own digest; null where the host names none. */
  readonly image: string | null;
  /** Nobody has looked at it under what counts now. */
  readonly due: boolean;
};

type KnownDeps = { readonly store: Pick<Store, 'images' | 'trust'>; readonly clock: Clock };
type Counts = Pick<Basis, 'current' | 'renew' | 'version'>;

export class KnownTrust {
  readonly #deps: KnownDeps;
  /** What counts now; null without an image policy. */
  readonly #basis: Counts;
  #recent = new Lru<string, { readonly at: Instant; readonly looked: Looked }>(KNOWN_IMAGES_MAX);
  /** Of the basis under which the recent were answered. */
  #version = '';
  /** By which stamps hosts on each image were judged here, as they spell it, since anybody last wrote. */
  #given = new Map<string, Set<string>>();
  #watched = '';

  constructor(deps: KnownDeps, basis: Counts) {
    this.#deps = deps;
    this.#basis = basis;
  }

  /**
   * Takes in what other processes wrote. Answers the images, as hosts spell them, of which something else is known than what hosts
   * were judged by here meanwhile: such a host's judgement may have been written after that of the process that knew better.
   */
  async watch(): Promise<string[]> {
    await this.#basis.renew();
    const { version } = this.#basis;
    if (version === this.#watched) return [];
    const given = this.#given;
    this.#given = new Map();
    this.#watched = version;
    const changed: string[] = [];
    for (const [reported, stamps] of given) {
      const { stamp } = (await this.of(reported)).facts;
      if ([...stamps].some((other) => other !== stamp)) changed.push(reported);
    }
    return changed;
  }

  /** The provenance that an image, as a host spells it, gives. */
  async of(reported: string | null): Promise<Looked> {
    const looked = await this.#of(reported);
    if (reported === null) return looked;
    const stamps = this.#given.get(reported);
    if (stamps !== undefined) stamps.add(looked.facts.stamp);
    else if (this.#given.size < KNOWN_IMAGES_MAX) this.#given.set(reported, new Set([looked.facts.stamp]));
    return looked;
  }

  async #of(reported: string | null): Promise<Looked> {
    if (this.#basis.version !== this.#version) this.forget();
    if (this.#basis.current === null) return { facts: NOT_ASSESSED, image: null, due: false };
    const now = this.#deps.clock();
    if (reported === null) {
      const facts = untold('host', 'IMAGE_NOT_TOLD: the host does not say which image it booted', now);
      return { facts, image: null, due: false };
    }
    const recent = this.#recent.get(reported);
    if (recent !== undefined && now - recent.at < REMEMBERED_MS) return recent.looked;
    const found = await this.#deps.store.images.find(reported);
    const image = found?.image.digest ?? reported;
    const trust = await this.#deps.store.trust.get(image);
    const due = trust === undefined || !(await this.#counts(trust));
    const facts = due ? pending(image, trust, found?.image.firstSeen ?? now) : provenanceOf(trust);
    const looked = { facts, image, due };
    if (!due) this.#recent.set(reported, { at: now, looked });
    return looked;
  }

  /** Whether a result was reached under what counts now. */
  async #counts({ basis }: ImageTrust): Promise<boolean> {
    const { current } = this.#basis;
    if (current === null || sameBasis(basis, current)) return true;
    // Another process may have taken in what people denied, and judged by it.
    await this.#basis.renew();
    return this.#basis.current !== null && sameBasis(basis, this.#basis.current);
  }

  /** The same of images as they are listed, in one read. */
  async ofMany(
    images: readonly { readonly digest: string; readonly firstSeen: Instant }[],
  ): Promise<ReadonlyMap<string, ProvenanceFacts>> {
    if (this.#basis.current === null) return new Map(images.map(({ digest }) => [digest, NOT_ASSESSED]));
    const known = await this.#deps.store.trust.getMany(images.map(({ digest }) => digest));
    const told = new Map<string, ProvenanceFacts>();
    for (const { digest, firstSeen } of images) {
      const trust = known.get(digest);
      const counts = trust !== undefined && (await this.#counts(trust));
      told.set(digest, counts ? provenanceOf(trust) : pending(digest, trust, firstSeen));
    }
    return told;
  }

  /** Whether a host was judged under what is known of its image now. */
  async isCurrent(reported: string | null, stamp: string | undefined): Promise<boolean> {
    return (await this.of(reported)).facts.stamp === (stamp ?? NOT_ASSESSED.stamp);
  }

  /** After a result was written: nobody is judged by the older one. */
  forget(): void {
    this.#version = this.#basis.version;
    this.#recent = new Lru(KNOWN_IMAGES_MAX);
  }
}

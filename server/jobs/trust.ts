/**
 * Who signed the images that hosts run: found out when an image becomes known, when what is demanded or denied changes, and on a schedule
 * (docs/provenance.md). A job writes the result and judges every affected host before it is done.
 */
import { z } from 'zod';
import type { Instant } from '#src/clock.ts';
import { isDigest, type Digest } from '#src/digest.ts';
import type { Cause } from '#src/finding/lifecycle.ts';
import { rejudge, type RejudgeDeps } from '#server/ingest/rejudge.ts';
import type { SignatureRepository } from '#server/mirrors.ts';
import { toldOf as hostToldOf } from '#server/standing.ts';
import { IMAGE_SLOTS, type Act, type Host, type Image } from '#server/store/records.ts';
import type { HostCursor } from '#server/store/store.ts';
import type { ImageTrust, TrustBasis } from '#server/store/trustrecords.ts';
import type { Assessed, KeptBytes, Subject } from '#server/trust/assess.ts';
import type { Assessor, AssessRequest } from '#server/trust/assessor.ts';
import type { Basis } from '#server/trust/basis.ts';
import {
  sameBasis,
  TRUST_ALL_JOB,
  TRUST_HOSTS_JOB,
  TRUST_JOB,
  trustHostsJob,
  trustJob,
  type KnownTrust,
} from '#server/trust/known.ts';
import { blobKey, type RegistryTerms } from '#server/trust/look.ts';
import { placesOf } from '#server/trust/places.ts';
import { toldOf } from '#server/trust/provenance.ts';
import { nextTrust } from '#server/trust/result.ts';
import type { TrustSetup } from '#server/trust/setup.ts';
import type { Log } from '#server/deps.ts';
import { inTurns } from './rejudge.ts';
import type { Chore, Outcome, Work } from './runner.ts';

const LEASE_MS = 180_000;
const PAGE = 200;
/** Images that one thread judges again from kept bytes: starting it costs more than an image does. */
const AT_ONCE = 16;
const WRITES_TRIED = 5;
/** A report that is being judged is written after so long. */
const WRITTEN_MS = 2_000;
/** A registry that is down is asked again after so long at first. */
const RETRY_FIRST_MS = 60_000;

export type TrustDeps = RejudgeDeps & {
  readonly log: Log;
  readonly basis: Basis;
  readonly trust: KnownTrust;
  readonly assess: Assessor;
  readonly terms: RegistryTerms;
  /** Where the configuration says that signatures lie besides. */
  readonly signatureRepositories: readonly SignatureRepository[];
  /** Every image is looked at again after so long. */
  readonly reverifyEveryMs: number;
};

const Payload = z.strictObject({ image: z.string() });
const BY = (at: Instant): Act => ({ actor: 'job:trust', at });

/** One image: asks its places. */
export function trustWork(deps: TrustDeps): Work {
  return {
    kind: TRUST_JOB,
    leaseMs: LEASE_MS,
    run: async (job, signal): Promise<Outcome> => {
      const basis = await deps.basis.reload();
      const found = await deps.store.images.find(Payload.parse(job.payload).image);
      // A bare or config digest has no signatures of its own; the image behind it is asked for when it was built.
      if (basis === null || found === undefined || !isDigest(found.image.digest)) return { kind: 'done' };
      const { image } = found;
      // What no host has any more is not looked after; a host that boots it again asks for it.
      if (!(await isRun(image, deps))) return { kind: 'done' };
      const written = await renew([image], { looking: true }, deps, signal);
      await judgeHosts(image, { kind: 'report', imageChanged: false }, deps, signal);
      const [trust] = written;
      const inMs = trust?.unreachableSince == null ? deps.reverifyEveryMs : retryIn(trust, deps);
      await deps.store.jobs.enqueue([trustJob(image.digest, deps.clock() + inMs)]);
      return { kind: 'done' };
    },
  };
}

/** After image policy, trust roots or deny list changed: every image again, first from the bytes that are kept. */
export function trustAllWork(deps: TrustDeps): Work {
  return {
    kind: TRUST_ALL_JOB,
    leaseMs: LEASE_MS,
    run: async (_job, signal): Promise<Outcome> => {
      const basis = await deps.basis.reload();
      deps.trust.forget();
      if (basis !== null)
        for await (const images of imagesRun(deps)) {
          const known = await deps.store.trust.getMany(images.map(({ digest }) => digest));
          const stale = images.filter(({ digest }) => {
            const trust = known.get(digest);
            return trust !== undefined && !sameBasis(trust.basis, basis);
          });
          for (let at = 0; at < stale.length && !signal.aborted; at += AT_ONCE) {
            const some = stale.slice(at, at + AT_ONCE);
            await renew(some, { looking: false }, deps, signal);
            for (const image of some) await judgeHosts(image, { kind: 'policy' }, deps, signal);
          }
          const now = deps.clock();
          await deps.store.jobs.enqueue(
            images
              .filter(({ digest }) => {
                const trust = known.get(digest);
                // What is denied is no matter of what lies in a registry.
                return trust === undefined || trust.basis.policy !== basis.policy || trust.basis.roots !== basis.roots;
              })
              .map(({ digest }) => trustJob(digest, now)),
          );
        }
      await judgeStale(deps, signal);
      return { kind: 'done' };
    },
  };
}

/** Hosts that another process judged by what it knew before. */
export function trustHostsWork(deps: TrustDeps): Work {
  return {
    kind: TRUST_HOSTS_JOB,
    leaseMs: LEASE_MS,
    run: async (job, signal): Promise<Outcome> => {
      await deps.basis.renew();
      const found = await deps.store.images.find(Payload.parse(job.payload).image);
      if (found !== undefined) await judgeHosts(found.image, { kind: 'report', imageChanged: false }, deps, signal);
      return { kind: 'done' };
    },
  };
}

/**
 * Takes in what other processes wrote, and has those hosts judged again that were judged here meanwhile: not at once, because a report
 * that is being judged now is not written yet.
 */
export function trustChore(
  { store, clock, trust }: Pick<TrustDeps, 'store' | 'clock' | 'trust'>,
  everyMs: number,
): Chore {
  return {
    name: 'trust',
    everyMs,
    run: async () => {
      const changed = await trust.watch();
      if (changed.length === 0) return;
      const at = clock() + WRITTEN_MS;
      await store.jobs.enqueue(changed.map((image) => trustHostsJob(image, at)));
    },
  };
}

async function isRun({ digest }: Image, { store }: TrustDeps): Promise<boolean> {
  const names = await namesOf(digest, store);
  for (const slot of IMAGE_SLOTS)
    if ((await store.read.hostsOnImage(names, slot, { cursor: null, limit: 1 })).items.length > 0) return true;
  return false;
}

async function namesOf(digest: string, store: TrustDeps['store']): Promise<string[]> {
  return [digest, ...(await store.read.aliases(digest)).map(({ alias }) => alias)];
}

/** Images that some host has in a slot, by the page. */
async function* imagesRun({ store }: TrustDeps): AsyncGenerator<(Image & { readonly digest: Digest })[]> {
  let cursor: { readonly at: Instant; readonly digest: string } | null = null;
  do {
    const page: Awaited<ReturnType<typeof store.read.images>> = await store.read.images({}, { cursor, limit: PAGE });
    yield page.items.flatMap((image) =>
      isDigest(image.digest) && IMAGE_SLOTS.some((slot) => image.hosts[slot] > 0)
        ? [{ ...image, digest: image.digest }]
        : [],
    );
    cursor = page.next;
  } while (cursor !== null);
}

/** Assesses images and writes what came of it; again where another write came between. */
async function renew(
  images: readonly Image[],
  { looking }: { readonly looking: boolean },
  deps: TrustDeps,
  signal: AbortSignal,
): Promise<ImageTrust[]> {
  let left = images;
  const written: ImageTrust[] = [];
  for (let attempt = 0; attempt < WRITES_TRIED && left.length > 0; attempt++) {
    const before = await deps.store.trust.getMany(left.map(({ digest }) => digest));
    // In this order: a result that another process reached under something newer must not be written over under the old.
    const basis = await deps.basis.reload();
    const { setup, denied } = deps.basis;
    if (basis === null || setup === null) return written;
    const subjects: Subject[] = [];
    for (const image of left)
      subjects.push(await subjectOf(image, before.get(image.digest), { basis, setup, looking }, deps));
    const request: AssessRequest = {
      files: setup.files,
      denied,
      now: deps.clock(),
      terms: deps.terms,
      subjects,
    };
    const lost: Image[] = [];
    for (const assessed of await assessAll(request, deps, signal)) {
      const trust = await write(assessed, before.get(assessed.image), basis, deps);
      if (trust === undefined) lost.push(left.find(({ digest }) => digest === assessed.image)!);
      else written.push(trust);
    }
    left = lost;
  }
  if (left.length > 0) throw new Error(`${left.length} images are written to by too many at once`);
  return written;
}

async function assessAll(
  request: AssessRequest,
  { assess, log }: TrustDeps,
  signal: AbortSignal,
): Promise<readonly Assessed[]> {
  const { subjects } = request;
  try {
    return await assess(request, signal);
  } catch (error) {
    if (subjects.length === 1 || signal.aborted) throw error;
    // One of them may be too much for a thread: it must not keep the others from being judged.
    log('warn', 'assessing one by one', { images: subjects.length, error: String(error) });
    const all: Assessed[] = [];
    for (const subject of subjects) all.push(...(await assess({ ...request, subjects: [subject] }, signal)));
    return all;
  }
}

async function subjectOf(
  image: Image,
  before: ImageTrust | undefined,
  { basis, setup, looking }: { readonly basis: TrustBasis; readonly setup: TrustSetup; readonly looking: boolean },
  deps: TrustDeps,
): Promise<Subject> {
  const { store } = deps;
  const digest = image.digest as Digest;
  const { places, references, tags, closed } = placesOf(
    image,
    digest,
    await store.sources.list(),
    setup,
    deps.signatureRepositories,
  );
  const indexes = (await store.read.aliases(digest)).filter(({ kind }) => kind === 'index').map(({ alias }) => alias);
  const told = before === undefined ? undefined : toldOf(before);
  const kept: KeptBytes[] = [];
  for (const { format, place, manifest, blob } of before?.kept ?? []) {
    const bytes = await blobOf(blob, store);
    const carrier = manifest === null ? null : await blobOf(manifest, store);
    if (bytes !== undefined && carrier !== undefined) kept.push({ format, place, manifest: carrier, blob: bytes });
  }
  const keptIndexes: Uint8Array[] = [];
  for (const key of before?.indexes ?? []) {
    const bytes = await blobOf(key, store);
    if (bytes !== undefined) keptIndexes.push(bytes);
  }
  // Under another policy there are other places: what the last look found is then not all that there may be.
  const sameDemand = before?.basis.policy === basis.policy && before.basis.roots === basis.roots;
  return {
    image: digest,
    references,
    places: looking ? places : null,
    closed,
    pulledAs: [...indexes, ...tags],
    kept,
    indexes: keptIndexes,
    before: {
      looked: told?.looked ?? [],
      hostPolicy: told?.hostPolicy ?? null,
      complete: sameDemand && before.lookedAt !== null && before.unreachableSince === null,
    },
  };
}

async function blobOf(key: string, store: TrustDeps['store']): Promise<Uint8Array | undefined> {
  return (await store.blobs.get(key))?.bytes;
}

async function write(
  assessed: Assessed,
  before: ImageTrust | undefined,
  basis: TrustBasis,
  deps: TrustDeps,
): Promise<ImageTrust | undefined> {
  const { store, log } = deps;
  const at = deps.clock();
  for (const bytes of [
    ...assessed.indexes,
    ...assessed.keep.flatMap(({ manifest, blob }) => (manifest === null ? [blob] : [manifest, blob])),
  ])
    await store.blobs.put({ key: blobKey(bytes), encoding: 'identity', bytes });
  const { next, events } = nextTrust(assessed, before, { basis, at, reverifyEveryMs: deps.reverifyEveryMs });
  const revision = await store.trust.put(next, BY(at), events);
  if (revision === undefined) return undefined;
  deps.trust.forget();
  for (const { action, after } of events) log('info', action, { image: assessed.image, after });
  return { ...next, revision };
}

/** How soon a registry that was down is asked again: sooner than on schedule, later the longer it lasts. */
function retryIn({ unreachableSince }: ImageTrust, { clock, reverifyEveryMs }: TrustDeps): number {
  const down = clock() - (unreachableSince ?? clock());
  return Math.min(reverifyEveryMs, Math.max(Math.min(RETRY_FIRST_MS, reverifyEveryMs), down));
}

/** Every host that booted the image and was judged by what was known before. */
async function judgeHosts(image: Image, cause: Cause, deps: TrustDeps, signal: AbortSignal): Promise<void> {
  const names = await namesOf(image.digest, deps.store);
  let cursor: { readonly id: string } | null = null;
  do {
    const page: Awaited<ReturnType<typeof deps.store.read.hostsOnImage>> = await deps.store.read.hostsOnImage(
      names,
      'booted',
      { cursor, limit: PAGE },
    );
    const { facts } = await deps.trust.of(image.digest);
    const unless = (host: Host) => hostToldOf(host)?.stamp === facts.stamp;
    const hosts = await deps.store.hosts.getMany(page.items);
    const stale = page.items.filter((id) => !unless(hosts.get(id)!));
    await inTurns(stale, signal, async (id) => {
      await rejudge(id, { cause, unless }, deps);
    });
    cursor = page.next;
  } while (cursor !== null && !signal.aborted);
}

/** Hosts that were judged by something else than what is known now, whatever they booted: also after the last policy went. */
async function judgeStale(deps: TrustDeps, signal: AbortSignal): Promise<void> {
  let cursor: HostCursor | null = null;
  do {
    const page: Awaited<ReturnType<typeof deps.store.read.hosts>> = await deps.store.read.hosts(
      { now: deps.clock() },
      'name',
      { cursor, limit: PAGE },
    );
    await inTurns(page.items, signal, async (host) => {
      if (await deps.trust.isCurrent(host.images.booted, hostToldOf(host)?.stamp)) return;
      await rejudge(host.id, { cause: { kind: 'policy' } }, deps);
    });
    cursor = page.next;
  } while (cursor !== null && !signal.aborted);
}

/**
 * Where the tags point that hosts follow (docs/policy.md, section 5.5): looked up only where policy asks, only in allowed repositories, a
 * bounded number of them, by the clock. A tag that moved has its hosts judged again.
 */
import { z } from 'zod';
import type { Instant } from '#src/clock.ts';
import { BootproofError } from '#src/error.ts';
import { parseReference } from '#src/image/reference.ts';
import { parseManifest } from '#src/image/ocimanifest.ts';
import { TAG_DIGESTS_MAX, TAGS_MAX } from '#src/limits.ts';
import { verifiedDigest } from '#src/source/verified.ts';
import { claimedSource, SourceTerms } from '#server/decisions/sources.ts';
import { rejudge, type RejudgeDeps } from '#server/ingest/rejudge.ts';
import type { TagFacts } from '#server/ingest/lineage.ts';
import { openSource } from '#server/sources.ts';
import type { ImageTag } from '#server/store/policyrecords.ts';
import type { NewJob } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';
import type { AllowedSource, BuildRequest } from './builder.ts';
import { inTurns } from './rejudge.ts';
import type { Outcome, Work } from './runner.ts';

const TAG_JOB = 'tag';
const LEASE_MS = 120_000;
/** A tag moves by the day; nobody minds a quarter of an hour. */
const LOOK_EVERY_MS = 15 * 60_000;
const PAGE = 200;

const Payload = z.strictObject({ reference: z.string() });

/** The tag that a host follows: its repository and name; undefined where it follows none (pinned by digest, not from a registry). */
export function followedTag(
  claim: string,
): { readonly pattern: string; readonly tag: string; readonly reference: string } | undefined {
  const pattern = claimedSource(claim);
  if (pattern === undefined) return undefined;
  const name = claim.replace(/^(?:registry:(?:\/\/)?|docker:\/\/)/, '');
  if (name.includes('@')) return undefined;
  const { tag = 'latest' } = parseReference(`docker://${name}`);
  return { pattern, tag, reference: `${pattern}:${tag}` };
}

/** Digests to which a tag leads: of the index or image that it names, and of what an index lists. @throws {BootproofError} */
export type LookUp = (source: AllowedSource, tag: string, signal: AbortSignal) => Promise<readonly string[]>;

/** Asks the registry. */
export function lookUpIn(terms: Pick<BuildRequest, 'env' | 'caFiles' | 'authFile' | 'mirrors'>): LookUp {
  return async ({ pattern, plainHttp }, tag, signal) => {
    const opened = await openSource(parseReference(pattern), {
      ...terms,
      insecureHttp: plainHttp,
      ...(plainHttp ? { reach: 'any' as const } : {}),
      signal,
    });
    try {
      const what = `${pattern}:${tag}`;
      const found = await opened.source.manifest(tag);
      const digest = verifiedDigest(found.bytes, found.claimed?.digest, what);
      const document = parseManifest(found.bytes, found.mediaType);
      const listed = document.kind === 'index' ? document.manifests.map((entry) => entry.digest) : [];
      return [digest, ...listed].slice(0, TAG_DIGESTS_MAX);
    } finally {
      await opened.close();
    }
  };
}

/**
 * What is known of a tag that a host follows; null where nobody looked yet: then somebody will. Nothing is noted of repositories that are not
 * allowed: a host's word alone makes the server talk to nobody.
 */
export async function tagOf(
  claim: string,
  now: Instant,
  { store }: { readonly store: Pick<Store, 'imageTags' | 'sources' | 'jobs'> },
): Promise<TagFacts | null> {
  const followed = followedTag(claim);
  if (followed === undefined) return null;
  const known = await store.imageTags.get(followed.reference);
  if (known !== undefined) return factsOf(known);
  const allowed = (await store.sources.list()).some(({ pattern }) => pattern === followed.pattern);
  if (!allowed || !(await store.imageTags.want(followed.reference, now, TAGS_MAX))) return null;
  await store.jobs.enqueue([tagJob(followed.reference, now)]);
  return null;
}

/** The same, for who only looks. */
export async function knownTag(claim: string, { imageTags }: Pick<Store, 'imageTags'>): Promise<TagFacts | null> {
  const followed = followedTag(claim);
  const known = followed && (await imageTags.get(followed.reference));
  return known === undefined ? null : factsOf(known);
}

function factsOf({ digests, movedAt, checkedAt }: ImageTag): TagFacts | null {
  return checkedAt === null ? null : { digests, movedAt };
}

const tagJob = (reference: string, runAt: Instant): NewJob => ({
  kind: TAG_JOB,
  dedupeKey: `${TAG_JOB}:${reference}`,
  runAt,
  payload: { reference },
});

export type TagDeps = RejudgeDeps & { readonly lookUp: LookUp };

export function tagWork(deps: TagDeps): Work {
  return {
    kind: TAG_JOB,
    leaseMs: LEASE_MS,
    run: async (job, signal): Promise<Outcome> => {
      const { reference } = Payload.parse(job.payload);
      const { freshness, freshnessFor } = deps.policies.current;
      const asks = [freshness, ...freshnessFor.map(({ terms }) => terms)].some(
        ({ behindTagAfter }) => behindTagAfter != null,
      );
      // Forgotten: where policy asks again, the next report of a host does.
      if (!asks) {
        await deps.store.imageTags.forget(reference);
        return { kind: 'done' };
      }
      const { pattern, tag } = followedTag(reference)!;
      const source = (await deps.store.sources.list()).find((each) => each.pattern === pattern);
      if (source === undefined) {
        await deps.store.imageTags.forget(reference);
        return { kind: 'done' };
      }
      const plainHttp = SourceTerms.safeParse(source.options ?? {}).data?.plainHttp ?? false;
      let digests: readonly string[];
      try {
        digests = await deps.lookUp({ pattern, plainHttp }, tag, signal);
      } catch (error) {
        if (!(error instanceof BootproofError)) throw error;
        // What was known stands: a registry that is down moves no tag.
        await deps.store.imageTags.failed(reference, `${error.code}: ${error.message}`.slice(0, 400));
        return { kind: 'again', inMs: LOOK_EVERY_MS, why: error.code };
      }
      const moved = await deps.store.imageTags.looked(reference, digests, deps.clock());
      if (moved) await judgeFollowers(reference, deps, signal);
      return { kind: 'again', inMs: LOOK_EVERY_MS, why: 'looked' };
    },
  };
}

/** Every host on an image that is said to come from there. */
async function judgeFollowers(reference: string, deps: TagDeps, signal: AbortSignal): Promise<void> {
  const { store } = deps;
  let cursor: { readonly at: Instant; readonly digest: string } | null = null;
  do {
    const page: Awaited<ReturnType<typeof store.read.images>> = await store.read.images({}, { cursor, limit: PAGE });
    for (const { digest, claims } of page.items) {
      if (!claims.some((claim) => followedTag(claim)?.reference === reference)) continue;
      const names = [digest, ...(await store.read.aliases(digest)).map(({ alias }) => alias)];
      let next: { readonly id: string } | null = null;
      do {
        const hosts: Awaited<ReturnType<typeof store.read.hostsOnImage>> = await store.read.hostsOnImage(
          names,
          'booted',
          {
            cursor: next,
            limit: PAGE,
          },
        );
        await inTurns(hosts.items, signal, async (id) => {
          await rejudge(id, { cause: { kind: 'report', imageChanged: false } }, deps);
        });
        next = hosts.next;
      } while (next !== null && !signal.aborted);
    }
    cursor = page.next;
  } while (cursor !== null && !signal.aborted);
}

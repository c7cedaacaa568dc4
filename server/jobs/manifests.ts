/**
 * The manifests of an image that a host named (PROTOCOL 2.6, 2.7): fetched from allowed sources only, built aside, signed, stored; then
 * every host that booted it is judged anew. What fails says why, and is tried again with growing delays.
 */
import { z } from 'zod';
import type { Instant } from '#src/clock.ts';
import { isDigest, type Digest } from '#src/digest.ts';
import { MANIFEST_HEADER_TYPE } from '#src/manifest/header.ts';
import type { ImageBounds } from '#src/source/bounds.ts';
import { canonicalJson } from '#src/signing/canonical.ts';
import { printEnvelope, signEnvelope } from '#src/signing/dsse.ts';
import { VERITY_TYPE, type VerityHeader } from '#src/wire/manifests.ts';
import type { Deps } from '#server/deps.ts';
import { claimedSource, SourceTerms } from '#server/decisions/sources.ts';
import type { AliasKind, Image, Manifest, ManifestTreeRecord, NewJob, Reason } from '#server/store/records.ts';
import type { AllowedSource, Build, BuildNotes, BuildRequest, BuildResult, BuiltManifest } from './builder.ts';
import { verityHeaderKey, verityTextKey } from '#server/ingest/known.ts';
import { rejudgeJob } from '#server/ingest/rejudge.ts';
import { trustJob } from '#server/trust/known.ts';
import type { Outcome, Work } from './runner.ts';

/** As the store enqueues it for each new image. */
const BUILD_JOB = 'build';
/** A build that says nothing for so long is given to another process. */
const LEASE_MS = 60_000;
/** An image that is nowhere may be pushed any minute; one that a registry refuses will not change by itself. */
const RETRY_FIRST_MS = 30_000;
const RETRY_MOST_MS = 6 * 3_600_000;

export type ManifestDeps = Pick<Deps, 'store' | 'clock' | 'keys' | 'log'> & {
  readonly build: Build;
  readonly registry: Pick<BuildRequest, 'env' | 'caFiles' | 'authFile' | 'mirrors' | 'platform' | 'builder'>;
  readonly bounds: ImageBounds;
};

/** `again`: a ready image is read once more, for what is kept besides its manifests, which stay as they are. */
const Payload = z.strictObject({ digest: z.string(), again: z.boolean().optional() });

/** Asks for an image to be read again. */
export const rebuildJob = (digest: string, at: Instant): NewJob => ({
  kind: BUILD_JOB,
  dedupeKey: `${BUILD_JOB}:${digest}`,
  runAt: at,
  payload: { digest, again: true },
});

export function manifestWork(deps: ManifestDeps): Work {
  return {
    kind: BUILD_JOB,
    leaseMs: LEASE_MS,
    run: async (job, signal) => run(Payload.parse(job.payload), deps, signal),
  };
}

async function run(
  { digest: asked, again = false }: z.infer<typeof Payload>,
  deps: ManifestDeps,
  signal: AbortSignal,
): Promise<Outcome> {
  const { store, clock, log } = deps;
  const found = await store.images.find(asked);
  if (found === undefined) return { kind: 'done' };
  const { image } = found;
  if (image.state === 'ready' && again) return readAgain(image, deps, signal);
  if (image.state === 'ready') {
    // Built, but perhaps the process died before it could say so to the hosts.
    await askToJudge(image.digest, deps);
    return { kind: 'done' };
  }
  const digest = digestOf(asked);
  const sources = await sourcesFor(image, deps);
  if (digest === undefined || sources.length === 0) {
    const reason =
      digest === undefined
        ? { code: 'IMAGE_DIGEST', text: 'what the host gives for its image is no digest' }
        : notAllowed(image, []);
    // A source that is allowed makes it due again.
    await store.images.failed(image.digest, { reasons: [reason], nextTry: null });
    await askToJudge(image.digest, deps);
    return { kind: 'done' };
  }
  await store.images.building(image.digest, clock());
  const result = await deps.build({ ...deps.registry, bounds: deps.bounds, digest, sources }, signal);
  if (result.kind === 'built') {
    await keep(asked, result, deps);
    log('info', 'manifest built', { image: result.digest, source: result.pattern, rules: result.manifests.length });
    await askToJudge(result.digest, deps);
    return { kind: 'done' };
  }
  const reasons = reasonsOf(image, sources, result.reasons);
  const inMs = Math.min(RETRY_MOST_MS, RETRY_FIRST_MS * 2 ** Math.min(image.attempts, 20));
  await store.images.failed(image.digest, { reasons, nextTry: clock() + inMs });
  log('warn', 'manifest failed', { image: image.digest, code: reasons[0]!.code, again: inMs });
  await askToJudge(image.digest, deps);
  return { kind: 'again', inMs, why: `${reasons[0]!.code}: ${reasons[0]!.text}` };
}

/** A ready image's layers once more; where that fails, its manifests stand as before, and why is kept for who asked. */
async function readAgain(image: Image, deps: ManifestDeps, signal: AbortSignal): Promise<Outcome> {
  const { store, clock, log } = deps;
  const digest = digestOf(image.digest);
  const sources = await sourcesFor(image, deps);
  const fail = async ({ code, text }: Reason): Promise<Outcome> => {
    await store.imageOrigins.failed(image.digest, `${code}: ${text}`, clock());
    log('warn', 'image not read again', { image: image.digest, code });
    return { kind: 'done' };
  };
  if (digest === undefined || sources.length === 0) return fail(notAllowed(image, []));
  const result = await deps.build({ ...deps.registry, bounds: deps.bounds, digest, sources }, signal);
  if (result.kind === 'failed') return fail(reasonsOf(image, sources, result.reasons)[0]!);
  await keepBeside(result, deps);
  log('info', 'image read again', { image: result.digest, source: result.pattern });
  return { kind: 'done' };
}

async function keepBeside(
  { digest, origins, marks, texts, verity }: Extract<BuildResult, { kind: 'built' }>,
  { store, clock, keys }: ManifestDeps,
): Promise<void> {
  if (verity !== undefined) {
    const { key, bytes, length } = verity;
    const header: VerityHeader = { format: 'bootproof.verity/1', image: digest, text: key as Digest, bytes: length };
    const envelope = await signEnvelope(VERITY_TYPE, canonicalJson(header), keys.signer);
    await store.blobs.put({ key: verityTextKey(digest), encoding: 'zstd', bytes });
    const signed = new TextEncoder().encode(printEnvelope(envelope));
    await store.blobs.put({ key: verityHeaderKey(digest), encoding: 'identity', bytes: signed });
  }
  if (texts !== undefined) await store.imageTexts.put(digest, texts, clock());
  if (marks !== undefined) await store.imageOrigins.put(digest, { origins: origins ?? null, ...marks }, clock());
}

/** Old hosts give bare hex; the rest is a digest or nothing. */
function digestOf(asked: string): Digest | undefined {
  const spelled = /^[0-9a-f]{64}$/.test(asked) ? `sha256:${asked}` : asked;
  return isDigest(spelled) ? spelled : undefined;
}

/** Allowed sources, those first that hosts claim: a claim chooses the order and never adds a place. */
async function sourcesFor(image: Image, { store }: ManifestDeps): Promise<AllowedSource[]> {
  const claimed = new Set(image.claims.flatMap((claim) => claimedSource(claim) ?? []));
  const allowed = (await store.sources.list()).map(({ pattern, options }): AllowedSource => {
    const terms = SourceTerms.safeParse(options ?? {});
    return { pattern, plainHttp: terms.data?.plainHttp ?? false };
  });
  return [
    ...allowed.filter(({ pattern }) => claimed.has(pattern)),
    ...allowed.filter(({ pattern }) => !claimed.has(pattern)),
  ];
}

function notAllowed(image: Image, reasons: readonly Reason[]): Reason {
  const claimed = [...new Set(image.claims.flatMap((claim) => claimedSource(claim) ?? []))];
  const where =
    claimed.length === 0
      ? 'hosts do not say where it is from'
      : `hosts say it is from ${claimed.join(', ')}, which is not on the list of sources`;
  const looked = reasons.length === 0 ? 'no source is allowed' : 'no allowed source has it';
  return { code: 'IMAGE_SOURCE_NOT_ALLOWED', text: `${looked}; ${where}` };
}

/** What people see: the one reason that helps first. */
function reasonsOf(image: Image, sources: readonly AllowedSource[], reasons: readonly Reason[]): Reason[] {
  const absent = reasons.every(({ code }) => code === 'SOURCE_NOT_FOUND');
  const allowed = new Set(sources.map(({ pattern }) => pattern));
  const claimed = image.claims.flatMap((claim) => claimedSource(claim) ?? []);
  if (absent && claimed.length > 0 && !claimed.some((pattern) => allowed.has(pattern)))
    return [notAllowed(image, reasons), ...reasons];
  // A source that could not be asked may have it; one that has it not, has said so.
  const telling = reasons.filter(({ code }) => code !== 'SOURCE_NOT_FOUND');
  return [...telling, ...reasons.filter(({ code }) => code === 'SOURCE_NOT_FOUND')];
}

async function askToJudge(image: string, { store, clock }: ManifestDeps): Promise<void> {
  // Where it was found, signatures are looked for too.
  await store.jobs.enqueue([rejudgeJob(image, clock()), trustJob(image, clock())]);
}

async function keep(asked: string, result: Extract<BuildResult, { kind: 'built' }>, deps: ManifestDeps): Promise<void> {
  const { store, clock, keys } = deps;
  const at = clock();
  const manifests: Manifest[] = [];
  for (const built of result.manifests) {
    for (const { main, extra } of [built.trees.usr, built.trees.etc])
      for (const { key, bytes } of [main, extra]) await store.blobs.put({ key, encoding: 'zstd', bytes });
    const envelope = await signEnvelope(MANIFEST_HEADER_TYPE, canonicalJson(built.header), keys.signer);
    manifests.push({
      image: result.digest,
      rule: built.header.rule,
      header: new TextEncoder().encode(printEnvelope(envelope)),
      trees: { usr: treeRecord(built, 'usr'), etc: treeRecord(built, 'etc') },
      builtAt: at,
    });
  }
  await keepBeside(result, deps);
  // Before the hosts are judged anew, which follows.
  await store.imageAges.note(result.digest, result.madeAt ?? null);
  await store.images.ready({
    asked,
    digest: result.digest,
    config: result.config,
    aliases: aliasesOf(result),
    repository: result.pattern,
    version: result.version,
    warnings: { warnings: result.warnings, refused: result.refused } satisfies BuildNotes,
    manifests,
    at,
  });
}

function treeRecord({ header, trees }: BuiltManifest, tree: 'usr' | 'etc'): ManifestTreeRecord {
  const { main, extra, entries } = header.trees[tree];
  return { main, extra, entries, mainBlob: trees[tree].main.key, extraBlob: trees[tree].extra.key };
}

/** Every other name by which hosts know the image (PROTOCOL 2.3). */
function aliasesOf({
  digest,
  config,
  index,
}: Extract<BuildResult, { kind: 'built' }>): { alias: string; kind: AliasKind }[] {
  const named: { alias: string; kind: AliasKind }[] = [{ alias: config, kind: 'config' }];
  if (index !== null) named.push({ alias: index, kind: 'index' });
  const bare = [digest, config, ...(index === null ? [] : [index])].map((alias) => ({
    alias: alias.slice('sha256:'.length),
    kind: 'bare-hex' as const,
  }));
  return [...named, ...bare];
}
